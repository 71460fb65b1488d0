"""The decode loop: prefill, decode, grow the cache, shrink and refill the batch. To be jitted.

Each prompt ``b`` has one *prefix*, computed once, and R rows. A row may add a *tail* of its own (a
partner's message, say) before it decodes. The loop only reads what is computed before it: the
prefix cache, once per prompt for all of its rows, and the tails, in groups of rows of similar
length, so that a row without a message carries no empty slots for one. Responses start at slot 0 of
a cache of their own, whatever stands before them: the cursor is one scalar for the whole batch, and
each cache write is a slice.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.integers import ceil_div
from ccpo_jax.rl.types import Array, Context, HostArray, Policy, Samples
from ccpo_jax.sampler.stop_table import ACCEPT, START
from ccpo_jax.sampler.token_sampling import (
    TokenSampling,
    collision_probability,
    sample_tokens,
)

# Groups of rows that follow each other: (rows, slots that their tails need). Static.
TailGroups = tuple[tuple[int, int], ...]

# Tokens, over all rows, that one pass of the prefill runs through the network.
_PREFILL_TOKENS = 2048
# Slots of a prefix are a multiple of it where empty slots cost nothing: whole tiles need no mask.
_PREFIX_ALIGNMENT = 64
# Likewise of a tail, whose empty slots are computed: just enough to load several keys at a time.
_TAIL_ALIGNMENT = 8


class Prompts(NamedTuple):
    """Tokens to condition on; stacked agents have a leading agent axis on every field."""

    prefix: Array | HostArray  # shape=[B, L], dtype=int32, right-padded
    prefix_length: Array | HostArray  # shape=[B], dtype=int32, at least 1
    tail: Array | HostArray  # shape=[B, R, S], dtype=int32, left-padded; S = 0: rows have no tail
    tail_length: Array | HostArray  # shape=[B, R], dtype=int32, at least 1 unless S = 0


class AgentWeights(NamedTuple):
    """Decode weights of stacked agents, some of which they share, such as a base under adapters.

    Both trees have the structure of one agent's weights; where one has an array, the other has
    None. A product with shared weights is one product for the rows of all agents.
    """

    shared: Any  # the same for all agents
    own: Any  # with a leading agent axis

    def whole(self) -> Any:
        """The weights as one tree."""
        return jax.tree.map(
            lambda shared, own: own if shared is None else shared,
            *self,
            is_leaf=lambda node: node is None,
        )


class StopProgress(NamedTuple):
    """How far responses have come towards a stop string."""

    # shape=[B, R], dtype=uint8: state of the stop table.
    state: Array
    # shape=[B, R], dtype=int32: tokens of the response so far. Where it ended cannot be told from
    # its tokens alone, as it can where end tokens alone end one.
    length: Array


class DecodeState(NamedTuple):
    """Responses under way; stacked agents have a leading agent axis on every field but `step`."""

    # shape=[], dtype=int32: counts tokens. Token i of a response that began at step f is drawn at
    # step f + i.
    step: Array
    # shape=[B, R], dtype=int32: the newest token.
    token: Array
    # shape=[B, R], dtype=bool: the response has ended.
    done: Array
    # shape=[B, R], dtype=int32: step at which the response began.
    began: Array
    # shape=[B, R, T], dtype=int32: the token of step s is in column s mod T.
    tokens: Array
    # shape=[B, R, T], dtype=float32: likewise.
    logprobs: Array
    # shape=[B, R, T], dtype=float32: the number in column i draws token i of the response.
    uniforms: Array
    # shape=[B, R], dtype=int32: position of the first response token.
    position: Array
    # Prefixes and tails.
    context: Context
    # Cache of [B, R, ...]: the token of step s is in slot s mod T. It may have fewer slots while s
    # is small.
    cache: Any
    # None = there are no stop strings.
    stop: StopProgress | None = None
    # shape=[B, R, T], dtype=float32: see `Samples.collision`, in columns as `tokens`; None = not
    # recorded.
    collision: Array | None = None


def sample(
    policy: Policy,
    weights: Any,
    prompts: Prompts,
    keys: Array,
    settings: TokenSampling,
    *,
    max_tokens: int,
    tail_groups: TailGroups | None = None,
    stacked: bool = False,
    record_collision: bool = False,
) -> Samples:
    """Samples one response per row in one go.

    Pure: wrap it in `jax.jit` with `policy`, `max_tokens`, `tail_groups` and `stacked` static. For
    batches of ragged length, `ccpo_jax.sampler.generate.generate` samples the same tokens sooner:
    it drops rows that have ended.

    Args:
      policy: the network's functions.
      weights: decode weights from ``policy.publish``; when `stacked`, with a leading agent axis or
        as `AgentWeights`.
      prompts: what to condition on; with a leading agent axis on every field when `stacked`.
      keys: ``[B, R]`` typed PRNG keys, one per row; with a leading agent axis when `stacked`. A
        row's tokens depend on its prompt, its key and the settings, not on the rest of the batch.
      settings: traced temperature, filters, end tokens, pad token and stop table, see
        `token_sampling`.
      max_tokens: T, the length at which a response is cut.
      tail_groups: see `prefill`.
      stacked: True: several parameter sets of one architecture sample together, vmapped inside one
        loop.
      record_collision: whether to record `Samples.collision`.

    Returns:
      `Samples` ``[B, R, T]``, with a leading agent axis when `stacked`. Log-probabilities are of
      the distribution that was sampled from, in nats.
    """
    state = prefill(
        policy,
        weights,
        prompts,
        keys,
        settings,
        max_tokens=max_tokens,
        tail_groups=tail_groups,
        stacked=stacked,
        record_collision=record_collision,
    )
    state = decode(policy, weights, state, settings, max_tokens, stacked=stacked)
    return _as_samples(state, settings)


def _as_samples(state: DecodeState, settings: TokenSampling) -> Samples:
    """The responses so far, of rows that all began at step 0."""
    if state.stop is not None:
        return Samples(
            state.tokens, state.logprobs, state.stop.length, ~state.done, state.collision
        )
    ends = jnp.any(state.tokens[..., None] == settings.eos_ids, axis=-1)
    length = jnp.where(
        jnp.any(ends, axis=-1), jnp.argmax(ends, axis=-1) + 1, state.tokens.shape[-1]
    )
    return Samples(
        state.tokens, state.logprobs, length.astype(jnp.int32), ~state.done, state.collision
    )


def prefill(
    policy: Policy,
    weights: Any,
    prompts: Prompts,
    keys: Array,
    settings: TokenSampling,
    *,
    max_tokens: int,
    cache_slots: int | None = None,
    tail_groups: TailGroups | None = None,
    stacked: bool = False,
    record_collision: bool = False,
) -> DecodeState:
    """Runs the prompts and draws the first token of every row.

    Args:
      policy, weights, prompts, keys, settings, max_tokens, stacked: as in `sample`.
      cache_slots: response tokens that fit into the cache; `grow_cache` makes more. None = T.
      tail_groups: which rows share a tail width. A tail must fit the width of its group. None = all
        rows, as wide as they came.
      record_collision: whether the responses record `Samples.collision`.
    """
    rows, tail_slots = prompts.tail.shape[-2:]
    groups = tail_groups or ((rows, tail_slots),)
    encode = _with_weights(stacked, lambda w, p: encode_prompts(policy, w, p, groups))
    hidden, context = encode(weights, prompts)
    logits = _with_weights(stacked, policy.logits)
    position = jnp.asarray(prompts.prefix_length)[..., None]
    tail_length = prompts.tail_length if tail_slots else jnp.zeros(keys.shape, jnp.int32)
    state = DecodeState(
        step=jnp.int32(-1),
        token=jnp.zeros(keys.shape, jnp.int32),
        done=jnp.zeros(keys.shape, bool),
        began=jnp.zeros(keys.shape, jnp.int32),
        tokens=jnp.full((*keys.shape, max_tokens), settings.pad_id, jnp.int32),
        logprobs=jnp.zeros((*keys.shape, max_tokens), jnp.float32),
        uniforms=_uniforms(keys, max_tokens),
        position=position + tail_length,
        context=context,
        cache=_empty_cache(policy, keys.shape, max_tokens if cache_slots is None else cache_slots),
        stop=None if settings.stop_table is None else _first_progress(keys.shape),
        collision=jnp.zeros((*keys.shape, max_tokens)) if record_collision else None,
    )
    return _draw_token(state, logits(weights, hidden), settings)


def _first_progress(shape: tuple[int, ...]) -> StopProgress:
    """Responses without a token."""
    return StopProgress(jnp.full(shape, START, jnp.uint8), jnp.zeros(shape, jnp.int32))


def _per_agent(stacked: bool, function: Callable) -> Callable:
    """`function`, vmapped over a leading agent axis of every argument when `stacked`."""
    return jax.vmap(function) if stacked else function


def _with_weights(stacked: bool, function: Callable) -> Callable:
    """`_per_agent` of a function whose first argument are decode weights."""
    if not stacked:
        return function

    def of_agents(weights: Any, *arguments: Any) -> Any:
        if not isinstance(weights, AgentWeights):
            return jax.vmap(function)(weights, *arguments)
        axes = (AgentWeights(shared=None, own=0), *(0 for _ in arguments))
        return jax.vmap(lambda w, *own: function(w.whole(), *own), axes)(weights, *arguments)

    return of_agents


def _uniforms(keys: Array, count: int) -> Array:
    """``[..., count]`` numbers; each depends on its row's key and its step alone."""

    def of_row(key: Array) -> Array:
        def of_step(step: Array) -> Array:
            return jax.random.uniform(jax.random.fold_in(key, step))

        return jax.vmap(of_step)(jnp.arange(count))

    return jax.vmap(of_row)(keys.reshape(-1)).reshape((*keys.shape, count))


