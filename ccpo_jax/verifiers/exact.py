"""Answers compared as text, but for case, white space and the way a number is written."""

import re

from ccpo_jax.verifiers.extraction import last_boxed
from ccpo_jax.verifiers.types import Context

# "Answer:" with or without bold type.
_ANNOUNCEMENT = re.compile(r"(?i)\banswer\**\s*:\**")

# A number in plain digits, with or without thousands commas: sign, whole part, fraction.
_NUMBER = re.compile(r"([-+]?)(\d{1,3}(?:,\d{3})+|\d+)?(?:\.(\d*))?")

# A refusal to answer. It counts as no answer: two unsure agents must not outvote one that knows.
_UNSURE = re.compile(r"(?i:(?:i am |i'm )?(?:unsure|not sure)|i (?:do not|don't) know)[.!]?")


def extract_exact(text: str, context: Context) -> str | None:
    """The rest of the line after the last "Answer:", else the last line.

    A box that comes later than "Answer:" takes its place. "unsure" and "I don't know" count as no
    answer: in a vote they abstain.
    """
    answer = ""
    position = -1
    for announcement in _ANNOUNCEMENT.finditer(text):
        answer = text[announcement.end() :].strip().partition("\n")[0].strip()
        position = announcement.end()

    boxed = last_boxed(text)
    if boxed is not None and text.rfind(r"\boxed") > position:
        answer = boxed
    if boxed is None and position < 0:
        answer = text.strip().rpartition("\n")[2].strip()
    return None if not answer or _UNSURE.fullmatch(answer) else answer


def equivalent_exact(gold: str, answer: str, context: Context) -> bool:
    """Whether two answers differ only in case, blanks, a final stop or the form of a number."""
    return _canonical(gold) == _canonical(answer)


def exact_value(answer: str, context: Context) -> str:
    """The answer in the spelling that all equal answers share."""
    return _canonical(answer)


def same_exact(first: str, second: str, context: Context) -> bool:
    """Whether two answers are equal."""
    return _canonical(first) == _canonical(second)


def check_exact(gold: str, context: Context) -> str | None:
    """None, unless the gold says that the answer is not known: then no answer can equal it."""
    is_unsure = _UNSURE.fullmatch(gold.strip()) is not None
    return "not an answer: it says that the answer is not known" if is_unsure else None


def _canonical(answer: str) -> str:
    """One spelling for all equal answers: 1,250.0 becomes 1250.

    Numbers are compared digit by digit and not by value, so no number is too long.
    """
    words = " ".join(answer.casefold().split())
    if words.endswith("."):
        words = words[:-1].rstrip()

    number = _NUMBER.fullmatch(words)
    if number is None or not any(map(str.isdigit, words)):
        return words
    whole = (number[2] or "0").replace(",", "").lstrip("0") or "0"
    fraction = (number[3] or "").rstrip("0")
    is_zero = whole == "0" and not fraction
    sign = "-" if number[1] == "-" and not is_zero else ""
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
