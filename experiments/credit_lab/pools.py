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
from ccpo_jax.verifiers.types import Graded
from experiments.credit_lab.tabular import TabularTeam

# Limits on what is decoded in one call: prompts per device, and rows where none is configured.
_PROMPTS_AT_ONCE = 4
_ROWS_AT_ONCE = 2048

# An answer that scores less than this one misleads whoever reads it.
_MISLEADING = 0.5


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
            outcome, _, graded = grader.collect(run.team, spoken)
            decoded_tokens += spoken.decoded_tokens
            for prompt in range(len(chosen)):
                answered.append(read(spoken, outcome, graded[prompt], prompt))
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
      correct: ``[M, A]`` score of each answer.
    """

    answer_id: np.ndarray
    correct: np.ndarray


def _read_voters(spoken: Rollout, outcome: Outcome, graded: Graded, prompt: int) -> _Votes:
    """The factual answers to one prompt."""
    del spoken, graded
    return _Votes(np.asarray(outcome.answer_id[0, prompt]), np.asarray(outcome.correct[0, prompt]))


def _voters_team(
    topology: Topology, answered: Sequence[_Votes], lengths: tuple[tuple[float, float], ...]
) -> TabularTeam:
    """Voters as tables; a misleading one gives the most common answer of a low score."""
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

        times_if_wrong = np.where(accuracy < _MISLEADING, times, 0)[:num_classes]
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


# --- The dyad. The Thinker's words are its distinct thoughts. The Solver's are the scores that its
# answers to a problem have, from 1 to 0, and then silence; for verdicts: right, wrong, silence. ---


class _Thoughts(NamedTuple):
    """What was said about one problem, with U distinct thoughts.

    Attributes:
      share: ``[U]`` how often each was thought, as a part of all answers.
      answers: ``[U]`` int, how often each was answered.
      levels: ``[L]`` the scores of answers, from 1 down to 0.
      outcome: ``[U, L + 1]`` parts of its answers with each score, and of silence.
      right: ``[U]`` score of the thought itself as an answer.
      solo: ``[L + 1]`` the same as `outcome` without a thought.
    """

    share: np.ndarray
    answers: np.ndarray
    levels: np.ndarray
    outcome: np.ndarray
    right: np.ndarray
    solo: np.ndarray

    @property
    def value(self) -> np.ndarray:
        """``[U]`` mean score of the answers to each thought."""
        return self.outcome[:, :-1] @ self.levels

    @property
    def variance(self) -> np.ndarray:
        """``[U]`` variance of the scores of the answers to each thought."""
        return self.outcome[:, :-1] @ np.square(self.levels) - np.square(self.value)


def _read_dyad(spoken: Rollout, outcome: Outcome, graded: Graded, prompt: int) -> _Thoughts:
    """The thoughts about one prompt, and what became of each."""
    thoughts = spoken.turns[0].texts[prompt]
    num_answers = outcome.reward.shape[2] // len(thoughts)
    _, first, distinct = np.unique(np.array(thoughts), return_index=True, return_inverse=True)
    thought_of_answer = np.repeat(distinct, num_answers)

    score = np.asarray(outcome.correct[0, prompt, :, 1])
    solo_score = _solo_scores(spoken, graded, prompt)
    levels = np.unique(np.concatenate([score, solo_score, [0.0, 1.0]]))[::-1]
    answer_is = _solver_words(score, outcome.answer_id[0, prompt, :, 1], levels)
    answers = np.bincount(thought_of_answer)
    counts = [np.bincount(thought_of_answer, is_word) for is_word in answer_is.T]

    solo = (solo_score[:, None] == levels).mean(axis=0)
    thought_is_right = np.asarray(outcome.correct[0, prompt, ::num_answers, 0])
    return _Thoughts(
        share=answers / answers.sum(),
        answers=answers,
        levels=levels,
        outcome=np.stack(counts, axis=1) / answers[:, None],
        right=thought_is_right[first],
        solo=np.append(solo, 0.0),
    )


def _solo_scores(spoken: Rollout, graded: Graded, prompt: int) -> np.ndarray:
    """Scores of the answers without a thought. Outcomes hold only their mean."""
    rows = spoken.turns[1].rows(1)
    offset = len(spoken.turns[0].texts[prompt])
    of_answers = np.array(graded.scores[offset:], np.float32)[rows]
    truncated = np.asarray(spoken.turns[1].samples.truncated[prompt, rows])
    return np.where(truncated, np.float32(0.0), of_answers)


def _solver_words(score: np.ndarray, answer_id: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """``[N, L + 1]`` 1.0 for the word that each answer is: its score, or silence."""
    is_silent = (np.asarray(score) == 0) & (np.asarray(answer_id) < 0)
    has_score = (np.asarray(score)[:, None] == levels) & ~is_silent[:, None]
    return np.concatenate([has_score, is_silent[:, None]], axis=1).astype(float)


def _dyad_team(
    topology: Topology, answered: Sequence[_Thoughts], lengths: tuple[tuple[float, float], ...]
) -> TabularTeam:
    """A dyad as tables; a misleading Thinker says the thought that is answered worst."""
    prompts = len(answered)
    num_words = 1 + max(len(thoughts.share) for thoughts in answered)
    num_levels = max(len(thoughts.levels) for thoughts in answered)
    thinker = np.zeros((prompts, num_words))
    solver = np.zeros((prompts, num_words, num_levels + 1))
    alone = np.zeros((prompts, num_levels + 1))
    right = np.zeros((prompts, num_words), np.float32)
    label = np.full((prompts, num_words), -1)
    answer_score = np.zeros((prompts, num_levels + 1), np.float32)
    for prompt, thoughts in enumerate(answered):
        count = len(thoughts.share)
        thinker[prompt, :count] = thoughts.share
        right[prompt, :count] = thoughts.right
        label[prompt, :count] = np.arange(count)

        # The last word of every prompt is silence; scores that others have stay unsaid.
        levels = len(thoughts.levels)
        word = np.append(np.arange(levels), num_levels)
        answer_score[prompt, :levels] = thoughts.levels
        alone[prompt, word] = thoughts.solo
        # A Solver that reads silence answers as if alone.
        solver[prompt] = alone[prompt]
        solver[prompt, :count] = 0.0
        solver[prompt, :count, word] = thoughts.outcome.T

    worst_thought = [int(thoughts.value.argmin()) for thoughts in answered]
    wrong_answer = [len(thoughts.levels) - 1 for thoughts in answered]
    answer_label = np.broadcast_to(np.append(np.arange(num_levels), -1), (prompts, num_levels + 1))
    return TabularTeam(
        topology,
        {
            (0, ()): thinker,
            (1, (True,)): solver,
            (1, (False,)): alone,
        },
        right=(right, answer_score),
        label=(label, answer_label),
        wrong=(np.array(worst_thought), np.array(wrong_answer)),
        lengths=lengths,
    )


def _noise(answered: Sequence[_Thoughts]) -> float:
    """Variance of a thought's mean, as a part of the variance between the thoughts' means."""
    between = 0.0
    within = 0.0
    for thoughts in answered:
        value = thoughts.value
        mean = thoughts.share @ value
        between += thoughts.share @ np.square(value - mean)
        variance_of_mean = thoughts.variance / np.maximum(thoughts.answers - 1, 1)
        within += thoughts.share @ variance_of_mean
    return float(within / between) if between else 0.0
