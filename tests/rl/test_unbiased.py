"""Expected gradients of tabular teams, by enumeration of everything that can happen.

A tabular team has one softmax of logits per agent. Its estimators see every possible group of samples once, weighted by
its probability, so that expectations and variances are exact up to float32. Every word of an agent is an answer with a
class, -1 = it abstains, and a score.
"""

import dataclasses
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
    weighted_advantage,
)
from ccpo_jax.rl import cross_play
from ccpo_jax.rl.answer_trees import PooledState
from ccpo_jax.rl.topology import all_subsets, chain, debate, dyad, graph, voting
from tests.support.enumeration import (
    ADVANTAGES,
    enumerate_groups,
    gradient_estimates,
    mean_and_variance,
    ordered_groups,
    rated_dyad,
    rated_gradients,
    reward_gradient,
    softmax,
    split_by_turn,
    team_gradient,
)

STATE = CCPOState(
    *(
        RunningMoments(jnp.int32(99), jnp.float32(m), jnp.float32(v))
        for m, v in ((0.1, 0.2), (0.6, 0.2), (0.4, 0.2))
    )
)


@dataclasses.dataclass(frozen=True)
class Answers:
    """The words of a voter."""

    answer_id: tuple[int, ...]
    score: tuple[float, ...]

    def __len__(self):
        return len(self.answer_id)


VOTERS = {
    "two voters, four answers": (2, Answers((0, 1, 2, -1), (1.0, 0.0, 0.0, 0.0))),
    "three voters, three answers": (3, Answers((0, 1, 2), (1.0, 0.0, 0.0))),
    # Two words are the same answer and differ in score, as with a reward that also rates the form.
    "three voters, fractional scores": (3, Answers((0, 0, 1), (1.0, 0.4, 0.2))),
}
voters = pytest.mark.parametrize("agents, answers", VOTERS.values(), ids=VOTERS)


def credit_of(name, team, outcome, **hyper):
    estimator = make_credit(name, team, **hyper)
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
        return jnp.exp(
            jax.nn.log_softmax(logits)[jnp.arange(agents), choices].sum(-1)
        ) @ jnp.asarray(value, jnp.float32)

    return np.asarray(jax.grad(expectation)(jnp.asarray(logits, jnp.float32)))


def rewards_of(agents, answers, present=None):
    """Table ``[J]`` of the reward of the agents in `present` (all of them by default)."""
    choices = choices_of(agents, answers)
    answer_id, score = np.array(answers.answer_id)[choices], np.array(answers.score)[choices]
    mask = np.isin(np.arange(agents), range(agents) if present is None else present)
    return np.asarray(vote_reward(answer_id, score, mask))


def voting_gradients(name, agents, answers, *, group=1, advantage="none", seed=0, **hyper):
    """Gradient estimates ``[B, A, M]`` for every group of samples, and the probability ``[B]`` of each."""
    probability = softmax(logits_of(agents, answers, seed))
    samples = ordered_groups(choices_of(agents, answers), group)  # [B, G, A]
    masks = agent_masks(agents)
    everywhere = (len(masks), *samples.shape)
    answer_id = np.broadcast_to(np.array(answers.answer_id)[samples], everywhere)
    correct = np.broadcast_to(np.float32(answers.score)[samples], everywhere)
    outcome = Outcome(
        team_reward(voting(agents), correct, answer_id, masks), correct, answer_id, masks
    )
    signal = np.asarray(
        ADVANTAGES[advantage](credit_of(name, voting(agents), outcome, **hyper))
    )  # [A, B, G]
    score = np.eye(len(answers))[samples] - probability  # [B, G, A, M]
    gradients = np.einsum("kbg,bgkm->bkm", signal, score) / group
    return gradients, probability[np.arange(agents), samples].prod((1, 2))


@voters
@pytest.mark.parametrize("group, advantage", [(1, "none"), (2, "none"), (2, "leave_one_out")])
@pytest.mark.parametrize("name", ["shared", "magrpo", "difference", "cross_play"])
def test_voting_estimators_are_unbiased_for_the_team_reward(
    name, group, advantage, agents, answers
):
    mean, _ = mean_and_variance(
        *voting_gradients(name, agents, answers, group=group, advantage=advantage)
    )
    expected = policy_gradient(logits_of(agents, answers), rewards_of(agents, answers))
    assert np.abs(expected).max() > 0.02
    np.testing.assert_allclose(mean, expected, atol=1e-6)


