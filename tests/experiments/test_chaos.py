"""The chaos experiment in short: after two kills every line is that of the uninterrupted run."""

import json
import multiprocessing
import random
import shutil
import statistics

import pytest
from safetensors.numpy import load_file, save_file

from ccpo_jax.train.sources import TINY
from experiments.robustness import chaos

pytestmark = pytest.mark.experiments


def one_layer(folder) -> str:
    """The embedded model with its first layer alone: a process spends most time tracing layers."""
    shutil.copytree(TINY, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    tensors = load_file(folder / "model.safetensors")
    kept = {
        name: x for name, x in tensors.items() if ".layers." not in name or ".layers.0." in name
    }
    save_file(kept, folder / "model.safetensors")
    return str(folder)


def test_a_run_killed_twice_and_resumed_writes_the_lines_of_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    # Later processes compile nothing.
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ccpo_jax.train", "configs.voting"])
    steps = 20
    changes = chaos.CHANGES | {
        "model": one_layer(tmp_path / "model"),
        "steps": steps,
        "data.heldout": 0,
        # Nothing is evaluated, so fields of evaluations would be refused.
        "eval.samples": None,
        "eval.batch_size": None,
        "eval_every": 0,
        "log.tensorboard": False,
    }
    killer = chaos.Killer(context, changes)
    reference = tmp_path / "whole"
    killer.finish(reference)
    step_seconds = statistics.median(
        line["time/step"] for line in chaos.complete_lines(reference) if "time/step" in line
    )

    killed = tmp_path / "killed"
    # A kill may come before the first checkpoint, or after the end.
    for factor in (0.3, 0.6, 1.2, 0.15):
        shutil.rmtree(killed, ignore_errors=True)
        pace = chaos.Pace(start=1.0, step=factor * step_seconds)
        training = killer.kill_once(killed, random.Random(0), pace)
        assert not (training and (training["step_twice_or_missing"] or training["checkpoint_lost"]))
        if training and training["checkpoint"]:
            break
    starting = killer.kill_once(killed, random.Random(1), pace)
    killer.finish(killed)

    assert training["phase"] == "training" and training["checkpoint"]
    assert starting["phase"] == "start"
    assert not (starting["step_twice_or_missing"] or starting["checkpoint_lost"])
    assert chaos.differences(killed, reference) == []
    written = [line["step"] for line in chaos.metrics_without_times(killed)]
    assert written == list(range(steps + 1))