def encode_prompts(
    policy: Policy,
    weights: Any,
    prompts: Prompts,
    tail_groups: TailGroups,
    *,
    tokens_per_pass: int = _PREFILL_TOKENS,
) -> tuple[Array, Context]:
    """Runs prefixes and tails through the network.

    Args:
      policy, weights, prompts: as in `sample`, not stacked.
      tail_groups: see `prefill`.
      tokens_per_pass: most tokens, over all rows, that run at once; bounds the attention scores
        that exist at once.

    Returns:
      ``(hidden [B, R, D] that predicts the first tokens, context of the decode loop)``.
    """
    batch, length = prompts.prefix.shape
    prefix_length = jnp.asarray(prompts.prefix_length)
    slots = length
    if not policy.reads_free_slots:
        slots = ceil_div(length, _PREFIX_ALIGNMENT) * _PREFIX_ALIGNMENT
    prefix = _Segment(
        tokens=jnp.asarray(prompts.prefix)[:, None],
        first=jnp.zeros((batch, 1), jnp.int32),
        last=prefix_length[:, None] - 1,
    )
    empty = policy.init_cache(batch, 1, slots)
    hidden, prefix_cache = _append(policy, weights, prefix, empty, None, tokens_per_pass)
    context = Context(prefix_cache, prefix_length)
    rows, tail_slots = prompts.tail.shape[1:]

    if tail_slots == 0:
        return jnp.broadcast_to(hidden, (len(hidden), rows, hidden.shape[-1])), context

    group_hidden, tails, tail_starts = [], [], []
    first_row = 0
    for num_rows, width in tail_groups:
        here = slice(first_row, first_row + num_rows)
        tokens = jnp.asarray(prompts.tail)[:, here, tail_slots - width :]
        if not policy.reads_free_slots:
            tokens = jnp.pad(tokens, ((0, 0), (0, 0), (-width % _TAIL_ALIGNMENT, 0)))
        slots = tokens.shape[-1]
        start = slots - jnp.asarray(prompts.tail_length)[:, here]
        tail = _Segment(tokens, first=start, last=jnp.full(start.shape, slots - 1))
        empty = policy.init_cache(batch, num_rows, slots)
        hidden, tail_cache = _append(policy, weights, tail, empty, context, tokens_per_pass)
        group_hidden.append(hidden)
        tails.append(tail_cache)
        tail_starts.append(start)
        first_row += num_rows
    context = context._replace(tails=tuple(tails), tail_starts=tuple(tail_starts))
    return jnp.concatenate(group_hidden, axis=1), context


