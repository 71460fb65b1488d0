"""The sampler: shared-prefix prefill, and a decode loop that can pause and drop rows. Pure functions, to be jitted.

Each prompt ``b`` has one *prefix* (computed once) and R rows. A row may add a *tail* of its own (a partner's message,
say) before it decodes. The prefix cache is stored once per prompt and read by all of its rows together; tail and
response share one suffix buffer per row, left-padded so that every row's response starts at the same slot. The cursor
is therefore one scalar for the whole batch and each cache write is a slice.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ccpo_jax.records import Array, Policy, Samples

_SMALLEST = 1e-30  # probabilities below this are never drawn; keeps log() finite
_BISECTIONS = 24  # halvings of the top-p threshold: 2**-24 is float32's own resolution


class Prompts(NamedTuple):
    """Tokens to condition on. With a leading agent axis on every field when several parameter sets sample at once."""

    prefix: Array  # [B, L] int32, right-padded
    prefix_length: Array  # [B] int32, at least 1
    tail: Array  # [B, R, S] int32, left-padded; S = 0: rows have no tail
    tail_length: Array  # [B, R] int32, at least 1 unless S = 0


class Sampling(NamedTuple):
    """Traced settings: changing them never recompiles."""

    temperature: Array  # [] float32; 0 = greedy
    top_p: Array  # [] float32 in (0, 1]; 1 = the full distribution
    eos_ids: Array  # [E] int32, any of them ends a response
    pad_id: Array  # [] int32


class Decoding(NamedTuple):
    """Responses under way. With a leading agent axis on every field but `step` when several parameter sets sample."""

    step: Array  # [] int32, index of the newest token
    token: Array  # [B, R] int32, the newest token
    done: Array  # [B, R] bool
    tokens: Array  # [B, R, T] int32
    logprobs: Array  # [B, R, T] float32
    uniforms: Array  # [B, R, T] float32, the number that draws each token
    start: Array  # [B, R] int32, first slot of its suffix cache that a row may see
    position: Array  # [B, R] int32, of the first response token
    prefix_length: Array  # [B] int32
    prefix: tuple  # cache of [B, 1, L, ...]
    cache: tuple  # cache of [B, R, S + T, ...], tail and response


def sampling(*, temperature: float = 1.0, top_p: float = 1.0, eos_ids: tuple[int, ...], pad_id: int) -> Sampling:
    """Checked `Sampling` settings.

    Raises:
      ValueError: temperature below 0, top_p outside (0, 1], or no end token.
    """
    if temperature < 0:
        raise ValueError(f"sample.temperature: must be >= 0 (0 = greedy), received {temperature}")
    if not 0 < top_p <= 1:
        raise ValueError(f"sample.top_p: must be in (0, 1], received {top_p}; use 1.0 for the full distribution")
    if not eos_ids:
        raise ValueError("eos_ids: the tokenizer names no end token; add eos_token_id to generation_config.json")
    return Sampling(jnp.float32(temperature), jnp.float32(top_p), jnp.asarray(eos_ids, jnp.int32), jnp.int32(pad_id))


def token_distribution(logits: Array, temperature: Array, top_p: Array) -> tuple[Array, Array]:
    """The distribution tokens are drawn from.

    Args:
      logits: ``[..., V]`` float32.
      temperature: ``[]``; 0 leaves the logits as they are (the draw is then the argmax).
      top_p: ``[]``; the smallest set of most likely tokens with at least this mass is kept.

    Returns:
      ``(probabilities, logprobs)``, both ``[..., V]`` float32; a token outside the top-p set has probability 0.
    """
    scaled = logits / jnp.where(temperature > 0, temperature, 1.0)
    logprobs = scaled - jax.nn.logsumexp(scaled, axis=-1, keepdims=True)
    probs = jnp.exp(logprobs)

    def truncate():
        threshold = _top_p_threshold(probs, top_p)
        kept = jnp.where(probs >= threshold, probs, 0.0)
        mass = jnp.sum(kept, axis=-1, keepdims=True)
        return kept / mass, jnp.where(kept > 0, logprobs - jnp.log(mass), jnp.log(_SMALLEST))

    return jax.lax.cond(top_p < 1.0, truncate, lambda: (probs, logprobs))


def _top_p_threshold(probs: Array, top_p: Array) -> Array:
    """Largest probability whose upper set still holds `top_p` of the mass, by bisection (no sort of V entries)."""

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        enough = jnp.sum(jnp.where(probs >= middle, probs, 0.0), axis=-1, keepdims=True) >= top_p
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    high = jnp.max(probs, axis=-1, keepdims=True)
    return jax.lax.fori_loop(0, _BISECTIONS, halve, (jnp.zeros_like(high), high))[0]


def draw(logits: Array, uniform: Array, settings: Sampling) -> tuple[Array, Array]:
    """Draws one token per row by inverting the cumulative distribution.

    Args:
      logits: ``[..., V]`` float32.
      uniform: ``[...]`` float32 in [0, 1), one number per row.
      settings: temperature 0 takes the most likely token instead.

    Returns:
      ``(token [...] int32, logprob [...] float32)``, the log-probability under the distribution drawn from.
    """
    probs, logprobs = token_distribution(logits, settings.temperature, settings.top_p)
    cumulative = jnp.cumsum(probs, axis=-1)
    total = cumulative[..., -1:]
    target = jnp.minimum(uniform[..., None] * total, jnp.nextafter(total, jnp.zeros_like(total)))
    sampled = jnp.sum(cumulative <= target, axis=-1)
    token = jnp.where(settings.temperature > 0, sampled, jnp.argmax(logits, axis=-1)).astype(jnp.int32)
    return token, jnp.take_along_axis(logprobs, token[..., None], axis=-1)[..., 0]


def _uniforms(keys: Array, count: int) -> Array:
    """``[..., count]`` numbers that depend on a row's own key and the step alone, never on neighbours or on `count`."""

    def one(key):
        return jax.vmap(lambda step: jax.random.uniform(jax.random.fold_in(key, step)))(jnp.arange(count))

    return jax.vmap(one)(keys.reshape(-1)).reshape(keys.shape + (count,))


