"""Problems from the Hub, from local files and from generators, with their defects dropped and counted.

One reader serves every source: a row's columns tell what it is. Adding a dataset is one line in `DATASETS`.
"""

import collections
import dataclasses
import difflib
import functools
import hashlib
import json
import pathlib
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ccpo_jax.tasks import SPLITS, TASKS

_QUESTION = ("question", "problem", "query")
_CONTEXT = ("context", "text")
_GOLD = ("answer", "correct_option", "groundtruth", "solution")
_PREFIX = re.compile(r"^\s*\(?([A-Z])\s*[.):：]\s*")  # "A. ", "B) ", "(C) "
_SYNTHETIC_SIZE = 8192  # problems generated where the configuration names no size


@dataclasses.dataclass(frozen=True)
class Problem:
    """One problem as the agents see it."""

    id: str
    question: str  # full text, options included
    gold: str
    verifier: str  # a key of VERIFIERS: math, choice or exact


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Problems, and what was left out for which reason."""

    name: str
    problems: tuple[Problem, ...]
    dropped: Mapping[str, int]

    def summary(self) -> str:
        """One line for the log."""
        lost = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()) if count)
        return f"{self.name}: {len(self.problems)} problems" + (f" (dropped: {lost})" if lost else "")


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a named dataset lives on the Hub."""

    hub: str
    split: str
    config: str | None = None
    revision: str | None = None


# --- loading ---------------------------------------------------------------------------------------------------------


def load(name: str, *, size: int | None = None, seed: int = 0, field: str = "data") -> Dataset:
    """Loads one dataset.

    Args:
      name: a key of `DATASETS` (from the Hub), ``synthetic/<task>`` (or ``synthetic/<task>/<split>``), or a parquet,
        jsonl, json or LogiQA txt file.
      size: synthetic sets: problems to generate; None = a default.
      seed: synthetic sets: which problems.
      field: configuration field to name in errors.

    Raises:
      ValueError: unknown name, missing or malformed file, no network, or nothing left after dropping.
    """
    if name.startswith("synthetic/"):
        return _generate(name, size or _SYNTHETIC_SIZE, seed, field)
    if name in DATASETS:
        rows: Iterable[Mapping[str, Any]] = _download(name, DATASETS[name], field)
    elif pathlib.Path(name).suffix or "/" in name:
        rows = _read_file(pathlib.Path(name), field)
    else:
        close = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"use a file path or one of {', '.join(DATASETS)}"
        raise ValueError(f"{field}: {name!r} is no dataset; {hint}")
    return collect(pathlib.Path(name).stem if name not in DATASETS else name, rows, field=field)


def load_many(names: str, *, size: int | None = None, seed: int = 0, field: str = "data") -> Dataset:
    """Loads ``"a+b"``: several datasets as one, duplicates across them dropped and counted."""
    parts = [load(name.strip(), size=size, seed=seed, field=field) for name in names.split("+")]
    if len(parts) == 1:
        return parts[0]
    dropped = collections.Counter()
    for part in parts:
        dropped.update(part.dropped)
    kept = _unique([problem for part in parts for problem in part.problems], dropped)
    return Dataset("+".join(part.name for part in parts), tuple(kept), dict(dropped))


def collect(name: str, rows: Iterable[Mapping[str, Any]], *, field: str = "data") -> Dataset:
    """Turns rows into problems; rows without a question or a gold, and repeated questions, are dropped and counted.

    Raises:
      ValueError: a row lacks the columns altogether, or nothing is left.
    """
    problems, dropped = [], collections.Counter()
    for number, row in enumerate(rows):
        question, gold, verifier = parse_row(row, where=f"{field}: {name}, row {number}")
        if not question:
            dropped["empty question"] += 1
        elif not gold:
            dropped["empty gold"] += 1
        else:
            problems.append(Problem(f"{name}/{number}", question, gold, verifier))
    kept = _unique(problems, dropped)
    if not kept:
        raise ValueError(f"{field}: {name} holds no problem with a question and an answer; name another file or set")
    return Dataset(name, tuple(kept), dict(dropped))


def _unique(problems: Sequence[Problem], dropped: collections.Counter) -> list[Problem]:
    seen: dict[str, Problem] = {}
    for problem in problems:
        seen.setdefault(normalise(problem.question), problem)
    if len(seen) < len(problems):
        dropped["duplicate question"] += len(problems) - len(seen)
    return list(seen.values())


def normalise(question: str) -> str:
    """Text by which two questions count as the same: case and white space do not matter."""
    return " ".join(question.lower().split())


# --- rows ------------------------------------------------------------------------------------------------------------


