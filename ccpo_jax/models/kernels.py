"""Fused attention kernels of accelerators, behind the one switch `attention` of `make_policy`.

Whole sequences go to the vendors' flash attention: cudnn on NVIDIA GPUs, splash on TPUs. A decode step on a GPU has a
kernel of its own, because no library serves a few queries against caches of which some slots are in use and returns
what is needed to merge several caches in float32. Written in Pallas for Triton; `interpret` runs it anywhere.
"""

import functools
import math
import warnings

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from ccpo_jax.records import Array

MASKED = -1e30  # finite, so that a query without any visible key gives garbage and not NaN
_SLOTS = 64  # cache slots that a program of the decode kernel reads at a time
_PROGRAMS = 132  # programs that fill a large GPU: one for each multiprocessor
_SPLASH_BLOCK = 128  # queries and keys in a tile of splash attention, and its lanes


def available(dtype) -> str | None:
    """Whose fused kernels run here on arrays of `dtype`: "gpu", "tpu", or None. On one device: they are not split."""
    backend = jax.default_backend()
    fits = jax.device_count() == 1 and dtype == jnp.bfloat16 and backend in ("gpu", "tpu")
    return backend if fits else None


# --- whole sequences -------------------------------------------------------------------------------------------------


def flash(
    queries: Array, keys: Array, values: Array, visible: Array, *, backend: str, interpret: bool = False
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
    out = jax.nn.dot_product_attention(flat, keys, values, mask=visible[:, None], implementation=implementation)
    return out.reshape(queries.shape)


def _splash(queries, keys, values, visible, interpret: bool) -> Array:
    """Queries of one key/value head at a time; sequences are padded to whole tiles."""
    from jax.experimental.pallas.ops.tpu import splash_attention as library

    new, slots, size = queries.shape[1], visible.shape[-1], queries.shape[-1]
    right, below, lanes = (-n % _SPLASH_BLOCK for n in (new, slots, size))
    q = jnp.pad(jnp.moveaxis(queries, 1, 3) / math.sqrt(size), [(0, 0)] * 3 + [(0, right), (0, lanes)])
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


# --- one token of many rows ------------------------------------------------------------------------------------------


def suits_decoding(new: int, size: int) -> bool:
    """Whether `decode_partial` serves rows of `new` tokens and heads of such a size: one token, powers of two."""
    return new == 1 and size >= 16 and size & (size - 1) == 0


def decode_partial(
    queries: Array,
    keys: Array,
    values: Array,
    low: Array,
    high: Array,
    *,
    whole: bool = False,
    interpret: bool = False,
) -> list[tuple[Array, Array, Array]]:
    """What one new token per row makes of a cache, to be merged with what it makes of others.

    A program reads the slots in use once, for all queries that share them; where that leaves multiprocessors idle, the
    slots are shared out among several programs.

    Args:
      queries: ``[B, R, 1, H, Q, E]``.
      keys: ``[B, R or 1, H, E, C]``; 1 = the rows of a prompt share them.
      values: ``[B, R or 1, H, C, E]``.
      low: ``[B, R or 1]`` int32, first visible slot.
      high: ``[B, R or 1]`` int32, the slot after the last; where it is not above `low` the row has gone around the end.
      whole: a program reads all slots of its cache, so that there is one part.
      interpret: run on any machine, for tests.

    Returns:
      For each part of the slots ``(maximum, sum [B, R, 1, H, Q], weighted values [B, R, 1, H, Q, E])``, float32.
    """
    batch, rows, _, heads, group, size = queries.shape
    owners, slots = keys.shape[1], keys.shape[-1]
    folded = queries.reshape(batch, owners, rows // owners, heads, group, size)
    folded = jnp.moveaxis(folded, 2, 3).reshape(batch * owners * heads, -1, size)
    count, asked = folded.shape[:2]
    parts = 1 if whole else max(min(-(-slots // _SLOTS), _PROGRAMS // count), 1)
    tile = max(16, 1 << (asked - 1).bit_length())  # products need whole tiles of queries
    folded = jnp.pad(folded, ((0, 0), (0, tile - asked), (0, 0)))
    flat = jax.ShapeDtypeStruct((parts, count, tile), jnp.float32)
    call = pl.pallas_call(
        functools.partial(_decode_kernel, heads=heads, slots=slots, parts=parts),
        grid=(count, parts),
        out_shape=[flat, flat, jax.ShapeDtypeStruct((*flat.shape, size), jnp.float32)],
        interpret=interpret,
        compiler_params=None if interpret else _triton().CompilerParams(num_warps=4, num_stages=3),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The Pallas Triton backend is deprecated")
        found = call(
            low.reshape(-1),
            high.reshape(-1),
            folded,
            keys.reshape(count, size, slots),
            values.reshape(count, slots, size),
        )

    def unfold(x: Array) -> Array:
        x = x[:, :asked].reshape(batch, owners, heads, rows // owners, group, *x.shape[2:])
        return jnp.moveaxis(x, 2, 3).reshape(batch, rows, 1, heads, group, *x.shape[5:])

    return [tuple(unfold(x[part]) for x in found) for part in range(parts)]


def _triton():
    from jax.experimental.pallas import triton

    return triton


def _decode_kernel(low, high, q, k, v, top_out, sum_out, value_out, *, heads, slots, parts):
    """Online softmax over this program's share of the visible slots of one cache and key/value head."""
    load, store = _triton().load, _triton().store
    here, part = pl.program_id(0), pl.program_id(1)
    first, end = low[here // heads], high[here // heads]
    around = first >= end
    begin = jnp.where(around, 0, first // _SLOTS)
    pieces = jnp.where(around, pl.cdiv(slots, _SLOTS), pl.cdiv(end, _SLOTS)) - begin
    share = pl.cdiv(pieces, parts)
    queries = load(q.at[here, :, :])

    def step(piece, carried):
        top, total, value = carried
        at = pl.ds(piece * _SLOTS, _SLOTS)
        slot = piece * _SLOTS + jnp.arange(_SLOTS)
        seen = jnp.where(around, (first <= slot) | (slot < end), (first <= slot) & (slot < end))
        if slots % _SLOTS == 0:
            keys, values = load(k.at[here, :, at]), load(v.at[here, at, :])
        else:  # a mask, even one that hides nothing, slows a load by half
            inside = slot < slots
            seen &= inside
            keys = load(k.at[here, :, at], mask=inside[None], other=0.0)
            values = load(v.at[here, at, :], mask=inside[:, None], other=0.0)
        scores = jnp.dot(queries, keys, preferred_element_type=jnp.float32) * (1 / math.sqrt(queries.shape[-1]))
        scores = jnp.where(seen[None], scores, MASKED)
        new = jnp.maximum(top, jnp.max(scores, axis=1))
        weights = jnp.where(seen[None], jnp.exp(scores - new[:, None]), 0.0)
        fade = jnp.exp(top - new)
        more = jnp.dot(weights.astype(values.dtype), values, preferred_element_type=jnp.float32)
        return new, total * fade + jnp.sum(weights, axis=1), value * fade[:, None] + more

    nothing = jnp.full(queries.shape[:1], MASKED), jnp.zeros(queries.shape[:1]), jnp.zeros(queries.shape)
    last = begin + jnp.minimum(share * (part + 1), pieces)
    top, total, value = jax.lax.fori_loop(begin + share * part, last, step, nothing)
    store(top_out.at[part, here, :], top)
    store(sum_out.at[part, here, :], total)
    store(value_out.at[part, here, :, :], value)
