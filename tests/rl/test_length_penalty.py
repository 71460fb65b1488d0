"""The soft overlong penalty against values by hand."""

import jax
import numpy as np
import pytest

from ccpo_jax import overlong_penalty


@pytest.mark.parametrize(
    "limit, buffer, expected",
    [
        (20, 4, {0: 0, 15: 0, 16: 0, 17: -0.25, 18: -0.5, 19: -0.75, 20: -1}),
        (20, 20, {0: 0, 5: -0.25, 10: -0.5, 20: -1}),
        # Only what reaches the limit pays.
        (20, 1, {18: 0, 19: 0, 20: -1}),
        # The numbers of the paper.
        (20480, 4096, {16384: 0, 18432: -0.5, 20480: -1}),
    ],
)
def test_it_falls_from_0_to_minus_1_over_the_buffer(limit, buffer, expected):
    penalty = overlong_penalty(np.array(list(expected)), limit, buffer)
    assert penalty.dtype == np.float32
    np.testing.assert_allclose(penalty, list(expected.values()), atol=1e-6)


def test_beyond_the_limit_it_is_no_lower():
    assert float(overlong_penalty(99, 20, 4)) == -1


def test_limits_of_their_own_under_jit_and_vmap():
    length, limit = np.array([[10, 20], [20, 35]]), np.array([20, 40])
    expected = [[0, -1], [0, -0.5]]
    np.testing.assert_allclose(overlong_penalty(length, limit[:, None], 10), expected)
    mapped = jax.jit(jax.vmap(overlong_penalty, (0, 0, None)))(length, limit, 10)
    np.testing.assert_allclose(mapped, expected)
