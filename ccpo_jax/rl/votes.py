"""Plurality votes: of one team, of a team in which one vote changes, and of a team that assembles.

Inside this file an answer's class is a *label* in 0..C-1, with C where the agent abstains, and a
class is counted in arrays of C entries. A team's votes are counted once; what one changed vote does
to the outcome then follows from the classes that lead, and from those one vote behind.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.errors import InputError
from ccpo_jax.rl.types import Array
from ccpo_jax.scores import ROUNDING

TIES = ("expected", "wrong", "first")

# Agents whose answers are compared with all others at once: bounds the memory of a vote.
_AGENTS_AT_ONCE = 16


def vote_reward(
    answer_id: ArrayLike, correct: ArrayLike, agent_mask: ArrayLike, *, tie: str = "expected"
) -> Array:
    """Score of the plurality answer of the agents that are present.

    Let n_i be the number of present agents that share agent i's answer and M = {i present: n_i =
    max n}. The score of an answer is the mean over those who gave it. All top classes have the same
    size, so breaking ties uniformly has the expected score

        R = mean of correct_i over i in M.

    Symmetric in the agents, signed under masking and deterministic. Memory is linear in A.

    Deviation: the released code of arXiv:2603.21563 has no vote; this rule is ours.

    Args:
      answer_id: ``[..., A]`` int, class of each answer; -1 = no answer, abstains.
      correct: ``[..., A]`` float in [0, 1], score of each agent's own answer: 1 = right.
      agent_mask: ``[..., A]`` bool, True = present. The three broadcast against each other.
      tie: "expected" (broken uniformly), "wrong" (a tie scores 0) or "first" (the top class of the
        first agent wins).

    Returns:
      ``[...]`` float32 in [0, 1]; 0 if nobody votes.

    Raises:
      InputError: `team.tie`, if unknown.

    Example:
      >>> present = jnp.array([True, True, False])
      >>> float(vote_reward(jnp.array([0, 1, 2]), jnp.array([1.0, 0.0, 0.0]), present))
      0.5
    """
    require_tie(tie)
    answer_id = jnp.asarray(answer_id)
    votes = jnp.asarray(agent_mask, bool) & (answer_id >= 0)

    size = _class_sizes(answer_id, votes)
    top = size.max(axis=-1, keepdims=True)
    winner = votes & (size == top)
    if tie == "first":
        first = jnp.argmax(winner, axis=-1, keepdims=True)
        answers = jnp.broadcast_to(answer_id, winner.shape)
        winner = winner & (answers == jnp.take_along_axis(answers, first, axis=-1))

    winners = winner.sum(axis=-1)
    score = jnp.asarray(correct, jnp.float32)
    # Winners of equal score have exactly that mean, so that masking one of them changes nothing.
    lowest = jnp.where(winner, score, jnp.inf).min(axis=-1, keepdims=True)
    above = jnp.where(winner, score - lowest, 0.0).sum(axis=-1)
    reward = jnp.where(winners > 0, lowest[..., 0] + above / jnp.maximum(winners, 1), 0.0)
    if tie == "wrong":
        return jnp.where(winners > top[..., 0], 0.0, reward)
    return reward


def _class_sizes(answer_id: Array, votes: Array) -> Array:
    """``[..., A]``: how many votes share each agent's class; 0 where it does not vote."""
    answer_id = jnp.where(votes, answer_id, -1)
    agents = answer_id.shape[-1]

    def votes_like(block: Array) -> Array:
        return (answer_id[..., :, None] == block[..., None, :]).sum(axis=-1)

    if agents <= _AGENTS_AT_ONCE:
        return jnp.where(votes, votes_like(answer_id), 0)

    # -2 is nobody's class.
    missing = -agents % _AGENTS_AT_ONCE
    padding = [(0, 0)] * (answer_id.ndim - 1) + [(0, missing)]
    padded = jnp.pad(answer_id, padding, constant_values=-2)
    blocks = padded.reshape(*padded.shape[:-1], -1, _AGENTS_AT_ONCE)
    size, _ = jax.lax.scan(
        lambda size, block: (size + votes_like(block), None),
        jnp.zeros_like(answer_id),
        jnp.moveaxis(blocks, -2, 0),
    )
    return jnp.where(votes, size, 0)


