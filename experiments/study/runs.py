"""Training runs of the study, spread over processes of one core each.

A run lives in memory alone: it writes no checkpoints and takes about a minute. One that is
interrupted begins anew.
"""

import concurrent.futures
import datetime
import multiprocessing
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from ccpo_jax.train.build import Run, build
from ccpo_jax.train.step import initial_state, train_step
from experiments.provenance import commit
from experiments.study.controls import without_reward
from experiments.study.measuring import Meter, entropies
from experiments.study.plans import Plan
from experiments.study.tasks import NO_REWARD, TASKS, UNTRAINED
from experiments.study.teach_tiny import teach

# Compiled programs of many runs would fill a process's memory maps.
_RUNS_PER_PROCESS_CACHE = 12

# Set in every worker process by `_start_worker`: an event after which no new run begins. A pool
# passes such events to its processes only when they start, hence the global.
_stop_requested = None

# Runs that this process has executed.
_count = 0


class Job(NamedTuple):
    """A run to execute."""

    plan: Plan
    seed: int

    def __str__(self) -> str:
        return f"{self.plan.task} {self.plan.arm} seed {self.seed} rate {self.plan.rate:g}"


class Finished(NamedTuple):
    """A run that has ended: its line of runs.csv and its lines of curves.csv."""

    row: dict[str, Any]
    curve: list[dict[str, Any]]


def execute(job: Job, lessons: pathlib.Path) -> Finished:
    """Trains and measures one team in this process.

    Args:
      job: what to run.
      lessons: folder of the models that are not embedded.
    """
    began = time.monotonic(), time.process_time()
    plan = job.plan
    run = build(plan.config(job.seed, lessons))
    if plan.arm == NO_REWARD:
        run = without_reward(run)
    row = {
        "arm": plan.arm,
        "seed": job.seed,
        "plan": plan.hash(),
        "rate": plan.rate,
        "steps": 0 if plan.arm == UNTRAINED else run.loop.steps,
    }
    if plan.arm == UNTRAINED:
        outcome, curve = _measure_untrained(run, plan), []
    else:
        outcome, curve = _train(run, plan)

    row |= outcome
    row["seconds"] = round(time.monotonic() - began[0], 1)
    row["cpu_seconds"] = round(time.process_time() - began[1], 1)
    row["commit"] = commit()
    row["day"] = f"{datetime.date.today()}"
    same = {name: row[name] for name in ("arm", "seed", "plan", "rate")}
    return Finished(row, [same | line for line in curve])


def _measure_untrained(run: Run, plan: Plan) -> dict[str, Any]:
    with run.verifier_pool() as pool:
        meter = Meter(run, pool, plan.measures)
        row = meter.greedy(run.params) | meter.sampled(run.params)
        return row | meter.temperatures(run.params)


