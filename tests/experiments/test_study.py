"""The study: its tables from made-up records, its gate, its plans, its controls."""

import functools
import pathlib
from xml.etree import ElementTree

import jax.numpy as jnp
import numpy as np
import pytest

study = pytest.importorskip("experiments.study.__main__", reason="run from the repository root: experiments/ is no package of the library")  # fmt: skip
from experiments import statistics  # noqa: E402
from experiments.study import (  # noqa: E402
    gate,
    learning_curves,
    pilots,
    plans,
    predictions,
    records,
    results,
    tasks,
    uncontrolled_tables,
)

ROOT = pathlib.Path(__file__).parents[2]
SEEDS = range(6)


def run_of(arm, seed, greedy, **columns):
    row = {"arm": arm, "seed": seed, "plan": "abc", "rate": 2e-4, "greedy": greedy, "sampled": 40.0}
    row |= {"pass_8": 70.0, "entropy_first": [0.5, 0.4, 0.3], "entropy_last": [0.25, 0.2, 0.1]}
    row |= {"decoded": 5000.0, "trained": 1500.0, "seconds": 60.0, "commit": "c0ffee", "day": "2026-12-01"}  # fmt: skip
    return row | columns


def curve_of(arm, seed, values):
    same = {"arm": arm, "seed": seed, "plan": "abc", "rate": 2e-4}
    return [same | {"step": 4 * i, "greedy": value} for i, value in enumerate(values)]


def made_up(task="parts_3", *, without=(), **changes):
    """Records of a task that passes the gate: arms gain 1, 2, 3, ... points, alike on every seed."""
    runs, curves = [], []
    for place, arm in enumerate(tasks.arms_of(task)):
        for seed in SEEDS:
            if arm in without:
                continue
            if arm == tasks.UNTRAINED:
                cold = {"T=0.25": 45.0, "T=0.5": 44.0}
                runs.append(run_of(arm, seed, 40.0 + seed) | cold | changes.get(arm, {}))
                continue
            gained = place + (0.5 * seed if arm == "shared" else 0.0)
            runs.append(run_of(arm, seed, 40.0 + seed + gained) | changes.get(arm, {}))
            curves += curve_of(arm, seed, [40.0, 60.0, 75.0 if seed < 4 else 60.0, 80.0 - 20 * (seed > 4)])  # fmt: skip
    return records.Records(runs, curves)


# --- records --------------------------------------------------------------------------------------


@pytest.mark.fast
def test_records_come_back_as_they_were_written(tmp_path):
    arms = ("untrained", "shared", "ccpo")
    made = made_up(without=[arm for arm in tasks.ARMS if arm not in arms])
    for row in made.runs:
        records.add(tmp_path, row, made.curve(row["arm"], row["seed"]))
    records.add(tmp_path, run_of("shared", 0, 99.5), curve_of("shared", 0, [1.0]))  # replaces
    again = records.read(tmp_path)
    assert len(again.runs) == len(made.runs) and again.column("shared", "greedy")[0] == 99.5
    assert again.curve("shared", 0) == curve_of("shared", 0, [1.0])
    assert again.curve("ccpo", 3) == made.curve("ccpo", 3)
    assert again.of("ccpo")[3] == made.of("ccpo")[3] | {"T=0.25": None, "T=0.5": None}


@pytest.mark.fast
def test_a_measured_0_is_a_value_and_steps_are_read_in_order(tmp_path):
    backwards = curve_of("shared", 0, [0.0, 1.0, 2.0])[::-1]
    records.add(tmp_path, run_of("shared", 0, 0.0, change=-3), backwards)
    again = records.read(tmp_path)
    assert again.column("shared", "greedy") == {0: 0.0}
    assert isinstance(again.column("shared", "change")[0], int)
    made = records.Records([], backwards)
    assert [row["step"] for row in made.curve("shared", 0)] == [0, 4, 8]


@pytest.mark.fast
def test_runs_of_another_plan_are_refused(tmp_path):
    made = made_up()
    records.check_plans(tmp_path, made.runs, {arm: "abc" for arm in tasks.ARMS})
    plans_now = {"shared": "abd", "ccpo": "abd", "none": "abc"}
    told = "runs of ccpo, shared were made with another"
    with pytest.raises(records.MixedPlansError, match=told):
        records.check_plans(tmp_path, made.runs, plans_now)


