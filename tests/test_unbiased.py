"""Expected gradients of tabular teams, by enumeration of everything that can happen.

A tabular team has one softmax of logits per agent. Its estimators see every possible group of samples once, weighted by
its probability, so that expectations and variances are exact up to float32. Answer 0 is right, -1 abstains.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax import (
    CCPOState,
    Outcome,
    RunningMoments,
    agent_masks,
    group_advantage,
    leave_one_out_advantage,
    make_credit,
    team_reward,
    vote_reward,
)
from ccpo_jax.topology import dyad, voting

STATE = CCPOState(
    *(RunningMoments(jnp.int32(99), jnp.float32(m), jnp.float32(v)) for m, v in ((0.1, 0.2), (0.6, 0.2), (0.4, 0.2)))
)
ADVANTAGES = {
    "none": lambda credit: credit,
    "leave_one_out": leave_one_out_advantage,
    "group": group_advantage,
    "centred": functools.partial(group_advantage, normalize_std=False),
}
VOTERS = {"two voters, four answers": (2, (0, 1, 2, -1)), "three voters, three answers": (3, (0, 1, 2))}
voters = pytest.mark.parametrize("agents, answers", VOTERS.values(), ids=VOTERS)


def softmax(logits):
    weight = np.exp(logits)
    return weight / weight.sum(-1, keepdims=True)


def groups_of(options, group):
    """``[B, G, ...]``: every ordered group of `group` rows of `options`."""
    return options[np.array(list(itertools.product(range(len(options)), repeat=group)))]


def moments_of(gradients, probability):
    """Mean and summed variance over the enumerated groups, axis 0."""
    mean = np.tensordot(probability, gradients, 1)
    return mean, float(np.tensordot(probability, np.square(gradients - mean), 1).sum())


def credit_of(name, team, outcome):
    estimator = make_credit(name, team)
    return jax.jit(estimator.update)(STATE if name == "ccpo" else (), outcome)[0]


# A team that votes: logits [A, M], joint choices [J, A]


def logits_of(agents, answers, seed=0):
    return np.random.default_rng(seed).normal(0, 0.7, (agents, len(answers)))


def choices_of(agents, answers):
    return np.array(list(itertools.product(range(len(answers)), repeat=agents)))


def policy_gradient(logits, value):
    """Exact gradient ``[A, M]`` of the expectation of `value`, a table ``[J]`` over joint choices."""
    agents, size = logits.shape
    choices = choices_of(agents, range(size))

    def expectation(logits):
        return jnp.exp(jax.nn.log_softmax(logits)[jnp.arange(agents), choices].sum(-1)) @ jnp.asarray(
            value, jnp.float32
        )

    return np.asarray(jax.grad(expectation)(jnp.asarray(logits, jnp.float32)))


def rewards_of(agents, answers, present=None):
    """Table ``[J]`` of the reward of the agents in `present` (all of them by default)."""
    answer_id = np.array(answers)[choices_of(agents, answers)]
    mask = np.isin(np.arange(agents), range(agents) if present is None else present)
    return np.asarray(vote_reward(answer_id, answer_id == 0, mask))


def voting_gradients(name, agents, answers, *, group=1, advantage="none", seed=0):
    """Gradient estimates ``[B, A, M]`` for every group of samples, and the probability ``[B]`` of each."""
    probability = softmax(logits_of(agents, answers, seed))
    samples = groups_of(choices_of(agents, answers), group)  # [B, G, A]
    masks = agent_masks(agents)
    answer_id = np.broadcast_to(np.array(answers)[samples], (len(masks), *samples.shape))
    correct = (answer_id == 0).astype(np.float32)
    outcome = Outcome(team_reward(voting(agents), correct, answer_id, masks), correct, answer_id, masks)
    signal = np.asarray(ADVANTAGES[advantage](credit_of(name, voting(agents), outcome)))  # [A, B, G]
    score = np.eye(len(answers))[samples] - probability  # [B, G, A, M]
    gradients = np.einsum("kbg,bgkm->bkm", signal, score) / group
    return gradients, probability[np.arange(agents), samples].prod((1, 2))


@voters
@pytest.mark.parametrize("group, advantage", [(1, "none"), (2, "none"), (2, "leave_one_out")])
@pytest.mark.parametrize("name", ["shared", "difference", "cross_play"])
def test_voting_estimators_are_unbiased_for_the_team_reward(name, group, advantage, agents, answers):
    mean, _ = moments_of(*voting_gradients(name, agents, answers, group=group, advantage=advantage))
    expected = policy_gradient(logits_of(agents, answers), rewards_of(agents, answers))
    assert np.abs(expected).max() > 0.02
    np.testing.assert_allclose(mean, expected, atol=1e-6)


@voters
@pytest.mark.parametrize("group, advantage", [(1, "none"), (2, "leave_one_out")])
def test_shapley_climbs_the_reward_of_partly_assembled_teams(group, advantage, agents, answers):
    """Objective of agent k: the reward of the team that has just been joined by k, over all orders of joining."""
    mean, _ = moments_of(*voting_gradients("shapley", agents, answers, group=group, advantage=advantage))
    orders = list(itertools.permutations(range(agents)))
    for agent in range(agents):
        teams = [order[: order.index(agent) + 1] for order in orders]
        objective = np.mean([rewards_of(agents, answers, team) for team in teams], axis=0)
        expected = policy_gradient(logits_of(agents, answers), objective)[agent]
        np.testing.assert_allclose(mean[agent], expected, atol=1e-6)
        team_gradient = policy_gradient(logits_of(agents, answers), rewards_of(agents, answers))[agent]
        assert np.abs(mean[agent] - team_gradient).max() > 1e-3  # it is not the team's reward


@voters
@pytest.mark.parametrize("group, advantage", [(1, "none"), (2, "leave_one_out")])
def test_individual_climbs_each_voters_own_accuracy(group, advantage, agents, answers):
    mean, _ = moments_of(*voting_gradients("individual", agents, answers, group=group, advantage=advantage))
    for agent in range(agents):
        own = np.array(answers)[choices_of(agents, answers)][:, agent] == 0
        expected = policy_gradient(logits_of(agents, answers), own)[agent]
        np.testing.assert_allclose(mean[agent], expected, atol=1e-6)


@voters
@pytest.mark.parametrize("group, advantage", [(1, "none"), (2, "leave_one_out")])
def test_ccpo_climbs_its_shaped_contribution(group, advantage, agents, answers):
    """Objective of agent k: the mean of tanh(z(Delta_k)) under the statistics carried in; not the team's reward."""
    mean, _ = moments_of(*voting_gradients("ccpo", agents, answers, group=group, advantage=advantage))
    for agent in range(agents):
        rest = [other for other in range(agents) if other != agent]
        delta = rewards_of(agents, answers) - rewards_of(agents, answers, rest)
        shaped = np.tanh((delta - 0.1) / math.sqrt(0.2))
        np.testing.assert_allclose(mean[agent], policy_gradient(logits_of(agents, answers), shaped)[agent], atol=1e-5)