def _train(run: Run, plan: Plan) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Trains to the end. Returns the outcome, and a line per measured step."""
    measures = plan.measures
    state = initial_state(run)
    # The step donates its state.
    start = jax.tree.map(lambda x: x.copy(), state.params) if TASKS[plan.task].exchange else ()
    totals = {"decoded": 0.0, "trained": 0.0}
    first: list[float] = []
    last: list[float] = []
    curve = []
    since: list[float] = []
    with run.verifier_pool() as pool:
        meter = Meter(run, pool, measures)
        if measures.watched:
            curve.append({"step": 0, "greedy": meter.watched(state.params), "decoded": 0})
        for step in range(run.loop.steps):
            result = train_step(run, state, step, pool)
            if result.left_out:
                raise ArithmeticError(f"step {step + 1}: an update was not finite")
            state = result.state
            totals["decoded"] += result.metrics["decoded_tokens"]
            totals["trained"] += _trained_tokens(result.metrics)
            last = entropies(result.collected.rollouts)
            first = first or last
            since.append(100 * result.metrics["team_accuracy"])

            done = step + 1
            if measures.watched and (done % measures.every == 0 or done == run.loop.steps):
                line = {"step": done, "greedy": meter.watched(state.params)}
                line |= {"sampled": sum(since) / len(since), "decoded": totals["decoded"]}
                curve.append(line)
                since = []

        row: dict[str, Any] = dict(meter.greedy(state.params))
        if measures.sampled:
            row |= meter.sampled(state.params)
        if start:
            row["exchanged"] = meter.exchanged(state.params, start)
    return row | {"entropy_first": first, "entropy_last": last} | totals, curve


def _trained_tokens(metrics: dict[str, float]) -> float:
    """Tokens that entered an update of a step: those whose advantage is not 0, or all where the
    loss has other terms.
    """
    return sum(
        value for name, value in metrics.items() if name.startswith("update/trained_tokens/")
    )


# --- processes ------------------------------------------------------------------------------------


def execute_all(
    jobs: Sequence[Job],
    out: pathlib.Path,
    processes: int,
    finished: Callable[[Job, Finished], None],
) -> list[str]:
    """Executes runs, several at a time, and reports each as it ends.

    Args:
      jobs: in the order in which they begin.
      out: holds lessons, compiled programs and the workers' messages.
      processes: runs at once.
      finished: called with each run that ended well.

    Returns:
      One line per run that failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    lessons = out / "lessons"
    _teach_lessons(jobs, lessons)

    context = multiprocessing.get_context("spawn")
    core_numbers = context.Queue()
    stop_requested = context.Event()
    for core in range(processes):
        core_numbers.put(core)

    failures = []
    worker_arguments = (core_numbers, stop_requested, out)
    with concurrent.futures.ProcessPoolExecutor(
        processes, context, _start_worker, worker_arguments
    ) as pool:
        futures = {pool.submit(_work, job, lessons): job for job in jobs}
        try:
            for future in concurrent.futures.as_completed(futures):
                job = futures[future]
                result = future.result()
                if isinstance(result, Finished):
                    finished(job, result)
                elif result:
                    failures.append(f"{job}: {result}")
                    print(f"error: {failures[-1]}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            stop_requested.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise
    return failures


def _work(job: Job, lessons: pathlib.Path) -> Finished | str:
    """What a worker does with a job: the run, "" where it was not begun, or what went wrong."""
    global _count  # noqa: PLW0603
    if _stop_requested.is_set():
        return ""
    _count += 1
    if _count % _RUNS_PER_PROCESS_CACHE == 0:
        jax.clear_caches()
    try:
        return execute(job, lessons)
    except Exception as error:
        # The traceback is in the worker's log; the other runs go on.
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"


def _teach_lessons(jobs: Sequence[Job], lessons: pathlib.Path) -> None:
    """Trains the models that the runs start from, where they do not exist yet."""
    names = {name for job in jobs for name in TASKS[job.plan.task].model}
    for lesson in sorted(names - {"tiny"}):
        folder = lessons / lesson
        if not (folder / "config.json").is_file():
            loss = teach(lesson, folder)
            print(f"lesson {lesson}: last loss {loss:.3f}", file=sys.stderr)


def _start_worker(core_numbers, stop_requested, out: pathlib.Path) -> None:
    """Gives a new process a session of its own, so that Ctrl-C reaches it once, a core of its own,
    and a log file; compiled programs are kept for all processes.
    """
    # An initializer has no other place for what the tasks of its process read.
    global _stop_requested  # noqa: PLW0603
    os.setsid()
    _stop_requested = stop_requested
    number = core_numbers.get()
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
    # Verifier processes inherit the file descriptors, so redirecting sys.stdout would not reach
    # them.
    with open(out / f"worker-{number}.log", "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    jax.config.update("jax_compilation_cache_dir", str(out / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


class Progress:
    """How far the runs are, and when they will have ended.

    Args:
      jobs: all that are to run.
      processes: at once.
      seconds: (task, arm) -> seconds of a run, as far as earlier runs tell.
    """

    def __init__(self, jobs: Sequence[Job], processes: int, seconds: dict[tuple[str, str], float]):
        self._left = list(jobs)
        self._total = len(jobs)
        self._processes = processes
        self._seconds = dict(seconds)

    def ended(self, job: Job, row: dict[str, Any]) -> str:
        """A line about a run that has ended."""
        self._left.remove(job)
        self._seconds[job.plan.task, job.plan.arm] = row["seconds"]
        done = self._total - len(self._left)
        greedy = f"greedy {row['greedy']:.1f} %, {row['seconds']:.0f} s"
        return f"{job}: {greedy} | {done} of {self._total} runs, {self.left()} left"

    def left(self) -> str:
        """Hours and minutes that the remaining runs will take."""
        seconds = sum(self._expected()) / self._processes
        return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02} h"

    def _expected(self) -> Iterator[float]:
        """Seconds of each remaining run: those of its kind, of its task, or of all."""
        known = self._seconds
        every = list(known.values()) or [60.0]
        for job in self._left:
            task = job.plan.task
            like = [value for (name, _), value in known.items() if name == task] or every
            yield known.get((task, job.plan.arm), sum(like) / len(like))
