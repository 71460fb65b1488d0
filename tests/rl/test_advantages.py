"""Contributions, shaping, votes and values: against brute force and worked examples."""

import collections
import functools
import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ccpo_jax
from ccpo_jax import CCPOState, RunningMoments, agent_masks, init_moments
from tests.support.errors import raises_for

TIES = ("expected", "wrong", "first")

# One compilation per shape and options; operation by operation there are up to forty. `cases`, below, compares every
# function with itself without jit.
contribution = jax.jit(ccpo_jax.contribution)
cross_play_contribution = jax.jit(ccpo_jax.cross_play_contribution, static_argnames="tie")
event_bonus = jax.jit(ccpo_jax.event_bonus, static_argnames="soft")
gated_reward = jax.jit(ccpo_jax.gated_reward)
group_advantage = jax.jit(ccpo_jax.group_advantage, static_argnames=("normalize_std", "ddof"))
history_gate = jax.jit(ccpo_jax.history_gate)
leave_one_out_advantage = jax.jit(ccpo_jax.leave_one_out_advantage)
sepo_reward = jax.jit(ccpo_jax.sepo_reward, static_argnames=("credit", "blame"))
shape_contribution = jax.jit(ccpo_jax.shape_contribution)
shapley_value = jax.jit(ccpo_jax.shapley_value)
weighted_advantage = jax.jit(ccpo_jax.weighted_advantage)
vote_reward = jax.jit(ccpo_jax.vote_reward, static_argnames="tie")


def moments(mean, var, count=20):
    return RunningMoments(jnp.int32(count), jnp.float32(mean), jnp.float32(var))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


# Contribution and shaping


def test_contribution_is_factual_minus_masked():
    reward = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.25, 0.0]])
    np.testing.assert_array_equal(contribution(reward), [[1, -1], [0.75, 0]])


def test_shape_contribution():
    delta = np.array([-1.0, 0.0, 0.5, 1.0])
    expected = np.tanh(2.0 * (delta - 0.25) / (0.5 + 1e-6))
    np.testing.assert_allclose(
        shape_contribution(delta, moments(0.25, 0.25), alpha=2.0), expected, rtol=1e-5
    )


def test_nothing_is_shaped_before_the_first_value():
    delta = jnp.array([-1.0, 0.5])
    np.testing.assert_array_equal(shape_contribution(delta, init_moments(), alpha=3.0), delta)
    state = CCPOState(*[init_moments()] * 3)
    np.testing.assert_array_equal(gated_reward(delta, np.ones(2), state), delta)


@pytest.mark.parametrize(
    "mean, var, eta, logit", [(0.3, 0.25, 1, 0.6), (-0.3, 0.25, 2, -1.2), (0.3, 1e-7, 1, 0.3)]
)
def test_history_gate(mean, var, eta, logit):
    np.testing.assert_allclose(history_gate(moments(mean, var), eta=eta), sigmoid(logit), rtol=1e-5)


def test_history_gate_stays_open():
    for eta in (1e6, -1e6):
        gate = float(history_gate(moments(0.5, 0.25), eta=eta))
        np.testing.assert_allclose(gate, sigmoid(math.copysign(20, eta)), rtol=1e-5)
        assert gate > 0


def test_gated_reward():
    joint, solo = np.array([1.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0])
    state = CCPOState(moments(0.2, 0.16), moments(0.6, 0.24), moments(0.4, 0.09))
    gate = sigmoid(0.2 / 0.4)
    expected = gate * (joint - 0.6) / math.sqrt(0.24) + (1 - gate) * (solo - 0.4) / 0.3
    np.testing.assert_allclose(gated_reward(joint, solo, state), expected, rtol=1e-4)


# Event bonus


def test_event_bonus():
    joint = jnp.array([[1.0, -1.0], [1.0, -1.0], [1.0, -1.0]])
    solo = jnp.array([[-1.0, -1.0, 1.0], [1.0, 1.0, -1.0], [1.0, -1.0, 0.0]])
    np.testing.assert_array_equal(event_bonus(joint, solo), [[1, 0], [0, -1], [0, 0]])
    np.testing.assert_allclose(
        event_bonus(joint, solo, soft=True), [[2 / 3, -1 / 3], [1 / 3, -2 / 3], [0.5, -0.5]]
    )


