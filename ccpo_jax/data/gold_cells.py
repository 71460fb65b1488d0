"""Where the gold of a row without options may stand, and what its cell must hold."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ccpo_jax.data.cells import UnusableRow, is_empty, is_number, plain, structured
from ccpo_jax.data.conversations import Turns
from ccpo_jax.data.free_golds import GOLD_COLUMNS, SOLUTION_COLUMN
from ccpo_jax.data.mapping import ColumnMapping
from ccpo_jax.errors import InputError

# The key of a struct that holds a gold, and structs that have it: verl's, SYNTHETIC-1's, SkyRL's.
_TRUTH_KEY = "ground_truth"
_STRUCT_COLUMNS = ("reward_model", "verification_info", "reward_spec", "extra_info", "metadata")

# Where a model's answer stands behind a prompt, in sets for supervised training.
_COMPLETION_COLUMN = "completion"

# A list of one text, written by JSON or by Python: ["34"]. The interval [0, 1] is an answer.
_LIST_OF_ONE = re.compile(r"""\[\s*(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\s*\]""", flags=re.DOTALL)
_LONGEST_LIST = 10_000


class GoldCell(NamedTuple):
    """A cell that may hold the gold.

    Attributes:
      source: the column, or the path to the cell.
      value: what it holds, not empty.
      is_solution: the gold is the end of it; else it is the gold, or ends with it.
    """

    source: str
    value: Any
    is_solution: bool = False


def gold_cells(row: Mapping[str, Any], turns: Turns | None) -> Iterator[GoldCell]:
    """The cells that are not empty and may hold the gold, the surest first.

    Args:
      row: without options.
      turns: the conversation that holds the question; None = it is plain text.
    """
    for column in GOLD_COLUMNS:
        if column != SOLUTION_COLUMN and not is_empty(row.get(column)):
            yield GoldCell(column, row[column])
    if turns is not None and not is_empty(turns.gold):
        yield GoldCell(turns.gold_path, turns.gold)
    truth = nested_truth(row)
    if truth is not None:
        yield truth
    if not is_empty(row.get(SOLUTION_COLUMN)):
        yield GoldCell(SOLUTION_COLUMN, row[SOLUTION_COLUMN], is_solution=True)
    if turns is not None and turns.reply:
        yield GoldCell(turns.reply_path, turns.reply, is_solution=True)
    completion = _completion(row)
    if completion:
        yield GoldCell(_COMPLETION_COLUMN, completion, is_solution=True)


def has_gold_cell(row: Mapping[str, Any], turns: Turns | None) -> bool:
    """Whether a row has a place for a gold, be it empty."""
    if any(name in row for name in GOLD_COLUMNS) or (turns is not None and turns.reply_path):
        return True
    return any(_TRUTH_KEY in struct for _, struct in _structs(row))


def _completion(row: Mapping[str, Any]) -> str:
    """A completion, which is text or a conversation of one turn."""
    if "prompt" not in row or is_empty(row.get(_COMPLETION_COLUMN)):
        return ""
    value = structured(row[_COMPLETION_COLUMN])
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
        value = plain(value[0].get("content"))
    return value if isinstance(value, str) else ""


def nested_truth(row: Mapping[str, Any]) -> GoldCell | None:
    """The gold that a struct of the row keeps, as verl's ``reward_model`` does; None = none does.

    Example:
      >>> nested_truth({"reward_model": {"style": "rule", "ground_truth": "7"}}).source
      'reward_model.ground_truth'
    """
    for column, struct in _structs(row):
        if not is_empty(struct.get(_TRUTH_KEY)):
            return GoldCell(f"{column}.{_TRUTH_KEY}", struct[_TRUTH_KEY])
    return None


def _structs(row: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The columns that hold structs, those of known names first."""
    for column in _STRUCT_COLUMNS:
        # Text is a struct only under a name that says so.
        struct = structured(row.get(column))
        if isinstance(struct, Mapping):
            yield column, struct
    for column, struct in row.items():
        if column not in _STRUCT_COLUMNS and isinstance(struct, Mapping):
            yield column, struct


def single_value(cell: GoldCell, mapping: ColumnMapping) -> str | int | float | bool:
    """The one value of a gold's cell.

    Raises:
      InputError: it holds several, or none that is text, a number, True or False.
      UnusableRow: it is a list of nulls.
    """
    value = _unwrapped(plain(cell.value))
    if value == []:
        raise UnusableRow("empty gold")
    if isinstance(value, bool | str) or is_number(value):
        if isinstance(value, str) and not cell.is_solution:
            _refuse_tests(value, cell.source)
        return value
    if isinstance(value, list):
        first = mapping.typed(answer=f"{cell.source}[0]")
        raise InputError(
            cell.source,
            f"must be one answer; type {first} to take the first, or judge by a reward function of "
            f"your own; received {value!r:.40}",
        )
    path = _first_path(value, cell.source) if isinstance(value, Mapping) else ""
    hint = f"; type {mapping.typed(answer=path)}" if path else ""
    raise InputError(cell.source, f"must be text or a number{hint}; received {value!r:.40}")


def _unwrapped(value: Any) -> Any:
    """The member of a list whose members are equal, or of the text of a list of one text."""
    if isinstance(value, str) and len(value) < _LONGEST_LIST:
        text = value.strip()
        if _LIST_OF_ONE.fullmatch(text):
            try:
                return json.loads(text)[0]
            except ValueError:
                return ast.literal_eval(text)[0]
    if isinstance(value, list | tuple):
        members = [plain(member) for member in value if not is_empty(member)]
        if members and all(member == members[0] for member in members):
            return members[0]
        return members
    return value


def _refuse_tests(text: str, source: str) -> None:
    """Test cases and rubrics, which stand in place of an answer where a program judges."""
    if not text.lstrip().startswith(("{", "[{")) or not isinstance(structured(text), list | dict):
        return
    raise InputError(
        source,
        "must be an answer; tests and rubrics are for a reward function of your own: type "
        f"--config.verifier.name=FILE.py:function; received {text!r:.40}",
    )


def _first_path(value: Any, path: str) -> str:
    """The path to the first text or number inside a struct."""
    for _ in range(4):
        value = plain(value)
        if isinstance(value, Mapping) and value:
            name, value = next(iter(value.items()))
            path = f"{path}.{name}"
        elif isinstance(value, list) and value:
            value = value[0]
            path = f"{path}[0]"
    return path
