"""A policy-gradient loss with a smooth gate in place of a clip."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.rl.loss_terms import (
    batch_mean,
    batch_totals,
    bounded_exp,
    log_ratio,
    per_token,
    ratio_metrics,
)
from ccpo_jax.rl.types import Array, BatchTotals


def sapo_loss(
    logprobs: ArrayLike,
    old_logprobs: ArrayLike,
    advantage: ArrayLike,
    mask: ArrayLike,
    *,
    tau_positive: float = 1.0,
    tau_negative: float = 1.05,
    totals: BatchTotals | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Soft adaptive policy optimisation: the further a ratio is from 1, the less its token counts.

        rho = exp(logprobs - old_logprobs),
        tau = tau_positive where A > 0, tau_negative elsewhere,
        loss = -mean over sequences of mean over tokens of A * (4 / tau) * sigmoid(tau * (rho - 1))

    A token's gradient is ``A * rho * sech(tau / 2 * (rho - 1)) ** 2`` times that of its log-prob,
    on both sides of 1 and never cut off. At ratio 1 the factor 4 / tau makes it that of GRPO,
    whatever tau is. The loss itself is there 2 / tau times that of GRPO, a constant; compare
    gradients.

    A larger tau narrows the gate. Negative advantages get the larger one: they raise the
    probability of all tokens that were not sampled.

    Reference: SAPO, arXiv:2511.20347.

    Args:
      logprobs: ``[N, T]`` natural-log probabilities of the sampled tokens, with gradient.
      old_logprobs: ``[N, T]`` those of the policy that sampled them.
      advantage: ``[N]`` float, one value per sequence.
      mask: ``[N, T]`` bool, True = a sampled token.
      tau_positive: temperature of the gate where A > 0, above 0.
      tau_negative: temperature of the gate elsewhere, above 0.
      totals: of the whole batch, if this is a micro-batch of it.

    Returns:
      ``[]`` float32 loss and metrics, as `policy_gradient_loss`; nothing is clipped, so
      clip_fraction is 0.

    Example:
      >>> logprobs = jnp.log(jnp.array([[0.5, 0.5]]))
      >>> mask = jnp.array([[True, True]])
      >>> float(sapo_loss(logprobs, logprobs, jnp.array([3.0]), mask)[0])
      -6.0
    """
    mask = jnp.asarray(mask, bool)
    totals = batch_totals(advantage, mask) if totals is None else totals
    advantage = per_token(advantage)

    token_log_ratio = log_ratio(logprobs, old_logprobs, mask)
    ratio = bounded_exp(token_log_ratio)
    tau = jnp.where(advantage > 0, tau_positive, tau_negative)
    values = -advantage * 4.0 / tau * jax.nn.sigmoid(tau * (ratio - 1.0))

    loss = batch_mean(values, mask, totals, "sequence")
    nothing = jnp.zeros(mask.shape, bool)
    return loss, ratio_metrics(token_log_ratio, ratio, nothing, mask, totals)
