"""The named datasets of the Hugging Face Hub. A new one is one line in `DATASETS`."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from ccpo_jax.data.files import LocatedRow
from ccpo_jax.errors import InputError, first_line
from ccpo_jax.hf import hub


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a named dataset is on the Hub.

    Attributes:
      hub: repository, ``owner/name``.
      split: train, validation or test.
      config: the dataset's configuration; None = it has one only.
      revision: branch, tag or commit; None = the main branch.
    """

    hub: str
    split: str
    config: str | None = None
    revision: str | None = None


def read_hub_dataset(name: str, field: str) -> Iterator[LocatedRow]:
    """Downloads a dataset, or takes it from the cache, and yields its rows.

    Args:
      name: a key of `DATASETS`.
      field: configuration field to name in errors.

    Raises:
      InputError: no network, or the Hub has no such dataset.
    """
    # Imported late: they are slow, and local files do not need them.
    import datasets
    from huggingface_hub import constants

    source = DATASETS[name]
    local_file = f"a local file: --config.{field}={name}=path/to/file.parquet"
    # In offline mode the library reads its cache without a network.
    if not constants.HF_HUB_OFFLINE:
        hub.require_network(field, name, f"{local_file}, or HF_HUB_OFFLINE=1 where it is cached")
    try:
        table: Any = datasets.load_dataset(
            source.hub, source.config, split=source.split, revision=source.revision
        )
    except Exception as error:
        # The library has a dozen unrelated types for "not there" and "no network".
        reason = f"{type(error).__name__}: {first_line(error)}"[:160]
        raise InputError(
            field,
            f"cannot load {name!r} from the Hub as {source.hub} ({reason}); "
            f"check the network, or type {local_file}",
        ) from error
    return (LocatedRow(f"row {number}", row) for number, row in enumerate(table))


DATASETS = {
    "math": Source("DigitalLearningGmbH/MATH-lighteval", "train"),
    "math500": Source("HuggingFaceH4/MATH-500", "test"),
    "aime24": Source("HuggingFaceH4/aime_2024", "train"),
    "aime25": Source("math-ai/aime25", "test"),
    "amc23": Source("math-ai/amc23", "test"),
    "minervamath": Source("math-ai/minervamath", "test"),
    "gaokao2023en": Source("MARIO-Math-Reasoning/Gaokao2023-Math-En", "train"),
    "gsm8k": Source("openai/gsm8k", "train", config="main"),
    "gsm8k_test": Source("openai/gsm8k", "test", config="main"),
    "logiqa": Source("lucasmccabe/logiqa", "train", revision="refs/convert/parquet"),
    "logiqa_dev": Source("lucasmccabe/logiqa", "validation", revision="refs/convert/parquet"),
    "logiqa_test": Source("lucasmccabe/logiqa", "test", revision="refs/convert/parquet"),
}
