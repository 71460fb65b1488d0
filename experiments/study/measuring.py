"""What a run is measured by: greedy and sampled accuracy, pass@8, entropy, free riding."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ccpo_jax.rollout import Rollout
from ccpo_jax.train.build import Run
from ccpo_jax.train.evaluate import EvalConfig, evaluate
from ccpo_jax.train.step import publish
from ccpo_jax.verifiers import VerifierPool
from experiments.study.tasks import TEMPERATURES, Measures

# Folded into the run's key for evaluations: no training step has this number.
_EVALUATION_KEY = 2**31 - 1

# Responses that a call decodes at once.
_RESPONSES_PER_CALL = 4096


class Meter:
    """Evaluates a team on the first of its held-out problems, always the same ones.

    Args:
      run: the team and its held-out problems.
      pool: verifiers.
      measures: how many problems and samples.
    """

    def __init__(self, run: Run, pool: VerifierPool, measures: Measures):
        self._run = run
        self._pool = pool
        self._measures = measures
        self._key = jax.random.fold_in(jax.random.key(run.seed), _EVALUATION_KEY)

    def greedy(self, params: Sequence[Any]) -> dict[str, float]:
        """Per cent: the team's greedy accuracy; in a team of several also what it loses without
        each agent, and how often it was right and would have been without each agent.
        """
        metrics = self._evaluate(params, self._measures.heldout, 1, 0.0, members=True)
        team = 100 * metrics["team_accuracy"]
        columns: dict[str, Any] = {"greedy": team}
        agents = self._run.team.topology.num_agents
        if agents > 1:
            without = [100 * metrics[f"without_agent_accuracy/{k}"] for k in range(agents)]
            rides = [100 * metrics[f"free_ride/{k}"] for k in range(agents)]
            columns["lost_without"] = [team - value for value in without]
            columns["free_rides"] = rides
        return columns

    def watched(self, params: Sequence[Any]) -> float:
        """Greedy accuracy on the problems that are watched along the way, per cent."""
        metrics = self._evaluate(params, self._measures.watched, 1, 0.0)
        return 100 * metrics["team_accuracy"]

    def sampled(self, params: Sequence[Any], temperature: float = 1.0) -> dict[str, float]:
        """Accuracy and pass@k at a temperature, per cent."""
        samples = self._measures.samples
        metrics = self._evaluate(params, self._measures.sampled, samples, temperature)
        return {
            "sampled": 100 * metrics["team_accuracy"],
            f"pass_{samples}": 100 * metrics[f"pass_at_{samples}"],
        }

    def temperatures(self, params: Sequence[Any]) -> dict[str, float]:
        """Accuracy at temperatures below 1, per cent."""
        return {f"T={t:g}": self.sampled(params, t)["sampled"] for t in TEMPERATURES}

    def exchanged(self, params: Sequence[Any], start: Sequence[Any]) -> list[float]:
        """What the team loses in greedy accuracy where one agent is exchanged for its untrained
        self, per agent, in points.

        Raises:
          ValueError: agents share parameters, so that none can be exchanged alone.
        """
        agents = self._run.team.topology.num_agents
        if len(params) != agents:
            raise ValueError(f"{agents} agents have {len(params)} parameter sets")
        team = self._accuracy(params)
        losses = []
        for agent in range(agents):
            mixed = list(params)
            mixed[agent] = start[agent]
            losses.append(team - self._accuracy(mixed))
        return losses

    def _accuracy(self, params: Sequence[Any]) -> float:
        metrics = self._evaluate(params, self._measures.heldout, 1, 0.0)
        return 100 * metrics["team_accuracy"]

    def _evaluate(
        self,
        params: Sequence[Any],
        problems: int,
        samples: int,
        temperature: float,
        *,
        members: bool = False,
    ) -> dict[str, float]:
        team = self._run.team
        sampling = dataclasses.replace(self._run.evaluation.sampling, temperature=temperature)
        responses = samples * team.topology.num_agents
        batch = max(16, 2 ** int(math.log2(_RESPONSES_PER_CALL / responses)))
        config = EvalConfig(samples, min(batch, problems), False, members, sampling)
        return evaluate(
            team,
            publish(team, params),
            self._run.datasets.heldout.problems[:problems],
            self._pool,
            self._key,
            config,
        )


def entropies(rollouts: Rollout) -> list[float]:
    """Per turn, the mean surprisal of the sampled tokens in nats: their entropy, where tokens are
    drawn at temperature 1.
    """
    values = []
    for turn in rollouts.turns:
        rows = turn.rows(0)
        logprobs = np.asarray(turn.samples.logprobs)[:, rows]
        lengths = np.asarray(turn.samples.length)[:, rows]
        inside = np.arange(logprobs.shape[-1]) < lengths[..., None]
        values.append(float(-logprobs[inside].mean()))
    return values
