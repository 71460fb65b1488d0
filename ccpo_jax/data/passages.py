"""Passages in front of a question, and texts under the same name that hold the answer."""

import re

from ccpo_jax.data.cells import same_spacing

# More characters in front of the question than labels such as "### Question:" have.
_LONGEST_LABEL = 60

# A solution shorter than this may stand in a passage by chance.
_SHORTEST_SOLUTION = 20

# What stands between words that announce an answer and the answer: "Answer: **42**", "A: (B)".
_SIGNS = r"[\s*_`'\"$#:=>|({\[\\.-]{0,20}"

# Words that announce an answer, in texts of questions with their answers.
_ANNOUNCEMENT = (
    r"(?:\b(?:answer|ans|a|solution|response|output|assistant|gold|result)\b(?=\W{0,20}[:=>|])"
    r"|\b(?:answer|solution|result)\s+(?:is|was|would\s+be)\b|\#{4}|\\f?box(?:ed)?\b|</think>)"
)

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
    if not folded:
        return False
    token = rf"(?<![\w.]){re.escape(folded)}(?!\w|\.\d)"
    if text == folded or re.search(_ANNOUNCEMENT + _SIGNS + token, text):
        return True
    dialogue = _DIALOGUE.search(text)
    if dialogue and re.search(token, dialogue[1]):
        return True

    # Behind the question stands its solution; a passage stands in front of it.
    _, _, behind = text.partition(_folded(question))
    end = "" if repeats_question(passage, question) else r"\W*$"
    return re.search(token + end, behind) is not None


def states_letter(passage: str, letter: str) -> bool:
    """Whether a passage announces the letter of an option.

    Example:
      >>> states_letter("Answer: (B)", "B"), states_letter("The answer is A long story.", "A")
      (True, False)
    """
    pattern = rf"(?i:{_ANNOUNCEMENT}){_SIGNS}{letter}(?=[\s*_`'\")\]}}.]*$|[.)\]:*])"
    return re.search(pattern, passage, flags=re.MULTILINE) is not None


def _folded(text: str) -> str:
    """The text in small letters, with single blanks, and numbers in one form: 1,000.0 as 1000."""
    text = same_spacing(text).casefold()
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    return re.sub(r"(?<=\d)\.0+(?!\d)", "", text)
