"""Graceful stop: a run ends saved when a scheduler or Ctrl-C asks it to; asked twice, at once."""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, ClassVar

import jax

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# Seconds that a process with nothing to save has to end in an orderly way.
_GRACE = 5.0


class StoppedError(Exception):
    """An evaluation was ended by a stop that somebody asked for."""


class GracefulStop:
    """Requests a stop on the first SIGTERM or SIGINT; a second one ends the process at once. A
    context manager.

    Outside the main thread Python allows no signal handlers; there, signals keep their effect.

    Attributes:
      signal_name: what asks for the stop, such as "SIGTERM"; "" = nothing yet.
      has_work: whether this process has something to save, or may soon have. While it has not, a
        signal ends the run where it is.
      active: the stop of the run under way in this process; None = there is none.
    """

    active: ClassVar["GracefulStop | None"] = None

    def __init__(self) -> None:
        self.signal_name = ""
        self.has_work = False
        self._after_step = ""
        self._previous: dict[int, Any] = {}
        self._resources = contextlib.ExitStack()

    def request_after_step(self, reason: str) -> None:
        """Requests a stop after a whole step, so that there is something to save."""
        self._after_step = reason

    def step_done(self) -> None:
        """To be called after each step, before what follows it."""
        self.signal_name = self.signal_name or self._after_step

    def __enter__(self) -> "GracefulStop":
        GracefulStop.active = self
        with contextlib.suppress(ValueError):
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._request)
        self._resources.enter_context(_silent_where_ignored())
        self._resources.enter_context(watch_signals())
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()
        GracefulStop.active = None
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signal_name = signal.Signals(number).name
        signal.signal(number, self._previous[number])
        # Processes that train together stop at the same point of the program.
        if self.has_work or jax.distributed.is_initialized():
            return
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)


@contextlib.contextmanager
def _silent_where_ignored() -> Iterator[None]:
    """Within it, an exit that a signal asks for leaves no traceback where Python ignores it.

    It does so in destructors and in callbacks of the garbage collection. The stop is requested all
    the same: the run ends where it looks next.
    """
    previous = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if not isinstance(unraisable.exc_value, SystemExit | KeyboardInterrupt):
            previous(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = previous


@contextlib.contextmanager
def watch_signals() -> Iterator[None]:
    """Within it, a first SIGINT or SIGTERM is announced, and a second one ends the process at once.

    Python's own handlers wait until compiled code returns; a thread of its own does not. Where
    there is nothing to save, the process ends after five seconds even if that code has not
    returned by then. Elsewhere than in the main thread, and where an event loop watches signals
    already, it changes nothing.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    except ValueError:
        previous = None
    if previous != -1:
        if previous is not None:
            signal.set_wakeup_fd(previous)
        os.close(reader)
        os.close(writer)
        yield
        return

    thread = threading.Thread(target=_watch, args=(reader,), name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        os.close(writer)
        thread.join()
        os.close(reader)


def _watch(reader: int) -> None:
    """Reads the numbers of signals until the other end is closed."""
    first: int | None = None
    grace: float | None = None
    while True:
        if not select.select([reader], [], [], grace)[0]:
            os._exit(128 + (first or 0))
        data = os.read(reader, 1)
        if not data:
            return
        number = data[0]
        if number not in _SIGNALS:
            continue
        if first is not None:
            os._exit(128 + number)
        first = number
        stop = GracefulStop.active
        saves = stop is not None and stop.has_work
        if not saves and not jax.distributed.is_initialized():
            grace = _GRACE
        _announce(number, saves)


def _announce(number: int, saves: bool) -> None:
    action = "stopping as soon as the work done can be saved" if saves else "ending"
    message = f"\n{signal.Signals(number).name}: {action}; send it again to stop at once\n"
    # Not print: the signal may have interrupted one.
    with contextlib.suppress(OSError):
        os.write(2, message.encode())
