"""pass@k against all subsets, against the closed form, and against drawing."""

import itertools
import math
from fractions import Fraction

import jax
import numpy as np
import pytest

import ccpo_jax
from tests.support.errors import raises_for

pytestmark = pytest.mark.fast

pass_at_k = jax.jit(ccpo_jax.pass_at_k, static_argnames="k")


def over_all_subsets(right, k: int) -> float:
    subsets = list(itertools.combinations(right, k))
    return float(np.mean([1 - np.prod(1 - np.array(subset)) for subset in subsets]))


@pytest.mark.parametrize("samples", [1, 2, 5, 7])
def test_every_subset_counts_once(samples):
    """All patterns of right and wrong, and probabilities between them."""
    patterns = np.array(list(itertools.product([0.0, 1.0], repeat=samples)))
    ties = np.random.default_rng(0).choice([0, 1 / 3, 1 / 2, 1], (40, samples))
    correct = np.concatenate([patterns, ties])
    for k in range(1, samples + 1):
        expected = [over_all_subsets(right, k) for right in correct]
        np.testing.assert_allclose(pass_at_k(correct, k), expected, atol=1e-6)


@pytest.mark.parametrize("samples", [130, 800])
def test_hundreds_of_samples_are_exact(samples):
    """Against whole numbers of any length; the order of the samples does not matter."""
    rights = [0, 1, 2, samples // 3, samples - 1, samples]
    correct = np.stack([np.arange(samples) < right for right in rights])
    shuffled = np.random.default_rng(1).permuted(correct, axis=1)
    for k in (1, 2, 16, samples // 2, samples):
        found = np.asarray(pass_at_k(shuffled, k))
        total = math.comb(samples, k)
        exact = [float(1 - Fraction(math.comb(samples - right, k), total)) for right in rights]
        np.testing.assert_allclose(found, exact, atol=5e-6)
        assert found[0] == 0 and found[-1] == 1
    assert (found[1:] == 1).all(), "with k = n one right sample is enough"


def test_it_is_the_share_of_draws_in_which_one_is_right():
    """Unbiased: the mean over problems of n samples is that of k samples, at any accuracy."""
    samples, k = 6, 3
    for accuracy in (0.1, 0.5, 0.9):
        patterns = np.array(list(itertools.product([0, 1], repeat=samples)))
        probability = np.prod(np.where(patterns, accuracy, 1 - accuracy), axis=1)
        mean = float(probability @ np.asarray(pass_at_k(patterns.astype(bool), k)))
        assert mean == pytest.approx(1 - (1 - accuracy) ** k, abs=1e-6)


def test_axes_in_front_are_kept_and_one_sample_is_the_mean():
    correct = np.random.default_rng(2).integers(0, 2, (2, 3, 4))
    np.testing.assert_allclose(pass_at_k(correct, 1), correct.mean(axis=-1), atol=1e-6)
    found = np.asarray(pass_at_k(correct, 2))
    assert found.shape == (2, 3) and found.dtype == np.float32
    for index in np.ndindex(2, 3):
        assert found[index] == pytest.approx(over_all_subsets(correct[index], 2), abs=1e-6)


@pytest.mark.parametrize("k", [0, -1, 5])
def test_more_samples_than_there_are_is_refused(k):
    with raises_for("k"):
        ccpo_jax.pass_at_k(np.ones((2, 4)), k)
