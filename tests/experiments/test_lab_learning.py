"""Learning on tables, its gradient against finite differences; the signal against brute force."""

import csv
import itertools

import numpy as np
import pytest

from ccpo_jax.rl.credit import make_credit
from ccpo_jax.rl.topology import voting
from experiments.credit_lab import (
    c3_diagnostics,
    learning,
    policy_gradient,
    signal,
    voter_tasks,
)
from experiments.credit_lab.evidence import gather, gradient_of_team
from experiments.credit_lab.sampled_truth import known_truth, sampled_truth
from experiments.credit_lab.tabular import SKILLS, random_team, replaced, softmax, truth

pytestmark = pytest.mark.experiments


def vote(answers: tuple[int, ...], silence: int) -> float:
    """Chance that answer 0 wins, counted with a dictionary."""
    counts: dict[int, int] = {}
    for answer in answers:
        if answer != silence:
            counts[answer] = counts.get(answer, 0) + 1
    top = [answer for answer, count in counts.items() if count == max(counts.values())]
    return (0 in top) / len(top) if top else 0.0


def expected_reward(task: voter_tasks.Task, logits: np.ndarray) -> float:
    """E[R] of who_knows by enumeration of who is informed and of all answers."""
    voters = task.topology.num_agents
    classes = task.answers.shape[-1]
    total = 0.0
    for informed in range(voters):
        odds = []
        for voter in range(voters):
            context = 0 if voter == informed else 1
            odds.append(softmax(logits[voter, context]) @ task.answers[context])
        for answers in itertools.product(range(classes), repeat=voters):
            chance = np.prod([odds[voter][answer] for voter, answer in enumerate(answers)])
            total += chance * vote(answers, classes - 1) / voters
    return total


TASK = voter_tasks.who_knows(3)._replace(prompts=256)


@pytest.fixture(scope="module")
def finite_differences() -> np.ndarray:
    found = np.zeros_like(TASK.logits)
    for index in np.ndindex(found.shape):
        step = np.zeros_like(found)
        step[index] = 1e-4
        up = expected_reward(TASK, TASK.logits + step)
        found[index] = (up - expected_reward(TASK, TASK.logits - step)) / 2e-4
    return found


@pytest.mark.parametrize("name", ["shared", "difference", "none", "mean_of_others", "individual"])
def test_the_gradient_is_that_of_the_expected_reward(name, finite_differences):
    """Within 5 standard errors of 32 estimates; what each voter's own score climbs is another."""
    arm = policy_gradient.ARMS[name]
    estimator = make_credit(arm.credit, TASK.topology)
    logits = np.repeat(TASK.logits[None], 32, axis=0)
    rngs = [np.random.default_rng(seed) for seed in range(32)]
    batch = voter_tasks.draw_batch(
        TASK, logits, rngs, group=2, prompts=TASK.prompts, ablated=estimator.needs.ablated
    )
    step = policy_gradient.make_credit_step(arm, estimator)
    advantages, _ = step((), batch.outcome)
    found = policy_gradient.ascent(arm, logits, batch, advantages)
    error = found.std(axis=0, ddof=1) / np.sqrt(32)
    miss = np.abs(found.mean(axis=0) - finite_differences)
    assert (np.all(miss <= 5 * error + 2e-4)) == (name != "individual")


def test_without_reward_the_entropy_falls():
    arm = policy_gradient.ARMS["no_reward"]
    rng = [np.random.default_rng(0)]
    batch = voter_tasks.draw_batch(TASK, TASK.logits[None], rng, group=2, prompts=512, ablated=())
    found = policy_gradient.ascent(arm, TASK.logits[None], batch, np.zeros((1, 3, 512, 2)))[0, 0]

    def entropy(logits):
        odds = softmax(logits)
        return -(odds * np.log(np.maximum(odds, 1e-300))).sum()

    share = (batch.contexts[0, :, 0] == 0).mean()
    for word in range(3):
        step = np.eye(3)[word] * 1e-5
        slope = (entropy(TASK.logits[0, 0] + step) - entropy(TASK.logits[0, 0] - step)) / 2e-5
        assert found[0, word] == pytest.approx(-0.2 * share * slope, abs=1e-6)


def test_evaluation_is_what_enumeration_finds():
    reward, greedy = policy_gradient.evaluate(TASK, TASK.logits[None], problems=20000)
    assert reward[0] == pytest.approx(expected_reward(TASK, TASK.logits), abs=0.01)
    hard = np.where(TASK.logits == TASK.logits.max(-1, keepdims=True), 0.0, -1e9)
    assert greedy[0] == pytest.approx(expected_reward(TASK, hard), abs=0.01)


