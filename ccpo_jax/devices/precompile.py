"""Programs compiled ahead of time: by the host, while a TPU is busy with the programs before them."""

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

_THREADS = 2  # compilations at once; each has threads of its own
_pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="compile")
_prepared: dict[Hashable, Future] = {}


def worthwhile() -> bool:
    """Whether compiling disturbs nothing: a CPU's processors are busy with the programs, and a GPU's compiler times
    kernels on the device, which must be idle then."""
    return jax.default_backend() == "tpu"


def prepare(program: Callable, *args, **static) -> None:
    """Starts to compile a jitted program for arguments of such shapes, unless that has been asked for before.

    Args:
      program: from `jax.jit`; its static arguments are keyword-only.
      args: arrays, or `jax.ShapeDtypeStruct` in their place, all on the default device.
      static: the static arguments.
    """
    key = _key(program, args, static)
    if key not in _prepared:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
        _prepared[key] = _pool.submit(lambda: program.lower(*shapes, **static).compile())


def call(program: Callable, *args, **static) -> Any:
    """``program(*args, **static)``; waits for its compilation where that was prepared."""
    prepared = _prepared.get(_key(program, args, static))
    return program(*args, **static) if prepared is None else prepared.result()(*args)


def count() -> int:
    """Programs that were prepared so far."""
    return len(_prepared)


def _key(program: Callable, args, static) -> Hashable:
    leaves, structure = jax.tree.flatten(args)
    return (
        program,
        structure,
        tuple((x.shape, x.dtype) for x in leaves),
        tuple(sorted(static.items())),
    )
