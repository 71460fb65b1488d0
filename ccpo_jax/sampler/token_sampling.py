"""Drawing tokens from logits by inverting the cumulative distribution: one uniform number per row, no sort, no noise.

A vocabulary is seen as blocks. Two passes over the logits (the largest of each block, and each block's sum of weights)
are all that grows with it; the place of the draw is then sought among the blocks, and inside one of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ccpo_jax.errors import InputError
from ccpo_jax.rl.types import Array
from ccpo_jax.sampler.sampling_params import SamplingParams

_BLOCK = 128  # vocabulary entries summed before the place of a draw is sought among them
_BISECTIONS = 24  # halvings of the top-p threshold: 2**-24 is float32's own resolution


class TokenSampling(NamedTuple):
    """Traced settings: changing them never recompiles."""

    temperature: Array  # [] float32; 0 = greedy
    top_p: Array  # [] float32 in (0, 1]; 1 = the full distribution
    eos_ids: Array  # [E] int32, any of them ends a response
    pad_id: Array  # [] int32


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
      settings: at temperature 0 the most likely token is taken, the first of equals; its log-probability is then that
        of temperature 1. ``top_p < 1`` keeps the smallest set of most likely tokens with at least that mass.

    Returns:
      ``(token [...] int32, logprob [...] float32)``, the log-probability under the distribution drawn from.
    """
    blocks = jnp.pad(
        logits,
        [(0, 0)] * uniform.ndim + [(0, -logits.shape[-1] % _BLOCK)],
        constant_values=-jnp.inf,
    )
    blocks = blocks.reshape(*uniform.shape, -1, _BLOCK)
    tops = jax.lax.optimization_barrier(
        jnp.max(blocks, axis=-1)
    )  # else XLA makes another pass to find `most`
    most = jnp.max(tops, axis=-1)
    greedy = settings.temperature == 0
    scale = 1 / jnp.where(greedy, 1.0, settings.temperature)

    def weigh(x: Array) -> Array:
        """1 for the most likely token, less for the others."""
        return jnp.exp((x - most.reshape(most.shape + (1,) * (x.ndim - most.ndim))) * scale)

    least = jax.lax.cond(
        settings.top_p < 1.0,
        lambda: _threshold(weigh(logits), settings.top_p),
        lambda: jnp.zeros_like(most),
    )

    def kept(x: Array) -> Array:
        weights = weigh(x)
        return jnp.where(
            weights >= least.reshape(least.shape + (1,) * (x.ndim - least.ndim)), weights, 0.0
        )

    sums = jax.lax.optimization_barrier(jnp.sum(kept(blocks), axis=-1))  # and another for `total`
    total = jnp.sum(sums, axis=-1)
    block, rest = _first_above(sums, uniform * total)
    block = jnp.where(greedy, jnp.argmax(tops, axis=-1), block)
    inside = jnp.take_along_axis(blocks, block[..., None, None], axis=-2)[..., 0, :]
    weights = kept(inside)
    place = jnp.where(greedy, jnp.argmax(inside, axis=-1), _first_above(weights, rest)[0])
    chosen = jnp.take_along_axis(weights, place[..., None], axis=-1)[..., 0]
    return (block * _BLOCK + place).astype(jnp.int32), jnp.log(chosen) - jnp.log(total)


def _threshold(weights: Array, top_p: Array) -> Array:
    """Largest weight whose upper set still holds `top_p` of the mass, by bisection (no sort of V entries)."""
    enough = top_p * jnp.sum(weights, axis=-1)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        holds = jnp.sum(jnp.where(weights >= middle[..., None], weights, 0.0), axis=-1) >= enough
        return jnp.where(holds, middle, low), jnp.where(holds, high, middle)

    return jax.lax.fori_loop(
        0, _BISECTIONS, halve, (jnp.zeros_like(enough), jnp.ones_like(enough))
    )[0]


def _first_above(weights: Array, target: Array) -> tuple[Array, Array]:
    """Index at which the cumulative sum passes `target`, an index of positive weight, and what is left of `target`."""
    cumulative = jnp.cumsum(weights, axis=-1)
    most = cumulative[..., -1]
    target = jnp.minimum(target, jnp.nextafter(most, jnp.zeros_like(most)))
    passed = cumulative <= target[..., None]
    return jnp.sum(passed, axis=-1), target - jnp.max(jnp.where(passed, cumulative, 0.0), axis=-1)
