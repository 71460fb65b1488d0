"""Team outcomes into per-agent rewards: votes, contributions, the event bonus, cross-play, Shapley values, SEPO."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.integers import ceil_div
from ccpo_jax.rl.moments import standard_deviation, standardize
from ccpo_jax.rl.types import Array, CCPOState, RunningMoments

TIES = ("expected", "wrong", "first")


_LARGEST_GATE_LOGIT = 20.0


_MOST_COMBINATIONS = 2**20  # beyond it, `cross_play_contribution` would take longer than decoding


_COMBINATIONS_AT_ONCE = 64  # bounds the memory of `cross_play_contribution`


def contribution(reward: Array) -> Array:
    """Marginal contribution of the agent masked in each world: ``Delta_w = R_0 - R_w``.

    Reference: arXiv:2603.21563, the counterfactual credit c_k = c_joint - c_{not k}.

    Args:
      reward: ``[W, ...]`` float, world 0 factual.

    Returns:
      ``[W-1, ...]`` float32, in the order of the masked worlds.

    Example:
      >>> contribution(jnp.array([1.0, 0.0, 1.0])).tolist()
      [1.0, 0.0]
    """
    reward = jnp.asarray(reward, jnp.float32)
    return reward[:1] - reward[1:]


def shape_contribution(
    delta: Array, moments: RunningMoments, *, alpha: float = 1.0, eps: float = 1e-6
) -> Array:
    """Bounded, history-aware contribution: ``r = tanh(alpha * z(Delta))``; ``r = Delta`` while nothing was seen.

    Reference: arXiv:2603.21563, the reward of the Thinker.

    Args:
      delta: any shape, contributions.
      moments: of contributions, of the steps before this one.
      alpha: slope at the mean.
      eps: added to the standard deviation.

    Returns:
      The shape of `delta`, float32, in (-1, 1) once something was seen.

    Example:
      >>> from ccpo_jax.rl.moments import init_moments
      >>> shape_contribution(jnp.array([1.0, -1.0]), init_moments()).tolist()
      [1.0, -1.0]
    """
    delta = jnp.asarray(delta, jnp.float32)
    return jnp.where(
        moments.count == 0, delta, jnp.tanh(alpha * standardize(delta, moments, eps=eps))
    )


def history_gate(delta_moments: RunningMoments, *, eta: float = 1.0, eps: float = 1e-6) -> Array:
    """How far the team is ahead of the lone Solver: ``g = sigmoid(clip(eta * mu_D / (sd_D + eps), -20, 20))``.

    Reference: arXiv:2603.21563, the gate between joint and solo reward.

    Args:
      delta_moments: of contributions, of the steps before this one.
      eta: steepness.
      eps: added to the standard deviation.

    Returns:
      ``[]`` float32 in (0, 1): 1/2 where the contribution is zero on average, towards 1 where the Thinker helps.

    Example:
      >>> from ccpo_jax.rl.moments import init_moments
      >>> float(history_gate(init_moments()))
      0.5
    """
    logit = eta * delta_moments.mean / (standard_deviation(delta_moments) + eps)
    return jax.nn.sigmoid(jnp.clip(logit, -_LARGEST_GATE_LOGIT, _LARGEST_GATE_LOGIT))


def gated_reward(
    joint: Array, solo: Array, state: CCPOState, *, eta: float = 1.0, eps: float = 1e-6
) -> Array:
    """Reward of the Solver: ``r = g * z(J) + (1 - g) * z(S)``; ``r = J`` while nothing was seen.

    Reference: arXiv:2603.21563, the reward of the Reasoner.

    Args:
      joint: any shape, reward with the Thinker.
      solo: the shape of `joint`, reward without, paired with `joint` by index.
      state: moments of contribution, joint and solo reward, of the steps before this one.
      eta: steepness of the gate.
      eps: added to the standard deviations.

    Returns:
      The shape of `joint`, float32.

    Example:
      >>> from ccpo_jax.rl.moments import init_moments
      >>> gated_reward(jnp.ones(2), jnp.zeros(2), CCPOState(*[init_moments()] * 3)).tolist()
      [1.0, 1.0]
    """
    joint = jnp.asarray(joint, jnp.float32)
    gate = history_gate(state.delta, eta=eta, eps=eps)
    mixed = gate * standardize(joint, state.joint, eps=eps) + (1.0 - gate) * standardize(
        solo, state.solo, eps=eps
    )
    return jnp.where(state.joint.count == 0, joint, mixed)


def event_bonus(joint: Array, solo: Array, *, soft: bool = False) -> Array:
    """Whether the Thinker turned the Solver's usual outcome around.

    With b the mean solo reward of the prompt,

        bonus = [J > 0 and b < 0] - [J < 0 and b > 0],      soft: bonus = (J - b) / 2.

    Because b is constant in a group, ``J + weight * bonus`` has ``1 + weight / 2`` times the centred advantage of J
    (1 times where b = 0, unless soft): the bonus re-weights prompts and never re-ranks thoughts.

    Reference: arXiv:2603.21563, event bonus of the later versions.

    Args:
      joint: ``[..., G]``, rewards in {-1, +1} with the Thinker.
      solo: ``[..., G]`` (any number of samples), rewards in {-1, +1} without.
      soft: grade the bonus by how sure the solo outcome was.

    Returns:
      ``[..., G]`` float32 in {-1, 0, 1}; in [-1, 1] if soft.

    Example:
      >>> event_bonus(jnp.array([1.0, -1.0]), jnp.array([-1.0, -1.0])).tolist()
      [1.0, 0.0]
    """
    joint = jnp.asarray(joint, jnp.float32)
    usual = jnp.mean(jnp.asarray(solo, jnp.float32), axis=-1, keepdims=True)
    if soft:
        return (joint - usual) / 2.0
    helped = (joint > 0) & (usual < 0)
    hurt = (joint < 0) & (usual > 0)
    return helped.astype(jnp.float32) - hurt.astype(jnp.float32)


def vote_reward(
    answer_id: Array, correct: Array, agent_mask: Array, *, tie: str = "expected"
) -> Array:
    """Correctness of the plurality answer of the agents that are present.

    Let n_i be the number of present agents that share agent i's answer and M = {i present: n_i = max n}. All top
    classes have the same size, so breaking ties uniformly has the expected correctness

        R = mean of correct_i over i in M.

    Symmetric in the agents, signed under masking and deterministic.

    Deviation: the released code of arXiv:2603.21563 holds no vote; this one is designed here.

    Args:
      answer_id: ``[..., A]`` int, class of each answer; -1 = no answer, abstains.
      correct: ``[..., A]`` float in [0, 1], each agent's own answer is right; a class is as right as its voters' mean.
      agent_mask: ``[..., A]`` bool, True = present. The three broadcast against each other.
      tie: "expected" (uniform), "wrong" (a tie scores 0) or "first" (the top class that spoke first wins).

    Returns:
      ``[...]`` float32 in [0, 1]; 0 if nobody votes.

    Raises:
      ValueError: if `tie` is unknown.

    Example:
      >>> vote_reward(jnp.array([0, 1, 2]), jnp.array([1.0, 0.0, 0.0]), jnp.array([True, True, False])).tolist()
      0.5
    """
    if tie not in TIES:
        raise ValueError(f"tie: {tie!r:.80} is unknown; use one of {', '.join(map(repr, TIES))}")
    answer_id = jnp.asarray(answer_id)
    votes = jnp.asarray(agent_mask, bool) & (answer_id >= 0)
    agree = answer_id[..., :, None] == answer_id[..., None, :]
    agree = agree & votes[..., :, None] & votes[..., None, :]
    size = agree.sum(axis=-1)
    top = size.max(axis=-1, keepdims=True)
    winner = votes & (size == top)
    if tie == "first":
        first = winner & (jnp.cumsum(winner, axis=-1) == 1)
        winner = (agree & first[..., :, None]).any(axis=-2)
    winners = winner.sum(axis=-1)
    right = jnp.where(winner, jnp.asarray(correct, jnp.float32), 0.0).sum(axis=-1) / jnp.maximum(
        winners, 1
    )
    return jnp.where(winners > top[..., 0], 0.0, right) if tie == "wrong" else right


def cross_play_contribution(answer_id: Array, correct: Array, *, tie: str = "expected") -> Array:
    """Contribution of each vote, averaged over every team its group can form.

    Voters answer independently, so any sample of one agent may be teamed with any samples of the others:

        c_k(g) = mean over h in {1..G}^(A-1) of  R(y_k^g, y_-k^h) - R(y_-k^h).

    This is the difference reward averaged over all pairings of the same samples (Rao-Blackwell): same expectation,
    never more variance, no further decoding. Works through G^(A-1) votes a few at a time.

    Deviation: not in arXiv:2603.21563.

    Args:
      answer_id: ``[B, G, A]`` int32, answer classes, -1 = abstains.
      correct: ``[B, G, A]`` float in [0, 1].
      tie: as in `vote_reward`.

    Returns:
      ``[A, B, G]`` float32 in [-1, 1].

    Raises:
      ValueError: if G^(A-1) exceeds 2^20.

    Example:
      >>> cross_play_contribution(jnp.array([[[0, 0], [0, 1]]]), jnp.array([[[1.0, 1.0], [1.0, 0.0]]])).tolist()
      [[[0.25, 0.25]], [[0.0, -0.5]]]
    """
    answer_id, correct = jnp.asarray(answer_id), jnp.asarray(correct, jnp.float32)
    batch, group, agents = answer_id.shape
    combinations = group ** (agents - 1)
    if combinations > _MOST_COMBINATIONS:
        raise ValueError(
            f"answer_id: {group} samples of {agents} agents form {combinations} teams, more than {_MOST_COMBINATIONS}; "
            "use a smaller group_size or credit.name='difference'"
        )
    at_once = min(combinations, _COMBINATIONS_AT_ONCE)
    index = jnp.arange(ceil_div(combinations, at_once) * at_once).reshape(-1, at_once)
    against = jax.vmap(functools.partial(_against_partners, answer_id, correct, tie=tie))

    def add(total, combination):
        credit = against(combination)
        return total + jnp.where(
            (combination < combinations)[:, None, None, None], credit, 0.0
        ).sum(axis=0), None

    total, _ = jax.lax.scan(add, jnp.zeros((agents, batch, group), jnp.float32), index)
    return total / combinations


def _against_partners(answer_id: Array, correct: Array, combination: Array, *, tie: str) -> Array:
    """``[A, B, G]``: each sample's contribution to one choice of partners, written as A - 1 digits in base G."""
    _, group, agents = answer_id.shape
    slots = np.arange(agents)
    own = (
        slots[:, None] == slots
    )  # [A, A] bool: agent k fills slot k, its partners the others in order
    digit = np.where(own, 0, slots - (slots > slots[:, None]))
    sample = combination // group ** jnp.asarray(digit) % group
    partner_id, partner_correct = (
        jnp.moveaxis(x[:, sample, slots], 1, 0)[:, :, None] for x in (answer_id, correct)
    )
    own_id, own_correct = (jnp.moveaxis(x, -1, 0)[..., None] for x in (answer_id, correct))
    own = own[:, None, None]
    team_id, team_correct = (
        jnp.where(own, own_id, partner_id),
        jnp.where(own, own_correct, partner_correct),
    )
    team = vote_reward(team_id, team_correct, True, tie=tie)
    return team - vote_reward(partner_id, partner_correct, ~own, tie=tie)


