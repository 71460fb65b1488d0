"""Diagnostics of a training step: what the team's rollouts and its credit look like."""

import numpy as np

from ccpo_jax.rl.topology import Topology
from ccpo_jax.rl.types import HostArray, Outcome

PERCENTS = (5, 25, 50, 75, 95)  # percentiles of credit, as a box plot draws them


def diagnostics(
    outcome: Outcome,
    credit: HostArray,
    advantage: HostArray,
    topology: Topology,
    *,
    known: HostArray | None = None,
) -> dict[str, float]:
    """Statistics of one step's credit.

    For agent k, Delta_k is the team's reward minus its reward without k. help and hurt rates: Delta_k above or below 0;
    free-rider rate: among samples the team got right, those with Delta_k <= 0; pivotal rate (voting): Delta_k not 0.
    They are left out where the masked worlds were not decoded; the free-rider rate also where the team got nothing
    right. Leak rate: how often an agent that reads nobody and is followed by others states the right answer itself.

    Args:
      outcome: fields ``[W, B, G(, A)]``.
      credit: ``[A, B, G]``; a value that is not finite shows in the mean and variance of its agent.
      advantage: ``[A, B, G]``.
      topology: the team.
      known: ``[A]`` bool, False = the step did not compute this agent's credit, which is then left out; None = all are
        known.
    """
    credit = np.asarray(credit)
    advantage = np.asarray(advantage)
    reward = np.asarray(outcome.reward)
    found: dict[str, float] = {}

    agents = range(topology.num_agents) if known is None else np.flatnonzero(known)
    for agent in agents:
        with np.errstate(invalid="ignore"):  # infinite credit has no variance: it shows as NaN
            found[f"credit/mean/{agent}"] = float(credit[agent].mean())
            found[f"credit/var/{agent}"] = float(credit[agent].var())
            percentiles = np.percentile(credit[agent], PERCENTS)
        for percent, value in zip(PERCENTS, percentiles, strict=True):
            found[f"credit/percentile_{percent}/{agent}"] = float(value)
        found[f"credit/silent_groups/{agent}"] = float((advantage[agent] == 0).all(axis=-1).mean())

    right = reward[0] > 0.5
    for world, mask in enumerate(np.asarray(outcome.agent_mask)[1:], 1):
        if mask.sum() != topology.num_agents - 1:
            continue  # a world that masks several agents is nobody's own
        agent = int(np.argmin(mask))
        delta = reward[0] - reward[world]
        found[f"credit/help_rate/{agent}"] = float((delta > 0).mean())
        found[f"credit/hurt_rate/{agent}"] = float((delta < 0).mean())
        if right.any():
            found[f"credit/free_rider_rate/{agent}"] = float((delta[right] <= 0).mean())
        if topology.decision == "vote":
            found[f"credit/pivotal_rate/{agent}"] = float((delta != 0).mean())
    for agent, turn in enumerate(topology.final_turns):
        if (
            topology.decision == "last"
            and not topology.reads[turn]
            and turn < max(topology.final_turns)
        ):
            found[f"credit/leak_rate/{agent}"] = float(
                np.asarray(outcome.correct)[0, ..., agent].mean()
            )
    return found