@pytest.mark.parametrize("pairings", [1, 3, None], ids=["one", "three", "few classes counted"])
def test_sampled_cross_play_is_unbiased(pairings, monkeypatch):
    """Fewer pairings than teams; and some groups counted, others sampled, by their answers."""
    agents, answers = VOTERS["three voters, fractional scores"]
    if pairings is None:
        monkeypatch.setattr(cross_play, "_MOST_TEAMS", 0)
        monkeypatch.setattr(cross_play, "most_classes", lambda agents, tie: 1)
        monkeypatch.setattr(cross_play, "DEFAULT_PAIRINGS", 3)
    how = {"group": 2, "advantage": "leave_one_out", "pairings": pairings}
    mean, _ = mean_and_variance(*voting_gradients("cross_play", agents, answers, **how))
    expected = policy_gradient(logits_of(agents, answers), rewards_of(agents, answers))
    np.testing.assert_allclose(mean, expected, atol=1e-6)


@voters
@pytest.mark.parametrize("group, advantage", [(1, "none"), (2, "leave_one_out")])
def test_shapley_climbs_the_reward_of_partly_assembled_teams(group, advantage, agents, answers):
    """Objective of agent k: the reward of the team that has just been joined by k, over all orders of joining."""
    mean, _ = mean_and_variance(
        *voting_gradients("shapley", agents, answers, group=group, advantage=advantage)
    )
    orders = list(itertools.permutations(range(agents)))
    for agent in range(agents):
        teams = [order[: order.index(agent) + 1] for order in orders]
        objective = np.mean([rewards_of(agents, answers, team) for team in teams], axis=0)
        expected = policy_gradient(logits_of(agents, answers), objective)[agent]
        np.testing.assert_allclose(mean[agent], expected, atol=1e-6)
        team_gradient = policy_gradient(logits_of(agents, answers), rewards_of(agents, answers))[
            agent
        ]
        assert np.abs(mean[agent] - team_gradient).max() > 1e-3  # it is not the team's reward


@voters
@pytest.mark.parametrize("group, advantage", [(1, "none"), (2, "leave_one_out")])
def test_individual_climbs_each_voters_own_score(group, advantage, agents, answers):
    mean, _ = mean_and_variance(
        *voting_gradients("individual", agents, answers, group=group, advantage=advantage)
    )
    for agent in range(agents):
        own = np.array(answers.score)[choices_of(agents, answers)][:, agent]
        expected = policy_gradient(logits_of(agents, answers), own)[agent]
        np.testing.assert_allclose(mean[agent], expected, atol=1e-6)


@voters
@pytest.mark.parametrize("group, advantage", [(1, "none"), (2, "leave_one_out")])
def test_ccpo_climbs_its_shaped_contribution(group, advantage, agents, answers):
    """Objective of agent k: the mean of tanh(z(Delta_k)) under the statistics carried in; not the team's reward."""
    mean, _ = mean_and_variance(
        *voting_gradients("ccpo", agents, answers, group=group, advantage=advantage)
    )
    for agent in range(agents):
        rest = [other for other in range(agents) if other != agent]
        delta = rewards_of(agents, answers) - rewards_of(agents, answers, rest)
        shaped = np.tanh((delta - 0.1) / math.sqrt(0.2))
        np.testing.assert_allclose(
            mean[agent], policy_gradient(logits_of(agents, answers), shaped)[agent], atol=1e-5
        )


@voters
@pytest.mark.parametrize("name", ["shared", "difference", "cross_play"])
def test_centring_without_std_only_shrinks(name, agents, answers):
    """The mean over the group includes the sample itself: (G - 1) / G of the gradient, here one half."""
    mean, _ = mean_and_variance(
        *voting_gradients(name, agents, answers, group=2, advantage="centred")
    )
    expected = policy_gradient(logits_of(agents, answers), rewards_of(agents, answers)) / 2
    np.testing.assert_allclose(mean, expected, atol=1e-6)


