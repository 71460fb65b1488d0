"""Status lines: whatever takes more than a moment says what it does and how far it is."""

import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Literal, TextIO

from ccpo_jax.errors import escape_control

Shown = Literal["all", "steps", "nothing"]

# Seconds until a phase is worth a line; shorter ones say nothing.
_DELAY = 2.0
# Seconds between two lines of a log: where a phase is new, and where one goes on.
_NEWS_INTERVAL = 5.0
_LOG_INTERVAL = 10.0
# Seconds between two states of a line on a terminal.
_TERMINAL_INTERVAL = 0.5
_CLEAR_LINE = "\r\033[K"


class Phase:
    """Something that takes a while. Made by `status`.

    Args:
      what, unit, total: as in `status`.
      clock: seconds.
    """

    def __init__(self, what: str, unit: str, total: float | None, clock: Callable[[], float]):
        self.what = what
        self.began = clock()
        self.announced = False
        self._unit = unit
        self._clock = clock
        self._done = 0.0
        self._total = total
        self._first_done = math.nan
        self._first_time = math.nan

    def update(self, done: float, total: float | None = None) -> None:
        """Says how far it is; cheap, and allowed in any thread.

        Args:
          done: what has been done, in the phase's unit.
          total: of how much; None = not known, or as before.
        """
        if math.isnan(self._first_time):
            self._first_done = done
            self._first_time = self._clock()
        self._done = done
        self._total = self._total if total is None else total

    def advance(self, amount: float = 1) -> None:
        """Adds to what has been done."""
        self.update(self._done + amount)

    def text(self) -> str:
        """The phase as shown, such as "evaluating held-out: 16 of 64 problems, 0:20, ETA 1:00"."""
        elapsed = self._clock() - self.began
        progress = self._progress()
        if not progress and elapsed < 2 * _DELAY:
            return f"{self.what} ..."
        parts = [part for part in (progress, minutes(elapsed)) if part]
        left = self._seconds_left()
        if left is not None:
            parts.append(f"ETA {minutes(left)}")
        return f"{self.what}: {', '.join(parts)}"

    def _progress(self) -> str:
        if not self._done and self._total is None:
            return ""
        done, total, unit = self._done, self._total, self._unit
        if unit == "bytes":
            unit = "MB"
            done = done / 1e6
            total = None if total is None else total / 1e6
        amount = f"{done:,.0f}" if total is None else f"{done:,.0f} of {total:,.0f}"
        return f"{amount} {unit}".strip()

    def _seconds_left(self) -> float | None:
        """None where it is not known: from the first progress on, since a phase may begin with a
        compilation.
        """
        if self._total is None or self._done <= self._first_done:
            return None
        pace = (self._clock() - self._first_time) / (self._done - self._first_done)
        return pace * (self._total - self._done)


