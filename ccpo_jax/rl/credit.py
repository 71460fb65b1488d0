"""Credit estimators: each agent's reward for one batch of rollouts, as (init, update) pairs.

The credit ``[A, B, G]`` of an estimator is each agent's reward for its own policy gradient, in all
of its turns; `group_advantage` or `leave_one_out_advantage` turns it into advantages. The caller
carries the state; estimators without one carry (). A `CreditEstimator` also declares what it needs
from the rollout (masked worlds, several answers per text, ratings) and how its credit is best
centred.

What each estimator's gradient climbs is stated under "Gradient" and tested by enumeration of small
tabular teams: those that state E[R] are unbiased for it with leave-one-out advantages, the others
climb another objective. Division by the group's deviation, the trainer's default for some of them,
is a bias that this statement leaves out.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.errors import InputError
from ccpo_jax.rl.answer_trees import nested, pooled
from ccpo_jax.rl.ccpo import ccpo, ccpo_event
from ccpo_jax.rl.cross_play import cross_play_contribution
from ccpo_jax.rl.cross_read import cross_read_advantages
from ccpo_jax.rl.estimator_parts import (
    CENTRED,
    MOST_TEXTS,
    OWN_BASELINE,
    contributions,
    factual_reward,
    masking_only,
    no_state,
    require_decay,
    require_eps,
    require_team,
    require_worlds,
)
from ccpo_jax.rl.moments import init_moments, standardize, update_moments
from ccpo_jax.rl.rewards import sepo_reward
from ccpo_jax.rl.shapley import sample_orders, sampled_shapley_value, shapley_value
from ccpo_jax.rl.topology import (
    Topology,
    agent_masks,
    all_subsets,
    is_dyad,
    texts_per_sample,
    votes_independently,
)
from ccpo_jax.rl.types import Array, CreditEstimator, Needs
from ccpo_jax.rl.votes import vote_reward

_MOST_AGENTS = 10  # 2**10 subsets
# Of joining that stand for all A!, unless the caller says how many.
_DEFAULT_ORDERS = 16


def make_credit(name: str, topology: Topology, **hyper) -> CreditEstimator:
    """Builds a credit estimator by name.

    Args:
      name: a key of CREDITS.
      topology: the team.
      **hyper: hyper-parameters of that estimator.

    Returns:
      The estimator.

    Raises:
      InputError: `credit.name`, if it is unknown or does not fit the team; `credit.<name>`, if a
        hyper-parameter is unknown or out of range.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> make_credit("difference", dyad()).needs.ablated
      (0,)
    """
    if name not in CREDITS:
        raise InputError(
            "credit.name", f"{name!r} is unknown; use one of {', '.join(map(repr, CREDITS))}"
        )
    known = list(inspect.signature(CREDITS[name]).parameters)[1:]
    for key in hyper:
        if key not in known:
            raise InputError(
                f"credit.{key}",
                f"{name!r} has no such hyper-parameter; use {', '.join(known) or 'none'}",
            )
    return CREDITS[name](topology, **hyper)


def shared(topology: Topology) -> CreditEstimator:
    """The team's reward for every agent: ``c_k = R``.

    Choose it as the baseline of every comparison: it fits every team and decodes nothing more. It
    is blind to who contributed, so the luck of every agent is noise in every agent's gradient.

    Gradient: that of E[R].

    Args:
      topology: any team.

    Returns:
      An estimator without state.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> shared(dyad()).needs.ablated
      ()
    """

    def update(state, outcome):
        return jnp.stack([factual_reward(outcome)] * topology.num_agents), state

    return CreditEstimator(no_state, update)


def magrpo(topology: Topology) -> CreditEstimator:
    """The team's reward, centred by the group's mean and not divided by its deviation: ``c_k = R``.

    Choose it to compare with MAGRPO. It is `shared` without the division by the group's standard
    deviation; the advantage R - mean_g R is the same for all agents.

    Gradient: that of E[R], times (G - 1) / G.

    Reference: arXiv:2508.04652 (MAGRPO), its advantage. Deviation: one reward at the end of a
    rollout, none per turn.

    Args:
      topology: any team.

    Returns:
      An estimator without state.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> magrpo(dyad()).baseline.normalize_std
      False
    """
    return dataclasses.replace(shared(topology), baseline=CENTRED)


def individual(topology: Topology) -> CreditEstimator:
    """The score of every voter's own answer: ``c_k = correct_k``.

    Choose it to see what a team gains over agents trained alone: it optimises individual, not team,
    accuracy.

    Gradient: that of each agent's own expected score.

    Args:
      topology: a team that votes.

    Returns:
      An estimator without state.

    Raises:
      InputError: `credit.name`, if the team does not vote: not every agent then has an answer.

    Example:
      >>> from ccpo_jax.rl.topology import voting
      >>> individual(voting()).needs.ablated
      ()
    """
    require_team(topology.decision == "vote", "individual", topology, "a team that votes")

    def update(state, outcome):
        return jnp.moveaxis(jnp.asarray(outcome.correct[0], jnp.float32), -1, 0), state

    return CreditEstimator(no_state, update)


def sepo(
    topology: Topology, *, own: float = 0.3, praise: float = 0.2, blame: float = 0.2
) -> CreditEstimator:
    """The signed team reward, adjusted by how much both roles say each contributed.

    Choose it where the agents can judge their own work; it decodes two ratings per sample and no
    masked world. After the verdict each role rates the shares of Thinker and Solver in the outcome.
    With R = 1 where the team was right, R = -1 where it was wrong, and w_k the role's share minus
    the group's mean share,

        c_k = R + praise * w_k where R = 1,      c_k = R - blame * w_k where R = -1,

    and between the two, for a fractional reward, the mixture of `sepo_reward`. The raters are then
    told that the outcome is partial. A role's rating of itself has the weight `own`, its
    partner's 1 - own. Made for centred advantages. Ratings themselves are not trained on: a role
    whose credit depends on its own rating would learn to praise itself.

    Gradient: not that of E[R]; the ratings tilt it, and it is as good as the raters.

    Reference: SEPO, from the authors of arXiv:2603.21563. Deviation: the formula is that of
    `sepo_reward`; that ratings are not trained on is ours.

    Args:
      topology: the dyad.
      own: weight of a role's rating of itself, in [0, 1].
      praise: lambda where the team was right, in [0, 1): below 1 the verdict decides the sign; that
        of fractional rewards too where praise equals blame.
      blame: lambda where it was wrong, likewise.

    Returns:
      An estimator without state that needs ratings.

    Raises:
      InputError: `credit.name`, if the team is not the dyad; `credit.own`, `credit.praise` or
        `credit.blame`, if out of range.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> sepo(dyad()).needs.ratings
      True
    """
    require_team(is_dyad(topology), "sepo", topology, "the dyad")
    if not 0.0 <= own <= 1.0:
        raise InputError("credit.own", f"must be in [0, 1], received {own}; use credit.own=0.3")
    for name, value in (("praise", praise), ("blame", blame)):
        if not 0.0 <= value < 1.0:
            raise InputError(
                f"credit.{name}", f"must be in [0, 1), received {value}; use credit.{name}=0.2"
            )

    def update(state, outcome):
        if outcome.shares is None:
            raise InputError(
                "outcome.shares",
                "'sepo' needs both agents' ratings, received None; collect ratings",
            )
        by_thinker, by_solver = jnp.asarray(outcome.shares, jnp.float32)
        reward = 2.0 * factual_reward(outcome) - 1.0
        thinker, solver = sepo_reward(
            reward, by_thinker, by_solver, eta=own, credit=praise, blame=blame
        )
        return jnp.stack([thinker, solver]), state

    return CreditEstimator(no_state, update, Needs(ratings=True), CENTRED)


def difference(topology: Topology) -> CreditEstimator:
    """The raw contribution: ``c_k = R - R_without_k``; an agent that is never masked gets R.

    Choose it for credit whose mean is each agent's contribution, at the price of one masked world
    per agent (free in a vote). An agent that changes nothing gets 0, one that harms the team less
    than 0.

    Gradient: that of E[R], because the reward without an agent does not depend on its own text;
    divided by the group's deviation, the trainer's default, it is biased.

    Reference: arXiv:2603.21563 without its shaping; known as the difference reward.

    Args:
      topology: any team.

    Returns:
      An estimator without state.

    Example:
      >>> from ccpo_jax.rl.topology import voting
      >>> difference(voting()).needs.ablated
      (0, 1, 2)
    """

    def update(state, outcome):
        reward = factual_reward(outcome)
        candidates = jnp.concatenate([contributions(topology, outcome), reward[None]])
        # Where an agent is never masked, the last row.
        row = np.full(topology.num_agents, len(topology.ablated))
        row[list(topology.ablated)] = np.arange(len(topology.ablated))
        return candidates[row], state

    def restrict(agents):
        return difference(masking_only(topology, agents))

    needs = Needs(ablated=topology.ablated)
    return CreditEstimator(no_state, update, needs, restrict=restrict)


def agent_norm(
    topology: Topology, *, decay: float = 0.99, eps: float = 1e-6, min_samples: int = 10
) -> CreditEstimator:
    """Contributions on each agent's own scale: ``c_k = (Delta_k - mean_k) / sd_k``.

    Choose it where some agents change the outcome far less often than others: on a common scale
    their small contributions drown in the others' gradients. Delta_k is the credit of `difference`;
    mean_k and sd_k are running moments of agent k. The moments from before the step shape the step;
    until `min_samples` values were seen, the credit is the raw contribution.

    Gradient: that of E[R], times 1 / sd_k for agent k.

    Reference: arXiv:2602.08847 (Dr. MAS), normalisation per agent. Deviation: it normalises the
    shared reward over the samples of a group; here every agent speaks in every sample, so that
    would be `shared`. Contributions differ between agents, and running moments, which do not hold
    the step's own samples, keep the direction of each agent's gradient that of E[R].

    Args:
      topology: any team.
      decay: weight of the past in the moments, in [0, 1).
      eps: added to standard deviations, at least 0.
      min_samples: values per agent to see before normalising.

    Returns:
      An estimator whose state is a RunningMoments of ``[A]`` fields.

    Raises:
      InputError: `credit.decay` or `credit.eps`, if out of range.

    Example:
      >>> from ccpo_jax.rl.topology import voting
      >>> agent_norm(voting(3)).init().mean.shape
      (3,)
    """
    require_decay(decay)
    require_eps(eps)
    raw = difference(topology)

    def init():
        return init_moments((topology.num_agents,))

    def update(state, outcome):
        delta, _ = raw.update((), outcome)
        scaled = jax.vmap(functools.partial(standardize, eps=eps))(delta, state)
        credit = jnp.where(state.count[0] >= min_samples, scaled, delta)
        new = jax.vmap(functools.partial(update_moments, decay=decay))(state, delta)
        return credit, new

    def metrics(state):
        named = {}
        for agent in range(topology.num_agents):
            named[f"moments/{agent}/mean"] = state.mean[agent]
            named[f"moments/{agent}/var"] = state.var[agent]
        return named

    return CreditEstimator(init, update, raw.needs, CENTRED, metrics=metrics)


def cross_play(topology: Topology, *, pairings: int | None = None) -> CreditEstimator:
    """The contribution to a vote, averaged over teams that its group can form.

    Choose it for independent voters: same expectation as `difference`, never more variance where it
    is exact, and nothing more to decode. See `cross_play_contribution` for the equation. All
    G^(A-1) teams are tried up to 2^12 of them. Larger teams are counted exactly on prompts whose
    answers fall into few classes (up to 8 for 7 voters, 4 for 15, 2 for 64); on the others 64 teams
    stand for all. The logbook has the time of each, and the variance that 64 teams add.

    Gradient: that of E[R], with any number of teams.

    Deviation: not in arXiv:2603.21563.

    Args:
      topology: a team whose members vote without reading each other.
      pairings: teams that stand for all, at least 1; None = exact where that is affordable, else
        64.

    Returns:
      An estimator without state; it counts votes again itself and reads no masked world.

    Raises:
      InputError: `credit.name`, if the team does not fit; `credit.pairings`, if below 1.

    Example:
      >>> from ccpo_jax.rl.topology import voting
      >>> cross_play(voting()).needs.ablated
      ()
    """
    require_team(
        votes_independently(topology),
        "cross_play",
        topology,
        "a team whose members vote without reading each other",
    )
    if pairings is not None and pairings < 1:
        raise InputError(
            "credit.pairings", f"must be at least 1, received {pairings}; use credit.pairings=64"
        )

    def update(state, outcome):
        credit = cross_play_contribution(
            outcome.answer_id[0], outcome.correct[0], tie=topology.tie, pairings=pairings
        )
        return credit, state

    return CreditEstimator(no_state, update)


def shapley(topology: Topology, *, orders: int | None = None) -> CreditEstimator:
    """Every agent's Shapley value: what it adds to the team, averaged over the orders of joining.

    Choose it where credit has to add up to the team's reward, and agents can stand in for each
    other. See `shapley_value` for the equation. Independent voters are counted again: nothing more
    is decoded. In other teams every subset is a masked world, and texts that it changes are
    decoded: 3 texts per sample in the dyad (as for `difference`), 7 in a chain of three, 15 in a
    debate of three.

    Up to ten agents the value is exact, from the reward of all 2**A subsets. Beyond, and wherever
    `orders` is given, it is the mean over random orders of joining and their reverses, which the
    samples of a prompt share: an unbiased estimate of the value, which adds up to the team's reward
    too. The orders of a step follow from the number of steps before it. Only independent voters
    have that: elsewhere each order would be other masked worlds to decode in each step.

    Gradient: not that of E[R]. Agent k climbs the expected reward of the team it has just joined,
    averaged over all orders of joining, and only where its inputs in that coalition equal its
    factual inputs. In the dyad the Thinker climbs half the team's reward and half its own
    correctness, the Solver half the team's reward.

    Reference: Shapley, A value for n-person games (1953); the sample of orders: Castro, Gomez,
    Tejada (2009). Deviation: not in arXiv:2603.21563.

    Args:
      topology: independent voters, or a team of at most 10 agents and 64 texts per sample in all
        worlds together.
      orders: of joining, even and at least 4, of independent voters; None = all up to ten agents,
        else 16.

    Returns:
      An estimator without state, or with sampled orders one whose state is an OrdersState.

    Raises:
      InputError: `credit.name`, if the team is too large; `credit.orders`, if out of range or the
        team does not vote independently.

    Example:
      >>> from ccpo_jax.rl.topology import dyad, voting
      >>> shapley(voting()).needs.ablated, shapley(dyad()).needs.ablated
      ((), ((0,), (1,), (0, 1)))
    """
    agents = topology.num_agents
    if votes_independently(topology) and (orders is not None or agents > _MOST_AGENTS):
        return _shapley_of_orders(topology, _DEFAULT_ORDERS if orders is None else orders)
    if orders is not None:
        raise InputError(
            "credit.orders",
            f"needs a team whose members vote without reading each other, received topology "
            f"{topology.name!r}: elsewhere every order decodes other masked worlds; leave it out",
        )
    if agents > _MOST_AGENTS:
        raise InputError(
            "credit.name",
            f"'shapley' needs 2**{agents} subsets, more than 2**{_MOST_AGENTS}, in a team whose "
            f"members read each other, topology {topology.name!r}; use at most {_MOST_AGENTS} "
            "agents, or credit.name='difference'",
        )
    subsets = all_subsets(agents)
    masks = agent_masks(agents, subsets)

    # World w masks the agents whose bits are set in w: in reverse order, it keeps them.
    if votes_independently(topology):

        def update_votes(state, outcome):
            present = masks[:, None, None]
            reward = vote_reward(
                outcome.answer_id[0], outcome.correct[0], present, tie=topology.tie
            )
            return shapley_value(reward[::-1]), state

        return CreditEstimator(no_state, update_votes)

    texts = texts_per_sample(topology, masks)
    if texts > MOST_TEXTS:
        raise InputError(
            "credit.name",
            f"'shapley' decodes {texts} texts per sample of this team, more than {MOST_TEXTS}; "
            "use fewer agents, or credit.name='difference'",
        )

    def update(state, outcome):
        require_worlds(1 + len(subsets), outcome)
        return shapley_value(outcome.reward[::-1]), state

    return CreditEstimator(no_state, update, Needs(ablated=subsets))


class OrdersState(NamedTuple):
    """State of the `shapley` credit with sampled orders."""

    count: Array  # type: ignore[assignment] # shape=(), dtype=int32, steps so far
    # shape=(), dtype=float32: what sampling added to the variance of the last step's credit.
    variance: Array


def _shapley_of_orders(topology: Topology, orders: int) -> CreditEstimator:
    """`shapley` of independent voters by sampled orders."""
    if orders < 4 or orders % 2:
        raise InputError(
            "credit.orders",
            "must be even and at least 4, because every order comes with its reverse, received "
            f"{orders}; use credit.orders=16",
        )

    def init():
        return OrdersState(jnp.int32(0), jnp.float32(0.0))

    def update(state, outcome):
        answer_id, correct = outcome.answer_id[0], outcome.correct[0]
        # Other orders in every step and for every prompt, and the same ones after a resume.
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), state.count), len(answer_id))
        sampled = jax.vmap(lambda key: sample_orders(key, topology.num_agents, orders))(keys)
        value = sampled_shapley_value(answer_id, correct, sampled, tie=topology.tie)

        # Pairs are independent of each other, the two orders of a pair are not.
        pairs = value.reshape(2, orders // 2, *value.shape[1:]).mean(axis=0)
        variance = pairs.var(axis=0, ddof=1).mean() / (orders // 2)
        return pairs.mean(axis=0), OrdersState(state.count + 1, variance)

    def metrics(state):
        return {"shapley/variance": state.variance}

    return CreditEstimator(init, update, metrics=metrics)


def cross_read(
    topology: Topology, *, prior: float = 1.0, normalized: bool = True
) -> CreditEstimator:
    """Every thought is judged by all answers of its group, each weighed by how likely that thought
    would have led to it.

    Choose it instead of `nested` in the dyad where decoding is dear: it decodes one answer per
    thought, as `shared` does, and reads the G answers of a prompt after each of its G thoughts,
    which costs a forward pass over them. See `cross_read_advantages` for the equations.

    Gradient: that of E[R] for the Solver, and with normalized=False for both agents. With
    `normalized` (the default) the Thinker's is biased towards 0, less as G grows.

    Deviation: not in arXiv:2603.21563.

    Args:
      topology: the dyad.
      prior: weight, in answers, of the mean of the other answers in the Solver's baseline; above 0.
      normalized: divide each thought's weights by their sum.

    Returns:
      An estimator without state whose credit is centred already.

    Raises:
      InputError: `credit.name`, if the team is not the dyad; `credit.prior`, if it is not above 0.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> cross_read(dyad()).needs.answer_logprob
      True
    """
    require_team(is_dyad(topology), "cross_read", topology, "the dyad")
    if not prior > 0.0:
        raise InputError("credit.prior", f"must be above 0, received {prior}; use credit.prior=1.0")

    def update(state, outcome):
        if outcome.answer_logprob is None:
            raise InputError(
                "outcome.answer_logprob",
                "is missing; give the log-likelihood of every answer after every thought",
            )
        credit = cross_read_advantages(
            factual_reward(outcome), outcome.answer_logprob, prior=prior, normalized=normalized
        )
        return credit, state

    needs = Needs(answer_logprob=True)
    return CreditEstimator(no_state, update, needs, OWN_BASELINE)


# The estimator of config field credit.name.
CREDITS: dict[str, Callable[..., CreditEstimator]] = {
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
    "cross_read": cross_read,
}
