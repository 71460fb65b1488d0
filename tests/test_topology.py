"""Teams: masks, who reads whom, and what a mask changes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax import TOPOLOGIES, Topology, agent_masks, team_reward, vote_reward
from ccpo_jax.topology import ancestors, dyad, variants, voting

CHAIN = Topology("chain", roles=("a", "b", "c"), reads=((), (0,), (1,)), ablated=(0, 1), decision="last")


def teams():
    return [*(make() for make in TOPOLOGIES.values()), CHAIN]


@pytest.mark.parametrize("team", teams(), ids=lambda team: team.name)
def test_contract(team):
    assert hash(team) == hash(dataclasses.replace(team))
    assert len(team.roles) == len(team.reads) == team.num_agents >= 2
    assert all(reader < agent for agent, readers in enumerate(team.reads) for reader in readers)
    assert set(team.ablated) <= set(range(team.num_agents))
    assert team.decision in ("last", "vote")
    assert TOPOLOGIES.get(team.name, lambda: team)().name == team.name


@pytest.mark.parametrize("team", teams(), ids=lambda team: team.name)
def test_team_reward_shape_range_and_jit(team):
    masks = agent_masks(team.num_agents, team.ablated)
    shape = (len(masks), 2, 3, team.num_agents)
    answer = np.random.default_rng(0).integers(-1, 3, shape)
    correct = (answer == 0).astype(np.float32)
    reward = team_reward(team, correct, answer, masks)
    assert reward.shape == shape[:3] and reward.dtype == jnp.float32
    assert (reward >= 0).all() and (reward <= 1).all()
    np.testing.assert_array_equal(jax.jit(team_reward, static_argnums=0)(team, correct, answer, masks), reward)


def test_agent_masks():
    np.testing.assert_array_equal(agent_masks(3), [[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
    np.testing.assert_array_equal(agent_masks(3, (2,)), [[1, 1, 1], [1, 1, 0]])
    np.testing.assert_array_equal(agent_masks(2, ()), [[1, 1]])
    assert agent_masks(2).dtype == bool


@pytest.mark.parametrize("agent", [-1, 3])
def test_agent_masks_names_what_is_wrong(agent):
    with pytest.raises(ValueError, match=f"ablated: agent {agent} .*use agents 0 to 2"):
        agent_masks(3, (agent,))


def test_voting_names_what_is_wrong():
    with pytest.raises(ValueError, match="num_agents.*received 1"):
        voting(1)
    with pytest.raises(ValueError, match="tie: 'coin'.*'expected', 'wrong', 'first'"):
        voting(3, tie="coin")


def test_ancestors_reach_through_others():
    assert [set(ancestors(CHAIN, agent)) for agent in range(3)] == [set(), {0}, {0, 1}]
    assert all(not ancestors(voting(4), agent) for agent in range(4))


def test_voters_and_the_thinker_are_decoded_once():
    masks = agent_masks(3)
    assert all(variants(voting(3), agent, masks) == ((0,), (0, 0, 0, 0)) for agent in range(3))
    assert variants(dyad(), 0, agent_masks(2, (0,))) == ((0,), (0, 0))


def test_what_a_mask_reaches_is_decoded_again():
    assert variants(dyad(), 1, agent_masks(2, (0,))) == ((0, 1), (0, 1))
    masks = agent_masks(3, (0, 1, 2))
    assert variants(CHAIN, 1, masks) == ((0, 1), (0, 1, 0, 0))
    assert variants(CHAIN, 2, masks) == ((0, 1, 2), (0, 1, 2, 0))


def test_last_present_agent_answers():
    correct = jnp.broadcast_to(jnp.array([0.25, 0.5, 1.0]), (4, 2, 3))
    reward = team_reward(CHAIN, correct, jnp.zeros((4, 2, 3), int), agent_masks(3))
    np.testing.assert_array_equal(reward, [[1, 1], [1, 1], [1, 1], [0.5, 0.5]])


def test_votes_of_masked_agents_do_not_count_in_any_world():
    team = voting(3, tie="first")
    answer = np.random.default_rng(1).integers(-1, 3, (4, 6, 3))
    correct = (answer == 1).astype(np.float32)
    masks = agent_masks(3)
    got = team_reward(team, correct, answer, masks)
    for world, mask in enumerate(masks):
        np.testing.assert_array_equal(got[world], vote_reward(answer[world], correct[world], mask, tie="first"))
