"""Trainer: chunked log-probs, micro-batches, silent rows, batches cut from rollouts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ccpo_jax.learner.logprobs import response_logprobs
from ccpo_jax.learner.optimizer import AdamW
from ccpo_jax.learner.packing import TrainSequence, pack
from ccpo_jax.learner.update import (
    LossConfig,
    PackingConfig,
    UpdateConfig,
    apply_gradients,
    jitted_accumulate,
    totals_of,
    update_params,
)
from ccpo_jax.rl.losses import LOSSES, policy_gradient_loss
from ccpo_jax.train.guards import describe_nonfinite
from tests.support.sequences import V, ragged_rows, scores_of
from tests.support.stubs import POLICY, markov_params

LOSS_FIELDS = ("hyper", "on_policy", "entropy_bonus")


def picked(row: TrainSequence, table):
    return scores_of(row, table)[jnp.arange(len(row.response)), row.response]


def update_of(name="grpo", *, rate=1.0, rows_per_microbatch=64, sharding=None, **changes):
    """Plain gradient descent on a loss; `changes` are fields of `LossConfig` or `UpdateConfig`."""
    of_loss = {field: changes.pop(field) for field in LOSS_FIELDS if field in changes}
    loss = LossConfig(name, logits_chunk=7, **of_loss)
    packing = PackingConfig(16, rows_per_microbatch, sharding)
    return UpdateConfig(loss, optax.sgd(rate), packing, **{"skip_silent": False} | changes)


def step(rows, config):
    """`update_params` of fresh parameters on `rows`, cut into the configured number of mini-batches."""
    params = markov_params(V)
    size = len(rows) // config.mini_batches
    mini_batches = [rows[i * size : (i + 1) * size] for i in range(config.mini_batches)]
    if config.mini_batches == 1:
        mini_batches = [rows]
    return update_params(POLICY, params, config.optimizer.init(params), mini_batches, config)


def direct_gradient(rows, function=policy_gradient_loss):
    """The loss written out sequence by sequence, no packing, no chunks."""
    width = max(len(row.response) for row in rows)
    mask = np.arange(width) < np.array([len(row.response) for row in rows])[:, None]
    advantage = np.array([row.advantage for row in rows], np.float32)

    def objective(params):
        lines = [picked(row, params["table"]) for row in rows]
        logprobs = jnp.stack([jnp.pad(line, (0, width - len(line))) for line in lines])
        return function(logprobs, jax.lax.stop_gradient(logprobs), advantage, mask)[0]

    return jax.value_and_grad(objective)(markov_params(V))


@pytest.mark.parametrize("name", ["grpo", "reinforce_pp"])
@pytest.mark.parametrize("micro_batch", [1, 4, 13, 64])
def test_micro_batches_add_up_to_the_whole_gradient(name, micro_batch):
    rows = ragged_rows()
    value, gradient = direct_gradient(rows, LOSSES[name])
    params, _, metrics = step(rows, update_of(name, rows_per_microbatch=micro_batch))
    np.testing.assert_allclose(
        markov_params(V)["table"] - params["table"], gradient["table"], atol=2e-6
    )
    np.testing.assert_allclose(metrics["loss"], value, atol=1e-6)
    np.testing.assert_allclose(metrics["grad_norm"], jnp.linalg.norm(gradient["table"]), rtol=1e-5)


@pytest.mark.parametrize("name", ["grpo", "cispo", "gmpo", "sapo"])
def test_leaving_out_silent_rows_changes_nothing_but_the_work(name):
    rows = ragged_rows(silent=range(3, 11))
    (kept, _, some), (full, _, every) = (
        step(rows, update_of(name, skip_silent=skip)) for skip in (True, False)
    )
    np.testing.assert_allclose(kept["table"], full["table"], atol=1e-6)
    assert some["trained_tokens"] < every["trained_tokens"]


def test_rows_that_a_loss_whitens_are_never_left_out():
    rows = ragged_rows(silent=range(5))
    skipping, all_rows = (
        step(rows, update_of("reinforce_pp", skip_silent=s)) for s in (True, False)
    )
    np.testing.assert_array_equal(skipping[0]["table"], all_rows[0]["table"])
    assert skipping[2]["trained_tokens"] == all_rows[2]["trained_tokens"]


def test_parameters_and_optimizer_state_are_donated():
    config = UpdateConfig(LossConfig(), optax.adam(1e-3), PackingConfig(16, 64))
    params = markov_params(V)
    before = (params, config.optimizer.init(params))
    update_params(POLICY, *before, [ragged_rows()], config)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before) if leaf.ndim)


def test_a_batch_without_signal_leaves_parameters_alone():
    rows = ragged_rows(silent=range(13))
    params, _, metrics = step(rows, update_of(skip_silent=True))
    np.testing.assert_array_equal(params["table"], markov_params(V)["table"])
    assert metrics["grad_norm"] == 0 and metrics["trained_tokens"] == 0


def test_an_update_that_overflows_on_the_device_changes_nothing_and_is_named():
    rows = [row._replace(advantage=3e38) for row in ragged_rows()]
    params, _, metrics = step(rows, update_of())
    np.testing.assert_array_equal(params["table"], markov_params(V)["table"])
    assert describe_nonfinite(rows, metrics) == "not finite: the loss, the gradient"


def test_eight_devices_train_as_one():
    from ccpo_jax.devices.sharding import batch_sharding, make_mesh

    rows = ragged_rows()
    sharding = batch_sharding(make_mesh())
    alone, _, _ = step(rows, update_of(rows_per_microbatch=8))
    spread, _, _ = step(rows, update_of(rows_per_microbatch=8, sharding=sharding))
    np.testing.assert_allclose(alone["table"], spread["table"], atol=1e-6)


def test_off_policy_ratio_uses_the_samplers_logprobs():
    rows = ragged_rows()
    _, _, metrics = step(rows, update_of(on_policy=False))
    assert abs(metrics["ratio_mean"] - 1) > 1e-3
    _, _, metrics = step(rows, update_of())
    assert metrics["ratio_mean"] == pytest.approx(1.0, abs=1e-6)


def test_rescoring_takes_rounding_out_of_the_ratio():
    """The sampler's numbers are 0.1 off; the network itself has not moved, so nothing may be clipped."""
    rows = ragged_rows(12)
    config = update_of(on_policy=False, mini_batches=3, rate=0.0)
    _, _, sampled = step(rows, config)
    _, _, rescored = step(rows, dataclasses.replace(config, rescore=True))
    assert sampled["ratio_max"] > 1.5 and sampled["clip_fraction"] > 0.3
    assert rescored["ratio_max"] == pytest.approx(1.0, abs=1e-6) and rescored["clip_fraction"] == 0
    assert rescored["logprob_gap"] == pytest.approx(sampled["logprob_gap"], rel=1e-5)


