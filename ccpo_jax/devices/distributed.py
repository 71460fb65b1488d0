"""Several processes in one run: how they find each other, agree, and share what each of them found out.

Every process runs the whole program on the same global arrays and makes the same decisions from the same numbers. Large
things are split over them: parameters, caches, activations, checkpoints; and slow ones: verification. A batch's texts
are small, so all of them hold the whole of it. The first process alone writes metrics and speaks.
"""

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from ccpo_jax.errors import first_line
from ccpo_jax.integers import next_power_of_two

_OF_OTHERS = (
    "Gloo",
    "NCCL",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "heartbeat",
)  # in errors about lost processes
_PATIENCE = 300  # seconds until all processes of a run have to be there
_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def initialize(
    coordinator: str | None = None, count: int | None = None, index: int | None = None
) -> None:
    """Makes this process one of several; to be called before jax touches a device. Without arguments it stays alone.

    Args:
      coordinator: host:port of process 0, where the others find it, or "auto" where the cluster says everything (SLURM,
        Open MPI, Kubernetes, Cloud TPU). None = the environment's JAX_COORDINATOR_ADDRESS, if there is one.
      count: processes. None = JAX_NUM_PROCESSES.
      index: of this process, from 0. None = JAX_PROCESS_ID.

    Raises:
      ValueError: one of the three is missing or makes no sense, or the others were not found.
    """
    given = (coordinator, count, index)
    coordinator, count, index = (
        os.environ.get(v) if g is None else g for g, v in zip(given, _VARIABLES, strict=True)
    )
    if coordinator is None and count is None and index is None:
        return
    if coordinator == "auto":
        count = index = None
    elif not _is_address(coordinator):
        raise ValueError(
            f"coordinator: received {coordinator!r:.60}; type --coordinator=HOST:PORT of process 0, or auto"
        )
    else:
        count, index = (
            _number("processes", count, _VARIABLES[1]),
            _number("process", index, _VARIABLES[2]),
        )
        if count < 1:
            raise ValueError(f"processes: received {count}; type --processes=NUMBER from 1 on")
        if not 0 <= index < count:
            raise ValueError(
                f"process: received {index} of {count} processes; number them from 0 to {count - 1}"
            )
        print(
            f"process {index} of {count}: waits for the others at {coordinator}, {_PATIENCE} s at most",
            file=sys.stderr,
        )
    try:
        jax.distributed.initialize(
            None if coordinator == "auto" else coordinator,
            count,
            index,
            initialization_timeout=_PATIENCE,
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"coordinator: cannot join the others at {coordinator} ({first_line(error)}); type --coordinator=HOST:PORT of "
            "process 0, --processes=NUMBER and --process=INDEX in each"
        ) from error
    if (
        jax.default_backend() == "cpu"
    ):  # programs that XLA's CPU backend reads back have lost the order of their
        jax.config.update(
            "jax_enable_compilation_cache", False
        )  # collectives: processes would talk at cross purposes


def _is_address(text: str | None) -> bool:
    host, _, port = (text or "").rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 1 << 16


def abort(error: Exception) -> NoReturn:
    """Ends this process, one of several, after what went wrong: any way that says goodbye waits for the others.

    Where the error tells of a lost process it is one line, else its traceback.
    """
    if any(word in str(error) for word in _OF_OTHERS):
        print(
            f"error: process {jax.process_index()} of {jax.process_count()}: another one is gone ({first_line(error)}); "
            "start them all again with the same command, it resumes after the last checkpoint",
            file=sys.stderr,
        )
    else:
        traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(1)


def _number(flag: str, value: Any, variable: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{flag}: received {value!r:.60}; type --{flag}=NUMBER, or set {variable}"
        ) from error


def is_main_process() -> bool:
    """Whether this is the process that writes and speaks for all."""
    return jax.process_index() == 0


def print_main(text: str, *, file=None) -> None:
    """Prints in the first process alone."""
    if is_main_process():
        print(text, file=sys.stdout if file is None else file)


def all_gather_objects(value: Any) -> list:
    """What each process has passed, in their order. All have to call it; alone it is ``[value]``.

    Args:
      value: of lists, dicts, strings and numbers.
    """
    if jax.process_count() == 1:
        return [value]
    mine = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(mine)))
    room = next_power_of_two(sizes.max())  # few shapes
    rows = multihost_utils.process_allgather(np.pad(mine, (0, room - len(mine))))
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def first_nonempty(word: str) -> str:
    """The first word that is not empty among those of all processes; "" if there is none. All have to call it."""
    return next(filter(None, all_gather_objects(word)), "")


@contextlib.contextmanager
def sync_errors() -> Iterator[None]:
    """What fails in one process fails in all, so that none waits for another. All have to enter and leave it.

    Raises:
      ValueError: in those that did not fail, with the word of the first that did.
    """
    mine = None
    try:
        yield
    except Exception as error:
        mine = error
    told = all_gather_objects("" if mine is None else str(mine) or type(mine).__name__)
    if mine is not None:
        raise mine
    for index, why in enumerate(told):
        if why:
            raise ValueError(f"process {index} failed: {why}")
