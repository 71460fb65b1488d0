"""Problems from the Hub, from local files and from generators, with their defects dropped and counted.

One reader serves every source: a row's columns tell what it is. A dataset from the Hub is one line in `DATASETS`.
"""

import collections
import dataclasses
import difflib
import functools
import hashlib
import json
import math
import pathlib
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ccpo_jax.data.synthetic import SPLITS, TASKS, VIEWS
from ccpo_jax.errors import first_line
from ccpo_jax.hf import hub

_CONTEXT = ("context", "text")
_QUESTION = ("question", "problem", "query")
_GOLD = ("answer", "correct_option", "groundtruth", "solution")
_SYNTHETIC_SIZE = {
    "train": 8192,
    "test": 1024,
    "pretrain": 8192,
}  # problems where the caller names no size

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Problem:
    """One problem as the agents see it."""

    id: str  # name of the set and number of the row, from 0: "math/17"
    question: str  # full text: passage, question, options
    gold: str  # a letter where there are options
    verifier: str  # a key of VERIFIERS: math, choice or exact
    context: str = ""  # the passage alone; several problems may ask about one
    views: tuple[
        str, ...
    ] = ()  # what each agent reads in place of the question; () = all read the question

    @property
    def told(self) -> str | tuple[str, ...]:
        """What a rollout is given: the text that all agents read, or each agent's own."""
        return self.views or self.question

    def seen_by(self, agent: int) -> str:
        """What one agent reads."""
        return self.views[agent] if self.views else self.question


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Problems, and what was left out for which reason."""

    name: str
    problems: tuple[Problem, ...]
    dropped: Mapping[str, int]  # reason -> rows, positive

    def summary(self) -> str:
        """One line for the log."""
        lost = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        return f"{self.name}: {len(self.problems)} problems" + (
            f" (dropped: {lost})" if lost else ""
        )


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a named dataset lives on the Hub."""

    hub: str
    split: str
    config: str | None = None
    revision: str | None = None


class UnusableRow(Exception):
    """A row that lacks what a problem needs; the message is the reason under which it is counted."""


# --- loading ---------------------------------------------------------------------------------------------------------


def load(
    name: str, *, size: int | None = None, seed: int = 0, field: str = "data.train"
) -> Dataset:
    """Loads one dataset.

    Args:
      name: a key of `DATASETS` (from the Hub); a file, parquet, JSON, JSON lines or LogiQA's eight-line text, told by
        its content; ``label=FILE`` to give a file a name of its own; or ``synthetic/<task>``, of which
        ``synthetic/<task>/test`` holds other problems than training sees.
      size: synthetic sets only: problems to generate; None = a size that suits the split.
      seed: synthetic sets only: which problems.
      field: configuration field to name in errors.

    Returns:
      The problems in the order of the rows. Rows without a question or a gold and repeated questions are counted.

    Raises:
      ValueError: unknown name, missing or malformed file, no network, or nothing left after dropping.

    Example:
      >>> load("synthetic/dyad", size=2).problems[0].verifier
      'exact'
    """
    if name.startswith("synthetic/"):
        return _generate(name, size, seed, field)
    if name in DATASETS:
        return _collect(name, _download(name, field), f"{field}: {name}")
    labelled = "=" in name and not pathlib.Path(name).is_file()
    label, path = name.split("=", 1) if labelled else ("", name)
    if not label and not pathlib.Path(path).suffix and pathlib.Path(path).name == path:
        known = [*DATASETS, *(f"synthetic/{task}" for task in TASKS)]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(
            f"{field}: no dataset {name!r}; {hint}type the path of a file or one of {', '.join(known)}"
        )
    return _collect(
        label or pathlib.Path(path).stem, _read_file(pathlib.Path(path), field), f"{field}: {path}"
    )


