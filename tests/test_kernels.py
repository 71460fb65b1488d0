"""Fused kernels beside plain XLA, in their interpreters; and who gets them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax.models import attention as module
from ccpo_jax.models import kernels
from ccpo_jax.models.attention import Block, attention, packed_attention
from ccpo_jax.models.decoder import make_policy
from tests.test_decoder import ModelConfig


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
    """`flash` and `decode_partial` as an accelerator would be given them, on any machine."""
    flash, decode = kernels.flash, kernels.decode_partial
    monkeypatch.setattr(module, "flash", lambda *a, **k: flash(*a, **k | how))
    monkeypatch.setattr(module, "decode_partial", lambda *a, **k: decode(*a, **k, interpret=True))


@pytest.mark.parametrize(
    ("backend", "slots"), [("xla", 24), ("tpu", 24), ("tpu", 260)], ids=["cudnn's arguments", "splash", "splash, tiles"]
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


@pytest.mark.parametrize(("rows", "slots"), [(1, 150), (5, 150), (5, 128)])
def test_a_decode_step_attends_alike_to_prefix_tails_and_own_tokens(monkeypatch, rows, slots):
    """Shared and own caches, tails of two widths, rows that have gone around, with and without whole tiles of slots."""
    interpreted(monkeypatch)
    monkeypatch.setattr(kernels, "_PROGRAMS", 40)
    rng, batch, heads, group, size = np.random.default_rng(1), 3, 2, 3, 16
    q = normal(rng, batch, rows, 1, heads, group, size)

    def block(owners, slots, low, high):
        k, v = normal(rng, batch, owners, heads, size, slots), normal(rng, batch, owners, heads, slots, size)
        return Block(k, v, *(np.broadcast_to(x, (batch, owners)).astype(np.int32)[..., None] for x in (low, high)))

    own = block(rows, slots, rng.integers(0, slots, (batch, rows)), rng.integers(1, slots + 1, (batch, rows)))
    prefix = block(1, 70, 0, rng.integers(1, 71, (batch, 1)))
    first = (rows + 1) // 2
    tails = (block(first, 9, 3, 9), *([block(rows - first, 1, 0, 1)] if rows > first else []))
    blocks = (prefix, tails, own)
    plain, fused = (jax.jit(attention, static_argnums=2)(q, blocks, kernel) for kernel in (None, "gpu"))
    np.testing.assert_allclose(fused, plain, rtol=1e-5, atol=1e-6)
    assert (
        len(kernels.decode_partial(q[..., :], *prefix[:2], prefix.low[..., 0], prefix.high[..., 0], interpret=True)) > 1
    )


def test_the_decode_kernel_reads_no_slot_that_is_not_in_use():
    rng = np.random.default_rng(2)
    q = normal(rng, 1, 1, 1, 1, 2, 16)
    k, v = normal(rng, 1, 1, 1, 16, 256), normal(rng, 1, 1, 1, 256, 16)
    k[..., 128:], v[..., 128:, :] = np.nan, np.nan
    k[..., :64], v[..., :64, :] = np.nan, np.nan
    for part in kernels.decode_partial(q, k, v, np.array([[64]]), np.array([[128]]), whole=True, interpret=True):
        assert all(np.isfinite(x).all() for x in part)


def test_kernels_are_chosen_where_they_run(monkeypatch):
    config = ModelConfig("qwen2", 32, 16, 1, 2, 1, 16, 32)
    assert make_policy(config, compute_dtype=jnp.bfloat16) is make_policy(
        config, compute_dtype=jnp.bfloat16, attention="xla"
    )
    with pytest.raises(ValueError, match="attention: 'fused' needs one NVIDIA GPU or TPU and bfloat16.*use 'auto'"):
        make_policy(config, compute_dtype=jnp.bfloat16, attention="fused")
    with pytest.raises(ValueError, match="attention: received 'flash'"):
        make_policy(config, attention="flash")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert kernels.available(jnp.bfloat16) == "gpu" and kernels.available(jnp.float32) is None
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert kernels.available(jnp.bfloat16) is None
