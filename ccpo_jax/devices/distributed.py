"""Runs of several processes: start-up, agreement, and errors that reach every process.

Every process runs the whole program on the same global arrays and takes the same decisions from the
same numbers. Parameters, caches, activations and checkpoints are divided among the processes, and
so is verification, which is slow. A batch's texts are small, so every process holds all of them.
The main process alone writes metrics and prints.
"""

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn, TextIO

import jax
import numpy as np
from jax.experimental import multihost_utils

from ccpo_jax.errors import InputError, first_line
from ccpo_jax.integers import next_power_of_two
from ccpo_jax.status import DISPLAY, show_status

# Seconds to wait at start-up until all processes have connected.
_CONNECT_TIMEOUT = 300

# Found in the errors that jax raises when another process has died.
_LOST_PROCESS = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "heartbeat")


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Connects this process with the others of its run. Call it before jax touches a device.

    Without arguments and without the environment variables it does nothing: the run has one
      process.

    Args:
      coordinator: HOST:PORT of process 0, or "auto" where the cluster knows all three (SLURM, Open
        MPI, Kubernetes, Cloud TPU). None = the environment's JAX_COORDINATOR_ADDRESS.
      num_processes: None = JAX_NUM_PROCESSES.
      process_id: of this process, from 0. None = JAX_PROCESS_ID.

    Raises:
      InputError: one of the three is missing or invalid, or the other processes cannot be reached.
    """
    address = os.environ.get("JAX_COORDINATOR_ADDRESS") if coordinator is None else coordinator
    count = os.environ.get("JAX_NUM_PROCESSES") if num_processes is None else num_processes
    index = os.environ.get("JAX_PROCESS_ID") if process_id is None else process_id
    if address is None and count is None and index is None:
        return

    if address == "auto":
        address, count, index = None, None, None
    else:
        _check_address(address)
        count = _integer("processes", count, "JAX_NUM_PROCESSES")
        index = _integer("process", index, "JAX_PROCESS_ID")
        if count < 1:
            raise InputError("processes", f"received {count}; type --processes=NUMBER from 1 on")
        if not 0 <= index < count:
            raise InputError(
                "process",
                f"received {index} of {count} processes; number them from 0 to {count - 1}",
            )
        print(
            f"process {index} of {count}: waiting up to {_CONNECT_TIMEOUT} s for the others at "
            f"{address}",
            file=sys.stderr,
        )

    try:
        jax.distributed.initialize(address, count, index, initialization_timeout=_CONNECT_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            "coordinator",
            f"cannot reach the other processes at {address or 'auto'} ({first_line(error)}); "
            "start each with --coordinator=HOST:PORT of process 0, --processes=NUMBER and "
            "--process=INDEX",
        ) from error

    if not is_main_process():
        show_status("nothing")

    # Programs that XLA's CPU backend reads back from its cache have lost the order of their
    # collectives, and the processes would exchange the wrong arrays.
    if jax.default_backend() == "cpu":
        jax.config.update("jax_enable_compilation_cache", False)


def _check_address(text: str | None) -> None:
    host, _, port = (text or "").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InputError(
            "coordinator",
            f"received {text!r:.60}; type --coordinator=HOST:PORT of process 0, or auto",
        )


def _integer(flag: str, value: Any, variable: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            flag, f"received {value!r:.60}; type --{flag}=NUMBER, or set {variable}"
        ) from error


def abort(error: Exception) -> NoReturn:
    """Exits immediately after a fatal error in a run of several processes.

    A normal shutdown would block on the other processes. Prints one line if `error` says that
    another process is lost, else the traceback.
    """
    if any(word in str(error) for word in _LOST_PROCESS):
        print(
            f"error: process {jax.process_index()} of {jax.process_count()}: lost another process "
            f"({first_line(error)}); start them all again with the same command, the run resumes "
            "after its last checkpoint",
            file=sys.stderr,
        )
    else:
        traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(1)


def is_main_process() -> bool:
    """Whether this is process 0, which writes files and prints for all."""
    return jax.process_index() == 0


def print_main(text: str, *, file: TextIO | None = None) -> None:
    """Prints in the main process alone; `file` is stdout unless given."""
    if is_main_process():
        DISPLAY.make_way()
        print(text, file=sys.stdout if file is None else file)


def all_gather_objects(value: Any) -> list[Any]:
    """The `value` of every process, in their order; with one process ``[value]``.

    Every process has to call it.

    Args:
      value: anything that JSON can hold.
    """
    if jax.process_count() == 1:
        return [value]

    encoded = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(len(encoded)))

    # Padded to powers of two, so that few shapes are compiled.
    padding = next_power_of_two(int(lengths.max())) - len(encoded)
    gathered = multihost_utils.process_allgather(np.pad(encoded, (0, padding)))
    return [
        json.loads(row[:length].tobytes()) for row, length in zip(gathered, lengths, strict=True)
    ]


def first_nonempty(text: str) -> str:
    """The first non-empty `text` over all processes, or "". Every process has to call it."""
    return next(filter(None, all_gather_objects(text)), "")


@contextlib.contextmanager
def sync_errors() -> Iterator[None]:
    """Raises an exception of one process in all, so that none waits for another.

    Every process has to enter it.

    Raises:
      InputError: in the processes that did not fail, with the message of the first that did.
    """
    own_error = None
    try:
        yield
    except Exception as error:
        own_error = error

    message = "" if own_error is None else str(own_error) or type(own_error).__name__
    messages = all_gather_objects(message)
    if own_error is not None:
        raise own_error
    for index, message in enumerate(messages):
        if message:
            raise InputError("process", f"{index} failed: {message}")
