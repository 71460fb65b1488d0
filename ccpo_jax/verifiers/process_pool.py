"""A process pool that isolates crashes and timeouts per task.

The kill timer is in `_serve`. It is a kernel timer of computing time whose default action ends the
process, whatever code it is in. A worker imports this package and the function's module, but not
the program that made the pool: it starts fast and loads neither jax nor numpy. It runs jobs in a
fork of itself, so that a killed step costs milliseconds and not a new start.
"""

import contextlib
import gc
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

# Seconds between two looks of the watchdog after which the parent itself must have been stopped.
_STOPPED_SECONDS = 5.0

# Seconds between two looks of a worker for its parent.
_ORPHAN_SECONDS = 2.0

# Seconds that a killed process gets to disappear.
_END_SECONDS = 20.0

# Most jobs that a worker holds at a time: sending several saves round trips, holding many would
# leave other workers idle at the end.
_MAX_CHUNK = 8


class StepFailure(NamedTuple):
    """The record of a step that hung or killed its process.

    Attributes:
      reason: `TIMED_OUT`, or what the call said in its place, or `CRASHED`.
    """

    reason: str


class _Message(NamedTuple):
    """What a worker reports.

    Attributes:
      kind: "ready" once at the start; for each job "record" per step, then "finished" or "raised";
        "died" when a step has killed the process that ran it.
      number: index of the job, -1 for "ready" and "died".
      content: the record, the traceback of what was raised, or why the step died.
    """

    kind: Literal["ready", "record", "finished", "raised", "died"]
    number: int
    content: Any


