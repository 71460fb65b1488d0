"""Rewards into advantages: what one sample earned beside the others."""

import jax.numpy as jnp

from ccpo_jax.rl.types import Array

_ROUNDING = 8 * float(
    jnp.finfo(jnp.float32).eps
)  # about 1e-6: rewards that differ by less count as equal


def group_advantage(
    reward: Array, *, normalize_std: bool = True, ddof: int = 1, eps: float = 1e-6
) -> Array:
    """Group-relative advantage: ``A = (r - mean) / (std + eps)`` over the G samples of a prompt.

    A group whose rewards are all equal gets exactly 0: its float32 rounding divided by `eps` would otherwise pay free
    riders up to 0.19. "Equal" means a spread within 1e-6 * max(1, largest |r|), because sums of thirds and `tanh` do
    not round alike everywhere. A group of one gets 0.

    Dividing by the group's own deviation is not unbiased. Binary rewards of success rate p get the policy gradient
    times a weight w(p): at G = 4, ``w = 3/2 - (3 - 3/2 * sqrt(3)) * p * (1 - p)``. Rewards of several levels change
    its direction too. Without the division the expected gradient is (G - 1) / G of the policy gradient;
    `leave_one_out_advantage` is unbiased.

    Reference: arXiv:2603.21563. Deviation: exactly 0 on constant groups.

    Args:
      reward: ``[..., G]``.
      normalize_std: divide by the group's standard deviation.
      ddof: the deviation divides by G - ddof.
      eps: added to the deviation.

    Returns:
      ``[..., G]`` float32, without unit if `normalize_std`.

    Example:
      >>> group_advantage(jnp.array([1.0, 0.0]), normalize_std=False).tolist()
      [0.5, -0.5]
    """
    reward = jnp.asarray(reward, jnp.float32)
    varies = _varies(reward)
    centred = jnp.where(varies, reward - reward.mean(axis=-1, keepdims=True), 0.0)
    if not normalize_std:
        return centred
    var = jnp.square(centred).sum(axis=-1, keepdims=True) / max(reward.shape[-1] - ddof, 1)
    return centred / (jnp.sqrt(jnp.where(varies, var, 1.0)) + eps)


def leave_one_out_advantage(reward: Array) -> Array:
    """Reward minus the mean reward of the other samples: ``A_g = r_g - sum_{h != g} r_h / (G - 1)``.

    The baseline of a sample does not depend on it: the policy gradient stays unbiased. Constant groups get exactly 0.

    Args:
      reward: ``[..., G]``, G >= 2.

    Returns:
      ``[..., G]`` float32, in the unit of `reward`.

    Raises:
      ValueError: if G < 2.

    Example:
      >>> leave_one_out_advantage(jnp.array([1.0, 0.0, 0.0])).tolist()
      [1.0, -0.5, -0.5]
    """
    reward = jnp.asarray(reward, jnp.float32)
    group = reward.shape[-1]
    if group < 2:
        raise ValueError(
            f"reward: leave-one-out needs at least 2 samples a prompt, received {group}; use group_size=2"
        )
    others = (reward.sum(axis=-1, keepdims=True) - reward) / (group - 1)
    return jnp.where(_varies(reward), reward - others, 0.0)


def surprisal_advantage(reward: Array, surprisal: Array, *, eps: float = 1e-6) -> Array:
    """Reward minus the mean reward of the other prompts' samples, each weighed with its surprisal:

        A_bg = r_bg - sum_{a != b, h} l_ah r_ah / sum_{a != b, h} l_ah,    l = -log pi(y).

    Of all constant baselines the one with the least variance weighs every reward with the squared length of its
    sample's score, the gradient of log pi(y). What an agent says as good as always has a score near 0, what it seldom
    says a long one, and surprisal, which the sampler knows anyway, tells them apart. Where an agent mostly says what is
    right the baseline comes out far below the mean reward, and rare mistakes no longer fill the gradient with noise.

    No baseline holds a sample of its own prompt: the policy gradient stays unbiased, also with one sample a prompt, if
    the loss sums over a sequence's tokens and divides by what does not depend on them. A mean over the sequence's or
    the batch's tokens does: the scores then have no mean of 0. A batch of equal rewards gets exactly 0.

    Reference: Greensmith, Bartlett and Baxter, JMLR 5 (2004), for the weights. Deviation: not in arXiv:2603.21563;
    surprisal in place of the score's length is ours.

    Args:
      reward: ``[..., B, G]``, such as the credit ``[A, B, G]`` of every agent.
      surprisal: likewise, in nats, of what earned it.
      eps: nats added to every surprisal; where all are 0 the baseline is the mean.

    Returns:
      ``[..., B, G]`` float32, in the unit of `reward`.

    Raises:
      ValueError: if B < 2, or the shapes differ.

    Example:
      >>> reward = jnp.array([[1.0, 1.0], [1.0, 0.0]])
      >>> surprisal_advantage(reward, jnp.array([[0.0, 0.0], [1.0, 3.0]])).round(2).tolist()
      [[0.75, 0.75], [0.0, -1.0]]
    """
    reward, weight = jnp.asarray(reward, jnp.float32), jnp.asarray(surprisal, jnp.float32) + eps
    if reward.shape != weight.shape:
        raise ValueError(
            f"surprisal: has the shape {weight.shape}; give one per reward, {reward.shape}"
        )
    if reward.ndim < 2 or reward.shape[-2] < 2:
        raise ValueError(
            f"reward: needs two prompts at least, received the shape {reward.shape}; use [..., B, G]"
        )
    centred = (
        reward - reward[..., :1, :1]
    )  # what is equal becomes 0, and any constant falls out of what follows
    itself = jnp.eye(reward.shape[-2], dtype=bool)

    def over_others(
        x,
    ):  # added up without the prompt's own: taking it away again would leave its rounding behind
        return jnp.where(itself, 0.0, x.sum(axis=-1)[..., None, :]).sum(axis=-1)[..., None]

    return centred - over_others(weight * centred) / over_others(weight)


def _varies(reward: Array) -> Array:
    """``[..., 1]`` bool: the group's rewards differ by more than float32 rounding of values of order 1."""
    spread = reward.max(axis=-1, keepdims=True) - reward.min(axis=-1, keepdims=True)
    constant = spread <= _ROUNDING * jnp.maximum(jnp.abs(reward).max(axis=-1, keepdims=True), 1.0)
    return ~constant  # a NaN makes neither: it must show in the advantage