def shapley_value(reward: Array) -> Array:
    """Exact Shapley value: the mean marginal contribution over all orders in which the team could be assembled.

        phi_k = sum over S without k of  |S|! (A - |S| - 1)! / A!  *  (R(S + k) - R(S))

    Credits of all agents add up to R(all) - R(none), which difference rewards need not.

    Deviation: not in arXiv:2603.21563.

    Args:
      reward: ``[2**A, ...]``, entry m is the reward of the agents whose bits are set in m (bit k = agent k).

    Returns:
      ``[A, ...]`` float32, in the unit of `reward`.

    Raises:
      ValueError: if the first axis is no power of two.

    Example:
      >>> shapley_value(jnp.array([0.0, 1.0, 0.0, 1.0])).tolist()
      [1.0, 0.0]
    """
    reward = jnp.asarray(reward, jnp.float32)
    subsets = reward.shape[0]
    agents = subsets.bit_length() - 1
    if subsets < 2 or subsets != 2**agents:
        raise ValueError(
            f"reward: axis 0 must hold all 2**A subsets of agents, received {subsets}; use 2, 4, 8, ..."
        )
    without = np.array(
        [[m for m in range(subsets) if not m >> k & 1] for k in range(agents)]
    )  # [A, 2**(A-1)]
    weight = 1.0 / (
        agents * np.array([math.comb(agents - 1, int(m).bit_count()) for m in without.flat])
    )
    weight = weight.astype(np.float32).reshape(without.shape + (1,) * (reward.ndim - 1))
    # Subtracting before weighting leaves an agent that changes nothing with exactly 0.
    marginal = reward[without | 1 << np.arange(agents)[:, None]] - reward[without]
    return (weight * marginal).sum(axis=1)


