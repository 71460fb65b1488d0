"""`--mode=export`: trained networks as Hugging Face folders."""

import pathlib
from collections.abc import Mapping
from typing import Any

from ccpo_jax.config import Config
from ccpo_jax.devices.distributed import print_main
from ccpo_jax.errors import InputError
from ccpo_jax.modes.restore import trained_or_loaded
from ccpo_jax.train.export import check_dtype, export_networks


def export(
    config: Config | Mapping[str, Any],
    workdir: str | None,
    *,
    dtype: str = "source",
    merged: str = "False",
) -> None:
    """Writes the best checkpoint's networks and tokenizers to <workdir>/export in Hugging Face
    format, and the words of the team.

    Args:
      config: of the run.
      workdir: of the run.
      dtype: of the weights: bfloat16, float16, float32, or source, that of the model before
        training.
      merged: "True": adapters are added to their networks, see `export_networks`.

    Raises:
      InputError: no workdir, no checkpoints in it, a tokenizer that cannot be saved, or a disk
        that cannot be written.
    """
    check_dtype(dtype)
    if merged not in ("True", "False"):
        raise InputError("merged", f"received {merged!r:.40}; type --merged, or leave it out")
    run, state, step = trained_or_loaded(config, workdir, required=True)
    folder = pathlib.Path(str(workdir), "export")
    chosen = {"dtype": dtype, "merged": merged == "True"}
    for written in export_networks(run, state.params, folder, **chosen):
        print_main(f"step {step} -> {written}")
