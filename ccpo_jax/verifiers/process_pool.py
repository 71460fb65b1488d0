"""A process pool that isolates crashes and timeouts per task.

A worker imports this package, the function's module and the plugins that it is given, but not the
program that made the pool: without plugins it starts fast and loads neither jax nor numpy. Its own
side is `worker`.
"""

import contextlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any

from ccpo_jax.errors import InputError
from ccpo_jax.references import ship
from ccpo_jax.verifiers.worker import (
    CRASHED,
    TIMED_OUT,
    Message,
    Progress,
    StepFailure,
    Task,
    worker_main,
)

_LOG = logging.getLogger(__name__)

# Workers in a row that may fail to start in time before the pool gives up.
_MAX_FAILED_STARTS = 3

# Seconds between two looks of the watchdog after which the parent itself must have been stopped.
_STOPPED_SECONDS = 5.0

# Seconds that a killed process gets to disappear.
_END_SECONDS = 20.0

# Most jobs that a worker holds at a time: sending several saves round trips, holding many would
# leave other workers idle at the end.
_MAX_CHUNK = 8


class ProcessPool:
    """Runs a generator function ``(job, done) -> records`` on many jobs in processes that may die.

    Each ``next`` of the generator is a step with its own time limit. When a step hangs or kills its
    process, the record of that step is a `StepFailure`, and another process resumes the job with
    all records so far as `done`. The limit counts computing time, so a busy machine or a stopped
    process changes no result. It is a kernel timer with its default action: it ends the process
    whatever code it is in, also when the parent is gone, so the function must leave SIGPROF alone.
    A process that is silent for much longer, because it sleeps or no timer ends it, is reported,
    abandoned and replaced.

    If the function's module has a function `prepare`, a worker calls it when a step has killed its
    process for the first time: what steps load late is then loaded once for all that follow.

    Jobs and records travel through a pipe, so they must be picklable.
    """

    def __init__(
        self,
        function: str,
        *,
        workers: int,
        time_limit: float,
        memory_limit: int = 4 << 30,
        wall_limit: float | None = None,
        start_limit: float = 120.0,
        plugins: Sequence[str] = (),
        setup: Any = None,
    ):
        """Starts the processes and returns at once.

        Args:
          function: ``"module:name"`` of the function; workers import the module along this
            process's `sys.path`.
          workers: number of processes.
          time_limit: seconds of computing for one step.
          memory_limit: bytes of address space of one process (Linux only); a step that needs more
            crashes.
          wall_limit: seconds of silence after which a process counts as stalled: asleep, stopped or
            stuck in the kernel; None: far beyond what a step takes on a busy machine.
          start_limit: seconds within which a process must have started.
          plugins: files and modules, see `references`, that this process and then every worker
            imports, before the memory limit holds. What a file holds now is what all workers get.
          setup: what each worker then calls its module's function `setup` with; None = it does not.

        Raises:
          InputError: if `workers` is below 1, `time_limit` is not positive, or a plugin cannot be
            imported.
        """
        if workers < 1:
            raise InputError("workers", f"must be at least 1, received {workers}; use workers=2")
        if not time_limit > 0:
            message = f"must be more than 0 seconds, received {time_limit}; use time_limit=5.0"
            raise InputError("time_limit", message)
        self._arguments = (function, str(memory_limit))
        self._time_limit = time_limit
        self._wall_limit = 60.0 + 12.0 * time_limit if wall_limit is None else wall_limit
        self._start_limit = start_limit
        self._has_warned = False
        self._plugins = tuple(plugins)
        self._failed_starts = 0
        # Every worker reads the same bytes, also one that replaces another.
        self._sent = pickle.dumps(ship(plugins, "plugins")) + pickle.dumps(setup)
        self._workers = [_Worker(self._arguments, self._sent) for _ in range(workers)]

    def run(
        self,
        jobs: Sequence[Any],
        done: Sequence[Sequence[Any]] | None = None,
        *,
        time_limit: float | None = None,
        late: str = TIMED_OUT,
    ) -> list[list[Any]]:
        """Runs all jobs and returns the records of each, in the order of the jobs.

        Args:
          jobs: what to run.
          done: records that each job has already; None: no job has any.
          time_limit: seconds of computing for one step; None: those of the pool.
          late: the reason of a `StepFailure` whose step took longer.

        Returns:
          For each job the records it had and those of the steps that followed.

        Raises:
          RuntimeError: if the function itself raises, if a process cannot start or if the pool is
            closed. The pool is closed then.
          InputError: if a worker cannot import a plugin.
        """
        if not self._workers:
            raise RuntimeError("the pool is closed; make a new one")
        for worker in self._workers:
            # Messages were not read since the last call: that is not the worker's fault.
            worker.last_sign_of_life = time.monotonic()

        finished = threading.Event()
        watchdog = threading.Thread(target=self._kill_stalled, args=(finished,), daemon=True)
        watchdog.start()
        try:
            results = [[] for _ in jobs] if done is None else [list(records) for records in done]
            self._run(jobs, results, time_limit or self._time_limit, late)
            return results
        except BaseException:
            # Messages of this call are still on their way, and a later call must not read them.
            self.close()
            raise
        finally:
            finished.set()
            watchdog.join()

    def _run(
        self, jobs: Sequence[Any], results: list[list[Any]], time_limit: float, late: str
    ) -> None:
        """Hands out the jobs and appends their records to `results` until all are finished."""
        waiting = deque(range(len(jobs)))
        # What is known of steps that no record has been received of yet.
        failures: list[dict[int, StepFailure]] = [{} for _ in jobs]
        num_unfinished = len(jobs)
        while num_unfinished:
            for worker in self._workers:
                if waiting and worker.is_idle():
                    numbers = self._take_chunk(waiting)
                    tasks = [Task(n, jobs[n], results[n], failures[n]) for n in numbers]
                    worker.assign(tasks, time_limit)

            for worker in _with_messages(self._workers):
                message = worker.receive()
                if message is None or message.kind == "died":
                    reason = self._replace(worker) if message is None else message.content
                    failure = StepFailure(late if reason == TIMED_OUT else reason)
                    waiting.extendleft(reversed(worker.give_up_jobs(results, failures, failure)))
                elif message.kind == "ready":
                    self._warn_of_jax(computed=message.content)
                elif message.kind == "failed":
                    field, _, reason = message.content.partition(": ")
                    raise InputError(field, f"{reason} (in a worker process)")
                elif message.kind in ("records", "finished"):
                    results[message.number] += message.content
                    if message.kind == "finished":
                        worker.jobs.popleft()
                        num_unfinished -= 1
                elif message.kind == "raised":
                    function = self._arguments[0]
                    raise RuntimeError(f"{function} raised in a worker:\n{message.content}")

    def _warn_of_jax(self, *, computed: bool) -> None:
        """Says once that a plugin computes where it should not."""
        if computed and not self._has_warned:
            self._has_warned = True
            print(
                f"warning: {', '.join(self._plugins):.300} computes with jax while it is imported; "
                "a verifier that computes with jax then hangs in a worker process: compute inside "
                "functions",
                file=sys.stderr,
            )

    def _take_chunk(self, waiting: deque[int]) -> list[int]:
        """Takes the next jobs for one worker."""
        fair_share = len(waiting) // (2 * len(self._workers))
        size = max(1, min(_MAX_CHUNK, fair_share))
        return [waiting.popleft() for _ in range(size)]

    def _kill_stalled(self, finished: threading.Event) -> None:
        """Kills processes that should have answered long ago, so that nothing waits for them.

        A thread of its own, because writing to the pipe of a process that does not read blocks.
        """
        last_look = time.monotonic()
        while not finished.wait(1.0):
            now = time.monotonic()
            was_stopped = now - last_look > _STOPPED_SECONDS
            last_look = now
            for worker in list(self._workers):
                if was_stopped:
                    # This process was, and with it most likely its workers: their time begins anew.
                    worker.last_sign_of_life = now
                if worker.process.poll() is not None:
                    # A process that it forked may still run and keep the pipe open.
                    worker.kill()

                limit = self._wall_limit if worker.is_ready else self._start_limit
                silence = now - worker.last_sign_of_life
                is_expected = bool(worker.jobs) or not worker.is_ready
                if silence > limit and is_expected and not worker.is_stalled:
                    worker.is_stalled = True
                    _LOG.warning(
                        "process %d has not answered for %.0f seconds and is replaced",
                        worker.process.pid,
                        silence,
                    )
                    worker.kill()

    def close(self) -> None:
        """Kills the processes. Closing twice does nothing."""
        while self._workers:
            self._workers.pop().end()

    def _replace(self, worker: "_Worker") -> str:
        """Replaces a dead worker and returns why its step failed."""
        status = worker.end()

        # A worker that dies while it starts would die again; one that starts too slowly may not.
        self._failed_starts = 0 if worker.is_ready else self._failed_starts + 1
        has_died = not worker.is_ready and not worker.is_stalled
        if has_died or self._failed_starts >= _MAX_FAILED_STARTS:
            raise RuntimeError(
                f"a worker could not start (exit status {status}); its own message is on stderr"
            )

        self._workers[self._workers.index(worker)] = _Worker(self._arguments, self._sent)
        return TIMED_OUT if worker.is_stalled else CRASHED


