"""Says which program is being compiled, where that takes more than a moment."""

import functools
import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import jax

from ccpo_jax.status import status

# jax reports the beginning of these as a scalar and their end as a duration: a function is traced,
# lowered, and compiled or read from the cache.
_STAGES = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)

# Functions whose own names say little to a reader.
_NAMES = {
    "prefill_rows": "the reading of prompts",
    "decode_rows": "the decode loop",
    "accumulate": "the gradient",
    "apply_gradients": "the optimizer step",
    "assign_credit": "the credit",
    "publish": "the decode weights",
    "init": "the optimizer state",
    "packed_logprobs": "the log-probs",
    "lambda": "a small program",
}


class _Place(threading.local):
    """Which of several compilations a thread does, in words; "" = they are not counted."""

    text = ""


_place = _Place()


@contextmanager
def numbered(number: int, total: int) -> Iterator[None]:
    """Within it, this thread's compilations say that they are one of several started at once.

    Args:
      number: of this one, from 1.
      total: how many; 1 says nothing.
    """
    _place.text = f" ({number} of {total})" if total > 1 else ""
    try:
        yield
    finally:
        _place.text = ""


class _Watch(threading.local):
    """What a thread compiles: functions that it traces within another belong to that one."""

    def __init__(self) -> None:
        self.open: list[AbstractContextManager[Any]] = []
        self.names: list[str] = []

    def begin(self, event: str, value: float, **details: str | int) -> None:
        del value
        if event not in _STAGES:
            return
        name = program_name(str(details.get("fun_name", "")))
        self.names.append(name)
        if len(self.names) == 1:
            self.open.append(status(f"compiling {name}{_place.text}"))
            self.open[-1].__enter__()

    def end(self, event: str, duration_secs: float, **details: str | int) -> None:
        del duration_secs, details
        if event not in _STAGES or not self.names:
            return
        self.names.pop()
        if not self.names:
            self.open.pop().__exit__(None, None, None)


@functools.cache
def watch_compilation() -> None:
    """Shows a status line for every program whose compilation takes more than a moment."""
    watch = _Watch()
    jax.monitoring.register_scalar_listener(watch.begin)
    jax.monitoring.register_event_duration_secs_listener(watch.end)


def program_name(function: str) -> str:
    """What a reader calls a jitted function.

    Example:
      >>> program_name("jit(decode_rows)"), program_name("jit__state_metrics")
      ('the decode loop', 'state metrics')
    """
    # Some events have "jit(name)", some "jit_name", and some the name.
    bare = re.sub(r"^jit[(_]", "", function).strip("_<>()")
    return _NAMES.get(bare, bare.replace("_", " "))
