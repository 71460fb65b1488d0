"""Pools: the samples that a sample is compared with. None holds the sample itself.

A baseline that does not depend on a sample leaves the policy gradient of that sample unbiased, so
every pool leaves out the sample, or all samples of its prompt.
"""

import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.errors import InputError
from ccpo_jax.rl.types import Array

# "prompt" = the other samples of the prompt; "others" = all samples of the other prompts.
POOLS = ("prompt", "others")

# Eight units of float32 rounding, about 1e-6: rewards that differ by less count as equal.
_ROUNDING = 8 * float(jnp.finfo(jnp.float32).eps)


def sum_over_pool(values: ArrayLike, pool: str) -> Array:
    """The sum of `values` over the pool of every sample.

    The sum is taken without what it leaves out. A total less the sample's own part would keep a
    rounding residue of that part.

    Args:
      values: ``[..., B, G]`` float.
      pool: one of POOLS.

    Returns:
      ``[..., B, G]`` float32; ``[..., B, 1]`` with the pool "others", which the samples of a prompt
      share.

    Example:
      >>> values = jnp.array([[1.0, 2.0], [3.0, 4.0]])
      >>> sum_over_pool(values, "prompt").tolist(), sum_over_pool(values, "others").tolist()
      ([[2.0, 1.0], [4.0, 3.0]], [[7.0], [3.0]])
    """
    values = jnp.asarray(values, jnp.float32)
    if pool == "prompt":
        return _sum_of_others(values)
    return _sum_of_others(values.sum(axis=-1))[..., None]


def subtract_weighted_mean(reward: Array, weight: Array, pool: str) -> Array:
    """``reward - sum(weight * reward) / sum(weight)``, the sums over the pool of every sample.

    Where all rewards that are compared are equal the result is exactly 0: those of the prompt, up
    to rounding, with the pool "prompt", those of the whole batch with "others".

    Args:
      reward: ``[..., B, G]`` float32.
      weight: ``[..., B, G]`` float32, positive.
      pool: one of POOLS.

    Returns:
      ``[..., B, G]`` float32.
    """
    centred = subtract_first(reward, pool)
    advantage = centred - sum_over_pool(weight * centred, pool) / sum_over_pool(weight, pool)
    return jnp.where(varies(reward), advantage, 0.0) if pool == "prompt" else advantage


def subtract_first(reward: Array, pool: str) -> Array:
    """Rewards relative to the first of those that are compared.

    A constant cancels in an advantage; subtracting this one makes equal rewards exactly 0.

    Args:
      reward: ``[..., B, G]`` float32.
      pool: one of POOLS.

    Returns:
      ``[..., B, G]`` float32, relative to the prompt's first sample with the pool "prompt", to the
      batch's with "others".

    Example:
      >>> reward = jnp.array([[1.0, 2.0], [3.0, 4.0]])
      >>> subtract_first(reward, "prompt").tolist(), subtract_first(reward, "others").tolist()
      ([[0.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [2.0, 3.0]])
    """
    return reward - (reward[..., :1] if pool == "prompt" else reward[..., :1, :1])


def check_pool(reward: Array, pool: str) -> None:
    """Checks that no sample's pool is empty.

    Raises:
      InputError: `pool`, if unknown; `reward`, if it has one sample per prompt and the pool is
        "prompt", or one prompt and the pool is "others".
    """
    if pool not in POOLS:
        raise InputError("pool", f"{pool!r:.80} is unknown; use one of {', '.join(POOLS)}")
    if pool == "prompt" and (reward.ndim < 1 or reward.shape[-1] < 2):
        raise InputError(
            "reward",
            f"needs [..., G] with at least two samples per prompt, received {reward.shape}; use "
            "group_size=2",
        )
    if pool == "others" and (reward.ndim < 2 or reward.shape[-2] < 2):
        raise InputError(
            "reward", f"needs [..., B, G] with at least two prompts, received {reward.shape}"
        )


def varies(reward: Array) -> Array:
    """``[..., 1]`` bool: the rewards of a group differ by more than rounding. A NaN varies, so that
    it shows."""
    spread = reward.max(axis=-1, keepdims=True) - reward.min(axis=-1, keepdims=True)
    largest = jnp.abs(reward).max(axis=-1, keepdims=True)
    constant = spread <= _ROUNDING * jnp.maximum(largest, 1.0)
    return ~constant


def _sum_of_others(values: Array) -> Array:
    """``[..., N] -> [..., N]``: the sum over the last axis without the element itself."""
    itself = jnp.eye(values.shape[-1], dtype=bool)
    return jnp.where(itself, 0.0, values[..., None, :]).sum(axis=-1)
