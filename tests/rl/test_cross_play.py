"""Cross-play by trying, counting and sampling teams: against plain loops, and in expectation."""

import functools

import jax
import numpy as np
import pytest

import ccpo_jax
from ccpo_jax.rl import class_counts, cross_play
from ccpo_jax.rl.votes import TIES, class_labels
from tests.support.errors import raises_for
from tests.support.votes import plain_contribution, plain_cross_play

contribution = jax.jit(ccpo_jax.cross_play_contribution, static_argnames=("tie", "pairings"))
counted = jax.jit(class_counts.expected_contribution, static_argnames=("classes", "tie"))


def random_answers(batch, group, agents, classes=3, *, fractions=False, seed=0):
    """``[B, G, A]`` answers with abstentions, and their scores; fractions vary within a class."""
    rng = np.random.default_rng(seed)
    answer_id = rng.integers(-1, classes, (batch, group, agents))
    if fractions:
        return answer_id, rng.integers(0, 5, answer_id.shape).astype(np.float32) / 4
    return answer_id, (answer_id == 0).astype(np.float32)


@pytest.mark.parametrize("tie", TIES)
def test_trying_and_counting_agree_with_a_plain_loop(tie):
    """Six voters; scores of a class that are equal, and that differ."""
    for fractions in (False, True):
        answer_id, correct = random_answers(2, 2, 6, fractions=fractions)
        expected = plain_cross_play(answer_id, correct, tie)
        np.testing.assert_allclose(contribution(answer_id, correct, tie=tie), expected, atol=1e-6)
        label = np.where(answer_id < 0, 3, answer_id)
        got = counted(label, correct, classes=3, tie=tie)
        np.testing.assert_allclose(got, expected, atol=1e-6)
        assert np.abs(expected).max() > 0.1


@pytest.mark.parametrize("tie", ["expected", "first"])
def test_fifteen_voters_against_monte_carlo(tie):
    """3**14 teams are too many to try: they are counted."""
    answer_id, _ = random_answers(1, 3, 15, classes=2, seed=2)
    correct = (answer_id == 0).astype(np.float32)
    label = np.where(answer_id < 0, 2, answer_id)
    exact = np.asarray(counted(label, correct, classes=2, tie=tie))[:, 0]
    rng = np.random.default_rng(0)
    voter, draws = 4, 1500
    for sample in range(3):
        drawn = rng.integers(0, 3, (draws, 15))
        drawn[:, voter] = sample
        team = (0, drawn, np.arange(15))
        values = [
            plain_contribution(answers, scores, voter, tie)
            for answers, scores in zip(answer_id[team], correct[team], strict=True)
        ]
        error = np.std(values) / np.sqrt(draws)
        assert abs(exact[voter, sample] - np.mean(values)) < 4 * error + 1e-6
    assert np.ptp(exact[voter]) > 0.05


def test_all_teams_are_each_agents_partners_once():
    for group, agents in ((2, 5), (3, 3), (4, 1)):
        pairings = cross_play.all_teams(group, agents)
        for agent in range(agents):
            partners = np.delete(pairings, agent, axis=1)
            assert len(np.unique(partners, axis=0)) == group ** (agents - 1) == len(pairings)


def test_sampled_teams_use_every_sample_equally_often():
    for group, agents, pairings in ((8, 64, 64), (3, 5, 7)):
        used = cross_play.sampled_teams(group, agents, pairings)
        assert used.shape == (pairings, agents)
        times = [np.bincount(column, minlength=group) for column in used.T]
        assert np.ptp(times) <= (pairings % group > 0)


def test_pairings_are_the_contributions_to_their_teams():
    answer_id, correct = random_answers(2, 3, 4, fractions=True)
    got = contribution(answer_id, correct, pairings=5)
    pairings = cross_play.sampled_teams(3, 4, 5)
    for k, b, g in np.ndindex(got.shape):
        values = []
        for pairing in pairings:
            team = (b, np.where(np.arange(4) == k, g, pairing), np.arange(4))
            values.append(plain_contribution(answer_id[team], correct[team], k))
        np.testing.assert_allclose(got[k, b, g], np.mean(values), atol=1e-6)


def test_as_many_pairings_as_teams_are_all_of_them():
    answer_id, correct = random_answers(4, 2, 3)
    exact = contribution(answer_id, correct)
    np.testing.assert_array_equal(contribution(answer_id, correct, pairings=4), exact)
    assert np.abs(contribution(answer_id, correct, pairings=3) - exact).max() > 1e-3


def test_prompts_with_many_classes_are_sampled_and_the_others_counted(monkeypatch):
    monkeypatch.setattr(cross_play, "_MOST_TEAMS", 1)
    monkeypatch.setattr(cross_play, "most_classes", lambda agents, tie: 2)
    answer_id, correct = random_answers(6, 2, 4, classes=3, seed=1)
    answer_id[:2] = np.minimum(answer_id[:2], 1)
    few = class_labels(answer_id.reshape(6, -1)).reshape(6, -1)
    few = np.where(few < 8, few + 1, 0).max(axis=1) <= 2
    assert few.any() and not few.all()

    got = jax.jit(functools.partial(ccpo_jax.cross_play_contribution))(answer_id, correct)
    expected = np.where(
        few[:, None],
        plain_cross_play(answer_id, correct),
        contribution(answer_id, correct, pairings=64),
    )
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_pairings_have_a_range():
    with raises_for("credit.pairings"):
        ccpo_jax.make_credit("cross_play", ccpo_jax.TOPOLOGIES["voting"](3), pairings=0)
