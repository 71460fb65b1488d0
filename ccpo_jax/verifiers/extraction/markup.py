r"""LaTeX and other markup around answers: formulas, text commands, and what is prose.

Hostile texts must not make a pattern slow, here and in the files that read answers: quantifiers
are possessive (``*+``) or bounded wherever a text could otherwise be divided in several ways.
"""

import re
from typing import NamedTuple

# A LaTeX command that only sets the type of its text, such as \text{cm}; the group is the text.
TEXT_COMMAND = r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mbox)\s*\{([^{}]*)\}"

# Names of functions and the like have letters, but do not make a phrase prose.
FUNCTION = r"(?:sqrt|sin|cos|tan|sec|csc|cot|log|ln|exp|arcsin|arccos|arctan|pi|inf|mod)"

# LaTeX's delimiters of a formula; \$ is a dollar.
_OPENING = re.compile(r"\$\$|\\\[|\\\(|(?<!\\)\$")
_INLINE = ("$", r"\(")
_CLOSINGS = {"$$": "$$", r"\[": r"\]", r"\(": r"\)"}
_CLOSING_DOLLAR = re.compile(r"(?:[^$\\]|\\.)++\$", re.DOTALL)
# "\\$ =" within a formula: the dollar sign should have closed one formula before the equals sign.
_MISTYPED_CLOSING = re.compile(r"\\\$\s{0,4}=\s{0,4}")
_MAX_FORMULA_CHARS = 4000

# What is not prose, although it has letters.
_NOT_PROSE = re.compile(
    rf"\\(?:text|mathrm|mbox|begin|end|operatorname)\s*\{{[^{{}}]*\}}|\\[A-Za-z]+|\b(?:{FUNCTION}|and)\b"
)


class Formula(NamedTuple):
    """A formula in LaTeX's delimiters: its positions in the text and what is between them."""

    start: int
    end: int
    content: str


def formula_at(text: str, position: int) -> Formula | None:
    r"""The formula that begins here. In "$18 and then $5" none does: these are dollars.

    Neither does one where an inline formula begins with a line break: these are stray signs.

    Example:
      >>> formula_at(r"\(x+1\) is", 0).content, formula_at("$18 and then $5", 0)
      ('x+1', None)
    """
    formula = _delimited(text, position)
    return None if formula is None or is_broken(text, formula) else formula


def _delimited(text: str, position: int) -> Formula | None:
    """What stands between two delimiters, if it is not money."""
    opening = _OPENING.match(text, position)
    if opening is None:
        return None
    begin = opening.end()
    limit = begin + _MAX_FORMULA_CHARS
    if opening[0] == "$":
        closing = _CLOSING_DOLLAR.match(text, begin, limit)
        close = closing.end() - 1 if closing else -1
        end = close + 1
    else:
        close = text.find(_CLOSINGS[opening[0]], begin, limit)
        end = close + 2
    if close < 0:
        return None

    content = _MISTYPED_CLOSING.split(text[begin:close])[-1].strip()
    if opening[0] == "$" and _is_money(content, text[end : end + 1]):
        return None
    return Formula(position, end, content) if content else None


def is_broken(text: str, formula: Formula) -> bool:
    r"""Whether an inline formula has a line break behind its opening: $ and \( are not for that."""
    if text.startswith("$$", formula.start):
        return False
    for opening in _INLINE:
        if text.startswith(opening, formula.start):
            begin = formula.start + len(opening)
            return text[begin : formula.end].lstrip(" \t").startswith("\n")
    return False


def _is_money(content: str, following: str) -> bool:
    """Whether what stands between two dollar signs are an amount and words, not a formula."""
    if not content[:1].isdigit():
        return False
    return following.isdigit() or is_prose(content, min_letters=3)


def formulas_in(text: str) -> list[Formula]:
    """The formulas of a text in order, broken ones included."""
    formulas: list[Formula] = []
    position = 0
    while opening := _OPENING.search(text, position):
        formula = _delimited(text, opening.start())
        if formula:
            formulas.append(formula)
        position = formula.end if formula else opening.end()
    return formulas


def is_prose(phrase: str, *, min_letters: int) -> bool:
    """Whether a phrase has a word of so many letters, besides commands and names of functions."""
    words = _NOT_PROSE.sub(" ", phrase)
    return re.search(rf"[A-Za-z]{{{min_letters},}}", words) is not None