class ProcessPool:
    """Runs a generator function ``(job, done) -> records`` on many jobs in processes that may die.

    Each ``next`` of the generator is a step with its own time limit. When a step hangs or kills its
    process, the record of that step is a `StepFailure`, and another process resumes the job with
    all records so far as `done`. The limit counts computing time, so a busy machine or a stopped
    process changes no result. It is a kernel timer with its default action: it ends the process
    whatever code it is in, also when the parent is gone, so the function must leave SIGPROF alone.
    A process that is silent for much longer, because it sleeps or no timer ends it, is reported,
    abandoned and replaced.

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

        Raises:
          InputError: if `workers` is below 1 or `time_limit` is not positive.
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
        self._failed_starts = 0
        self._workers = [_Worker(self._arguments) for _ in range(workers)]

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
        num_unfinished = len(jobs)
        while num_unfinished:
            self._assign(waiting, jobs, results, time_limit)
            for worker in _with_messages(self._workers):
                message = worker.receive()
                if message is None:
                    reason = self._replace(worker)
                    waiting.extendleft(reversed(worker.give_up_jobs(results, reason, late)))
                elif message.kind == "died":
                    waiting.extendleft(
                        reversed(worker.give_up_jobs(results, message.content, late))
                    )
                elif message.kind == "record":
                    results[message.number].append(message.content)
                elif message.kind == "finished":
                    worker.jobs.popleft()
                    num_unfinished -= 1
                elif message.kind == "raised":
                    function = self._arguments[0]
                    raise RuntimeError(f"{function} raised in a worker:\n{message.content}")

    def _assign(
        self,
        waiting: deque[int],
        jobs: Sequence[Any],
        results: Sequence[Sequence[Any]],
        time_limit: float,
    ) -> None:
        """Gives each idle worker a chunk of the waiting jobs."""
        for worker in self._workers:
            if waiting and worker.is_idle():
                fair_share = len(waiting) // (2 * len(self._workers))
                size = max(1, min(_MAX_CHUNK, fair_share))
                numbers = [waiting.popleft() for _ in range(size)]
                worker.assign(numbers, jobs, results, time_limit)

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
                    # What it forked may live on and keep the pipe open.
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
        if not worker.is_ready:
            if not worker.is_stalled or self._failed_starts >= _MAX_FAILED_STARTS:
                raise RuntimeError(
                    f"a worker could not start (exit status {status}); its own message is on stderr"
                )

        self._workers[self._workers.index(worker)] = _Worker(self._arguments)
        return TIMED_OUT if worker.is_stalled else CRASHED


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
            [
                *(sys.executable, "-P", "-c", program),
                *(str(child_end.fileno()), str(os.getpid()), *arguments),
            ],
            pass_fds=[child_end.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment,
            # A group of its own, to be killed with what it forks.
            start_new_session=True,
        )
        child_end.close()
        self.is_ready = False
        self.is_stalled = False
        # When it last answered, or was given something to do.
        self.last_sign_of_life = time.monotonic()
        self.jobs: deque[int] = deque()

    def is_idle(self) -> bool:
        if not self.is_ready or self.jobs or self.is_stalled:
            return False
        return self.process.poll() is None

    def assign(
        self,
        numbers: list[int],
        jobs: Sequence[Any],
        results: Sequence[Sequence[Any]],
        time_limit: float,
    ) -> None:
        """Sends jobs with the records that they have so far."""
        self.last_sign_of_life = time.monotonic()
        self.jobs.extend(numbers)
        try:
            chunk = [(number, jobs[number], results[number]) for number in numbers]
            self.connection.send((time_limit, chunk))
        except (BrokenPipeError, ConnectionResetError):
            # It has died: `receive` will say so.
            pass

    def give_up_jobs(self, results: list[list[Any]], reason: str, late: str) -> list[int]:
        """Records that the current step has failed and returns the jobs that are not finished.

        Nothing has failed where the worker had no job.
        """
        unfinished = list(self.jobs)
        self.jobs.clear()
        if unfinished:
            failure = StepFailure(late if reason == TIMED_OUT else reason)
            results[unfinished[0]].append(failure)
        return unfinished

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


# --- the worker's side ---


def worker_main() -> None:
    """The program of a worker process; `_Worker` writes its command line."""
    descriptor, parent, function_name, memory_limit = sys.argv[1:]

    # These reach the whole process group, and only the parent knows what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    module, _, name = function_name.partition(":")
    function = getattr(importlib.import_module(module), name)
    if sys.platform == "linux":
        # Other kernels accept the limit and do not enforce it.
        resource.setrlimit(resource.RLIMIT_AS, (int(memory_limit), int(memory_limit)))

    connection = Connection(int(descriptor))
    connection.send(_Message("ready", -1, None))
    # A collection would write to every object, and so copy the memory shared with the forks.
    gc.collect()
    gc.freeze()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        # The parent is gone: there is nobody left to tell.
        while _serve_in_a_fork(connection, function, int(parent)):
            pass


def _serve_in_a_fork(
    connection: Connection,
    function: Callable[[Any, Sequence[Any]], Iterable[Any]],
    parent: int,
) -> bool:
    """Runs jobs in a fork of this process until it ends; reports what it died of.

    Returns:
      Whether another fork may go on.
    """
    runner = os.fork()
    if runner == 0:
        try:
            _serve(connection, function)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            # The parent is gone.
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def end_as_an_orphan(*_: Any) -> None:
        if os.getppid() != parent:
            os.kill(runner, signal.SIGKILL)

    # A step that sleeps would outlive the parent otherwise: no timer ends it.
    signal.signal(signal.SIGALRM, end_as_an_orphan)
    signal.setitimer(signal.ITIMER_REAL, _ORPHAN_SECONDS, _ORPHAN_SECONDS)
    _, status = os.waitpid(runner, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)

    exit_status = os.waitstatus_to_exitcode(status)
    if exit_status in (0, -signal.SIGKILL):
        # Killed from outside, perhaps in the middle of a message: the pipe cannot be used again.
        return False
    is_late = exit_status == -signal.SIGPROF
    connection.send(_Message("died", -1, TIMED_OUT if is_late else CRASHED))
    return True


def _serve(connection: Connection, function: Callable[[Any, Sequence[Any]], Iterable[Any]]) -> None:
    """Runs the jobs that arrive, each step under the kill timer, until the parent is gone.

    Raises:
      EOFError: when the parent is gone.
    """
    # Signal settings are inherited; the kill timer needs its default.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
    while True:
        time_limit, chunk = connection.recv()
        for number, job, done in chunk:
            try:
                signal.setitimer(signal.ITIMER_PROF, time_limit)
                for record in function(job, done):
                    # Off while sending: a message must not be cut in two.
                    signal.setitimer(signal.ITIMER_PROF, 0)
                    connection.send(_Message("record", number, record))
                    signal.setitimer(signal.ITIMER_PROF, time_limit)
                signal.setitimer(signal.ITIMER_PROF, 0)
            except MemoryError:
                # A process without memory for this step may have none for the next one.
                os._exit(1)
            except Exception:
                signal.setitimer(signal.ITIMER_PROF, 0)
                connection.send(_Message("raised", number, traceback.format_exc()))
            else:
                connection.send(_Message("finished", number, None))
