"""Whether two equations have the same solutions, where one is solved for an unknown."""

from fractions import Fraction

from ccpo_jax.verifiers.math.evaluation import (
    Number,
    Undefined,
    as_float,
    at_point,
    is_close,
)
from ccpo_jax.verifiers.math.expressions import CONSTANTS, Node, symbols_of
from ccpo_jax.verifiers.math.inequalities import linear

# What is left of zero by rounding.
_ZERO = Fraction(1, 10**35)

# Where the other unknowns stand; some are negative, so that x = sqrt(y) is only half of y = x^2.
_POINTS = (0, 1, 3, 4, 5, 6)


def have_same_solutions(first: Node, second: Node) -> bool:
    """Whether two differences vanish together: xy - 6 and y - 6/x.

    Each is solved for an unknown in which it is linear; there the other has to vanish as well.

    Args:
      first: left minus right of one equation.
      second: left minus right of the other.
    """
    names = symbols_of(first) - CONSTANTS
    if len(names) < 2 or names != symbols_of(second) - CONSTANTS:
        return False
    return _implies(first, second) and _implies(second, first)


def _implies(first: Node, second: Node) -> bool:
    """Whether the second difference vanishes where the first does."""
    for name in sorted(symbols_of(first) - CONSTANTS):
        if all(_vanishes_at_root(first, second, name, point) for point in _POINTS):
            return True
    return False


def _vanishes_at_root(first: Node, second: Node, name: str, point: int) -> bool:
    line = linear(first, name, point)
    if line is None:
        return False
    slope, start = line
    root = -start / slope
    return _vanishes(second, name, root, point)


def _vanishes(node: Node, name: str, root: Number, point: int) -> bool:
    """Whether an expression is zero at a root, and not everywhere around it."""
    try:
        at_root = at_point(node, point, {name: root})
        beside = at_point(node, point, {name: root + 1})
    except Undefined:
        return False
    if is_close(beside, at_root):
        return False
    return abs(as_float(at_root)) <= abs(as_float(beside)) * as_float(_ZERO)
