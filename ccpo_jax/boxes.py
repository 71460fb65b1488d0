r"""What stands in the boxes of a text: ``\boxed{...}``, which state the answer of a solution."""

import itertools
import re
from typing import NamedTuple

# The opening of a box, a box without braces (\boxed 7), a brace, or an escaped character: \{ and
# \} are not braces. Models that escape twice write \\boxed, or a backspace for the b.
_TOKEN = re.compile(
    r"(?P<box>(?:\\\\?(?:f?box(?:ed)?|framebox|bbox)|\x08oxed|(?<![A-Za-z\\])boxed)"
    r"\s*+(?:\[[^\[\]{}]{0,40}\]\s*+)?\{"
    r"|\\fcolorbox\s*+\{[^{}]{0,30}\}\s*+\{[^{}]{0,30}\}\s*+\{|\\colorbox\s*+\{[^{}]{0,30}\}\s*+\{)"
    r"|\\\\?(?:boxed|fbox)(?![A-Za-z])[^\S\n]*+(?P<bare>"
    r"(?:[^$\n{}\\]|\\[A-Za-z]++|\{[^{}\n]{0,60}\}){1,60}?(?=\s*+(?:\$|\\[)\]]))|[-+]?[\d.,/]*\d|[A-Z]\b"
    r"|(?:\\[dt]?frac\s?(?:\d\s?\d|\{[^{}\n]{1,30}\}\s?\{[^{}\n]{1,30}\})|[a-z])"
    r"(?=[ .,;]{0,3}(?:\n|\Z)))"
    r"|\\.|[{}]",
    re.DOTALL,
)

# LaTeX between two boxes that says nothing: delimiters, spaces, alignment, line breaks.
_LAYOUT = re.compile(r"\$|\\[()\[\],;:! \\]|\\q?quad\b|&|\\(?:text|mbox|textbf|mathrm)\b|[{}*_]")

# The variable that a box gives the value of: "x =", "y_2 =", "f(2) =".
_VARIABLE = re.compile(
    r"(?<![A-Za-z\\])((?:[A-Za-z]|\\[A-Za-z]{2,12})'?(?:_(?:\w|\{\w{1,8}\}))?(?:\(\w{1,5}\))?)"
    r"\s*+(?:&\s*+)?=\s*+(?:\$|\\[(\[])?\s*+$"
)

# Words that make two boxes one answer, and words that make the second a further step.
_JOINING = re.compile(
    r"(?i)\b(?:and|or|else|otherwise|maybe|perhaps|possibly|alternatively|either)\b"
    r"|[和或与及]|以及|还是"
)
_STEP = re.compile(
    r"(?i)\b(?:so|thus|therefore|hence|then|gives?|gets?|we|is|was|wrong|not|no|actually|wait|check"
    r"|equivalently|equals?|approximately|about|roughly|i\.e|because|since|from)\b|="
)
_MAX_WORDS_BETWEEN = 8
# Between the answers of the parts of a question: "(b)".
_PART = re.compile(r"(?i)(?:part )?\(?(?:[b-h]|i{2,3}|iv)[).:]{0,2}")


# A label within a box: \boxed{\text{Answer: }5}.
_LABEL = re.compile(r"\\text(?:bf)?\{\s*(?:[Ff]inal\s)?[Aa]nswer(?:\sis)?\s*:?\s*\}\s*:?\s*(?=\S)")


class Box(NamedTuple):
    """A closed box that is not empty: its positions in the text and its content."""

    start: int
    end: int
    content: str


def last_boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed{...}``.

    Boxes joined by a comma, "and" or "or" are one answer. Empty boxes and boxes that are never
    closed do not count.

    Example:
      >>> last_boxed(r"not \boxed{0} but \boxed{1} and $\boxed{\frac{1}{2}}$.")
      '1, \\frac{1}{2}'
      >>> last_boxed(r"$x=\boxed{2}$, $y=\boxed{1}$")
      'x=2, y=1'
    """
    boxes = find_boxes(text)
    return joined_boxes(text, boxes) if boxes else None


def find_boxes(text: str) -> list[Box]:
    """The boxes of a text in order, without boxes that stand inside another box."""
    boxes: list[Box] = []
    # One entry per open brace: the opening of a box, or None for any other brace.
    openings: list[re.Match[str] | None] = []
    for token in _TOKEN.finditer(text, _before_first_box(text)):
        if token["bare"] is not None:
            boxes.append(Box(token.start(), token.end(), token["bare"].strip().rstrip(".,;")))
        elif token[0] == "}":
            opening = openings.pop() if openings else None
            if opening is None:
                continue
            while boxes and boxes[-1].start > opening.start():
                boxes.pop()
            content = _LABEL.sub("", text[opening.end() : token.start()].strip(), count=1)
            if content:
                boxes.append(Box(opening.start(), token.end(), content))
        elif token[0].endswith("{") and token[0] != r"\{":
            openings.append(token if token["box"] is not None else None)
    return boxes


def _before_first_box(text: str) -> int:
    """A position before the first box: what stands before it need not be read."""
    positions = [text.find(word) for word in ("box", "\x08oxed")]
    positions = [position for position in positions if position >= 0]
    return max(0, min(positions) - len(r"\\framebox")) if positions else len(text)


def joined_boxes(text: str, boxes: list[Box]) -> str:
    """The answer that the last box states, together with the boxes that are joined to it."""
    group = [boxes[-1]]
    for left, right in reversed(list(itertools.pairwise(boxes))):
        if not _is_joined(text[left.end : right.start]):
            break
        group.insert(0, left)

    variables = [_variable_of(text, box) for box in group]
    is_assignment = "" not in variables and len(set(variables)) == len(group) > 1
    if is_assignment:
        return ", ".join(
            f"{variable}={box.content}" for variable, box in zip(variables, group, strict=True)
        )
    return ", ".join(dict.fromkeys(box.content for box in group))


def _variable_of(text: str, box: Box) -> str:
    """The variable whose value a box is, or ""."""
    variable = _VARIABLE.search(text[max(0, box.start - 40) : box.start])
    return variable[1] if variable else ""


def _is_joined(between: str) -> bool:
    """Whether the text between two boxes makes them one answer."""
    if len(between) > 200:
        return False
    words = _LAYOUT.sub(" ", _VARIABLE.sub("", between)).strip(" \t\n,;/()[]、，；")
    if not words:
        return True

    if _PART.fullmatch(words):
        return True
    words = words.strip(" .\n,")
    is_one_sentence = ". " not in words and ".\n" not in words
    is_short = len(words.split()) <= _MAX_WORDS_BETWEEN
    joining = _JOINING.search(words)
    return bool(joining) and not _STEP.search(words) and is_one_sentence and is_short
