"""Datasets by name, from the Hub, local files or generators; defects are dropped and counted."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ccpo_jax.data.located_row import LocatedRow
from ccpo_jax.data.problems import Dataset, Problem, drop_repeated_questions
from ccpo_jax.data.rows import BY_NAMES, RowReader, problems_of
from ccpo_jax.data.sources import open_source
from ccpo_jax.data.synthetic import OWN_TASKS, SPLITS, TASKS, VIEWS, most_problems
from ccpo_jax.errors import InputError
from ccpo_jax.fields import path_exists
from ccpo_jax.references import explain
from ccpo_jax.status import Phase, status

_SYNTHETIC_PREFIX = "synthetic/"

# Number of synthetic problems where the caller names no size.
_SYNTHETIC_SIZE = {"train": 8192, "test": 1024, "pretrain": 8192}


def load(
    name: str,
    *,
    size: int | None = None,
    seed: int = 0,
    field: str = "data.train",
    reader: RowReader = BY_NAMES,
    num_agents: int = 3,
    informed: int = 1,
) -> Dataset:
    """Loads one dataset.

    Args:
      name: a file, parquet, JSON, JSON lines, CSV or LogiQA's eight-line text, recognised by its
        content, also compressed by gzip; a pattern of files, ``data/train-*.parquet``; a folder
        that `save_to_disk` wrote, or in the Hub's layout, ``folder#split``; a key of `DATASETS`;
        any dataset of the Hub, ``owner/name:config@revision#split``, each part but the name
        optional; ``label=`` before any of these; or ``synthetic/<task>``, of which
        ``synthetic/<task>/test`` has other problems than training sees. A path that exists is that
        path, and ``~`` is expanded.
      size: synthetic sets only: number of problems; None = a size that suits the split.
      seed: synthetic sets only: decides which problems.
      field: configuration field to name in errors; where a dataset has several splits and none is
        named, data.eval takes test, else validation, and other fields train.
      reader: how rows become problems; its mapping applies where a set has all of its columns.
      num_agents: synthetic sets whose agents see different texts only: how many read a problem.
      informed: the same sets only: how many of them see the whole problem.

    Returns:
      The problems in the order of the rows. Rows without a question or a gold and repeated
      questions are dropped and counted.

    Raises:
      InputError: unknown name, missing or malformed file, no network, rows that can be read in
        several ways, no problem left after dropping, or more informed agents than there are.

    Example:
      >>> load("synthetic/dyad", size=2).problems[0].verifier
      'exact'
    """
    if name.startswith(_SYNTHETIC_PREFIX):
        return _generate(name, size, seed, field, reader, num_agents, informed)
    with status(f"loading {name}", unit="rows") as phase:
        source = open_source(name, field)
        rows = _counted(source.rows, phase)
        dataset = problems_of(source.label, rows, field, origin=source.origin, reader=reader)
    return dataclasses.replace(dataset, notes=(*source.notes, *dataset.notes))


def _counted(rows: Iterable[LocatedRow], phase: Phase) -> Iterator[LocatedRow]:
    """The rows; the status line shows how many have been read."""
    for count, row in enumerate(rows):
        phase.update(count)
        yield row


def load_many(
    names: str | Sequence[str],
    *,
    size: int | None = None,
    seed: int = 0,
    field: str = "data.train",
    reader: RowReader = BY_NAMES,
    num_agents: int = 3,
    informed: int = 1,
) -> Dataset:
    """Loads several datasets as one; questions repeated across them are dropped and counted.

    Args:
      names: ``"a+b"`` or a sequence of names as `load` takes them.
      size: as in `load`.
      seed: as in `load`.
      field: as in `load`.
      reader: as in `load`.
      num_agents: as in `load`.
      informed: as in `load`.

    Raises:
      InputError: as in `load`; or two datasets of one name, whose problems would have the same ids.
    """
    if isinstance(names, str):
        # A path may have "+" in it.
        is_path = path_exists(names)
        names = [names] if is_path else [name.strip() for name in names.split("+")]
    options: dict[str, Any] = {"size": size, "seed": seed, "field": field, "reader": reader}
    options |= {"num_agents": num_agents, "informed": informed}
    return join([load(name, **options) for name in names], field)


def join(datasets: Sequence[Dataset], field: str) -> Dataset:
    """Several datasets as one; questions repeated across them are dropped and counted.

    Args:
      datasets: at least one.
      field: configuration field to name in errors.

    Raises:
      InputError: two datasets have one name.
    """
    if len(datasets) == 1:
        return datasets[0]

    check_names(datasets, field)
    problems: list[Problem] = []
    dropped: collections.Counter[str] = collections.Counter()
    readings: collections.Counter[str] = collections.Counter()
    for dataset in datasets:
        problems.extend(dataset.problems)
        dropped.update(dataset.dropped)
        readings.update(dataset.readings)
    unique = drop_repeated_questions(problems, dropped)
    notes = tuple(f"{dataset.name}: {note}" for dataset in datasets for note in dataset.notes)
    reasons = [dataset.unmapped for dataset in datasets]
    return Dataset(
        "+".join(dataset.name for dataset in datasets),
        unique,
        dict(dropped),
        notes,
        readings=dict(readings),
        # It applies to the whole where it applies to a part.
        unmapped="" if "" in reasons else reasons[0],
    )


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


def _generate(
    name: str,
    size: int | None,
    seed: int,
    field: str,
    reader: RowReader,
    num_agents: int,
    informed: int,
) -> Dataset:
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

    if reader.verifier == "choice":
        raise InputError(
            "verifier.name",
            f"choice judges options, and the problems of {name} have none; type "
            "--config.verifier.name=auto",
        )

    most = most_problems(task, split)
    if size is not None and size > most:
        raise InputError("data.size", f"{name} has {most} problems, not {size}; type at most that")
    size = int(min(most, _SYNTHETIC_SIZE[split])) if size is None else size
    verifier = "exact" if reader.verifier == "auto" else reader.verifier
    problems = []
    for number, (question, gold) in enumerate(_pairs(task, split, size, seed, field)):
        views = _views(task, question, num_agents, informed)
        row = {"question": question, "answer": gold}
        problems.append(Problem(f"{name}/{number}", question, gold, verifier, views=views, row=row))
    unmapped = f"{name} is generated" if reader.columns else ""
    return Dataset(name, tuple(problems), {}, unmapped=unmapped)


def _views(task: str, question: str, num_agents: int, informed: int) -> tuple[str, ...]:
    """What each agent sees of a problem; () where all see the question."""
    if task not in VIEWS:
        return ()
    if task in OWN_TASKS:
        return VIEWS[task](question, num_agents, informed)
    return VIEWS[task](question)


def _pairs(task: str, split: str, size: int, seed: int, field: str) -> list[tuple[str, str]]:
    """The questions and golds of a synthetic set; those of a plugin's task are checked."""
    if task in OWN_TASKS:
        return TASKS[task](split, size, seed)
    try:
        pairs = TASKS[task](split, size, seed)
    except Exception as error:
        raise explain(error, field, f"synthetic/{task}", TASKS[task]) from error
    texts = [text for pair in pairs if isinstance(pair, tuple) and len(pair) == 2 for text in pair]
    if not pairs or len(texts) != 2 * len(pairs) or not all(isinstance(t, str) for t in texts):
        raise InputError(
            field,
            f"synthetic/{task} returned {pairs!r:.80}; it has to return a list of (question, "
            "gold), both text",
        )
    return pairs
