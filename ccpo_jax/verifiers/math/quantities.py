r"""Reads numbers and expressions with what stands around them: ``\$5``, ``12 cm^2``, ``50\%``."""

from collections.abc import Sequence
from fractions import Fraction

from ccpo_jax.verifiers.math.evaluation import Undefined, value_of
from ccpo_jax.verifiers.math.expressions import (
    CONSTANTS,
    FUNCTIONS,
    SYMBOLS,
    Node,
    Unparsed,
    contains,
    parse_expression,
    symbols_of,
)
from ccpo_jax.verifiers.math.items import Item, Unread
from ccpo_jax.verifiers.math.tokens import Token
from ccpo_jax.verifiers.math.units import CURRENCIES, Unit, known_name, read_unit
from ccpo_jax.verifiers.math.vocabulary import (
    MAGNITUDES,
    MEANINGFUL,
    NUMBER_WORDS,
    PERCENT_WORDS,
)

# Single letters that are units where a plain number stands in front of them.
_LETTER_UNITS = frozenset(["m", "s", "g", "h", "l", "L", "N", "J", "W", "V", "A", "C", "F", "t"])

_MODULUS = (r"\pmod", r"\bmod", r"\mod", "mod")

# What is part of a unit besides its letters: "m/s^{-2}".
_UNIT_SIGNS = frozenset(["/", "^", "{", "}", "-", r"\cdot", "(", ")", "'"])


def read_quantity(tokens: Sequence[Token]) -> Item:
    """The number or expression that some tokens write, with its unit.

    Raises:
      Unread: if they write none.
    """
    tokens, unit = _without_currency(_in_line(tokens))
    tokens, is_percent = _without_percent(tokens)
    tokens, degrees = _without_degrees(tokens)
    tokens, modulus = _without_modulus(tokens)
    unit = unit or degrees or modulus
    split = _unit_position(tokens)
    if split is not None:
        item = _with_unit(tokens[:split], tokens[split:])
        loose = _loose_reading(tokens) if any(token.text == r"\mu" for token in tokens) else None
        return item._replace(unit=unit or item.unit, is_percent=is_percent, loose=loose)
    item = _expression(tokens)
    loose = None if unit else _loose_reading(tokens)
    return item._replace(unit=unit, is_percent=is_percent, loose=loose)


def _in_line(tokens: Sequence[Token]) -> Sequence[Token]:
    r"""A final fraction of units, ``\frac{m}{s}``, as m/s."""
    texts = [token.text for token in tokens[-7:]]
    kinds = [token.kind for token in tokens[-7:]]
    signs = [text for text, kind in zip(texts, kinds, strict=True) if kind == "sign"]
    if len(tokens) < 8 or signs != [r"\frac", "{", "}", "{", "}"] or kinds.count("letters") != 2:
        return tokens
    upper, lower = (token for token in tokens[-7:] if token.kind == "letters")
    before = tokens[-8]
    if before.kind != "number" and before.text not in ("}", ")"):
        # The logarithm of x/y has no unit.
        return tokens
    slash = upper._replace(kind="sign", text="/")
    return [*tokens[:-7], upper._replace(spaced=True), slash, lower]


def _expression(tokens: Sequence[Token]) -> Item:
    """An expression alone."""
    if tokens and tokens[0].kind == "letters" and tokens[0].text.lower() in NUMBER_WORDS:
        number = str(NUMBER_WORDS[tokens[0].text.lower()])
        tokens = [tokens[0]._replace(kind="number", text=number), *tokens[1:]]
    try:
        node = parse_expression(tokens)
    except Unparsed as error:
        raise Unread(str(error)) from error
    return item_of(node)


def item_of(node: Node) -> Item:
    """The item of an expression; without a value where it has none that can be computed."""
    try:
        value = None if contains(node, "signs") else value_of(node)
    except Undefined:
        # A tower of powers equals itself, as it is written; of an open sum math-verify may know.
        is_open = contains(node, "series") and symbols_of(node)
        value = None if is_open else ("written", repr(node))
    return Item("expression", value, node)


