"""A policy-gradient loss whose importance weight is clipped, and whose gradient is not."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.rl.loss_terms import (
    batch_mean,
    batch_totals,
    bounded_exp,
    kept,
    log_ratio,
    per_token,
    ratio_metrics,
)
from ccpo_jax.rl.types import Array, BatchTotals


def cispo_loss(
    logprobs: ArrayLike,
    old_logprobs: ArrayLike,
    advantage: ArrayLike,
    mask: ArrayLike,
    *,
    clip_low: float | None = None,
    clip_high: float = 4.0,
    totals: BatchTotals | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Clipped importance-sampling weights: REINFORCE with a bounded correction for old samples.

        w = stop(clip(rho, 1 - clip_low, 1 + clip_high)),    rho = exp(logprobs - old_logprobs),
        loss = -mean over the batch's tokens of w * A * logprobs

    The gradient is ``-mean of w * A * gradient of logprobs``: every token keeps one, whatever its
    ratio and the sign of its advantage, while the clipped loss of GRPO drops tokens outside its
    range. A token that the new policy finds five times as likely weighs at most five times as much.

    At ratio 1 it is REINFORCE, with the mean over tokens of the batch as DAPO has it. The loss
    itself holds log-probs and is not comparable with the others'; its gradient is.

    Reference: CISPO, MiniMax-M1 arXiv:2506.13585, which sets no lower bound either and does not
    print its upper one; 1 + clip_high = 5 is that of ScaleRL, arXiv:2510.13786.

    Args:
      logprobs: ``[N, T]`` natural-log probabilities of the sampled tokens, with gradient.
      old_logprobs: ``[N, T]`` those of the policy that sampled them.
      advantage: ``[N]`` float, one value per sequence.
      mask: ``[N, T]`` bool, True = a sampled token.
      clip_low: the weight is at least 1 - clip_low; None = no lower bound.
      clip_high: the weight is at most 1 + clip_high.
      totals: of the whole batch, if this is a micro-batch of it.

    Returns:
      ``[]`` float32 loss and metrics, as `policy_gradient_loss`; clip_fraction is the share of
      tokens with an advantage whose weight was clipped.

    Example:
      >>> logprobs, old = jnp.array([[-1.0, -1.0]]), jnp.array([[-1.0, -9.0]])
      >>> mask = jnp.array([[True, True]])
      >>> float(cispo_loss(logprobs, old, jnp.array([2.0]), mask)[0])  # the weights are 1 and 5
      6.0
    """
    mask = jnp.asarray(mask, bool)
    totals = batch_totals(advantage, mask) if totals is None else totals
    advantage = per_token(advantage)

    token_log_ratio = jax.lax.stop_gradient(log_ratio(logprobs, old_logprobs, mask))
    ratio = bounded_exp(token_log_ratio)
    weight = jnp.clip(ratio, None if clip_low is None else 1.0 - clip_low, 1.0 + clip_high)
    values = -weight * advantage * kept(logprobs, mask)
    clipped = (weight != ratio) & (advantage != 0)

    loss = batch_mean(values, mask, totals, "token")
    return loss, ratio_metrics(token_log_ratio, ratio, clipped, mask, totals)
