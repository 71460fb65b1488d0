"""Vendors' fused attention over whole sequences, behind the one switch `attention` of `make_policy`.

cudnn on NVIDIA GPUs, splash on TPUs. A decode step on a GPU has kernels of its own: decode_step.py.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ccpo_jax.rl.types import Array

_SPLASH_BLOCK = 128  # queries and keys in a tile of splash attention, and its lanes


def available(dtype) -> str | None:
    """Whose fused kernels run here on arrays of `dtype`: "gpu", "tpu", or None. On one device: they are not split."""
    backend = jax.default_backend()
    fits = jax.device_count() == 1 and dtype == jnp.bfloat16 and backend in ("gpu", "tpu")
    return backend if fits else None


def flash(
    queries: Array,
    keys: Array,
    values: Array,
    visible: Array,
    *,
    backend: str,
    interpret: bool = False,
) -> Array:
    """Attention under an arbitrary mask, without ever holding all scores.

    Args:
      queries: ``[N, S, H, Q, E]``.
      keys: ``[N, H, E, C]``.
      values: ``[N, H, C, E]``.
      visible: ``[N, S, C]`` bool, True = seen.
      backend: "gpu", "tpu", or "xla" for the computation that both replace.
      interpret: run a TPU's kernel on any machine, for tests.

    Returns:
      ``[N, S, H, Q, E]`` in the dtype of `queries`; differentiable.
    """
    if backend == "tpu":
        return _splash(queries, keys, values, visible, interpret)
    flat = queries.reshape(*queries.shape[:2], -1, queries.shape[-1])
    keys, values = jnp.moveaxis(keys, -1, 1), jnp.swapaxes(values, 1, 2)
    implementation = "cudnn" if backend == "gpu" else "xla"
    out = jax.nn.dot_product_attention(
        flat, keys, values, mask=visible[:, None], implementation=implementation
    )
    return out.reshape(queries.shape)


def folded(f: Callable) -> Callable:
    """`f` of arrays with a leading axis of sequences; under `jax.vmap` the mapped axis joins it. Not differentiable.

    cudnn's own batching rule wants a mask for every head, twelve times what our masks take in Qwen2.5-1.5B.
    """
    call = jax.custom_batching.custom_vmap(f)

    @call.def_vmap
    def over_agents(agents: int, mapped: list[bool], *arrays: Array):
        every = (
            x if own else jnp.broadcast_to(x, (agents, *x.shape))
            for x, own in zip(arrays, mapped, strict=True)
        )
        out = call(*(x.reshape(-1, *x.shape[2:]) for x in every))
        return out.reshape(agents, -1, *out.shape[1:]), True

    return call


def _splash(queries, keys, values, visible, interpret: bool) -> Array:
    """Queries of one key/value head at a time; sequences are padded to whole tiles."""
    from jax.experimental.pallas.ops.tpu import splash_attention as library

    new, slots, size = queries.shape[1], visible.shape[-1], queries.shape[-1]
    right, below, lanes = (-n % _SPLASH_BLOCK for n in (new, slots, size))
    q = jnp.pad(
        jnp.moveaxis(queries, 1, 3) / math.sqrt(size), [(0, 0)] * 3 + [(0, right), (0, lanes)]
    )
    k = jnp.pad(jnp.swapaxes(keys, -1, -2), [(0, 0)] * 2 + [(0, below), (0, lanes)])
    v = jnp.pad(values, [(0, 0)] * 2 + [(0, below), (0, lanes)])
    seen = jnp.pad(visible, [(0, 0), (0, right), (0, below)])
    sizes = library.BlockSizes(
        *(_SPLASH_BLOCK,) * 3,
        block_q_dkv=_SPLASH_BLOCK,
        block_kv_dkv=_SPLASH_BLOCK,
        block_kv_dkv_compute=_SPLASH_BLOCK,
        block_q_dq=_SPLASH_BLOCK,
        block_kv_dq=_SPLASH_BLOCK,
    )

    def one(q, k, v, seen):
        mask = jnp.broadcast_to(seen, (q.shape[1], *seen.shape))
        kernel = library.make_splash_mqa_single_device(mask, block_sizes=sizes, interpret=interpret)
        # The library branches on this flag, which it has made an array of; under jit that cannot be read.
        kernel.fwd_mask_info = kernel.fwd_mask_info._replace(is_dynamic_mask=True)
        return jax.vmap(kernel)(q, k, v)

    out = jax.vmap(one)(q.astype(queries.dtype), k, v, seen)
    return jnp.moveaxis(out[..., :new, :size], 3, 1).astype(queries.dtype)
