"""From the rows of a set to problems: what only all rows together can tell.

An answer 2 beside the options 1, 2, 3, 4 is a number of an option or its text; a column called text
is a passage or the question again with its answer; a list beside a small number is a list of
options or of tags. The other rows tell. Where they do not, the set is refused.
"""

import collections
import dataclasses
import string
from collections.abc import Sequence
from typing import Any

from ccpo_jax.data.announcements import states_letter
from ccpo_jax.data.cells import UnusableRow, plain, plain_row, whole_number
from ccpo_jax.data.choice_golds import check_letter
from ccpo_jax.data.columns import Record, Row, read_row
from ccpo_jax.data.free_golds import is_placeholder
from ccpo_jax.data.passages import repeats_question, states_answer
from ccpo_jax.data.problems import Problem
from ccpo_jax.errors import InputError


def parse_row(row: Row, *, problem_id: str = "") -> Problem:
    """Turns one row of any known kind into a problem, as a set of one.

    A passage precedes the question. Options make it multiple choice: they follow the question as
    lettered lines, and the gold is a letter. Otherwise the gold is the answer (after ``####`` where
    there is one), or the last box of a solution.

    Args:
      row: columns context, passage, article or text (optional); question, problem, query, ctx or
        question_stem; options, choices, endings, or A, B, C, ... (optional); answer,
        correct_option, groundtruth or solution, and with options also answerKey, label, correct and
        the like; views (optional), one text per agent to read in place of all the others. All names
        but views and those of options are read in any case.
      problem_id: becomes the problem's `id`.

    Raises:
      UnusableRow: an empty question, an empty gold, or a gold that is none of the options.
      InputError: a missing column, a value of the wrong type, or a row that can be read in several
        ways. It names the column and not the row.

    Example:
      >>> problem = parse_row({"query": "1, 2, ?", "options": ["2", "3"], "correct_option": 1})
      >>> problem.question, problem.gold, problem.verifier
      ('1, 2, ?\\nA. 2\\nB. 3', 'B', 'choice')
    """
    problem = make_problems([read_row(row)], [problem_id])[0]
    if isinstance(problem, UnusableRow):
        raise problem
    return dataclasses.replace(problem, row=plain_row(row))


def make_problems(
    records: Sequence[Record], problem_ids: Sequence[str]
) -> list[Problem | UnusableRow]:
    """A problem for each row of a set, or why the row is unusable.

    Raises:
      InputError: the rows can be read in several ways, or hold options under another name. It names
        the column.
    """
    _refuse_unread_options(records)
    golds = _read_golds(records)
    passages = _read_passages(records, golds)

    made: list[Problem | UnusableRow] = []
    for record, problem_id, gold, passage in zip(
        records, problem_ids, golds, passages, strict=True
    ):
        if isinstance(gold, UnusableRow):
            made.append(gold)
        elif isinstance(passage, UnusableRow):
            made.append(passage)
        else:
            made.append(_problem(record, problem_id, gold, passage))
    return made


def _problem(record: Record, problem_id: str, gold: str, passage: str) -> Problem:
    options = record.options
    lines = [passage] if passage else []
    lines.append(record.question)
    if options is not None:
        lines.extend(options.lines)
    return Problem(
        id=problem_id,
        question="\n".join(lines),
        gold=gold,
        verifier="math" if options is None else "choice",
        context=passage,
        views=record.views,
        options=() if options is None else options.shown,
    )


# --- golds of options -----------------------------------------------------------------------------


def _read_golds(records: Sequence[Record]) -> list[str | UnusableRow]:
    """The gold of each row: with options the letter."""
    _refuse_counting_from_one(records)
    _refuse_digits(records)
    prefers_text = _prefers_text(records)

    golds: list[str | UnusableRow] = []
    for record in records:
        if record.options is None or record.reading is None:
            golds.append(record.gold)
            continue
        first, second = record.reading.by_name, record.reading.by_text
        if prefers_text.get(_kind(record), False):
            first, second = second, first
        try:
            golds.append(check_letter(first or second, record.options))
        except UnusableRow as reason:
            is_none = not first and not second and is_placeholder(record.gold)
            golds.append(UnusableRow("gold is a placeholder") if is_none else reason)
    return golds


def _kind(record: Record) -> tuple[str, type]:
    """Golds of one column and one type are written in one way."""
    return record.gold_column, type(whole_number(plain(record.gold)))


