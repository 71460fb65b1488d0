"""The sampler: shared-prefix prefill, and a decode loop that can pause, grow and drop rows. Pure, to be jitted.

Each prompt ``b`` has one *prefix* (computed once) and R rows. A row may add a *tail* of its own (a partner's message,
say) before it decodes. What is computed before the loop is only read by it: the prefix cache once per prompt for all of
its rows together, the tails in groups of rows of like length, so that a row without a message carries no empty slots
for one. Responses start at slot 0 of a cache of their own, whatever stands before them: the cursor is one scalar for
the whole batch and each cache write is a slice.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.integers import ceil_div
from ccpo_jax.rl.types import Array, Context, Policy, Samples
from ccpo_jax.sampler.token_sampling import TokenSampling, sample_tokens

Groups = tuple[
    tuple[int, int], ...
]  # static: rows that follow each other, and the slots their tails need

_PREFILL_TOKENS = (
    1 << 11
)  # of all rows together that run through the network at once before the loop
_ALIGNED = 64  # slots of a prefix are a multiple of it where empty ones cost nothing: whole tiles need no mask
_TAIL_ALIGNED = (
    8  # those of tails, which are computed: enough for keys to be loaded several at a time
)


class Prompts(NamedTuple):
    """Tokens to condition on. With a leading agent axis on every field when several parameter sets sample at once."""

    prefix: Array  # [B, L] int32, right-padded
    prefix_length: Array  # [B] int32, at least 1
    tail: Array  # [B, R, S] int32, left-padded; S = 0: rows have no tail
    tail_length: Array  # [B, R] int32, at least 1 unless S = 0


class Decoding(NamedTuple):
    """Responses under way. With a leading agent axis on every field but `step` when several parameter sets sample."""

    step: Array  # [] int32, counts tokens: response token i of a row that began at step f comes at step f + i
    token: Array  # [B, R] int32, the newest token
    done: Array  # [B, R] bool
    first: Array  # [B, R] int32, step at which the row began
    tokens: Array  # [B, R, T] int32, that of step s in column s mod T
    logprobs: Array  # [B, R, T] float32, likewise
    uniforms: Array  # [B, R, T] float32, the number that draws the row's token i in column i
    position: Array  # [B, R] int32, of the first response token
    context: Context  # prefixes and tails
    cache: tuple  # cache of [B, R, ...], the token of step s in slot s mod T; it may have fewer slots while s is small


def _uniforms(keys: Array, count: int) -> Array:
    """``[..., count]`` numbers that depend on a row's own key and the step alone, never on neighbours or on `count`."""

    def one(key):
        return jax.vmap(lambda step: jax.random.uniform(jax.random.fold_in(key, step)))(
            jnp.arange(count)
        )

    return jax.vmap(one)(keys.reshape(-1)).reshape(keys.shape + (count,))


def _prefill(policy: Policy, weights, prompts: Prompts, groups: Groups) -> tuple[Array, Context]:
    """Runs prefixes and tails. Returns what predicts the first tokens ``[B, R, D]`` and the context of the loop."""
    batch, length = prompts.prefix.shape
    start, end = jnp.zeros((batch, 1), jnp.int32), prompts.prefix_length[:, None] - 1
    room = length if policy.reads_free_slots else length + -length % _ALIGNED
    last, prefix = _append(
        policy, weights, prompts.prefix[:, None], start, end, policy.init_cache(batch, 1, room)
    )
    context = Context(prefix, prompts.prefix_length)
    rows, widest = prompts.tail.shape[1:]
    if widest == 0:
        return jnp.broadcast_to(last, (len(last), rows, last.shape[-1])), context
    ends, tails, starts, first = [], [], [], 0
    for count, slots in groups:
        tail = prompts.tail[:, first : first + count, widest - slots :]
        if not policy.reads_free_slots:
            tail = jnp.pad(tail, ((0, 0), (0, 0), (-slots % _TAIL_ALIGNED, 0)))
            slots = tail.shape[-1]
        start = slots - prompts.tail_length[:, first : first + count]
        empty = policy.init_cache(batch, count, slots)
        last, cache = _append(
            policy, weights, tail, start, jnp.full(start.shape, slots - 1), empty, context
        )
        ends, tails, starts = [*ends, last], [*tails, cache], [*starts, start]
        first += count
    return jnp.concatenate(ends, axis=1), context._replace(
        tails=tuple(tails), tail_starts=tuple(starts)
    )


