"""Passages in front of a question, and texts under the same name that hold the answer."""

import functools
import re
from collections.abc import Iterator

from ccpo_jax.data.announcements import is_announced
from ccpo_jax.data.cells import same_spacing

# More characters in front of the question than labels such as "### Question:" have.
_LONGEST_LABEL = 60

# A solution shorter than this may stand in a passage by chance.
_SHORTEST_SOLUTION = 20

# A question and its answer, each behind its label; the group is the answer.
_DIALOGUE = re.compile(
    r"\b(?:q|question|problem|user|human|instruction|input)\b\W{0,5}?[:>\]].*?"
    r"\b(?:a|answer|solution|assistant|gpt|response|output)\b\W{0,5}?[:>\]](.*)"
)


def repeats_question(passage: str, question: str) -> bool:
    """Whether a passage is little more than the question again, with or without its answer."""
    before, found, _ = _folded(passage).partition(_folded(question))
    return bool(found) and len(before) <= _LONGEST_LABEL


def states_answer(passage: str, question: str, answer: str, solutions: tuple[str, ...]) -> bool:
    """Whether a passage gives the answer away: it announces it, or it has it behind the question.

    A passage that only mentions the answer does not.

    Args:
      passage: the text.
      question: the question alone, without options.
      answer: the gold, or the text of the option that it names.
      solutions: worked solutions of the row.

    Example:
      >>> states_answer("Q: 6*7? A: 42", "6*7?", "42", ())
      True
      >>> states_answer("She buys 42 eggs and sells 12.", "How many has she left?", "30", ())
      False
    """
    text = _folded(passage)
    for solution in solutions:
        if len(solution) >= _SHORTEST_SOLUTION and _folded(solution) in text:
            return True

    folded = _folded(answer)
    positions = list(_positions(text, folded))
    if not positions:
        return False
    end = len(folded)
    if text == folded or any(is_announced(text, start, start + end) for start in positions):
        return True
    dialogue = _DIALOGUE.search(text)
    if dialogue and positions[-1] >= dialogue.start(1):
        return True

    # Behind the question stands its solution; a passage stands in front of it.
    before, found, _ = text.partition(_folded(question))
    is_behind = bool(found) and positions[-1] >= len(before) + len(found)
    is_end = re.search(r"\w", text[positions[-1] + len(folded) :]) is None
    return is_behind and (is_end or repeats_question(passage, question))


def _positions(text: str, answer: str) -> Iterator[int]:
    """Where an answer stands in a text as a word or number of its own."""
    position = text.find(answer) if answer else -1
    while position >= 0:
        end = position + len(answer)
        is_begun = re.match(r"[\w.]", text[max(0, position - 1) : position])
        if not is_begun and not re.match(r"\w|\.\d", text[end : end + 2]):
            yield position
        position = text.find(answer, position + 1)


@functools.lru_cache(maxsize=64)
def _folded(text: str) -> str:
    """The text in small letters, with single blanks, and numbers in one form: 1,000.0 as 1000."""
    text = same_spacing(text).casefold()
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    return re.sub(r"(?<=\d)\.0+(?!\d)", "", text)
