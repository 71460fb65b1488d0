"""Cross-reading: every thought of a dyad is judged by all answers of its group, by likelihood."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.errors import InputError
from ccpo_jax.rl.types import Array


def reading_weights(logprob: ArrayLike) -> Array:
    """How much of each answer belongs to each thought:

        w_gh = pi(a_h | t_g) / sum_j pi(a_h | t_j).

    The balance heuristic of multiple importance sampling, with one answer drawn after each thought.
    Over the thoughts g, the weights of an answer add up to 1.

    Reference: Veach and Guibas, Optimally combining sampling techniques (1995).

    Args:
      logprob: ``[G, B, G]`` float, nats: of answer h (last axis) on prompt b, had it followed
        thought g (first axis). The diagonal is what was sampled.

    Returns:
      ``[G, B, G]`` float32 in [0, 1].

    Example:
      >>> logprob = jnp.log(jnp.array([[[0.9, 0.3]], [[0.1, 0.3]]]))
      >>> reading_weights(logprob)[0, 0].round(2).tolist()
      [0.8999999761581421, 0.5]
    """
    return jax.nn.softmax(jnp.asarray(logprob, jnp.float32), axis=0)


def cross_read_advantages(
    reward: ArrayLike, logprob: ArrayLike, *, prior: float = 1.0, normalized: bool = True
) -> Array:
    """Advantages of Thinker and Solver from one answer per thought, each read by every thought.

    With w of `reading_weights`, the value of thought g is estimated from all G answers, and the
    Thinker's advantage compares it with the mean of all values:

        V_g = sum_h w_gh R_h / sum_h w_gh,
        A_g = G / (G - 1) * (V_g - mean_j V_j).

    The Solver's baseline is what the other answers say about its own thought, drawn towards their
    mean by a prior of weight kappa. It does not hold the answer that it is for:

        b_g = (sum_{h != g} w_gh R_h + kappa mean_{h != g} R_h) / (sum_{h != g} w_gh + kappa),
        A_g = R_g - b_g.

    Where every thought makes the same answers likely, the Thinker gets 0 and the Solver is compared
    with all others. Where no thought would have led to another's answer, both get the
    leave-one-out advantage.

    The Solver climbs E[R], exactly. So does the Thinker without the division by ``sum_h w_gh``,
    whose expectation is 1; the division makes equal rewards exactly 0 and lowers the variance, at a
    bias that falls with G. Without it, rewards are taken relative to the mean reward of the other
    prompts, which lowers the variance and biases nothing.

    Deviation: not in arXiv:2603.21563; the estimator is ours.

    Args:
      reward: ``[B, G]`` float, the team's reward.
      logprob: ``[G, B, G]`` float, nats, see `reading_weights`.
      prior: kappa, above 0; in answers.
      normalized: divide by ``sum_h w_gh``.

    Returns:
      ``[2, B, G]`` float32, Thinker and Solver, in the unit of `reward`.

    Raises:
      InputError: `reward`, if G < 2; `logprob`, if its shape does not fit.

    Example:
      >>> reward = jnp.array([[1.0, 0.0]])
      >>> alike = jnp.zeros((2, 1, 2))
      >>> cross_read_advantages(reward, alike).tolist()
      [[[0.0, 0.0]], [[1.0, -1.0]]]
    """
    reward = jnp.asarray(reward, jnp.float32)
    batch, group = reward.shape
    if group < 2:
        raise InputError(
            "reward", f"must hold at least 2 samples per prompt, received {group}; use group_size=2"
        )
    if jnp.shape(logprob) != (group, batch, group):
        raise InputError(
            "logprob",
            f"needs one value per thought, prompt and answer, {(group, batch, group)}, received "
            f"the shape {jnp.shape(logprob)}",
        )

    # Subtracting one reward, which cancels, makes equal rewards exactly 0.
    centred = reward - reward[:, :1]
    weight = reading_weights(logprob)
    if normalized:
        value = jnp.einsum("gbh,bh->bg", weight, centred) / weight.sum(axis=2).T
    else:
        value = jnp.einsum("gbh,bh->bg", weight, reward - _mean_of_other_prompts(reward))
    thinker = group / (group - 1) * (value - value.mean(axis=1, keepdims=True))

    of_others = jnp.where(jnp.eye(group, dtype=bool)[:, None], 0.0, weight)
    others = (centred.sum(axis=1, keepdims=True) - centred) / (group - 1)
    read = jnp.einsum("gbh,bh->bg", of_others, centred)
    baseline = (read + prior * others) / (of_others.sum(axis=2).T + prior)
    return jnp.stack([thinker, centred - baseline])


def _mean_of_other_prompts(reward: Array) -> Array:
    """``[B, 1]``; 0 where there is one prompt."""
    mean = reward.mean(axis=1, keepdims=True)
    return (mean.sum() - mean) / max(len(reward) - 1, 1)
