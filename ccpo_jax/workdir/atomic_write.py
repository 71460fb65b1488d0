"""Replaces a file in one step."""

import os
import pathlib


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a file such that a kill at any moment leaves the old content or the new.

    Raises:
      OSError: the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
