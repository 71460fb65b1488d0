"""Runs that are stopped, folders in use or full, numbers that are none: said in one line, saved, and gone on from."""

import contextlib
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from ccpo_jax.config import parse
from ccpo_jax.learner.packing import TrainSequence
from ccpo_jax.learner.replay import SavedBatch, load_batch, nonfinite_sequences, save_batch
from ccpo_jax.report import write_report
from ccpo_jax.train import Trainer, loop, train
from ccpo_jax.train.build import memory_fields
from ccpo_jax.train.guards import (
    NonFiniteGuard,
    NonFiniteUpdateError,
    describe_nonfinite,
    explain_oom,
    run_with_timeout,
)
from ccpo_jax.train.signals import GracefulStop
from ccpo_jax.workdir import open_checkpoints
from tests.support.errors import raises_for
from tests.support.runs import brief_run, first_devices, lines_of


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of three steps that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("whole")
    train(brief_run(3), str(workdir), devices=first_devices(1))
    return lines_of(workdir)


def after_step(step: int, action):
    """An `on_step` that calls `action()` after one step."""
    steps = itertools.count(1)

    def on_step(metrics, batch):
        if next(steps) == step:
            action()

    return on_step


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_ends_saved_and_goes_on_from_there(
    number, whole, tmp_path, capsys
):
    before = signal.getsignal(number)
    on_step = after_step(2, lambda: os.kill(os.getpid(), number))
    if number == signal.SIGINT:
        with pytest.raises(KeyboardInterrupt):
            train(brief_run(3), str(tmp_path), on_step=on_step, devices=first_devices(1))
    else:
        train(brief_run(3), str(tmp_path), on_step=on_step, devices=first_devices(1))
    assert "saved after step 2 of 3, where the same command resumes" in capsys.readouterr().err
    assert signal.getsignal(number) is before
    assert [row["step"] for row in lines_of(tmp_path)] == [0, 1, 2]
    train(brief_run(3), str(tmp_path), devices=first_devices(1))
    assert lines_of(tmp_path) == whole


@pytest.mark.parametrize("checkpoint_every", [0, 2])
def test_an_evaluation_ends_between_batches_and_is_made_up_for(
    checkpoint_every, tmp_path, monkeypatch
):
    """The step before it is saved with its metrics; its evaluation decides the best checkpoint."""
    changes = {"eval_every": 2, "checkpoint_every": checkpoint_every}
    train(brief_run(3, **changes), str(tmp_path / "whole"), devices=first_devices(1))

    answers = loop.evaluate
    evaluations = itertools.count()

    def evaluate(*arguments, between_batches, **options):
        def stop_then_go_on():
            if number == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            between_batches()

        number = next(evaluations)
        return answers(*arguments, between_batches=stop_then_go_on, **options)

    monkeypatch.setattr(loop, "evaluate", evaluate)
    stopped = tmp_path / "stopped"
    train(brief_run(3, **changes), str(stopped), devices=first_devices(1))
    assert [row["step"] for row in lines_of(stopped)] == [0, 1]
    train(brief_run(3, **changes), str(stopped), devices=first_devices(1))
    assert lines_of(stopped) == lines_of(tmp_path / "whole")
    best = [best_step_of(tmp_path / name) for name in ("whole", "stopped")]
    assert checkpoint_every == 0 or best[0] == best[1]


def best_step_of(workdir):
    with open_checkpoints(str(workdir), read_only=True) as checkpoints:
        return checkpoints.best_step()


def test_without_a_first_evaluation_training_begins_at_once(tmp_path, capsys):
    train(brief_run(1, eval_first=False), str(tmp_path), devices=first_devices(1))
    assert [row["step"] for row in lines_of(tmp_path)] == [1]
    assert "eval/team_accuracy" in lines_of(tmp_path)[0]
    table = capsys.readouterr().out
    assert "held-out problems, after training" in table and "before" not in table
    assert json.loads((tmp_path / "result.json").read_text())["before"] == {}
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "before training" not in page


