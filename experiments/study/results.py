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
    """One run's course."""

    tokens: list[float]  # decoded until the end of each step
    accuracy: list[float]  # of the team on the step's problems, in [0, 1]
    final: dict[str, float]  # last evaluation on held-out problems
    start: dict[str, float]  # the one before training


def read(run: Run, out: pathlib.Path) -> Course:
    """What a finished run has left."""
    folder = run.folder(out)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][1:]
    spent, tokens = 0.0, []
    for line in lines:
        spent += line["decoded_tokens"]
        tokens.append(spent)
    result = json.loads((folder / "result.json").read_text())
    return Course(
        tokens, [line["team_accuracy"] for line in lines], result["after"], result["before"]
    )


def mean_until(course: Course, budget: float) -> float:
    """Mean accuracy along a run while it has decoded less than a budget: the height of its learning curve."""
    inside = [
        accuracy
        for tokens, accuracy in zip(course.tokens, course.accuracy, strict=True)
        if tokens <= budget
    ]
    return statistics.fmean(inside)


def figures(course: Course, budget: float, agents: int) -> dict[str, float]:
    """What a table says about one run, in per cent, tokens in thousands."""
    final = course.final
    team = final["eval/team_accuracy"]
    found = {"curve": 100 * mean_until(course, budget), "held-out": 100 * team}
    for agent in range(agents):
        found[f"free rides {agent}"] = 100 * final[f"eval/free_ride/{agent}"] / max(team, 1e-9)
        found[f"loss without {agent}"] = 100 * (
            team - final[f"eval/without_agent_accuracy/{agent}"]
        )
    return found | {"tokens": course.tokens[-1] / 1000}


def finished(task: str, out: pathlib.Path, seeds: Sequence[int]) -> dict[tuple[str, int], Course]:
    """(method, seed) -> what the finished runs of a task have left."""
    return {
        (method, seed): read(Run(task, method, seed), out)
        for method in methods_of(task)
        for seed in seeds
        if (Run(task, method, seed).folder(out) / "result.json").is_file()
    }


def compare(
    task: str, courses: dict[tuple[str, int], Course], against: str = "shared"
) -> tuple[list[dict], list[dict]]:
    """(a line per method, a line per run) of a task; methods are compared with `against`, seed by seed."""
    budget = min(course.tokens[-1] for course in courses.values())
    agents = 3 if TASKS[task].config == "voting" else 2
    runs = {key: figures(course, budget, agents) for key, course in courses.items()}
    lines = []
    for method in methods_of(task):
        mine = {seed: found for (name, seed), found in runs.items() if name == method}
        if not mine:
            continue
        line: dict[str, Any] = {"method": method, "seeds": len(mine)}
        for name in next(iter(mine.values())):
            line[name], line[f"{name} ±"] = mean_and_half([found[name] for found in mine.values()])
        for name in ("curve", "held-out"):
            pairs = [mine[s][name] - runs[against, s][name] for s in mine if (against, s) in runs]
            if pairs and method != against:
                line[f"{name} − {against}"], line[f"{name} − {against} ±"] = mean_and_half(pairs)
        lines.append(line)
    starts = [course.start["eval/team_accuracy"] for course in courses.values()]
    seen = {seed for _, seed in courses}
    lines.insert(
        0, {"method": "untrained", "seeds": len(seen), "held-out": 100 * statistics.fmean(starts)}
    )
    return lines, [{"task": task, "method": m, "seed": s} | found for (m, s), found in runs.items()]


def markdown(task: str, lines: Sequence[dict]) -> str:
    """A task's table as people read it."""
    columns = list(dict.fromkeys(c for line in lines[1:] for c in line if not c.endswith("±")))
    beside = {
        name: [c for c in columns if c.startswith(f"{name} − ")] for name in ("curve", "held-out")
    }
    first = ["method", "seeds", "curve", *beside["curve"], "held-out", *beside["held-out"]]
    columns = first + [c for c in columns if c not in first]

    def cell(line: dict, column: str) -> str:
        value, half = line.get(column), line.get(f"{column} ±")
        if value is None:
            return "–"
        if isinstance(value, str | int):
            return str(value)
        sign = "+" if "−" in column else ""
        return f"{value:{sign}.1f}" + ("" if half is None else f" ± {half:.1f}")

    rows = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    rows += ["| " + " | ".join(cell(line, column) for column in columns) + " |" for line in lines]
    return f"### {task}: {TASKS[task].about}\n\n" + "\n".join(rows) + "\n"


