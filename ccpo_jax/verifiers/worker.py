"""The process of a pool that runs jobs: it dies of a step that hangs, and the pool does not.

The kill timer is in `_run_job`. It is a kernel timer of computing time whose default action ends
the process, whatever code it is in. Jobs run in a fork of a process that has loaded everything, so
a killed step costs milliseconds and not a new start.
"""

import contextlib
import ctypes
import gc
import importlib
import mmap
import os
import pickle
import resource
import signal
import struct
import sys
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Literal, NamedTuple, TextIO

from ccpo_jax.errors import InputError
from ccpo_jax.references import Shipped, receive

TIMED_OUT = "timed_out"
CRASHED = "crashed"

# Seconds between two looks for the parent.
_ORPHAN_SECONDS = 2.0

# Records are sent together when so many seconds have passed or the job is finished.
_FLUSH_SECONDS = 0.005

# Linux: orphans become children of the process that says so.
_PR_SET_CHILD_SUBREAPER = 36
_MOST_GENERATIONS = 1000

# A job and how many records it has: where a worker was when it died.
_PROGRESS = struct.Struct("qq")


class StepFailure(NamedTuple):
    """The record of a step that hung or killed its process.

    Attributes:
      reason: `TIMED_OUT`, or what the call said in its place, or `CRASHED`.
    """

    reason: str


class Message(NamedTuple):
    """What a worker reports.

    Attributes:
      kind: "ready" once at the start, or "failed" where a plugin cannot be imported; for each job
        any number of "records", the last of them "finished", or "raised"; "died" when a step has
        killed the process that ran it.
      number: index of the job, -1 where the message is about none.
      content: the new records, the traceback of what was raised, why the step died, why the worker
        cannot start, or, of one that is ready, whether jax has computed in it.
    """

    kind: Literal["ready", "failed", "records", "finished", "raised", "died"]
    number: int
    content: Any


class Task(NamedTuple):
    """What a worker is sent of a job.

    Attributes:
      number: index of the job.
      job: the job itself.
      done: its records so far.
      failures: failures of steps that follow, by the number of the step. They are known where
        records between them and `done` were lost.
    """

    number: int
    job: Any
    done: Sequence[Any]
    failures: Mapping[int, StepFailure]


class Progress:
    """Where a worker is, in memory that its parent sees and that survives it."""

    def __init__(self, descriptor: int):
        """Maps a file of `Progress.size` bytes."""
        self._memory = mmap.mmap(descriptor, self.size)

    size = _PROGRESS.size

    def set(self, number: int, num_records: int) -> None:
        """Says that the step after so many records of a job begins."""
        _PROGRESS.pack_into(self._memory, 0, number, num_records)

    def get(self) -> tuple[int, int]:
        """``(number, num_records)`` as last set."""
        number, num_records = _PROGRESS.unpack_from(self._memory)
        return number, num_records


# Where errors of this file go once user code is loaded, one stream.
_errors: list[TextIO] = []

Function = Callable[[Any, Sequence[Any]], Iterable[Any]]


@contextlib.contextmanager
def untimed() -> Iterator[None]:
    """Stops the kill timer for trusted work that is not the step's own, such as an import."""
    remaining = signal.setitimer(signal.ITIMER_PROF, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, *remaining)


def worker_main() -> None:
    """The program of a worker process; the pool writes its command line."""
    descriptor, progress_descriptor, plugins_descriptor = map(int, sys.argv[1:4])
    parent, function_name, memory_limit = sys.argv[4:]

    # These reach the whole process group, and only the parent knows what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    module_name, _, name = function_name.partition(":")
    module = importlib.import_module(module_name)
    function = getattr(module, name)
    prepare = getattr(module, "prepare", None)
    with os.fdopen(plugins_descriptor, "rb") as file:
        plugins = pickle.load(file)
        setup_argument = pickle.load(file)
    connection = Connection(descriptor)
    try:
        own_memory = _load_user_code(module, plugins, setup_argument)
    except InputError as error:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send(Message("failed", -1, str(error)))
        return
    if sys.platform == "linux":
        # Other kernels accept the limit and do not enforce it.
        limit = int(memory_limit) + own_memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    progress = Progress(progress_descriptor)
    # A collection would write to every object, and so copy the memory shared with the forks.
    gc.collect()
    gc.freeze()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        # The parent is gone: there is nobody left to tell.
        connection.send(Message("ready", -1, _jax_has_started()))
        while _serve_in_a_fork(connection, function, progress, int(parent)):
            if prepare is not None:
                prepare()
                prepare = None
                gc.freeze()


