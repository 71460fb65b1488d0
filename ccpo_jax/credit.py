"""Credit estimators: who gets paid what for one batch of rollouts, as (init, update) pairs.

The credit ``[A, B, G]`` of an estimator is each agent's reward for its own policy gradient; `group_advantage` or
`leave_one_out_advantage` turns it into advantages. State is carried by the caller; estimators without memory carry ().
"""

import inspect

import jax.numpy as jnp
import numpy as np

from ccpo_jax.advantages import (
    contribution,
    cross_play_contribution,
    event_bonus,
    gated_reward,
    shape_contribution,
    shapley_value,
    vote_reward,
)
from ccpo_jax.moments import init_moments, update_moments
from ccpo_jax.records import Array, CCPOState, CreditEstimator, Outcome
from ccpo_jax.topology import Topology


def make_credit(name: str, topology: Topology, **hyper) -> CreditEstimator:
    """Builds a credit estimator by name and says clearly what is wrong with a name or a hyper-parameter.

    Args:
      name: a key of CREDITS.
      topology: the team.
      **hyper: hyper-parameters of that estimator.

    Returns:
      CreditEstimator(init, update, counterfactual).

    Raises:
      ValueError: if the name or a hyper-parameter is unknown, out of range, or the estimator does not fit the team.

    Example:
      >>> from ccpo_jax.topology import dyad
      >>> make_credit("difference", dyad()).counterfactual
      True
    """
    if name not in CREDITS:
        raise ValueError(f"credit.name: {name!r} is unknown; use one of {', '.join(map(repr, CREDITS))}")
    known = list(inspect.signature(CREDITS[name]).parameters)[1:]
    for key in hyper:
        if key not in known:
            raise ValueError(f"credit.{key}: {name!r} has no such hyper-parameter; use {', '.join(known) or 'none'}")
    return CREDITS[name](topology, **hyper)


def shared(topology: Topology) -> CreditEstimator:
    """The team's reward for everyone: ``c_k = R``. The baseline of every table.

    Unbiased for E[R], and blind to who contributed: the luck of every agent is in every agent's gradient.

    Args:
      topology: any team.

    Returns:
      CreditEstimator without state or masked worlds.

    Example:
      >>> from ccpo_jax.topology import dyad
      >>> shared(dyad()).counterfactual
      False
    """

    def update(state, outcome):
        return jnp.stack([_team_reward(outcome)] * topology.num_agents), state

    return CreditEstimator(_stateless, update, counterfactual=False)


def individual(topology: Topology) -> CreditEstimator:
    """Every voter is paid for its own answer: ``c_k = correct_k``. Trains soloists, not a team.

    Args:
      topology: a team that votes.

    Returns:
      CreditEstimator without state or masked worlds.

    Raises:
      ValueError: if the team does not vote, so that not every agent has an answer of its own.

    Example:
      >>> from ccpo_jax.topology import voting
      >>> individual(voting()).counterfactual
      False
    """
    _require_vote("individual", topology)

    def update(state, outcome):
        return jnp.moveaxis(jnp.asarray(outcome.correct[0], jnp.float32), -1, 0), state

    return CreditEstimator(_stateless, update, counterfactual=False)


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
      >>> from ccpo_jax.topology import dyad
      >>> int(ccpo(dyad()).init().delta.count)
      0
    """
    everyone = set(topology.ablated) == set(range(topology.num_agents))
    _require(everyone or _is_dyad(topology), "ccpo", topology, "the dyad or a team whose agents can all be masked")
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"credit.decay: must be in [0, 1), received {decay}; use decay=0.99")

    def init():
        return CCPOState(init_moments(), init_moments(), init_moments())

    def update(state, outcome):
        delta = _contributions(topology, outcome)
        ready = state.delta.count >= min_samples
        credit = jnp.where(ready, shape_contribution(delta, state.delta, alpha=alpha, eps=eps), delta)
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

    return CreditEstimator(init, update, counterfactual=True)


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
      >>> from ccpo_jax.topology import dyad
      >>> ccpo_event(dyad()).counterfactual
      True
    """
    _require(_is_dyad(topology), "ccpo_event", topology, "the dyad")

    def update(state, outcome):
        _require_worlds(topology, outcome)
        joint, solo = 2.0 * jnp.asarray(outcome.reward[:2], jnp.float32) - 1.0
        return jnp.stack([joint + weight * event_bonus(joint, solo, soft=soft), joint]), state

    return CreditEstimator(_stateless, update, counterfactual=True)


