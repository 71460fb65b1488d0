"""Evaluation: how a team and each of its agents score, with confidence intervals."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from ccpo_jax.data import Problem
from ccpo_jax.devices.sharding import num_shards
from ccpo_jax.errors import InputError
from ccpo_jax.integers import ceil_div
from ccpo_jax.rl.pass_at_k import pass_at_k
from ccpo_jax.rl.topology import Topology, reaching, team_reward
from ccpo_jax.rl.types import HostArray, Outcome
from ccpo_jax.rl.votes import vote_reward
from ccpo_jax.rollout import Team, rollout
from ccpo_jax.sampler import SamplingParams
from ccpo_jax.scores import is_solved
from ccpo_jax.status import status
from ccpo_jax.train.bootstrap import bootstrap_interval
from ccpo_jax.train.part_scores import PartScores, counter_metrics, has_fractions, part_scores
from ccpo_jax.verifiers import VerifierPool
from ccpo_jax.verifiers.grader import Grader


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """How to evaluate."""

    samples: int = 4  # k sampled answers per problem
    batch_size: int = 64  # problems per call
    greedy: bool = True  # also evaluate at temperature 0
    members: bool = True  # also each agent alone, and the team without each
    sampling: SamplingParams = SamplingParams()


def evaluate(
    team: Team,
    weights: Sequence[Any],
    problems: Sequence[Problem],
    pool: VerifierPool,
    key: jax.Array,
    config: EvalConfig,
    *,
    problems_name: str = "problems",
    between_batches: Callable[[], None] | None = None,
) -> dict[str, float]:
    """Accuracy of the team, of each agent alone and of the team without each agent.

    An accuracy is a mean score in [0, 1]; for verdicts of right and wrong, the share of right
    answers.

    Args:
      team: who answers.
      weights: P decode weights.
      problems: what to answer.
      pool: verifiers.
      key: the same key draws the same answers, so that two evaluations of one model agree exactly.
      config: number of samples, how they are drawn, and whether agents are evaluated one by one.
      problems_name: said while it takes long.
      between_batches: called after each batch; what it raises ends the evaluation.

    Returns:
      name -> value; accuracies come with ``/low`` and ``/high``, the 95 % bootstrap interval over
      problems. `team_accuracy` is avg@k at the sampling temperature, `maj_accuracy` the plurality
      of all k samples' answers, `pass_at_2`, `pass_at_4` and so on up to `pass_at_k` how often at
      least one of so many samples has a reward of 1; a tie of a vote is right as often as breaking
      it at random is. Of one sample there is none, as pass@1 is avg@1. In a team of several, with
      `config.members`, `agent_accuracy/k` is the world that holds agent k alone,
      `without_agent_accuracy/k` the one that lacks it, and `free_ride/k` how often the team was
      right, with a reward of 1, and would have been without agent k.

      Where scores say more than right and wrong, because one lies between 0 and 1 or has parts,
      also `solved`, the share of samples with a reward of 1, `agent_solved/k`, the same of agent k
      alone, and `score/<part>`, the mean of a part of the team's score.

    Raises:
      InputError: there are no problems, and so no accuracies.
    """
    if not problems:
        raise InputError("problems", "is empty, and accuracies are means over problems; pass one")
    answer = functools.partial(
        _answer, team, weights, problems, pool, key, between_batches=between_batches
    )
    sampled = answer(config, what=f"evaluating {problems_name} (sampled)")
    evaluations = {"": sampled}
    if config.greedy:
        greedy = dataclasses.replace(
            config, samples=1, sampling=dataclasses.replace(config.sampling, temperature=0.0)
        )
        # Answers at temperature 0 are not decoded twice.
        evaluations["greedy/"] = (
            sampled
            if greedy == config
            else answer(greedy, what=f"evaluating {problems_name} (greedy)")
        )

    fractions = any(answered.fractions for answered in evaluations.values())
    accuracies: dict[str, HostArray] = {}
    for prefix, answered in evaluations.items():
        for name, values in _accuracies(team, answered, fractions).items():
            # One answer per problem has no majority.
            if not (prefix and name == "maj_accuracy"):
                accuracies[prefix + name] = values

    metrics: dict[str, float] = {}
    for name, per_problem in accuracies.items():
        mean, low, high = bootstrap_interval(per_problem)
        metrics |= {name: mean, f"{name}/low": low, f"{name}/high": high}
    metrics |= counter_metrics(sampled.counts)
    return metrics | {
        "problems": float(len(problems)),
        "decoded_tokens": float(sampled.decoded_tokens),
    }


class _Answered(NamedTuple):
    """The answers to all problems of an evaluation."""

    outcome: Outcome  # in the worlds of `evaluation_worlds`
    fractions: bool = False  # scores say more than right and wrong, see `has_fractions`
    parts: Mapping[str, HostArray] = MappingProxyType(
        {}
    )  # name -> [B] of the team's scores, or NaN
    counts: Mapping[str, int] = MappingProxyType({})  # of the verifiers
    decoded_tokens: int = 0


def _answer(
    team: Team,
    weights: Sequence[Any],
    problems: Sequence[Problem],
    pool: VerifierPool,
    key: jax.Array,
    config: EvalConfig,
    *,
    what: str,
    between_batches: Callable[[], None] | None,
) -> _Answered:
    """Lets the team answer all problems, in batches."""
    shards = num_shards(config.sampling.sharding)
    worlds = evaluation_worlds(team.topology) if config.members else ()
    size = min(config.batch_size, ceil_div(len(problems), shards) * shards)
    outcomes: list[Outcome] = []
    parts: list[dict[str, PartScores]] = []
    fractions = False
    counts: Counter[str] = Counter()
    tokens = 0
    with status(what, unit="problems", total=len(problems)) as phase:
        for first in range(0, len(problems), size):
            batch = list(problems[first : first + size])
            # One compiled shape for all batches; what is filled in counts nowhere.
            padded = batch + [problems[0]] * (size - len(batch))
            grader = Grader(pool, batch)
            phase.update(first)
            rollouts = rollout(
                team,
                weights,
                [problem.prompt_text for problem in padded],
                jax.random.fold_in(key, first),
                group_size=config.samples,
                sampling=config.sampling,
                ablated=worlds,
                on_prompt_done=grader.submit,
            )
            rollouts = rollouts.first_prompts(len(batch))
            outcome, batch_counts, graded = grader.collect(team, rollouts)
            outcomes.append(outcome)
            parts.append(part_scores(team.topology, rollouts, graded))
            fractions = fractions or has_fractions(graded)
            counts.update(batch_counts)
            tokens += rollouts.decoded_tokens
            if between_batches is not None:
                between_batches()

    joined = Outcome(
        reward=np.concatenate([outcome.reward for outcome in outcomes], axis=1),
        correct=np.concatenate([outcome.correct for outcome in outcomes], axis=1),
        answer_id=np.concatenate([outcome.answer_id for outcome in outcomes], axis=1),
        agent_mask=outcomes[0].agent_mask,
    )
    batch_sizes = [outcome.reward.shape[1] for outcome in outcomes]
    return _Answered(joined, fractions, _parts_by_problem(parts, batch_sizes), counts, tokens)


def _parts_by_problem(
    parts: Sequence[Mapping[str, PartScores]], batch_sizes: Sequence[int]
) -> dict[str, HostArray]:
    """Name -> ``[B]`` mean part of the team's scores on each problem of all batches, or NaN."""
    means = {}
    for name in dict.fromkeys(name for batch in parts for name in batch):
        of_batches = []
        for batch, size in zip(parts, batch_sizes, strict=True):
            of_batches.append(batch[name].of_problems() if name in batch else np.full(size, np.nan))
        means[name] = np.concatenate(of_batches)
    return means