def _load_user_code(
    module: types.ModuleType, plugins: Sequence[Shipped], setup_argument: Any
) -> int:
    """Imports what a user's verifiers are in, and returns the address space that it takes.

    A library such as jax maps gigabytes that no step uses: they do not count.

    Raises:
      InputError: one cannot be imported, or the module's setup refuses what it got.
    """
    if not plugins and setup_argument is None:
        return 0
    # Functions may take over the stream of errors; those of this file still reach the terminal.
    _errors.append(os.fdopen(os.dup(2), "w", encoding="utf-8"))
    _adopt_orphans()
    before = _address_space()
    # What their imports say has been said by the process that made the pool.
    with contextlib.redirect_stderr(open(os.devnull, "w", encoding="utf-8")):
        receive(plugins, "plugins")
    if setup_argument is not None:
        module.setup(setup_argument)
    return max(0, _address_space() - before)


def _jax_has_started() -> bool:
    """Whether what was imported has computed with jax. In a fork its threads are gone, and
    computing waits for them for ever.
    """
    bridge = sys.modules.get("jax._src.xla_bridge")
    has_started = getattr(bridge, "backends_are_initialized", None)
    return has_started is not None and has_started()


def _address_space() -> int:
    """Bytes of address space of this process; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _adopt_orphans() -> None:
    """Makes what steps fork a child of this process once their parent is dead (Linux only)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _kill_children() -> None:
    """Kills what a dead step has forked, and what that has forked in turn."""
    for _ in range(_MOST_GENERATIONS):
        try:
            with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
                children = [int(pid) for pid in file.read().split()]
        except OSError:
            return
        if not children:
            return
        for pid in children:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _serve_in_a_fork(
    connection: Connection, function: Function, progress: Progress, parent: int
) -> bool:
    """Runs jobs in a fork of this process until it ends, and reports what it died of.

    Returns:
      Whether another fork may go on.
    """
    with warnings.catch_warnings():
        # Of jax, where a plugin has imported it: its threads do not run before it computes.
        warnings.filterwarnings(
            "ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning
        )
        runner = os.fork()
    if runner == 0:
        try:
            _serve(connection, function, progress)
        except (EOFError, OSError):
            # The parent is gone, perhaps in the middle of a message. Errors of steps are reported.
            os._exit(0)
        except BaseException:
            traceback.print_exc(file=_errors[0] if _errors else None)
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
    _kill_children()

    exit_status = os.waitstatus_to_exitcode(status)
    if exit_status in (0, -signal.SIGKILL):
        # Killed from outside, perhaps in the middle of a message: the pipe cannot be used again.
        return False
    is_late = exit_status == -signal.SIGPROF
    connection.send(Message("died", -1, TIMED_OUT if is_late else CRASHED))
    return True


def _serve(connection: Connection, function: Function, progress: Progress) -> None:
    """Runs the jobs that arrive until the parent is gone.

    Raises:
      EOFError: when the parent is gone.
    """
    # Signal settings are inherited; the kill timer needs its default.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
    while True:
        time_limit, tasks = connection.recv()
        for task in tasks:
            try:
                _run_job(connection, function, progress, task, time_limit)
            except MemoryError:
                # A process without memory for this step may have none for the next one.
                os._exit(1)
            except Exception:
                signal.setitimer(signal.ITIMER_PROF, 0)
                connection.send(Message("raised", task.number, traceback.format_exc()))


def _run_job(
    connection: Connection, function: Function, progress: Progress, task: Task, time_limit: float
) -> None:
    """Takes the steps of a job, each under the kill timer, and sends their records."""
    own_pid = os.getpid()
    records = list(task.done)
    num_sent = len(records)
    last_flush = time.monotonic()
    steps = iter(function(task.job, tuple(records)))
    while True:
        if len(records) in task.failures:
            records.append(task.failures[len(records)])
            steps = iter(function(task.job, tuple(records)))
            continue

        progress.set(task.number, len(records))
        signal.setitimer(signal.ITIMER_PROF, time_limit)
        try:
            records.append(next(steps))
        except StopIteration:
            break
        finally:
            if os.getpid() != own_pid:
                # A step has forked, and this is the child: one process speaks for the job.
                os._exit(0)
            # Off while sending: a message must not be cut in two.
            signal.setitimer(signal.ITIMER_PROF, 0)

        if time.monotonic() - last_flush > _FLUSH_SECONDS:
            connection.send(Message("records", task.number, records[num_sent:]))
            num_sent = len(records)
            last_flush = time.monotonic()
    connection.send(Message("finished", task.number, records[num_sent:]))
