"""A process pool that isolates crashes and timeouts per task.

The kill timer is in `_serve`. It is a kernel timer whose default action ends the process, whatever
code it is in. A worker imports this package and the function's module, but not the program that
made the pool: it starts fast, forks nothing and loads neither jax nor numpy.
"""

import importlib
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, Literal, NamedTuple

from ccpo_jax.errors import InputError

TIMED_OUT = "timed_out"
CRASHED = "crashed"

_LOG = logging.getLogger(__name__)

# Workers in a row that may fail to start in time before the pool gives up.
_MAX_FAILED_STARTS = 3

# Most jobs that a worker holds at a time: sending several saves round trips, holding many would
# leave other workers idle at the end.
_MAX_CHUNK = 8


class StepFailure(NamedTuple):
    """The record of a step that hung or killed its process.

    Attributes:
      reason: `TIMED_OUT` or `CRASHED`.
    """

    reason: str


class _Message(NamedTuple):
    """What a worker reports.

    Attributes:
      kind: "ready" once at the start; for each job "record" per step, then "finished" or "raised".
      number: index of the job, -1 for "ready".
      content: the record, or the traceback of what was raised.
    """

    kind: Literal["ready", "record", "finished", "raised"]
    number: int
    content: Any


class ProcessPool:
    """Runs a generator function ``(job, done) -> records`` on many jobs in processes that may die.

    Each ``next`` of the generator is a step with its own time limit. When a step hangs or kills its
    process, the record of that step is a `StepFailure`, and another process resumes the job with
    all records so far as `done`. The limit is a kernel timer with its default action: it ends the
    process whatever code it is in, also when the parent is gone, so the function must leave SIGALRM
    alone. A process that not even the timer ends is reported, abandoned and replaced.

    Jobs and records travel through a pipe, so they must be picklable.
    """

    def __init__(
        self,
        function: str,
        *,
        workers: int,
        time_limit: float,
        memory_limit: int = 4 << 30,
        grace: float = 20.0,
        start_limit: float = 120.0,
    ):
        """Starts the processes and returns at once.

        Args:
          function: ``"module:name"`` of the function; workers import the module along this
            process's `sys.path`.
          workers: number of processes.
          time_limit: seconds for one step.
          memory_limit: bytes of address space of one process (Linux only); a step that needs more
            crashes.
          grace: seconds beyond its time limit after which a process counts as stalled: stopped, or
            stuck in the kernel.
          start_limit: seconds within which a process must have started.

        Raises:
          InputError: if `workers` is below 1 or `time_limit` is not positive.
        """
        if workers < 1:
            raise InputError("workers", f"must be at least 1, received {workers}; use workers=2")
        if not time_limit > 0:
            message = f"must be more than 0 seconds, received {time_limit}; use time_limit=5.0"
            raise InputError("time_limit", message)
        self._arguments = (function, str(time_limit), str(memory_limit))
        self._grace = grace
        self._answer_limit = time_limit + grace
        self._start_limit = start_limit
        self._failed_starts = 0
        self._workers = [_Worker(self._arguments) for _ in range(workers)]

    def run(self, jobs: Sequence[Any]) -> list[list[Any]]:
        """Runs all jobs and returns the records of each, in the order of the jobs.

        Raises:
          RuntimeError: if the function itself raises, if a process cannot start or if the pool is
            closed. The pool is closed then.
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
            return self._run(jobs)
        except BaseException:
            # Messages of this call are still on their way, and a later call must not read them.
            self.close()
            raise
        finally:
            finished.set()
            watchdog.join()

    def _run(self, jobs: Sequence[Any]) -> list[list[Any]]:
        """Hands out the jobs and collects their records until all are finished."""
        results: list[list[Any]] = [[] for _ in jobs]
        waiting = deque(range(len(jobs)))
        num_unfinished = len(jobs)
        while num_unfinished:
            self._assign(waiting, jobs, results)
            for worker in _with_messages(self._workers):
                message = worker.receive()
                if message is None:
                    waiting.extendleft(reversed(self._replace(worker, results)))
                elif message.kind == "record":
                    results[message.number].append(message.content)
                elif message.kind == "finished":
                    worker.jobs.popleft()
                    num_unfinished -= 1
                elif message.kind == "raised":
                    function = self._arguments[0]
                    raise RuntimeError(f"{function} raised in a worker:\n{message.content}")
        return results

    def _assign(
        self, waiting: deque[int], jobs: Sequence[Any], results: Sequence[Sequence[Any]]
    ) -> None:
        """Gives each idle worker a chunk of the waiting jobs."""
        for worker in self._workers:
            if waiting and worker.is_idle():
                fair_share = len(waiting) // (2 * len(self._workers))
                size = max(1, min(_MAX_CHUNK, fair_share))
                worker.assign([waiting.popleft() for _ in range(size)], jobs, results)

    def _kill_stalled(self, finished: threading.Event) -> None:
        """Kills processes that should have answered long ago, so that nothing waits for them.

        A thread of its own, because writing to the pipe of a process that does not read blocks.
        """
        while not finished.wait(1.0):
            for worker in list(self._workers):
                limit = self._answer_limit if worker.is_ready else self._start_limit
                silence = time.monotonic() - worker.last_sign_of_life
                is_expected = bool(worker.jobs) or not worker.is_ready
                if silence > limit and is_expected and not worker.is_stalled:
                    worker.is_stalled = True
                    _LOG.warning(
                        "process %d has not answered for %.0f seconds and is replaced",
                        worker.process.pid,
                        silence,
                    )
                    worker.process.kill()

    def close(self) -> None:
        """Kills the processes. Closing twice does nothing."""
        while self._workers:
            self._workers.pop().end(self._grace)

    def _replace(self, worker: "_Worker", results: list[list[Any]]) -> list[int]:
        """Replaces a dead worker, records its failed step and returns the jobs to repeat."""
        status = worker.end(self._grace)

        # A worker that dies while it starts would die again; one that starts too slowly may not.
        self._failed_starts = 0 if worker.is_ready else self._failed_starts + 1
        if not worker.is_ready:
            if not worker.is_stalled or self._failed_starts >= _MAX_FAILED_STARTS:
                raise RuntimeError(
                    f"a worker could not start (exit status {status}); its own message is on stderr"
                )

        if worker.jobs:
            is_late = worker.is_stalled or status == -signal.SIGALRM
            results[worker.jobs[0]].append(StepFailure(TIMED_OUT if is_late else CRASHED))
        self._workers[self._workers.index(worker)] = _Worker(self._arguments)
        return list(worker.jobs)


class _Worker:
    """A process, the parent's end of its pipe, and its jobs in the order in which it runs them."""

    def __init__(self, arguments: Sequence[str]):
        self.connection, child_end = Pipe()
        # The parent's own path, so that a program finds in its workers what it finds itself.
        path = [os.fspath(entry) for entry in sys.path]
        program = (
            f"import sys; sys.path[:] = {path!r}; "
            f"from {__name__} import {worker_main.__name__}; {worker_main.__name__}()"
        )
        # Verdicts must not depend on the order of sets.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", program, str(child_end.fileno()), *arguments],
            pass_fds=[child_end.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment,
        )
        child_end.close()
        self.is_ready = False
        self.is_stalled = False
        # When it last answered, or was given something to do.
        self.last_sign_of_life = time.monotonic()
        self.jobs: deque[int] = deque()

    def is_idle(self) -> bool:
        return self.is_ready and not self.jobs and self.process.poll() is None

    def assign(
        self, numbers: list[int], jobs: Sequence[Any], results: Sequence[Sequence[Any]]
    ) -> None:
        """Sends jobs with the records that they have so far."""
        self.last_sign_of_life = time.monotonic()
        self.jobs.extend(numbers)
        try:
            self.connection.send([(number, jobs[number], results[number]) for number in numbers])
        except (BrokenPipeError, ConnectionResetError):
            # It has died: `receive` will say so.
            pass

    def receive(self) -> _Message | None:
        """The next message, None when the process is dead."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            # OSError: it died in the middle of a message.
            return None
        self.is_ready = True
        self.last_sign_of_life = time.monotonic()
        return message

    def end(self, patience: float) -> int | None:
        """Kills the process and returns its exit status, also if it was dead already.

        None if it still runs after `patience` seconds: it is stuck in the kernel, where no signal
        reaches it.
        """
        self.connection.close()
        self.process.kill()
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            return None


def _with_messages(workers: Sequence[_Worker]) -> list[_Worker]:
    """Waits until at least one worker has sent a message or died, and returns all that have."""
    connections = wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in connections]


# --- the worker's side ---


def worker_main() -> None:
    """The program of a worker process; `_Worker` writes its command line."""
    descriptor, function_name, time_limit, memory_limit = sys.argv[1:]

    # These reach the whole process group, and only the parent knows what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Signal settings are inherited; the kill timer needs its default.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])

    module, _, name = function_name.partition(":")
    function = getattr(importlib.import_module(module), name)
    if sys.platform == "linux":
        # Other kernels accept the limit and do not enforce it.
        resource.setrlimit(resource.RLIMIT_AS, (int(memory_limit), int(memory_limit)))
    _serve(Connection(int(descriptor)), function, float(time_limit))


def _serve(
    connection: Connection,
    function: Callable[[Any, Sequence[Any]], Iterable[Any]],
    time_limit: float,
) -> None:
    """Runs the jobs that arrive until the parent is gone, each step under the kill timer."""
    connection.send(_Message("ready", -1, None))
    while True:
        try:
            chunk = connection.recv()
        except EOFError:
            return
        for number, job, done in chunk:
            try:
                signal.setitimer(signal.ITIMER_REAL, time_limit)
                for record in function(job, done):
                    # Off while sending: a parent that is slow to read is not the step's fault.
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    connection.send(_Message("record", number, record))
                    signal.setitimer(signal.ITIMER_REAL, time_limit)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except MemoryError:
                # A process without memory for this step may have none for the next one.
                os._exit(1)
            except Exception:
                signal.setitimer(signal.ITIMER_REAL, 0)
                connection.send(_Message("raised", number, traceback.format_exc()))
            else:
                connection.send(_Message("finished", number, None))
