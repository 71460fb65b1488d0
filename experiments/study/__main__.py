"""The tiny study: which credit teaches which team, at equal decoded tokens and over several seeds.

    python -m experiments.study --jobs=2                # every task, every method, seeds 0 to 4; resumable
    python -m experiments.study --task=parts --print    # tables of what is there; runs nothing

Every run trains a team of the embedded model from the same start, with separate parameters. Runs with one seed see the
same problems in the same order, so that methods are compared seed by seed. A run that has its result is not run again;
one that was interrupted goes on. With --jobs the runs are spread over processes of one core each.
"""

import argparse
import concurrent.futures
import csv
import datetime
import io
import json
import multiprocessing
import os
import pathlib
import signal
import statistics
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from ccpo_jax import cli
from ccpo_jax.arguments import Parser, positive, seeds
from ccpo_jax.integers import ceil_div
from ccpo_jax.report.plots import HEIGHT, LEFT, WIDTH, Line, line_chart
from experiments.paper.__main__ import mean_and_half, preset, stop

SEEDS = (0, 1, 2, 3, 4)


class Task(NamedTuple):
    """What a team has to learn."""

    config: str  # module of configs/, its tiny preset
    changes: dict[str, Any]
    about: str  # a few words for the table
    model: tuple[str, ...] = (
        "tiny",
    )  # "tiny", or what it was taught before, a key of teach_tiny.LESSONS; per agent
    methods: tuple[str, ...] = ()  # who is compared; () = all of the team's but those in _APART


_DYAD = {"steps": 32}
_RATED = {**_DYAD, "rating_length": 52}
_ALONE = ("shared", "difference", "ccpo", "ccpo_event", "nested", "pooled")
_HUNT = ("shared_4x52", "shared_2x104", "mean_2x104", "surprisal")
_APART = (
    "sepo",
    *_HUNT[:-1],
)  # ratings need a lesson, and the hunt's arms are one question, asked once
TASKS = {
    "voting": Task("voting", {"steps": 24}, "three voters see the same problem"),
    "parts": Task(
        "voting",
        {"steps": 32, "data.train": "synthetic/parts"},
        "one voter sees the whole problem, the other two lack its last term; who knows changes with the problem",
        ("parts",),
    ),
    "dyad": Task("dyad", _DYAD, "Thinker and Solver", methods=_ALONE + _HUNT),
    "lazy": Task("dyad", _DYAD, "a Thinker that begins by saying nothing of use", ("lazy", "tiny")),
    "misleading": Task(
        "dyad", _DYAD, "a Thinker that begins by miscalculating", ("misleading", "tiny")
    ),
    "rating": Task(
        "dyad",
        _RATED,
        "a dyad that was taught to rate its outcomes",
        ("rating",),
        ("shared", "sepo"),
    ),
}

# Group sizes are such that all methods of a team decode the same within a few per cent: a sample of the dyad is a
# thought and an answer, with a counterfactual one more answer, with nested and pooled K answers. The hunt: `surprisal`
# needs no group, so it spends its samples on more prompts. What that alone is worth the two wide ones say, and what it
# is worth with the loss that `surprisal` needs, and no division by the group's deviation, `mean_2x104`.
_SUMMED = {
    "credit.name": "shared", "group_size": 2, "batch_size": 104, "loss.normalize": "length", "loss.max_length": 22,
}  # fmt: skip
METHODS = {
    "voting": {
        "shared": {"credit.name": "shared"},
        "individual": {"credit.name": "individual"},
        "difference": {"credit.name": "difference"},
        "ccpo": {"credit.name": "ccpo"},
        "cross_play": {"credit.name": "cross_play"},
        "shapley": {"credit.name": "shapley"},
    },
    "dyad": {
        "shared": {"credit.name": "shared", "group_size": 13},
        "difference": {"credit.name": "difference", "group_size": 8},
        "ccpo": {"credit.name": "ccpo", "group_size": 8},
        "ccpo_event": {"credit.name": "ccpo_event", "group_size": 8},
        "nested": {"credit.name": "nested", "credit.answers": 2, "group_size": 9},
        "pooled": {"credit.name": "pooled", "credit.answers": 2, "group_size": 9},
        "shared_4x52": {"credit.name": "shared", "group_size": 4, "batch_size": 52},
        "shared_2x104": {"credit.name": "shared", "group_size": 2, "batch_size": 104},
        "mean_2x104": _SUMMED | {"advantage.baseline": "leave_one_out"},
        "surprisal": _SUMMED | {"advantage.baseline": "surprisal"},
        "sepo": {"credit.name": "sepo", "group_size": 3},  # two ratings take three times as much as what they rate
    },
}  # fmt: skip
_COMMON = {"log.tensorboard": False, "data.heldout": 512, "verifier.workers": 1}


def methods_of(task: str) -> tuple[str, ...]:
    """The methods that are compared on a task."""
    return TASKS[task].methods or tuple(
        name for name in METHODS[TASKS[task].config] if name not in _APART
    )


