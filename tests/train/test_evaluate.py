"""Evaluation: what each accuracy means, by hand; and that filling a batch up counts nowhere."""

import collections
import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax.data import Problem
from ccpo_jax.models import make_policy
from ccpo_jax.rl.topology import agent_masks, chain, dyad, graph, solo, team_reward, voting
from ccpo_jax.rl.types import Outcome
from ccpo_jax.rollout import rollout
from ccpo_jax.sampler import SamplingParams
from ccpo_jax.train.evaluate import EvalConfig, _accuracies, _Answered, evaluate, evaluation_worlds
from ccpo_jax.verifiers import Graded
from tests.support.errors import raises_for
from tests.support.teams import PROBLEMS, small_config, small_params, team_of, weights_of

CONFIG = EvalConfig(samples=2, batch_size=4, greedy=False)


def answered(topology, correct, answer_id) -> _Answered:
    """correct, answer_id: [W, B, G, A]."""
    correct, answer_id = np.array(correct, np.float32), np.array(answer_id, np.int32)
    masks = agent_masks(topology.num_agents, evaluation_worlds(topology))
    reward = np.asarray(team_reward(topology, correct, answer_id, masks))
    return _Answered(Outcome(reward, correct, answer_id, masks))


def test_scores_of_a_vote_by_hand():
    """Two problems, two samples; voters 0 and 1 are right on the first, voter 2 alone on the second."""
    correct = [[[1, 1, 0], [1, 0, 0]], [[0, 0, 1], [0, 0, 1]]]
    classes = [[[0, 0, 1], [0, 1, 1]], [[1, 1, 0], [1, 2, 0]]]
    scores = _accuracies(
        SimpleNamespace(topology=voting(3)), answered(voting(3), [correct] * 4, [classes] * 4)
    )
    np.testing.assert_allclose(scores["team_accuracy"], [0.5, (0 + 1 / 3) / 2], rtol=1e-6)
    np.testing.assert_allclose(
        scores["maj_accuracy"], [0.5, 0]
    )  # 3 against 3; then 3 wrong ones against 2
    # The first problem's samples are right, and wrong by 1 vote against 2; the second's are a wrong
    # vote and a tie of three, of which one is right.
    np.testing.assert_allclose(scores["pass_at_2"], [1, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(scores["agent_accuracy/0"], [1, 0])
    np.testing.assert_allclose(scores["agent_accuracy/2"], [0, 1])
    np.testing.assert_allclose(scores["without_agent_accuracy/2"], [(1 + 0.5) / 2, 0])
    np.testing.assert_allclose(scores["without_agent_accuracy/0"], [0.25, 0.5])


def test_scores_of_a_dyad_by_hand():
    """World 0: both; world 1: without the Thinker; world 2: without the Solver, so that the thought stands alone."""
    joint, solo, thought = (
        [[[0, 1], [0, 1], [1, 0]]],
        [[[0, 0], [0, 1], [0, 0]]],
        [[[0, 0], [0, 0], [1, 0]]],
    )
    classes = [
        [[[-1, 0], [-1, 0], [0, 1]]],
        [[[-1, 1], [-1, 0], [-1, 2]]],
        [[[-1, -1], [-1, -1], [0, -1]]],
    ]
    scores = _accuracies(
        SimpleNamespace(topology=dyad()), answered(dyad(), [joint, solo, thought], classes)
    )
    expected = {"team_accuracy": 2 / 3, "maj_accuracy": 1, "pass_at_2": 1, "pass_at_3": 1,
                "agent_accuracy/0": 1 / 3, "agent_accuracy/1": 1 / 3,
                "without_agent_accuracy/0": 1 / 3, "without_agent_accuracy/1": 1 / 3,
                "free_ride/0": 1 / 3, "free_ride/1": 0}  # fmt: skip
    assert scores.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(scores[name], [value], rtol=1e-6, err_msg=name)


def test_scores_of_a_chain_by_hand():
    """Worlds: all, without 0, 1, 2, alone 1, 2; two samples; the last agent present answers."""
    correct = np.zeros((6, 1, 2, 3))
    correct[0] = [[[0, 1, 1], [1, 0, 1]]]  # the planner reads nobody
    correct[1, 0, :, 2] = [1, 0]  # the checker without a plan
    correct[2, 0, :, 2] = [0, 0]  # without a solution
    correct[3, 0, :, 1] = [1, 1]  # no checker: the solver answers
    correct[4, 0, :, 1] = [1, 0]
    correct[5, 0, :, 2] = [1, 1]
    scores = _accuracies(
        SimpleNamespace(topology=chain(3)), answered(chain(3), correct, np.where(correct, 0, 1))
    )
    expected = {"team_accuracy": 1, "maj_accuracy": 1, "pass_at_2": 1, "without_agent_accuracy/0": 0.5, "without_agent_accuracy/1": 0,
                "without_agent_accuracy/2": 1, "agent_accuracy/0": 0.5, "agent_accuracy/1": 0.5,
                "agent_accuracy/2": 1, "free_ride/0": 0.5, "free_ride/1": 0, "free_ride/2": 1}  # fmt: skip
    assert {name: value.item() for name, value in scores.items()} == expected


def test_large_votes_agree_with_counting():
    """Sixty-four voters, some of whom abstain: the team, each alone, and the team without each."""
    rng = np.random.default_rng(0)
    agents, shape = 64, (3, 2, 64)
    classes = rng.integers(-1, 9, shape)
    correct = (classes == 0).astype(float)

    def counted(present):
        """[B, G] the chance that the plurality of some voters is class 0."""
        rewards = np.zeros(shape[:2])
        for b, g in np.ndindex(shape[:2]):
            votes = collections.Counter(c for c in classes[b, g, present] if c >= 0)
            top = [c for c, n in votes.items() if n == max(votes.values())]
            rewards[b, g] = (0 in top) / len(top)
        return rewards

    worlds = 1 + len(evaluation_worlds(voting(agents)))
    assert worlds == agents + 1
    scores = _accuracies(
        SimpleNamespace(topology=voting(agents)),
        answered(voting(agents), [correct] * worlds, [classes] * worlds),
    )
    everyone = counted(np.arange(agents))
    np.testing.assert_allclose(scores["team_accuracy"], everyone.mean(axis=1), rtol=1e-6)
    for agent in range(agents):
        without = counted(np.delete(np.arange(agents), agent))
        name = f"without_agent_accuracy/{agent}"
        np.testing.assert_allclose(scores[name], without.mean(axis=1), rtol=1e-6)
        rides = (everyone == 1) & (without >= 1)
        np.testing.assert_allclose(scores[f"free_ride/{agent}"], rides.mean(axis=1))
        alone = correct[..., agent].mean(axis=1)
        np.testing.assert_allclose(scores[f"agent_accuracy/{agent}"], alone, rtol=1e-6)


class EvenIsRight:
    """A verifier without processes: the longer half of each problem's answers is right; every text is counted."""

    def begin(self, items):
        return list(items)

    def report(self, graded, *, quiet=False):
        pass

    def finish(self, items):
        graded = []
        for item in items:
            right = [len(text) % 2 == 0 for text in item.texts]
            classes = [len(text) for text in item.texts]
            graded.append(
                Graded(
                    scores=[float(is_right) for is_right in right],
                    answer_id=classes,
                    answers=list(item.texts),
                    failures=[""] * len(right),
                    gold_failure=None,
                    counts={"seen": len(right)},
                    parts={},
                )
            )
        return graded


@pytest.mark.parametrize("topology", [dyad(), voting(3)], ids=lambda t: t.name)
def test_filling_up_a_batch_counts_nowhere(topology):
    team = team_of(topology)
    weights = weights_of(team, topology.num_agents)
    problems = [Problem(str(i), text, "1", "exact") for i, text in enumerate(PROBLEMS[:5])]

    def found(count, **changes):
        config = dataclasses.replace(CONFIG, **changes)
        return evaluate(team, weights, problems[:count], EvenIsRight(), jax.random.key(0), config)

    five, four, three = found(5), found(4), found(3)
    rows = 2 * (
        3 if topology.name == "voting" else 2 + 1
    )  # the dyad's Solver answers once more, without the Thinker
    assert (five["problems"], five["verifier/seen"]) == (5, 5 * rows)
    assert three["verifier/seen"] == 3 * rows and three["decoded_tokens"] < four["decoded_tokens"]
    last = found(5, batch_size=1)["decoded_tokens"] - found(4, batch_size=1)["decoded_tokens"]
    assert 0 < five["decoded_tokens"] - four["decoded_tokens"] <= 2 * 12 * rows and last > 0


def test_the_same_key_gives_the_same_numbers():
    team = team_of(dyad())
    problems = [Problem(str(i), text, "1", "exact") for i, text in enumerate(PROBLEMS[:4])]
    once, again = (
        evaluate(
            team,
            weights_of(team, 2),
            problems,
            EvenIsRight(),
            jax.random.key(3),
            dataclasses.replace(CONFIG, greedy=True),
        )
        for _ in range(2)
    )
    assert once == again and "greedy/team_accuracy" in once and "greedy/maj_accuracy" not in once
    assert {name for name in once if "pass_at" in name} == {
        "pass_at_2",
        "pass_at_2/low",
        "pass_at_2/high",
    }
    assert once["pass_at_2"] >= once["team_accuracy"] > 0
    assert once["team_accuracy/low"] <= once["team_accuracy"] <= once["team_accuracy/high"]


def test_answers_at_temperature_0_are_not_decoded_twice():
    team = team_of(dyad())
    problems = [Problem(str(i), text, "1", "exact") for i, text in enumerate(PROBLEMS[:4])]
    batches = []
    scores = evaluate(
        team,
        weights_of(team, 2),
        problems,
        EvenIsRight(),
        jax.random.key(3),
        EvalConfig(samples=1, batch_size=4, greedy=True, sampling=SamplingParams(0.0)),
        between_batches=lambda: batches.append(1),
    )
    assert len(batches) == 1
    assert scores["greedy/team_accuracy"] == scores["team_accuracy"]


def test_alone_and_without_are_the_smaller_teams():
    """Greedy: each accuracy is that of a team which never had the others, rolled out and graded on its own."""
    policy = make_policy(small_config(), compute_dtype=jnp.float32, remat="none")
    weights = [policy.publish(small_params(seed, small_config())) for seed in range(3)]
    problems = [Problem(str(i), text, "1", "exact") for i, text in enumerate(PROBLEMS)]
    config = EvalConfig(samples=1, batch_size=8, greedy=False, sampling=SamplingParams(0.0))
    team = team_of(chain(3), policy=policy)
    found = evaluate(team, weights, problems, EvenIsRight(), jax.random.key(0), config)
    verdicts, teams = {}, {(0, 1, 2): "planner solver(0) checker(0,1)", (1,): "solver", (1, 2): "solver checker(0)",
                           (0, 2): "planner checker(0)"}  # fmt: skip
    for agents, line in teams.items():
        smaller = team_of(graph(line), policy=policy)
        spoken = rollout(
            smaller,
            [weights[a] for a in agents],
            PROBLEMS,
            jax.random.key(0),
            group_size=1,
            sampling=SamplingParams(temperature=0.0),
        )
        last = spoken.turns[-1]
        right = [
            len(said) % 2 == 0 and not cut
            for (said,), (cut,) in zip(last.texts, last.samples.truncated, strict=True)
        ]
        verdicts[agents] = np.array(right)
        name = {3: "team_accuracy", 1: "agent_accuracy/1"}.get(
            len(agents), f"without_agent_accuracy/{3 - sum(agents)}"
        )
        assert found[name] == pytest.approx(np.mean(right), abs=1e-6), name
    accuracies = [np.mean(right) for right in verdicts.values()]
    assert len(set(accuracies)) > 1 and max(accuracies) > 0
    for agents in ((1, 2), (0, 2)):
        both = np.mean(verdicts[0, 1, 2] & verdicts[agents])
        assert found[f"free_ride/{3 - sum(agents)}"] == pytest.approx(both, abs=1e-6)


def test_pass_at_k_of_every_power_of_two_and_of_all_samples():
    """One of six samples is right on the first problem, none on the second; of one sample there is no pass@k."""
    correct = np.zeros((1, 2, 6, 1))
    correct[0, 0, 4, 0] = 1
    team = SimpleNamespace(topology=solo())
    scores = _accuracies(team, answered(solo(), correct, np.zeros(correct.shape)))
    expected = {"pass_at_2": [2 / 6, 0], "pass_at_4": [4 / 6, 0], "pass_at_6": [1, 0]}
    assert {name for name in scores if name.startswith("pass_at")} == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name], values, rtol=1e-6)

    one = _accuracies(team, answered(solo(), correct[:, :, 4:5], np.zeros((1, 2, 1, 1))))
    assert one.keys() == {"team_accuracy", "maj_accuracy"}


