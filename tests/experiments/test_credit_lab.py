"""The credit laboratory against enumeration: of what is true, of what estimators do, and of those that lie."""

import csv
import types
import xml.etree.ElementTree
from typing import NamedTuple

import jax
import numpy as np
import pytest
import scipy.stats

from ccpo_jax import make_credit
from ccpo_jax.config import BASELINES
from ccpo_jax.rl.advantages import leave_one_out_advantage
from ccpo_jax.rl.credit import CREDITS
from ccpo_jax.rl.topology import agent_masks, all_subsets, chain, debate, dyad, voting
from ccpo_jax.rl.types import CreditEstimator, Needs, Outcome
from experiments.credit_lab import __main__ as credit_lab
from experiments.credit_lab import baselines, comparison, pools, tabular
from experiments.credit_lab.claims import CLAIMS, Claim
from experiments.credit_lab.comparison import Effort, Replacement, study
from experiments.credit_lab.evidence import gather, spearman, summarise
from experiments.credit_lab.interval_panels import interval_panels
from experiments.credit_lab.tabular import random_team, replaced, truth
from tests.support.enumeration import (
    enumerate_groups,
    gradient_estimates,
    logit_tables,
    mean_and_variance,
    rated_dyad,
    rated_gradients,
    softmax,
    team_gradient,
)

TEAMS = {"dyad": dyad(), "chain": chain(3), "debate": debate(2), "voting": voting(3)}


def two_words(team, seed=0) -> tabular.TabularTeam:
    """The team that `enumerate_groups` enumerates: word 0 is right, word 1 is wrong."""
    tables = logit_tables(team, 2, agent_masks(team.num_agents, all_subsets(team.num_agents)), seed)
    turns = range(len(team.roles))
    right, label, wrong = np.float32([[1, 0]]), np.array([[0, 1]]), np.array([1])
    same = (tuple(x for _ in turns) for x in (right, label, wrong, (1.0, 1.0)))
    return tabular.TabularTeam(
        team, {k: softmax(logits)[None] for k, logits in tables.items()}, *same
    )


# What is true


@pytest.mark.parametrize("team", ["chain", "debate"])
def test_truth_is_what_enumeration_finds(team):
    team = TEAMS[team]
    known = truth(two_words(team))
    single = tuple((k,) for k in range(team.num_agents))
    groups = enumerate_groups(team, single)
    reward = groups.outcome.reward[..., 0] @ groups.probability
    np.testing.assert_allclose(known.reward[0], reward[0], atol=1e-6)
    np.testing.assert_allclose(known.contribution[:, 0], reward[0] - reward[1:], atol=1e-6)
    np.testing.assert_allclose(
        np.concatenate(known.gradient, axis=1)[0], team_gradient(team, single), atol=1e-6
    )


def test_true_advantages_of_a_dyad_by_hand():
    team = two_words(dyad())
    thinker, solver = team.tables[0, ()][0], team.tables[1, (True,)][0]
    known = truth(team)
    value = solver[:, 0]
    np.testing.assert_allclose(known.advantage[0][0], value - thinker @ value, atol=1e-12)
    np.testing.assert_allclose(
        known.advantage[1][0].reshape(2, 2), [[1 - v, -v] for v in value], atol=1e-12
    )


@pytest.mark.parametrize("team", TEAMS.values(), ids=TEAMS)
def test_silence_changes_nothing_and_a_misleading_agent_harms(team):
    known = truth(random_team(team, prompts=3, seed=1))
    assert known.contribution[0].max() > 0.05
    silent = truth(replaced(random_team(team, prompts=3, seed=1), 0, "silent"))
    np.testing.assert_allclose(silent.contribution[0], 0, atol=1e-12)
    np.testing.assert_allclose(silent.reward, known.reward - known.contribution[0], atol=1e-6)
    misleading = truth(replaced(random_team(team, prompts=3, seed=1), 0, "misleading"))
    assert misleading.contribution[0].max() < -0.01


# What estimators do

CASES = {
    "dyad": ["shared", "ccpo", "ccpo_event", "nested", "pooled", "sepo", "cross_read"],
    "chain": ["difference", "agent_norm"],
    "debate": ["individual", "shapley"],
    "voting": ["magrpo", "cross_play"],
}


class Case(NamedTuple):
    """A team and an estimator; its credit and gradients in every group of two that can be drawn, likely or not."""

    tables: tabular.TabularTeam
    estimator: CreditEstimator
    credit: np.ndarray  # [A, N, G]
    gradients: np.ndarray  # [N, parameters]
    probability: np.ndarray  # [N]
    true: np.ndarray  # [parameters]