def _prefill(policy: Policy, weights, prompts: Prompts, slots: int) -> tuple[Array, tuple, tuple]:
    """Runs prefix and tails. Returns (hidden [B, R, D] that predicts each first token, prefix cache, suffix cache)."""
    batch, length = prompts.prefix.shape
    rows, tail = prompts.tail.shape[1:]
    positions = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (batch, 1, length))
    zero = jnp.zeros((batch, 1), jnp.int32)
    hidden, prefix = policy.extend(
        weights, prompts.prefix[:, None], positions, policy.init_cache(batch, 1, length), jnp.int32(0), zero
    )
    suffix = policy.init_cache(batch, rows, slots)
    if tail == 0:
        last = jnp.take_along_axis(hidden[:, 0], (prompts.prefix_length - 1)[:, None, None], axis=1)
        return jnp.broadcast_to(last, (batch, rows, last.shape[-1])), prefix, suffix
    start = tail - prompts.tail_length
    positions = prompts.prefix_length[:, None, None] + jnp.maximum(jnp.arange(tail) - start[..., None], 0)
    hidden, suffix = policy.extend(
        weights, prompts.tail, positions, suffix, jnp.int32(0), start, prefix, prompts.prefix_length
    )
    return hidden[:, :, -1], prefix, suffix


def begin(
    policy: Policy,
    weights,
    prompts: Prompts,
    keys: Array,
    settings: Sampling,
    *,
    max_tokens: int,
    stacked: bool = False,
) -> Decoding:
    """Prefills and draws the first token of every row. Arguments as in `sample`."""
    lift: Callable = jax.vmap if stacked else lambda f, **_: f
    tail = prompts.tail.shape[-1]
    hidden, prefix, cache = lift(lambda w, p: _prefill(policy, w, p, tail + max_tokens))(weights, prompts)
    own = prompts.tail_length if tail else jnp.zeros(keys.shape, jnp.int32)
    state = Decoding(
        step=jnp.int32(-1),
        token=jnp.zeros(keys.shape, jnp.int32),
        done=jnp.zeros(keys.shape, bool),
        tokens=jnp.full(keys.shape + (max_tokens,), settings.pad_id, jnp.int32),
        logprobs=jnp.zeros(keys.shape + (max_tokens,), jnp.float32),
        uniforms=_uniforms(keys, max_tokens),
        start=tail - own,
        position=prompts.prefix_length[..., None] + own,
        prefix_length=prompts.prefix_length,
        prefix=prefix,
        cache=cache,
    )
    return _emit(state, lift(policy.logits)(weights, hidden), settings)


