"""Output into a pipe whose reader has left, as in ``run.py ... 2>&1 | head -1``."""

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO

from ccpo_jax.train.signals import GracefulStop

# What a shell shows for a program that a closed pipe has ended.
STATUS = 128 + signal.SIGPIPE


class _Stop:
    """Ends the program once; a training run takes its step to the end and is saved first."""

    def __init__(self) -> None:
        self.is_due = True
        # Whether a thread that reports progress noticed it, which cannot end the program itself.
        self.is_noticed_by_thread = False

    def request(self) -> None:
        if not self.is_due:
            return
        self.is_due = False
        if GracefulStop.active is not None:
            GracefulStop.active.request_after_step("a closed pipe")
        elif threading.current_thread() is threading.main_thread():
            raise SystemExit(STATUS)
        else:
            self.is_noticed_by_thread = True
            _thread.interrupt_main()


class _Watched:
    """A stream that takes a closed pipe as a request to stop; further text is discarded."""

    def __init__(self, stream: TextIO, stop: _Stop):
        self._stream = stream
        self._stop = stop

    def write(self, text: str) -> int:
        """Writes a text."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        """Writes what is buffered."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._discard()

    def _discard(self) -> None:
        # This also empties the buffers, and serves compiled code that writes past Python.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        self._stop.request()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def stop_at_closed_pipe() -> Iterator[None]:
    """Within it, the first write into a closed pipe ends the program; a training run ends saved.

    Raises:
      SystemExit: outside of training.
    """
    stop = _Stop()
    before = sys.stdout, sys.stderr
    # A stream is None where the program was started without one.
    watched: list[Any] = [stream and _Watched(stream, stop) for stream in before]
    sys.stdout, sys.stderr = watched
    try:
        yield
    except KeyboardInterrupt:
        if not stop.is_noticed_by_thread:
            raise
    finally:
        # The program is about to end anyway.
        stop.is_due = False
        for stream in watched:
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before
    if stop.is_noticed_by_thread:
        raise SystemExit(STATUS)
