"""Training runs of the study, spread over processes of one core each."""

import concurrent.futures
import multiprocessing
import os
import pathlib
import sys
from collections.abc import Sequence

import jax

from ccpo_jax import cli
from ccpo_jax.presets import load_preset
from experiments.provenance import commit
from experiments.study.tasks import COMMON, METHODS, TASKS, Run
from experiments.study.teach_tiny import teach

# Set in every worker process by `_start_worker`: an event after which no new run begins. A pool
# passes such events to its processes only when they start, hence the global.
_stop_requested = None


def execute(run: Run, out: pathlib.Path) -> tuple[Run, int]:
    """Trains one team in this process, unless a stop was requested.

    Returns:
      ``(run, exit status)``; 130 for a run that was not begun.
    """
    if _stop_requested.is_set():
        return run, 130

    # Compiled programs of earlier runs would fill the process's memory maps.
    jax.clear_caches()

    task = TASKS[run.task]
    config_name = f"{task.config}:tiny"
    config = load_preset(config_name)
    config.update_from_flattened_dict(changed_fields(run, out))

    folder = run.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.txt", "a") as log:
        # Verifier processes inherit the file descriptors, so redirecting sys.stdout would not reach
        # them.
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        status = cli.run_mode(config, config_name, str(folder), "train")

    (folder / "commit.txt").write_text(commit() + "\n")
    return run, status


def changed_fields(run: Run, out: pathlib.Path) -> dict:
    """The fields in which a run differs from its preset."""
    task = TASKS[run.task]
    models = []
    for name in task.model:
        models.append(name if name == "tiny" else str(out / "lessons" / name))

    changes = COMMON | task.changes | METHODS[task.config][run.method]
    return changes | {"seed": run.seed, "model": tuple(models)}


def execute_all(runs: Sequence[Run], out: pathlib.Path, jobs: int) -> list[str]:
    """Executes the runs that have no result yet, `jobs` at a time.

    Returns:
      One line per run that failed.
    """
    missing = [run for run in runs if not (run.folder(out) / "result.json").is_file()]
    _teach_lessons(missing, out)

    context = multiprocessing.get_context("spawn")
    core_numbers = context.Queue()
    stop_requested = context.Event()
    for core in range(jobs):
        core_numbers.put(core)

    failures = []
    worker_arguments = (core_numbers, stop_requested)
    with concurrent.futures.ProcessPoolExecutor(
        jobs, context, _start_worker, worker_arguments
    ) as pool:
        futures = [pool.submit(execute, run, out) for run in missing]
        try:
            for future in concurrent.futures.as_completed(futures):
                run, status = future.result()
                line = f"{run.task} {run.method} seed {run.seed}: status {status}"
                print(line, file=sys.stderr, flush=True)
                if status:
                    failures.append(
                        f"{run.folder(out)} ended with status {status}; see its log.txt"
                    )
        except KeyboardInterrupt:
            stop_requested.set()
            pool.shutdown(wait=False, cancel_futures=True)
            # A run that is asked to terminate saves its step and ends.
            for child in multiprocessing.active_children():
                child.terminate()
            raise
    return failures


def _teach_lessons(runs: Sequence[Run], out: pathlib.Path) -> None:
    """Trains the models that the runs start from, where they do not exist yet."""
    lessons = {name for run in runs for name in TASKS[run.task].model}
    for lesson in sorted(lessons - {"tiny"}):
        folder = out / "lessons" / lesson
        if not (folder / "config.json").is_file():
            loss = teach(lesson, folder)
            print(f"lesson {lesson}: last loss {loss:.3f}", file=sys.stderr)


def _start_worker(core_numbers, stop_requested) -> None:
    """Gives a new process a session of its own, so that Ctrl-C reaches it once, and a core of its
    own.
    """
    # An initializer has no other place for what the tasks of its process read.
    global _stop_requested  # noqa: PLW0603
    os.setsid()
    _stop_requested = stop_requested
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core_numbers.get() % len(cores)]})