def test_a_plan_is_another_one_when_what_decides_a_run_changes(monkeypatch):
    first = plans.plan_of("parts_3", "shared", tasks.FULL, 2e-4)
    assert first.hash() == plans.plan_of("parts_3", "shared", tasks.FULL, 2e-4).hash()
    others = {
        first._replace(rate=1e-4).hash(),
        first._replace(measures=tasks.QUICK).hash(),
        first._replace(task="parts_5").hash(),
        first._replace(arm="difference").hash(),
        # The same fields, and no reward; the same fields, and no training.
        first._replace(arm="no_reward").hash(),
        first._replace(arm="untrained").hash(),
    }
    task = tasks.TASKS["parts_3"]
    monkeypatch.setitem(tasks.TASKS, "parts_3", task._replace(model=("lazy",)))
    others.add(first.hash())
    monkeypatch.setitem(tasks.TASKS, "parts_3", task._replace(changes=task.changes | {"steps": 9}))
    others.add(first.hash())
    assert len(others) == 8 and first.hash() not in {*others} - {first.hash()}


def test_a_plan_is_another_one_when_its_lesson_changes(monkeypatch):
    lesson = plans.plan_of("lazy", "shared", tasks.FULL)
    first = lesson.hash()
    monkeypatch.setitem(plans.LESSONS, "lazy", plans.LESSONS["misleading"])
    plans._lesson.cache_clear()
    assert lesson.hash() != first
    plans._lesson.cache_clear()


def test_every_run_is_a_configuration_that_exists():
    for task in tasks.TASKS:
        for arm in tasks.arms_of(task):
            plans.plan_of(task, arm, tasks.FULL).config(0, pathlib.Path("lessons"))


@pytest.mark.fast
def test_what_is_recorded_is_not_run_again(tmp_path, monkeypatch, capsys):
    executed = []

    def execute_all(jobs, out, processes, finished):
        executed.append(jobs)
        for job in jobs:
            row = run_of(job.plan.arm, job.seed, 50.0, plan=job.plan.hash(), rate=job.plan.rate)
            finished(job, study.Finished(row, []))
        return []

    monkeypatch.setattr(study, "execute_all", execute_all)
    line = ["--task=parts_3", "--gate", f"--results={tmp_path}", f"--out={tmp_path}"]
    assert study.main([*line, "--seeds=0,1"]) == 0
    assert study.main([*line, "--seeds=0,1,2"]) == 0
    assert [[(job.plan.arm, job.seed) for job in jobs] for jobs in executed] == [
        [("untrained", 0), ("no_reward", 0), ("untrained", 1), ("no_reward", 1)],
        [("untrained", 2), ("no_reward", 2)],
    ]
    assert "2 of 6 runs are missing, 0:02 h" in capsys.readouterr().err


@pytest.mark.fast
def test_rates_are_chosen_by_one_rule():
    greedy = {"a": (50.0, 60.0, 55.0), "b": (60.0, 50.0, 60.0), "c": (1.0, 2.0, 3.0)}
    rows = [
        {"arm": arm, "seed": seed, "rate": rate, "greedy": value + seed}
        for arm, values in greedy.items()
        for rate, value in zip(tasks.RATES, values, strict=True)
        for seed in (100, 101)
    ]
    del rows[-1]  # a pilot of c is missing
    assert pilots.choose(rows) == {"a": tasks.RATES[1], "b": tasks.RATES[0]}


# --- gate -----------------------------------------------------------------------------------------


@pytest.mark.fast
@pytest.mark.parametrize("changes, told", [
    ({}, None),
    ({"untrained": {"greedy": 50.5}}, "untrained greedy accuracy 50.5 %, at most 50"),
    ({"untrained": {"pass_8": 57.0}}, "untrained pass@8 57.0 %, at least greedy + 15 = 57.5"),
    ({"untrained": {"T=0.25": 50.5}}, "untrained 50.5 % at T = .25 and 40.0 % at T = 1"),
    ({"untrained": {"T=0.25": 29.5}}, "untrained 29.5 % at T = .25 and 40.0 % at T = 1"),
    ({"no_reward": {"greedy": 45.7}}, "training without reward gains +3.2 ± 2.0 points greedy over 6"),
    # The bounds themselves.
    ({"untrained": {"greedy": 50.0, "pass_8": 65.0, "T=0.25": 30.0}, "no_reward": {"greedy": 53.0}}, None),
])  # fmt: skip
def test_each_condition_of_the_gate_can_fail_alone(changes, told):
    made = made_up(**changes)
    failed = [condition.words for condition in gate.conditions(made) if not condition.holds]
    assert gate.passes(made) == (told is None)
    assert len(failed) == (told is not None) and all(told in words for words in failed)


