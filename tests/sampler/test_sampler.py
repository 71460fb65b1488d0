"""Sampler: what it draws, what it reports, and what it must not depend on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax.devices import precompile
from ccpo_jax.rl.types import Samples
from ccpo_jax.sampler import SamplingParams
from ccpo_jax.sampler.decode_loop import Prompts, decode, encode_prompts, prefill, sample
from ccpo_jax.sampler.generate import ResponseFormat, generate, programs
from ccpo_jax.sampler.slots import (
    apply_admission,
    first_slots,
    plan_admission,
    plan_compaction,
    take_rows,
)
from ccpo_jax.sampler.token_sampling import sample_tokens, token_sampling
from tests.support.errors import raises_for
from tests.support.stubs import POLICY, markov_params

V, PAD, EOS = 7, 0, 1


@functools.partial(jax.jit, static_argnames=("max_tokens", "stacked"))
def run(weights, prompts, keys, settings, *, max_tokens, stacked=False):
    return sample(POLICY, weights, prompts, keys, settings, max_tokens=max_tokens, stacked=stacked)


def keys_for(batch, rows, seed=0):
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(
        jnp.arange(batch * rows)
    ).reshape(batch, rows)


def prompts_for(batch, rows, length=4):
    prefix = jnp.asarray(np.random.default_rng(0).integers(2, V, (batch, length)), jnp.int32)
    return Prompts(
        prefix,
        jnp.full((batch,), length, jnp.int32),
        jnp.zeros((batch, rows, 0), jnp.int32),
        jnp.zeros((batch, rows), jnp.int32),
    )


def settings(eos_ids=(EOS,), **sampling):
    return token_sampling(SamplingParams(**sampling), eos_ids=eos_ids, pad_id=PAD)


def assert_same_samples(one, other):
    """The same tokens; a sum of exponentials may be rounded otherwise in a batch of another
    shape."""
    one, other = Samples(*one), Samples(*other)
    np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-6)
    for field in ("tokens", "length", "truncated"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_frequencies_match_the_distribution():
    logits = jnp.array([0.0, 1.0, -1.0, 2.0, -30.0])
    uniform = (jnp.arange(20_000) + 0.5) / 20_000
    token, logprob = sample_tokens(jnp.broadcast_to(logits, (20_000, 5)), uniform, settings())
    np.testing.assert_allclose(
        np.bincount(token, minlength=5) / 20_000, jax.nn.softmax(logits), atol=1e-4
    )
    np.testing.assert_allclose(logprob, jax.nn.log_softmax(logits)[token], atol=1e-6)


def test_extreme_uniforms_never_leave_the_support():
    logits = jnp.array([[-jnp.inf, 0.0, 1.0, -jnp.inf]])
    for u in (0.0, float(np.nextafter(np.float32(1), np.float32(0)))):
        token, logprob = sample_tokens(logits, jnp.array([u], jnp.float32), settings())
        assert int(token[0]) in (1, 2) and np.isfinite(logprob[0])


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.8, 0.97, 1.0])
def test_top_p_keeps_the_smallest_sufficient_set(top_p):
    logits = jax.random.normal(jax.random.key(3), (64, 50)) * 2
    uniform = jnp.broadcast_to((jnp.arange(1000) + 0.5) / 1000, (64, 1000))
    every = jnp.broadcast_to(logits[:, None], (64, 1000, 50))
    tokens, logprobs = sample_tokens(every, uniform, settings(temperature=0.7, top_p=top_p))
    full = np.asarray(jax.nn.softmax(logits / 0.7))
    for row, token, logprob in zip(full, np.asarray(tokens), np.asarray(logprobs), strict=True):
        order = np.argsort(-row)
        need = int(np.searchsorted(np.cumsum(row[order]), top_p - 1e-6)) + 1
        expected = np.zeros_like(row)
        expected[order[:need]] = row[order[:need]] / row[order[:need]].sum()
        np.testing.assert_allclose(np.exp(logprob), expected[token], atol=2e-5)
        np.testing.assert_allclose(np.bincount(token, minlength=50) / 1000, expected, atol=2e-3)


def test_greedy_takes_the_argmax_and_reports_its_logprob():
    weights = markov_params(V)
    out = run(weights, prompts_for(3, 2), keys_for(3, 2), settings(temperature=0.0), max_tokens=6)
    token = np.asarray(prompts_for(3, 2).prefix)[:, -1]
    for t in range(6):
        scores = jax.nn.log_softmax(weights["table"][token])
        token, likely = np.asarray(scores.argmax(-1)), np.asarray(scores.max(-1))
        live = np.asarray(out.length)[:, 0] > t
        np.testing.assert_array_equal(np.asarray(out.tokens)[live, 0, t], token[live])
        np.testing.assert_allclose(np.asarray(out.logprobs)[live, 0, t], likely[live], atol=1e-5)


def test_logprobs_are_of_the_sampled_distribution():
    weights = markov_params(V)
    out = run(weights, prompts_for(4, 8), keys_for(4, 8), settings(temperature=0.7), max_tokens=10)
    before = jnp.concatenate(
        [jnp.broadcast_to(prompts_for(4, 8).prefix[:, -1:, None], (4, 8, 1)), out.tokens], -1
    )
    expected = jax.nn.log_softmax(weights["table"] / 0.7)[before[..., :-1], out.tokens]
    live = jnp.arange(10) < out.length[..., None]
    np.testing.assert_allclose(out.logprobs, jnp.where(live, expected, 0.0), atol=1e-5)


def test_stops_at_any_end_token_pads_after_it_and_flags_truncation():
    out = run(
        markov_params(V), prompts_for(8, 8), keys_for(8, 8), settings(eos_ids=(1, 5)), max_tokens=6
    )
    tokens, length = np.asarray(out.tokens), np.asarray(out.length)
    assert 0 < np.asarray(out.truncated).mean() < 1
    for row, n, cut in zip(
        tokens.reshape(-1, 6), length.ravel(), np.asarray(out.truncated).ravel(), strict=True
    ):
        ends = np.isin(row[:n], (1, 5))
        assert not ends[:-1].any() and (row[n:] == PAD).all()
        assert cut == (not ends[-1]) and (n == 6 or not cut)


def test_a_row_depends_on_its_own_key_and_prompt_alone():
    whole = run(markov_params(V), prompts_for(4, 6), keys_for(4, 6), settings(), max_tokens=8)
    few = Prompts(
        *(x[1:3] if x.ndim < 2 or x.shape[1] != 6 else x[1:3, 2:5] for x in prompts_for(4, 6))
    )
    part = run(markov_params(V), few, keys_for(4, 6)[1:3, 2:5], settings(), max_tokens=8)
    np.testing.assert_array_equal(part.tokens, whole.tokens[1:3, 2:5])


def test_stacked_agents_equal_separate_calls():
    weights = [markov_params(V, seed) for seed in (1, 2)]
    prompts, keys = prompts_for(3, 4), keys_for(3, 4)
    both = run(
        jax.tree.map(lambda *x: jnp.stack(x), *weights),
        jax.tree.map(lambda x: jnp.stack([x, x]), prompts),
        jnp.stack([keys, keys]),
        settings(),
        max_tokens=8,
        stacked=True,
    )
    for i, own in enumerate(weights):
        alone = run(own, prompts, keys, settings(), max_tokens=8)
        for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(both), strict=True):
            np.testing.assert_array_equal(one, other[i])


def test_changing_settings_does_not_recompile():
    run.clear_cache()
    for temperature, filters in (
        (1.0, {}),
        (0.5, {"top_p": 0.9}),
        (0.0, {}),
        (1.0, {"top_k": 2}),
        (1.0, {"top_k": 3, "top_p": 0.5, "min_p": 0.1}),
    ):
        run(
            markov_params(V),
            prompts_for(2, 2),
            keys_for(2, 2),
            settings(temperature=temperature, **filters),
            max_tokens=4,
        )
    assert run._cache_size() == 1


def test_loop_stops_as_soon_as_every_row_has_ended():
    always_end = {"table": jnp.full((V, V), -30.0).at[:, EOS].set(30.0)}
    out = run(always_end, prompts_for(2, 3), keys_for(2, 3), settings(), max_tokens=5)
    np.testing.assert_array_equal(out.length, 1)
    assert not out.truncated.any()


@pytest.mark.parametrize(
    "name, value",
    [
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_k", 0),
        ("min_p", -0.1),
        ("min_p", float("nan")),
        ("decode_chunk", 0),
        ("max_concurrent", 0),
    ],
)
def test_bad_settings_name_the_field(name, value):
    with raises_for(f"sample.{name}"):
        SamplingParams(**{name: value})


def test_a_tokenizer_without_an_end_token_is_refused():
    with raises_for("eos_ids"):
        settings(eos_ids=())


@pytest.mark.parametrize("stacked", [False, True], ids=["one set", "a set each"])
@pytest.mark.parametrize("decode_chunk, max_concurrent", [(3, None), (100, None), (1, 1), (5, 24)])
def test_rows_that_leave_and_prompts_that_wait_change_no_token(
    decode_chunk, max_concurrent, stacked
):
    """Ragged ends: the batch shrinks or is refilled several times, and every row is what it is in
    one go."""
    agents, batch, samples, length = 2, 5, 6, 40
    weights = tuple(markov_params(V, seed) for seed in range(agents if stacked else 1))
    prompts = jax.tree.map(lambda x: np.stack([x] * agents), prompts_for(batch, samples))
    ids = np.stack(
        np.meshgrid(*map(np.arange, (agents, batch, samples)), indexing="ij"), -1
    ).astype(np.uint32)
    key = jax.random.key(4)

    def generated(sampling, **how):
        response = ResponseFormat((EOS,), PAD, length)
        return generate(POLICY, weights, prompts, key, ids, response, sampling=sampling, **how)

    received = {}

    def finished(done, part):
        for i, b in enumerate(done):
            assert b not in received
            received[b] = jax.tree.map(lambda field, i=i: field[:, i], part)

    ragged = SamplingParams(decode_chunk=decode_chunk, max_concurrent=max_concurrent)
    result = generated(ragged, on_prompts_done=finished)
    whole = generated(SamplingParams(decode_chunk=length))
    assert sorted(received) == list(range(batch))
    for b, part in received.items():
        for one, other in zip(jax.tree.leaves(part), jax.tree.leaves(result), strict=True):
            np.testing.assert_array_equal(one, other[:, b])
    assert_same_samples(result, whole)
    path = [
        jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, a), b), r)
        for a, b, r in ids.reshape(-1, 3)
    ]
    keys = jnp.stack(path).reshape(agents, batch, samples)
    for agent in range(agents):
        own = jax.tree.map(lambda x, agent=agent: x[agent], prompts)
        alone = run(weights[agent * stacked], own, keys[agent], settings(), max_tokens=length)
        assert_same_samples(jax.tree.map(lambda x, agent=agent: x[agent], result), alone)
    assert len(np.unique(result.length)) > 5


def test_collisions_are_those_of_the_distribution_that_was_drawn_from():
    """At a temperature, and where rows leave and prompts wait."""
    batch, samples, length, temperature = 5, 3, 12, 0.7
    weights = markov_params(V)
    prompts = jax.tree.map(lambda x: np.asarray(x)[None], prompts_for(batch, samples))
    ids = np.arange(batch * samples, dtype=np.uint32).reshape(1, batch, samples, 1)
    sampling = SamplingParams(
        temperature=temperature, decode_chunk=5, max_concurrent=6, record_collision=True
    )
    response = ResponseFormat((EOS,), PAD, length)
    result = generate(
        POLICY, (weights,), prompts, jax.random.key(1), ids, response, sampling=sampling
    )
    first = np.broadcast_to(prompts.prefix[:, :, None, -1:], (1, batch, samples, 1))
    before = np.concatenate([first, result.tokens[..., :-1]], -1)
    odds = np.asarray(jax.nn.softmax(weights["table"] / temperature))[before]
    drawn = np.arange(length) < result.length[..., None]
    expected = np.where(drawn, np.square(odds).sum(-1), 0)
    assert 0.1 < drawn.mean() < 0.9
    np.testing.assert_allclose(result.collision, expected, atol=1e-6)
    chosen = np.take_along_axis(odds, result.tokens[..., None], -1)[..., 0]
    np.testing.assert_allclose(np.exp(result.logprobs)[drawn], chosen[drawn], atol=1e-6)


def test_the_batch_shrinks_and_is_refilled_while_others_decode(monkeypatch):
    """Rows in each call of the loop, and rows that were under way when waiting prompts came in."""
    weights, prompts = (markov_params(V, 0),), jax.tree.map(lambda x: x[None], prompts_for(12, 4))
    ids = np.stack(np.meshgrid(np.arange(12), np.arange(4), indexing="ij"), -1).astype(np.uint32)[
        None
    ]
    rows, under_way = [], []
    jitted = programs()

    def counted_decode(weights, state, *rest, **static):
        rows.append(state.done.size)
        return jitted.decode(weights, state, *rest, **static)

    def counted_insert(state, *rest, **static):
        under_way.append(int((~state.done).sum()))
        return jitted.insert(state, *rest, **static)

    def generated(**sampling):
        return generate(
            POLICY,
            weights,
            prompts,
            jax.random.key(0),
            ids,
            ResponseFormat((EOS,), PAD, 40),
            sampling=SamplingParams(decode_chunk=2, **sampling),
            jitted=jitted._replace(decode=counted_decode, insert=counted_insert),
        )

    monkeypatch.setattr(precompile, "worthwhile", lambda: False)
    generated()
    assert not under_way and rows[0] == 48 and rows == sorted(rows, reverse=True)
    assert rows[-1] <= 12, "half the rows end after six tokens, the last one much later"
    rows.clear()
    generated(max_concurrent=16)
    assert rows[0] == 16
    assert len(under_way) > 2 and np.mean(under_way) > 1, "waiting prompts do not wait for all"


@pytest.mark.parametrize("slots", [0, 10])
def test_prompts_read_in_pieces_are_those_read_at_once(slots):
    """Prefixes and tails of many lengths, in a few slots at a time: what predicts the first token,
    and the caches."""
    rng = np.random.default_rng(0)
    prompts = Prompts(
        rng.integers(2, V, (7, 7)).astype(np.int32),
        np.arange(1, 8, dtype=np.int32),
        rng.integers(2, V, (7, 5, slots)).astype(np.int32),
        rng.integers(min(slots, 1), slots + 1, (7, 5)).astype(np.int32),
    )

    def read(**how):
        groups = ((2, slots), (3, slots))
        return encode_prompts(POLICY, markov_params(V), prompts, groups, **how)

    whole = read()
    # 3 of 7 slots at once: the last piece overlaps the one before.
    jax.tree.map(np.testing.assert_array_equal, read(tokens_per_pass=21), whole)
    assert len(np.unique(whole[0], axis=0)) > 1


@pytest.mark.parametrize("stacked", [False, True], ids=["one set", "a set each"])
def test_programs_compiled_ahead_are_the_ones_that_run(monkeypatch, stacked):
    """The cache grows twice and the batch shrinks; every decoded token comes from a program that
    was prepared."""
    agents, length = 2, 150
    tables = [markov_params(V, seed)["table"] for seed in range(agents if stacked else 1)]
    weights = tuple({"table": table.at[:, EOS].add(-2.0)} for table in tables)
    prompts = jax.tree.map(lambda x: np.stack([x] * agents), prompts_for(4, 6))
    ids = np.stack(np.meshgrid(*map(np.arange, (agents, 4, 6)), indexing="ij"), -1).astype(
        np.uint32
    )

    def generated():
        return generate(
            POLICY,
            weights,
            prompts,
            jax.random.key(1),
            ids,
            ResponseFormat((EOS,), PAD, length),
            sampling=SamplingParams(decode_chunk=16),
        )

    plain = generated()
    prepared, compiled = precompile.count(), programs().decode._cache_size()
    monkeypatch.setattr(precompile, "worthwhile", lambda: True)
    assert_same_samples(generated(), plain)
    assert precompile.count() >= prepared + 3
    assert programs().decode._cache_size() == compiled
    assert plain.length.max() > 64, "long enough for the cache to grow"


def test_the_batch_shrinks_when_rows_have_ended():
    done = np.ones((1, 4, 8), bool)
    done[0, 1, [2, 3, 5]] = done[0, 3, 7] = False

    def planned(sizes, drop):
        result = plan_compaction(done, sizes, drop)
        return result.prompts[0], tuple(rows[0] for rows in result.rows), result.empty[0]

    prompts, (rows,), filler = planned((8,), True)
    assert (
        prompts.tolist() == [1, 1, 3, 0]
        and rows[:3, 0].tolist() == [2, 5, 7]
        and rows[0].tolist() == [2, 3]
    )
    assert filler.tolist() == [[False, False], [False, True], [False, True], [True, True]]
    prompts, (rows,), filler = planned((8,), False)
    assert prompts.tolist() == [0, 1, 2, 3] and rows.shape == (4, 4) and filler.sum() == 16 - 4
    assert plan_compaction(np.zeros((1, 4, 8), bool), (8,), True) is None
    both, (first, second), _ = planned((3, 5), True)
    assert both.tolist() == [1, 1, 3, 0] and first.shape == second.shape == (4, 1)
    assert first[0] == [2] and second[:2, 0].tolist() == [0, 2], (
        "each group counts from its own first row"
    )


def test_waiting_prompts_join_where_others_have_finished():
    numbers = np.arange(2 * 5 * 2).reshape(2, 5, 2)
    slots = first_slots(numbers, 3, (2,))
    assert plan_admission(slots, 5, 2) is None, "nothing has finished"
    slots.response[0, 0] = slots.response[0, 2] = slots.response[1, 1, 0] = -1
    admission = plan_admission(slots, 5, 2)
    assert admission.prompt.tolist() == [[3, 4], [0, 0]]
    assert admission.target.tolist() == [[0, 2], [3, 3]], "3 = nowhere"
    joined = apply_admission(slots, admission, numbers, step=7)
    assert joined.response[0].tolist() == [[6, 7], [2, 3], [8, 9]]
    assert joined.began[0].tolist() == [[7, 7], [0, 0], [7, 7]]
    np.testing.assert_array_equal(joined.response[1], slots.response[1])
    assert joined.next_prompt.tolist() == [5, 3]


def test_a_plan_keeps_every_live_row_once():
    rng = np.random.default_rng(0)
    for _ in range(300):
        sizes = tuple(rng.integers(1, 9, rng.integers(1, 3)).tolist())
        shape = (int(rng.integers(1, 3)), int(rng.integers(1, 9)), sum(sizes))
        done, drop = rng.random(shape) < rng.random() ** 0.3, bool(rng.integers(2))
        chosen = plan_compaction(done, sizes, drop)
        if chosen is None:
            continue
        origin = np.arange(done.size).reshape(shape)
        kept = np.where(chosen.empty, -1, take_rows(origin, chosen, sizes))
        for agent in range(shape[0]):
            assert sorted(kept[agent][kept[agent] >= 0]) == sorted(origin[agent][~done[agent]])
        assert kept.size < done.size
        assert drop or (chosen.prompts == np.arange(shape[1])).all()


def test_the_loop_does_not_run_on_when_all_rows_have_ended():
    """The loop's own counter, not only what it returns."""
    always_end = {"table": jnp.full((V, V), -30.0).at[:, EOS].set(30.0)}
    state = prefill(
        POLICY,
        always_end,
        prompts_for(2, 3),
        keys_for(2, 3),
        settings(),
        max_tokens=50,
        stacked=False,
    )
    assert int(decode(POLICY, always_end, state, settings(), 50).step) == 0
    late = {
        "table": jnp.full((V, V), -30.0).at[:, 2].set(30.0).at[2].set(-30.0).at[2, EOS].set(30.0)
    }
    state = prefill(
        POLICY, late, prompts_for(2, 3), keys_for(2, 3), settings(), max_tokens=50, stacked=False
    )
    assert int(decode(POLICY, late, state, settings(), 50).step) <= 2
