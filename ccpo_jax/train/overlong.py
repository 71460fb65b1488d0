"""What the agents of a team pay for responses that come near their length limit."""

import dataclasses

import jax
import numpy as np

from ccpo_jax.rl.length_penalty import overlong_penalty
from ccpo_jax.rl.types import HostArray
from ccpo_jax.rollout import Rollout, Team

# Without a number of its own the buffer is a fifth of the limit, as in DAPO: 4096 of 20480 tokens.
_LIMIT_PER_BUFFER = 5

_penalty_of_lengths = jax.jit(overlong_penalty)


@dataclasses.dataclass(frozen=True)
class Overlong:
    """The soft overlong penalty of a run. Static, and compared by value.

    Attributes:
      weight: what a response that was cut costs, in the unit of credit.
      buffer: tokens before the limit in which the penalty grows; None = a fifth of each turn's
        limit.
    """

    weight: float
    buffer: int | None = None

    def __call__(self, team: Team, rollouts: Rollout) -> HostArray:
        """What is added to each agent's credit: ``[A, B, G]`` float32 in [-weight, 0].

        An agent pays for its own factual responses alone, and for the mean of them where it has
        several turns. A response that was cut counts as one of the limit's length. Samples of the
        team that share a text share its penalty.

        Args:
          team: who answered.
          rollouts: a batch, on the host.
        """
        topology = team.topology
        batch = len(rollouts.turns[0].prompts.prefix)
        group = rollouts.num_samples(topology, 0)
        samples = np.arange(group)

        total = np.zeros((topology.num_agents, batch, group), np.float32)
        turns = np.zeros(topology.num_agents, np.float32)
        for speaker, agent, turn in zip(
            topology.speakers, team.agents, rollouts.turns, strict=True
        ):
            limit = agent.max_tokens
            length = np.where(turn.samples.truncated, limit, turn.samples.length)
            of_row = np.asarray(_penalty_of_lengths(length, limit, self._buffer_of(limit)))
            total[speaker] += of_row[:, turn.row_of_sample(0, samples, group)]
            turns[speaker] += 1
        return self.weight * total / turns[:, None, None]

    def _buffer_of(self, limit: int) -> int:
        return max(limit // _LIMIT_PER_BUFFER, 1) if self.buffer is None else self.buffer


def overlong_metrics(penalty: HostArray) -> dict[str, float]:
    """``overlong_penalty/<agent>``: the mean of an agent's penalties ``[A, B, G]``."""
    return {
        f"overlong_penalty/{agent}": float(values.mean()) for agent, values in enumerate(penalty)
    }
