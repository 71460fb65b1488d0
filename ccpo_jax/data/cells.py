"""Cells of a row: which are empty, and their values as text."""

import ast
import datetime
import decimal
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

_PLAIN_TYPES = frozenset((str, int, float, bool, list, dict, type(None)))

# How Python prints a list or dict of texts, lists or dicts.
_PRINTED = re.compile(r"""\s*(\[\s*['"{]|\{\s*['"])""")
# numpy puts no commas between texts, and line breaks between dicts.
_TEXTS_OF_NUMPY = re.compile(r"""\s*\[\s*(?:'[^']*'|"[^"]*")\s+['"]""")
_BETWEEN_DICTS = re.compile(r"\}\s*\n\s*\{")
# A backslash that Python does not print: LaTeX that somebody typed.
_TYPED_BACKSLASH = re.compile(r"""(?<!\\)(?:\\\\)*\\[^\\'"nrtxuU]""")
_LONGEST_LITERAL = 200_000


class UnusableRow(Exception):
    """A row that lacks what a problem needs; the message is the reason that is counted."""


def plain(value: Any) -> Any:
    """A cell as JSON can hold it: arrays as lists, numbers of numpy and decimals as numbers, dates
    and times as ISO 8601 writes them.

    Example:
      >>> plain(np.array([1.0, 2.0])), plain(decimal.Decimal("1.50"))
      ([1.0, 2.0], 1.5)
    """
    # Most cells are plain already.
    if type(value) in _PLAIN_TYPES:
        return value
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, decimal.Decimal):
        is_whole = value.is_finite() and value == value.to_integral_value()
        return int(value) if is_whole else float(value)
    # A date that is missing has a type of its own in pandas.
    if isinstance(value, datetime.date | datetime.time) and type(value).__name__ != "NaTType":
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return str(value)
    return value


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a dict whose cells are plain, structs and lists included.

    Example:
      >>> plain_row({"reward": {"range": np.array([0, 1])}})
      {'reward': {'range': [0, 1]}}
    """
    return {str(name): _deeply_plain(cell) for name, cell in row.items()}


def _deeply_plain(value: Any) -> Any:
    # Most cells are text, and text is the fastest to tell.
    if type(value) is str:
        return value
    value = plain(value)
    if isinstance(value, Mapping):
        return {key: _deeply_plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_deeply_plain(member) for member in value]
    return value


def structured(value: Any) -> Any:
    """A cell as a struct or a list where it is one, or the text of one in JSON.

    Example:
      >>> structured('{"answer": "7"}'), structured("[0, 1)"), structured("7")
      ({'answer': '7'}, '[0, 1)', '7')
      >>> structured("['no', 'yes']"), structured("['no' 'yes']")
      (['no', 'yes'], "['no' 'yes']")
    """
    value = plain(value)
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return _python_literal(value)
    return value


def _python_literal(text: str) -> Any:
    """The list or dict of texts that pandas wrote into a CSV file as Python prints it."""
    is_printed = len(text) <= _LONGEST_LITERAL and _PRINTED.match(text)
    # Python would join texts without commas to one.
    if not is_printed or _TEXTS_OF_NUMPY.match(text) or _TYPED_BACKSLASH.search(text):
        return text
    try:
        return ast.literal_eval(_BETWEEN_DICTS.sub("}, {", text.strip()))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, blank text, an empty list, a struct of such cells.

    Tables that were merged from several sources, or read by pandas, have such cells where a source
    lacks the column.
    """
    # Most cells are text, or absent.
    if type(value) is str:
        return not value or value.isspace()
    if value is None:
        return True
    value = plain(value)
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, dict):
        return bool(value) and all(map(is_empty, value.values()))
    if isinstance(value, list | tuple):
        return not value
    # pandas has values of its own for nothing; they refuse to be compared.
    if type(value).__name__ in ("NAType", "NaTType"):
        return True
    # NaN is the one number that differs from itself.
    return isinstance(value, float) and value != value


def printable(text: str) -> str:
    """Lone surrogates, which JSON can spell but nothing can write or print, become "?"."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def is_number(value: Any) -> bool:
    """Whether a cell is a number; Python counts True and False as numbers, a table does not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole_number(value: Any) -> Any:
    """2 for 2.0: a column of whole numbers with an empty cell becomes one of floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def same_spacing(text: str) -> str:
    """The text with single blanks between its words."""
    return " ".join(text.split())
