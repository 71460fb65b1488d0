"""experiments/chaos.py in short: two kills, and every line is that of the run that nobody killed."""

import json
import multiprocessing
import random
import shutil
import statistics

from safetensors.numpy import load_file, save_file

from ccpo_jax.train.build import TINY
from experiments.robustness import chaos


def one_layer(folder) -> str:
    """The embedded model with its first layer alone: a life is mostly the tracing of layers."""
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
    monkeypatch.setenv(
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0"
    )  # later lives compile nothing
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ccpo_jax.train", "configs.voting"])
    steps, whole, killed = 20, tmp_path / "whole", tmp_path / "killed"
    changes = chaos.CHANGES | {"model": one_layer(tmp_path / "model"), "steps": steps, "data.heldout": 0,
                               "eval_every": 0, "log.tensorboard": False}  # fmt: skip
    assert chaos.end(chaos.begin(context, whole, changes), whole, None)
    step = statistics.median(row["time/step"] for row in chaos.rows_of(whole) if "time/step" in row)
    for factor in (
        0.3,
        0.6,
        1.2,
        0.15,
    ):  # a kill may miss: come before the first checkpoint, or after the end
        shutil.rmtree(killed, ignore_errors=True)
        pace = {"start": 1.0, "step": factor * step}
        training = chaos.kill_once(context, killed, changes, random.Random(0), pace)
        assert not (training and (training["step_twice_or_missing"] or training["checkpoint_lost"]))
        if training and training["checkpoint"]:
            break
    starting = chaos.kill_once(context, killed, changes, random.Random(1), pace)
    assert chaos.end(chaos.begin(context, killed, changes), killed, None)
    assert (
        training["phase"] == "training" and training["checkpoint"] and starting["phase"] == "start"
    )
    assert not (starting["step_twice_or_missing"] or starting["checkpoint_lost"])
    assert chaos.differences(killed, whole) == []
    assert [row["step"] for row in chaos.lines_of(killed)] == list(range(steps + 1))
