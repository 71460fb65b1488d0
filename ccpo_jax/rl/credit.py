"""Credit estimators: who gets paid what for one batch of rollouts, as (init, update) pairs.

The credit ``[A, B, G]`` of an estimator is each agent's reward for its own policy gradient, in all of its turns;
`group_advantage` or `leave_one_out_advantage` turns it into advantages. State is carried by the caller; estimators
without memory carry (). What an estimator needs decoded besides the team's own answers (masked worlds, several answers
per thought) and how its credit is best centred stand in its `CreditEstimator` and hold unless the run says otherwise.
One that remembers nothing also says what it is ``over`` a team of which fewer agents are masked: a step that trains
some agents alone does not decode worlds that mask the others.
"""

import dataclasses
import functools
import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.errors import InputError
from ccpo_jax.rl.advantages import leave_one_out_advantage
from ccpo_jax.rl.moments import init_moments, standardize, update_moments
from ccpo_jax.rl.rewards import (
    contribution,
    cross_play_contribution,
    event_bonus,
    gated_reward,
    history_gate,
    sepo_reward,
    shape_contribution,
    shapley_value,
    vote_reward,
)
from ccpo_jax.rl.topology import Topology, agent_masks, all_subsets, is_chain, texts_per_sample
from ccpo_jax.rl.types import (
    Array,
    Baseline,
    CCPOState,
    CreditEstimator,
    Needs,
    Outcome,
)

_CENTRED = Baseline(normalize_std=False)
_OWN_BASELINE = Baseline(kind="none")
_MOST_AGENTS = 10  # 2**10 subsets
_MOST_TEXTS = 64  # per sample: beyond it an estimator would spend a step on one prompt


def make_credit(name: str, topology: Topology, **hyper) -> CreditEstimator:
    """Builds a credit estimator by name and says clearly what is wrong with a name or a hyper-parameter.

    Args:
      name: a key of CREDITS.
      topology: the team.
      **hyper: hyper-parameters of that estimator.

    Returns:
      The estimator.

    Raises:
      ValueError: if the name or a hyper-parameter is unknown, out of range, or the estimator does not fit the team.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> make_credit("difference", dyad()).needs.ablated
      (0,)
    """
    if name not in CREDITS:
        raise ValueError(
            f"credit.name: {name!r} is unknown; use one of {', '.join(map(repr, CREDITS))}"
        )
    known = list(inspect.signature(CREDITS[name]).parameters)[1:]
    for key in hyper:
        if key not in known:
            raise ValueError(
                f"credit.{key}: {name!r} has no such hyper-parameter; use {', '.join(known) or 'none'}"
            )
    return CREDITS[name](topology, **hyper)


def shared(topology: Topology) -> CreditEstimator:
    """The team's reward for everyone: ``c_k = R``. The baseline of every table.

    Unbiased for E[R], and blind to who contributed: the luck of every agent is in every agent's gradient.

    Args:
      topology: any team.

    Returns:
      CreditEstimator without state or masked worlds.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> shared(dyad()).needs.ablated
      ()
    """

    def update(state, outcome):
        return jnp.stack([_team_reward(outcome)] * topology.num_agents), state

    return CreditEstimator(_stateless, update)


def magrpo(topology: Topology) -> CreditEstimator:
    """The team's reward against one baseline that all agents share, the mean of the group: ``c_k = R - mean_g R``.

    That is `shared` without division by the group's standard deviation: the gradient of E[R], times (G - 1) / G.

    Reference: arXiv:2508.04652 (MAGRPO), its advantage; Deviation: one reward at the end of a rollout, none per turn.

    Args:
      topology: any team.

    Returns:
      CreditEstimator without state or masked worlds; its credit is R, the advantage subtracts the mean.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> magrpo(dyad()).baseline.normalize_std
      False
    """
    return dataclasses.replace(shared(topology), baseline=_CENTRED)


