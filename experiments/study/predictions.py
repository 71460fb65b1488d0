"""What learning on tables predicts for a task, from the laboratory's committed CSV files."""

import csv
import functools
import pathlib
import statistics

LEARNING = pathlib.Path(__file__).parents[1] / "credit_lab" / "results" / "learning"

# Task of the study -> team of tables.
_TEAMS = {
    "parts_3": "parts_3",
    "parts_5": "parts_5",
    "parts_9": "parts_9",
    "parts_15": "parts_15",
    "voting_3": "symmetric_3",
    "voting_9": "symmetric_9",
}


def greedy(task: str, folder: pathlib.Path = LEARNING) -> dict[str, float]:
    """Arm -> greedy accuracy after the last step, per cent, mean over seeds; {} = nothing is
    predicted.
    """
    values: dict[str, list[float]] = {}
    for arm, value in _rows(folder).get(_TEAMS.get(task, ""), ()):
        values.setdefault(arm, []).append(100 * value)
    return {arm: statistics.fmean(of_arm) for arm, of_arm in values.items()}


@functools.cache
def _rows(folder: pathlib.Path) -> dict[str, list[tuple[str, float]]]:
    """Team of tables -> (arm, greedy accuracy) of every run."""
    rows: dict[str, list[tuple[str, float]]] = {}
    for path in sorted(folder.glob("**/runs.csv")):
        with path.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                rows.setdefault(row["task"], []).append((row["arm"], float(row["greedy"])))
    return rows