def _emit(state: Decoding, logits: Array, settings: Sampling) -> Decoding:
    """Draws the next token of every row that is not done."""
    step = state.step + 1
    token, logprob = draw(logits, jnp.take(state.uniforms, step, axis=-1), settings)
    token = jnp.where(state.done, settings.pad_id, token)
    logprob = jnp.where(state.done, 0.0, logprob)
    column = (0,) * token.ndim + (step,)
    return state._replace(
        step=step,
        token=token,
        done=state.done | jnp.any(token[..., None] == settings.eos_ids, axis=-1),
        tokens=jax.lax.dynamic_update_slice(state.tokens, token[..., None], column),
        logprobs=jax.lax.dynamic_update_slice(state.logprobs, logprob[..., None], column),
    )


def advance(policy: Policy, weights, state: Decoding, settings: Sampling, until, *, stacked: bool = False) -> Decoding:
    """Decodes until every row has ended or has `until` tokens (traced, at most T)."""
    lift: Callable = jax.vmap if stacked else lambda f, **_: f
    slots = jax.tree.leaves(state.cache)[0].shape[2 + stacked]
    tail = slots - state.tokens.shape[-1]

    def body(now: Decoding) -> Decoding:
        def one(weights, token, position, cache, start, prefix, prefix_length):
            cursor = tail + now.step
            return policy.extend(
                weights, token[..., None], position[..., None], cache, cursor, start, prefix, prefix_length
            )

        position = state.position + now.step
        hidden, cache = lift(one)(
            weights, now.token, position, now.cache, state.start, state.prefix, state.prefix_length
        )
        return _emit(now._replace(cache=cache), lift(policy.logits)(weights, hidden[..., 0, :]), settings)

    # What never changes stays outside the loop's carry.
    still = {name: getattr(state, name) for name in ("uniforms", "start", "position", "prefix_length", "prefix")}
    empty = dict.fromkeys(still, ())

    def ended(now: Decoding) -> Array:
        return (now.step + 1 < until) & ~jnp.all(now.done)

    moved = jax.lax.while_loop(
        ended, lambda now: body(now._replace(**still))._replace(**empty), state._replace(**empty)
    )
    return moved._replace(**still)


def keep(state: Decoding, prompts: Array, rows: Array, filler: Array, *, stacked: bool = False) -> Decoding:
    """The same responses with fewer rows, so that the loop works on those that go on.

    Args:
      state: responses under way.
      prompts: ``[B']`` int32, prompts that stay; with a leading agent axis when `stacked`.
      rows: ``[B', R']`` int32, rows of each that stay; likewise.
      filler: ``[B', R']`` bool, True: a place without a row, counted as done; likewise.
      stacked: see `sample`.
    """
    lift: Callable = jax.vmap if stacked else lambda f, **_: f

    def per_row(tree):
        return jax.tree.map(lift(lambda x, p, r: x[p[:, None], r]), tree, *_like(tree, prompts, rows))

    def per_prompt(tree):
        return jax.tree.map(lift(lambda x, p: x[p]), tree, *_like(tree, prompts))

    kept = {
        name: per_prompt(value) if name.startswith("prefix") else per_row(value)
        for name, value in state._asdict().items()
        if name != "step"
    }
    return Decoding(step=state.step, **kept | {"done": kept["done"] | filler})


def _like(tree, *values):
    """Each value at every leaf of `tree`."""
    return [jax.tree.map(lambda _, value=value: value, tree) for value in values]


def responses(state: Decoding, settings: Sampling) -> Samples:
    """What has been sampled so far."""
    ends = jnp.any(state.tokens[..., None] == settings.eos_ids, axis=-1)
    length = jnp.where(jnp.any(ends, axis=-1), jnp.argmax(ends, axis=-1) + 1, state.tokens.shape[-1])
    return Samples(state.tokens, state.logprobs, length.astype(jnp.int32), ~state.done)


def sample(
    policy: Policy,
    weights,
    prompts: Prompts,
    keys: Array,
    settings: Sampling,
    *,
    max_tokens: int,
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
      stacked: several parameter sets of one architecture sample together, vmapped inside one loop.

    Returns:
      `Samples` ``[B, R, T]``, with a leading agent axis when `stacked`.
    """
    state = begin(policy, weights, prompts, keys, settings, max_tokens=max_tokens, stacked=stacked)
    return responses(advance(policy, weights, state, settings, max_tokens, stacked=stacked), settings)
