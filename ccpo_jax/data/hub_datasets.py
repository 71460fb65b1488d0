"""Datasets of the Hugging Face Hub: those with a name here, and any other by its address.

A new name is one line in `DATASETS`.
"""

import ast
import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from ccpo_jax.data.arrow_rows import read_table
from ccpo_jax.data.located_row import LocatedRow
from ccpo_jax.errors import InputError, first_line
from ccpo_jax.extras import train_extra
from ccpo_jax.hf import hub

# Most names of configurations or splits in an error.
_MOST_NAMES = 12


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a dataset is on the Hub.

    Attributes:
      hub: repository, ``owner/name``.
      split: such as train, also a part of it, ``train[:100]``; "" = the one that suits the field.
      config: the dataset's configuration; None = it has one only.
      revision: branch, tag or commit; None = the main branch.
    """

    hub: str
    split: str = ""
    config: str | None = None
    revision: str | None = None

    @property
    def address(self) -> str:
        """As it is typed: ``owner/name:config@revision#split``."""
        parts = {":": self.config, "@": self.revision, "#": self.split}
        return self.hub + "".join(f"{mark}{part}" for mark, part in parts.items() if part)


def read_hub_dataset(
    source: Source, label: str, field: str, notes: list[str]
) -> Iterator[LocatedRow]:
    """Downloads a dataset, or takes it from the cache, and yields its rows.

    Args:
      source: its address.
      label: name of the dataset, for the command that reads a file in its place.
      field: configuration field to name in errors, and whose split is taken where none is named.
      notes: receives the split that was chosen, and columns that are left out.

    Raises:
      InputError: no network, or the Hub has no such dataset, configuration or split.
    """
    # Imported late: they are slow, and local files do not need them.
    with train_extra():
        import datasets
        from huggingface_hub import constants

    local_file = f"a local file: --config.{field}={label}=path/to/file.parquet"
    # In offline mode the library reads its cache without a network.
    if not constants.HF_HUB_OFFLINE:
        hub.require_network(
            field, source.address, f"{local_file}, or HF_HUB_OFFLINE=1 where it is cached"
        )
    try:
        table: Any = datasets.load_dataset(
            source.hub, source.config, split=source.split or None, revision=source.revision
        )
    except Exception as error:
        # The library has a dozen unrelated types for "not there" and "no network".
        _refuse(source, error, field, local_file)
    if isinstance(table, dict):
        split = choose_split(list(table), field)
        if not split:
            raise unknown_split(source, list(table), field)
        notes.append(f"split {split} of {source.address}")
        table = table[split]
    return read_table(table, notes)


def choose_split(splits: Sequence[str], field: str) -> str:
    """The split to take where none is named; "" = there is none that suits.

    Args:
      splits: of the dataset.
      field: data.eval takes test, else validation; other fields train; either a split that is the
        only one.

    Example:
      >>> choose_split(["train", "validation"], "data.eval"), choose_split(["a", "b"], "data.train")
      ('validation', '')
    """
    wanted = ("test", "validation") if field == "data.eval" else ("train",)
    suitable = [split for split in wanted if split in splits]
    if not suitable and len(splits) == 1:
        suitable = list(splits)
    return suitable[0] if suitable else ""


def _refuse(source: Source, error: Exception, field: str, local_file: str) -> NoReturn:
    """Raises what the library's error means for the user."""
    text = str(error)
    part_error = explain_parts(source, error, field)
    if part_error is not None:
        raise part_error from error
    if "gated" in text:
        message = (
            f"{source.hub} is gated; accept its terms on its page of the Hub, type hf auth login, "
            "and start again"
        )
    elif type(error).__name__ == "DatasetNotFoundError":
        message = (
            f"{source.address!r} is neither a file here nor a dataset on the Hub "
            f"({first_line(error, 120)}); type another name, or {local_file}"
        )
    elif "scripts are no longer supported" in text:
        converted = dataclasses.replace(source, revision="refs/convert/parquet")
        message = f"{source.hub} is a program, which is not run; type {converted.address}"
    else:
        reason = f"{type(error).__name__}: {first_line(error)}"[:160]
        message = (
            f"{source.address!r} is no file here and cannot be loaded from the Hub ({reason}); "
            f"check the network, or type {local_file}"
        )
    raise InputError(field, message) from error


def explain_parts(source: Source, error: Exception, field: str) -> InputError | None:
    """What the library's error says about a configuration or a split; None = it is another error.

    Args:
      source: what was asked for.
      error: of `datasets.load_dataset`, which lists what there is.
      field: configuration field to name.
    """
    text = str(error)
    names = _names_in(text)
    if not names:
        return None
    if "onfig name is missing" in text:
        chosen = dataclasses.replace(source, config=names[0])
        return InputError(
            field,
            f"{source.hub} has several configurations, {enumerate_names(names)}; type one of "
            f"them, such as {chosen.address}",
        )
    if "BuilderConfig" in text:
        return InputError(
            field,
            f"{source.hub} has no configuration {source.config!r}; type one of "
            f"{enumerate_names(names)}",
        )
    if "nknown split" in text:
        return unknown_split(source, names, field)
    return None


def unknown_split(source: Source, splits: Sequence[str], field: str) -> InputError:
    """The error where a dataset lacks the split that was named, or every split that suits.

    Args:
      source: what was asked for.
      splits: those there are.
      field: configuration field to name.
    """
    lacks = f"no split {source.split!r}" if source.split else "several splits"
    chosen = dataclasses.replace(source, split=splits[0])
    return InputError(
        field,
        f"{source.hub} has {lacks}; type one of {enumerate_names(splits)}, such as "
        f"{chosen.address}",
    )


def _names_in(text: str) -> list[str]:
    """The first list of names in an error of the library."""
    match = re.search(r"\[[^\[\]]*\]", text)
    try:
        names = ast.literal_eval(match[0]) if match else []
    except (SyntaxError, ValueError):
        return []
    return [str(name) for name in names]


def enumerate_names(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    others = len(names) - _MOST_NAMES
    more = f" and {others} others" if others > 0 else ""
    return ", ".join(names[:_MOST_NAMES]) + more


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
