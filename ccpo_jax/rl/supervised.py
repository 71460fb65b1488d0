"""The loss of a supervised warm start, on the log-probabilities of demonstrated tokens."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.rl.loss_terms import batch_mean, batch_totals, kept
from ccpo_jax.rl.types import Array, BatchTotals


def supervised_loss(
    logprobs: ArrayLike,
    old_logprobs: ArrayLike,
    advantage: ArrayLike,
    mask: ArrayLike,
    *,
    totals: BatchTotals | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Mean negative log-likelihood of the demonstrated tokens.

        loss = -sum over kept tokens of logprobs / number of kept tokens

    Every token of the batch weighs the same, so a long demonstration weighs more than a short one.
    It is called like the losses in `LOSSES`, with micro-batches and their totals.

    Reference: behavioural cloning, Pomerleau, Neural Computation 3(1), 1991.

    Args:
      logprobs: ``[N, T]`` natural-log probabilities of the demonstrated tokens, with gradient.
      old_logprobs: ``[N, T]``, not read: nobody sampled these tokens.
      advantage: ``[N]``, read only for the totals, where none are given.
      mask: ``[N, T]`` bool, True = a demonstrated token.
      totals: of the whole batch, if this is a micro-batch of it.

    Returns:
      ``[]`` float32 loss in nats per token, and no metrics.

    Example:
      >>> logprobs = jnp.array([[-1.0, -2.0], [-3.0, 7.0]])
      >>> mask = jnp.array([[True, True], [True, False]])
      >>> float(supervised_loss(logprobs, logprobs, jnp.ones(2), mask)[0])
      2.0
    """
    del old_logprobs
    mask = jnp.asarray(mask, bool)
    totals = batch_totals(advantage, mask) if totals is None else totals
    return batch_mean(-kept(logprobs, mask), mask, totals, "token"), {}
