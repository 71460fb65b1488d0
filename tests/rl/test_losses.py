"""Losses: a contract for all of them, then each one against loops in numpy."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ccpo_jax
from ccpo_jax import LOSSES, gspo_loss, policy_gradient_loss, reinforce_pp_loss
from tests.support.errors import raises_for

batch_totals = jax.jit(ccpo_jax.batch_totals)

VARIANTS = {
    **LOSSES,
    "ccpo_v1": functools.partial(policy_gradient_loss, ratio="sequence"),
    "dapo": functools.partial(policy_gradient_loss, clip_high=0.28, normalize="token"),
    "dr_grpo": functools.partial(policy_gradient_loss, normalize="length", max_length=9),
    "dual_clip": functools.partial(policy_gradient_loss, dual_clip=3.0),
}
every = pytest.mark.parametrize("loss", VARIANTS.values(), ids=VARIANTS)


def batch(rows=6, tokens=5, spread=0.3, seed=0):
    rng = np.random.default_rng(seed)
    old = rng.uniform(-2, -0.1, (rows, tokens))
    new = old + rng.normal(0, spread, (rows, tokens))
    lengths = rng.integers(1, tokens + 1, rows)
    lengths[0] = tokens
    mask = np.arange(tokens) < lengths[:, None]
    mask[1] = False  # a row of padding
    arrays = (new, old, rng.normal(size=rows))
    return *(x.astype(np.float32) for x in arrays), mask


@functools.cache
def compiled(loss, **options):
    return jax.jit(jax.value_and_grad(functools.partial(loss, **options), has_aux=True))


@functools.cache
def compiled_clip_fraction(loss, **options):
    return jax.jit(lambda *inputs: loss(*inputs, **options)[1]["clip_fraction"])


def clip_fraction(loss, *inputs, **options):
    return float(compiled_clip_fraction(loss, **options)(*inputs))


def run(loss, *inputs, totals=None, **options):
    """((loss, metrics), gradient of the log-probabilities), compiled once per loss and shape."""
    results, gradient = compiled(loss, **options)(*inputs, totals=totals)
    return results, np.asarray(gradient)


# Contract


@every
def test_types_and_jit(loss):
    inputs = batch()
    eager, (jitted, _) = loss(*inputs), run(loss, *inputs)
    assert set(eager[1]) == {"clip_fraction", "ratio_mean", "ratio_max", "approx_kl"}
    for leaf in jax.tree.leaves(eager):
        assert leaf.shape == () and leaf.dtype == jnp.float32
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), jitted, eager)


@every
def test_vmap(loss):
    inputs = [batch(seed=seed) for seed in range(3)]
    expected = jax.tree.map(lambda *x: np.stack(x), *(run(loss, *x)[0] for x in inputs))
    got = jax.jit(jax.vmap(loss))(*(np.stack(x) for x in zip(*inputs, strict=True)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, expected)


@every
@pytest.mark.parametrize("garbage", [0.0, -1e30, 1e30, np.nan, np.inf])
def test_padding_changes_nothing(loss, garbage):
    """Masked columns and rows of garbage change neither loss nor metrics nor gradient."""
    new, old, advantage, mask = batch()

    def pad(x, value):
        return np.pad(x, ((0, 2), (0, 3)) if x.ndim == 2 else (0, 2), constant_values=value)

    padded = [pad(new, garbage), pad(old, -garbage), pad(advantage, garbage), pad(mask, False)]
    results, gradient = run(loss, *padded)
    expected, expected_gradient = run(loss, new, old, advantage, mask)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), results, expected)
    np.testing.assert_allclose(gradient[:-2, :-3], expected_gradient, atol=1e-6)
    assert (gradient[~padded[3]] == 0).all()


@every
def test_masked_positions_get_exactly_zero_gradient(loss):
    new, old, advantage, mask = batch()
    new = np.where(mask, new, np.float32(np.nan))
    (value, _), gradient = run(loss, new, old, advantage, mask)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert (gradient[~mask] == 0).all()
    assert (gradient != 0).any()


@every
def test_all_masked_is_zero(loss):
    new, old, advantage, mask = batch()
    (value, metrics), gradient = run(loss, new, old, advantage, np.zeros_like(mask))
    assert value == 0 and all(leaf == 0 for leaf in metrics.values())
    assert (gradient == 0).all()


@every
@pytest.mark.parametrize("cuts", [(3,), (1, 2), (1, 4, 5)])
def test_micro_batches_add_up(loss, cuts):
    """Losses, gradients and metrics of micro-batches sum to those of the whole, whatever their sizes and lengths."""
    inputs = batch()
    totals = batch_totals(inputs[2], inputs[3])
    (whole, metrics), gradient = run(loss, *inputs)
    parts = [slice(a, b) for a, b in zip((0, *cuts), (*cuts, 6), strict=True)]
    results, gradients = zip(
        *(run(loss, *(x[part] for x in inputs), totals=totals) for part in parts), strict=True
    )
    np.testing.assert_allclose(sum(value for value, _ in results), whole, atol=1e-6)
    np.testing.assert_allclose(np.concatenate(gradients), gradient, atol=1e-6)
    for name, expected in metrics.items():
        combine = max if name == "ratio_max" else sum
        np.testing.assert_allclose(
            combine(m[name] for _, m in results), expected, rtol=1e-5, atol=1e-6
        )


@every
def test_only_the_new_logprobs_carry_gradient(loss):
    inputs = batch()
    old, advantage = jax.jit(jax.grad(lambda *x: loss(*x)[0], argnums=(1, 2)))(*inputs)
    assert (old == 0).all() and (advantage == 0).all()


@every
def test_extreme_ratios_stay_finite(loss):
    new, old, advantage, mask = batch()
    for shift in (1e4, -1e4):
        (value, _), gradient = run(loss, new + shift, old, advantage, mask)
        assert np.isfinite(value) and np.isfinite(gradient).all()


@every
def test_bfloat16_in_float32_out(loss):
    new, old, advantage, mask = batch()
    value, metrics = jax.eval_shape(
        loss, new.astype(jnp.bfloat16), old.astype(jnp.bfloat16), advantage, mask
    )
    assert value.dtype == jnp.float32 and all(
        leaf.dtype == jnp.float32 for leaf in metrics.values()
    )


# On policy, every loss is REINFORCE with its own weights


def on_policy_weights(name, advantage, mask):
    """Weight of each token's log-probability in -loss, written from the definitions."""
    mask = np.asarray(mask, float)
    rows, tokens, length = (mask.sum(1) > 0).sum(), mask.sum(), mask.sum(1, keepdims=True)
    advantage = np.asarray(advantage)[:, None]
    if name == "reinforce_pp":
        each = np.repeat(advantage, mask.shape[1], 1)[mask > 0]
        advantage = (advantage - each.mean()) / each.std()
    if name in ("dapo", "reinforce_pp", "cispo"):
        return advantage * mask / tokens
    return advantage * mask / (rows * (9 if name == "dr_grpo" else np.maximum(length, 1)))