class _Segment(NamedTuple):
    """Tokens that enter the cache together."""

    tokens: Array  # shape=[B, R, S], dtype=int32
    first: (
        Array  # shape=[B, R], dtype=int32, first slot in use: what lies before it is left padding
    )
    last: Array  # shape=[B, R], dtype=int32, slot whose prediction is wanted


def _append(
    policy: Policy,
    weights: Any,
    segment: _Segment,
    cache: Any,
    context: Context | None,
    tokens_per_pass: int,
) -> tuple[Array, Any]:
    """Runs a segment in pieces of equal length; `cache` is empty.

    Returns:
      ``(hidden [B, R, D] that slot `last` predicts with, cache)``.
    """
    batch, rows, length = segment.tokens.shape
    num_pieces = min(length, ceil_div(batch * rows * length, tokens_per_pass))
    size = ceil_div(length, num_pieces)
    offset = 0 if context is None else context.prefix_length[:, None, None]
    slots = jnp.arange(length, dtype=jnp.int32)
    positions = offset + jnp.maximum(slots - segment.first[..., None], 0)

    def run_piece(index: Array, cache: Any) -> tuple[Array, Array, Any]:
        # The last piece may overlap the one before it: it then writes some slots again.
        cursor = jnp.minimum(index * size, length - size)
        tokens_here = jax.lax.dynamic_slice_in_dim(segment.tokens, cursor, size, axis=2)
        positions_here = jax.lax.dynamic_slice_in_dim(positions, cursor, size, axis=2)
        hidden, cache = policy.extend(
            weights, tokens_here, positions_here, cache, cursor, segment.first, context
        )
        column = jnp.clip(segment.last - cursor, 0, size - 1)
        at_column = jnp.take_along_axis(hidden, column[..., None, None], axis=2)[..., 0, :]
        holds_last = (segment.last == cursor + column)[..., None]
        return at_column, holds_last, cache

    def step(index: Array, carry: tuple[Array, Any]) -> tuple[Array, Any]:
        last_hidden, cache = carry
        at_column, holds_last, cache = run_piece(index, cache)
        return jnp.where(holds_last, at_column, last_hidden), cache

    shape, _, _ = jax.eval_shape(run_piece, jnp.int32(0), cache)
    return jax.lax.fori_loop(0, num_pieces, step, (jnp.zeros(shape.shape, shape.dtype), cache))