def source(task: str, courses: dict[tuple[str, int], Course], out: pathlib.Path) -> str:
    """Where a task's figures come from, and what its columns are."""
    folders = [Run(task, method, seed).folder(out) for method, seed in courses]
    stamps = [folder / "commit.txt" for folder in folders]
    commits = sorted({stamp.read_text().strip() for stamp in stamps if stamp.is_file()})
    days = sorted(
        {
            f"{datetime.date.fromtimestamp((folder / 'result.json').stat().st_mtime)}"
            for folder in folders
        }
    )
    seeds = ",".join(map(str, sorted({seed for _, seed in courses})))
    return (
        f"`python -m experiments.study --task={task} --seeds={seeds}`, a run per core of {os.cpu_count()}; commits "
        f"{', '.join(commits)}; {' and '.join(dict.fromkeys((days[0], days[-1])))}. In per cent, 95 % intervals by "
        "Student's t over seeds, differences seed by seed. *curve*: mean accuracy in training until the method that "
        "decoded least had ended; *free rides k*: of the answers the team got right, those it gets right without agent "
        "k; *loss without k*: points of held-out accuracy that go with agent k; *tokens*: decoded, in thousands.\n"
    )


_COLOURS = (
    "#0b63b0", "#c4500a", "#12805c", "#9a3f86", "#8a6d00", "#2f86ad", "#6350cf", "#6d747d", "#5a9a1c", "#d0216b",
)  # fmt: skip


_ABREAST = 3  # names in a line above the chart


_STYLE = (
    "svg{background:#fff;font:12px sans-serif}path{fill:none}.grid-line{stroke:#ddd}.zero{stroke:#888}"
    ".cursor{display:none}.line{stroke:currentColor;stroke-width:1.7}.band{fill:currentColor;opacity:.15}"
    + "".join(f".c{i}{{color:{colour}}}" for i, colour in enumerate(_COLOURS))
)


def picture(task: str, courses: dict[tuple[str, int], Course]) -> str:
    """Learning curves of a task as SVG: the mean over seeds of each method, and its 95 % interval."""
    lines = []
    for method in dict.fromkeys(name for name, _ in courses):
        runs = [course.accuracy for (name, _), course in courses.items() if name == method]
        points = [mean_and_half(values) for values in zip(*runs, strict=False)]
        band = [(mean - half, mean + half) for mean, half in points if half is not None]
        lines.append(
            Line(method, list(range(1, len(points) + 1)), [mean for mean, _ in points], band)
        )
    above = 8 + 13 * ceil_div(len(lines), _ABREAST)  # room for names
    chart = line_chart(lines, label=f"team accuracy in training, {task}", colours=len(_COLOURS))
    names = "".join(
        f'<text class="c{i % len(_COLOURS)}" x="{LEFT + (WIDTH - LEFT) // _ABREAST * (i % _ABREAST)}" '
        f'y="{13 * (i // _ABREAST) - above + 12}" fill="currentColor">{line.name}</text>'
        for i, line in enumerate(lines)
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="720" viewBox="0 {-above} {WIDTH} {HEIGHT + above}"'
    return f"{head}><style>{_STYLE}</style>{names}{chart[chart.index('>') + 1 :]}\n"


def as_csv(lines: Sequence[dict]) -> str:
    """Lines as programs read them."""
    text = io.StringIO()
    out = csv.DictWriter(
        text, list(dict.fromkeys(name for line in lines for name in line)), lineterminator="\n"
    )
    out.writeheader()
    out.writerows(lines)
    return text.getvalue()
