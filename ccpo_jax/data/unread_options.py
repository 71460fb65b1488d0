"""Options under a name that is not known: such a row must not be read as mathematics."""

import functools
import re
import string
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ccpo_jax.data.cells import is_empty, is_number, plain, same_spacing

# Words in the names of columns that hold options.
_OPTION_WORDS = frozenset(
    "option options opt opts op choice choices ending endings alternative alternatives candidate "
    "candidates distractor distractors incorrect wrong mc mcq mcqs".split()
)

# Words in the names of lists that are not options, although a small number may be their index.
_OTHER_WORDS = frozenset(
    "tag tags topic topics keyword keywords domain domains subject subjects category categories "
    "source sources concept concepts skill skills hint hints step steps image images reference "
    "references generation generations solution solutions metadata level levels type types "
    "message messages prompt prompts".split()
)

# How deep structs are searched, such as verl's extra_info.
_DEPTH = 3

# A letter of a text of options: "A. 3, B. 4".
_LETTERED = re.compile(r"(?:^|[\s,;|\[{\"'(])([A-Ea-e])\s?[.):]")

# A column that is one of several: option1, answerB, op_a.
_NUMBERED = re.compile(r"(.*?)[ _.-]?([A-Za-z]|\d{1,2})", flags=re.DOTALL)


class UnreadOptions(NamedTuple):
    """What could be options: a column of several values, or several columns of one value.

    Attributes:
      name: the column, or the first of several.
      stem: its name without a number or letter at the end.
      values: one for each option.
      source: the column, or several joined by "+", as a mapping names them.
    """

    name: str
    stem: str
    values: list[Any]
    source: str


def options_by_name(row: Mapping[str, Any], known: frozenset[str]) -> UnreadOptions | None:
    """A column, or several, that must hold options; None = there is none.

    Args:
      row: the row.
      known: columns that are read as something else.
    """
    for several in _several_values(_others(row, known), "", _DEPTH):
        if _words(several.stem) & _OPTION_WORDS:
            return several
    for name, value in _others(row, known).items():
        if isinstance(value, str) and _words(name) & _OPTION_WORDS:
            letters = {match[1].upper() for match in _LETTERED.finditer(value)}
            if {"A", "B"} <= letters or value.lstrip().startswith(("[", "{")):
                return UnreadOptions(name, name, [value], name)
    return None


def options_by_gold(row: Mapping[str, Any], gold: str, known: frozenset[str]) -> dict[str, bool]:
    """Columns of several texts, joined by "+" where they are several -> whether the gold is the
    letter, number or text of one of them.

    Args:
      row: the row.
      gold: as a row without options has it.
      known: columns that are read as something else.
    """
    columns = {}
    for several in _several_values(_others(row, known), "", _DEPTH):
        if all(isinstance(value, str) or is_number(value) for value in several.values):
            columns[several.source] = _names_one(gold, several)
    return columns


def _others(row: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {name: plain(value) for name, value in row.items() if name not in known}


def _several_values(columns: Mapping[str, Any], prefix: str, depth: int) -> Iterator[UnreadOptions]:
    numbered: dict[str, dict[str, tuple[str, Any]]] = {}
    for name, cell in columns.items():
        value = plain(cell)
        if isinstance(value, Mapping):
            if depth > 1:
                yield from _several_values(value, f"{prefix}{name}.", depth - 1)
        elif isinstance(value, list | tuple):
            if len(value) > 1:
                path = f"{prefix}{name}"
                yield UnreadOptions(path, path, list(value), path)
        elif (isinstance(value, str) or is_number(value)) and not is_empty(value):
            stem, label = _split_name(str(name))
            numbered.setdefault(stem, {})[label] = (name, value)

    for stem, members in numbered.items():
        if len(members) == 1:
            continue
        for labels in (string.ascii_lowercase, "0123456789", "123456789"):
            count = 0
            while count < len(labels) and labels[count] in members:
                count += 1
            if count > 1:
                paths = [f"{prefix}{members[label][0]}" for label in labels[:count]]
                values = [members[label][1] for label in labels[:count]]
                yield UnreadOptions(paths[0], f"{prefix}{stem}", values, "+".join(paths))


@functools.lru_cache(maxsize=4096)
def _split_name(name: str) -> tuple[str, str]:
    """("option", "a") of "optionA", "option_a" and "option a"."""
    match = _NUMBERED.fullmatch(name)
    return (match[1], match[2].lower()) if match else (name, "")


@functools.lru_cache(maxsize=4096)
def _words(name: str) -> frozenset[str]:
    """The words of a name: {"answer", "choices"} of "answerChoices" and of "answer_choices"."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", str(name))
    return frozenset(word.lower() for word in words)


def _names_one(gold: str, several: UnreadOptions) -> bool:
    text = same_spacing(gold).casefold()
    for value in several.values:
        # Nothing is compared with long texts, such as generated solutions.
        if len(str(value)) < len(gold) + 20 and same_spacing(str(value)).casefold() == text:
            return True
    if _words(several.stem) & _OTHER_WORDS:
        return False
    letter = re.fullmatch(r"[(\[]?([a-z])[)\].:]?", text)
    if letter:
        return string.ascii_lowercase.index(letter[1]) < len(several.values)
    index = re.fullmatch(r"(\d{1,2})(?:\.0)?", text)
    return index is not None and int(index[1]) <= len(several.values)
