"""Draws tokens from logits: one uniform number per row, no sort, no noise per token.

The cumulative distribution is inverted in blocks. Two passes over the logits (the largest of each
block, and each block's sum of weights) are all that grows with the vocabulary. The draw then finds
its block, and its token inside the block.

Tokens are filtered in the order of transformers: temperature, top-k, top-p over the mass that
top-k left, min-p. Each filter keeps the tokens from some logit or weight on, so that equal logits
are kept or left out together. What is drawn from is what is left, divided by its mass.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ccpo_jax.errors import InputError
from ccpo_jax.rl.types import Array, HostArray
from ccpo_jax.sampler.sampling_params import SamplingParams

# Vocabulary entries per block.
_BLOCK = 128
# Halvings of the interval that holds the top-p threshold: 2**-24 is the resolution of float32.
_BISECTIONS = 24
# Of top-k: more tokens than any vocabulary has.
_ALL_TOKENS = 2**31 - 1


class TokenSampling(NamedTuple):
    """Traced settings: changing them never recompiles."""

    temperature: Array  # shape=[], dtype=float32; 0 = greedy
    top_p: Array  # shape=[], dtype=float32, in (0, 1]; 1 = the full distribution
    top_k: Array  # shape=[], dtype=int32, at least 1; V or more = all tokens
    min_p: Array  # shape=[], dtype=float32, in [0, 1]; 0 = all tokens
    eos_ids: Array  # shape=[E], dtype=int32; any of them ends a response
    pad_id: Array  # shape=[], dtype=int32
    # shape=[S, V + 1], dtype=uint8, see `make_stop_table`; None = no stop strings
    stop_table: Array | None = None


def token_sampling(
    sampling: SamplingParams = SamplingParams(),
    *,
    eos_ids: Sequence[int],
    pad_id: int,
    stop_table: Array | HostArray | None = None,
) -> TokenSampling:
    """The traced settings of `sampling` for one tokenizer.

    Raises:
      InputError: if there is no end token.
    """
    if not eos_ids:
        raise InputError(
            "eos_ids",
            "the tokenizer names no end token; add eos_token_id to generation_config.json",
        )
    return TokenSampling(
        jnp.float32(sampling.temperature),
        jnp.float32(sampling.top_p),
        jnp.int32(_ALL_TOKENS if sampling.top_k is None else min(sampling.top_k, _ALL_TOKENS)),
        jnp.float32(sampling.min_p),
        jnp.asarray(eos_ids, jnp.int32),
        jnp.int32(pad_id),
        None if stop_table is None else jnp.asarray(stop_table),
    )


def sample_tokens(logits: Array, uniform: Array, settings: TokenSampling) -> tuple[Array, Array]:
    """Draws one token per row.

    Args:
      logits: ``[..., V]`` float32.
      uniform: ``[...]`` float32 in [0, 1), one number per row.
      settings: at temperature 0 the most likely token is taken, the first of equals, and no filter
        applies; its log-probability is then that of temperature 1. Else, one after another:
        ``top_k < V`` keeps the k largest logits and those equal to the k-th; ``top_p < 1`` keeps,
        of these, the smallest set of most likely tokens with at least that share of their mass;
        ``min_p > 0`` keeps tokens at least `min_p` times as likely as the most likely one.

    Returns:
      ``(token [...] int32, logprob [...] float32)``: nats, under the distribution that was drawn
      from.
    """
    padding = [(0, 0)] * uniform.ndim + [(0, -logits.shape[-1] % _BLOCK)]
    blocks = jnp.pad(logits, padding, constant_values=-jnp.inf)
    blocks = blocks.reshape(*uniform.shape, -1, _BLOCK)
    # Without the barrier XLA makes another pass over the logits to compute `largest`.
    block_largest = jax.lax.optimization_barrier(jnp.max(blocks, axis=-1))
    largest = jnp.max(block_largest, axis=-1)
    greedy = settings.temperature == 0
    inverse_temperature = 1 / jnp.where(greedy, 1.0, settings.temperature)

    def weight(x: Array) -> Array:
        """Unnormalised probability: 1 for the most likely token, less for the others."""
        return jnp.exp((x - _append_axes(largest, x.ndim)) * inverse_temperature)

    # A run without a filter does not pay for it: `cond` skips what finds its threshold.
    smallest_logit = jax.lax.cond(
        (settings.top_k < logits.shape[-1]) & ~greedy,
        lambda: _top_k_threshold(blocks, block_largest, settings.top_k),
        lambda: jnp.full_like(largest, -jnp.inf),
    )

    def top_k_weight(x: Array) -> Array:
        return jnp.where(x >= _append_axes(smallest_logit, x.ndim), weight(x), 0.0)

    smallest_weight = jax.lax.cond(
        (settings.top_p < 1.0) & ~greedy,
        lambda: _top_p_threshold(top_k_weight(logits), settings.top_p),
        lambda: jnp.zeros_like(largest),
    )
    min_p = jnp.where(greedy, 0.0, settings.min_p)
    smallest_weight = jnp.maximum(smallest_weight, min_p)

    def truncated_weight(x: Array) -> Array:
        weights = top_k_weight(x)
        return jnp.where(weights >= _append_axes(smallest_weight, x.ndim), weights, 0.0)

    # Likewise for `total`.
    block_sums = jax.lax.optimization_barrier(jnp.sum(truncated_weight(blocks), axis=-1))
    total = jnp.sum(block_sums, axis=-1)
    block, remainder = _first_above(block_sums, uniform * total)
    block = jnp.where(greedy, jnp.argmax(block_largest, axis=-1), block)
    block_logits = jnp.take_along_axis(blocks, block[..., None, None], axis=-2)[..., 0, :]
    weights = truncated_weight(block_logits)
    drawn, _ = _first_above(weights, remainder)
    entry = jnp.where(greedy, jnp.argmax(block_logits, axis=-1), drawn)
    chosen = jnp.take_along_axis(weights, entry[..., None], axis=-1)[..., 0]
    return (block * _BLOCK + entry).astype(jnp.int32), jnp.log(chosen) - jnp.log(total)


def collision_probability(logits: Array, temperature: Array) -> Array:
    """The probability that two tokens drawn alike are the same: the sum of squared probabilities.

    Args:
      logits: ``[..., V]`` float32.
      temperature: ``[]`` float32; at 0 that of temperature 1, as log-probabilities are. Filters are
        not applied.

    Returns:
      ``[...]`` float32 in (0, 1].

    Example:
      >>> float(collision_probability(jnp.zeros(4), jnp.float32(1.0)))
      0.25
    """
    scaled = logits / jnp.where(temperature == 0, 1.0, temperature)
    weight = jnp.exp(scaled - jnp.max(scaled, axis=-1, keepdims=True))
    return jnp.sum(jnp.square(weight), axis=-1) / jnp.square(jnp.sum(weight, axis=-1))


def _append_axes(x: Array, ndim: int) -> Array:
    """`x` with axes of length 1 behind its own, `ndim` in all."""
    return x.reshape(x.shape + (1,) * (ndim - x.ndim))


def _top_k_threshold(blocks: Array, block_largest: Array, k: Array) -> Array:
    """A logit that the k largest of each row reach, those equal to the k-th, and no others.

    Args:
      blocks: ``[..., N, M]`` logits.
      block_largest: ``[..., N]``, the largest of each block.
      k: ``[]`` int32.
    """
    # As many logits as blocks reach what k of the blocks reach: a close bound, for one M-th of the
    # work.
    at_least = _kth_largest(
        block_largest[..., None], k, jnp.full_like(block_largest[..., 0], -jnp.inf)
    )
    return _kth_largest(blocks, k, at_least)


def _kth_largest(blocks: Array, k: Array, at_least: Array) -> Array:
    """A number that the k largest values of each row reach, those equal to the k-th, and no others.

    By bisection over the numbers that float32 has, so that it is exact: no sort of V entries. A row
    is done as soon as just k values reach its number.

    Args:
      blocks: ``[..., N, M]`` float32, the values of a row in blocks of at most 255.
      k: ``[]`` int32.
      at_least: ``[...]``, a number that k values of each row reach; -inf where none is known.

    Returns:
      ``[...]``; `at_least` in rows of fewer values.
    """
    largest = jnp.max(blocks, axis=(-2, -1))

    def count(rank: Array) -> Array:
        reached = blocks >= _of_rank(rank)[..., None, None]
        # Bytes are added many at a time, which takes a CPU a quarter of the time.
        in_block = jnp.sum(reached, axis=-1, dtype=jnp.uint8)
        return jnp.sum(in_block, axis=-1, dtype=jnp.int32)

    # Between them lies the k-th largest: k values or more reach `low`, fewer reach `high`.
    def is_open(bounds: tuple[Array, Array, Array]) -> Array:
        low, high, reach_low = bounds
        return (low + 1 < high) & (reach_low != k)

    def halve(bounds: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, high, reach_low = bounds
        # The sum of the two may be too large for an integer.
        middle = (low & high) + ((low ^ high) >> 1)
        reach = count(middle)
        rises = is_open(bounds) & (reach >= k)
        falls = is_open(bounds) & (reach < k)
        return (
            jnp.where(rises, middle, low),
            jnp.where(falls, middle, high),
            jnp.where(rises, reach, reach_low),
        )

    low, high = _rank(at_least), _rank(largest) + 1
    low, _, _ = jax.lax.while_loop(
        lambda bounds: jnp.any(is_open(bounds)), halve, (low, high, count(low))
    )
    return _of_rank(low)


def _rank(x: Array) -> Array:
    """int32 that order as the float32 numbers do."""
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _of_rank(rank: Array) -> Array:
    """The inverse of `_rank`."""
    bits = rank ^ ((rank >> 31) & 0x7FFFFFFF)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def _top_p_threshold(weights: Array, top_p: Array) -> Array:
    """The largest weight such that the tokens of at least that weight hold `top_p` of the mass.

    By bisection: no sort of V entries.
    """
    mass = top_p * jnp.sum(weights, axis=-1)

    def halve(_, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        holds = jnp.sum(jnp.where(weights >= middle[..., None], weights, 0.0), axis=-1) >= mass
        return jnp.where(holds, middle, low), jnp.where(holds, high, middle)

    bounds = (jnp.zeros_like(mass), jnp.ones_like(mass))
    low, _ = jax.lax.fori_loop(0, _BISECTIONS, halve, bounds)
    return low


def _first_above(weights: Array, target: Array) -> tuple[Array, Array]:
    """The index at which the cumulative sum passes `target`, and what is left of `target` there."""
    cumulative = jnp.cumsum(weights, axis=-1)
    total = cumulative[..., -1]
    target = jnp.minimum(target, jnp.nextafter(total, jnp.zeros_like(total)))
    passed = cumulative <= target[..., None]
    before = jnp.max(jnp.where(passed, cumulative, 0.0), axis=-1)
    return jnp.sum(passed, axis=-1), target - before
