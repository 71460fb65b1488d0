"""Names of agents and turns, as the report shows them."""

from collections.abc import Sequence

from ccpo_jax.rl.topology import Topology


def agent_names(topology: Topology) -> list[str]:
    """A name for each agent: its role, with its number where several share the role."""
    return _numbered(topology.agent_roles, range(topology.num_agents))


def turn_names(topology: Topology) -> list[str]:
    """A name for each turn: the role, with the speaker's number where several turns have it."""
    return _numbered(topology.roles, topology.speakers)


def _numbered(roles: Sequence[str], agents: Sequence[int]) -> list[str]:
    names = []
    for role, agent in zip(roles, agents, strict=True):
        names.append(f"{role} {agent}" if roles.count(role) > 1 else role)
    return names
