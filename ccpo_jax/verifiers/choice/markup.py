r"""A text without its markup: "**(B)**", "$\boxed{\text{B}}$" and "（B）" read alike.

Only what carries no meaning for a letter is removed. Boxes and answer tags become words that
announce an answer. Quantifiers are possessive as in `extraction`.
"""

import re
import string

from ccpo_jax.verifiers.extraction import TEXT_COMMAND
from ccpo_jax.verifiers.reasoning import strip_reasoning

# Full-width letters, digits and signs lie this far above their ASCII forms.
_FULL_WIDTH_OFFSET = 0xFEE0
_CIRCLED_A = 0x24B6

# What else a sign may look like: Chinese punctuation, quotes, circled letters, invisible signs.
_SIGNS: dict[int, str | int | None] = {
    code + _FULL_WIDTH_OFFSET: code for code in range(ord("!"), ord("~") + 1)
}
_SIGNS |= {_CIRCLED_A + i: f"({letter})" for i, letter in enumerate(string.ascii_uppercase)}
_SIGNS |= str.maketrans("。、【】〔〕「」『』《》’‘\u3000\u00a0", ".,[][]''''[]''  ")
_SIGNS |= dict.fromkeys(map(ord, '“”„«»"`*$\u200b\u200d\u2060\ufeff'), None)

# The end of a model's turn: what follows is the next turn, and no part of the answer.
_END_OF_TURN = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|end|return|endoftext|end_of_text|end_of_turn|end_of_solution"
    r"|END_OF_TURN_TOKEN|END_RESPONSE)\|>|<end_of_turn>|</s>|<eos>|<｜end▁of▁sentence｜>|\[INST\]"
)

# A further question, which base models go on to write: a line that begins with its heading.
_NEXT_QUESTION = re.compile(
    r"\n[ \t#*]*+(?:(?:Question|Q|Human|User|USER|问|问题|题目)\s*+\d{0,4}|Problem\s*+\d{1,4})"
    r"[*]{0,2}\s*+[:：]"
)

# Other special tokens, and the tags of HTML that only set the type of their text.
_TOKEN = re.compile(r"<\|[^<>|]{1,40}\|>|<(?:s|bos|pad|start_of_turn)>")
_HTML = re.compile(r"</?(?:b|i|u|em|strong|mark|p|br|div|span|code|font|h\d)\b[^<>\n]{0,60}>")

# <answer>B</answer> announces an answer, and so does a box: both become the words of one.
_ANSWER_TAG = re.compile(r"(?i)[<\[](/?)(?:final[_ ]?)?(?:answer|ans|choice|solution)[>\]]")
_BOX = re.compile(r"(?:\\(?:fbox|boxed|framebox)|(?<![A-Za-z\\])boxed)\s*+\{")

# Commands for the shape of text besides those of TEXT_COMMAND; the group is the text.
_TEXT = re.compile(TEXT_COMMAND)
_FONT_COMMAND = re.compile(
    r"\\(?:mathsf|mathtt|mathit|mathbb|mathcal|boldsymbol|bm|pmb|emph|textsf|texttt|underline)"
    r"\s*+\{([^{}]*)\}"
)

# LaTeX that leaves its argument or its surroundings as they are.
_SPACING = re.compile(
    r"\\(?:left|right|displaystyle|quad|qquad|big|Big|bigl|bigr|bf|rm|sf|it|large|Large)\b"
    r"|\\[()\[\],;:! ]"
)

# A heading or the mark of a list, a quotation or an arrow at the beginning of a line.
_LINE_MARK = re.compile(r"(?m)^[ \t]*+(?:[#>•→·⇒]++|[-+](?= ))[ \t]*+")

# An underscore inside an identifier joins words; every other one is emphasis or an index.
_JOINING_UNDERSCORE = re.compile(r"(?<=[a-z])_(?=[a-z])")

# A label without its blank: "OptionB".
_RUN_TOGETHER = re.compile(
    r"\b(Option|option|OPTION|Choice|choice|CHOICE|Answer|answer)([A-Z])(?![A-Za-z0-9])"
)

# A phrase in single quotes; an apostrophe or the prime of P' is none.
_QUOTED = re.compile(r"(?<!\w)'([^'\n]{1,80})'(?!\w)")

# The words that take the place of the opening of a box.
BOX = " boxed: {"


def plain_text(text: str) -> str:
    r"""The text without thought, markup, special tokens and what follows the model's own turn.

    Example:
      >>> plain_text(r"**Answer:** $\boxed{\text{（B）}}$")
      'Answer:  boxed: {(B)}'
    """
    text = _first_turn(strip_reasoning(text))

    text = text.translate(_SIGNS)
    if "'" in text:
        text = _QUOTED.sub(r"\1", text)
    if "<" in text or "[" in text:
        text = _ANSWER_TAG.sub(lambda tag: "\n" if tag[1] else "\nanswer: ", text)
        text = _HTML.sub(" ", text)
    if "\\" in text or "boxed" in text:
        text = _without_latex(text)
    text = _LINE_MARK.sub("", text)
    text = _RUN_TOGETHER.sub(r"\1 \2", text)
    return _JOINING_UNDERSCORE.sub(" ", text).replace("_", "")


def _without_latex(text: str) -> str:
    """The text without commands that only shape it; a box becomes the words of an announcement."""
    # Twice, for a command inside a command.
    for _ in range(2):
        text = _TEXT.sub(r"\1", text)
        text = _FONT_COMMAND.sub(r"\1", text)
    text = _BOX.sub(lambda _: BOX, text)
    return _SPACING.sub(" ", text)


def _first_turn(text: str) -> str:
    """The text up to the end of its turn or the next question; tokens become line breaks."""
    turn_start = 0
    for end in _END_OF_TURN.finditer(text):
        # A turn that says nothing is none: some texts begin with the end of the prompt's turn.
        if _TOKEN.sub("", text[turn_start : end.start()]).strip():
            text = text[turn_start : end.start()]
            break
        turn_start = end.end()
    text = _TOKEN.sub("\n", text)

    question = _NEXT_QUESTION.search(text)
    if question and text[: question.start()].strip():
        text = text[: question.start()]
    return text
