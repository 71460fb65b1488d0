"""The options of a problem: their letters, and their texts where a text gives these instead."""

import re
import string
from collections.abc import Sequence

from ccpo_jax.verifiers.choice.before import COPULA, is_announced, is_void
from ccpo_jax.verifiers.choice.markup import plain_text
from ccpo_jax.verifiers.choice.statements import Statement
from ccpo_jax.verifiers.types import Context

# What announces an answer in words; how long one may be, and how many, the last, are read.
_PHRASE_START = re.compile(
    rf"(?i)\b(?P<noun>answers?|(?:correct|right|best) \w{{1,20}})\b[^.!?:;\n]{{0,60}}?"
    rf"(?:{COPULA}|:)"
    r"[ \t]*+:?\s*+|\bboxed: \{"
)
_BEFORE = 60
_MAX_CHARS = 2000
_MAX_PHRASES = 20

# Signs that do not tell the texts of two options apart.
_IGNORED = re.compile(r"[\s.,;:!?#$*_`\"'{}]|\\(?:text|mathrm|textbf|left|right)\b")


def known_letters(context: Context) -> Sequence[str]:
    """The letters of the options, all letters where the options are not known."""
    return list(string.ascii_uppercase[: len(context.options) or None])


def find_options(text: str, context: Context) -> list[Statement]:
    """Statements that give the text of exactly one option in place of its letter."""
    if not context.options:
        return []
    option_texts = [_normalize(plain_text(option)) for option in context.options]
    labels = [letter.casefold() for letter in known_letters(context)]

    statements = []
    for position, phrase in _find_phrases(text):
        # The phrase is the rest of its line, or ends with its sentence or with a bracket.
        for end in ("", ". ", "}", ", "):
            part = phrase.partition(end)[0] if end else phrase
            words = _normalize(part)
            # A letter is a label, even where another option consists of it.
            if words and words not in labels and option_texts.count(words) == 1:
                letter = string.ascii_uppercase[option_texts.index(words)]
                # Letters inside the option are part of it, not statements that follow.
                statements.append(Statement(position + len(part), letter, "stated"))
                break
    return statements


def _find_phrases(text: str) -> list[tuple[int, str]]:
    """The first paragraph, and what follows each announcement of an answer in its line.

    Each with its position.

    Example:
      >>> _find_phrases("Clouds.\\n\\nAnswer: it rains.")
      [(0, 'Clouds.'), (17, 'it rains.')]
    """
    phrases = [(0, text.strip().partition("\n\n")[0][:_MAX_CHARS])]
    for announcement in list(_PHRASE_START.finditer(text))[-_MAX_PHRASES:]:
        start = announcement.end()
        before = text[max(0, announcement.start() - _BEFORE) : start]
        if announcement["noun"] and (is_void(before) or not is_announced(before, "")):
            continue
        phrase = text[start : start + _MAX_CHARS].partition("\n")[0]
        phrases.append((start, phrase.strip()))
    return phrases


def _normalize(text: str) -> str:
    return _IGNORED.sub("", text).casefold()
