"""CISPO, GMPO and SAPO away from ratio 1: values and gradients against loops over tokens, and their limits.

What every loss has in common is in test_losses.py.
"""

import functools
import math

import jax
import numpy as np
import pytest

from ccpo_jax import LOSSES, cispo_loss, gmpo_loss, policy_gradient_loss, sapo_loss

NEW = ("cispo", "gmpo", "sapo")


@functools.cache
def compiled(loss, **options):
    return jax.jit(jax.value_and_grad(functools.partial(loss, **options), has_aux=True))


def run(loss, *inputs, **options):
    """(loss, metrics, gradient of the log-probabilities)."""
    (value, metrics), gradient = compiled(loss, **options)(*inputs)
    return float(value), {name: float(x) for name, x in metrics.items()}, np.asarray(gradient)


def ragged_batch(seed=0, spread=0.6, rows=8, tokens=6):
    """Sequences of every length, one of them empty, one with advantage 0."""
    rng = np.random.default_rng(seed)
    old = rng.uniform(-3, -0.1, (rows, tokens))
    new = old + rng.normal(0, spread, (rows, tokens))
    length = np.array([0, 1, 2, 3, 4, 5, 6, 1])[:rows]
    advantage = rng.normal(size=rows)
    advantage[2] = 0.0
    mask = np.arange(tokens) < length[:, None]
    return *(x.astype(np.float32) for x in (new, old, advantage)), mask


# Each loss by a loop: (loss of a token's place, its gradient, whether it was clipped), before the mean.


def cispo_tokens(new, old, advantage, *, clip_low=None, clip_high=4.0):
    """Every token by itself: the weight is a constant for the gradient."""
    tokens = []
    for n, o in zip(new, old, strict=True):
        ratio = math.exp(n - o)
        weight = min(ratio, 1 + clip_high)
        if clip_low is not None:
            weight = max(weight, 1 - clip_low)
        was_clipped = weight != ratio and advantage != 0
        tokens.append((-weight * advantage * n, -weight * advantage, was_clipped))
    return tokens


def gmpo_tokens(new, old, advantage, *, clip_low=0.4, clip_high=0.4):
    """All tokens of a sequence have its one value, |A| ** (1/T) of each factor, with the sign of A."""
    product = 1.0
    flags = []
    for n, o in zip(new, old, strict=True):
        ratio = math.exp(n - o)
        bounded = ratio
        if advantage > 0:
            bounded = min(ratio, math.exp(clip_high))
        elif advantage < 0:
            bounded = max(ratio, math.exp(-clip_low))
        product *= bounded
        flags.append(bounded != ratio)
    value = -advantage * product ** (1 / len(new))
    # The value stands at each of the T places of a mean over T, so each place carries its derivative T times.
    return [(value, 0.0 if flag else value, flag) for flag in flags]


def sapo_tokens(new, old, advantage, *, tau_positive=1.0, tau_negative=1.05):
    tau = tau_positive if advantage > 0 else tau_negative
    tokens = []
    for n, o in zip(new, old, strict=True):
        ratio = math.exp(n - o)
        gate = 4 / tau / (1 + math.exp(-tau * (ratio - 1)))
        slope = ratio / math.cosh(tau / 2 * (ratio - 1)) ** 2
        tokens.append((-advantage * gate, -advantage * slope, False))
    return tokens


def loop(tokens_of, normalize, inputs, **options):
    """(loss, gradient, clip fraction) of a batch, sequence by sequence and token by token."""
    new, old, advantage, mask = (np.asarray(x, np.float64) for x in inputs)
    count = int(mask.sum())
    sequences = int((mask.sum(1) > 0).sum())
    value, clipped = 0.0, 0
    gradient = np.zeros_like(new)
    for row in range(len(new)):
        places = [t for t in range(new.shape[1]) if mask[row, t]]
        if not places:
            continue
        weight = 1 / count if normalize == "token" else 1 / (len(places) * sequences)
        tokens = tokens_of(new[row, places], old[row, places], advantage[row], **options)
        for place, (loss, slope, was_clipped) in zip(places, tokens, strict=True):
            value += weight * loss
            gradient[row, place] = weight * slope
            clipped += was_clipped
    return value, gradient, clipped / count


LOOPS = {
    "cispo": (cispo_tokens, "token"),
    "gmpo": (gmpo_tokens, "sequence"),
    "sapo": (sapo_tokens, "sequence"),
}
CASES = [
    ("cispo", {}),
    ("cispo", {"clip_high": 0.28}),
    ("cispo", {"clip_low": 0.2, "clip_high": 0.2}),
    ("cispo", {"clip_high": math.inf}),
    ("gmpo", {}),
    ("gmpo", {"clip_low": 0.1, "clip_high": 0.7}),
    ("gmpo", {"clip_high": math.inf}),
    ("sapo", {}),
    ("sapo", {"tau_positive": 0.5, "tau_negative": 3.0}),
]


@pytest.mark.parametrize("name, options", CASES, ids=str)
def test_value_and_gradient_against_a_loop(name, options):
    for seed in range(3):
        inputs = ragged_batch(seed)
        value, metrics, gradient = run(LOSSES[name], *inputs, **options)
        tokens_of, normalize = LOOPS[name]
        expected, slope, clip_fraction = loop(tokens_of, normalize, inputs, **options)
        assert np.abs(slope).max() > 0.01
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(metrics["clip_fraction"], clip_fraction, atol=1e-6)


def test_the_batch_reaches_all_clips():
    """Or the loops above would agree about nothing."""
    for tokens_of, options in (
        (gmpo_tokens, {}),
        (cispo_tokens, {"clip_low": 0.2, "clip_high": 0.2}),
    ):
        inputs = ragged_batch()
        assert 0.1 < loop(tokens_of, "token", inputs, **options)[2] < 0.9