def test_no_problems_have_no_accuracies():
    team = team_of(dyad())
    with raises_for("problems"):
        evaluate(team, weights_of(team, 2), [], EvenIsRight(), jax.random.key(0), CONFIG)


def test_fractional_scores_are_means_and_full_ones_are_counted():
    """World 0: both; 1: without the Thinker; 2: the thought alone. Nothing happens at one half."""
    classes = np.zeros((3, 1, 3, 2), int)
    classes[..., 1] = [0, 0, 1]
    correct = np.zeros((3, 1, 3, 2))
    correct[0, 0, :, 1] = [1.0, 0.6, 0.4]
    correct[1, 0, :, 1] = [1.0, 0.6, 0.9]
    correct[2, 0, :, 0] = [0.3, 1.0, 0.2]
    parts = {"form": np.array([0.25]), "unknown": np.array([np.nan])}
    reached = answered(dyad(), correct, classes)._replace(parts=parts)
    scores = _accuracies(SimpleNamespace(topology=dyad()), reached, True)
    expected = {"team_accuracy": 2 / 3, "maj_accuracy": 0.8, "solved": 1 / 3, "score/form": 0.25,
                "pass_at_2": 2 / 3, "pass_at_3": 1,
                "agent_accuracy/0": 0.5, "agent_solved/0": 1 / 3, "agent_accuracy/1": 2.5 / 3, "agent_solved/1": 1 / 3,
                "without_agent_accuracy/0": 2.5 / 3, "without_agent_accuracy/1": 0.5,
                "free_ride/0": 1 / 3, "free_ride/1": 0}  # fmt: skip
    assert scores.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(scores[name], [value], rtol=1e-6, err_msg=name)


