"""A run that is asked to stop, by a scheduler or with Ctrl-C, ends after the step under way."""

import os
import signal
from types import FrameType


class Stopping:
    """Takes SIGTERM and Ctrl-C as a wish, once: a second signal acts as it always does. A context manager.

    Outside the main thread, where Python allows no handlers, signals keep their effect.
    """

    def __init__(self):
        self.asked = ""  # the signal's name once one has come
        self._before = {}

    def __enter__(self) -> "Stopping":
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        except ValueError:
            pass
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.asked = signal.Signals(number).name
        signal.signal(number, self._before[number])
        # Not print: the signal may have come in the middle of one.
        os.write(
            2,
            f"\n{self.asked}: the run saves and ends after this step; once more ends it at once\n".encode(),
        )