@pytest.mark.parametrize("guessers, expected", [(3, 0.0), (2, 1 / 3), (1, 2 / 3), (0, 1.0)])
def test_greedy_voters_of_parts_make_the_same_guess(guessers, expected):
    """Two of them outvote the informed voter, one ties with it."""
    task = voter_tasks.parts(3)
    logits = task.logits.copy()
    logits[:, 1] = np.eye(3)[[0] * guessers + [2] * (3 - guessers)]
    _, greedy = policy_gradient.evaluate(task, logits[None], problems=20000)
    assert greedy[0] == pytest.approx(expected, abs=0.02)


def test_parts_begins_with_the_habits_of_the_embedded_model():
    task = voter_tasks.parts(9)
    informed, uninformed = softmax(task.logits[4])
    assert informed[2] == pytest.approx(0.02) and uninformed[2] == pytest.approx(0.41)
    assert uninformed[1] == 0 and informed[0] < 0.94
    # Untrained at T = 1 the study measured .15.
    reward, greedy = policy_gradient.evaluate(task, task.logits[None], problems=8192)
    assert reward[0] == pytest.approx(0.15, abs=0.02) and greedy[0] == 0


def test_learning_writes_every_run_and_its_controls(tmp_path, capsys):
    arguments = ["--task=who_knows_3", "--arm=shared,none", "--seeds=2", "--steps=10"]
    assert learning.main([*arguments, f"--out={tmp_path}"]) == 0
    rows = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert [(row["arm"], row["seed"]) for row in rows] == [
        (arm, seed) for arm in ("shared", "none") for seed in "01"
    ]
    page = (tmp_path / "learning.md").read_text()
    assert "| untrained" in page and "`none` (control)" in page
    assert learning.main(["--task=all", "--out=x"]) == 2
    assert "task: 'all' is unknown" in capsys.readouterr().err


# Signal


def test_signal_is_what_brute_force_finds():
    """Two voters of one prompt and three words: all groups of two samples, one after the other."""
    team = random_team(voting(2), prompts=1, words=3, seed=3)
    odds = [team.tables[voter, ()][0] for voter in range(2)]
    known = truth(team)
    exact = np.concatenate([gradient[0] for gradient in known.gradient])
    snr = {}
    for name in ("shared", "difference"):
        mean, square = np.zeros(6), 0.0
        for words in itertools.product(range(3), repeat=4):
            sample = np.array(words).reshape(2, 2)
            chance = np.prod([odds[voter][sample[g, voter]] for g in (0, 1) for voter in (0, 1)])
            credit = np.zeros((2, 2))
            for g, voter in np.ndindex(2, 2):
                credit[g, voter] = vote(tuple(sample[g]), 2)
                if name == "difference":
                    credit[g, voter] -= vote((int(sample[g, 1 - voter]),), 2)
            gap = credit[0] - credit[1]
            gradient = []
            for voter in (0, 1):
                score = np.eye(3)[sample[:, voter]] - odds[voter]
                gradient.append(gap[voter] * (score[0] - score[1]) / 2)
            gradient = np.concatenate(gradient)
            mean += chance * gradient
            square += chance * gradient @ gradient
        snr[name] = (mean @ exact) ** 2 / (exact @ exact) / (square - mean @ mean)

    for name, expected in snr.items():
        rng = np.random.default_rng(0)
        evidence = gather(team, known, make_credit(name, voting(2)), rng, group=2, replicates=2000)
        values = gradient_of_team(evidence, rng, draws=20)["snr"]
        assert values[0] == pytest.approx(expected, abs=4 * np.std(values[1:]))
        assert np.std(values[1:]) < 0.2 * expected


def test_the_chance_of_a_tie_is_counted():
    for agents in (3, 5, 9):
        ties = sum(
            2 * sum(others) == agents - 1 for others in itertools.product((0, 1), repeat=agents - 1)
        )
        assert signal.chance_of_a_tie(agents) == ties / 2 ** (agents - 1)
    assert (
        signal.predicted("cross_play:pairings=64", 3) == 4 and signal.predicted("ccpo", 3) is None
    )


# Sampled truth


