"""The KL term of an update: against the loss written out, and where it must not be felt."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ccpo_jax import KL_ESTIMATORS, kl_loss, policy_gradient_loss
from ccpo_jax.devices.sharding import batch_sharding, make_mesh
from ccpo_jax.learner.reference import Reference, score_reference
from ccpo_jax.learner.replay import locate_nonfinite
from ccpo_jax.learner.update import (
    LossConfig,
    PackingConfig,
    UpdateConfig,
    pack_trained,
    update_params,
)
from tests.support.errors import raises_for
from tests.support.sequences import V, ragged_rows, scores_of
from tests.support.stubs import POLICY, markov_params

WEIGHT = 0.7
OTHER = Reference(POLICY, markov_params(V, seed=5))


def config_of(
    estimator="k3",
    *,
    weight=WEIGHT,
    on_policy=True,
    rows_per_microbatch=64,
    sharding=None,
    **changes,
):
    """Plain gradient descent; `changes` are fields of `UpdateConfig`."""
    loss = LossConfig(logits_chunk=7, on_policy=on_policy, kl_weight=weight, kl_estimator=estimator)
    packing = PackingConfig(16, rows_per_microbatch, sharding)
    return UpdateConfig(loss, optax.sgd(1.0), packing, **changes)


def step(rows, config, reference: Reference | None = OTHER):
    params = markov_params(V)
    size = len(rows) // config.mini_batches
    cut = [rows[i * size : (i + 1) * size] for i in range(config.mini_batches)]
    state = config.optimizer.init(params)
    return update_params(POLICY, params, state, cut, config, reference=reference)


def written_out(rows, estimator, temperature):
    """(loss, gradient) sequence by sequence, no packing, no chunks."""
    width = max(len(row.response) for row in rows)
    mask = np.arange(width) < np.array([len(row.response) for row in rows])[:, None]
    advantage = np.array([row.advantage for row in rows], np.float32)

    def logprobs_of(table):
        lines = []
        for row in rows:
            end = len(row.response)
            line = scores_of(row, table, temperature)[jnp.arange(end), row.response]
            lines.append(jnp.pad(line, (0, width - end)))
        return jnp.stack(lines)

    reference = logprobs_of(OTHER.params["table"])

    def objective(params):
        logprobs = logprobs_of(params["table"])
        old = jax.lax.stop_gradient(logprobs)
        value, _ = policy_gradient_loss(logprobs, old, advantage, mask)
        divergence, metrics = kl_loss(logprobs, old, reference, mask, estimator=estimator)
        return value + WEIGHT * divergence, metrics["kl"]

    return jax.jit(jax.value_and_grad(objective, has_aux=True))(markov_params(V))


@pytest.mark.parametrize(
    "estimator, rows_per_microbatch, temperature",
    [("k1", 1, 1.0), ("k2", 64, 1.0), ("k3", 4, 1.0), ("k3", 64, 2.0)],
)
def test_the_update_is_that_of_the_loss_written_out(estimator, rows_per_microbatch, temperature):
    """Also at the sampler's temperature, at which both policies are compared."""
    rows = ragged_rows(silent=range(3))
    (value, kl), gradient = written_out(rows, estimator, temperature)
    config = config_of(
        estimator,
        rows_per_microbatch=rows_per_microbatch,
        temperature=temperature,
    )
    params, _, metrics = step(rows, config)
    np.testing.assert_allclose(
        markov_params(V)["table"] - params["table"], gradient["table"], atol=2e-6
    )
    np.testing.assert_allclose((metrics["loss"], metrics["kl"]), (value, kl), rtol=1e-5)
    assert metrics["trained_tokens"] == sum(len(row.response) for row in rows)
    assert kl > 0.1


def test_mini_batches_share_one_reference():
    rows = ragged_rows(12)
    config = config_of(on_policy=False)
    params, state, _ = step(rows[:6], config)
    twice, _, _ = update_params(POLICY, params, state, [rows[6:]], config, reference=OTHER)
    once, _, _ = step(rows, config_of(on_policy=False, mini_batches=2))
    np.testing.assert_allclose(once["table"], twice["table"], atol=1e-6)


def test_eight_devices_train_as_one():
    rows = ragged_rows()
    alone, _, one = step(rows, config_of(rows_per_microbatch=8))
    sharding = batch_sharding(make_mesh())
    spread, _, eight = step(rows, config_of(rows_per_microbatch=8, sharding=sharding))
    np.testing.assert_allclose(alone["table"], spread["table"], atol=1e-6)
    assert one["kl"] == pytest.approx(eight["kl"], rel=1e-5)


@pytest.mark.parametrize("estimator", KL_ESTIMATORS)
def test_a_policy_that_is_its_own_reference_does_not_move(estimator):
    rows = ragged_rows(silent=range(13))
    params, _, metrics = step(rows, config_of(estimator), Reference(POLICY, markov_params(V)))
    np.testing.assert_allclose(params["table"], markov_params(V)["table"], atol=1e-6)
    assert abs(metrics["kl"]) < 1e-6


@pytest.mark.parametrize("estimator", KL_ESTIMATORS)
def test_a_large_weight_holds_the_policy_where_it_was(estimator):
    """Twenty steps with the same advantages, from a policy that is its own reference."""
    rows = ragged_rows(12)
    start = markov_params(V)
    moved = {}
    for weight in (0.0, 30.0):
        config = config_of(estimator, weight=weight)
        config = dataclasses.replace(config, optimizer=optax.sgd(0.2))
        params = markov_params(V)
        state = config.optimizer.init(params)
        for _ in range(20):
            params, state, _ = update_params(
                POLICY, params, state, [rows], config, reference=Reference(POLICY, start)
            )
        gap = jax.nn.log_softmax(params["table"]) - jax.nn.log_softmax(start["table"])
        moved[weight] = float(jnp.abs(gap).max())
    assert moved[0.0] > 0.5 and 0 < moved[30.0] < 0.3 * moved[0.0]


def test_weight_0_carries_nothing_to_the_device():
    rows = ragged_rows()
    packed = [pack_trained(rows, config_of(weight=0.0))]
    (scored,) = score_reference(OTHER, packed, temperature=1.0, logits_chunk=7)
    without, with_reference = (len(jax.tree.leaves(batches[0])) for batches in (*packed, scored))
    assert without == with_reference - 1

    (plain, _, metrics), (given, _, _) = (
        step(rows, config_of(weight=0.0), r) for r in (None, OTHER)
    )
    np.testing.assert_array_equal(plain["table"], given["table"])
    assert "kl" not in metrics


def test_a_term_without_a_reference_is_refused():
    with raises_for("loss.kl_weight"):
        step(ragged_rows(), config_of(), None)


def test_a_replay_names_a_reference_that_is_not_finite():
    rows = ragged_rows(12)
    table = OTHER.params["table"].at[rows[7].response[0]].set(jnp.nan)
    broken = Reference(POLICY, {"table": table})
    config = config_of(on_policy=False, mini_batches=2)
    _, _, metrics = step(rows, config, broken)
    assert np.isnan(metrics["loss"])

    params = markov_params(V)
    state = config.optimizer.init(params)
    halves = [rows[:6], rows[6:]]
    location = locate_nonfinite(POLICY, params, state, halves, config, reference=broken)
    assert location is not None and location.stage == "reference log-prob"
    assert location.sequences