def load_many(
    names: str | Sequence[str], *, size: int | None = None, seed: int = 0, field: str = "data.train"
) -> Dataset:
    """Loads several datasets as one; questions repeated across them are dropped and counted.

    Args:
      names: ``"a+b"`` or a sequence of names as `load` takes them.
      size, seed, field: as in `load`.

    Raises:
      ValueError: as in `load`; or two parts of one name, whose problems could not be told apart.
    """
    if isinstance(names, str):
        names = (
            [names]
            if pathlib.Path(names).is_file()
            else [name.strip() for name in names.split("+")]
        )
    parts = [load(name, size=size, seed=seed, field=field) for name in names]
    labels = [part.name for part in parts]
    if len(set(labels)) < len(labels):
        raise ValueError(
            f"{field}: two datasets are called {_most_common(labels)!r}; name one of them: label=FILE"
        )
    if len(parts) == 1:
        return parts[0]
    dropped = collections.Counter()
    for part in parts:
        dropped.update(part.dropped)
    problems = _unique((problem for part in parts for problem in part.problems), dropped)
    return Dataset("+".join(labels), problems, dict(dropped))


def _most_common(labels: Sequence[str]) -> str:
    return collections.Counter(labels).most_common(1)[0][0]


def _collect(name: str, rows: Iterable[tuple[str, Row]], origin: str) -> Dataset:
    """Problems from (place, row) pairs; `origin` and place stand in errors."""
    problems, dropped = [], collections.Counter()
    for number, (place, row) in enumerate(rows):
        try:
            problems.append(parse_row(row, id=f"{name}/{number}"))
        except UnusableRow as reason:
            dropped[str(reason)] += 1
        except ValueError as error:
            raise ValueError(f"{origin}, {place}: {error}") from error
    unique = _unique(problems, dropped)
    if not unique:
        lost = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "no rows"
        raise ValueError(
            f"{origin} holds no problem with a question and an answer ({lost}); name another set or file"
        )
    return Dataset(name, unique, dict(dropped))


def _unique(problems: Iterable[Problem], dropped: collections.Counter) -> tuple[Problem, ...]:
    first: dict[str, Problem] = {}
    for problem in problems:
        if first.setdefault(_normal(problem.question), problem) is not problem:
            dropped["duplicate question"] += 1
    return tuple(first.values())


def _normal(text: str) -> str:
    """Text by which two questions count as the same: case and white space do not matter, signs do."""
    return " ".join(text.lower().split())


# --- rows ------------------------------------------------------------------------------------------------------------


def parse_row(row: Row, *, id: str = "") -> Problem:
    """Turns one row of any known kind into a problem.

    A passage stands before the question. Options make it multiple choice: they follow the question as lettered lines,
    and the gold is a letter. Otherwise the gold is the answer (after ``####`` where there is one), or the last box of
    a solution.

    Args:
      row: columns context or text (optional); question, problem or query; options (optional); answer, correct_option,
        groundtruth or solution; views (optional), one text per agent to read in place of all the others.
      id: name of the problem.

    Raises:
      UnusableRow: an empty question, an empty gold, or a gold that is none of the options.
      ValueError: a missing column or a value of the wrong type; says nothing of where the row stands.

    Example:
      >>> parse_row({"query": "Which?", "options": ["this", "that"], "correct_option": 1})
      Problem(id='', question='Which?\\nA. this\\nB. that', gold='B', verifier='choice', context='', views=())
    """
    asked = _column(row, _QUESTION)
    answered = _column(row, _GOLD)
    question, gold = _text(row, asked), row[answered]
    if not question:
        raise UnusableRow("empty question")
    if (
        gold is None or gold != gold or isinstance(gold, str) and not gold.strip()
    ):  # NaN: an empty cell among numbers
        raise UnusableRow("empty gold")
    context = next((_text(row, name) for name in _CONTEXT if name in row), "")
    question = f"{context}\n{question}" if context else question
    views = _views(row)
    if row.get("options") is None:
        return Problem(id, question, _free_gold(gold, answered), "math", context, views)
    options = _lettered(row["options"])
    letter = _letter(gold, len(options), answered)
    return Problem(id, "\n".join([question, *options]), letter, "choice", context, views)


def _column(row: Row, names: Sequence[str]) -> str:
    found = next((name for name in names if name in row), None)
    if found is None:
        raise ValueError(
            f"no column {' or '.join(names)} among {', '.join(map(str, row)) or 'none'}"
        )
    return found


