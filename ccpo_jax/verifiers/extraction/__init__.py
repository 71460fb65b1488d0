r"""Where a text states its answer: in a tag, in a box, or after words such as "the answer is".

The last statement counts, so a text may correct itself. What stands in a thought is never read
(`reasoning`), nor what follows the answer as the next question of a list of examples.
"""

import re
from typing import NamedTuple

from ccpo_jax.boxes import find_boxes, joined_boxes
from ccpo_jax.boxes import last_boxed as last_boxed
from ccpo_jax.verifiers.extraction.announcements import announcements_in, tags_in
from ccpo_jax.verifiers.extraction.changes import are_parts, is_changed
from ccpo_jax.verifiers.extraction.corrections import (
    contrast_at,
    correction_at,
    is_denied_before,
    without_struck_out,
)
from ccpo_jax.verifiers.extraction.expressions import expression_at
from ccpo_jax.verifiers.extraction.last_line import answer_of_last_line
from ccpo_jax.verifiers.extraction.lenient import last_resort
from ccpo_jax.verifiers.extraction.markup import TEXT_COMMAND as TEXT_COMMAND
from ccpo_jax.verifiers.extraction.statements import Statement, statement_at
from ccpo_jax.verifiers.extraction.values import (
    NO_SINGLE_VALUE,
    begin_of_answer,
    hedged_values,
    values_at,
    values_of_next_lines,
)
from ccpo_jax.verifiers.reasoning import strip_reasoning
from ccpo_jax.verifiers.types import Context

# What a calculator was asked in GSM8K's solutions: 6*3=<<6*3=18>>18.
_CALCULATOR = re.compile(r"<<[^<>\n]{1,100}>>")

# Special tokens that end a response; what follows is no longer part of it.
_END_TOKEN = re.compile(
    r"<(?:\|(?:im_end|im_start|endoftext|end_of_text|eot_id|eom_id|end|return|end_of_solution"
    r"|END_RESPONSE)\||/s|eos|end_of_turn|｜end▁of▁sentence｜)>|\[INST\]"
)
# The next question, where a response goes on with a list of examples. "Q:" and the names of
# speakers always begin one; "Question:" may also repeat the question that is being answered.
_NEXT_TURN = re.compile(
    r"\n[ \t]{0,3}#{1,6}[ \t]{0,2}(?:Instruction|Input|Human|User|Question|Task)s?"
    r"[ \t]*+:?[ \t]*+\n"
    r"|\n[ \t#*_>]{0,6}(?:Q|Human|User|HUMAN|USER|问)[*_]{0,2}\s?\d*[:：]"
)
_NEXT_QUESTION = re.compile(
    r"\n[ \t#*_>]{0,6}(?:Question|Problem|Exercise|Instruction|QUESTION|PROBLEM|问题|题目)"
    r"[*_]{0,2}[ \t]{0,2}#?\d*[.)]?[*_]{0,2}\s?[:：]"
)

# "Thus $x \le 2$ is our answer", and the value before these words.
_CONFIRMING = (re.compile(r"answer\b"), re.compile(r"solution\b"))
_CONFIRMED = re.compile(
    r"(?P<value>\$[^$\n]{1,300}\$|\\\([^\n]{1,300}?\\\)"
    r"|(?<![\w.,/])[-+]?[$€£]?\d[\d,]*+(?:\.\d+)?(?:/\d+)?%?)[*_\s]{0,4}(?:[a-z]{1,12} ){0,2}"
    r"[ia]s (?:the|our|my) (?:[a-z]{1,10} ){0,2}\Z"
)
_OWN_BEFORE = re.compile(r"\b(?:the|our|my) (?:[a-z]{1,10} ){0,2}\Z")
_MAX_CONFIRMED_CHARS = 380
_ANOTHER_BEFORE = re.compile(r"(?:\bor|\band|\d\s?[,/])\s*$")

_END_OF_FORMULA = re.compile(r"[\s}]{0,8}+(?:\$\$|\$|\\\)|\\\])?")

# Marks that state nothing are passed over, but not endlessly.
_MAX_MARKS = 20


class Mark(NamedTuple):
    """A place where a text marks an answer.

    Attributes:
      start: where the mark begins.
      end: where the answer begins, for an announcement; else where the mark ends.
      kind: "tag", "box", "label" ("Answer:"), "clause" ("the answer is") or "confirmed" ("5 is the
        answer").
      content: what stands in a tag or a box, or is confirmed; "" for an announcement.
      is_part: a box that is only a part of the answer, or one of two cases.
    """

    start: int
    end: int
    kind: str
    content: str
    is_part: bool = False


