"""What a run reports: metrics.jsonl, TensorBoard, a live line, the closing table, and the diagnostics of credit."""

import math
import os
import pathlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

import numpy as np

from ccpo_jax.rl.topology import Topology
from ccpo_jax.workdir.jsonl import StepLines

_LINE_EVERY = 5.0  # seconds between progress lines where the output is not a terminal


class MetricsWriter:
    """Writes a run's metrics, one JSON object per line, and shows its progress. A context manager.

    A line of step k speaks of the state after k steps; step 0 is the untrained team. The same run writes the same
    lines, fields under ``time/`` aside. JSON knows no NaN or infinity: such values are written as null.

    Args:
      workdir: receives metrics.jsonl and TensorBoard files.
      resume_step: steps already done; lines of later steps and a torn last line are removed.
      total_steps: for the live line.
      tensorboard: also write TensorBoard files.
      wandb: also send to Weights & Biases.
      stream: where the live line goes; None = standard error.
      clock: seconds; replaced in tests.

    Raises:
      ValueError: wandb is asked for and not installed.
    """

    def __init__(
        self,
        workdir: str | pathlib.Path,
        *,
        total_steps: int,
        resume_step: int = 0,
        tensorboard: bool = True,
        wandb: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.workdir = pathlib.Path(workdir)
        self._total, self._first = total_steps, resume_step
        self._stream = sys.stderr if stream is None else stream
        self._clock, self._began, self._shown = clock, clock(), -math.inf
        self._latest: dict[str, float] = {}  # last known value of everything, for the live line
        self._line_open = False  # the terminal's cursor stands behind a live line
        self._wandb = _start_wandb(self.workdir) if wandb else None
        self._lines = StepLines(self.workdir / "metrics.jsonl", resume_step)
        first = resume_step + 1 if resume_step else 0  # a run that starts over writes step 0 again
        self._board = (
            _TensorBoardWriter(self.workdir / "tensorboard", first) if tensorboard else None
        )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records the metrics of one step everywhere and updates the live line."""
        values = {name: float(value) for name, value in metrics.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._lines.append(step, finite)
        if self._board is not None:
            self._board.write(step, values)
        if self._wandb is not None:
            self._wandb.log(values, step=step)
        self._latest |= values
        self._show(step)

    def _show(self, step: int) -> None:
        now = self._clock()
        terminal = self._stream.isatty()
        if not terminal and now - self._shown < _LINE_EVERY and step not in (0, self._total):
            return
        self._shown = now
        line = progress_line(
            step, self._total, self._latest, elapsed=now - self._began, done=step - self._first
        )
        self._line_open = terminal and step != self._total
        self._stream.write(
            (f"\r\033[K{line}" if terminal else line) + ("" if self._line_open else "\n")
        )
        self._stream.flush()

    def lines(self) -> list[dict]:
        """Everything written so far, earlier runs of this workdir included."""
        return self._lines.lines()

    def close(self) -> None:
        """Flushes and closes all files; what is printed next starts on a line of its own."""
        if self._line_open:
            self._stream.write("\n")
        self._lines.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *_) -> None:
        self.close()


class NullWriter:
    """A `MetricsWriter` for processes that do not speak: it writes nothing and knows nothing."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes nothing."""

    def lines(self) -> list[dict]:
        """Nothing."""
        return []

    def __enter__(self) -> "NullWriter":
        return self

    def __exit__(self, *_) -> None:
        pass


class _TensorBoardWriter:
    """TensorBoard files. The library is loaded by those who want them: where torch is installed it loads that too."""

    def __init__(self, folder: pathlib.Path, first_step: int):
        """A file of events that replaces those of `first_step` and later in earlier files.

        Written here and now: the library's own writer has a thread, where a full disk would go unnoticed.
        """
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        folder.mkdir(exist_ok=True)
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._file = EventsWriter(str(folder / "events"), filename_suffix=f".{os.getpid()}")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.SessionStatus.START)
        self._file.write_event(
            self._event(wall_time=time.time(), step=first_step, session_log=start)
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        scalars = [
            self._summary.Value(tag=name, simple_value=value) for name, value in values.items()
        ]
        self._file.write_event(
            self._event(wall_time=time.time(), step=step, summary=self._summary(value=scalars))
        )
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _start_wandb(workdir: pathlib.Path):
    try:
        import wandb
    except ImportError as error:
        raise ValueError(
            "log.wandb: the wandb package is missing; pip install wandb, or log.wandb=False"
        ) from error
    return wandb.init(project="ccpo_jax", name=workdir.name, dir=str(workdir))


def progress_line(
    step: int, total: int, values: Mapping[str, float], *, elapsed: float, done: int
) -> str:
    """One line of progress: step, reward, accuracy, tokens per second, time left.

    Args:
      step: steps completed.
      total: steps of the run.
      values: the newest value of every metric; an accuracy stays until the next evaluation.
      elapsed: seconds since this process began to train.
      done: steps completed by this process.
    """
    parts = [f"step {step}/{total}"]
    shown = {
        "reward": "reward",
        "eval/team_accuracy": "held-out accuracy",
        "time/tokens_per_second": "tokens/s",
    }
    for name, label in shown.items():
        if name in values:
            parts.append(
                f"{label} {values[name]:,.0f}"
                if "tokens" in name
                else f"{label} {values[name]:.3f}"
            )
    if done > 0 and step < total:
        minutes, seconds = divmod(round(elapsed / done * (total - step)), 60)
        parts.append(f"ETA {minutes}:{seconds:02d}")
    return " | ".join(parts)


def accuracy_table(
    before: Mapping[str, tuple[float, float, float]],
    after: Mapping[str, tuple[float, float, float]] | None = None,
) -> str:
    """Aligned rows of accuracies in percent with their intervals, and the change where there are two columns.

    Args:
      before: row name -> (mean, low, high), fractions.
      after: the same rows later; None = one column.
    """

    def cell(row: tuple[float, float, float]) -> str:
        mean, low, high = (100 * x for x in row)
        return f"{mean:5.1f} [{low:4.1f}, {high:5.1f}]"

    width = max(len(name) for name in before)
    columns = ["before", "after", "change"] if after else ["accuracy %, 95 % interval"]
    lines = [" " * width + "".join(f"  {column:>19}" for column in columns)]
    for name, row in before.items():
        line = f"{name:<{width}}  {cell(row):>19}"
        if after:
            line += f"  {cell(after[name]):>19}  {100 * (after[name][0] - row[0]):>+19.1f}"
        lines.append(line)
    return "\n".join(lines)


def accuracy_rows(
    metrics: dict, prefix: str, topology: Topology
) -> dict[str, tuple[float, float, float]]:
    """Rows of the closing table: name -> (mean, low, high)."""
    names = {
        "team": "team_accuracy",
        "team, majority of samples": "maj_accuracy",
        "team, greedy": "greedy/team_accuracy",
    }
    for agent, role in enumerate(topology.agent_roles):
        names[f"agent {agent} ({role}) alone"] = f"agent_accuracy/{agent}"
    for agent, role in enumerate(topology.agent_roles):
        names[f"team without agent {agent} ({role})"] = f"without_agent_accuracy/{agent}"
    keys = {row: f"{prefix}/{name}" for row, name in names.items()}
    return {
        r: (metrics[k], metrics[f"{k}/low"], metrics[f"{k}/high"])
        for r, k in keys.items()
        if k in metrics
    }


def bootstrap_interval(
    values: np.ndarray, *, confidence: float = 0.95, seed: int = 0, resamples: int = 2000
) -> tuple[float, float, float]:
    """Mean over problems and its percentile bootstrap interval; problems are resampled, not samples.

    Args:
      values: ``[B]``, or ``[B, G]`` with several samples per problem.
      confidence: mass of the interval.
      seed: same seed, same interval.
      resamples: bootstrap replicates.

    Returns:
      ``(mean, low, high)``.
    """
    per_problem = np.asarray(values, np.float64).reshape(len(values), -1).mean(axis=1)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for i in range(
        resamples
    ):  # one row at a time: [resamples, B] indices would be large for large sets
        means[i] = per_problem[rng.integers(0, len(per_problem), len(per_problem))].mean()
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(per_problem.mean()), float(low), float(high)
