"""Decoder networks as pure functions on a parameter pytree: Qwen2/2.5, Llama 3 and Qwen3.

One `layer` function serves training (`hidden`: layers scanned, whole sequences) and decoding (`extend`: layers unrolled,
blocks of new tokens against caches).
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from ccpo_jax.records import Array, Policy

_MASKED = -1e30


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    model_type: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_size: int
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-6
    qkv_bias: bool = False
    qk_norm: bool = False
    tied_embeddings: bool = False
    max_positions: int = 32768


def rms_norm(x, scale, eps):
    h = x.astype(jnp.float32)
    h = h * jax.lax.rsqrt(jnp.mean(jnp.square(h), -1, keepdims=True) + eps)
    return (h * scale).astype(x.dtype)


def frequencies(c):
    freq = c.rope_theta ** (-jnp.arange(0, c.head_dim, 2, dtype=jnp.float32) / c.head_dim)
    return freq


def rope(x, positions, c):
    angles = positions[..., None].astype(jnp.float32) * frequencies(c)
    cos, sin = jnp.cos(angles)[..., None, :], jnp.sin(angles)[..., None, :]
    a, b = jnp.split(x.astype(jnp.float32), 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype)


def layer(c, w, x, positions, attend):
    """x [..., S, D]"""
    h = rms_norm(x, w["attn_norm"], c.norm_eps)
    def proj(n, heads):
        y = h @ w[n].astype(h.dtype)
        if n + "_bias" in w:
            y = y + w[n + "_bias"].astype(h.dtype)
        return y.reshape(y.shape[:-1] + (heads, c.head_dim))
    q, k, v = proj("q", c.num_heads), proj("k", c.num_kv_heads), proj("v", c.num_kv_heads)
    if c.qk_norm:
        q, k = rms_norm(q, w["q_norm"], c.norm_eps), rms_norm(k, w["k_norm"], c.norm_eps)
    q, k = rope(q, positions, c), rope(k, positions, c)
    q = q.reshape(q.shape[:-2] + (c.num_kv_heads, c.num_heads // c.num_kv_heads, c.head_dim))
    out, cache = attend(q, k, v)
    x = x + out.reshape(x.shape[:-1] + (-1,)).astype(x.dtype) @ w["o"].astype(x.dtype)
    h = rms_norm(x, w["mlp_norm"], c.norm_eps)
    return x + (jax.nn.silu(h @ w["gate"].astype(h.dtype)) * (h @ w["up"].astype(h.dtype))) @ w["down"].astype(h.dtype), cache


def make_policy(c, *, compute_dtype=jnp.float32, remat="full"):
    return _make(c, jnp.dtype(compute_dtype), remat)

@functools.lru_cache
def _make(c, dtype, remat):
    scale = 1 / math.sqrt(c.head_dim)

    def publish(params):
        cast = jax.tree.map(lambda x: x.astype(dtype), params)
        return cast | {"layers": tuple({k: v[i] for k, v in cast["layers"].items()} for i in range(c.num_layers))}

    def init_cache(batch, rows, slots):
        z = jnp.zeros((batch, rows, slots, c.num_kv_heads, c.head_dim), dtype)
        return tuple((z, z) for _ in range(c.num_layers))

    def extend(weights, tokens, positions, cache, cursor, start, prefix=None, prefix_length=None):
        B, R, S = tokens.shape
        slots = cache[0][0].shape[2]
        at = jnp.arange(slots)
        mask = (at >= start[..., None, None]) & (at <= cursor + jnp.arange(S)[:, None])  # B R S C
        x = weights["embed"][tokens].astype(dtype)
        new = []
        for i, w in enumerate(weights["layers"]):
            def attend(q, k, v, i=i):
                ck, cv = cache[i]
                ck = jax.lax.dynamic_update_slice(ck, k.astype(dtype), (0, 0, cursor, 0, 0))
                cv = jax.lax.dynamic_update_slice(cv, v.astype(dtype), (0, 0, cursor, 0, 0))
                s = jnp.einsum("brskgd,brckd->brkgsc", q, ck, preferred_element_type=jnp.float32) * scale
                s = jnp.where(mask[:, :, None, None], s, _MASKED)
                m = s.max(-1, keepdims=True)
                if prefix is not None:
                    pk, pv = prefix[i]
                    t = jnp.einsum("brskgd,blkd->brkgsl", q, pk[:, 0], preferred_element_type=jnp.float32) * scale
                    t = jnp.where((jnp.arange(pk.shape[2]) < prefix_length[:, None])[:, None, None, None, None], t, _MASKED)
                    m = jnp.maximum(m, t.max(-1, keepdims=True))
                e = jnp.exp(s - m)
                o = jnp.einsum("brkgsc,brckd->brskgd", e.astype(dtype), cv, preferred_element_type=jnp.float32)
                z = e.sum(-1)
                if prefix is not None:
                    f = jnp.exp(t - m)
                    o = o + jnp.einsum("brkgsl,blkd->brskgd", f.astype(dtype), pv[:, 0], preferred_element_type=jnp.float32)
                    z = z + f.sum(-1)
                return o / jnp.moveaxis(z, -1, 2)[..., None], (ck, cv)
            x, kv = layer(c, w, x, positions, attend)
            new.append(kv)
        return rms_norm(x, weights["final_norm"], c.norm_eps), tuple(new)

    def hidden(params, tokens, positions, segments):
        S = tokens.shape[1]
        mask = (jnp.arange(S)[:, None] >= jnp.arange(S)) & (segments[:, :, None] == segments[:, None])
        x = params["embed"].astype(dtype)[tokens]

        def attend(q, k, v):
            s = jnp.einsum("nskgd,nckd->nkgsc", q, k, preferred_element_type=jnp.float32) * scale
            s = jnp.where(mask[:, None, None], s, _MASKED)
            p = jax.nn.softmax(s, -1)
            return jnp.einsum("nkgsc,nckd->nskgd", p.astype(dtype), v), None

        def body(x, w):
            return layer(c, w, x, positions, attend)[0], None
        if remat == "full":
            body = jax.checkpoint(body)
        x, _ = jax.lax.scan(body, x, params["layers"])
        return rms_norm(x, params["final_norm"], c.norm_eps)

    def logits(params, h):
        if c.tied_embeddings:
            return jnp.einsum("...d,vd->...v", h, params["embed"].astype(h.dtype), preferred_element_type=jnp.float32)
        return jnp.einsum("...d,dv->...v", h, params["head"].astype(h.dtype), preferred_element_type=jnp.float32)

    return Policy(publish, init_cache, extend, hidden, logits)
