"""Exact expectations over small tabular teams, by enumeration of everything that can be sampled.

A tabular team has one softmax per turn and context. `enumerate_groups` lists every group of samples
once, with its probability, so that expectations and variances are exact up to float32. Every word
has a score; unless a test says otherwise, word 0 is right and the others are wrong.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax import (
    CreditEstimator,
    Outcome,
    Topology,
    agent_masks,
    group_advantage,
    leave_one_out_advantage,
)

# Score of each word.
RIGHT_OR_WRONG = (1.0, 0.0, 0.0, 0.0)
FRACTIONS = (0.7, 0.2, 1.0, 0.0)

ADVANTAGES = {
    "none": lambda credit: credit,
    "leave_one_out": leave_one_out_advantage,
    "group": group_advantage,
    "centred": functools.partial(group_advantage, normalize_std=False),
}


def softmax(logits: np.ndarray) -> np.ndarray:
    weight = np.exp(logits)
    return weight / weight.sum(-1, keepdims=True)


def ordered_groups(options: np.ndarray, group: int) -> np.ndarray:
    """``[B, G, ...]``: every ordered group of `group` rows of `options`."""
    return options[np.array(list(itertools.product(range(len(options)), repeat=group)))]


def mean_and_variance(gradients: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean, and variance summed over parameters, over the enumerated groups of axis 0."""
    mean = np.tensordot(probability, gradients, 1)
    return mean, float(np.tensordot(probability, np.square(gradients - mean), 1).sum())


# --- teams whose agents read each other


class Enumeration(NamedTuple):
    """Every way in which a group of samples can come out, N of them."""

    outcome: Outcome  # fields [W, N, G(, A)]
    score: (
        dict  # turn -> [N, n, ...] gradient of the log-probability of each of its n factual texts
    )
    probability: np.ndarray  # [N]
    num_texts: int  # texts decoded for one group


def conversation(team: Topology, turn: int, present) -> tuple:
    """The text of a turn in the world of `present`, as the tree of all that led to it."""
    read = [t for t in team.reads[turn] if present[team.speakers[t]]]
    return turn, tuple(conversation(team, t, present) for t in read)


def logit_tables(team: Topology, words: int, masks, seed: int) -> dict:
    """(turn, partners present) -> logits of the turn's word after the words that it reads."""
    tables = {}
    for turn, reads in enumerate(team.reads):
        for mask in masks:
            there = tuple(bool(mask[team.speakers[partner]]) for partner in reads)
            rng = np.random.default_rng([seed, turn, *there])
            tables.setdefault((turn, there), rng.normal(0, 1.0, (words,) * (sum(there) + 1)))
    return tables


def reward_of_answers(
    team: Topology, answers: dict, scores: Sequence[float] = RIGHT_OR_WRONG
) -> np.ndarray:
    """Reward of the answers of the agents that are present, agent -> array of words."""
    score = np.array(scores)
    if team.decision == "last":
        last = max(answers, key=lambda agent: team.final_turns[agent])
        return score[answers[last]]
    votes = np.stack(list(answers.values()))
    counts = np.stack([(votes == word).sum(0) for word in range(votes.max() + 1)])
    winners = counts == counts.max(0)
    return np.einsum("w...,w->...", winners, score[: len(winners)]) / winners.sum(0)


