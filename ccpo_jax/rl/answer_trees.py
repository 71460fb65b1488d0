"""Credit from several answers to every text: the texts of a sample are the nodes of a tree."""

from typing import NamedTuple

import jax.numpy as jnp

from ccpo_jax.errors import InputError
from ccpo_jax.rl.advantages import leave_one_out_advantage
from ccpo_jax.rl.estimator_parts import (
    MOST_TEXTS,
    OWN_BASELINE,
    factual_reward,
    no_state,
    require_decay,
    require_eps,
    require_team,
    require_worlds,
)
from ccpo_jax.rl.moments import init_moments, update_moments
from ccpo_jax.rl.topology import Topology, is_chain, is_dyad
from ccpo_jax.rl.types import Array, CreditEstimator, Needs


def nested(
    topology: Topology, *, answers: int = 4, solo_weight: float = 0.0, decay: float = 0.99
) -> CreditEstimator:
    """Several answers per text: every text is compared with other texts for the same input.

    Choose it where the noise of later agents hides the quality of a thought; a sample costs 1 + K
    texts in the dyad, so compare at equal decoded tokens. Agent d of a chain speaks G K^d times,
    and K texts of the next agent answer each of its texts. With v(y) the mean reward of all samples
    that grew from a text y,

        c_d(y) = v(y) - mean of v over the other texts for the same input,

    that is, over the other G - 1 thoughts for agent 0, and over the other K - 1 answers to the same
    thought for its reader. So K answers judge a thought, and the luck of one answer does not reach
    other thoughts.

    Solo answers (the team without agent 0) measure how hard a prompt is, without another thought.
    As a control variate, their mean plus the running mean of joint minus solo reward makes up the
    part `solo_weight` of agent 0's baseline. It pays where G is small: with G = 2 the other thought
    alone is a poor baseline.

    Gradient: that of E[R].

    Deviation: not in arXiv:2603.21563.

    Args:
      topology: the dyad, or a chain.
      answers: K, at least 2.
      solo_weight: weight of the solo answers in agent 0's baseline, in [0, 1]; above 0 they are
        decoded.
      decay: weight of the past in the running mean, in [0, 1).

    Returns:
      An estimator whose credit is centred already. Its state is (), or with solo answers the
      RunningMoments of joint minus solo reward.

    Raises:
      InputError: `credit.name`, if the team is not a chain; `credit.answers`, `credit.solo_weight`
        or `credit.decay`, if out of range.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> nested(dyad(), answers=2).needs.answers_per_text
      2
    """
    require_team(
        is_chain(topology),
        "nested",
        topology,
        "the dyad or a chain, in which each agent reads the one before",
    )
    require_decay(decay)
    agents = topology.num_agents
    _require_answers(answers, agents)
    if not 0.0 <= solo_weight <= 1.0:
        raise InputError(
            "credit.solo_weight",
            f"must be in [0, 1], received {solo_weight}; use credit.solo_weight=0.5",
        )

    def update(state, outcome):
        return _nested_advantages(factual_reward(outcome), agents, answers), state

    if solo_weight == 0.0:
        needs = Needs(answers_per_text=answers)
        return CreditEstimator(no_state, update, needs, OWN_BASELINE)

    def update_with_solo(state, outcome):
        require_worlds(2, outcome)
        joint, solo = jnp.asarray(outcome.reward, jnp.float32)
        credit = _nested_advantages(joint, agents, answers)

        samples_per_thought = answers ** (agents - 1)
        thought = joint.reshape(len(joint), -1, samples_per_thought).mean(axis=-1)
        expected = solo.mean(axis=1, keepdims=True) + state.mean
        against_solo = jnp.repeat(thought - expected, samples_per_thought, axis=1)
        first = (1.0 - solo_weight) * credit[0] + solo_weight * against_solo

        new = update_moments(state, joint - solo, decay=decay)
        return jnp.concatenate([first[None], credit[1:]]), new

    def metrics(state):
        return {"nested/gain": state.mean}

    needs = Needs(ablated=((0,),), answers_per_text=answers)
    return CreditEstimator(init_moments, update_with_solo, needs, OWN_BASELINE, metrics=metrics)


