"""The options of a problem: their letters, and their texts where a text gives these instead."""

import re
import string
from collections.abc import Sequence
from typing import NamedTuple

from ccpo_jax.verifiers.choice.before import COPULA, is_announced, is_void
from ccpo_jax.verifiers.choice.behind import is_taken_back
from ccpo_jax.verifiers.choice.markup import plain_text
from ccpo_jax.verifiers.choice.statements import Statement
from ccpo_jax.verifiers.types import Context

# What announces an answer in words; how long one may be, and how many, the last, are read.
_PHRASE_START = re.compile(
    rf"(?i)\b(?P<noun>answers?|(?:correct|right|best) \w{{1,20}})\b[^.!?:;\n]{{0,60}}?"
    rf"(?:{COPULA}|:)"
    r"[ \t]*+:?\s*+|\bboxed: \{|答案\]?[ ]*+(?:应该?)?[是为]?[ ]*+:?\s*+"
)
_BEFORE = 60
_BEHIND = 160
_MAX_CHARS = 2000
_MAX_PHRASES = 20

# What may stand before the text of an option: "The answer is that it rains".
_THAT = re.compile(r"(?i)that\s++")

# A label before the text of its option, and what sets an option against another.
_LABEL = re.compile(r"[(\[]?([A-Z])[)\].:]++\s*+(?=\S)")
_CONTRAST = re.compile(r"(?:and )?(?:not|rather than|instead of)\b")

# What keeps two announcements of one sentence apart: a new sentence, or a correction.
_APART = re.compile(r"(?i)[.!?;\n]|\b(?:no|not|but|wait|actually|rather|instead|now)\b")

# Signs that do not tell the texts of two options apart.
_IGNORED = re.compile(r"[\s.,;:!?#$*_`\"'{}]|\\(?:text|mathrm|textbf|left|right)\b")


def known_letters(context: Context) -> Sequence[str]:
    """The letters of the options, all letters where the options are not known."""
    return list(string.ascii_uppercase[: len(context.options) or None])


def find_options(text: str, context: Context) -> list[Statement]:
    """Statements that give the text of exactly one option in place of its letter."""
    if not context.options:
        return []
    labels = [letter.casefold() for letter in known_letters(context)]
    option_texts = [_normalize(plain_text(option)) for option in context.options]
    # A letter is a label, even where another option consists of it.
    readable = [words if words not in labels else "" for words in option_texts]

    statements = []
    previous: _Phrase | None = None
    for phrase in _find_phrases(text):
        found = _labelled_option(phrase, context) or _option_of(text, phrase, readable, context)
        if found is not None:
            index, end = found
            letter: str | None = string.ascii_uppercase[index]
            if previous and _is_joined(text, previous, phrase, readable, index):
                letter = None
            # Letters inside the option are part of it, not statements that follow.
            statements.append(Statement(end, letter, "stated"))
        previous = phrase
    return statements


class _Phrase(NamedTuple):
    """Words that may be the text of an option.

    Attributes:
      announced: where their announcement begins in the text.
      start: where they begin.
      words: the words, up to the end of their line or paragraph.
    """

    announced: int
    start: int
    words: str


def _labelled_option(phrase: _Phrase, context: Context) -> tuple[int, int] | None:
    """As `_option_of`, for an option behind its label: "A. F", or "B. No, it is not."."""
    match = _LABEL.match(phrase.words)
    if match is None or match[1] not in known_letters(context):
        return None
    index = string.ascii_uppercase.index(match[1])
    words = phrase.words[match.end() :]
    is_option = _normalize(plain_text(context.options[index])) == _normalize(words)
    return (index, phrase.start + len(phrase.words)) if is_option else None


def _option_of(
    text: str, phrase: _Phrase, options: Sequence[str], context: Context
) -> tuple[int, int] | None:
    """The index of the only option that a phrase gives, and where its text ends."""
    # The phrase is the rest of its line, or ends with its sentence or with a bracket.
    for end in ("", ". ", "}", ", "):
        part, _, rest = phrase.words.partition(end) if end else (phrase.words, "", "")
        words = _normalize(part)
        if words not in options:
            words = _normalize(_THAT.sub("", part, count=1))
        if not words or options.count(words) != 1:
            continue

        index = options.index(words)
        part_end = phrase.start + len(part)
        behind = text[part_end : part_end + _BEHIND]
        others = [other for other in options if other and other != words]
        if end in ("", "}"):
            rest = behind.lstrip("\n ")
        sentence = _normalize(re.split(r"[.!;](?:\s|\Z)|\n", rest, maxsplit=1)[0])
        is_list = sentence in others
        if end == ", " and not _CONTRAST.match(rest):
            is_list = any(other in sentence for other in others)
        is_asked = part.rstrip(" }.").endswith("?") and "?" not in context.options[index]
        return None if is_list or is_asked or is_taken_back(behind) else (index, part_end)
    return None


def _is_joined(
    text: str, first: _Phrase, second: _Phrase, options: Sequence[str], index: int
) -> bool:
    """Whether one sentence gives two options: "the answer is red and the answer is blue"."""
    between = text[first.start : second.announced]
    if _APART.search(between):
        return False
    words = _normalize(between)
    others = [other for other in options if other and other != options[index]]
    return any(words.startswith(other) for other in others)


def _find_phrases(text: str) -> list[_Phrase]:
    """The first paragraph, and what follows each announcement of an answer in its line.

    Example:
      >>> [phrase.words for phrase in _find_phrases("Clouds.\\n\\nAnswer: it rains.")]
      ['Clouds.', 'it rains.']
    """
    start = len(text) - len(text.lstrip())
    phrases = [_Phrase(start, start, text.strip().partition("\n\n")[0][:_MAX_CHARS])]
    for announcement in list(_PHRASE_START.finditer(text))[-_MAX_PHRASES:]:
        start = announcement.end()
        # Before the announcement as well: "If the answer were B, then it would be ...".
        preceding = text[max(0, announcement.start() - _BEFORE) : announcement.start()]
        before = preceding + announcement[0]
        if is_void(preceding) or is_void(before):
            continue
        if announcement["noun"] and not is_announced(before, ""):
            continue
        words = text[start : start + _MAX_CHARS].partition("\n")[0]
        phrases.append(_Phrase(announcement.start(), start, words.strip()))
    return phrases


def _normalize(text: str) -> str:
    return _IGNORED.sub("", text).casefold()