def individual(topology: Topology) -> CreditEstimator:
    """Every voter is paid for its own answer: ``c_k = correct_k``. Trains soloists, not a team.

    Args:
      topology: a team that votes.

    Returns:
      CreditEstimator without state or masked worlds.

    Raises:
      ValueError: if the team does not vote, so that not every agent has an answer of its own.

    Example:
      >>> from ccpo_jax.rl.topology import voting
      >>> individual(voting()).needs.ablated
      ()
    """
    _require_vote("individual", topology)

    def update(state, outcome):
        return jnp.moveaxis(jnp.asarray(outcome.correct[0], jnp.float32), -1, 0), state

    return CreditEstimator(_stateless, update)


def ccpo(
    topology: Topology,
    *,
    alpha: float = 1.0,
    eta: float = 1.0,
    decay: float = 0.99,
    eps: float = 1e-6,
    min_samples: int = 10,
) -> CreditEstimator:
    """Counterfactual credit, shaped by the history of contributions.

    Dyad, with D = J - S (joint minus solo reward) and the gate g of `history_gate`:

        thinker: tanh(alpha * z(D)),        solver: g * z(J) + (1 - g) * z(S).

    Any other team, with Delta_k the reward lost when agent k is masked: ``tanh(alpha * z(Delta_k))``, one set of
    statistics for all agents. The statistics from before the step shape the step and are updated afterwards; until
    `min_samples` values were seen, contributions (and the Solver's joint reward) pass unshaped.

    Reference: arXiv:2603.21563. Deviation: voting follows the paper's text, its released code has none; chains, debates
    and other graphs are ours and are treated like voting.

    Args:
      topology: the dyad, or a team whose agents can all be masked.
      alpha: slope of the shaping.
      eta: steepness of the gate; the dyad alone has one.
      decay: weight of the past in the statistics, in [0, 1).
      eps: added to standard deviations.
      min_samples: values to see before shaping starts.

    Returns:
      CreditEstimator whose state is a CCPOState; only the dyad fills more of it than `delta`.

    Raises:
      ValueError: if some agent cannot be masked and the team is no dyad, or `decay` is out of range.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> int(ccpo(dyad()).init().delta.count)
      0
    """
    everyone = set(topology.ablated) == set(range(topology.num_agents))
    _require(
        everyone or _is_dyad(topology),
        "ccpo",
        topology,
        "the dyad or a team whose agents can all be masked",
    )
    _require_decay(decay)

    def init():
        return CCPOState(init_moments(), init_moments(), init_moments())

    def update(state, outcome):
        delta = _contributions(topology, outcome)
        ready = state.delta.count >= min_samples
        credit = jnp.where(
            ready, shape_contribution(delta, state.delta, alpha=alpha, eps=eps), delta
        )
        credit = credit[np.argsort(topology.ablated)]
        new = state._replace(delta=update_moments(state.delta, delta, decay=decay))
        if _is_dyad(topology):
            joint, solo = jnp.asarray(outcome.reward[:2], jnp.float32)
            solver = jnp.where(ready, gated_reward(joint, solo, state, eta=eta, eps=eps), joint)
            credit = jnp.stack([credit[0], solver])
            new = new._replace(
                joint=update_moments(state.joint, joint, decay=decay),
                solo=update_moments(state.solo, solo, decay=decay),
            )
        return credit, new

    def metrics(state):
        named = {}
        for name, moments in state._asdict().items():
            named[f"moments/{name}/mean"] = moments.mean
            named[f"moments/{name}/var"] = moments.var
        return named | {"moments/gate": history_gate(state.delta, eta=eta, eps=eps)}

    return CreditEstimator(init, update, Needs(ablated=topology.ablated), metrics=metrics)


