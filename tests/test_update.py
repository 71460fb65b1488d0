"""Trainer: chunked log-probs, micro-batches, silent rows, batches cut from rollouts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ccpo_jax.losses import batch_totals, policy_gradient_loss, reinforce_pp_loss
from ccpo_jax.update import Batch, Loss, Rows, micro_batches, optimizer, response_logprobs, totals_of, train_on
from tests.stubs import POLICY, markov_params

V = 11


def ragged_rows(count=13, seed=0, silent=()) -> Rows:
    rng = np.random.default_rng(seed)
    tokens, prompt, old = [], [], []
    for _ in range(count):
        p, r = rng.integers(1, 6), rng.integers(1, 9)
        tokens.append(rng.integers(0, V, p + r).astype(np.int32))
        prompt.append(p)
        old.append(rng.normal(-2, 0.1, r).astype(np.float32))
    advantage = rng.normal(size=count).astype(np.float32)
    advantage[list(silent)] = 0.0
    return Rows(tokens, np.array(prompt, np.int32), advantage, old)


def loss_of(function=policy_gradient_loss, *, on_policy=True, silent=True, bonus=0.0) -> Loss:
    return Loss(function, on_policy, silent, bonus, chunk=7)


def step(rows, loss, *, micro_batch=64, skip_silent=False, sharding=None):
    transform = optax.sgd(1.0)
    params = markov_params(V)
    return train_on(
        POLICY, loss, transform, params, transform.init(params), rows, micro_batch=micro_batch,
        skip_silent=skip_silent, temperature=1.0, pad_id=0, sharding=sharding,
    )  # fmt: skip


def direct_gradient(rows: Rows, function=policy_gradient_loss):
    """The loss written out sequence by sequence, no padding, no chunks."""
    width = max(len(o) for o in rows.old_logprobs)
    mask = np.arange(width) < np.array([len(o) for o in rows.old_logprobs])[:, None]

    def objective(params):
        lines = []
        for tokens, start in zip(rows.tokens, rows.prompt_length, strict=True):
            scores = jax.nn.log_softmax(params["table"][tokens[start - 1 : -1]])
            picked = scores[jnp.arange(len(tokens) - start), tokens[start:]]
            lines.append(jnp.pad(picked, (0, width - len(picked))))
        logprobs = jnp.stack(lines)
        return function(logprobs, jax.lax.stop_gradient(logprobs), rows.advantage, mask)[0]

    return jax.value_and_grad(objective)(markov_params(V))


@pytest.mark.parametrize("function", [policy_gradient_loss, reinforce_pp_loss])
@pytest.mark.parametrize("micro_batch", [1, 4, 13, 64])
def test_micro_batches_add_up_to_the_whole_gradient(function, micro_batch):
    rows = ragged_rows()
    value, gradient = direct_gradient(rows, function)
    params, _, metrics = step(rows, loss_of(function), micro_batch=micro_batch)
    np.testing.assert_allclose(markov_params(V)["table"] - params["table"], gradient["table"], atol=2e-6)
    np.testing.assert_allclose(metrics["loss"], value, atol=1e-6)
    np.testing.assert_allclose(metrics["grad_norm"], jnp.linalg.norm(gradient["table"]), rtol=1e-5)


def test_leaving_out_silent_rows_changes_nothing_but_the_work():
    rows = ragged_rows(silent=range(3, 11))
    (kept, _, some), (full, _, every) = (step(rows, loss_of(), skip_silent=skip) for skip in (True, False))
    np.testing.assert_allclose(kept["table"], full["table"], atol=1e-6)
    assert some["trained_tokens"] < every["trained_tokens"]


def test_rows_that_a_loss_whitens_are_never_left_out():
    rows = ragged_rows(silent=range(5))
    loss = loss_of(reinforce_pp_loss, silent=False)
    np.testing.assert_array_equal(step(rows, loss, skip_silent=True)[0]["table"], step(rows, loss)[0]["table"])


def test_a_batch_without_signal_leaves_parameters_alone():
    rows = ragged_rows(silent=range(13))
    params, _, metrics = step(rows, loss_of(), skip_silent=True)
    np.testing.assert_array_equal(params["table"], markov_params(V)["table"])
    assert metrics["grad_norm"] == 0 and metrics["trained_tokens"] == 0


def test_eight_devices_train_as_one(subtests=None):
    from ccpo_jax.sharding import batch_sharding, make_mesh

    rows = ragged_rows()
    alone, _, _ = step(rows, loss_of(), micro_batch=8)
    spread, _, _ = step(rows, loss_of(), micro_batch=8, sharding=batch_sharding(make_mesh()))
    np.testing.assert_allclose(alone["table"], spread["table"], atol=1e-6)


def test_off_policy_ratio_uses_the_samplers_logprobs():
    rows = ragged_rows()
    _, _, metrics = step(rows, loss_of(on_policy=False))
    assert abs(metrics["ratio_mean"] - 1) > 1e-3
    _, _, metrics = step(rows, loss_of())
    assert metrics["ratio_mean"] == pytest.approx(1.0, abs=1e-6)


def test_gap_to_the_sampler_is_measured_on_response_tokens_only():
    rows = ragged_rows()
    exact = []
    for tokens, start in zip(rows.tokens, rows.prompt_length, strict=True):
        scores = jax.nn.log_softmax(markov_params(V)["table"][tokens[start - 1 : -1]])
        exact.append(np.asarray(scores[jnp.arange(len(tokens) - start), tokens[start:]]))
    _, _, metrics = step(rows._replace(old_logprobs=[e + 0.25 for e in exact]), loss_of(), micro_batch=4)
    assert metrics["logprob_gap"] == pytest.approx(0.25, abs=1e-5)
    assert metrics["logprob_gap_max"] == pytest.approx(0.25, abs=1e-5)


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_chunked_logprobs_and_entropy(chunk):
    batch = micro_batches(ragged_rows(6), 6, pad_id=0)[0]
    width = batch.old_logprobs.shape[1]
    params = markov_params(V)
    found = response_logprobs(POLICY, params, batch, jnp.float32(0.5), width=width, chunk=chunk)
    for n in range(6):
        p, end = batch.prompt_length[n], batch.length[n]
        scores = jax.nn.log_softmax(params["table"][batch.tokens[n, p - 1 : end - 1]] / 0.5)
        np.testing.assert_allclose(
            found[0][n, : end - p], scores[jnp.arange(end - p), batch.tokens[n, p:end]], atol=1e-5
        )
        np.testing.assert_allclose(found[1][n, : end - p], -(jnp.exp(scores) * scores).sum(-1), atol=1e-5)


def test_entropy_bonus_raises_entropy():
    rows = ragged_rows(silent=range(13))
    plain, _, before = step(rows, loss_of())
    raised, _, _ = step(rows, loss_of(bonus=0.5, silent=False))
    _, _, after = train_on(
        POLICY, loss_of(), optax.sgd(0.0), raised, optax.sgd(0.0).init(raised), rows,
        micro_batch=64, skip_silent=False, temperature=1.0, pad_id=0,
    )  # fmt: skip
    assert after["entropy"] > before["entropy"]


def test_micro_batches_are_right_padded_bucketed_and_complete():
    rows = ragged_rows(13)
    batches = micro_batches(rows, 4, pad_id=9)
    assert len(batches) == 4 and all(isinstance(b, Batch) and b.tokens.shape[0] == 4 for b in batches)
    seen = []
    for b in batches:
        for tokens, start, end, advantage in zip(b.tokens, b.prompt_length, b.length, b.advantage, strict=True):
            assert (tokens[end:] == 9).all()
            if end > start:
                seen.append((tuple(tokens[:end]), start, float(advantage)))
    wanted = [(tuple(t), p, float(a)) for t, p, a in zip(rows.tokens, rows.prompt_length, rows.advantage, strict=True)]
    assert sorted(seen) == sorted(wanted)


def test_totals_count_every_row():
    rows = ragged_rows(5, silent=range(5))
    width = max(map(len, rows.old_logprobs))
    mask = np.arange(width) < np.array([len(o) for o in rows.old_logprobs])[:, None]
    for one, other in zip(totals_of(rows), batch_totals(rows.advantage, mask), strict=True):
        np.testing.assert_array_equal(one, other)


def test_warm_up_clip_and_decay():
    transform = optimizer(learning_rate=1.0, warmup_steps=2, weight_decay=0.0, grad_clip=1.0)
    params = {"w": jnp.zeros(3)}
    state = transform.init(params)
    sizes = []
    for _ in range(4):
        updates, state = transform.update({"w": jnp.full(3, 100.0)}, state, params)
        sizes.append(float(jnp.abs(updates["w"]).max()))
    np.testing.assert_allclose(sizes, [0.0, 0.5, 1.0, 1.0], atol=1e-3)


def test_one_compilation_for_many_batches_of_one_shape():
    from ccpo_jax.update import accumulate

    loss = loss_of(functools.partial(policy_gradient_loss, clip_low=0.1))
    before = accumulate._cache_size()
    for seed in range(3):
        rows = ragged_rows(4, seed=0)._replace(advantage=np.random.default_rng(seed).normal(size=4).astype(np.float32))
        step(rows, loss, micro_batch=4)
    assert accumulate._cache_size() == before + 1
