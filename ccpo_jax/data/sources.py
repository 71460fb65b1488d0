"""Where rows come from: what a name in `data.train` or `data.eval` stands for."""

import difflib
import os
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

from ccpo_jax.data.files import LocatedRow, read_file
from ccpo_jax.data.hub_datasets import DATASETS, read_hub_dataset
from ccpo_jax.data.synthetic import TASKS
from ccpo_jax.errors import InputError


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

    Args:
      name: as `ccpo_jax.data.load` takes it, other than synthetic sets.
      field: configuration field to name in errors.

    Raises:
      InputError: there is nothing of that name, or it cannot be read.
    """
    if name in DATASETS:
        return RowSource(name, name, read_hub_dataset(name, field), [])

    label, file = "", name
    # A file may have "=" in its own name.
    if "=" in name and not _expand_user(name).is_file():
        label, file = name.split("=", 1)
    is_bare_word = not pathlib.Path(file).suffix and pathlib.Path(file).name == file
    if is_bare_word and not label:
        raise _unknown_dataset(name, field)
    path = _expand_user(file)
    return RowSource(label or _name_of(path), str(path), read_file(path, field), [])


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
        field, f"no dataset {name!r}; {hint}type the path of a file or one of {', '.join(known)}"
    )
