"""The tiny study: which credit teaches which team, at equal decoded tokens and over several seeds.

    python -m experiments.study --jobs=2                # every task, every method, seeds 0 to 4; resumable
    python -m experiments.study --task=parts --print    # tables of what is there; runs nothing

Every run trains a team of the embedded model from the same start, with separate parameters. Runs with one seed see the
same problems in the same order, so that methods are compared seed by seed. A run that has its result is not run again;
one that was interrupted goes on. With --jobs the runs are spread over processes of one core each.
"""

import argparse
import pathlib
import signal
import sys
from collections.abc import Sequence

from ccpo_jax.arguments import Parser, positive, seeds
from experiments.provenance import stop
from experiments.study.results import as_csv, compare, finished, markdown, picture, source
from experiments.study.runs import execute_all
from experiments.study.tasks import METHODS, SEEDS, TASKS, Run, methods_of


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
