"""A policy-gradient loss on the geometric mean of a sequence's clipped token ratios."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.rl.loss_terms import (
    batch_mean,
    batch_totals,
    bounded_exp,
    log_ratio,
    per_token,
    ratio_metrics,
    sequence_mean,
)
from ccpo_jax.rl.types import Array, BatchTotals


def gmpo_loss(
    logprobs: ArrayLike,
    old_logprobs: ArrayLike,
    advantage: ArrayLike,
    mask: ArrayLike,
    *,
    clip_low: float = 0.4,
    clip_high: float = 0.4,
    totals: BatchTotals | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Geometric-mean policy optimisation: every token is clipped, the sequence is weighed.

        l_t = logprobs_t - old_logprobs_t,
        c_t = min(l_t, clip_high) where A > 0, max(l_t, -clip_low) where A < 0,
        loss = -mean over sequences of A * exp(mean over tokens of c_t)

    One token of an extreme ratio moves the geometric mean of the sequence by its share 1/length
    alone, so the range may be wide. As in the clipped loss of GRPO, only the side is cut on which
    the token has moved as its advantage asks.

    The gradient by logprobs_t is ``-A * exp(mean of c) / length`` divided by the number of
    sequences, and 0 where the token was clipped. At ratio 1 it is that of GRPO; for sequences of
    one token, inside the range, also at other ratios.

    Reference: GMPO, arXiv:2507.20673, equation 7, with its range exp(-0.4) to exp(0.4).

    Args:
      logprobs: ``[N, T]`` natural-log probabilities of the sampled tokens, with gradient.
      old_logprobs: ``[N, T]`` those of the policy that sampled them.
      advantage: ``[N]`` float, one value per sequence.
      mask: ``[N, T]`` bool, True = a sampled token.
      clip_low: where A < 0, a token's log-ratio is clipped below -clip_low, in nats.
      clip_high: where A > 0, a token's log-ratio is clipped above clip_high, in nats.
      totals: of the whole batch, if this is a micro-batch of it.

    Returns:
      ``[]`` float32 loss and metrics, as `policy_gradient_loss`; the ratios are those of tokens,
      before clipping.

    Example:
      >>> logprobs, old = jnp.array([[-1.0, -1.0]]), jnp.array([[-1.0, -3.0]])
      >>> mask = jnp.array([[True, True]])
      >>> round(float(gmpo_loss(logprobs, old, jnp.array([1.0]), mask)[0]), 4)  # -exp(0.4 / 2)
      -1.2214
    """
    mask = jnp.asarray(mask, bool)
    totals = batch_totals(advantage, mask) if totals is None else totals
    advantage = per_token(advantage)

    token_log_ratio = log_ratio(logprobs, old_logprobs, mask)
    too_high = (advantage > 0) & (token_log_ratio > clip_high)
    too_low = (advantage < 0) & (token_log_ratio < -clip_low)
    log_clipped = jnp.where(too_high, clip_high, jnp.where(too_low, -clip_low, token_log_ratio))
    values = -advantage * bounded_exp(sequence_mean(log_clipped, mask))

    loss = batch_mean(values, mask, totals, "sequence")
    ratio = bounded_exp(token_log_ratio)
    return loss, ratio_metrics(token_log_ratio, ratio, too_high | too_low, mask, totals)
