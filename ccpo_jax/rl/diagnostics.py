"""Statistics of one training step's credit, for metrics.jsonl."""

import numpy as np

from ccpo_jax.rl.topology import Topology
from ccpo_jax.rl.types import HostArray, Outcome
from ccpo_jax.scores import ROUNDING, is_solved

# Percentiles of credit, as a box plot draws them.
PERCENTS = (5, 25, 50, 75, 95)


def diagnostics(
    outcome: Outcome,
    credit: HostArray,
    advantage: HostArray,
    topology: Topology,
    *,
    known: HostArray | None = None,
) -> dict[str, float]:
    """Statistics of one step's credit, and of the contributions behind it.

    Of the credit of agent k: mean, variance and percentiles, and the share of silent groups, in
    which no sample has an advantage.

    Of its contribution, Delta_k = the team's reward minus its reward without k: help and hurt rates
    (Delta_k above or below 0), the free-rider rate (Delta_k <= 0 among the samples that the team
    got right, with a reward of 1), and in a vote the pivotal rate (Delta_k not 0). They are left
    out where the masked world was not decoded; the free-rider rate also where the team got nothing
    right. A contribution within 1e-6 of 0 is rounding, and counts as 0.

    The leak rate is how often an agent that reads nobody, and is followed by others, states the
    right answer itself; of answers with fractional scores, their mean score.

    Args:
      outcome: fields ``[W, B, G(, A)]``.
      credit: ``[A, B, G]``. A value that is not finite makes its agent's mean and variance not
        finite, so that it shows.
      advantage: ``[A, B, G]``.
      topology: the team.
      known: ``[A]`` bool, False = the step did not compute this agent's credit, which is left out;
        None = all are known.

    Returns:
      ``credit/<statistic>/<agent>`` -> value; rates are in [0, 1], credit in the unit of its
      estimator.

    Example:
      >>> from ccpo_jax.rl.topology import agent_masks, voting
      >>> team, nothing = voting(2), np.zeros((3, 1, 1, 2))
      >>> outcome = Outcome(np.array([[[1.0]], [[0.0]], [[1.0]]]), nothing, nothing, agent_masks(2))
      >>> metrics = diagnostics(outcome, np.ones((2, 1, 1)), np.zeros((2, 1, 1)), team)
      >>> metrics["credit/help_rate/0"], metrics["credit/free_rider_rate/1"]
      (1.0, 1.0)
    """
    reward = np.asarray(outcome.reward)
    metrics = _credit_statistics(np.asarray(credit), np.asarray(advantage), known)

    right = is_solved(reward[0])
    for world, mask in enumerate(np.asarray(outcome.agent_mask)[1:], 1):
        # A world that masks several agents is no single agent's.
        if mask.sum() != topology.num_agents - 1:
            continue
        agent = int(np.argmin(mask))
        delta = reward[0] - reward[world]
        delta[np.abs(delta) <= ROUNDING] = 0.0
        metrics[f"credit/help_rate/{agent}"] = float((delta > 0).mean())
        metrics[f"credit/hurt_rate/{agent}"] = float((delta < 0).mean())
        if right.any():
            metrics[f"credit/free_rider_rate/{agent}"] = float((delta[right] <= 0).mean())
        if topology.decision == "vote":
            metrics[f"credit/pivotal_rate/{agent}"] = float((delta != 0).mean())

    if topology.decision == "last":
        correct = np.asarray(outcome.correct)[0]
        for agent, turn in enumerate(topology.final_turns):
            if not topology.reads[turn] and turn < max(topology.final_turns):
                metrics[f"credit/leak_rate/{agent}"] = float(correct[..., agent].mean())
    return metrics


def _credit_statistics(
    credit: HostArray, advantage: HostArray, known: HostArray | None
) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for agent in range(len(credit)):
        if known is not None and not known[agent]:
            continue
        # Infinite credit has no variance: NumPy warns, and the metric is NaN.
        with np.errstate(invalid="ignore"):
            metrics[f"credit/mean/{agent}"] = float(credit[agent].mean())
            metrics[f"credit/var/{agent}"] = float(credit[agent].var())
            percentiles = np.percentile(credit[agent], PERCENTS)
        for percent, value in zip(PERCENTS, percentiles, strict=True):
            metrics[f"credit/percentile_{percent}/{agent}"] = float(value)
        silent = (advantage[agent] == 0).all(axis=-1)
        metrics[f"credit/silent_groups/{agent}"] = float(silent.mean())
    return metrics