def _append(
    policy, weights, tokens, start, last, cache, context: Context | None = None
) -> tuple[Array, tuple]:
    """Runs ``[B, R, S]`` tokens in pieces, so that scores of few queries exist at once; `cache` is empty.

    Returns what slot `last` ``[B, R]`` predicts, ``[B, R, D]``, and the cache.
    """
    batch, rows, new = tokens.shape
    count = min(new, ceil_div(batch * rows * new, _PREFILL_TOKENS))
    size = ceil_div(new, count)
    offset = 0 if context is None else context.prefix_length[:, None, None]
    positions = offset + jnp.maximum(jnp.arange(new, dtype=jnp.int32) - start[..., None], 0)

    def piece(index, cache):
        at = jnp.minimum(
            index * size, new - size
        )  # the last one may begin among what is done: it writes that again
        part, turn = (
            jax.lax.dynamic_slice_in_dim(x, at, size, axis=2) for x in (tokens, positions)
        )
        hidden, cache = policy.extend(weights, part, turn, cache, at, start, context)
        inside = jnp.clip(last - at, 0, size - 1)
        found = jnp.take_along_axis(hidden, inside[..., None, None], axis=2)[..., 0, :]
        return found, (last == at + inside)[..., None], cache

    def step(index, carried):
        here, true, cache = piece(index, carried[1])
        return jnp.where(true, here, carried[0]), cache

    found, _, _ = jax.eval_shape(piece, jnp.int32(0), cache)
    return jax.lax.fori_loop(0, count, step, (jnp.zeros(found.shape, found.dtype), cache))


def begin(
    policy: Policy,
    weights,
    prompts: Prompts,
    keys: Array,
    settings: TokenSampling,
    *,
    max_tokens: int,
    slots: int | None = None,
    groups: Groups | None = None,
    stacked: bool = False,
) -> Decoding:
    """Prefills and draws the first token of every row.

    Args:
      policy, weights, prompts, keys, settings, max_tokens, stacked: as in `sample`.
      slots: response tokens the cache has room for; `grow` makes more. None = T.
      groups: rows whose tails share a width; None = all rows, as wide as they came. A tail must fit its group's width.
    """
    lift: Callable = jax.vmap if stacked else lambda f, **_: f
    batch, rows, tail = prompts.tail.shape[stacked:]
    groups = groups or ((rows, tail),)
    hidden, context = lift(lambda w, p: _prefill(policy, w, p, groups))(weights, prompts)
    own = prompts.tail_length if tail else jnp.zeros(keys.shape, jnp.int32)
    state = Decoding(
        step=jnp.int32(-1),
        token=jnp.zeros(keys.shape, jnp.int32),
        done=jnp.zeros(keys.shape, bool),
        first=jnp.zeros(keys.shape, jnp.int32),
        tokens=jnp.full(keys.shape + (max_tokens,), settings.pad_id, jnp.int32),
        logprobs=jnp.zeros(keys.shape + (max_tokens,), jnp.float32),
        uniforms=_uniforms(keys, max_tokens),
        position=prompts.prefix_length[..., None] + own,
        context=context,
        cache=_empty(policy, keys.shape, max_tokens if slots is None else slots),
    )
    return _emit(state, lift(policy.logits)(weights, hidden), settings)


def _empty(policy: Policy, shape: tuple[int, ...], slots: int) -> tuple:
    """An empty cache for rows ``[B, R]``, with a leading agent axis if they have one."""
    cache = policy.init_cache(*shape[-2:], slots)
    return jax.tree.map(lambda x: jnp.broadcast_to(x, shape[:-2] + x.shape), cache)


