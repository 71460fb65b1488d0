"""What to type where a row has no column of a known name."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ccpo_jax.data.cells import is_empty, plain
from ccpo_jax.data.conversations import turns_of
from ccpo_jax.data.mapping import ColumnMapping

# Names under which sets keep a question or an answer, the surest first; in small letters.
_QUESTION_NAMES = (
    *("goal", "prompt", "instruction", "input", "question_text", "questions", "problem_text"),
    *("problem_statement", "question_content", "source_question", "stem", "sentence", "task"),
    *("sentence1", "statement", "premise", "claim", "query_text", "user_prompt", "title"),
    *("startphrase", "sent1"),
)
_ANSWER_NAMES = (
    *("ground_truth", "final_answer", "expected_answer", "gold", "gold_answer", "correct answer"),
    *("correct_answer", "answer", "answer_key", "answerkey", "reference", "reference_answer"),
    *("reference_solution", "target", "targets", "output", "response", "completion"),
    *("answers", "answer_text", "best_answer", "result", "value"),
)

# Names of the number of an option.
_INDEX_NAMES = ("label", "answer_index", "answer_idx", "correct_index", "answer_id")

# How deep structs are searched, such as verl's reward_model.
_DEPTH = 2


def is_messages(value: Any) -> bool:
    """Whether a cell is a conversation: a list of turns, each with its speaker.

    Example:
      >>> is_messages([{"role": "user", "content": "1+1?"}])
      True
    """
    return turns_of(value) is not None


def question_hint(
    row: Mapping[str, Any], mapping: ColumnMapping, *, options: str, has_answer: bool
) -> str:
    """What to type where no column holds the question.

    Args:
      row: the row.
      mapping: what the user maps already.
      options: columns that must be options, as a mapping names them; "" = there are none.
      has_answer: False: name a column for the answer too.
    """
    question = _find(row, _QUESTION_NAMES) or "COLUMN"
    # Alpaca's rows have what the instruction is about in a column of its own.
    if question == "instruction" and "input" in row:
        question = "instruction+input"
    entries = {"question": question}
    if options:
        entries["options"] = options
    if not has_answer and "answer" not in mapping.sources:
        # What is the question cannot be the answer.
        others = {name: cell for name, cell in row.items() if name not in question.split("+")}
        entries |= _answer_entries(others)
    return f"type {mapping.typed(**entries)}"


def answer_hint(row: Mapping[str, Any], mapping: ColumnMapping) -> str:
    """What to type where no column holds the answer."""
    return f"type {mapping.typed(**_answer_entries(row))}"


def _answer_entries(row: Mapping[str, Any]) -> dict[str, str]:
    answer = _find(row, _ANSWER_NAMES)
    index = "" if answer else _find(row, _INDEX_NAMES)
    if index:
        return {"options": "COLUMN", "answer_index": index}
    return {"answer": answer or "COLUMN"}


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
