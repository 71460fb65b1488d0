"""What to rename where a row has no column of a known name."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ccpo_jax.data.cells import is_empty, plain

# Names under which sets keep a question or an answer, the surest first; in small letters.
_QUESTION_NAMES = (
    *("goal", "prompt", "instruction", "input", "question_text", "questions", "problem_text"),
    *("problem_statement", "question_content", "source_question", "stem", "sentence", "task"),
)
_ANSWER_NAMES = (
    *("ground_truth", "final_answer", "expected_answer", "gold", "gold_answer", "correct answer"),
    *("target", "output", "response", "completion", "answers", "answer_text", "best_answer"),
)

# Lists of the turns of a conversation.
_MESSAGES_NAMES = ("prompt", "messages", "conversations", "conversation", "chat")

# How deep structs are searched, such as verl's reward_model.
_DEPTH = 2


def is_messages(value: Any) -> bool:
    """Whether a cell is a conversation: a list of turns, each with its speaker.

    Example:
      >>> is_messages([{"role": "user", "content": "1+1?"}])
      True
    """
    turns = plain(value)
    if not isinstance(turns, list | tuple) or not turns:
        return False
    return all(isinstance(turn, Mapping) and ("role" in turn or "from" in turn) for turn in turns)


def question_hint(row: Mapping[str, Any], name: str) -> str:
    """What to do where no column holds the question; "" = nobody knows.

    Args:
      row: the row.
      name: what the column should be called.
    """
    for column in _MESSAGES_NAMES:
        if column in row and is_messages(row[column]):
            key = "content" if "role" in plain(row[column])[-1] else "value"
            answer = answer_hint(row, "answer")
            hint = f"{column} is a list of messages, which is not read: write the text of its "
            return f"{hint}{key!r} as {name}" + (f", and {answer}" if answer else "")
    found = _find(row, _QUESTION_NAMES)
    if not found:
        return ""
    options = [name for name in ("sol1", "sol2") if name in row]
    also = f", and make a list called options of {' and '.join(options)}" if options else ""
    return f"rename {found} to {name}{also}"


def answer_hint(row: Mapping[str, Any], name: str) -> str:
    """What to do where no column holds the answer; "" = nobody knows.

    Args:
      row: the row.
      name: what the column should be called.
    """
    found = _find(row, _ANSWER_NAMES)
    if not found:
        return ""
    return f"write {found} as {name}" if "." in found else f"rename {found} to {name}"


def _find(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """The column, or the path into a struct, that has the first of the names."""
    paths = dict(reversed(list(_paths(row, "", _DEPTH))))
    return next((paths[name] for name in names if name in paths), "")


def _paths(columns: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    """(name in small letters, path) of all cells that are not empty."""
    for name, cell in columns.items():
        if is_empty(cell):
            continue
        yield str(name).casefold(), f"{prefix}{name}"
        if depth > 1 and isinstance(plain(cell), Mapping):
            yield from _paths(plain(cell), f"{prefix}{name}.", depth - 1)
