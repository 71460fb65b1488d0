"""Team outcomes into rewards: contributions, their shaping, event bonus, SEPO."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.rl.moments import standard_deviation, standardize
from ccpo_jax.rl.types import Array, CCPOState, RunningMoments
from ccpo_jax.scores import ROUNDING

_LARGEST_GATE_LOGIT = 20.0


def contribution(reward: ArrayLike) -> Array:
    """Marginal contribution of the agent masked in each world: ``Delta_w = R_0 - R_w``.

    Reference: arXiv:2603.21563, the counterfactual credit c_k = c_joint - c_{not k}.

    Args:
      reward: ``[W, ...]`` float, world 0 factual.

    Returns:
      ``[W-1, ...]`` float32 in the order of the masked worlds, in the unit of `reward`.

    Example:
      >>> reward = jnp.array([1.0, 0.0, 1.0])
      >>> contribution(reward).tolist()
      [1.0, 0.0]
    """
    reward = jnp.asarray(reward, jnp.float32)
    return reward[:1] - reward[1:]


def shape_contribution(
    delta: ArrayLike, moments: RunningMoments, *, alpha: float = 1.0, eps: float = 1e-6
) -> Array:
    """Bounded, history-aware contribution: ``r = tanh(alpha * z(Delta))``.

    Before the first update of the moments (count 0) it is the identity, ``r = Delta``.

    Reference: arXiv:2603.21563, the reward of the Thinker.

    Args:
      delta: any shape, contributions.
      moments: of contributions, from the steps before this one.
      alpha: slope at the mean.
      eps: added to the standard deviation.

    Returns:
      The shape of `delta`, float32, without unit; in (-1, 1) once the moments are updated.

    Example:
      >>> from ccpo_jax.rl.moments import init_moments
      >>> shape_contribution(jnp.array([1.0, -1.0]), init_moments()).tolist()
      [1.0, -1.0]
    """
    delta = jnp.asarray(delta, jnp.float32)
    shaped = jnp.tanh(alpha * standardize(delta, moments, eps=eps))
    return jnp.where(moments.count == 0, delta, shaped)


def history_gate(delta_moments: RunningMoments, *, eta: float = 1.0, eps: float = 1e-6) -> Array:
    """Weight of the joint reward against the solo reward, from the history of contributions:

        g = sigmoid(clip(eta * mean(Delta) / (sd(Delta) + eps), -20, 20)).

    Reference: arXiv:2603.21563, the gate between joint and solo reward.

    Args:
      delta_moments: of contributions, from the steps before this one.
      eta: steepness.
      eps: added to the standard deviation.

    Returns:
      ``[]`` float32 in (0, 1): 1/2 where the mean contribution is 0, towards 1 where the Thinker
      helps.

    Example:
      >>> from ccpo_jax.rl.moments import init_moments
      >>> float(history_gate(init_moments()))
      0.5
    """
    logit = eta * delta_moments.mean / (standard_deviation(delta_moments) + eps)
    return jax.nn.sigmoid(jnp.clip(logit, -_LARGEST_GATE_LOGIT, _LARGEST_GATE_LOGIT))


def gated_reward(
    joint: ArrayLike, solo: ArrayLike, state: CCPOState, *, eta: float = 1.0, eps: float = 1e-6
) -> Array:
    """Reward of the Solver: ``r = g * z(J) + (1 - g) * z(S)``, with g of `history_gate`.

    Before the first update of the moments (count 0) it is the joint reward, ``r = J``.

    Reference: arXiv:2603.21563, the reward of the Reasoner.

    Args:
      joint: any shape, reward with the Thinker.
      solo: the shape of `joint`, reward without the Thinker, paired with `joint` by index.
      state: moments of contribution, joint and solo reward, from the steps before this one.
      eta: steepness of the gate.
      eps: added to the standard deviations.

    Returns:
      The shape of `joint`, float32, without unit.

    Example:
      >>> from ccpo_jax.rl.moments import init_moments
      >>> gated_reward(jnp.ones(2), jnp.zeros(2), CCPOState(*[init_moments()] * 3)).tolist()
      [1.0, 1.0]
    """
    joint = jnp.asarray(joint, jnp.float32)
    gate = history_gate(state.delta, eta=eta, eps=eps)
    joint_score = standardize(joint, state.joint, eps=eps)
    solo_score = standardize(solo, state.solo, eps=eps)
    mixed = gate * joint_score + (1.0 - gate) * solo_score
    return jnp.where(state.joint.count == 0, joint, mixed)


def event_bonus(joint: ArrayLike, solo: ArrayLike, *, soft: bool = False) -> Array:
    """Bonus where the Thinker reversed the outcome that is usual without it.

    Rewards are signed scores, 2 s - 1: -1 is wrong, 1 is right. With b the mean solo reward of the
    prompt, without the Thinker the answer is usually wrong where b < 0 and right where b > 0,

        bonus = (J - sign(b)) / 2 where b is not 0, else 0,      soft: bonus = (J - b) / 2.

    For answers that are right or wrong this is the paper's event, [J > 0 and b < 0] - [J < 0 and
    b > 0]. A fraction counts as the part of the event that took place: a score of 0.3 where the
    answer is usually wrong has the bonus 0.3, and where it is usually right -0.7. A threshold would
    pay for crossing it, and so climb another objective than E[J].

    Because b is constant in a group, ``J + weight * bonus`` has ``1 + weight / 2`` times the
    centred advantage of J (1 times where b = 0, unless soft). The bonus re-weights prompts and
    never re-ranks thoughts.

    Reference: arXiv:2603.21563, event bonus of the later versions. Deviation: it has no fractions.

    Args:
      joint: ``[..., G]``, rewards in [-1, 1] with the Thinker.
      solo: ``[..., G]``, rewards in [-1, 1] without it, any number of samples.
      soft: graded by the solo samples' agreement.

    Returns:
      ``[..., G]`` float32 in [-1, 1]; in {-1, 0, 1} for rewards in {-1, 1}, unless soft.

    Example:
      >>> joint, solo = jnp.array([1.0, -1.0, 0.5]), jnp.array([-1.0, -1.0])
      >>> event_bonus(joint, solo).tolist()
      [1.0, 0.0, 0.75]
    """
    joint = jnp.asarray(joint, jnp.float32)
    usual = jnp.mean(jnp.asarray(solo, jnp.float32), axis=-1, keepdims=True)
    if soft:
        return (joint - usual) / 2.0

    is_tie = jnp.abs(usual) <= ROUNDING
    return jnp.where(is_tie, 0.0, (joint - jnp.sign(usual)) / 2.0)


def sepo_reward(
    reward: ArrayLike,
    thinker_split: ArrayLike,
    solver_split: ArrayLike,
    *,
    eta: float = 0.3,
    credit: float = 0.2,
    blame: float = 0.2,
) -> tuple[Array, Array]:
    """Divides one verdict between two roles, by the shares that both of them rate.

    With T the Thinker's rating and S the Solver's (each: the Thinker's share, the Solver's share),

        s_1 = eta * T_1 + (1 - eta) * S_1,
        s_2 = eta * S_2 + (1 - eta) * T_2,
        w_i = s_i / (s_1 + s_2),
        c_i = w_i - group mean of w_i,
        r_i = R + (credit * (1 + R) / 2 - blame * (1 - R) / 2) * c_i.

    A right answer, R = 1, has R + credit * c_i, a wrong one R - blame * c_i. A fraction has both
    parts: its score (1 + R) / 2 is credited, what it lacks is blamed. A role's rating of itself has
    the weight eta, its partner's rating 1 - eta. The c_i are zero-sum, c_1 = -c_2, and smaller than
    1, so the verifier decides the sign of every reward as long as `credit` and `blame` are below 1;
    that of fractions as long as the two are equal.

    Reference: SEPO, from the authors of arXiv:2603.21563. Deviation: it has no fractions.

    Args:
      reward: ``[..., G]`` in [-1, 1]: 1 = right, -1 = wrong.
      thinker_split: ``[..., G, 2]`` in (0, 1), shares as the Thinker rates them; (.5, .5) where its
        rating is invalid.
      solver_split: ``[..., G, 2]`` likewise, as the Solver rates them.
      eta: weight of a role's rating of itself.
      credit: weight of the shares in what the team got right.
      blame: weight of the shares in what it got wrong.

    Returns:
      Rewards of the Thinker and of the Solver, each ``[..., G]`` float32.

    Example:
      >>> shares = jnp.array([[0.9, 0.1], [0.5, 0.5]])
      >>> thinker, solver = sepo_reward(jnp.array([1.0, 1.0]), shares, shares)
      >>> [round(float(r), 3) for r in (*thinker, *solver)]
      [1.04, 0.96, 0.96, 1.04]
    """
    reward = jnp.asarray(reward, jnp.float32)
    by_thinker = jnp.asarray(thinker_split, jnp.float32)
    by_solver = jnp.asarray(solver_split, jnp.float32)

    thinker = eta * by_thinker[..., 0] + (1.0 - eta) * by_solver[..., 0]
    solver = eta * by_solver[..., 1] + (1.0 - eta) * by_thinker[..., 1]
    share = thinker / (thinker + solver)

    strength = credit * (1.0 + reward) / 2.0 - blame * (1.0 - reward) / 2.0
    adjustment = strength * (share - share.mean(axis=-1, keepdims=True))
    return reward + adjustment, reward - adjustment
