"""From the rows of a set to problems: what only all rows together can tell.

An answer 2 beside the options 1, 2, 3, 4 is a number of an option or its text; a column called text
is a passage or the question again with its answer; a list beside a small number is a list of
options or of tags. The other rows tell. Where they do not, the set is refused.
"""

import collections
import dataclasses
import functools
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from ccpo_jax.data.announcements import states_letter
from ccpo_jax.data.cells import UnusableRow, plain, plain_row, whole_number
from ccpo_jax.data.choice_golds import check_letter
from ccpo_jax.data.columns import Record, Row, read_row
from ccpo_jax.data.free_golds import SOLUTION_COLUMN, bare_answer, is_placeholder
from ccpo_jax.data.mapping import NO_MAPPING, ColumnMapping, Columns, parse_columns
from ccpo_jax.data.passages import repeats_question, states_answer
from ccpo_jax.data.problems import Problem
from ccpo_jax.errors import InputError

# Options that stand in no column.
_NAMELESS_OPTIONS = "Yes and No"
_INLINE_OPTIONS = "in the question"

# Digits as text, also as pandas writes whole numbers in a column that has nulls: "1.0".
_DIGITS = re.compile(r"\d+(?:\.0+)?")


def parse_row(row: Row, *, problem_id: str = "", columns: Columns = ()) -> Problem:
    """Turns one row of any known kind into a problem, as a set of one.

    A passage precedes the question. Options make it multiple choice: they follow the question as
    lettered lines, and the gold is a letter. Otherwise the gold is the answer (after ``####`` where
    there is one), or the last box of a solution. Of a conversation the last user turn is the
    question, and the turns before it are the problem's history.

    Args:
      row: columns as docs/your-model-and-data.md lists them: question, problem or prompt and the
        like; answer, ground_truth, solution and the like; options or choices, passage or context,
        and views where there are any.
      problem_id: becomes the problem's `id`.
      columns: what some columns are, where their names do not tell: "question=goal, answer=target".

    Raises:
      UnusableRow: an empty question, an empty gold, or a gold that is none of the options.
      InputError: a missing column, a value of the wrong type, or a row that can be read in several
        ways. It names the column and not the row.

    Example:
      >>> problem = parse_row({"query": "1, 2, ?", "options": ["2", "3"], "correct_option": 1})
      >>> problem.question, problem.gold, problem.verifier
      ('1, 2, ?\\nA. 2\\nB. 3', 'B', 'choice')
    """
    mapping = parse_columns(columns)
    problem = make_problems([read_row(row, mapping)], [problem_id], mapping)[0]
    if isinstance(problem, UnusableRow):
        raise problem
    return dataclasses.replace(problem, row=plain_row(row))


def make_problems(
    records: Sequence[Record],
    problem_ids: Sequence[str],
    mapping: ColumnMapping = NO_MAPPING,
    *,
    needs_gold: bool = True,
) -> list[Problem | UnusableRow]:
    """A problem for each row of a set, or why the row is unusable.

    Args:
      records: the rows.
      problem_ids: one for each.
      mapping: what the user maps, for errors.
      needs_gold: False: a problem may have the gold "".

    Raises:
      InputError: the rows can be read in several ways, or hold options under another name. It names
        the column.
    """
    if needs_gold:
        _refuse_unread_options(records, mapping)
        _refuse_rivals(records, mapping)
    golds = _read_golds(records, mapping, needs_gold=needs_gold)
    passages = _read_passages(records, golds, mapping)

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


def reading_of(record: Record, problem: Problem, reward: str = "") -> str:
    """What became of a row's columns, and what judges its answers, in words.

    Args:
      record: the row by the meaning of its columns.
      problem: what it became.
      reward: what judges in place of the problem's verifier; "" = the verifier.

    Example:
      >>> record = read_row({"problem": "1+1?", "answer": "2"})
      >>> reading_of(record, make_problems([record], ["set/0"])[0])
      'question from `problem`, gold from `answer`, verifier math'
    """
    return _reading(
        record.question_source,
        bool(record.history),
        record.passage_column if problem.context else "",
        _options_of(record, problem),
        bool(record.views),
        record.ignored,
        record.gold_column if problem.gold else "",
        f"reward {reward}" if reward else f"verifier {problem.verifier}",
    )


