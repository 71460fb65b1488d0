"""The parts of scores by name, such as the terms of a weighted sum: per sample, and as metrics."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ccpo_jax.rl.topology import Topology
from ccpo_jax.rl.types import HostArray
from ccpo_jax.rollout import Rollout, outcome
from ccpo_jax.scores import is_fraction
from ccpo_jax.verifiers import Graded

# Characters of a part's name in the name of a metric.
_MAX_NAME_CHARS = 60


class PartScores(NamedTuple):
    """What one part gave the samples of a batch, as it gave it, in the factual world.

    NaN = it gave a text nothing.
    """

    team: HostArray  # shape=[B, G], dtype=float32: the team's answer
    agents: HostArray  # shape=[B, G, A], dtype=float32: each agent's own answer

    def of_problems(self) -> HostArray:
        """``[B]``: the mean over a problem's samples, NaN where none has the part."""
        known = ~np.isnan(self.team)
        total = np.where(known, self.team, 0.0).sum(axis=1)
        count = known.sum(axis=1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def part_scores(
    topology: Topology, rollouts: Rollout, graded: Sequence[Graded]
) -> dict[str, PartScores]:
    """The parts of a batch's scores, by the name that a metric can have; {} where there are none.

    A part stands for the score: a truncated answer has 0, and a team that votes has the part of its
    plurality answer. So where a score is a weighted sum, the team's reward is the sum of its parts
    with the same weights.

    Args:
      topology: the team's rule.
      rollouts: of a batch.
      graded: ``[B]``, with a verdict on every text of each problem, those of turn 0 first.
    """
    names = dict.fromkeys(name for verdicts in graded for name in verdicts.parts)
    if not names:
        return {}
    factual = rollouts._replace(masks=rollouts.masks[:1])
    samples_per_turn = [turn.samples.length.shape[1] for turn in rollouts.turns]
    borders = np.cumsum(samples_per_turn)[:-1]
    answer_id = np.array([verdicts.answer_id for verdicts in graded], np.int32)
    answer_id_of_turn = np.split(answer_id, borders, axis=1)

    scores = {}
    for name, metric_name in metric_names(names).items():
        nothing = [None] * answer_id.shape[1]
        # None becomes NaN.
        values = np.array([verdicts.parts.get(name, nothing) for verdicts in graded], np.float32)
        judged = outcome(topology, factual, np.split(values, borders, axis=1), answer_id_of_turn)
        scores[metric_name] = PartScores(
            np.asarray(judged.reward[0]), np.asarray(judged.correct[0])
        )
    return scores


def part_metrics(scores: dict[str, PartScores]) -> dict[str, float]:
    """Means over a batch: ``score/<part>`` of the team, ``score/<part>/<agent>`` of own answers."""
    metrics = {}
    for name, part in scores.items():
        values = {f"score/{name}": part.team}
        for agent in range(part.agents.shape[-1]):
            values[f"score/{name}/{agent}"] = part.agents[..., agent]
        for metric, of_samples in values.items():
            known = of_samples[~np.isnan(of_samples)]
            if known.size:
                metrics[metric] = float(known.mean())
    return metrics


def counter_metrics(counts: Mapping[str, int]) -> dict[str, float]:
    """The counters of verifiers as ``verifier/<reason>``.

    Functions of the user's have counters of their own, ``verifier/failed/<function>``, and only
    they leave a text without a score.
    """
    prefix = "failed/"
    functions = [name.removeprefix(prefix) for name in counts if name.startswith(prefix)]
    safe_names = metric_names(functions)
    metrics = {}
    for name, count in counts.items():
        if name.startswith(prefix):
            function = safe_names[name.removeprefix(prefix)]
            metrics[f"verifier/{prefix}{function}"] = float(count)
        elif functions or name != "no_score":
            metrics[f"verifier/{name}"] = float(count)
    return metrics


def metric_names(names: Iterable[str]) -> dict[str, str]:
    """Names of parts -> different names of at most 60 letters, digits, ``_``, ``-`` and ``.``.

    The names come from users' files; a metric's name is also a path for TensorBoard.

    Example:
      >>> metric_names(["math", "my/rewards.py:format"])
      {'math': 'math', 'my/rewards.py:format': 'my_rewards.py_format'}
    """
    safe_names: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^\w.\-]+", "_", name)[:_MAX_NAME_CHARS].strip("._") or "part"
        safe, number = plain, 1
        while safe in safe_names.values():
            number += 1
            safe = f"{plain[: _MAX_NAME_CHARS - 4]}_{number}"
        safe_names[name] = safe
    return safe_names


def has_fractions(graded: Iterable[Graded]) -> bool:
    """Whether scores say more than right and wrong: one lies between 0 and 1, or has parts."""
    return any(
        verdicts.parts or any(is_fraction(score) for score in verdicts.scores)
        for verdicts in graded
    )
