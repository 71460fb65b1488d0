"""Intervals and tests over seeds, against scipy.stats and by hand."""

import numpy as np
import pytest

from experiments import statistics

pytestmark = pytest.mark.fast


def test_a_paired_comparison_is_that_of_scipy():
    from scipy import stats

    rng = np.random.default_rng(0)
    values = dict(enumerate(rng.normal(1.0, 2.0, 7)))
    others = dict(enumerate(rng.normal(0.0, 1.0, 9), start=2))
    shared = sorted(set(values) & set(others))
    result = statistics.compare(values, others)
    theirs = stats.ttest_rel([values[s] for s in shared], [others[s] for s in shared])
    low, high = theirs.confidence_interval()
    assert result.count == 5
    assert result.p == pytest.approx(theirs.pvalue)
    assert (result.mean - result.half, result.mean + result.half) == pytest.approx((low, high))


def test_a_comparison_of_too_few_or_of_equal_seeds():
    assert statistics.compare({0: 1.0}, {1: 1.0}) == (None, None, None, 0)
    assert statistics.compare({0: 3.0}, {0: 1.0}) == (2.0, None, None, 1)
    assert statistics.compare({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}).p == 1.0
    assert statistics.compare({0: 1.5, 1: 2.5}, {0: 1.0, 1: 2.0}).p == 0.0


def test_holm_rejects_what_its_steps_reject():
    """Against the procedure as Holm states it: step down from the smallest until one is too large."""
    rng = np.random.default_rng(1)
    for values in rng.uniform(0, 0.1, (50, 6)):
        adjusted = statistics.holm(values.tolist())
        for level in (0.01, 0.05, 0.2):
            rejected = set()
            for place, index in enumerate(np.argsort(values)):
                if values[index] > level / (6 - place):
                    break
                rejected.add(int(index))
            assert {i for i, p in enumerate(adjusted) if p <= level} == rejected


def test_holm_by_hand():
    assert statistics.holm([0.02, 0.5, 0.01, 0.9]) == pytest.approx([0.06, 1.0, 0.04, 1.0])
    assert statistics.holm([]) == []
