"""Rewards into advantages: how much better a sample did than the samples it is compared with."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.errors import InputError
from ccpo_jax.rl.types import Array

# Eight units of float32 rounding, about 1e-6: rewards that differ by less count as equal.
_ROUNDING = 8 * float(jnp.finfo(jnp.float32).eps)


def group_advantage(
    reward: ArrayLike, *, normalize_std: bool = True, ddof: int = 1, eps: float = 1e-6
) -> Array:
    """Group-relative advantage: ``A = (r - mean) / (std + eps)`` over the G samples of a prompt.

    A group of equal rewards gets exactly 0, and so does a group of one. "Equal" means a spread
    within 1e-6 * max(1, largest |r|), because sums of thirds and `tanh` do not round alike
    everywhere. Without this rule the rounding error of a constant group, divided by a tiny
    deviation, would become an advantage of up to 0.19.

    Dividing by the group's own deviation is biased. For binary rewards of success rate p it
    multiplies the policy gradient by a weight w(p): at G = 4, ``w = 3/2 - (3 - 3/2 * sqrt(3)) * p *
    (1 - p)``. For rewards of several levels it also changes the direction. Without the division the
    expected gradient is (G - 1) / G of the policy gradient; `leave_one_out_advantage` is unbiased.

    Reference: arXiv:2603.21563. Deviation: exactly 0 on constant groups.

    Args:
      reward: ``[..., G]`` float.
      normalize_std: divide by the group's standard deviation.
      ddof: the variance divides by G - ddof.
      eps: added to the deviation, in the unit of `reward`.

    Returns:
      ``[..., G]`` float32; without unit if `normalize_std`, else in the unit of `reward`.

    Example:
      >>> reward = jnp.array([1.0, 0.0])
      >>> group_advantage(reward, normalize_std=False).tolist()
      [0.5, -0.5]
    """
    reward = jnp.asarray(reward, jnp.float32)
    varies = _varies(reward)
    centred = jnp.where(varies, reward - reward.mean(axis=-1, keepdims=True), 0.0)
    if not normalize_std:
        return centred

    var = jnp.square(centred).sum(axis=-1, keepdims=True) / max(reward.shape[-1] - ddof, 1)
    return centred / (jnp.sqrt(jnp.where(varies, var, 1.0)) + eps)


def leave_one_out_advantage(reward: ArrayLike) -> Array:
    """Reward minus the mean reward of the other samples: ``A_g = r_g - sum_{h != g} r_h / (G -
    1)``.

    The baseline of a sample does not depend on the sample, so the policy gradient stays unbiased.
    Constant groups get exactly 0.

    Reference: arXiv:2402.14740 (RLOO). Deviation: exactly 0 on constant groups.

    Args:
      reward: ``[..., G]`` float, G >= 2.

    Returns:
      ``[..., G]`` float32, in the unit of `reward`.

    Raises:
      InputError: `reward`, if G < 2.

    Example:
      >>> reward = jnp.array([1.0, 0.0, 0.0])
      >>> leave_one_out_advantage(reward).tolist()
      [1.0, -0.5, -0.5]
    """
    reward = jnp.asarray(reward, jnp.float32)
    group = reward.shape[-1]
    if group < 2:
        raise InputError(
            "reward",
            f"must hold at least 2 samples per prompt, received {group}; use group_size=2",
        )

    others = (reward.sum(axis=-1, keepdims=True) - reward) / (group - 1)
    return jnp.where(_varies(reward), reward - others, 0.0)


def surprisal_advantage(reward: ArrayLike, surprisal: ArrayLike, *, eps: float = 1e-6) -> Array:
    """Reward minus the surprisal-weighted mean reward of the other prompts' samples:

        A_bg = r_bg - sum_{a != b, h} l_ah r_ah / sum_{a != b, h} l_ah,    l = -log pi(y).

    The constant baseline of least variance weights every reward by the squared norm of the sample's
    score, the gradient of log pi(y). Surprisal, which the sampler records anyway, stands in for
    that norm: a near-certain response has a score near 0, a rare one a large score. Where an agent
    is mostly right, the baseline falls far below the mean reward, and rare mistakes no longer
    dominate the gradient's noise.

    The baseline of a sample holds no sample of the same prompt, so the policy gradient stays
    unbiased, even with one sample per prompt. This requires a loss that sums over a sequence's
    tokens and divides by a constant. A mean over the tokens of a sequence or of the batch breaks
    it, because the scores then no longer have mean 0. A batch of equal rewards gets exactly 0.

    Reference: Greensmith, Bartlett and Baxter, JMLR 5 (2004), for the weights. Deviation: not in
    arXiv:2603.21563; surprisal in place of the score's norm is ours.

    Args:
      reward: ``[..., B, G]`` float, such as the credit ``[A, B, G]`` of every agent.
      surprisal: ``[..., B, G]`` float, in nats, of the responses that earned it.
      eps: nats added to every surprisal; where all are 0 the baseline is the mean.

    Returns:
      ``[..., B, G]`` float32, in the unit of `reward`.

    Raises:
      InputError: `surprisal`, if the shapes differ; `reward`, if B < 2.

    Example:
      >>> reward = jnp.array([[1.0, 1.0], [1.0, 0.0]])
      >>> surprisal_advantage(reward, jnp.array([[0.0, 0.0], [1.0, 3.0]])).round(2).tolist()
      [[0.75, 0.75], [0.0, -1.0]]
    """
    reward = jnp.asarray(reward, jnp.float32)
    weight = jnp.asarray(surprisal, jnp.float32) + eps
    if reward.shape != weight.shape:
        raise InputError(
            "surprisal",
            f"needs one value per reward, {reward.shape}, received the shape {weight.shape}",
        )
    if reward.ndim < 2 or reward.shape[-2] < 2:
        raise InputError(
            "reward", f"needs [..., B, G] with at least two prompts, received {reward.shape}"
        )

    # A constant cancels in what follows; subtracting one here makes equal rewards exactly 0.
    centred = reward - reward[..., :1, :1]
    same_prompt = jnp.eye(reward.shape[-2], dtype=bool)

    # The sum leaves the prompt out; subtracting it from the total would leave a rounding residue.
    def sum_over_other_prompts(x):
        per_prompt = jnp.where(same_prompt, 0.0, x.sum(axis=-1)[..., None, :])
        return per_prompt.sum(axis=-1)[..., None]

    return centred - sum_over_other_prompts(weight * centred) / sum_over_other_prompts(weight)


def _varies(reward: Array) -> Array:
    """``[..., 1]`` bool: the rewards of a group differ by more than rounding. A NaN varies, so that
    it shows."""
    spread = reward.max(axis=-1, keepdims=True) - reward.min(axis=-1, keepdims=True)
    largest = jnp.abs(reward).max(axis=-1, keepdims=True)
    constant = spread <= _ROUNDING * jnp.maximum(largest, 1.0)
    return ~constant