@pytest.mark.parametrize("soft", [False, True])
def test_event_bonus_scales_the_shared_advantage(soft):
    """Every joint and solo pattern of four: (1 + weight / 2) times the centred advantage, 1 times on a tie."""
    patterns = np.array(list(itertools.product([-1.0, 1.0], repeat=4)), np.float32)
    joint, solo = patterns[:, None], np.broadcast_to(patterns[None], (16, 16, 4))
    weight = np.float32(0.2)
    bonus = np.asarray(event_bonus(joint, solo, soft=soft))
    got = group_advantage(joint + weight * bonus, normalize_std=False)
    usual = solo.mean(-1, keepdims=True)
    factor = np.where((usual == 0) & (not soft), 1.0, 1.0 + weight / 2)
    np.testing.assert_allclose(got, factor * group_advantage(joint, normalize_std=False), atol=1e-6)


# Advantages


def test_group_advantage_against_numpy():
    reward = np.random.default_rng(0).normal(size=(3, 2, 5)).astype(np.float32)
    centred = reward - reward.mean(-1, keepdims=True)
    for ddof in (0, 1):
        expected = centred / (reward.std(-1, ddof=ddof, keepdims=True) + 1e-6)
        np.testing.assert_allclose(
            group_advantage(reward, ddof=ddof), expected, rtol=1e-4, atol=1e-5
        )
    np.testing.assert_allclose(group_advantage(reward, normalize_std=False), centred, atol=1e-6)


def test_leave_one_out_against_a_loop():
    reward = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    expected = [[row[g] - np.delete(row, g).mean() for g in range(5)] for row in reward]
    np.testing.assert_allclose(leave_one_out_advantage(reward), expected, atol=1e-6)


def test_weighted_advantage_against_numpy():
    rng = np.random.default_rng(0)
    reward, surprisal = rng.random((2, 3, 5, 4)).astype(
        np.float32
    )  # three agents, five prompts, four samples
    found = weighted_advantage(reward, surprisal)
    for agent in range(3):
        for b in range(5):
            rest = [a for a in range(5) if a != b]
            baseline = np.average(reward[agent, rest], weights=surprisal[agent, rest])
            np.testing.assert_allclose(found[agent, b], reward[agent, b] - baseline, atol=1e-5)
    alone = weighted_advantage(
        reward[..., :1], np.zeros((3, 5, 1))
    )  # nobody is surprised: the other prompts' mean
    np.testing.assert_allclose(alone[0, 0, 0], reward[0, 0, 0] - reward[0, 1:, 0].mean(), atol=1e-6)
    for shape in ((3, 1, 4), (4,)):
        with raises_for("reward"):
            weighted_advantage(np.ones(shape), np.ones(shape))
    with raises_for("surprisal"):
        weighted_advantage(reward, ())


@pytest.mark.parametrize("own", [30.0, 300.0, 2000.0])
@pytest.mark.parametrize("prompts", [2, 16, 104])
def test_a_surprising_prompt_leaves_no_rounding_in_its_own_baseline(prompts, own):
    """All others are certain: their plain mean, however long the prompt's own texts are."""
    reward, surprisal = np.tile([1.0, 0.0], (prompts, 1)), np.zeros((prompts, 2))
    surprisal[0, 0] = own
    np.testing.assert_allclose(weighted_advantage(reward, surprisal)[0], [0.5, -0.5], atol=1e-5)
    third = np.full((prompts, 2), 1 / 3, np.float32)
    weights = surprisal + np.random.default_rng(0).random((prompts, 2))
    assert (np.asarray(weighted_advantage(third, weights)) == 0).all()