@pytest.mark.parametrize("p", [0.02, 0.1, 0.3, 0.5, 0.9])
def test_dividing_by_the_group_deviation_weights_prompts(p):
    """One agent, right with probability p, G = 4: the gradient p(1-p), times the weight its docstring states."""
    reward = ordered_groups(np.array([0.0, 1.0]), 4)
    probability = np.where(reward > 0, p, 1 - p).prod(-1)
    mean = probability @ (np.asarray(group_advantage(reward)) * (reward - p)).mean(-1)
    weight = 3 / 2 - (3 - 3 / 2 * math.sqrt(3)) * p * (1 - p)
    np.testing.assert_allclose(mean, weight * p * (1 - p), rtol=1e-4)


def test_dividing_by_the_group_deviation_turns_the_gradient():
    """Three rewards, G = 2: only the order of two rewards counts, so 0.1 is worth as much as 1."""
    reward, probability = np.array([0.0, 0.1, 1.0]), np.array([0.5, 0.3, 0.2])
    samples = ordered_groups(np.arange(3), 2)
    weight = probability[samples].prod(-1)[:, None, None] * (np.eye(3)[samples] - probability) / 2
    exact = probability * (reward - probability @ reward)
    unbiased = (np.asarray(leave_one_out_advantage(reward[samples]))[..., None] * weight).sum(
        (0, 1)
    )
    np.testing.assert_allclose(unbiased, exact, atol=1e-6)
    divided = (np.asarray(group_advantage(reward[samples]))[..., None] * weight).sum((0, 1))
    assert exact[1] < 0 < divided[1]


@pytest.mark.parametrize("advantage", ["none", "leave_one_out"])
@pytest.mark.parametrize("seed", range(3))
@voters
def test_cross_play_never_has_more_variance_than_difference(agents, answers, seed, advantage):
    """Provable: it is the difference reward averaged over all pairings of the same samples."""
    options = {"group": 2, "advantage": advantage, "seed": seed}
    _, cross_play = mean_and_variance(*voting_gradients("cross_play", agents, answers, **options))
    _, difference = mean_and_variance(*voting_gradients("difference", agents, answers, **options))
    assert cross_play < 0.99 * difference


@pytest.mark.parametrize("advantage", ["none", "leave_one_out"])
@voters
def test_variance_on_these_teams_falls_from_shared_to_difference_to_cross_play(
    agents, answers, advantage, record_property
):
    """True here, not a theorem: a reward without k that is rarely near the team's can cost more than it removes."""
    variance = {}
    for name in ("shared", "difference", "cross_play"):
        _, variance[name] = mean_and_variance(
            *voting_gradients(name, agents, answers, group=2, advantage=advantage)
        )
        record_property(f"variance of {name}", variance[name])
    assert variance["shared"] > variance["difference"] > variance["cross_play"]


# The dyad: thinker [M], solver [M + 1, M] of which the last row answers alone

THOUGHTS = ANSWERS = 3
DYAD = np.random.default_rng(3).normal(
    0, 0.8, (THOUGHTS + 2, ANSWERS)
)  # thinker, solver after each thought, solo


# Score of each answer: right or wrong, or in between. Both are 1/2 where one answer is right and the other wrong.
ANSWER_SCORES = {"right or wrong": (1.0, 0.0, 0.0), "fractions": (1.0, 0.4, 0.0)}
answer_scores = pytest.mark.parametrize("scores", ANSWER_SCORES.values(), ids=ANSWER_SCORES)


def dyad_true_gradient(correct):
    """Gradient ``[2 + M, M]`` of E[correct of the joint answer]; the solo row has none."""

    def expectation(logits):
        thinker, solver = jax.nn.softmax(logits[0]), jax.nn.softmax(logits[1:-1])
        return thinker @ solver @ jnp.asarray(correct, jnp.float32)

    return np.asarray(jax.grad(expectation)(jnp.asarray(DYAD, jnp.float32)))