def enumerate_groups(
    team: Topology,
    ablated,
    *,
    group: int = 1,
    answers: int = 1,
    words: int = 2,
    seed: int = 0,
    scores: Sequence[float] = RIGHT_OR_WRONG,
) -> Enumeration:
    """Every group of samples of a tabular team in the factual and the masked worlds.

    Worlds share a text exactly where the same conversation led to it.

    Args:
      team: who speaks.
      ablated: masked worlds, see `agent_masks`.
      group: G.
      answers: K, answers to every text of a chain.
      words: texts that a turn can choose from.
      seed: of the tables.
      scores: of the words.
    """
    masks = agent_masks(team.num_agents, ablated)
    everyone = (True,) * team.num_agents
    tables = {}
    for key, logits in logit_tables(team, words, masks, seed).items():
        tables[key] = softmax(logits)

    # Texts of every conversation; those that are not factual are decoded once per sample.
    count = {}
    for turn in range(len(team.roles)):
        count[conversation(team, turn, everyone)] = group * answers**turn

    # (conversation, sample) -> (turn, the texts that it reads)
    cells: dict[tuple, tuple] = {}
    for mask in masks:
        for turn, reads in enumerate(team.reads):
            if not mask[team.speakers[turn]]:
                continue
            own = conversation(team, turn, mask)
            num_texts = count.get(own, group)
            read = [conversation(team, p, mask) for p in reads if mask[team.speakers[p]]]
            for sample in range(num_texts):
                texts = tuple((c, sample * count.get(c, group) // num_texts) for c in read)
                cells[own, sample] = (turn, texts)
    column = {cell: index for index, cell in enumerate(cells)}

    # Every choice of a word for every text, and the score of every factual text.
    chosen = np.array(list(itertools.product(range(words), repeat=len(cells))))  # [N, cells]
    probability = np.ones(len(chosen))
    likelihood = np.ones(chosen.shape)
    score: dict[int, list] = {turn: [] for turn in range(len(team.roles))}
    for cell, (turn, texts) in cells.items():
        there = tuple(partner in [c[0] for c, _ in texts] for partner in team.reads[turn])
        context = tuple(chosen[:, column[text]] for text in texts)
        word = chosen[:, column[cell]]
        table = tables[turn, there]
        likelihood[:, column[cell]] = table[(*context, word)]
        probability *= likelihood[:, column[cell]]
        if cell[0] == conversation(team, turn, everyone):
            gradient = np.zeros((len(chosen), *table.shape))
            gradient[(np.arange(len(chosen)), *context)] = np.eye(words)[word] - table[context]
            score[turn].append(gradient)

    # Rewards and answers of every sample of the team. A masked world may have fewer samples.
    samples = group * answers ** (team.num_agents - 1) if answers > 1 else group
    shape = (len(masks), len(chosen), samples)
    reward = np.zeros(shape)
    answer_id = np.full((*shape, team.num_agents), -1)
    for world, mask in enumerate(masks):
        finals = {}
        for agent, turn in enumerate(team.final_turns):
            if mask[agent]:
                finals[agent] = conversation(team, turn, mask)
        if not finals:
            continue
        num_samples = samples if all(c in count for c in finals.values()) else group
        words_of = {}
        for agent, c in finals.items():
            texts = [column[c, s * count.get(c, group) // num_samples] for s in range(num_samples)]
            words_of[agent] = chosen[:, texts]
        won = reward_of_answers(team, words_of, scores)
        if num_samples == samples:
            reward[world] = won
            for agent, answered in words_of.items():
                answer_id[world, ..., agent] = answered
        else:
            reward[world] = won.mean(1, keepdims=True)

    surprisal = np.zeros((team.num_agents, *shape[1:]), np.float32)
    for turn, agent in enumerate(team.speakers):
        own = conversation(team, turn, everyone)
        texts = [column[own, s * count[own] // samples] for s in range(samples)]
        surprisal[agent] -= np.log(likelihood[:, texts])

    answer_logprob = None
    if team.name == "dyad" and answers == 1:
        thought, answer = (
            chosen[:, [column[conversation(team, turn, everyone), g] for g in range(group)]]
            for turn in range(2)
        )
        odds = tables[1, (True,)][thought[:, :, None], answer[:, None, :]]
        answer_logprob = np.moveaxis(np.log(odds, dtype=np.float32), 1, 0)

    correct = np.where(answer_id < 0, 0.0, np.array(scores)[answer_id]).astype(np.float32)
    outcome = Outcome(
        reward.astype(np.float32),
        correct,
        answer_id,
        masks,
        surprisal=surprisal,
        answer_logprob=answer_logprob,
    )
    scores = {turn: np.stack(gradients, 1) for turn, gradients in score.items()}
    return Enumeration(outcome, scores, probability, len(cells))


def gradient_estimates(
    team: Topology,
    estimator: CreditEstimator,
    groups: Enumeration,
    advantage: str = "none",
    state=(),
) -> np.ndarray:
    """Gradient estimates ``[N, parameters]`` of the factual tables, turn after turn."""
    credit, _ = jax.jit(estimator.update)(state, groups.outcome)
    signal = np.asarray(ADVANTAGES[advantage](credit))  # [A, N, G]
    parts = []
    for turn, score in groups.score.items():
        num_texts = score.shape[1]
        own = signal[team.speakers[turn]][:, :: signal.shape[2] // num_texts]
        part = np.einsum("ng,ng...->n...", own, score).reshape(len(score), -1)
        parts.append(part / num_texts)
    return np.concatenate(parts, axis=1)


def split_by_turn(team: Topology, parameters: np.ndarray, words: int = 2) -> dict[int, np.ndarray]:
    """Turn -> its part of ``[..., parameters]``."""
    sizes = [words ** (len(reads) + 1) for reads in team.reads]
    return dict(enumerate(np.split(parameters, np.cumsum(sizes)[:-1], axis=-1)))


def reward_gradient(
    team: Topology,
    ablated,
    present,
    *,
    words: int = 2,
    seed: int = 0,
    scores: Sequence[float] = RIGHT_OR_WRONG,
) -> dict[int, np.ndarray]:
    """Turn -> exact gradient of E[reward in the world of `present`] by the turn's factual table."""
    tables = logit_tables(team, words, agent_masks(team.num_agents, ablated), seed)
    turns = [t for t, speaker in enumerate(team.speakers) if present[speaker]]
    choices = np.array(list(itertools.product(range(words), repeat=len(turns)))).T
    chosen = dict(zip(turns, choices, strict=True))
    finals = {agent: turn for agent, turn in enumerate(team.final_turns) if present[agent]}
    answers = {agent: chosen[turn] for agent, turn in finals.items()}
    won = reward_of_answers(team, answers, scores)

    def expectation(tables):
        logprob = 0.0
        for turn in turns:
            there = tuple(bool(present[team.speakers[partner]]) for partner in team.reads[turn])
            read = [p for p, here in zip(team.reads[turn], there, strict=True) if here]
            context = tuple(chosen[partner] for partner in read)
            logprob += jax.nn.log_softmax(tables[turn, there])[(*context, chosen[turn])]
        return jnp.exp(logprob) @ jnp.asarray(won, jnp.float32)

    tables = {key: jnp.asarray(table, jnp.float32) for key, table in tables.items()}
    gradients = jax.jit(jax.grad(expectation))(tables)
    return {
        turn: np.asarray(gradients[turn, (True,) * len(reads)]).ravel()
        for turn, reads in enumerate(team.reads)
    }


def team_gradient(team: Topology, ablated, **options) -> np.ndarray:
    """``[parameters]``: the gradient of E[R], which every unbiased estimator has; options as in
    `reward_gradient`."""
    everyone = (True,) * team.num_agents
    by_turn = reward_gradient(team, ablated, everyone, **options)
    return np.concatenate(list(by_turn.values()))


# --- a dyad that rates itself


class RatedDyad(NamedTuple):
    """A dyad of two words whose raters choose one of two splits; every group of two samples."""

    shares: np.ndarray  # [split, 2] shares of Thinker and Solver
    odds_of_split: np.ndarray  # [rater, thought, answer, split]
    samples: np.ndarray  # [N, 4] thought, answer, split of each rater: all single samples
    odds: np.ndarray  # [N]
    score: np.ndarray  # [N, 3, 2] by the tables of the Thinker and of the Solver after each thought
    groups: np.ndarray  # [B, G] samples of every group
    outcome: Outcome


def rated_dyad(table: np.ndarray, scores: Sequence[float] = RIGHT_OR_WRONG) -> RatedDyad:
    """Enumerates the probabilities ``[3, 2]``: the Thinker's, and the Solver's after each thought."""
    words, group = 2, 2
    shares = np.array([(0.2, 0.8), (0.9, 0.1)])
    odds_of_split = np.random.default_rng(1).uniform(0.2, 0.8, (2, words, words, 2))
    odds_of_split[..., 1] = 1 - odds_of_split[..., 0]

    samples = np.array(list(itertools.product(range(words), repeat=4)))
    thought, answer, first, second = samples.T
    odds = table[0][thought] * table[1 + thought, answer]
    odds = odds * odds_of_split[0][thought, answer, first]
    odds = odds * odds_of_split[1][thought, answer, second]

    score = np.zeros((len(samples), 3, words))
    score[:, 0] = np.eye(words)[thought] - table[0]
    score[np.arange(len(samples)), 1 + thought] = np.eye(words)[answer] - table[1 + thought]

    groups = ordered_groups(np.arange(len(samples)), group)
    score_of_answer = np.array(scores)[answer[groups]]
    correct = np.stack([np.zeros(groups.shape), score_of_answer], -1)[None].astype(np.float32)
    rated = np.moveaxis(shares[samples[:, 2:]], 1, 0)[:, groups]  # [rater, B, G, 2]
    no_classes = np.zeros(correct.shape, int)
    outcome = Outcome(correct[..., 1], correct, no_classes, agent_masks(2, ()), shares=rated)
    return RatedDyad(shares, odds_of_split, samples, odds, score, groups, outcome)


def rated_gradients(rated: RatedDyad, signal) -> tuple[np.ndarray, np.ndarray]:
    """Estimates ``[B, 3, 2]`` for an advantage ``[2, B, G]``, and every group's probability."""
    by_table = np.stack([signal[0], signal[1], signal[1]], -1)[..., None]
    estimate = by_table * rated.score[rated.groups]
    return estimate.mean(1), rated.odds[rated.groups].prod(1)