def _prefers_text(records: Sequence[Record]) -> dict[tuple[str, type], bool]:
    """Where a gold names one option and repeats the text of another: which of them it means.

    Raises:
      InputError: no other row tells.
    """
    names: collections.Counter = collections.Counter()
    texts: collections.Counter = collections.Counter()
    contradictions: dict[tuple[str, type], Any] = {}
    for record in records:
        if record.reading is None:
            continue
        kind = _kind(record)
        by_name, by_text = record.reading.by_name, record.reading.by_text
        names[kind] += bool(by_name and not by_text)
        texts[kind] += bool(by_text and not by_name)
        if by_name and by_text and by_name != by_text:
            contradictions.setdefault(kind, record.gold)

    for kind, gold in contradictions.items():
        if bool(names[kind]) == bool(texts[kind]):
            raise InputError(
                kind[0],
                f"may be the letter or number of an option (numbers count from 0) or the text of "
                f"another, received {gold!r:.40}; give letters",
            )
    return {kind: texts[kind] > 0 for kind in contradictions}


def _refuse_counting_from_one(records: Sequence[Record]) -> None:
    """Numbers count the options from 0; a set that has a last number but no 0 does otherwise."""
    positions: dict[str, collections.Counter] = {}
    for record in records:
        if record.options is None or record.reading is None or record.reading.index is None:
            continue
        count = positions.setdefault(record.gold_column, collections.Counter())
        if record.reading.index == len(record.options.shown):
            count["end"] += 1
        elif record.reading.index == 0:
            count["first"] += 1
        else:
            count["between"] += 1
    for column, count in positions.items():
        if count["end"] and count["between"] and not count["first"]:
            raise InputError(
                column,
                f"must count the options from 0, but {count['end']} rows have the number of "
                "options and none has 0: they seem to count from 1; subtract 1, or give letters",
            )


def _refuse_digits(records: Sequence[Record]) -> None:
    """Digits as text, such as "2", count from 0 in some sets and from 1 in others."""
    digits: collections.Counter[str] = collections.Counter()
    rows: collections.Counter[str] = collections.Counter()
    for record in records:
        reading = record.reading
        if reading is None:
            continue
        rows[record.gold_column] += 1
        is_unread = not reading.by_name and not reading.by_text and reading.index is None
        if is_unread and isinstance(record.gold, str) and record.gold.strip().isdigit():
            digits[record.gold_column] += 1
    for column, count in digits.items():
        if count > 1 and 2 * count > rows[column]:
            raise InputError(
                column,
                f"has digits as text in {count} rows, which may count the options from 0 or from "
                "1; give letters, or whole numbers from 0",
            )


# --- passages -------------------------------------------------------------------------------------


def _read_passages(
    records: Sequence[Record], golds: Sequence[str | UnusableRow]
) -> list[str | UnusableRow]:
    """The passage of each row, "" where it is the question again with its answer.

    Raises:
      InputError: most passages of a column state the answer and are more than the question.
    """
    leaks = [_leak(record, gold) for record, gold in zip(records, golds, strict=True)]
    columns = {record.passage_column for record in records if record.passage}
    unused = {column for column in columns if _is_no_passage(column, records, leaks)}

    passages: list[str | UnusableRow] = []
    for record, leak in zip(records, leaks, strict=True):
        if leak == "answer" and record.passage_column not in unused:
            passages.append(UnusableRow("passage states the answer"))
        elif leak or record.passage_column in unused:
            passages.append("")
        else:
            passages.append(record.passage)
    return passages


def _is_no_passage(column: str, records: Sequence[Record], leaks: Sequence[str]) -> bool:
    """Whether most texts of a column are the question again with its answer."""
    of_column = []
    for record, leak in zip(records, leaks, strict=True):
        if record.passage and record.passage_column == column:
            of_column.append(leak)
    num_leaks = len(of_column) - of_column.count("")
    if 2 * num_leaks <= len(of_column):
        return False
    if of_column.count("answer"):
        raise InputError(
            column,
            f"holds the answer in {num_leaks} of {len(of_column)} rows, and it would stand in the "
            "prompt; remove the column",
        )
    return True


def _leak(record: Record, gold: str | UnusableRow) -> str:
    """ "question" where a passage is the question again with its answer, "answer" where it states
    the answer among other things, else "".
    """
    if not record.passage or isinstance(gold, UnusableRow):
        return ""
    answer = gold
    is_leak = False
    if record.options is not None:
        answer = record.options.texts[string.ascii_uppercase.index(gold)]
        is_leak = states_letter(record.passage, gold)
    if not is_leak and not states_answer(record.passage, record.question, answer, record.solutions):
        return ""
    return "question" if repeats_question(record.passage, record.question) else "answer"


# --- options under another name -------------------------------------------------------------------


def _refuse_unread_options(records: Sequence[Record]) -> None:
    is_named: dict[str, bool] = {}
    for record in records:
        for column, names_one in record.unread.items():
            is_named[column] = names_one and is_named.get(column, True)
    for column, always in is_named.items():
        if always:
            raise InputError(
                column,
                "may hold options: every answer is a letter, number or text of it, and would be "
                "read as mathematics; rename it to options, or remove it",
            )
