"""Intervals over seeds: the one place where experiments make them."""

import math
from collections.abc import Sequence


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
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    return mean, float(stdtrit(count - 1, 0.975)) * deviation / math.sqrt(count)