def _text(row: Row, column: str) -> str:
    value = row[column]
    if not isinstance(value, str | None):
        raise ValueError(f"{column} must be text, received {value!r:.40}")
    return _whole(value or "").strip()


def _views(row: Row) -> tuple[str, ...]:
    views = row.get("views")
    if views is None:
        return ()
    if not isinstance(views, list | tuple | np.ndarray) or not all(
        isinstance(view, str) for view in views
    ):
        raise ValueError(f"views must be a list of texts, one per agent, received {views!r:.40}")
    return tuple(_whole(view).strip() for view in views)


def _whole(text: str) -> str:
    """Lone surrogates, which JSON can spell and nothing can write or print, become "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _lettered(options: Any) -> list[str]:
    """``A. text`` lines, whether or not the options bring their letters."""
    if not isinstance(options, list | tuple) or not all(
        isinstance(option, str) for option in options
    ):
        raise ValueError(f"options must be a list of texts, received {options!r:.40}")
    if not 2 <= len(options) <= 26:
        raise ValueError(f"options must be 2 to 26 texts, received {len(options)}")
    own = [re.match(r"\s*\(?([A-Z])[.):]\s*", option) for option in options]
    if [match and match[1] for match in own] == list(string.ascii_uppercase[: len(options)]):
        options = [option[match.end() :] for option, match in zip(options, own, strict=True)]
    return [
        f"{letter}. {option.strip()}"
        for letter, option in zip(string.ascii_uppercase, map(_whole, options), strict=False)
    ]


def _letter(gold: Any, count: int, column: str) -> str:
    """1, "b", "(B)" or "B) text" -> "B"."""
    if isinstance(gold, bool) or not isinstance(gold, int | str):
        raise ValueError(f"{column} must be a letter or a number from 0, received {gold!r:.40}")
    if isinstance(gold, int):
        letter = string.ascii_uppercase[gold] if 0 <= gold < count else None
    else:
        match = re.fullmatch(r"\(?([A-Za-z])(?:[.):].*)?", gold.strip(), flags=re.DOTALL)
        letter = match and match[1].upper()
    if letter is None or letter not in string.ascii_uppercase[:count]:
        raise UnusableRow("gold is none of the options")
    return letter


def _free_gold(gold: Any, column: str) -> str:
    if isinstance(gold, bool) or not isinstance(gold, int | float | str):
        raise ValueError(f"{column} must be text or a number, received {gold!r:.40}")
    text = _whole(str(gold))
    text = _last_box(text) if column == "solution" else text.rpartition("####")[2].strip()
    wrapped = re.fullmatch(
        r"\$\$?([^$]*[^$\\])\$\$?(?:\s*[A-Za-z]+:)?", text
    )  # a heading may have slipped in behind
    text = wrapped[1].strip() if wrapped else text
    if not text:
        raise UnusableRow("empty gold")
    return text


def _last_box(solution: str) -> str:
    """Content of the last ``\\boxed{...}`` of a worked solution; empty if there is none or it stays open."""
    _, box, rest = solution.rpartition("\\boxed{")
    depth = 1
    for token in re.finditer(r"\\.|[{}]", rest if box else "", flags=re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return rest[: token.start()].strip()
    return ""


# --- sources ---------------------------------------------------------------------------------------------------------


def _generate(name: str, size: int | None, seed: int, field: str) -> Dataset:
    task, _, split = name.removeprefix("synthetic/").partition("/")
    split = split or "train"
    if task not in TASKS or split not in SPLITS:
        known = ", ".join(f"synthetic/{task}" for task in TASKS)
        raise ValueError(
            f"{field}: no synthetic set {name!r}; type one of {known}, or synthetic/TASK/test"
        )
    if size is not None and size < 1:
        raise ValueError(
            f"data.size: must be at least 1, received {size}; type how many problems you want"
        )
    pairs = TASKS[task](split, _SYNTHETIC_SIZE[split] if size is None else size, seed)
    view = VIEWS.get(task, lambda question: ())
    problems = (
        Problem(f"{name}/{i}", q, gold, "exact", views=view(q)) for i, (q, gold) in enumerate(pairs)
    )
    return Dataset(name, tuple(problems), {})


def _download(name: str, field: str) -> Iterator[tuple[str, Row]]:
    import datasets  # not needed for files
    from huggingface_hub import constants

    source = DATASETS[name]
    local = f"a local file: --config.{field}={name}=path/to/file.parquet"
    if not constants.HF_HUB_OFFLINE:  # offline mode reads the cache
        hub.require_network(field, name, f"{local}, or HF_HUB_OFFLINE=1 where it is cached")
    try:
        table = datasets.load_dataset(
            source.hub, source.config, split=source.split, revision=source.revision
        )
    except (
        Exception
    ) as error:  # the library has a dozen unrelated types for "not there" and "no network"
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(
            f"{field}: cannot load {name!r} from the Hub as {source.hub} ({reason}); check the network, or type {local}"
        ) from error
    return ((f"row {number}", row) for number, row in enumerate(table))


def _read_file(path: pathlib.Path, field: str) -> list[tuple[str, Row]]:
    """(place, row) pairs of a file; the format is told by the content."""
    if not path.is_file():
        raise ValueError(
            f"{field}: no file {str(path)!r}; type the path of a parquet, JSON, JSON lines or LogiQA file"
        )
    try:
        content = path.read_bytes()
        if content.startswith(b"PAR1"):
            return _read_parquet(path)
        text = content.decode("utf-8-sig")
        if not text.strip():
            raise ValueError("the file is empty")
        reader = {"[": _read_json, "{": _read_objects}.get(text.lstrip()[:1], _read_logiqa)
        return reader(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else first_line(error)
        raise ValueError(f"{field}: {path}: {reason:.300}") from error


def _read_parquet(path: pathlib.Path) -> list[tuple[str, Row]]:
    import pyarrow.parquet  # comes with datasets

    table = pyarrow.parquet.ParquetFile(path)
    names = table.schema_arrow.names
    wanted = [name for name in names if name in (*_CONTEXT, *_QUESTION, *_GOLD, "options")]
    rows = table.read(columns=wanted or names).to_pylist()
    return [(f"row {number}", row) for number, row in enumerate(rows)]


def _read_json(text: str) -> list[tuple[str, Row]]:
    rows = json.loads(text)
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"row {number} must be an object with columns, received {row!r:.40}")
    return [(f"row {number}", row) for number, row in enumerate(rows)]


def _read_objects(text: str) -> list[tuple[str, Row]]:
    """JSON lines, or a single object however it is laid out."""
    try:
        return [("row 0", _not_a_wrapper(json.loads(text)))]
    except json.JSONDecodeError:
        return _read_json_lines(text)


def _not_a_wrapper(row: Row) -> Row:
    """The object itself, unless it is none of the problems but holds their list."""
    lists = [key for key, value in row.items() if isinstance(value, list)]
    if lists and not row.keys() & {*_QUESTION}:
        raise ValueError(
            f"a list of problems is expected, received one object that has a list under the key {lists[0]!r}; give "
            "that list itself, as JSON or one object a line"
        )
    return row


def _read_json_lines(text: str) -> list[tuple[str, Row]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"line {number} is no JSON: {error.msg} at character {error.pos}"
                ) from error
            if not isinstance(row, dict):
                raise ValueError(
                    f"line {number} must be an object with columns, received {line.strip()[:40]!r}"
                )
            rows.append((f"line {number}", row))
    return rows


def _read_logiqa(text: str) -> list[tuple[str, Row]]:
    """LogiQA 1.0: records of eight lines: blank, gold letter, context, question, four options."""
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if lines[:1] != [""] or len(lines) < 8:
        raise ValueError(
            "neither parquet, JSON, JSON lines nor LogiQA's records of eight lines, the first of them blank"
        )
    rows = []
    for first in range(0, len(lines), 8):
        blank, gold, context, question, *options = [*lines[first : first + 8], *[""] * 8][:8]
        if blank or gold not in tuple("abcdABCD") or not all(options):
            raise ValueError(
                f"line {first + 1} must begin a record of eight lines: blank, a letter a to d, context, question, four "
                f"options; received {lines[first : first + 2]} and {len(lines) - first} lines to the end"
            )
        row = {
            "context": context,
            "question": question,
            "options": _unmarked(options),
            "answer": gold,
        }
        rows.append((f"line {first + 1}", row))
    return rows


def _unmarked(options: Sequence[str]) -> list[str]:
    """LogiQA's options in the order of their letters and without them.

    The letters are part of the text and went through its translation: some lines stand in the order A, C, B, D (the
    gold is the letter, not the place), some have lost the point after the letter, and in some the letter has moved into
    the sentence ("Professor C.Lin quit").
    """
    marks = [re.match(r"([A-D])(?:\s*[.?]\s*|\s+)", option) for option in options]
    letters = [mark[1] if mark else "" for mark in marks]
    if sorted(letters) == list("ABCD"):
        texts = [option[mark.end() :] for option, mark in zip(options, marks, strict=True)]
        return [text for _, text in sorted(zip(letters, texts, strict=True))]
    return [
        re.sub(rf"^(?i:{letter})(?:\s*[.?]\s*|\s+)|\b{letter}\.", "", option, count=1)
        for letter, option in zip("ABCD", options, strict=True)
    ]


# --- splits ----------------------------------------------------------------------------------------------------------


def split_heldout(dataset: Dataset, size: int, seed: int) -> tuple[Dataset, Dataset]:
    """Splits off problems that select the best checkpoint.

    The choice hangs on the texts and the seed alone, not on the order of the rows. A passage is asked about in one part
    only: training problems about a held-out passage (of the last one held out, in part) are dropped and counted.

    Args:
      dataset: problems, no question twice.
      size: problems to hold out, >= 0.
      seed: decides which.

    Returns:
      (training part, held-out part), each in the order of `dataset`.

    Raises:
      ValueError: a negative size, or nothing would be left to train on.
    """
    if size < 0:
        raise ValueError(
            f"data.heldout: must be at least 0, received {size}; type how many problems to hold out"
        )

    def rank(problem: Problem) -> tuple[bytes, bytes]:
        texts = (_passage(problem), _normal(problem.question))
        return tuple(
            hashlib.sha256(f"{seed}/{text}".encode("utf-8", "replace")).digest() for text in texts
        )

    chosen = set(sorted(dataset.problems, key=rank)[:size])
    passages = {_passage(problem) for problem in chosen}
    heldout = tuple(problem for problem in dataset.problems if problem in chosen)
    train = tuple(problem for problem in dataset.problems if _passage(problem) not in passages)
    if not train:
        total = len(dataset.problems)
        raise ValueError(
            f"data.heldout: {size} of {total} problems of {dataset.name} leave none to train on; type fewer"
        )
    rest = dataclasses.replace(
        dataset, problems=tuple(p for p in dataset.problems if p not in chosen)
    )
    return _without(rest, train, "on a held-out passage"), Dataset(
        f"{dataset.name}, held out", heldout, {}
    )


def decontaminate(train: Dataset, tests: Sequence[Dataset], *, similarity: float = 1.0) -> Dataset:
    """Takes from a training set what a test set asks.

    A training problem goes if its passage, or its question where there is none, stands in a test set word for word.
    With a similarity below 1 a passage also goes if it shares that part of its words with one of a test set, such as
    another translation of it. Templates share their words too, so keep this to passages written one by one: at 0.5 it
    finds in LogiQA 2.0 dev what LogiQA test holds, and in LogicalDeduction it would find everything.

    Args:
      train: problems to train on.
      tests: sets that will be reported on.
      similarity: in (0, 1], words of both passages over words of either, from which on they count as one.

    Returns:
      `train` with fewer problems and the number dropped.

    Raises:
      ValueError: a similarity out of range, or nothing left.

    Example:
      >>> problems = [Problem("s/0", "one?", "1", "math"), Problem("s/1", "two?", "2", "math")]
      >>> left = decontaminate(Dataset("s", problems, {}), [Dataset("t", problems[:1], {})])
      >>> [problem.id for problem in left.problems], left.dropped
      (['s/1'], {'also in a test set': 1})
    """
    if not 0 < similarity <= 1:
        raise ValueError(
            f"data.similarity: must be in (0, 1], received {similarity}; type 1.0 for equal passages only"
        )
    asked = {_passage(problem) for test in tests for problem in test.problems}
    vocabularies = {
        _words(problem.context) for test in tests for problem in test.problems if problem.context
    }

    @functools.cache
    def is_alike(context: str) -> bool:
        words = _words(context)
        near = (
            v
            for v in vocabularies
            if min(len(v), len(words)) >= similarity * max(len(v), len(words))
        )
        return any(len(words & other) >= similarity * len(words | other) for other in near)

    def is_asked(problem: Problem) -> bool:
        return _passage(problem) in asked or (
            similarity < 1 and problem.context != "" and is_alike(problem.context)
        )

    kept = tuple(problem for problem in train.problems if not is_asked(problem))
    if not kept:
        raise ValueError(
            f"data.train: all of {train.name} stands in the test sets of data.eval; type other sets, or "
            "--config.data.similarity=1.0 where passages come from templates"
        )
    return _without(train, kept, "also in a test set")


def _without(dataset: Dataset, kept: tuple[Problem, ...], reason: str) -> Dataset:
    lost = len(dataset.problems) - len(kept)
    dropped = {**dataset.dropped, reason: lost} if lost else dataset.dropped
    return dataclasses.replace(dataset, problems=kept, dropped=dropped)


def _passage(problem: Problem) -> str:
    return _normal(problem.context or problem.question)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


# --- batches ---------------------------------------------------------------------------------------------------------


def batch_at(problems: Sequence[Problem], seed: int, step: int, batch_size: int) -> list[Problem]:
    """The batch of a step: a pure function, so there is no iterator whose state to save.

    Epochs follow one another without a gap, each a fresh permutation of all problems; a batch may begin in one and end
    in the next and still holds no problem twice. Only a set smaller than the batch repeats.

    Args:
      problems: the training set, not empty.
      seed: decides the order.
      step: training step, >= 0.
      batch_size: B, >= 1.

    Returns:
      B problems.

    Raises:
      ValueError: no problems, a negative step or a batch size below 1.

    Example:
      >>> [batch_at("abcd", 0, step, 3) for step in range(4)]
      [['a', 'c', 'b'], ['d', 'c', 'b'], ['d', 'a', 'c'], ['b', 'd', 'a']]
    """
    if not len(problems) or step < 0 or batch_size < 1:
        raise ValueError(
            f"batch_at: {len(problems)} problems, step {step}, batch_size {batch_size}; type at least 1, 0 and 1"
        )
    apart = batch_size if len(problems) >= batch_size else 1
    places = (
        divmod(place, len(problems)) for place in range(step * batch_size, (step + 1) * batch_size)
    )
    return [problems[_order(len(problems), seed, epoch, apart)[index]] for epoch, index in places]


@functools.lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int, batch_size: int) -> np.ndarray:
    """Order of an epoch, int64 [count], that repeats nothing the batch begun in the epoch before already holds.

    Such a batch has fewer than `batch_size` problems on either side, so it is enough to move those to the end of the
    first `batch_size` of this epoch. What it holds follows from the last epoch that began with a batch of its own.
    """
    period = batch_size // math.gcd(count, batch_size)
    begun = np.empty(0, np.int64)
    for past in range(epoch - epoch % period, epoch + 1):
        order = _shuffled(count, seed, past)
        head = order[:batch_size]
        again = np.isin(head, begun)
        order[:batch_size] = np.concatenate([head[~again], head[again]])
        begun = order[count - (past + 1) * count % batch_size :]
    return order


def _shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation by sorting raw Philox words: their stream is fixed by definition, unlike that of `Generator`."""
    key = np.array([seed % 2**64, epoch], np.uint64)
    return np.random.Philox(key=key).random_raw(count).argsort(kind="stable")


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
