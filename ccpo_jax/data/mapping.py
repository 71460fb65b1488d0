"""Which column is the question, the answer and so on, where their names do not tell."""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ccpo_jax.data.cells import is_empty, structured
from ccpo_jax.errors import InputError

# What a column can be.
TARGETS = (
    *("question", "answer", "answer_index", "answer_number", "options", "context", "views"),
    "system",
)

# The answer as it is written, or as the number of an option, from 0 or from 1.
ANSWER_TARGETS = ("answer", "answer_index", "answer_number")

# What one column alone can be.
SINGLE_TARGETS = (*ANSWER_TARGETS, "system")

FIELD = "data.columns"

# How deep structs are searched for a path that was probably meant.
_DEPTH = 3
_MOST_PATHS = 200

_INDEX = re.compile(r"\[(-?\d{1,9})\]")
_EXAMPLE = f"--config.{FIELD}=question=prompt,answer=reward_model.ground_truth"

# What a shell leaves alone.
_UNQUOTED = re.compile(r"[\w=,.+@:/%-]*")

Columns = str | Sequence[str] | Mapping[str, str]


class Mapped(NamedTuple):
    """What a mapping takes from a row for one target.

    Attributes:
      source: where the value is from, as typed: "reward_model.ground_truth".
      value: of one source that source's, of several the list of theirs; None = there is none.
      names: the sources, where there are several.
    """

    source: str
    value: Any
    names: tuple[str, ...] = ()

    @property
    def leaf(self) -> str:
        """The last name of the source: "label" of "meta.label"."""
        return self.source.rpartition(".")[2].partition("[")[0]