@pytest.mark.fast
def test_a_gate_without_its_runs_is_closed():
    for arm in ("untrained", "no_reward"):
        assert not gate.passes(made_up(without=(arm,)))
    assert not gate.passes(records.Records([], []))


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.fast
def test_a_table_by_hand():
    text = results.table("parts_3", made_up())
    rows = [line for line in text.splitlines() if line.startswith("| shared ")]
    # 40 + seed + 5 + seed / 2 for seeds 0 to 5: mean 48.75, deviation 1.5 x sqrt(3.5), t = 2.5706.
    half = 2.570582 * 1.5 * np.sqrt(3.5 / 6)
    assert f"| shared | 6 | 0.0002 | 48.8 ± {half:.1f} | 40.0 ± 0.0 | 70.0 ± 0.0 |" in rows[0]
    # Untrained 42.5, so the level is 71: four runs reach it at step 8, one at 12, one never.
    assert "| 8 (1 of 6 never) | 0.50 / 0.40 / 0.30 to 0.25 / 0.20 / 0.10 | 5.0 | 1.5 |" in rows[0]
    # shared leads the untrained team by 5 + seed / 2 points; difference leads it by 7.
    assert "| difference − shared | 6 | +0.8 ± 1.0 |" in text and "Gate passed" in text
    assert "best: T = 0.25 with 45.0" in text


@pytest.mark.fast
def test_a_level_is_reached_where_it_is_met():
    assert results.steps_to(curve_of("shared", 0, [10.0, 60.0, 70.0]), 60.0) == 4
    assert results.steps_to(curve_of("shared", 0, [10.0, 60.0, 70.0]), 70.5) is None


@pytest.mark.fast
def test_holm_counts_the_planned_comparisons_of_the_task():
    made = made_up()
    lines = results.comparisons("parts_3", made).splitlines()[2:]
    assert len(lines) == len(tasks.comparisons_of("parts_3")) == 10
    assert "difference_one_policy − shared_one_policy" in "".join(lines)
    raw = [
        statistics.compare(made.column(arm, "greedy"), made.column(against, "greedy")).p
        for arm, against in tasks.comparisons_of("parts_3")
    ]
    for line, p, adjusted in zip(lines, raw, statistics.holm(raw), strict=True):
        assert f" | {p:.3f} | {adjusted:.3f} | " in line


@pytest.mark.fast
def test_the_primary_comparison_stands_by_itself_beside_its_prediction(tmp_path, monkeypatch):
    folder = tmp_path / "parts_9"
    folder.mkdir()
    lines = "task,arm,greedy", "parts_9,shared,0.5", "parts_9,difference,0.7"
    (folder / "runs.csv").write_text("\n".join([*lines, "parts_9,difference,0.8"]))
    predict = functools.partial(predictions.greedy, folder=tmp_path)
    monkeypatch.setattr(predictions, "greedy", predict)
    primary = results.comparisons("parts_9", made_up("parts_9"))
    assert "| difference − shared | 6 | +0.8 ± 1.0 | 0.107 | primary | +25.0 |" in primary
    assert "difference − shared (6 of 12)" in primary


@pytest.mark.fast
def test_a_task_that_fails_the_gate_ranks_nobody():
    made = made_up(untrained={"greedy": 60.0})
    text = results.table("parts_3", made)
    assert "does not pass the gate" in text and "untrained greedy accuracy 60.0 %" in text
    assert "planned comparison" not in text and " − " not in text

    def order(text):
        names = [line.split(" | ")[0][2:] for line in text.splitlines() if line.startswith("| ")]
        return [name for name in names[1:] if name in tasks.ARMS]

    assert order(text) == list(tasks.arms_of("parts_3"))
    ranked = order(results.table("parts_3", made_up()).partition("\n\nUntrained")[0])
    # `shared` gains 5 points and half a point per seed, more than the 6 of `individual`.
    expected = [*reversed(tasks.arms_of("parts_3"))]
    expected.insert(expected.index("individual"), expected.pop(expected.index("shared")))
    assert ranked == expected


@pytest.mark.fast
@pytest.mark.parametrize("control", tasks.CONTROLS)
def test_there_is_no_table_without_its_controls(control, tmp_path):
    made = made_up(without=(control,))
    with pytest.raises(results.MissingControlsError, match=f"no runs of {control}"):
        results.write("parts_3", made, tmp_path)
    assert not list(tmp_path.iterdir())
    if control != "untrained":
        with pytest.raises(results.MissingControlsError, match=control):
            learning_curves.picture("parts_3", made)


@pytest.mark.fast
def test_a_quick_table_says_so():
    text = results.table("parts_3", made_up(), quick=True)
    assert "(quick)" in text and "Quick: few seeds" in text


# Tables from before the rule, figures of others, and predictions from tables.
EXEMPT = {
    ("docs/results/study.md", "Three voters, same problem"),
    ("docs/results/study.md", "The dyad"),
    ("docs/results/study.md", "Voters who know different things"),
    ("docs/results/study.md", "A lazy or a misleading Thinker"),
    ("docs/paper.md", "The paper's figures"),
    ("experiments/study/plan.md", "Predictions"),
    ("docs/results/tables.md", "The paper's tables"),
}
# What is computed without training a model: the laboratory's figures, and what credit costs.
_NO_TRAINING = ("docs/results/credit_lab.md", "docs/performance-logbook.md")
_NOVEMBER = ROOT / "experiments/study/results/2026-11"


