"""A row with its place in the source, which error messages name."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class LocatedRow(NamedTuple):
    """A row, and its place in the source for error messages: "row 3" or "line 7"."""

    location: str
    row: Mapping[str, Any]