def test_mini_batches_are_steps_of_their_own_and_all_are_reported():
    rows = ragged_rows(12)
    config = update_of(on_policy=False)
    params, state, first = step(rows[:6], config)
    twice, _, second = update_params(POLICY, params, state, [rows[6:]], config)
    once, _, both = step(rows, dataclasses.replace(config, mini_batches=2))
    np.testing.assert_allclose(once["table"], twice["table"], atol=1e-6)
    assert both["trained_tokens"] == first["trained_tokens"] + second["trained_tokens"]
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose(both[name], (first[name] + second[name]) / 2, rtol=1e-5)


def grpo_by_hand(rows, params, old_params):
    """GRPO with the ratio of tokens, clipped at 0.2, sequence by sequence."""
    total = 0.0
    for row in rows:
        old = picked(row, old_params["table"])
        ratio = jnp.exp(picked(row, params["table"]) - old)
        clipped = jnp.clip(ratio, 0.8, 1.2)
        total -= jnp.mean(jnp.minimum(ratio * row.advantage, clipped * row.advantage))
    return total / len(rows)


def test_the_second_pass_has_the_ratio_to_the_policy_before_the_first():
    rows = ragged_rows()
    start = markov_params(V)
    config = update_of(rate=8.0, on_policy=False, rescore=True, epochs=2, rows_per_microbatch=4)
    params, _, metrics = step(rows, config)

    gradient = jax.grad(grpo_by_hand, argnums=1)
    after_one = {"table": start["table"] - 8.0 * gradient(rows, start, start)["table"]}
    second = gradient(rows, after_one, start)["table"]
    np.testing.assert_allclose(params["table"], after_one["table"] - 8.0 * second, atol=2e-5)
    assert metrics["ratio_max"] > 1.2 and metrics["clip_fraction"] > 0
    # With the ratio at 1 it would be another gradient.
    on_policy = gradient(rows, after_one, after_one)["table"]
    assert jnp.abs(second - on_policy).max() > 1e-3


def test_two_passes_are_two_updates_with_the_old_log_probs_kept():
    rows = ragged_rows(12)
    config = update_of(on_policy=False)
    params, state, first = step(rows, config)
    twice, _, second = update_params(POLICY, params, state, [rows], config)
    once, _, both = step(rows, dataclasses.replace(config, epochs=2))
    np.testing.assert_array_equal(once["table"], twice["table"])
    assert both["trained_tokens"] == first["trained_tokens"] + second["trained_tokens"]
    for name in ("loss", "grad_norm", "entropy", "ratio_mean"):
        assert both[name] == pytest.approx((first[name] + second[name]) / 2, rel=1e-6)
    # In the second pass the trainer is not the sampler any more.
    assert both["logprob_gap"] == first["logprob_gap"] != second["logprob_gap"]