def votes_without_each(answer_id: ArrayLike, correct: ArrayLike, *, tie: str = "expected") -> Array:
    """The team's reward without each of its voters in turn: A votes for little more than one.

    `vote_reward` of the A teams of A - 1 voters, up to float32 rounding of fractional scores; equal
    bits where answers are right or wrong. Time and memory are linear in A.

    Deviation: not in arXiv:2603.21563.

    Args:
      answer_id: ``[..., A]`` int, class of each answer; -1 = abstains.
      correct: ``[..., A]`` float in [0, 1].
      tie: as in `vote_reward`.

    Returns:
      ``[A, ...]`` float32 in [0, 1].

    Raises:
      InputError: `team.tie`, if unknown.

    Example:
      >>> votes_without_each(jnp.array([0, 0, 1]), jnp.array([1.0, 1.0, 0.0])).tolist()
      [0.5, 0.5, 1.0]
    """
    require_tie(tie)
    answer_id = jnp.asarray(answer_id)
    *teams, agents = answer_id.shape
    label = class_labels(answer_id).reshape(-1, agents)
    correct = jnp.asarray(correct, jnp.float32).reshape(-1, agents)

    nobody = jnp.full((agents, 1), agents)
    votes = functools.partial(replaced_votes, classes=agents, tie=tie)
    reward = jax.vmap(votes, in_axes=(0, 0, None, None))(
        label, correct, nobody, jnp.zeros((agents, 1))
    )
    return jnp.moveaxis(reward[..., 0], 1, 0).reshape(agents, *teams)


def class_labels(answer_id: ArrayLike) -> Array:
    """Numbers the classes that occur along the last axis from 0, in the order of their ids.

    Args:
      answer_id: ``[..., n]`` int, class of each answer; -1 = abstains.

    Returns:
      ``[..., n]`` int32 in 0..n-1, and n for abstentions.

    Example:
      >>> class_labels(jnp.array([7, -1, 3, 7])).tolist()
      [1, 4, 0, 1]
    """
    answer_id = jnp.asarray(answer_id)
    size = answer_id.shape[-1]
    position = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), answer_id.shape)
    ordered, origin = jax.lax.sort((answer_id, position), num_keys=1)
    is_new = jnp.diff(ordered, axis=-1, prepend=-1) != 0
    rank = jnp.cumsum(is_new & (ordered >= 0), axis=-1, dtype=jnp.int32) - 1
    _, label = jax.lax.sort((origin, rank), num_keys=1)
    return jnp.where(answer_id < 0, size, label)


class _Level(NamedTuple):
    """The classes of one size: their number, their scores, and those whose voters come first."""

    size: Array  # []
    classes: Array  # [], 0 where the size is 0
    total: Array  # [], float, sum of their voters' scores
    first: Array | None  # [3], labels by first voter, C where there are fewer; None = not needed


