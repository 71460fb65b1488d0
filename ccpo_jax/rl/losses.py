"""Policy-gradient losses on log-probabilities of sampled tokens.

All losses share one call, ``loss(logprobs, old_logprobs, advantage, mask, *, ...) -> (loss, metrics)``. Only
`logprobs` carries a gradient. What `mask` drops has no influence: a padded batch has the loss of its unpadded slice.

A batch can be worked through in micro-batches: give each one ``totals=batch_totals(advantage, mask)`` of the *whole*
batch, and add up losses, gradients and metrics (the largest ratio apart, of which one takes the maximum).
"""

import jax
import jax.numpy as jnp

from ccpo_jax.rl.types import Array, BatchTotals

_LARGEST_LOG_RATIO = 20.0  # keeps exp finite in float32; far outside every clipping range
_EPS = 1e-6


def batch_totals(advantage: Array, mask: Array) -> BatchTotals:
    """Denominators and token statistics of a whole batch, for losses of its micro-batches.

    Args:
      advantage: ``[N]``.
      mask: ``[N, T]`` bool.

    Returns:
      BatchTotals of ``[]`` float32: rows with any token, tokens, mean and standard deviation of a token's advantage.

    Example:
      >>> totals = batch_totals(jnp.array([1.0, 5.0]), jnp.array([[True, True], [False, False]]))
      >>> float(totals.num_sequences), float(totals.tokens), float(totals.advantage_mean)
      (1.0, 2.0, 1.0)
    """
    mask = jnp.asarray(mask, bool)
    length = mask.sum(axis=-1).astype(jnp.float32)
    advantage = jnp.where(length > 0, jnp.asarray(advantage, jnp.float32), 0.0)
    tokens = length.sum()
    mean = (length * advantage).sum() / jnp.maximum(tokens, 1.0)
    var = (length * jnp.square(advantage - mean)).sum() / jnp.maximum(tokens, 1.0)
    return BatchTotals((length > 0).sum().astype(jnp.float32), tokens, mean, jnp.sqrt(var))


