"""A run's files of lines: one JSON object a line, each about a step, and no step twice however often a run resumes."""

import json
import os
import pathlib
from collections.abc import Mapping


class StepLines:
    """Appends JSON objects to a file of lines. A context manager.

    Args:
      path: the file; made if need be.
      resume_step: steps already done: lines of later steps and a torn last line are removed; 0 = all of them.
    """

    def __init__(self, path: pathlib.Path, resume_step: int = 0):
        self._path = path
        self._keep(resume_step)
        self._file = path.open("a", encoding="utf-8")

    def _keep(self, last_step: int) -> None:
        """Rewrites the file without lines past `last_step`."""
        if not self._path.exists():
            return
        kept = []
        for line in self._path.read_text(encoding="utf-8").splitlines(keepends=True):
            try:
                whole = line.endswith("\n") and json.loads(line)["step"] <= last_step
            except (json.JSONDecodeError, KeyError, TypeError):
                whole = False
            if whole:
                kept.append(line)
        fresh = self._path.with_suffix(".tmp")
        fresh.write_text("".join(kept) if last_step else "", encoding="utf-8")
        fresh.replace(self._path)

    def append(self, step: int, values: Mapping) -> None:
        """Writes one line, to the disk: a checkpoint of this step must never be older."""
        self._file.write(json.dumps({"step": step} | values, allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def lines(self) -> list[dict]:
        """Everything written so far, also before a run was resumed."""
        return [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines()]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> "StepLines":
        return self

    def __exit__(self, *_) -> None:
        self.close()
