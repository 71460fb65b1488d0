"""Rows of JSON: a list of objects, an object that holds one, columns, or one object a line."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ccpo_jax.data.columns import QUESTION_COLUMNS
from ccpo_jax.data.hints import is_messages
from ccpo_jax.data.located_row import LocatedRow


def read_json_list(text: str) -> Iterator[LocatedRow]:
    """Rows of a JSON list.

    Raises:
      ValueError: it is not valid JSON, or a member is not an object.
    """
    yield from _number_rows(json.loads(text))


def read_json_objects(lines: Iterator[str], first_number: int) -> Iterator[LocatedRow]:
    """Rows of JSON lines, or of a single object, which may span several lines.

    JSON lines are read one at a time; a single object is read whole.

    Args:
      lines: from the first that is not blank.
      first_number: number of that line in the file, from 1.

    Raises:
      ValueError: it is not valid JSON, or a line is not an object.
    """
    first = next(lines)
    try:
        row = json.loads(first)
    except json.JSONDecodeError as error:
        rest = "".join(lines)
        if not rest.strip():
            raise _invalid_line(first_number, error) from error
        yield from _read_long_object(first + rest, first_number, error)
        return

    following = next(((count, line) for count, line in enumerate(lines, 1) if line.strip()), None)
    if following is None:
        yield from _rows_of_object(row)
        return
    skipped, second = following
    yield LocatedRow(f"line {first_number}", _as_row(row, first, first_number))
    second_number = first_number + skipped
    for number, line in enumerate(itertools.chain([second], lines), second_number):
        if line.strip():
            yield LocatedRow(f"line {number}", _parse_line(line, number))


def _parse_line(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise _invalid_line(number, error) from error
    except ValueError as error:
        # A number with more digits than Python reads.
        raise ValueError(f"line {number}: {error}") from error
    return _as_row(value, line, number)


def _as_row(value: Any, line: str, number: int) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    received = line.strip()[:40]
    raise ValueError(f"line {number} must be an object with columns, received {received!r}")


def _invalid_line(number: int, error: json.JSONDecodeError) -> ValueError:
    return ValueError(f"line {number} is not valid JSON: {error.msg} at character {error.pos}")


def _read_long_object(
    text: str, first_number: int, first_error: json.JSONDecodeError
) -> Iterator[LocatedRow]:
    """Rows of an object over several lines, of which the first alone is not valid JSON."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        is_cut = first_error.pos >= len(first_error.doc.rstrip())
        # A first line that only breaks off belongs to an object that goes wrong further down.
        number = first_number + error.lineno - 1
        if not is_cut:
            raise _invalid_line(first_number, first_error) from error
        raise ValueError(
            f"line {number} is not valid JSON: {error.msg} at character {error.colno - 1}"
        ) from error
    yield from _rows_of_object(value)


def _number_rows(rows: Iterable[Any]) -> Iterator[LocatedRow]:
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"row {number} must be an object with columns, received {row!r:.40}")
        yield LocatedRow(f"row {number}", row)


# --- a single object ------------------------------------------------------------------------------


def _rows_of_object(value: Mapping[str, Any]) -> Iterator[LocatedRow]:
    """The rows that a file with one object holds; the object may be the only row itself."""
    if set(value) - {"index"} == {"columns", "data"}:
        return _number_rows(_split_rows(value["columns"], value["data"]))
    columns = _columns_of(value)
    if columns:
        names = list(columns)
        cells = zip(*columns.values(), strict=True)
        return _number_rows(dict(zip(names, row, strict=True)) for row in cells)
    is_row = bool({str(key).casefold() for key in value} & {*QUESTION_COLUMNS})
    lists = [key for key, cell in value.items() if _may_be_rows(cell)]
    if is_row or not lists:
        rows_by_key = list(value.values())
        is_keyed = len(rows_by_key) > 1 and all(isinstance(cell, dict) for cell in rows_by_key)
        return _number_rows(rows_by_key if is_keyed and not is_row else [value])
    if len(lists) > 1:
        names = ", ".join(map(repr, lists[:10]))
        raise ValueError(
            f"holds {len(lists)} lists of objects, under the keys {names}; give one of them as a "
            "file of its own, as a JSON list or one object a line"
        )
    return _number_rows(value[lists[0]])


def _split_rows(names: Any, rows: Any) -> Iterator[dict[str, Any]]:
    """The rows of an object that pandas writes with orient="split"."""
    if not isinstance(names, list) or not isinstance(rows, list):
        raise ValueError("columns and data must be lists, as pandas writes them")
    for number, cells in enumerate(rows):
        if not isinstance(cells, list) or len(cells) != len(names):
            raise ValueError(
                f"row {number} of data must be a list of {len(names)} cells, received {cells!r:.40}"
            )
        yield {str(name): cell for name, cell in zip(names, cells, strict=True)}


def _columns_of(value: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Column -> cells of an object of columns, as pandas writes it; {} = it is not one."""
    cells = list(value.values())
    if len(cells) < 2 or any(is_messages(cell) for cell in cells):
        return {}
    if all(isinstance(cell, list) for cell in cells) and not all(map(_may_be_rows, cells)):
        lengths = {len(cell) for cell in cells}
        return dict(value) if len(lengths) == 1 and lengths != {0} else {}
    if all(isinstance(cell, dict) and cell for cell in cells):
        keys = list(cells[0])
        is_numbered = all(key.isdecimal() for key in keys)
        if is_numbered and all(list(cell) == keys for cell in cells):
            return {name: list(cell.values()) for name, cell in value.items()}
    return {}


def _may_be_rows(cell: Any) -> bool:
    """Whether a cell is a list of objects, other than the turns of a conversation."""
    if not isinstance(cell, list) or is_messages(cell):
        return False
    return any(isinstance(member, dict) for member in cell)