def _offenders(path):
    text = path.read_text(encoding="utf-8")
    return {section.heading for section in uncontrolled_tables.sections_without_controls(text)}


@pytest.mark.fast
def test_no_study_table_is_published_without_its_controls():
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    pages += [page for page in ROOT.glob("experiments/study/**/*.md") if _NOVEMBER not in page.parents]  # fmt: skip
    offenders = set()
    for page in pages:
        name = page.relative_to(ROOT).as_posix()
        if name not in _NO_TRAINING:
            offenders |= {(name, heading) for heading in _offenders(page)}
    assert not offenders - EXEMPT, "a table of trained arms lacks its controls"
    assert not EXEMPT - offenders, "this table is gone or has its controls: it needs no exemption"


@pytest.mark.fast
def test_tables_without_controls_are_found_wherever_they_stand():
    found = [page.stem for page in sorted(_NOVEMBER.glob("*.md")) if _offenders(page)]
    assert found == "dyad hunt lazy misleading parts rating solo voting".split()
    text = results.table("parts_3", made_up())
    assert not uncontrolled_tables.sections_without_controls(text)
    for control in uncontrolled_tables.NEEDED:
        kept = [line for line in text.splitlines() if not line.startswith(f"| {control} |")]
        quoted = "\n".join(f"> {line}" for line in kept)
        assert uncontrolled_tables.sections_without_controls(quoted)
    across = "| step | untrained | `shared` | **ccpo** |\n|---|---|---|---|\n| 1 | 2 | 3 | 4 |\n"
    assert uncontrolled_tables.sections_without_controls(across)


@pytest.mark.fast
def test_a_picture_has_every_curve_with_its_name():
    drawn = ElementTree.fromstring(learning_curves.picture("parts_3", made_up(), ["shared"]))
    names = [text.text for text in drawn.iter() if text.get("class") == "name"]
    assert names == [*tasks.CONTROLS[1:], "shared"]
    bands = [path for path in drawn.iter() if "band" in path.get("class", "")]
    assert len(bands) == len(names)


# --- the control without a reward -----------------------------------------------------------------


def test_without_reward_no_reward_reaches_a_gradient():
    """The arm's advantages are 0 whatever the outcome, and its loss is the entropy that it lowers."""
    from ccpo_jax.rl.topology import agent_masks
    from ccpo_jax.rl.types import Outcome
    from ccpo_jax.train.build import build
    from ccpo_jax.train.step import assign_credit
    from experiments.study.controls import without_reward

    run = build(plans.plan_of("parts_3", "no_reward", tasks.FULL).config(0, pathlib.Path()))
    blind = without_reward(run)
    rng = np.random.default_rng(0)
    correct = jnp.asarray(rng.integers(0, 2, (1, 4, 8, 3)), jnp.float32)
    outcome = Outcome(correct[..., 0], correct, jnp.zeros((1, 4, 8, 3), int), agent_masks(3)[:1])
    seen = {name: np.asarray(assign_credit(r.credit, r.advantage, r.credit.init(), outcome)[1])
            for name, r in (("shared", run), ("blind", blind))}  # fmt: skip
    assert np.abs(seen["shared"]).max() > 0.1 and not seen["blind"].any()
    assert blind.update.loss.entropy_bonus == -tasks.ENTROPY_WEIGHT
    assert not blind.update.loss.zero_advantage_is_silent


# --- command line ---------------------------------------------------------------------------------


@pytest.mark.fast
@pytest.mark.parametrize("typed, told", [
    ("--arm=cross-play", "invalid choice: 'cross-play'"), ("--jobs=0", "--jobs: received '0', use a positive integer"),
    ("--seeds=1,1", "--seeds: received '1,1'"), ("--quick --gate", "--quick, --gate and --pilot exclude each other"),
    ("--arm=nested --task=voting_3", "--arm: 'nested' is no arm of voting_3; use some of untrained, no_rew"),
])  # fmt: skip
def test_a_mistake_is_one_line(typed, told, capsys):
    with pytest.raises(SystemExit) as ended:
        study.main([*typed.split(), "--print"])
    shown = capsys.readouterr().err
    assert ended.value.code == 2 and told in shown and shown.count("\n") == 1


@pytest.mark.fast
def test_a_table_of_nothing_says_so(tmp_path, capsys):
    assert study.main(["--task=dyad", "--print", f"--results={tmp_path}"]) == 0
    assert capsys.readouterr().err == f"dyad: no finished run in {tmp_path / 'dyad'}\n"