def on_policy_value(name, weights, logprobs):
    """The loss at ratio 1. Two of them are not the mean advantage there, though their gradient is that of it."""
    if name == "cispo":
        return -(weights * logprobs).sum()
    if name == "sapo":
        return -(weights * 2 / np.where(weights > 0, 1.0, 1.05)).sum()
    return -weights.sum()


@pytest.mark.parametrize("name", VARIANTS)
def test_on_policy_gradient_is_reinforce(name):
    _, old, advantage, mask = batch()
    (value, metrics), gradient = run(VARIANTS[name], old, old, advantage, mask)
    weights = on_policy_weights(name, advantage, mask)
    np.testing.assert_allclose(gradient, -weights, atol=1e-5)
    np.testing.assert_allclose(value, on_policy_value(name, weights, old), atol=1e-5)
    assert metrics["clip_fraction"] == 0 and metrics["approx_kl"] == 0
    np.testing.assert_allclose([metrics["ratio_mean"], metrics["ratio_max"]], 1, atol=1e-6)


# Off policy, against loops


def loop_loss(inputs, low, high, dual=None, ratio="token", normalize="sequence", max_length=None):
    new, old, advantage, mask = (np.asarray(x, np.float64) for x in inputs)
    per_row, everything, clipped, ratios, kl = [], [], [], [], []
    for row in range(len(new)):
        steps = [new[row, t] - old[row, t] for t in range(new.shape[1]) if mask[row, t]]
        if not steps:
            continue
        losses = []
        for step in steps:
            rho = math.exp(step if ratio == "token" else sum(steps) / len(steps))
            a = advantage[row]
            plain, cut = rho * a, min(max(rho, 1 - low), 1 + high) * a
            objective = min(plain, cut)
            was_clipped = cut < plain
            if dual and a < 0 and dual * a > objective:
                objective, was_clipped = dual * a, True
            losses.append(-objective)
            clipped.append(was_clipped)
            ratios.append(rho)
            kl.append(math.exp(step) - 1 - step)
        everything += losses
        per_row.append(sum(losses) / (len(losses) if normalize == "sequence" else max_length or 1))
    value = (
        sum(everything) / len(everything) if normalize == "token" else sum(per_row) / len(per_row)
    )
    return value, dict(
        clip_fraction=np.mean(clipped),
        ratio_mean=np.mean(ratios),
        ratio_max=max(ratios),
        approx_kl=np.mean(kl),
    )


