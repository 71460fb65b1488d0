"""pass@k: how often at least one of k samples is right."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.errors import InputError
from ccpo_jax.rl.types import Array


def pass_at_k(correct: ArrayLike, k: int) -> Array:
    """The share of the subsets of k of n samples in which at least one is right:

        pass@k = 1 - mean over subsets S of size k of prod_{i in S} (1 - p_i).

    With c samples right and the others wrong that is ``1 - C(n - c, k) / C(n, k)``, the unbiased
    estimator for the problem: drawing k samples alone and looking whether one is right has the same
    mean and more variance, and ``1 - (1 - c / n)**k`` is too small. pass@1 is the mean of
    `correct`.

    Samples enter one after another, ``f_j <- f_j + j / i * (p_i + (1 - p_i) f_{j-1} - f_j)`` for
    sample i, where f_j is pass@j of those before: sample i is in j of i subsets of size j. Every
    step is a weighted mean of numbers in [0, 1], so there are no binomial coefficients, which pass
    float32 at n = 130. With no sample right the result is exactly 0, and with one right and k = n
    exactly 1.

    Reference: arXiv:2107.03374, equation 1. Deviation: `correct` may be a probability, as in a vote
    whose ties are broken at random.

    Args:
      correct: ``[..., n]`` float or bool: 1 = right, 0 = wrong, between them the probability that a
        sample is right.
      k: samples that are looked at, from 1 to n.

    Returns:
      ``[...]`` float32 in [0, 1].

    Raises:
      InputError: `k`, if it is below 1 or above n.

    Example:
      >>> round(pass_at_k(jnp.array([1.0, 0.0, 0.0, 0.0]), 2).item(), 4)
      0.5
    """
    correct = jnp.asarray(correct, jnp.float32)
    samples = correct.shape[-1]
    if not 1 <= k <= samples:
        raise InputError(
            "k", f"must be from 1 to {samples}, the number of samples, received {k}; use {samples}"
        )

    sizes = jnp.arange(1, k + 1)

    def add(passes: Array, sample: tuple[Array, Array]) -> tuple[Array, None]:
        number, right = sample
        right = right[..., None]
        # Of no samples at all none is right.
        smaller = jnp.concatenate([jnp.zeros_like(right), passes[..., :-1]], axis=-1)
        # Subsets that are larger than the samples so far do not exist: they stay at 1.
        share = jnp.where(sizes < number, sizes / number, 1.0)
        return passes + share * (right + (1.0 - right) * smaller - passes), None

    start = jnp.ones((*correct.shape[:-1], k), jnp.float32)
    numbers = jnp.arange(1, samples + 1)
    passes, _ = jax.lax.scan(add, start, (numbers, jnp.moveaxis(correct, -1, 0)))
    return passes[..., -1]