class LengthIsScore(EvenIsRight):
    """A verifier whose score has two parts; of the greedy answer only one is there."""

    def finish(self, items):
        graded = []
        for verdicts in super().finish(items):
            scores = [0.5 * right for right in verdicts.scores]
            graded.append(verdicts._replace(scores=scores, parts={"a/b": scores}))
        return graded


def test_an_evaluation_names_parts_and_full_scores_with_intervals():
    team = team_of(voting(3))
    problems = [Problem(str(i), text, "1", "exact") for i, text in enumerate(PROBLEMS[:5])]
    config = dataclasses.replace(CONFIG, greedy=True)
    found = {}
    for pool in (EvenIsRight(), LengthIsScore()):
        found[type(pool)] = evaluate(
            team, weights_of(team, 3), problems, pool, jax.random.key(3), config
        )
    verdicts, scores = found.values()
    new = set(scores) - set(verdicts)
    names = {"solved", "score/a_b", *(f"agent_solved/{k}" for k in range(3))}
    assert new == {
        f"{greedy}{name}{edge}"
        for greedy in ("", "greedy/")
        for name in names
        for edge in ("", "/low", "/high")
    }
    assert verdicts["team_accuracy"] > 0 and scores["solved"] == 0
    for name in ("team_accuracy", "team_accuracy/low", "maj_accuracy", "agent_accuracy/1/high"):
        assert scores[name] == pytest.approx(verdicts[name] / 2)
    assert scores["score/a_b"] == pytest.approx(scores["team_accuracy"])
