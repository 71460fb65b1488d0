"""Judged answers, and the files that they come in.

A file holds one JSON object a line, or one list of objects. Its rows may have our own form (the
fields of `Case`), or one of the forms in which public sets come: the model solutions of GSM8K, the
generations of Qwen2.5-Math, the outputs of MMLU-Pro. The keys of a row tell which it is.
"""

import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ccpo_jax.errors import InputError

Row = Mapping[str, Any]


class Case(NamedTuple):
    """An answer and the verdict that is right.

    Attributes:
      verifier: a key of `ccpo_jax.verifiers.VERIFIERS`.
      gold: the reference answer.
      answer: the model's whole text.
      correct: whether the text answers the problem.
      options: the texts of the options in their order; () where there are none.
      question: what was asked; "" where it is not known.
      source: where the case comes from.
    """

    verifier: str
    gold: str
    answer: str
    correct: bool
    options: tuple[str, ...] = ()
    question: str = ""
    source: str = ""


def read_cases(path: pathlib.Path) -> list[Case]:
    """The cases of a file.

    Raises:
      InputError: if the file cannot be read, or if a row has none of the known forms.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("set", f"cannot read {path}: {error}; use NAME=FILE") from error

    cases: list[Case] = []
    for number, row in enumerate(_rows(text, path), start=1):
        for is_of_form, read in _FORMS:
            if is_of_form(row):
                cases += read(row)
                break
        else:
            keys = ", ".join(sorted(row)) or "none"
            message = f"row {number} of {path} has no known form, only the keys {keys}; use rows"
            raise InputError("set", f"{message} with verifier, gold, answer and correct")
    return cases


def _rows(text: str, path: pathlib.Path) -> Iterator[Row]:
    try:
        if text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise InputError("set", f"{path} is not JSON: {error}; use one object a line") from error

    for row in rows:
        if not isinstance(row, dict):
            raise InputError("set", f"{path}: received {row!r:.40}; use one object a line")
        yield row


def _read_own(row: Row) -> Iterator[Case]:
    options = tuple(map(str, row.get("options") or ()))
    question = str(row.get("question") or "")
    source = str(row.get("source") or "")
    answer = str(row["answer"])
    yield Case(
        row["verifier"], str(row["gold"]), answer, bool(row["correct"]), options, question, source
    )


def _read_gsm8k(row: Row) -> Iterator[Case]:
    """Four models answer each question; the gold follows "####"."""
    gold = row["ground_truth"].rpartition("####")[2].strip()
    for model, solution in row.items():
        if isinstance(solution, dict) and "is_correct" in solution:
            answer = solution["solution"]
            correct = bool(solution["is_correct"])
            yield Case("math", gold, answer, correct, (), row["question"], model)


def _read_qwen(row: Row) -> Iterator[Case]:
    """Generations with the scores that their own grader gave."""
    source = f"question {row.get('idx', '')}"
    for answer, score in zip(row["code"], row["score"], strict=True):
        yield Case("math", str(row["gt"]), answer, bool(score), (), row["question"], source)


def _read_mmlu_pro(row: Row) -> Iterator[Case]:
    """One output, judged by the letter that the set's own program found in it."""
    answer = row.get("model_outputs") or row.get("response") or ""
    correct = row.get("pred") == row["answer"]
    options = tuple(row["options"])
    source = f"question {row.get('question_id', '')}"
    yield Case("choice", row["answer"], answer, correct, options, row["question"], source)


def _has(*keys: str) -> Callable[[Row], bool]:
    return lambda row: all(key in row for key in keys)


_FORMS: tuple[tuple[Callable[[Row], bool], Callable[[Row], Iterator[Case]]], ...] = (
    (_has("verifier", "gold", "answer", "correct"), _read_own),
    (_has("question", "ground_truth"), _read_gsm8k),
    (_has("question", "gt", "code", "score"), _read_qwen),
    (_has("question", "options", "answer", "pred"), _read_mmlu_pro),
)
