"""Whether two numbers or expressions agree: exactly, rounded, as percentages, in their units."""

from fractions import Fraction

from ccpo_jax.verifiers.math.evaluation import (
    Number,
    agree_where_real,
    as_float,
    hides_signs,
    positive_symbols,
)
from ccpo_jax.verifiers.math.expressions import CONSTANTS, REPEATING, Node, symbols_of
from ccpo_jax.verifiers.math.items import Item
from ccpo_jax.verifiers.math.relations import real_number

# A decimal may stand for a number without an exact decimal if it gives so many of its digits.
_MIN_DECIMALS = 4


def is_rounded_by(approximation: Item, item: Item) -> bool:
    """Whether the decimal behind an approximate sign is that of the exact value before it."""
    exact = item.items[0] if item.kind == "assignment" else item
    number = real_number(exact)
    rounded = real_number(approximation)
    if number is None or rounded is None or approximation.node is None:
        return False
    return _is_rounding(approximation.node, rounded, number, least=0)


def accepts_expression(gold: Item, item: Item) -> bool:
    """Numbers and expressions: exact, or a decimal that rounds; their units must not differ."""
    if gold.value is not None and gold.value == item.value:
        return _agree_units(gold, item)
    if _same_where_real(gold, item):
        return _agree_units(gold, item)
    if _same_percent(gold, item):
        return True
    if _convertible(gold, item):
        return True
    if _decimals_agree(gold, item):
        return _agree_units(gold, item)
    if item.loose is not None and has_no_unknowns(gold):
        return accepts_expression(gold, item.loose)
    if gold.loose is not None and item.unit is not None:
        return accepts_expression(gold.loose, item)
    return False


def _same_where_real(gold: Item, item: Item) -> bool:
    """Whether expressions agree where both are real; ln x is not ln |x|, which is so everywhere."""
    if gold.node is None or item.node is None or hides_signs(gold.node):
        return False
    positive = positive_symbols(gold.node) | positive_symbols(item.node)
    return agree_where_real(gold.value, item.value, positive)


def has_no_unknowns(item: Item) -> bool:
    """Whether an expression has no unknowns, so that a letter can only be a unit."""
    return item.node is not None and not symbols_of(item.node) - CONSTANTS


def _agree_units(gold: Item, item: Item) -> bool:
    """Whether the units are the same; one that is missing or not known agrees with any."""
    first, second = gold.unit, item.unit
    if gold.is_percent or item.is_percent:
        # 17% is no angle and no length.
        unit = second if gold.is_percent else first
        return unit is None or unit.dimensions is None
    if first is None or second is None or None in (first.dimensions, second.dimensions):
        return True
    return first == second


def _convertible(gold: Item, item: Item) -> bool:
    """5 km is 5000 m."""
    first, second = gold.unit, item.unit
    if first is None or second is None or None in (first.dimensions, second.dimensions):
        return False
    if first.dimensions != second.dimensions or first.factor == second.factor:
        return False
    if first.dimensions == (("modulus", 1),):
        return False
    one, other = real_number(gold), real_number(item)
    if not isinstance(one, Fraction) or not isinstance(other, Fraction):
        return False
    return one * first.factor == other * second.factor


def _same_percent(gold: Item, item: Item) -> bool:
    """50% is 1/2 as well as 50."""
    if gold.is_percent == item.is_percent:
        return False
    one, other = real_number(gold), real_number(item)
    if not isinstance(one, Fraction) or not isinstance(other, Fraction):
        return False
    return one == 100 * other if gold.is_percent else 100 * one == other


def _decimals_agree(gold: Item, item: Item) -> bool:
    """Whether one of two numbers is a decimal that rounds the other, which has no end."""
    if gold.node is None or item.node is None:
        return False
    one, other = real_number(gold), real_number(item)
    if one is None or other is None:
        return False
    for decimal, exact in ((gold, item), (item, gold)):
        node, exact_node = decimal.node, exact.node
        assert node is not None and exact_node is not None
        least = 1 if _decimals(exact_node) == REPEATING else _MIN_DECIMALS
        number, rounded = (other, one) if decimal is gold else (one, other)
        if _decimals(node) in (None, REPEATING) or _ends(exact_node, number):
            continue
        if _is_rounding(node, rounded, number, least=least):
            return True
    return False


def _is_rounding(node: Node, rounded: Number, number: Number, *, least: int) -> bool:
    """Whether a written decimal is a number rounded, or cut off, with so many digits at least."""
    decimals = _decimals(node)
    if decimals is None or decimals == REPEATING or not isinstance(rounded, Fraction):
        return False
    # Zeros in front are no digits of a number below one.
    digits = len(str(abs(rounded.numerator) * 10**decimals // rounded.denominator))
    if decimals < least or min(digits, decimals) < least:
        return False
    difference = abs(as_float(number) - as_float(rounded))
    half = as_float(Fraction(1, 2 * 10**decimals))
    is_cut = _is_repeating_cut(least, number, rounded, decimals)
    return bool(difference <= half) or is_cut


def _is_repeating_cut(least: int, number: Number, rounded: Fraction, decimals: int) -> bool:
    """Of 0.666... both 0.67 and 0.66 are written; of other numbers only the rounding counts."""
    if least != 1 or not isinstance(number, Fraction):
        return False
    return abs(number) // Fraction(1, 10**decimals) * Fraction(1, 10**decimals) == abs(rounded)


def _decimals(node: Node) -> int | None:
    """The number of decimals that are written, also of a negative number."""
    if node.kind == "negative":
        node = node.children[0]
    return node.decimals if node.kind == "number" else None


def _ends(node: Node, number: Number) -> bool:
    """Whether a number has an exact decimal, so that a rounded one is wrong."""
    if _decimals(node) == REPEATING or not isinstance(number, Fraction):
        return False
    denominator = number.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1
