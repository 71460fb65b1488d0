"""Rows of folders: written by `save_to_disk`, in the layout of the Hub, or files of one kind."""

import json
import logging
import os
import pathlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ccpo_jax.data.arrow_rows import read_table
from ccpo_jax.data.files import read_file
from ccpo_jax.data.hub_datasets import Source, choose_split, explain_parts, unknown_split
from ccpo_jax.data.located_row import LocatedRow
from ccpo_jax.errors import InputError
from ccpo_jax.extras import train_extra

# What `save_to_disk` writes beside the rows of a dataset, and of one with splits.
_SAVED_DATASET = "state.json"
_SAVED_SPLITS = "dataset_dict.json"

# How files of rows end, and those of the Hub that only describe a dataset.
_KINDS = frozenset((".parquet", ".json", ".jsonl", ".csv", ".tsv"))
_DESCRIPTIONS = ("dataset_infos.json", "dataset_info.json")


def read_folder(
    folder: pathlib.Path, config: str | None, split: str, field: str, notes: list[str]
) -> Iterator[LocatedRow]:
    """The rows of one split of a folder.

    Args:
      folder: exists.
      config: of a folder whose README lists several; None = it has one only.
      split: "" = the one that suits the field.
      field: configuration field to name in errors.
      notes: receives the split that was chosen, and columns that are left out.

    Raises:
      InputError: the folder holds no data, has no such configuration or split, or is malformed.
    """
    source = Source(str(folder), split, config)
    is_saved = (folder / _SAVED_SPLITS).is_file() or (folder / _SAVED_DATASET).is_file()
    try:
        if is_saved:
            return _read_saved(folder, source, field, notes)
        files = _files_of(folder, config)
    except InputError:
        raise
    except Exception as error:
        part_error = explain_parts(source, error, field)
        if part_error is not None:
            raise part_error from error
        # The library raises errors of any type over malformed folders.
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            field,
            f"{folder}: {reason}; name the files themselves by a pattern such as {folder}/*.jsonl",
        ) from error
    chosen = _choose(source, list(files), field, notes)
    other = _other_kind(folder, files[chosen]) if config is None else None
    if other is not None:
        notes.append(f"files of another kind not read, such as {other}")
    return read_files(files[chosen], folder, field, notes)


def _other_kind(folder: pathlib.Path, files: Sequence[pathlib.Path]) -> pathlib.Path | None:
    """A data file in a folder, of another format than those that are read; None = there is none."""
    kinds = {_kind(file) for file in files}
    others = (path for path in sorted(folder.iterdir()) if _kind(path) in _KINDS - kinds)
    return next((path for path in others if path.name not in _DESCRIPTIONS), None)


def _kind(path: pathlib.Path) -> str:
    """How the name of a file ends: ".csv" of "a.csv.gz"."""
    return pathlib.Path(path.name.removesuffix(".gz")).suffix.lower()


def read_files(
    files: Iterable[pathlib.Path], folder: pathlib.Path, field: str, notes: list[str]
) -> Iterator[LocatedRow]:
    """The rows of several files, one file after the other.

    Args:
      files: in their order.
      folder: errors name the files relative to it.
      field: configuration field to name in errors.
      notes: receives a line about columns that are left out.

    Raises:
      InputError: while rows are read: a file is malformed.
    """
    for file in files:
        name = os.path.relpath(file, folder)
        for location, row in read_file(file, field, notes):
            yield LocatedRow(f"{name}, {location}", row)


def _read_saved(
    folder: pathlib.Path, source: Source, field: str, notes: list[str]
) -> Iterator[LocatedRow]:
    """The rows of a folder that `save_to_disk` wrote."""
    # Imported late: it is slow, and files do not need it.
    with train_extra():
        import datasets

    if source.config is not None:
        raise InputError(
            field,
            f"{folder} is of save_to_disk, without configurations; leave out :{source.config}",
        )
    if (folder / _SAVED_SPLITS).is_file():
        content = json.loads((folder / _SAVED_SPLITS).read_text(encoding="utf-8"))
        folder = folder / _choose(source, content["splits"], field, notes)
    elif source.split:
        raise InputError(field, f"{folder} has no splits; leave out #{source.split}")
    return read_table(datasets.load_from_disk(str(folder)), notes)


def _files_of(folder: pathlib.Path, config: str | None) -> dict[str, list[pathlib.Path]]:
    """Split -> its files, in the layout that the Hub knows: by name, or as the README says."""
    with train_extra():
        import datasets

    # It warns of a folder without a README.
    logger = logging.getLogger("huggingface_hub.repocard")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as cache:
            # The rows are read by this package, which names the line of an error.
            builder: Any = datasets.load_dataset_builder(
                str(folder.resolve()), config, cache_dir=cache
            )
            files = builder.config.data_files or {}
    finally:
        logger.setLevel(level)
    return {str(split): [pathlib.Path(file) for file in files[split]] for split in files}


def _choose(source: Source, splits: Sequence[str], field: str, notes: list[str]) -> str:
    """The split that was named, or the one that suits the field."""
    chosen = source.split or choose_split(splits, field)
    if chosen not in splits:
        raise unknown_split(source, splits, field)
    if len(splits) > 1 and not source.split:
        notes.append(f"split {chosen} of {source.address}")
    return chosen