def evaluation_worlds(topology: Topology) -> tuple[tuple[int, ...], ...]:
    """What the worlds of an evaluation mask: each agent, then all but each agent that others reach;
    of two agents that is the same, and of one agent there are none.

    An agent whose answer no other reaches answers alone as it does in the team, so that no world
    has to say so: N voters have N worlds, not 2 N.

    Example:
      >>> from ccpo_jax.rl.topology import chain, voting
      >>> evaluation_worlds(chain(3)), evaluation_worlds(voting(3))
      (((0,), (1,), (2,), (0, 2), (0, 1)), ((0,), (1,), (2,)))
    """
    agents = range(topology.num_agents)
    if len(agents) == 1:
        return ()
    worlds: list[tuple[int, ...]] = [(agent,) for agent in agents]
    for agent in agents:
        if not _answers_alone(topology, agent):
            worlds.append(tuple(other for other in agents if other != agent))
    return tuple(dict.fromkeys(worlds))


def _answers_alone(topology: Topology, agent: int) -> bool:
    """Whether no other agent's message reaches an agent's answer."""
    everyone = [True] * topology.num_agents
    turns = reaching(topology, topology.final_turns[agent], everyone)
    return all(topology.speakers[turn] == agent for turn in turns)


def _accuracies(team: Team, answered: _Answered, fractions: bool = False) -> dict[str, HostArray]:
    """Per-problem accuracies ``[B]`` of one evaluation, each read off the world that holds just
    these agents.

    Args:
      team: who answered.
      answered: to all problems.
      fractions: whether to count full scores too.
    """
    outcome = answered.outcome
    reward = np.asarray(outcome.reward)
    correct = np.asarray(outcome.correct)
    world_of: dict[tuple[int, ...], int] = {}
    for world, mask in enumerate(np.asarray(outcome.agent_mask)):
        world_of[tuple(np.flatnonzero(mask).tolist())] = world
    accuracies = {
        "team_accuracy": reward[0].mean(axis=1),
        "maj_accuracy": _majority(team, outcome),
    }
    for k in pass_sizes(reward.shape[2]):
        accuracies[f"pass_at_{k}"] = np.asarray(_pass_at_k(_right(team, outcome), k))
    if fractions:
        accuracies["solved"] = is_solved(reward[0]).mean(axis=1)
    for name, values in answered.parts.items():
        known = values[~np.isnan(values)]
        if known.size:
            accuracies[f"score/{name}"] = known

    everyone = tuple(range(team.topology.num_agents))
    if len(world_of) == 1:
        return accuracies
    for agent in everyone:
        others = tuple(other for other in everyone if other != agent)
        without = reward[world_of[others]]
        # Without a world of its own, an agent answers alone as it does in the team.
        alone = correct[world_of.get((agent,), 0), ..., agent]
        free_ride = is_solved(reward[0]) & (reward[0] <= without)
        accuracies[f"without_agent_accuracy/{agent}"] = without.mean(axis=1)
        accuracies[f"free_ride/{agent}"] = free_ride.mean(axis=1)
        accuracies[f"agent_accuracy/{agent}"] = alone.mean(axis=1)
        if fractions:
            accuracies[f"agent_solved/{agent}"] = is_solved(alone).mean(axis=1)
    return accuracies


