"""Rows of local files: parquet, JSON, JSON lines, CSV, LogiQA's text; the content tells which."""

import contextlib
import gzip
import io
import itertools
import json
import os
import pathlib
import re
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, TextIO, cast

from ccpo_jax.data.arrow_rows import read_parquet
from ccpo_jax.data.csv_rows import delimiter_of, read_csv
from ccpo_jax.data.json_rows import read_json_list, read_json_objects
from ccpo_jax.data.located_row import LocatedRow
from ccpo_jax.data.logiqa import parse_logiqa
from ccpo_jax.errors import InputError, first_line

_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"

# First bytes of files that are not read -> what they are.
_ARCHIVES = {
    b"PK\x03\x04": "a zip archive, such as a spreadsheet",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\x00": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
}

# A file and a stream of Arrow's; `datasets` writes streams.
_ARROW = (b"ARROW1", b"\xff\xff\xff\xff")

# Stands in a checkout in place of a large file.
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"

# Bytes that no text of one byte a character has.
_CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")

# Enough to tell a format by its first bytes.
_BEGINNING = 64

# The letter of the gold, which is the first line of LogiQA's text that is not blank.
_LONGEST_LOGIQA_GOLD = 3


def read_file(
    path: pathlib.Path, field: str, notes: list[str] | None = None
) -> Iterator[LocatedRow]:
    """Reads the rows of a file; tables and JSON lines as they are asked for.

    Args:
      path: the file.
      field: configuration field to name in errors.
      notes: receives a line about columns that are left out.

    Raises:
      InputError: the file is missing, or, while rows are read, malformed.
    """
    # Unlike Path.is_file, this also says no of a name that no file can have.
    if not os.path.isfile(path):
        raise InputError(
            field,
            f"no file {str(path)!r:.200}; type the path of a parquet, JSON, JSON lines, CSV or "
            "LogiQA file",
        )
    return _read(path, field, [] if notes is None else notes)


def _read(path: pathlib.Path, field: str, notes: list[str]) -> Iterator[LocatedRow]:
    try:
        with path.open("rb") as file:
            yield from _read_rows(path, file, notes)
    except RecursionError as error:
        raise InputError(field, f"{path}: nested too deeply") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            field, f"{path}: the gzip file is damaged or cut off ({first_line(error)})"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(field, f"{path}: {_describe_encoding(path, error):.300}") from error
    except (OSError, ValueError) as error:
        raise InputError(field, f"{path}: {first_line(error):.300}") from error


def _read_rows(
    path: pathlib.Path, file: io.BufferedReader, notes: list[str]
) -> Iterator[LocatedRow]:
    stream: Any = file
    is_compressed = file.peek(len(_GZIP)).startswith(_GZIP)
    if is_compressed:
        stream = io.BufferedReader(cast(Any, gzip.GzipFile(fileobj=file)))

    beginning = stream.peek(_BEGINNING)[:_BEGINNING]
    if beginning.startswith(_PARQUET):
        yield from read_parquet(stream.read() if is_compressed else path, notes)
        return
    _refuse_other_formats(beginning)
    with _open_text(stream, beginning) as text:
        yield from _read_text(text)


def _refuse_other_formats(beginning: bytes) -> None:
    for mark, kind in _ARCHIVES.items():
        if beginning.startswith(mark):
            raise ValueError(f"this is {kind}; unpack it, or compress with gzip")
    if beginning.startswith(_ARROW):
        raise ValueError(
            "this is an Arrow file; type the folder that save_to_disk wrote it to, or write parquet"
        )
    if beginning.startswith(_LFS_POINTER):
        raise ValueError(
            "this is a Git LFS pointer and not the file itself; fetch the file with `git lfs pull`"
        )


def _read_text(text: TextIO) -> Iterator[LocatedRow]:
    first = ""
    first_number = 0
    while not first.strip():
        first = text.readline()
        first_number += 1
        if not first:
            raise ValueError("the file is empty")

    lines = itertools.chain([first], text)
    mark = first.lstrip()[0]
    if mark == "<":
        raise ValueError("this is a page of HTML or XML; download the file itself")
    if mark == "[":
        yield from read_json_list("".join(lines))
        return
    if mark == "{":
        yield from read_json_objects(lines, first_number)
        return

    is_logiqa = first_number > 1 and len(first.strip()) <= _LONGEST_LOGIQA_GOLD
    delimiter = "" if is_logiqa else delimiter_of(first)
    if delimiter:
        yield from read_csv(lines, first_number, delimiter)
        return
    whole = "\n" * (first_number - 1) + "".join(lines)
    for number, row in parse_logiqa(whole):
        yield LocatedRow(f"line {number}", row)


# --- encodings ------------------------------------------------------------------------------------


def _open_text(stream: Any, beginning: bytes) -> TextIO:
    """The text of a stream, lines with their ends: UTF-8, or what the first bytes show.

    UTF-16 and UTF-32 are recognised with and without a byte order mark.
    """
    encoding = json.detect_encoding(beginning)
    if encoding.startswith(("utf-16", "utf-32")):
        content = stream.read()
        with contextlib.suppress(UnicodeDecodeError):
            return io.StringIO(content.decode(encoding), newline="")
        stream = io.BytesIO(content)
    return io.TextIOWrapper(stream, "utf-8-sig", newline="")


def _describe_encoding(path: pathlib.Path, error: UnicodeDecodeError) -> str:
    """What is wrong with the bytes of a text, and in which line."""
    with path.open("rb") as file:
        is_compressed = file.read(len(_GZIP)) == _GZIP
    place = ""
    line = error.object
    with gzip.open(path) if is_compressed else path.open("rb") as lines:
        for number, line in enumerate(cast(BinaryIO, lines), 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as first_error:
                error = first_error
                place = f"line {number}: "
                break
    if _CONTROL_BYTES.search(line):
        return f"{place}{error}; the file is not text in UTF-8"
    return f"{place}{error}; the text seems to be Latin-1 or Windows-1252: save it as UTF-8"