def _with_unit(number: Sequence[Token], unit: Sequence[Token]) -> Item:
    """A number and the words behind it."""
    item = _expression(number)
    word = unit[0].text.lower()
    if word in MAGNITUDES:
        node = Node("number", Fraction(MAGNITUDES[word]))
        assert item.node is not None
        item = item_of(Node("multiply", "magnitude", (item.node, node)))
        unit = unit[1:]
    return item._replace(unit=read_unit(unit) if unit else None)


# What may stand between a sign of money and the digits of its amount.
_BEFORE_DIGITS = ("-", ".", "{", r"\frac")


def _without_currency(tokens: Sequence[Token]) -> tuple[Sequence[Token], Unit | None]:
    """Without the sign or code of money in front or behind."""
    sign: list[Token] = []
    rest = list(tokens)
    if len(rest) > 1 and rest[0].text in ("-", "+"):
        sign, rest = rest[:1], rest[1:]
    front = 0
    while front < len(rest) - 1 and rest[front].text.lower() in CURRENCIES:
        front += 1
    amount = rest[front:]
    is_amount = front and (amount[0].kind == "number" or amount[0].text in _BEFORE_DIGITS)
    if is_amount:
        return [*sign, *amount], read_unit(rest[front - 1 : front])
    if len(rest) > 1 and rest[-1].kind == "sign" and rest[-1].text in CURRENCIES:
        return tokens[:-1], read_unit(rest[-1:])
    return tokens, None


def _without_percent(tokens: Sequence[Token]) -> tuple[Sequence[Token], bool]:
    if len(tokens) > 1 and (tokens[-1].text == "%" or tokens[-1].text.lower() in PERCENT_WORDS):
        return tokens[:-1], True
    texts = [token.text for token in tokens]
    if "%" in texts[1:-1]:
        # 12% of the total.
        end = texts.index("%")
        rest = tokens[end + 1 :]
        if rest[0].text == "of" and all(token.kind == "letters" for token in rest):
            return tokens[:end], True
    return tokens, False


def _without_modulus(tokens: Sequence[Token]) -> tuple[Sequence[Token], Unit | None]:
    r"""Without a final ``\pmod{7}`` or ``(mod 7)``, which is kept as the unit of a remainder."""
    texts = [token.text for token in tokens]
    index = next((i for i, text in enumerate(texts) if text in _MODULUS), None)
    if not index:
        return tokens, None
    modulus = [text for text in texts[index + 1 :] if text not in ("{", "}", ")")]
    start = index - 1 if texts[index - 1] == "(" else index
    if start < 1 or len(modulus) != 1 or not modulus[0].isdecimal() or int(modulus[0]) == 0:
        return tokens, None
    return tokens[:start], Unit(Fraction(int(modulus[0])), (("modulus", 1),))


def _without_degrees(tokens: Sequence[Token]) -> tuple[Sequence[Token], Unit | None]:
    r"""Without a final ``^\circ``, also with the letter of a temperature behind it."""
    texts = [token.text for token in tokens]
    end = len(texts)
    letter = texts[-1] if end > 1 and texts[-1] in ("C", "F") else ""
    end -= bool(letter)
    for degrees in (["^", r"\circ"], ["^", "{", r"\circ", "}"], [r"\circ"]):
        start = end - len(degrees)
        if start > 0 and texts[start:end] == degrees:
            name = f"°{letter.lower()}" if letter else "degree"
            unit = read_unit([Token("letters", name, False, True)])
            # A sum of degrees keeps its signs: 30° + 60° is no number behind which one unit stands.
            names = {text.removeprefix("\\") for text in texts[:start]}
            if r"\circ" in texts[:start] or names & FUNCTIONS - {"sqrt"}:
                return tokens, None
            return tokens[:start], unit
    return tokens, None


def _unit_position(tokens: Sequence[Token]) -> int | None:
    """Where the unit behind a number begins; None if there is none."""
    for index in range(1, len(tokens)):
        token = tokens[index]
        if token.text == "(" and token.in_text and tokens[-1].text == ")":
            # A unit in brackets: 12 (square units).
            is_unit = len(tokens) > index + 2 and _is_unit(tokens[index + 1 : -1])
            return index if is_unit and tokens[index + 1].kind == "letters" else None
        if token.kind == "letters" and _begins_unit(tokens, index):
            return index if _is_unit(tokens[index:]) else None
    return None


