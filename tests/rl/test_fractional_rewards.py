"""Scores between 0 and 1: gradients that are claimed exact stay exact, and nothing turns at a threshold."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax import (
    Outcome,
    agent_masks,
    contribution,
    cross_play_contribution,
    event_bonus,
    group_advantage,
    make_credit,
    sepo_reward,
    vote_reward,
)
from ccpo_jax.errors import InputError
from ccpo_jax.rl.diagnostics import diagnostics
from ccpo_jax.rl.topology import chain, debate, dyad, voting
from experiments.credit_lab.claims import CLAIMS
from tests.support.enumeration import (
    FRACTIONS,
    enumerate_groups,
    gradient_estimates,
    mean_and_variance,
    split_by_turn,
    team_gradient,
)

# Claims of experiments/credit_lab, and those of docstrings that need a hyper-parameter.
ESTIMATORS = {name: (name, {}, claim.gradient) for name, claim in CLAIMS.items() if claim.gradient}
ESTIMATORS |= {
    "pooled, not scaled": ("pooled", {"scaled": False}, "exact"),
    "nested, with solo answers": ("nested", {"answers": 2, "solo_weight": 0.5}, "exact"),
}
ESTIMATORS["nested"] = ("nested", {"answers": 2}, "exact")
TEAMS = {"dyad": dyad(), "voting": voting(3), "chain": chain(3), "debate": debate(2)}


@functools.cache
def groups_of(team, ablated, group, answers):
    return enumerate_groups(TEAMS[team], ablated, group=group, answers=answers, scores=FRACTIONS)


def fitting_teams():
    pairs = []
    for label, (name, hyper, _) in ESTIMATORS.items():
        for team, topology in TEAMS.items():
            if team == "chain" and "solo_weight" in hyper:
                continue  # 2**16 groups
            try:
                make_credit(name, topology, **hyper)
            except InputError:
                continue
            pairs.append((label, team))
    assert {label for label, _ in pairs} == ESTIMATORS.keys()
    return pairs


@pytest.mark.parametrize("label, team", fitting_teams())
def test_claimed_gradients_are_exact_for_fractional_rewards(label, team):
    name, hyper, claim = ESTIMATORS[label]
    topology = TEAMS[team]
    estimator = make_credit(name, topology, **hyper)
    needs = estimator.needs
    # Groups of two, as far as they can be enumerated; a sample alone has no baseline to go wrong.
    two = needs.answers_per_text > 1 or topology.num_agents == 2 or team == "voting"
    group = 2 if two and not (team == "debate" and needs.ablated) else 1
    groups = groups_of(team, needs.ablated, group, needs.answers_per_text)

    state = estimator.init()
    if jax.tree.leaves(state):
        _, state = estimator.update(state, groups.outcome)
    centre = "leave_one_out" if group > 1 and estimator.baseline.kind != "none" else "none"
    gradients = gradient_estimates(topology, estimator, groups, centre, state)
    mean, _ = mean_and_variance(gradients, groups.probability)
    expected = team_gradient(topology, needs.ablated, scores=FRACTIONS)

    found, true = split_by_turn(topology, mean), split_by_turn(topology, expected)
    assert all(np.abs(part).max() > 1e-3 for part in true.values())
    for agent in range(topology.num_agents):
        turns = [turn for turn, speaker in enumerate(topology.speakers) if speaker == agent]
        own = np.concatenate([found[turn] for turn in turns])
        exact = np.concatenate([true[turn] for turn in turns])
        factor = 1.0 if claim == "exact" else (own @ exact) / (exact @ exact)
        assert factor > 0
        np.testing.assert_allclose(own, factor * exact, atol=2e-6 * max(factor, 1.0))


# By hand


def test_the_score_of_a_class_is_the_mean_over_its_voters():
    """Classes 0 (scores 0.9 and 0.5) and 1 (0.2): a tie with one more vote for 1."""
    score, present = np.array([0.9, 0.5, 0.2, 0.4]), np.array([True, True, True, False])
    classes = np.array([0, 0, 1, 1])
    assert float(vote_reward(classes, score, present)) == pytest.approx(0.7)
    everyone = np.ones(4, bool)
    expected = {"expected": (0.7 + 0.3) / 2, "wrong": 0.0, "first": 0.7}
    for tie, reward in expected.items():
        assert float(vote_reward(classes, score, everyone, tie=tie)) == pytest.approx(reward)


def test_a_vote_that_changes_nothing_contributes_exactly_nothing():
    """Means of equal fractions round; the least remainder would count as help."""
    score = np.arange(1, 100, dtype=np.float32)[:, None, None] / 100
    scores, classes = np.broadcast_to(score, (99, 2, 5)), np.zeros((99, 2, 5), int)
    rewards = vote_reward(classes[:, 0], scores[:, 0], agent_masks(5)[:, None])
    np.testing.assert_array_equal(rewards, np.broadcast_to(score[:, 0, 0], (6, 99)))
    np.testing.assert_array_equal(contribution(rewards), np.zeros((5, 99)))
    np.testing.assert_array_equal(cross_play_contribution(classes, scores), np.zeros((5, 99, 2)))


def test_the_event_of_a_fraction_is_the_part_of_it_that_took_place():
    """Signed scores -1, -0.4, 0.2, 1 are the scores 0, 0.3, 0.6, 1."""
    joint = jnp.array([-1.0, -0.4, 0.2, 1.0])
    usually_wrong, usually_right, tie = (
        jnp.array([-1.0, 0.6]),
        jnp.array([0.2]),
        jnp.array([-0.4, 0.4]),
    )
    np.testing.assert_allclose(event_bonus(joint, usually_wrong), [0, 0.3, 0.6, 1], atol=1e-6)
    np.testing.assert_allclose(event_bonus(joint, usually_right), [-1, -0.7, -0.4, 0], atol=1e-6)
    np.testing.assert_array_equal(event_bonus(joint, tie), np.zeros(4))


def test_the_event_never_ranks_thoughts_anew():
    rng = np.random.default_rng(0)
    joint, solo = 2 * rng.random((50, 4)) - 1, 2 * rng.random((50, 3)) - 1
    paid = joint + 0.2 * np.asarray(event_bonus(joint, solo))
    shared = group_advantage(joint, normalize_std=False)
    np.testing.assert_allclose(group_advantage(paid, normalize_std=False), 1.1 * shared, atol=1e-6)


@pytest.mark.parametrize("reward", [-1.0, -0.6, -0.01, 0.01, 0.2, 1.0])
def test_shares_tilt_a_fraction_by_its_two_parts_and_keep_its_sign(reward):
    shares = np.array([[0.9, 0.1], [0.1, 0.9]])
    thinker, solver = map(np.asarray, sepo_reward(np.full(2, reward), shares, shares))
    # Each share differs by 0.4 from the mean; credit and blame are 0.2.
    np.testing.assert_allclose(thinker - reward, reward * 0.2 * np.array([0.4, -0.4]), atol=1e-6)
    np.testing.assert_allclose(thinker + solver, 2 * np.full(2, reward), atol=1e-6)
    assert (np.sign(thinker) == np.sign(reward)).all()


def test_what_a_fraction_lacks_is_blamed():
    shares = np.array([[0.9, 0.1], [0.1, 0.9]])
    harsh, _ = sepo_reward(np.full(2, 0.5), shares, shares, credit=0.4, blame=0.8)
    np.testing.assert_allclose(harsh, 0.5 + (0.75 * 0.4 - 0.25 * 0.8) * np.array([0.4, -0.4]))


def test_only_a_full_score_counts_as_right():
    """Sample 0 is nearly right, sample 1 right with and without agent 0, sample 2 right because of it."""
    reward = np.array([[[0.9, 1.0, 1.0]], [[0.9, 1.0, 0.4]]])
    correct = np.zeros((2, 1, 3, 2))
    correct[0, 0, :, 0] = [0.2, 0.4, 0.6]
    outcome = Outcome(reward, correct, np.zeros(correct.shape, int), agent_masks(2, (0,)))
    found = diagnostics(outcome, np.zeros((2, 1, 3)), np.zeros((2, 1, 3)), dyad())
    assert found["credit/free_rider_rate/0"] == 0.5
    assert found["credit/leak_rate/0"] == pytest.approx(0.4)


def test_contributions_within_rounding_count_as_none():
    reward = np.float32([[[0.1 + 0.2, 0.5]], [[0.3 - 1e-7, 0.3]]])
    outcome = Outcome(
        reward, np.zeros((2, 1, 2, 2)), np.zeros((2, 1, 2, 2), int), agent_masks(2, (0,))
    )
    found = diagnostics(outcome, np.zeros((2, 1, 2)), np.zeros((2, 1, 2)), dyad())
    assert found["credit/help_rate/0"] == 0.5 and found["credit/hurt_rate/0"] == 0
