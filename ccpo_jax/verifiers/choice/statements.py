"""Which letters a text states as its answer: each is judged by the words before and behind it.

Every letter is either stated, or merely suggested ("It's C"), or neither. A question, a condition
and a negation state nothing. Texts are those of `markup.plain_text`.
"""

import re
from typing import NamedTuple

from ccpo_jax.verifiers.choice.before import (
    concludes,
    is_announced,
    is_denied,
    is_made,
    is_pointed_at,
    is_void,
    names_only_one,
    names_option,
)
from ccpo_jax.verifiers.choice.behind import (
    is_called_right,
    is_conditional,
    is_confirmed,
    is_made_right,
    is_question,
    is_rejected,
    is_taken_back,
    without_contrast,
)
from ccpo_jax.verifiers.choice.letters import SCRIPTS, Letters, find_letters

# How much of a text before and behind a letter is read to judge it.
_BEFORE = 160
_BEHIND = 80

# How many letters of a text are judged, the last ones; a text that settles on one names few.
_MAX_LETTERS = 1000

# What joins a second option to one that was stated: "(B) the rain and (C) the snow".
_ANOTHER = re.compile(r"[^.!?;\n]{0,200}?\b(?:and|or)(?: also)?(?: option)? ")

# What lies between two labels of one line, and behind the second of them.
_ROW = re.compile(
    r"\)?[ ,]*+(?!(?:because|since|as|and|but|which|that|so|for|not|while|though|although)\b)"
    r"[^.!?;:\n()]{1,80}?(?<!than)(?<!because)(?<!since)(?<!\bas)(?<!while)(?<!like)(?<!\bof)"
    r"(?<!\bto)(?<!option)(?<!choice)(?<!not)(?<!from)(?<!\band)(?<!with)(?<!\bin)(?<!,)"
    r"(?<!which)(?<!that)(?<!where)(?<!when)(?<!\bif)(?<!\bby)(?<!\bfor)(?<!\bon)(?<!\bat)"
    r"(?<!case)(?<!statement)(?<!both)(?<!only)(?<!but)(?<!over)(?<!unless)[ ,]+"
)
_IN_ROW = re.compile(r"(?:\w\)|\)) ?(?!(?:and|or|by|as|if)\b)\w")

# Nothing but letters, and the end of a line.
_ONLY_LETTERS = re.compile(r"[\s.)\]}>({\[]++(?:[A-Za-z][\s.)\]}>({\[]++)*+")
_LINE_END = re.compile(r"[.)\]}> \t]*+(?:\n|\Z)")

# What joins two statements of one sentence, unless it corrects the first.
_JOINED = re.compile(
    r"(?i)[\s)\]}>]*+(?:is (?:the )?(?:\w{1,20} )?(?:answer|option|choice))?"
    r"(?:,?\s*+(?:and|or|as well as|&)(?!\w)|,)"
    r"(?:(?!\b(?:no|not|but|wait|actually|rather|instead|sorry|correction|now)\b)[^.!?;\n])*+"
)

# A line, or the beginning of a text, that is a letter and at most words such as "so, option".
_LONE_PREFIX = re.compile(
    r"(?i)[\W_]*+(?:a:|(?:(?:so|thus|hence|therefore|final|correct|best|right|my|the|answer"
    r"|option|choice|letter|ans|is)\b[\s.,:-]*+)*+)[\s]*+"
)
_LONE_SUFFIX = re.compile(r"[)\]}>]*+(?:选项|项)?[\s.,:;!)\]}>]*+")

# What follows a letter that labels the text of an option, or a reason.
LABEL_SUFFIX = re.compile(
    rf"[.):\]}}>]+(?=\s|\Z|[A-Z]|{SCRIPTS})|[,\s]\s*+{SCRIPTS}|\s*[-–—:]\s"
    r"|,?\s+(?:because|since|as)\b|\s\("
)


class Statement(NamedTuple):
    """What a text says about one letter.

    Attributes:
      position: where in the text.
      letter: the letter; None where several are named at once.
      kind: "stated"; "right": called right, as each of several statements may be; "suggested".
    """

    position: int
    letter: str | None
    kind: str