def _empty_cache(policy: Policy, shape: tuple[int, ...], slots: int) -> Any:
    """An empty cache for rows ``[B, R]``, with a leading agent axis if they have one."""
    cache = policy.init_cache(*shape[-2:], slots)
    return jax.tree.map(lambda x: jnp.broadcast_to(x, shape[:-2] + x.shape), cache)


def decode(
    policy: Policy,
    weights: Any,
    state: DecodeState,
    settings: TokenSampling,
    until: Array | int,
    *,
    stacked: bool = False,
) -> DecodeState:
    """Decodes until every response has ended or `until` steps are done.

    `until` is traced. By then no response may pass T tokens, and no step may pass the slots of the
    cache.
    """
    max_tokens = state.tokens.shape[-1]
    logits = _with_weights(stacked, policy.logits)

    def body(state: DecodeState) -> DecodeState:
        def extend_by_one(weights, token, position, start, cache, context):
            cursor = state.step % max_tokens
            return policy.extend(
                weights, token[..., None], position[..., None], cache, cursor, start, context
            )

        position = state.position + state.step - state.began
        start = state.began % max_tokens
        hidden, cache = _with_weights(stacked, extend_by_one)(
            weights, state.token, position, start, state.cache, state.context
        )
        state = state._replace(cache=cache)
        return _draw_token(state, logits(weights, hidden[..., 0, :]), settings)

    def goes_on(state: DecodeState) -> Array:
        return (state.step + 1 < until) & ~jnp.all(state.done)

    # What never changes stays outside the loop's carry, so that the loop does not copy it.
    fixed = {name: getattr(state, name) for name in ("began", "uniforms", "position", "context")}
    left_out = dict.fromkeys(fixed, ())

    def carried_body(carry: DecodeState) -> DecodeState:
        return body(carry._replace(**fixed))._replace(**left_out)

    carry = jax.lax.while_loop(goes_on, carried_body, state._replace(**left_out))
    return carry._replace(**fixed)


def _draw_token(state: DecodeState, logits: Array, settings: TokenSampling) -> DecodeState:
    """Draws the next token of every response that has not ended."""
    step = state.step + 1
    uniform = jnp.take_along_axis(
        state.uniforms, (step - state.began)[..., None], axis=-1, mode="clip"
    )
    token, logprob = sample_tokens(logits, uniform[..., 0], settings)
    token = jnp.where(state.done, settings.pad_id, token)
    logprob = jnp.where(state.done, 0.0, logprob)
    column = (0,) * token.ndim + (step % state.tokens.shape[-1],)
    collision = state.collision
    if collision is not None:
        newest = collision_probability(logits, settings.temperature)
        newest = jnp.where(state.done, 0.0, newest)
        collision = jax.lax.dynamic_update_slice(collision, newest[..., None], column)
    ended = jnp.any(token[..., None] == settings.eos_ids, axis=-1)
    stop = state.stop
    if stop is not None:
        stop = _advance(stop, token, state.done, settings)
        ended = ended | (stop.state == ACCEPT)
    return state._replace(
        step=step,
        token=token,
        done=state.done | ended,
        stop=stop,
        collision=collision,
        tokens=jax.lax.dynamic_update_slice(state.tokens, token[..., None], column),
        logprobs=jax.lax.dynamic_update_slice(state.logprobs, logprob[..., None], column),
    )


