"""Writes a run's metrics: metrics.jsonl, TensorBoard, experiment trackers, the progress line."""

import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from ccpo_jax.workdir.jsonl import StepLines
from ccpo_jax.workdir.progress import ProgressLine
from ccpo_jax.workdir.tensorboard import TensorBoardWriter
from ccpo_jax.workdir.trackers import Trackers


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
      trackers: also send to these, see `TRACKERS`; a run that resumes continues its run there.
      project: under which they list it.
      config: sent to them.
      stream: where the progress line goes; None = standard error.
      clock: seconds; replaced in tests.

    Raises:
      InputError: a tracker's package is not installed, or it cannot start.
    """

    def __init__(
        self,
        workdir: str | pathlib.Path,
        *,
        total_steps: int,
        resume_step: int = 0,
        tensorboard: bool = True,
        trackers: Sequence[str] = (),
        project: str = "ccpo_jax",
        config: Mapping[str, Any] | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.workdir = pathlib.Path(workdir)
        self._progress = ProgressLine(
            total_steps, first_step=resume_step, stream=stream, clock=clock
        )
        self._trackers = Trackers(trackers, self.workdir, project, config)
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
        self._trackers.log(values, step)
        self._progress.update(step, values)

    def lines(self) -> list[dict[str, Any]]:
        """Everything written so far, earlier runs of this workdir included."""
        return self._lines.lines()

    def close(self, *, failed: bool = False) -> None:
        """Flushes and closes all files, and ends the progress line and the trackers' runs.

        Args:
          failed: an error has ended the run.
        """
        self._progress.close()
        self._lines.close()
        if self._tensorboard is not None:
            self._tensorboard.close()
        self._trackers.finish(failed=failed)

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A run that somebody stopped is saved, and no failure.
        self.close(failed=kind is not None and issubclass(kind, Exception))


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
