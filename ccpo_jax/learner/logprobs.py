"""Log-probability and entropy of response tokens, a few tokens' logits at a time.

The backward pass is written by hand. For each chunk of tokens it recomputes the logits, and from
them, the saved normaliser and the saved entropy it computes their gradient in one pass over the
vocabulary. Automatic differentiation would run the reductions again, cast the output table once per
chunk, and keep residuals of every chunk.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ccpo_jax.integers import ceil_div
from ccpo_jax.learner.packing import PackedBatch
from ccpo_jax.rl.types import Array, Policy


def response_logprobs(
    policy: Policy,
    params: Any,
    batch: PackedBatch,
    temperature: Array,
    *,
    logits_chunk: int,
    entropy_gradient: bool = True,
) -> tuple[Array, Array]:
    """Log-probability and entropy of every response token; ``[N, T, V]`` logits never exist.

    Args:
      policy: the network's functions.
      params: master parameters.
      batch: a micro-batch with M packed rows.
      temperature: ``[]``, the sampling temperature; 0 counts as 1.
      logits_chunk: tokens whose logits exist at once; chunks without a response token are skipped.
      entropy_gradient: False: the entropy is only reported, and costs nothing in the backward pass.

    Returns:
      ``(logprobs, entropy)``, both ``[M * R, T]`` float32, nats; values past the end of a response
      are undefined.
    """
    packs, slots = batch.source.shape
    size = min(max(logits_chunk // packs, 1), slots)
    padding = ((0, 0), (0, -slots % size))
    params = policy.gather(params)
    hidden = policy.hidden(params, batch.tokens, batch.positions, batch.segments, batch.parents)
    hidden = jnp.take_along_axis(hidden, jnp.pad(batch.source, padding)[..., None], axis=1)
    scale = 1.0 / jnp.where(temperature > 0, temperature, 1.0)
    head = policy.head(params)
    target = jnp.pad(batch.target, padding)
    used = jnp.max(batch.used)
    # Any: a type checker does not see through custom_vjp.
    per_token: Any = token_logprobs(
        policy.logits, size, entropy_gradient, head, hidden, target, used, scale
    )
    logprobs, entropy = per_token

    responses, width = batch.old_logprobs.shape[1:]
    index = jnp.minimum(batch.first[..., None] + jnp.arange(width), slots - 1).reshape(packs, -1)

    def by_response(values: Array) -> Array:
        return jnp.take_along_axis(values, index, axis=1).reshape(packs * responses, width)

    return by_response(logprobs), by_response(entropy)


@functools.partial(jax.jit, static_argnames=("policy", "logits_chunk"))
def packed_logprobs(
    policy: Policy, params: Any, batch: PackedBatch, temperature: Array, *, logits_chunk: int
) -> Array:
    """Log-probabilities ``[M, R, T]`` of a micro-batch, compiled; values past the end of a response
    are undefined.
    """
    logprobs, _ = response_logprobs(policy, params, batch, temperature, logits_chunk=logits_chunk)
    return logprobs.reshape(batch.old_logprobs.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def token_logprobs(
    logits: Callable[[Any, Array], Array],
    chunk: int,
    entropy_gradient: bool,
    head: Any,
    states: Array,
    targets: Array,
    used: Array,
    scale: Array,
) -> tuple[Array, Array]:
    """Log-probability and entropy of K tokens in each of M rows; chunks past the last used token
    are skipped.

    Args:
      logits: (head, ``[..., D]``) -> ``[..., V]`` float32, `Policy.logits`.
      chunk: tokens of each row whose logits exist at once; it divides K.
      entropy_gradient: False: the entropy is only reported, and costs nothing in the backward pass.
      head: the parameters that `logits` reads; gradients accumulate in their dtype.
      states: ``[M, K, D]`` hidden states that predict the tokens.
      targets: ``[M, K]`` int32, the tokens.
      used: ``[]`` int32, how many of the K are in use in any row.
      scale: ``[]`` float32, one over the temperature; it gets no gradient.

    Returns:
      ``(logprobs, entropy)``, both ``[M, K]`` float32, nats; 0 in chunks that were skipped.

    Raises:
      ValueError: `chunk` does not divide K.
    """
    return _forward(logits, chunk, entropy_gradient, head, states, targets, used, scale)[0]


def _forward(
    logits: Callable[[Any, Array], Array],
    chunk: int,
    entropy_gradient: bool,
    head: Any,
    states: Array,
    targets: Array,
    used: Array,
    scale: Array,
):
    # Of the backward pass.
    del entropy_gradient
    if targets.shape[1] % chunk:
        raise ValueError(
            f"chunk: {chunk} does not divide the {targets.shape[1]} tokens of a row; pad them first"
        )
    low = _cast(head, states)
    used = jnp.minimum(used, targets.shape[1])

    def one_chunk(index, results):
        x, chosen = _cut(index, chunk, states, targets)
        values = logits(low, x) * scale
        largest = jnp.max(values, axis=-1, keepdims=True)
        weights = jnp.exp(values - largest)
        total = jnp.sum(weights, axis=-1)
        # How far the mean logit lies below the largest, at most 0.
        below = jnp.sum(weights * (values - largest), axis=-1) / total
        norm = largest[..., 0] + jnp.log(total)
        picked = jnp.take_along_axis(values, chosen[..., None], axis=-1)[..., 0] - norm
        entropy = jnp.log(total) - below
        return _paste(index, chunk, results, (picked, entropy, norm))

    zeros = jnp.zeros(targets.shape, jnp.float32)
    picked, entropy, norm = jax.lax.fori_loop(
        0, ceil_div(used, chunk), one_chunk, (zeros, zeros, zeros)
    )
    return (picked, entropy), (head, states, targets, used, scale, entropy, norm)


def _backward(
    logits: Callable[[Any, Array], Array], chunk: int, entropy_gradient: bool, residuals, gradients
):
    head, states, targets, used, scale, entropy, norm = residuals
    low = _cast(head, states)

    def one_chunk(index, sums):
        head_gradient, states_gradient = sums
        x, *per_token = _cut(index, chunk, states, targets, entropy, norm, *gradients)
        chosen, level, zero, to_picked, to_entropy = (value[..., None] for value in per_token)

        values, pull = jax.vjp(functools.partial(logits, low), x)
        logprobs = values * scale - zero
        probs = jnp.exp(logprobs)
        slope = to_picked * ((jnp.arange(values.shape[-1]) == chosen) - probs)
        if entropy_gradient:
            slope = slope - to_entropy * probs * (logprobs + level)
        slope = slope * scale

        # With respect to `head`, not `low`: sums over chunks keep the dtype of the master
        # parameters.
        _, pull_head = jax.vjp(lambda head: logits(head, x), head)
        head_gradient = jax.tree.map(jnp.add, head_gradient, *pull_head(slope))
        return head_gradient, _paste(index, chunk, states_gradient, *pull(slope))

    zeros = jax.tree.map(jnp.zeros_like, (head, states))
    head_gradient, states_gradient = jax.lax.fori_loop(0, ceil_div(used, chunk), one_chunk, zeros)
    return head_gradient, states_gradient, None, None, jnp.zeros_like(scale)


token_logprobs.defvjp(_forward, _backward)


def _cast(head: Any, states: Array) -> Any:
    """The output table in the dtype of the matrix products, cast once for all chunks."""
    return jax.tree.map(lambda x: x.astype(states.dtype), head)


def _cut(index: Array, chunk: int, *arrays: Array) -> tuple[Array, ...]:
    """The tokens of one chunk, of every array."""
    return tuple(jax.lax.dynamic_slice_in_dim(x, index * chunk, chunk, axis=1) for x in arrays)


def _paste(index: Array, chunk: int, arrays: Any, chunks: Any) -> Any:
    """`arrays` with one chunk of each replaced."""
    put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=index * chunk, axis=1)
    return jax.tree.map(put, arrays, chunks)