def _advance(
    stop: StopProgress, token: Array, done: Array, settings: TokenSampling
) -> StopProgress:
    """Takes the newest tokens into account; nothing changes where a response had ended."""
    assert settings.stop_table is not None, "the same stop strings from the first token on"
    # Ids beyond the table share its last column.
    reached = settings.stop_table.at[stop.state, token].get(mode="clip")
    return StopProgress(
        state=jnp.where(done, stop.state, reached),
        length=stop.length + jnp.where(done, 0, 1),
    )


def grow_cache(policy: Policy, state: DecodeState, slots: int) -> DecodeState:
    """The same responses in a cache of `slots` tokens (static)."""
    larger = _empty_cache(policy, state.done.shape, slots)
    zero = jnp.int32(0)
    cache = jax.tree.map(
        lambda new, old: jax.lax.dynamic_update_slice(new, old, (zero,) * old.ndim),
        larger,
        state.cache,
    )
    return state._replace(cache=cache)


def compact(
    state: DecodeState,
    prompts: Array | None,
    rows: tuple[Array, ...],
    empty: Array,
    *,
    stacked: bool = False,
) -> DecodeState:
    """The same responses in a smaller batch, so that the loop works on those that have not ended.

    Args:
      state: responses under way.
      prompts: ``[B']`` int32, prompts that stay. None = all, each in its place, so that a batch
        which a mesh splits is not moved between devices.
      rows: for each tail group, ``[B', r']`` int32, rows of each prompt that stay, counted from the
        group's first row.
      empty: ``[B', R']`` bool, True: no response sits here; counted as ended.
      stacked: see `sample`. `prompts`, `rows` and `empty` then have a leading agent axis.
    """

    def take_prompts(tree: Any) -> Any:
        def take(tree: Any, prompts: Array | None) -> Any:
            return tree if prompts is None else jax.tree.map(lambda x: x[prompts], tree)

        return _per_agent(stacked, take)(tree, prompts)

    def take_rows(tree: Any, rows: Array) -> Any:
        def take(tree: Any, prompts: Array | None, rows: Array) -> Any:
            if prompts is None:
                return jax.tree.map(lambda x: jax.vmap(lambda y, r: y[r])(x, rows), tree)
            return jax.tree.map(lambda x: x[prompts[:, None], rows], tree)

        return _per_agent(stacked, take)(tree, prompts, rows)

    old = state.context
    context = Context(
        prefix=take_prompts(old.prefix),
        prefix_length=take_prompts(old.prefix_length),
        # Without tails there is nothing to take, though `rows` has its one group.
        tails=tuple(take_rows(*pair) for pair in zip(old.tails, rows, strict=False)),
        tail_starts=tuple(take_rows(*pair) for pair in zip(old.tail_starts, rows, strict=False)),
    )
    first_rows = np.cumsum([0] + [start.shape[-1] for start in old.tail_starts[:-1]])
    all_rows = jnp.concatenate(
        [group + first for group, first in zip(rows, first_rows, strict=True)], axis=-1
    )
    changed = {
        name: take_rows(value, all_rows)
        for name, value in state._asdict().items()
        if name not in ("step", "context")
    }
    changed["done"] = changed["done"] | empty
    return DecodeState(step=state.step, context=context, **changed)


def insert(
    state: DecodeState, new: DecodeState, targets: Array, *, stacked: bool = False
) -> DecodeState:
    """Puts prompts that have just begun into the places of prompts whose responses have all ended.

    Args:
      state: responses under way, with room for T tokens in the cache.
      new: from `prefill`, with the same shapes but for the number of prompts; its cache is not
        read.
      targets: ``[b]`` int32, where each new prompt goes, B = nowhere; with a leading agent axis
        when `stacked`.
      stacked: see `sample`.
    """
    column = state.step % state.tokens.shape[-1]
    new = new._replace(
        began=jnp.broadcast_to(state.step, new.began.shape),
        tokens=jnp.roll(new.tokens, column, axis=-1),
        logprobs=jnp.roll(new.logprobs, column, axis=-1),
        collision=jax.tree.map(lambda x: jnp.roll(x, column, axis=-1), new.collision),
    )

    def put(old: Any, fresh: Any, targets: Array) -> Any:
        return jax.tree.map(lambda x, y: x.at[targets].set(y, mode="drop"), old, fresh)

    names = [name for name in state._fields if name not in ("step", "cache")]
    old = [getattr(state, name) for name in names]
    fresh = [getattr(new, name) for name in names]
    merged = _per_agent(stacked, put)(old, fresh, targets)
    return state._replace(**dict(zip(names, merged, strict=True)))
