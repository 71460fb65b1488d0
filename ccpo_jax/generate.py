"""Generation from the host: the decode loop in chunks, between which rows that have ended leave the batch."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.records import Policy, Samples
from ccpo_jax.sampler import Decoding, Groups, Prompts, Sampling, advance, begin, grow, keep

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
    groups: Groups | None = None,
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
      chunk: tokens between two looks at which rows have ended, and what the caches have room for at first.
      groups: rows of a prompt whose tails share a width, see `begin`; None = all rows, as wide as they came.
      drop_prompts: prompts whose rows have all ended leave as well; False where prompts are spread over devices.

    Returns:
      `Samples` ``[A', B, R, T]`` on the host: the same tokens for any `chunk`.
    """
    stacked = len(weights) > 1
    weights = _stack(tuple(weights)) if stacked else weights[0]
    groups = groups or (prompts.tail.shape[2:],)
    slots = until = min(chunk, max_tokens)
    state = _begin(
        policy, weights, prompts, key, ids, settings,
        max_tokens=max_tokens, slots=slots, groups=groups, stacked=stacked,
    )  # fmt: skip
    sizes = tuple(rows for rows, _ in groups)
    shape = state.done.shape
    tokens = np.full((*shape, max_tokens), np.asarray(settings.pad_id), np.int32)
    logprobs = np.zeros((*shape, max_tokens), np.float32)
    origin = np.arange(np.prod(shape)).reshape(shape)  # where each row belongs in the result; -1: nowhere
    ended = np.zeros(shape, bool).reshape(-1)
    while True:
        state = _advance(policy, weights, state, settings, np.int32(until), stacked=stacked)
        done = np.asarray(state.done)
        last = done.all() or until == max_tokens
        plan = None if last else _plan(done | (origin < 0), sizes, drop_prompts, stacked)
        if last or plan is not None:
            here = origin >= 0
            tokens.reshape(-1, max_tokens)[origin[here]] = np.asarray(state.tokens)[here]
            logprobs.reshape(-1, max_tokens)[origin[here]] = np.asarray(state.logprobs)[here]
            ended[origin[here]] = done[here]
        if last:
            break
        if plan is not None:
            origin = np.where(plan.filler, -1, _pick(origin, plan, sizes, stacked))
            sizes = tuple(rows.shape[-1] for rows in plan.rows)
            state = _keep(state, *plan, stacked=stacked)
        until = min(until + chunk, max_tokens)
        if until > slots:
            slots = min(2 * slots, max_tokens)
            state = _grow(policy, state, slots=slots)
    ends = np.isin(tokens, np.asarray(settings.eos_ids))
    length = np.where(ends.any(-1), ends.argmax(-1) + 1, max_tokens).astype(np.int32)
    out = Samples(tokens, logprobs, length, ~ended.reshape(shape))
    return Samples(*(field.reshape(ids.shape[:3] + field.shape[len(shape) :]) for field in out))


class _Plan(NamedTuple):
    """Which prompts and rows stay: the arguments of `keep`."""

    prompts: np.ndarray
    rows: tuple[np.ndarray, ...]
    filler: np.ndarray


def _plan(done: np.ndarray, sizes: tuple[int, ...], drop_prompts: bool, stacked: bool) -> _Plan | None:
    """Which prompts and rows stay, or None where that would save too little.

    Rows of each group and prompts shrink by halves, so that few shapes are compiled.
    """
    live = ~done if stacked else ~done[None]
    batch, rows = live.shape[1:]
    fewer_prompts = _halved(batch, int(live.any(-1).sum(-1).max())) if drop_prompts else batch
    order = np.argsort(~live.any(-1), axis=-1, kind="stable") if drop_prompts else np.arange(batch)[None]
    prompts = np.broadcast_to(order, live.shape[:2])[:, :fewer_prompts].astype(np.int32)
    chosen, filler = [], []
    for group in np.split(np.take_along_axis(live, prompts[..., None], axis=1), np.cumsum(sizes)[:-1], axis=-1):
        fewer_rows = _halved(group.shape[-1], int(group.sum(-1).max()))
        chosen.append(np.argsort(~group, axis=-1, kind="stable")[..., :fewer_rows].astype(np.int32))
        filler.append(~np.take_along_axis(group, chosen[-1], axis=-1))
    if fewer_prompts * sum(group.shape[-1] for group in chosen) > _WORTH * rows * batch:
        return None
    plan = _Plan(prompts, tuple(chosen), np.concatenate(filler, axis=-1))
    return plan if stacked else jax.tree.map(lambda x: x[0], plan)


def _halved(size: int, needed: int) -> int:
    """`size` halved as often as `needed` allows."""
    while -(-size // 2) >= needed and size > 1:
        size = -(-size // 2)
    return size


def _pick(x: np.ndarray, plan: _Plan, sizes: tuple[int, ...], stacked: bool) -> np.ndarray:
    """What stays of ``[B, R]`` (with a leading agent axis when `stacked`)."""
    firsts = np.cumsum((0, *sizes[:-1]))
    rows = np.concatenate([rows + first for rows, first in zip(plan.rows, firsts, strict=True)], axis=-1)
    agents = (np.arange(len(x))[:, None, None],) if stacked else ()
    return x[(*agents, plan.prompts[..., None], rows)]


@jax.jit
def _stack(weights: tuple):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *weights)


@functools.partial(jax.jit, static_argnames=("policy", "max_tokens", "slots", "groups", "stacked"))
def _begin(policy, weights, prompts, key, ids, settings, *, stacked: bool, **shape) -> Decoding:
    def row_key(path):
        return functools.reduce(jax.random.fold_in, path, key)

    keys = jax.vmap(row_key)(ids.reshape(-1, ids.shape[-1])).reshape(ids.shape[:-1])
    if not stacked:
        rows = ids.shape[0] * ids.shape[1]
        prompts, keys = jax.tree.map(lambda x: x.reshape((rows,) + x.shape[2:]), (prompts, keys))
    return begin(policy, weights, prompts, keys, settings, stacked=stacked, **shape)


@functools.partial(jax.jit, static_argnames=("policy", "stacked"), donate_argnames="state")
def _advance(policy, weights, state, settings, until, *, stacked: bool) -> Decoding:
    return advance(policy, weights, state, settings, until, stacked=stacked)


_keep = jax.jit(keep, static_argnames="stacked")
_grow = jax.jit(grow, static_argnames=("policy", "slots"))


def compiled() -> int:
    """Programs compiled so far, for tests and benchmarks that count them."""
    return sum(f._cache_size() for f in (_begin, _advance, _keep, _grow))
