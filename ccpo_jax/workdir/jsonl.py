"""Append-only files of JSON lines, keyed by step; truncated when a run resumes."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple


class StepLines:
    """Appends one JSON object per line to a file, each with its step. A context manager.

    Args:
      path: the file; created if it does not exist.
      resume_step: steps already done: lines of later steps and a torn last line are removed; 0 =
        all lines.
    """

    def __init__(self, path: pathlib.Path, resume_step: int = 0):
        self._path = path
        if path.exists():
            self._truncate(resume_step)
        # Without a buffer: closing would write it once more to a disk that is full.
        self._file = path.open("ab", buffering=0)

    def _truncate(self, last_step: int) -> None:
        """Rewrites the file without lines after `last_step`."""
        kept = []
        if last_step:
            kept = [line.text for line in _complete_lines(self._path) if line.step <= last_step]
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(kept), encoding="utf-8")
        temporary.replace(self._path)

    def append(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes one line through to the disk: a checkpoint of this step must never be older."""
        text = json.dumps({"step": step} | dict(values), allow_nan=False) + "\n"
        rest = memoryview(text.encode())
        while rest:
            rest = rest[self._file.write(rest) :]
        os.fsync(self._file.fileno())

    def lines(self) -> list[dict[str, Any]]:
        """All lines, those of earlier runs included."""
        return [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines()]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> "StepLines":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Line(NamedTuple):
    """A line of a file, with its end, and the step that it is about."""

    step: int
    text: str


def later_lines(path: pathlib.Path, last_step: int) -> list[Line]:
    """The lines that `StepLines` removes where a run goes on after `last_step`, without torn ones.

    Raises:
      OSError: the file cannot be read.
    """
    if not path.exists():
        return []
    return [line for line in _complete_lines(path) if line.step > last_step or not last_step]


def _complete_lines(path: pathlib.Path) -> list[Line]:
    """The lines that were written to their end: JSON objects with a step."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        if not text.endswith("\n"):
            continue
        try:
            step = json.loads(text)["step"]
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
        if isinstance(step, int):
            lines.append(Line(step, text))
    return lines
