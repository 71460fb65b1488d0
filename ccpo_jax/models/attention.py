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

from ccpo_jax.models.fused_attention import flash, folded
from ccpo_jax.rl.types import Array

MASKED = -1e30  # finite, so that a query without any visible key gives garbage and not NaN
_QUERY_BLOCK = 256  # queries whose scores exist at once where no fused kernel holds them


class Block(NamedTuple):
    """Keys and values to attend to. With one row for all R rows of a prompt, they are read once for the prompt.

    A query sees the slots from `low` up to `high`; where `high` is not above `low` its row has gone around the end of
    the block, and it sees those from `low` on and those up to `high`. A sliding window is one more mask: slots out of
    its reach stay in the block and are not seen, so that caches and cursors are those of layers that see everything.
    """

    keys: Array  # [B, R or 1, H, E, C]
    values: Array  # [B, R or 1, H, C, E]
    low: Array  # [B, R or 1, 1] int32
    high: Array  # [B, R or 1, S or 1] int32, exclusive
    near: Array | None = (
        None  # [B, R, S, C] bool, slots within each query's window, in all R rows; None = all
    )

    @property
    def visible(self) -> Array:
        """``[B, R or 1, S or 1, C]`` bool; with a window and one row of keys for all R ``[B, 1, R * S, C]``."""
        slot, low, high = jnp.arange(self.keys.shape[-1]), self.low[..., None], self.high[..., None]
        seen = jnp.where(low < high, (low <= slot) & (slot < high), (low <= slot) | (slot < high))
        if self.near is None:
            return seen
        return seen & self.near.reshape(len(self.near), self.keys.shape[1], -1, self.near.shape[-1])


def write(
    cache: tuple[Array, Array], keys: Array, values: Array, cursor: Array
) -> tuple[Array, Array]:
    """The cache with new keys ``[B, R, H, E, S]`` and values ``[B, R, H, S, E]`` in its slots from `cursor` on."""
    return (
        jax.lax.dynamic_update_slice(cache[0], keys, (0, 0, 0, 0, cursor)),
        jax.lax.dynamic_update_slice(cache[1], values, (0, 0, 0, cursor, 0)),
    )


def attention(
    queries: Array, blocks: Sequence[Block | tuple[Block, ...]], kernel: str | None = None
) -> Array:
    """Softmax attention over the keys of all blocks together.

    Every block is reduced to its maximum, its sum of exponentials and its weighted values in float32; these parts are
    then merged under the joint maximum. Query heads stay grouped by key/value head, so that nothing is repeated.

    Args:
      queries: ``[B, R, S, H, Q, E]``.
      blocks: what to attend to. A tuple in place of a block: each of its blocks serves the next rows, all R together.
      kernel: whose fused kernels to use where they serve: see `flash.available`; None = XLA alone.

    Returns:
      ``[B, R, S, H, Q, E]`` in the dtype of `queries`.
    """
    if kernel and queries.shape[2] > 1 and len(blocks) == 1 and queries.shape[1] == 1:
        keys, values, visible = (
            x[:, 0] for x in (blocks[0].keys, blocks[0].values, blocks[0].visible)
        )
        one_pass = folded(functools.partial(flash, backend=kernel))  # agents may sample together
        return one_pass(queries[:, 0], keys, values, visible)[:, None]
    found = [_by_rows(queries, block) for block in blocks]
    joint = functools.reduce(jnp.maximum, (top for top, _, _ in found))
    shares = [jnp.exp(top - joint) for top, _, _ in found]
    total = sum(share * s for share, (_, s, _) in zip(shares, found, strict=True))
    out = sum(share[..., None] * value for share, (_, _, value) in zip(shares, found, strict=True))
    return (out / total[..., None]).astype(queries.dtype)


