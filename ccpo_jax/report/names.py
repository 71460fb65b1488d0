"""Names of agents and turns, as the report shows them."""

from collections.abc import Sequence

from ccpo_jax.parameter_sets import make_parameter_sets
from ccpo_jax.rl.topology import Topology


def agent_names(topology: Topology) -> list[str]:
    """A name for each agent: its role, with its number where several share the role."""
    return _numbered(topology.agent_roles, range(topology.num_agents))


def turn_names(topology: Topology) -> list[str]:
    """A name for each turn: the role, with the speaker's number where several turns have it."""
    return _numbered(topology.roles, topology.speakers)


def set_names(topology: Topology, models: Sequence[str], *, shared_policy: bool) -> list[str]:
    """A name for each parameter set: that of its agent, or of all agents that share it."""
    sets = make_parameter_sets(models, topology.num_agents, shared_policy=shared_policy)
    if len(sets) == 1 and topology.num_agents > 1:
        return ["all agents"]
    alone = agent_names(topology)
    names = []
    for group, name in zip(sets.agents, sets.names(), strict=True):
        names.append(alone[group[0]] if len(group) == 1 else name)
    return names


def _numbered(roles: Sequence[str], agents: Sequence[int]) -> list[str]:
    names = []
    for role, agent in zip(roles, agents, strict=True):
        names.append(f"{role} {agent}" if roles.count(role) > 1 else role)
    return names