# By hand


def one_sequence(ratios, advantage):
    old = np.full((1, len(ratios)), -1.0, np.float32)
    new = (old + np.log(ratios)).astype(np.float32)
    return new, old, np.array([advantage], np.float32), np.ones((1, len(ratios)), bool)


@pytest.mark.parametrize(
    "ratio, advantage, weight",
    [(3.0, 1.0, 3.0), (3.0, -1.0, 3.0), (9.0, 1.0, 5.0), (9.0, -1.0, 5.0), (0.01, -1.0, 0.01)],
)
def test_cispo_bounds_the_weight_and_drops_no_token(ratio, advantage, weight):
    _, metrics, gradient = run(cispo_loss, *one_sequence([ratio], advantage))
    np.testing.assert_allclose(gradient, [[-weight * advantage]], rtol=1e-5)
    assert metrics["clip_fraction"] == (ratio > 5)
    _, _, grpo = run(policy_gradient_loss, *one_sequence([ratio], advantage))
    assert (grpo == 0).all() == ((ratio > 1) == (advantage > 0))


def test_cispo_has_a_lower_bound_where_it_is_asked_for():
    inputs = one_sequence([0.01], 1.0)
    assert run(cispo_loss, *inputs, clip_low=0.2)[2] == pytest.approx(-0.8)
    assert run(cispo_loss, *inputs)[2] == pytest.approx(-0.01)


@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_gmpo_takes_the_geometric_mean_of_clipped_ratios(advantage):
    """Of ratios 4 and 1/4, whose mean is 1, one is clipped: that which has moved as the advantage asks."""
    value, metrics, gradient = run(gmpo_loss, *one_sequence([4.0, 0.25], advantage))
    bound = math.exp(0.4) if advantage > 0 else math.exp(-0.4)
    free = 0.25 if advantage > 0 else 4.0
    mean = math.sqrt(bound * free)
    np.testing.assert_allclose(value, -advantage * mean, rtol=1e-5)
    flows = [0, 1] if advantage > 0 else [1, 0]
    np.testing.assert_allclose(gradient, -advantage * mean / 2 * np.array([flows]), rtol=1e-5)
    assert metrics["clip_fraction"] == 0.5
    np.testing.assert_allclose(metrics["ratio_max"], 4, rtol=1e-5)


def test_gmpo_of_one_token_inside_its_range_is_grpo():
    for advantage in (1.5, -1.5):
        inputs = one_sequence([1.3], advantage)
        wide = {"clip_low": 0.9, "clip_high": 0.9}
        value, _, gradient = run(gmpo_loss, *inputs)
        expected, _, slope = run(policy_gradient_loss, *inputs, **wide)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_allclose(gradient, slope, rtol=1e-6)


def test_one_wild_token_moves_gmpo_by_its_share_of_the_sequence():
    """A < 0 and a ratio of 1000 among nine of 1: GRPO is charged 1000 / 10, the geometric mean is 2."""
    inputs = one_sequence([1000.0] + [1.0] * 9, -1.0)
    assert run(gmpo_loss, *inputs)[0] == pytest.approx(1000**0.1, rel=1e-5)
    assert run(policy_gradient_loss, *inputs)[0] == pytest.approx(100.9, rel=1e-5)


def test_sapo_fades_on_both_sides_and_sooner_where_the_advantage_is_negative():
    def slope(ratio, advantage):
        gradient = run(sapo_loss, *one_sequence([ratio], advantage))[2]
        return float(gradient[0, 0]) / -advantage / ratio

    up = [slope(ratio, 1.0) for ratio in (1.0, 1.5, 2.0, 4.0)]
    down = [slope(ratio, -1.0) for ratio in (1.0, 1.5, 2.0, 4.0)]
    assert up[0] == down[0] == 1
    assert up == sorted(up, reverse=True) and up[-1] > 0
    assert all(a > b for a, b in zip(up[1:], down[1:], strict=True))
    # sech(1/2)^2 at ratio 2 and tau 1.
    assert up[2] == pytest.approx(0.786448, rel=1e-5)
    assert slope(0.0001, 1.0) == pytest.approx(0.786448, rel=1e-3)


def test_sapo_at_ratio_1_has_the_gradient_of_grpo_whatever_tau_is():
    new, _, advantage, mask = ragged_batch()
    expected = run(policy_gradient_loss, new, new, advantage, mask)[2]
    for tau in (0.1, 1.0, 7.0):
        options = {"tau_positive": tau, "tau_negative": 2 * tau}
        gradient = run(sapo_loss, new, new, advantage, mask, **options)[2]
        np.testing.assert_allclose(gradient, expected, atol=1e-6)


# Limits


@pytest.mark.parametrize("name", NEW)
def test_no_advantage_no_loss_and_no_gradient(name):
    new, old, advantage, mask = ragged_batch()
    value, metrics, gradient = run(LOSSES[name], new, old, np.zeros_like(advantage), mask)
    assert value == 0 and (gradient == 0).all()
    assert metrics["clip_fraction"] == 0 and metrics["ratio_max"] > 1
    # Nor does a sequence of advantage 0 change the others, but for its place in every mean.
    _, _, gradient = run(LOSSES[name], new, old, advantage, mask)
    assert (gradient[2] == 0).all() and (gradient[3:] != 0).any()


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("shift", [50.0, -50.0, 1e4, -1e4, 3e38])
def test_extreme_log_ratios_of_some_tokens_stay_finite(name, shift):
    new, old, advantage, mask = ragged_batch()
    old = old.copy()
    old[:, ::2] -= np.float32(shift)
    value, metrics, gradient = run(LOSSES[name], new, old, advantage, mask)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert all(np.isfinite(x) for x in metrics.values())
