"""Rows of local files: parquet, JSON, JSON lines, or LogiQA's text; the content tells which."""

import json
import pathlib
from typing import Any, NamedTuple

from ccpo_jax.data.columns import (
    CONTEXT_COLUMNS,
    GOLD_COLUMNS,
    OPTIONS_COLUMN,
    QUESTION_COLUMNS,
    Row,
)
from ccpo_jax.data.logiqa import parse_logiqa
from ccpo_jax.errors import InputError, first_line


class LocatedRow(NamedTuple):
    """A row, and its place in the file for error messages: "row 3" or "line 7"."""

    location: str
    row: Row


def read_file(path: pathlib.Path, field: str) -> list[LocatedRow]:
    """Reads all rows of a file.

    Args:
      path: the file.
      field: configuration field to name in errors.

    Raises:
      InputError: the file is missing, or malformed.
    """
    if not path.is_file():
        raise InputError(
            field,
            f"no file {str(path)!r}; type the path of a parquet, JSON, JSON lines or LogiQA file",
        )
    try:
        return _read_rows(path)
    except RecursionError as error:
        raise InputError(field, f"{path}: nested too deeply") from error
    except (OSError, ValueError) as error:
        raise InputError(field, f"{path}: {first_line(error):.300}") from error


def _read_rows(path: pathlib.Path) -> list[LocatedRow]:
    content = path.read_bytes()
    if content.startswith(b"PAR1"):
        return _read_parquet(path)

    text = content.decode("utf-8-sig")
    beginning = text.lstrip()[:1]
    if not beginning:
        raise ValueError("the file is empty")
    if beginning == "[":
        return _parse_json_list(text)
    if beginning == "{":
        return _parse_json_objects(text)
    return [LocatedRow(f"line {number}", row) for number, row in parse_logiqa(text)]


def _read_parquet(path: pathlib.Path) -> list[LocatedRow]:
    # Imported late: it comes with `datasets`, and only this format needs it.
    import pyarrow.parquet

    known = (*CONTEXT_COLUMNS, *QUESTION_COLUMNS, *GOLD_COLUMNS, OPTIONS_COLUMN)
    table = pyarrow.parquet.ParquetFile(path)
    names = table.schema_arrow.names
    # Without a known column all are read, so that the error can list them.
    wanted = [name for name in names if name in known] or names
    return _number_rows(table.read(columns=wanted).to_pylist())


def _parse_json_list(text: str) -> list[LocatedRow]:
    rows = json.loads(text)
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"row {number} must be an object with columns, received {row!r:.40}")
    return _number_rows(rows)


def _number_rows(rows: list[dict[str, Any]]) -> list[LocatedRow]:
    return [LocatedRow(f"row {number}", row) for number, row in enumerate(rows)]


def _parse_json_objects(text: str) -> list[LocatedRow]:
    """JSON lines, or a single object, which may span several lines."""
    try:
        row = json.loads(text)
    except json.JSONDecodeError:
        return _parse_json_lines(text)

    # An object that is not a problem but contains a list: the problems are inside.
    lists = [key for key, value in row.items() if isinstance(value, list)]
    if lists and not row.keys() & {*QUESTION_COLUMNS}:
        raise ValueError(
            f"a list of problems is expected, received one object that has a list under the key "
            f"{lists[0]!r}; give that list itself, as JSON or one object a line"
        )
    return _number_rows([row])


def _parse_json_lines(text: str) -> list[LocatedRow]:
    rows = []
    # Not splitlines(): a string in JSON may contain other line separators, such as U+2028.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"line {number} is not valid JSON: {error.msg} at character {error.pos}"
            ) from error
        if not isinstance(row, dict):
            raise ValueError(
                f"line {number} must be an object with columns, received {line.strip()[:40]!r}"
            )
        rows.append(LocatedRow(f"line {number}", row))
    return rows