def dyad_gradients(name, *, group=1, advantage="none", scores=ANSWER_SCORES["right or wrong"]):
    """Gradient estimates ``[B, 2 + M, M]`` and the probability ``[B]`` of every group of (thought, joint, solo)."""
    table = softmax(DYAD)
    samples = ordered_groups(
        np.array(list(itertools.product(range(THOUGHTS), range(ANSWERS), range(ANSWERS)))), group
    )
    thought, joint, solo = np.moveaxis(samples, -1, 0)
    probability = (table[0][thought] * table[1 + thought, joint] * table[-1][solo]).prod(-1)
    solver_id = np.stack([joint, solo])
    answer_id = np.stack([np.full_like(solver_id, -1), solver_id], -1)
    correct = np.where(answer_id < 0, 0.0, np.float32(scores)[answer_id])
    masks = agent_masks(2, (0,))
    outcome = Outcome(team_reward(dyad(), correct, answer_id, masks), correct, answer_id, masks)
    signal = np.asarray(ADVANTAGES[advantage](credit_of(name, dyad(), outcome)))  # [2, B, G]
    gradients = np.zeros((len(samples), *DYAD.shape))
    gradients[:, 0] = (
        np.einsum("bg,bgm->bm", signal[0], np.eye(THOUGHTS)[thought] - table[0]) / group
    )
    solver_score = signal[1][..., None] * (np.eye(ANSWERS)[joint] - table[1 + thought]) / group
    rows = np.broadcast_to(np.arange(len(samples))[:, None], thought.shape)
    np.add.at(gradients, (rows, 1 + thought), solver_score)
    return gradients, probability


@answer_scores
@pytest.mark.parametrize("group, advantage", [(1, "none"), (2, "none"), (2, "leave_one_out")])
@pytest.mark.parametrize("name", ["shared", "difference"])
def test_dyad_estimators_are_unbiased_for_the_team_reward(name, group, advantage, scores):
    mean, _ = mean_and_variance(
        *dyad_gradients(name, group=group, advantage=advantage, scores=scores)
    )
    expected = dyad_true_gradient(scores)
    assert np.abs(expected[:-1]).max(axis=1).min() > 1e-3 and (expected[-1] == 0).all()
    np.testing.assert_allclose(mean, expected, atol=1e-6)


@answer_scores
def test_ccpo_event_weights_prompts_by_how_sure_the_solo_outcome_is(scores):
    """Solver: the gradient of J in [-1, 1]. Thinker: times 1 + 0.1 * P(b != 0); b = 0 if the two solos' scores add up
    to 1."""
    mean, _ = mean_and_variance(
        *dyad_gradients("ccpo_event", group=2, advantage="leave_one_out", scores=scores)
    )
    expected = 2 * dyad_true_gradient(scores)
    solo = softmax(DYAD)[-1]
    is_tie = np.add.outer(scores, scores) == 1.0
    assert is_tie.any()
    expected[0] *= 1 + 0.1 * (1 - solo @ is_tie @ solo)
    np.testing.assert_allclose(mean, expected, atol=1e-5)


@answer_scores
def test_ccpo_in_the_dyad_climbs_its_shaped_rewards(scores):
    """Thinker: mean of tanh(z(J - S)). Solver: the gate times the gradient of z(J); solo answers cancel."""
    mean, _ = mean_and_variance(
        *dyad_gradients("ccpo", group=2, advantage="leave_one_out", scores=scores)
    )
    delta = np.subtract.outer(scores, scores)  # [joint answer, solo answer]
    shaped = np.tanh((delta - 0.1) / math.sqrt(0.2)) @ softmax(DYAD)[-1]
    np.testing.assert_allclose(mean[0], dyad_true_gradient(shaped)[0], atol=1e-5)
    gate = 1 / (1 + math.exp(-0.1 / math.sqrt(0.2)))
    expected = gate / math.sqrt(0.2) * dyad_true_gradient(scores)[1:]
    np.testing.assert_allclose(mean[1:], expected, atol=1e-5)


@pytest.mark.parametrize(
    "scores,largest_tilt",
    [((1.0, 0.0), 1e-3), ((0.6, 0.3), 5e-4)],
    ids=["right or wrong", "fractions"],
)
def test_sepo_climbs_the_verdict_tilted_by_the_shares(scores, largest_tilt):
    """Two samples, ratings drawn anew for every pair of texts. The tilt of a sample is its own share less the group's
    mean share, so it climbs R + lambda (G - 1) / G * (w - E[w]), with E[w] held fixed; lambda is 0.5 for the part that
    is right and -0.25 for the part that is wrong."""
    rated = rated_dyad(softmax(np.random.default_rng(4).normal(0, 0.8, (3, 2))), scores)
    single, odds, group = rated.samples, rated.odds, 2
    answer = single[:, 1]
    credit = np.asarray(
        make_credit("sepo", dyad(), praise=0.5, blame=0.25).update((), rated.outcome)[0]
    )
    mean, _ = mean_and_variance(*rated_gradients(rated, credit))

    view = np.array(rated.shares)[single[:, 2:]]  # [N, rater, 2]
    parts = 0.3 * view[:, 0, 0] + 0.7 * view[:, 1, 0], 0.3 * view[:, 1, 1] + 0.7 * view[:, 0, 1]
    share = parts[0] / sum(parts)
    score = np.array(scores)[answer]
    tilt = (0.5 * score - 0.25 * (1 - score)) * (share - odds @ share) / group
    verdict = 2 * score - 1
    for row, value in enumerate((verdict + tilt, verdict - tilt, verdict - tilt)):
        np.testing.assert_allclose(
            mean[row], np.einsum("n,n,nm->m", odds, value, rated.score[:, row]), atol=1e-6
        )
    assert np.abs(np.einsum("n,n,nm->m", odds, tilt, rated.score[:, 0])).max() > largest_tilt


