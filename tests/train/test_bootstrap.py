"""The bootstrap interval against theory."""

import numpy as np
import pytest

from ccpo_jax.train.bootstrap import bootstrap_interval


def test_interval_is_deterministic_and_as_wide_as_theory_says():
    values = np.random.default_rng(0).integers(0, 2, 400)
    mean, low, high = bootstrap_interval(values)
    assert bootstrap_interval(values) == (mean, low, high) and mean == values.mean()
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(mean * (1 - mean) / 400), rel=0.08)


def test_interval_resamples_problems_not_samples():
    perfectly_correlated = np.repeat(np.random.default_rng(1).integers(0, 2, (100, 1)), 50, axis=1)
    _, low, high = bootstrap_interval(perfectly_correlated)
    assert high - low > 0.15