def policy_gradient_loss(
    logprobs: Array,
    old_logprobs: Array,
    advantage: Array,
    mask: Array,
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

        loss = -mean of min(rho * A, clip(rho, 1 - clip_low, 1 + clip_high) * A),    rho = exp(logprobs - old_logprobs)

    | method | options |
    |---|---|
    | GRPO | the defaults |
    | version 1 of CCPO | ratio="sequence" |
    | DAPO | clip_high=0.28, normalize="token" |
    | Dr.GRPO | normalize="length", max_length=... (and advantages without std) |

    Reference: GRPO arXiv:2402.03300, DAPO arXiv:2503.14476, Dr.GRPO arXiv:2503.20783, CCPO arXiv:2603.21563.

    Args:
      logprobs: ``[N, T]`` natural-log probabilities of the sampled tokens, with gradient.
      old_logprobs: ``[N, T]`` of the policy that sampled them.
      advantage: ``[N]``.
      mask: ``[N, T]`` bool, True = a sampled token.
      clip_low: how far the ratio may fall below 1.
      clip_high: how far it may rise above 1.
      dual_clip: where A < 0, a token is charged at most this multiple of |A| (usual: 3); None = no limit.
      ratio: "token", or "sequence": the geometric mean over the sequence.
      normalize: "sequence" = mean over sequences of their token means, "token" = mean over the batch's tokens,
        "length" = mean over sequences of their token sums / `max_length`.
      max_length: tokens a response may have, for normalize="length".
      totals: of the whole batch when this is a micro-batch of it.

    Returns:
      ``[]`` float32 loss, and ``[]`` float32 metrics over the kept tokens: clip_fraction, ratio_mean, ratio_max and
      approx_kl (nats per token, of the old policy from the new).

    Raises:
      ValueError: if `ratio` or `normalize` is unknown or `max_length` is missing.

    Example:
      >>> logprobs = jnp.log(jnp.array([[0.5, 0.5], [0.5, 0.5]]))
      >>> mask = jnp.array([[True, True], [True, False]])
      >>> float(policy_gradient_loss(logprobs, logprobs, jnp.array([1.0, -3.0]), mask)[0])
      1.0
    """
    if ratio not in ("token", "sequence"):
        raise ValueError(f"loss.ratio: {ratio!r:.80} is unknown; use 'token' or 'sequence'")
    mask = jnp.asarray(mask, bool)
    token_log_ratio = _log_ratio(logprobs, old_logprobs, mask)
    log_ratio = token_log_ratio if ratio == "token" else _sequence_mean(token_log_ratio, mask)
    values, clipped, ratios = _surrogate(log_ratio, advantage, clip_low, clip_high, dual_clip)
    totals = batch_totals(advantage, mask) if totals is None else totals
    loss = _reduce(values, mask, totals, normalize, max_length)
    return loss, _metrics(token_log_ratio, ratios, clipped, mask, totals)


def gspo_loss(
    logprobs: Array,
    old_logprobs: Array,
    advantage: Array,
    mask: Array,
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
    totals: BatchTotals | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Group sequence policy optimisation: sequence ratio, gradient through every token's own log-probability.

        s = exp(mean over tokens of (logprobs - old_logprobs)),    s_t = stop(s) * exp(logprobs_t - stop(logprobs_t))
        loss = -mean over sequences of mean over tokens of min(s_t * A, clip(s_t, 1 - clip_low, 1 + clip_high) * A)

    Reference: GSPO arXiv:2507.18071 (the token variant); clip range as in the later versions of arXiv:2603.21563.

    Args:
      logprobs: ``[N, T]`` natural-log probabilities of the sampled tokens, with gradient.
      old_logprobs: ``[N, T]`` of the policy that sampled them.
      advantage: ``[N]``.
      mask: ``[N, T]`` bool, True = a sampled token.
      clip_low: how far the ratio may fall below 1.
      clip_high: how far it may rise above 1.
      totals: of the whole batch when this is a micro-batch of it.

    Returns:
      ``[]`` float32 loss and metrics, as `policy_gradient_loss`.

    Example:
      >>> logprobs = jnp.log(jnp.array([[0.5, 0.5]]))
      >>> float(gspo_loss(logprobs, logprobs, jnp.array([2.0]), jnp.array([[True, True]]))[0])
      -2.0
    """
    mask = jnp.asarray(mask, bool)
    token_log_ratio = _log_ratio(logprobs, old_logprobs, mask)
    sequence = jax.lax.stop_gradient(_sequence_mean(token_log_ratio, mask))
    log_ratio = sequence + (token_log_ratio - jax.lax.stop_gradient(token_log_ratio))
    values, clipped, ratios = _surrogate(log_ratio, advantage, clip_low, clip_high, None)
    totals = batch_totals(advantage, mask) if totals is None else totals
    loss = _reduce(values, mask, totals, "sequence", None)
    return loss, _metrics(token_log_ratio, ratios, clipped, mask, totals)


def reinforce_pp_loss(
    logprobs: Array,
    old_logprobs: Array,
    advantage: Array,
    mask: Array,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    totals: BatchTotals | None = None,
) -> tuple[Array, dict[str, Array]]:
    """REINFORCE++: no group baseline; rewards are whitened over the tokens of the batch.

        A = (r - mean over tokens of r) / (std over tokens of r + 1e-6),    loss = clipped loss, mean over tokens

    Hand it credit, not group advantages. A batch of equal rewards has loss 0.

    Reference: REINFORCE++ arXiv:2501.03262.

    Args:
      logprobs: ``[N, T]`` natural-log probabilities of the sampled tokens, with gradient.
      old_logprobs: ``[N, T]`` of the policy that sampled them.
      advantage: ``[N]`` credit r of each sequence.
      mask: ``[N, T]`` bool, True = a sampled token.
      clip_low: how far the ratio may fall below 1.
      clip_high: how far it may rise above 1.
      totals: of the whole batch when this is a micro-batch of it; whitening needs it.

    Returns:
      ``[]`` float32 loss and metrics, as `policy_gradient_loss`.

    Example:
      >>> logprobs = jnp.log(jnp.array([[0.5, 0.5], [0.5, 0.5]]))
      >>> mask = jnp.array([[True, True], [True, True]])
      >>> abs(float(reinforce_pp_loss(logprobs, logprobs, jnp.array([1.0, 0.0]), mask)[0])) < 1e-6
      True
    """
    totals = batch_totals(advantage, mask) if totals is None else totals
    centred = jnp.asarray(advantage, jnp.float32) - totals.advantage_mean
    varies = totals.advantage_std > _EPS * jnp.maximum(
        jnp.abs(totals.advantage_mean), 1.0
    )  # more than rounding
    whitened = jnp.where(varies, centred / (totals.advantage_std + _EPS), 0.0)
    clip = {"clip_low": clip_low, "clip_high": clip_high}
    return policy_gradient_loss(
        logprobs, old_logprobs, whitened, mask, normalize="token", totals=totals, **clip
    )


def _log_ratio(logprobs: Array, old_logprobs: Array, mask: Array) -> Array:
    """``[N, T]`` float32, 0 where masked. Selecting before subtracting keeps garbage out of values and gradients."""
    new = jnp.where(mask, jnp.asarray(logprobs, jnp.float32), 0.0)
    old = jnp.where(mask, jnp.asarray(old_logprobs, jnp.float32), 0.0)
    return new - jax.lax.stop_gradient(old)


def _sequence_mean(values: Array, mask: Array) -> Array:
    """``[N, T] -> [N, T]``: every token gets the mean over its sequence; `values` are 0 where masked."""
    mean = values.sum(axis=-1, keepdims=True) / jnp.maximum(mask.sum(axis=-1, keepdims=True), 1)
    return jnp.broadcast_to(mean, values.shape)


def _surrogate(
    log_ratio: Array, advantage: Array, clip_low: float, clip_high: float, dual_clip: float | None
):
    """Clipped loss of every token, whether clipping cut its gradient, and its ratio: ``[N, T]`` each."""
    advantage = jax.lax.stop_gradient(jnp.asarray(advantage, jnp.float32))[:, None]
    ratio = jnp.exp(jnp.clip(log_ratio, -_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO))
    plain = ratio * advantage
    objective = jnp.minimum(plain, jnp.clip(ratio, 1.0 - clip_low, 1.0 + clip_high) * advantage)
    clipped = objective < plain
    if dual_clip is not None:
        limit = jnp.where(advantage < 0, dual_clip * advantage, -jnp.inf)
        clipped = clipped | (objective < limit)
        objective = jnp.maximum(objective, limit)
    return -objective, clipped, ratio


def _reduce(
    values: Array, mask: Array, totals: BatchTotals, normalize: str, max_length: int | None
) -> Array:
    if normalize not in ("sequence", "token", "length"):
        raise ValueError(
            f"loss.normalize: {normalize!r:.80} is unknown; use 'sequence', 'token' or 'length'"
        )
    if normalize == "length" and not max_length:
        raise ValueError(
            f"loss.max_length: received {max_length}; normalize='length' divides by it, use a length"
        )
    kept = jnp.where(mask, values, 0.0)
    if normalize == "token":
        return kept.sum() / jnp.maximum(totals.tokens, 1.0)
    length = jnp.maximum(mask.sum(axis=-1), 1) if normalize == "sequence" else max_length
    return (kept.sum(axis=-1) / length).sum() / jnp.maximum(totals.num_sequences, 1.0)


def _metrics(
    token_log_ratio: Array, ratio: Array, clipped: Array, mask: Array, totals: BatchTotals
) -> dict[str, Array]:
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


LOSSES = {
    "grpo": policy_gradient_loss,
    "gspo": gspo_loss,
    "reinforce_pp": reinforce_pp_loss,
}
