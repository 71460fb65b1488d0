"""Moments against numpy, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ccpo_jax
from ccpo_jax import RunningMoments, init_moments
from ccpo_jax.rl.moments import standard_deviation

# One compilation per shape; operation by operation there are ten.
standardize = jax.jit(ccpo_jax.standardize)
update_moments = jax.jit(ccpo_jax.update_moments)


def batches(steps=4, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(step, 1 + step, (3, 5)).astype(np.float32) for step in range(steps)]


def assert_close(state, count, mean, var):
    assert int(state.count) == count
    np.testing.assert_allclose(state.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(state.var, var, rtol=1e-5)


def test_first_update_copies_the_batch():
    (x,) = batches(1)
    assert_close(update_moments(init_moments(), x, decay=0.99), 15, x.mean(), x.var())


def test_later_updates_average_means_and_within_batch_variances():
    state, decay = init_moments(), 0.9
    mean = var = None
    for x in batches():
        state = update_moments(state, x, decay=decay)
        mean = x.mean() if mean is None else decay * mean + (1 - decay) * x.mean()
        var = x.var() if var is None else decay * var + (1 - decay) * x.var()
    assert_close(state, 60, mean, var)


def test_default_decay_is_the_papers():
    state = update_moments(update_moments(init_moments(), np.zeros(2)), np.ones(2))
    np.testing.assert_allclose(state.mean, 0.01, rtol=1e-5)


def test_variance_is_not_a_second_moment():
    state = update_moments(update_moments(init_moments(), np.zeros(3)), np.full(3, 7.0), decay=0.5)
    assert_close(state, 6, 3.5, 0.0)


def test_where_equals_selection_and_hides_nan():
    (x,) = batches(1)
    keep = np.random.default_rng(7).random(x.shape) < 0.5
    start = update_moments(init_moments(), np.arange(4.0))
    expected = update_moments(start, x[keep])
    assert_close(
        update_moments(start, np.where(keep, x, np.nan), where=keep), *map(float, expected)
    )


def test_where_broadcasts():
    x = jnp.array([[1.0, 2.0], [3.0, 6.0]])
    assert_close(update_moments(init_moments(), x, where=jnp.array([True, False])), 2, 2.0, 1.0)


@pytest.mark.parametrize(
    "start", [init_moments(), RunningMoments(jnp.int32(5), jnp.float32(2), jnp.float32(3))]
)
def test_no_valid_values_change_nothing(start):
    for x, where in ((np.ones(3), np.zeros(3, bool)), (np.zeros((0, 4)), None)):
        for new, old in zip(update_moments(start, x, where=where), start, strict=True):
            assert new == old


def test_dtypes_survive_an_update():
    start = init_moments()
    end = update_moments(start, jnp.array([1, 0, 1]))
    assert (
        [leaf.dtype for leaf in start]
        == [leaf.dtype for leaf in end]
        == [jnp.int32, jnp.float32, jnp.float32]
    )


def test_count_saturates():
    largest = np.iinfo(np.int32).max
    state = RunningMoments(jnp.int32(largest - 1), jnp.float32(0), jnp.float32(1))
    assert int(update_moments(state, np.ones(4)).count) == largest


def test_standardize_is_identity_before_the_first_value():
    x = jnp.array([3.0, -2.0])
    np.testing.assert_array_equal(standardize(x, init_moments()), x)


def test_standardize():
    state = RunningMoments(jnp.int32(9), jnp.float32(2), jnp.float32(4))
    np.testing.assert_allclose(
        standardize(jnp.array([2.0, 6.0]), state, eps=0.5), [0.0, 4 / 2.5], rtol=1e-6
    )


@pytest.mark.parametrize(
    "var, sd", [(0.0, 1.0), (1e-6, 1.0), (1.1e-6, np.sqrt(1.1e-6)), (4.0, 2.0)]
)
def test_tiny_variance_is_not_rescaled(var, sd):
    state = RunningMoments(jnp.int32(9), jnp.float32(0), jnp.float32(var))
    np.testing.assert_allclose(standard_deviation(state), sd, rtol=1e-6)


def test_gradients_are_finite_where_nothing_was_seen():
    gradient_of_ones = jax.jit(
        jax.grad(lambda s: standardize(jnp.ones(2), s._replace(count=1)).sum(), allow_int=True)
    )
    for state in (init_moments(), RunningMoments(jnp.int32(9), jnp.float32(1), jnp.float32(0))):
        gradient = gradient_of_ones(state)
        assert np.isfinite(gradient.mean) and np.isfinite(gradient.var)


def test_jit_and_vmap_agree_with_eager():
    x = np.stack(batches())
    start = ccpo_jax.update_moments(init_moments(), np.arange(4.0))
    each = [ccpo_jax.update_moments(start, row) for row in x]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    vmapped = jax.vmap(ccpo_jax.update_moments, (None, 0))
    for got in (vmapped(start, x), jax.jit(vmapped)(start, x)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, expected)
