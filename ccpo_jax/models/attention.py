"""Attention: the one place where it is computed, for training and for sampling.

Axes beyond the legend of records.py: S new tokens, C key slots of a block, H key/value heads, Q query heads per
key/value head, E head size.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.records import Array

# Who computes a training forward's attention: XLA anywhere, or NVIDIA's fused kernel (float16 or bfloat16).
KERNELS = ("xla", "cudnn")
_QUERY_BLOCK = 256  # queries whose scores exist at once in a training forward
_MASKED = -1e30  # finite, so that a row without any visible key gives garbage and not NaN


class Block(NamedTuple):
    """Keys and values to attend to. With one row for all R rows of a prompt, they are read once for the prompt."""

    keys: Array  # [B, R or 1, H, E, C]
    values: Array  # [B, R or 1, H, C, E]
    mask: Array  # [B, R or 1, S or 1, C] bool, True = visible


def attention(queries: Array, blocks: Sequence[Block | tuple[Block, ...]]) -> Array:
    """Softmax attention over the keys of all blocks together.

    Every block is reduced to its maximum, its sum of exponentials and its weighted values in float32; these parts are
    then merged under the joint maximum. Query heads stay grouped by key/value head, so that nothing is repeated.

    Args:
      queries: ``[B, R, S, H, Q, E]``.
      blocks: what to attend to. A tuple in place of a block: each of its blocks serves the next rows, all R together.

    Returns:
      ``[B, R, S, H, Q, E]`` in the dtype of `queries`.
    """
    tops, sums, values = zip(*(_by_rows(queries, block) for block in blocks), strict=True)
    joint = functools.reduce(jnp.maximum, tops)
    shares = [jnp.exp(top - joint) for top in tops]
    total = sum(share * s for share, s in zip(shares, sums, strict=True))
    out = sum(share[..., None] * v for share, v in zip(shares, values, strict=True))
    return (out / total[..., None]).astype(queries.dtype)


def packed_attention(
    queries: Array, keys: Array, values: Array, segments: Array, parents: Array, kernel: str = "xla"
) -> Array:
    """Causal attention of packed sequences, by blocks of queries: no score lies above the diagonal block.

    Args:
      queries: ``[N, 1, S, H, Q, E]``.
      keys: ``[N, 1, H, E, S]``.
      values: ``[N, 1, H, S, E]``.
      segments: ``[N, S]`` int32, equal numbers see each other.
      parents: ``[N, S]`` int32, a further segment that the query sees.
      kernel: a key of KERNELS.

    Returns:
      ``[N, 1, S, H, Q, E]`` in the dtype of `queries`.
    """
    slots = segments.shape[1]

    def block(begin, q, k, v, own, parent, others):
        visible = (own[:, :, None] == others[:, None]) | (parent[:, :, None] == others[:, None])
        visible &= begin + jnp.arange(q.shape[2])[:, None] >= jnp.arange(k.shape[-1])
        if kernel != "xla":
            return fused_attention(q, k, v, visible, kernel)
        return attention(q, (Block(k, v, visible[:, None]),))

    if (
        slots > _QUERY_BLOCK and kernel == "xla"
    ):  # scores of one block are bearable; of many they are computed again when needed
        block = jax.checkpoint(block)
    parts = []
    for begin in range(0, slots, _QUERY_BLOCK):
        own, seen = slice(begin, begin + _QUERY_BLOCK), slice(min(begin + _QUERY_BLOCK, slots))
        args = (queries[:, :, own], keys[..., seen], values[..., seen, :], segments[:, own], parents[:, own])
        parts.append(block(begin, *args, segments[:, seen]))
    return jnp.concatenate(parts, axis=2)


def fused_attention(queries: Array, keys: Array, values: Array, visible: Array, implementation: str) -> Array:
    """`packed_attention`'s block by `jax.nn.dot_product_attention`; ``visible [N, S, C]``, True = seen."""
    packs, _, new, heads, group, size = queries.shape
    flat = queries.reshape(packs, new, heads * group, size)
    keys, values = jnp.moveaxis(keys[:, 0], -1, 1), jnp.swapaxes(values[:, 0], 1, 2)
    out = jax.nn.dot_product_attention(flat, keys, values, mask=visible[:, None], implementation=implementation)
    return out.reshape(queries.shape)


def _by_rows(queries: Array, block: Block | tuple[Block, ...]) -> tuple[Array, Array, Array]:
    """`_attend`, each block of a tuple with its own rows."""
    if isinstance(block, Block):
        return _attend(queries, block)
    bounds = np.cumsum([0] + [part.keys.shape[1] for part in block])
    rows = (queries[:, first:last] for first, last in itertools.pairwise(bounds))
    parts = [_attend(q, part) for q, part in zip(rows, block, strict=True)]
    return tuple(jnp.concatenate(pieces, axis=1) for pieces in zip(*parts, strict=True))


def _attend(queries: Array, block: Block) -> tuple[Array, Array, Array]:
    """(maximum, sum [B, R, S, H, Q], weighted values [B, R, S, H, Q, E]) of one block, float32."""
    batch, rows, new, heads, group, size = queries.shape
    # Rows that share their keys fold into the query axis: one matrix product reads the keys for all of them.
    folded = queries.reshape(batch, block.keys.shape[1], -1, heads, group, size)
    scores = jnp.einsum("brshqe,brhec->brhsqc", folded, block.keys, preferred_element_type=jnp.float32)
    scores = jnp.where(block.mask[:, :, None, :, None], scores / math.sqrt(size), _MASKED)
    top = jax.lax.stop_gradient(jnp.max(scores, axis=-1))
    weights = jnp.exp(scores - top[..., None])
    values = jnp.einsum(
        "brhsqc,brhce->brhsqe", weights.astype(queries.dtype), block.values, preferred_element_type=jnp.float32
    )

    def unfold(x: Array) -> Array:
        return jnp.moveaxis(x, 2, 3).reshape(batch, rows, new, heads, group, *x.shape[5:])

    return unfold(top), unfold(jnp.sum(weights, axis=-1)), unfold(values)
