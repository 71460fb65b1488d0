"""What a user is told about functions of their own: each thing once, and when to stop."""

import sys
from collections.abc import Sequence

from ccpo_jax.errors import RewardError, escape_control
from ccpo_jax.verifiers.types import Graded, Note


class Reports:
    """Shows the notes of verdicts, each kind about each function once.

    Args:
      on_error: "stop" or "skip", what an exception in a function does.
    """

    def __init__(self, on_error: str):
        self._on_error = on_error
        self._shown: set[tuple[str, str]] = set()

    def report(self, graded: Sequence[Graded], *, quiet: bool) -> None:
        """Shows what is new, and stops where there is a reason to.

        Args:
          graded: verdicts.
          quiet: whether another process shows it.

        Raises:
          RewardError: a function raised and errors stop, or a score lies outside the range.
        """
        notes = [note for verdicts in graded for note in verdicts.notes]
        for note in notes:
            if (note.part, note.kind) not in self._shown:
                self._shown.add((note.part, note.kind))
                if not quiet and note.kind != "out_of_range":
                    print(f"\nwarning: {_in_full(note)}", file=sys.stderr)

        for note in notes:
            if note.kind == "out_of_range":
                raise RewardError(f"verifier.range: {escape_control(note.summary)}")
        if self._on_error == "skip":
            return
        for note in notes:
            if note.kind.startswith("failed"):
                raise RewardError(
                    f"verifier.name: {escape_control(note.summary)}; "
                    "--config.verifier.on_error=skip goes on without the texts that fail"
                )


def _in_full(note: Note) -> str:
    """A note with its details below it."""
    text = f"{note.summary}\n{note.details.rstrip()}" if note.details else note.summary
    return escape_control(text)