def packed_attention(
    queries: Array,
    keys: Array,
    values: Array,
    segments: Array,
    parents: Array,
    kernel: str | None = None,
    window: tuple[Array, Array] | None = None,
) -> Array:
    """Causal attention of packed sequences. Without a fused kernel by blocks of queries: no score above the diagonal.

    Args:
      queries: ``[N, 1, S, H, Q, E]``.
      keys: ``[N, 1, H, E, S]``.
      values: ``[N, 1, H, S, E]``.
      segments: ``[N, S]`` int32, equal numbers see each other.
      parents: ``[N, S]`` int32, a further segment that the query sees.
      kernel: see `attention`.
      window: positions ``[N, S]`` int32 and a reach ``[]`` int32; keys that far back are hidden. None = none.

    Returns:
      ``[N, 1, S, H, Q, E]`` in the dtype of `queries`.
    """
    slots = segments.shape[1]
    positions, reach = (None, None) if window is None else window

    def visible(begin, own, parent, others, here, there):
        related = (own[:, :, None] == others[:, None]) | (parent[:, :, None] == others[:, None])
        seen = related & (begin + jnp.arange(own.shape[1])[:, None] >= jnp.arange(others.shape[1]))
        return seen if here is None else seen & (here[:, :, None] - there[:, None] < reach)

    if kernel:
        seen = visible(0, segments, parents, segments, positions, positions)
        return flash(queries[:, 0], keys[:, 0], values[:, 0], seen, backend=kernel)[:, None]

    def block(begin, q, k, v, *where):
        _, total, value = _attend(q, k, v, visible(begin, *where)[:, None])
        return (value / total[..., None]).astype(q.dtype)

    if (
        slots > _QUERY_BLOCK
    ):  # scores of one block are bearable; of many they are computed again when needed
        block = jax.checkpoint(block)
    parts = []
    for begin in range(0, slots, _QUERY_BLOCK):
        own, seen = slice(begin, begin + _QUERY_BLOCK), slice(min(begin + _QUERY_BLOCK, slots))
        args = (
            queries[:, :, own],
            keys[..., seen],
            values[..., seen, :],
            segments[:, own],
            parents[:, own],
        )
        near = (None, None) if positions is None else (positions[:, own], positions[:, seen])
        parts.append(block(begin, *args, segments[:, seen], *near))
    return jnp.concatenate(parts, axis=2)


def _by_rows(queries: Array, block: Block | tuple[Block, ...]) -> tuple[Array, Array, Array]:
    """What `_attend` gives for a block; or for each block of a tuple with its own rows, joined."""
    if isinstance(block, Block):
        return _attend(queries, block.keys, block.values, block.visible)
    bounds = np.cumsum([0] + [part.keys.shape[1] for part in block])
    rows = (queries[:, first:last] for first, last in itertools.pairwise(bounds))
    found = [_by_rows(q, part) for q, part in zip(rows, block, strict=True)]
    return tuple(jnp.concatenate(pieces, axis=1) for pieces in zip(*found, strict=True))


def _attend(
    queries: Array, keys: Array, values: Array, visible: Array
) -> tuple[Array, Array, Array]:
    """(maximum, sum [B, R, S, H, Q], weighted values [B, R, S, H, Q, E]) of one block, float32."""
    batch, rows, new, heads, group, size = queries.shape
    # Rows that share their keys fold into the query axis: one matrix product reads the keys for all of them.
    folded = queries.reshape(batch, keys.shape[1], -1, heads, group, size)
    scores = jnp.einsum("brshqe,brhec->brhsqc", folded, keys, preferred_element_type=jnp.float32)
    scores = jnp.where(visible[:, :, None, :, None], scores / math.sqrt(size), MASKED)
    top = jax.lax.stop_gradient(jnp.max(scores, axis=-1))
    weights = jnp.exp(scores - top[..., None])
    value = jnp.einsum(
        "brhsqc,brhce->brhsqe",
        weights.astype(queries.dtype),
        values,
        preferred_element_type=jnp.float32,
    )

    def unfold(x: Array) -> Array:
        return jnp.moveaxis(x, 2, 3).reshape(batch, rows, new, heads, group, *x.shape[5:])

    return unfold(top), unfold(jnp.sum(weights, axis=-1)), unfold(value)
