"""Reads inequalities: bounds on one unknown, or chains that are compared side by side."""

from collections.abc import Callable, Sequence
from fractions import Fraction

from ccpo_jax.verifiers.math import reals
from ccpo_jax.verifiers.math.evaluation import (
    Number,
    Undefined,
    at_point,
    difference_keys,
    differences,
    is_close,
    is_real,
    value_of,
)
from ccpo_jax.verifiers.math.expressions import CONSTANTS, Node, symbols_of
from ccpo_jax.verifiers.math.items import Item, Unread
from ccpo_jax.verifiers.math.tokens import Token

Reader = Callable[[Sequence[Token]], Item]

ORDER = {"<": (False, 1), r"\le": (True, 1), ">": (False, -1), r"\ge": (True, -1)}


def read_inequality(sides: list[list[Token]], operators: list[str], read: Reader) -> Item:
    """Bounds on one unknown, or a chain that is compared side by side."""
    items = [read(side) for side in sides]
    nodes = [_with_unknowns(item.node) for item in items if item.node is not None]
    if len(nodes) != len(items):
        raise Unread("a relation of what are no expressions")
    bounds = _bounds(nodes, operators)
    if bounds is not None:
        return bounds
    if len(nodes) == 2:
        return Item("relation", _inequality_value(nodes[0], nodes[1], operators[0]))
    # A chain that falls is read from its end.
    values = [value_of(node) for node in nodes]
    if all(ORDER[operator][1] < 0 for operator in operators):
        values, operators = values[::-1], [_mirrored(sign) for sign in reversed(operators)]
    return Item("relation", ("chain", *values, *operators))


def _mirrored(operator: str) -> str:
    return {">": "<", r"\ge": r"\le", "<": ">", r"\le": r"\ge"}[operator]


def _inequality_value(left: Node, right: Node, operator: str) -> tuple:
    if not (symbols_of(left) | symbols_of(right)) - CONSTANTS:
        return ("statement", operator, value_of(left), value_of(right))
    try:
        values = differences(left, right)
        if not all(map(is_real, values)) or any(value == 0 for value in values):
            raise Unread("no real difference")
        ratios = difference_keys(left, right)
    except Undefined as error:
        raise Unread(str(error)) from error
    if operator == r"\ne":
        return ("unequal", *ratios)
    is_closed, direction = ORDER[operator]
    sign = direction if values[0] > 0 else -direction
    return ("inequality", is_closed, sign, *ratios)


def _bounds(nodes: list[Node], operators: list[str]) -> Item | None:
    """The numbers that a chain of linear inequalities in one unknown leaves; None for others."""
    names = set().union(*(symbols_of(node) for node in nodes)) - CONSTANTS
    if len(names) != 1:
        return None
    (name,) = names
    absolute = next((node for node in nodes if _is_absolute(node)), None)
    if absolute is not None:
        inner = [_UNKNOWN if node == absolute else node for node in nodes]
        return _absolute_bounds(inner, operators, absolute.children[0], name)
    remaining: tuple[reals.Interval, ...] = (reals.everything(),)
    for left, right, operator in zip(nodes[:-1], nodes[1:], operators, strict=True):
        if _is_infinite(left) or _is_infinite(right):
            continue
        solved = _linear_root(left, right, name)
        if solved is None:
            return None
        root, is_rising = solved
        if operator == r"\ne":
            remaining = reals.without(remaining, [root])
            continue
        is_closed, direction = ORDER[operator]
        # left - right < 0: below the root where the difference rises.
        is_below = (direction > 0) == is_rising
        low, high = (-reals.infinity(), root) if is_below else (root, reals.infinity())
        half = reals.Interval(low, is_closed and not is_below, high, is_closed and is_below)
        remaining = reals.intersection(remaining, [half])
    return Item("reals", reals.key(remaining), name=name, intervals=remaining)


_UNKNOWN = Node("symbol", "an absolute value")


def _is_absolute(node: Node) -> bool:
    """Whether a side is the absolute value of something with an unknown."""
    return node.kind == "call" and node.value == "abs" and bool(symbols_of(node) - CONSTANTS)


def _absolute_bounds(
    nodes: list[Node], operators: list[str], inside: Node, name: str
) -> Item | None:
    """The bounds on x that bounds on |ax + b| are: |x - 1| < 2 is -1 < x < 3."""
    item = _bounds(nodes, operators)
    line = linear(inside, name)
    if item is None or item.name != _UNKNOWN.value or line is None:
        return None
    at_least_zero = [reals.Interval(Fraction(0), True, reals.infinity(), False)]
    positive = reals.intersection(item.intervals, at_least_zero)
    negative = [reals.Interval(-i.high, i.high_closed, -i.low, i.low_closed) for i in positive]
    slope, start = line
    solved = []
    for part in [*positive, *negative]:
        low, high = (part.low - start) / slope, (part.high - start) / slope
        if slope > 0:
            solved.append(reals.Interval(low, part.low_closed, high, part.high_closed))
        else:
            solved.append(reals.Interval(high, part.high_closed, low, part.low_closed))
    both = reals.union(solved)
    return Item("reals", reals.key(both), name=name, intervals=both)


def _with_unknowns(node: Node) -> Node:
    """An expression whose unknown functions are unknowns: 0 < f(x) < 1 bounds f(x)."""
    if node.kind == "apply":
        return Node("symbol", f"{node.value}{node.children!r}")
    return node._replace(children=tuple(map(_with_unknowns, node.children)))


def _is_infinite(node: Node) -> bool:
    node = node.children[0] if node.kind == "negative" else node
    return node.kind == "symbol" and node.value == r"\infty"


def _linear_root(left: Node, right: Node, name: str) -> tuple[Number, bool] | None:
    """The root of left minus right if it is linear in the unknown, and whether it rises."""
    line = linear(Node("add", children=(left, Node("negative", children=(right,)))), name)
    if line is None:
        return None
    slope, start = line
    return -start / slope, bool(slope > 0)


def linear(node: Node, name: str, point: int = 0) -> tuple[Number, Number] | None:
    """Slope and value at zero of an expression that is linear in an unknown, else None."""
    try:
        values = [at_point(node, point, {name: Fraction(x)}) for x in (1, 2, 5, -3)]
    except Undefined:
        return None
    if not all(map(is_real, values)):
        return None
    slope = values[1] - values[0]
    if slope == 0 or not is_close(values[2] - values[0], 4 * slope):
        return None
    if not is_close(values[0] - values[3], 4 * slope):
        return None
    return slope, values[0] - slope