def find_statements(text: str) -> list[Statement]:
    """What a text says about single letters, in order, without what it takes back later on.

    Example:
      >>> find_statements("Is it A? No, the answer is B.")
      [Statement(position=27, letter='B', kind='stated')]
    """
    statements: list[Statement] = []
    lines = _first_and_last_line(text)
    stated_end = 0
    for letters in find_letters(text)[-_MAX_LETTERS:]:
        letter = letters.letters[0] if len(letters.letters) == 1 else None
        # An announcement is for the first letter behind it: "The answer is (B) a plan of C".
        before = text[max(stated_end, letters.start - _BEFORE) : letters.start]
        behind = without_contrast(text[letters.end : letters.end + _BEHIND])

        if letter and (is_rejected(behind) or is_denied(before)):
            statements = [other for other in statements if other.letter != letter]
        if statements and _is_another(text, letters, before, statements[-1]):
            statements[-1] = statements[-1]._replace(letter=None)
            continue

        kind = "stated" if _stands_alone(text, letters, *lines) else _kind(letters, before, behind)
        if kind and not is_question(letters, behind) and not is_taken_back(behind):
            if kind == "stated" and statements and _is_joined(before, letter, statements[-1]):
                statements[-1] = statements[-1]._replace(letter=None)
                continue
            statements.append(Statement(letters.start, letter, kind))
            if kind == "stated":
                stated_end = letters.end
    return statements


def _is_another(text: str, letters: Letters, since_statement: str, stated: Statement) -> bool:
    """Whether a letter is named in one breath with the one that was stated before."""
    if stated.kind != "stated" or letters.letters == (stated.letter,):
        return letters.is_marked and _ANOTHER.fullmatch(since_statement) is not None
    if letters.is_marked and _ANOTHER.fullmatch(since_statement):
        return not is_rejected(text[letters.end : letters.end + _BEHIND])
    # "(A) red (B) blue" and "A) red B) blue" list options; "A. B." and "A", a line, "B" letters.
    stated_end = letters.start - len(since_statement)
    is_labelled = ")" in text[stated_end - 1 : stated_end + 1]
    is_label = _IN_ROW.match(text, letters.end - 1) is not None and not letters.is_subject
    if is_labelled and is_label and _ROW.fullmatch(since_statement):
        return True
    ends_line = _LINE_END.match(text, letters.end) is not None
    return ends_line and _ONLY_LETTERS.fullmatch(since_statement) is not None


def _is_joined(since_statement: str, letter: str | None, stated: Statement) -> bool:
    """Whether one sentence states two letters: "the answer is A and the answer is B"."""
    if stated.kind != "stated" or stated.letter == letter:
        return False
    return _JOINED.fullmatch(since_statement) is not None


def _kind(letters: Letters, before: str, behind: str) -> str | None:
    """What the words before and behind a letter make of it."""
    is_object = not letters.is_subject and not letters.is_item
    is_option = letters.is_marked or names_option(before)
    is_said = is_object and is_announced(before, behind)
    if is_said or is_confirmed(behind) or (is_made(before) and is_made_right(behind)):
        kind = "stated"
    elif is_called_right(behind, is_option=is_option, is_only=names_only_one(before)):
        kind = "stated" if concludes(before) else "right"
    elif is_object and is_pointed_at(before, behind):
        kind = "suggested"
    else:
        return None
    return None if is_void(before) or is_conditional(behind) else kind


def _first_and_last_line(text: str) -> tuple[int, int, int]:
    """Where the first line begins and ends that is not empty, and where the last begins."""
    stripped = text.rstrip()
    first_start = len(text) - len(text.lstrip())
    first_end = stripped.find("\n", first_start)
    last_start = stripped.rfind("\n") + 1
    return first_start, first_end if first_end >= 0 else len(stripped), last_start


def _stands_alone(
    text: str, letters: Letters, first_start: int, first_end: int, last_start: int
) -> bool:
    """Whether a letter is all of the last line, or begins the text as the label of an option."""
    if letters.is_item or letters.is_subject:
        return False
    begins_last_line = letters.start >= last_start and _LONE_PREFIX.fullmatch(
        text, last_start, letters.start
    )
    if begins_last_line and _LONE_SUFFIX.fullmatch(without_contrast(text[letters.end :])):
        return True
    if letters.start < first_end and _LONE_PREFIX.fullmatch(text, first_start, letters.start):
        is_line = _LONE_SUFFIX.fullmatch(text, letters.end, first_end) is not None
        return is_line or letters.is_marked or LABEL_SUFFIX.match(text, letters.end) is not None
    return False