def _options_of(record: Record, problem: Problem) -> str:
    if record.options is not None:
        return record.options.source or _NAMELESS_OPTIONS
    return _INLINE_OPTIONS if problem.verifier == "choice" else ""


@functools.lru_cache(maxsize=1024)
def _reading(
    question: str,
    has_history: bool,
    passage: str,
    options: str,
    has_views: bool,
    ignored: str,
    gold: str,
    judge: str,
) -> str:
    sources = [f"question from `{question}`"]
    if has_history:
        sources.append("the turns before it kept")
    if passage:
        sources.append(f"passage from `{passage}`")
    if options:
        has_source = options not in (_NAMELESS_OPTIONS, _INLINE_OPTIONS)
        sources.append(f"options from `{options}`" if has_source else f"options {options}")
    if has_views:
        sources.append("views of each agent")
    if ignored:
        sources.append(f"`{ignored}` not read")
    sources.append(f"gold from `{gold}`" if gold else "no gold")
    sources.append(judge)
    return ", ".join(sources)


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
        history=record.history,
    )


# --- golds of options -----------------------------------------------------------------------------


def _read_golds(
    records: Sequence[Record], mapping: ColumnMapping, *, needs_gold: bool
) -> list[str | UnusableRow]:
    """The gold of each row: with options the letter."""
    try:
        _refuse_counting_from_one(records, mapping)
        _refuse_counting_from_zero(records, mapping)
        _refuse_digits(records, mapping)
        prefers_text = _prefers_text(records, mapping)
    except InputError:
        if needs_gold:
            raise
        return ["" for _ in records]

    takes_bare = _solutions_are_answers(records)
    golds = [_read_gold(record, prefers_text, takes_bare=takes_bare) for record in records]
    if needs_gold:
        return golds
    return ["" if isinstance(gold, UnusableRow) else gold for gold in golds]


def _read_gold(
    record: Record, prefers_text: Mapping[tuple[str, type], bool], *, takes_bare: bool
) -> str | UnusableRow:
    if record.options is None or record.reading is None:
        if record.bare:
            gold = bare_answer(record.bare) if takes_bare else ""
            return gold or UnusableRow("empty gold")
        return record.gold

    first, second = record.reading.by_name, record.reading.by_text
    if prefers_text.get(_kind(record), False):
        first, second = second, first
    try:
        return check_letter(first or second, record.options)
    except UnusableRow as reason:
        is_none = not first and not second and is_placeholder(record.gold)
        return UnusableRow("gold is a placeholder") if is_none else reason


def _solutions_are_answers(records: Sequence[Record]) -> bool:
    """Whether the solutions of a set are its answers: short, without a box, and no sentences."""
    num_bare = 0
    num_answers = 0
    num_worked = 0
    for record in records:
        if record.bare:
            num_bare += 1
            num_answers += bool(bare_answer(record.bare))
        elif record.gold_column == SOLUTION_COLUMN:
            num_worked += 1
    return num_bare > num_worked and 2 * num_answers > num_bare


def _kind(record: Record) -> tuple[str, type]:
    """Golds of one column and one type are written in one way."""
    return record.gold_column, type(whole_number(plain(record.gold)))


def _prefers_text(
    records: Sequence[Record], mapping: ColumnMapping
) -> dict[tuple[str, type], bool]:
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
                f"another, received {gold!r:.40}; give letters, or type "
                f"{mapping.typed(answer_index=kind[0])} where it is a number from 0",
            )
    return {kind: texts[kind] > 0 for kind in contradictions}


def _refuse_counting_from_one(records: Sequence[Record], mapping: ColumnMapping) -> None:
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
                "options and none has 0: they seem to count from 1; type "
                f"{mapping.typed(answer_number=column)}, or give letters",
            )