@pytest.mark.parametrize("advantage", [ccpo_jax.group_advantage, ccpo_jax.leave_one_out_advantage])
@pytest.mark.parametrize("group", [2, 3, 4, 7, 8, 16])
def test_constant_groups_get_exactly_zero(advantage, group):
    values = np.concatenate(
        [np.tanh(np.random.default_rng(2).normal(0, 2, 300)), [0.0, 1.0, -1.0, 1e6, 1 / 3]]
    )
    constant = np.repeat(values.astype(np.float32)[:, None], group, axis=1)
    assert (np.ptp(constant, axis=1) == 0).all()
    for run in (advantage, jax.jit(advantage)):
        assert (np.asarray(run(constant)) == 0).all()


def test_rounding_without_the_rule_would_pay_free_riders():
    """The rule above is needed: plain z-scores of constant tanh values are far from 0."""
    values = np.tanh(np.random.default_rng(2).normal(0, 2, 300)).astype(np.float32)
    constant = jnp.asarray(np.repeat(values[:, None], 7, axis=1))
    plain = (constant - constant.mean(-1, keepdims=True)) / (
        constant.std(-1, ddof=1, keepdims=True) + 1e-6
    )
    assert float(jnp.abs(plain).max()) > 0.01


def test_sums_of_thirds_are_not_blown_up():
    """Exact zeros next to their float32 rounding: the same reward, however it was added up."""
    third = np.float32(1) / np.float32(3)
    noisy = np.array([0.0, third - (np.float32(1) - third) / 2, 3e-8, 0.0], np.float32)
    assert (np.asarray(group_advantage(noisy)) == 0).all()


@pytest.mark.parametrize("advantage", [group_advantage, leave_one_out_advantage])
def test_a_broken_reward_shows(advantage):
    found = np.asarray(advantage(jnp.array([[jnp.nan, 1.0, 0.0], [1.0, 0.0, 0.0]])))
    assert np.isnan(found[0]).any() and np.isfinite(found[1]).all()


@pytest.mark.parametrize("count", [0, 1, 3, 6])
def test_shapley_needs_every_subset(count):
    with raises_for("reward"):
        shapley_value(np.zeros(count))


def test_last_place_noise_counts_as_constant_but_small_signals_do_not():
    value = np.float32(np.tanh(0.7))
    noisy = np.array([value, np.nextafter(value, np.float32(2)), value, value])
    assert (np.asarray(group_advantage(noisy)) == 0).all()
    signal = group_advantage(np.array([value, value + np.float32(1e-3), value, value]))
    np.testing.assert_allclose(signal, np.array([-0.5, 1.5, -0.5, -0.5]), atol=5e-3)


def test_group_of_one():
    np.testing.assert_array_equal(group_advantage(np.ones((1, 1))), [[0]])
    with raises_for("reward"):
        leave_one_out_advantage(np.ones((2, 1)))


# Votes


@functools.cache
def brute_force_vote(answers, right, tie):
    """The vote of a tuple of answers in exact fractions, written from its definition; class 0 is right."""
    tally = collections.Counter(answer for answer in answers if answer >= 0)
    if not tally:
        return Fraction(0)
    most = max(tally.values())
    top = [answer for answer in answers if tally.get(answer) == most]
    classes = list(dict.fromkeys(top))
    if len(classes) > 1 and tie == "wrong":
        return Fraction(0)
    if tie == "first":
        return Fraction(classes[0] == right)
    return Fraction(int(right in classes), len(classes))


@pytest.mark.parametrize("tie", TIES)
@pytest.mark.parametrize("agents", [1, 2, 3, 4, 5])
def test_vote_against_brute_force(agents, tie):
    """All answers of up to five agents in up to five classes or abstaining."""
    answers = list(itertools.product(range(-1, agents), repeat=agents))
    got = vote_reward(np.array(answers), np.array(answers) == 0, np.ones(agents, bool), tie=tie)
    np.testing.assert_allclose(
        got, [float(brute_force_vote(row, 0, tie)) for row in answers], atol=1e-6
    )


@pytest.mark.parametrize("tie", TIES)
def test_masking_equals_abstaining(tie):
    answers = np.array(list(itertools.product(range(-1, 3), repeat=4)))[None]
    mask = np.array(list(itertools.product([False, True], repeat=4)))[:, None]
    masked = vote_reward(answers, answers == 0, mask, tie=tie)
    np.testing.assert_array_equal(
        masked, vote_reward(np.where(mask, answers, -1), answers == 0, True, tie=tie)
    )


