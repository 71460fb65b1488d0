"""Softmax attention over several blocks of keys, for training and for sampling.

Axes beyond the legend of `ccpo_jax.rl.types`: S new tokens, C key slots of a block, H key/value
heads, Q query heads per key/value head, E head size.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.models.fused_attention import fold_vmap, fused_attention
from ccpo_jax.rl.types import Array

# Score of a hidden key. Finite, so that a query without any visible key gives a meaningless value
# and not NaN.
MASKED = -1e30

# Queries whose scores exist at once where no fused kernel holds them.
QUERY_BLOCK = 256


class Block(NamedTuple):
    """Keys and values to attend to.

    With one row for all R rows of a prompt they are read once per prompt.

    A query sees the slots from `low` up to `high`. Where `high` is not above `low`, its row has
    wrapped around the end of the block and sees the slots from `low` on and those below `high`. A
    sliding window is one more mask: slots outside it stay in the block, so that caches and cursors
      are the same for all layers.
    """

    keys: Array  # [B, R or 1, H, E, C]
    values: Array  # [B, R or 1, H, C, E]
    low: Array  # [B, R or 1, 1] int32
    high: Array  # [B, R or 1, S or 1] int32, exclusive
    window: Array | None = None  # [B, R, S, C] bool, slots within each query's window; None = all

    @property
    def visible(self) -> Array:
        """``[B, R or 1, S or 1, C]`` bool.

        With a window and one row of keys for all R rows ``[B, 1, R * S, C]``.
        """
        slot = jnp.arange(self.keys.shape[-1])
        low, high = self.low[..., None], self.high[..., None]
        in_order = low < high
        inside = (low <= slot) & (slot < high)
        around = (low <= slot) | (slot < high)
        visible = jnp.where(in_order, inside, around)
        if self.window is None:
            return visible
        batch, _, _, slots = self.window.shape
        return visible & self.window.reshape(batch, self.keys.shape[1], -1, slots)


# What all rows of a prompt attend to: a block that serves all R rows, or several that each serve
# the next rows.
RowBlocks = Block | tuple[Block, ...]


def write(
    cache: tuple[Array, Array], keys: Array, values: Array, cursor: Array
) -> tuple[Array, Array]:
    """The cache with new tokens in its slots from `cursor` on.

    Args:
      cache: keys ``[B, R, H, E, C]`` and values ``[B, R, H, C, E]``.
      keys: ``[B, R, H, E, S]``.
      values: ``[B, R, H, S, E]``.
      cursor: ``[]`` int32.
    """
    return (
        jax.lax.dynamic_update_slice(cache[0], keys, (0, 0, 0, 0, cursor)),
        jax.lax.dynamic_update_slice(cache[1], values, (0, 0, 0, cursor, 0)),
    )


def attention(queries: Array, blocks: Sequence[RowBlocks], kernel: str | None = None) -> Array:
    """Softmax attention over the keys of all blocks together.

    Every block is reduced to its maximum, its sum of exponentials and its weighted values in
    float32; these are then merged under the joint maximum. Query heads stay grouped by key/value
    head, so that no key is repeated.

    Args:
      queries: ``[B, R, S, H, Q, E]``.
      blocks: what to attend to.
      kernel: the backend whose fused kernel to use where it applies, see `fused_attention`; None =
        XLA alone.

    Returns:
      ``[B, R, S, H, Q, E]`` in the dtype of `queries`.
    """
    if kernel and queries.shape[2] > 1 and len(blocks) == 1 and queries.shape[1] == 1:
        (block,) = blocks
        assert isinstance(block, Block)
        keys, values, visible = block.keys[:, 0], block.values[:, 0], block.visible[:, 0]
        # Folded, because agents with parameters of their own sample together under vmap.
        fused = fold_vmap(functools.partial(fused_attention, backend=kernel))
        return fused(queries[:, 0], keys, values, visible)[:, None]

    partials = [_attend_rows(queries, block) for block in blocks]
    joint_max = functools.reduce(jnp.maximum, (partial.max for partial in partials))
    scales = [jnp.exp(partial.max - joint_max) for partial in partials]
    total: Any = sum(scale * partial.sum for scale, partial in zip(scales, partials, strict=True))
    value = sum(
        scale[..., None] * partial.value for scale, partial in zip(scales, partials, strict=True)
    )
    return (value / total[..., None]).astype(queries.dtype)


class Window(NamedTuple):
    """A sliding window over packed sequences: keys `size` positions back or more are hidden."""

    positions: Array  # [N, S] int32
    size: Array  # [] int32


def packed_attention(
    queries: Array,
    keys: Array,
    values: Array,
    segments: Array,
    parents: Array,
    kernel: str | None = None,
    window: Window | None = None,
    query_block: int = QUERY_BLOCK,
) -> Array:
    """Causal attention of packed sequences, within a segment and its parent.

    Without a fused kernel it is computed by blocks of queries, each against the keys up to its end,
    so that most scores above the diagonal are never computed.

    Args:
      queries: ``[N, 1, S, H, Q, E]``.
      keys: ``[N, 1, H, E, S]``.
      values: ``[N, 1, H, S, E]``.
      segments: ``[N, S]`` int32, equal numbers see each other.
      parents: ``[N, S]`` int32, a further segment that the query sees.
      kernel: see `attention`.
      window: None = no limit.
      query_block: queries whose scores exist at once, without a fused kernel.

    Returns:
      ``[N, 1, S, H, Q, E]`` in the dtype of `queries`.
    """
    length = segments.shape[1]
    positions = None if window is None else window.positions

    def visible(
        begin: int,
        query_segments: Array,
        query_parents: Array,
        key_segments: Array,
        query_positions: Array | None,
        key_positions: Array | None,
    ) -> Array:
        """``[N, queries, keys]`` bool, for queries from slot `begin` on and keys from slot 0 on."""
        same = query_segments[:, :, None] == key_segments[:, None]
        parent = query_parents[:, :, None] == key_segments[:, None]
        related = same | parent
        query_slots = begin + jnp.arange(query_segments.shape[1])[:, None]
        causal = query_slots >= jnp.arange(key_segments.shape[1])
        seen = related & causal
        if window is None or query_positions is None or key_positions is None:
            return seen
        return seen & (query_positions[:, :, None] - key_positions[:, None] < window.size)

    if kernel:
        mask = visible(0, segments, parents, segments, positions, positions)
        out = fused_attention(queries[:, 0], keys[:, 0], values[:, 0], mask, backend=kernel)
        return out[:, None]

    def attend(begin: int, q: Array, k: Array, v: Array, *where: Any) -> Array:
        mask = visible(begin, *where)[:, None]
        partial = _attend(q, k, v, mask)
        return (partial.value / partial.sum[..., None]).astype(q.dtype)

    # The scores of one block can be stored for the backward pass; those of several are recomputed.
    if length > query_block:
        attend = jax.checkpoint(attend)
    outputs = []
    for begin in range(0, length, query_block):
        own = slice(begin, begin + query_block)
        past = slice(min(begin + query_block, length))
        out = attend(
            begin,
            queries[:, :, own],
            keys[..., past],
            values[..., past, :],
            segments[:, own],
            parents[:, own],
            segments[:, past],
            None if positions is None else positions[:, own],
            None if positions is None else positions[:, past],
        )
        outputs.append(out)
    return jnp.concatenate(outputs, axis=2)


class _Partial(NamedTuple):
    """A softmax over some of the keys, before the division by its sum; float32."""

    max: Array  # [B, R, S, H, Q], the largest score
    sum: Array  # [B, R, S, H, Q], of exp(score - max)
    value: Array  # [B, R, S, H, Q, E], values weighted by exp(score - max)


def _attend_rows(queries: Array, block: RowBlocks) -> _Partial:
    """`_attend` for a block; for a tuple, the joined results of each block with its own rows."""
    if isinstance(block, Block):
        return _attend(queries, block.keys, block.values, block.visible)

    bounds = np.cumsum([0] + [piece.keys.shape[1] for piece in block])
    rows = [queries[:, first:last] for first, last in itertools.pairwise(bounds)]
    partials = [_attend_rows(q, piece) for q, piece in zip(rows, block, strict=True)]
    return _Partial(*(jnp.concatenate(field, axis=1) for field in zip(*partials, strict=True)))


def _attend(queries: Array, keys: Array, values: Array, visible: Array) -> _Partial:
    """The partial softmax over one block."""
    batch, rows, new, heads, group, size = queries.shape

    # Rows that share their keys fold into the query axis: one matrix product reads the keys for all
    # of them.
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

    return _Partial(unfold(top), unfold(jnp.sum(weights, axis=-1)), unfold(value))
