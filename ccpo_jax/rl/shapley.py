"""Shapley values: what an agent adds to the team, averaged over the orders of joining it.

Exactly, from the rewards of all subsets of agents, or of voters by a sample of orders.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ccpo_jax.errors import InputError
from ccpo_jax.rl.types import Array
from ccpo_jax.rl.votes import class_labels, joining_rewards, require_tie, without_rounding


def shapley_value(reward: ArrayLike) -> Array:
    """Exact Shapley value: the mean marginal contribution over all orders of joining the team.

        phi_k = sum over S without k of  |S|! (A - |S| - 1)! / A!  *  (R(S + k) - R(S))

    The values of all agents add up to R(all) - R(none), unlike difference rewards.

    Reference: Shapley, A value for n-person games (1953). Deviation: not in arXiv:2603.21563.

    Args:
      reward: ``[2**A, ...]`` float, entry m is the reward of the agents whose bits are set in m
        (bit k = agent k).

    Returns:
      ``[A, ...]`` float32, in the unit of `reward`.

    Raises:
      InputError: `reward`, if the first axis is not a power of two.

    Example:
      >>> reward = jnp.array([0.0, 1.0, 0.0, 1.0])
      >>> shapley_value(reward).tolist()
      [1.0, 0.0]
    """
    reward = jnp.asarray(reward, jnp.float32)
    subsets = reward.shape[0]
    agents = subsets.bit_length() - 1
    if subsets < 2 or subsets != 2**agents:
        raise InputError(
            "reward",
            f"axis 0 must hold all 2**A subsets of agents, received {subsets}; use 2, 4, 8, ...",
        )

    # without[k] [2**(A-1)]: the subsets that lack agent k.
    bit = 1 << np.arange(agents)[:, None]
    numbers = np.arange(subsets)
    without = np.stack([numbers[numbers & own_bit == 0] for own_bit in bit])
    sizes = [int(subset).bit_count() for subset in without.flat]
    orders = np.array([math.comb(agents - 1, size) for size in sizes])
    weight = (1.0 / (agents * orders)).astype(np.float32)
    weight = weight.reshape(without.shape + (1,) * (reward.ndim - 1))

    # Subtracting before weighting leaves an agent that changes nothing with exactly 0.
    marginal = reward[without | bit] - reward[without]
    return (weight * marginal).sum(axis=1)


def sample_orders(key: Array, agents: int, orders: int) -> Array:
    """Random orders of joining, in antithetic pairs: every order comes with its reverse.

    An agent that joins early in one of a pair joins late in the other, so that a pair says more
    about it than two orders drawn alone. Each order by itself is uniform over all A!.

    Args:
      key: a random key.
      agents: A.
      orders: even.

    Returns:
      ``[orders, A]`` int: order i and order orders / 2 + i are each other's reverse.

    Raises:
      InputError: `credit.orders`, if odd or below 2.

    Example:
      >>> first, second = sample_orders(jax.random.key(0), 4, 2).tolist()
      >>> sorted(first), first == second[::-1]
      ([0, 1, 2, 3], True)
    """
    if orders < 2 or orders % 2:
        raise InputError(
            "credit.orders",
            f"must be even and at least 2, an order and its reverse, received {orders}; use "
            "credit.orders=16",
        )
    keys = jax.random.split(key, orders // 2)
    forwards = jax.vmap(lambda key: jax.random.permutation(key, agents))(keys)
    return jnp.concatenate([forwards, forwards[:, ::-1]])


def sampled_shapley_value(
    answer_id: ArrayLike, correct: ArrayLike, orders: ArrayLike, *, tie: str = "expected"
) -> Array:
    """What each vote adds when it joins, for each of some orders of joining.

    The mean over uniformly drawn orders is an unbiased estimate of the Shapley value; like that it
    adds up to the reward of the whole team, in every single order. Time and memory are linear in A.

    Reference: Castro, Gomez, Tejada, Polynomial calculation of the Shapley value based on sampling
    (2009). Deviation: not in arXiv:2603.21563.

    Args:
      answer_id: ``[B, G, A]`` int, answer classes, -1 = abstains.
      correct: ``[B, G, A]`` float in [0, 1].
      orders: ``[B, O, A]`` int, orders of joining, the same ones for all samples of a prompt.
      tie: as in `vote_reward`.

    Returns:
      ``[O, A, B, G]`` float32 in [-1, 1].

    Raises:
      InputError: `team.tie`, if unknown.

    Example:
      >>> votes, right = jnp.array([[[0, 1]]]), jnp.array([[[1.0, 0.0]]])
      >>> orders = jnp.array([[[0, 1], [1, 0]]])
      >>> sampled_shapley_value(votes, right, orders)[..., 0, 0].tolist()
      [[1.0, -0.5], [0.5, 0.0]]
    """
    require_tie(tie)
    agents = jnp.shape(answer_id)[-1]
    label = class_labels(answer_id)
    correct = jnp.asarray(correct, jnp.float32)

    def added(label, correct, order):
        reward = joining_rewards(label, correct, order, classes=agents, tie=tie)
        gain = without_rounding(jnp.diff(reward, prepend=0.0))
        return jnp.zeros(agents).at[order].set(gain)

    over_samples = jax.vmap(added, in_axes=(0, 0, None))
    over_orders = jax.vmap(over_samples, in_axes=(None, None, 0))
    value = jax.vmap(over_orders)(label, correct, jnp.asarray(orders))
    return jnp.moveaxis(value, (1, 3), (0, 1))