def test_a_run_whose_checkpoints_are_lost_keeps_its_results_and_says_so(tmp_path, capsys):
    written = "".join(json.dumps({"step": step}) + "\n" for step in range(4))
    (tmp_path / "metrics.jsonl").write_text(written)
    with Trainer(brief_run(3), workdir=tmp_path, devices=first_devices(1)):
        assert (tmp_path / "metrics.jsonl").read_text() == ""
    (kept,) = (tmp_path / "set-aside").iterdir()
    assert (kept / "metrics.jsonl").read_text() == written
    assert (
        f"3 steps have results, but there is no checkpoint: training begins anew; they are kept in {kept}"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "number, expected", [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_run_with_nothing_to_save_ends_where_it_is(number, expected):
    def stopped():
        with GracefulStop():
            os.kill(os.getpid(), number)
            time.sleep(10)

    with pytest.raises(expected):
        stopped()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_within_a_destructor_is_heeded_without_a_traceback(number, capsys):
    """Python ignores what is raised there, as in callbacks of the garbage collection."""

    class Interrupted:
        def __del__(self):
            os.kill(os.getpid(), number)
            time.sleep(0.01)

    class Broken:
        def __del__(self):
            raise ValueError("a mistake of somebody else")

    before = sys.unraisablehook
    sys.unraisablehook = sys.__unraisablehook__
    try:
        with GracefulStop() as stop:
            Interrupted()
            assert stop.signal_name == number.name
            assert "Traceback" not in capsys.readouterr().err
            Broken()
            assert "a mistake of somebody else" in capsys.readouterr().err
        assert sys.unraisablehook is sys.__unraisablehook__
    finally:
        sys.unraisablehook = before


def test_a_stop_that_python_swallowed_before_the_first_step_is_no_success(tmp_path, monkeypatch):
    """A scheduler must not take a run without a step for one that is done."""
    number = signal.SIGTERM

    def evaluate_first(trainer):
        with contextlib.suppress(SystemExit):
            os.kill(os.getpid(), number)
            time.sleep(0.01)

    monkeypatch.setattr(Trainer, "_evaluate_first", evaluate_first)
    with pytest.raises(SystemExit) as ended:
        train(brief_run(3), str(tmp_path), devices=first_devices(1))
    assert ended.value.code == 128 + number
    assert not list(tmp_path.glob("checkpoints/[0-9]*"))


@pytest.mark.parametrize("has_work, signals, status", [(True, 2, 143), (False, 1, 143)])
def test_compiled_code_that_does_not_return_cannot_hold_a_process(has_work, signals, status):
    """A second signal ends it at once, and where there is nothing to save the first one soon."""
    program = f"""
import ctypes, os, signal, threading
import ccpo_jax.train.signals as signals
signals._GRACE = 0.5
stop = signals.GracefulStop()
stop.has_work = {has_work}
with stop:
    # Reads from a pipe that nobody writes to, and goes on after a signal.
    signal.siginterrupt(signal.SIGTERM, False)
    reading, _ = os.pipe()
    # Said while the program reads: a signal before that would be handled by Python.
    threading.Timer(0.5, print, ["ready"], {{"flush": True}}).start()
    ctypes.CDLL(None).read(reading, ctypes.create_string_buffer(1), 1)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    for _ in range(signals):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    _, said = process.communicate(timeout=20)
    assert process.returncode == status
    assert said.count("SIGTERM") == 1 and "Traceback" not in said


def train_with_a_broken_credit_state(config, workdir):
    """Step 2 computes with a credit state that is not finite; it is mended afterwards."""
    sound = []

    def on_step(metrics, batch):
        if trainer.step_count == 1:
            sound.append(jax.device_get(trainer.state.credit_state))
            broken = jax.tree.map(lambda x: x * np.nan if x.dtype == np.float32 else x, sound[0])
            trainer.state = trainer.state._replace(credit_state=broken)
        if trainer.step_count == 2:
            trainer.state = trainer.state._replace(credit_state=sound[0])

    options = {"workdir": workdir, "on_step": on_step, "devices": first_devices(1)}
    with Trainer(config, **options) as trainer:
        trainer.train()


def test_an_update_that_is_not_finite_is_left_out_named_and_kept(whole, tmp_path, capsys):
    expected = r"step 2, agent 0 .*: advantages of 24 of 24 responses are not finite, on "
    with pytest.raises(NonFiniteUpdateError, match=expected):
        train_with_a_broken_credit_state(brief_run(3), tmp_path / "stop")
    assert lines_of(tmp_path / "stop")[:2] == whole[:2]
    (saved,) = (tmp_path / "stop" / "not_finite").iterdir()
    sequences = load_batch(saved).sequences
    assert len(sequences) == len(nonfinite_sequences(sequences)) == 24

    skipping = brief_run(3, **{"trainer.not_finite": "skip"})
    train_with_a_broken_credit_state(skipping, tmp_path / "skip")
    rows = lines_of(tmp_path / "skip")
    assert rows[2]["update/left_out/0"] == 1 and "update/left_out/0" not in rows[3]
    assert "this update is left out" in capsys.readouterr().err


def rows_of(count: int) -> list[TrainSequence]:
    rng = np.random.default_rng(0)
    return [
        TrainSequence(i // 2, rng.integers(0, 9, 3).astype(np.int32), rng.integers(0, 9, i).astype(np.int32),
            rng.integers(0, 9, 1 + i).astype(np.int32), float(rng.normal()), rng.normal(size=1 + i).astype(np.float32))
        for i in range(count)
    ]  # fmt: skip


def test_a_batch_is_kept_bit_for_bit_and_what_is_wrong_with_it_is_named(tmp_path, capsys):
    rows = rows_of(6)
    assert describe_nonfinite(rows, {"loss": 1.0}) == "" and nonfinite_sequences(rows) == []
    assert (
        describe_nonfinite(rows, {"loss": np.nan, "grad_norm": np.inf})
        == "not finite: the loss, the gradient"
    )
    rows[4] = rows[4]._replace(advantage=np.arange(len(rows[4].response), dtype=np.float32))
    rows[3].old_logprobs[1] = np.nan
    assert describe_nonfinite(rows, {}) == "log-probs of 1 of 6 responses are not finite"
    saved = SavedBatch(7, (0, 2), ("p/0", "p/1", "p/2"), "because", tuple(rows))
    loaded = load_batch(save_batch(tmp_path / "kept", saved))
    assert dataclasses.replace(loaded, sequences=saved.sequences) == saved
    for row, other in zip(loaded.sequences, rows, strict=True):
        for mine, theirs in zip(row, other, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    guard = NonFiniteGuard(tmp_path, ("a", "b", "c"), "skip")
    guard.report(saved)
    errors = capsys.readouterr().err
    assert "step 7, agent 0 (a), agent 2 (c): because, on p/1; this update" in errors
    assert guard.stop_reason == ""


@pytest.mark.parametrize(
    "phase, field",
    [
        ("rollout", "sample.max_concurrent"),
        ("update", "trainer.micro_batch"),
        ("evaluation", "eval.batch_size"),
        ("loading", "model"),
    ],
)
def test_memory_that_runs_out_names_the_field_to_lower(phase, field):
    fields = memory_fields(parse(brief_run(1)), phase)
    for error in (MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")):
        with raises_for(field), explain_oom(phase, fields):
            raise error
    other = jax.errors.JaxRuntimeError("INTERNAL: something else")
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), explain_oom(phase, fields):
        raise other


def test_work_that_never_ends_is_given_up():
    assert run_with_timeout(5.0, "model", lambda: 3) == run_with_timeout(0, "model", lambda: 3) == 3
    with pytest.raises(KeyError):
        run_with_timeout(5.0, "model", lambda: {}["x"])
    began = time.perf_counter()
    with raises_for("data.train"):
        run_with_timeout(0.1, "data.train", lambda: time.sleep(3))
    assert time.perf_counter() - began < 2
