"""Which baseline a run takes, and which runs a baseline refuses."""

import numpy as np
import pytest

from ccpo_jax import config as table
from ccpo_jax.config import AdvantageConfig, combine
from ccpo_jax.presets import load_preset
from ccpo_jax.rl.topology import debate
from ccpo_jax.rl.types import Samples
from ccpo_jax.rollout import Rollout
from ccpo_jax.rollout.records import Turn
from ccpo_jax.sampler import Prompts, SamplingParams
from ccpo_jax.train.advantage import Advantage, token_advantages
from ccpo_jax.train.baselines import check_baseline
from ccpo_jax.train.build import make_evaluation
from ccpo_jax.train.step import next_advantage_state
from tests.support.errors import raises_for

pytestmark = pytest.mark.fast


def config_of(**fields):
    return combine(load_preset("dyad:tiny"), fields)


CREDIT = np.array([[[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]])
RULES = {
    "none": (Advantage("none"), CREDIT),
    "constant": (Advantage("constant"), CREDIT - 0.1),
    "constant .3": (Advantage("constant", delta=0.3), CREDIT - 0.3),
    "asymmetric": (
        Advantage("asymmetric"),
        CREDIT - np.array([[[0.5], [0.0], [1.0]]]) + 0.1,
    ),
    "batch_mean": (Advantage("batch_mean"), CREDIT - np.array([[[0.5], [0.75], [0.25]]])),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_subtracts_its_baseline(name):
    rule, expected = RULES[name]
    np.testing.assert_allclose(rule(CREDIT, None), expected, atol=1e-6)


SUMMED = {
    "loss.name": "grpo",
    "loss.normalize": "length",
    "loss.ratio": "token",
    "batch_size": 3,
    "trainer.mini_batches": 1,
    "trainer.epochs": 1,
}
OPTIMAL = {"advantage.baseline": "optimal"}


@pytest.mark.parametrize(
    "baseline, changes, field",
    [
        ("batch_mean", {"batch_size": 1}, "batch_size"),
        ("weighted", {"batch_size": 1}, "batch_size"),
        ("opo", {"batch_size": 1, "advantage.pool": "others"}, "batch_size"),
        ("constant", {"loss.name": "reinforce_pp"}, "advantage.baseline"),
        ("opo", {"loss.normalize": "sequence"}, "advantage.baseline"),
        ("optimal", {"loss.normalize": "token"}, "advantage.baseline"),
        ("weighted", {"loss.name": "gspo"}, "advantage.baseline"),
        ("optimal", {"advantage.form": "token", "loss.ratio": "sequence"}, "loss.ratio"),
        ("opo", {"trainer.epochs": 2}, "trainer.epochs"),
        ("weighted", {"trainer.mini_batches": 3}, "trainer.mini_batches"),
        ("optimal", {"sample.top_p": 0.9}, "sample.top_p"),
        ("weighted", {"sample.top_k": 20}, "sample.top_k"),
        ("opo", {"sample.min_p": 0.1}, "sample.min_p"),
    ],
)
def test_what_promises_no_bias_is_refused_where_it_has_one(baseline, changes, field):
    base = SUMMED | {"advantage.baseline": baseline}
    check_baseline(config_of(**base), baseline)
    with raises_for(field):
        check_baseline(config_of(**base | changes), baseline)


@pytest.mark.parametrize("baseline", ["group", "leave_one_out", "none", "batch_mean", "asymmetric"])
def test_usual_practice_is_not_refused(baseline):
    usual = {"trainer.epochs": 2, "sample.top_p": 0.9, "loss.normalize": "token"}
    check_baseline(config_of(**SUMMED | usual), baseline)


def test_a_run_that_began_so_goes_on():
    config = config_of(**SUMMED | {"advantage.baseline": "weighted", "sample.top_p": 0.9})
    check_baseline(config, "weighted", ("advantage.baseline", "sample.top_p"))
    with raises_for("sample.top_p"):
        check_baseline(config, "weighted", ("advantage.baseline",))


def test_carried_sums_need_no_other_prompt():
    check_baseline(config_of(**SUMMED | {"batch_size": 1, "advantage.carried": True}), "weighted")


def test_the_sampler_records_collisions_for_the_optimal_baseline_alone():
    for baseline in table.BASELINES:
        assert Advantage(baseline).reads_collisions == (baseline == "optimal")
    sampling = SamplingParams(record_collision=True)
    assert not make_evaluation(config_of(), sampling).sampling.record_collision


# What rollouts are weighed with


def debate_rollouts():
    """Two agents that speak twice; two prompts of two samples."""
    rng = np.random.default_rng(0)
    turns = []
    for width in (3, 2, 4, 3):
        length = rng.integers(1, width + 1, (2, 2))
        shape = (2, 2, width)
        pi = rng.uniform(0.1, 0.9, shape)
        samples = Samples(
            tokens=np.zeros(shape, np.int32),
            logprobs=np.log(pi).astype(np.float32),
            length=length,
            truncated=np.zeros(length.shape, bool),
            collision=(pi**2 + rng.uniform(0, 0.1, shape)).astype(np.float32),
        )
        prompts = Prompts(np.zeros((2, 1), np.int32), None, None, None)
        turns.append(Turn(prompts, samples, [], (0,), (2,)))
    return Rollout(tuple(turns), np.ones((1, 2), bool))


def scores_of(rollouts, turn, b, g):
    """Of the tokens of a response."""
    samples = rollouts.turns[turn].samples
    size = samples.length[b, g]
    pi = np.exp(samples.logprobs[b, g, :size])
    return 1 - 2 * pi + samples.collision[b, g, :size]


def test_an_agents_turns_are_one_sequence():
    topology, rollouts = debate(2), debate_rollouts()
    assert topology.speakers == (0, 1, 0, 1)
    lengths = Advantage("opo").weights(topology, rollouts, None)
    whole = Advantage("optimal").weights(topology, rollouts, None)
    for agent, b, g in np.ndindex(2, 2, 2):
        own = [turn for turn, speaker in enumerate(topology.speakers) if speaker == agent]
        sizes = [rollouts.turns[turn].samples.length[b, g] for turn in own]
        assert lengths[agent, b, g] == sum(sizes)
        total = sum(scores_of(rollouts, turn, b, g).sum() for turn in own)
        np.testing.assert_allclose(whole[agent, b, g], total, rtol=1e-5)


def test_a_later_turn_weighs_what_was_drawn_before_it():
    topology, rollouts = debate(2), debate_rollouts()
    credit = np.random.default_rng(1).random((2, 2, 2)).astype(np.float32)
    rule = Advantage("optimal", pool="others", form="token")
    assert rule.by_token
    by_turn, mean = token_advantages(rule, topology, rollouts, credit)
    of_sequence = np.asarray(rule(credit, rule.weights(topology, rollouts, None)))
    total, tokens = np.zeros(credit.shape), np.zeros(credit.shape)
    for turn, agent in enumerate(topology.speakers):
        before = [t for t in range(turn) if topology.speakers[t] == agent]
        for b, g in np.ndindex(2, 2):
            for t in range(rollouts.turns[turn].samples.length[b, g]):
                weights, rewards = [], []
                for h in range(2):
                    other = scores_of(rollouts, turn, 1 - b, h)
                    if t < len(other):
                        earlier = sum(scores_of(rollouts, x, 1 - b, h).sum() for x in before)
                        weights.append(earlier + other[: t + 1].sum())
                        rewards.append(credit[agent, 1 - b, h])
                found = by_turn[turn][b, g, t]
                total[agent, b, g] += found
                tokens[agent, b, g] += 1
                if weights:
                    expected = credit[agent, b, g] - np.average(rewards, weights=weights)
                    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(mean, total / tokens, atol=1e-5)
    assert np.abs(mean - of_sequence).max() > 1e-3


def test_carried_sums_of_agents_whose_credit_is_unknown_stay():
    rule = Advantage("weighted", carried=True)
    credit = np.array([[[1.0, 0.0]], [[np.nan, np.nan]]], np.float32)
    state = rule.init(2)
    after = next_advantage_state(rule, state, credit, np.ones_like(credit), np.array([True, False]))
    np.testing.assert_allclose(after.numerator, [0.9, 0], rtol=1e-5)
    np.testing.assert_allclose(after.denominator, [1.8, 0], rtol=1e-5)
    assert next_advantage_state(Advantage("weighted"), (), credit, None, None) == ()


def test_the_former_name_is_read_with_one_note(capsys):
    for _ in range(2):
        assert AdvantageConfig(baseline="surprisal").baseline == "weighted"
    assert AdvantageConfig(baseline="weighted").baseline == "weighted"
    assert capsys.readouterr().err.count("weighted") <= 1