def difference(topology: Topology) -> CreditEstimator:
    """Raw contribution: ``c_k = R - R_without_k``; an agent that cannot be masked gets R.

    Unbiased for E[R], because the reward without an agent does not depend on what that agent wrote.

    Reference: arXiv:2603.21563 without its shaping; known as the difference reward.

    Args:
      topology: any team.

    Returns:
      CreditEstimator without state.

    Example:
      >>> from ccpo_jax.topology import voting
      >>> difference(voting()).counterfactual
      True
    """

    def update(state, outcome):
        delta = _contributions(topology, outcome)
        world = {agent: index for index, agent in enumerate(topology.ablated)}
        agents = range(topology.num_agents)
        return jnp.stack([delta[world[k]] if k in world else _team_reward(outcome) for k in agents]), state

    return CreditEstimator(_stateless, update, counterfactual=True)


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
      >>> from ccpo_jax.topology import voting
      >>> cross_play(voting()).counterfactual
      False
    """
    _require_voters("cross_play", topology)

    def update(state, outcome):
        return cross_play_contribution(outcome.answer_id[0], outcome.correct[0], tie=topology.tie), state

    return CreditEstimator(_stateless, update, counterfactual=False)


def shapley(topology: Topology) -> CreditEstimator:
    """Exact Shapley value of every voter, from a re-tally of all 2**A subsets, see `shapley_value`.

    Deviation: not in arXiv:2603.21563.

    Args:
      topology: a team that votes.

    Returns:
      CreditEstimator without state; it re-tallies votes itself and reads no masked world.

    Raises:
      ValueError: if the team does not vote.

    Example:
      >>> from ccpo_jax.topology import voting
      >>> shapley(voting()).counterfactual
      False
    """
    _require_voters("shapley", topology)

    def update(state, outcome):
        agents = jnp.arange(topology.num_agents)
        present = (jnp.arange(2**topology.num_agents)[:, None] >> agents & 1).astype(bool)
        present = present[:, None, None]  # [2**A, 1, 1, A]
        reward = vote_reward(outcome.answer_id[0], outcome.correct[0], present, tie=topology.tie)
        return shapley_value(reward), state

    return CreditEstimator(_stateless, update, counterfactual=False)


def _stateless() -> tuple[()]:
    return ()


def _team_reward(outcome: Outcome) -> Array:
    return jnp.asarray(outcome.reward[0], jnp.float32)


def _contributions(topology: Topology, outcome: Outcome) -> Array:
    """``[W-1, B, G]``: contribution of each ablated agent, in the order of `topology.ablated`."""
    _require_worlds(topology, outcome)
    return contribution(outcome.reward)


def _require_worlds(topology: Topology, outcome: Outcome) -> None:
    worlds, expected = outcome.reward.shape[0], 1 + len(topology.ablated)
    if worlds != expected:  # an index beyond the end would be clamped, not refused
        raise ValueError(f"outcome.reward: needs {expected} worlds, received {worlds}; decode the masked worlds too")


def _is_dyad(topology: Topology) -> bool:
    return topology.decision == "last" and topology.num_agents == 2 and topology.ablated == (0,)


def _require(fits: bool, name: str, topology: Topology, need: str) -> None:
    if not fits:
        raise ValueError(
            f"credit.name: {name!r} needs {need}, received topology {topology.name!r}; "
            "use 'shared' or 'difference', which fit every team, or another topology"
        )


def _require_vote(name: str, topology: Topology) -> None:
    _require(topology.decision == "vote", name, topology, "a team that votes")


def _require_voters(name: str, topology: Topology) -> None:
    alone = topology.decision == "vote" and not any(topology.reads)
    _require(alone, name, topology, "a team whose members vote without reading each other")


CREDITS = {
    "shared": shared,
    "individual": individual,
    "ccpo": ccpo,
    "ccpo_event": ccpo_event,
    "difference": difference,
    "cross_play": cross_play,
    "shapley": shapley,
}
