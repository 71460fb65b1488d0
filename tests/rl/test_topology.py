"""Teams: masks, who reads whom, and what a mask changes."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ccpo_jax
from ccpo_jax import TOPOLOGIES, Topology, agent_masks
from ccpo_jax.rl.topology import (
    all_subsets,
    chain,
    debate,
    dyad,
    graph,
    is_chain,
    solo,
    texts_per_sample,
    variants,
    voting,
)
from tests.support.enumeration import conversation
from tests.support.errors import raises_for

# One compilation per team; operation by operation there are twenty.
team_reward = jax.jit(ccpo_jax.team_reward, static_argnums=0)
vote_reward = jax.jit(ccpo_jax.vote_reward, static_argnames="tie")

CHAIN = Topology(
    "chain", roles=("a", "b", "c"), reads=((), (0,), (1,)), ablated=(0, 1), decision="last"
)
TALK = "a b(0) c@0(0) d(1,2) b@1(0,1,3) e(4)"  # two agents speak twice, branches part and meet


def teams():
    more = (
        CHAIN,
        chain(4),
        debate(2),
        voting(4),
        graph(TALK),
        graph("a b(0) c(1) d(1)", decision="vote"),
    )
    return [*(make() for make in TOPOLOGIES.values()), *more]


every_team = pytest.mark.parametrize(
    "team", teams(), ids=lambda team: f"{team.name}-{len(team.roles)}"
)


@every_team
def test_contract(team):
    assert hash(team) == hash(dataclasses.replace(team))
    assert len(team.roles) == len(team.reads) == len(team.speakers) >= team.num_agents >= 1
    assert all(reader < turn for turn, readers in enumerate(team.reads) for reader in readers)
    assert set(team.speakers) == set(range(team.num_agents))
    for agent, turn in enumerate(team.final_turns):
        assert team.speakers[turn] == agent and agent not in team.speakers[turn + 1 :]
        assert team.agent_roles[agent] == team.roles[turn]
    assert team.num_agents == 1 or team.ablated
    assert set(team.ablated) <= set(range(team.num_agents))
    assert team.decision in ("last", "vote")
    assert TOPOLOGIES.get(team.name, lambda: team)().name == team.name


@every_team
def test_team_reward_shape_range_and_jit(team):
    masks = agent_masks(team.num_agents, team.ablated)
    shape = (len(masks), 2, 3, team.num_agents)
    answer = np.random.default_rng(0).integers(-1, 3, shape)
    correct = (answer == 0).astype(np.float32)
    reward = team_reward(team, correct, answer, masks)
    assert reward.shape == shape[:3] and reward.dtype == jnp.float32
    reward = np.asarray(reward)
    assert (reward >= 0).all() and (reward <= 1).all()
    if team in (dyad(), voting()):
        eager = ccpo_jax.team_reward(team, correct, answer, masks)
        np.testing.assert_array_equal(eager, reward)


@every_team
def test_worlds_share_a_text_exactly_where_the_same_was_said_before(team):
    """Over all subsets of agents: equal conversations are decoded once, different ones apart, the absent not at all."""
    masks = agent_masks(team.num_agents, all_subsets(team.num_agents))
    for turn, speaker in enumerate(team.speakers):
        representative, variant = variants(team, turn, masks)
        assert representative[0] == variant[0] == 0 and len(variant) == len(masks)
        assert [variant[world] for world in representative] == list(range(len(representative)))
        there = [world for world in range(len(masks)) if masks[world, speaker]]
        assert set(representative) <= set(there)
        for one, other in itertools.combinations(there, 2):
            same = conversation(team, turn, masks[one]) == conversation(team, turn, masks[other])
            assert (variant[one] == variant[other]) == same, (turn, masks[one], masks[other])


def test_the_named_teams_are_graphs():
    for team, line, decision in (
        (voting(3), "voter voter voter", "vote"),
        (chain(3), "planner solver(0) checker(0,1)", "last"),
        (debate(2), "voter voter debater@0(0,1) debater@1(0,1)", "vote"),
    ):
        assert dataclasses.replace(team, name="graph") == graph(line, decision)
    assert dataclasses.replace(dyad(), name="graph", ablated=(0, 1)) == graph("thinker solver(0)")


@pytest.mark.parametrize(
    "line", ["", "planner solver(0", "solver(a)", "planner, solver", "a @0(0)"]
)
def test_a_graph_that_cannot_be_read_says_how_to_write_one(line):
    with raises_for("team.graph"):
        graph(line)


@pytest.mark.parametrize(
    "line, turn",
    [
        ("planner solver(1)", "turn 1 reads turn 1"),
        ("planner(1)", "turn 0 reads turn 1"),
        ("planner solver(0) checker(5)", "turn 2 reads turn 5"),
        ("planner solver@2(0)", "(0, 2)"),
    ],
)
def test_impossible_graphs_name_the_turn(line, turn):
    with raises_for("topology") as error:
        graph(line)
    assert turn in str(error.value)


def test_unknown_decisions_are_refused():
    with raises_for("team.decision"):
        graph(decision="boss")


def test_agent_masks():
    np.testing.assert_array_equal(agent_masks(3), [[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
    np.testing.assert_array_equal(agent_masks(3, (2,)), [[1, 1, 1], [1, 1, 0]])
    np.testing.assert_array_equal(agent_masks(3, (1, (0, 2))), [[1, 1, 1], [1, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(agent_masks(2, ()), [[1, 1]])
    assert agent_masks(2).dtype == bool


def test_world_w_of_all_subsets_masks_the_bits_of_w():
    masks = agent_masks(3, all_subsets(3))
    for world, mask in enumerate(masks):
        assert sum((not present) << agent for agent, present in enumerate(mask)) == world


@pytest.mark.parametrize("agent", [-1, 3, (0, 3)])
def test_agent_masks_names_what_is_wrong(agent):
    with raises_for("ablated"):
        agent_masks(3, (agent,))


def test_voting_names_what_is_wrong():
    with raises_for("team.num_agents"):
        voting(0)
    with raises_for("team.tie"):
        voting(3, tie="coin")


@pytest.mark.parametrize("num_agents", [0, 1])
def test_a_chain_has_two_agents(num_agents):
    with raises_for("team.num_agents") as error:
        chain(num_agents)
    assert ("--config.topology=solo" in str(error.value)) == (num_agents == 1)


def test_voters_and_the_thinker_are_decoded_once():
    masks = agent_masks(3)
    assert all(variants(voting(3), agent, masks) == ((0,), (0, 0, 0, 0)) for agent in range(3))
    assert variants(dyad(), 0, agent_masks(2, (0,))) == ((0,), (0, 0))


def test_what_a_mask_reaches_is_decoded_again():
    assert variants(dyad(), 1, agent_masks(2, (0,))) == ((0, 1), (0, 1))
    masks = agent_masks(3, (0, 1, 2))
    assert variants(CHAIN, 1, masks) == ((0, 1), (0, 1, 0, 0))
    assert variants(CHAIN, 2, masks) == ((0, 1, 2), (0, 1, 2, 0))
    assert variants(debate(2), 2, agent_masks(2)) == (
        (0, 2),
        (0, 0, 1),
    )  # itself masked, then its partner


def test_what_masks_cost():
    def price(team, ablated):
        return texts_per_sample(team, agent_masks(team.num_agents, ablated))

    assert [price(dyad(), masked) for masked in ((), (0,), all_subsets(2))] == [2, 3, 3]
    assert [price(chain(3), masked) for masked in ((), (0, 1, 2), all_subsets(3))] == [3, 6, 7]
    assert [price(debate(3), masked) for masked in ((), (0, 1, 2), all_subsets(3))] == [6, 12, 15]
    assert price(voting(5), all_subsets(5)) == 5


def test_chains_are_told_from_other_graphs():
    assert all(
        is_chain(team) for team in (dyad(), chain(2), chain(4), CHAIN, graph("a b(0) c(0,1)"))
    )
    assert not any(
        is_chain(team)
        for team in (solo(), voting(3), debate(2), graph(), graph(TALK), graph("a b(0) c@0(1)"))
    )


def test_last_present_agent_answers():
    correct = np.broadcast_to(np.array([0.25, 0.5, 1.0]), (4, 2, 3))
    reward = team_reward(CHAIN, correct, np.zeros((4, 2, 3), int), agent_masks(3))
    np.testing.assert_array_equal(reward, [[1, 1], [1, 1], [1, 1], [0.5, 0.5]])


def test_who_speaks_last_may_have_spoken_first():
    """Agent 0 opens and closes: its answer counts while it is there, then that of agent 1."""
    team = graph("a b(0) a@0(1)")
    correct = np.broadcast_to(np.array([0.25, 0.5]), (3, 1, 2))
    np.testing.assert_array_equal(
        team_reward(team, correct, np.zeros((3, 1, 2), int), agent_masks(2)),
        [[0.25], [0.5], [0.25]],
    )


@every_team
def test_nobody_earns_nothing(team):
    ones = np.ones((1, 2, team.num_agents), np.float32)
    nobody = np.zeros((1, team.num_agents), bool)
    np.testing.assert_array_equal(
        team_reward(team, ones, np.zeros(ones.shape, int), nobody), [[0, 0]]
    )


def test_votes_of_masked_agents_do_not_count_in_any_world():
    team = voting(3, tie="first")
    answer = np.random.default_rng(1).integers(-1, 3, (4, 6, 3))
    correct = (answer == 1).astype(np.float32)
    masks = agent_masks(3)
    got = np.asarray(team_reward(team, correct, answer, masks))
    for world, mask in enumerate(masks):
        np.testing.assert_array_equal(
            got[world], vote_reward(answer[world], correct[world], mask, tie="first")
        )
