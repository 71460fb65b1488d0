"""Fused kernels against plain XLA, in their interpreters; and when they are used."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax.models import decode_attention as module
from ccpo_jax.models import fused_attention
from ccpo_jax.models.attention import Block, attention, packed_attention
from ccpo_jax.models.decode_attention import Tuning, decode_attention
from ccpo_jax.models.decoder import Decoder, ModelConfig, init_params, make_policy, policy_of
from ccpo_jax.sampler.decode_loop import Prompts, prefill, sample
from ccpo_jax.sampler.token_sampling import token_sampling
from tests.support.errors import raises_for
from tests.support.programs import equations


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def packed_case(slots=24, size=8, heads=2, group=3, packs=2):
    """A prefix, two branches of it and padding in each row."""
    rng = np.random.default_rng(0)
    q = normal(rng, packs, 1, slots, heads, group, size)
    k, v = normal(rng, packs, 1, heads, size, slots), normal(rng, packs, 1, heads, slots, size)
    part = slots // 4
    segments = np.repeat([[1, 2, 3, 0]], part, axis=1).repeat(packs, axis=0).astype(np.int32)
    parents = np.repeat([[1, 1, 1, 0]], part, axis=1).repeat(packs, axis=0).astype(np.int32)
    return (q, k, v), (segments, parents), slice(0, 3 * part)


@pytest.mark.parametrize(
    "backend, slots",
    [("xla", 24), ("tpu", 24), ("tpu", 260)],
    ids=["cudnn's arguments", "splash", "splash, tiles"],
)
def test_packed_sequences_attend_alike(backend, slots):
    arrays, numbers, real = packed_case(slots)

    def summed(kernel):
        def f(q, k, v):
            out = packed_attention(q, k, v, *numbers, kernel)[:, :, real]
            return jnp.sum(out * jnp.cos(jnp.arange(out.size).reshape(out.shape))), out

        return jax.jit(jax.value_and_grad(f, (0, 1, 2), has_aux=True))(*arrays)

    (_, plain), plain_grads = summed(None)
    (_, fused), fused_grads = summed(backend)
    np.testing.assert_allclose(fused, plain, rtol=1e-4, atol=1e-5)
    for one, other in zip(fused_grads, plain_grads, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_agents_that_sample_together_share_a_fused_call():
    """cuDNN cannot be vmapped over a mask that heads share: agents' sequences join in one batch."""
    rng, agents, batch, slots = np.random.default_rng(0), 3, 2, 5
    q = normal(rng, agents, batch, 1, slots, 2, 3, 16)
    k = normal(rng, agents, batch, 1, 2, 16, slots)
    v = normal(rng, agents, batch, 1, 2, slots, 16)
    low = rng.integers(0, 2, (agents, batch, 1, 1)).astype(np.int32)
    high = np.broadcast_to(np.arange(1, slots + 1, dtype=np.int32), (batch, 1, slots))

    def attend(q, k, v, low, kernel):
        return attention(q, (Block(k, v, low, high),), kernel)

    fused = jax.vmap(functools.partial(attend, kernel="xla"))
    program = jax.make_jaxpr(fused)(q, k, v, low)
    products = [e.outvars[0].aval.shape for e in equations(program) if "dot" in e.primitive.name]
    assert products and all(shape[0] == agents * batch for shape in products)

    # What stands before `low` is padding.
    seen = np.arange(slots) >= low[:, :, 0]
    plain = jax.vmap(functools.partial(attend, kernel=None))(q, k, v, low)[:, :, 0]
    np.testing.assert_allclose(
        fused(q, k, v, low)[:, :, 0][seen], plain[seen], rtol=1e-5, atol=1e-6
    )


def step_case(rows, slots, batch=3, heads=2, group=3, size=16):
    """One new token beside a shared prefix, tails of two widths and own tokens.

    Some rows have wrapped, one has just begun.
    """
    rng = np.random.default_rng(1)

    def block(owners, slots, low, high):
        k = normal(rng, batch, owners, heads, size, slots)
        v = normal(rng, batch, owners, heads, slots, size)
        low, high = (np.broadcast_to(x, (batch, owners)).astype(np.int32) for x in (low, high))
        return Block(k, v, low[..., None], high[..., None])

    new = normal(rng, batch, rows, 1, heads, group, size), *block(rows, 1, 0, 1)[:2]
    first, cursor = (rows + 1) // 2, np.int32(rng.integers(slots))
    tails = (block(first, 130, 3, 130), *([block(rows - first, 1, 0, 1)] if rows > first else []))
    start = rng.integers(0, slots, (batch, rows)).astype(np.int32)
    start[0, 0] = cursor
    context = block(1, 70, 0, rng.integers(1, 71, (batch, 1))), tails
    return (*new, block(rows, slots, 0, 0)[:2]), (start, cursor, context)


def plain_step(queries, keys, values, cache, start, cursor, context):
    """What `decode_attention` promises."""
    cache = (
        jax.lax.dynamic_update_slice(cache[0], keys, (0, 0, 0, 0, cursor)),
        jax.lax.dynamic_update_slice(cache[1], values, (0, 0, 0, cursor, 0)),
    )
    own = Block(*cache, start[..., None], jnp.full((*start.shape, 1), cursor + 1))
    return attention(queries, (*context, own)), cache


