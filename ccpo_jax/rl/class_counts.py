"""What a vote expects of one more voter, exactly: a dynamic program over counts of answer classes.

With C classes, all that the votes of some voters mean for the outcome is how many each class has: a
*state*, of which A voters and C classes have (A + C choose C). The program walks the voters in
their order twice. Forwards it knows how likely each state of the voters before agent k is, and
backwards what reward each state of the voters up to k leads to. Together these give the reward with
and without agent k's vote, over all teams its group can form, in polynomial time.

The rule "first" also asks which class came first, so there a state holds the classes in the order
of their first voters.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.integers import ceil_div
from ccpo_jax.rl.types import Array, HostArray

# Bounds the time: most steps from a state to another per prompt, A * states * (C + 1).
_MOST_STEPS = 2**19
# Bounds the size of the table of states, which is made at compile time.
_MOST_CLASSES = 12
# Prompts that are computed at once, next to each other in memory.
_PROMPTS_AT_ONCE = 16


class _States(NamedTuple):
    """The states of a team's votes as one table; row S stands for no state."""

    after: HostArray  # [S + 1, C] int: the state after one more vote for a class, or S
    before: HostArray  # [S + 1, C] int: the state before that vote, or S
    share: HostArray  # [S + 1, C] float32: weight of each class's mean score in the reward
    share_of_vote: HostArray  # [S + 1, C] float32: the same per voter of the class


def most_classes(agents: int, tie: str) -> int:
    """The most answer classes that `expected_contribution` counts for a team: C.

    Example:
      >>> [most_classes(agents, "expected") for agents in (9, 15, 64)]
      [6, 4, 2]
    """
    classes = 1
    while (
        classes < _MOST_CLASSES
        and agents * _num_states(agents, classes + 1, tie) * (classes + 2) <= _MOST_STEPS
    ):
        classes += 1
    return classes


def _num_states(agents: int, classes: int, tie: str) -> int:
    if tie != "first":
        return math.comb(agents + classes, classes)
    return sum(math.perm(classes, used) * math.comb(agents, used) for used in range(classes + 1))


@functools.cache
def _states(agents: int, classes: int, tie: str) -> _States:
    """Every state that `agents` votes for `classes` classes can lead to."""
    # A state is ((class, votes), ...), by first voter for the rule "first", else by class.
    index: dict[tuple, int] = {(): 0}
    links: list[tuple[int, int, int]] = []
    newest = [()]
    for _ in range(agents):
        reached = []
        for state in newest:
            for vote in range(classes):
                grown = _add_vote(state, vote, tie)
                if grown not in index:
                    index[grown] = len(index)
                    reached.append(grown)
                links.append((index[state], vote, index[grown]))
        newest = reached

    size = len(index)
    after = np.full((size + 1, classes), size, np.int32)
    before = np.full((size + 1, classes), size, np.int32)
    for start, vote, end in links:
        after[start, vote] = end
        before[end, vote] = start

    share = np.zeros((size + 1, classes), np.float32)
    share_of_vote = np.zeros((size + 1, classes), np.float32)
    for state, row in index.items():
        top = max((votes for _, votes in state), default=0)
        winners = [vote for vote, votes in state if votes == top]
        if tie == "first":
            winners = winners[:1]
        if tie == "wrong" and len(winners) > 1:
            continue
        for vote in winners:
            share[row, vote] = 1 / len(winners)
            share_of_vote[row, vote] = 1 / (len(winners) * top)
    return _States(after, before, share, share_of_vote)


def _add_vote(state: tuple, vote: int, tie: str) -> tuple:
    counts = dict(state)
    counts[vote] = counts.get(vote, 0) + 1
    items = counts.items()
    return tuple(items) if tie == "first" else tuple(sorted(items))


def expected_contribution(
    label: Array, correct: Array, *, classes: int, tie: str = "expected"
) -> Array:
    """Contribution of each vote, averaged over every team its group can form, by counting.

    The same as trying all G^(A-1) teams, see `cross_play_contribution`. Time per prompt is
    O(A * states * C), and C times that where answers of one class differ in score, as a reward that
    also rates the form makes them.

    Deviation: not in arXiv:2603.21563.

    Args:
      label: ``[B, G, A]`` int, classes of each prompt in 0..C-1, from C on = abstains.
      correct: ``[B, G, A]`` float in [0, 1].
      classes: C.
      tie: as in `vote_reward`.

    Returns:
      ``[A, B, G]`` float32 in [-1, 1].

    Example:
      >>> label, correct = jnp.array([[[0, 0], [0, 1]]]), jnp.array([[[1.0, 1.0], [1.0, 0.0]]])
      >>> expected_contribution(label, correct, classes=2).tolist()
      [[[0.25, 0.25]], [[0.0, -0.5]]]
    """
    batch, group, agents = label.shape
    at_once = min(batch, _PROMPTS_AT_ONCE)
    blocks = ceil_div(batch, at_once)
    padding = [(0, blocks * at_once - batch), (0, 0), (0, 0)]
    label = jnp.pad(label, padding, constant_values=classes)
    correct = jnp.pad(jnp.asarray(correct, jnp.float32), padding)
    shape = (blocks, at_once, group, agents)
    contribute = functools.partial(
        _contribution_of_block, states=_states(agents, classes, tie), classes=classes
    )
    credit = jax.lax.map(
        lambda block: contribute(*block), (label.reshape(shape), correct.reshape(shape))
    )
    return jnp.moveaxis(credit, -1, 0).reshape(agents, -1, group)[:, :batch]


