"""Log-probability and entropy of response tokens from hidden states, with the logits of a few tokens at a time.

The way back is written out. It computes the logits of a piece again, and from them and what the way forth left behind
(one normaliser and one entropy per token) their gradient in one pass over the vocabulary. Differentiation would go
through the reductions once more, cast the vocabulary's table for each piece, and keep what it needs of each.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ccpo_jax.integers import ceil_div
from ccpo_jax.rl.types import Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def scores(
    logits: Callable[[Any, Array], Array],
    size: int,
    entropy_gradient: bool,
    head: Any,
    states: Array,
    targets: Array,
    used: Array,
    scale: Array,
) -> tuple[Array, Array]:
    """Scores of K tokens in each of M rows; pieces without a used one are skipped.

    Args:
      logits: (head, ``[..., D]``) -> ``[..., V]`` float32, `Policy.logits`.
      size: tokens of each row whose logits exist at once; it divides K.
      entropy_gradient: False: the entropy is a number alone, and costs nothing on the way back.
      head: the parameters that `logits` reads; gradients are added up in their dtype.
      states: ``[M, K, D]`` hidden states that predict the tokens.
      targets: ``[M, K]`` int32, the tokens.
      used: ``[]`` int32, how many of the K are in use in any row.
      scale: ``[]`` float32, one over the temperature; it gets no gradient.

    Returns:
      ``(logprobs, entropy)``, both ``[M, K]`` float32, nats; 0 in pieces that were skipped.

    Raises:
      ValueError: `size` does not divide K.
    """
    return _forward(logits, size, entropy_gradient, head, states, targets, used, scale)[0]


def _forward(logits, size, entropy_gradient, head, states, targets, used, scale):
    if targets.shape[1] % size:
        raise ValueError(
            f"size: {size} does not divide the {targets.shape[1]} tokens of a row; pad them first"
        )
    low, used = _cast(head, states), jnp.minimum(used, targets.shape[1])

    def piece(index, found):
        x, chosen = _cut(index, size, states, targets)
        values = logits(low, x) * scale
        most = jnp.max(values, axis=-1, keepdims=True)
        weights = jnp.exp(values - most)
        total = jnp.sum(weights, axis=-1)
        below = (
            jnp.sum(weights * (values - most), axis=-1) / total
        )  # of the mean logit below the largest
        norm = most[..., 0] + jnp.log(total)
        picked = jnp.take_along_axis(values, chosen[..., None], axis=-1)[..., 0] - norm
        return _paste(index, size, found, (picked, jnp.log(total) - below, norm))

    nothing = jnp.zeros(targets.shape, jnp.float32)
    picked, entropy, norm = jax.lax.fori_loop(
        0, ceil_div(used, size), piece, (nothing, nothing, nothing)
    )
    return (picked, entropy), (head, states, targets, used, scale, entropy, norm)


def _backward(logits, size, entropy_gradient, kept, gradients):
    head, states, targets, used, scale, entropy, norm = kept
    low = _cast(head, states)

    def piece(index, carried):
        to_head, to_states = carried
        x, *about = _cut(index, size, states, targets, entropy, norm, *gradients)
        chosen, level, zero, to_picked, to_entropy = (value[..., None] for value in about)
        values, pull = jax.vjp(functools.partial(logits, low), x)
        logprobs = values * scale - zero
        shares = jnp.exp(logprobs)
        slope = to_picked * ((jnp.arange(values.shape[-1]) == chosen) - shares)
        if entropy_gradient:
            slope = slope - to_entropy * shares * (logprobs + level)
        slope = slope * scale
        _, pull_head = jax.vjp(
            lambda head: logits(head, x), head
        )  # not of `low`: sums keep the dtype of `head`
        to_head = jax.tree.map(jnp.add, to_head, *pull_head(slope))
        return to_head, _paste(index, size, to_states, *pull(slope))

    nothing = jax.tree.map(jnp.zeros_like, (head, states))
    to_head, to_states = jax.lax.fori_loop(0, ceil_div(used, size), piece, nothing)
    return to_head, to_states, None, None, jnp.zeros_like(scale)


scores.defvjp(_forward, _backward)


def _cast(head, states: Array):
    """The table as products with `states` read it, once for all pieces."""
    return jax.tree.map(lambda x: x.astype(states.dtype), head)


def _cut(index, size: int, *whole: Array) -> tuple[Array, ...]:
    return tuple(jax.lax.dynamic_slice_in_dim(x, index * size, size, axis=1) for x in whole)


def _paste(index, size: int, whole, parts):
    put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=index * size, axis=1)
    return jax.tree.map(put, whole, parts)
