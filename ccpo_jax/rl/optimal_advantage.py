"""The optimal baseline with the score measured in the logits: per response, or per token."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.errors import InputError
from ccpo_jax.rl.pools import (
    check_pool,
    subtract_first,
    subtract_weighted_mean,
    sum_over_pool,
    varies,
)
from ccpo_jax.rl.types import Array

# "sequence" = one baseline for a response; "token" = one for each of its tokens.
FORMS = ("sequence", "token")


def squared_score(logprobs: ArrayLike, collision: ArrayLike) -> Array:
    """Squared norm of the score of a token, measured in the logits z that it was drawn from:

        |d log pi(y) / d z|^2 = |e_y - pi|^2 = 1 - 2 pi(y) + sum_v pi(v)^2.

    It needs no backward pass. At temperature tau, pi is softmax(z / tau), the distribution that was
    drawn from, and the norm in z is 1 / tau^2 of this: a factor that a weighted mean does not see.

    Reference: the logit-gradient proxy of arXiv:2602.07078.

    Args:
      logprobs: ``[...]`` float, log pi(y) in nats, as sampled.
      collision: ``[...]`` float, sum_v pi(v)^2, see `Samples.collision`.

    Returns:
      ``[...]`` float32 in [0, 2].

    Example:
      >>> pi = jnp.array([0.5, 0.25, 0.25])
      >>> squared_score(jnp.log(pi), jnp.sum(pi**2)).tolist()
      [0.375, 0.875, 0.875]
    """
    probability = jnp.exp(jnp.asarray(logprobs, jnp.float32))
    # At least 0 also where rounding says otherwise.
    return jnp.maximum(1.0 - 2.0 * probability + jnp.asarray(collision, jnp.float32), 0.0)


def optimal_advantage(
    reward: ArrayLike,
    squared_scores: ArrayLike,
    mask: ArrayLike,
    *,
    earlier: ArrayLike | None = None,
    pool: str = "prompt",
    form: str = "sequence",
    eps: float = 1e-6,
) -> Array:
    """Reward minus the mean reward of other samples weighted by their squared score, in which
    tokens add up:

        sequence:  A_bg  = r_bg - sum W_T r / sum W_T    over the pool,
        token:     A_bgt = r_bg - sum W_t r / sum W_t    over those of the pool that have a token t,
        W_t = sum_{s <= t} w_s,    w = `squared_score`.

    The constant baseline of least variance weights rewards by the squared norm of the score of the
    whole response; W_T stands in for it where the scores of tokens are orthogonal. A token's
    baseline need only look at what was drawn up to that token. Either is a function of other
    samples, so a sum over tokens of advantage times score is unbiased; a mean over tokens is not.

    Where no sample of the pool has a token t, its baseline is that of the sequence form. Constant
    groups get exactly 0 with the pool "prompt", constant batches with "others".

    Reference: the optimal token baseline, arXiv:2602.07078; Greensmith, Bartlett and Baxter, JMLR 5
    (2004), for the weights. Deviation: the mean leaves out the sample itself, without which the
    expected gradient would not be a multiple of the policy gradient; the pool of other prompts; and
    a baseline, not 0, behind the end of all others.

    Args:
      reward: ``[..., B, G]`` float.
      squared_scores: ``[..., B, G, T]`` float, of each token.
      mask: ``[..., B, G, T]`` bool, True = a sampled token.
      earlier: ``[..., B, G]`` float, what W is before the first of these tokens: those of earlier
        turns of the same agent. None = 0.
      pool: "prompt" = the other samples of the prompt, "others" = those of the other prompts.
      form: "sequence" or "token".
      eps: added to every W; where all are 0 the baseline is the mean.

    Returns:
      ``[..., B, G]`` float32, ``[..., B, G, T]`` in the token form, where masked tokens are 0; in
      the unit of `reward`.

    Raises:
      InputError: `squared_scores`, if the shapes differ; `pool` or `form`, if unknown; `reward`, if
        the pool is empty.

    Example:
      >>> scores = jnp.array([[[0.5, 0.0], [0.5, 0.0], [0.5, 1.0]]])
      >>> mask = jnp.array([[[True, True], [True, False], [True, True]]])
      >>> reward = jnp.array([[1.0, 1.0, 0.0]])
      >>> optimal_advantage(reward, scores, mask).round(2).tolist()
      [[0.75, 0.75, -1.0]]
      >>> optimal_advantage(reward, scores, mask, form="token").round(2).tolist()
      [[[0.5, 1.0], [0.5, 0.0], [-1.0, -1.0]]]
    """
    reward = jnp.asarray(reward, jnp.float32)
    mask = jnp.asarray(mask, bool)
    weight = jnp.asarray(squared_scores, jnp.float32)
    if weight.shape[:-1] != reward.shape or weight.shape != mask.shape:
        raise InputError(
            "squared_scores",
            f"needs [..., T] and a mask of its shape for rewards {reward.shape}, received "
            f"{weight.shape} with a mask {mask.shape}",
        )
    if form not in FORMS:
        raise InputError("form", f"{form!r:.80} is unknown; use one of {', '.join(FORMS)}")
    check_pool(reward, pool)

    weight = jnp.where(mask, weight, 0.0)
    before = 0.0 if earlier is None else jnp.asarray(earlier, jnp.float32)[..., None]
    reached = before + jnp.cumsum(weight, axis=-1) + eps
    of_sequence = subtract_weighted_mean(reward, reached[..., -1], pool)
    if form == "sequence":
        return of_sequence

    # [T, ..., B, G]: tokens are further rows of samples.
    here = jnp.moveaxis(jnp.where(mask, reached, 0.0), -1, 0)
    centred = subtract_first(reward, pool)
    total = sum_over_pool(here, pool)
    mean = sum_over_pool(here * centred, pool) / jnp.where(total > 0, total, 1.0)
    advantage = jnp.where(total > 0, centred - mean, of_sequence)
    if pool == "prompt":
        advantage = jnp.where(varies(reward), advantage, 0.0)
    return jnp.where(mask, jnp.moveaxis(advantage, 0, -1), 0.0)