def _nested_advantages(reward: Array, agents: int, answers: int) -> Array:
    """``[B, G K^(A-1)] -> [A, B, G K^(A-1)]``: every sample has the advantages of its texts."""
    batch, samples = reward.shape
    group = samples // answers ** (agents - 1)
    credit = []
    for depth in range(agents):
        siblings = group if depth == 0 else answers
        samples_per_text = answers ** (agents - 1 - depth)
        value = reward.reshape(batch, -1, siblings, samples_per_text).mean(axis=-1)
        advantage = leave_one_out_advantage(value).reshape(batch, -1)
        credit.append(jnp.repeat(advantage, samples // advantage.shape[1], axis=1))
    return jnp.stack(credit)


class PooledState(NamedTuple):
    """State of the `pooled` credit: running means of two variances of the reward."""

    count: Array  # type: ignore[assignment] # shape=(), dtype=int32, prompts seen; 0 = none yet
    between: Array  # shape=(), dtype=float32, between the mean rewards of thoughts
    within: Array  # shape=(), dtype=float32, between the answers to one thought


def pooled(
    topology: Topology,
    *,
    answers: int = 2,
    decay: float = 0.99,
    scaled: bool = True,
    eps: float = 1e-6,
) -> CreditEstimator:
    """Several answers per thought, each compared with a weighted mean of two kinds of others.

    Choose it instead of `nested` in the dyad when K is small; a sample costs 1 + K texts, so
    compare at equal decoded tokens. The Thinker's credit is that of `nested`. The Solver's answer k
    to thought g is compared with the K - 1 other answers to its thought, which share the thought's
    luck but are few, and with the answers to the other thoughts, which are many but had other
    inputs. Shrinkage weighs the two by their precision,

        c_gk = R_gk - w * mean_{j != k} R_gj - (1 - w) * mean_{h != g} v_h,
        w = t / (t + s / (K - 1)),

    with t the variance between thoughts (of their true mean rewards) and s the variance between
    answers to one thought, both running means over prompts from the steps before this one (w = 1/2
    in the first). Where t is small the Solver learns from all G K answers, where it is large from
    its own thought's.

    Gradient: that of E[R] with scaled=False, because no baseline holds the answer it is for. With
    `scaled` (the default) not that of E[R]: both agents' credit is divided by the deviation of the
    prompt's rewards, as `group_advantage` does, which re-weights prompts.

    Deviation: not in arXiv:2603.21563.

    Args:
      topology: the dyad.
      answers: K, at least 2.
      decay: weight of the past in the running means, in [0, 1).
      scaled: divide by the standard deviation of the prompt's rewards.
      eps: added to the deviation, at least 0.

    Returns:
      An estimator whose credit is centred already. Its state is a PooledState.

    Raises:
      InputError: `credit.name`, if the team is not the dyad; `credit.answers`, `credit.decay` or
        `credit.eps`, if out of range.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> float(pooled(dyad()).init().between)
      0.0
    """
    require_team(is_dyad(topology), "pooled", topology, "the dyad")
    require_decay(decay)
    require_eps(eps)
    _require_answers(answers, topology.num_agents)

    def init():
        return PooledState(jnp.int32(0), jnp.float32(0.0), jnp.float32(0.0))

    def update(state, outcome):
        reward = factual_reward(outcome)
        thinker, against_siblings = _nested_advantages(reward, 2, answers)

        # Every answer against the mean of the answers to the other thoughts.
        trees = reward.reshape(len(reward), -1, answers)
        value = trees.mean(axis=-1)
        others = value.shape[-1] - 1
        other_thoughts = (value.sum(axis=-1, keepdims=True) - value) / others
        against_thoughts = reward - jnp.repeat(other_thoughts, answers, axis=1)

        # The weight must not depend on this step's answers, or the baselines would.
        between_past = jnp.maximum(state.between, 0.0)
        within_past = jnp.maximum(state.within, 0.0)
        total = between_past + within_past / (answers - 1)
        weight = jnp.where(state.count == 0, 0.5, between_past / jnp.maximum(total, eps))
        solver = weight * against_siblings + (1.0 - weight) * against_thoughts

        credit = jnp.stack([thinker, solver])
        if scaled:
            deviation = reward.std(axis=-1, ddof=1, keepdims=True)
            credit = jnp.where(deviation > eps, credit / (deviation + eps), 0.0)

        # The variance of the thoughts' means holds 1/K of the answers' variance. Without that part
        # it may come out negative for one prompt.
        within = trees.var(axis=-1, ddof=1).mean(axis=-1)
        between = value.var(axis=-1, ddof=1) - within / answers
        past = jnp.where(state.count == 0, 0.0, decay)
        new = PooledState(
            count=state.count + len(reward),
            between=past * state.between + (1.0 - past) * between.mean(),
            within=past * state.within + (1.0 - past) * within.mean(),
        )
        return credit, new

    def metrics(state):
        return {"pooled/between": state.between, "pooled/within": state.within}

    needs = Needs(answers_per_text=answers)
    return CreditEstimator(init, update, needs, OWN_BASELINE, metrics=metrics)


def _require_answers(answers: int, agents: int) -> None:
    if answers < 2:
        raise InputError(
            "credit.answers",
            f"must be at least 2, to compare answers, received {answers}; use credit.answers=4",
        )
    samples = answers ** (agents - 1)
    if samples > MOST_TEXTS:
        raise InputError(
            "credit.answers",
            f"{answers} answers to every text make {samples} samples of a chain of {agents}, more "
            f"than {MOST_TEXTS}; use credit.answers=2 or fewer agents",
        )
