"""Learning rates from pilots on other seeds, by one rule for every arm.

The rule: of the rates in the grid, the one whose pilots have the highest mean greedy accuracy after
the last step; of equal ones the lower. Pilots stand in results/TASK/pilots/, the choice in
rates.csv.
"""

import csv
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.study.plans import RATES_FILE, chosen_rates
from experiments.study.tasks import RATES


def choose(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Arm -> rate, for the arms whose pilots are complete: all rates, with equal seeds.

    Example:
      >>> rows = [{"arm": "a", "seed": 0, "rate": rate, "greedy": 50.0} for rate in RATES]
      >>> choose(rows)
      {'a': 0.0001}
    """
    greedy: dict[str, dict[float, dict[int, float]]] = {}
    for row in runs:
        of_arm = greedy.setdefault(row["arm"], {})
        of_arm.setdefault(row["rate"], {})[row["seed"]] = row["greedy"]

    chosen = {}
    for arm, by_rate in greedy.items():
        seeds = {frozenset(values) for values in by_rate.values()}
        if set(by_rate) == set(RATES) and len(seeds) == 1:
            means = {rate: statistics.fmean(by_rate[rate].values()) for rate in sorted(RATES)}
            chosen[arm] = max(means, key=lambda rate: means[rate])
    return chosen


def write_rates(task: str, chosen: Mapping[str, float], path: pathlib.Path = RATES_FILE) -> None:
    """Adds a task's rates to the file."""
    rates = chosen_rates(path)
    rates |= {(task, arm): rate for arm, rate in chosen.items()}
    with path.open("w", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(("task", "arm", "rate"))
        for (name, arm), rate in sorted(rates.items()):
            writer.writerow((name, arm, f"{rate:g}"))
