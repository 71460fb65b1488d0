"""Units behind a number: what is known of them, and whether two of them agree."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from ccpo_jax.verifiers.math.tokens import Token


class Unit(NamedTuple):
    """A unit: how many basic units it is, and its dimensions; a label has none.

    Attributes:
      factor: the size in basic units.
      dimensions: pairs of a dimension and its exponent, sorted; None for a word that is not known.
    """

    factor: Fraction = Fraction(1)
    dimensions: tuple[tuple[str, int], ...] | None = None


_NAMES = {
    "length": {
        "1/1000": "mm millimeter millimetre", "1/100": "cm centimeter centimetre",
        "1/10": "dm decimeter", "1": "m meter metre", "1000": "km kilometer kilometre",
        "127/5000": "in inch inches", "381/1250": "ft foot feet", "1143/1250": "yd yard",
        "201168/125": "mi mile", "1/1000000": "micrometer micron", "1/1000000000": "nm nanometer",
    },
    "mass": {
        "1/1000000000": "microgram", "1/1000000": "mg milligram", "1/1000": "g gram",
        "1": "kg kilogram",
        "45359237/100000000": "lb lbs pound", "45359237/1600000000": "oz ounce",
    },
    "time": {
        "1": "s sec second", "60": "min minute", "3600": "h hr hour hrs", "86400": "day",
        "604800": "week", "1/1000": "ms millisecond",
        "1/1000000": "microsecond",
    },
    # A month has no fixed number of days, and a ton none of kilograms.
    "calendar": {"1": "month", "12": "year yr", "120": "decade", "1200": "century centurie"},
    "ton": {"1": "ton tonne"},
    "money": {"1": "dollar usd $ bucks", "1/100": "cent"},
    "euro": {"1": "euro eur €"},
    "pound sterling": {"1": "gbp £"},
    # Both are written with the same sign.
    "yen or yuan": {"1": "yen jpy ¥ yuan cny rmb 元"},
    "won": {"1": "won krw ₩"},
    "ruble": {"1": "ruble rouble ₽"},
    "rupee": {"1": "rs rupee inr ₹"},
    "angle": {"1": "degree deg"},
    "arc": {"1": "radian rad"},
    "celsius": {"1": "celsius °c"},
    "fahrenheit": {"1": "fahrenheit °f"},
    "kelvin": {"1": "k kelvin"},
    "force": {"1": "n newton"},
    "energy": {"1": "j joule", "1000": "kj", "4184/1000": "cal", "3600000": "kwh"},
    "resistance": {"1": "ohm", "1000": "kohm", "1000000": "mohm"},
    "power": {"1": "w watt", "1000": "kw"},
    "voltage": {"1": "v volt"},
    "current": {"1": "a ampere amp"},
    "pressure": {"1": "pa pascal", "1000": "kpa"},
    "frequency": {"1": "hz hertz"},
    "amount": {"1": "mol mole"},
}  # fmt: skip

_ATOMS = {
    name: (Fraction(factor), dimension)
    for dimension, names in _NAMES.items()
    for factor, words in names.items()
    for name in words.split()
}
# A litre is a volume, and a mile per hour a speed.
_GALLON = 231 * Fraction(127, 5000) ** 3
_COMPOSED = {
    "gallon": (_GALLON, "length", 3),
    "quart": (_GALLON / 4, "length", 3),
    "pint": (_GALLON / 8, "length", 3),
    "cup": (_GALLON / 16, "length", 3),
    "tablespoon": (_GALLON / 256, "length", 3),
    "teaspoon": (_GALLON / 768, "length", 3),
    "acre": (Fraction(40468564224, 10**7), "length", 2),
    "hectare": (Fraction(10**4), "length", 2),
    "l": (Fraction(1, 1000), "length", 3),
    "liter": (Fraction(1, 1000), "length", 3),
    "litre": (Fraction(1, 1000), "length", 3),
    "ml": (Fraction(1, 10**6), "length", 3),
    "milliliter": (Fraction(1, 10**6), "length", 3),
}
_SHORT = {
    "mph": [("mi", 1), ("h", -1)],
    "kmh": [("km", 1), ("h", -1)],
    "kph": [("km", 1), ("h", -1)],
}

# Abbreviations whose letters could be a product: only the known ones count outside a text command.
KNOWN = frozenset(_ATOMS) | frozenset(_COMPOSED) | frozenset(_SHORT) | {"sq", "cu"}

# Signs and codes of money in front of a number.
CURRENCIES = frozenset("$ £ € ¥ ₹ ₩ ₽ 元 usd eur gbp inr jpy cny krw rs us".split())

_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}


def known_name(word: str) -> str | None:
    """A unit's name in the singular, if it is known."""
    word = word.lower()
    for name in (word, word.removesuffix("s"), word.removesuffix("es")):
        if name in KNOWN:
            return name
    return None


def read_unit(tokens: Sequence[Token]) -> Unit:
    """The unit that some tokens write: ``m/s``, ``square inches``, ``cm^2``; else a label."""
    factor = Fraction(1)
    dimensions: dict[str, int] = {}
    sign = 1
    prefix = 1
    position = 0
    while position < len(tokens):
        word = tokens[position].text.lower()
        position += 1
        if word in ("/", "per"):
            sign = -1
        elif word in _POWERS:
            prefix = _POWERS[word]
        elif tokens[position - 1].kind == "letters" or word in CURRENCIES:
            name = known_name(word)
            if name is None:
                return Unit()
            exponent, position = _exponent(tokens, position)
            for atom, power in _SHORT.get(name, [(name, 1)]):
                size, dimension, own_power = _atom(atom)
                total = sign * prefix * exponent * power
                factor *= size**total
                dimensions[dimension] = dimensions.get(dimension, 0) + own_power * total
            prefix = 1
    if not dimensions:
        return Unit()
    return Unit(factor, tuple(sorted(item for item in dimensions.items() if item[1])))


def _atom(name: str) -> tuple[Fraction, str, int]:
    if name in _COMPOSED:
        return _COMPOSED[name]
    size, dimension = _ATOMS[name]
    return size, dimension, 1


def _exponent(tokens: Sequence[Token], position: int) -> tuple[int, int]:
    """The exponent behind a unit, and the position behind it."""
    if position >= len(tokens) or tokens[position].text != "^":
        return 1, position
    position += 1
    digits = ""
    while position < len(tokens) and (
        tokens[position].text in "{}-" or tokens[position].text.isdigit()
    ):
        digits += tokens[position].text.strip("{}")
        position += 1
    return (int(digits) if digits.lstrip("-").isdigit() and len(digits) < 4 else 1), position
