"""Fused kernels beside plain XLA, in their interpreters; and who gets them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax.models import attention as attention_module
from ccpo_jax.models import decode_attention as module
from ccpo_jax.models import fused_attention as flash
from ccpo_jax.models.attention import Block, attention, packed_attention
from ccpo_jax.models.decoder import ModelConfig, init_params, make_policy, policy_with
from ccpo_jax.sampler.decode_loop import Prompts, begin, sample
from ccpo_jax.sampler.token_sampling import token_sampling


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


def interpreted(monkeypatch, **how):
    """`flash` as an accelerator would be given it, on any machine."""
    right = flash.flash
    monkeypatch.setattr(attention_module, "flash", lambda *a, **k: right(*a, **k | how))


@pytest.mark.parametrize(
    ("backend", "slots"),
    [("xla", 24), ("tpu", 24), ("tpu", 260)],
    ids=["cudnn's arguments", "splash", "splash, tiles"],
)
def test_packed_sequences_attend_alike(monkeypatch, backend, slots):
    interpreted(monkeypatch, backend=backend, **({"interpret": True} if backend == "tpu" else {}))
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


def test_agents_that_sample_together_share_a_fused_call(monkeypatch):
    """cudnn cannot be vmapped over a mask that all heads share: the agents' sequences are put one after the other."""
    calls = []

    def flash_of(*arrays, backend):
        calls.append([x.shape for x in arrays])
        return flash.flash(*arrays, backend="xla")

    monkeypatch.setattr(attention_module, "flash", flash_of)
    rng, agents, batch, slots = np.random.default_rng(0), 3, 2, 5
    q = normal(rng, agents, batch, 1, slots, 2, 3, 16)
    k, v = normal(rng, agents, batch, 1, 2, 16, slots), normal(rng, agents, batch, 1, 2, slots, 16)
    low = rng.integers(0, 2, (agents, batch, 1, 1)).astype(np.int32)
    high = np.broadcast_to(np.arange(1, slots + 1, dtype=np.int32), (batch, 1, slots))

    def see(q, k, v, low, kernel):
        return attention(q, (Block(k, v, low, high),), kernel)

    found = jax.vmap(functools.partial(see, kernel="gpu"))(q, k, v, low)
    assert calls[-1][0][0] == agents * batch
    seen = np.arange(slots) >= low[:, :, 0]  # what stands before it is padding
    meant = jax.vmap(functools.partial(see, kernel=None))(q, k, v, low)
    np.testing.assert_allclose(found[:, :, 0][seen], meant[:, :, 0][seen], rtol=1e-5, atol=1e-6)


def step_case(rows, slots, batch=3, heads=2, group=3, size=16):
    """One new token beside a shared prefix, tails of two widths and own tokens, some rows gone around, one just begun."""
    rng = np.random.default_rng(1)

    def block(owners, slots, low, high):
        k, v = (
            normal(rng, batch, owners, heads, size, slots),
            normal(rng, batch, owners, heads, slots, size),
        )
        return Block(
            k,
            v,
            *(np.broadcast_to(x, (batch, owners)).astype(np.int32)[..., None] for x in (low, high)),
        )

    new = normal(rng, batch, rows, 1, heads, group, size), *block(rows, 1, 0, 1)[:2]
    first, cursor = (rows + 1) // 2, np.int32(rng.integers(slots))
    tails = (block(first, 130, 3, 130), *([block(rows - first, 1, 0, 1)] if rows > first else []))
    start = rng.integers(0, slots, (batch, rows)).astype(np.int32)
    start[0, 0] = cursor
    context = block(1, 70, 0, rng.integers(1, 71, (batch, 1))), tails
    return (*new, block(rows, slots, 0, 0)[:2]), (start, cursor, context)


def plain_step(queries, keys, values, cache, start, cursor, context):
    """What `decode_step` promises."""
    cache = (
        jax.lax.dynamic_update_slice(cache[0], keys, (0, 0, 0, 0, cursor)),
        jax.lax.dynamic_update_slice(cache[1], values, (0, 0, 0, cursor, 0)),
    )
    own = Block(*cache, start[..., None], jnp.full((*start.shape, 1), cursor + 1))
    return attention(queries, (*context, own)), cache


@pytest.mark.parametrize(
    ("rows", "slots", "programs", "held"),
    [(1, 300, 4000, 64), (5, 150, 40, 64), (6, 128, 40, 16)],
    ids=["slots shared out", "ragged tiles", "queries shared out"],
)
def test_a_decode_step_writes_the_token_and_attends_as_xla_does(
    monkeypatch, rows, slots, programs, held
):
    monkeypatch.setattr(module, "_PROGRAMS", programs)
    monkeypatch.setattr(module, "_QUERIES", held)
    given, where = step_case(rows, slots)
    meant = jax.jit(plain_step)(*given, *where)
    found = jax.jit(lambda *given: module.decode_step(*given, *where, interpret=True))(*given)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(meant), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_decode_step_of_agents_with_parameters_of_their_own():
    given, where = step_case(2, 70)
    both = jax.tree.map(lambda x: np.stack([x, x[::-1]]), given)
    found = jax.jit(jax.vmap(lambda *given: module.decode_step(*given, *where, interpret=True)))(
        *both
    )
    for agent in range(2):
        meant = plain_step(*jax.tree.map(lambda x, agent=agent: x[agent], both), *where)
        jax.tree.map(
            lambda x, y, a=agent: np.testing.assert_allclose(x[a], y, rtol=1e-5, atol=1e-6),
            found,
            meant,
        )