def parse_row(row: Mapping[str, Any], *, where: str = "row") -> tuple[str, str, str]:
    """(question, gold, verifier) of one row; an empty string where the row has nothing.

    Options make it multiple choice: they are written below the question as lettered lines, and the gold is a letter.
    Otherwise the gold is the answer column (after ``####`` where there is one), or the last box of a solution.

    Raises:
      ValueError: if the row has no question or no answer column at all.
    """
    question, gold = _first(row, _QUESTION), _first(row, _GOLD)
    if question is None or gold is None:
        raise ValueError(
            f"{where}: needs a column of {'/'.join(_QUESTION)} and one of {'/'.join(_GOLD)}, "
            f"has {', '.join(row) or 'none'}"
        )
    context, options = _first(row, _CONTEXT), row.get("options")
    text = "\n".join(part for part in (_text(row[context]) if context else "", _text(row[question])) if part)
    if options is not None:
        if not isinstance(options, Sequence | np.ndarray) or isinstance(options, str) or not 2 <= len(options) <= 26:
            raise ValueError(f"{where}: options must be a list of 2 to 26 texts, received {options!r:.60}")
        lettered = [_lettered(letter, _text(option)) for letter, option in zip(string.ascii_uppercase, options)]  # noqa: B905
        return "\n".join([text, *lettered]), _letter(row[gold], len(options)), "choice"
    if gold == "solution":
        return text, _last_box(_text(row[gold])), "math"
    return text, _bare(_text(row[gold]).rpartition("####")[2]), "math"


def _first(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in row), None)


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _lettered(letter: str, option: str) -> str:
    """``A. text``, whether or not the option brings its own letter."""
    own = _PREFIX.match(option)
    return f"{letter}. {option[own.end() :] if own and own[1] == letter else option}"


def _letter(value: Any, count: int) -> str:
    """ "b", "B) text", 1 -> "B"; empty if it names no option."""
    if isinstance(value, bool):
        return ""
    if isinstance(value, int | np.integer):
        return string.ascii_uppercase[value] if 0 <= value < count else ""
    text = _text(value).upper()
    if re.fullmatch(r"\d+", text):
        return _letter(int(text), count)
    return text[0] if text and text[0] in string.ascii_uppercase[:count] and not text[1:2].isalpha() else ""


def _bare(gold: str) -> str:
    """Without one pair of dollars around the whole."""
    gold = gold.strip()
    inside = gold[1:-1]
    return inside.strip() if len(gold) > 1 and gold[0] == gold[-1] == "$" and "$" not in inside else gold


def _last_box(solution: str) -> str:
    """Content of the last ``\\boxed{...}`` of a worked solution."""
    start = solution.rfind("\\boxed{")
    depth, begin = 1, start + len("\\boxed{")
    for end in range(begin, len(solution) if start >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(solution[end], 0)
        if depth == 0:
            return solution[begin:end].strip()
    return ""


# --- sources ---------------------------------------------------------------------------------------------------------


def _generate(name: str, size: int, seed: int, field: str) -> Dataset:
    task, _, split = name.removeprefix("synthetic/").partition("/")
    if task not in TASKS or split not in ("", *SPLITS):
        known = ", ".join(f"synthetic/{task}" for task in TASKS)
        raise ValueError(f"{field}: {name!r} is no synthetic task; use one of {known}, or synthetic/TASK/test")
    pairs = TASKS[task](split or "train", size, seed)
    return Dataset(name, tuple(Problem(f"{name}/{i}", q, a, "exact") for i, (q, a) in enumerate(pairs)), {})


def _download(name: str, source: Source, field: str) -> Iterable[Mapping[str, Any]]:
    import datasets

    try:
        return datasets.load_dataset(source.hub, source.config, split=source.split, revision=source.revision)
    except Exception as error:  # the library raises a dozen unrelated types for "not there" and "no network"
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{field}: {name!r} could not be loaded from the Hub as {source.hub} ({type(error).__name__}: {reason}); "
            f"check the network, or type --config.{field}=FILE with a local parquet, jsonl or json file"
        ) from error