def enumerated(team, name: str) -> Case:
    estimator = make_credit(name, team, **({"answers": 2} if name in ("nested", "pooled") else {}))
    tables, true = two_words(team), team_gradient(team, all_subsets(team.num_agents))
    if name == "sepo":
        rated = rated_dyad(np.concatenate([tables.tables[0, ()], tables.tables[1, (True,)][0]]))
        raters = np.zeros((2, 1, 2, 2, len(tabular.SPLITS)))
        raters[..., [1, 8]] = rated.odds_of_split[
            :, None
        ]  # where the two splits stand among the nine
        credit = np.asarray(estimator.update((), rated.outcome)[0])
        gradients, probability = rated_gradients(rated, np.asarray(leave_one_out_advantage(credit)))
        return Case(
            tables._replace(raters=raters),
            estimator,
            credit,
            gradients.reshape(-1, 6),
            probability,
            true,
        )
    needs = estimator.needs
    groups = enumerate_groups(team, needs.ablated, group=2, answers=needs.answers_per_text)
    state = estimator.init()
    if state != ():  # what it remembers of many groups
        drawn = np.random.default_rng(0).choice(
            len(groups.probability), 20000, p=groups.probability
        )
        before = Outcome(*(x[:, drawn] for x in groups.outcome[:3]), groups.outcome.agent_mask)
        state = jax.jit(estimator.update)(state, before)[1]
    advantage = "none" if estimator.baseline.kind == "none" else "leave_one_out"
    gradients = gradient_estimates(team, estimator, groups, advantage, state)
    credit, _ = jax.jit(estimator.update)(state, groups.outcome)
    return Case(tables, estimator, np.asarray(credit), gradients, groups.probability, true)


def figures_of(case: Case) -> dict:
    """The lab's figures, exactly."""
    mean, variance = mean_and_variance(case.gradients, case.probability)
    onto, power = mean @ case.true, case.true @ case.true
    found = {("team", "scale"): onto / power, ("team", "variance"): variance}
    found["team", "bias"] = 1 - onto**2 / (mean @ mean * power)
    found["team", "snr"] = onto**2 / power / variance
    return found | {
        (k, "credit"): of_agent.mean(-1) @ case.probability
        for k, of_agent in enumerate(case.credit)
    }


@pytest.fixture(scope="module")
def misses() -> list[float]:
    """By how many deviations each figure of each case misses what enumeration finds."""
    found = []
    for team, names in CASES.items():
        for seed, name in enumerate(names):
            case = enumerated(TEAMS[team], name)
            rng, known = np.random.default_rng(seed), truth(case.tables)
            summary = summarise(gather(case.tables, known, case.estimator, rng, group=2, replicates=3000), known, rng,
                                draws=100)  # fmt: skip
            for (who, metric), exact in figures_of(case).items():
                value, low, high = summary.interval(who, metric, 1.0)
                assert high - low < 0.4 * max(abs(value), 0.2), (
                    team,
                    name,
                    metric,
                )  # or it would say nothing
                if high - low > 1e-6:
                    found.append((value - exact) / (high - value))
                    assert abs(found[-1]) < 4, (team, name, who, metric, value, exact)
                else:
                    assert value == pytest.approx(exact, abs=1e-5)
    return found


def test_the_lab_agrees_with_enumeration_within_its_intervals(misses):
    """No figure misses by 4 deviations, and they miss by one on average: intervals are as wide as they say."""
    assert {name for names in CASES.values() for name in names} == set(CREDITS)
    assert len(misses) > 50
    assert 0.7 < np.sqrt(np.mean(np.square(misses))) < 1.3
    assert 0.88 < np.mean(np.abs(misses) < 1.96) <= 1.0