@dataclasses.dataclass(frozen=True)
class ColumnMapping:
    """Where each target is from.

    Attributes:
      sources: target -> path into the row, several joined by "+"; "" = the set has none of it,
        whatever its columns are called.
    """

    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.sources)

    def read(self, row: Mapping[str, Any]) -> dict[str, Mapped]:
        """The targets of a row; one whose source this row lacks has the value None."""
        return {target: _mapped(row, source) for target, source in self.sources.items()}

    def gap(self, rows: Iterable[Mapping[str, Any]]) -> str:
        """What a set lacks of the sources, in words; "" = nothing: some row has each of them."""
        lacking = dict.fromkeys(source for source in self.sources.values() if source)
        rows = list(rows)
        for row in rows:
            for source in list(lacking):
                if all(_follow(row, path)[1] for path in _paths_of(source, row)):
                    del lacking[source]
            if not lacking:
                return ""
        if not rows:
            return ""
        source = next(iter(lacking))
        return _describe_gap(source, rows[0])

    def other_columns(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of a row that are not mapped as a whole."""
        mapped = set()
        for source in self.sources.values():
            mapped.update(_paths_of(source, row))
        return {name: cell for name, cell in row.items() if name not in mapped}

    def typed(self, **entries: str) -> str:
        """The mapping with more entries, as one types it.

        Example:
          >>> parse_columns("question=prompt").typed(answer="target")
          '--config.data.columns=question=prompt,answer=target'
        """
        sources = dict(self.sources)
        if any(target in ANSWER_TARGETS for target in entries):
            sources = {name: path for name, path in sources.items() if name not in ANSWER_TARGETS}
        sources |= entries
        text = ",".join(f"{target}={source}" for target, source in sources.items())
        return f"--config.{FIELD}={text}" if _UNQUOTED.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    return f"--config.{FIELD}={text!r}" if '"' in text else f'--config.{FIELD}="{text}"'


NO_MAPPING = ColumnMapping()


def parse_columns(columns: Columns | ColumnMapping, field: str = FIELD) -> ColumnMapping:
    """Reads a mapping as users write it.

    Args:
      columns: "question=prompt, answer=target", its entries as a sequence, or a mapping.
      field: to name in errors.

    Raises:
      InputError: an unknown target, two columns for one thing, or an entry without "=".

    Example:
      >>> parse_columns("question=prompt, answer=choices.text[0]").sources
      {'question': 'prompt', 'answer': 'choices.text[0]'}
    """
    if isinstance(columns, ColumnMapping):
        return columns
    if isinstance(columns, Mapping):
        entries = [
            (str(target), "" if source is None else source) for target, source in columns.items()
        ]
    else:
        texts = columns.split(",") if isinstance(columns, str) else list(columns)
        entries = [
            _entry(text, field) for text in texts if not isinstance(text, str) or text.strip()
        ]

    sources: dict[str, str] = {}
    for name, source in entries:
        target = name.strip()
        if not isinstance(source, str):
            raise InputError(
                field, f"the source of {target:.40} must be text, received {source!r:.60}"
            )
        if target not in TARGETS:
            close = difflib.get_close_matches(target[:80], TARGETS, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise InputError(
                field,
                f"{target!r:.60} is nothing that a column can be; {hint}type one of "
                f"{', '.join(TARGETS)} before the equals sign, such as {_EXAMPLE}",
            )
        if target in sources:
            is_single = target in SINGLE_TARGETS
            hint = "keep one" if is_single else f"join several columns by +, such as {target}=a+b"
            raise InputError(field, f"has {target} twice; {hint}")
        sources[target] = _checked_source(source.strip(), field)
    answers = [target for target in sources if target in ANSWER_TARGETS]
    if len(answers) > 1:
        raise InputError(field, f"says twice what the answer is, {' and '.join(answers)}; keep one")
    return ColumnMapping(sources)


def _entry(text: Any, field: str) -> tuple[str, str]:
    target, equals, source = text.partition("=") if isinstance(text, str) else ("", "", "")
    if not equals:
        raise InputError(field, f"{text!r:.60} is no TARGET=COLUMN; type {_EXAMPLE}")
    return target, source


def _checked_source(source: str, field: str) -> str:
    wrong = re.search(r"\.(-?\d+)(?=\.|$)|\[(?!-?\d{1,9}\])[^\]]*\]?", source)
    if wrong and wrong[1]:
        meant = f"{source[: wrong.start()]}[{wrong[1]}]{source[wrong.end() :]}"
        raise InputError(
            field, f"{source!r:.80}: members of a list are counted in brackets; type {meant:.80}"
        )
    if wrong:
        raise InputError(
            field,
            f"{source!r:.80}: brackets hold a whole number, -1 for the last member of a list, such "
            "as prompt[-1].content",
        )
    return source


# --- paths into a row -----------------------------------------------------------------------------


def _mapped(row: Mapping[str, Any], source: str) -> Mapped:
    if not source:
        return Mapped("", None)
    paths = _paths_of(source, row)
    values = [_follow(row, path)[0] for path in paths]
    if len(paths) == 1:
        return Mapped(source, values[0])
    is_absent = all(is_empty(value) for value in values)
    return Mapped(source, None if is_absent else values, tuple(paths))


def _paths_of(source: str, row: Mapping[str, Any]) -> list[str]:
    """The paths that are joined by "+"; a column may have one in its own name."""
    if "+" not in source or source in row:
        return [source]
    return [path.strip() for path in source.split("+")]


def _follow(cell: Any, path: str) -> tuple[Any, bool]:
    """``(what stands at the end of a path, whether it leads anywhere)``; a null on the way leads
    nowhere.
    """
    if not path:
        return cell, True
    cell = structured(cell)
    if isinstance(cell, Mapping):
        key = _key(path, cell)
        if key is None:
            return None, False
        return _follow(cell[key], path[len(key) + (path[0] == ".") :])
    match = _INDEX.match(path)
    if match and isinstance(cell, list | tuple) and -len(cell) <= int(match[1]) < len(cell):
        return _follow(cell[int(match[1])], path[match.end() :])
    return None, False


def _key(path: str, cell: Mapping[str, Any]) -> str | None:
    """The key with which a path begins: the longest, as names may have dots and brackets."""
    path = path.removeprefix(".")
    ends = [len(path), *(match.start() for match in reversed(list(re.finditer(r"[.\[]", path))))]
    return next((path[:end] for end in ends if path[:end] in cell), None)


def _describe_gap(source: str, row: Mapping[str, Any]) -> str:
    """Which path leads nowhere, what there is, and what was probably meant."""
    paths = [path for path in _paths_of(source, row) if not _follow(row, path)[1]] or [source]
    path = paths[0]
    known = list(paths_in(row))
    close = difflib.get_close_matches(path.casefold(), [name.casefold() for name in known], n=1)
    meant = next((name for name in known if close and name.casefold() == close[0]), "")
    hint = f"; did you mean {meant}?" if meant else ""
    columns = ", ".join(map(str, row)) or "none"
    return f"no {path:.200} among the columns {columns:.400}{hint}"


def paths_in(row: Mapping[str, Any]) -> Iterator[str]:
    """The paths of a row's cells, from the top down, as a mapping has them."""
    level = [(str(name), cell) for name, cell in row.items()]
    count = 0
    for _ in range(_DEPTH):
        deeper: list[tuple[str, Any]] = []
        for path, cell in level:
            count += 1
            if count > _MOST_PATHS:
                return
            yield path
            deeper.extend(_members(path, cell))
        level = deeper


def _members(path: str, cell: Any) -> list[tuple[str, Any]]:
    cell = structured(cell)
    if isinstance(cell, Mapping):
        return [(f"{path}.{name}", member) for name, member in cell.items()]
    # Of the turns of a conversation the last is the one that is asked for.
    if isinstance(cell, list) and cell and isinstance(cell[-1], Mapping):
        return [(f"{path}[-1]", cell[-1])]
    return []
