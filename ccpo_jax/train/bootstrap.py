"""Bootstrap interval of an accuracy over problems."""

import numpy as np

from ccpo_jax.rl.types import HostArray


def bootstrap_interval(
    values: HostArray, *, confidence: float = 0.95, seed: int = 0, resamples: int = 2000
) -> tuple[float, float, float]:
    """Mean over problems and its percentile bootstrap interval; problems are resampled, not
    samples.

    Args:
      values: ``[B]``, or ``[B, G]`` with several samples per problem.
      confidence: mass of the interval.
      seed: same seed, same interval.
      resamples: bootstrap replicates.

    Returns:
      ``(mean, low, high)``.

    Reference: Efron & Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.

    Example:
      >>> bootstrap_interval(np.array([1, 1, 1]))
      (1.0, 1.0, 1.0)
    """
    per_problem = np.asarray(values, np.float64).reshape(len(values), -1).mean(axis=1)
    count = len(per_problem)
    rng = np.random.default_rng(seed)

    # One replicate at a time: indices of shape [resamples, B] would be large for large sets.
    means = np.empty(resamples)
    for i in range(resamples):
        means[i] = per_problem[rng.integers(0, count, count)].mean()

    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(per_problem.mean()), float(low), float(high)
