"""Answers of a team to questions: its messages, the team's answer, and a score if it is known."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ccpo_jax.data import Problem
from ccpo_jax.devices.sharding import num_shards
from ccpo_jax.integers import ceil_div
from ccpo_jax.rl.topology import Topology
from ccpo_jax.rl.types import Outcome
from ccpo_jax.rollout import Rollout, rollout
from ccpo_jax.train.build import Run
from ccpo_jax.train.evaluate import EvalConfig
from ccpo_jax.verifiers import Graded, VerifierPool
from ccpo_jax.verifiers.grader import Grader


class Message(NamedTuple):
    """What an agent wrote in one turn."""

    role: str
    agent: int
    text: str  # what it says: what partners and the verifier read
    thought: str = ""  # what it thinks before that; "" = nothing


class TeamAnswer(NamedTuple):
    """One sample of a team.

    Attributes:
      messages: in the order of the turns.
      answer: the team's answer as a text states it: the last agent's, or the first text's of those
        that won the vote; None = no answer was found.
      score: the team's reward; None = there is no reference answer and no reward function.
    """

    messages: tuple[Message, ...]
    answer: str | None
    score: float | None


class Answered(NamedTuple):
    """A question and the samples of the team."""

    question: str
    samples: tuple[TeamAnswer, ...]


def answer_problems(
    run: Run,
    weights: Sequence[Any],
    problems: Sequence[Problem],
    pool: VerifierPool,
    key: jax.Array,
    config: EvalConfig,
    *,
    scored: bool,
) -> list[Answered]:
    """Lets a team answer.

    Args:
      run: its team.
      weights: P decode weights.
      problems: what to answer; the gold may be empty.
      pool: reads the answers, and scores them.
      key: the same key draws the same samples.
      config: samples per problem, problems per call, and how they are drawn.
      scored: whether a problem without a gold has a score: that of a function.
    """
    shards = num_shards(config.sampling.sharding)
    size = min(config.batch_size, ceil_div(len(problems), shards) * shards)
    answered: list[Answered] = []
    for first in range(0, len(problems), size):
        batch = list(problems[first : first + size])
        padded = batch + [problems[0]] * (size - len(batch))
        grader = Grader(pool, batch)
        rollouts = rollout(
            run.team,
            weights,
            [problem.prompt_text for problem in padded],
            jax.random.fold_in(key, first),
            group_size=config.samples,
            sampling=config.sampling,
            ablated=(),
            on_prompt_done=grader.submit,
        )
        rollouts = rollouts.first_prompts(len(batch))
        outcome, _, graded = grader.collect(run.team, rollouts)
        for index, problem in enumerate(batch):
            samples = [
                _team_answer(run.team.topology, rollouts, outcome, graded[index], index, sample)
                for sample in range(config.samples)
            ]
            if not (scored or problem.gold):
                samples = [sample._replace(score=None) for sample in samples]
            answered.append(Answered(problem.question, tuple(samples)))
    return answered


def _team_answer(
    topology: Topology,
    rollouts: Rollout,
    outcome: Outcome,
    graded: Graded,
    index: int,
    sample: int,
) -> TeamAnswer:
    """One sample of one problem, the number `index` of its batch."""
    messages = []
    answers = []
    first_text = 0
    count = np.asarray(outcome.reward).shape[2]
    for number, turn in enumerate(rollouts.turns):
        row = turn.row_of_sample(0, sample, count)
        text = turn.texts[index][row]
        thought = turn.thought(index, row)
        messages.append(Message(topology.roles[number], topology.speakers[number], text, thought))
        answers.append(graded.answers[first_text + row])
        first_text += len(turn.texts[index])

    classes = np.asarray(outcome.answer_id)[0, index, sample]
    speaker = _spokesman(topology, classes)
    answer = None if speaker is None else answers[topology.final_turns[speaker]]
    reward = float(np.asarray(outcome.reward)[0, index, sample])
    return TeamAnswer(tuple(messages), answer, reward)


def _spokesman(topology: Topology, classes: np.ndarray) -> int | None:
    """The agent whose answer is the team's: the last one, or the first of those that won the vote;
    None where nobody has an answer.

    Args:
      topology: the team's.
      classes: ``[A]`` of the agents' answers, -1 = none.
    """
    if topology.decision != "vote":
        return int(np.argmax(topology.final_turns))
    voters = [agent for agent, label in enumerate(classes) if label >= 0]
    if not voters:
        return None
    # Of equal numbers of votes, `max` takes the first.
    return max(voters, key=lambda agent: int(np.sum(classes == classes[agent])))


def sampling_of(
    evaluation: EvalConfig, *, num_samples: int, temperature: float | None
) -> EvalConfig:
    """How evaluation samples, with another number of samples and another temperature."""
    sampling = evaluation.sampling
    if temperature is not None:
        sampling = dataclasses.replace(sampling, temperature=temperature)
    return dataclasses.replace(evaluation, samples=num_samples, sampling=sampling)