def test_noise_of_few_groups_is_no_bias_and_no_signal():
    """Eight groups on each of 200 prompts that are the same."""
    case = enumerated(dyad(), "shared")
    one = case.tables
    many = one._replace(
        tables={key: np.repeat(table, 200, axis=0) for key, table in one.tables.items()},
        **{
            name: tuple(np.repeat(x, 200, axis=0) for x in getattr(one, name))
            for name in ("right", "label", "wrong")
        },
    )
    rng, known = np.random.default_rng(0), truth(many)
    evidence = gather(many, known, case.estimator, rng, group=2, replicates=8)
    found, exact = summarise(evidence, known, rng, draws=20).figures, figures_of(case)
    assert found["team", "bias"][0] == pytest.approx(exact["team", "bias"], abs=0.2)
    assert found["team", "variance"][0] == pytest.approx(exact["team", "variance"], rel=0.1)


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    found, true = rng.integers(0, 4, (2, 50, 6)).astype(float)
    keep = (np.ptp(found, axis=1) > 0) & (np.ptp(true, axis=1) > 0)
    expected = [
        scipy.stats.spearmanr(a, b).statistic for a, b in zip(found[keep], true[keep], strict=True)
    ]
    np.testing.assert_allclose(spearman(found, true)[keep], expected, atol=1e-12)
    assert spearman(np.zeros(3), np.arange(3.0)) == 0 and np.isnan(
        spearman(np.arange(3.0), np.zeros(3))
    )


# Free riders, saboteurs, and estimators that do not tell the truth


@pytest.fixture(scope="module")
def studies() -> dict:
    """(team, replacement) -> study of every estimator that fits."""
    found = {}
    for topology in (voting(3), dyad()):
        bare = random_team(topology, prompts=4, seed=2)
        estimators, _ = comparison.fitting(comparison.parse_estimators(""), bare, strict=False)
        for how in tabular.REPLACEMENTS:
            team = replaced(bare, 0, how)
            found[topology.name, how] = study(
                how,
                team,
                estimators,
                replacement=Replacement(0, how),
                effort=Effort(samples=6, replicates=150, draws=60, seed=3),
            )
    return found


def test_every_estimator_keeps_what_it_claims(studies):
    assert (
        set(CLAIMS) == set(CREDITS) == {name for one in studies.values() for name in one.summaries}
    )
    assert [v.text for one in studies.values() for v in one.verdicts if not v.holds] == []
    looked_at = {
        (v.text.partition(":")[0], v.claim) for one in studies.values() for v in one.verdicts
    }
    claimed = {(n, kind) for n, c in CLAIMS.items() for kind in ("contribution", "silent", "saboteur", "gradient")
               if getattr(c, kind)}  # fmt: skip
    assert looked_at == claimed


@pytest.mark.parametrize(
    "topology, baseline", [(voting(3), "surprisal"), (dyad(), "optimal:pool=others")]
)
def test_a_mean_of_other_prompts_is_no_bias(topology, baseline):
    team, names = random_team(topology, prompts=4, seed=2), ("shared", "difference")
    estimators = {name: make_credit(name, topology) for name in names}
    rule = baselines.parse_baseline(baseline)
    effort = Effort(samples=2, replicates=300, draws=60, seed=3, advantage=rule)
    one = study("", team, estimators, effort=effort)
    assert [v.text for v in one.verdicts if not v.holds] == []
    assert {v.claim for v in one.verdicts} == {"contribution", "gradient"}


