"""Advantages against a weighted mean of other samples.

All are ``A = r - sum w r / sum w`` over a pool that does not hold the sample, and differ in the
weight w. The constant baseline of least variance has as w the squared norm of the score, the
gradient of log pi(y) (Greensmith, Bartlett and Baxter, JMLR 5, 2004); what is known of a response
without a backward pass stands in for it: its length, its surprisal, or the squared norm in the
logits (`optimal_advantage`).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.errors import InputError
from ccpo_jax.rl.pools import check_pool, subtract_weighted_mean, sum_over_pool
from ccpo_jax.rl.types import Array


class WeightedState(NamedTuple):
    """Weighted sums over the samples of earlier steps, of which older ones count less."""

    numerator: Array  # shape=[A], dtype=float32, of weight * reward
    denominator: Array  # shape=[A], dtype=float32, of weight; 0 = no step yet


def batch_mean_advantage(reward: ArrayLike) -> Array:
    """Reward minus the mean reward of the other prompts' samples:

        A_bg = r_bg - sum_{a != b, h} r_ah / ((B - 1) G).

    The baseline of a sample holds no sample of the same prompt, so the policy gradient stays
    unbiased, even with one sample per prompt. It knows nothing about a prompt's difficulty. A batch
    of equal rewards gets exactly 0.

    Reference: batch-level baselines such as those of REINFORCE++ (arXiv:2501.03262) and of
    arXiv:2606.17250. Deviation: the mean leaves out the sample's own prompt, and nothing is
    divided by a standard deviation.

    Args:
      reward: ``[..., B, G]`` float, such as the credit ``[A, B, G]`` of every agent; B >= 2.

    Returns:
      ``[..., B, G]`` float32, in the unit of `reward`.

    Raises:
      InputError: `reward`, if B < 2.

    Example:
      >>> reward = jnp.array([[1.0, 1.0], [1.0, 0.0]])
      >>> batch_mean_advantage(reward).tolist()
      [[0.5, 0.5], [0.0, -1.0]]
    """
    reward = jnp.asarray(reward, jnp.float32)
    check_pool(reward, "others")
    return subtract_weighted_mean(reward, jnp.ones_like(reward), "others")


def opo_advantage(
    reward: ArrayLike, length: ArrayLike, *, pool: str = "prompt", eps: float = 1e-6
) -> Array:
    """Reward minus the length-weighted mean reward of other samples:

        A_bg = r_bg - sum l r / sum l over the pool,    l = tokens of the response.

    The squared norm of a sample's score grows like its length where the scores of its tokens are
    orthogonal and of one size.

    Reference: OPO, arXiv:2505.23585. Deviation: the mean leaves out the sample itself, without
    which the expected gradient would not be a multiple of the policy gradient; and it may be taken
    over the other prompts.

    Args:
      reward: ``[..., B, G]`` float, such as the credit ``[A, B, G]`` of every agent; ``[..., G]``
        with the pool "prompt".
      length: as `reward`, in tokens, of the responses that earned it.
      pool: "prompt" = the other samples of the prompt, "others" = those of the other prompts.
      eps: tokens added to every length; where all are 0 the baseline is the mean.

    Returns:
      As `reward`, float32, in its unit.

    Raises:
      InputError: `length`, if the shapes differ; `pool`, if unknown; `reward`, if the pool is
        empty.

    Example:
      >>> opo_advantage(jnp.array([1.0, 1.0, 0.0]), jnp.array([1.0, 3.0, 1.0])).round(2).tolist()
      [0.25, 0.5, -1.0]
    """
    return _weighted(reward, length, "length", pool, eps)


def weighted_advantage(
    reward: ArrayLike,
    surprisal: ArrayLike,
    *,
    state: WeightedState | None = None,
    eps: float = 1e-6,
) -> Array:
    """Reward minus the surprisal-weighted mean reward of the other prompts' samples:

        A_bg = r_bg - sum_{a != b, h} l_ah r_ah / sum_{a != b, h} l_ah,    l = -log pi(y).

    Surprisal, which the sampler records anyway, stands in for the squared norm of the score: a
    near-certain response has a score near 0, a rare one a large score. Where an agent is mostly
    right, the baseline falls far below the mean reward, and rare mistakes no longer dominate the
    gradient's noise.

    The baseline of a sample holds no sample of the same prompt, so the policy gradient stays
    unbiased, even with one sample per prompt. This requires a loss that sums over a sequence's
    tokens and divides by a constant. A mean over the tokens of a sequence or of the batch breaks
    it, because the scores then no longer have mean 0. A batch of equal rewards gets exactly 0,
    unless there is a state.

    With a state, both sums go on from those of earlier steps: ``A_bg = r_bg - (N + sum l r) / (D +
    sum l)``. A batch without a mistake then still teaches something where earlier ones had some.
    The state is from before the step, so the gradient stays unbiased given what came before.

    Reference: Greensmith, Bartlett and Baxter, JMLR 5 (2004), for the weights; the optimal token
    baseline, arXiv:2602.07078, for weights from likelihoods. Deviation: not in arXiv:2603.21563;
    surprisal as the weight, and the pool of the other prompts, are choices of this project.

    Args:
      reward: ``[..., B, G]`` float, such as the credit ``[A, B, G]`` of every agent.
      surprisal: ``[..., B, G]`` float, in nats, of the responses that earned it.
      state: of earlier steps, ``[A]`` each for rewards ``[A, B, G]``, see `update_weighted`; None =
        nothing is carried. With one that holds a step, B = 1 is enough.
      eps: nats added to every surprisal; where all are 0 the baseline is the mean.

    Returns:
      ``[..., B, G]`` float32, in the unit of `reward`.

    Raises:
      InputError: `surprisal`, if the shapes differ; `reward`, if B < 2 without a state.

    Example:
      >>> reward = jnp.array([[1.0, 1.0], [1.0, 0.0]])
      >>> weighted_advantage(reward, jnp.array([[0.0, 0.0], [1.0, 3.0]])).round(2).tolist()
      [[0.75, 0.75], [0.0, -1.0]]
    """
    if state is None:
        return _weighted(reward, surprisal, "surprisal", "others", eps)
    reward, weight = _checked(reward, surprisal, "surprisal", eps)
    earlier_numerator = jnp.asarray(state.numerator)[..., None, None]
    earlier_denominator = jnp.asarray(state.denominator)[..., None, None]
    numerator = earlier_numerator + sum_over_pool(weight * reward, "others")
    denominator = earlier_denominator + sum_over_pool(weight, "others")
    # One prompt and no earlier step: nothing to compare with.
    return reward - jnp.where(denominator > 0, numerator / jnp.maximum(denominator, eps), 0.0)


def init_weighted(num_agents: int) -> WeightedState:
    """The state of `weighted_advantage` before the first step.

    Example:
      >>> init_weighted(2).denominator.tolist()
      [0.0, 0.0]
    """
    return WeightedState(jnp.zeros(num_agents), jnp.zeros(num_agents))


def update_weighted(
    state: WeightedState,
    reward: ArrayLike,
    surprisal: ArrayLike,
    *,
    decay: float = 0.9,
    eps: float = 1e-6,
) -> WeightedState:
    """The state after a step: ``N' = decay (N + sum l r)``, and D' likewise, over all samples.

    Args:
      state: from before the step.
      reward: ``[A, B, G]`` float.
      surprisal: ``[A, B, G]`` float, in nats.
      decay: what a step counts in the next one; 0 = nothing is carried.
      eps: as in `weighted_advantage`.

    Returns:
      The new state. What an agent earned in a step does not reach its own baseline of that step.

    Raises:
      InputError: `surprisal`, if the shapes differ.

    Example:
      >>> reward, surprisal = jnp.array([[[1.0, 0.0]]]), jnp.array([[[1.0, 3.0]]])
      >>> after = update_weighted(init_weighted(1), reward, surprisal, decay=0.5, eps=0.0)
      >>> after.numerator.tolist(), after.denominator.tolist()
      ([0.5], [2.0])
    """
    reward, weight = _checked(reward, surprisal, "surprisal", eps)
    return WeightedState(
        decay * (state.numerator + (weight * reward).sum(axis=(-2, -1))),
        decay * (state.denominator + weight.sum(axis=(-2, -1))),
    )


# Its former name. Elsewhere "surprisal" means that tokens are weighted anew (arXiv:2606.19236).
surprisal_advantage = weighted_advantage


def _weighted(reward: ArrayLike, weight: ArrayLike, name: str, pool: str, eps: float) -> Array:
    """`subtract_weighted_mean`, checked; `name` is that of the weight."""
    reward, weight = _checked(reward, weight, name, eps)
    check_pool(reward, pool)
    return subtract_weighted_mean(reward, weight, pool)


def _checked(reward: ArrayLike, weight: ArrayLike, name: str, eps: float) -> tuple[Array, Array]:
    """Rewards and weights as float32 of one shape, `eps` added to the weights."""
    reward = jnp.asarray(reward, jnp.float32)
    weight = jnp.asarray(weight, jnp.float32) + eps
    if reward.shape != weight.shape:
        raise InputError(
            name,
            f"needs one value per reward, {reward.shape}, received the shape {weight.shape}",
        )
    return reward, weight
