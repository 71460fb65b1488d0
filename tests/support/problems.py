"""Small problems, LogiQA text and files for tests of datasets."""

import json
import pathlib
from collections.abc import Iterable

from ccpo_jax.data import Dataset, Problem

LOGIQA = (
    "\nb\nAll cats sleep.\nWhat follows?\nA.Dogs sleep\nB.Cats sleep\nC.No one sleeps\nD. None\n"
)


def problems(count: int) -> tuple[Problem, ...]:
    return tuple(Problem(f"set/{i}", f"question {i}", str(i), "math") for i in range(count))


def ids(problems: Dataset | Iterable[Problem]) -> list[str]:
    if isinstance(problems, Dataset):
        problems = problems.problems
    return [problem.id for problem in problems]


def write_json(folder: pathlib.Path, name: str, rows: list) -> str:
    (folder / name).write_text(json.dumps(rows))
    return str(folder / name)