def grow(policy: Policy, state: Decoding, slots: int) -> Decoding:
    """The same responses with room for `slots` tokens (static) each."""
    larger = _empty(policy, state.done.shape, slots)
    origin = jnp.int32(0)
    cache = jax.tree.map(
        lambda new, old: jax.lax.dynamic_update_slice(new, old, (origin,) * old.ndim),
        larger,
        state.cache,
    )
    return state._replace(cache=cache)


def _emit(state: Decoding, logits: Array, settings: TokenSampling) -> Decoding:
    """Draws the next token of every row that is not done."""
    step = state.step + 1
    uniform = jnp.take_along_axis(
        state.uniforms, (step - state.first)[..., None], axis=-1, mode="clip"
    )
    token, logprob = sample_tokens(logits, uniform[..., 0], settings)
    token = jnp.where(state.done, settings.pad_id, token)
    logprob = jnp.where(state.done, 0.0, logprob)
    column = (0,) * token.ndim + (step % state.tokens.shape[-1],)
    return state._replace(
        step=step,
        token=token,
        done=state.done | jnp.any(token[..., None] == settings.eos_ids, axis=-1),
        tokens=jax.lax.dynamic_update_slice(state.tokens, token[..., None], column),
        logprobs=jax.lax.dynamic_update_slice(state.logprobs, logprob[..., None], column),
    )


def advance(
    policy: Policy,
    weights,
    state: Decoding,
    settings: TokenSampling,
    until,
    *,
    stacked: bool = False,
) -> Decoding:
    """Decodes until every row has ended or `until` steps are done.

    `until` is traced; no row may pass T tokens by then, nor the steps the room of the cache.
    """
    lift: Callable = jax.vmap if stacked else lambda f, **_: f
    slots = state.tokens.shape[-1]

    def body(now: Decoding) -> Decoding:
        def one(weights, token, position, start, cache, context):
            cursor = now.step % slots
            return policy.extend(
                weights, token[..., None], position[..., None], cache, cursor, start, context
            )

        position, start = state.position + now.step - state.first, state.first % slots
        hidden, cache = lift(one)(weights, now.token, position, start, now.cache, state.context)
        return _emit(
            now._replace(cache=cache), lift(policy.logits)(weights, hidden[..., 0, :]), settings
        )

    # What never changes stays outside the loop's carry.
    still = {name: getattr(state, name) for name in ("first", "uniforms", "position", "context")}
    empty = dict.fromkeys(still, ())

    def ended(now: Decoding) -> Array:
        return (now.step + 1 < until) & ~jnp.all(now.done)

    moved = jax.lax.while_loop(
        ended, lambda now: body(now._replace(**still))._replace(**empty), state._replace(**empty)
    )
    return moved._replace(**still)


def keep(
    state: Decoding,
    prompts: Array | None,
    rows: tuple[Array, ...],
    filler: Array,
    *,
    stacked: bool = False,
) -> Decoding:
    """The same responses with fewer rows, so that the loop works on those that go on.

    Args:
      state: responses under way.
      prompts: ``[B']`` int32, prompts that stay; with a leading agent axis when `stacked`. None = all, each in its
        place, so that a batch which a mesh splits stays where it is.
      rows: for each group of rows, ``[B', r']`` int32, those of each prompt that stay, counted from the group's first;
        likewise.
      filler: ``[B', R']`` bool, True: a place without a row, counted as done; likewise.
      stacked: see `sample`.
    """
    lift: Callable = jax.vmap if stacked else lambda f, **_: f

    def take(tree, prompts, rows=None):
        def chosen(tree, prompts, rows):
            if prompts is None:
                return (
                    tree
                    if rows is None
                    else jax.tree.map(lambda x: jax.vmap(lambda y, r: y[r])(x, rows), tree)
                )
            at = prompts if rows is None else (prompts[:, None], rows)
            return jax.tree.map(lambda x: x[at], tree)

        return lift(chosen)(tree, prompts, rows)

    firsts = np.cumsum([0] + [start.shape[-1] for start in state.context.tail_starts[:-1]])
    everywhere = jnp.concatenate(
        [r + first for r, first in zip(rows, firsts, strict=True)], axis=-1
    )
    context = Context(
        prefix=take(state.context.prefix, prompts),
        prefix_length=take(state.context.prefix_length, prompts),
        tails=tuple(
            take(tail, prompts, r) for tail, r in zip(state.context.tails, rows, strict=False)
        ),
        tail_starts=tuple(
            take(start, prompts, r)
            for start, r in zip(state.context.tail_starts, rows, strict=False)
        ),
    )
    still = {"step": state.step, "context": context}
    moved = {
        name: take(value, prompts, everywhere)
        for name, value in state._asdict().items()
        if name not in still
    }
    return Decoding(**still | moved | {"done": moved["done"] | filler})


