"""Diagnostics of credit, by hand."""

import numpy as np
import pytest

from ccpo_jax.rl.diagnostics import diagnostics
from ccpo_jax.rl.topology import agent_masks, all_subsets, chain, dyad, graph, voting
from ccpo_jax.rl.types import Outcome


def test_diagnostics_of_a_vote_by_hand():
    reward = np.array([[[1.0, 0.0]], [[0.5, 0.0]], [[1.0, 0.5]], [[1.0, 0.0]]])
    outcome = Outcome(reward, np.zeros((4, 1, 2, 3)), np.zeros((4, 1, 2, 3), int), agent_masks(3))
    credit = np.arange(6.0).reshape(3, 1, 2)
    advantage = np.array([[[0.0, 0.0]], [[1.0, -1.0]], [[0.0, 0.0]]])
    found = diagnostics(outcome, credit, advantage, voting(3))
    assert found["credit/help_rate/0"] == 0.5 and found["credit/hurt_rate/0"] == 0
    assert found["credit/hurt_rate/1"] == 0.5 and found["credit/pivotal_rate/1"] == 0.5
    assert [found[f"credit/free_rider_rate/{k}"] for k in range(3)] == [0.0, 1.0, 1.0]
    assert [found[f"credit/silent_groups/{k}"] for k in range(3)] == [1.0, 0.0, 1.0]
    assert found["credit/mean/2"] == 4.5 and found["credit/var/2"] == 0.25


def test_nobody_rides_free_where_nothing_was_right():
    reward = np.array([[[0.0, 0.5]], [[0.0, 1.0]]])
    outcome = Outcome(
        reward, np.zeros((2, 1, 2, 2)), np.zeros((2, 1, 2, 2), int), agent_masks(2, (0,))
    )
    found = diagnostics(outcome, np.zeros((2, 1, 2)), np.zeros((2, 1, 2)), dyad())
    assert found["credit/hurt_rate/0"] == 0.5
    assert not any("free_rider" in name for name in found)


def test_diagnostics_leave_out_what_was_not_decoded():
    outcome = Outcome(
        np.ones((1, 2, 2)),
        np.ones((1, 2, 2, 2)),
        np.zeros((1, 2, 2, 2), int),
        np.ones((1, 2), bool),
    )
    found = diagnostics(outcome, np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), dyad())
    assert not any("help_rate" in name or "pivotal" in name for name in found)
    assert found["credit/leak_rate/0"] == 1.0


def test_diagnostics_of_a_graph_read_the_worlds_that_mask_one_agent():
    """All subsets of three: worlds 1, 2 and 4 are an agent's own; the planner may leak, those who follow may not."""
    reward = np.ones((8, 1, 2))
    reward[1], reward[4] = [[0, 1]], [[1, 0]]
    reward[3] = reward[5] = reward[6] = reward[7] = 0
    correct = np.zeros((8, 1, 2, 3))
    correct[0, 0, 0] = 1
    outcome = Outcome(reward, correct, np.zeros(correct.shape, int), agent_masks(3, all_subsets(3)))
    found = diagnostics(outcome, np.zeros((3, 1, 2)), np.zeros((3, 1, 2)), chain(3))
    assert [found[f"credit/help_rate/{k}"] for k in range(3)] == [0.5, 0.0, 0.5]
    assert found["credit/leak_rate/0"] == 0.5 and "credit/leak_rate/1" not in found
    assert not any(
        "leak" in name
        for name in diagnostics(outcome, np.zeros((3, 1, 2)), np.zeros((3, 1, 2)), voting(3))
    )
    two = diagnostics(
        outcome, np.zeros((3, 1, 2)), np.zeros((3, 1, 2)), graph("planner planner solver(0,1)")
    )
    assert {"credit/leak_rate/0", "credit/leak_rate/1"} <= two.keys()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_credit_that_is_not_finite_shows(value):
    """A broken credit must not look like one that the step did not compute."""
    outcome = Outcome(
        np.ones((1, 2, 2)),
        np.ones((1, 2, 2, 3)),
        np.zeros((1, 2, 2, 3), int),
        np.ones((1, 3), bool),
    )
    credit = np.zeros((3, 2, 2))
    credit[1, 0, 0] = value
    found = diagnostics(outcome, credit, np.zeros((3, 2, 2)), voting(3))
    assert not np.isfinite(found["credit/mean/1"]) and not np.isfinite(found["credit/var/1"])
    assert found["credit/mean/0"] == found["credit/mean/2"] == 0


def test_only_credit_that_a_step_did_not_compute_is_left_out():
    outcome = Outcome(
        np.ones((1, 2, 2)),
        np.ones((1, 2, 2, 3)),
        np.zeros((1, 2, 2, 3), int),
        np.ones((1, 3), bool),
    )
    credit = np.zeros((3, 2, 2))
    known = np.array([True, False, True])
    found = diagnostics(outcome, credit, credit, voting(3), known=known)
    assert [f"credit/mean/{agent}" in found for agent in range(3)] == known.tolist()
    assert [f"credit/silent_groups/{agent}" in found for agent in range(3)] == known.tolist()
