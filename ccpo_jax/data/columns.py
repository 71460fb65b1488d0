"""From the columns of a row to a problem, under the usual names of the columns."""

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ccpo_jax.data.problems import Problem
from ccpo_jax.errors import InputError

Row = Mapping[str, Any]

CONTEXT_COLUMNS = ("context", "text")
QUESTION_COLUMNS = ("question", "problem", "query")
GOLD_COLUMNS = ("answer", "correct_option", "groundtruth", "solution")
OPTIONS_COLUMN = "options"
VIEWS_COLUMN = "views"


class UnusableRow(Exception):
    """A row that lacks what a problem needs; the message is the reason that is counted."""


def parse_row(row: Row, *, problem_id: str = "") -> Problem:
    """Turns one row of any known kind into a problem.

    A passage precedes the question. Options make it multiple choice: they follow the question as
    lettered lines, and the gold is a letter. Otherwise the gold is the answer (after ``####`` where
    there is one), or the last box of a solution.

    Args:
      row: columns context or text (optional); question, problem or query; options (optional);
        answer, correct_option, groundtruth or solution; views (optional), one text per agent to
        read in place of all the others.
      problem_id: becomes the problem's `id`.

    Raises:
      UnusableRow: an empty question, an empty gold, or a gold that is none of the options.
      InputError: a missing column or a value of the wrong type. It names the column and not the
        row.

    Example:
      >>> problem = parse_row({"query": "1, 2, ?", "options": ["2", "3"], "correct_option": 1})
      >>> problem.question, problem.gold, problem.verifier
      ('1, 2, ?\\nA. 2\\nB. 3', 'B', 'choice')
    """
    question_column = _first_present(row, QUESTION_COLUMNS)
    gold_column = _first_present(row, GOLD_COLUMNS)

    question = _text(row, question_column)
    if not question:
        raise UnusableRow("empty question")
    gold = row[gold_column]
    if _is_empty(gold):
        raise UnusableRow("empty gold")

    context_columns = [name for name in CONTEXT_COLUMNS if name in row]
    context = _text(row, context_columns[0]) if context_columns else ""
    if context:
        question = f"{context}\n{question}"
    views = _views(row)

    if row.get(OPTIONS_COLUMN) is None:
        answer = _free_answer(gold, gold_column)
        return Problem(problem_id, question, answer, "math", context, views)
    options = _lettered_options(row[OPTIONS_COLUMN])
    letter = _gold_letter(gold, len(options), gold_column)
    return Problem(problem_id, "\n".join([question, *options]), letter, "choice", context, views)


def _first_present(row: Row, names: Sequence[str]) -> str:
    """The first of the names that is a column of the row."""
    for name in names:
        if name in row:
            return name
    columns = ", ".join(map(str, row)) or "none"
    raise InputError(names[0], f"no column {' or '.join(names)} among {columns}")


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    # NaN, the one value that differs from itself, is an empty cell in a column of numbers.
    return value is None or value != value


def _text(row: Row, column: str) -> str:
    value = row[column]
    if not isinstance(value, str | None):
        raise InputError(column, f"must be text, received {value!r:.40}")
    return _printable(value or "").strip()


def _printable(text: str) -> str:
    """Lone surrogates, which JSON can spell but nothing can write or print, become "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _views(row: Row) -> tuple[str, ...]:
    views = row.get(VIEWS_COLUMN)
    if views is None:
        return ()
    is_sequence = isinstance(views, list | tuple | np.ndarray)
    if not is_sequence or not all(isinstance(view, str) for view in views):
        message = f"must be a list of texts, one per agent, received {views!r:.40}"
        raise InputError(VIEWS_COLUMN, message)
    return tuple(_printable(view).strip() for view in views)


def _lettered_options(options: Any) -> list[str]:
    """Lines such as ``A. text``, whether or not the options already have their letters."""
    is_sequence = isinstance(options, list | tuple)
    if not is_sequence or not all(isinstance(option, str) for option in options):
        raise InputError(OPTIONS_COLUMN, f"must be a list of texts, received {options!r:.40}")
    if not 2 <= len(options) <= 26:
        raise InputError(OPTIONS_COLUMN, f"must be 2 to 26 texts, received {len(options)}")

    letters = string.ascii_uppercase[: len(options)]
    labels = [re.match(r"\s*\(?([A-Z])[.):]\s*", option) for option in options]
    # Letters are the options' own only if all are there, in order: "C. elegans" begins with a name.
    if [label and label[1] for label in labels] == list(letters):
        options = [
            option[label.end() :] for option, label in zip(options, labels, strict=True) if label
        ]
    return [
        f"{letter}. {_printable(option).strip()}"
        for letter, option in zip(letters, options, strict=True)
    ]


def _gold_letter(gold: Any, num_options: int, column: str) -> str:
    """The letter that 1, "b", "(B)" or "B) text" stands for: "B"."""
    if isinstance(gold, bool) or not isinstance(gold, int | str):
        message = f"must be a letter or a number from 0, received {gold!r:.40}"
        raise InputError(column, message)

    letters = string.ascii_uppercase[:num_options]
    if isinstance(gold, int):
        letter = letters[gold] if 0 <= gold < num_options else ""
    else:
        match = re.fullmatch(r"\(?([A-Za-z])(?:[.):].*)?", gold.strip(), flags=re.DOTALL)
        letter = match[1].upper() if match else ""
    if not letter or letter not in letters:
        raise UnusableRow("gold is none of the options")
    return letter


def _free_answer(gold: Any, column: str) -> str:
    """The gold of a problem without options, as text."""
    if isinstance(gold, bool) or not isinstance(gold, int | float | str):
        raise InputError(column, f"must be text or a number, received {gold!r:.40}")
    text = _printable(str(gold))
    text = _last_box(text) if column == "solution" else text.rpartition("####")[2].strip()

    # One formula between dollar signs, perhaps followed by a heading: "$145$ Solution:".
    formula = re.fullmatch(r"\$\$?([^$]*[^$\\])\$\$?(?:\s*[A-Za-z]+:)?", text)
    if formula:
        text = formula[1].strip()
    if not text:
        raise UnusableRow("empty gold")
    return text


def _last_box(solution: str) -> str:
    """Content of the last ``\\boxed{...}`` of a solution, or "" if no box is closed."""
    _, box, rest = solution.rpartition("\\boxed{")
    if not box:
        return ""
    depth = 1
    for token in re.finditer(r"\\.|[{}]", rest, flags=re.DOTALL):
        if token[0] == "{":
            depth += 1
        elif token[0] == "}":
            depth -= 1
        if depth == 0:
            return rest[: token.start()].strip()
    return ""
