"""A pool of processes that may die: hostile work costs its own result and nobody else's.

Standard library only, and a worker runs this very file as a script. So a worker starts fast and forks nothing: it
imports neither the program that made the pool nor jax.
"""

import importlib.util
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
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

TIMED_OUT, CRASHED = "timed_out", "crashed"
_LOG = logging.getLogger(__name__)
_GRACE = 20.0  # seconds past its time limit after which a process counts as stalled: stopped, or stuck in the kernel
_START = 120.0  # seconds within which a process must have started
_STARTS = 3  # processes in a row that may fail to start in time


class ProcessPool:
    """Runs a generator function ``(job, done) -> records`` on many jobs, one step at a time, in processes that may die.

    Each ``next`` of the generator is a step with its own time limit. When a step hangs or kills its process, the record
    of that step is `TIMED_OUT` or `CRASHED`, and another process resumes the job with all records so far as `done`.
    The limit is a kernel timer with its default action: it ends the process whatever code it is in, also when the
    parent is gone, so the function must leave SIGALRM alone. A process that not even the timer ends is reported, given
    up and replaced.

    Records come back through a pipe and must be picklable without the function's module (tuples, strings, numbers).
    """

    def __init__(
        self,
        file: str,
        function: str,
        *,
        workers: int,
        time_limit: float,
        memory_limit: int = 4 << 30,
    ):
        """Starts the processes and returns at once.

        Args:
          file: path of the Python file that holds the function.
          function: its name.
          workers: number of processes.
          time_limit: seconds for one step.
          memory_limit: bytes of address space of one process (Linux only); a step that needs more has crashed.

        Raises:
          ValueError: if there is no worker or no time.
        """
        if workers < 1:
            raise ValueError(f"workers: must be at least 1, received {workers}; use workers=2")
        if not time_limit > 0:
            raise ValueError(
                f"time_limit: must be more than 0 seconds, received {time_limit}; use time_limit=5.0"
            )
        self._arguments = (os.path.abspath(file), function, str(time_limit), str(memory_limit))
        self._patience = time_limit + _GRACE
        self._failed_starts = 0
        self._workers = [_Worker(self._arguments) for _ in range(workers)]

    def run(self, jobs: Sequence[Any]) -> list[list[Any]]:
        """Runs all jobs and returns the records of each, in order, however many processes there are.

        Raises:
          RuntimeError: if the function itself raises, if a process cannot start or if the pool is closed. The pool is
            closed then.
        """
        if not self._workers:
            raise RuntimeError("the pool is closed; make a new one")
        results: list[list[Any]] = [[] for _ in jobs]
        waiting = deque(range(len(jobs)))
        unfinished = len(jobs)
        for worker in self._workers:
            worker.heard = time.monotonic()  # nobody has listened since the last call
        over = threading.Event()
        watch = threading.Thread(target=self._watch, args=(over,), daemon=True)
        watch.start()
        try:
            while unfinished:
                for worker in self._workers:
                    if waiting and worker.idle():
                        size = max(1, min(8, len(waiting) // (2 * len(self._workers))))
                        worker.assign([waiting.popleft() for _ in range(size)], jobs, results)
                for worker in _wait(self._workers):
                    message = worker.receive()
                    if message is None:
                        waiting.extendleft(reversed(self._bury(worker, results)))
                        continue
                    kind, number, content = message
                    if kind == "record":
                        results[number].append(content)
                    elif kind == "finished":
                        worker.jobs.popleft()
                        unfinished -= 1
                    elif kind == "raised":
                        raise RuntimeError(f"{self._arguments[1]} raised in a worker:\n{content}")
        except BaseException:
            self.close()  # what is still on its way belongs to this call, so no later call may read it
            raise
        finally:
            over.set()
            watch.join()
        return results

    def _watch(self, over: threading.Event) -> None:
        """Kills processes that should have answered long ago, so that whoever waits for them or writes to them goes on.

        A thread of its own, because a pipe to a process that does not read blocks.
        """
        while not over.wait(1.0):
            now = time.monotonic()
            for worker in list(self._workers):
                late = now - worker.heard - (self._patience if worker.ready else _START)
                if late > 0 and (worker.jobs or not worker.ready) and not worker.stalled:
                    worker.stalled = True
                    _LOG.warning(
                        "process %d has not answered for %.0f seconds and is replaced",
                        worker.process.pid,
                        now - worker.heard,
                    )
                    worker.process.kill()

    def close(self) -> None:
        """Kills the processes. Closing twice does nothing."""
        while self._workers:
            self._workers.pop().end()

    def _bury(self, worker: "_Worker", results: list[list[Any]]) -> list[int]:
        """Records what a dead worker died of, puts a new one in its place and returns the jobs to hand out again."""
        status = worker.end()
        self._failed_starts = 0 if worker.ready else self._failed_starts + 1
        if not worker.ready and (not worker.stalled or self._failed_starts >= _STARTS):
            raise RuntimeError(
                f"a worker could not start (exit status {status}); its own message is on stderr"
            )
        if worker.jobs:
            late = worker.stalled or status == -signal.SIGALRM
            results[worker.jobs[0]].append(TIMED_OUT if late else CRASHED)
        self._workers[self._workers.index(worker)] = _Worker(self._arguments)
        return list(worker.jobs)


class _Worker:
    """One process, the parent's end of its pipe, and the jobs it holds in the order in which it does them."""

    def __init__(self, arguments: Sequence[str]):
        self.connection, theirs = Pipe()
        command = [
            sys.executable,
            "-P",
            os.path.abspath(__file__),
            str(theirs.fileno()),
            *arguments,
        ]
        self.process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={
                **os.environ,
                "PYTHONHASHSEED": "0",
            },  # verdicts must not depend on the order of sets
        )
        theirs.close()
        self.ready = False
        self.stalled = False
        self.heard = (
            time.monotonic()
        )  # when it last gave a sign of life, or was given something to do
        self.jobs: deque[int] = deque()

    def idle(self) -> bool:
        return self.ready and not self.jobs and self.process.poll() is None

    def assign(self, numbers: list[int], jobs: Sequence[Any], results: list[list[Any]]) -> None:
        self.heard = time.monotonic()
        self.jobs.extend(numbers)
        try:
            self.connection.send([(number, jobs[number], results[number]) for number in numbers])
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has died: `receive` will say so

    def receive(self) -> tuple | None:
        """The next message, None when the process is dead."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):  # also in the middle of a message
            return None
        self.ready = True
        self.heard = time.monotonic()
        return message

    def end(self) -> int | None:
        """Ends the process. Returns its exit status, of an earlier death if it is dead already; None if it lives on."""
        self.connection.close()
        self.process.kill()
        try:
            return self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:  # stuck in the kernel, where no signal reaches it
            return None


def _wait(workers: Sequence[_Worker]) -> list[_Worker]:
    by_connection = {worker.connection: worker for worker in workers}
    return [by_connection[connection] for connection in wait(list(by_connection))]


def _serve(connection: Connection, function: Callable, time_limit: float) -> None:
    """The worker's side: takes chunks of jobs and sends a message per step until the parent is gone."""
    connection.send(("ready", -1, None))
    while True:
        try:
            chunk = connection.recv()
        except EOFError:
            return
        for number, job, done in chunk:
            try:
                signal.setitimer(signal.ITIMER_REAL, time_limit)
                for record in function(job, done):
                    signal.setitimer(
                        signal.ITIMER_REAL, 0
                    )  # a parent slow to read is not the step's fault
                    connection.send(("record", number, record))
                    signal.setitimer(signal.ITIMER_REAL, time_limit)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except MemoryError:
                os._exit(
                    1
                )  # a process that has no memory left for this step may have none for the next
            except Exception:
                signal.setitimer(signal.ITIMER_REAL, 0)
                connection.send(("raised", number, traceback.format_exc()))
            else:
                connection.send(("finished", number, None))


def _main(descriptor: str, file: str, function: str, time_limit: str, memory_limit: str) -> None:
    """A worker process, from its command line."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # they reach the whole process group; the parent decides
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    spec = importlib.util.spec_from_file_location("worker_functions", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if sys.platform == "linux":  # elsewhere the kernel does not enforce it
        resource.setrlimit(resource.RLIMIT_AS, (int(memory_limit), int(memory_limit)))
    _serve(Connection(int(descriptor)), getattr(module, function), float(time_limit))


if __name__ == "__main__":
    _main(*sys.argv[1:])
