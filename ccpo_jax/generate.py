"""Generation from the host: the decode loop in chunks, between which rows that have ended leave the batch."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.records import Policy, Samples
from ccpo_jax.sampler import Decoding, Prompts, Sampling, advance, begin, keep

_WORTH = 0.6  # a smaller batch is made when it has at most this part of the rows


def generate(
    policy: Policy,
    weights: Sequence,
    prompts: Prompts,
    key: jax.Array,
    ids: np.ndarray,
    settings: Sampling,
    *,
    max_tokens: int,
    chunk: int,
    drop_prompts: bool = True,
) -> Samples:
    """Samples A' agents at once: folded into the batch when they share parameters, vmapped when they do not.

    Args:
      policy: the network's functions.
      weights: decode weights: one entry for all agents, or one for each.
      prompts: with a leading axis of A' agents on every field.
      key: typed PRNG key of the batch.
      ids: ``[A', B, R, I]`` uint32, the path from `key` to each row's own key.
      settings: traced settings.
      max_tokens: T, the length at which a response is cut.
      chunk: tokens between two looks at which rows have ended.
      drop_prompts: prompts whose rows have all ended leave as well; False where prompts are spread over devices.

    Returns:
      `Samples` ``[A', B, R, T]`` on the host: the same tokens for any `chunk`.
    """
    stacked = len(weights) > 1
    weights = _stack(tuple(weights)) if stacked else weights[0]
    state = _begin(policy, weights, prompts, key, ids, settings, max_tokens=max_tokens, stacked=stacked)
    shape = state.done.shape
    tokens = np.full((*shape, max_tokens), np.asarray(settings.pad_id), np.int32)
    logprobs = np.zeros((*shape, max_tokens), np.float32)
    origin = np.arange(np.prod(shape)).reshape(shape)  # where each row belongs in the result; -1: nowhere
    ended = np.zeros(shape, bool).reshape(-1)
    while True:
        until = min(int(state.step) + 1 + chunk, max_tokens)
        state = _advance(policy, weights, state, settings, np.int32(until), stacked=stacked)
        done = np.asarray(state.done)
        last = done.all() or until == max_tokens
        plan = None if last else _plan(done | (origin < 0), drop_prompts, stacked)
        if last or plan is not None:
            here = origin >= 0
            tokens.reshape(-1, max_tokens)[origin[here]] = np.asarray(state.tokens)[here]
            logprobs.reshape(-1, max_tokens)[origin[here]] = np.asarray(state.logprobs)[here]
            ended[origin[here]] = done[here]
        if last:
            break
        if plan is not None:
            origin = np.where(plan[2], -1, _pick(origin, *plan[:2], stacked))
            state = _keep(state, *plan, stacked=stacked)
    ends = np.isin(tokens, np.asarray(settings.eos_ids))
    length = np.where(ends.any(-1), ends.argmax(-1) + 1, max_tokens).astype(np.int32)
    out = Samples(tokens, logprobs, length, ~ended.reshape(shape))
    return Samples(*(field.reshape(ids.shape[:3] + field.shape[len(shape) :]) for field in out))


def _plan(done: np.ndarray, drop_prompts: bool, stacked: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Which prompts and rows stay (arguments of `keep`), or None where that would save too little.

    Rows and prompts shrink by halves, so that few shapes are compiled.
    """
    live = ~done if stacked else ~done[None]
    batch, rows = live.shape[1:]
    fewer_rows = _halved(rows, int(live.sum(-1).max()))
    fewer_prompts = _halved(batch, int(live.any(-1).sum(-1).max())) if drop_prompts else batch
    if fewer_rows * fewer_prompts > _WORTH * rows * batch:
        return None
    order = np.argsort(~live.any(-1), axis=-1, kind="stable") if drop_prompts else np.arange(batch)[None]
    prompts = np.broadcast_to(order, live.shape[:2])[:, :fewer_prompts].astype(np.int32)
    there = np.take_along_axis(live, prompts[..., None], axis=1)
    chosen = np.argsort(~there, axis=-1, kind="stable")[..., :fewer_rows].astype(np.int32)
    filler = ~np.take_along_axis(there, chosen, axis=-1)
    plan = (prompts, chosen, filler)
    return plan if stacked else tuple(part[0] for part in plan)


def _halved(size: int, needed: int) -> int:
    """`size` halved as often as `needed` allows."""
    while -(-size // 2) >= needed and size > 1:
        size = -(-size // 2)
    return size


def _pick(x: np.ndarray, prompts: np.ndarray, rows: np.ndarray, stacked: bool) -> np.ndarray:
    if stacked:
        return np.stack([one[p[:, None], r] for one, p, r in zip(x, prompts, rows, strict=True)])
    return x[prompts[:, None], rows]


@jax.jit
def _stack(weights: tuple):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *weights)


@functools.partial(jax.jit, static_argnames=("policy", "max_tokens", "stacked"))
def _begin(policy, weights, prompts, key, ids, settings, *, max_tokens: int, stacked: bool) -> Decoding:
    def row_key(path):
        return functools.reduce(jax.random.fold_in, path, key)

    keys = jax.vmap(row_key)(ids.reshape(-1, ids.shape[-1])).reshape(ids.shape[:-1])
    if not stacked:
        rows = ids.shape[0] * ids.shape[1]
        prompts, keys = jax.tree.map(lambda x: x.reshape((rows,) + x.shape[2:]), (prompts, keys))
    return begin(policy, weights, prompts, keys, settings, max_tokens=max_tokens, stacked=stacked)


@functools.partial(jax.jit, static_argnames=("policy", "stacked"), donate_argnames="state")
def _advance(policy, weights, state, settings, until, *, stacked: bool) -> Decoding:
    return advance(policy, weights, state, settings, until, stacked=stacked)


_keep = jax.jit(keep, static_argnames="stacked")


def compiled() -> int:
    """Programs compiled so far, for tests and benchmarks that count them."""
    return sum(f._cache_size() for f in (_begin, _advance, _keep))
