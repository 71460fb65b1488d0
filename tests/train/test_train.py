"""The program end to end on the embedded model: learning, resuming, modes, devices, real data."""

import json
import pathlib

import numpy as np
import pytest

from ccpo_jax import Outcome, cli, make_credit, modes, report
from ccpo_jax.learner.update import jitted_accumulate
from ccpo_jax.presets import load_preset
from ccpo_jax.report.legend import meaning
from ccpo_jax.rl.topology import voting as voters
from ccpo_jax.sampler.generate import num_compiled
from ccpo_jax.train import train
from ccpo_jax.train.advantage import Advantage
from ccpo_jax.train.build import build
from ccpo_jax.train.step import assign_credit, initial_state, train_step
from ccpo_jax.verifiers import VerifierPool
from tests.support.errors import raises_for
from tests.support.runs import first_devices, lines_of, rollouts_of, small_run


@pytest.fixture(scope="module", params=["dyad", "voting"])
def finished(request, tmp_path_factory):
    """(name, workdir) of an uninterrupted run of four steps."""
    workdir = tmp_path_factory.mktemp(request.param)
    train(
        small_run(request.param, steps=4, checkpoint_every=2),
        str(workdir),
        devices=first_devices(1),
    )
    return request.param, workdir


def test_a_run_leaves_what_it_promises(finished, capsys):
    name, workdir = finished
    rows = lines_of(workdir)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    agents = 2 if name == "dyad" else 3
    for row in (rows[0], rows[-1]):
        assert (
            0
            <= row["eval/team_accuracy/low"]
            <= row["eval/team_accuracy"]
            <= row["eval/team_accuracy/high"]
            <= 1
        )
        for agent in range(agents):
            assert (
                f"eval/agent_accuracy/{agent}" in row
                and f"eval/without_agent_accuracy/{agent}" in row
            )
    for row in rows[1:]:
        assert 0 <= row["reward"] <= 1 and row["decoded_tokens"] > 0
        assert row["credit/silent_groups/0"] <= 1 and "credit/help_rate/0" in row
        # Known only where the team was right.
        if "credit/free_rider_rate/0" in row or agents == 2:
            assert ("credit/free_rider_rate/0" in row) == (row["reward"] > 0)
    assert any("credit/free_rider_rate/0" in row for row in rows[1:])
    gaps = [
        row[f"update/logprob_gap_max/{a}"]
        for row in rows[1:]
        for a in range(agents)
        if f"update/logprob_gap_max/{a}" in row
    ]
    assert gaps and max(gaps) < 1e-4
    assert json.loads((workdir / "config.json").read_text())["topology"] == name
    assert json.loads((workdir / "result.json").read_text())["after"]["step"] == 4


def test_what_was_said_agrees_with_the_metrics_and_stands_in_the_report(finished):
    """All problems of some steps are kept: their verdicts and their pay make up the means of those steps."""
    name, workdir = finished
    kept, rows = rollouts_of(workdir), lines_of(workdir)
    assert [line["step"] for line in kept] == [1] * 8 + [2] * 8 + [4] * 8
    for row in (rows[1], rows[2], rows[4]):
        lines = [line for line in kept if line["step"] == row["step"]]
        samples = [sample for line in lines for sample in line["samples"]]
        assert len(samples) == 32
        assert np.mean([sample["reward"][0] for sample in samples]) == pytest.approx(
            row["reward"], abs=1e-5
        )
        for agent in range(len(lines[0]["turns"])):
            credit = [sample["credit"][agent] for sample in samples]
            assert np.mean(credit) == pytest.approx(row[f"credit/mean/{agent}"], abs=1e-5)
            assert np.percentile(credit, 75) == pytest.approx(
                row[f"credit/percentile_75/{agent}"], abs=1e-5
            )
            texts = [
                line["turns"][agent]["texts"][s["said"][0][0][agent]]
                for line in lines
                for s in line["samples"]
            ]
            assert np.mean([text["verdict"] == "right" for text in texts]) == pytest.approx(
                row[f"correct/{agent}"]
            )
            silent = [all(s["advantage"][agent] == 0 for s in line["samples"]) for line in lines]
            assert np.mean(silent) == pytest.approx(row[f"credit/silent_groups/{agent}"])
    assert report.main([str(workdir)]) == 0
    page = (workdir / "report.html").read_text()
    for line in kept:
        assert json.dumps(line["question"])[1:-1] in page
    assert page.count("Credit of ") >= (2 if name == "dyad" else 3) and "left out" not in page


def test_the_report_knows_what_every_metric_means(finished):
    _, workdir = finished
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        unknown = [metric for metric in json.loads(line) if not meaning(metric, "ccpo")]
        assert not unknown, f"add {unknown} to MEANINGS in ccpo_jax/report/legend.py"


