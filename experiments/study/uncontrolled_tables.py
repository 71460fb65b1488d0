"""Study tables in documents: a table of trained arms without its controls is a mistake.

A study table is any Markdown table of which at least two rows, or columns, are named after arms of
the study, not all of them controls: one that was copied, or shortened, is found as well. Its
controls stand below the same heading.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from experiments.study.tasks import ARMS, CONTROLS, NO_REWARD, UNTRAINED

# The least that a table in a document needs; a task's own table has all CONTROLS.
NEEDED = (UNTRAINED, NO_REWARD, "none")

# `shared`, **shared** or shared, with words behind it; but not the name of a file.
_NAME = re.compile(r"[`*\s]*(\w+)\b(?!\.\w)")


class Section(NamedTuple):
    """The tables below one heading.

    Attributes:
      heading: the heading; "" = there is none.
      names: what the rows and columns of its tables are named after.
    """

    heading: str
    names: tuple[str, ...]


def sections_without_controls(text: str) -> list[Section]:
    """The sections of a document whose study tables lack a control, see the module.

    Example:
      >>> rows = "| arm | greedy |", "|---|---|", "| `shared` | 70 |", "| ccpo | 71 |"
      >>> [section.names for section in sections_without_controls("\\n".join(rows))]
      [('arm', 'greedy', 'shared', 'ccpo')]
    """
    return [
        section
        for section in _sections(text)
        if _is_of_arms(section.names) and not set(NEEDED) <= set(section.names)
    ]


def _is_of_arms(names: tuple[str, ...]) -> bool:
    arms = {name for name in names if name in ARMS}
    return len(arms) >= 2 and bool(arms.difference(CONTROLS))


def _sections(text: str) -> Iterator[Section]:
    heading = ""
    names: dict[str, None] = {}
    before = ""
    for quoted in [*text.splitlines(), "#"]:
        line = quoted.lstrip("> \t")
        if line.startswith("#"):
            yield Section(heading, tuple(names))
            heading, names = line.lstrip("# "), {}
        elif line.startswith("|"):
            is_first = not before.startswith("|")
            cells = line.split("|")[1:-1] if is_first else line.split("|")[1:2]
            names |= dict.fromkeys(match[1] for match in map(_NAME.match, cells) if match)
        before = line