def _read_file(path: pathlib.Path, field: str) -> list[Mapping[str, Any]]:
    readers = {".parquet": _read_parquet, ".jsonl": _read_jsonl, ".json": _read_json, ".txt": _read_logiqa}
    if path.suffix not in readers:
        raise ValueError(f"{field}: {str(path)!r} is neither a dataset name nor a {', '.join(readers)} file")
    if not path.is_file():
        raise ValueError(f"{field}: there is no file {str(path)!r}; check the path")
    try:
        return readers[path.suffix](path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{field}: {path} cannot be read: {str(error).strip().splitlines()[0]}") from error


def _read_parquet(path: pathlib.Path) -> list[Mapping[str, Any]]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    wanted = [c for c in table.column_names if c in (*_QUESTION, *_CONTEXT, *_GOLD, "options")]
    return table.select(wanted or table.column_names).to_pylist()


def _read_jsonl(path: pathlib.Path) -> list[Mapping[str, Any]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is no JSON ({error.msg})") from error
            if not isinstance(rows[-1], dict):
                raise ValueError(f"line {number} must hold an object, received {line.strip()[:40]!r}")
    return rows


def _read_json(path: pathlib.Path) -> list[Mapping[str, Any]]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("must hold a list of objects")
    return rows


def _read_logiqa(path: pathlib.Path) -> list[Mapping[str, Any]]:
    """LogiQA 1.0: records of eight lines: blank, gold letter, context, question, four options."""
    lines = path.read_text(encoding="utf-8").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if len(lines) % 8:
        raise ValueError(f"LogiQA text has records of eight lines, received {len(lines)} lines")
    rows = []
    for first in range(0, len(lines), 8):
        blank, gold, context, question, *options = (line.strip() for line in lines[first : first + 8])
        if blank or not re.fullmatch(r"[A-Da-d]", gold):
            raise ValueError(
                f"line {first + 1} must be blank and line {first + 2} a letter a-d, received {gold[:40]!r}"
            )
        rows.append({"context": context, "question": question, "options": options, "answer": gold})
    return rows


# --- splits and batches ----------------------------------------------------------------------------------------------


def split_heldout(dataset: Dataset, size: int, seed: int) -> tuple[Dataset, Dataset]:
    """(training part, held-out part): the `size` problems whose hashed question comes first are held out.

    Raises:
      ValueError: if nothing would be left to train on.
    """
    if size >= len(dataset.problems):
        raise ValueError(
            f"data.heldout: {size} of {len(dataset.problems)} problems would leave none to train on; use fewer"
        )

    def rank(problem: Problem) -> bytes:
        return hashlib.sha256(f"{seed}/{normalise(problem.question)}".encode("utf-8", "replace")).digest()

    chosen = frozenset(p.id for p in sorted(dataset.problems, key=rank)[:size])
    parts = [tuple(p for p in dataset.problems if (p.id in chosen) == held) for held in (False, True)]
    return (
        dataclasses.replace(dataset, problems=parts[0]),
        Dataset(f"{dataset.name}, held out", parts[1], {}),
    )


def decontaminate(train: Dataset, tests: Sequence[Dataset]) -> Dataset:
    """`train` without the questions that stand in a test set."""
    forbidden = {normalise(problem.question) for test in tests for problem in test.problems}
    kept = tuple(p for p in train.problems if normalise(p.question) not in forbidden)
    lost = len(train.problems) - len(kept)
    if not kept:
        raise ValueError(f"data.train: all of {train.name} stands in the test sets of data.eval; use other sets")
    return dataclasses.replace(train, problems=kept, dropped={**train.dropped, "also in a test set": lost})


def batch_at(problems: Sequence[Problem], seed: int, step: int, batch_size: int) -> list[Problem]:
    """The batch of a step: a pure function, so there is no iterator to save.

    Every epoch is a fresh permutation, cut into whole batches; what is left over waits for another epoch. A set smaller
    than the batch is repeated.

    Args:
      problems: the training set.
      seed: decides the order.
      step: from 0.
      batch_size: B.
    """
    epoch, index = divmod(step, max(len(problems) // batch_size, 1))
    order = _order(len(problems), seed, epoch)
    first = index * batch_size
    return [problems[order[i % len(problems)]] for i in range(first, first + batch_size)]


@functools.lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch]))).permutation(count)


DATASETS = {
    "math": Source("DigitalLearningGmbH/MATH-lighteval", "train"),
    "math500": Source("HuggingFaceH4/MATH-500", "test"),
    "aime24": Source("HuggingFaceH4/aime_2024", "train"),
    "aime25": Source("math-ai/aime25", "test"),
    "amc23": Source("math-ai/amc23", "test"),
    "minervamath": Source("math-ai/minervamath", "test"),
    "gaokao2023en": Source("MARIO-Math-Reasoning/Gaokao2023-Math-En", "train"),
    "gsm8k": Source("openai/gsm8k", "train", config="main"),
    "gsm8k_test": Source("openai/gsm8k", "test", config="main"),
    "logiqa": Source("lucasmccabe/logiqa", "train", revision="refs/convert/parquet"),
    "logiqa_dev": Source("lucasmccabe/logiqa", "validation", revision="refs/convert/parquet"),
    "logiqa_test": Source("lucasmccabe/logiqa", "test", revision="refs/convert/parquet"),
}