class Run(NamedTuple):
    """One training run."""

    task: str
    method: str
    seed: int

    def folder(self, out: pathlib.Path) -> pathlib.Path:
        """Where it lives."""
        return out / self.task / self.method / f"seed-{self.seed}"


_stopping = None  # in a process that trains: the event after which it begins nothing


# --- running ---------------------------------------------------------------------------------------------------------


def execute(run: Run, out: pathlib.Path) -> tuple[Run, int]:
    """Trains one team in this process, unless all is to stop. Returns the run and its exit status."""
    import jax

    from experiments.credit_lab.__main__ import commit

    if _stopping.is_set():
        return run, 130
    jax.clear_caches()  # programs of other runs fill the process's memory maps
    task, folder = TASKS[run.task], run.folder(out)
    config = preset(f"configs/{task.config}.py:tiny")
    changes = _COMMON | task.changes | METHODS[task.config][run.method] | {"seed": run.seed}
    changes["model"] = ",".join(
        name if name == "tiny" else str(out / "lessons" / name) for name in task.model
    )
    config.update_from_flattened_dict(changes)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.txt", "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        status = cli.run_mode(config, f"configs/{task.config}.py:tiny", str(folder), "train")
    (folder / "commit.txt").write_text(commit() + "\n")
    return run, status


def _settle(seats, stopping) -> None:
    """Gives a new process a core of its own where the system can, and a session, so that Ctrl-C asks it once."""
    os.setsid()
    global _stopping
    _stopping = stopping
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[seats.get() % len(cores)]})


def execute_all(runs: Sequence[Run], out: pathlib.Path, jobs: int) -> list[str]:
    """Runs what has no result yet, `jobs` at a time. Returns what failed, in words."""
    todo = [run for run in runs if not (run.folder(out) / "result.json").is_file()]
    for lesson in sorted({name for run in todo for name in TASKS[run.task].model} - {"tiny"}):
        if not (out / "lessons" / lesson / "config.json").is_file():
            from experiments.study.teach_tiny import teach

            print(
                f"lesson {lesson}: last loss {teach(lesson, out / 'lessons' / lesson):.3f}",
                file=sys.stderr,
            )
    context, failed = multiprocessing.get_context("spawn"), []
    seats, stopping = context.Queue(), context.Event()
    for job in range(jobs):
        seats.put(job)
    with concurrent.futures.ProcessPoolExecutor(jobs, context, _settle, (seats, stopping)) as pool:
        try:
            for done in concurrent.futures.as_completed(
                [pool.submit(execute, run, out) for run in todo]
            ):
                run, status = done.result()
                print(
                    f"{run.task} {run.method} seed {run.seed}: status {status}",
                    file=sys.stderr,
                    flush=True,
                )
                if status:
                    failed.append(f"{run.folder(out)} ended with status {status}; see its log.txt")
        except KeyboardInterrupt:
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()  # a run saves its step and ends
            raise
    return failed


# --- what came out ---------------------------------------------------------------------------------------------------


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


def main(arguments: Sequence[str]) -> int:
    """The command line. Returns the exit status."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--task", choices=list(TASKS), action="append", help="may be repeated; all when absent"
    )
    methods = sorted({name for team in METHODS.values() for name in team})
    parser.add_argument(
        "--method", choices=methods, action="append", help="may be repeated; all when absent"
    )
    parser.add_argument("--seeds", type=seeds, default=SEEDS, help="such as 0,1")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/study"),
        help="runs and tables go here",
    )
    parser.add_argument("--jobs", type=positive, default=1, help="runs at once")
    parser.add_argument(
        "--against", choices=methods, default="shared", help="whom the tables compare with"
    )
    parser.add_argument("--print", action="store_true", help="tables of what is there; run nothing")
    typed = parser.parse_args(arguments)
    out, tasks = typed.out.resolve(), typed.task or list(TASKS)
    for method in typed.method or ():
        if not any(method in methods_of(task) for task in tasks):
            usual = ", ".join(dict.fromkeys(name for task in tasks for name in methods_of(task)))
            parser.error(
                f"--method: {method!r} is not compared in {', '.join(tasks)}; use some of {usual}"
            )
    wanted = [
        Run(task, method, seed)
        for seed in typed.seeds  # all methods with one seed before the next: an early look is a fair one
        for task in tasks
        for method in methods_of(task)
        if typed.method is None or method in typed.method
    ]
    try:
        failed = [] if typed.print else execute_all(wanted, out, typed.jobs)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    for task in tasks:
        if courses := finished(task, out, typed.seeds):
            lines, runs = compare(task, courses, typed.against)
            (out / f"{task}.svg").write_text(picture(task, courses), encoding="utf-8")
            table = markdown(task, lines)
            (out / f"{task}.md").write_text(
                f"{table}\n{source(task, courses, out)}", encoding="utf-8"
            )
            (out / f"{task}.csv").write_text(as_csv(runs), encoding="utf-8")
            print(table)
        elif typed.print:
            print(f"{task}: no run is finished in {out / task}", file=sys.stderr)
    for line in failed:
        print(f"error: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main(sys.argv[1:]))
