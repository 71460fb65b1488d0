"""A pool of a real team's answers, read as a team of tables.

Groups are drawn from the pool, and what is true of it enumerated, as for every team of tables. What
holds for the pool holds for the model up to the pool's size; `Pool.noise` says how far off single
thoughts are.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from ccpo_jax.data import Problem
from ccpo_jax.integers import ceil_div
from ccpo_jax.rl.topology import Topology, dyad
from ccpo_jax.rl.types import Outcome
from ccpo_jax.rollout import Rollout, rollout
from ccpo_jax.train.build import Run
from ccpo_jax.train.step import publish
from ccpo_jax.verifiers.grader import Grader
from experiments.credit_lab.tabular import TabularTeam

# Limits on what is decoded in one call: prompts per device, and rows where none is configured.
_PROMPTS_AT_ONCE = 4
_ROWS_AT_ONCE = 2048


class Pool(NamedTuple):
    """A real team on B prompts.

    Attributes:
      team: its answers as tables.
      noise: for a dyad, the part of the variance between the thoughts' values that comes from
        answering each thought a limited number of times; 0.0 for voters.
      decoded_tokens: what the pool cost.
    """

    team: TabularTeam
    noise: float
    decoded_tokens: int


def check(topology: Topology) -> None:
    """Says which teams a pool can hold, before anything is loaded.

    Raises:
      ValueError: if the team is neither a dyad nor a vote of members that read nobody.
    """
    is_independent_vote = topology.decision == "vote" and not any(topology.reads)
    if not is_independent_vote and topology != dyad():
        raise ValueError(
            f"topology: a pool holds a vote or a dyad, received {topology.name!r}; use "
            "--team=tabular_chain or tabular_debate for teams whose members read each other"
        )


def sample_pool(
    run: Run, params: tuple, problems: Sequence[Problem], *, size: int, answers: int, seed: int
) -> Pool:
    """Lets the team answer every problem `size` times.

    Args:
      run: whose team, sampling and verifiers are used.
      params: P parameter sets.
      problems: B problems.
      size: samples of each voter, or thoughts and solo answers, per problem.
      answers: answers to each thought of a dyad.
      seed: same seed, same pool.
    """
    topology = run.team.topology
    check(topology)
    is_dyad = topology == dyad()
    read = _read_dyad if is_dyad else _read_voters

    weights = publish(run.team, params)
    key = jax.random.key(seed)
    sampling = run.rollout.sampling
    if sampling.max_concurrent is None:
        sampling = dataclasses.replace(sampling, max_concurrent=_ROWS_AT_ONCE)
    devices = run.layout.mesh.size
    at_once = devices * min(_PROMPTS_AT_ONCE, ceil_div(len(problems), devices))

    answered = []
    lengths = []
    decoded_tokens = 0
    with run.verifier_pool() as pool:
        for first in range(0, len(problems), at_once):
            chosen = list(problems[first : first + at_once])
            # The last call is filled up, so that one shape is compiled.
            filled = chosen + chosen[:1] * (at_once - len(chosen))
            grader = Grader(pool, chosen)
            spoken = rollout(
                run.team,
                weights,
                [problem.prompt_text for problem in filled],
                jax.random.fold_in(key, first),
                group_size=size,
                sampling=sampling,
                ablated=topology.ablated if is_dyad else (),
                answers_per_text=answers if is_dyad else 1,
                on_prompt_done=grader.submit,
            ).first_prompts(len(chosen))
            outcome, _, _ = grader.collect(run.team, spoken)
            decoded_tokens += spoken.decoded_tokens
            for prompt in range(len(chosen)):
                answered.append(read(spoken, outcome, prompt))
                lengths.append(_mean_lengths(spoken))

    mean_lengths = tuple(map(tuple, np.mean(lengths, axis=0)))
    if is_dyad:
        team = _dyad_team(topology, answered, mean_lengths)
        return Pool(team, _noise(answered), decoded_tokens)
    return Pool(_voters_team(topology, answered, mean_lengths), 0.0, decoded_tokens)


def _mean_lengths(spoken: Rollout) -> np.ndarray:
    """``[turns, 2]`` mean tokens of a text, factual and in the worlds where a mask changes it."""
    means = []
    for turn in spoken.turns:
        length = turn.samples.length
        factual = length[:, turn.rows(0)]
        masked = length[:, turn.samples_per_variant[0] :]
        means.append((factual.mean(), masked.mean() if masked.size else 0.0))
    return np.array(means)


# --- Voters. Words are the answer classes, then one that nobody gave, then silence. ---


class _Votes(NamedTuple):
    """What voters answered to one problem.

    Attributes:
      answer_id: ``[M, A]`` int class, -1 for no answer.
      correct: ``[M, A]``.
    """

    answer_id: np.ndarray
    correct: np.ndarray


def _read_voters(spoken: Rollout, outcome: Outcome, prompt: int) -> _Votes:
    """The factual answers to one prompt."""
    del spoken
    return _Votes(np.asarray(outcome.answer_id[0, prompt]), np.asarray(outcome.correct[0, prompt]))


def _voters_team(
    topology: Topology, answered: Sequence[_Votes], lengths: tuple[tuple[float, float], ...]
) -> TabularTeam:
    """Voters as tables; a misleading one gives the most common wrong answer."""
    num_classes = 1 + max(int(votes.answer_id.max()) for votes in answered)
    num_words = num_classes + 2
    nobodys, silence = num_classes, num_words - 1

    tables = []
    right = []
    wrong = []
    for votes in answered:
        word = np.where(votes.answer_id >= 0, votes.answer_id, silence)
        # [M, A, words]
        said = word[..., None] == np.arange(num_words)
        tables.append(said.mean(axis=0))

        times = said.sum((0, 1))
        accuracy = (said * votes.correct[..., None]).sum((0, 1)) / np.maximum(times, 1)
        accuracy[[nobodys, silence]] = 0.0
        right.append(accuracy)

        times_if_wrong = np.where(accuracy < 0.5, times, 0)[:num_classes]
        wrong.append(int(times_if_wrong.argmax()) if times_if_wrong.any() else nobodys)

    # [B, A, words]
    table = np.stack(tables)
    label = np.broadcast_to(np.append(np.arange(num_classes + 1), -1), (len(answered), num_words))
    num_turns = len(topology.roles)
    return TabularTeam(
        topology,
        {(turn, ()): table[:, turn] for turn in range(num_turns)},
        right=(np.float32(right),) * num_turns,
        label=(label,) * num_turns,
        wrong=(np.array(wrong),) * num_turns,
        lengths=lengths,
    )


# --- The dyad. The Thinker's words are its distinct thoughts; the Solver's are _SOLVER_WORDS. ---

_SOLVER_WORDS = ("right", "wrong", "silence")


class _Thoughts(NamedTuple):
    """What was said about one problem, with U distinct thoughts.

    Attributes:
      share: ``[U]`` how often each was thought, as a part of all answers.
      answers: ``[U]`` int, how often each was answered.
      outcome: ``[U, 3]`` parts of its answers that are each of `_SOLVER_WORDS`.
      right: ``[U]`` whether the thought itself holds the right answer.
      solo: ``[3]`` the same as `outcome` without a thought.
    """

    share: np.ndarray
    answers: np.ndarray
    outcome: np.ndarray
    right: np.ndarray
    solo: np.ndarray


def _read_dyad(spoken: Rollout, outcome: Outcome, prompt: int) -> _Thoughts:
    """The thoughts about one prompt, and what became of each."""
    thoughts = spoken.turns[0].texts[prompt]
    num_answers = outcome.reward.shape[2] // len(thoughts)
    _, first, distinct = np.unique(np.array(thoughts), return_index=True, return_inverse=True)
    thought_of_answer = np.repeat(distinct, num_answers)

    answer_is = _solver_words(outcome.correct[0, prompt, :, 1], outcome.answer_id[0, prompt, :, 1])
    answers = np.bincount(thought_of_answer)
    counts = [np.bincount(thought_of_answer, is_word) for is_word in answer_is.T]

    solo = float(np.mean(outcome.reward[1, prompt]))
    thought_is_right = np.asarray(outcome.correct[0, prompt, ::num_answers, 0])
    return _Thoughts(
        share=answers / answers.sum(),
        answers=answers,
        outcome=np.stack(counts, axis=1) / answers[:, None],
        right=thought_is_right[first],
        solo=np.array([solo, 1 - solo, 0.0]),
    )


def _solver_words(correct: np.ndarray, answer_id: np.ndarray) -> np.ndarray:
    """``[N, 3]`` 1.0 for the one of `_SOLVER_WORDS` that each answer is."""
    is_right = np.asarray(correct) > 0.5
    is_silent = ~is_right & (np.asarray(answer_id) < 0)
    is_wrong = ~is_right & ~is_silent
    return np.stack([is_right, is_wrong, is_silent], axis=1).astype(float)


def _dyad_team(
    topology: Topology, answered: Sequence[_Thoughts], lengths: tuple[tuple[float, float], ...]
) -> TabularTeam:
    """A dyad as tables; a misleading Thinker says the thought that is answered worst."""
    prompts = len(answered)
    num_words = 1 + max(len(thoughts.share) for thoughts in answered)
    thinker = np.zeros((prompts, num_words))
    solver = np.zeros((prompts, num_words, len(_SOLVER_WORDS)))
    right = np.zeros((prompts, num_words), np.float32)
    label = np.full((prompts, num_words), -1)
    for prompt, thoughts in enumerate(answered):
        count = len(thoughts.share)
        thinker[prompt, :count] = thoughts.share
        right[prompt, :count] = thoughts.right
        label[prompt, :count] = np.arange(count)
        # A Solver that reads silence answers as if alone.
        solver[prompt] = thoughts.solo
        solver[prompt, :count] = thoughts.outcome

    worst_thought = [int(thoughts.outcome[:, 0].argmin()) for thoughts in answered]
    wrong_answer = np.ones(prompts, int)
    is_right = np.broadcast_to([1.0, 0.0, 0.0], (prompts, 3)).astype(np.float32)
    answer_label = np.broadcast_to([0, 1, -1], (prompts, 3))
    return TabularTeam(
        topology,
        {
            (0, ()): thinker,
            (1, (True,)): solver,
            (1, (False,)): np.stack([thoughts.solo for thoughts in answered]),
        },
        right=(right, is_right),
        label=(label, answer_label),
        wrong=(np.array(worst_thought), wrong_answer),
        lengths=lengths,
    )


def _noise(answered: Sequence[_Thoughts]) -> float:
    """Variance of a thought's mean, as a part of the variance between the thoughts' means."""
    between = 0.0
    within = 0.0
    for thoughts in answered:
        value = thoughts.outcome[:, 0]
        mean = thoughts.share @ value
        between += thoughts.share @ np.square(value - mean)
        variance_of_mean = value * (1 - value) / np.maximum(thoughts.answers - 1, 1)
        within += thoughts.share @ variance_of_mean
    return float(within / between) if between else 0.0
