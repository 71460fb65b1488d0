"""Rollouts with what credit needs: verdicts on the answers, and the agents' ratings."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import jax
import numpy as np

from ccpo_jax.data import Problem
from ccpo_jax.rl.types import Needs, Outcome
from ccpo_jax.rollout import Rollout, Team, rate, rollout
from ccpo_jax.rollout.joining import join_outcomes, join_rollouts, select_outcome
from ccpo_jax.rollout.ratings import FAILURES, OUTCOMES, outcome_word, parse_rating
from ccpo_jax.rollout.records import ProblemText
from ccpo_jax.sampler import SamplingParams
from ccpo_jax.train.guards import explain_oom
from ccpo_jax.train.part_scores import counter_metrics
from ccpo_jax.verifiers import Graded, VerifierPool
from ccpo_jax.verifiers.grader import Grader


@dataclasses.dataclass(frozen=True)
class RolloutConfig:
    """The rollouts of a training step."""

    batch_size: int  # B, prompts
    group_size: int  # G, samples per prompt
    solo_samples: int | None = None  # per prompt in masked worlds that decode; None = group_size
    max_draws: int = 1  # batches of prompts that a step may draw, see `train.drawing`
    sampling: SamplingParams = SamplingParams()


class Collected(NamedTuple):
    """A batch of rollouts with verdicts. Host arrays."""

    problems: Sequence[Problem]  # [B]
    rollouts: Rollout
    graded: list[Graded]  # [B], a verdict on every text of each problem, those of turn 0 first
    outcome: Outcome
    metrics: dict[str, float]  # of verifiers, ratings and time


def collect_rollouts(
    team: Team,
    weights: Sequence[Any],
    problems: Sequence[Problem],
    pool: VerifierPool,
    key: jax.Array,
    *,
    config: RolloutConfig,
    needs: Needs,
    ablated: Sequence[int | tuple[int, ...]],
    memory_fields: Mapping[str, Any],
) -> Collected:
    """The rollouts of a batch with verdicts, and with ratings where they are needed.

    Args:
      team: who answers.
      weights: P decode weights.
      problems: ``[B]``.
      pool: verifiers; they work while other prompts still decode.
      key: of this batch.
      config: group size and sampling.
      needs: of the credit estimator.
      ablated: what each masked world masks.
      memory_fields: fields to lower where memory runs out, see `explain_oom`.
    """
    start = time.perf_counter()
    grader = Grader(pool, problems)
    prompts = [problem.prompt_text for problem in problems]
    with explain_oom("rollout", memory_fields):
        rollouts = rollout(
            team,
            weights,
            prompts,
            key,
            group_size=config.group_size,
            sampling=config.sampling,
            ablated=ablated,
            masked_samples=config.solo_samples,
            answers_per_text=needs.answers_per_text,
            on_prompt_done=grader.submit,
        )
    sampled = time.perf_counter()

    outcome, counts, graded = grader.collect(team, rollouts)
    metrics = counter_metrics(counts)
    if needs.ratings:
        with explain_oom("rollout", memory_fields):
            rollouts, outcome, rating_metrics = collect_ratings(
                team, weights, prompts, rollouts, outcome, key, sampling=config.sampling
            )
        metrics |= rating_metrics
    end = time.perf_counter()
    metrics |= {"time/rollout": sampled - start, "time/verify": end - sampled}
    return Collected(problems, rollouts, graded, outcome, metrics)


def join_collected(team: Team, batches: Sequence[Collected]) -> Collected:
    """Several batches as one, their problems one after another; counts and times add up."""
    rollouts = join_rollouts(team, [batch.rollouts for batch in batches])
    outcome = join_outcomes([batch.outcome for batch in batches])
    metrics: dict[str, float] = {}
    for batch in batches:
        for name, value in batch.metrics.items():
            # Those of ratings are means.
            if not name.startswith("rating/"):
                metrics[name] = metrics.get(name, 0.0) + value
    if rollouts.ratings:
        metrics |= _read_ratings(rollouts, outcome)[1]
    return Collected(
        problems=list(chain.from_iterable(batch.problems for batch in batches)),
        rollouts=rollouts,
        graded=list(chain.from_iterable(batch.graded for batch in batches)),
        outcome=outcome,
        metrics=metrics,
    )


def select_collected(collected: Collected, chosen: Sequence[int]) -> Collected:
    """The problems with these numbers, in this order; the metrics stay those of all."""
    return Collected(
        problems=[collected.problems[number] for number in chosen],
        rollouts=collected.rollouts.select_prompts(chosen),
        graded=[collected.graded[number] for number in chosen],
        outcome=select_outcome(collected.outcome, chosen),
        metrics=collected.metrics,
    )


def collect_ratings(
    team: Team,
    weights: Sequence[Any],
    prompts: Sequence[ProblemText],
    rollouts: Rollout,
    outcome: Outcome,
    key: jax.Array,
    *,
    sampling: SamplingParams = SamplingParams(),
) -> tuple[Rollout, Outcome, dict[str, float]]:
    """Lets the agents rate the outcomes and reads their shares.

    Args:
      team: with raters.
      weights, key, sampling: as in `rate`.
      prompts: ``[B]`` problem texts.
      rollouts: of the batch.
      outcome: of these rollouts.

    Returns:
      ``(rollouts, outcome, metrics)``, the first two with ratings and shares. Metrics per rater:
      the fraction of replies that hold one of the nine pairs of shares and repeat the outcome
      (`parsed`), the fraction of each failure, and the Thinker's mean share, failures left out,
      where the team was right, where it was wrong, and where the outcome was partial, a reward
      between 0 and 1.
    """
    rollouts = rate(
        team, weights, prompts, rollouts, _outcome_words(outcome), key, sampling=sampling
    )
    shares, metrics = _read_ratings(rollouts, outcome)
    return rollouts, outcome._replace(shares=shares), metrics


def _outcome_words(outcome: Outcome) -> list[list[str]]:
    """``[B][G]``: what raters are told."""
    return [[outcome_word(float(reward)) for reward in row] for row in outcome.reward[0]]


def _read_ratings(rollouts: Rollout, outcome: Outcome) -> tuple[np.ndarray, dict[str, float]]:
    """Shares ``[A, B, G, 2]`` and metrics of a batch's ratings, see `collect_ratings`."""
    verdicts = _outcome_words(outcome)
    shares = []
    metrics: dict[str, float] = {}
    for agent, turn in enumerate(rollouts.ratings):
        agent_shares, failures = _read_replies(turn.texts, verdicts)
        shares.append(agent_shares)
        metrics[f"rating/parsed/{agent}"] = float((failures == "").mean())
        for name in FAILURES:
            metrics[f"rating/{name}/{agent}"] = float((failures == name).mean())
        for verdict in OUTCOMES:
            chosen = (failures == "") & (np.array(verdicts) == verdict)
            if chosen.any():
                mean = agent_shares[chosen, 0].mean()
                metrics[f"rating/thinker_if_{verdict}/{agent}"] = float(mean)
    return np.stack(shares), metrics


def _read_replies(
    replies: Sequence[Sequence[str]], verdicts: Sequence[Sequence[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Shares ``[B, G, 2]`` and failures ``[B, G]``, "" = none, of one rater's replies."""
    shares = []
    failures = []
    for reply_row, verdict_row in zip(replies, verdicts, strict=True):
        parsed = [parse_rating(*pair) for pair in zip(reply_row, verdict_row, strict=True)]
        shares.append([pair for pair, _ in parsed])
        failures.append([failure for _, failure in parsed])
    return np.array(shares, np.float32), np.array(failures)