def sepo_reward(
    reward: Array,
    thinker_split: Array,
    solver_split: Array,
    *,
    eta: float = 0.3,
    credit: float = 0.2,
    blame: float = 0.2,
) -> tuple[Array, Array]:
    """Shares one verdict between two roles by how both of them split it.

    With T the Thinker's split and S the Solver's (each: Thinker's part, Solver's part),

        s_1 = eta * T_1 + (1 - eta) * S_1,    s_2 = eta * S_2 + (1 - eta) * T_2,    w_i = s_i / (s_1 + s_2),
        c_i = w_i - group mean of w_i,        r_i = R + credit * c_i if R > 0,  R - blame * c_i otherwise.

    A role's word about itself counts eta, its partner's word 1 - eta. The shares are zero-sum, c_1 = -c_2, and smaller
    than 1, so the verifier decides the sign of every reward as long as `credit` and `blame` are below 1.

    Reference: SEPO, from the authors of arXiv:2603.21563.

    Args:
      reward: ``[..., G]`` in {-1, +1}.
      thinker_split: ``[..., G, 2]`` in (0, 1), (.5, .5) where the Thinker's rating was invalid.
      solver_split: ``[..., G, 2]`` likewise from the Solver.
      eta: weight of a role's own word.
      credit: weight of the shares where the team was right.
      blame: weight of the shares where it was wrong.

    Returns:
      Rewards of the Thinker and of the Solver, each ``[..., G]`` float32.

    Example:
      >>> split = jnp.array([[0.9, 0.1], [0.5, 0.5]])
      >>> thinker, solver = sepo_reward(jnp.array([1.0, 1.0]), split, split)
      >>> [round(float(r), 3) for r in (*thinker, *solver)]
      [1.04, 0.96, 0.96, 1.04]
    """
    reward, thinker_split, solver_split = (
        jnp.asarray(x, jnp.float32) for x in (reward, thinker_split, solver_split)
    )
    thinker = eta * thinker_split[..., 0] + (1.0 - eta) * solver_split[..., 0]
    solver = eta * solver_split[..., 1] + (1.0 - eta) * thinker_split[..., 1]
    share = thinker / (thinker + solver)
    tilt = jnp.where(reward > 0, credit, -blame) * (share - share.mean(axis=-1, keepdims=True))
    return reward + tilt, reward - tilt
