"""Kullback-Leibler divergence to a reference policy, as a term of a loss.

Of each sampled token, d = log pi - log ref is known, and nothing about the tokens that were not
sampled. Three estimators of the divergence from d carry the names k1, k2 and k3 since Schulman's
note. What they are worth as a *value* says nothing about their *gradient* when they are written
into a loss, because the expectation they estimate is over samples of the policy that is
differentiated:

| written as a loss | expected gradient, per token and at its prefix |
|---|---|
| k1 = d | 0 |
| k2 = d^2 / 2 | that of KL(pi, ref) |
| k3 = exp(-d) - 1 + d | that of KL(ref, pi), the other direction |

`kl_loss` therefore states value and gradient of each term separately.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.errors import InputError
from ccpo_jax.rl.loss_terms import (
    LARGEST_LOG_RATIO,
    batch_mean,
    batch_totals,
    bounded_exp,
    kept,
)
from ccpo_jax.rl.types import Array, BatchTotals

# As in ccpo_jax.config, which imports no mathematics.
KL_ESTIMATORS = ("k1", "k2", "k3")


def kl_loss(
    logprobs: ArrayLike,
    old_logprobs: ArrayLike,
    reference_logprobs: ArrayLike,
    mask: ArrayLike,
    *,
    estimator: str = "k3",
    totals: BatchTotals | None = None,
) -> tuple[Array, dict[str, Array]]:
    """The divergence of a policy from a reference, in nats per token, with an unbiased gradient.

        d_t = logprobs_t - reference_logprobs_t,
        w_t = exp(logprobs_t - old_logprobs_t),
        value    = sum over tokens of v_t / tokens,
        gradient = sum over tokens of c_t * (gradient of logprobs_t) / tokens

    | estimator | v_t | c_t | c_t belongs to |
    |---|---|---|---|
    | k1 | W_t d_t | sum over u >= t of W_u d_u | the response: KL of whole responses |
    | k2 | w_t d_t^2 / 2 | w_t d_t | the token: KL of the next token, prefixes held fixed |
    | k3 | w_t (exp(-d_t) - 1 + d_t) | w_t d_t | the token, as k2 |

    with W_t = w_1 * ... * w_t. All of v and c are constants to the gradient.

    What this estimates. Let P(s) be the probability of a prefix s, and KL(s) the divergence of the
    next token's distribution after it.

      - k1: KL(pi, ref) of whole responses = sum over s of P(s) KL(s), with P that of the policy
        itself. Its gradient counts that a token leads to prefixes where the two differ: the reward
        minus this divergence is what RLHF maximises. Value and gradient are unbiased.
      - k2 and k3: the same sum with P held fixed at that of the policy that sampled. Each token
        answers for itself alone, so that there is no sum over the rest of the response, and far
        less noise. The gradient is unbiased; so is the value of k3, which is never negative. The
        value of k2 is not.

    In a response of one token the two are the same. Divided by `tokens` means a mean over the
    batch; the claims hold for the sums.

    Several updates per batch: old_logprobs are those of the policy that sampled, and w weighs its
    samples as the new policy's. The product W_t of k1 has a variance that grows with the response;
    it is exact, not bounded. With one update, give the policy's own log-probs: all weights are 1.

    Lower variance. Of all functions f with E[f(d) grad log pi] = grad KL for every pair of
    policies, only f(d) = d + constant exist, so that k3 has no better gradient than k2 to offer;
    the derivative of w_t k3_t with respect to the policy is w_t d_t as well.

    Reference: Schulman, "Approximating KL Divergence", 2020, for k1, k2 and k3 as values; the
    gradient of w_t k3_t is equation 7 of DeepSeek-V3.2, arXiv:2512.02556; on k1 in the reward and
    k3 in the loss see arXiv:2512.21852.

    Args:
      logprobs: ``[N, T]`` natural-log probabilities of the sampled tokens, with gradient.
      old_logprobs: ``[N, T]`` those of the policy that sampled them.
      reference_logprobs: ``[N, T]`` those of the reference, at the same temperature.
      mask: ``[N, T]`` bool, True = a sampled token; those of a sequence are adjacent.
      estimator: "k1", "k2" or "k3".
      totals: of the whole batch, if this is a micro-batch of it; only `tokens` is read.

    Returns:
      ``[]`` float32 loss, and ``[]`` float32 metrics over the kept tokens: kl, the value of k3
      whatever the estimator, nats per token.

    Raises:
      InputError: `loss.kl_estimator`, if unknown.

    Example:
      >>> logprobs, reference = jnp.log(jnp.array([[0.5]])), jnp.log(jnp.array([[0.25]]))
      >>> loss, _ = kl_loss(logprobs, logprobs, reference, jnp.array([[True]]), estimator="k2")
      >>> round(float(loss), 4)
      0.2402
    """
    if estimator not in KL_ESTIMATORS:
        raise InputError(
            "loss.kl_estimator", f"{estimator!r:.80} is unknown; use one of 'k1', 'k2' or 'k3'"
        )
    mask = jnp.asarray(mask, bool)
    if totals is None:
        totals = batch_totals(jnp.zeros(mask.shape[0]), mask)

    new = kept(logprobs, mask)
    fixed = jax.lax.stop_gradient(new)
    distance = fixed - jax.lax.stop_gradient(kept(reference_logprobs, mask))
    log_weight = fixed - jax.lax.stop_gradient(kept(old_logprobs, mask))
    # exp(-d) - 1 + d without the rounding of its terms, which is larger than the sum near d = 0.
    k3 = jnp.maximum(jnp.expm1(jnp.minimum(-distance, LARGEST_LOG_RATIO)) + distance, 0.0)

    weight = bounded_exp(log_weight)
    if estimator == "k1":
        values = bounded_exp(jnp.cumsum(log_weight, axis=-1)) * distance
        coefficients = jax.lax.cumsum(values, axis=values.ndim - 1, reverse=True)
    else:
        values = weight * (jnp.square(distance) / 2 if estimator == "k2" else k3)
        coefficients = weight * distance

    # `new - fixed` is 0 and has the gradient of the log-probs.
    loss = batch_mean(values + coefficients * (new - fixed), mask, totals, "token")
    return loss, {"kl": batch_mean(weight * k3, mask, totals, "token")}
