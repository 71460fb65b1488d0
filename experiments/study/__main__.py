"""The tiny study: which credit estimator teaches which team, at equal decoded tokens.

    python -m experiments.study --jobs=2                # every task and method, seeds 0 to 4; resumable
    python -m experiments.study --task=parts --print    # tables of the finished runs; runs nothing

Every run trains a team of the embedded model from the same start, with separate parameters per
agent. Runs with the same seed see the same problems in the same order, so methods are compared seed
by seed. A run that has its result is not run again; an interrupted run resumes. With --jobs the
runs are spread over processes of one core each.
"""

import argparse
import pathlib
import signal
import sys
from collections.abc import Sequence

from ccpo_jax.arguments import Parser, positive, seeds
from experiments.provenance import stop
from experiments.study import results
from experiments.study.runs import execute_all
from experiments.study.tasks import METHODS, SEEDS, TASKS, Run, methods_of


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line, checked."""
    methods = sorted({name for team in METHODS.values() for name in team})
    parser = Parser(
        prog="python -m experiments.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--task", choices=list(TASKS), action="append", help="repeatable; default: all tasks")
    add("--method", choices=methods, action="append", help="repeatable; default: all methods")
    add("--seeds", type=seeds, default=SEEDS, help="such as 0,1")
    add(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/study"),
        help="folder of runs and tables",
    )
    add("--jobs", type=positive, default=1, help="runs at once")
    add("--against", choices=methods, default="shared", help="the method that tables compare with")
    add("--print", action="store_true", help="print tables of the finished runs; run nothing")
    options = parser.parse_args(arguments)

    options.task = options.task or list(TASKS)
    compared = dict.fromkeys(name for task in options.task for name in methods_of(task))
    for method in options.method or ():
        if method not in compared:
            parser.error(
                f"--method: {method!r} is not compared in {', '.join(options.task)}; "
                f"use some of {', '.join(compared)}"
            )
    return options


def wanted_runs(options: argparse.Namespace) -> list[Run]:
    """The runs asked for; all methods of one seed before the next seed, so that an early look is a
    fair one.
    """
    runs = []
    for seed in options.seeds:
        for task in options.task:
            for method in methods_of(task):
                if options.method is None or method in options.method:
                    runs.append(Run(task, method, seed))
    return runs


def main(arguments: Sequence[str]) -> int:
    """The command line. Returns the exit status."""
    options = parse(arguments)
    out = options.out.resolve()

    failures = []
    if not options.print:
        try:
            failures = execute_all(wanted_runs(options), out, options.jobs)
        except KeyboardInterrupt:
            print("stopped; the same command resumes", file=sys.stderr)
            return 130

    for task in options.task:
        courses = results.read_finished(task, out, options.seeds)
        if courses:
            print(results.write(task, courses, out, options.against))
        elif options.print:
            print(f"{task}: no finished run in {out / task}", file=sys.stderr)

    for line in failures:
        print(f"error: {line}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main(sys.argv[1:]))