def test_advantages_are_those_of_each_replicate_alone():
    """Of every baseline, with the weights read off the tables."""
    team = random_team(dyad(), prompts=3, seed=4)
    estimator = make_credit("shared", dyad())
    drawn = tabular.draw(team, np.random.default_rng(0), replicates=2, group=4)
    credit = np.random.default_rng(1).normal(size=(2, 6, 4)).astype(np.float32)

    # [A, B * R, G] probability of each text, and of two draws of its table that agree.
    likelihood, agree = np.zeros((2, 2, 6, 4))
    for turn, table in enumerate((team.tables[0, ()], team.tables[1, (True,)])):
        for place, cell in np.ndenumerate(drawn.cells[turn]):
            row, word = divmod(int(cell), 4)
            odds = table[place[0] // 2].reshape(-1, 4)[row]
            likelihood[turn][place], agree[turn][place] = odds[word], np.square(odds).sum()
    weights = {
        "weighted": -np.log(likelihood),
        "optimal": 1 - 2 * likelihood + agree,
        "opo": np.ones(credit.shape),
    }
    for name in BASELINES:
        rule = baselines.parse_baseline(name)
        centre = baselines.centring(rule, estimator, team.prompts)
        found = centre(credit, rule.weights(dyad(), drawn.rollouts, drawn.outcome))
        for replicate in range(2):
            of_replicate = slice(replicate, None, 2)
            weight = weights.get(name)
            alone = rule(
                credit[:, of_replicate], None if weight is None else weight[:, of_replicate]
            )
            np.testing.assert_allclose(found[:, of_replicate], alone, atol=1e-5, err_msg=name)


def test_no_gradient_is_claimed_with_the_mean_of_the_group(capsys):
    estimators = {"difference": make_credit("difference", voting(3))}
    team = random_team(voting(3), prompts=2, seed=2)
    for name in ("trained", "asymmetric:delta=-0.5"):
        rule = baselines.parse_baseline(name)
        effort = Effort(samples=4, replicates=8, draws=20, advantage=rule)
        verdicts = study("", team, estimators, effort=effort).verdicts
        assert {verdict.claim for verdict in verdicts} == {"contribution"}
    assert capsys.readouterr().err == "note: --advantage=trained is now called group\n"
    assert rule.delta == -0.5


@pytest.mark.parametrize("team", ["voting", "dyad"])
def test_claimed_credit_of_free_riders_and_saboteurs(team, studies):
    for name, claim in CLAIMS.items():
        if name not in studies[team, "none"].summaries:
            continue
        _, low, high = studies[team, "silent"].summaries[name].interval(0, "credit", 4)
        assert not claim.silent or low <= 0 <= high
        _, low, high = studies[team, "misleading"].summaries[name].interval(0, "credit", 4)
        assert not claim.saboteur or high < 0
    for how in ("silent", "misleading"):  # the shared reward pays them, and well
        assert studies[team, how].summaries["shared"].interval(0, "credit", 4)[1] > 0.1


def planted(update) -> CreditEstimator:
    """An estimator that reads what `difference` reads."""
    return CreditEstimator(
        lambda: (), lambda state, outcome: (update(outcome), state), Needs(ablated=(0, 1, 2))
    )


def neighbours(outcome):
    """Pays every voter its neighbour's contribution."""
    return (outcome.reward[:1] - outcome.reward[1:])[np.array([1, 2, 0])]


def own_luck(outcome):
    """Takes a tenth of one's own correctness into the baseline."""
    return outcome.reward[:1] - outcome.reward[1:] - 0.1 * np.moveaxis(outcome.correct[0], -1, 0)


def never_blames(outcome):
    """Cuts contributions at 0."""
    return (outcome.reward[:1] - outcome.reward[1:]).clip(0)


@pytest.mark.parametrize("wrong, claims", [
    (neighbours, {"contribution", "gradient", "saboteur"}),
    (own_luck, {"contribution", "gradient"}),
    (never_blames, {"contribution", "gradient", "saboteur"}),
])  # fmt: skip
def test_a_wrong_estimator_is_found_out(wrong, claims):
    found = set()
    for how in ("none", "misleading"):
        team = replaced(random_team(voting(3), prompts=4, seed=2), 0, how)
        one = study(
            how,
            team,
            {"wrong": planted(wrong)},
            replacement=Replacement(0, how),
            effort=Effort(samples=6, replicates=300, draws=60, seed=1),
            claims={"wrong": Claim("it lies", True, True, True, "exact")},
        )
        found |= {v.claim for v in one.verdicts if not v.holds}
    assert found == claims


def test_one_that_pays_free_riders_is_found_out():
    team = replaced(random_team(voting(3), prompts=4, seed=2), 0, "silent")
    one = study(
        "silent",
        team,
        {"shared": make_credit("shared", voting(3))},
        replacement=Replacement(0, "silent"),
        effort=Effort(samples=6, replicates=50, draws=60),
        claims={"shared": Claim("it lies", silent=True)},
    )
    assert [v.claim for v in one.verdicts if not v.holds] == ["silent"]


def test_who_cannot_be_masked_is_held_to_no_contribution():
    team = replaced(random_team(dyad(), prompts=2, seed=2), 1, "misleading")
    one = study(
        "a solver",
        team,
        {"difference": make_credit("difference", dyad())},
        replacement=Replacement(1, "misleading"),
        effort=Effort(samples=6, replicates=50, draws=60),
    )
    assert (
        one.known.contribution[1].mean() < 0 <= one.summaries["difference"].figures[1, "credit"][0]
    )
    assert "saboteur" not in {v.claim for v in one.verdicts} and all(v.holds for v in one.verdicts)


# Real teams


def test_a_pool_of_voters_is_what_they_said():
    """Two voters, five answers each: classes 0 (right), 1 and 2, and none."""
    ids = np.array([[0, 1], [0, 1], [1, -1], [0, 0], [-1, 2]])
    words = pools._read_voters(
        None,
        types.SimpleNamespace(answer_id=ids[None, None], correct=(ids == 0)[None, None]),
        None,
        0,
    )
    team = pools._voters_team(voting(2), [words], ((1.0, 0.0),) * 2)
    np.testing.assert_allclose(team.tables[0, ()][0], [0.6, 0.2, 0, 0, 0.2])
    np.testing.assert_allclose(team.tables[1, ()][0], [0.2, 0.4, 0.2, 0, 0.2])
    assert team.right[0][0].tolist() == [1, 0, 0, 0, 0] and team.label[1][0].tolist() == [
        0,
        1,
        2,
        3,
        -1,
    ]
    assert team.wrong[0].tolist() == [1]
    pairs = [(a, b) for a in ids[:, 0] for b in ids[:, 1]]
    votes = [[x for x in pair if x >= 0] for pair in pairs]
    assert truth(team).reward[0] == pytest.approx(
        np.mean([v.count(0) / len(v) if v else 0 for v in votes])
    )


def dyad_words(answers, solos, silent=()):
    """Three thoughts, two of them the same, with two answers each, and three solo answers."""
    cut = np.zeros((1, 9), bool)
    solver = types.SimpleNamespace(
        rows=lambda world: slice(6, 9), samples=types.SimpleNamespace(truncated=cut)
    )
    spoken = types.SimpleNamespace(turns=[types.SimpleNamespace(texts=[["b", "a", "b"]]), solver])
    correct = np.zeros((2, 1, 6, 2), np.float32)
    correct[0, 0, :, 1] = answers
    ids = np.where(correct > 0, 0, 1)
    ids[0, 0, silent, 1] = -1
    reward = np.stack([correct[0, ..., 1], np.full((1, 6), np.mean(solos))])
    outcome = types.SimpleNamespace(answer_id=ids, correct=correct, reward=reward)
    graded = types.SimpleNamespace(scores=[0.0] * 3 + answers + solos)
    return pools._read_dyad(spoken, outcome, graded, 0)


def test_a_pool_of_a_dyad_joins_equal_thoughts():
    words = dyad_words([1, 0, 0, 0, 1, 1], [0, 1, 0], silent=[2])
    team = pools._dyad_team(dyad(), [words], ((3.0, 0.0), (2.0, 4.0)))
    np.testing.assert_allclose(team.tables[0, ()][0], [1 / 3, 2 / 3, 0])
    np.testing.assert_allclose(
        team.tables[1, (True,)][0], [[0, 0.5, 0.5], [0.75, 0.25, 0], [1 / 3, 2 / 3, 0]]
    )
    known = truth(team)
    assert known.reward[0] == pytest.approx(0.5) and known.contribution[0, 0] == pytest.approx(
        0.5 - 1 / 3
    )
    assert truth(replaced(team, 0, "silent")).contribution[0, 0] == pytest.approx(0, abs=1e-12)
    assert truth(replaced(team, 0, "misleading")).contribution[0, 0] == pytest.approx(-1 / 3)


def test_a_pool_of_a_dyad_keeps_fractional_scores():
    """The words of the Solver are the scores 1, 0.9, 0.6, 0.4 and 0, then silence; another prompt has verdicts alone."""
    fractions = dyad_words([0.4, 0.6, 0.0, 0.9, 1.0, 0.4], [0.4, 0.4, 0.0], silent=[2])
    np.testing.assert_allclose(fractions.levels, [1, 0.9, 0.6, 0.4, 0], rtol=1e-6)
    verdicts = dyad_words([1, 0, 0, 0, 1, 1], [0, 1, 0])
    team = pools._dyad_team(dyad(), [fractions, verdicts], ((3.0, 0.0), (2.0, 4.0)))
    np.testing.assert_allclose(team.tables[1, (False,)][0], [0, 0, 0, 2 / 3, 1 / 3, 0], rtol=1e-6)
    np.testing.assert_allclose(team.tables[1, (True,)].sum(-1), 1, rtol=1e-6)
    known = truth(team)
    np.testing.assert_allclose(known.reward, [3.3 / 6, 0.5], rtol=1e-6)
    np.testing.assert_allclose(known.contribution[0], [3.3 / 6 - 0.8 / 3, 0.5 - 1 / 3], rtol=1e-6)
    misled = truth(replaced(team, 0, "misleading")).reward
    np.testing.assert_allclose(misled, [0.45, 0.0], atol=1e-6)
    np.testing.assert_allclose(truth(replaced(team, 1, "misleading")).reward, 0, atol=1e-6)
    assert 0 < pools._noise([fractions]) < 1e3


def test_claims_hold_for_a_team_with_partly_right_words():
    """Word 1 scores 0.4 and word 2 misleads."""
    team = random_team(voting(3), prompts=4, seed=2)
    right = np.where(np.arange(4) == 1, np.float32(0.4), team.right[0])
    team = team._replace(right=(right,) * 3, wrong=(np.full(4, 2),) * 3)
    names = ("shared", "difference", "cross_play", "individual")
    for how in ("silent", "misleading"):
        one = study(
            how,
            replaced(team, 1, how),
            {name: make_credit(name, voting(3)) for name in names},
            replacement=Replacement(1, how),
            effort=Effort(samples=4, replicates=60, draws=60),
        )
        assert one.verdicts and all(verdict.holds for verdict in one.verdicts)


def test_a_real_team_and_its_report(tmp_path, capsys):
    arguments = [
        "--config=configs/dyad.py:tiny",
        "--prompts=2",
        "--pool=6",
        "--answers=2",
        "--replicates=20",
    ]
    arguments += [
        "--samples=4",
        "--draws=20",
        f"--out={tmp_path}",
        "--estimators=shared,difference,nested:answers=2",
    ]
    assert credit_lab.main(arguments) in (0, 1)  # of so few groups a claim may be missed by chance
    report = (tmp_path / "report.md").read_text()
    assert "configs/dyad.py:tiny, untrained" in report and "| `nested:answers=2` |" in report
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    cost = {row["estimator"]: float(row["decoded"]) for row in rows if row["decoded"]}
    assert (
        4 * 10 < cost["shared"] <= 4 * (18 + 22) and 0.5 < cost["difference"] / cost["shared"] <= 1
    )


# The command line


def test_tables_in_and_files_out(tmp_path, capsys):
    arguments = [
        "--team=tabular_dyad",
        "--prompts=2",
        "--samples=4",
        "--replicates=20",
        "--draws=20",
    ]
    assert credit_lab.main([*arguments, f"--out={tmp_path / 'a'}"]) in (0, 1)
    assert "| the truth " in capsys.readouterr().out
    assert credit_lab.main([*arguments, "--replace=none", f"--out={tmp_path / 'b'}"]) in (0, 1)
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"report.md", "results.csv", "team_0.svg", "team_1.svg", "team_2.svg"}
    assert (tmp_path / "a" / "team_0.svg").read_bytes() == (
        tmp_path / "b" / "team_0.svg"
    ).read_bytes()
    report = (tmp_path / "a" / "report.md").read_text()
    assert (
        "`individual` is left out" in report
        and "agent 0 misleading" in report
        and "nan" not in report
    )


