"""One run on any number of devices and processes: the same metrics."""

import dataclasses
import json
import math
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import jax
import pytest

from ccpo_jax import cli, models
from ccpo_jax.devices import distributed as processes
from ccpo_jax.train import loop as train
from ccpo_jax.train.build import TINY
from configs import voting
from tests.support.runs import first_devices, lines_of

ROOT = pathlib.Path(__file__).parents[2]
CHANGES = {
    "shared_policy": True, "batch_size": 8, "group_size": 4, "response_length": (16,), "data.heldout": 0,
    "eval_every": 0, "verifier.workers": 1, "verifier.time_limit": 60.0, "log.tensorboard": False,
    "optimizer.learning_rate": 1e-2, "trainer.skip_silent": False,
}  # fmt: skip
SPLIT = {"mesh.fsdp": 2, "mesh.model": 2}


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> dict:
    """Fields of a run that compiles quickly: the first layer of the embedded model, and sums that it guesses at."""
    folder = tmp_path_factory.mktemp("asked")
    shutil.copytree(TINY, folder / "model")
    config, params = models.load(TINY)
    params["layers"] = jax.tree.map(lambda x: x[:1], params["layers"])
    models.save(folder / "model", dataclasses.replace(config, num_layers=1), params)
    sums = [
        {"question": f"Compute {i}+{j}.", "answer": str(i + j)}
        for i in range(1, 8)
        for j in range(2, 9 - i)
    ]
    (folder / "sums.jsonl").write_text("\n".join(map(json.dumps, sums)))
    return CHANGES | {"model": str(folder / "model"), "data.train": str(folder / "sums.jsonl")}


def on_devices(monkeypatch, count: int, workdir, changes) -> list[dict]:
    """Trains in this process with so many devices, from where `workdir` stands."""
    monkeypatch.setattr(jax, "devices", first_devices(count))
    config = voting.get_config("tiny")
    config.update_from_flattened_dict(changes)
    train.train(config, str(workdir))
    return lines_of(workdir)


def start_all(count: int, devices: int, workdir, changes) -> list[subprocess.Popen]:
    """Processes of one run, with so many devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "run.py", "--config=configs/voting.py:tiny", f"--workdir={workdir}"]
    command += [f"--config.{name}={value}" for name, value in changes.items()]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    environment |= {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count)}
    environment |= {"JAX_COMPILATION_CACHE_DIR": f"{workdir}-compiled"}
    return [
        subprocess.Popen(
            [*command, f"--process={index}"], cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for index in range(count)
    ]  # fmt: skip


def finish_all(started: list[subprocess.Popen]) -> list[tuple[str, str]]:
    """What each has told, on stdout and stderr."""
    try:
        told = [process.communicate(timeout=240) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * len(started), told
    return told


def assert_alike(rows: list[dict], others: list[dict], **tolerance) -> None:
    assert [row["step"] for row in rows] == list(range(len(others)))
    for row, other in zip(rows[1:], others[1:], strict=True):
        assert row.keys() == other.keys() and row["update/grad_norm/0"] > 0
        for field in row:
            assert math.isclose(row[field], other[field], **tolerance), (row["step"], field)


def test_a_run_moves_to_other_devices_and_processes_and_learns_the_same(
    asked, tmp_path, monkeypatch
):
    """8 -> 4 -> 1 -> 8 devices in one run's life, beside one device throughout.

    2 processes x 2 devices are one x 4, and 4 processes x 1 device take over from them, then 2 devices.
    """
    alone = on_devices(monkeypatch, 1, tmp_path / "alone", asked | {"steps": 4})
    moved, twin = tmp_path / "moved", tmp_path / "twin"
    on_devices(monkeypatch, 8, moved, asked | SPLIT | {"steps": 1})
    shutil.copytree(moved, twin)
    told = finish_all(start_all(2, 2, twin, asked | SPLIT | {"steps": 2}))
    assert "step 2/2" in told[0][1] and "step" not in told[1][1], (
        "the first process speaks for both"
    )
    four = on_devices(monkeypatch, 4, moved, asked | SPLIT | {"steps": 2})
    assert_alike(lines_of(twin), four, rel_tol=1e-4, abs_tol=1e-5)
    close = {"rel_tol": 2e-3, "abs_tol": 2e-4}
    finish_all(start_all(4, 1, twin, asked | SPLIT | {"steps": 3}))
    assert_alike(lines_of(twin), alone[:4], **close)
    assert_alike(
        on_devices(monkeypatch, 2, twin, asked | {"mesh.fsdp": 2, "steps": 4}), alone, **close
    )
    assert not (tmp_path / "twin-compiled").exists(), (
        "programs of several CPU processes must not come from a cache"
    )
    on_devices(monkeypatch, 1, moved, asked | {"steps": 3})
    assert_alike(on_devices(monkeypatch, 8, moved, asked | SPLIT | {"steps": 4}), alone, **close)


@pytest.mark.parametrize("given,message", [
    ((None, 2, 0), "coordinator: received None; type --coordinator=HOST:PORT"),
    (("here", 2, 0), "coordinator: received 'here'"),
    (("here:99999", 2, 0), "coordinator: received 'here:99999'"),
    (("here:1", -2, 0), "processes: received -2; type --processes=NUMBER from 1 on"),
    (("here:1", None, 0), "processes: received None; type --processes=NUMBER, or set JAX_NUM_PROCESSES"),
    (("here:1", 2, "x"), "process: received 'x'"),
    (("here:1", 2, 2), "process: received 2 of 2 processes; number them from 0 to 1"),
], ids=str)  # fmt: skip
def test_a_mistake_in_joining_is_one_line(given, message):
    with pytest.raises(ValueError, match=message):
        processes.initialize(*given)


def test_alone_everything_is_ones_own():
    assert (
        processes.is_main_process()
        and processes.all_gather_objects({"a": 1}) == [{"a": 1}]
        and processes.first_nonempty("") == ""
    )
    with pytest.raises(KeyError), processes.sync_errors():
        raise KeyError("mine")


@pytest.mark.parametrize("error,told", [
    (ValueError("UNKNOWN: Gloo AllGather failed: reset\nmore"), "another one is gone (UNKNOWN: Gloo AllGather failed: reset); start"),
    (KeyError("mine"), "KeyError: 'mine'\n"),
], ids=["lost", "own"])  # fmt: skip
def test_who_fails_among_several_says_why_and_leaves(error, told, monkeypatch, capsys):
    status = []
    monkeypatch.setattr(os, "_exit", status.append)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(train, "train", lambda *_: raise_(error))
    cli.run_mode(voting.get_config("tiny"), "configs/voting.py:tiny", "unused", "train")
    shown = capsys.readouterr().err
    assert status == [1] and told in shown and ("Traceback" in shown) == ("mine" in told)


def raise_(error: Exception):
    raise error
