"""Learning on tables: what each credit estimator makes of a team in so many steps.

    python -m experiments.credit_lab.learning --out=experiments/credit_lab/results/learning

Credit comes from the library's estimators, the update is the policy gradient with Adam. The program
predicts what a study with networks should find, before it is run. `voter_tasks.py` says what there
is to learn.

Learning rates are chosen on other seeds than those that are reported, for each arm and team.
"""

import argparse
import datetime
import pathlib
import shlex
import statistics
import sys
from collections.abc import Sequence

from ccpo_jax.arguments import Parser
from ccpo_jax.errors import InputError
from experiments.credit_lab.learning_report import (
    CurveRow,
    Row,
    as_csv,
    mean_with_interval,
    picture,
    report,
)
from experiments.credit_lab.policy_gradient import ARMS, CONTROLS, learn
from experiments.credit_lab.voter_tasks import TASKS, Task
from experiments.provenance import commit

_RATES = (0.03, 0.1, 0.3)
_TUNING_SEEDS = (100, 101, 102)


def compare(
    name: str, task: Task, arms: Sequence[str], seeds: Sequence[int], *, steps: int
) -> tuple[list[Row], list[CurveRow]]:
    """Chooses each arm's rate on the tuning seeds, by E[R], and reports it on `seeds`."""
    rows = []
    points = []
    for label in arms:
        curves = learn(task, ARMS[label], _RATES, [*_TUNING_SEEDS, *seeds], steps=steps)

        def reward_at(rate, curves=curves):
            return statistics.fmean(curves[rate, seed].reward[-1] for seed in _TUNING_SEEDS)

        rate = max(_RATES, key=reward_at)
        for seed in seeds:
            curve = curves[rate, seed]
            ends = (curve.reward[-1], curve.greedy[-1], curve.reward[0], curve.greedy[0])
            rows.append(Row(name, label, rate, seed, *(round(float(x), 4) for x in ends)))
            for index, pair in enumerate(zip(*curve, strict=True)):
                values = (round(float(x), 4) for x in pair)
                points.append(CurveRow(name, label, seed, index * 10, *values))
        print(
            f"{name} {label}: rate {rate}, E[R] {mean_with_interval([r.reward for r in rows if r.arm == label])}"
        )
    return rows, points


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m experiments.credit_lab.learning", description=__doc__.splitlines()[0]
    )
    add = p.add_argument
    add("--out", required=True, help="folder for learning.md, runs.csv, curves.csv and pictures")
    add("--task", default=",".join(TASKS), help=f"some of {','.join(TASKS)}")
    add("--arm", default=",".join(ARMS), help="some of them, separated by commas")
    add("--seeds", type=int, default=10, help="seeds 0, 1, ... of the reported runs")
    add("--steps", type=int, default=60, help="a multiple of 10")
    return p


def check_arguments(args: argparse.Namespace) -> None:
    """Refuses arguments before anything is computed.

    Raises:
      InputError: naming the argument.
    """
    for name, known in (("task", TASKS), ("arm", ARMS)):
        for label in getattr(args, name).split(","):
            if label not in known:
                message = f"{label!r:.80} is unknown; use some of {','.join(known)}"
                raise InputError(name, message)
    if args.seeds < 2:
        raise InputError("seeds", f"must be at least 2, received {args.seeds}; type --seeds=10")
    if args.steps < 10 or args.steps % 10:
        message = f"must be a multiple of 10, received {args.steps}; type --steps=60"
        raise InputError("steps", message)


def main(argv: Sequence[str] | None = None) -> int:
    """Compares the arms on each team and writes tables, CSV files and pictures."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = parser().parse_args(argv)
    try:
        check_arguments(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    rows: list[Row] = []
    points: list[CurveRow] = []
    arms = args.arm.split(",")
    for name in args.task.split(","):
        of_task, of_curves = compare(name, TASKS[name](), arms, range(args.seeds), steps=args.steps)
        rows += of_task
        points += of_curves

    facts = {
        "command": f"`python -m experiments.credit_lab.learning {shlex.join(argv)}`",
        "training": f"{args.steps} steps of Adam, 8 samples of each problem; rate: the best of "
        f"{', '.join(map(str, _RATES))} by E[R] on seeds {', '.join(map(str, _TUNING_SEEDS))}",
        "seeds": f"0 to {args.seeds - 1}; 95 % t-intervals over seeds, differences paired by seed",
        "evaluation": "8,192 problems, the same for all: a standard error of at most 0.006",
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
    }
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "learning.md").write_text(report(rows, points, facts), encoding="utf-8")
    (out / "runs.csv").write_text(as_csv(rows), encoding="utf-8")
    (out / "curves.csv").write_text(as_csv(points), encoding="utf-8")
    for name in args.task.split(","):
        text = picture(name, points, [arm for arm in arms if arm not in CONTROLS])
        (out / f"{name}.svg").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
