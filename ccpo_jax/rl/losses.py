"""Policy-gradient losses on the log-probabilities of sampled tokens.

All losses share one call, ``loss(logprobs, old_logprobs, advantage, mask, *, ...) -> (loss,
metrics)``. Only `logprobs` carries a gradient. Masked tokens have no influence: a padded batch has
the loss of its unpadded slice.

A batch may be processed in micro-batches. Give each one ``totals=batch_totals(advantage, mask)`` of
the *whole* batch, and add up losses, gradients and metrics; of `ratio_max` take the maximum.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.errors import InputError
from ccpo_jax.rl.types import Array, BatchTotals

# Keeps exp finite in float32, and is far outside every clipping range.
_LARGEST_LOG_RATIO = 20.0
_EPS = 1e-6


def batch_totals(advantage: ArrayLike, mask: ArrayLike) -> BatchTotals:
    """Denominators and token statistics of a whole batch, for the losses of its micro-batches.

    Args:
      advantage: ``[N]`` float.
      mask: ``[N, T]`` bool, True = a sampled token.

    Returns:
      BatchTotals of ``[]`` float32: sequences with a kept token, kept tokens, and the mean and
      standard deviation over kept tokens of their sequence's advantage.

    Example:
      >>> mask = jnp.array([[True, True], [False, False]])
      >>> totals = batch_totals(jnp.array([1.0, 5.0]), mask)
      >>> float(totals.num_sequences), float(totals.tokens), float(totals.advantage_mean)
      (1.0, 2.0, 1.0)
    """
    mask = jnp.asarray(mask, bool)
    length = mask.sum(axis=-1).astype(jnp.float32)
    advantage = jnp.where(length > 0, jnp.asarray(advantage, jnp.float32), 0.0)

    tokens = length.sum()
    mean = (length * advantage).sum() / jnp.maximum(tokens, 1.0)
    var = (length * jnp.square(advantage - mean)).sum() / jnp.maximum(tokens, 1.0)
    return BatchTotals(
        num_sequences=(length > 0).sum().astype(jnp.float32),
        tokens=tokens,
        advantage_mean=mean,
        advantage_std=jnp.sqrt(var),
    )


def policy_gradient_loss(
    logprobs: ArrayLike,
    old_logprobs: ArrayLike,
    advantage: ArrayLike,
    mask: ArrayLike,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    ratio: str = "token",
    normalize: str = "sequence",
    max_length: int | None = None,
    totals: BatchTotals | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Clipped importance-weighted policy gradient: GRPO and its relatives.

        loss = -mean of min(rho * A, clip(rho, 1 - clip_low, 1 + clip_high) * A),
        rho = exp(logprobs - old_logprobs)

    | method | options |
    |---|---|
    | GRPO | the defaults |
    | version 1 of CCPO | ratio="sequence" |
    | DAPO | clip_high=0.28, normalize="token" |
    | Dr.GRPO | normalize="length", max_length=... (and advantages without std) |

    Reference: GRPO arXiv:2402.03300, DAPO arXiv:2503.14476, Dr.GRPO arXiv:2503.20783, CCPO
    arXiv:2603.21563.

    Args:
      logprobs: ``[N, T]`` natural-log probabilities of the sampled tokens, with gradient.
      old_logprobs: ``[N, T]`` those of the policy that sampled them.
      advantage: ``[N]`` float, one value per sequence.
      mask: ``[N, T]`` bool, True = a sampled token.
      clip_low: the ratio is clipped below 1 - clip_low.
      clip_high: the ratio is clipped above 1 + clip_high.
      dual_clip: where A < 0, bounds a token's loss to this multiple of |A| (3 is common); None = no
        bound.
      ratio: "token", or "sequence": the geometric mean over the sequence.
      normalize: "sequence" = mean over sequences of their token means, "token" = mean over the
        batch's tokens, "length" = mean over sequences of their token sums / `max_length`.
      max_length: largest number of tokens in a response, for normalize="length".
      totals: of the whole batch, if this is a micro-batch of it.

    Returns:
      ``[]`` float32 loss, and ``[]`` float32 metrics over the kept tokens: clip_fraction,
      ratio_mean, ratio_max and approx_kl (nats per token, of the old policy from the new).

    Raises:
      InputError: `loss.ratio` or `loss.normalize`, if unknown; `loss.max_length`, if missing.

    Example:
      >>> logprobs = jnp.log(jnp.array([[0.5, 0.5], [0.5, 0.5]]))
      >>> mask = jnp.array([[True, True], [True, False]])
      >>> float(policy_gradient_loss(logprobs, logprobs, jnp.array([1.0, -3.0]), mask)[0])
      1.0
    """
    if ratio not in ("token", "sequence"):
        raise InputError("loss.ratio", f"{ratio!r:.80} is unknown; use 'token' or 'sequence'")
    mask = jnp.asarray(mask, bool)
    totals = batch_totals(advantage, mask) if totals is None else totals

    token_log_ratio = _log_ratio(logprobs, old_logprobs, mask)
    log_ratio = token_log_ratio if ratio == "token" else _sequence_mean(token_log_ratio, mask)
    values, clipped, ratios = _clipped_loss(log_ratio, advantage, clip_low, clip_high, dual_clip)

    loss = _reduce(values, mask, totals, normalize, max_length)
    return loss, _metrics(token_log_ratio, ratios, clipped, mask, totals)