def test_in_the_dyad_the_solo_answer_only_adds_variance():
    """It does not depend on the thought: within a prompt, the difference is the shared reward plus noise."""
    means, variances = zip(
        *(
            mean_and_variance(*dyad_gradients(name, group=2, advantage="leave_one_out"))
            for name in ("shared", "difference")
        ),
        strict=True,
    )
    np.testing.assert_allclose(means[0][0], means[1][0], atol=1e-6)
    assert variances[1] > 1.2 * variances[0]


# Teams whose members read each other: every text that could be said in every world, two or three words to choose from


READERS = {"dyad": dyad(), "chain": chain(3), "debate": debate(2), "graph": graph()}
PLAYS = [(name, group) for name in READERS for group in (1, 2) if (name, group) != ("graph", 2)]


@pytest.mark.parametrize("team, group", PLAYS)
@pytest.mark.parametrize("name", ["shared", "magrpo", "difference"])
def test_estimators_are_unbiased_where_agents_read_each_other(name, team, group):
    team = READERS[team]
    groups = enumerate_groups(team, team.ablated, group=group)
    assert groups.probability.sum() == pytest.approx(1)
    gradients = gradient_estimates(
        team, make_credit(name, team), groups, "none" if group == 1 else "leave_one_out"
    )
    mean, _ = mean_and_variance(gradients, groups.probability)
    expected = team_gradient(team, team.ablated)
    assert all(np.abs(part).max() > 3e-3 for part in split_by_turn(team, expected, 2).values())
    np.testing.assert_allclose(mean, expected, atol=1e-6)


def test_individual_climbs_a_debaters_own_last_words():
    """In both of its turns; the team in which the last word counts is judged by agent 1 alone."""
    team = debate(2)
    groups = enumerate_groups(team, team.ablated)
    mean, _ = mean_and_variance(
        gradient_estimates(team, make_credit("individual", team), groups), groups.probability
    )
    own = reward_gradient(dataclasses.replace(team, decision="last"), team.ablated, (True, True))
    for turn in (1, 3):
        np.testing.assert_allclose(split_by_turn(team, mean, 2)[turn], own[turn], atol=1e-6)


@pytest.mark.parametrize("team", ["dyad", "chain", "debate"])
def test_shapley_climbs_what_each_agent_adds_when_it_joins(team):
    """Objective of agent k: the reward of the team it has just joined, over all orders, as far as it read the same."""
    team = READERS[team]
    subsets = all_subsets(team.num_agents)
    estimator = make_credit("shapley", team)
    assert estimator.needs.ablated == subsets
    groups = enumerate_groups(team, subsets)
    credit, _ = estimator.update((), groups.outcome)
    np.testing.assert_allclose(np.sum(credit, 0), groups.outcome.reward[0], atol=1e-6)
    mean, _ = mean_and_variance(gradient_estimates(team, estimator, groups), groups.probability)
    found = split_by_turn(team, mean, 2)
    orders = list(itertools.permutations(range(team.num_agents)))
    for agent in range(team.num_agents):
        joined = [order[: order.index(agent) + 1] for order in orders]
        worlds = [
            reward_gradient(team, subsets, [k in some for k in range(team.num_agents)])
            for some in joined
        ]
        for turn in [t for t, speaker in enumerate(team.speakers) if speaker == agent]:
            np.testing.assert_allclose(
                found[turn], np.mean([g[turn] for g in worlds], axis=0), atol=1e-6
            )


