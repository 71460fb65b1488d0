"""Passages in front of a question, and texts under the same name that hold the answer."""

import re

from ccpo_jax.data.cells import same_spacing

# More characters in front of the question than labels such as "### Question:" have.
_LONGEST_LABEL = 60

# A solution shorter than this may stand in a passage by chance.
_SHORTEST_SOLUTION = 20

# What stands between words that announce an answer and the answer: "Answer: **42**", "A: (B)".
_SIGNS = r"[\s*_`'\"$#:=>|({\[\\.\-]{0,20}"

# Words that announce an answer, in texts of questions with their answers.
_ANNOUNCEMENT = (
    r"(?:\b(?:answer|ans|a|solution|response|output|assistant|gold|result)\b(?=[^\w]*[:=>|\n])"
    r"|\b(?:answer|solution|result)\s+(?:is|was|would\s+be)\b|\#{4}|\\f?box(?:ed)?\b|</think>)"
)


def repeats_question(passage: str, question: str) -> bool:
    """Whether a passage is little more than the question again, with or without its answer."""
    before, found, _ = _folded(passage).partition(_folded(question))
    return bool(found) and len(before) <= _LONGEST_LABEL


def states_answer(
    passage: str, question: str, answers: tuple[str, ...], *, solutions: tuple[str, ...] = ()
) -> bool:
    """Whether a passage gives the answer away: it announces it, or it has it behind the question.

    A passage that only mentions the answer does not.

    Args:
      passage: the text.
      question: the question alone, without options.
      answers: what the answer may be written as; for options the letter and the text.
      solutions: worked solutions of the row.

    Example:
      >>> states_answer("Q: 6*7? A: 42", "6*7?", ("42",))
      True
      >>> states_answer("She buys 42 eggs and sells 12.", "How many has she left?", ("30",))
      False
    """
    text = _folded(passage)
    if any(len(s) >= _SHORTEST_SOLUTION and _folded(s) in text for s in solutions):
        return True

    _, _, behind = text.partition(_folded(question))
    is_repetition = repeats_question(passage, question)
    for answer in filter(None, map(_folded, answers)):
        token = rf"(?<![\w.]){re.escape(answer)}(?![\w]|\.\d)"
        if text == answer or re.search(rf"{_ANNOUNCEMENT}{_SIGNS}{token}", text):
            return True
        # Behind the question stands its solution; a passage stands in front of it.
        end = "" if is_repetition else r"[\s\W]*$"
        if re.search(token + end, behind):
            return True
    return False


def _folded(text: str) -> str:
    return same_spacing(text).casefold()
