"""Training runs of the study, spread over processes of one core each."""

import concurrent.futures
import multiprocessing
import os
import pathlib
import sys
from collections.abc import Sequence

from ccpo_jax import cli
from experiments.presets import preset
from experiments.provenance import commit
from experiments.study.tasks import _COMMON, METHODS, TASKS, Run

_stopping = None  # in a process that trains: the event after which it begins nothing


def execute(run: Run, out: pathlib.Path) -> tuple[Run, int]:
    """Trains one team in this process, unless all is to stop. Returns the run and its exit status."""
    import jax

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
