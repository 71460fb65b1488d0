"""What the columns of a row mean, under their usual names."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ccpo_jax.data.cells import UnusableRow, is_empty, plain, printable
from ccpo_jax.data.choice_golds import CHOICE_GOLD_COLUMNS, GoldReading, read_gold
from ccpo_jax.data.column_case import with_known_names
from ccpo_jax.data.free_golds import GOLD_COLUMNS, SOLUTION_COLUMN, free_gold, is_placeholder
from ccpo_jax.data.hints import answer_hint, question_hint
from ccpo_jax.data.options import OPTIONS_COLUMNS, Options, read_options
from ccpo_jax.data.unread_options import options_by_gold, options_by_name
from ccpo_jax.errors import InputError

Row = Mapping[str, Any]

CONTEXT_COLUMNS = ("context", "passage", "article", "text")
QUESTION_COLUMNS = ("question", "problem", "query", "ctx", "question_stem")
VIEWS_COLUMN = "views"

# Names of one meaning; they are read without regard to case.
_MEANINGS = (CONTEXT_COLUMNS, QUESTION_COLUMNS, (*GOLD_COLUMNS, *CHOICE_GOLD_COLUMNS))

# The story before a question, in sets that keep it apart.
_STORY_COLUMN = "body"

# All columns that are read; the others are searched for options under another name.
COLUMNS = frozenset(
    (
        *CONTEXT_COLUMNS,
        *QUESTION_COLUMNS,
        *GOLD_COLUMNS,
        *CHOICE_GOLD_COLUMNS,
        *OPTIONS_COLUMNS,
        VIEWS_COLUMN,
    )
)


class Record(NamedTuple):
    """A row by the meaning of its columns.

    Attributes:
      question: without passage and options.
      passage: stands in front of the question; "" = there is none.
      passage_column: its column.
      options: None = the answer is free.
      gold: with options as the row has it, otherwise text that is the answer alone.
      gold_column: its column; "" for a free answer, which may come from several.
      reading: with options, what the gold may stand for.
      solutions: whole columns that hold the answer at their end.
      views: one text per agent, or none.
      unread: other columns of several texts -> whether the gold names one of them.
    """

    question: str
    passage: str
    passage_column: str
    options: Options | None
    gold: Any
    gold_column: str
    reading: GoldReading | None
    solutions: tuple[str, ...]
    views: tuple[str, ...]
    unread: Mapping[str, bool]


def read_row(row: Row) -> Record:
    """The columns of a row by their meaning.

    Of several columns with the same meaning the first counts that is not empty: sets that were
    merged from others have columns that only some of their rows fill.

    Raises:
      UnusableRow: an empty question or an empty gold.
      InputError: a missing column, a value of the wrong type, or options under an unknown name.
    """
    row = with_known_names(row, _MEANINGS)
    question = _text(row, _first_full(row, QUESTION_COLUMNS, question_hint))
    if not question:
        raise UnusableRow("empty question")
    passage_column = next((name for name in CONTEXT_COLUMNS if not is_empty(row.get(name))), "")
    if not passage_column:
        _refuse_story(row)

    options = read_options(row)
    if options is None:
        gold_column = ""
        gold, unread = _free_answer(row)
        reading = None
        solution_columns = GOLD_COLUMNS
    else:
        gold_column = _choice_gold_column(row, options)
        gold, unread = row[gold_column], {}
        solution_columns = (SOLUTION_COLUMN,)
        if is_empty(gold):
            raise UnusableRow("empty gold")
        reading = read_gold(gold, options, gold_column)

    texts = [row.get(name) for name in solution_columns]
    solutions = tuple(text for text in texts if isinstance(text, str))
    return Record(
        question=question,
        passage=_text(row, passage_column) if passage_column else "",
        passage_column=passage_column,
        options=options,
        gold=gold,
        gold_column=gold_column,
        reading=reading,
        solutions=solutions,
        views=_views(row),
        unread=unread,
    )


def _refuse_story(row: Row) -> None:
    for name in (_STORY_COLUMN, _STORY_COLUMN.capitalize(), _STORY_COLUMN.upper()):
        if isinstance(row.get(name), str) and row[name].strip():
            raise InputError(
                name,
                "stands beside the question, which may need it, and is not read; rename it to "
                "context, or remove it",
            )


def _first_full(row: Row, names: Sequence[str], find_hint: Callable[[Row, str], str]) -> str:
    """The first of the names whose column is not empty, else the first that is a column."""
    present = [name for name in names if name in row]
    if not present:
        columns = ", ".join(map(str, row)) or "none"
        hint = find_hint(row, names[0])
        raise InputError(
            names[0],
            f"no column {' or '.join(names)} among {columns}{f'; {hint}' if hint else ''}",
        )
    return next((name for name in present if not is_empty(row[name])), present[0])


def _choice_gold_column(row: Row, options: Options) -> str:
    """The first column of golds that is not empty and no placeholder, unless it is an option."""
    names = (*GOLD_COLUMNS, *CHOICE_GOLD_COLUMNS)
    first = _first_full(row, names, answer_hint)
    for name in names:
        if name not in row or is_empty(row[name]):
            continue
        is_option = str(row[name]).strip() in options.texts
        if is_option or not is_placeholder(row[name]):
            return name
    return first


def _free_answer(row: Row) -> tuple[str, dict[str, bool]]:
    """``(gold, columns that may hold options)`` of a row without known options."""
    name = options_by_name(row, COLUMNS)
    if name:
        known = ", ".join(OPTIONS_COLUMNS)
        raise InputError(
            name,
            f"looks like options, which are read from a list of texts called {known}, or from "
            "columns A, B, C, ...; rename it, or remove it if the answer is free",
        )
    _first_full(row, GOLD_COLUMNS, answer_hint)
    gold = free_gold(row)
    has_empty_options = any(plain(row.get(name)) == [] for name in OPTIONS_COLUMNS)
    if has_empty_options and re.fullmatch("[A-Z]", gold):
        raise UnusableRow("gold is none of the options")
    return gold, options_by_gold(row, gold, COLUMNS)


def _text(row: Row, column: str) -> str:
    value = plain(row[column])
    if is_empty(value):
        return ""
    if not isinstance(value, str):
        raise InputError(column, f"must be text, received {value!r:.40}")
    return printable(value).strip()


def _views(row: Row) -> tuple[str, ...]:
    views = plain(row.get(VIEWS_COLUMN))
    if is_empty(views):
        return ()
    is_sequence = isinstance(views, list | tuple)
    if not is_sequence or not all(isinstance(view, str) for view in views):
        message = f"must be a list of texts, one per agent, received {views!r:.40}"
        raise InputError(VIEWS_COLUMN, message)
    return tuple(printable(view).strip() for view in views)
