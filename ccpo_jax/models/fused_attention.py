"""Vendors' fused attention kernels: cuDNN on NVIDIA GPUs, splash attention on TPUs.

The option `attention` of `make_policy` switches them. A decode step on a GPU has kernels of its
own, in decode_attention.py.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.rl.types import Array

# Queries and keys in a tile of splash attention, and the lanes of a TPU.
_SPLASH_BLOCK = 128


def available(dtype: np.dtype) -> str | None:
    """The backend whose fused kernels serve arrays of `dtype` here: "gpu", "tpu" or None.

    On one device only: the kernels cannot be split over several.
    """
    backend = jax.default_backend()
    fits = jax.device_count() == 1 and dtype == jnp.bfloat16 and backend in ("gpu", "tpu")
    return backend if fits else None


def fused_attention(
    queries: Array,
    keys: Array,
    values: Array,
    visible: Array,
    *,
    backend: str,
) -> Array:
    """Attention under an arbitrary mask, without ever holding all scores.

    Args:
      queries: ``[N, S, H, Q, E]``.
      keys: ``[N, H, E, C]``.
      values: ``[N, H, C, E]``.
      visible: ``[N, S, C]`` bool, True = seen.
      backend: "gpu"; "tpu", whose kernel is interpreted on other machines; or "xla" for the
        computation that both replace.

    Returns:
      ``[N, S, H, Q, E]`` in the dtype of `queries`; differentiable.
    """
    if backend == "tpu":
        return _splash_attention(queries, keys, values, visible)

    flat_heads = queries.reshape(*queries.shape[:2], -1, queries.shape[-1])
    keys = jnp.moveaxis(keys, -1, 1)
    values = jnp.swapaxes(values, 1, 2)
    implementation = "cudnn" if backend == "gpu" else "xla"
    out = jax.nn.dot_product_attention(
        flat_heads, keys, values, mask=visible[:, None], implementation=implementation
    )
    return out.reshape(queries.shape)


def fold_vmap(f: Callable[..., Array]) -> Callable[..., Array]:
    """Makes `jax.vmap` of `f` fold the mapped axis into the first axis of every array.

    The result is not differentiable.

    cuDNN's own batching rule needs a mask for every head, twelve times the size of our masks in
    Qwen2.5-1.5B.
    """
    call = jax.custom_batching.custom_vmap(f)

    @call.def_vmap
    def fold(axis_size: int, mapped: list[bool], *arrays: Array) -> tuple[Array, bool]:
        folded = []
        for x, is_mapped in zip(arrays, mapped, strict=True):
            every = x if is_mapped else jnp.broadcast_to(x, (axis_size, *x.shape))
            folded.append(every.reshape(-1, *every.shape[2:]))
        out = call(*folded)
        return out.reshape(axis_size, -1, *out.shape[1:]), True

    return call


def _splash_attention(queries: Array, keys: Array, values: Array, visible: Array) -> Array:
    """Queries of one key/value head at a time; sequences are padded to whole tiles."""
    # Imported where it is used: only TPUs need it.
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    new, slots, size = queries.shape[1], visible.shape[-1], queries.shape[-1]
    pad_queries, pad_keys, pad_size = (-n % _SPLASH_BLOCK for n in (new, slots, size))
    heads = [(0, 0)] * 3
    q = jnp.moveaxis(queries, 1, 3) / math.sqrt(size)
    q = jnp.pad(q, [*heads, (0, pad_queries), (0, pad_size)])
    k = jnp.pad(jnp.swapaxes(keys, -1, -2), [*heads[:2], (0, pad_keys), (0, pad_size)])
    v = jnp.pad(values, [*heads[:2], (0, pad_keys), (0, pad_size)])
    mask = jnp.pad(visible, [(0, 0), (0, pad_queries), (0, pad_keys)])

    interpret = jax.default_backend() != "tpu"
    blocks = splash.BlockSizes(
        block_q=_SPLASH_BLOCK,
        block_kv=_SPLASH_BLOCK,
        block_kv_compute=_SPLASH_BLOCK,
        block_q_dkv=_SPLASH_BLOCK,
        block_kv_dkv=_SPLASH_BLOCK,
        block_kv_dkv_compute=_SPLASH_BLOCK,
        block_q_dq=_SPLASH_BLOCK,
        block_kv_dq=_SPLASH_BLOCK,
    )

    def attend_sequence(q: Array, k: Array, v: Array, mask: Array) -> Any:
        per_head = jnp.broadcast_to(mask, (q.shape[1], *mask.shape))
        kernel = splash.make_splash_mqa_single_device(
            per_head, block_sizes=blocks, interpret=interpret
        )
        # The library branches on this flag, which it has turned into an array, and an array has no
        # truth value in jit.
        kernel.fwd_mask_info = kernel.fwd_mask_info._replace(is_dynamic_mask=True)
        return jax.vmap(kernel)(q, k, v)

    out = jax.vmap(attend_sequence)(q.astype(queries.dtype), k, v, mask)
    return jnp.moveaxis(out[..., :new, :size], 3, 1).astype(queries.dtype)