def admit(state: Decoding, new: Decoding, places: Array, *, stacked: bool = False) -> Decoding:
    """Puts prompts that have just begun into the places of prompts whose rows have all ended.

    Args:
      state: responses under way, with room for T tokens in the cache.
      new: from `begin` with the same shapes but the number of prompts; its cache is not read.
      places: ``[b]`` int32, where each new prompt goes, B = nowhere; with a leading agent axis when `stacked`.
      stacked: see `sample`.
    """
    lift: Callable = jax.vmap if stacked else lambda f, **_: f
    column = state.step % state.tokens.shape[-1]
    new = new._replace(
        first=jnp.broadcast_to(state.step, new.first.shape),
        tokens=jnp.roll(new.tokens, column, axis=-1),
        logprobs=jnp.roll(new.logprobs, column, axis=-1),
    )
    moving = [name for name in state._fields if name not in ("step", "cache")]

    def put(old, fresh, places):
        return jax.tree.map(lambda x, y: x.at[places].set(y, mode="drop"), old, fresh)

    old, fresh = ([getattr(source, name) for name in moving] for source in (state, new))
    return state._replace(**dict(zip(moving, lift(put)(old, fresh, places), strict=True)))


def responses(state: Decoding, settings: TokenSampling) -> Samples:
    """What rows that all began at step 0 have sampled so far."""
    ends = jnp.any(state.tokens[..., None] == settings.eos_ids, axis=-1)
    length = jnp.where(
        jnp.any(ends, axis=-1), jnp.argmax(ends, axis=-1) + 1, state.tokens.shape[-1]
    )
    return Samples(state.tokens, state.logprobs, length.astype(jnp.int32), ~state.done)


def sample(
    policy: Policy,
    weights,
    prompts: Prompts,
    keys: Array,
    settings: TokenSampling,
    *,
    max_tokens: int,
    groups: Groups | None = None,
    stacked: bool = False,
) -> Samples:
    """Samples one response per row in one go. Pure: wrap it in jit with `policy`, `max_tokens` and `stacked` static.

    Args:
      policy: the network's functions.
      weights: decode weights from ``policy.publish``; with a leading agent axis when `stacked`.
      prompts: what to condition on; with a leading agent axis on every field when `stacked`.
      keys: ``[B, R]`` typed PRNG keys, one per row; with a leading agent axis when `stacked`. A row's tokens depend on
        its prompt, its key and the settings, not on the rest of the batch.
      settings: traced temperature, top-p, end tokens, pad token.
      max_tokens: T, the length at which a response is cut.
      groups: see `begin`; static.
      stacked: several parameter sets of one architecture sample together, vmapped inside one loop.

    Returns:
      `Samples` ``[B, R, T]``, with a leading agent axis when `stacked`.
    """
    state = begin(
        policy,
        weights,
        prompts,
        keys,
        settings,
        max_tokens=max_tokens,
        groups=groups,
        stacked=stacked,
    )
    return responses(
        advance(policy, weights, state, settings, max_tokens, stacked=stacked), settings
    )