def ccpo_event(topology: Topology, *, weight: float = 0.2, soft: bool = False) -> CreditEstimator:
    """Signed reward plus an event bonus for the Thinker: ``c_0 = J + weight * bonus``, ``c_1 = J``, with J in {-1, +1}.

    Made for centred advantages (`group_advantage` with normalize_std=False) and the GSPO loss; dividing by the standard
    deviation of the group would cancel the bonus.

    Reference: arXiv:2603.21563, event bonus of the later versions.

    Args:
      topology: the dyad.
      weight: lambda, size of the bonus.
      soft: bonus (J - b) / 2 in place of the event, see `event_bonus`.

    Returns:
      CreditEstimator without state. Credit is in [-1 - weight, 1 + weight].

    Raises:
      ValueError: if the team is not the dyad.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> ccpo_event(dyad()).needs.ablated
      (0,)
    """
    _require(_is_dyad(topology), "ccpo_event", topology, "the dyad")

    return _ccpo_event(topology, weight, soft)


def _ccpo_event(topology: Topology, weight: float, soft: bool) -> CreditEstimator:
    """`ccpo_event` of a dyad whose Thinker may be left unmasked: its bonus is then 0."""

    def update(state, outcome):
        _require_worlds(1 + len(topology.ablated), outcome)
        joint, *solo = 2.0 * jnp.asarray(outcome.reward, jnp.float32) - 1.0
        bonus = event_bonus(joint, solo[0], soft=soft) if solo else 0.0
        return jnp.stack([joint + weight * bonus, joint]), state

    def restrict(agents):
        return _ccpo_event(_masking_only(topology, agents), weight, soft)

    needs = Needs(ablated=topology.ablated)
    return CreditEstimator(_stateless, update, needs, _CENTRED, restrict)


def sepo(
    topology: Topology, *, own: float = 0.3, praise: float = 0.2, blame: float = 0.2
) -> CreditEstimator:
    """Both roles say who brought about the outcome, and share a part of it accordingly, see `sepo_reward`.

    After the verdict each role splits the outcome between Thinker and Solver; ``c_k = R + praise * w_k`` where the team
    was right and ``R - blame * w_k`` where it was wrong, with R in {-1, +1} and w_k the role's share less the group's
    mean share. What a role says about itself counts `own`, what its partner says 1 - own. Made for centred advantages.
    The ratings themselves are not trained on: a role that is paid by its own word would learn to praise itself.

    Reference: SEPO, from the authors of arXiv:2603.21563. Deviation: `sepo_reward` states the formula; that ratings are
    not trained is ours.

    Args:
      topology: the dyad.
      own: weight of a role's word about itself, in [0, 1].
      praise: lambda where the team was right, in [0, 1): below 1 the verdict decides the sign.
      blame: lambda where it was wrong, likewise.

    Returns:
      CreditEstimator without state; needs ratings, and no masked world.

    Raises:
      ValueError: if the team is not the dyad, or a hyper-parameter is out of range.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> sepo(dyad()).needs.ratings
      True
    """
    _require(_is_dyad(topology), "sepo", topology, "the dyad")
    for name, value, fits, words in (
        ("own", own, 0.0 <= own <= 1.0, "in [0, 1]"),
        ("praise", praise, 0.0 <= praise < 1.0, "in [0, 1)"),
        ("blame", blame, 0.0 <= blame < 1.0, "in [0, 1)"),
    ):
        if not fits:
            raise ValueError(f"credit.{name}: must be {words}, received {value}; use {name}=0.2")

    def update(state, outcome):
        if outcome.shares is None:
            raise InputError(
                "outcome.shares",
                "'sepo' needs both agents' ratings, received None; collect ratings",
            )
        thinker, solver = jnp.asarray(outcome.shares, jnp.float32)
        reward = 2.0 * _team_reward(outcome) - 1.0
        return jnp.stack(
            sepo_reward(reward, thinker, solver, eta=own, credit=praise, blame=blame)
        ), state

    return CreditEstimator(_stateless, update, Needs(ratings=True), _CENTRED)


