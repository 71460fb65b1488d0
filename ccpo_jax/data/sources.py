"""Where rows come from: what a name in `data.train` or `data.eval` stands for."""

import difflib
import glob
import os
import pathlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from ccpo_jax.data.files import read_file
from ccpo_jax.data.folders import read_files, read_folder
from ccpo_jax.data.hub_datasets import DATASETS, Source, read_hub_dataset
from ccpo_jax.data.located_row import LocatedRow
from ccpo_jax.data.synthetic import TASKS
from ccpo_jax.errors import InputError

# What may follow a name, in any order: ":config", "@revision", "#split".
_MARKS = {":": "configuration", "@": "revision", "#": "split"}
# A split may have limits: "#train[:100]".
_PART = r"(?:(:)([^:@#/\[\]]+)|(@)([^:@#\[\]]+)|(#)([^:@#/\[\]]+(?:\[[^\[\]]*\])?))"
_ADDRESS = re.compile(rf"([^:@#]+)({_PART}*)")

# ``owner/name``, without an ending that only files have.
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*")
# The address of a dataset's page, or of its files.
_HUB_PAGE = re.compile(r"(?:(?:https?://)?huggingface\.co/|hf://)?datasets/([\w.-]+/[\w.-]+)")

_FILE_ENDINGS = (".parquet", ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".gz", ".arrow")


class RowSource(NamedTuple):
    """Rows that are read as they are asked for.

    Attributes:
      label: name of the dataset, which its problems and metrics bear.
      origin: where the rows are from, for errors.
      rows: with their places in the source.
      notes: what was chosen for the user, and what was left out, one line each; complete once all
        rows are read.
    """

    label: str
    origin: str
    rows: Iterable[LocatedRow]
    notes: list[str]


def open_source(name: str, field: str) -> RowSource:
    """Opens what a name stands for.

    Whatever exists as a file or folder is that, whatever signs its name has. Else ``label=`` may
    precede, and a name is a pattern of files, a folder with a split, or a dataset of the Hub.

    Args:
      name: as `ccpo_jax.data.load` takes it, other than synthetic sets.
      field: configuration field to name in errors.

    Raises:
      InputError: there is nothing of that name, or it cannot be read.
    """
    label = ""
    if "=" in name and not _exists(name):
        label, name = name.split("=", 1)
    source = _open(name, field, label)
    return source._replace(label=label) if label else source


def _open(name: str, field: str, label: str) -> RowSource:
    path = _expand_user(name)
    notes: list[str] = []
    if not name.strip() and label:
        raise InputError(field, f"nothing stands behind {label + '='!r:.80}; type {label:.40}=PATH")
    if name and os.path.isdir(path):
        rows = read_folder(path, None, "", field, notes)
        return RowSource(path.resolve().name, str(path), rows, notes)
    if _exists(name):
        return RowSource(_name_of(path), str(path), read_file(path, field, notes), notes)

    files = _matches(path)
    if files:
        return _open_pattern(path, files, field)
    base, parts = _parse_address(name, field)
    if base in DATASETS or (_HUB_NAME.fullmatch(base) and not _is_file_name(base, parts)):
        return _open_hub(base, parts, field, label)
    folder = _expand_user(base)
    if parts and os.path.isdir(folder):
        return _open_part(folder, parts, field)
    if parts and os.path.isfile(folder):
        raise InputError(
            field, f"{str(folder)!r} is a file, which has no parts; leave out {name[len(base) :]}"
        )
    page = _HUB_PAGE.match(name)
    if page:
        raise InputError(field, f"{name!r:.120} is a page; for the dataset type {page[1]}")
    if glob.has_magic(name):
        raise InputError(
            field, f"no file matches {name!r}; type a path, or a pattern that matches files"
        )
    if not label and not path.suffix and path.name == name:
        raise _unknown_dataset(name, field)
    return RowSource(_name_of(path), str(path), read_file(path, field, notes), notes)


