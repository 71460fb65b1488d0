"""The tiny study: which credit estimator teaches which team, at equal decoded tokens.

    python -m experiments.study --task=parts_9 --jobs=2     # the planned runs of a task
    python -m experiments.study --task=parts_9 --print      # its table from finished runs; no run
    python -m experiments.study --task=parts_9 --quick      # its smallest honest version
    python -m experiments.study --gate --jobs=2             # can the tasks rank arms at all?
    python -m experiments.study --task=parts_9 --pilot      # learning rates, on other seeds

Every run trains a team from the same start. Runs with the same seed see the same problems in the
same order, and arms are compared seed by seed. Finished runs stand in results/TASK/runs.csv and
curves.csv; what stands there with the same plan is not run again, on whatever machine.
"""

import argparse
import pathlib
import signal
import sys
from collections.abc import Sequence

from ccpo_jax.arguments import Parser, positive, seeds
from ccpo_jax.errors import InputError
from experiments.provenance import stop
from experiments.study import gate, learning_curves, pilots, records, results, tasks
from experiments.study.plans import Plan, plan_of
from experiments.study.runs import Finished, Job, Progress, execute_all
from experiments.study.tasks import NO_REWARD, TASKS, UNTRAINED


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line, checked."""
    parser = Parser(
        prog="python -m experiments.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--task", choices=list(TASKS), action="append", help="repeatable; default: all tasks")
    add("--arm", choices=list(tasks.ARMS), action="append", help="repeatable; default: all arms")
    add("--seeds", type=seeds, help="such as 0,1; default: those of the plan")
    add("--jobs", type=positive, default=1, help="runs at once, a core each")
    add("--quick", action="store_true", help="few seeds, arms and problems; all controls")
    add("--gate", action="store_true", help="run and print what the gate needs, nothing else")
    add("--pilot", action="store_true", help="try learning rates and write rates.csv")
    add("--print", action="store_true", help="print tables of the finished runs; run nothing")
    add(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/study"),
        help="folder of lessons, compiled programs, logs, and of what --quick writes",
    )
    add(
        "--results",
        type=pathlib.Path,
        help="folder of tables and CSV files; default: experiments/study/results, with --quick "
        "that of --out",
    )
    options = parser.parse_args(arguments)
    if options.quick + options.gate + options.pilot > 1:
        parser.error("--quick, --gate and --pilot exclude each other")

    options.task = options.task or list(TASKS)
    compared = dict.fromkeys(name for task in options.task for name in tasks.arms_of(task))
    for arm in options.arm or ():
        if arm not in compared:
            parser.error(
                f"--arm: {arm!r} is no arm of {', '.join(options.task)}; "
                f"use some of {', '.join(compared)}"
            )
    if options.results is None:
        options.results = options.out / "quick" if options.quick else records.RESULTS
    return options


def wanted(options: argparse.Namespace) -> list[Job]:
    """The runs asked for; all arms of one seed before the next seed, so that an early look is a fair
    one.
    """
    jobs = []
    for task in options.task:
        plans = plans_of(task, options)
        all_seeds = {arm: seeds_of(task, arm, options) for arm in plans}
        for seed in sorted({seed for some in all_seeds.values() for seed in some}):
            for arm, of_arm in plans.items():
                if seed in all_seeds[arm]:
                    jobs += [Job(plan, seed) for plan in of_arm]
    return jobs


def plans_of(task: str, options: argparse.Namespace) -> dict[str, list[Plan]]:
    """The plans of each arm asked for; several where pilots try rates."""
    arms = tasks.arms_of(task)
    if options.gate:
        arms = (UNTRAINED, NO_REWARD)
    elif options.quick:
        arms = (*tasks.CONTROLS, *tasks.QUICK_ARMS)
    elif options.pilot:
        arms = tuple(arm for arm in arms if arm != UNTRAINED)
    if options.arm:
        arms = tuple(arm for arm in arms if arm in options.arm)

    if options.pilot:
        rates = tasks.RATES
        return {arm: [plan_of(task, arm, tasks.PILOT, rate) for rate in rates] for arm in arms}
    measures = tasks.QUICK if options.quick else tasks.FULL
    return {arm: [plan_of(task, arm, measures)] for arm in arms}


def seeds_of(task: str, arm: str, options: argparse.Namespace) -> Sequence[int]:
    """The seeds asked for, or those of the plan."""
    if options.seeds is not None:
        return options.seeds
    if options.pilot:
        return tasks.PILOT_SEEDS
    return tasks.QUICK_SEEDS if options.quick else tasks.seeds_of(task, arm)


def folder_of(task: str, options: argparse.Namespace) -> pathlib.Path:
    """Where a task's records stand."""
    folder = options.results / task
    return folder / "pilots" if options.pilot else folder


def run(options: argparse.Namespace) -> list[str]:
    """Runs what is wanted and not recorded. Returns a line per run that failed."""
    jobs = wanted(options)
    known = {task: records.read(folder_of(task, options)) for task in options.task}
    if not options.pilot:
        for task, of_task in known.items():
            plans = {arm: of_arm[0].hash() for arm, of_arm in plans_of(task, options).items()}
            records.check_plans(folder_of(task, options), of_task.runs, plans)

    done = set()
    seconds = {}
    for task, of_task in known.items():
        for row in of_task.runs:
            done.add((task, row["arm"], row["seed"], row["plan"]))
            seconds[task, row["arm"]] = row["seconds"]
    hashes = {plan: plan.hash() for plan in dict.fromkeys(job.plan for job in jobs)}
    missing = [
        job for job in jobs if (job.plan.task, job.plan.arm, job.seed, hashes[job.plan]) not in done
    ]
    progress = Progress(missing, options.jobs, seconds)
    print(f"{len(missing)} of {len(jobs)} runs are missing, {progress.left()}", file=sys.stderr)

    def finished(job: Job, result: Finished) -> None:
        records.add(folder_of(job.plan.task, options), result.row, result.curve)
        print(progress.ended(job, result.row), file=sys.stderr, flush=True)

    return execute_all(missing, options.out.resolve(), options.jobs, finished) if missing else []


def show(task: str, options: argparse.Namespace) -> None:
    """Prints and writes what the finished runs of a task say."""
    folder = folder_of(task, options)
    of_task = records.read(folder)
    if not of_task.runs:
        print(f"{task}: no finished run in {folder}", file=sys.stderr)
    elif options.pilot:
        chosen = pilots.choose(of_task.runs)
        pilots.write_rates(task, chosen)
        print(f"{task}: " + ", ".join(f"{arm} {rate:g}" for arm, rate in chosen.items()))
    elif options.gate:
        print(gate.report(task, of_task))
    else:
        plans = {
            arm: plan_of(task, arm, tasks.QUICK if options.quick else tasks.FULL).hash()
            for arm in {row["arm"] for row in of_task.runs}
        }
        records.check_plans(folder, of_task.runs, plans)
        print(results.write(task, of_task, folder, quick=options.quick))
        learning_curves.write(task, of_task, folder)


def main(arguments: Sequence[str]) -> int:
    """The command line. Returns the exit status."""
    options = parse(arguments)
    failures = []
    try:
        if not options.print:
            failures = run(options)
        for task in options.task:
            show(task, options)
    except KeyboardInterrupt:
        print("stopped; the same command goes on with the runs that are missing", file=sys.stderr)
        return 130
    except (InputError, records.MixedPlansError, results.MissingControlsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

    for line in failures:
        print(f"error: {line}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main(sys.argv[1:]))