def replaced_votes(
    label: Array, score: Array, new_label: Array, new_score: Array, *, classes: int, tie: str
) -> Array:
    """The reward of a team of A voters after one of them voted otherwise, for K other votes of
    each.

    The team is counted once, in O(A + C); each of the A K outcomes takes O(1). One vote less and
    one more move two classes by one; of all others only those with the most votes, and those one
    vote behind, can win.

    Deviation: not in arXiv:2603.21563.

    Args:
      label: ``[A]`` int in 0..C-1, C = abstains.
      score: ``[A]`` float, score of each vote.
      new_label: ``[A, K]`` int, what each voter votes instead.
      new_score: ``[A, K]`` float.
      classes: C.
      tie: as in `vote_reward`.

    Returns:
      ``[A, K]`` float32, see `vote_reward`.

    Example:
      >>> label, score = jnp.array([0, 0, 1]), jnp.array([1.0, 1.0, 0.0])
      >>> new_label, new_score = jnp.array([[1], [2], [0]]), jnp.array([[0.0], [0.0], [1.0]])
      >>> replaced_votes(label, score, new_label, new_score, classes=2, tie="expected").tolist()
      [[0.0], [0.5], [1.0]]
    """
    agents = label.shape[0]
    score = jnp.where(label < classes, score, 0.0)
    voter = jnp.arange(agents)

    # One entry more, that of abstentions, which is never read as a class.
    count = jnp.zeros(classes + 1, jnp.int32).at[label].add(1)
    total = jnp.zeros(classes + 1, jnp.float32).at[label].add(score)
    first = second = None
    if tie == "first":
        first = jnp.full(classes + 1, agents).at[label].min(voter)
        later = jnp.where(first[label] == voter, agents, voter)
        second = jnp.full(classes + 1, agents).at[label].min(later)
    top = count[:classes].max()
    levels = [_level(size, count[:classes], total, first) for size in (top, top - 1)]

    old = label[:, None]
    leaves, joins = old < classes, new_label < classes
    stays = leaves & (old == new_label)
    old_size = jnp.where(leaves, count[old] - 1 + stays, 0)
    old_total = total[old] - score[:, None] + jnp.where(stays, new_score, 0.0)
    moves = joins & ~stays
    new_size = jnp.where(moves, count[new_label] + 1, 0)
    new_total = total[new_label] + new_score

    rest = []
    for level in levels:
        had_old = leaves & (count[old] == level.size)
        had_new = moves & (count[new_label] == level.size)
        number = level.classes - had_old - had_new
        others = level.total - jnp.where(had_old, total[old], 0.0)
        others = others - jnp.where(had_new, total[new_label], 0.0)
        rest.append((level, number, others))
    winning = jnp.maximum(old_size, new_size)
    for level, number, _ in rest:
        winning = jnp.maximum(winning, jnp.where(number > 0, level.size, 0))

    old_wins, new_wins = old_size == winning, new_size == winning
    if tie == "first":
        assert first is not None and second is not None
        old_first = jnp.where(first[old] == voter[:, None], second[old], first[old])
        old_first = jnp.where(stays, first[old], old_first)
        new_first = jnp.minimum(first[new_label], voter[:, None])
        earliest = jnp.where(old_wins, old_first, agents)
        winners_total = jnp.where(old_wins, old_total, 0.0)
        rivals = [(new_wins, new_first, new_total)]
        for level, number, _ in rest:
            rival = _first_but(level.first, old, new_label)
            wins = (number > 0) & (level.size == winning)
            rivals.append((wins, first[rival], total[rival]))
        for wins, rival_first, rival_total in rivals:
            is_earlier = wins & (rival_first < earliest)
            earliest = jnp.where(is_earlier, rival_first, earliest)
            winners_total = jnp.where(is_earlier, rival_total, winners_total)
        return jnp.where(winning > 0, winners_total / jnp.maximum(winning, 1), 0.0)

    winners = jnp.where(old_wins, 1, 0) + jnp.where(new_wins, 1, 0)
    winners_total = jnp.where(old_wins, old_total, 0.0) + jnp.where(new_wins, new_total, 0.0)
    for level, number, others in rest:
        wins = level.size == winning
        winners = winners + jnp.where(wins, number, 0)
        winners_total = winners_total + jnp.where(wins, others, 0.0)
    reward = winners_total / jnp.maximum(winners * winning, 1)
    reward = jnp.where(winning > 0, reward, 0.0)
    return jnp.where(winners > 1, 0.0, reward) if tie == "wrong" else reward


