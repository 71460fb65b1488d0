"""Several processes: how they are told, and real ones that train as one process does."""

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

from ccpo_jax import models, processes, train
from ccpo_jax.setup import TINY
from tests.test_train import ALL_DEVICES, lines_of, small

ROOT = pathlib.Path(__file__).parents[1]
SMALL = {
    "group_size": 2, "data.heldout": 8, "eval.batch_size": 8, "data.size": 100, "response_length": (8,),
    "mesh.fsdp": 2, "mesh.model": 2,
}  # fmt: skip


@pytest.mark.parametrize("given,message", [
    ((None, 2, 0), "coordinator: received None; type --coordinator=HOST:PORT"),
    (("here", 2, 0), "coordinator: received 'here'"),
    (("here:1", None, 0), "processes: received None; type --processes=NUMBER, or set JAX_NUM_PROCESSES"),
    (("here:1", 2, "x"), "process: received 'x'"),
    (("here:1", 2, 2), "process: received 2 of 2 processes; number them from 0 to 1"),
], ids=str)  # fmt: skip
def test_a_mistake_in_joining_is_one_line(given, message):
    with pytest.raises(ValueError, match=message):
        processes.join(*given)


def test_alone_everything_is_ones_own():
    assert processes.first() and processes.exchange({"a": 1}) == [{"a": 1}] and processes.any_word("") == ""
    with pytest.raises(KeyError), processes.together():
        raise KeyError("mine")


@pytest.fixture(scope="module")
def one_layer(tmp_path_factory) -> str:
    """The embedded model's first layer as a model of its own."""
    folder = tmp_path_factory.mktemp("model")
    shutil.copytree(TINY, folder, dirs_exist_ok=True)
    config, params = models.load(TINY)
    params["layers"] = jax.tree.map(lambda x: x[:1], params["layers"])
    models.save(folder, dataclasses.replace(config, num_layers=1), params)
    return str(folder)


def start_all(count: int, devices: int, workdir, model: str, **changes) -> list[subprocess.Popen]:
    """Processes of one run, with so many devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = small("voting", model=model, **SMALL | changes)
    default = untouched()
    typed = {k: v for k, v in flat(config).items() if v != default[k]}
    command = [sys.executable, "run.py", "--config=configs/voting.py:tiny", f"--workdir={workdir}"]
    command += [f"--config.{name}={value}" for name, value in typed.items()]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    place = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count)}
    return [
        subprocess.Popen(
            [*command, f"--process={index}"], cwd=ROOT, env=environment | place, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for index in range(count)
    ]  # fmt: skip


def flat(config) -> dict:
    found = {}
    for name, value in config.items():
        found |= {f"{name}.{k}": v for k, v in flat(value).items()} if hasattr(value, "items") else {name: value}
    return found


def untouched() -> dict:
    from configs import voting

    return flat(voting.get_config("tiny"))


def finish_all(started) -> list[tuple[str, str]]:
    try:
        told = [process.communicate(timeout=240) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * len(started), told
    return told


def assert_alike(some: list[dict], others: list[dict]):
    assert [row["step"] for row in some] == [row["step"] for row in others]
    for row, other in zip(some, others, strict=True):
        shared = row.keys() & other.keys()  # a run that ended earlier evaluated after its own last step
        assert len(shared) > 20
        for field in shared:
            assert math.isclose(row[field], other[field], rel_tol=2e-3, abs_tol=2e-4), (row["step"], field)


def on_devices(monkeypatch, count: int, workdir, model: str, **changes) -> list[dict]:
    """The same run in this process."""
    monkeypatch.setattr(jax, "devices", lambda *_: ALL_DEVICES()[:count])
    train.train(small("voting", model=model, **SMALL | changes), str(workdir))
    return lines_of(workdir)


def test_two_processes_train_as_one_and_their_checkpoint_is_anyones(one_layer, tmp_path, monkeypatch):
    """2 processes x 2 devices, parameters split over both; one process with 4 devices repeats it, and goes on."""
    started = start_all(2, 2, tmp_path / "two", one_layer, steps=1)
    told = finish_all(started)
    assert "team without agent 0" in told[0][0] and not told[1][0], "the first process speaks for both"
    two = lines_of(tmp_path / "two")
    assert json.loads((tmp_path / "two" / "result.json").read_text())["after"]["step"] == 1
    one = on_devices(monkeypatch, 4, tmp_path / "one", one_layer, steps=2)
    assert_alike(two, one[:2])
    assert_alike(on_devices(monkeypatch, 4, tmp_path / "two", one_layer, steps=2), one)


@pytest.mark.slow
def test_four_processes_train_as_one(one_layer, tmp_path, monkeypatch):
    finish_all(start_all(4, 1, tmp_path / "four", one_layer, steps=2))
    assert_alike(lines_of(tmp_path / "four"), on_devices(monkeypatch, 4, tmp_path / "one", one_layer, steps=2))
