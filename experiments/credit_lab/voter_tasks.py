"""What voters of tables can learn: who may know what, and what their words are worth.

*who_knows*: of N voters one, drawn anew for each problem, is informed. The informed voter answers,
right or wrong, or says nothing; the others guess among K answers or say nothing. A team does best
where the uninformed are silent. *parts*: the same, with the start that the study's task has.
*symmetric*: every voter sees every problem, with a random table of its own.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ccpo_jax.rl.topology import Topology, agent_masks, voting
from ccpo_jax.rl.types import Outcome
from experiments.credit_lab.tabular import random_team, softmax
from experiments.study.tiny_traces import INFORMED, UNINFORMED

# A logit this low is a word that is never said.
NEVER = -1e9

# Of the study's `parts`: problems of a step, and how many answers an uninformed voter chooses from,
# so that two guesses agree as often as there (7,300 problems begin with 99 numbers).
_PARTS_PROMPTS = 16
_PARTS_ANSWERS = 74

# How often the embedded model adds correctly at T = 1. Untrained, parts_3 to _15 have .35, .23, .15
# and .10 of the problems right; if it always did they would have .50, .33, .20 and .15.
_PARTS_SUMS_RIGHT = 0.7


class Task(NamedTuple):
    """A team of tables that learns.

    Attributes:
      topology: of N voters.
      logits: ``[N, C, M]`` where learning starts: of the M words, in each of C contexts.
      answers: ``[C, M, K + 1]`` probability of each answer class, given the word; class 0 is right,
        the last one is no answer.
      greedy_answers: likewise of a team that says its likeliest words.
      draw_contexts: ``(generator, B) -> [B, N]`` the context of each voter on B problems.
      prompts: B, problems of one step.
    """

    topology: Topology
    logits: np.ndarray
    answers: np.ndarray
    greedy_answers: np.ndarray
    draw_contexts: Callable[[np.random.Generator, int], np.ndarray]
    prompts: int


def who_knows(
    voters: int,
    *,
    answers: int = 4,
    informed: tuple[float, float, float] = (0.5, 0.25, 0.25),
    silent: float = 0.2,
    guesses_agree: bool = False,
    prompts: int = 8,
) -> Task:
    """One informed voter of N, drawn anew for each problem.

    Context 0 is informed: word 0 is the right answer, word 1 a wrong one, word 2 silence. Context 1
    is not: word 0 is a guess, all K answers equally likely, word 2 silence.

    Args:
      voters: N.
      answers: K.
      informed: how often the informed voter is right, wrong and silent before learning.
      silent: how often an uninformed voter is silent before learning.
      guesses_agree: all guesses of a greedy team are one and the same wrong answer, as those of
        copies of one network are; else each voter guesses for itself.
      prompts: B.
    """
    knowing = np.log(informed)
    guessing = np.array([np.log(1 - silent), NEVER, np.log(silent)])
    logits = np.tile(np.stack([knowing, guessing]), (voters, 1, 1))

    meaning = np.zeros((2, 3, answers + 1))
    meaning[0, 0, 0] = 1.0
    meaning[0, 1, 1:answers] = 1.0 / (answers - 1)
    meaning[1, 0, :answers] = 1.0 / answers
    meaning[1, 1, :answers] = 1.0 / answers
    meaning[:, 2, answers] = 1.0

    greedy_meaning = meaning.copy()
    if guesses_agree:
        greedy_meaning[1, 0] = np.eye(answers + 1)[1]

    def draw_contexts(rng, size):
        knows = rng.integers(0, voters, (size, 1))
        return np.where(np.arange(voters) == knows, 0, 1)

    return Task(voting(voters), logits, meaning, greedy_meaning, draw_contexts, prompts)


def parts(voters: int) -> Task:
    """*who knows* with the start and the batch of the study's `parts`.

    Voters begin with the habits that the embedded model was trained to have. Guesses are as spread
    out as the sums that begin with the number that is seen.
    """
    right = INFORMED["guess"] * _PARTS_SUMS_RIGHT
    habits = (right, 1 - right - INFORMED["unsure"], INFORMED["unsure"])
    return who_knows(
        voters,
        answers=_PARTS_ANSWERS,
        informed=habits,
        silent=UNINFORMED["unsure"],
        guesses_agree=True,
        prompts=_PARTS_PROMPTS,
    )


def symmetric(voters: int, *, prompts: int = 16) -> Task:
    """Voters with equal skills in distribution, and a table of its own for each of B problems.

    The tables are those of the laboratory's random team; every step sees all problems.
    """
    team = random_team(voting(voters), prompts=prompts, seed=0)
    logits = np.stack([np.log(team.tables[voter, ()]) for voter in range(voters)])
    words = logits.shape[-1]
    meaning = np.broadcast_to(np.eye(words), (prompts, words, words))

    def draw_contexts(rng, size):
        del rng
        problem = np.arange(size) % prompts
        return np.broadcast_to(problem[:, None], (size, voters))

    return Task(voting(voters), logits, meaning, meaning, draw_contexts, prompts)


TASKS = {
    "who_knows_3": functools.partial(who_knows, 3),
    "who_knows_5": functools.partial(who_knows, 5),
    "who_knows_9": functools.partial(who_knows, 9),
    "who_knows_15": functools.partial(who_knows, 15),
    "parts_3": functools.partial(parts, 3),
    "parts_5": functools.partial(parts, 5),
    "parts_9": functools.partial(parts, 9),
    "parts_15": functools.partial(parts, 15),
    "symmetric_3": functools.partial(symmetric, 3),
    "symmetric_9": functools.partial(symmetric, 9),
}


class Batch(NamedTuple):
    """What the teams of S runs say on B problems in G samples each.

    Attributes:
      contexts: ``[S, B, N]``.
      words: ``[S, B, G, N]``.
      outcome: fields ``[W, S, B, G(, N)]``.
    """

    contexts: np.ndarray
    words: np.ndarray
    outcome: Outcome


def draw_batch(
    task: Task,
    logits: np.ndarray,
    generators: Sequence[np.random.Generator],
    *,
    group: int,
    prompts: int,
    ablated: Sequence,
) -> Batch:
    """Lets the teams answer.

    Args:
      task: the team.
      logits: ``[S, N, C, M]``.
      generators: S, one for each run.
      group: G.
      prompts: B.
      ablated: the masked worlds, as in `Needs`.
    """
    voters = task.topology.num_agents
    shape = (prompts, group, voters)
    contexts = np.stack([task.draw_contexts(rng, prompts) for rng in generators])
    threshold = np.stack([rng.random((2, *shape)) for rng in generators])

    run = np.arange(len(generators))[:, None, None]
    odds = softmax(logits[run, np.arange(voters), contexts])[:, :, None]
    words = _sample(odds, threshold[:, 0])
    meaning = task.answers[contexts[:, :, None], words]
    answer = _sample(meaning, threshold[:, 1])

    classes = task.answers.shape[-1] - 1
    masks = agent_masks(voters, ablated)
    votes = np.eye(classes + 1, dtype=np.float32)[answer][..., :classes]
    counts = np.einsum("wn,sbgnk->wsbgk", masks.astype(np.float32), votes)
    worlds = (len(masks), *answer.shape)
    answer_id = np.broadcast_to(np.where(answer == classes, -1, answer).astype(np.int32), worlds)
    correct = np.broadcast_to((answer == 0).astype(np.float32), worlds)
    return Batch(contexts, words, Outcome(plurality(counts), correct, answer_id, masks))


def plurality(counts: np.ndarray) -> np.ndarray:
    """``[..., K] -> [...]``: chance that class 0 wins a vote, ties broken uniformly."""
    wins = (counts == counts.max(axis=-1, keepdims=True)) & (counts > 0)
    return (wins[..., 0] / np.maximum(wins.sum(axis=-1), 1)).astype(np.float32)


def _sample(odds: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Draws from the last axis; thresholds in [0, 1) have the shape of the result."""
    cumulative = np.cumsum(odds, axis=-1)
    return (cumulative <= threshold[..., None] * cumulative[..., -1:]).sum(axis=-1)
