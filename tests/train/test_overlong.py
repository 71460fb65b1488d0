"""What agents pay for long responses: who pays, for which texts, and what the expected gradient then climbs."""

import dataclasses

import numpy as np
import pytest

from ccpo_jax import make_credit
from ccpo_jax.rl.topology import chain, debate, dyad, voting
from ccpo_jax.rl.types import Samples
from ccpo_jax.rollout import Rollout, Turn
from ccpo_jax.sampler import Prompts
from ccpo_jax.train.advantage import Advantage
from ccpo_jax.train.overlong import Overlong, overlong_metrics
from ccpo_jax.train.step import assign_credit
from tests.support.enumeration import enumerate_groups
from tests.support.teams import team_of

# Lengths up to 10 of 20 tokens are free.
HALF = Overlong(weight=0.5, buffer=10)


def turn_of(lengths, truncated=None, variants=None) -> Turn:
    """A turn with these lengths ``[B, R]``; its texts do not matter."""
    lengths = np.asarray(lengths)
    cut = np.zeros(lengths.shape, bool) if truncated is None else np.asarray(truncated, bool)
    tokens = np.zeros((*lengths.shape, 20), np.int32)
    samples = Samples(tokens, tokens.astype(np.float32), lengths, cut)
    prefix = np.zeros((len(lengths), 1), np.int32)
    prompts = Prompts(prefix, prefix[:, 0], tokens[..., :0], lengths)
    world_of, counts = variants or ((0,), (lengths.shape[1],))
    return Turn(prompts, samples, [[]], world_of, counts)


def penalties(topology, turns, overlong=HALF, max_tokens=20):
    masks = np.ones((1, topology.num_agents), bool)
    team = team_of(topology, max_tokens=max_tokens)
    return overlong(team, Rollout(tuple(turns), masks))


def test_each_agent_pays_for_its_own_texts():
    got = penalties(voting(2), [turn_of([[10, 15], [20, 3]]), turn_of([[20, 12], [1, 19]])])
    assert got.dtype == np.float32
    expected = [[[0, -0.25], [-0.5, 0]], [[-0.5, -0.1], [0, -0.45]]]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    metrics = overlong_metrics(got)
    assert metrics == {
        "overlong_penalty/0": pytest.approx(-0.1875),
        "overlong_penalty/1": pytest.approx(-0.2625),
    }


def test_a_response_that_was_cut_counts_as_the_longest():
    """Whatever it is cut for: its length alone would cost less."""
    got = penalties(voting(1), [turn_of([[4, 20, 4]], [[True, True, False]])])
    np.testing.assert_allclose(got, [[[-0.5, -0.5, 0]]])


def test_a_debater_pays_the_mean_of_its_two_turns():
    turns = [turn_of([[20]]), turn_of([[5]]), turn_of([[14]]), turn_of([[15]])]
    speakers = debate(2).speakers
    got = penalties(debate(2), turns)
    of_turn = {0: -0.5, 1: 0.0, 2: -0.2, 3: -0.25}
    for agent in range(2):
        own = [of_turn[turn] for turn in range(4) if speakers[turn] == agent]
        assert len(own) == 2
        np.testing.assert_allclose(got[agent], [[np.mean(own)]], atol=1e-6)


def test_samples_that_share_a_text_share_its_penalty():
    """A chain of three with two answers to every text: one plan, two solutions, four checks for each of two samples."""
    turns = [
        turn_of([[20, 10]]),
        turn_of([[11, 12, 13, 14]]),
        turn_of([[10, 11, 12, 13, 14, 15, 16, 17]]),
    ]
    got = penalties(chain(3), turns, Overlong(1.0, 10))
    np.testing.assert_allclose(got[0, 0], [-1, -1, -1, -1, 0, 0, 0, 0])
    np.testing.assert_allclose(got[1, 0], -np.repeat([0.1, 0.2, 0.3, 0.4], 2), atol=1e-6)
    np.testing.assert_allclose(got[2, 0], -np.arange(8) / 10, atol=1e-6)


def test_texts_of_masked_worlds_cost_nothing():
    """The Solver's three answers without a thought are none of the team's."""
    solver = turn_of([[10, 12, 20, 20, 20]], variants=((0, 1), (2, 3)))
    got = penalties(dyad(), [turn_of([[10, 10]], variants=((0, 0), (2,))), solver])
    np.testing.assert_allclose(got, [[[0, 0]], [[0, -0.1]]], atol=1e-6)


def test_without_a_number_the_buffer_is_a_fifth_of_each_limit():
    team = team_of(voting(2), max_tokens=20)
    short = dataclasses.replace(team.agents[1], max_tokens=5)
    team = dataclasses.replace(team, agents=(team.agents[0], short))
    turns = (turn_of([[16, 18]]), turn_of([[4, 5]]))
    got = Overlong(1.0)(team, Rollout(turns, np.ones((1, 2), bool)))
    np.testing.assert_allclose(got, [[[0, -0.5]], [[0, -1]]])