@pytest.mark.parametrize("tie", ["expected", "wrong"])
def test_vote_is_symmetric(tie):
    answers = np.array(list(itertools.product(range(-1, 3), repeat=4)))
    for order in itertools.permutations(range(4)):
        got = vote_reward(answers[:, order], answers[:, order] == 1, True, tie=tie)
        np.testing.assert_array_equal(got, vote_reward(answers, answers == 1, True, tie=tie))


@pytest.mark.parametrize("tie", TIES)
def test_no_votes_no_reward(tie):
    right, present, absent = np.ones(3), np.ones(3, bool), np.zeros(3, bool)
    assert float(vote_reward(np.array([-1, -1, -1]), right, present, tie=tie)) == 0
    assert float(vote_reward(np.array([0, 0, 1]), right, absent, tie=tie)) == 0
    one_vote, broken = np.array([-1, -1, 1]), np.array([np.nan, 0, 1])
    assert float(vote_reward(one_vote, broken, present, tie=tie)) == 1


def test_a_class_is_as_right_as_its_voters():
    got = vote_reward(np.array([4, 4, 9, 9]), np.array([1.0, 0.5, 0.0, 0.0]), np.ones(4, bool))
    assert float(got) == 0.375


def test_unknown_tie_is_refused():
    with raises_for("team.tie"):
        vote_reward(np.zeros(3, int), np.zeros(3), np.ones(3, bool), tie="coin")


@pytest.mark.parametrize(
    "answers, reward, credit",
    [
        ("TTx", 1, (1 / 2, 1 / 2, 0)),
        ("Txx", 0, (0, -1 / 2, -1 / 2)),
        ("Txy", 1 / 3, (1 / 3, -1 / 6, -1 / 6)),
        ("TTT", 1, (0, 0, 0)),
        ("xxx", 0, (0, 0, 0)),
        ("T--", 1, (1, 0, 0)),
    ],
)
def test_worked_examples(answers, reward, credit):
    answer_id = np.array(["T-xy".index(a) if a != "-" else -1 for a in answers])
    rewards = vote_reward(answer_id, answer_id == 0, agent_masks(3))
    np.testing.assert_allclose(rewards[0], reward, atol=1e-6)
    np.testing.assert_allclose(contribution(rewards), credit, atol=1e-6)


# Cross-play


def brute_force_cross_play(answer_id, correct, tie):
    batch, group, agents = answer_id.shape
    credit = np.zeros((agents, batch, group))
    for b, k, g in np.ndindex(batch, agents, group):
        total = Fraction(0)
        for choice in itertools.product(range(group), repeat=agents - 1):
            samples = [*choice[:k], g, *choice[k:]]
            team = tuple(int(answer_id[b, s, a]) for a, s in enumerate(samples))
            rest = (*team[:k], -1, *team[k + 1 :])
            total += brute_force_vote(team, 0, tie) - brute_force_vote(rest, 0, tie)
        credit[k, b, g] = total / group ** (agents - 1)
    return credit


@pytest.mark.parametrize("tie", TIES)
@pytest.mark.parametrize("batch, group, agents", [(2, 1, 3), (3, 3, 2), (1, 9, 3), (1, 3, 4)])
def test_cross_play_against_brute_force(batch, group, agents, tie):
    answer_id = np.random.default_rng(group).integers(-1, 3, (batch, group, agents))
    correct = (answer_id == 0).astype(np.float32)
    got = cross_play_contribution(answer_id, correct, tie=tie)
    np.testing.assert_allclose(got, brute_force_cross_play(answer_id, correct, tie), atol=1e-6)


def test_cross_play_of_one_sample_is_the_difference():
    answer_id = np.random.default_rng(3).integers(-1, 3, (50, 1, 3))
    correct = (answer_id == 0).astype(np.float32)
    masks = agent_masks(3)[:, None, None]
    expected = contribution(vote_reward(answer_id, correct, masks))
    np.testing.assert_allclose(cross_play_contribution(answer_id, correct), expected, atol=1e-6)