@pytest.mark.parametrize("finished", ["dyad"], indirect=True)
def test_resuming_repeats_the_uninterrupted_run_bit_for_bit(finished, tmp_path):
    """Also where nothing was kept of what was said."""
    name, whole = finished
    config = small_run(name, steps=2, checkpoint_every=2)
    config.update_from_flattened_dict({"rollout_log.problems": 0, "rollout_log.every": 25})
    train(config, str(tmp_path), devices=first_devices(1))
    train(small_run(name, steps=4, checkpoint_every=2), str(tmp_path), devices=first_devices(1))
    mine, theirs = lines_of(tmp_path), lines_of(whole)
    assert [row["step"] for row in mine] == [0, 1, 2, 3, 4]
    for row, other in zip(mine, theirs, strict=True):
        shared = row.keys() & other.keys()  # the shorter run evaluated after its own last step
        assert {k: row[k] for k in shared} == {k: other[k] for k in shared}
    assert mine[-1] == theirs[-1]
    assert rollouts_of(tmp_path) == [line for line in rollouts_of(whole) if line["step"] > 2]


def test_a_finished_run_only_reports(finished, capsys):
    name, workdir = finished
    before = lines_of(workdir)
    train(small_run(name, steps=4, checkpoint_every=2), str(workdir), devices=first_devices(1))
    assert lines_of(workdir) == before
    assert "team without agent 0" in capsys.readouterr().out


def test_a_workdir_refuses_another_run(finished):
    name, workdir = finished
    with raises_for("config") as error:
        train(
            small_run(name, **{"optimizer.learning_rate": 0.5}),
            str(workdir),
            devices=first_devices(1),
        )
    assert "optimizer.learning_rate was 0.0002 and is 0.5" in str(error.value)


@pytest.mark.parametrize("finished", ["dyad"], indirect=True)
@pytest.mark.usefixtures("one_device")
def test_eval_sample_and_export(finished, capsys):
    name, workdir = finished
    config = small_run(name, steps=4, checkpoint_every=2)
    metrics = modes.evaluate_only(config, str(workdir))
    best = max(
        (row for row in lines_of(workdir) if row["step"] == 4),
        key=lambda row: row["eval/team_accuracy"],
    )
    assert metrics["eval/team_accuracy"] == best["eval/team_accuracy"]
    modes.show_samples(config, str(workdir))
    shown = capsys.readouterr().out
    assert shown.count("--- reference: ") == 4 and shown.count("--- without agent 0: reward") == 8
    assert shown.count("--- agent 0, thinker: credit ") == 8
    assert shown.count("[agent 0, thinker]") == 8, "a thought is no answer and has no verdict"
    modes.export(config, str(workdir))
    exported = small_run(
        name, steps=4, model=",".join(str(p) for p in sorted((workdir / "export").glob("agent_*")))
    )
    again = modes.evaluate_only(exported, None)
    assert again["eval/team_accuracy"] == metrics["eval/team_accuracy"]


@pytest.mark.parametrize("finished", ["voting"], indirect=True)
@pytest.mark.usefixtures("one_device")
def test_other_modes_take_the_runs_own_configuration(finished, tmp_path, capsys):
    """Only what is typed changes it; the file's defaults do not."""
    workdir = str(finished[1])
    untouched = load_preset("voting:tiny")
    for mode in ("sample", "export", "eval"):
        assert (
            cli.run_mode(
                untouched, "configs/voting.py:tiny", workdir, mode, {"eval.batch_size": 16}
            )
            == 0
        )
    after = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (
        after["eval/problems"] == 16
        and after["eval/team_accuracy"] == lines_of(workdir)[-1]["eval/team_accuracy"]
    )
    for field, value in (("seed", 3), ("data.heldout", 8)):
        assert (
            cli.run_mode(untouched, "configs/voting.py:tiny", workdir, "eval", {field: value}) == 2
        )
        assert f"error: {field}: the run in {workdir} was trained with" in capsys.readouterr().err
    assert (
        cli.run_mode(untouched, "configs/voting.py:tiny", str(tmp_path / "none"), "eval", {}) == 2
    )
    assert "error: workdir: there is no run in" in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_compiled")
def test_steps_do_not_recompile():
    """After the first steps have met the shapes there are, further steps compile nothing."""
    run = build(small_run("voting", steps=8, shared_policy=True), devices=first_devices(1))
    state = initial_state(run)
    counts = []
    with VerifierPool(workers=1) as pool:
        for step in range(run.loop.steps):
            state = train_step(run, state, step, pool).state
            programs = (
                num_compiled(),
                jitted_accumulate()._cache_size(),
                assign_credit._cache_size(),
            )
            counts.append(programs)
    assert counts[-1] == counts[4]
    assert counts[-1][1] - counts[0][1] <= 1
    assert counts[-1][2] == counts[0][2], "the credit state keeps its place on the devices"


