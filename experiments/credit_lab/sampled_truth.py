"""What is true of a vote that is too large to enumerate, from sampled teams.

Voters do not read each other, so one sampled team says for every voter what each of its words would
have brought: the votes of the others are counted once, and each word is added in turn. Time and
memory grow linearly with the number of voters.

The truth comes in several independent estimates. Figures use their mean, products of two of them
where a square is needed, and intervals draw them again: an error of the truth widens an interval
and is not taken for a bias.
"""

import numpy as np

from ccpo_jax.errors import InputError
from experiments.credit_lab.tabular import TabularTeam, Truth, truth

# Teams with more combinations of words than this are sampled.
_MOST_COMBINATIONS = 2**16

ESTIMATES = 8

# Teams of one prompt and estimate.
TEAMS = 2048
_TEAMS_AT_ONCE = 256


def known_truth(team: TabularTeam, *, seed: int = 0) -> Truth:
    """The truth: enumerated where that ends, else sampled.

    Raises:
      InputError: `agents`, if the team is too large to enumerate and its members read each other,
        or break ties by order.
    """
    words = [table.shape[-1] for (_, present), table in team.tables.items() if all(present)]
    combinations = 1.0
    for size in words:
        combinations *= size
    if combinations <= _MOST_COMBINATIONS:
        return truth(team)

    topology = team.topology
    if any(topology.reads) or topology.decision != "vote" or topology.tie == "first":
        message = (
            f"{topology.num_agents} agents that read each other can say {combinations:.2g} things, "
            f"more than {_MOST_COMBINATIONS:,} can be enumerated; use fewer agents, or "
            "--team=tabular_voting"
        )
        raise InputError("agents", message)
    return sampled_truth(team, np.random.default_rng([seed, 7]))


def sampled_truth(
    team: TabularTeam, rng: np.random.Generator, *, estimates: int = ESTIMATES, teams: int = TEAMS
) -> Truth:
    """The truth of a vote, from `estimates` times `teams` sampled teams on each prompt."""
    voters = range(team.topology.num_agents)
    contribution = np.zeros((estimates, len(voters), team.prompts))
    value = [np.zeros((estimates, *team.right[voter].shape)) for voter in voters]
    reward = np.zeros((estimates, team.prompts))

    for estimate in range(estimates):
        for prompt in range(team.prompts):
            odds = [team.tables[voter, ()][prompt] for voter in voters]
            gained, without = _values(team, prompt, odds, rng, teams)
            for voter in voters:
                expected = odds[voter] @ gained[voter]
                contribution[estimate, voter, prompt] = expected - without[voter]
                value[voter][estimate, prompt] = gained[voter] - expected
                reward[estimate, prompt] += expected / len(voters)

    odds_of = [team.tables[voter, ()] for voter in voters]
    gradient = tuple(odds * better for odds, better in zip(odds_of, value, strict=True))
    return Truth(
        reward.mean(axis=0),
        contribution.mean(axis=0),
        advantage=tuple(better.mean(axis=0) for better in value),
        gradient=tuple(of_turn.mean(axis=0) for of_turn in gradient),
        contributions=contribution,
        gradients=gradient,
    )


def _values(
    team: TabularTeam, prompt: int, odds: list[np.ndarray], rng: np.random.Generator, teams: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Mean reward of a prompt for every word of every voter, and without the voter.

    Returns:
      ``(voter -> [M], [N])``.
    """
    voters = len(odds)
    labels = [team.label[voter][prompt] for voter in range(voters)]
    scores = [team.right[voter][prompt] for voter in range(voters)]
    classes = 1 + max(int(label.max()) for label in labels)
    # Of every word, its vote and the score that comes with it: [M, classes], a silent word's is 0.
    votes = [np.eye(classes + 1)[label][:, :classes] for label in labels]
    scored = [vote * score[:, None] for vote, score in zip(votes, scores, strict=True)]

    gained = [np.zeros(len(label)) for label in labels]
    without = np.zeros(voters)
    for first in range(0, teams, _TEAMS_AT_ONCE):
        size = min(_TEAMS_AT_ONCE, teams - first)
        words = [rng.choice(len(p), size=size, p=p / p.sum()) for p in odds]
        count = sum(vote[word] for vote, word in zip(votes, words, strict=True))
        score = sum(own[word] for own, word in zip(scored, words, strict=True))
        for voter, word in enumerate(words):
            other_count = count - votes[voter][word]
            other_score = score - scored[voter][word]
            without[voter] += _reward(other_count, other_score, team.topology.tie).sum()
            for added in range(len(odds[voter])):
                joined = _reward(
                    other_count + votes[voter][added],
                    other_score + scored[voter][added],
                    team.topology.tie,
                )
                gained[voter][added] += joined.sum()
    return [values / teams for values in gained], without / teams


def _reward(count: np.ndarray, score: np.ndarray, tie: str) -> np.ndarray:
    """Rewards ``[S]`` of votes counted by class ``[S, classes]``, with their scores summed."""
    wins = (count == count.max(axis=-1, keepdims=True)) & (count > 0)
    cast = np.where(wins, count, 0.0).sum(axis=-1)
    reward = np.where(wins, score, 0.0).sum(axis=-1) / np.maximum(cast, 1.0)
    if tie == "wrong":
        return np.where(wins.sum(axis=-1) > 1, 0.0, reward)
    return reward


def error_of(known: Truth) -> str:
    """One line on how exact the truth is."""
    if known.contributions is None:
        return "enumerated"
    estimates = len(known.contributions)
    error = known.contributions.std(axis=0, ddof=1) / np.sqrt(estimates)
    mean = np.concatenate(known.gradient, axis=-1)
    noise = np.concatenate(known.gradients, axis=-1).var(axis=0, ddof=1) / estimates
    share = noise.sum() / max(np.square(mean).sum(), 1e-30)
    return (
        f"sampled, {estimates} x {TEAMS:,} teams a prompt; standard error of a contribution "
        f"{np.sqrt(np.square(error).mean()):.4f}; {share:.1%} of the gradient's power is noise, "
        "which the figures take out"
    )