def pass_sizes(samples: int) -> tuple[int, ...]:
    """The k of which an evaluation of some samples per problem reports pass@k: powers of two, and
    all samples. pass@1 is the mean.

    Example:
      >>> pass_sizes(1), pass_sizes(4), pass_sizes(6)
      ((), (2, 4), (2, 4, 6))
    """
    powers = [2**power for power in range(1, samples.bit_length()) if 2**power < samples]
    return (*powers, samples) if samples > 1 else ()


def _right(team: Team, outcome: Outcome) -> HostArray:
    """``[B, G]``: 1 where the team's answer has full score, 0 where not; where a vote ties, the
    probability that breaking the tie at random gives one that has.
    """
    full = is_solved(np.asarray(outcome.correct)[:1]).astype(np.float32)
    mask = np.asarray(outcome.agent_mask)[:1]
    return np.asarray(_team_reward(team.topology, full, outcome.answer_id[:1], mask))[0]


def _majority(team: Team, outcome: Outcome) -> HostArray:
    """maj@k: one plurality over the answers of all samples (and, in a vote, of all voters)."""
    topology = team.topology
    last = int(np.argmax(topology.final_turns))
    speakers = slice(None) if topology.decision == "vote" else slice(last, last + 1)
    answers = np.asarray(outcome.answer_id)[0][..., speakers]
    correct = np.asarray(outcome.correct)[0][..., speakers]
    answers = answers.reshape(len(answers), -1)
    correct = correct.reshape(len(correct), -1)
    return np.asarray(_vote_reward(answers, correct, np.ones_like(answers, bool)))


_vote_reward = jax.jit(vote_reward)
_team_reward = jax.jit(team_reward, static_argnames="topology")
_pass_at_k = jax.jit(pass_at_k, static_argnames="k")
