"""Runs that are stopped, folders in use or full, numbers that are none: said in one line, saved, and gone on from."""

import dataclasses
import os
import signal
import time

import jax
import numpy as np
import pytest

from ccpo_jax.errors import InputError
from ccpo_jax.learner.packing import TrainSequence
from ccpo_jax.learner.replay import SavedBatch, load_batch, nonfinite_sequences, save_batch
from ccpo_jax.train import loop as train
from ccpo_jax.train import step as step_module
from ccpo_jax.train.guards import (
    NonFiniteGuard,
    NonFiniteUpdateError,
    describe_nonfinite,
    explain_oom,
    run_with_timeout,
)
from configs import voting
from tests.support.runs import first_devices, lines_of


@pytest.fixture(autouse=True, scope="module")
def one_device():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", first_devices(1))
        yield


def brief(steps: int, **changes):
    """One shared network, short answers: a step takes a moment."""
    config = voting.get_config("tiny")
    config.update_from_flattened_dict(
        {
            "steps": steps, "shared_policy": True, "batch_size": 2, "group_size": 4, "response_length": (16,),
            "data.size": 100, "data.heldout": 4, "eval.samples": 4, "eval.batch_size": 2, "eval_every": 0,
            "checkpoint_every": 0, "verifier.workers": 1, "trainer.micro_batch": 2, "log.tensorboard": False,
            "loss.entropy_bonus": 1e-3,
        } | changes
    )  # fmt: skip
    return config


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of three steps that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("whole")
    train.train(brief(3), str(workdir))
    return lines_of(workdir)


def during(monkeypatch, step: int, act):
    """Calls `act` in the middle of a step."""
    original = step_module.step_metrics

    def describe(*args):
        if during.count == step:
            act()
        during.count += 1
        return original(*args)

    during.count = 1
    monkeypatch.setattr(step_module, "step_metrics", describe)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_ends_saved_and_goes_on_from_there(
    number, whole, tmp_path, monkeypatch, capsys
):
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        during(patch, 2, lambda: os.kill(os.getpid(), number))
        if number == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt):
                train.train(brief(3), str(tmp_path))
        else:
            train.train(brief(3), str(tmp_path))
    assert "saved after step 2 of 3, where the same command resumes" in capsys.readouterr().err
    assert signal.getsignal(number) is before
    assert [row["step"] for row in lines_of(tmp_path)] == [0, 1, 2]
    train.train(brief(3), str(tmp_path))
    assert lines_of(tmp_path) == whole


def test_an_update_that_is_not_finite_is_left_out_named_and_kept(
    whole, tmp_path, monkeypatch, capsys
):
    original = step_module.turn_advantages

    def spoilt(*args):
        spoilt.count += 1
        advantages = original(*args)
        return (
            jax.tree.map(lambda x: np.full_like(x, np.nan), advantages)
            if spoilt.count == 2
            else advantages
        )

    spoilt.count = 0
    monkeypatch.setattr(step_module, "turn_advantages", spoilt)
    with pytest.raises(
        NonFiniteUpdateError,
        match=r"step 2, agent 0 .*: advantages of 24 of 24 responses are not finite, on ",
    ):
        train.train(brief(3), str(tmp_path / "stop"))
    assert lines_of(tmp_path / "stop")[:2] == whole[:2]
    (kept,) = (tmp_path / "stop" / "not_finite").iterdir()
    sequences = load_batch(kept).sequences
    assert len(sequences) == len(nonfinite_sequences(sequences)) == 24
    spoilt.count = 0
    train.train(brief(3, **{"trainer.not_finite": "skip"}), str(tmp_path / "skip"))
    rows = lines_of(tmp_path / "skip")
    assert rows[2]["update/left_out/0"] == 1 and "update/left_out/0" not in rows[3]
    assert "this update is left out, its batch is in" in capsys.readouterr().err


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
    rows[3].old_logprobs[1] = np.nan
    assert describe_nonfinite(rows, {}) == "log-probs of 1 of 6 responses are not finite"
    saved = SavedBatch(7, (0, 2), ("p/0", "p/1", "p/2"), "because", tuple(rows))
    loaded = load_batch(save_batch(tmp_path / "kept", saved))
    assert dataclasses.replace(loaded, sequences=saved.sequences) == saved
    for row, other in zip(loaded.sequences, rows, strict=True):
        for mine, theirs in zip(row, other, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    watch = NonFiniteGuard(tmp_path, ("a", "b", "c"), "skip")
    watch.report("because", rows, step=7, agents=(0, 2), problems=["p/0", "p/1", "p/2"])
    assert (
        "step 7, agent 0 (a), agent 2 (c): because, on p/1; this update" in capsys.readouterr().err
    )
    assert watch.stop == ""


@pytest.mark.parametrize("phase, field", [
    ("rollout", "sample.max_concurrent"), ("update", "trainer.micro_batch"), ("evaluation", "eval.batch_size"), ("loading", "model"),
])  # fmt: skip
def test_memory_that_runs_out_names_the_field_to_lower(phase, field):
    for error in (MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")):
        with pytest.raises(InputError, match=f"^{field}: "), explain_oom(phase, brief(1)):
            raise error
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), explain_oom(phase, brief(1)):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")


def test_work_that_never_ends_is_given_up():
    assert run_with_timeout(5.0, "model", lambda: 3) == run_with_timeout(0, "model", lambda: 3) == 3
    with pytest.raises(KeyError):
        run_with_timeout(5.0, "model", lambda: {}["x"])
    began = time.perf_counter()
    with pytest.raises(
        ValueError, match=r"^data.train: loading it has not ended within 0.1 seconds"
    ):
        run_with_timeout(0.1, "data.train", lambda: time.sleep(3))
    assert time.perf_counter() - began < 2
