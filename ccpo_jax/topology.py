"""Teams: who reads whom, who can be masked, and how the team's answer is decided.

A topology is static data. A *world* is one row of ``agent_mask [W, A]``: world 0 keeps everyone, world w > 0 masks one
agent. Masking hides the agent's message from every later prompt and its vote from the tally.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from ccpo_jax.advantages import TIES, vote_reward
from ccpo_jax.records import Array


@dataclasses.dataclass(frozen=True)
class Topology:
    """One team. Agents are numbered in the order in which they speak."""

    name: str
    roles: tuple[str, ...]  # role of each agent: the key of its prompt
    reads: tuple[tuple[int, ...], ...]  # agents whose messages each agent reads; only earlier ones
    ablated: tuple[int, ...]  # agents that have a masked world in training
    decision: str  # "last": the last present agent answers for the team; "vote": plurality
    tie: str = "expected"  # how `vote_reward` breaks ties

    @property
    def num_agents(self) -> int:
        return len(self.roles)


def dyad() -> Topology:
    """Think-Reason dyad: agent 0 writes a thought, agent 1 reads it and answers; masking 0 leaves 1 to answer solo."""
    return Topology("dyad", roles=("thinker", "solver"), reads=((), (0,)), ablated=(0,), decision="last")


def voting(num_agents: int = 3, tie: str = "expected") -> Topology:
    """N voters answer independently; the plurality is the team's answer; masking a voter re-tallies the vote."""
    if num_agents < 2:
        raise ValueError(f"num_agents: a vote needs at least 2 agents, received {num_agents}; use num_agents=3")
    if tie not in TIES:
        raise ValueError(f"tie: {tie!r} is unknown; use one of {', '.join(map(repr, TIES))}")
    roles, reads, agents = ("voter",) * num_agents, ((),) * num_agents, tuple(range(num_agents))
    return Topology("voting", roles=roles, reads=reads, ablated=agents, decision="vote", tie=tie)


def agent_masks(num_agents: int, ablated: tuple[int, ...] | None = None) -> np.ndarray:
    """Masks of the factual world and of one world per ablated agent.

    Args:
      num_agents: A.
      ablated: agents to mask, one world each, in this order; None means every agent.

    Returns:
      ``[W, A]`` bool, W = 1 + len(ablated). Row 0 is all True.

    Raises:
      ValueError: if an entry of `ablated` is not an agent.

    Example:
      >>> agent_masks(2, (0,)).tolist()
      [[True, True], [False, True]]
    """
    ablated = tuple(range(num_agents)) if ablated is None else tuple(ablated)
    for agent in ablated:
        if not 0 <= agent < num_agents:
            raise ValueError(f"ablated: agent {agent} does not exist; use agents 0 to {num_agents - 1}")
    masks = np.ones((1 + len(ablated), num_agents), bool)
    masks[np.arange(1, len(ablated) + 1), list(ablated)] = False
    return masks


def ancestors(topology: Topology, agent: int) -> frozenset[int]:
    """Agents whose text can reach `agent`'s prompt, directly or through others."""
    found: set[int] = set()
    for reader in topology.reads[agent]:
        found |= {reader} | ancestors(topology, reader)
    return frozenset(found)


def variants(topology: Topology, agent: int, masks: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which worlds change what `agent` reads, so that only those are decoded again.

    Args:
      topology: the team.
      agent: whose turn.
      masks: ``[W, A]`` bool, row 0 factual.

    Returns:
      ``(representative, variant_of_world)``: the first world of each distinct variant (variant 0 is factual), and for
      every world the variant its text comes from.

    Example:
      >>> variants(dyad(), 1, agent_masks(2, (0,)))
      ((0, 1), (0, 1))
      >>> variants(dyad(), 0, agent_masks(2, (0,)))
      ((0,), (0, 0))
    """
    upstream = sorted(ancestors(topology, agent))
    seen: dict[tuple[bool, ...], int] = {}
    representative: list[int] = []
    of_world: list[int] = []
    for world, row in enumerate(np.asarray(masks)):
        view = tuple(bool(row[i]) for i in upstream)
        if view not in seen:
            seen[view] = len(representative)
            representative.append(world)
        of_world.append(seen[view])
    return tuple(representative), tuple(of_world)


def team_reward(topology: Topology, correct: Array, answer_id: Array, agent_mask: Array) -> Array:
    """The team's reward in every world.

    "vote" is the plurality's (expected) correctness; "last" is the correctness of the last present agent's answer.

    Args:
      topology: the team.
      correct: ``[W, ..., A]`` float32, each agent's answer is right.
      answer_id: ``[W, ..., A]`` int32, answer classes, -1 = none.
      agent_mask: ``[W, A]`` bool.

    Returns:
      ``[W, ...]`` float32 in [0, 1].
    """
    worlds, agents = agent_mask.shape
    mask = jnp.asarray(agent_mask).reshape((worlds,) + (1,) * (correct.ndim - 2) + (agents,))
    if topology.decision == "vote":
        return vote_reward(answer_id, correct, jnp.broadcast_to(mask, correct.shape), tie=topology.tie)
    last = agents - 1 - jnp.argmax(jnp.asarray(agent_mask)[:, ::-1], axis=1)
    index = jnp.broadcast_to(last.reshape(mask.shape[:-1] + (1,)), correct.shape[:-1] + (1,))
    return jnp.take_along_axis(correct, index, axis=-1)[..., 0]


TOPOLOGIES = {
    "dyad": dyad,
    "voting": voting,
}
