"""A built run with the state of one of its checkpoints."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from ccpo_jax.config import Config
from ccpo_jax.devices.distributed import sync_errors
from ccpo_jax.errors import InputError, as_input_error
from ccpo_jax.learner.update import TrainState
from ccpo_jax.train.adapters import check_bases
from ccpo_jax.train.build import Run, build
from ccpo_jax.train.starts import recorded_starts
from ccpo_jax.train.step import initial_state
from ccpo_jax.workdir import open_checkpoints, recorded_fields


class Restored(NamedTuple):
    """A run at one of its steps."""

    run: Run
    state: TrainState
    step: int  # of the checkpoint; 0 = the untrained models


def trained_or_loaded(
    config: Config | Mapping[str, Any], workdir: str | None, *, required: bool = False
) -> Restored:
    """The best checkpoint of `workdir`, or the untrained models where there is no workdir.

    Args:
      config: of the run.
      workdir: of a training run, or None.
      required: True: there has to be a workdir.

    Raises:
      InputError: no workdir where one is required, or no checkpoints in it.
    """
    if workdir is None and required:
        raise InputError("workdir", "is missing; type --workdir=FOLDER of a training run")
    if workdir is not None:
        require_checkpoints(workdir)
    with as_input_error():
        with sync_errors():
            recorded = () if workdir is None else recorded_fields(config, workdir)
            run = build(
                config,
                for_training=False,
                recorded=recorded,
                recorded_steps=recorded_starts(workdir),
            )
        state = initial_state(run)
        if workdir is None:
            return Restored(run, state, 0)
        with open_checkpoints(workdir, read_only=True) as checkpoints:
            step, state = checkpoints.restore(state, step=checkpoints.best_step())
        check_bases(run.bases, state)
    return Restored(run, state, step)


def require_checkpoints(workdir: str) -> None:
    """Raises InputError where a workdir has no checkpoints."""
    if not pathlib.Path(workdir, "checkpoints").is_dir():
        raise InputError(
            "workdir", f"no checkpoints in {workdir}; train first, then type --workdir=FOLDER"
        )
