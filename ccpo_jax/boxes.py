r"""What stands in the boxes of a text: ``\boxed{...}``, which state the answer of a solution."""

import itertools
import re
from typing import NamedTuple

# The opening of a box, a brace, or an escaped character: \{ and \} are not braces.
_BRACE = re.compile(r"\\f?box(?:ed)?\s*\{|\\.|[{}]", re.DOTALL)


class _Box(NamedTuple):
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
    """
    boxes = _outer_boxes(text)
    if not boxes:
        return None

    contents = [boxes[-1].content]
    for left, right in reversed(list(itertools.pairwise(boxes))):
        between = text[left.end : right.start].strip(" \t\n$,;()[]\\")
        if between not in ("", "and", "or"):
            break
        contents.append(left.content)
    return ", ".join(dict.fromkeys(reversed(contents)))


def _outer_boxes(text: str) -> list[_Box]:
    """The boxes of a text in order, without boxes that stand inside another box."""
    boxes: list[_Box] = []
    # One entry per open brace: the opening of a box, or None for any other brace.
    openings: list[re.Match[str] | None] = []
    for token in _BRACE.finditer(text):
        if token[0] == "}":
            opening = openings.pop() if openings else None
            if opening is None:
                continue
            while boxes and boxes[-1].start > opening.start():
                boxes.pop()
            content = text[opening.end() : token.start()].strip()
            if content:
                boxes.append(_Box(opening.start(), token.end(), content))
        elif token[0].endswith("{") and token[0] != r"\{":
            is_box = len(token[0]) > 1
            openings.append(token if is_box else None)
    return boxes
