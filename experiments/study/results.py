"""What finished runs of the study show: tables, intervals over seeds, learning curves."""

import csv
import datetime
import io
import json
import os
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from ccpo_jax.integers import ceil_div
from ccpo_jax.report.plots import HEIGHT, LEFT, WIDTH, Line, line_chart
from experiments.statistics import mean_and_half
from experiments.study.tasks import TASKS, Run, methods_of


class Course(NamedTuple):
    """How one run went.

    Attributes:
      tokens: tokens decoded up to the end of each step.
      accuracy: the team's accuracy on each step's problems, in [0, 1].
      final: metrics of the last evaluation on held-out problems.
      start: metrics of the evaluation before training.
    """

    tokens: list[float]
    accuracy: list[float]
    final: dict[str, float]
    start: dict[str, float]


Courses = dict[tuple[str, int], Course]  # (method, seed) -> course


def read(run: Run, out: pathlib.Path) -> Course:
    """The course of a finished run."""
    folder = run.folder(out)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = lines[1:]

    total = 0.0
    tokens = []
    for step in steps:
        total += step["decoded_tokens"]
        tokens.append(total)

    result = json.loads((folder / "result.json").read_text())
    accuracy = [step["team_accuracy"] for step in steps]
    return Course(tokens, accuracy, final=result["after"], start=result["before"])


def read_finished(task: str, out: pathlib.Path, seeds: Sequence[int]) -> Courses:
    """The courses of a task's finished runs."""
    courses = {}
    for method in methods_of(task):
        for seed in seeds:
            run = Run(task, method, seed)
            if (run.folder(out) / "result.json").is_file():
                courses[method, seed] = read(run, out)
    return courses


def mean_until(course: Course, budget: float) -> float:
    """Mean training accuracy over the steps that end within a budget of decoded tokens."""
    inside = []
    for tokens, accuracy in zip(course.tokens, course.accuracy, strict=True):
        if tokens <= budget:
            inside.append(accuracy)
    return statistics.fmean(inside)


def figures(course: Course, budget: float, num_agents: int) -> dict[str, float]:
    """The columns of a table for one run: per cent, and tokens in thousands."""
    team = course.final["eval/team_accuracy"]
    columns = {"curve": 100 * mean_until(course, budget), "held-out": 100 * team}
    # A team of one has nobody to do without.
    is_team = "eval/free_ride/0" in course.final
    for agent in range(num_agents if is_team else 0):
        free_ride = course.final[f"eval/free_ride/{agent}"]
        without = course.final[f"eval/without_agent_accuracy/{agent}"]
        columns[f"free rides {agent}"] = 100 * free_ride / max(team, 1e-9)
        columns[f"loss without {agent}"] = 100 * (team - without)
    columns["tokens"] = course.tokens[-1] / 1000
    return columns


