"""What a text that marks no answer ends with: what its program printed, or its last expression."""

import re
from collections.abc import Sequence

from ccpo_jax.verifiers.extraction.expressions import expression_at, last_expression
from ccpo_jax.verifiers.extraction.markup import Formula, formulas_in, is_broken

# What a program printed, and what a text may still say after it.
_OUTPUT = re.compile(r"```output[^\S\n]*+\n([^`]{1,400}+)```")
_MAX_CHARS_AFTER_OUTPUT = 300

_BETWEEN_FORMULAS = re.compile(r"\s{0,8}+(?:[,;]\s{0,8}+(?:(?:and|or)\b)?|(?:and|or)\b)\s{0,8}+")
# 9m² is 9 m².
_JOINED_UNIT = re.compile(r"(?<=\d)(?=[a-z]{1,2}[²³]$)")

_ONES = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
_SMALL: Sequence[str] = f"zero {_ONES} sixteen seventeen eighteen nineteen".split()
_TENS: Sequence[str] = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_NUMBER_WORD = re.compile(
    rf"(?i)\b(?:(?P<tens>{'|'.join(_TENS)})(?:[- ](?P<ones>{'|'.join(_ONES.split()[:9])}))?"
    rf"|(?P<small>{'|'.join(_SMALL)}))\b"
)


def last_resort(text: str) -> str | None:
    """The last expression of a text, or what its program printed; None where there is neither.

    Example:
      >>> last_resort("Adding 3 and $4$ gives $7$."), last_resort("She sold 5, so 12 are left.")
      ('7', '12')
      >>> last_resort("Three trucks are needed."), last_resort("Hm")
      ('3', None)
    """
    outputs = list(_OUTPUT.finditer(text))
    if outputs and len(text) - outputs[-1].end() <= _MAX_CHARS_AFTER_OUTPUT:
        printed = outputs[-1][1].strip().rpartition("\n")[2].strip()
        if printed:
            return printed

    formulas = formulas_in(text)
    tail = text[formulas[-1].end :] if formulas else text
    plain = last_expression(tail)
    if plain is not None:
        return _JOINED_UNIT.sub(" ", plain)
    if formulas and is_broken(text, formulas[-1]):
        return None
    if formulas:
        return _joined_formulas(text, formulas)
    return _number_in_words(text)


def _joined_formulas(text: str, formulas: list[Formula]) -> str:
    """The last formula, with those that a comma, "and" or "or" joins to it."""
    last = expression_at(text, formulas[-1].start)
    contents = [last.content if last else formulas[-1].content]
    following = formulas[-1]
    for formula in reversed(formulas[:-1]):
        if not _BETWEEN_FORMULAS.fullmatch(text, formula.end, following.start):
            break
        contents.insert(0, formula.content)
        following = formula
    return ", ".join(contents)


def _number_in_words(text: str) -> str | None:
    """The number that the last line has in words, if it is the only one."""
    numbers = list(_NUMBER_WORD.finditer(text.strip().rpartition("\n")[2]))
    if len(numbers) != 1:
        return None
    (number,) = numbers
    if number["small"]:
        return str(_SMALL.index(number["small"].lower()))
    tens = 10 * (_TENS.index(number["tens"].lower()) + 2)
    ones = _SMALL.index(number["ones"].lower()) if number["ones"] else 0
    return str(tens + ones)