def difference(topology: Topology) -> CreditEstimator:
    """Raw contribution: ``c_k = R - R_without_k``; an agent that cannot be masked gets R.

    Unbiased for E[R], because the reward without an agent does not depend on what that agent wrote.

    Reference: arXiv:2603.21563 without its shaping; known as the difference reward.

    Args:
      topology: any team.

    Returns:
      CreditEstimator without state.

    Example:
      >>> from ccpo_jax.rl.topology import voting
      >>> difference(voting()).needs.ablated
      (0, 1, 2)
    """

    def update(state, outcome):
        delta = _contributions(topology, outcome)
        world = {agent: index for index, agent in enumerate(topology.ablated)}
        agents = range(topology.num_agents)
        return jnp.stack(
            [delta[world[k]] if k in world else _team_reward(outcome) for k in agents]
        ), state

    def restrict(agents):
        return difference(_masking_only(topology, agents))

    needs = Needs(ablated=topology.ablated)
    return CreditEstimator(_stateless, update, needs, restrict=restrict)


def agent_norm(
    topology: Topology, *, decay: float = 0.99, eps: float = 1e-6, min_samples: int = 10
) -> CreditEstimator:
    """Contributions on each agent's own scale: ``c_k = (Delta_k - mean_k) / sd_k``, with running moments per agent.

    An agent that seldom changes the outcome has small contributions; on a common scale the others' gradients drown
    its own. Delta_k is the credit of `difference`. The moments from before the step shape the step, so the gradient is
    that of E[R], times 1 / sd_k; until `min_samples` values were seen, contributions pass as they are.

    Reference: arXiv:2602.08847 (Dr. MAS), normalisation per agent. Deviation: it normalises the shared reward over
    the samples of a group; here every agent speaks in every sample, so that would be `shared`. Contributions differ
    between agents, and running moments keep the gradient unbiased.

    Args:
      topology: any team.
      decay: weight of the past in the moments, in [0, 1).
      eps: added to standard deviations.
      min_samples: values per agent to see before normalising.

    Returns:
      CreditEstimator whose state is a RunningMoments with an axis of agents.

    Raises:
      ValueError: if `decay` is out of range.

    Example:
      >>> from ccpo_jax.rl.topology import voting
      >>> agent_norm(voting(3)).init().mean.shape
      (3,)
    """
    _require_decay(decay)
    raw = difference(topology)

    def init():
        return init_moments((topology.num_agents,))

    def update(state, outcome):
        delta, _ = raw.update((), outcome)
        scaled = jax.vmap(functools.partial(standardize, eps=eps))(delta, state)
        credit = jnp.where(state.count[0] >= min_samples, scaled, delta)
        return credit, jax.vmap(functools.partial(update_moments, decay=decay))(state, delta)

    def metrics(state):
        named = {}
        for agent in range(topology.num_agents):
            named[f"moments/{agent}/mean"] = state.mean[agent]
            named[f"moments/{agent}/var"] = state.var[agent]
        return named

    return CreditEstimator(init, update, raw.needs, _CENTRED, metrics=metrics)


def cross_play(topology: Topology) -> CreditEstimator:
    """Contribution of a vote averaged over all teams its group can form, see `cross_play_contribution`.

    Deviation: not in arXiv:2603.21563.

    Args:
      topology: a team that votes.

    Returns:
      CreditEstimator without state; it re-tallies votes itself and reads no masked world.

    Raises:
      ValueError: if the team does not vote.

    Example:
      >>> from ccpo_jax.rl.topology import voting
      >>> cross_play(voting()).needs.ablated
      ()
    """
    _require_voters("cross_play", topology)

    def update(state, outcome):
        return cross_play_contribution(
            outcome.answer_id[0], outcome.correct[0], tie=topology.tie
        ), state

    return CreditEstimator(_stateless, update)