def test_passes_take_the_mini_batches_in_the_same_order():
    rows = ragged_rows(12)
    config = update_of(on_policy=False, mini_batches=2, epochs=2)
    params, _, _ = step(rows, config)
    single = dataclasses.replace(config, mini_batches=1, epochs=1)
    expected = markov_params(V)
    state = single.optimizer.init(expected)
    for part in (rows[:6], rows[6:]) * 2:
        expected, state, _ = update_params(POLICY, expected, state, [part], single)
    np.testing.assert_allclose(params["table"], expected["table"], atol=1e-6)
    assert config.steps_per_batch == 4


def test_reinforce_pp_whitens_over_the_whole_batch():
    rows = ragged_rows(12)
    rows = [row._replace(advantage=1.0 if n < 6 else -1.0) for n, row in enumerate(rows)]
    config = update_of("reinforce_pp", on_policy=False, rate=0.0)
    _, _, metrics = step(rows, dataclasses.replace(config, mini_batches=2))
    _, _, alone = step(rows[:6], config)
    # Within a half the advantages are constant.
    assert metrics["grad_norm"] > 0.05 > 1e-4 > alone["grad_norm"]


def test_gap_to_the_sampler_is_measured_on_response_tokens_only():
    rows = ragged_rows()
    table = markov_params(V)["table"]
    rows = [row._replace(old_logprobs=np.asarray(picked(row, table)) + 0.25) for row in rows]
    _, _, metrics = step(rows, update_of(rows_per_microbatch=4))
    assert metrics["logprob_gap"] == pytest.approx(0.25, abs=1e-5)
    assert metrics["logprob_gap_max"] == pytest.approx(0.25, abs=1e-5)


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_chunked_logprobs_and_entropy(chunk):
    rows = ragged_rows(6)
    (batch,) = pack(rows, row_length=64, rows_per_microbatch=6)
    params = markov_params(V)
    logprobs, entropy = response_logprobs(
        POLICY, params, batch, jnp.float32(0.5), logits_chunk=chunk
    )
    in_order = sorted(rows, key=lambda row: (row.group, -len(row.tail) - len(row.response)))
    filled = np.flatnonzero(batch.length.ravel())
    assert len(filled) == len(rows)
    for n, row in zip(filled, in_order, strict=True):
        scores = scores_of(row, params["table"], 0.5)
        end = len(row.response)
        np.testing.assert_allclose(
            logprobs[n, :end], scores[jnp.arange(end), row.response], atol=1e-5
        )
        np.testing.assert_allclose(entropy[n, :end], -(jnp.exp(scores) * scores).sum(-1), atol=1e-5)


def test_entropy_bonus_raises_entropy():
    rows = ragged_rows(silent=range(13))
    _plain, _, before = step(rows, update_of())
    raised, state, _ = step(rows, update_of(entropy_bonus=0.5, skip_silent=True))
    _, _, after = update_params(POLICY, raised, state, [rows], update_of(rate=0.0))
    assert after["entropy"] > before["entropy"]


def test_totals_count_every_row():
    rows = ragged_rows(5, silent=range(4))
    totals = totals_of(rows)
    assert (totals.num_sequences, totals.tokens) == (5, sum(len(row.response) for row in rows))
    loud = len(rows[4].response) / totals.tokens
    np.testing.assert_allclose(totals.advantage_mean, rows[4].advantage * loud, rtol=1e-6)


@pytest.mark.usefixtures("nothing_compiled")
def test_one_compilation_for_many_batches_of_one_shape():
    """Also where every batch has settings of its own that are equal."""
    before = jitted_accumulate()._cache_size()
    for seed in range(3):
        draw = np.random.default_rng(seed)
        rows = [row._replace(advantage=draw.normal()) for row in ragged_rows(4, seed=0)]
        step(rows, update_of(hyper=(("clip_low", 0.1),), rows_per_microbatch=4))
    assert jitted_accumulate()._cache_size() == before + 1


@pytest.mark.usefixtures("nothing_compiled")
def test_equal_optimizers_share_one_program():
    params, before = markov_params(V), apply_gradients._cache_size()
    for rate in (1e-3, 1e-3, 1e-2):
        config = UpdateConfig(LossConfig(), AdamW(learning_rate=rate), PackingConfig(16, 64))
        state = config.optimizer.init(params)
        params, _, _ = update_params(POLICY, params, state, [ragged_rows()], config)
    assert apply_gradients._cache_size() == before + 2