class _Worker:
    """A process, the parent's end of its pipe, and its jobs in the order in which it runs them."""

    def __init__(self, arguments: Sequence[str], user_code: bytes):
        self.connection, child_end = Pipe()
        with tempfile.TemporaryFile() as shared, tempfile.TemporaryFile() as sent:
            shared.truncate(Progress.size)
            self._progress = Progress(shared.fileno())
            sent.write(user_code)
            sent.seek(0)
            self._start(arguments, child_end.fileno(), shared.fileno(), sent.fileno())
        child_end.close()
        self.is_ready = False
        self.is_stalled = False
        # When it last answered, or was given something to do.
        self.last_sign_of_life = time.monotonic()
        self.jobs: deque[int] = deque()

    def _start(self, arguments: Sequence[str], *descriptors: int) -> None:
        """Starts the process with these files open."""
        # The parent's own path, so that a program finds in its workers what it finds itself.
        path = [os.fspath(entry) for entry in sys.path]
        program = (
            f"import sys; sys.path[:] = {path!r}; "
            f"from {worker_main.__module__} import {worker_main.__name__}; "
            f"{worker_main.__name__}()"
        )
        environment = {
            **os.environ,
            # Verdicts must not depend on the order of sets.
            "PYTHONHASHSEED": "0",
            # A plugin that computes with jax must not take the accelerator from the program.
            "JAX_PLATFORMS": "cpu",
        }
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-c", program),
                *(*map(str, descriptors), str(os.getpid()), *arguments),
            ],
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment,
            # A group of its own, to be killed with what it forks.
            start_new_session=True,
        )

    def is_idle(self) -> bool:
        if not self.is_ready or self.jobs or self.is_stalled:
            return False
        return self.process.poll() is None

    def assign(self, tasks: Sequence[Task], time_limit: float) -> None:
        """Sends jobs with what is known of them so far."""
        self.last_sign_of_life = time.monotonic()
        self.jobs.extend(task.number for task in tasks)
        self._progress.set(-1, 0)
        # It may have died: `receive` will say so.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send((time_limit, tasks))

    def give_up_jobs(
        self,
        results: Sequence[Sequence[Any]],
        failures: Sequence[dict[int, StepFailure]],
        failure: StepFailure,
    ) -> list[int]:
        """Notes that the current step has failed and returns the jobs that are not finished.

        Nothing has failed where the worker had no job.
        """
        unfinished = list(self.jobs)
        self.jobs.clear()
        if unfinished:
            current = unfinished[0]
            number, num_records = self._progress.get()
            step = num_records if number == current else len(results[current])
            failures[current][step] = failure
        return unfinished

    def receive(self) -> Message | None:
        """The next message, None when the process is dead."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            # OSError: it died in the middle of a message.
            return None
        self.is_ready = True
        self.last_sign_of_life = time.monotonic()
        return message

    def kill(self) -> None:
        """Kills the process and what it has forked."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> int | None:
        """Kills the process and returns its exit status, also if it was dead already.

        None if it still runs then: it is stuck in the kernel, where no signal reaches it.
        """
        self.connection.close()
        self.kill()
        try:
            return self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return None


def _with_messages(workers: Sequence[_Worker]) -> list[_Worker]:
    """Waits until at least one worker has sent a message or died, and returns all that have."""
    connections = wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in connections]