def _refuse_counting_from_zero(records: Sequence[Record], mapping: ColumnMapping) -> None:
    """What is mapped as counting from 1, and has a 0 but no last number, counts from 0."""
    source = mapping.sources.get("answer_number", "")
    if not source:
        return
    numbered = [
        (record.gold, len(record.options.texts))
        for record in records
        if record.options is not None and record.gold_column == source
    ]
    zeros = sum(number == 0 for number, _ in numbered)
    between = any(0 < number < count for number, count in numbered)
    if zeros and between and not any(number == count for number, count in numbered):
        raise InputError(
            source,
            f"is to count the options from 1, but {zeros} rows have 0 and none has the number of "
            f"options: they seem to count from 0; type {mapping.typed(answer_index=source)}",
        )


def _refuse_digits(records: Sequence[Record], mapping: ColumnMapping) -> None:
    """Digits as text, such as "2", count from 0 in some sets and from 1 in others."""
    digits: collections.Counter[str] = collections.Counter()
    rows: collections.Counter[str] = collections.Counter()
    for record in records:
        reading = record.reading
        if reading is None:
            continue
        rows[record.gold_column] += 1
        is_unread = not reading.by_name and not reading.by_text and reading.index is None
        if is_unread and isinstance(record.gold, str) and _DIGITS.fullmatch(record.gold.strip()):
            digits[record.gold_column] += 1
    for column, count in digits.items():
        if count > 1 and 2 * count > rows[column]:
            raise InputError(
                column,
                f"has digits as text in {count} rows, which may count the options from 0 or from "
                f"1; type {mapping.typed(answer_index=column)} where they count from 0, "
                f"{mapping.typed(answer_number=column)} where they count from 1",
            )


# --- passages -------------------------------------------------------------------------------------


def _read_passages(
    records: Sequence[Record], golds: Sequence[str | UnusableRow], mapping: ColumnMapping
) -> list[str | UnusableRow]:
    """The passage of each row, "" where it is the question again with its answer.

    Raises:
      InputError: most passages of a column state the answer and are more than the question.
    """
    leaks = [_leak(record, gold) for record, gold in zip(records, golds, strict=True)]
    columns = {record.passage_column for record in records if record.passage}
    unused = {column for column in columns if _is_no_passage(column, records, leaks, mapping)}

    passages: list[str | UnusableRow] = []
    for record, leak in zip(records, leaks, strict=True):
        if leak == "answer" and record.passage_column not in unused:
            passages.append(UnusableRow("passage states the answer"))
        elif leak or record.passage_column in unused:
            passages.append("")
        else:
            passages.append(record.passage)
    return passages


def _is_no_passage(
    column: str, records: Sequence[Record], leaks: Sequence[str], mapping: ColumnMapping
) -> bool:
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
            f"prompt; type {mapping.typed(context='')} to leave it out",
        )
    return True


def _leak(record: Record, gold: str | UnusableRow) -> str:
    """ "question" where a passage is the question again with its answer, "answer" where it states
    the answer among other things, else "".
    """
    if not record.passage or not gold or isinstance(gold, UnusableRow):
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


def _refuse_unread_options(records: Sequence[Record], mapping: ColumnMapping) -> None:
    is_named: dict[str, bool] = {}
    for record in records:
        for column, names_one in record.unread.items():
            is_named[column] = names_one and is_named.get(column, True)
    for column, always in is_named.items():
        if always:
            raise InputError(
                column.partition("+")[0],
                "may hold options: every answer is a letter, number or text of it, and would be "
                f"read as mathematics; type {mapping.typed(options=column)}, or "
                f"{mapping.typed(options='')} where the answer is free",
            )


def _refuse_rivals(records: Sequence[Record], mapping: ColumnMapping) -> None:
    """Two columns that should both be the answer, and differ in most rows."""
    same: collections.Counter[tuple[str, str]] = collections.Counter()
    rows: collections.Counter[tuple[str, str]] = collections.Counter()
    for record in records:
        for column, is_same in record.rivals.items():
            pair = (record.gold_column, column)
            rows[pair] += 1
            same[pair] += is_same
    for pair, count in rows.items():
        if 2 * same[pair] < count:
            raise InputError(
                pair[0],
                f"differs from {pair[1]} in {count - same[pair]} of {count} rows, and either may "
                f"be the answer; type {mapping.typed(answer=pair[0])} or "
                f"{mapping.typed(answer=pair[1])}",
            )
