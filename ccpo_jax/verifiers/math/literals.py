"""Reads what is neither expression nor set: words, ratios, times of day, numerals of a base."""

import math
from collections.abc import Sequence

from ccpo_jax.verifiers.math.evaluation import Undefined, value_of
from ccpo_jax.verifiers.math.expressions import FUNCTIONS, SYMBOLS, Node, Unparsed, parse_expression
from ccpo_jax.verifiers.math.items import Item, Unread
from ccpo_jax.verifiers.math.splitting import split_at
from ccpo_jax.verifiers.math.tokens import Token
from ccpo_jax.verifiers.math.vocabulary import (
    FILLERS,
    MERIDIANS,
    NUMBER_WORDS,
    SHORT_WORDS,
    SYNONYMS,
)

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def read_words(tokens: Sequence[Token]) -> Item | None:
    """An answer in words: their stems in order, without articles; None if it has no word."""
    if not any(token.kind == "letters" for token in tokens) or any(map(_is_formula, tokens)):
        return None
    words: list[str] = []
    for index, token in enumerate(tokens):
        if token.text == "A" and index:
            # The letter of "Plan A" is no article.
            words.append("A")
        elif token.kind in ("letters", "number"):
            word = token.text.lower() if len(token.text) > 1 or token.in_text else token.text
            words += SYNONYMS.get(word, word).split()
        elif token.text not in _PUNCTUATION or (token.text == "-" and index == 0):
            words.append(token.text)
    meaning = [word for word in words if word not in FILLERS] or words
    stems = tuple(_stem(word) for word in meaning)
    return Item("words", ("words", *stems))


def _is_formula(token: Token) -> bool:
    """Whether a sign belongs to a formula and not to a phrase."""
    if token.text in (r"\circ", r"\quad", r"\{", r"\}", r"\ldots", r"\cdot"):
        return False
    return token.text.startswith("\\") or token.text in ("=", "<", ">", "^", "_", "&", "|")


# "(" and ")" count: "3 (or possibly 4)" is no plain "3 or possibly 4".
_PUNCTUATION = frozenset([",", ";", ":", "'", '"', "-", "{", "}", r"\quad", "!", "?"])


def _stem(word: str) -> str:
    is_plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if is_plural else word


def is_word(token: Token) -> bool:
    """Whether a run of letters that is a whole answer is a word and no product of letters."""
    run = token.text
    if token.kind != "letters" or len(run) < 2 or run in FUNCTIONS or rf"\{run}" in SYMBOLS:
        return False
    if token.in_text or len(run) > 4 or run.lower() in SHORT_WORDS:
        return True
    # A product has few letters, mostly in the order of the alphabet: ab, xyz, abcd.
    if not set(run) - set("IVX"):
        # Roman numerals: IV is not VI.
        return True
    if not (run.islower() or run.isupper() or run.istitle()):
        # nRT is a product.
        return False
    is_sorted = list(run) == sorted(run)
    if len(run) == 2 or (is_sorted and run.islower()):
        return False
    return len(run) == 4 or not run.islower() or any(letter in "aeiou" for letter in run)


def read_based(tokens: Sequence[Token]) -> Item | None:
    """A numeral with its base: ``52_8``, ``1A_{16}``, ``52 (base 8)``; None for anything else."""
    sign = "-" if tokens[0].text == "-" else ""
    tokens = tokens[len(sign) :]
    tokens = _without_brackets(tokens)
    digits = ""
    position = 0
    while position < len(tokens) and _is_digits(tokens[position]):
        if position and tokens[position].spaced:
            break
        digits += tokens[position].text
        position += 1
    rest = [token.text.lower() for token in tokens[position:] if token.text not in "{}()"]
    if not digits or not digits[0].isalnum() or not rest:
        return None
    if rest[0] == "_" or rest[:2] == ["in", "base"]:
        rest = rest[1:]
    elif rest[0] != "base":
        return None
    rest = rest[1:] if rest and rest[0] == "base" else rest
    if len(rest) != 1:
        return None
    base = NUMBER_WORDS.get(rest[0]) or (int(rest[0]) if rest[0].isdecimal() else 0)
    if any(map(str.islower, digits)) and (base != 16 or not digits[0].isdecimal()):
        # 2a_3 is twice a term of a sequence.
        return None
    digits = digits.lower()
    if not 2 <= base <= 36 or (not digits[0].isdecimal() and tokens[position].text != "_"):
        return None
    if base == 10 and digits.isdecimal():
        node = parse_expression([tokens[0]._replace(kind="number", text=sign + digits)])
        return Item("expression", value_of(node), node)
    if digits.isalpha() and len(digits) == 1:
        # x_8 is a symbol.
        return None
    return Item("based", ("based", sign + (digits.lstrip("0") or "0"), base))


