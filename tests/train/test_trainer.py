"""The trainer as a library: step by step, saved and resumed, with parts exchanged."""

import dataclasses
import gc
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from ccpo_jax import cli, data, models
from ccpo_jax.hf import Tokenizer, load_tokenizer
from ccpo_jax.rl.credit import ccpo
from ccpo_jax.rl.topology import voting
from ccpo_jax.rollout.role_prompts import PROMPTS
from ccpo_jax.train import Model, Trainer, train
from ccpo_jax.train.build import build
from ccpo_jax.train.rollouts import collect_rollouts
from ccpo_jax.train.sources import TINY
from ccpo_jax.train.step import publish
from ccpo_jax.workdir import open_checkpoints
from tests.support.errors import raises_for
from tests.support.runs import brief_run, first_devices, lines_of

ROOT = pathlib.Path(__file__).parents[2]


def without_time(metrics):
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Metrics of steps 1 to 3 of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("lines")
    train(brief_run(3, **{"data.heldout": 0}), str(workdir), devices=first_devices(1))
    return [{k: v for k, v in line.items() if k != "step"} for line in lines_of(workdir)[1:]]


def test_single_steps_are_those_of_a_run_and_write_nothing(lines, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Trainer(brief_run(3, **{"data.heldout": 0}), devices=first_devices(1)) as trainer:
        metrics = [without_time(trainer.step()) for _ in range(2)]
        assert trainer.step_count == int(trainer.state.step) == 2
        with raises_for("workdir"):
            trainer.save()
    assert metrics == lines[:2]
    assert not list(tmp_path.iterdir())


def test_a_saved_trainer_continues_where_it_was(lines, tmp_path):
    config = brief_run(3, **{"data.heldout": 0})
    with Trainer(config, workdir=tmp_path, devices=first_devices(1)) as trainer:
        trainer.step()
        trainer.step()
        trainer.save()
    with Trainer(config, workdir=tmp_path, devices=first_devices(1)) as trainer:
        assert trainer.step_count == 2
        assert without_time(trainer.step()) == lines[2]


def test_a_trainer_without_a_workdir_trains_to_the_end(lines):
    seen = []

    def on_step(metrics, batch):
        seen.append((trainer.step_count, without_time(metrics)))
        metrics["mine"] = float(batch.outcome.reward[0].mean())

    with Trainer(
        brief_run(3, **{"data.heldout": 0}), on_step=on_step, devices=first_devices(1)
    ) as trainer:
        final = trainer.train()
    assert seen == [(step, line) for step, line in enumerate(lines, start=1)]
    assert final["mine"] == final["reward"] == lines[-1]["reward"]


def test_what_on_step_adds_is_written(tmp_path):
    steps = iter((1.0, 2.0))

    def on_step(metrics, batch):
        metrics["mine"] = next(steps)

    train(
        brief_run(2, **{"data.heldout": 0}),
        str(tmp_path),
        on_step=on_step,
        devices=first_devices(1),
    )
    assert [line.get("mine") for line in lines_of(tmp_path)] == [None, 1.0, 2.0]


@pytest.mark.parametrize(
    "added, says",
    [({"mine": "much"}, "'mine' is 'much'"), ({7: 1.0}, "called 7"), ({"mine": None}, "'mine'")],
)
def test_a_metric_that_is_no_number_is_one_line(added, says):
    with (
        Trainer(
            brief_run(1, **{"data.heldout": 0}),
            on_step=lambda metrics, batch: metrics.update(added),
            devices=first_devices(1),
        ) as trainer,
        raises_for("on_step") as error,
    ):
        trainer.train()
    assert says in str(error.value) and "\n" not in str(error.value)


def test_how_evaluation_samples_changes_nothing_in_training(tmp_path):
    """Two runs that differ in `eval` alone: other evaluations, the same steps and parameters bit by
    bit."""
    own = {
        "eval.temperature": 0.3,
        "eval.top_p": 0.9,
        "eval.top_k": 5,
        "eval.min_p": 0.01,
        "eval.samples": 3,
        "eval.greedy": True,
        "eval.batch_size": 4,
    }
    trained, evaluated, params = [], [], []
    for name, fields in (("plain", {}), ("own", own)):
        config = brief_run(3, **fields, **{"eval_every": 1})
        with Trainer(config, workdir=tmp_path / name, devices=first_devices(1)) as trainer:
            trainer.train()
            state = trainer.state
            params.append(jax.tree.map(np.asarray, (state.params, state.opt_state)))
        lines = lines_of(tmp_path / name)
        of_eval = [{k: v for k, v in line.items() if k.startswith("eval/")} for line in lines]
        evaluated.append(of_eval)
        trained.append(
            [line.items() - part.items() for line, part in zip(lines, of_eval, strict=True)]
        )
    assert trained[0] == trained[1] and len(trained[0][-1]) > 10
    jax.tree.map(np.testing.assert_array_equal, *params)
    assert {"eval/pass_at_4", "eval/pass_at_2"} <= evaluated[0][-1].keys()
    assert {"eval/pass_at_3", "eval/greedy/team_accuracy"} <= evaluated[1][-1].keys()
    assert all(
        one["eval/decoded_tokens"] != other["eval/decoded_tokens"]
        for one, other in zip(*evaluated, strict=True)
    )


def test_evaluation_is_repeatable_and_trains_nothing():
    with Trainer(brief_run(1), devices=first_devices(1)) as trainer:
        once, again = (without_time(trainer.evaluate()) for _ in range(2))
        assert trainer.step_count == 0
    assert once == again and 0 <= once["eval/team_accuracy"] <= 1


def test_a_part_of_a_run_can_be_exchanged():
    """Half the credit of every agent: the advantage of a group that is not divided halves as well."""
    run = build(
        brief_run(1, **{"advantage.normalize_std": False, "data.heldout": 0}),
        devices=first_devices(1),
    )
    credit = run.credit

    def half(state, outcome):
        value, state = credit.update(state, outcome)
        return value / 2, state

    halved = dataclasses.replace(run, credit=dataclasses.replace(credit, update=half))
    means = []
    for each in (run, halved):
        # Parameters are donated by the first step.
        copied = dataclasses.replace(each, params=jax.tree.map(lambda x: x.copy(), run.params))
        with Trainer(copied) as trainer:
            means.append(trainer.step()["credit/mean/0"])
    assert means[1] == pytest.approx(means[0] / 2)


def test_the_credit_state_stays_on_the_devices():
    with Trainer(brief_run(2, **{"data.heldout": 0}), devices=first_devices(1)) as trainer:
        before = jax.tree.map(lambda x: x.sharding, trainer.state.credit_state)
        trainer.step()
        after = jax.tree.map(lambda x: x.sharding, trainer.state.credit_state)
        assert before == after
        assert int(np.asarray(trainer.state.credit_state.delta.count)) > 0


def objects():
    """For every part that `brief_run` names, the same as an object."""
    network, params = models.load(TINY)
    tokenizer = load_tokenizer(str(TINY))
    policy = models.make_policy(
        network,
        remat="none",
        num_tokens=tokenizer.vocab_size,
        unused_ids=tokenizer.unused_ids,
    )
    return {
        "model": Model(policy, params, tokenizer, network),
        "train": data.load("synthetic/voting", size=100),
        "prompts": {"voter": PROMPTS["tiny"]["voter"]},
        "topology": voting(3),
        "credit": ccpo,
    }


def test_objects_train_as_what_they_stand_for_and_resume(lines, tmp_path):
    config = brief_run(3, **{"data.heldout": 0})
    options = {"workdir": tmp_path, "devices": first_devices(1)}
    with Trainer(config, **objects(), **options) as trainer:
        metrics = [without_time(trainer.step()) for _ in range(2)]
        trainer.save()
    with Trainer(config, **objects(), **options) as trainer:
        assert trainer.step_count == 2
        metrics.append(without_time(trainer.step()))
    assert metrics == lines

    with raises_for("model") as error:
        Trainer(None, workdir=tmp_path)
    expected = "Trainer(model=..., train=..., prompts=..., topology=..., credit=...)"
    assert expected in str(error.value)
    changed = {**objects(), "train": data.load("synthetic/voting", size=99)}
    with raises_for("config"):
        Trainer(config, **changed, **options)


def test_a_trainer_answers_evaluates_and_exports(tmp_path):
    rows = [{"question": f"x={number}+3", "answer": f"{number + 3}"} for number in range(3)]
    trainer = Trainer(brief_run(1, **{"data.heldout": 0}), devices=first_devices(1))
    answered = trainer.sample(["x=2+3", "x=4+3"], num_samples=4)
    assert [question.question for question in answered] == ["x=2+3", "x=4+3"]
    for sample in [sample for question in answered for sample in question.samples]:
        assert [message.role for message in sample.messages] == ["voter"] * 3
        assert sample.score is None
        last_lines = [message.text.splitlines()[-1] for message in sample.messages]
        assert sample.answer is None or any(sample.answer in line for line in last_lines)
    assert trainer.sample(["x=2+3", "x=4+3"], num_samples=4) == answered
    assert trainer.sample(["x=2+3", "x=4+3"], num_samples=4, seed=1) != answered

    scored = trainer.sample(rows, num_samples=4)
    assert all(0 <= sample.score <= 1 for question in scored for sample in question.samples)
    accuracies = trainer.evaluate(rows)
    assert accuracies["problems"] == 3 and 0 <= accuracies["team_accuracy"] <= 1
    assert "mine/team_accuracy" in trainer.evaluate({"mine": rows})
    with raises_for("prompt_length"):
        trainer.evaluate([{"question": "1+" * 100, "answer": "3"}])

    (folder,) = trainer.export(tmp_path, dtype="bfloat16")
    _, params = models.load(folder)
    expected = np.asarray(trainer.state.params[0]["embed"], "bfloat16")
    np.testing.assert_array_equal(np.asarray(params["embed"], "bfloat16"), expected)
    with raises_for("dtype"):
        trainer.export(tmp_path, dtype="int8")


def test_a_mistake_in_a_method_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = Trainer({"preset": "solo:tiny", "data.heldout": 0}, devices=first_devices(1))
    calls = {
        "num_samples": [{"num_samples": value} for value in (0, "2", 1.5, True)],
        "seed": [{"seed": value} for value in ("x", 1.5, 2**80)],
        "temperature": [{"temperature": value} for value in ("hot", -1, float("nan"))],
    }
    for field, mistakes in calls.items():
        for mistake in mistakes:
            with raises_for(field):
                trainer.sample("Compute 2+3.", **mistake)
    for folder in (7, "", "a\0b", "~nobody-here/x"):
        with raises_for("folder"):
            trainer.export(folder)
    assert not list(tmp_path.iterdir())

    trainer.close()
    trainer.close()
    for method in (trainer.step, trainer.train, trainer.save, trainer.evaluate):
        with raises_for("trainer"):
            method()


def test_a_trainer_that_nobody_closes_leaves_no_processes():
    trainer = Trainer(brief_run(1, **{"data.heldout": 0}), devices=first_devices(1))
    processes = [worker.process for worker in trainer._pool._pool._workers]
    assert processes and all(process.poll() is None for process in processes)
    del trainer
    gc.collect()
    assert all(process.poll() is not None for process in processes)


# A program that ends without a close: by an exception, by Ctrl-C, and after a save of its own.
ENDINGS = """
import os, signal
from ccpo_jax.train import Trainer

rows = [{"question": f"Compute {a}+3-2+1.", "answer": str(a + 2)} for a in range(20)]
sizes = {"preset": "solo:tiny", "steps": 3, "batch_size": 2, "group_size": 4, "data.heldout": 0}
sizes |= {"checkpoint_every": 1, "verifier.workers": 1}


def on_step(metrics, batch):
    if ENDING == "exception":
        raise ArithmeticError("mine")
    os.kill(os.getpid(), signal.SIGINT)


trainer = Trainer(sizes, train=rows, workdir="run", on_step=on_step)
if ENDING == "save":
    trainer.step()
    trainer.save()
else:
    trainer.train()
"""


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize(
    "ending, last",
    [("exception", "ArithmeticError: mine"), ("Ctrl-C", "KeyboardInterrupt"), ("save", "")],
)
def test_a_program_that_ends_early_has_saved(ending, last, tmp_path):
    (tmp_path / "program.py").write_text(f"ENDING = {ending!r}\n{ENDINGS}")
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    # Its own exception alone, at the very end.
    assert done.stderr.count("Traceback") == bool(last), done.stderr
    assert done.stderr.rstrip().endswith(last) and (done.returncode == 0) == (not last)
    with open_checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.latest_step() == 1


# Without a guard and without a close, as in a first script or a notebook.
PROGRAM = """
print("started")
from ccpo_jax.train import Trainer

SIZES = {"steps": 1, "batch_size": 2, "group_size": 4, "data.heldout": 0, "verifier.workers": 1}
rows = [{"question": f"Compute {a}+3-2+1."} for a in range(20)]
seen = []


def score(answer, problem):
    return 0.5 if answer else 0.0


trainer = Trainer(
    SIZES,
    model="tiny",
    topology="voting",
    train=rows,
    reward=score,
    on_step=lambda metrics, batch: seen.append(metrics["reward"]),
    workdir="run",
)
trainer.train()
print(seen, trainer.step_count, trainer.sample("Compute 2+3.")[0].samples[0].score)
print("workers", *(worker.process.pid for worker in trainer._pool._pool._workers))
"""


@pytest.mark.usefixtures("one_device")
def test_a_script_without_a_guard_starts_once_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "program.py").write_text(PROGRAM)
    outputs = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "program.py"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
        outputs.append(done.stdout.splitlines())
        pids = outputs[-1][-1].split()[1:]
        assert pids and not any(pathlib.Path("/proc", pid).exists() for pid in pids)

    first, again = outputs
    assert first[0] == "started" and first.count("started") == again.count("started") == 1
    # The second time there is nothing left to do.
    assert first[-2].startswith("[0.") and first[-2].endswith("] 1 None")
    assert again[-2] == "[] 1 None"

    monkeypatch.chdir(tmp_path)
    assert cli.main(["--config=voting:tiny", "--workdir=run", "--mode=eval"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "object:score" in line and "Python program" in line


def padded_tiny(folder: pathlib.Path, rows: int) -> str:
    """The tiny model with further rows in its table, each of them more likely than most tokens."""
    config, params = models.load(TINY)
    table = np.asarray(params["embed"])
    extra = np.broadcast_to(2 * table.mean(axis=0), (rows, table.shape[1]))
    config = dataclasses.replace(config, vocab_size=len(table) + rows)
    models.save(folder, config, params | {"embed": np.concatenate([table, extra])})
    load_tokenizer(str(TINY)).save(folder)
    return str(folder)


def drawn_tokens(trainer) -> np.ndarray:
    """What the sampler draws for eight problems."""
    collected = collect_rollouts(
        trainer.run.team,
        publish(trainer.run.team, trainer.state.params),
        trainer.run.datasets.train.problems[:8],
        trainer._pool,
        jax.random.key(0),
        config=trainer.run.rollout,
        needs=trainer.run.credit.needs,
        ablated=(),
        memory_fields={},
    )
    return np.concatenate([turn.samples.tokens.ravel() for turn in collected.rollouts.turns])


@pytest.mark.parametrize(
    "filters",
    [{}, {"sample.top_p": 0.7}, {"sample.top_k": 120, "loss.entropy_bonus": 0.01}],
    ids=str,
)
def test_rows_beyond_the_tokenizer_are_never_sampled_nor_trained(tmp_path, filters):
    """The last filter is on, and would keep all 112 tokens and 8 of the 16 further rows."""
    model = padded_tiny(tmp_path, 16)
    sampled = {"sample.temperature": 8.0, **filters}
    with Trainer(
        brief_run(1, model=model, **sampled, **{"data.heldout": 0}), devices=first_devices(1)
    ) as trainer:
        tokens = drawn_tokens(trainer)
        before = np.asarray(trainer.state.params[0]["embed"])
        metrics = trainer.step()
        after = np.asarray(trainer.state.params[0]["embed"])
    assert tokens.max() < 112 and len(np.unique(tokens)) > 50
    # The sampler's log-probs are those of training: both leave out the same tokens.
    assert "sample.top_p" in filters or metrics["update/logprob_gap_max/0"] < 1e-5
    assert np.isfinite(list(metrics.values())).all()
    # Weight decay alone moves rows that have no gradient.
    moved = np.abs(after / before - 1).max(axis=1)
    assert moved[112:].max() < 1e-4 < moved[:112].max()


class WithHoles(Tokenizer):
    """The tiny tokenizer, as if it had no digits 2 to 5."""

    @property
    def unused_ids(self):
        return tuple(i for i in range(self.vocab_size) if self.show([i]) in tuple("2345"))


def test_a_policy_of_ones_own_samples_no_id_that_its_tokenizer_does_not_have(tmp_path):
    """It was made for the whole table; the tokenizer ends before it does, and has holes."""
    network, params = models.load(padded_tiny(tmp_path, 16))
    plain = load_tokenizer(str(TINY))
    tokenizer = WithHoles(plain.backend, plain.pad_id, plain.eos_ids, files=plain.files)
    holes = tokenizer.unused_ids
    assert len(holes) == 4 and tokenizer.vocab_size == 112 < network.vocab_size
    model = Model(models.make_policy(network, remat="none"), params, tokenizer, network)
    fields = {"sample.temperature": 2.0, "sample.top_k": 120, "data.heldout": 0}
    with Trainer(brief_run(1, **fields), model=model, devices=first_devices(1)) as trainer:
        tokens = drawn_tokens(trainer)
        metrics = trainer.step()
    assert tokens.max() < 112 and not np.isin(tokens, holes).any()
    other_digits = [plain.encode(digit)[0] for digit in "016789"]
    assert np.isin(other_digits, tokens).all(), "the holes would have been drawn"
    assert metrics["update/logprob_gap_max/0"] < 1e-5
    assert metrics["update/entropy/0"] <= np.log(112 - 4)


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"sample.top_p": 0.7},
        {"sample.top_p": 0.3},
        {"sample.top_k": 3},
        {"sample.min_p": 0.2},
    ],
    ids=str,
)
def test_the_ratio_is_one_before_the_network_has_moved(filters):
    """The second mini-batch has the first one's update behind it; here that update is tiny."""
    changes = {
        **filters,
        "trainer.mini_batches": 2,
        "optimizer.learning_rate": 1e-12,
        "data.heldout": 0,
    }
    with Trainer(brief_run(1, **changes), devices=first_devices(1)) as trainer:
        metrics = trainer.step()
    assert metrics["update/ratio_max/0"] == pytest.approx(1.0, abs=1e-4)
    assert metrics["update/clip_fraction/0"] == 0
    assert (metrics["update/logprob_gap_max/0"] > 0.1) == bool(filters)
