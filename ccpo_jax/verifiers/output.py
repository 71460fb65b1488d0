"""What a user's code prints in a worker: its beginning is kept, the rest is dropped."""

import io
import os
import sys

_MOST_BYTES = 2000


class Output(io.RawIOBase):
    """A stream that keeps the first bytes written since `clear`, and never blocks or fails."""

    def __init__(self) -> None:
        self._kept = bytearray()
        # Programs that are started with this stream as theirs write into nothing.
        self._descriptor = os.open(os.devnull, os.O_WRONLY)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data) -> int:
        view = memoryview(data)
        if len(self._kept) < _MOST_BYTES:
            self._kept += view[: _MOST_BYTES - len(self._kept)]
        return view.nbytes

    def close(self) -> None:
        """Does nothing: the next text may print too."""

    def clear(self) -> None:
        """Forgets what was written."""
        self._kept.clear()

    def text(self) -> str:
        """What was kept."""
        return self._kept.decode("utf-8", "replace")


def capture_output() -> Output:
    """Sends what this process prints to an `Output`, and what its libraries print into nothing."""
    output = Output()
    stream = io.TextIOWrapper(
        output,  # type: ignore[arg-type]
        encoding="utf-8",
        errors="backslashreplace",
        write_through=True,
    )
    sys.stdout = stream
    sys.stderr = stream
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    return output
