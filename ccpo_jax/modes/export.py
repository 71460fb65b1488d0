"""`--mode=export`: trained networks as Hugging Face folders."""

import pathlib
from collections.abc import Mapping
from typing import Any

from ccpo_jax.config import Config
from ccpo_jax.devices.distributed import print_main
from ccpo_jax.modes.restore import trained_or_loaded
from ccpo_jax.train.export import export_networks


def export(config: Config | Mapping[str, Any], workdir: str | None) -> None:
    """Writes the best checkpoint's networks and tokenizers to <workdir>/export in Hugging Face
    format.

    Raises:
      InputError: no workdir, no checkpoints in it, or a tokenizer that cannot be saved.
    """
    run, state, step = trained_or_loaded(config, workdir, required=True)
    folder = pathlib.Path(str(workdir), "export")
    for written in export_networks(run, state.params, folder):
        print_main(f"step {step} -> {written}")