def compare(
    task: str, courses: Courses, against: str = "shared"
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Compares the methods of a task, seed by seed, with the method `against`.

    Returns:
      ``(lines, runs)``: a table line per method, the untrained team first, and a line per run.
    """
    # A learning curve ends where the method that decoded least ended.
    budget = min(course.tokens[-1] for course in courses.values())
    num_agents = 3 if TASKS[task].config == "voting" else 2
    runs = {key: figures(course, budget, num_agents) for key, course in courses.items()}

    lines: list[dict[str, Any]] = []
    for name, is_solo in (("untrained", False), ("untrained solo", True)):
        starts = {}
        for (method, seed), course in courses.items():
            if (method == "solo") == is_solo:
                starts[seed] = 100 * course.start["eval/team_accuracy"]
        if starts:
            mean = statistics.fmean(starts.values())
            lines.append({"method": name, "seeds": len(starts), "held-out": mean})
    for method in methods_of(task):
        by_seed = {seed: columns for (name, seed), columns in runs.items() if name == method}
        if by_seed:
            lines.append(_method_line(method, by_seed, runs, against))

    run_lines = []
    for (method, seed), columns in runs.items():
        run_lines.append({"task": task, "method": method, "seed": seed} | columns)
    return lines, run_lines


def _method_line(
    method: str,
    by_seed: dict[int, dict[str, float]],
    runs: dict[tuple[str, int], dict[str, float]],
    against: str,
) -> dict[str, Any]:
    """A method's means with their intervals, and its paired differences from `against`."""
    line: dict[str, Any] = {"method": method, "seeds": len(by_seed)}
    for name in next(iter(by_seed.values())):
        line[name], line[f"{name} ±"] = mean_and_half(
            [columns[name] for columns in by_seed.values()]
        )

    if method == against:
        return line
    for name in ("curve", "held-out"):
        differences = []
        for seed, columns in by_seed.items():
            if (against, seed) in runs:
                differences.append(columns[name] - runs[against, seed][name])
        if differences:
            column = f"{name} − {against}"
            line[column], line[f"{column} ±"] = mean_and_half(differences)
    return line


def markdown(task: str, lines: Sequence[dict]) -> str:
    """A task's table for people."""
    names = dict.fromkeys(name for line in lines[1:] for name in line)
    columns = [name for name in names if not name.endswith("±")]
    curve_differences = [name for name in columns if name.startswith("curve − ")]
    heldout_differences = [name for name in columns if name.startswith("held-out − ")]

    first = ["method", "seeds", "curve", *curve_differences, "held-out", *heldout_differences]
    columns = first + [name for name in columns if name not in first]

    rows = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for line in lines:
        rows.append("| " + " | ".join(_cell(line, column) for column in columns) + " |")
    return f"### {task}: {TASKS[task].description}\n\n" + "\n".join(rows) + "\n"


def _cell(line: dict, column: str) -> str:
    value = line.get(column)
    if value is None:
        return "–"
    if isinstance(value, str | int):
        return str(value)
    sign = "+" if "−" in column else ""
    half = line.get(f"{column} ±")
    interval = "" if half is None else f" ± {half:.1f}"
    return f"{value:{sign}.1f}{interval}"


def source(task: str, courses: Courses, out: pathlib.Path) -> str:
    """The paragraph under a table: command, commits, dates and the meaning of its columns."""
    commits = set()
    days = set()
    for method, seed in courses:
        folder = Run(task, method, seed).folder(out)
        stamp = folder / "commit.txt"
        if stamp.is_file():
            commits.add(stamp.read_text().strip())
        written = (folder / "result.json").stat().st_mtime
        days.add(f"{datetime.date.fromtimestamp(written)}")

    first_and_last = dict.fromkeys((min(days), max(days)))
    seeds = ",".join(map(str, sorted({seed for _, seed in courses})))
    return (
        f"`python -m experiments.study --task={task} --seeds={seeds}`, one run per core of "
        f"{os.cpu_count()}; commits {', '.join(sorted(commits))}; {' and '.join(first_and_last)}. "
        "Per cent, 95 % intervals by Student's t over seeds, differences paired by seed. *curve*: "
        "mean accuracy in training until the method that decoded least had ended; *free rides k*: "
        "of the answers the team gets right, the share it also gets right without agent k; *loss "
        "without k*: points of held-out accuracy lost without agent k; *tokens*: decoded, in "
        "thousands.\n"
    )


_COLOURS = (
    "#0b63b0",
    "#c4500a",
    "#12805c",
    "#9a3f86",
    "#8a6d00",
    "#2f86ad",
    "#6350cf",
    "#6d747d",
    "#5a9a1c",
    "#d0216b",
    "#444a00",
)
_NAMES_PER_LINE = 3
_NAME_HEIGHT = 13
_STYLE = (
    "svg{background:#fff;font:12px sans-serif}path{fill:none}.grid-line{stroke:#ddd}"
    ".zero{stroke:#888}.cursor{display:none}.line{stroke:currentColor;stroke-width:1.7}"
    ".band{fill:currentColor;opacity:.15}"
    + "".join(f".c{i}{{color:{colour}}}" for i, colour in enumerate(_COLOURS))
)


def picture(task: str, courses: Courses) -> str:
    """A task's learning curves as SVG: each method's mean over seeds with its 95 % interval."""
    lines = []
    for method in dict.fromkeys(name for name, _ in courses):
        runs = [course.accuracy for (name, _), course in courses.items() if name == method]
        points = [mean_and_half(values) for values in zip(*runs, strict=False)]
        means = [mean for mean, _ in points]
        band = [(mean - half, mean + half) for mean, half in points if half is not None]
        lines.append(Line(method, list(range(1, len(points) + 1)), means, band))

    legend_height = 8 + _NAME_HEIGHT * ceil_div(len(lines), _NAMES_PER_LINE)
    names = ""
    for i, line in enumerate(lines):
        x = LEFT + (WIDTH - LEFT) // _NAMES_PER_LINE * (i % _NAMES_PER_LINE)
        y = _NAME_HEIGHT * (i // _NAMES_PER_LINE) - legend_height + 12
        colour = f"c{i % len(_COLOURS)}"
        names += f'<text class="{colour}" x="{x}" y="{y}" fill="currentColor">{line.name}</text>'

    chart = line_chart(lines, label=f"team accuracy in training, {task}", colours=len(_COLOURS))
    inside = chart[chart.index(">") + 1 :]
    view = f"0 {-legend_height} {WIDTH} {HEIGHT + legend_height}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="720" viewBox="{view}">'
    return f"{head}<style>{_STYLE}</style>{names}{inside}\n"


def as_csv(lines: Sequence[dict]) -> str:
    """Lines for programs."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for line in lines for name in line))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def write(task: str, courses: Courses, out: pathlib.Path, against: str) -> str:
    """Writes a task's table, CSV file and picture into `out`. Returns the table."""
    lines, runs = compare(task, courses, against)
    table = markdown(task, lines)
    text = f"{table}\n{source(task, courses, out)}"
    (out / f"{task}.md").write_text(text, encoding="utf-8")
    (out / f"{task}.csv").write_text(as_csv(runs), encoding="utf-8")
    (out / f"{task}.svg").write_text(picture(task, courses), encoding="utf-8")
    return table