def _is_digits(token: Token) -> bool:
    if token.kind == "number":
        return "e" not in token.text.lower()
    is_digit = token.text.isupper() or not set(token.text) - set("abcdef")
    return token.kind == "letters" and is_digit and len(token.text) <= 8


def _without_brackets(tokens: Sequence[Token]) -> Sequence[Token]:
    """(132)_5 as 132_5."""
    texts = [token.text for token in tokens[:4]]
    is_numeral = texts[:1] == ["("] and texts[2:] == [")", "_"] and tokens[1].text.isalnum()
    return [tokens[1], *tokens[3:]] if is_numeral else tokens


def read_ratio(tokens: Sequence[Token]) -> Item | None:
    """A ratio or a time of day, such as ``3:4:5`` and ``9:30 a.m.``; None for anything else."""
    meridian = ""
    if tokens[-1].text.lower() in MERIDIANS and tokens[-1].kind == "letters":
        meridian = tokens[-1].text.lower()
        tokens = tokens[:-1]
    parts, _ = split_at(tokens, lambda token: token.text == ":")
    if len(parts) < 2 and not meridian:
        return None
    if meridian:
        return _time(parts, meridian)
    return ratio_of(parts)


def ratio_of(parts: Sequence[Sequence[Token]]) -> Item:
    """The ratio of several terms.

    Raises:
      Unread: if a term is no expression.
    """
    digits = ":".join("".join(token.text for token in part) for part in parts)
    if clock_of(digits) is not None and int(digits.rpartition(":")[2]) == 0:
        # 5:00 can only be a time of day.
        return Item("ratio", ("clock", clock_of(digits)), name=digits)
    try:
        nodes = [parse_expression(part) for part in parts]
        quotients = [value_of(Node("divide", children=(node, nodes[-1]))) for node in nodes[:-1]]
        terms = tuple(Item("expression", value_of(node), node) for node in nodes)
    except (Unparsed, Undefined) as error:
        raise Unread(str(error)) from error
    return Item("ratio", ("ratio", *quotients), items=terms, name=digits)


def _time(parts: Sequence[Sequence[Token]], meridian: str) -> Item:
    """A time of day with a.m. or p.m.: the second of the day."""
    fields = []
    for part in parts:
        if len(part) != 1 or not part[0].text.isdecimal() or len(part[0].text) > 2:
            raise Unread("no time of day")
        fields.append(int(part[0].text))
    hour, minute, second = [*fields, 0, 0][:3]
    if len(fields) > 3 or not 0 <= hour <= 23 or minute > 59 or second > 59:
        raise Unread("no time of day")
    if hour <= 12:
        hour = hour % 12 + 12 * (meridian == "pm")
    return Item("time", ("time", 3600 * hour + 60 * minute + second))


def clock(item: Item) -> int | None:
    """The second of the day that a ratio reads as, such as 9:24; None if it is no time of day."""
    return clock_of(item.name)


def clock_of(digits: str) -> int | None:
    """The second of the day of 9:24 or 4:51:06, else None."""
    fields = digits.split(":")
    if not 2 <= len(fields) <= 3 or not all(field.isdecimal() for field in fields):
        return None
    if not 1 <= len(fields[0]) <= 2 or any(len(field) != 2 for field in fields[1:]):
        return None
    hour, minute, second = [*map(int, fields), 0][:3]
    if minute > 59 or second > 59 or hour > 24:
        return None
    return 3600 * hour + 60 * minute + second


def is_reduced(item: Item) -> bool:
    """Whether the terms of a ratio of integers have no common factor, so that it is no time."""
    fields = item.name.split(":")
    return not all(field.isdecimal() for field in fields) or math.gcd(*map(int, fields)) <= 1