@voters
@pytest.mark.parametrize("name", ["shared", "difference", "cross_play"])
def test_centring_without_std_only_shrinks(name, agents, answers):
    """The mean over the group includes the sample itself: (G - 1) / G of the gradient, here one half."""
    mean, _ = moments_of(*voting_gradients(name, agents, answers, group=2, advantage="centred"))
    expected = policy_gradient(logits_of(agents, answers), rewards_of(agents, answers)) / 2
    np.testing.assert_allclose(mean, expected, atol=1e-6)


@pytest.mark.parametrize("p", [0.02, 0.1, 0.3, 0.5, 0.9])
def test_dividing_by_the_group_deviation_weights_prompts(p):
    """One agent, right with probability p, G = 4: the gradient p(1-p), times the weight its docstring states."""
    reward = groups_of(np.array([0.0, 1.0]), 4)
    probability = np.where(reward > 0, p, 1 - p).prod(-1)
    mean = probability @ (np.asarray(group_advantage(reward)) * (reward - p)).mean(-1)
    weight = 3 / 2 - (3 - 3 / 2 * math.sqrt(3)) * p * (1 - p)
    np.testing.assert_allclose(mean, weight * p * (1 - p), rtol=1e-4)


def test_dividing_by_the_group_deviation_turns_the_gradient():
    """Three rewards, G = 2: only the order of two rewards counts, so 0.1 is worth as much as 1."""
    reward, probability = np.array([0.0, 0.1, 1.0]), np.array([0.5, 0.3, 0.2])
    samples = groups_of(np.arange(3), 2)
    weight = probability[samples].prod(-1)[:, None, None] * (np.eye(3)[samples] - probability) / 2
    exact = probability * (reward - probability @ reward)
    unbiased = (np.asarray(leave_one_out_advantage(reward[samples]))[..., None] * weight).sum((0, 1))
    np.testing.assert_allclose(unbiased, exact, atol=1e-6)
    divided = (np.asarray(group_advantage(reward[samples]))[..., None] * weight).sum((0, 1))
    assert exact[1] < 0 < divided[1]


@pytest.mark.parametrize("advantage", ["none", "leave_one_out"])
@pytest.mark.parametrize("seed", range(3))
@voters
def test_cross_play_never_has_more_variance_than_difference(agents, answers, seed, advantage):
    """Provable: it is the difference reward averaged over all pairings of the same samples."""
    options = {"group": 2, "advantage": advantage, "seed": seed}
    _, cross_play = moments_of(*voting_gradients("cross_play", agents, answers, **options))
    _, difference = moments_of(*voting_gradients("difference", agents, answers, **options))
    assert cross_play < 0.99 * difference


@pytest.mark.parametrize("advantage", ["none", "leave_one_out"])
@voters
def test_variance_on_these_teams_falls_from_shared_to_difference_to_cross_play(
    agents, answers, advantage, record_property
):
    """True here, not a theorem: a reward without k that is rarely near the team's can cost more than it removes."""
    variance = {}
    for name in ("shared", "difference", "cross_play"):
        _, variance[name] = moments_of(*voting_gradients(name, agents, answers, group=2, advantage=advantage))
        record_property(f"variance of {name}", variance[name])
    assert variance["shared"] > variance["difference"] > variance["cross_play"]