def _level(size: Array, count: Array, total: Array, first: Array | None) -> _Level:
    classes = count.shape[0]
    belongs = (count == size) & (size > 0)
    earliest: list[Array] = []
    if first is not None:
        order = jnp.where(belongs, first[:classes], jnp.iinfo(jnp.int32).max)
        for _ in range(3):
            best = jnp.argmin(order)
            earliest.append(jnp.where(order[best] < jnp.iinfo(jnp.int32).max, best, classes))
            order = order.at[best].set(jnp.iinfo(jnp.int32).max)
    return _Level(
        size,
        belongs.sum(),
        jnp.where(belongs, total[:classes], 0.0).sum(),
        jnp.stack(earliest) if earliest else None,
    )


def _first_but(labels: Array, old: Array, new: Array) -> Array:
    """The first of three labels that is neither of two."""
    first, second, third = labels
    is_first_free = (first != old) & (first != new)
    is_second_free = (second != old) & (second != new)
    return jnp.where(is_first_free, first, jnp.where(is_second_free, second, third))


def joining_rewards(label: Array, score: Array, order: Array, *, classes: int, tie: str) -> Array:
    """The reward of a team that assembles voter by voter, after each has joined.

    Deviation: not in arXiv:2603.21563.

    Args:
      label: ``[A]`` int in 0..C-1, C = abstains.
      score: ``[A]`` float, score of each vote.
      order: ``[A]`` int, the voters as they join.
      classes: C.
      tie: as in `vote_reward`.

    Returns:
      ``[A]`` float32: entry i is `vote_reward` of the first i + 1 voters of `order`. O(A + C).

    Example:
      >>> label, score = jnp.array([0, 0, 1]), jnp.array([1.0, 1.0, 0.0])
      >>> joining_rewards(label, score, jnp.array([2, 0, 1]), classes=2, tie="expected").tolist()
      [0.0, 0.5, 1.0]
    """
    agents = label.shape[0]

    def join(tally, voter):
        count, total, first, top, winners, winners_total, earliest = tally
        own = label[voter]
        size = count[own] + 1
        own_total = total[own] + score[voter]
        own_first = jnp.minimum(first[own], voter)

        leads = (size > top) & (own < classes)
        ties = (size == top) & (own < classes)
        top = jnp.where(leads, size, top)
        winners = jnp.where(leads, 1, winners + ties)
        if tie == "first":
            wins = leads | (ties & (own_first < earliest))
            winners_total = jnp.where(wins, own_total, winners_total)
            earliest = jnp.where(wins, own_first, earliest)
            reward = winners_total / jnp.maximum(top, 1)
        else:
            joined_total = winners_total + jnp.where(ties, own_total, 0.0)
            winners_total = jnp.where(leads, own_total, joined_total)
            reward = winners_total / jnp.maximum(top * winners, 1)
            if tie == "wrong":
                reward = jnp.where(winners > 1, 0.0, reward)

        count = count.at[own].set(size)
        total = total.at[own].set(own_total)
        first = first.at[own].set(own_first)
        return (count, total, first, top, winners, winners_total, earliest), reward

    start = (
        jnp.zeros(classes + 1, jnp.int32),
        jnp.zeros(classes + 1, jnp.float32),
        jnp.full(classes + 1, agents),
        jnp.int32(0),
        jnp.int32(0),
        jnp.float32(0.0),
        jnp.asarray(agents),
    )
    return jax.lax.scan(join, start, order)[1]


def without_rounding(contribution: Array) -> Array:
    """Differences of rewards, with those that are rounding errors of fractional scores set to 0.

    Example:
      >>> without_rounding(jnp.array([1e-7, -0.25])).tolist()
      [0.0, -0.25]
    """
    return jnp.where(jnp.abs(contribution) <= ROUNDING, 0.0, contribution)


def require_tie(tie: str) -> None:
    """Refuses an unknown rule for ties.

    Raises:
      InputError: `team.tie`.
    """
    if tie not in TIES:
        raise InputError(
            "team.tie", f"{tie!r:.80} is unknown; use one of {', '.join(map(repr, TIES))}"
        )