class Display:
    """Owns the last line of a stream: the progress of a run and the phases under way share it.

    On a terminal one line is written over in place. Elsewhere a phase gets a line when it has
    taken a moment, and another every ten seconds.

    Args:
      stream: None = what is standard error when a line is written.
      clock: seconds; replaced in tests.
    """

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.shown: Shown = "all"
        self._stream = stream
        self._clock = clock
        self._phases: list[Phase] = []
        # What stands before the phases in the line of a terminal.
        self._progress = ""
        self._open_line = ""
        self._written_at = -math.inf
        self._changed = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None

    # --- phases ---

    @contextmanager
    def phase(self, what: str, unit: str = "", total: float | None = None) -> Iterator[Phase]:
        """A phase that lasts as long as the block."""
        phase = Phase(what, unit, total, self._clock)
        with self._changed:
            self._phases.append(phase)
            self._start_thread()
            self._changed.notify()
        try:
            yield phase
        finally:
            with self._changed:
                self._phases.remove(phase)
                if phase.announced and self.in_place:
                    self._draw(self._line())

    def refresh(self) -> None:
        """Writes what is due now; called by a thread of its own every moment."""
        with self._changed:
            if self.shown != "all":
                return
            now = self._clock()
            due = [phase for phase in self._phases if now - phase.began >= _DELAY]
            news = any(not phase.announced for phase in due)
            silence = now - self._written_at
            in_place = self.in_place
            pause = 0 if in_place else _NEWS_INTERVAL if news else _LOG_INTERVAL
            if not due or silence < pause:
                return

            for phase in due:
                phase.announced = True
            if in_place:
                self._draw(self._line())
            else:
                self._write(self._line() + "\n")
                self._written_at = now

    def _line(self) -> str:
        """The run's progress, on a terminal alone, and the phases that have taken a moment."""
        texts = [phase.text() for phase in self._phases if phase.announced]
        if self.in_place and self._progress:
            texts.insert(0, self._progress)
        return escape_control(" | ".join(texts))

    def _start_thread(self) -> None:
        if self._thread is None and self.shown == "all":
            self._thread = threading.Thread(target=self._run, name="status", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._phases:
                    self._changed.wait()
            time.sleep(_TERMINAL_INTERVAL)
            # A full disk under a log must not show as a traceback.
            with suppress(OSError, ValueError):
                self.refresh()

    # --- the line ---

    def progress(self, text: str, *, last: bool = False) -> None:
        """Shows the progress of a run: in place on a terminal, else as a line.

        Args:
          text: without a newline.
          last: True: the line is final, and later output begins on a new one.
        """
        with self._changed:
            if self.shown == "nothing":
                return
            if not self.in_place:
                self._write(text + "\n")
            elif last:
                self._progress = ""
                self._write(f"{_CLEAR_LINE}{text}\n")
                self._open_line = ""
            else:
                self._progress = text
                self._draw(self._line())
            self._written_at = self._clock()

    def end_line(self) -> None:
        """Keeps the progress of a run as it stands; later output begins on a new line."""
        with self._changed:
            if self._progress:
                self.progress(self._progress, last=True)

    def make_way(self) -> None:
        """Removes what a terminal shows in place, so that other text can be printed there."""
        with self._changed:
            if self._open_line:
                self._draw("")

    @property
    def in_place(self) -> bool:
        """Whether the stream is a terminal."""
        stream = self._stream or sys.stderr
        # A stream is None where the program was started without one.
        return stream is not None and not stream.closed and stream.isatty()

    def _draw(self, text: str) -> None:
        """Replaces what stands in the line of a terminal."""
        # A longer text would wrap, and could no longer be taken back.
        width = shutil.get_terminal_size().columns - 1
        self._open_line = text[:width]
        self._write(_CLEAR_LINE + self._open_line)

    def _write(self, text: str) -> None:
        stream = self._stream or sys.stderr
        if stream is None or stream.closed:
            return
        stream.write(text)
        stream.flush()


# Standard error has one last line, and so the process one display.
DISPLAY = Display()
if (_setting := os.environ.get("CCPO_JAX_STATUS")) in ("all", "steps", "nothing"):
    DISPLAY.shown = _setting


def status(what: str, unit: str = "", total: float | None = None) -> AbstractContextManager[Phase]:
    """Says on standard error what runs, where it takes more than a moment. A context manager.

    It says nothing about what ends within two seconds. The innermost of several phases stands last
    in the line.

    Args:
      what: what the program does, such as "loading model X".
      unit: what `Phase.update` counts: "problems" gives "16 of 64 problems", "bytes" gives "98 of
        270 MB".
      total: how much there is to do, in this unit; None = it is not known yet.

    Example:
      >>> with status("evaluating held-out", unit="problems", total=3) as phase:
      ...     for done in range(3):
      ...         phase.update(done)
    """
    return DISPLAY.phase(what, unit, total)


def show_status(shown: Shown) -> None:
    """Chooses what a process says on standard error about its progress.

    Args:
      shown: "all", "steps" (the progress line of a run alone) or "nothing". The environment
        variable CCPO_JAX_STATUS sets it from outside.
    """
    DISPLAY.shown = shown


def minutes(seconds: float) -> str:
    """A duration as M:SS.

    Example:
      >>> minutes(75.4)
      '1:15'
    """
    whole, rest = divmod(round(seconds), 60)
    return f"{whole}:{rest:02d}"
