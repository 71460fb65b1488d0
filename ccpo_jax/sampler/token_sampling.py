"""Draws tokens from logits: one uniform number per row, no sort, no noise per token.

The cumulative distribution is inverted in blocks.
 Two passes over the logits (the largest of each block, and each block's sum of weights)
are all that grows with it. The draw then finds its block, and its token inside the block.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ccpo_jax.errors import InputError
from ccpo_jax.rl.types import Array
from ccpo_jax.sampler.sampling_params import SamplingParams

# Vocabulary entries per block.
_BLOCK = 128
# Halvings of the interval that holds the top-p threshold: 2**-24 is the resolution of float32.
_BISECTIONS = 24


class TokenSampling(NamedTuple):
    """Traced settings: changing them never recompiles."""

    temperature: Array  # shape=[], dtype=float32; 0 = greedy
    top_p: Array  # shape=[], dtype=float32, in (0, 1]; 1 = the full distribution
    eos_ids: Array  # shape=[E], dtype=int32; any of them ends a response
    pad_id: Array  # shape=[], dtype=int32


def token_sampling(
    sampling: SamplingParams = SamplingParams(), *, eos_ids: Sequence[int], pad_id: int
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
        jnp.asarray(eos_ids, jnp.int32),
        jnp.int32(pad_id),
    )


def sample_tokens(logits: Array, uniform: Array, settings: TokenSampling) -> tuple[Array, Array]:
    """Draws one token per row.

    Args:
      logits: ``[..., V]`` float32.
      uniform: ``[...]`` float32 in [0, 1), one number per row.
      settings: at temperature 0 the most likely token is taken, the first of equals; its
        log-probability is then that of temperature 1. ``top_p < 1`` keeps the smallest set of most
        likely tokens with at least that mass.

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

    threshold = jax.lax.cond(
        settings.top_p < 1.0,
        lambda: _top_p_threshold(weight(logits), settings.top_p),
        lambda: jnp.zeros_like(largest),
    )

    def truncated_weight(x: Array) -> Array:
        weights = weight(x)
        return jnp.where(weights >= _append_axes(threshold, x.ndim), weights, 0.0)

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


def _append_axes(x: Array, ndim: int) -> Array:
    """`x` with axes of length 1 behind its own, `ndim` in all."""
    return x.reshape(x.shape + (1,) * (ndim - x.ndim))


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
