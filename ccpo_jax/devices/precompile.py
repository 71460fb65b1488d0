"""Ahead-of-time compilation, on the host while a TPU runs an earlier program."""

import functools
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from ccpo_jax.devices.compile_status import numbered

# Compilations at once; the compiler starts threads of its own for each.
_THREADS = 2

# Module state, like the cache of `jax.jit`: one entry per program and argument shapes. `clear`
# empties both.
_compiled: dict[Hashable, Future] = {}


@functools.cache
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="compile")


def worthwhile() -> bool:
    """Whether compiling in the background disturbs nothing: on TPUs alone.

    On a CPU the processors are busy with the programs themselves, and a GPU's compiler times
    kernels on the device, which must be idle meanwhile.
    """
    return jax.default_backend() == "tpu"


def prepare(program: Callable, calls: Sequence[tuple], **static: Hashable) -> None:
    """Starts to compile a jitted program for arguments of several shapes, each once.

    Args:
      program: from `jax.jit`; its static arguments are keyword-only.
      calls: the arguments of each call: pytrees of arrays, or of `jax.ShapeDtypeStruct` in their
        place, all on the default device.
      static: the static arguments.
    """
    by_key = {_key(program, args, static): args for args in calls}
    new = {key: args for key, args in by_key.items() if key not in _compiled}
    for number, (key, args) in enumerate(new.items(), start=1):
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
        _compiled[key] = _executor().submit(_compile, program, shapes, static, number, len(new))


def _compile(
    program: Any, shapes: tuple, static: dict[str, Hashable], number: int, total: int
) -> jax.stages.Compiled:
    with numbered(number, total):
        return program.lower(*shapes, **static).compile()


def call(program: Callable, *args: Any, **static: Hashable) -> Any:
    """``program(*args, **static)``; waits for the compilation if `prepare` started it."""
    future = _compiled.get(_key(program, args, static))
    if future is None:
        return program(*args, **static)
    return future.result()(*args)


def count() -> int:
    """Number of programs prepared since the last `clear`."""
    return len(_compiled)


def clear() -> None:
    """Drops prepared programs and the threads, as `jax.clear_caches` does for jitted functions."""
    _compiled.clear()
    if _executor.cache_info().currsize:
        _executor().shutdown(cancel_futures=True)
        _executor.cache_clear()


def _key(program: Callable, args: tuple, static: dict[str, Hashable]) -> Hashable:
    leaves, structure = jax.tree.flatten(args)
    shapes = tuple((x.shape, x.dtype) for x in leaves)
    return program, structure, shapes, tuple(sorted(static.items()))
