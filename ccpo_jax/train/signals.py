"""Graceful stop: a run ends after the step under way when a scheduler or Ctrl-C asks it to."""

import contextlib
import os
import signal
from types import FrameType
from typing import Any, ClassVar


class GracefulStop:
    """Requests a stop on the first SIGTERM or SIGINT; a second one acts as it does by default. A
    context manager.

    Outside the main thread Python allows no signal handlers; there, signals keep their effect.

    Attributes:
      signal_name: what asks for the stop, such as "SIGTERM"; "" = nothing yet.
      active: the stop of the run under way in this process; None = there is none.
    """

    active: ClassVar["GracefulStop | None"] = None

    def __init__(self) -> None:
        self.signal_name = ""
        self._after_step = ""
        self._previous: dict[int, Any] = {}

    def request_after_step(self, reason: str) -> None:
        """Requests a stop after a whole step, so that there is something to save."""
        self._after_step = reason

    def step_done(self) -> None:
        """To be called after each step."""
        self.signal_name = self.signal_name or self._after_step

    def __enter__(self) -> "GracefulStop":
        GracefulStop.active = self
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._request)
        except ValueError:
            pass
        return self

    def __exit__(self, *_: object) -> None:
        GracefulStop.active = None
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signal_name = signal.Signals(number).name
        signal.signal(number, self._previous[number])
        # Not print: the signal may have interrupted one.
        message = (
            f"\n{self.signal_name}: stopping after this step and saving; "
            "send it again to stop at once\n"
        )
        with contextlib.suppress(OSError):
            os.write(2, message.encode())
