"""Writes a run's metrics: metrics.jsonl, TensorBoard, Weights & Biases, the progress line."""

import math
import os
import pathlib
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from ccpo_jax.errors import InputError
from ccpo_jax.workdir.atomic_write import write_atomically
from ccpo_jax.workdir.jsonl import StepLines
from ccpo_jax.workdir.progress import ProgressLine
from ccpo_jax.workdir.tensorboard import TensorBoardWriter


class MetricsWriter:
    """Writes a run's metrics, one JSON object per line, and shows its progress. A context manager.

    The line of step k describes the state after k steps; step 0 is the untrained team. The same run
    writes the same lines, fields under ``time/`` aside. JSON has no NaN or infinity: such values
    are written as null.

    Args:
      workdir: receives metrics.jsonl and TensorBoard files.
      total_steps: for the progress line.
      resume_step: steps already done; lines of later steps and a torn last line are removed.
      tensorboard: also write TensorBoard files.
      wandb: also send to Weights & Biases; a run that resumes continues its page there.
      config: shown on that page.
      stream: where the progress line goes; None = standard error.
      clock: seconds; replaced in tests.

    Raises:
      InputError: ``log.wandb`` is on and the package is not installed.
    """

    def __init__(
        self,
        workdir: str | pathlib.Path,
        *,
        total_steps: int,
        resume_step: int = 0,
        tensorboard: bool = True,
        wandb: bool = False,
        config: Mapping[str, Any] | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.workdir = pathlib.Path(workdir)
        self._progress = ProgressLine(
            total_steps, first_step=resume_step, stream=stream, clock=clock
        )
        self._wandb = _start_wandb(self.workdir, config) if wandb else None
        self._lines = StepLines(self.workdir / "metrics.jsonl", resume_step)
        # A run that starts over writes step 0 again.
        first_step = resume_step + 1 if resume_step else 0
        self._tensorboard = (
            TensorBoardWriter(self.workdir / "tensorboard", first_step) if tensorboard else None
        )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records the metrics of one step everywhere and updates the progress line."""
        values = {name: float(value) for name, value in metrics.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}

        self._lines.append(step, finite)
        if self._tensorboard is not None:
            self._tensorboard.write(step, values)
        if self._wandb is not None:
            self._wandb.log(values, step=step)
        self._progress.update(step, values)

    def lines(self) -> list[dict[str, Any]]:
        """Everything written so far, earlier runs of this workdir included."""
        return self._lines.lines()

    def close(self) -> None:
        """Flushes and closes all files, and ends the progress line."""
        self._progress.close()
        self._lines.close()
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class NullWriter:
    """No-op `MetricsWriter` and `RolloutLog`, for processes and trainers that write nothing."""

    def write(self, step: int, record: object) -> None:
        """Writes nothing."""

    def lines(self) -> list[dict[str, Any]]:
        """An empty list."""
        return []

    def __enter__(self) -> "NullWriter":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _start_wandb(workdir: pathlib.Path, config: Mapping[str, Any] | None) -> Any:
    try:
        import wandb  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            "log.wandb", "the wandb package is missing; pip install wandb, or log.wandb=False"
        ) from error
    return wandb.init(
        project="ccpo_jax",
        name=workdir.name,
        dir=str(workdir),
        id=os.environ.get("WANDB_RUN_ID") or _wandb_id(workdir),
        resume="allow",
        config=dict(config or {}),
        # A run that resumes may have other values in some fields.
        allow_val_change=True,
    )


def _wandb_id(workdir: pathlib.Path) -> str:
    """The name by which Weights & Biases knows this run, the same whenever it resumes."""
    path = workdir / "wandb_id"
    if path.is_file() and (known := path.read_text(encoding="utf-8").strip()):
        return known
    new = uuid.uuid4().hex
    write_atomically(path, new + "\n")
    return new