def test_a_step_compares_with_the_surprisal_of_its_other_prompts():
    rng = np.random.default_rng(0)
    credit = make_credit("individual", voters(3))
    surprisal = rng.exponential(size=(3, 4, 2)).astype(np.float32)
    correct = rng.integers(0, 2, (1, 4, 2, 3)).astype(np.float32)
    outcome = Outcome(
        correct.mean(-1), correct, correct.astype(int), np.ones((1, 3), bool), surprisal=surprisal
    )
    rule = Advantage("weighted", normalize_std=False)
    _, advantage, _ = assign_credit(credit, rule, (), outcome, weights=surprisal)
    for agent, b in np.ndindex(3, 4):
        rest = [other for other in range(4) if other != b]
        baseline = np.average(correct[0, rest, :, agent], weights=surprisal[agent, rest])
        expected = correct[0, b, :, agent] - baseline
        np.testing.assert_allclose(advantage[agent, b], expected, atol=1e-5)


@pytest.mark.parametrize("changes", [
    {"shared_policy": True, "loss.name": "reinforce_pp"},
    {"trainer.schedule": "alternate", "trainer.period": 1, "advantage.baseline": "leave_one_out",
     "loss.normalize": "token", "loss.ratio": "token", "credit.name": "difference",
     "credit.overlong_penalty": 0.5, "credit.overlong_buffer": 10},
    {"trainer.mini_batches": 2, "loss.name": "gspo"},
], ids=lambda c: next(iter(c)))  # fmt: skip
def test_options_of_training_run(changes, tmp_path):
    train(
        small_run("dyad", steps=2, eval_every=0, **{"data.heldout": 0} | changes),
        str(tmp_path),
        devices=first_devices(1),
    )
    rows = lines_of(tmp_path)
    if "trainer.schedule" in changes:
        assert "update/loss/0" in rows[1] and "update/loss/1" not in rows[1]
        assert "update/loss/1" in rows[2] and "update/loss/0" not in rows[2]
        assert "credit/help_rate/0" in rows[1] and "credit/help_rate/0" not in rows[2], (
            "the Solver's steps mask nobody"
        )
        assert [[f"credit/mean/{agent}" in row for agent in range(2)] for row in rows[1:]] == [
            [True, True],
            [False, True],
        ]
        for row in rows[1:]:
            assert all(-0.5 <= row[f"overlong_penalty/{agent}"] <= 0 for agent in range(2))
        assert None not in rows[1].values() and None not in rows[2].values()
    if "trainer.mini_batches" in changes:
        assert rows[-1]["update/ratio_mean/1"] != 1.0


@pytest.mark.parametrize("name,credit", [
    ("dyad", "shared"), ("dyad", "shapley"), ("dyad", "pooled"), ("voting", "cross_play"),
])  # fmt: skip
def test_credits_of_every_kind_train(name, credit, tmp_path):
    """No masked world, all of them, several answers per thought, votes counted anew; test_credit.py has every credit."""
    answers = {"group_size": 2, "credit.answers": 2} if credit == "pooled" else {}
    train(
        small_run(
            name, steps=1, eval_every=0, **{"data.heldout": 0, "credit.name": credit} | answers
        ),
        str(tmp_path),
        devices=first_devices(1),
    )
    row = lines_of(tmp_path)[1]
    masked = name == "voting" or credit == "shapley"
    assert ("credit/help_rate/0" in row) == masked
    assert row["decoded_tokens"] > 0 and all(np.isfinite(value) for value in row.values())
    assert any(name.startswith("update/loss/") for name in row)


def test_a_debate_trains(tmp_path):
    """Three agents, six turns: every agent can be masked, and both of its turns are trained on."""
    how = {"group_size": 2, "data.heldout": 0, "credit.name": "agent_norm", "shared_policy": True}
    train(small_run("debate", steps=1, **how), str(tmp_path), devices=first_devices(1))
    _, step = lines_of(tmp_path)
    for agent in range(3):
        assert f"credit/help_rate/{agent}" in step and f"moments/{agent}/mean" in step
    assert all(step[f"response_length/{turn}"] > 0 for turn in range(6))
    assert step["update/trained_tokens/0"] > 0


def test_real_problems_through_the_real_verifiers(real_data, tmp_path):
    for name, train_set, test_set, style in (
        ("voting", "math_train.parquet", "math500.parquet", "math"),
        ("voting", "logiqa_eval.txt", "logiqa_test.txt", "choice"),
    ):  # the embedded tokenizer spells every letter: prompts are long
        config = small_run(name, steps=1, **{
            "data.train": str(real_data / train_set), "data.eval": str(real_data / test_set), "prompt_style": style,
            "prompt_length": 512, "data.overlong": "drop", "data.heldout": 2, "eval.limit": 2, "eval.batch_size": 2,
            "batch_size": 2, "group_size": 2, "data.size": 0,
        })  # fmt: skip
        workdir = tmp_path / style
        train(config, str(workdir), devices=first_devices(1))
        rows = lines_of(workdir)
        assert [row["step"] for row in rows] == [0, 1]
        assert f"test/{pathlib.Path(test_set).stem}/team_accuracy" in rows[0]
        assert all(np.isfinite(row["reward"]) for row in rows[1:])