# What the gradient climbs: tabular teams in which a word is short, and the other is long

PENALTY_OF_WORD = np.array([-0.7, 0.0])


def word_penalties(team, groups) -> np.ndarray:
    """``[A, N, samples]``: what each agent's own words cost, read off the scores of the words."""
    samples = groups.outcome.reward.shape[2]
    total = np.zeros((team.num_agents, *groups.outcome.reward.shape[1:]), np.float32)
    for turn, score in groups.score.items():
        by_word = score.reshape(*score.shape[:2], -1, score.shape[-1]).sum(2)
        words = by_word.argmax(-1)
        of_text = np.repeat(PENALTY_OF_WORD[words], samples // words.shape[1], axis=1)
        total[team.speakers[turn]] += of_text / team.speakers.count(team.speakers[turn])
    return total


def climbed(team, estimator, baseline, groups) -> dict[int, np.ndarray]:
    """Turn -> the expected gradient of a step, from the advantages that `assign_credit` gives."""
    penalty = word_penalties(team, groups)
    _, advantage, _ = assign_credit(
        estimator, Advantage(baseline, False), estimator.init(), groups.outcome, penalty
    )
    gradients = {}
    for turn, score in groups.score.items():
        texts = score.shape[1]
        own = np.asarray(advantage)[team.speakers[turn]][:, :: advantage.shape[2] // texts]
        mean = np.einsum("n,ng,ng...->...", groups.probability, own, score) / texts
        gradients[turn] = mean.ravel()
    return gradients


def true_gradients(team) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Turn -> gradients of E[R] and of E[penalty of its speaker], by the scores of single samples."""
    single = enumerate_groups(team, ())
    penalty = word_penalties(team, single)
    gradients = {}
    for turn, score in single.score.items():
        pair = []
        for value in (single.outcome.reward[0], penalty[team.speakers[turn]]):
            pair.append(np.einsum("n,ng,ng...->...", single.probability, value, score).ravel())
        gradients[turn] = tuple(pair)
    return gradients


@pytest.mark.parametrize("team", [voting(2), dyad(), debate(2)], ids=lambda team: team.name)
def test_leave_one_out_climbs_the_reward_plus_the_own_penalty(team):
    groups = enumerate_groups(team, (), group=2)
    mean = climbed(team, make_credit("shared", team), "leave_one_out", groups)
    for turn, (reward, penalty) in true_gradients(team).items():
        assert np.abs(penalty).max() > 0.01
        np.testing.assert_allclose(mean[turn], reward + penalty, atol=1e-6)


def test_a_credit_with_a_baseline_of_its_own_gets_the_penalty_centred():
    """Of n texts of a prompt, (n - 1) / n of its gradient: two thoughts, four answers. And the advantages add up to 0."""
    team = dyad()
    estimator = make_credit("nested", team, answers=2)
    groups = enumerate_groups(team, (), group=2, answers=2)
    mean = climbed(team, estimator, "none", groups)
    for turn, (reward, penalty) in true_gradients(team).items():
        texts = 2 * 2**turn
        np.testing.assert_allclose(mean[turn], reward + (texts - 1) / texts * penalty, atol=1e-6)

    penalty = word_penalties(team, groups)
    credit, advantage, _ = assign_credit(
        estimator, Advantage("none", False), (), groups.outcome, penalty
    )
    np.testing.assert_array_equal(credit, advantage)
    np.testing.assert_allclose(advantage.sum(-1), 0, atol=1e-5)


def test_an_unbaselined_credit_gets_the_penalty_as_it_is():
    """REINFORCE++ takes credit and subtracts the batch's mean itself."""
    team = voting(2)
    groups = enumerate_groups(team, (), group=2)
    penalty = word_penalties(team, groups)
    credit, advantage, _ = assign_credit(
        make_credit("individual", team), Advantage("none", False), (), groups.outcome, penalty
    )
    own = np.moveaxis(np.asarray(groups.outcome.correct[0]), -1, 0)
    np.testing.assert_allclose(credit, own + penalty, atol=1e-6)
    np.testing.assert_array_equal(credit, advantage)


def test_equal_lengths_in_a_group_change_no_advantage():
    """The baseline takes away what all samples pay."""
    team = voting(3)
    groups = enumerate_groups(team, (), group=2)
    rule = Advantage("leave_one_out", False)
    shared = make_credit("shared", team)
    _, plain, _ = assign_credit(shared, rule, (), groups.outcome)
    flat = np.full(plain.shape, -0.5, np.float32)
    _, advantage, _ = assign_credit(shared, rule, (), groups.outcome, flat)
    np.testing.assert_allclose(advantage, plain, atol=1e-6)
