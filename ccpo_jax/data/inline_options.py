"""Options that stand in the question's own text, with letters as golds: BBH, and exams as text."""

import re
import string

# (A) red, [A] red, A) red, A. red, A: red; at the beginning of a line or behind a blank.
_LABEL = re.compile(r"(?:^|(?<=\s))(?:\(([A-Z])\)|\[([A-Z])\]|([A-Z])[).:])(?=\s*\S)", re.MULTILINE)
_LETTER = re.compile(r"[(\[]?([A-Za-z])[)\].]?")


def letter_of(gold: str) -> str | None:
    """The letter that a gold is, None where it is something else.

    Example:
      >>> letter_of("(b)"), letter_of("blue")
      ('B', None)
    """
    letter = _LETTER.fullmatch(gold.strip())
    return letter[1].upper() if letter else None


def names_inline_option(question: str, gold: str) -> bool:
    """Whether a gold is the letter of an option that the question's text lists.

    The letters of the list follow one another from A, two at least.

    Example:
      >>> names_inline_option("Which is prime? (A) 8 (B) 7", "(B)")
      True
      >>> names_inline_option("Triangle A. B. C has which symbol?", "D")
      False
    """
    letter = letter_of(gold)
    if letter is None:
        return False
    found = {"".join(filter(None, groups)) for groups in _LABEL.findall(question)}
    count = 0
    while count < len(string.ascii_uppercase) and string.ascii_uppercase[count] in found:
        count += 1
    return count > 1 and letter in string.ascii_uppercase[:count]
