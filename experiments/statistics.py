"""Intervals and tests over seeds: the one place where experiments make them."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Comparison(NamedTuple):
    """A difference of two arms, paired by seed.

    Attributes:
      mean: of the differences; None = no seed has both arms.
      half: half width of its 95 % confidence interval, Student's t; None = fewer than two seeds.
      p: of the two-sided paired t test; None = fewer than two seeds.
      count: seeds that have both arms.
    """

    mean: float | None
    half: float | None
    p: float | None
    count: int


def mean_and_half(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and half width of its 95 % confidence interval, Student's t over seeds.

    Example:
      >>> mean_and_half([59.0, 61.0])[0]
      60.0
    """
    from scipy.special import stdtrit  # comes with jax

    count = len(values)
    if count == 0:
        return None, None
    mean = sum(values) / count
    if count == 1:
        return mean, None
    return mean, float(stdtrit(count - 1, 0.975)) * _standard_error(values)


def compare(values: Mapping[int, float], others: Mapping[int, float]) -> Comparison:
    """The mean difference ``values - others`` over the seeds that both have.

    Args:
      values, others: seed -> outcome of a run.

    Example:
      >>> compare({0: 3.0, 1: 5.0, 2: 9.0}, {0: 1.0, 1: 2.0}).mean
      2.5
    """
    from scipy.special import stdtr

    differences = [value - others[seed] for seed, value in values.items() if seed in others]
    count = len(differences)
    mean, half = mean_and_half(differences)
    if mean is None or half is None:
        return Comparison(mean, None, None, count)
    error = _standard_error(differences)
    if error == 0:
        # All seeds agree: certain, unless there is no difference at all.
        return Comparison(mean, half, 0.0 if mean else 1.0, count)
    p = 2 * float(stdtr(count - 1, -abs(mean) / error))
    return Comparison(mean, half, p, count)


def holm(values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values: all claims with one below 0.05 are true together, with an error
    rate of 5 %.

    The i-th smallest of m is multiplied by m - i + 1; none is smaller than one before it.

    Reference: Holm, A simple sequentially rejective multiple test procedure (1979).

    Example:
      >>> holm([0.01, 0.04, 0.03])
      [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        largest = max(largest, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = largest
    return adjusted


def _standard_error(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(variance / len(values))
