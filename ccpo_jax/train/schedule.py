"""Which agents each step trains, and at which learning rates."""

import dataclasses
from collections.abc import Collection, Sequence

from ccpo_jax.config import Config
from ccpo_jax.errors import InputError
from ccpo_jax.learner.optimizer import AdamW
from ccpo_jax.rl.topology import Topology


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Which agents each step trains."""

    num_agents: int
    period: int | None = None  # steps before the next agent's turn; None = all agents in every step

    def active(self, step: int) -> tuple[int, ...]:
        """The agents that `step`, from 0, trains.

        Example:
          >>> [Schedule(num_agents=2, period=3).active(step) for step in (0, 2, 3, 6)]
          [(0,), (0,), (1,), (0,)]
        """
        if self.period is None:
            return tuple(range(self.num_agents))
        return (step // self.period % self.num_agents,)

    def num_training(self, agents: Collection[int], steps: int) -> int:
        """How many of the first `steps` steps train one of some agents.

        Example:
          >>> [Schedule(num_agents=2, period=3).num_training((1,), steps) for steps in (3, 5, 8)]
          [0, 2, 3]
        """
        if self.period is None:
            return steps
        rounds, rest = divmod(steps, self.num_agents * self.period)
        total = 0
        for agent in agents:
            in_last_round = min(max(rest - agent * self.period, 0), self.period)
            total += rounds * self.period + in_last_round
        return total

    def all_active(self) -> list[tuple[int, ...]]:
        """Every value of `active`."""
        if self.period is None:
            return [self.active(0)]
        return [(agent,) for agent in range(self.num_agents)]


def make_schedule(config: Config, topology: Topology) -> Schedule:
    """Which agents each step trains."""
    alternate = config.trainer.schedule == "alternate" and config.mode != "sft"
    return Schedule(topology.num_agents, config.trainer.period if alternate else None)


def make_optimizers(config: Config, topology: Topology, schedule: Schedule) -> tuple[AdamW, ...]:
    """The optimizer of every parameter set: its learning rate, and over how many steps that decays.

    Raises:
      InputError: the number of rates is neither one nor that of the parameter sets, or the warm-up
        leaves no step to decay in.
    """
    agents = range(topology.num_agents)
    agents_of_set = [tuple(agents)] if config.shared_policy else [(agent,) for agent in agents]
    settings = dict(vars(config.optimizer))
    rates = _learning_rates(settings.pop("learning_rate"), len(agents_of_set))
    if config.optimizer.schedule == "constant" or config.optimizer.decay_steps is not None:
        return tuple(AdamW(rate, **settings) for rate in rates)

    steps_per_batch = config.trainer.mini_batches * config.trainer.epochs
    warmup_steps = config.optimizer.warmup_steps
    optimizers = []
    for rate, members in zip(rates, agents_of_set, strict=True):
        steps = schedule.num_training(members, config.steps) * steps_per_batch
        if 0 < steps <= warmup_steps:
            names = ", ".join(f"agent {a} ({topology.agent_roles[a]})" for a in members)
            raise InputError(
                "optimizer.warmup_steps",
                f"{warmup_steps} leaves no step to decay in: with steps={config.steps}, {names} "
                f"makes {steps} optimizer steps; use at most {steps - 1}, or a longer run",
            )
        # Parameters whose turn never comes make no step.
        settings["decay_steps"] = max(steps, warmup_steps + 1)
        optimizers.append(AdamW(rate, **settings))
    return tuple(optimizers)


def _learning_rates(rates: Sequence[float], count: int) -> tuple[float, ...]:
    """One rate per parameter set."""
    if len(rates) not in (1, count):
        sets = f"{count} parameter sets" if count > 1 else "one parameter set"
        raise InputError(
            "optimizer.learning_rate",
            f"{len(rates)} rates for {sets}; give one, or one per agent with shared_policy=False",
        )
    return tuple(rates) * (count // len(rates))