def _contribution_of_block(label: Array, correct: Array, *, states: _States, classes: int) -> Array:
    """``[P, G, A]``: the contributions on P prompts, `expected_contribution`."""
    votes_for = label[..., None] == jnp.arange(classes)
    # A class's score is its lowest one, [P, C], and what single answers have above it.
    lowest = jnp.where(votes_for, correct[..., None], jnp.inf).min(axis=(1, 2))
    lowest = jnp.where(jnp.isfinite(lowest), lowest, 0.0)
    above = jnp.where(votes_for, correct[..., None] - lowest[:, None, None], 0.0)

    # [A, C, P], per voter: how often it gives each class, and the score that this adds.
    vote_odds = jnp.moveaxis(votes_for.mean(axis=1, dtype=jnp.float32), 0, -1)
    vote_score = jnp.moveaxis(above.mean(axis=1), 0, -1)
    walk = functools.partial(_values_of_votes, states, lowest.T, vote_odds)
    value, value_above = jax.lax.cond(
        (above > 0).any(),
        lambda: walk(vote_score),
        lambda: (walk(None)[0], jnp.zeros_like(vote_odds)),
    )

    # [P, 1, A, C] against [P, G, A, C].
    value, value_above = (jnp.moveaxis(x, -1, 0)[:, None] for x in (value, value_above))
    return jnp.where(votes_for, value + above * value_above, 0.0).sum(axis=-1)


def _values_of_votes(
    states: _States, lowest: Array, vote_odds: Array, vote_score: Array | None
) -> tuple[Array, Array | None]:
    """What a vote of each agent for each class adds to the reward.

    Args:
      states: of the team.
      lowest: ``[C, P]``, what every answer of a class scores at least.
      vote_odds: ``[A, C, P]``, how often each agent votes for each class.
      vote_score: ``[A, C, P]``, the mean over all its samples of what its answers of a class score
        above `lowest`; None = nothing.

    Returns:
      ``([A, C, P], [A, C, P])``: what the vote adds if its own answer scores `lowest`, and how much
      more per unit of its score above; None where no answer does.
    """
    _, classes, prompts = vote_odds.shape
    size = len(states.after)
    scores = vote_score is not None

    def add_vote(value, odds, abstain):
        """The value ``[..., S, P]`` of a state before one more vote is known."""
        expected = abstain * value
        for vote in range(classes):
            expected = expected + odds[vote] * value[..., states.after[:, vote], :]
        # No state has no value.
        return expected.at[..., -1, :].set(0.0)

    def backwards(later, vote):
        value, per_score = later
        odds, abstain, score = vote
        new = add_vote(value, odds, abstain)
        if not scores:
            return (new, None), later
        for own in range(classes):
            new = new + score[own] * per_score[own, states.after[:, own]]
        return (new, add_vote(per_score, odds, abstain)), later

    def forwards(earlier, step):
        odds_of_state, score_of_state = earlier
        (odds, abstain, score), (value, per_score) = step
        worth = []
        worth_above = []
        new = abstain * odds_of_state
        new_score = abstain * score_of_state if scores else None
        for own in range(classes):
            with_vote, without = states.after[:, own], states.before[:, own]
            # Subtracting before weighting leaves a vote that changes nothing with exactly 0.
            gain = (odds_of_state * (value[with_vote] - value)).sum(axis=0)
            new = new + odds[own] * odds_of_state[without]
            if scores:
                gain_per_score = per_score[:, with_vote] - per_score
                gain = gain + (score_of_state * gain_per_score).sum(axis=(0, 1))
                worth_above.append((odds_of_state * per_score[own, with_vote]).sum(axis=0))
                new_score = new_score + odds[own] * score_of_state[:, without]
                new_score = new_score.at[own].add(score[own] * odds_of_state[without])
            worth.append(gain)
        worth_above = jnp.stack(worth_above) if scores else None
        return (new, new_score), (jnp.stack(worth), worth_above)

    per_score = score_of_state = None
    if scores:
        shape = (classes, size, prompts)
        per_score = jnp.broadcast_to(states.share_of_vote.T[..., None], shape)
        score_of_state = jnp.zeros(shape)
    votes = (vote_odds, 1.0 - vote_odds.sum(axis=1), vote_score)
    final = (jnp.asarray(states.share) @ lowest, per_score)
    _, later = jax.lax.scan(backwards, final, votes, reverse=True)
    nobody = jnp.zeros((size, prompts)).at[0].set(1.0)
    return jax.lax.scan(forwards, (nobody, score_of_state), (votes, later))[1]