@pytest.mark.parametrize("arguments, told", [
    ([], "--team=tabular_voting"),
    (["--team=tabular_dyad", "--config=configs/dyad.py:tiny"], "team: type one of"),
    (["--team=tabular_dyad", "--samples=1"], "samples: must be at least 2, received 1"),
    (["--team=tabular_dyad", "--replace=lazy"], "replace: 'lazy' is unknown"),
    (["--team=tabular_dyad", "--agent=2"], "agent: there is no agent 2"),
    (["--team=tabular_dyad", "--estimators=fair"], "estimators: 'fair' is unknown"),
    (["--team=tabular_dyad", "--estimators=nested:k=2"], "'nested' has no 'k'"),
    (["--team=tabular_dyad", "--estimators=nested:answers=two"], "answers is not a number"),
    (["--team=tabular_dyad", "--estimators=cross_play"], "'cross_play' needs a team whose members vote"),
    (["--team=tabular_dyad", "--advantage=mean"], "advantage: 'mean' is unknown"),
    (["--team=tabular_dyad", "--advantage=none:delta=1"], "none has no setting 'delta'"),
    (["--team=tabular_dyad", "--advantage=opo:pool=all"], "pool 'all' is unknown"),
    (["--team=tabular_dyad", "--advantage=weighted", "--prompts=1"], "prompts: weighted compares"),
    (["--config=configs/none.py"], "config: there is no file"),
    (["--workdir=nowhere"], "workdir: there is no run in nowhere"),
])  # fmt: skip
def test_mistakes_are_one_line(arguments, told, tmp_path, capsys):
    assert credit_lab.main([*arguments, f"--out={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_plot_shows_hostile_labels_as_they_are():
    rows = {"<script>alert(1)</script>": (0.1, -0.2, 0.4), "lost": (float("nan"), 0.0, 1.0)}
    picture = xml.etree.ElementTree.fromstring(interval_panels("a < b & c", {"p": rows}))
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "<script>alert(1)</script>" in texts and "a < b & c" in texts
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}circle"))) == 1
