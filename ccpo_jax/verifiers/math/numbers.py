"""Plain numbers, which most answers are and which need no parser."""

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

# Longer ones go the long way, which bounds them.
_MAX_CHARS = 100

# An integer, a decimal, \frac{a}{b} or a/b, also in dollars.
_PLAIN = re.compile(
    r"\s*+\$?(?P<sign>-?)\s*+(?:\\?\$)?(?:(?P<whole>\d++|[1-9]\d{0,2}(?:,\d{3})++(?!\d))"
    r"(?:(?P<decimals>\.\d++)|/(?P<below>\d++))?"
    r"|\\[dt]?frac\s*+\{(?P<a>\d++)\}\s*+\{(?P<b>\d++)\})\.?\$?\s*+"
)


class PlainNumber(NamedTuple):
    """The exact value of a number, and how many decimals are written: None, if it is no decimal."""

    value: Fraction
    decimals: int | None


@lru_cache(maxsize=16384)
def plain_number(answer: str) -> PlainNumber | None:
    r"""The number that an answer plainly is; None for all other answers.

    Example:
      >>> plain_number("-1,234.5").value, plain_number(r"\frac{1}{2}").value, plain_number("2x")
      (Fraction(-2469, 2), Fraction(1, 2), None)
    """
    match = _PLAIN.fullmatch(answer) if len(answer) <= _MAX_CHARS else None
    if match is None:
        return None
    numerator = (match["whole"] or match["a"]).replace(",", "") + (match["decimals"] or "")
    denominator = int(match["below"] or match["b"] or "1")
    if denominator == 0:
        return None
    value = Fraction(match["sign"] + numerator) / denominator
    return PlainNumber(value, len(match["decimals"]) - 1 if match["decimals"] else None)


def may_round(first: PlainNumber, second: PlainNumber) -> bool:
    """Whether one of two unequal numbers may be a decimal that stands for the other.

    The other is written without decimals, and less than one unit of the last decimal away.
    """
    if (first.decimals is None) == (second.decimals is None):
        return False
    decimals = second.decimals if first.decimals is None else first.decimals
    assert decimals is not None
    return abs(first.value - second.value) * 10**decimals < 1