@pytest.mark.parametrize("group, agents", [(8, 3), (4, 5), (16, 4)])
def test_cross_play_memory_stays_bounded(group, agents):
    """The paper's sizes and beyond compile to far less memory than one array over all teams."""
    shape = (64, group, agents)
    compiled = cross_play_contribution.lower(
        jax.ShapeDtypeStruct(shape, jnp.int32), jax.ShapeDtypeStruct(shape, jnp.float32)
    ).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 400e6


def test_cross_play_of_more_teams_than_can_be_tried():
    """64 teams stand for 2**24, or the few classes are counted."""
    credit = cross_play_contribution(np.zeros((1, 64, 5), np.int32), np.ones((1, 64, 5)))
    np.testing.assert_array_equal(credit, np.zeros((5, 1, 64)))


# Shapley


def brute_force_shapley(reward, agents):
    value = np.zeros(agents)
    orders = list(itertools.permutations(range(agents)))
    for order in orders:
        present = 0
        for agent in order:
            value[agent] += reward[present | 1 << agent] - reward[present]
            present |= 1 << agent
    return value / len(orders)


@pytest.mark.parametrize("agents", [1, 2, 3, 4, 5])
def test_shapley_against_all_orders(agents):
    reward = np.random.default_rng(agents).normal(size=(2**agents, 6)).astype(np.float32)
    got = shapley_value(reward)
    expected = np.stack([brute_force_shapley(column, agents) for column in reward.T], axis=1)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_allclose(got.sum(0), reward[-1] - reward[0], atol=1e-5)


def test_shapley_axioms():
    reward = np.array(
        [0.0, 0.3, 0.3, 0.9] * 2
    )  # agents 0 and 1 are interchangeable, agent 2 changes nothing
    value = np.asarray(shapley_value(reward))
    np.testing.assert_allclose(value, [0.45, 0.45, 0.0], atol=1e-6)
    assert value[0] == value[1] and value[2] == 0


# SEPO

SPLITS = [(i / 10, 1 - i / 10) for i in range(1, 10)]