def _exists(name: str) -> bool:
    # Unlike Path.exists, this also says no of a name that no file can have.
    return bool(name) and os.path.exists(_expand_user(name))


def _parse_address(name: str, field: str) -> tuple[str, dict[str, str]]:
    """``(name, mark -> part)`` of a name with parts behind it; without parts the name is whole."""
    match = _ADDRESS.fullmatch(name)
    if match is None:
        return name, {}
    parts: dict[str, str] = {}
    for groups in re.findall(_PART, match[2]):
        mark, part = filter(None, groups)
        if mark in parts:
            raise InputError(
                field, f"{name!r:.80} names two {_MARKS[mark]}s; write owner/name:config#split"
            )
        parts[mark] = part
    return match[1], parts


def _is_file_name(base: str, parts: dict[str, str]) -> bool:
    """Whether what looks like ``owner/name`` is a path, or an attempt at one."""
    return _exists(base) or (not parts and base.lower().endswith(_FILE_ENDINGS))


def _open_hub(base: str, parts: dict[str, str], field: str, label: str) -> RowSource:
    named = DATASETS.get(base, Source(base))
    source = Source(
        named.hub,
        parts.get("#", named.split),
        parts.get(":", named.config),
        parts.get("@", named.revision),
    )
    typed = [base.rpartition("/")[2], *(parts[mark] for mark in ":#" if mark in parts)]
    own_label = re.sub(r"[^\w.]+", "-", "-".join(typed)).strip("-")
    notes: list[str] = []
    rows = read_hub_dataset(source, label or own_label, field, notes)
    return RowSource(own_label, source.address, rows, notes)


def _open_part(folder: pathlib.Path, parts: dict[str, str], field: str) -> RowSource:
    """A folder with a configuration or a split behind its name."""
    if "@" in parts:
        raise InputError(field, f"{str(folder)!r} is a folder; leave out @{parts['@']}")
    notes: list[str] = []
    rows = read_folder(folder, parts.get(":"), parts.get("#", ""), field, notes)
    label = "-".join([folder.resolve().name, *(parts[mark] for mark in ":#" if mark in parts)])
    return RowSource(label, str(folder), rows, notes)


def _matches(pattern: pathlib.Path) -> list[pathlib.Path]:
    """The files that a pattern matches, in the order of their names; [] = it is no pattern."""
    if not glob.has_magic(str(pattern)):
        return []
    matches = [pathlib.Path(match) for match in glob.glob(str(pattern), recursive=True)]
    return sorted(match for match in matches if match.is_file())


def _open_pattern(pattern: pathlib.Path, files: list[pathlib.Path], field: str) -> RowSource:
    """All files that a pattern matches."""
    fixed = list(pattern.parts)
    while any(map(glob.has_magic, fixed)):
        fixed.pop()
    root = pathlib.Path(*fixed)
    notes: list[str] = []
    label = re.sub(r"^\W+|\W+$", "", re.split(r"[*?\[]", _name_of(pattern))[0])
    rows = read_files(files, root, field, notes)
    return RowSource(label or root.resolve().name, str(pattern), rows, notes)


def _name_of(path: pathlib.Path) -> str:
    """The name of a file without its endings: "test" for test.jsonl and for test.jsonl.gz."""
    uncompressed = path.with_suffix("") if path.suffix.lower() in (".gz", ".gzip") else path
    return uncompressed.stem


def _expand_user(name: str) -> pathlib.Path:
    # Unlike Path.expanduser, this leaves a "~" that stands for no home folder as it is.
    return pathlib.Path(os.path.expanduser(name))


def _unknown_dataset(name: str, field: str) -> InputError:
    known = [*DATASETS, *(f"synthetic/{task}" for task in TASKS)]
    similar = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {similar[0]!r}? " if similar else ""
    return InputError(
        field,
        f"no dataset {name!r:.80}; {hint}type the path of a file, owner/name of a dataset on the "
        f"Hub, or one of {', '.join(known)}",
    )
