"""Answers compared as text, but for case, white space and the way a number is written."""

import re
import unicodedata
from collections.abc import Sequence

from ccpo_jax.verifiers.extraction import Mark, own_text, revised_answer
from ccpo_jax.verifiers.types import Context

# The end of a sentence, for "the answer is"; a label such as "Answer:" speaks for its whole line.
_SENTENCE_END = re.compile(
    r"(?<!\bDr)(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bSt)(?<!\bProf)(?<!\bMt)(?<!\bNo)(?<!\bvs)"
    r"\.(?=[\s*_]|$)|。"
)

# Adverbs before an answer.
_ADVERB = re.compile(r"\A(?:therefore|thus|hence|then|simply|just|exactly|indeed)\b[\s,:]*")

# Markup around an answer, on both sides: emphasis, quotes, delimiters of formulas, a text command.
_WRAPPED = re.compile(
    r"(\*{1,3}|_{1,2}|`{1,3}|\"|\${1,2})(?P<plain>.+)\1|“(?P<quoted>.+)”"
    r"|\\\((?P<inline>.+)\\\)|\\\[(?P<display>.+)\\\]"
    r"|\\(?:text|textbf|mathrm|mbox|boxed|mathbf)\s*\{(?P<command>[^{}]+)\}"
)

# A number in plain digits, with or without thousands commas: sign, whole part, fraction.
_NUMBER = re.compile(r"([-+]?)(\d{1,3}(?:,\d{3})+|\d+)?(?:\.(\d*))?")

# A refusal to answer. It counts as no answer: two unsure agents must not outvote one that knows.
_UNSURE = re.compile(r"(?i:(?:i am |i'm )?(?:unsure|not sure)|i (?:do not|don't) know)[.!]?")


def extract_exact(text: str, context: Context) -> str | None:
    """What the last mark of an answer marks, whatever it is; without a mark, the last line.

    The marks are those of "math": tags, boxes and announcements. "unsure" and "I don't know" count
    as no answer: in a vote they abstain.
    """
    text, marks = own_text(text)
    if marks:
        answer = _last_marked(text, marks)
    else:
        answer = _without_markup(text.strip().rpartition("\n")[2])
    return None if not answer or _UNSURE.fullmatch(answer) else answer


def marked_answer(text: str) -> tuple[bool, str | None]:
    """Whether a text marks an answer, and which one: None where it says that it has none, as a text
    of "I don't know" alone does.

    Example:
      >>> marked_answer("So the answer is **Paris**."), marked_answer("Paris it is")
      ((True, 'Paris'), (False, None))
    """
    text, marks = own_text(text)
    if not marks:
        return _UNSURE.fullmatch(text.strip()) is not None, None
    answer = _last_marked(text, marks)
    return True, None if not answer or _UNSURE.fullmatch(answer) else answer


def _last_marked(text: str, marks: Sequence[Mark]) -> str:
    """What the last mark marks, "" where there is none."""
    answer = ""
    for mark in reversed(marks):
        revised = revised_answer(text, mark)
        answer = _marked(text, mark) if revised is None else revised
        if answer or revised is not None:
            break
    return answer


def _marked(text: str, mark: Mark) -> str:
    """What a mark marks, without the markup around it."""
    if mark.kind in ("tag", "box", "confirmed"):
        return _without_markup(mark.content)
    line = text[mark.end :].lstrip(" \t*_\r\n>").partition("\n")[0].rstrip()
    if mark.kind == "clause":
        line = _SENTENCE_END.split(_ADVERB.sub("", line, count=1), maxsplit=1)[0]
    # The closing of what was opened before the announcement: **Answer: 24**.
    if line.count("**") % 2 == 1:
        line = line.removesuffix("**")
    return _without_markup(line)


def _without_markup(answer: str) -> str:
    """An answer without emphasis, quotes, dollar signs or a text command around it."""
    answer = answer.strip()
    for _ in range(4):
        wrapped = _WRAPPED.fullmatch(answer) or _WRAPPED.fullmatch(answer.removesuffix("."))
        if wrapped is None:
            break
        answer = wrapped[wrapped.lastgroup or 0].strip()
    return answer


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
    words = " ".join(unicodedata.normalize("NFC", _without_markup(answer)).casefold().split())
    if words.endswith((".", "。")):
        words = words[:-1].rstrip()

    number = _NUMBER.fullmatch(words)
    if number is None or not any(map(str.isdigit, words)):
        return words
    whole = (number[2] or "0").replace(",", "").lstrip("0") or "0"
    fraction = (number[3] or "").rstrip("0")
    is_zero = whole == "0" and not fraction
    sign = "-" if number[1] == "-" and not is_zero else ""
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
