"""What learning on tables came to: tables with controls, CSV lines, pictures."""

import csv
import io
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from experiments.credit_lab.lab_report import table
from experiments.credit_lab.policy_gradient import CONTROLS
from experiments.line_figure import line_figure, line_with_intervals
from experiments.statistics import mean_and_half


class Row(NamedTuple):
    """One reported run, a line of runs.csv."""

    task: str
    arm: str
    rate: float
    seed: int
    reward: float
    greedy: float
    start_reward: float
    start_greedy: float


class CurveRow(NamedTuple):
    """One evaluation of one run, a line of curves.csv."""

    task: str
    arm: str
    seed: int
    step: int
    reward: float
    greedy: float


def mean_with_interval(values: Sequence[float]) -> str:
    """Mean and the half width of its interval, over seeds."""
    mean, half = mean_and_half(values)
    return f"{mean:.2f}" if half is None else f"{mean:.2f} ± {half:.2f}"


def report(rows: Sequence[Row], points: Sequence[CurveRow], facts: dict[str, str]) -> str:
    """The page: a table for each team, with its controls."""
    parts = ["# Learning on tables\n", *(f"- {name}: {value}" for name, value in facts.items()), ""]
    header = [
        "arm",
        "rate",
        "E[R]",
        "minus `shared`",
        "greedy",
        "minus `shared`, greedy",
        "E[R], mean over training",
    ]
    for task in dict.fromkeys(row.task for row in rows):
        of_task = [row for row in rows if row.task == task]
        start = of_task[0]
        lines = [
            ["untrained", "", f"{start.start_reward:.2f}", "", f"{start.start_greedy:.2f}", "", ""]
        ]
        for arm in dict.fromkeys(row.arm for row in of_task):
            own_points = [p for p in points if p.task == task and p.arm == arm]
            lines.append(_line(arm, of_task, own_points))
        parts += [f"## {task}\n", table(header, lines)]
    return "\n".join(parts)


def _line(arm: str, of_task: Sequence[Row], points: Sequence[CurveRow]) -> list:
    """An arm's line of a team's table."""
    own = [row for row in of_task if row.arm == arm]
    shared = {row.seed: row for row in of_task if row.arm == "shared"}
    line = [f"`{arm}`" + (" (control)" if arm in CONTROLS else ""), own[0].rate]
    for field in ("reward", "greedy"):
        line.append(mean_with_interval([getattr(row, field) for row in own]))
        pairs = [(row, shared[row.seed]) for row in own if row.seed in shared]
        gaps = [getattr(row, field) - getattr(other, field) for row, other in pairs]
        line.append("–" if arm == "shared" or not gaps else mean_with_interval(gaps))

    over_training = []
    for row in own:
        rewards = [point.reward for point in points if point.seed == row.seed and point.step > 0]
        over_training.append(statistics.fmean(rewards))
    return [*line, mean_with_interval(over_training)]


def as_csv(rows: Sequence[NamedTuple]) -> str:
    """Lines for programs, the fields' names first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0]._fields)
    writer.writerows(rows)
    return text.getvalue()


def picture(task: str, rows: Sequence[CurveRow], arms: Sequence[str]) -> str:
    """Greedy accuracy over training, each arm's mean over seeds with its interval."""
    lines = []
    for arm in arms:
        own = [row for row in rows if row.task == task and row.arm == arm]
        points = []
        for step in dict.fromkeys(row.step for row in own):
            mean, half = mean_and_half([row.greedy for row in own if row.step == step])
            points.append((step, mean, half))
        lines.append(line_with_intervals(arm, points))
    return line_figure(lines, label=f"greedy accuracy over training steps, {task}")
