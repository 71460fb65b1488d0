"""Shapley values from a sample of the orders of joining: exact in expectation, new in every step."""

import itertools

import jax
import numpy as np
import pytest

from ccpo_jax import make_credit, shapley_value, vote_reward
from ccpo_jax.rl.shapley import sample_orders, sampled_shapley_value
from ccpo_jax.rl.topology import chain, dyad, voting
from ccpo_jax.rl.votes import TIES
from tests.support.errors import raises_for
from tests.support.outcomes import voting_outcome

sampled = jax.jit(sampled_shapley_value, static_argnames="tie")


def random_votes(batch, group, agents, seed=0):
    rng = np.random.default_rng(seed)
    answer_id = rng.integers(-1, 3, (batch, group, agents))
    return answer_id, rng.integers(0, 5, answer_id.shape).astype(np.float32) / 4


@pytest.mark.parametrize("tie", TIES)
@pytest.mark.parametrize("agents", [3, 4])
def test_all_orders_together_are_the_exact_value(agents, tie):
    answer_id, correct = random_votes(6, 2, agents)
    orders = np.array(list(itertools.permutations(range(agents))))
    got = sampled(answer_id, correct, np.broadcast_to(orders, (6, *orders.shape)), tie=tie)
    present = (np.arange(2**agents)[:, None] >> np.arange(agents) & 1).astype(bool)
    reward = vote_reward(answer_id, correct, present[:, None, None], tie=tie)
    np.testing.assert_allclose(got.mean(axis=0), shapley_value(reward), atol=1e-6)
    # In every order the agents share the reward of the whole team.
    np.testing.assert_allclose(
        got.sum(axis=1), np.broadcast_to(reward[-1], got[:, 0].shape), atol=1e-6
    )


def test_every_order_is_uniform_and_comes_with_its_reverse():
    keys = jax.random.split(jax.random.key(1), 3000)
    orders = np.asarray(jax.jit(jax.vmap(lambda key: sample_orders(key, 3, 4)))(keys))
    np.testing.assert_array_equal(orders[:, 2:], orders[:, :2, ::-1])
    for column in range(4):
        _, times = np.unique(orders[:, column], axis=0, return_counts=True)
        assert len(times) == 6 and np.abs(times - 500).max() < 5 * np.sqrt(500 * 5 / 6)


def test_ten_voters_by_orders_are_exact_on_average():
    """Steps draw new orders; their mean comes near the value of all 2**10 subsets."""
    answer_id, _ = random_votes(4, 2, 10)
    outcome = voting_outcome(answer_id)
    exact = np.asarray(jax.jit(make_credit("shapley", voting(10)).update)((), outcome)[0])
    estimator = make_credit("shapley", voting(10), orders=64)
    update = jax.jit(estimator.update)
    state = estimator.init()
    values = []
    for _ in range(40):
        credit, state = update(state, outcome)
        values.append(np.asarray(credit))
    error = np.std(values, axis=0, ddof=1) / np.sqrt(len(values))
    assert (np.abs(np.mean(values, axis=0) - exact) < 5 * error + 1e-6).all()
    # The variance in the metrics is that of a step's credit.
    measured = np.var(values, axis=0, ddof=1).mean()
    np.testing.assert_allclose(estimator.metrics(state)["shapley/variance"], measured, rtol=0.3)


def test_orders_follow_from_the_step_alone():
    outcome = voting_outcome(random_votes(2, 2, 12)[0])
    estimator = make_credit("shapley", voting(12))
    update = jax.jit(estimator.update)
    first, after_one = update(estimator.init(), outcome)
    second, after_two = update(after_one, outcome)
    resumed, _ = update(jax.tree.map(np.asarray, after_one), outcome)
    assert int(after_two.count) == 2
    np.testing.assert_array_equal(resumed, second)
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_allclose(first.sum(axis=0), outcome.reward[0], atol=1e-6)


@pytest.mark.parametrize("team", [dyad(), chain(3)], ids=lambda team: team.name)
def test_orders_need_voters_who_read_nobody(team):
    with raises_for("credit.orders"):
        make_credit("shapley", team, orders=16)


@pytest.mark.parametrize("orders", [2, 5])
def test_orders_come_in_pairs(orders):
    with raises_for("credit.orders"):
        make_credit("shapley", voting(12), orders=orders)