def _begins_unit(tokens: Sequence[Token], index: int) -> bool:
    """Whether a run of letters behind a number is a unit and no part of the expression."""
    token = tokens[index]
    word = token.text
    is_function = word in FUNCTIONS and not (word == "min" and index == len(tokens) - 1)
    if is_function or rf"\{word}" in SYMBOLS or tokens[index - 1].text in ("_", "^", "/"):
        return False
    before = tokens[:index]
    if not any(part.kind == "number" or part.text == r"\pi" for part in before):
        return False
    if _depth(before):
        return False
    if token.in_text:
        return True
    if any(part.kind == "letters" and part.text not in FUNCTIONS for part in before):
        return False
    return len(word) > 1 and (known_name(word) is not None or (len(word) > 3 and token.spaced))


def _depth(tokens: Sequence[Token]) -> int:
    """How many brackets are open behind these tokens."""
    opened = sum(token.text in ("(", "[", "{", r"\{") for token in tokens)
    return opened - sum(token.text in (")", "]", "}", r"\}") for token in tokens)


def _is_unit(tokens: Sequence[Token]) -> bool:
    """Whether tokens are letters, and numbers as exponents alone, without words of meaning."""
    first = tokens[0].text.lower()
    for index, token in enumerate(tokens):
        word = token.text.lower()
        if token.kind == "letters":
            if word in MEANINGFUL and not (index == 0 and first in MAGNITUDES):
                return False
            if index == 0 and _is_short_magnitude(token):
                return False
            is_behind_text = index > 0 and tokens[0].in_text and not token.in_text
            if is_behind_text and known_name(word) is None:
                # In "5 cm x" the last letter is a factor.
                return False
        elif token.kind == "number":
            if not {part.text for part in tokens[max(0, index - 3) : index]} & {"^"}:
                return False
        elif token.text == "^":
            if not _is_measure(tokens[index - 1]):
                return False
        elif token.text not in _UNIT_SIGNS and token.text not in CURRENCIES:
            return False
    return _depth(tokens) == 0


def _is_measure(token: Token) -> bool:
    """Whether a word may have a power: cm^2 and units^2, but not apples^2."""
    word = token.text.lower()
    return known_name(word) is not None or word in ("unit", "units", "u", ")", "}")


def _is_short_magnitude(token: Token) -> bool:
    """Whether a letter behind a number may stand for thousands or millions: 5K, 5 M."""
    return token.text in ("k", "M", "B") or (token.text == "K" and not token.spaced)


# Units whose signs have Greek letters.
_GREEK_UNITS = {
    (r"\Omega",): "ohm",
    ("k", r"\Omega"): "kohm",
    ("M", r"\Omega"): "mohm",
    (r"\mu", "m"): "micrometer",
    (r"\mu", "g"): "microgram",
    (r"\mu", "s"): "microsecond",
}


def _without_greek_units(tokens: Sequence[Token]) -> Sequence[Token]:
    """A unit at the end that has Greek letters, in Latin ones."""
    for length in (2, 1):
        name = _GREEK_UNITS.get(tuple(token.text for token in tokens[-length:]))
        if name is not None and len(tokens) > length:
            return [*tokens[:-length], Token("letters", name, True, True)]
    return tokens


def _loose_reading(tokens: Sequence[Token]) -> Item | None:
    """A plain number and a letter behind a space: "1500 m" and "5 m/s"."""
    tokens = _without_greek_units(tokens)
    for index in range(1, len(tokens)):
        token = tokens[index]
        if token.kind != "letters":
            continue
        # "7m^2" needs no space to be an area.
        is_apart = token.spaced or (
            token.text == "m" and tokens[index + 1 :][:1] and (tokens[index + 1].text == "^")
        )
        is_unit = token.text in _LETTER_UNITS or token.text in _GREEK_UNITS.values()
        if not is_unit or not is_apart or _depth(tokens[:index]):
            return None
        rest = tokens[index:]
        names = [part.text for part in rest if part.kind == "letters"]
        if not _is_unit(rest) or any(known_name(name) is None for name in names):
            return None
        try:
            item = _expression(tokens[:index])
        except Unread:
            return None
        if item.node is None or symbols_of(item.node) - CONSTANTS:
            return None
        return item._replace(unit=read_unit(rest))
    return None