@pytest.mark.parametrize("team, words", [("dyad", 2), ("dyad", 3), ("chain", 2)])
def test_nested_answers_are_unbiased(team, words):
    """Two thoughts, two answers to everything that was said."""
    team = READERS[team]
    groups = enumerate_groups(team, (), group=2, answers=2, words=words)
    mean, _ = mean_and_variance(
        gradient_estimates(team, make_credit("nested", team, answers=2), groups), groups.probability
    )
    np.testing.assert_allclose(mean, team_gradient(team, (), words=words), atol=1e-6)


@pytest.mark.parametrize("between", [0.0, 0.3])
def test_pooled_baselines_are_unbiased(between):
    state = PooledState(jnp.int32(9), jnp.float32(between), jnp.float32(0.1))
    groups = enumerate_groups(dyad(), (), group=2, answers=2)
    gradients = gradient_estimates(
        dyad(), make_credit("pooled", dyad(), scaled=False), groups, state=state
    )
    np.testing.assert_allclose(
        mean_and_variance(gradients, groups.probability)[0], team_gradient(dyad(), ()), atol=1e-6
    )


@pytest.mark.parametrize("solo_weight", [0.5, 1.0])
def test_solo_answers_as_a_control_variate_change_no_expectation(solo_weight):
    state = RunningMoments(jnp.int32(50), jnp.float32(0.3), jnp.float32(0.2))
    estimator = make_credit("nested", dyad(), answers=2, solo_weight=solo_weight)
    groups = enumerate_groups(dyad(), estimator.needs.ablated, group=2, answers=2)
    gradients = gradient_estimates(dyad(), estimator, groups, state=state)
    mean, _ = mean_and_variance(gradients, groups.probability)
    np.testing.assert_allclose(mean, team_gradient(dyad(), ((0,),)), atol=1e-6)
    plain = gradient_estimates(dyad(), make_credit("nested", dyad(), answers=2), groups)
    assert np.abs(gradients - plain).max() > 0.01


@pytest.mark.parametrize("team", ["dyad", "chain"])
def test_agent_norm_climbs_the_team_reward_on_each_agents_own_scale(team):
    team = READERS[team]
    agents = np.arange(team.num_agents)
    var = np.float32([0.04, 0.25, 0.09])[: len(agents)]
    state = RunningMoments(
        jnp.full(len(agents), 99), jnp.asarray(0.1 * agents, jnp.float32), jnp.asarray(var)
    )
    groups = enumerate_groups(team, team.ablated)
    gradients = gradient_estimates(team, make_credit("agent_norm", team), groups, state=state)
    found = split_by_turn(team, mean_and_variance(gradients, groups.probability)[0], 2)
    for turn, expected in split_by_turn(team, team_gradient(team, team.ablated), 2).items():
        np.testing.assert_allclose(
            found[turn], expected / np.sqrt(var[team.speakers[turn]]), atol=1e-4
        )


@pytest.mark.parametrize(
    "team, group, other", [("dyad", 1, 1), ("dyad", 2, 1), ("chain", 1, 1), ("debate", 1, 1)]
)
@pytest.mark.parametrize("name", ["shared", "difference"])
def test_the_surprisal_of_other_prompts_leaves_the_gradient_unbiased(name, team, group, other):
    """Everything that two prompts can come out with together: each is the other's baseline."""
    team = READERS[team]
    estimator = make_credit(name, team)
    ablated = estimator.needs.ablated
    here, there = (
        enumerate_groups(team, ablated, group=g, seed=seed) for seed, g in ((0, group), (1, other))
    )
    both_credits = [
        np.asarray(estimator.update((), groups.outcome)[0]) for groups in (here, there)
    ]  # [A, N, G] each
    mean = 0.0
    for weight, credit, surprisal in zip(
        there.probability,
        *(np.moveaxis(x, 1, 0) for x in (both_credits[1], there.outcome.surprisal)),
        strict=True,
    ):  # one way the other prompt can come out: beside all that this one can
        both = [
            np.stack([own, np.broadcast_to(x.mean(1, keepdims=True)[:, None], own.shape)], 2)
            for own, x in ((both_credits[0], credit), (here.outcome.surprisal, surprisal))
        ]
        signal = np.asarray(jax.vmap(weighted_advantage, 1, 1)(*both))[:, :, 0]
        parts = [
            np.einsum("ng,ng...->n...", signal[team.speakers[t]], score).reshape(len(score), -1)
            / group
            for t, score in here.score.items()
        ]
        mean = mean + weight * mean_and_variance(np.concatenate(parts, axis=1), here.probability)[0]
    np.testing.assert_allclose(mean, team_gradient(team, ablated), atol=1e-6)


