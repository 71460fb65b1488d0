"""Learning curves of a task as SVG, from its committed curves.csv.

    python -m experiments.study.learning_curves --task=parts_9

Greedy accuracy by step: each arm's mean over seeds with its 95 % interval, Student's t.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from ccpo_jax.arguments import Parser
from ccpo_jax.report.plots import Line
from experiments.line_figure import LineStyle, line_figure, line_with_intervals
from experiments.statistics import mean_and_half
from experiments.study import gate
from experiments.study.records import RESULTS, Records, read
from experiments.study.results import MissingControlsError
from experiments.study.tasks import CONTROLS, TASKS, UNTRAINED, arms_of

# A colour per arm, the same in every picture: (on white, on black). Controls are grey and dashed.
_COLOURS = {
    "shared": ("#0b63b0", "#5aa7f0"),
    "individual": ("#8a6d00", "#d6b53c"),
    "difference": ("#c4500a", "#ff9257"),
    "ccpo": ("#12805c", "#4ec9a0"),
    "cross_play": ("#9a3f86", "#e08acd"),
    "shapley": ("#6350cf", "#a99bff"),
    "ccpo_event": ("#5a9a1c", "#a4d867"),
    "nested": ("#2f86ad", "#7cc8e8"),
    "pooled": ("#d0216b", "#ff7fb0"),
    "cross_read": ("#444a00", "#c3cc5a"),
    "shared_one_policy": ("#0b63b0", "#5aa7f0"),
    "difference_one_policy": ("#c4500a", "#ff9257"),
    "cross_play_one_policy": ("#9a3f86", "#e08acd"),
}
_GREY = ("#6d747d", "#9aa3ad")
_DASHES = {"no_reward": "1 3", "none": "5 3", "mean_of_others": "9 3", "constant": "5 2 1 2"}
_ONE_POLICY_DASHES = "3 2"


def picture(task: str, records: Records, arms: Sequence[str] = ()) -> str:
    """A task's greedy learning curves as SVG.

    Args:
      task: its name.
      records: its runs.
      arms: that are drawn beside the controls; () = all.

    Raises:
      MissingControlsError: a control has no curve.
    """
    lines = []
    for arm in arms_of(task):
        if arm == UNTRAINED or (arms and arm not in (*CONTROLS, *arms)):
            continue
        line = _line(arm, records)
        if line is not None:
            lines.append(line)
    drawn = [line.name for line in lines]
    missing = {*CONTROLS} - {UNTRAINED, *drawn}
    if missing:
        raise MissingControlsError(f"{task}: no curves of {', '.join(sorted(missing))}")

    label = f"greedy accuracy by step, {task}, per cent"
    if not gate.passes(records):
        label += "; the task does not pass the gate"
    return line_figure(lines, label=label, styles=[_style(arm) for arm in drawn])


def _line(arm: str, records: Records) -> Line | None:
    """An arm's mean curve over the seeds that have one."""
    curves = [records.curve(arm, seed) for seed in records.of(arm)]
    curves = [curve for curve in curves if curve]
    if not curves:
        return None
    points = []
    for rows in zip(*curves, strict=False):
        mean, half = mean_and_half([row["greedy"] for row in rows])
        points.append((rows[0]["step"], mean, half))
    return line_with_intervals(arm, points)


def _style(arm: str) -> LineStyle:
    dashes = _DASHES.get(arm, _ONE_POLICY_DASHES if arm.endswith("_one_policy") else "")
    return LineStyle(*_COLOURS.get(arm, _GREY), dashes)


def write(task: str, records: Records, folder: pathlib.Path) -> pathlib.Path:
    """Writes a task's picture beside its CSV files."""
    path = folder / "curves.svg"
    path.write_text(picture(task, records), encoding="utf-8")
    return path


def main(arguments: Sequence[str]) -> int:
    """The command line. Returns the exit status."""
    parser = Parser(
        prog="python -m experiments.study.learning_curves",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--task", choices=list(TASKS), action="append", help="default: all tasks")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="folder of the CSV")
    options = parser.parse_args(arguments)
    for task in options.task or TASKS:
        records = read(options.results / task)
        if records.curves:
            print(write(task, records, options.results / task))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