def all_split_groups():
    """Both verdicts and every pair of splits, in groups of 4."""
    rows = list(itertools.product([-1.0, 1.0], SPLITS, SPLITS))
    order = np.random.default_rng(0).permutation(len(rows))[: len(rows) // 4 * 4]
    reward, thinker, solver = (np.array([rows[i][column] for i in order]) for column in range(3))
    return reward.reshape(-1, 4), thinker.reshape(-1, 4, 2), solver.reshape(-1, 4, 2)


def test_sepo_against_its_formula():
    reward, thinker, solver = all_split_groups()
    s1 = 0.3 * thinker[..., 0] + 0.7 * solver[..., 0]
    s2 = 0.3 * solver[..., 1] + 0.7 * thinker[..., 1]
    expected = []
    for share in (s1 / (s1 + s2), s2 / (s1 + s2)):
        c = share - share.mean(-1, keepdims=True)
        expected.append(np.where(reward > 0, reward + 0.2 * c, reward - 0.4 * c))
    got = sepo_reward(reward, thinker, solver, blame=0.4)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_sepo_is_zero_sum_and_the_verifier_decides_the_sign():
    reward, thinker, solver = all_split_groups()
    first, second = map(np.asarray, sepo_reward(reward, thinker, solver, credit=0.99, blame=0.99))
    np.testing.assert_allclose(first + second, 2 * reward, atol=1e-6)
    assert (np.sign(first) == reward).all() and (np.sign(second) == reward).all()
    assert (np.abs(first - reward) > 0.05).any()


def test_sepo_pays_the_credited_role_and_spares_the_unblamed():
    split = np.array([[0.9, 0.1], [0.5, 0.5]])  # the first pair says: the Thinker did it
    right = np.asarray(sepo_reward(np.ones(2), split, split)[0])
    wrong = np.asarray(sepo_reward(-np.ones(2), split, split)[0])
    assert right[0] > 1 > right[1] and wrong[0] < -1 < wrong[1]


def test_sepo_without_opinions_is_the_verdict():
    reward, half = np.array([1.0, -1.0, 1.0]), np.full((3, 2), 0.5)
    for role in sepo_reward(reward, half, half):
        np.testing.assert_array_equal(role, reward)


# Every function: jit, vmap and gradients


def cases():
    rng = np.random.default_rng(5)
    reward = rng.random((3, 4, 5)).astype(np.float32)
    answer_id = rng.integers(-1, 3, (3, 4, 3))
    correct = (answer_id == 0).astype(np.float32)
    sign = np.sign(reward - 0.5)
    state = CCPOState(moments(0.1, 0.3), moments(0.5, 0.2), moments(0.4, 0.2))
    split = rng.uniform(0.1, 0.9, (3, 4, 5, 2)).astype(np.float32)
    return {
        "contribution": (ccpo_jax.contribution, (reward,)),
        "shape_contribution": (lambda x: ccpo_jax.shape_contribution(x, state.delta), (reward,)),
        "history_gate": (
            lambda x: ccpo_jax.history_gate(moments(0.1, 0.3)._replace(mean=x.mean())),
            (reward,),
        ),
        "gated_reward": (lambda x, y: ccpo_jax.gated_reward(x, y, state), (reward, reward[::-1])),
        "event_bonus": (ccpo_jax.event_bonus, (sign, sign[::-1])),
        "group_advantage": (
            ccpo_jax.group_advantage,
            (np.concatenate([reward, np.ones_like(reward)], 1),),
        ),
        "leave_one_out_advantage": (ccpo_jax.leave_one_out_advantage, (reward,)),
        "asymmetric_advantage": (ccpo_jax.asymmetric_advantage, (reward,)),
        "batch_mean_advantage": (ccpo_jax.batch_mean_advantage, (rng.random((3, 4, 5)),)),
        "optimal_advantage": (
            lambda reward, scores: ccpo_jax.optimal_advantage(reward, scores, scores > 0.1),
            (reward, rng.random((3, 4, 5, 2)).astype(np.float32)),
        ),
        "squared_score": (ccpo_jax.squared_score, tuple(-rng.random((2, 3, 4)))),
        "opo_advantage": (ccpo_jax.opo_advantage, tuple(rng.random((2, 3, 4, 5)))),
        "weighted_advantage": (ccpo_jax.weighted_advantage, tuple(rng.random((2, 3, 4, 5)))),
        "surprisal_advantage": (ccpo_jax.surprisal_advantage, tuple(rng.random((2, 3, 4, 5)))),
        "vote_reward": (lambda x: ccpo_jax.vote_reward(answer_id[0], x, True), (correct,)),
        "cross_play_contribution": (
            lambda x: ccpo_jax.cross_play_contribution(answer_id, x),
            (np.stack([correct] * 2),),
        ),
        "shapley_value": (ccpo_jax.shapley_value, (rng.random((3, 8, 2)).astype(np.float32),)),
        "sepo_reward": (ccpo_jax.sepo_reward, (sign, split, split[::-1])),
    }


@pytest.mark.parametrize("name", cases())
def test_jit_vmap_and_gradients(name):
    function, inputs = cases()[name]
    each = [function(*(x[i] for x in inputs)) for i in range(len(inputs[0]))]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    batched = jax.jit(jax.vmap(function))(*inputs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), batched, expected)
    jax.tree.map(lambda leaf: np.testing.assert_equal(leaf.dtype, jnp.float32), each[0])

    def total(*x):
        return sum(leaf.sum() for leaf in jax.tree.leaves(function(*(y[0] for y in x))))

    gradients = jax.jit(jax.grad(total, argnums=tuple(range(len(inputs)))))(*inputs)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


MODULES = [
    f"ccpo_jax.rl.{name}"
    for name in (
        *("advantages", "weighted_advantages", "optimal_advantage", "rewards"),
        *("votes", "cross_play", "shapley"),
    )
]


def test_every_public_name_is_covered_above():
    everything = {name: getattr(ccpo_jax, name) for name in ccpo_jax.__all__}
    here = {
        name for name, value in everything.items() if getattr(value, "__module__", "") in MODULES
    }
    assert here == set(cases())
