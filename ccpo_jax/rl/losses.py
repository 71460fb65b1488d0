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
from ccpo_jax.rl.cispo import cispo_loss
from ccpo_jax.rl.gmpo import gmpo_loss
from ccpo_jax.rl.loss_terms import (
    batch_mean,
    batch_totals,
    bounded_exp,
    log_ratio,
    per_token,
    ratio_metrics,
    sequence_mean,
)
from ccpo_jax.rl.sapo import sapo_loss
from ccpo_jax.rl.types import Array, BatchTotals

_EPS = 1e-6


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
      advantage: ``[N]`` float, one value per sequence, or ``[N, T]``, one for each token.
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
      InputError: `loss.ratio` or `loss.normalize`, if unknown; `loss.ratio`, if one ratio of a
        sequence meets one advantage for each token; `loss.max_length`, if missing.

    Example:
      >>> logprobs = jnp.log(jnp.array([[0.5, 0.5], [0.5, 0.5]]))
      >>> mask = jnp.array([[True, True], [True, False]])
      >>> float(policy_gradient_loss(logprobs, logprobs, jnp.array([1.0, -3.0]), mask)[0])
      1.0
    """
    if ratio not in ("token", "sequence"):
        raise InputError("loss.ratio", f"{ratio!r:.80} is unknown; use 'token' or 'sequence'")
    if ratio == "sequence" and jnp.ndim(advantage) == 2:
        raise InputError(
            "loss.ratio",
            "the ratio of a sequence spreads its gradient evenly over the tokens, received one "
            "advantage for each token; use 'token'",
        )
    mask = jnp.asarray(mask, bool)
    totals = batch_totals(advantage, mask) if totals is None else totals

    token_log_ratio = log_ratio(logprobs, old_logprobs, mask)
    compared = token_log_ratio if ratio == "token" else sequence_mean(token_log_ratio, mask)
    values, clipped, ratios = _clipped_loss(compared, advantage, clip_low, clip_high, dual_clip)

    loss = batch_mean(values, mask, totals, normalize, max_length)
    return loss, ratio_metrics(token_log_ratio, ratios, clipped, mask, totals)


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

    token_log_ratio = log_ratio(logprobs, old_logprobs, mask)
    sequence = jax.lax.stop_gradient(sequence_mean(token_log_ratio, mask))
    compared = sequence + (token_log_ratio - jax.lax.stop_gradient(token_log_ratio))
    values, clipped, ratios = _clipped_loss(compared, advantage, clip_low, clip_high, None)

    loss = batch_mean(values, mask, totals, "sequence")
    return loss, ratio_metrics(token_log_ratio, ratios, clipped, mask, totals)


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


def _clipped_loss(
    log_ratio: Array,
    advantage: ArrayLike,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
) -> tuple[Array, Array, Array]:
    """``[N, T]`` each: a token's loss, whether clipping removed its gradient, and its ratio."""
    advantage = per_token(advantage)
    ratio = bounded_exp(log_ratio)

    unclipped = ratio * advantage
    objective = jnp.minimum(unclipped, jnp.clip(ratio, 1.0 - clip_low, 1.0 + clip_high) * advantage)
    clipped = objective < unclipped
    if dual_clip is not None:
        limit = jnp.where(advantage < 0, dual_clip * advantage, -jnp.inf)
        clipped = clipped | (objective < limit)
        objective = jnp.maximum(objective, limit)
    return -objective, clipped, ratio


# The loss of config field loss.name.
LOSSES: dict[str, Callable[..., tuple[Array, dict[str, Array]]]] = {
    "grpo": policy_gradient_loss,
    "gspo": gspo_loss,
    "reinforce_pp": reinforce_pp_loss,
    "cispo": cispo_loss,
    "gmpo": gmpo_loss,
    "sapo": sapo_loss,
}
