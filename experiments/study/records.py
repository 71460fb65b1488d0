"""Finished runs as committed CSV: runs.csv and curves.csv in a folder per task.

    runs.csv    a line per run: arm, seed, plan, outcome, tokens, commit, day
    curves.csv  a line per run and step that was measured: greedy accuracy, that of the step's own
                samples, tokens decoded so far

A run that stands there is not run again, on whatever machine.
"""

import csv
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

RESULTS = pathlib.Path(__file__).parent / "results"

# Between the values of several agents in one cell.
_BETWEEN = ";"

# Columns that are no numbers.
_TEXTS = ("arm", "plan", "commit", "day")


class Records(NamedTuple):
    """What the files of a task hold."""

    runs: list[dict[str, Any]]
    curves: list[dict[str, Any]]

    def of(self, arm: str) -> dict[int, dict[str, Any]]:
        """Seed -> run of an arm."""
        return {row["seed"]: row for row in self.runs if row["arm"] == arm}

    def column(self, arm: str, name: str) -> dict[int, float]:
        """Seed -> one value of an arm's runs, where it was measured."""
        runs = self.of(arm).items()
        return {seed: row[name] for seed, row in runs if row.get(name) is not None}

    def curve(self, arm: str, seed: int) -> list[dict[str, Any]]:
        """The measured steps of a run, in their order."""
        rows = [row for row in self.curves if (row["arm"], row["seed"]) == (arm, seed)]
        return sorted(rows, key=lambda row: row["step"])


class MixedPlansError(Exception):
    """Runs of different plans in one file."""


def read(folder: pathlib.Path) -> Records:
    """The records in a task's folder; none where there are no files."""
    return Records(_read(folder / "runs.csv"), _read(folder / "curves.csv"))


def add(folder: pathlib.Path, run: Mapping[str, Any], curve: Iterable[Mapping[str, Any]]) -> None:
    """Adds a finished run. The curve is written first: a run in runs.csv is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    records = read(folder)
    mine = (run["arm"], run["seed"], run.get("rate"))

    def others(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [row for row in rows if (row["arm"], row["seed"], row.get("rate")) != mine]

    curve = [*others(records.curves), *curve]
    if curve:
        _write(folder / "curves.csv", curve)
    _write(folder / "runs.csv", [*others(records.runs), run])


def check_plans(folder: pathlib.Path, runs: Sequence[Mapping[str, Any]], plans: Mapping[str, str]):
    """Refuses runs whose plan is not today's.

    Args:
      folder: for the message.
      runs: rows of its runs.csv.
      plans: arm -> hash of its plan.

    Raises:
      MixedPlansError: names the arms.
    """
    strange = {row["arm"] for row in runs if row["plan"] != plans.get(row["arm"], row["plan"])}
    if strange:
        raise MixedPlansError(
            f"{folder}: runs of {', '.join(sorted(strange))} were made with another plan (task, "
            "fields, rates, model or measures have changed); move the folder away to begin anew, "
            "or take the change back"
        )


def _read(path: pathlib.Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as lines:
        return [
            {name: _value(name, text) for name, text in row.items()}
            for row in csv.DictReader(lines)
        ]


def _value(name: str, text: str) -> Any:
    """The value of a cell: text, whole or broken number, several numbers, or None."""
    if name in _TEXTS:
        return text
    if not text:
        return None
    if _BETWEEN in text:
        return [float(part) for part in text.split(_BETWEEN)]
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return _BETWEEN.join(map(_text, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)


def _write(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows in the order of arm and seed, all at once."""
    rows = sorted(rows, key=lambda row: (row["arm"], row["seed"], row.get("step", 0)))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    scratch = path.with_suffix(".new")
    with scratch.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _text(value) for name, value in row.items()})
    os.replace(scratch, path)
