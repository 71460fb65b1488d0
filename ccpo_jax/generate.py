"""Generation from the host: the decode loop in chunks, between which rows that have ended leave the batch."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.records import Policy, Samples
from ccpo_jax.sampler import Decoding, Groups, Prompts, Sampling, advance, begin, grow, keep

_LEAST = 8  # rows below which a smaller batch saves nothing: a step then costs what reading the weights costs
_SLOTS = 64  # tokens that the caches have room for at first


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
      chunk: tokens between two looks at which rows have ended.
      groups: rows of a prompt whose tails share a width, see `begin`; None = all rows, as wide as they came.
      drop_prompts: prompts whose rows have all ended leave as well; False where prompts are spread over devices.

    Returns:
      `Samples` ``[A', B, R, T]`` on the host: the same tokens for any `chunk`.
    """
    stacked = len(weights) > 1
    weights = _stack(tuple(weights)) if stacked else weights[0]
    groups = groups or (prompts.tail.shape[2:],)
    slots, until = min(max(chunk, _SLOTS), max_tokens), min(chunk, max_tokens)
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
    """Which rows stay, and where: the arguments of `keep`."""

    prompts: np.ndarray
    rows: tuple[np.ndarray, ...]
    filler: np.ndarray


def _rungs(batch: int, sizes: tuple[int, ...], drop_prompts: bool) -> list[tuple[int, tuple[int, ...]]]:
    """Smaller batches, (prompts, rows of each group), smallest first: few, so that few programs are compiled.

    Rows halve first: what they read of the prompts stays the same until each has one, then prompts halve.
    """
    rungs = []
    while batch * sum(sizes) > _LEAST:
        if max(sizes) > 1:
            sizes = tuple(-(-size // 2) for size in sizes)
        elif drop_prompts and batch > 1:
            batch = -(-batch // 2)
        else:
            break
        rungs.append((batch, sizes))
    return rungs[::-1]


def _plan(done: np.ndarray, sizes: tuple[int, ...], drop_prompts: bool, stacked: bool) -> _Plan | None:
    """The smallest batch that holds all live rows, or None where that is the batch as it is.

    A prompt with more live rows than the batch has for it takes several places; it has none without live rows. Where
    prompts must stay (`drop_prompts` False) each keeps the one it has.
    """
    live = ~done if stacked else ~done[None]
    groups = np.split(live, np.cumsum(sizes)[:-1], axis=-1)
    left = np.stack([group.sum(-1) for group in groups])  # [groups, A', B]
    for batch, smaller in _rungs(live.shape[1], sizes, drop_prompts):
        places = np.max(-(-left // np.array(smaller)[:, None, None]), axis=0)  # [A', B] places that each prompt needs
        if not drop_prompts:
            places = np.maximum(places, 1)
        if places.sum(-1).max() <= batch:
            plan = _seat(groups, places, batch, smaller)
            return plan if stacked else jax.tree.map(lambda x: x[0], plan)
    return None


def _seat(groups: list[np.ndarray], places: np.ndarray, batch: int, sizes: tuple[int, ...]) -> _Plan:
    """Gives the live rows of every prompt their places."""
    agents = len(places)
    prompts = np.zeros((agents, batch), np.int32)
    rows = tuple(np.zeros((agents, batch, size), np.int32) for size in sizes)
    taken = tuple(np.zeros(chosen.shape, bool) for chosen in rows)
    for agent in range(agents):
        own = np.repeat(np.arange(places.shape[1]), places[agent])
        prompts[agent, : len(own)] = own
        for place, prompt in enumerate(own):
            part = place - int(np.searchsorted(own, prompt))
            for group, size, chosen, used in zip(groups, sizes, rows, taken, strict=True):
                found = np.flatnonzero(group[agent, prompt])[part * size :][:size]
                chosen[agent, place, : len(found)], used[agent, place, : len(found)] = found, True
    return _Plan(prompts, rows, ~np.concatenate(taken, axis=-1))


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
