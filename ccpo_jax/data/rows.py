"""Rows to problems: what a set of rows becomes, wherever the rows come from."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ccpo_jax.data.cells import UnusableRow, plain_row, printable
from ccpo_jax.data.columns import NEEDS_NO_GOLD, Record, Row, read_row
from ccpo_jax.data.files import LocatedRow
from ccpo_jax.data.free_golds import is_sentence
from ccpo_jax.data.inline_options import letter_of, names_inline_option
from ccpo_jax.data.mapping import FIELD, NO_MAPPING, ColumnMapping, Columns, parse_columns
from ccpo_jax.data.problems import Dataset, Problem, describe_dropped, drop_repeated_questions
from ccpo_jax.data.whole_set import make_problems, reading_of
from ccpo_jax.errors import InputError

Gold = Literal["required", "optional"]


class RowReader(NamedTuple):
    """How rows become problems.

    Attributes:
      columns: what some columns are, where their names do not tell.
      gold: "optional" where the rewards of the run need no reference answer: a row without one then
        has the gold "".
      verifier: "auto" = choice for rows with options, else math; or math, choice or exact for all.
      keep_rows: problems keep their rows, which a reward function of the user's reads.
      reward: what judges in place of the verifier, to be named in the log; "" = the verifier.
    """

    columns: ColumnMapping = NO_MAPPING
    gold: Gold = "required"
    verifier: str = "auto"
    keep_rows: bool = True
    reward: str = ""


# Columns are known by their names, and every problem has a gold.
BY_NAMES = RowReader()


def from_rows(
    rows: Iterable[Row],
    *,
    name: str,
    columns: Columns = (),
    gold: Gold = "required",
    verifier: str = "auto",
    field: str = "data.train",
) -> Dataset:
    """Makes a dataset of rows that a program has at hand.

    Args:
      rows: dicts, or other mappings, with columns as `parse_row` reads them.
      name: of the dataset; problems are called NAME/0, NAME/1, ...
      columns: what some columns are, where their names do not tell, as in the configuration field
        `data.columns`: "question=prompt, answer=reward_model.ground_truth", or a dict.
      gold: "optional" where a reward function judges that needs no reference answer: a row without
        one then has the gold "".
      verifier: "auto" = choice for rows with options, else math; or math, choice or exact for all.
      field: configuration field to name in errors.

    Returns:
      The problems in the order of the rows. Rows without a question or a gold and repeated
      questions are dropped and counted.

    Raises:
      InputError: rows that are no dicts or can be read in several ways, no problem left after
        dropping, or a column of the mapping that no row has.

    Example:
      >>> rows = [{"riddle": "1+1?", "key": 2}]
      >>> from_rows(rows, name="sums", columns="question=riddle,answer=key").summary()
      'sums: 1 problems; question from `riddle`, gold from `key`, verifier math'
    """
    reader = RowReader(parse_columns(columns, "columns"), gold, verifier)
    dataset = read_rows(rows, name=name, reader=reader, field=field)
    if dataset.unmapped:
        raise InputError("columns", dataset.unmapped)
    return dataset


def read_rows(rows: Iterable[Row], *, name: str, reader: RowReader, field: str) -> Dataset:
    """Makes a dataset of rows as `from_rows` does; the mapping need not apply.

    Args:
      rows: as in `from_rows`.
      name: as in `from_rows`.
      reader: how rows become problems.
      field: configuration field to name in errors.

    Raises:
      InputError: as in `from_rows`, other than about the mapping.
    """
    return problems_of(name, _located(rows, field), field, origin=name, reader=reader)


def _located(rows: Iterable[Any], field: str) -> Iterator[LocatedRow]:
    """The rows with their numbers; what a table or a dict of columns yields are none."""
    hint = "give a list of dicts, of a table to_dict('records') or to_list()"
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise InputError(field, f"rows must be dicts, received {type(rows).__name__}; {hint}")
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(field, f"row {number} must be a dict, received {row!r:.40}; {hint}")
        yield LocatedRow(f"row {number}", row)


def problems_of(
    name: str,
    rows: Iterable[LocatedRow],
    field: str,
    *,
    origin: str,
    reader: RowReader = BY_NAMES,
) -> Dataset:
    """The problems of all usable rows of a source.

    Args:
      name: of the dataset.
      rows: with their places in the source.
      field: configuration field to name in errors.
      origin: where the rows are from, for errors.
      reader: how rows become problems. Its mapping applies where the set has all of its columns.

    Raises:
      InputError: as in `from_rows`, other than about the mapping.
    """
    mapping = reader.columns
    unmapped = ""
    if mapping:
        rows = list(rows)
        unmapped = mapping.gap([row for _, row in rows])
        mapping = NO_MAPPING if unmapped else mapping
    about = f"{FIELD} does not apply here: {unmapped}; without it, " if unmapped else ""

    needs_gold = reader.gold == "required"
    dropped: collections.Counter[str] = collections.Counter()
    records: list[Record] = []
    problem_ids: list[str] = []
    used_rows: list[Row] = []
    for number, (location, row) in enumerate(rows):
        try:
            record = read_row(row, mapping, needs_gold=needs_gold)
            used_rows.append(plain_row(row) if reader.keep_rows else {})
        except UnusableRow as reason:
            dropped[str(reason)] += 1
            continue
        except InputError as error:
            raise InputError(field, f"{origin}, {location}: {about}{error}") from error
        except RecursionError as error:
            message = f"{origin}, {location}: is nested too deeply; flatten it"
            raise InputError(field, message) from error
        records.append(record)
        problem_ids.append(f"{name}/{number}")

    try:
        made = make_problems(records, problem_ids, mapping, needs_gold=needs_gold)
        judged = _judged(records, made, reader.verifier)
    except InputError as error:
        raise InputError(field, f"{origin}: {about}{error}") from error

    problems: list[Problem] = []
    readings: collections.Counter[str] = collections.Counter()
    for record, problem, row in zip(records, judged, used_rows, strict=True):
        if isinstance(problem, UnusableRow):
            dropped[str(problem)] += 1
            continue
        problems.append(dataclasses.replace(problem, row=row) if row else problem)
        readings[reading_of(record, problem, reader.reward)] += 1

    unique = drop_repeated_questions(problems, dropped)
    if not unique:
        raise InputError(
            field,
            f"{origin}: {about}it {_no_problem(dropped)}"
            if about
            else f"{origin} {_no_problem(dropped)}",
        )
    return Dataset(
        name,
        unique,
        dict(dropped),
        tuple(_notes(unique, unmapped, needs_gold=needs_gold)),
        readings=dict(readings),
        unmapped=unmapped,
    )


def _notes(problems: Sequence[Problem], unmapped: str, *, needs_gold: bool) -> Iterator[str]:
    """What the log says about a set besides its readings."""
    if unmapped:
        yield f"{FIELD} does not apply: {unmapped}"
    if not needs_gold:
        return
    sentences = [p.gold for p in problems if p.verifier == "math" and is_sentence(p.gold)]
    if 2 * len(sentences) > len(problems):
        yield (
            f"{len(sentences)} golds are sentences, as {printable(sentences[0])!r:.80}, and a "
            "verifier finds an answer right only where it repeats one; type "
            f"--config.{FIELD}=answer=COLUMN, or judge by a reward function of your own"
        )


def _no_problem(dropped: collections.Counter[str]) -> str:
    reasons = describe_dropped(dropped) or "no rows"
    hints = ["type another name or file"]
    if any("option" in reason for reason in dropped):
        hints[0] += " (an answer is a letter, a number from 0 or the text of an option)"
    if any("gold" in reason for reason in dropped):
        hints.append(f"or say what the answer is: --config.{FIELD}=answer=COLUMN; {NEEDS_NO_GOLD}")
    return f"has no problem with a question and an answer ({reasons}); {', '.join(hints)}"


def _judged(
    records: Sequence[Record], made: Sequence[Problem | UnusableRow], verifier: str
) -> list[Problem | UnusableRow]:
    """The problems with the verifier that is to judge them all.

    Raises:
      InputError: it cannot judge one of them.
    """
    if verifier == "auto":
        return _with_inline_options(made)
    judged: list[Problem | UnusableRow] = []
    for record, problem in zip(records, made, strict=True):
        if isinstance(problem, UnusableRow) or not problem.gold:
            judged.append(problem)
        else:
            judged.append(_judged_by(verifier, record, problem))
    return judged


def _with_inline_options(
    made: Sequence[Problem | UnusableRow],
) -> list[Problem | UnusableRow]:
    """The problems, those as `choice` whose gold is a letter of options in the question's text.

    Most problems of the set have to be so: in a set of mathematics a letter may be a variable.
    """
    is_inline = [
        isinstance(problem, Problem)
        and problem.verifier == "math"
        and names_inline_option(problem.question, problem.gold)
        for problem in made
    ]
    num_problems = sum(isinstance(problem, Problem) for problem in made)
    if 2 * sum(is_inline) <= num_problems:
        return list(made)
    judged: list[Problem | UnusableRow] = []
    for problem, inline in zip(made, is_inline, strict=True):
        if inline and isinstance(problem, Problem):
            letter = letter_of(problem.gold) or problem.gold
            judged.append(dataclasses.replace(problem, verifier="choice", gold=letter))
        else:
            judged.append(problem)
    return judged


def _judged_by(verifier: str, record: Record, problem: Problem) -> Problem:
    if verifier == "math" and record.options is not None:
        source = record.options.source or record.gold_column
        raise InputError(
            source,
            "holds options, of which the answer is a letter, and verifier.name=math judges "
            "formulas; type --config.verifier.name=auto, or --config.data.columns=options= where "
            f"{record.gold_column} holds formulas",
        )
    gold = problem.gold
    if verifier == "choice" and record.options is None:
        letter = letter_of(gold)
        if letter is None:
            raise InputError(
                record.gold_column,
                "must be the letter of an option for verifier.name=choice where no column holds "
                f"options, received {gold!r:.40}; type --config.verifier.name=auto, or "
                "--config.data.columns=options=COLUMN",
            )
        gold = letter
    return dataclasses.replace(problem, verifier=verifier, gold=gold)
