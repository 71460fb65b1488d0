"""What all losses are made of: probability ratios, means over a batch, and metrics.

A batch may be processed in micro-batches, so every mean divides by the totals of the whole batch.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.errors import InputError
from ccpo_jax.rl.types import Array, BatchTotals

# Keeps exp finite in float32, and is far outside every clipping range.
LARGEST_LOG_RATIO = 20.0


def batch_totals(advantage: ArrayLike, mask: ArrayLike) -> BatchTotals:
    """Denominators and token statistics of a whole batch, for the losses of its micro-batches.

    Args:
      advantage: ``[N]`` float, or ``[N, T]``: one for each token.
      mask: ``[N, T]`` bool, True = a sampled token.

    Returns:
      BatchTotals of ``[]`` float32: sequences with a kept token, kept tokens, and the mean and
      standard deviation over kept tokens of their advantage.

    Example:
      >>> mask = jnp.array([[True, True], [False, False]])
      >>> totals = batch_totals(jnp.array([1.0, 5.0]), mask)
      >>> float(totals.num_sequences), float(totals.tokens), float(totals.advantage_mean)
      (1.0, 2.0, 1.0)
    """
    mask = jnp.asarray(mask, bool)
    length = mask.sum(axis=-1).astype(jnp.float32)
    advantage = jnp.asarray(advantage, jnp.float32)
    # Tokens that share an advantage: all of a sequence, or each its own.
    count = length if advantage.ndim == 1 else mask.astype(jnp.float32)
    advantage = jnp.where(count > 0, advantage, 0.0)

    tokens = length.sum()
    mean = (count * advantage).sum() / jnp.maximum(tokens, 1.0)
    var = (count * jnp.square(advantage - mean)).sum() / jnp.maximum(tokens, 1.0)
    return BatchTotals(
        num_sequences=(length > 0).sum().astype(jnp.float32),
        tokens=tokens,
        advantage_mean=mean,
        advantage_std=jnp.sqrt(var),
    )


def log_ratio(logprobs: ArrayLike, old_logprobs: ArrayLike, mask: Array) -> Array:
    """``[N, T]`` float32, 0 where masked; only `logprobs` carries a gradient."""
    new = kept(logprobs, mask)
    old = kept(old_logprobs, mask)
    return new - jax.lax.stop_gradient(old)


def kept(values: ArrayLike, mask: Array) -> Array:
    """``[N, T]`` float32 values, 0 where masked.

    Selecting before computing keeps garbage in masked places out of values and gradients.
    """
    return jnp.where(mask, jnp.asarray(values, jnp.float32), 0.0)


def bounded_exp(log_ratio: Array) -> Array:
    """``exp``, finite and with gradient 0 where the logarithm is beyond any clipping range."""
    return jnp.exp(jnp.clip(log_ratio, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO))


def per_token(advantage: ArrayLike) -> Array:
    """``[N] -> [N, 1]`` float32 without gradient, to multiply the tokens of each sequence; one
    advantage for each token, ``[N, T]``, stays as it is.
    """
    advantage = jax.lax.stop_gradient(jnp.asarray(advantage, jnp.float32))
    return advantage if advantage.ndim == 2 else advantage[:, None]


def sequence_mean(values: Array, mask: Array) -> Array:
    """``[N, T] -> [N, T]``: every token gets its sequence's mean; `values` are 0 where masked."""
    mean = values.sum(axis=-1, keepdims=True) / jnp.maximum(mask.sum(axis=-1, keepdims=True), 1)
    return jnp.broadcast_to(mean, values.shape)


def batch_mean(
    values: Array,
    mask: Array,
    totals: BatchTotals,
    normalize: str,
    max_length: int | None = None,
) -> Array:
    """``[N, T]`` token losses into the ``[]`` loss; see `policy_gradient_loss` for `normalize`."""
    of_tokens = jnp.where(mask, values, 0.0)
    if normalize == "token":
        return of_tokens.sum() / jnp.maximum(totals.tokens, 1.0)
    if normalize == "sequence":
        length = jnp.maximum(mask.sum(axis=-1), 1)
    elif normalize == "length":
        if not max_length:
            raise InputError(
                "loss.max_length",
                f"normalize='length' divides by it, received {max_length}; use a number of tokens",
            )
        length = max_length
    else:
        raise InputError(
            "loss.normalize",
            f"{normalize!r:.80} is unknown; use 'sequence', 'token' or 'length'",
        )
    return (of_tokens.sum(axis=-1) / length).sum() / jnp.maximum(totals.num_sequences, 1.0)


def ratio_metrics(
    token_log_ratio: Array, ratio: Array, clipped: Array, mask: Array, totals: BatchTotals
) -> dict[str, Array]:
    """Means over the batch's kept tokens, each ``[]`` float32; of `ratio_max` the maximum.

    Args:
      token_log_ratio: ``[N, T]``, 0 where masked.
      ratio: ``[N, T]``, what the loss compares with its clipping range.
      clipped: ``[N, T]`` bool, True = the range bounds the token's gradient.
      mask: ``[N, T]`` bool.
      totals: of the whole batch.
    """
    token_log_ratio, ratio = jax.lax.stop_gradient((token_log_ratio, ratio))
    log_ratio = jnp.clip(token_log_ratio, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)

    def mean(values: Array) -> Array:
        return batch_mean(values, mask, totals, "token")

    return {
        "clip_fraction": mean(clipped.astype(jnp.float32)),
        "ratio_mean": mean(ratio),
        "ratio_max": jnp.where(mask, ratio, 0.0).max(initial=0.0),
        "approx_kl": mean(jnp.exp(log_ratio) - 1.0 - log_ratio),
    }
