r"""Where a text states its answer: in its last box, or after words such as "the answer is".

Hostile texts must not make a pattern slow, so quantifiers are possessive (``*+``) wherever a run of
spaces or asterisks could otherwise be divided in several ways.
"""

import re

from ccpo_jax.boxes import last_boxed as last_boxed
from ccpo_jax.verifiers.reasoning import strip_reasoning as strip_reasoning

# A LaTeX command that only sets the type of its text, such as \text{cm}; the group is the text.
TEXT_COMMAND = r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mbox)\s*\{([^{}]*)\}"

# A formula between LaTeX's delimiters: $$...$$, \[...\], \(...\) or $...$, but not \$.
_FORMULA = re.compile(
    r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<!\\)\$(.+?)(?<!\\)\$", re.DOTALL
)

# What may stand between the formulas of one answer: "$x=1$, $x=2$ and $x=3$".
_SEPARATOR = re.compile(r"\s*+(?:;|,\s*+(?:(?:and|or)\b)?|(?:and|or)\b)\s*+")

# Words that announce an answer: "answer is", "answer to this is:", "**Answer:**", "answer =", or
# GSM8K's "####". Between "answer" and "is" may stand at most 60 characters of the same clause.
_ANNOUNCEMENT = re.compile(r"(?i)\banswer\b(?:[^.:=\n]{0,60}?\bis\b:?|\**\s*+[:=])[\s*]*+|####\s*+")

# A number as prose writes it: "-3", "$1,234.50", "3/4", "20%".
_NUMBER = re.compile(
    r"[-+]?\s*+(?:\\?[$€£]\s*+)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s*+/\s*+\d+)?(?:\s*+\\?%)?"
)

# The end of the sentence that states an answer; the point of 3.14 is not one.
_SENTENCE_END = re.compile(r"\.(?=[\s*]|$)|;|\n")

# LaTeX commands and function names have letters, but do not make a phrase prose.
_COMMAND = re.compile(r"\\(?:text|mathrm|mbox)\s*\{[^{}]*\}|\\[A-Za-z]+")
_FUNCTION = re.compile(
    r"\b(?:sqrt|sin|cos|tan|sec|csc|cot|log|exp|arcsin|arccos|arctan|and|pi|inf)\b"
)


def last_stated(text: str) -> str | None:
    """What follows the last "answer is", "Answer:" or "####".

    Without any of these, the last line if it is mathematics alone.

    Example:
      >>> last_stated("The answer is $x=1$ or $x=2$, as shown."), last_stated("Answer: 5 apples.")
      ('x=1, x=2', '5')
      >>> last_stated("Hm") is None
      True
    """
    announcements = list(_ANNOUNCEMENT.finditer(text))
    if announcements:
        return _announced(text[announcements[-1].end() :])
    return _lone_formula(text)


def _announced(rest: str) -> str | None:
    """The answer at the beginning of what follows an announcement."""
    formulas = []
    position = 0
    while formula := _FORMULA.match(rest, position):
        formulas.append(_content(formula))
        separator = _SEPARATOR.match(rest, formula.end())
        position = separator.end() if separator else len(rest)
    if formulas:
        return ", ".join(formulas)

    phrase = _SENTENCE_END.split(rest, maxsplit=1)[0].strip(" \t*`_")
    number = _NUMBER.match(phrase) if _is_prose(phrase, min_letters=3) else None
    answer = number[0].strip().rstrip(",") if number else phrase
    return answer or None


def _lone_formula(text: str) -> str | None:
    """The last line, if it is one formula or has no words and no equation."""
    line = text.strip().rpartition("\n")[2].strip(" *")
    formula = _FORMULA.fullmatch(line)
    if formula:
        return _content(formula) or None
    if "=" in line or "box" in line or _is_prose(line, min_letters=2):
        return None
    return line or None


def _content(formula: re.Match[str]) -> str:
    """What stands between the delimiters: the one group that took part in the match."""
    return formula[formula.lastindex or 0].strip()


def _is_prose(phrase: str, *, min_letters: int) -> bool:
    """Whether a phrase has a word of so many letters, besides commands and names of functions."""
    words = _FUNCTION.sub(" ", _COMMAND.sub(" ", phrase))
    return re.search(rf"[A-Za-z]{{{min_letters},}}", words) is not None
