"""Rewards into advantages: how much better a sample did than the mean of its group."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.errors import InputError
from ccpo_jax.rl.pools import varies
from ccpo_jax.rl.types import Array


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
    is_varied = varies(reward)
    centred = jnp.where(is_varied, reward - reward.mean(axis=-1, keepdims=True), 0.0)
    if not normalize_std:
        return centred

    var = jnp.square(centred).sum(axis=-1, keepdims=True) / max(reward.shape[-1] - ddof, 1)
    return centred / (jnp.sqrt(jnp.where(is_varied, var, 1.0)) + eps)


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
    return jnp.where(varies(reward), reward - others, 0.0)


def asymmetric_advantage(reward: ArrayLike, *, delta: float = -0.1) -> Array:
    """Reward minus the group's mean and a constant: ``A = r - (mean + delta)``.

    With delta < 0 right samples weigh more than wrong ones, which is meant for updates on samples
    of an older policy. On samples of the policy itself the constant has no influence on the
    expected gradient, (G - 1) / G of the policy gradient as without it, only on its variance.

    Reference: asymmetric REINFORCE, arXiv:2506.20520.

    Args:
      reward: ``[..., G]`` float.
      delta: in the unit of `reward`.

    Returns:
      ``[..., G]`` float32, in the unit of `reward`; -delta where a group's rewards are equal.

    Example:
      >>> asymmetric_advantage(jnp.array([1.0, 0.0]), delta=-0.25).tolist()
      [0.75, -0.25]
    """
    return group_advantage(reward, normalize_std=False) - delta
