"""Options under a name that is not known: such a row must not be read as mathematics."""

import functools
import re
import string
from collections.abc import Iterable, Iterator, Mapping
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
    "message messages prompt prompts finish reason reasons correctness score scores reward rewards "
    "id ids uuid uuids".split()
)

# How deep structs are searched, such as verl's extra_info.
_DEPTH = 3

# A letter of a text of options: "A. 3, B. 4".
_LETTERED = re.compile(r"(?:^|[\s,;|\[{\"'(])([A-Ea-e])\s?[.):]")

# A column that is one of several: option1, answerB, op_a.
_NUMBERED = re.compile(r"(.*?)[ _.-]?([A-Za-z]|\d{1,2})", flags=re.DOTALL)


_SCALARS = (str, int, float, bool, type(None))

# How several columns are counted.
_NUMBERINGS = (string.ascii_lowercase, "0123456789", "123456789")


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


def several_values(row: Mapping[str, Any], known: frozenset[str]) -> list[UnreadOptions]:
    """All that could be options by the number of its values.

    Args:
      row: the row.
      known: columns that are read as something else.
    """
    return list(_several_values(_others(row, known), "", _DEPTH))


def options_by_name(
    row: Mapping[str, Any], several: Iterable[UnreadOptions], known: frozenset[str]
) -> UnreadOptions | None:
    """A column, or several, that must hold options; None = there is none.

    Args:
      row: the row.
      several: what `several_values` returns.
      known: columns that are read as something else.
    """
    for candidate in several:
        if _words(candidate.stem) & _OPTION_WORDS:
            return candidate
    for name in _named_options(tuple(row)):
        value = row[name]
        if isinstance(value, str) and name not in known:
            letters = {match[1].upper() for match in _LETTERED.finditer(value)}
            if {"A", "B"} <= letters or value.lstrip().startswith(("[", "{")):
                return UnreadOptions(name, name, [value], name)
    return None


def options_by_gold(several: Iterable[UnreadOptions], gold: str) -> dict[str, bool]:
    """Columns of several texts, joined by "+" where they are several -> whether the gold is the
    letter, number or text of one of them.

    Args:
      several: what `several_values` returns.
      gold: as a row without options has it.
    """
    columns = {}
    for candidate in several:
        if all(isinstance(value, str) or is_number(value) for value in candidate.values):
            columns[candidate.source] = _names_one(gold, candidate)
    return columns


@functools.lru_cache(maxsize=256)
def _named_options(columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns whose names say that they hold options."""
    return tuple(name for name in columns if _words(name) & _OPTION_WORDS)


def _others(row: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in known}


def _several_values(columns: Mapping[str, Any], prefix: str, depth: int) -> Iterator[UnreadOptions]:
    for name, cell in columns.items():
        # Most cells hold one value.
        if type(cell) in _SCALARS:
            continue
        value = plain(cell)
        if isinstance(value, Mapping):
            if depth > 1:
                yield from _several_values(value, f"{prefix}{name}.", depth - 1)
        elif isinstance(value, list | tuple) and len(value) > 1:
            path = f"{prefix}{name}"
            yield UnreadOptions(path, path, list(value), path)

    for stem, members in _numbered(tuple(columns)):
        full = {}
        for label, name in members:
            value = plain(columns[name])
            if (isinstance(value, str) or is_number(value)) and not is_empty(value):
                full[label] = (name, value)
        for labels in _NUMBERINGS:
            count = 0
            while count < len(labels) and labels[count] in full:
                count += 1
            if count > 1:
                paths = [f"{prefix}{full[label][0]}" for label in labels[:count]]
                values = [full[label][1] for label in labels[:count]]
                yield UnreadOptions(paths[0], f"{prefix}{stem}", values, "+".join(paths))


@functools.lru_cache(maxsize=4096)
def _numbered(columns: tuple[str, ...]) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """(stem, its (label, column) pairs) of columns that are one of several: option1, option2."""
    by_stem: dict[str, dict[str, str]] = {}
    for name in columns:
        stem, label = _split_name(str(name))
        by_stem.setdefault(stem, {})[label] = name
    groups = []
    for stem, members in by_stem.items():
        if any(members.keys() >= set(labels[:2]) for labels in _NUMBERINGS):
            groups.append((stem, tuple(members.items())))
    return tuple(groups)


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
