"""Datasets by name, from the Hub, local files or generators; defects are dropped and counted."""

import collections
import difflib
import os
import pathlib
from collections.abc import Iterable, Sequence

from ccpo_jax.data.files import read_file
from ccpo_jax.data.hub_datasets import DATASETS, read_hub_dataset
from ccpo_jax.data.problems import Dataset, Problem, drop_repeated_questions
from ccpo_jax.data.rows import problems_of
from ccpo_jax.data.synthetic import SPLITS, TASKS, VIEWS
from ccpo_jax.errors import InputError

_SYNTHETIC_PREFIX = "synthetic/"

# Number of synthetic problems where the caller names no size.
_SYNTHETIC_SIZE = {"train": 8192, "test": 1024, "pretrain": 8192}


def load(
    name: str, *, size: int | None = None, seed: int = 0, field: str = "data.train"
) -> Dataset:
    """Loads one dataset.

    Args:
      name: a key of `DATASETS` (from the Hub); a file, parquet, JSON, JSON lines or LogiQA's
        eight-line text, recognised by its content, also compressed by gzip, ``~`` expanded;
        ``label=FILE`` to give a file a name of its own; or ``synthetic/<task>``, of which
        ``synthetic/<task>/test`` has other problems than training sees.
      size: synthetic sets only: number of problems; None = a size that suits the split.
      seed: synthetic sets only: decides which problems.
      field: configuration field to name in errors.

    Returns:
      The problems in the order of the rows. Rows without a question or a gold and repeated
      questions are dropped and counted.

    Raises:
      InputError: unknown name, missing or malformed file, no network, rows that can be read in
        several ways, or no problem left after dropping.

    Example:
      >>> load("synthetic/dyad", size=2).problems[0].verifier
      'exact'
    """
    if name.startswith(_SYNTHETIC_PREFIX):
        return _generate(name, size, seed, field)
    if name in DATASETS:
        return problems_of(name, read_hub_dataset(name, field), field, origin=name)

    label, file = "", name
    # A file may have "=" in its own name.
    if "=" in name and not _expand_user(name).is_file():
        label, file = name.split("=", 1)
    is_bare_word = not pathlib.Path(file).suffix and pathlib.Path(file).name == file
    if is_bare_word and not label:
        raise _unknown_dataset(name, field)
    path = _expand_user(file)
    rows = read_file(path, field)
    return problems_of(label or _name_of(path), rows, field, origin=str(path))


def load_many(
    names: str | Sequence[str], *, size: int | None = None, seed: int = 0, field: str = "data.train"
) -> Dataset:
    """Loads several datasets as one; questions repeated across them are dropped and counted.

    Args:
      names: ``"a+b"`` or a sequence of names as `load` takes them.
      size: as in `load`.
      seed: as in `load`.
      field: as in `load`.

    Raises:
      InputError: as in `load`; or two datasets of one name, whose problems would have the same ids.
    """
    if isinstance(names, str):
        # A file may have "+" in its own name.
        is_file = _expand_user(names).is_file()
        names = [names] if is_file else [name.strip() for name in names.split("+")]
    datasets = [load(name, size=size, seed=seed, field=field) for name in names]
    if len(datasets) == 1:
        return datasets[0]

    check_names(datasets, field)
    problems: list[Problem] = []
    dropped: collections.Counter[str] = collections.Counter()
    for dataset in datasets:
        problems.extend(dataset.problems)
        dropped.update(dataset.dropped)
    unique = drop_repeated_questions(problems, dropped)
    return Dataset("+".join(dataset.name for dataset in datasets), unique, dict(dropped))


def check_names(datasets: Iterable[Dataset], field: str) -> None:
    """Datasets that are used together have different names.

    Problems are known by the name of their dataset, and so are metrics of a test set.

    Args:
      datasets: used together.
      field: configuration field to name in errors.

    Raises:
      InputError: two have the same name.
    """
    uses = collections.Counter(dataset.name for dataset in datasets)
    for name, count in uses.items():
        if count > 1:
            raise InputError(
                field, f"two datasets are called {name!r}; give one of them a name: label=FILE"
            )


def _name_of(path: pathlib.Path) -> str:
    """The name of a file without its endings: "test" for test.jsonl and for test.jsonl.gz."""
    uncompressed = path.with_suffix("") if path.suffix.lower() in (".gz", ".gzip") else path
    return uncompressed.stem


def _expand_user(name: str) -> pathlib.Path:
    # Unlike Path.expanduser, this leaves a "~" that stands for no home folder as it is.
    return pathlib.Path(os.path.expanduser(name))


def _unknown_dataset(name: str, field: str) -> InputError:
    known = [*DATASETS, *(_SYNTHETIC_PREFIX + task for task in TASKS)]
    similar = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {similar[0]!r}? " if similar else ""
    return InputError(
        field, f"no dataset {name!r}; {hint}type the path of a file or one of {', '.join(known)}"
    )


def _generate(name: str, size: int | None, seed: int, field: str) -> Dataset:
    """A synthetic dataset from its name, ``synthetic/<task>[/<split>]``."""
    task, _, split = name.removeprefix(_SYNTHETIC_PREFIX).partition("/")
    split = split or "train"
    if task not in TASKS or split not in SPLITS:
        known = ", ".join(_SYNTHETIC_PREFIX + task for task in TASKS)
        raise InputError(
            field, f"no synthetic set {name!r}; type one of {known}, or synthetic/TASK/test"
        )
    if size is not None and size < 1:
        raise InputError(
            "data.size", f"must be at least 1, received {size}; type how many problems you want"
        )

    size = _SYNTHETIC_SIZE[split] if size is None else size
    problems = []
    for number, (question, gold) in enumerate(TASKS[task](split, size, seed)):
        views = VIEWS[task](question) if task in VIEWS else ()
        problems.append(Problem(f"{name}/{number}", question, gold, "exact", views=views))
    return Dataset(name, tuple(problems), {})