def test_sampled_truth_is_the_enumerated_one_within_its_error():
    team = random_team(voting(3), prompts=3, seed=1)
    exact = truth(team)
    sampled = sampled_truth(team, np.random.default_rng(0), teams=512)
    error = sampled.contributions.std(axis=0, ddof=1) / np.sqrt(len(sampled.contributions))
    assert np.all(np.abs(sampled.contribution - exact.contribution) < 5 * error + 1e-6)
    np.testing.assert_allclose(sampled.reward, exact.reward, atol=0.02)
    for found, true in zip(sampled.gradient, exact.gradient, strict=True):
        np.testing.assert_allclose(found, true, atol=0.02)
    silent = sampled_truth(replaced(team, 1, "silent"), np.random.default_rng(0), teams=64)
    assert np.all(silent.contribution[1] == 0)


def test_noise_of_the_truth_is_no_bias():
    """One team an estimate: much of the truth is noise, and the intervals say so."""
    team = random_team(voting(3), prompts=8, seed=1)
    known = sampled_truth(team, np.random.default_rng(0), teams=1)
    rng = np.random.default_rng(1)
    evidence = gather(team, known, make_credit("shared", voting(3)), rng, group=6, replicates=60)
    values = gradient_of_team(evidence, rng, draws=100)
    for figure, target in (("bias", 0.0), ("scale", 1.0)):
        spread = np.std(values[figure][1:])
        assert abs(values[figure][0] - target) < 4 * spread and spread > 0.01

    # Taken for exact, the same truth would look like a bias.
    naive = known._replace(contributions=None, gradients=None)
    rng = np.random.default_rng(1)
    evidence = gather(team, naive, make_credit("shared", voting(3)), rng, group=6, replicates=60)
    assert gradient_of_team(evidence, rng, draws=20)["bias"][0] > values["bias"][0] + 0.03


def test_large_teams_are_sampled_and_equally_able():
    known = known_truth(random_team(voting(12), prompts=1, seed=0))
    assert known.contributions is not None and len(known.contribution) == 12
    right = [np.mean([random_team(voting(9), prompts=64, seed=0).tables[k, ()][:, 0]]) for k in range(9)]  # fmt: skip
    assert abs(np.polyfit(range(9), right, 1)[0]) < 0.01
    uneven = random_team(voting(3), prompts=64, seed=0, skills="uneven")
    assert uneven.tables[0, ()][:, 0].mean() > 0.2 + uneven.tables[1, ()][:, 0].mean()
    assert set(SKILLS) == {"equal", "uneven"}


# C3's diagnostics


def test_credit_fidelity_pools_all_contexts():
    import scipy.stats

    rng = np.random.default_rng(0)
    found, true = rng.integers(0, 4, (2, 3, 5, 6)).astype(float)
    expected = [scipy.stats.spearmanr(found[:, r].ravel(), true[:, r].ravel())[0] for r in range(5)]
    np.testing.assert_allclose(c3_diagnostics.credit_fidelity(found, true), expected, atol=1e-12)
    assert np.all(c3_diagnostics.credit_fidelity(np.ones((2, 5, 3)), true[:2, :, :3]) == 0)


def test_variance_within_a_context_is_a_scalar_loop():
    rng = np.random.default_rng(1)
    advantages, contexts = rng.normal(size=(2, 3, 6)), rng.integers(0, 3, (2, 3, 6))
    found = c3_diagnostics.contextual_variance(advantages, contexts)
    for b, r in np.ndindex(2, 3):
        of_context = [advantages[b, r][contexts[b, r] == c] for c in range(3)]
        variances = [values.var() for values in of_context if len(values) >= 2]
        assert found[b, r] == pytest.approx(np.mean(variances))


def test_influence_is_the_information_that_a_reader_takes_up():
    from ccpo_jax.rl.topology import chain, dyad

    team = random_team(dyad(), prompts=1, words=3, seed=0)
    thinker, solver = team.tables[0, ()][0], team.tables[1, (True,)][0]
    answer = thinker @ solver
    expected = sum(
        thinker[i] * solver[i, j] * np.log(solver[i, j] / answer[j])
        for i, j in itertools.product(range(3), repeat=2)
    )
    assert c3_diagnostics.influence(team)[:, 0] == pytest.approx([expected, 0.0])
    assert np.all(c3_diagnostics.influence(random_team(voting(3), prompts=2)) == 0)
    assert np.all(c3_diagnostics.influence(random_team(chain(3), prompts=1))[:2] > 0)