# The dyad: thinker [M], solver [M + 1, M] of which the last row answers alone

THOUGHTS = ANSWERS = 3
DYAD = np.random.default_rng(3).normal(0, 0.8, (THOUGHTS + 2, ANSWERS))  # thinker, solver after each thought, solo


def dyad_true_gradient(correct):
    """Gradient ``[2 + M, M]`` of E[correct of the joint answer]; the solo row has none."""

    def expectation(logits):
        thinker, solver = jax.nn.softmax(logits[0]), jax.nn.softmax(logits[1:-1])
        return thinker @ solver @ jnp.asarray(correct, jnp.float32)

    return np.asarray(jax.grad(expectation)(jnp.asarray(DYAD, jnp.float32)))


def dyad_gradients(name, *, group=1, advantage="none"):
    """Gradient estimates ``[B, 2 + M, M]`` and the probability ``[B]`` of every group of (thought, joint, solo)."""
    table = softmax(DYAD)
    samples = groups_of(np.array(list(itertools.product(range(THOUGHTS), range(ANSWERS), range(ANSWERS)))), group)
    thought, joint, solo = np.moveaxis(samples, -1, 0)
    probability = (table[0][thought] * table[1 + thought, joint] * table[-1][solo]).prod(-1)
    solver_id = np.stack([joint, solo])
    answer_id = np.stack([np.full_like(solver_id, -1), solver_id], -1)
    correct = (answer_id == 0).astype(np.float32)
    masks = agent_masks(2, (0,))
    outcome = Outcome(team_reward(dyad(), correct, answer_id, masks), correct, answer_id, masks)
    signal = np.asarray(ADVANTAGES[advantage](credit_of(name, dyad(), outcome)))  # [2, B, G]
    gradients = np.zeros((len(samples), *DYAD.shape))
    gradients[:, 0] = np.einsum("bg,bgm->bm", signal[0], np.eye(THOUGHTS)[thought] - table[0]) / group
    solver_score = signal[1][..., None] * (np.eye(ANSWERS)[joint] - table[1 + thought]) / group
    rows = np.broadcast_to(np.arange(len(samples))[:, None], thought.shape)
    np.add.at(gradients, (rows, 1 + thought), solver_score)
    return gradients, probability


@pytest.mark.parametrize("group, advantage", [(1, "none"), (2, "none"), (2, "leave_one_out")])
@pytest.mark.parametrize("name", ["shared", "difference"])
def test_dyad_estimators_are_unbiased_for_the_team_reward(name, group, advantage):
    mean, _ = moments_of(*dyad_gradients(name, group=group, advantage=advantage))
    expected = dyad_true_gradient(np.arange(ANSWERS) == 0)
    assert np.abs(expected[:-1]).max(axis=1).min() > 1e-3 and (expected[-1] == 0).all()
    np.testing.assert_allclose(mean, expected, atol=1e-6)


def test_ccpo_event_weights_prompts_by_how_sure_the_solo_outcome_is():
    """Solver: the gradient of J in {-1, 1}. Thinker: times 1 + 0.1 * P(b != 0); G = 2 ties when the solos disagree."""
    mean, _ = moments_of(*dyad_gradients("ccpo_event", group=2, advantage="leave_one_out"))
    expected = 2 * dyad_true_gradient(np.arange(ANSWERS) == 0)
    solo = softmax(DYAD)[-1][0]
    expected[0] *= 1 + 0.1 * (solo**2 + (1 - solo) ** 2)
    np.testing.assert_allclose(mean, expected, atol=1e-5)


def test_ccpo_in_the_dyad_climbs_its_shaped_rewards():
    """Thinker: mean of tanh(z(J - S)). Solver: the gate times the gradient of z(J); solo answers cancel."""
    mean, _ = moments_of(*dyad_gradients("ccpo", group=2, advantage="leave_one_out"))
    solo = softmax(DYAD)[-1][0]
    shaped = [
        (1 - solo) * np.tanh((right - 0.1) / math.sqrt(0.2)) + solo * np.tanh((right - 1 - 0.1) / math.sqrt(0.2))
        for right in np.arange(ANSWERS) == 0
    ]
    np.testing.assert_allclose(mean[0], dyad_true_gradient(shaped)[0], atol=1e-5)
    gate = 1 / (1 + math.exp(-0.1 / math.sqrt(0.2)))
    expected = gate / math.sqrt(0.2) * dyad_true_gradient(np.arange(ANSWERS) == 0)[1:]
    np.testing.assert_allclose(mean[1:], expected, atol=1e-5)


def test_in_the_dyad_the_solo_answer_only_adds_variance():
    """It does not depend on the thought: within a prompt, the difference is the shared reward plus noise."""
    means, variances = zip(
        *(moments_of(*dyad_gradients(name, group=2, advantage="leave_one_out")) for name in ("shared", "difference")),
        strict=True,
    )
    np.testing.assert_allclose(means[0][0], means[1][0], atol=1e-6)
    assert variances[1] > 1.2 * variances[0]