def shapley(topology: Topology) -> CreditEstimator:
    """Exact Shapley value of every agent, from the team's reward in all 2**A subsets, see `shapley_value`.

    Voters who do not read each other are re-tallied: nothing more is decoded. In other teams every subset is a masked
    world, and what it changes is decoded: 3 texts a sample in the dyad (as for `difference`), 7 in a chain of three, 15
    in a debate of three. Agent k climbs the mean reward, over all orders of joining, of the team it has just joined, as
    far as it read there what it really read: in the dyad the Thinker half the team's reward and half its own text's
    correctness, the Solver half the team's reward.

    Deviation: not in arXiv:2603.21563.

    Args:
      topology: any team that takes at most 64 texts a sample in all worlds and has at most 10 agents.

    Returns:
      CreditEstimator without state.

    Raises:
      ValueError: if the team is too large.

    Example:
      >>> from ccpo_jax.rl.topology import dyad, voting
      >>> shapley(voting()).needs.ablated, shapley(dyad()).needs.ablated
      ((), ((0,), (1,), (0, 1)))
    """
    agents = topology.num_agents
    if agents > _MOST_AGENTS:
        raise ValueError(
            f"credit.name: 'shapley' looks at 2**{agents} subsets, more than 2**{_MOST_AGENTS}; "
            f"use num_agents={_MOST_AGENTS} at most, or credit.name='difference'"
        )
    subsets = all_subsets(agents)
    masks = agent_masks(agents, subsets)
    if _retallied(topology):

        def update(state, outcome):
            present = masks[:, None, None]
            reward = vote_reward(
                outcome.answer_id[0], outcome.correct[0], present, tie=topology.tie
            )
            return shapley_value(
                reward[::-1]
            ), state  # world w masks the agents of w: from behind, it holds them

        return CreditEstimator(_stateless, update)

    texts = texts_per_sample(topology, masks)
    if texts > _MOST_TEXTS:
        raise ValueError(
            f"credit.name: 'shapley' of this team takes {texts} texts a sample, more than {_MOST_TEXTS}; "
            "use fewer agents, or credit.name='difference'"
        )

    def update(state, outcome):
        _require_worlds(1 + len(subsets), outcome)
        return shapley_value(outcome.reward[::-1]), state

    return CreditEstimator(_stateless, update, Needs(ablated=subsets))


