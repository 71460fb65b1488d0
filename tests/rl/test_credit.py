"""Credit estimators: a contract for all of them, then what each one pays."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ccpo_jax
from ccpo_jax import (
    CREDITS,
    CCPOState,
    Outcome,
    RunningMoments,
    Topology,
    agent_masks,
    init_moments,
    make_credit,
)
from ccpo_jax.rl.answer_trees import PooledState
from ccpo_jax.rl.topology import chain, debate, dyad, solo, voting
from tests.support.errors import raises_for
from tests.support.outcomes import (
    CHAIN,
    FITS,
    GRAPHS,
    compiled,
    credit_of,
    dyad_outcome,
    outcome_for,
    outcome_of,
    voting_outcome,
)

group_advantage = jax.jit(ccpo_jax.group_advantage, static_argnames="normalize_std")

PAIRS = [(name, team) for name, teams in FITS.items() for team in teams]
per_pair = pytest.mark.parametrize(
    "name, team", PAIRS, ids=lambda x: x if isinstance(x, str) else x.name
)


def moments(mean, var, count=20):
    return RunningMoments(jnp.int32(count), jnp.float32(mean), jnp.float32(var))


# Contract


def test_every_estimator_is_tested():
    assert set(FITS) == set(CREDITS)


@per_pair
def test_contract(name, team):
    """Shape, dtype, and a state that keeps its structure, under jit and over three steps."""
    estimator = make_credit(name, team)
    assert estimator.baseline.kind in ("group", "none")
    assert estimator.needs.answers_per_text >= 1
    assert hash(estimator) == hash(dataclasses.replace(estimator))

    state = estimator.init()
    update = compiled(name, team)
    for step in range(3):
        outcome = outcome_for(name, team, seed=step)
        credit, new = update(state, outcome)
        assert credit.shape == (team.num_agents, *outcome.reward.shape[1:])
        assert credit.dtype == jnp.float32 and np.isfinite(credit).all()
        assert jax.tree.structure(new) == jax.tree.structure(state)
        assert [x.dtype for x in jax.tree.leaves(new)] == [x.dtype for x in jax.tree.leaves(state)]
        assert [x.shape for x in jax.tree.leaves(new)] == [x.shape for x in jax.tree.leaves(state)]
        state = new


@per_pair
def test_only_declared_estimators_read_masked_worlds(name, team):
    estimator, update = make_credit(name, team), compiled(name, team)
    outcome = outcome_for(name, team)
    state = update(estimator.init(), outcome_for(name, team, seed=9))[1]
    changed = outcome._replace(reward=np.concatenate([outcome.reward[:1], 1 - outcome.reward[1:]]))
    same = np.allclose(update(state, outcome)[0], update(state, changed)[0])
    assert same == (not estimator.needs.ablated)
    if not estimator.needs.ablated:
        factual = outcome._replace(
            **{name: getattr(outcome, name)[:1] for name in Outcome._fields[:4]}
        )
        np.testing.assert_array_equal(update(state, factual)[0], update(state, outcome)[0])


@per_pair
def test_missing_worlds_are_refused(name, team):
    estimator = make_credit(name, team)
    if estimator.needs.ablated:
        worlds = 1 + len(estimator.needs.ablated)
        factual = Outcome(*(x[:1] for x in outcome_for(name, team)[:4]))
        with raises_for("outcome.reward") as error:
            estimator.update(estimator.init(), factual)
        assert f"needs {worlds} worlds" in str(error.value)


@per_pair
def test_constant_outcomes_teach_nothing(name, team):
    """Groups in which all samples went the same way have exactly zero advantage, shaped or not."""
    update, state = compiled(name, team), make_credit(name, team).init()
    for step in range(3):
        _, state = update(state, outcome_for(name, team, seed=step))
    for seed in range(12):
        outcome = outcome_for(name, team, seed=seed)
        constant = jax.tree.map(
            lambda x: np.repeat(x[:, :, :1], x.shape[2], axis=2) if x.ndim > 2 else x, outcome
        )
        credit, _ = update(state, constant)
        assert (np.asarray(group_advantage(credit)) == 0).all()


VOTERS = [name for name, teams in FITS.items() if voting(3) in teams]
LAZY = ("difference", "agent_norm", "cross_play", "shapley", "individual")


@pytest.mark.parametrize("name", VOTERS)
def test_permuting_voters_permutes_credit(name):
    votes = np.random.default_rng(4).integers(-1, 3, (5, 4, 3))
    order = [2, 0, 1]
    update = compiled(name, voting(3))
    _, state = update(make_credit(name, voting(3)).init(), voting_outcome(votes[::-1]))
    credit, _ = update(state, voting_outcome(votes))
    # Where each voter has its own.
    state = jax.tree.map(lambda x: np.asarray(x)[order] if x.ndim else x, state)
    permuted, _ = update(state, voting_outcome(votes[..., order]))
    np.testing.assert_allclose(permuted, np.asarray(credit)[order], atol=1e-6)


@pytest.mark.parametrize("name", VOTERS)
def test_symmetric_voters_get_equal_credit(name):
    votes = np.random.default_rng(5).integers(-1, 3, (5, 4, 3))
    votes[..., 2] = votes[..., 0]
    credit = credit_of(name, voting(3), voting_outcome(votes))
    np.testing.assert_allclose(credit[0], credit[2], atol=1e-6)


@pytest.mark.parametrize("name", LAZY)
def test_a_voter_that_always_abstains_gets_nothing(name):
    votes = np.random.default_rng(6).integers(-1, 3, (5, 4, 3))
    votes[..., 1] = -1
    credit = credit_of(name, voting(3), voting_outcome(votes))
    assert (credit[1] == 0).all() and (credit[0] != 0).any()


# The state in metrics.jsonl

SHOWN = {
    ("ccpo", dyad(), ()): {
        *(f"moments/{what}/{moment}" for what in CCPOState._fields for moment in ("mean", "var")),
        "moments/gate",
    },
    ("agent_norm", dyad(), ()): {f"moments/{k}/{m}" for k in range(2) for m in ("mean", "var")},
    ("nested", dyad(), (("solo_weight", 0.5),)): {"nested/gain"},
    ("pooled", dyad(), ()): {"pooled/between", "pooled/within"},
}


@pytest.mark.parametrize("name, team, hyper", SHOWN, ids=lambda x: x if isinstance(x, str) else "")
def test_an_estimator_names_its_own_state(name, team, hyper):
    estimator = make_credit(name, team, **dict(hyper))
    shown = jax.jit(estimator.metrics)(estimator.init())
    assert shown.keys() == SHOWN[name, team, hyper]
    assert all(value.shape == () and value.dtype == jnp.float32 for value in shown.values())


@per_pair
def test_whatever_has_a_state_shows_it(name, team):
    estimator = make_credit(name, team)
    assert (estimator.metrics is not None) == bool(jax.tree.leaves(estimator.init()))


def test_the_gate_in_the_metrics_is_the_one_that_shapes_credit():
    state = CCPOState(moments(0.2, 0.16), moments(0.6, 0.24), moments(0.4, 0.09))
    shown = make_credit("ccpo", dyad(), eta=3.0).metrics(state)
    np.testing.assert_allclose(
        shown["moments/gate"], 1 / (1 + math.exp(-3.0 * 0.2 / 0.4)), rtol=1e-4
    )
    np.testing.assert_allclose(shown["moments/solo/var"], 0.09)


# What each one pays


@pytest.mark.parametrize("team", FITS["shared"], ids=lambda team: team.name)
def test_shared_pays_everyone_the_team_reward(team):
    outcome = outcome_of(team)
    np.testing.assert_array_equal(
        credit_of("shared", team, outcome), [outcome.reward[0]] * team.num_agents
    )


def test_individual_pays_each_voter_its_own_answer():
    outcome = outcome_of(voting(3))
    credit = credit_of("individual", voting(3), outcome)
    for agent in range(3):
        np.testing.assert_array_equal(credit[agent], outcome.correct[0, ..., agent])


def test_difference_pays_contributions_and_the_reward_to_who_cannot_be_masked():
    outcome = outcome_of(dyad())
    thinker, solver = credit_of("difference", dyad(), outcome)
    np.testing.assert_array_equal(thinker, outcome.reward[0] - outcome.reward[1])
    np.testing.assert_array_equal(solver, outcome.reward[0])
    outcome = outcome_of(CHAIN)
    expected = [
        outcome.reward[0] - outcome.reward[1],
        outcome.reward[0] - outcome.reward[2],
        outcome.reward[0],
    ]
    np.testing.assert_array_equal(credit_of("difference", CHAIN, outcome), expected)


def test_difference_follows_the_order_of_masked_worlds():
    team = Topology("vote", roles=("v",) * 3, reads=((),) * 3, ablated=(2, 0), decision="vote")
    outcome = outcome_of(team, batch=30)
    reward = outcome.reward
    expected = [reward[0] - reward[2], reward[0], reward[0] - reward[1]]
    np.testing.assert_array_equal(credit_of("difference", team, outcome), expected)


def test_difference_and_shapley_on_the_worked_examples():
    """T T x, T x x, T x y and unanimity; 0 is T."""
    votes = [[[0, 0, 1]], [[0, 1, 1]], [[0, 1, 2]], [[0, 0, 0]]]
    difference = credit_of("difference", voting(3), voting_outcome(votes))[..., 0].T
    np.testing.assert_allclose(
        difference, np.array([[3, 3, 0], [0, -3, -3], [2, -1, -1], [0, 0, 0]]) / 6, atol=1e-6
    )
    shapley = credit_of("shapley", voting(3), voting_outcome(votes))[..., 0].T
    np.testing.assert_allclose(shapley.sum(-1), [1, 0, 1 / 3, 1], atol=1e-6)
    np.testing.assert_allclose(shapley[3], [1 / 3] * 3, atol=1e-6)
    np.testing.assert_allclose(shapley[0], [7 / 12, 7 / 12, -1 / 6], atol=1e-6)


@pytest.mark.parametrize("tie", ["expected", "wrong", "first"])
def test_tie_rule_of_the_team_reaches_every_estimator(tie):
    votes = np.random.default_rng(7).integers(0, 3, (20, 1, 3))
    outcome = voting_outcome(votes, tie)
    difference = credit_of("difference", voting(3, tie), outcome)
    np.testing.assert_allclose(
        credit_of("cross_play", voting(3, tie), outcome), difference, atol=1e-6
    )
    shapley = credit_of("shapley", voting(3, tie), outcome)
    np.testing.assert_allclose(shapley.sum(0), outcome.reward[0], atol=1e-6)


@pytest.mark.parametrize("team", FITS["shapley"], ids=lambda team: team.name)
def test_shapley_adds_up_to_the_team_reward(team):
    outcome = outcome_for("shapley", team, seed=8)
    np.testing.assert_allclose(
        credit_of("shapley", team, outcome).sum(0), outcome.reward[0], atol=1e-6
    )


def test_shapley_of_a_dyad_by_hand():
    """Worlds: both, without the Thinker, without the Solver, nobody."""
    reward = np.array([1, 0, 0.5, 0], np.float32).reshape(4, 1, 1)
    outcome = Outcome(
        reward,
        np.zeros((4, 1, 1, 2)),
        np.zeros((4, 1, 1, 2), int),
        agent_masks(2, ((0,), (1,), (0, 1))),
    )
    np.testing.assert_allclose(
        credit_of("shapley", dyad(), outcome).ravel(), [(1 + 0.5) / 2, (0.5 + 0) / 2]
    )


# nested


@pytest.mark.parametrize(
    "team, group, answers", [(dyad(), 3, 4), (chain(3), 2, 3)], ids=["dyad", "chain"]
)
def test_nested_compares_each_text_with_the_others_in_its_place(team, group, answers):
    """Sample by sample: who else said something to the same words, and how did their samples do on average."""
    agents = team.num_agents
    leaves = group * answers ** (agents - 1)
    outcome = outcome_of(team, group=leaves, ablated=())
    credit = credit_of("nested", team, outcome, answers=answers)
    path = [(leaf // answers ** (agents - 1), *(leaf // answers**d % answers for d in reversed(range(agents - 1))))
            for leaf in range(leaves)]  # fmt: skip
    for b in range(3):
        reward = dict(zip(path, outcome.reward[0, b].tolist(), strict=True))
        for leaf, mine in enumerate(path):
            for agent in range(agents):
                values: dict = {}
                for other, r in reward.items():
                    if other[:agent] == mine[:agent]:
                        values.setdefault(other[agent], []).append(r)
                own = np.mean(values.pop(mine[agent]))
                expected = own - np.mean([np.mean(v) for v in values.values()])
                np.testing.assert_allclose(credit[agent, b, leaf], expected, atol=1e-6)


def test_nested_with_solo_answers_moves_the_thinkers_baseline_alone():
    outcome = outcome_of(dyad(), group=8, ablated=((0,),))
    state = moments(0.25, 0.1)
    plain = credit_of("nested", dyad(), outcome, answers=4)
    thinker, solver = credit_of("nested", dyad(), outcome, state, answers=4, solo_weight=0.25)
    np.testing.assert_array_equal(solver, plain[1])
    thought = outcome.reward[0].reshape(3, 2, 4).mean(-1).repeat(4, 1)
    expected = 0.75 * plain[0] + 0.25 * (thought - outcome.reward[1].mean(-1, keepdims=True) - 0.25)
    np.testing.assert_allclose(thinker, expected, atol=1e-6)
    estimator = make_credit("nested", dyad(), answers=4, solo_weight=0.25, decay=0.5)
    _, new = jax.jit(estimator.update)(state, outcome)
    gap = outcome.reward[0] - outcome.reward[1]
    np.testing.assert_allclose(new.mean, 0.5 * 0.25 + 0.5 * gap.mean(), rtol=1e-5)


@pytest.mark.parametrize(
    "name, hyper",
    [
        ("nested", {"answers": 1}),
        ("nested", {"answers": 65}),
        ("nested", {"solo_weight": 1.5}),
        ("nested", {"decay": 1.0}),
        ("pooled", {"answers": 1}),
        ("pooled", {"answers": 65}),
    ],
)
def test_hyper_parameters_of_several_answers_have_ranges(name, hyper):
    (field,) = hyper
    with raises_for(f"credit.{field}"):
        make_credit(name, dyad(), **hyper)


@pytest.mark.parametrize("scaled", [False, True])
def test_pooled_weighs_an_answers_neighbours_by_what_they_are_worth(scaled):
    """Answer by answer, with variances 0.1 between thoughts and 0.2 between answers: w = 0.1 / (0.1 + 0.2 / 2)."""
    outcome = outcome_of(dyad(), group=9, ablated=())
    state = PooledState(jnp.int32(7), jnp.float32(0.1), jnp.float32(0.2))
    hyper = {"answers": 3, "scaled": scaled}
    thinker, solver = credit_of("pooled", dyad(), outcome, state, **hyper)
    assert (outcome.reward[0].std(-1) > 0).sum() >= 2
    for b, rewards in enumerate(outcome.reward[0]):
        scale = rewards.std(ddof=1) if scaled and rewards.std() else 1.0
        for leaf, reward in enumerate(rewards):
            mine = range(leaf // 3 * 3, leaf // 3 * 3 + 3)
            near = np.mean([rewards[other] for other in mine if other != leaf])
            far = np.mean([rewards[other] for other in range(9) if other not in mine])
            np.testing.assert_allclose(
                solver[b, leaf], (reward - near / 2 - far / 2) / scale, atol=1e-5
            )
            np.testing.assert_allclose(
                thinker[b, leaf], (rewards[list(mine)].mean() - far) / scale, atol=1e-5
            )
    estimator = make_credit("pooled", dyad(), decay=0.0, **hyper)
    _, new = jax.jit(estimator.update)(state, outcome)
    trees = outcome.reward[0].reshape(3, 3, 3)
    within = trees.var(-1, ddof=1).mean()
    between = trees.mean(-1).var(-1, ddof=1).mean() - within / 3
    np.testing.assert_allclose([new.between, new.within], [between, within], atol=1e-6)
    assert int(new.count) == 7 + 3


@pytest.mark.parametrize("team", [chain(11), debate(5)], ids=lambda team: team.name)
def test_shapley_refuses_what_nobody_could_decode(team):
    with raises_for("credit.name"):
        make_credit("shapley", team)


# agent_norm


def test_agent_norm_waits_then_scales_each_agent_by_its_own_moments():
    estimator = make_credit("agent_norm", voting(3), decay=0.75, min_samples=20)
    outcome = outcome_of(voting(3), group=4)
    delta = outcome.reward[0] - outcome.reward[1:]
    update = jax.jit(estimator.update)
    credit, state = update(estimator.init(), outcome)
    np.testing.assert_array_equal(credit, delta)
    np.testing.assert_allclose(state.mean, delta.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(state.var, delta.var((1, 2)), rtol=1e-5)
    assert state.count.tolist() == [12] * 3
    waiting, state = update(state, outcome)
    np.testing.assert_array_equal(waiting, delta)
    scaled, _ = update(state, outcome_of(voting(3), group=4))
    expected = (delta - delta.mean((1, 2), keepdims=True)) / delta.std((1, 2), keepdims=True)
    np.testing.assert_allclose(scaled, expected, atol=1e-4)
    assert not estimator.baseline.normalize_std


def test_magrpo_is_the_shared_reward_made_for_centring():
    outcome = outcome_of(dyad())
    np.testing.assert_array_equal(
        credit_of("magrpo", dyad(), outcome), credit_of("shared", dyad(), outcome)
    )
    assert make_credit("shared", dyad()).baseline.normalize_std
    assert not make_credit("magrpo", dyad()).baseline.normalize_std


# ccpo


def test_ccpo_first_step_passes_raw_values_and_records_them():
    outcome = outcome_of(dyad())
    credit, state = compiled("ccpo", dyad())(make_credit("ccpo", dyad()).init(), outcome)
    joint, solo = outcome.reward
    np.testing.assert_array_equal(credit, [joint - solo, joint])
    for got, values in zip(state, (joint - solo, joint, solo), strict=True):
        assert int(got.count) == 12
        np.testing.assert_allclose([got.mean, got.var], [values.mean(), values.var()], rtol=1e-5)


def test_ccpo_dyad_shapes_with_the_statistics_from_before_the_step():
    state = CCPOState(moments(0.2, 0.16), moments(0.6, 0.24), moments(0.4, 0.09))
    joint, solo = np.array([[1.0, 0.0, 1.0, 0.0]]), np.array([[0.0, 0.0, 1.0, 1.0]])
    thinker, solver = credit_of(
        "ccpo", dyad(), dyad_outcome(joint, solo), state, alpha=0.5, eta=2.0
    )
    np.testing.assert_allclose(thinker, np.tanh(0.5 * (joint - solo - 0.2) / 0.4), rtol=1e-4)
    gate = 1 / (1 + math.exp(-2.0 * 0.2 / 0.4))
    expected = gate * (joint - 0.6) / math.sqrt(0.24) + (1 - gate) * (solo - 0.4) / 0.3
    np.testing.assert_allclose(solver, expected, rtol=1e-4)


def test_ccpo_updates_with_its_decay_after_shaping():
    state = CCPOState(moments(0.2, 0.16), moments(0.6, 0.24), moments(0.4, 0.09))
    outcome = outcome_of(dyad())
    _, new = compiled("ccpo", dyad(), (("decay", 0.75),))(state, outcome)
    joint, solo = outcome.reward
    for before, after, values in zip(state, new, (joint - solo, joint, solo), strict=True):
        assert int(after.count) == 32
        np.testing.assert_allclose(after.mean, 0.75 * before.mean + 0.25 * values.mean(), rtol=1e-5)
        np.testing.assert_allclose(after.var, 0.75 * before.var + 0.25 * values.var(), rtol=1e-5)


@pytest.mark.parametrize("count, shaped", [(0, False), (9, False), (10, True)])
def test_ccpo_waits_for_min_samples(count, shaped):
    state = CCPOState(*(moments(0.2, 0.16, count) for _ in range(3)))
    outcome = outcome_of(dyad())
    credit = credit_of("ccpo", dyad(), outcome, state)
    raw = np.stack([outcome.reward[0] - outcome.reward[1], outcome.reward[0]])
    assert np.array_equal(credit, raw) != shaped
    assert np.array_equal(
        credit_of("ccpo", dyad(), outcome, state, min_samples=max(count, 1)), raw
    ) == (count == 0)


def test_ccpo_voting_uses_one_statistic_for_all_voters():
    estimator = make_credit("ccpo", voting(3), alpha=2.0)
    outcome = outcome_of(voting(3))
    delta = np.asarray(outcome.reward[:1] - outcome.reward[1:])
    update = jax.jit(estimator.update)
    credit, state = update(estimator.init(), outcome)
    np.testing.assert_array_equal(credit, delta)
    assert int(state.delta.count) == delta.size
    np.testing.assert_allclose(
        [state.delta.mean, state.delta.var], [delta.mean(), delta.var()], rtol=1e-5
    )
    assert state.joint == init_moments() and state.solo == init_moments()
    credit, _ = update(state, outcome)
    np.testing.assert_allclose(credit, np.tanh(2 * (delta - delta.mean()) / delta.std()), atol=1e-4)


def test_ccpo_of_a_chain_shapes_every_agents_own_contribution():
    """One statistic for all agents, whatever the order of the masked worlds."""
    team = dataclasses.replace(chain(3), ablated=(2, 0, 1))
    outcome = outcome_of(team, batch=8)
    state = CCPOState(moments(0.2, 0.16), init_moments(), init_moments())
    delta = outcome.reward[0] - outcome.reward[[2, 3, 1]]
    np.testing.assert_allclose(
        credit_of("ccpo", team, outcome, state), np.tanh((delta - 0.2) / 0.4), rtol=1e-4, atol=1e-6
    )
    assert (delta[0] != delta[1]).any() and (delta[1] != delta[2]).any()


def test_ccpo_keeps_the_order_of_contributions():
    state = CCPOState(moments(0.2, 0.16), moments(0.6, 0.24), moments(0.4, 0.09))
    thinker = credit_of("ccpo", dyad(), dyad_outcome([[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]]), state)[
        0, 0
    ]
    assert -1 < thinker[0] < 0 and thinker[0] < thinker[1] < thinker[2] < 1


# ccpo_event


def test_ccpo_event_pays_signed_rewards_and_the_bonus_to_the_thinker():
    outcome = dyad_outcome([[1, 0, 1, 0], [1, 0, 1, 0]], [[0, 0, 0, 1], [1, 1, 1, 0]])
    thinker, solver = credit_of("ccpo_event", dyad(), outcome, weight=0.5)
    np.testing.assert_array_equal(solver, [[1, -1, 1, -1], [1, -1, 1, -1]])
    np.testing.assert_allclose(thinker, [[1.5, -1, 1.5, -1], [1, -1.5, 1, -1.5]])


def test_ccpo_event_soft():
    thinker, _ = credit_of("ccpo_event", dyad(), dyad_outcome([[1, 0]], [[0, 0]]), soft=True)
    np.testing.assert_allclose(thinker, [[1.2, -1.0]])


@pytest.mark.parametrize(
    "solo, factor", [([[0, 0, 1, 0]], 1.1), ([[1, 0, 1, 1]], 1.1), ([[1, 0, 1, 0]], 1.0)]
)
def test_ccpo_event_only_reweights_prompts(solo, factor):
    outcome = dyad_outcome([[1, 0, 0, 1]], solo)
    thinker, solver = group_advantage(credit_of("ccpo_event", dyad(), outcome), normalize_std=False)
    np.testing.assert_allclose(thinker, factor * solver, atol=1e-6)


# sepo


def test_sepo_shares_credit_and_blame_by_both_words():
    """Two samples, right and wrong: shares are zero-sum, and the one that did more gets more of either."""
    outcome = dyad_outcome([[1, 1, 0, 0]], [[0] * 4])
    own_view = np.array([[[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.5, 0.5]]])
    partners = np.array([[[0.7, 0.3], [0.5, 0.5], [0.4, 0.6], [0.5, 0.5]]])
    rated = outcome._replace(shares=np.stack([own_view, partners]))
    thinker, solver = credit_of("sepo", dyad(), rated, own=0.25, praise=0.4, blame=0.1)
    first = 0.25 * own_view[..., 0] + 0.75 * partners[..., 0]
    second = 0.25 * partners[..., 1] + 0.75 * own_view[..., 1]
    share = first / (first + second)
    c = share - share.mean()
    np.testing.assert_allclose(
        thinker[0], [1, 1, -1, -1] + np.array([0.4, 0.4, -0.1, -0.1]) * c[0], atol=1e-6
    )
    np.testing.assert_allclose(thinker + solver, 2 * np.array([[1, 1, -1, -1]]), atol=1e-6)
    assert (
        thinker[0, 0] > thinker[0, 1] > 0 > thinker[0, 2] > thinker[0, 3]
    )  # praised most, blamed least


@pytest.mark.parametrize("praise, blame", [(0.99, 0.99), (0.2, 0.9)])
def test_no_rating_turns_a_verdict_round(praise, blame):
    """Every pair of splits against every other in a group, right and wrong."""
    splits = np.array([(k / 10, 1 - k / 10) for k in range(1, 10)])
    pairs = splits[np.array(list(itertools.product(range(9), repeat=2)))]  # [81, 2, 2]
    for right in (0, 1):
        outcome = dyad_outcome(np.full((1, 81), right), np.zeros((1, 81)))
        rated = outcome._replace(shares=np.moveaxis(pairs, 1, 0)[:, None])
        credit = credit_of("sepo", dyad(), rated, praise=praise, blame=blame)
        assert (np.sign(credit) == (1 if right else -1)).all() and np.ptp(credit) > 0.1
        np.testing.assert_allclose(credit[0] + credit[1], 2 * (2 * right - 1), atol=1e-5)


def test_sepo_without_valid_ratings_is_the_shared_reward():
    outcome = outcome_of(dyad())._replace(shares=np.full((2, 3, 4, 2), 0.5, np.float32))
    np.testing.assert_array_equal(
        credit_of("sepo", dyad(), outcome), [2 * outcome.reward[0] - 1] * 2
    )


def test_sepo_needs_ratings():
    with raises_for("outcome.shares"):
        make_credit("sepo", dyad()).update((), outcome_of(dyad()))
    for name, value in (("own", 1.5), ("praise", 1.0), ("blame", -0.1)):
        with raises_for(f"credit.{name}"):
            make_credit("sepo", dyad(), **{name: value})


# The border


MISFITS = [
    (name, team)
    for name in CREDITS
    for team in (dyad(), voting(3), CHAIN, *GRAPHS)
    if team not in FITS[name]
]


@pytest.mark.parametrize("name, team", MISFITS, ids=lambda x: x if isinstance(x, str) else x.name)
def test_misfits_name_the_estimator_and_the_team(name, team):
    with raises_for("credit.name") as error:
        make_credit(name, team)
    assert name in str(error.value) and team.name in str(error.value)


NEED_SEVERAL_AGENTS = (
    *("individual", "ccpo", "ccpo_event", "sepo"),
    *("cross_play", "nested", "pooled"),
)


@pytest.mark.parametrize("name", NEED_SEVERAL_AGENTS)
def test_an_estimator_that_does_not_fit_one_agent_says_what_to_type(name):
    with raises_for("credit.name") as error:
        make_credit(name, solo())
    assert str(error.value).endswith("; type --config.credit.name=shared")


def test_an_unknown_name_is_refused_with_the_known_ones():
    with raises_for("credit.name") as error:
        make_credit("ccp0", dyad())
    assert all(name in str(error.value) for name in CREDITS)


@pytest.mark.parametrize("name", CREDITS)
def test_an_unknown_hyper_parameter_is_refused_by_its_name(name):
    with raises_for("credit.alhpa"):
        make_credit(name, FITS[name][0], alhpa=2.0)


def test_a_refused_hyper_parameter_is_answered_with_those_that_there_are():
    with raises_for("credit.alhpa") as error:
        make_credit("ccpo", dyad(), alhpa=2.0)
    for name in ("alpha", "eta", "decay", "eps", "min_samples"):
        assert name in str(error.value)


@pytest.mark.parametrize("hyper", [{"decay": -0.1}, {"decay": 1.0}, {"decay": 99}, {"eps": -1e-9}])
@pytest.mark.parametrize("name", ["ccpo", "agent_norm", "pooled"])
def test_hyper_parameters_have_ranges(name, hyper):
    (field,) = hyper
    with raises_for(f"credit.{field}"):
        make_credit(name, dyad(), **hyper)


def test_eps_is_added_to_standard_deviations():
    state = CCPOState(moments(0.2, 0.16), moments(0.6, 0.24), moments(0.4, 0.09))
    joint, solo = np.array([[1.0, 0.0]]), np.array([[0.0, 0.0]])
    thinker, _ = credit_of("ccpo", dyad(), dyad_outcome(joint, solo), state, eps=0.1)
    np.testing.assert_allclose(thinker, np.tanh((joint - solo - 0.2) / (0.4 + 0.1)), rtol=1e-5)
