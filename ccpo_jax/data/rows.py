"""Rows to problems: what a set of rows becomes, wherever the rows come from."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from ccpo_jax.data.cells import UnusableRow, plain_row
from ccpo_jax.data.columns import Record, Row, read_row
from ccpo_jax.data.files import LocatedRow
from ccpo_jax.data.problems import Dataset, Problem, describe_dropped, drop_repeated_questions
from ccpo_jax.data.whole_set import make_problems
from ccpo_jax.errors import InputError

Gold = Literal["required", "optional"]


def from_rows(
    rows: Iterable[Row],
    *,
    name: str,
    columns: str | Sequence[str] | Mapping[str, str] = (),
    gold: Gold = "required",
    field: str = "data.train",
) -> Dataset:
    """Makes a dataset of rows that a program has at hand.

    Args:
      rows: dicts, or other mappings, with columns as `parse_row` reads them.
      name: of the dataset; problems are called NAME/0, NAME/1, ...
      columns: which column is the question, the answer and so on, where the names do not tell; as
        in the configuration field `data.columns`.
      gold: "optional" where a reward function judges that needs no reference answer: rows without
        one then have the gold "".
      field: configuration field to name in errors.

    Returns:
      The problems in the order of the rows. Rows without a question or a gold and repeated
      questions are dropped and counted.

    Raises:
      InputError: rows that can be read in several ways, or no problem left after dropping.

    Example:
      >>> from_rows([{"question": "1+1?", "answer": "2"}], name="sums").problems[0].id
      'sums/0'
    """
    located = (LocatedRow(f"row {number}", row) for number, row in enumerate(rows))
    return problems_of(name, located, field, origin=name, columns=columns, gold=gold)


def problems_of(
    name: str,
    rows: Iterable[LocatedRow],
    field: str,
    *,
    origin: str,
    columns: str | Sequence[str] | Mapping[str, str] = (),
    gold: Gold = "required",
) -> Dataset:
    """The problems of all usable rows of a source.

    Args:
      name: of the dataset.
      rows: with their places in the source.
      field: configuration field to name in errors.
      origin: where the rows are from, for errors.
      columns: as in `from_rows`.
      gold: as in `from_rows`.

    Raises:
      InputError: as in `from_rows`.
    """
    if columns or gold != "required":
        raise InputError(field, "columns and optional golds are not read yet; leave them out")
    dropped: collections.Counter[str] = collections.Counter()
    records: list[Record] = []
    problem_ids: list[str] = []
    used_rows: list[dict[str, Any]] = []
    for number, (location, row) in enumerate(rows):
        try:
            records.append(read_row(row))
            problem_ids.append(f"{name}/{number}")
            used_rows.append(plain_row(row))
        except UnusableRow as reason:
            dropped[str(reason)] += 1
        except InputError as error:
            raise InputError(field, f"{origin}, {location}: {error}") from error

    problems: list[Problem] = []
    try:
        made = make_problems(records, problem_ids)
    except InputError as error:
        raise InputError(field, f"{origin}: {error}") from error
    for problem, row in zip(made, used_rows, strict=True):
        if isinstance(problem, UnusableRow):
            dropped[str(problem)] += 1
        else:
            problems.append(dataclasses.replace(problem, row=row))

    unique = drop_repeated_questions(problems, dropped)
    if not unique:
        reasons = describe_dropped(dropped) or "no rows"
        has_options = any("option" in reason for reason in dropped)
        hint = " (an answer is a letter, a number from 0 or the text of an option)"
        raise InputError(
            field,
            f"{origin} has no problem with a question and an answer ({reasons}); "
            f"type another name or file{hint if has_options else ''}",
        )
    return Dataset(name, unique, dict(dropped))
