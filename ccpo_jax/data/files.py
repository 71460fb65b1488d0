"""Rows of local files: parquet, JSON, JSON lines, LogiQA's text; the content tells which."""

import contextlib
import gzip
import json
import pathlib
import re
import zlib
from typing import Any, NamedTuple

from ccpo_jax.data.columns import COLUMNS, QUESTION_COLUMNS, Row
from ccpo_jax.data.hints import is_messages
from ccpo_jax.data.logiqa import parse_logiqa
from ccpo_jax.errors import InputError, first_line

_GZIP = b"\x1f\x8b"

# First bytes of files that are not read -> what they are.
_ARCHIVES = {
    b"PK\x03\x04": "a zip archive, such as a spreadsheet",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\x00": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
}

# Stands in a checkout in place of a large file.
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"

# Bytes that no text of one byte a character has.
_CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")


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
    if content.startswith(_GZIP):
        content = _decompress(content)
    if content.startswith(b"PAR1"):
        return _read_parquet(content)
    for beginning, kind in _ARCHIVES.items():
        if content.startswith(beginning):
            raise ValueError(f"this is {kind}; unpack it, or compress with gzip")
    if content.startswith(_LFS_POINTER):
        raise ValueError(
            "this is a Git LFS pointer and not the file itself; fetch the file with `git lfs pull`"
        )

    text = _decode(content)
    beginning = text.lstrip()[:1]
    if not beginning:
        raise ValueError("the file is empty")
    if beginning == "<":
        raise ValueError("this is a page of HTML or XML; download the file itself")
    if beginning == "[":
        return _parse_json_list(text)
    if beginning == "{":
        return _parse_json_objects(text)
    return [LocatedRow(f"line {number}", row) for number, row in parse_logiqa(text)]


def _decompress(content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"the gzip file is damaged or cut off ({first_line(error)})") from error


def _decode(content: bytes) -> str:
    """UTF-8, or what the first bytes show: UTF-16 and UTF-32, with or without a byte order mark."""
    encoding = json.detect_encoding(content)
    if encoding.startswith(("utf-16", "utf-32")):
        with contextlib.suppress(UnicodeDecodeError):
            return content.decode(encoding)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if _CONTROL_BYTES.search(content):
            raise ValueError(f"{error}; the file is not text in UTF-8") from error
        raise ValueError(
            f"{error}; the text seems to be Latin-1 or Windows-1252: save it as UTF-8"
        ) from error


def _read_parquet(content: bytes) -> list[LocatedRow]:
    # Imported late: it comes with `datasets`, and only this format needs it.
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))
    # All columns that could hold options are read, so that none is overlooked.
    is_other = (pyarrow.types.is_temporal, pyarrow.types.is_binary, pyarrow.types.is_large_binary)
    wanted = []
    for column in table.schema_arrow:
        if column.name in COLUMNS or not any(test(column.type) for test in is_other):
            wanted.append(column.name)
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

    # An object that is not a problem but contains a list of objects: the problems are inside.
    lists = [key for key, value in row.items() if _may_be_problems(value)]
    if lists and not {str(key).casefold() for key in row} & {*QUESTION_COLUMNS}:
        raise ValueError(
            f"a list of problems is expected, received one object that has a list under the key "
            f"{lists[0]!r}; give that list itself, as JSON or one object a line"
        )
    return _number_rows([row])


def _may_be_problems(value: Any) -> bool:
    """Whether a cell is a list of objects, other than the turns of a conversation."""
    if not isinstance(value, list) or is_messages(value):
        return False
    return any(isinstance(member, dict) for member in value)


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
