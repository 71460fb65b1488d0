"""What an answer consists of, once it is read."""

from collections.abc import Hashable
from typing import NamedTuple

from ccpo_jax.verifiers.math.expressions import Node
from ccpo_jax.verifiers.math.reals import Interval
from ccpo_jax.verifiers.math.units import Unit


class Item(NamedTuple):
    """One member of an answer.

    Attributes:
      kind: "expression", "words", "tuple", "bracketed", "set", "reals", "matrix", "assignment",
        "relation", "ratio", "time", "based" or "unread".
      value: the canonical value; None if only the text tells what it means.
      node: of an expression, its tree.
      items: the members of a tuple, set, list in brackets, matrix (row by row) or ratio; the value
        of an assignment.
      name: what an assignment assigns to, or the unknown that an inequality bounds; the two
        brackets of a tuple; the size of a matrix.
      intervals: of a set of real numbers.
      unit: what stands behind a number, None if nothing does.
      is_percent: whether a percent sign stands behind it.
      loose: another reading, in which a single letter behind a number is its unit; else None.
      difference: of an equation, left minus right.
      approximation: of ``2/3 = 0.67`` with an approximate sign, what it gives as the decimal.
    """

    kind: str
    value: Hashable = None
    node: Node | None = None
    items: tuple["Item", ...] = ()
    name: str = ""
    intervals: tuple[Interval, ...] = ()
    unit: Unit | None = None
    is_percent: bool = False
    loose: "Item | None" = None
    approximation: "Item | None" = None
    difference: Node | None = None


class Answer(NamedTuple):
    """An answer: its members, and the word or sign between them, "" if there is but one."""

    items: tuple[Item, ...]
    connective: str = ""


class Unread(ValueError):
    """The tokens are no answer that can be compared by meaning."""