def test_a_decode_step_reads_no_tile_that_is_not_in_use():
    """Neither of a shared cache nor of the row's own."""
    (q, k, v, _), (start, _, _) = step_case(1, 256)
    rng = np.random.default_rng(2)
    keys, values = normal(rng, 3, 1, 2, 16, 256), normal(rng, 3, 1, 2, 256, 16)
    keys[..., 192:], values[..., 192:, :] = np.nan, np.nan
    keys[..., :64], values[..., :64, :] = np.nan, np.nan
    bounds = (np.full((3, 1, 1), n, np.int32) for n in (64, 192))
    step = functools.partial(module.decode_step, q, k, v, (keys, values), interpret=True)
    out, cache = step(np.full_like(start, 64), np.int32(191), (Block(keys, values, *bounds),))
    assert np.isfinite(out).all() and np.isnan(cache[0][..., 192:]).all()
    np.testing.assert_array_equal(cache[0][..., 191], k[..., 0])


@pytest.mark.parametrize(
    ("windows", "slots"),
    [({}, [64, 8, 8]), ({"window": 4, "sliding": (True, False)}, [5, 3, 1])],
    ids=["all", "near"],
)
def test_sampling_with_the_decode_step_draws_the_same_tokens(monkeypatch, windows, slots):
    """Prefixes and tails whose slots are no whole tiles: the caches are rounded up, and the tokens stay.

    Layers with a window that binds take no part, and nothing is rounded up.
    """
    right, seen = module.decode_step, []
    monkeypatch.setattr(
        module, "decode_step", lambda *given: seen.append(given) or right(*given, interpret=True)
    )
    config = ModelConfig("qwen2", 40, 16, 2, 2, 1, 16, 32, qkv_bias=True, **windows)
    plain, fused = (
        policy_with(config, jnp.dtype("float32"), "full", None, steps, None)
        for steps in (False, True)
    )
    weights = plain.publish(init_params(config, jax.random.key(0)))
    rng = np.random.default_rng(0)
    prompts = Prompts(
        rng.integers(0, 40, (2, 5)).astype(np.int32), np.array([5, 3], np.int32),
        rng.integers(0, 40, (2, 4, 3)).astype(np.int32), np.array([[3, 2, 1, 1], [3, 3, 1, 1]], np.int32),
    )  # fmt: skip
    settings = token_sampling(eos_ids=(0,), pad_id=0)
    how = dict(max_tokens=6, groups=((2, 3), (2, 1)))
    keys = jax.random.split(jax.random.key(1), 8).reshape(2, 4)
    meant, found = (
        jax.jit(functools.partial(sample, p, **how))(weights, prompts, keys, settings)
        for p in (plain, fused)
    )
    assert seen, "no layer took the decode step"
    np.testing.assert_array_equal(found.tokens, meant.tokens)
    np.testing.assert_allclose(found.logprobs, meant.logprobs, atol=1e-5)
    state = begin(fused, weights, prompts, keys, settings, **how)
    assert [
        x[0].shape[-1] for x in (state.context.prefix[0], *(t[0] for t in state.context.tails))
    ] == slots


def test_a_decode_step_is_used_where_it_agrees_with_xla(monkeypatch):
    monkeypatch.setattr(module, "_QUERIES", 16)
    proven = functools.partial(module.proven.__wrapped__, 3, 16)
    assert proven(interpret=True)
    with pytest.warns(UserWarning, match="do not run here .*interpret.*: decoding with XLA"):
        assert not proven()  # not on a CPU
    right, merge = module._see_own, module._merge
    monkeypatch.setattr(
        module, "_see_own", lambda *given: right(*given[:-1], given[-1][:-1])
    )  # forgets the tails
    with pytest.warns(UserWarning, match="differ from XLA's attention by .*: decoding with XLA"):
        assert not proven(interpret=True)
    monkeypatch.setattr(module, "_see_own", right)
    monkeypatch.setattr(module, "_merge", lambda *given: merge(*given) * jnp.nan)
    with pytest.warns(UserWarning, match="differ from XLA's attention by nan"):
        assert not proven(interpret=True)


def test_kernels_are_chosen_where_they_run(monkeypatch):
    config = ModelConfig("qwen2", 32, 16, 1, 2, 1, 16, 32)
    assert make_policy(config, compute_dtype=jnp.bfloat16) is make_policy(
        config, compute_dtype=jnp.bfloat16, attention="xla"
    )
    with pytest.raises(
        ValueError, match="attention: 'fused' needs one NVIDIA GPU or TPU and bfloat16.*use 'auto'"
    ):
        make_policy(config, compute_dtype=jnp.bfloat16, attention="fused")
    with pytest.raises(ValueError, match="attention: received 'flash'"):
        make_policy(config, attention="flash")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert flash.available(jnp.bfloat16) == "gpu" and flash.available(jnp.float32) is None
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert flash.available(jnp.bfloat16) is None
