"""Layouts of public sets whose options stand in columns of names of their own."""

import functools
import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ccpo_jax.data.cells import is_empty, plain
from ccpo_jax.data.options import Options, options_of


class Layout(NamedTuple):
    """Columns that together say what a row is.

    Attributes:
      question: holds the question.
      texts: hold one option each.
      gold: names one of them.
      labels: how it names them; () = by a number from 0.
    """

    question: str
    texts: tuple[str, ...]
    gold: str
    labels: tuple[str, ...] = ()


LAYOUTS = (
    # PIQA
    Layout("goal", ("sol1", "sol2"), "label"),
    # WinoGrande
    Layout("sentence", ("option1", "option2"), "answer", ("1", "2")),
    # Social IQa
    Layout("question", ("answerA", "answerB", "answerC"), "label", ("1", "2", "3")),
    # MedMCQA
    Layout("question", ("opa", "opb", "opc", "opd"), "cop"),
)

# The right answer and wrong ones in columns of their own, as in SciQ and GPQA: names without signs.
_RIGHT = "correctanswer"
_WRONG = re.compile(r"(?:incorrectanswer|wronganswer|distractor)\d{1,2}")
_WRONG_LISTS = ("incorrectanswers", "wronganswers", "distractors")


class RightAndWrong(NamedTuple):
    """The right answer of a row and the wrong ones.

    Attributes:
      right_column: holds the right one.
      wrong_columns: hold wrong ones, or one list of them.
      right: the right one.
      wrong: the wrong ones, those that are not empty.
    """

    right_column: str
    wrong_columns: tuple[str, ...]
    right: str
    wrong: tuple[str, ...]


def layout_of(row: Mapping[str, Any]) -> Layout | None:
    """The layout of a row; None = it is none of these."""
    return _layout(tuple(row))


@functools.lru_cache(maxsize=256)
def _layout(columns: tuple[str, ...]) -> Layout | None:
    present = set(columns)
    for layout in LAYOUTS:
        if present.issuperset((layout.question, *layout.texts, layout.gold)):
            return layout
    return None


def layout_options(row: Mapping[str, Any], layout: Layout) -> Options | None:
    """The options of a row in a layout; None = it has none."""
    texts = ["" if is_empty(row[name]) else row[name] for name in layout.texts]
    if not any(texts):
        return None
    return options_of(texts, "+".join(layout.texts), layout.labels)


def right_and_wrong(row: Mapping[str, Any]) -> RightAndWrong | None:
    """The right and the wrong answers of a row that keeps them apart; None = it does not."""
    columns = _right_and_wrong_columns(tuple(row))
    if columns is None:
        return None
    right_column, wrong_columns = columns
    right = plain(row[right_column])
    wrong: list[Any] = []
    for name in wrong_columns:
        cell = plain(row[name])
        wrong.extend(cell if isinstance(cell, list | tuple) else [cell])
    wrong = [text for text in wrong if not is_empty(text)]
    if is_empty(right) or not wrong:
        return None
    return RightAndWrong(right_column, wrong_columns, str(right), tuple(map(str, wrong)))


@functools.lru_cache(maxsize=256)
def _right_and_wrong_columns(columns: tuple[str, ...]) -> tuple[str, tuple[str, ...]] | None:
    plain_names = {column: re.sub(r"[^a-z0-9]", "", str(column).casefold()) for column in columns}
    right = [column for column, name in plain_names.items() if name == _RIGHT]
    wrong = [column for column, name in plain_names.items() if _WRONG.fullmatch(name)]
    if not wrong:
        wrong = [column for column, name in plain_names.items() if name in _WRONG_LISTS][:1]
    return (right[0], tuple(wrong)) if len(right) == 1 and wrong else None


def mixed_order(question: str, answers: RightAndWrong) -> tuple[list[str], int]:
    """``(the answers in an order that depends on the texts alone, the number of the right one)``.

    The same row has the same order in every run and every set, and the right answer is as often
    first as any other.
    """

    def rank(text: str) -> bytes:
        return hashlib.sha256(f"{question}\n{text}".encode("utf-8", "replace")).digest()

    texts = sorted((answers.right, *answers.wrong), key=rank)
    return texts, texts.index(answers.right)


def has_flags(row: Mapping[str, Any], path: str) -> bool:
    """Whether a list of options, ``struct.choices``, stands beside labels that are 1 for each right
    one and 0 for the others, as in TruthfulQA.

    Example:
      >>> has_flags({"mc1": {"choices": ["x", "y"], "labels": [1, 0]}}, "mc1.choices")
      True
    """
    struct = plain(row.get(path.partition(".")[0]))
    labels = plain(struct.get("labels")) if isinstance(struct, Mapping) else None
    return isinstance(labels, list) and all(label in (0, 1) for label in labels)