def extract_answer(text: str, context: Context) -> str | None:
    r"""The mathematics that a text states as its answer, None where it states none.

    The last statement counts. Words are an answer only where no mathematics is stated.

    Args:
      text: what an agent wrote.
      context: where its `extraction` is "lenient", a text that marks no answer answers with its
        last expression.

    Example:
      >>> extract_answer(r"First \boxed{42}, but no: the answer is $43$.", Context())
      '43'
      >>> extract_answer("Thus there are 12 ways.", Context()) is None
      True
      >>> extract_answer("Thus there are 12 ways.", Context(extraction="lenient"))
      '12'
    """
    text, marks = own_text(text)
    words = None
    for mark in reversed(marks):
        statement = _read(text, mark)
        if statement is not None and statement.is_value:
            return statement.answer or None
        if statement is not None and words is None:
            words = statement.answer

    answer = words
    if not marks or marks[-1].start <= text.rstrip().rfind("\n"):
        answer = answer_of_last_line(text) or words
    if answer is None and context.extraction == "lenient":
        answer = last_resort(text)
    return answer


def own_text(text: str) -> tuple[str, list[Mark]]:
    """A response without its thoughts and without what follows its end; its last marks."""
    text = without_struck_out(strip_reasoning(text))
    if "<<" in text:
        text = _CALCULATOR.sub("", text)
    patterns = (_END_TOKEN, _NEXT_TURN) if "<" in text or "[INST]" in text else (_NEXT_TURN,)
    for pattern in patterns:
        for end in pattern.finditer(text):
            if text[: end.start()].strip():
                text = text[: end.start()]
                break

    marks = _marks_in(text)
    for question in _NEXT_QUESTION.finditer(text):
        if marks and marks[0].start < question.start():
            text = text[: question.start()]
            marks = _marks_in(text)
            break
    return text, marks[-_MAX_MARKS:]


def _marks_in(text: str) -> list[Mark]:
    """All marks of a text in order. The content of the last box is that of all joined to it."""
    marks = [Mark(tag.start, tag.end, "tag", tag.content) for tag in tags_in(text)]
    boxes = find_boxes(text)
    for index, box in enumerate(boxes):
        content = joined_boxes(text, boxes) if box is boxes[-1] else box.content
        is_part = index > 0 and are_parts(text[boxes[index - 1].end : box.start])
        marks.append(Mark(box.start, box.end, "box", content, is_part))
    last_box = boxes[-1] if boxes else None
    for announcement in announcements_in(text):
        if last_box and last_box.start < announcement.start < last_box.end:
            continue
        kind = "label" if announcement.is_label else "clause"
        marks.append(Mark(announcement.start, announcement.end, kind, ""))
    for pattern in _CONFIRMING:
        for word in pattern.finditer(text):
            before = text[max(0, word.start() - _MAX_CONFIRMED_CHARS) : word.start()]
            match = _CONFIRMED.search(before) if _OWN_BEFORE.search(before[-40:]) else None
            if match:
                start = word.start() - len(before) + match.start()
                marks.append(Mark(start, word.end(), "confirmed", match["value"]))
    return sorted(marks)


def revised_answer(text: str, mark: Mark) -> str | None:
    """What a text puts in the place of what it marks: "41, I mean 42", "not 41 but 42".

    Returns:
      The value; `NO_SINGLE_VALUE` where the mark is taken back and no other value is given; None
      where it stands.
    """
    end = _end_of_box(text, mark) if mark.kind == "box" else mark.end
    if mark.kind in ("label", "clause"):
        begin = begin_of_answer(text, mark.end)
        contrast = contrast_at(text, begin)
        if contrast is not None:
            return values_at(text, contrast) or NO_SINGLE_VALUE
        value = expression_at(text, begin)
        if value is None:
            return None
        end = value.end
        if values_of_next_lines(text, end):
            return values_at(text, begin)

    correction = correction_at(text, end)
    if correction is not None:
        value = values_at(text, correction) if correction >= 0 else None
        return value or NO_SINGLE_VALUE
    is_guess = text.startswith("?", end) or is_denied_before(text, mark.start)
    return NO_SINGLE_VALUE if mark.kind == "box" and is_guess else None


def _end_of_box(text: str, mark: Mark) -> int:
    """The position behind a box and the end of its formula."""
    end = _END_OF_FORMULA.match(text, mark.end)
    return end.end() if end else mark.end


def _read(text: str, mark: Mark) -> Statement | None:
    """What a mark states."""
    if mark.kind in ("box", "tag"):
        revised = revised_answer(text, mark)
        if revised == NO_SINGLE_VALUE and is_denied_before(text, mark.start):
            # What is said not to be the answer replaces none that was stated before.
            return None
        if revised is not None:
            return Statement(revised, True)
    if mark.kind == "box":
        end = _end_of_box(text, mark)
        if mark.is_part or is_changed(text, end):
            return Statement(NO_SINGLE_VALUE, True)
        hedged = hedged_values(text, end, needs_hedge=True)
        return Statement(", ".join([mark.content, *hedged]), True)
    if mark.kind == "tag":
        # What is marked within the tag comes later in the text and has been read before.
        return statement_at(mark.content, 0) or Statement(mark.content.strip(), False)
    if mark.kind == "confirmed":
        if _ANOTHER_BEFORE.search(text[max(0, mark.start - 20) : mark.start]):
            return None
        return statement_at(mark.content, 0)
    return statement_at(text, mark.end, may_be_sentence=mark.kind == "label")