OPTIONS = [
    {},
    {"clip_high": 0.28},
    {"clip_low": 0.05, "clip_high": 0.4, "normalize": "token"},
    {"ratio": "sequence"},
    {"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4},
    {"dual_clip": 1.3},
    {"normalize": "length", "max_length": 11},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_policy_gradient_loss_against_a_loop(options):
    renamed = {"clip_low": "low", "clip_high": "high", "dual_clip": "dual"}
    plain = {
        "low": 0.2,
        "high": 0.2,
        **{renamed.get(key, key): value for key, value in options.items()},
    }
    for seed in range(3):
        inputs = batch(seed=seed)
        (value, metrics), _ = run(policy_gradient_loss, *inputs, **options)
        expected, expected_metrics = loop_loss(inputs, **plain)
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
        assert set(metrics) == set(expected_metrics)
        for name in metrics:
            np.testing.assert_allclose(
                metrics[name], expected_metrics[name], rtol=1e-4, atol=1e-5, err_msg=name
            )


@pytest.mark.parametrize(
    "rise, advantage, flows", [(0.3, 1, False), (0.3, -1, True), (-0.3, 1, True), (-0.3, -1, False)]
)
def test_clipping_cuts_the_gradient_on_one_side_only(rise, advantage, flows):
    old, mask = np.full((1, 1), -1.0), np.ones((1, 1), bool)
    _, gradient = run(policy_gradient_loss, old + rise, old, np.array([float(advantage)]), mask)
    assert (gradient[0, 0] != 0) == flows


def test_asymmetric_clip():
    old, mask, one = np.full((1, 1), -1.0), np.ones((1, 1), bool), np.ones(1)
    new = old + math.log(1.25)
    assert clip_fraction(policy_gradient_loss, new, old, one, mask) == 1
    assert clip_fraction(policy_gradient_loss, new, old, one, mask, clip_high=0.28) == 0
    new = old - math.log(1.25)
    assert clip_fraction(policy_gradient_loss, new, old, -one, mask, clip_low=0.15) == 1
    assert clip_fraction(policy_gradient_loss, new, old, -one, mask, clip_low=0.25) == 0


def test_dual_clip_bounds_the_charge_for_negative_advantages():
    old, mask = np.full((1, 1), -5.0), np.ones((1, 1), bool)
    for advantage, bounded in ((-2.0, 6.0), (2.0, -2.4)):
        (value, metrics), _ = run(
            policy_gradient_loss, old + 3.0, old, np.array([advantage]), mask, dual_clip=3.0
        )
        np.testing.assert_allclose(value, bounded, rtol=1e-5)
        assert metrics["clip_fraction"] == 1
    (value, _), _ = run(policy_gradient_loss, old + 3.0, old, np.array([-2.0]), mask)
    np.testing.assert_allclose(value, 2 * math.e**3, rtol=1e-5)


# GSPO and REINFORCE++


def test_gspo_is_the_sequence_ratio_with_per_sequence_advantages():
    """One advantage a sequence: the token-level construction has the value and the gradient of the sequence ratio."""
    clip = {"clip_low": 0.02, "clip_high": 0.03}
    for seed in range(3):
        inputs = batch(rows=20, seed=seed, spread=0.1)
        (value, metrics), gradient = run(gspo_loss, *inputs, **clip)
        (expected, _), expected_gradient = run(
            policy_gradient_loss, *inputs, ratio="sequence", **clip
        )
        np.testing.assert_allclose(value, expected, atol=1e-6)
        np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)
        assert 0 < metrics["clip_fraction"] < 1


def test_gspo_default_clip_is_the_papers():
    old, mask, one = np.full((1, 4), -1.0), np.ones((1, 4), bool), np.ones(1)
    for shift, advantage, clipped in (
        (3.9e-4, one, 0),
        (4.2e-4, one, 1),
        (-2.9e-4, -one, 0),
        (-3.2e-4, -one, 1),
    ):
        assert clip_fraction(gspo_loss, old + shift, old, advantage, mask) == clipped


def test_reinforce_pp_ignores_scale_and_offset_of_rewards():
    new, old, advantage, mask = batch()
    (first, _), _ = run(reinforce_pp_loss, new, old, advantage, mask)
    (second, _), _ = run(reinforce_pp_loss, new, old, 5 * advantage + 3, mask)
    np.testing.assert_allclose(second, first, atol=1e-5)


@pytest.mark.parametrize("reward", [0.0, 1.0, -0.7615942, 0.9640276])
def test_reinforce_pp_learns_nothing_from_equal_rewards(reward):
    """Not even the rounding of their mean, which totals computed elsewhere may carry."""
    new, old, _, mask = batch(rows=256, tokens=7)
    advantage = np.full(256, reward, np.float32)
    for totals in (None, batch_totals(advantage, mask)):
        (value, _), gradient = run(reinforce_pp_loss, new, old, advantage, mask, totals=totals)
        assert value == 0 and (gradient == 0).all()


def test_batch_totals():
    mask = np.array([[True, True, True], [False, False, False], [True, False, False]])
    totals = batch_totals(np.array([1.0, np.nan, 5.0]), mask)
    np.testing.assert_allclose(totals, [2, 4, 2, math.sqrt(3)], rtol=1e-6)


@pytest.mark.parametrize(
    "options, field",
    [
        ({"ratio": "word"}, "loss.ratio"),
        ({"normalize": "row"}, "loss.normalize"),
        ({"normalize": "length"}, "loss.max_length"),
    ],
)
def test_unknown_options_are_refused(options, field):
    with raises_for(field):
        policy_gradient_loss(*batch(), **options)