def nested(
    topology: Topology, *, answers: int = 4, solo_weight: float = 0.0, decay: float = 0.99
) -> CreditEstimator:
    """Several answers per thought: every agent of a chain is compared with what else could have been said there.

    Agent d of a chain speaks G K^d times, each of its texts is read by K texts of the next agent. With v(y) the mean
    reward of all samples that grew from a text y,

        c_d(y) = v(y) - mean of v over the other texts that answer the same words,

    the other G - 1 thoughts for agent 0, the other K - 1 answers to the same thought for its reader. So a thought is
    judged by K answers, and the luck of an answer does not touch the thought's neighbours. Unbiased for E[R].

    Solo answers (the team without agent 0) tell how hard a prompt is without costing a thought. As a control variate
    their mean, plus the running mean by which the team is ahead of them, takes the share `solo_weight` of agent 0's
    baseline. It pays where G is small: with G = 2 the other thought alone is a poor baseline.

    Deviation: not in arXiv:2603.21563. A sample costs 1 + K texts in the dyad: compare at equal decoded tokens.

    Args:
      topology: the dyad, or a chain.
      answers: K, at least 2.
      solo_weight: share of the solo answers in agent 0's baseline, in [0, 1]; above 0 they are decoded.
      decay: weight of the past in the running mean.

    Returns:
      CreditEstimator that is its own baseline. Its state is () or, with solo answers, RunningMoments.

    Raises:
      ValueError: if the team is no chain, or a hyper-parameter is out of range.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> nested(dyad(), answers=2).needs.answers_per_text
      2
    """
    _require(
        is_chain(topology),
        "nested",
        topology,
        "the dyad or a chain, in which each agent reads the one before",
    )
    _require_decay(decay)
    agents = topology.num_agents
    if answers < 2:
        raise ValueError(
            f"credit.answers: 'nested' compares answers, at least 2, received {answers}; use answers=4"
        )
    if answers ** (agents - 1) > _MOST_TEXTS:
        raise ValueError(
            f"credit.answers: {answers} answers to everything said make {answers ** (agents - 1)} samples of a chain "
            f"of {agents}, more than {_MOST_TEXTS}; use answers=2 or fewer agents"
        )
    if not 0.0 <= solo_weight <= 1.0:
        raise ValueError(
            f"credit.solo_weight: must be in [0, 1], received {solo_weight}; use solo_weight=0.5"
        )

    def advantages(reward):
        """``[B, L]`` -> ``[A, B, L]``: every sample has the advantage of the texts it grew from."""
        batch, leaves = reward.shape
        group = leaves // answers ** (agents - 1)
        found = []
        for depth in range(agents):
            siblings = group if depth == 0 else answers
            value = reward.reshape(batch, -1, siblings, answers ** (agents - 1 - depth)).mean(
                axis=-1
            )
            own = leave_one_out_advantage(value).reshape(batch, -1)
            found.append(jnp.repeat(own, leaves // own.shape[1], axis=1))
        return jnp.stack(found)

    if solo_weight == 0.0:

        def update(state, outcome):
            return advantages(_team_reward(outcome)), state

        return CreditEstimator(_stateless, update, Needs(answers_per_text=answers), _OWN_BASELINE)

    def update_with_solo(state, outcome):
        _require_worlds(2, outcome)
        joint, solo = jnp.asarray(outcome.reward, jnp.float32)
        credit = advantages(joint)
        thought = joint.reshape(len(joint), -1, answers ** (agents - 1)).mean(axis=-1)
        expected = solo.mean(axis=1, keepdims=True) + state.mean
        against_solo = jnp.repeat(thought - expected, answers ** (agents - 1), axis=1)
        first = (1.0 - solo_weight) * credit[0] + solo_weight * against_solo
        return jnp.concatenate([first[None], credit[1:]]), update_moments(
            state, joint - solo, decay=decay
        )

    def metrics(state):
        return {"nested/gain": state.mean}

    needs = Needs(ablated=((0,),), answers_per_text=answers)
    return CreditEstimator(init_moments, update_with_solo, needs, _OWN_BASELINE, metrics=metrics)


def pooled(
    topology: Topology,
    *,
    answers: int = 2,
    decay: float = 0.99,
    scaled: bool = True,
    eps: float = 1e-6,
) -> CreditEstimator:
    """Several answers per thought, and for each answer the baseline that both kinds of others make together.

    The Thinker's credit is that of `nested`. The Solver's answer k to thought g is compared with the K - 1 other
    answers to its thought, which share the thought's luck but are few, and with the answers to the other thoughts,
    which are many but had other thoughts to go by. Shrinkage weighs the two by what they are worth,

        c_gk = R_gk - w * mean_{j != k} R_gj - (1 - w) * mean_{h != g} v_h,    w = t / (t + s / (K - 1)),

    with t the variance between thoughts (of their true success rates) and s that between answers to one thought, both
    running means over prompts from the steps before this one (w = 1/2 in the first). No baseline holds the answer it is
    for, so without `scaled` the gradient is exactly that of E[R]. With it, both agents' credit is divided by the
    deviation of the prompt's rewards, as `group_advantage` does.

    Where t is small the Solver learns from all G K answers, where it is large from its own thought's; K = 2 then costs
    little. Deviation: not in arXiv:2603.21563. A sample costs 1 + K texts: compare at equal decoded tokens.

    Args:
      topology: the dyad.
      answers: K, at least 2.
      decay: weight of the past in the running means.
      scaled: divide by the standard deviation of the prompt's rewards.
      eps: added to the deviation.

    Returns:
      CreditEstimator that is its own baseline. Its state is a PooledState.

    Raises:
      ValueError: if the team is no dyad, or a hyper-parameter is out of range.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> float(pooled(dyad()).init().between)
      0.0
    """
    _require(_is_dyad(topology), "pooled", topology, "the dyad")
    plain = nested(topology, answers=answers, decay=decay)

    def init():
        return PooledState(jnp.int32(0), jnp.float32(0.0), jnp.float32(0.0))

    def update(state, outcome):
        (thinker, against_siblings), _ = plain.update((), outcome)
        reward = _team_reward(outcome)

        # Every answer against the mean of the answers to the other thoughts.
        trees = reward.reshape(len(reward), -1, answers)
        value = trees.mean(axis=-1)
        others = value.shape[-1] - 1
        other_thoughts = (value.sum(axis=-1, keepdims=True) - value) / others
        against_thoughts = reward - jnp.repeat(other_thoughts, answers, axis=1)

        # The weight comes from the steps before this one: it must not depend on this step's answers.
        between_past = jnp.maximum(state.between, 0.0)
        within_past = jnp.maximum(state.within, 0.0)
        spread = between_past + within_past / (answers - 1)
        weight = jnp.where(state.count == 0, 0.5, between_past / jnp.maximum(spread, eps))
        solver = weight * against_siblings + (1.0 - weight) * against_thoughts

        credit = jnp.stack([thinker, solver])
        if scaled:
            deviation = reward.std(axis=-1, ddof=1, keepdims=True)
            credit = jnp.where(deviation > eps, credit / (deviation + eps), 0.0)

        # The variance of the thoughts' means holds 1/K of the answers' variance; without it one prompt may be negative.
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
    return CreditEstimator(init, update, needs, _OWN_BASELINE, metrics=metrics)


class PooledState(NamedTuple):
    """State of the `pooled` credit: running means of two variances of the reward."""

    count: Array  # type: ignore[assignment] # shape=(), dtype=int32, prompts seen; 0 = none yet
    between: Array  # shape=(), dtype=float32, between the success rates of thoughts
    within: Array  # shape=(), dtype=float32, between the answers to one thought


def _masking_only(topology: Topology, agents: tuple[int, ...]) -> Topology:
    """The same team, of which only `agents` have a masked world."""
    ablated = tuple(agent for agent in topology.ablated if agent in agents)
    return dataclasses.replace(topology, ablated=ablated)


def _stateless() -> tuple[()]:
    return ()


def _team_reward(outcome: Outcome) -> Array:
    return jnp.asarray(outcome.reward[0], jnp.float32)


def _contributions(topology: Topology, outcome: Outcome) -> Array:
    """``[W-1, B, G]``: contribution of each ablated agent, in the order of `topology.ablated`."""
    _require_worlds(1 + len(topology.ablated), outcome)
    return contribution(outcome.reward)


def _require_worlds(expected: int, outcome: Outcome) -> None:
    worlds = outcome.reward.shape[0]
    if worlds != expected:  # an index beyond the end would be clamped, not refused
        raise ValueError(
            f"outcome.reward: needs {expected} worlds, received {worlds}; decode the masked worlds too"
        )


def _is_dyad(topology: Topology) -> bool:
    return topology.decision == "last" and topology.num_agents == 2 and topology.ablated == (0,)


def _retallied(topology: Topology) -> bool:
    """Whether masking changes no text: the votes of those who read nobody are only counted anew."""
    return topology.decision == "vote" and not any(topology.reads)


def _require_decay(decay: float) -> None:
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"credit.decay: must be in [0, 1), received {decay}; use decay=0.99")


def _require(fits: bool, name: str, topology: Topology, need: str) -> None:
    if not fits:
        raise ValueError(
            f"credit.name: {name!r} needs {need}, received topology {topology.name!r}; "
            "use 'shared' or 'difference', which fit every team, or another topology"
        )


def _require_vote(name: str, topology: Topology) -> None:
    _require(topology.decision == "vote", name, topology, "a team that votes")


def _require_voters(name: str, topology: Topology) -> None:
    _require(
        _retallied(topology), name, topology, "a team whose members vote without reading each other"
    )


CREDITS = {
    "shared": shared,
    "magrpo": magrpo,
    "individual": individual,
    "ccpo": ccpo,
    "ccpo_event": ccpo_event,
    "sepo": sepo,
    "difference": difference,
    "agent_norm": agent_norm,
    "cross_play": cross_play,
    "shapley": shapley,
    "nested": nested,
    "pooled": pooled,
}
