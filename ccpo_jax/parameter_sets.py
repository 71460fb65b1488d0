"""Which agents of a team share their parameters."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from ccpo_jax.counts import read_counts
from ccpo_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class ParameterSets:
    """The parameter sets of a team.

    Attributes:
      agents: of every set, those that speak with it.

    Example:
      >>> sets = ParameterSets(((0, 1), (2,)))
      >>> sets.of_agent, sets.names()
      ((0, 0, 1), ('agents 0 and 1', 'agent 2'))
    """

    agents: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.agents)

    @property
    def of_agent(self) -> tuple[int, ...]:
        """The set ``[A]`` of every agent."""
        owner = {agent: number for number, group in enumerate(self.agents) for agent in group}
        return tuple(owner[agent] for agent in range(len(owner)))

    def names(self) -> tuple[str, ...]:
        """What to call each set: its agents."""
        return tuple(_name(group) for group in self.agents)

    def per_set(self, values: Sequence[Any], field: str, what: str) -> tuple[Any, ...]:
        """One value per set, from one for all, one per set, or one per agent.

        Args:
          values: what a field holds.
          field: for errors.
          what: the values, for errors.

        Raises:
          InputError: another number of values, or agents that share a set differ.
        """
        if len(values) in (1, len(self)):
            return tuple(values) * (len(self) // len(values))
        num_agents = len(self.of_agent)
        if len(values) != num_agents:
            sets = f"{len(self)} parameter sets" if len(self) > 1 else "one parameter set"
            more = f", or one per agent ({num_agents})" if num_agents > len(self) > 1 else ""
            more = more or (" with shared_policy=False" if len(self) == 1 else "")
            raise InputError(
                field, f"{len(values)} {what} for {sets}; give one, or one per set{more}"
            )
        for group in self.agents:
            for agent in group:
                if values[agent] != values[group[0]]:
                    raise InputError(
                        field,
                        f"agents {group[0]} and {agent} share their parameters, received "
                        f"{values[group[0]]!s:.80} and {values[agent]!s:.80}; give them the same, "
                        "or one value per parameter set",
                    )
        return tuple(values[group[0]] for group in self.agents)


def make_parameter_sets(
    models: Sequence[str], num_agents: int, *, shared_policy: bool
) -> ParameterSets:
    """Who shares parameters: `a*5,b*4` makes two sets, of the first five agents and of the others.
    Without counts every agent has a set of its own, unless `shared_policy` makes one for all.

    Args:
      models: as in the field `model`.
      num_agents: A.
      shared_policy: one set for all.

    Raises:
      InputError: `model`, if its counts do not add up to the agents; `shared_policy`, if there are
        counts.

    Example:
      >>> make_parameter_sets(("a*2", "b"), 3, shared_policy=False).agents
      ((0, 1), (2,))
    """
    counted = read_counts(models)
    if all(entry.count is None for entry in counted):
        everyone = tuple(range(num_agents))
        if shared_policy:
            return ParameterSets((everyone,))
        return ParameterSets(tuple((agent,) for agent in everyone))
    if shared_policy:
        raise InputError(
            "shared_policy",
            f"has no effect beside model={','.join(models):.80}, whose counts say who "
            "shares; received True; leave one out",
        )
    counts = [entry.count or 1 for entry in counted]
    _check_total(sum(counts), num_agents, models, "model")
    first = 0
    groups = []
    for count in counts:
        groups.append(tuple(range(first, first + count)))
        first += count
    return ParameterSets(tuple(groups))


def names_per_set(
    names: Sequence[str], sets: ParameterSets, field: str = "model"
) -> tuple[str, ...]:
    """The name of every set's model, from a list in which counts may stand.

    Raises:
      InputError: the list does not fit the sets.

    Example:
      >>> names_per_set(("a*2", "b"), ParameterSets(((0, 1), (2,))))
      ('a', 'b')
    """
    counted = read_counts(names, field)
    if any(entry.count is not None for entry in counted):
        per_agent = [entry.name for entry in counted for _ in range(entry.count or 1)]
        _check_total(len(per_agent), len(sets.of_agent), names, field)
        return sets.per_set(per_agent, field, "models")
    return sets.per_set([entry.name for entry in counted], field, "models")


def _check_total(total: int, num_agents: int, names: Sequence[str], field: str) -> None:
    if total != num_agents:
        agents = "1 agent" if num_agents == 1 else f"{num_agents} agents"
        raise InputError(
            field,
            f"{','.join(names):.80} is for {total} agents, the team has {agents}; let the counts "
            f"add up to {num_agents}",
        )


def _name(agents: Sequence[int]) -> str:
    first, *others = agents
    if not others:
        return f"agent {first}"
    return f"agents {first} {'and' if len(agents) == 2 else 'to'} {agents[-1]}"
