"""Votes of many: outcomes after one vote changes, or as a team assembles, against plain Python."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ccpo_jax
from ccpo_jax import agent_masks
from ccpo_jax.rl import votes
from tests.support.votes import plain_vote

AGENTS = 5
TEAMS = 8
vote_reward = jax.jit(ccpo_jax.vote_reward, static_argnames="tie")
votes_without_each = jax.jit(votes.votes_without_each, static_argnames="tie")
class_labels = jax.jit(votes.class_labels)


@functools.cache
def over_teams(function, tie):
    """`replaced_votes` or `joining_rewards` of TEAMS teams of AGENTS voters."""
    return jax.jit(jax.vmap(functools.partial(function, classes=AGENTS, tie=tie)))


def random_votes(seed, classes=AGENTS, agents=AGENTS):
    """Answers ``[TEAMS, agents]``, and scores in quarters that vary within a class."""
    rng = np.random.default_rng(seed)
    answers = rng.integers(-1, classes, (TEAMS, agents))
    return answers, rng.integers(0, 5, (TEAMS, agents)).astype(np.float32) / 4


fuzz = given(st.integers(0, 2**32 - 1), st.integers(1, AGENTS), st.sampled_from(votes.TIES))
often = settings(max_examples=15, deadline=None)


@often
@fuzz
def test_another_vote_of_one_voter(seed, classes, tie):
    answers, scores = random_votes(seed, classes)
    label = np.where(answers < 0, AGENTS, answers)
    rng = np.random.default_rng(seed)
    new_label = rng.integers(0, AGENTS + 1, (TEAMS, AGENTS, 2))
    new_score = rng.integers(0, 5, new_label.shape).astype(np.float32) / 4
    got = over_teams(votes.replaced_votes, tie)(label, scores, new_label, new_score)
    for team, voter, other in np.ndindex(new_label.shape):
        changed, scored = answers[team].copy(), scores[team].copy()
        vote = new_label[team, voter, other]
        changed[voter] = -1 if vote == AGENTS else vote
        scored[voter] = new_score[team, voter, other]
        expected = plain_vote(changed, scored, tie)
        np.testing.assert_allclose(got[team, voter, other], expected, atol=1e-6)


@often
@fuzz
def test_a_team_that_assembles(seed, classes, tie):
    answers, scores = random_votes(seed, classes)
    orders = np.argsort(np.random.default_rng(seed).random((TEAMS, AGENTS)), axis=1)
    label = np.where(answers < 0, AGENTS, answers)
    got = over_teams(votes.joining_rewards, tie)(label, scores, orders)
    for team, joined in np.ndindex(got.shape):
        present = np.isin(np.arange(AGENTS), orders[team, : joined + 1])
        expected = plain_vote(np.where(present, answers[team], -1), scores[team], tie)
        np.testing.assert_allclose(got[team, joined], expected, atol=1e-6)


@pytest.mark.parametrize("tie", votes.TIES)
def test_votes_of_many_are_those_of_a_plain_loop(tie):
    """More voters than are compared at once, of whom some are masked."""
    answers, scores = random_votes(3, classes=6, agents=37)
    present = np.random.default_rng(4).random(answers.shape) < 0.8
    got = vote_reward(answers * 1000 - (answers < 0), scores, present, tie=tie)
    expected = [
        plain_vote(np.where(here, answer, -1), score, tie)
        for answer, score, here in zip(answers, scores, present, strict=True)
    ]
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("tie", votes.TIES)
def test_leaving_out_each_voter_has_the_bits_of_a_vote(tie):
    """Right or wrong answers; of one array [B, G, A]."""
    answers, _ = random_votes(5, classes=4, agents=24)
    answers = answers.reshape(2, 4, 24)
    correct = (answers == 0).astype(np.float32)
    expected = vote_reward(answers, correct, agent_masks(24)[1:, None, None], tie=tie)
    np.testing.assert_array_equal(votes_without_each(answers, correct, tie=tie), expected)
    assert len(np.unique(expected)) > 1


def test_labels_number_the_classes_that_occur():
    answers = np.array([[7, -1, 3, 7], [-1, -1, -1, -1], [0, 900, 2, 900]])
    expected = [[1, 4, 0, 1], [4, 4, 4, 4], [0, 2, 1, 2]]
    np.testing.assert_array_equal(class_labels(answers), expected)


def test_a_vote_needs_memory_in_proportion_to_its_voters():
    def memory(agents):
        arguments = [
            jax.ShapeDtypeStruct((65, 4, agents), kind) for kind in (jnp.int32, jnp.float32, bool)
        ]
        return vote_reward.lower(*arguments).compile().memory_analysis().temp_size_in_bytes

    assert memory(256) < 2.5 * memory(128)
