"""Which agents each step trains, and at which learning rates."""

import dataclasses
from collections.abc import Collection

from ccpo_jax.config import Config
from ccpo_jax.errors import InputError
from ccpo_jax.learner.optimizer import AdamW
from ccpo_jax.parameter_sets import ParameterSets, make_parameter_sets
from ccpo_jax.rl.topology import Topology


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Which agents each step trains.

    Attributes:
      groups: agents that train together, those of one parameter set.
      period: steps before the next group's turn; None = all agents in every step.
    """

    groups: tuple[tuple[int, ...], ...]
    period: int | None = None

    def active(self, step: int) -> tuple[int, ...]:
        """The agents that `step`, from 0, trains.

        Example:
          >>> [Schedule(((0, 1), (2,)), period=3).active(step) for step in (0, 2, 3, 6)]
          [(0, 1), (0, 1), (2,), (0, 1)]
        """
        if self.period is None:
            return tuple(agent for group in self.groups for agent in group)
        return self.groups[step // self.period % len(self.groups)]

    def num_training(self, agents: Collection[int], steps: int) -> int:
        """How many of the first `steps` steps train one of some agents.

        Example:
          >>> [Schedule(((0,), (1,)), period=3).num_training((1,), steps) for steps in (3, 5, 8)]
          [0, 2, 3]
        """
        if self.period is None:
            return steps
        rounds, rest = divmod(steps, len(self.groups) * self.period)
        total = 0
        for number, group in enumerate(self.groups):
            if set(group) & set(agents):
                in_last_round = min(max(rest - number * self.period, 0), self.period)
                total += rounds * self.period + in_last_round
        return total

    def all_active(self) -> list[tuple[int, ...]]:
        """Every value of `active`."""
        return [self.active(0)] if self.period is None else list(self.groups)


def make_schedule(config: Config, topology: Topology) -> Schedule:
    """Which agents each step trains: those that share parameters together."""
    alternate = config.trainer.schedule == "alternate" and config.mode != "sft"
    sets = _sets_of(config, topology)
    return Schedule(sets.agents, config.trainer.period if alternate else None)


def make_optimizers(config: Config, topology: Topology, schedule: Schedule) -> tuple[AdamW, ...]:
    """The optimizer of every parameter set: its learning rate, and over how many steps that decays.

    Raises:
      InputError: the number of rates fits neither the parameter sets nor the agents, or the warm-up
        leaves no step to decay in.
    """
    sets = _sets_of(config, topology)
    settings = dict(vars(config.optimizer))
    rates = sets.per_set(settings.pop("learning_rate"), "optimizer.learning_rate", "rates")
    if config.optimizer.schedule == "constant" or config.optimizer.decay_steps is not None:
        return tuple(AdamW(rate, **settings) for rate in rates)

    steps_per_batch = config.trainer.mini_batches * config.trainer.epochs
    warmup_steps = config.optimizer.warmup_steps
    optimizers = []
    for rate, members in zip(rates, sets.agents, strict=True):
        steps = schedule.num_training(members, config.steps) * steps_per_batch
        if 0 < steps <= warmup_steps:
            names = ", ".join(f"agent {a} ({topology.agent_roles[a]})" for a in members)
            raise InputError(
                "optimizer.warmup_steps",
                f"{warmup_steps} leaves no step to decay in: with steps={config.steps}, "
                f"{names:.200} makes {steps} optimizer steps; use at most {steps - 1}, or a longer "
                "run",
            )
        # Parameters whose turn never comes make no step.
        settings["decay_steps"] = max(steps, warmup_steps + 1)
        optimizers.append(AdamW(rate, **settings))
    return tuple(optimizers)


def _sets_of(config: Config, topology: Topology) -> ParameterSets:
    return make_parameter_sets(
        config.model, topology.num_agents, shared_policy=config.shared_policy
    )
