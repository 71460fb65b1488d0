"""The progress line of a run: step, reward, held-out accuracy, tokens per second, time left."""

import math
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from ccpo_jax.status import DISPLAY, Display, minutes

_SECONDS_BETWEEN_LINES = 5.0


class ProgressLine:
    """Shows the progress of a run: one line in place on a terminal, else a line every few seconds.

    Args:
      total_steps: steps of the run.
      first_step: steps completed before this process began.
      stream: where the line goes; None = standard error.
      clock: seconds; replaced in tests.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        first_step: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total_steps = total_steps
        self._first_step = first_step
        # Phases under way share the line.
        self._display = DISPLAY if stream is None else Display(stream)
        self._clock = clock
        self._started_at = clock()
        self._shown_at = -math.inf
        # An evaluation's accuracy stays in the line until the next evaluation.
        self._latest: dict[str, float] = {}

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Shows the state after `step` steps; skipped where a line was written a moment ago."""
        self._latest |= values
        now = self._clock()
        last = step == self._total_steps
        recent = now - self._shown_at < _SECONDS_BETWEEN_LINES
        if recent and not self._display.in_place and not last and step != 0:
            return

        line = progress_line(
            step,
            self._total_steps,
            self._latest,
            elapsed=now - self._started_at,
            done=step - self._first_step,
        )
        self._display.progress(line, last=last)
        self._shown_at = now

    def close(self) -> None:
        """Ends an open line, so that later output starts on a line of its own."""
        self._display.end_line()


def progress_line(
    step: int, total: int, values: Mapping[str, float], *, elapsed: float, done: int
) -> str:
    """One line of progress: step, reward, accuracy, tokens per second, time left.

    Args:
      step: steps completed.
      total: steps of the run.
      values: the latest value of every metric.
      elapsed: seconds since this process began to train.
      done: steps completed by this process.

    Example:
      >>> progress_line(5, 20, {"reward": 0.25}, elapsed=50.0, done=5)
      'step 5/20 | reward 0.250 | ETA 2:30'
    """
    parts = [f"step {step}/{total}"]
    if "reward" in values:
        parts.append(f"reward {values['reward']:.3f}")
    if "loss" in values:
        parts.append(f"loss {values['loss']:.3f}")
    if "eval/loss" in values:
        parts.append(f"held-out loss {values['eval/loss']:.3f}")
    if "eval/team_accuracy" in values:
        name = "mean score" if "eval/solved" in values else "accuracy"
        parts.append(f"held-out {name} {values['eval/team_accuracy']:.3f}")
    if "time/tokens_per_second" in values:
        parts.append(f"tokens/s {values['time/tokens_per_second']:,.0f}")

    if done > 0 and step < total:
        parts.append(f"ETA {minutes(elapsed / done * (total - step))}")
    return " | ".join(parts)