@pytest.mark.parametrize("p", [0.6, 0.9, 0.99])
def test_weighing_with_surprisal_comes_near_the_best_constant_baseline(p):
    """One agent, right with probability p: the best baseline is 1 - p, the mean reward p is the worst of the three."""
    others = 400
    right = np.arange(others) < round(p * others)
    reward, surprisal = (
        np.append(right, 1.0)[None, :, None],
        -np.log(np.where(np.append(right, True), p, 1 - p)),
    )
    weighed = 1.0 - float(weighted_advantage(reward, surprisal[None, :, None])[0, -1, 0])
    odds, scores = np.array([p, 1 - p]), np.array([1 - p, -p])

    def variance(baseline):
        pushed = (np.array([1.0, 0.0]) - baseline) * scores
        return odds @ np.square(pushed - odds @ pushed)

    assert variance(1 - p) <= variance(weighed) < 0.1 * variance(p)


# What it costs: variance of the gradient, times the texts that were decoded for it

CASES = {  # team -> estimator, samples, hyper-parameters: 12 texts a prompt, in a chain as near to 15 as it goes
    "dyad": [
        ("shared", 6, {}), ("difference", 4, {}), ("shapley", 4, {}), ("nested", 4, {"answers": 2}),
        ("nested", 3, {"answers": 3}), ("nested", 2, {"answers": 5}), ("pooled", 4, {"answers": 2, "scaled": False}),
        ("nested", 3, {"answers": 2, "solo_weight": 0.5}),
    ],
    "chain": [("shared", 5, {}), ("difference", 2, {}), ("shapley", 2, {}), ("nested", 2, {"answers": 2})],
    "debate": [("shared", 3, {}), ("difference", 2, {}), ("shapley", 2, {})],
}  # fmt: skip


def costs(team: str, seed: int) -> dict[str, float]:
    """Estimator -> variance x texts per prompt: what remains of it when all spend the same."""
    found = {}
    for name, group, hyper in CASES[team]:
        estimator = make_credit(name, READERS[team], **hyper)
        ablated = estimator.needs.ablated
        groups = enumerate_groups(
            READERS[team], ablated, group=group, answers=estimator.needs.answers_per_text, seed=seed
        )
        baseline = "none" if estimator.baseline.kind == "none" else "leave_one_out"
        gradients = gradient_estimates(READERS[team], estimator, groups, baseline, estimator.init())
        label = ", ".join([f"{name} (G = {group}", *(f"{k} = {v}" for k, v in hyper.items())]) + ")"
        found[label] = mean_and_variance(gradients, groups.probability)[1] * groups.num_texts
    return found


@pytest.mark.parametrize("team", ["dyad"])
def test_variance_at_equal_texts_is_reported(team, record_property):
    """Which one wins is no theorem, but the dyad's raw difference cannot: it spends texts on noise."""
    found = costs(team, 0)
    for label, value in found.items():
        record_property(f"{team}: variance x texts of {label}", value)
    assert found["difference (G = 4)"] > found["shared (G = 6)"]


def voting_costs(seed: int) -> dict[str, float]:
    """The same of three voters with three answers; nothing but the six votes is decoded."""
    names = ("shared", "difference", "cross_play", "shapley", "individual")
    answers = VOTERS["three voters, three answers"][1]
    how = {"group": 2, "advantage": "leave_one_out", "seed": seed}
    return {
        f"{n} (G = 2)": mean_and_variance(*voting_gradients(n, 3, answers, **how))[1] for n in names
    }


# python -m tests.rl.test_unbiased prints variance x texts, relative to that of the shared reward.
if __name__ == "__main__":
    for team in ("voting", *CASES):
        runs = [voting_costs(seed) if team == "voting" else costs(team, seed) for seed in range(8)]
        for label in runs[0]:
            ratios = [run[label] / next(iter(run.values())) for run in runs]
            print(
                f"{team:7} {label:45} {np.median(ratios):5.2f}  [{min(ratios):.2f}, {max(ratios):.2f}]"
            )