def gspo_loss(
    logprobs: ArrayLike,
    old_logprobs: ArrayLike,
    advantage: ArrayLike,
    mask: ArrayLike,
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
    totals: BatchTotals | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Group sequence policy optimisation: the ratio of the sequence, the gradient of every token.

        s = exp(mean over tokens of (logprobs - old_logprobs)),
        s_t = stop(s) * exp(logprobs_t - stop(logprobs_t)),
        loss = -mean over sequences of mean over tokens of
               min(s_t * A, clip(s_t, 1 - clip_low, 1 + clip_high) * A)

    Reference: GSPO arXiv:2507.18071 (the token variant); clip range as in the later versions of
    arXiv:2603.21563.

    Args:
      logprobs: ``[N, T]`` natural-log probabilities of the sampled tokens, with gradient.
      old_logprobs: ``[N, T]`` those of the policy that sampled them.
      advantage: ``[N]`` float, one value per sequence.
      mask: ``[N, T]`` bool, True = a sampled token.
      clip_low: the ratio is clipped below 1 - clip_low.
      clip_high: the ratio is clipped above 1 + clip_high.
      totals: of the whole batch, if this is a micro-batch of it.

    Returns:
      ``[]`` float32 loss and metrics, as `policy_gradient_loss`.

    Example:
      >>> logprobs = jnp.log(jnp.array([[0.5, 0.5]]))
      >>> mask = jnp.array([[True, True]])
      >>> float(gspo_loss(logprobs, logprobs, jnp.array([2.0]), mask)[0])
      -2.0
    """
    mask = jnp.asarray(mask, bool)
    totals = batch_totals(advantage, mask) if totals is None else totals

    token_log_ratio = _log_ratio(logprobs, old_logprobs, mask)
    sequence = jax.lax.stop_gradient(_sequence_mean(token_log_ratio, mask))
    log_ratio = sequence + (token_log_ratio - jax.lax.stop_gradient(token_log_ratio))
    values, clipped, ratios = _clipped_loss(log_ratio, advantage, clip_low, clip_high, None)

    loss = _reduce(values, mask, totals, "sequence", None)
    return loss, _metrics(token_log_ratio, ratios, clipped, mask, totals)


def reinforce_pp_loss(
    logprobs: ArrayLike,
    old_logprobs: ArrayLike,
    advantage: ArrayLike,
    mask: ArrayLike,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    totals: BatchTotals | None = None,
) -> tuple[Array, dict[str, Array]]:
    """REINFORCE++: no group baseline; rewards are whitened over the tokens of the batch.

        A = (r - mean over tokens of r) / (std over tokens of r + 1e-6),
        loss = clipped loss, mean over tokens

    It takes credit, not group advantages. A batch of equal rewards has loss 0.

    Reference: REINFORCE++ arXiv:2501.03262.

    Args:
      logprobs: ``[N, T]`` natural-log probabilities of the sampled tokens, with gradient.
      old_logprobs: ``[N, T]`` those of the policy that sampled them.
      advantage: ``[N]`` float, the credit r of each sequence.
      mask: ``[N, T]`` bool, True = a sampled token.
      clip_low: the ratio is clipped below 1 - clip_low.
      clip_high: the ratio is clipped above 1 + clip_high.
      totals: of the whole batch, if this is a micro-batch of it; the whitening uses it.

    Returns:
      ``[]`` float32 loss and metrics, as `policy_gradient_loss`.

    Example:
      >>> logprobs = jnp.log(jnp.array([[0.5, 0.5], [0.5, 0.5]]))
      >>> mask = jnp.array([[True, True], [True, True]])
      >>> loss, _ = reinforce_pp_loss(logprobs, logprobs, jnp.array([1.0, 0.0]), mask)
      >>> abs(float(loss)) < 1e-6
      True
    """
    totals = batch_totals(advantage, mask) if totals is None else totals

    # A spread below float32 rounding is no spread.
    centred = jnp.asarray(advantage, jnp.float32) - totals.advantage_mean
    varies = totals.advantage_std > _EPS * jnp.maximum(jnp.abs(totals.advantage_mean), 1.0)
    whitened = jnp.where(varies, centred / (totals.advantage_std + _EPS), 0.0)

    return policy_gradient_loss(
        logprobs,
        old_logprobs,
        whitened,
        mask,
        clip_low=clip_low,
        clip_high=clip_high,
        normalize="token",
        totals=totals,
    )


def _log_ratio(logprobs: ArrayLike, old_logprobs: ArrayLike, mask: Array) -> Array:
    """``[N, T]`` float32, 0 where masked."""
    # Selecting before subtracting keeps garbage in masked places out of values and gradients.
    new = jnp.where(mask, jnp.asarray(logprobs, jnp.float32), 0.0)
    old = jnp.where(mask, jnp.asarray(old_logprobs, jnp.float32), 0.0)
    return new - jax.lax.stop_gradient(old)


def _sequence_mean(values: Array, mask: Array) -> Array:
    """``[N, T] -> [N, T]``: every token gets its sequence's mean; `values` are 0 where masked."""
    mean = values.sum(axis=-1, keepdims=True) / jnp.maximum(mask.sum(axis=-1, keepdims=True), 1)
    return jnp.broadcast_to(mean, values.shape)


def _clipped_loss(
    log_ratio: Array,
    advantage: ArrayLike,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
) -> tuple[Array, Array, Array]:
    """``[N, T]`` each: a token's loss, whether clipping removed its gradient, and its ratio."""
    advantage = jax.lax.stop_gradient(jnp.asarray(advantage, jnp.float32))[:, None]
    ratio = jnp.exp(jnp.clip(log_ratio, -_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO))

    unclipped = ratio * advantage
    objective = jnp.minimum(unclipped, jnp.clip(ratio, 1.0 - clip_low, 1.0 + clip_high) * advantage)
    clipped = objective < unclipped
    if dual_clip is not None:
        limit = jnp.where(advantage < 0, dual_clip * advantage, -jnp.inf)
        clipped = clipped | (objective < limit)
        objective = jnp.maximum(objective, limit)
    return -objective, clipped, ratio


def _reduce(
    values: Array, mask: Array, totals: BatchTotals, normalize: str, max_length: int | None
) -> Array:
    """``[N, T]`` token losses into the ``[]`` loss."""
    kept = jnp.where(mask, values, 0.0)
    if normalize == "token":
        return kept.sum() / jnp.maximum(totals.tokens, 1.0)
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
    return (kept.sum(axis=-1) / length).sum() / jnp.maximum(totals.num_sequences, 1.0)


def _metrics(
    token_log_ratio: Array, ratio: Array, clipped: Array, mask: Array, totals: BatchTotals
) -> dict[str, Array]:
    """Means over the batch's kept tokens, each ``[]`` float32."""
    token_log_ratio, ratio = jax.lax.stop_gradient((token_log_ratio, ratio))
    log_ratio = jnp.clip(token_log_ratio, -_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO)

    def mean(values):
        return jnp.where(mask, values, 0.0).sum() / jnp.maximum(totals.tokens, 1.0)

    return {
        "clip_fraction": mean(clipped.astype(jnp.float32)),
        "ratio_mean": mean(ratio),
        "ratio_max": jnp.where(mask, ratio, 0.0).max(initial=0.0),
        "approx_kl": mean(jnp.exp(log_ratio) - 1.0 - log_ratio),
    }


# The loss of config field loss.name.
LOSSES: dict[str, Callable[..., tuple[Array, dict[str, Array]]]] = {
    "grpo": policy_gradient_loss,
    "gspo": gspo_loss,
    "reinforce_pp": reinforce_pp_loss,
}