@pytest.mark.parametrize(
    "rows, slots, tuning",
    [(1, 300, Tuning(64, 4000)), (5, 150, Tuning(64, 40)), (6, 128, Tuning(16, 40))],
    ids=["slots divided", "ragged tiles", "queries divided"],
)
def test_a_decode_step_writes_the_token_and_attends_as_xla_does(rows, slots, tuning):
    arrays, where = step_case(rows, slots)
    expected = jax.jit(plain_step)(*arrays, *where)
    step = functools.partial(decode_attention, tuning=tuning, interpret=True)
    actual = jax.jit(lambda *arrays: step(*arrays, *where))(*arrays)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_decode_step_of_agents_with_parameters_of_their_own():
    arrays, where = step_case(2, 70)
    both = jax.tree.map(lambda x: np.stack([x, x[::-1]]), arrays)
    step = functools.partial(decode_attention, interpret=True)
    actual = jax.jit(jax.vmap(lambda *arrays: step(*arrays, *where)))(*both)
    for agent in range(2):
        own, ours = (jax.tree.map(lambda x, a=agent: x[a], tree) for tree in (both, actual))
        for one, other in zip(
            jax.tree.leaves(ours), jax.tree.leaves(plain_step(*own, *where)), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_decode_step_reads_no_tile_that_is_not_in_use():
    """Neither of a shared cache nor of the row's own."""
    (q, k, v, _), (start, _, _) = step_case(1, 256)
    rng = np.random.default_rng(2)
    keys, values = normal(rng, 3, 1, 2, 16, 256), normal(rng, 3, 1, 2, 256, 16)
    for unused in (slice(64), slice(192, None)):
        keys[..., unused] = np.nan
        values[..., unused, :] = np.nan
    low, high = (np.full((3, 1, 1), n, np.int32) for n in (64, 192))
    out, cache = decode_attention(
        q,
        k,
        v,
        (keys, values),
        np.full_like(start, 64),
        np.int32(191),
        (Block(keys, values, low, high),),
        interpret=True,
    )
    assert np.isfinite(out).all() and np.isnan(cache[0][..., 192:]).all()
    np.testing.assert_array_equal(cache[0][..., 191], k[..., 0])


@pytest.mark.parametrize(
    "windows, slots",
    [({}, [64, 8, 8]), ({"window": 4, "sliding": (True, False)}, [5, 3, 1])],
    ids=["all", "window"],
)
def test_sampling_with_fused_decode_steps_draws_the_same_tokens(windows, slots):
    """Caches of prefixes and tails are rounded up to whole tiles, and the tokens stay.

    Layers whose window hides something are computed without the kernels, and nothing is rounded up.
    """
    config = ModelConfig("qwen2", 40, 16, 2, 2, 1, 16, 32, qkv_bias=True, **windows)
    plain, fused = (
        policy_of(Decoder(config, jnp.dtype("float32"), "full", None, kernel, None))
        for kernel in (None, "interpret")
    )
    weights = plain.publish(init_params(config, jax.random.key(0)))
    rng = np.random.default_rng(0)
    prompts = Prompts(
        rng.integers(0, 40, (2, 5)).astype(np.int32),
        np.array([5, 3], np.int32),
        rng.integers(0, 40, (2, 4, 3)).astype(np.int32),
        np.array([[3, 2, 1, 1], [3, 3, 1, 1]], np.int32),
    )
    settings = token_sampling(eos_ids=(0,), pad_id=0)
    keys = jax.random.split(jax.random.key(1), 8).reshape(2, 4)

    def draw(policy):
        return functools.partial(sample, policy, max_tokens=6, tail_groups=((2, 3), (2, 1)))

    program = jax.make_jaxpr(draw(fused))(weights, prompts, keys, settings)
    assert any(e.primitive.name == "pallas_call" for e in equations(program)), "no fused layer"
    expected, actual = (
        jax.jit(draw(policy))(weights, prompts, keys, settings) for policy in (plain, fused)
    )
    np.testing.assert_array_equal(actual.tokens, expected.tokens)
    np.testing.assert_allclose(actual.logprobs, expected.logprobs, atol=1e-5)

    state = prefill(
        fused, weights, prompts, keys, settings, max_tokens=6, tail_groups=((2, 3), (2, 1))
    )
    caches = (state.context.prefix, *state.context.tails)
    assert [cache[0][0].shape[-1] for cache in caches] == slots


def test_fused_decode_steps_are_used_where_they_agree_with_xla():
    verify = functools.partial(module.verify, 3, 16, tuning=Tuning(max_queries=16))
    assert verify(interpret=True)
    # Without the interpreter they do not run on a CPU.
    with pytest.warns(UserWarning, match="do not run here .*: decoding with XLA"):
        assert not verify()

    def without_tails(*arguments, **kwargs):
        *others, context = arguments
        return decode_attention(*others, context[:1], **kwargs)

    def not_a_number(*arguments, **kwargs):
        out, cache = decode_attention(*arguments, **kwargs)
        return out * jnp.nan, cache

    for broken in (without_tails, not_a_number):
        with pytest.warns(UserWarning, match="differ from XLA's attention by"):
            assert not verify(broken, interpret=True)


def test_kernels_are_chosen_where_they_run(monkeypatch):
    config = ModelConfig("qwen2", 32, 16, 1, 2, 1, 16, 32)
    anywhere = make_policy(config, compute_dtype=jnp.bfloat16, attention="xla")
    assert make_policy(config, compute_dtype=jnp.bfloat16) == anywhere
    with raises_for("attention") as error:
        make_policy(config, compute_dtype=jnp.bfloat16, attention="fused")
    assert "use 'auto'" in str(error.value)
    with raises_for("attention"):
        make_policy(config, attention="flash")

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert fused_attention.available(jnp.dtype(jnp.bfloat16)) == "gpu"
    assert fused_attention.available(jnp.dtype(jnp.float32)) is None
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert fused_attention.available(jnp.dtype(jnp.bfloat16)) is None
