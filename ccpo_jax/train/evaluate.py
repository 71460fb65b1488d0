"""Evaluation: verdicts for rollouts, and what a team and each of its agents can do, with confidence intervals."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from ccpo_jax.data import Problem
from ccpo_jax.devices.sharding import num_shards
from ccpo_jax.integers import ceil_div
from ccpo_jax.rl.topology import vote_reward
from ccpo_jax.rl.types import Outcome
from ccpo_jax.rollout import Rollout, Team, rate, rollout
from ccpo_jax.rollout.ratings import FAILURES, OUTCOMES, parse_rating
from ccpo_jax.sampler import SamplingParams
from ccpo_jax.train.bootstrap import bootstrap_interval
from ccpo_jax.verifiers import VerifierPool
from ccpo_jax.verifiers.grader import Grader


class EvalSettings(NamedTuple):
    """How to evaluate."""

    samples: int  # k sampled answers per problem
    temperature: float
    top_p: float
    batch_size: int  # problems per call
    greedy: bool  # also evaluate the most likely answers
    rows: int | None = None  # most responses of one call that decode at once


def collect_ratings(
    team: Team,
    weights: Sequence,
    problems: Sequence[str | Sequence[str]],
    spoken: Rollout,
    result: Outcome,
    key: jax.Array,
    *,
    sampling: SamplingParams = SamplingParams(),
) -> tuple[Rollout, Outcome, dict[str, float]]:
    """Lets the agents rate the outcomes and reads what they say.

    Args:
      team: with raters.
      weights, problems, key, sampling: as in `rate`.
      spoken: what was said.
      result: its outcome.

    Returns:
      ``(spoken, result, metrics)`` with the ratings and the splits in them. Metrics per rater: the share of replies
      that hold one of the nine splits and the outcome as told (`parsed`), the share of each failure, and the mean part
      of the Thinker, failures left out, where the team was right and where it was wrong.
    """
    words = [[OUTCOMES[bool(reward > 0.5)] for reward in row] for row in result.reward[0]]
    spoken = rate(team, weights, problems, spoken, words, key, sampling=sampling)
    splits, metrics = [], {}
    for agent, turn in enumerate(spoken.ratings):
        read = [
            [parse_rating(*pair) for pair in zip(*rows, strict=True)]
            for rows in zip(turn.texts, words, strict=True)
        ]
        split = np.array([[split for split, _ in row] for row in read], np.float32)
        failure = np.array([[failure for _, failure in row] for row in read])
        splits.append(split)
        metrics[f"rating/parsed/{agent}"] = float((failure == "").mean())
        metrics |= {f"rating/{name}/{agent}": float((failure == name).mean()) for name in FAILURES}
        for outcome_word in OUTCOMES:
            chosen = (failure == "") & (np.array(words) == outcome_word)
            if chosen.any():
                metrics[f"rating/thinker_if_{outcome_word}/{agent}"] = float(
                    split[chosen, 0].mean()
                )
    return spoken, result._replace(shares=np.stack(splits)), metrics


def evaluate(
    team: Team,
    weights: Sequence,
    problems: Sequence[Problem],
    pool: VerifierPool,
    key: jax.Array,
    settings: EvalSettings,
    *,
    sharding: jax.sharding.Sharding | None = None,
) -> dict[str, float]:
    """Accuracy of the team, of each agent alone and of the team without each agent.

    Args:
      team: who answers.
      weights: P decode weights.
      problems: what to answer.
      pool: verifiers.
      key: the same key draws the same answers, so that two evaluations of one model agree exactly.
      settings: samples and temperature.
      sharding: placement of the batch axis.

    Returns:
      name -> value; accuracies come with ``/low`` and ``/high``, the 95 % bootstrap interval over problems.
      `team_accuracy` is avg@k at the sampling temperature, `maj_accuracy` the plurality of all k samples' answers.
      `agent_accuracy/k` is the world that holds agent k alone, `without_agent_accuracy/k` the one that lacks it, and
      `free_ride/k` how often the team was right and would have been without agent k.
    """
    sampled, counts, tokens = _answer(team, weights, problems, pool, key, settings, sharding)
    scores = _accuracies(team, sampled)
    if settings.greedy:
        greedy, _, _ = _answer(
            team,
            weights,
            problems,
            pool,
            key,
            settings._replace(samples=1, temperature=0.0),
            sharding,
        )
        scores |= {
            f"greedy/{name}": value
            for name, value in _accuracies(team, greedy).items()
            if name != "maj_accuracy"
        }
    metrics: dict[str, float] = {}
    for name, per_problem in scores.items():
        mean, low, high = bootstrap_interval(per_problem)
        metrics |= {name: mean, f"{name}/low": low, f"{name}/high": high}
    metrics |= {f"verifier/{name}": float(count) for name, count in counts.items()}
    return metrics | {"problems": float(len(problems)), "decoded_tokens": float(tokens)}


def _answer(team, weights, problems, pool, key, settings, sharding) -> tuple[Outcome, Counter, int]:
    """The outcome of all problems in the worlds of `evaluation_worlds`, batch by batch."""
    sampling = SamplingParams(
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_concurrent=settings.rows,
        sharding=sharding,
    )
    parts: list[tuple] = []
    counts, tokens = Counter(), 0
    ways = num_shards(sharding)
    size = min(settings.batch_size, ceil_div(len(problems), ways) * ways)
    for first in range(0, len(problems), size):
        part = list(problems[first : first + size])
        filled = part + [problems[0]] * (
            size - len(part)
        )  # one compiled shape; what is filled in counts nowhere
        judge = Grader(pool, part)
        spoken = rollout(
            team,
            weights,
            [p.prompt_text for p in filled],
            jax.random.fold_in(key, first),
            group_size=settings.samples,
            sampling=sampling,
            ablated=evaluation_worlds(team.topology.num_agents),
            on_prompt_done=judge.submit,
        )
        spoken = spoken.first_prompts(len(part))
        graded, counted, _ = judge.collect(team, spoken)
        parts.append(graded[:3])
        counts.update(counted)
        tokens += spoken.decoded_tokens
    joined = [np.concatenate(field, axis=1) for field in zip(*parts, strict=True)]
    return Outcome(*joined, agent_mask=spoken.masks), counts, tokens


def evaluation_worlds(num_agents: int) -> tuple[tuple[int, ...], ...]:
    """What the worlds of an evaluation mask: each agent, then all but each agent; of two agents that is the same.

    Example:
      >>> evaluation_worlds(3)
      ((0,), (1,), (2,), (1, 2), (0, 2), (0, 1))
    """
    agents = range(num_agents)
    without = [(agent,) for agent in agents]
    alone = [tuple(other for other in agents if other != agent) for agent in agents]
    return tuple(dict.fromkeys(without + alone))


def _accuracies(team: Team, result: Outcome) -> Mapping[str, np.ndarray]:
    """Per-problem accuracies ``[B]`` of one evaluation, each read off the world that holds just these agents."""
    scores = {
        "team_accuracy": result.reward[0].mean(axis=1),
        "maj_accuracy": _majority(team, result),
    }
    world_of = {
        tuple(np.flatnonzero(mask)): world
        for world, mask in enumerate(np.asarray(result.agent_mask))
    }
    everyone = tuple(range(team.topology.num_agents))
    for agent in everyone:
        others = tuple(other for other in everyone if other != agent)
        scores[f"without_agent_accuracy/{agent}"] = result.reward[world_of[others]].mean(axis=1)
        carried = (result.reward[0] > 0.5) & (result.reward[0] <= result.reward[world_of[others]])
        scores[f"free_ride/{agent}"] = carried.mean(axis=1)
        scores[f"agent_accuracy/{agent}"] = result.correct[world_of[(agent,)], ..., agent].mean(
            axis=1
        )
    return scores


def _majority(team: Team, result: Outcome) -> np.ndarray:
    """maj@k: one plurality over the answers of all samples (and, in a vote, of all voters)."""
    topology = team.topology
    last = int(np.argmax(topology.final_turns))
    speakers = slice(None) if topology.decision == "vote" else slice(last, last + 1)
    flat = [x[0][..., speakers].reshape(x.shape[1], -1) for x in (result.answer_id, result.correct)]
    return np.asarray(_vote_reward(*flat, np.ones_like(flat[0], bool)))


_vote_reward = jax.jit(vote_reward)
