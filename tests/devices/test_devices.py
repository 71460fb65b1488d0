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
from ccpo_jax.devices import distributed
from ccpo_jax.fields import as_text
from ccpo_jax.train import loop as train
from ccpo_jax.train.sources import TINY
from configs import voting
from tests.support.errors import raises_for
from tests.support.runs import first_devices, lines_of

ROOT = pathlib.Path(__file__).parents[2]
FIELDS = {
    "shared_policy": True,
    "batch_size": 8,
    "group_size": 4,
    "response_length": (16,),
    "data.heldout": 0,
    "eval_every": 0,
    "verifier.workers": 1,
    "verifier.time_limit": 60.0,
    "log.tensorboard": False,
    "optimizer.learning_rate": 1e-2,
    "loss.entropy_bonus": 1e-3,
}
SPLIT = {"mesh.fsdp": 2, "mesh.model": 2}


@pytest.fixture(scope="module")
def fields(tmp_path_factory) -> dict:
    """Of a run that compiles quickly: one layer of the embedded model, and sums it can guess."""
    folder = tmp_path_factory.mktemp("fields")

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
    # A function of the user's judges with a verifier, in every process.
    reward = "def short(answer, problem):\n    return len(problem['answer']) / (9 + len(answer))\n"
    (folder / "reward.py").write_text(reward)
    return FIELDS | {
        "model": str(folder / "model"),
        "data.train": str(folder / "sums.jsonl"),
        "verifier.name": f"0.9*math + 0.1*{folder / 'reward.py'}:short",
    }


def on_devices(count: int, workdir, changes) -> list[dict]:
    """Trains on `count` devices, from the state of `workdir`. Returns its metrics."""
    config = voting.get_config("tiny")
    config.update_from_flattened_dict(changes)
    train.train(config, str(workdir), devices=first_devices(count))
    return lines_of(workdir)


def start_all(count: int, devices: int, workdir, changes) -> list[subprocess.Popen]:
    """Starts `count` processes of one run, with `devices` devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "run.py", "--config=configs/voting.py:tiny", f"--workdir={workdir}"]
    command += [f"--config.{name}={as_text(value)}" for name, value in changes.items()]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(count),
        "JAX_COMPILATION_CACHE_DIR": f"{workdir}-compiled",
    }
    return [
        subprocess.Popen(
            [*command, f"--process={index}"],
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for index in range(count)
    ]


def finish_all(started: list[subprocess.Popen]) -> list[tuple[str, str]]:
    """(stdout, stderr) of each process; all have to succeed."""
    try:
        outputs = [process.communicate(timeout=240) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * len(started), outputs
    return outputs


def assert_alike(rows: list[dict], others: list[dict], **tolerance) -> None:
    assert [row["step"] for row in rows] == list(range(len(others)))
    for row, other in zip(rows[1:], others[1:], strict=True):
        assert row.keys() == other.keys() and row["update/grad_norm/0"] > 0
        for field in row:
            assert math.isclose(row[field], other[field], **tolerance), (row["step"], field)


def test_a_run_moves_to_other_devices_and_processes_and_learns_the_same(fields, tmp_path):
    """8 -> 4 -> 1 -> 8 devices in one run's life, beside one device throughout.

    4 processes x 1 device are one x 4, and then 2 devices take over. Processes with several devices
    each are in tests/train/test_everything.py.
    """
    close = {"rel_tol": 2e-3, "abs_tol": 2e-4}
    moved, twin = tmp_path / "moved", tmp_path / "twin"
    alone = on_devices(1, tmp_path / "alone", fields | {"steps": 4})

    on_devices(8, moved, fields | SPLIT | {"steps": 1})
    shutil.copytree(moved, twin)
    outputs = finish_all(start_all(4, 1, twin, fields | SPLIT | {"steps": 2}))
    assert "step 2/2" in outputs[0][1], "the main process prints"
    assert not any("step" in error for _, error in outputs[1:]), "the others do not"
    four = on_devices(4, moved, fields | SPLIT | {"steps": 2})
    assert_alike(lines_of(twin), four, rel_tol=1e-4, abs_tol=1e-5)

    two = on_devices(2, twin, fields | {"mesh.fsdp": 2, "steps": 3})
    assert_alike(two, alone[:4], **close)
    assert not (tmp_path / "twin-compiled").exists(), (
        "programs of several CPU processes must not come from a cache"
    )

    on_devices(1, moved, fields | {"steps": 3})
    replicated = SPLIT | {"mesh.rules": "replicated_decode"}
    eight = on_devices(8, moved, fields | replicated | {"steps": 4})
    assert_alike(eight, alone, **close)


# Nobody earns anything for an odd sum; for an even one, every answer earns something else.
EVEN_SUMS = """
import zlib

def score(answer, problem):
    return 0.0 if int(problem["answer"]) % 2 else zlib.crc32(answer.encode()) % 997 / 997
"""


def test_a_run_that_draws_on_stops_and_moves_in_the_middle_of_its_stream(fields, tmp_path):
    """It draws, keeps and discards the same prompts on one device, on eight, and in two processes.

    One that is killed is in tests/train/test_options_at_once.py.
    """
    (tmp_path / "even.py").write_text(EVEN_SUMS)
    changes = fields | {
        "verifier.name": f"{tmp_path / 'even.py'}:score",
        "sample.max_draws": 3,
        # The answers of a team that has lost its way are cut, and earn nothing.
        "optimizer.learning_rate": 1e-4,
        "steps": 3,
        "checkpoint_every": 1,
    }
    alone = on_devices(1, tmp_path / "alone", changes)
    assert sum(line["draws"] for line in alone[1:]) > 4
    assert all(line["discarded_groups"] == 8 * (line["draws"] - 1) for line in alone[1:])

    stopped, moved, twin = (tmp_path / name for name in ("stopped", "moved", "twin"))
    on_devices(1, stopped, changes | {"steps": 1})
    shutil.copytree(stopped, moved)
    shutil.copytree(stopped, twin)

    assert on_devices(1, stopped, changes) == alone
    close = {"rel_tol": 2e-3, "abs_tol": 2e-4}
    assert_alike(on_devices(8, moved, changes), alone, **close)
    finish_all(start_all(2, 1, twin, changes))
    assert_alike(lines_of(twin), alone, **close)


@pytest.mark.parametrize(
    "arguments, field, advice",
    [
        ((None, 2, 0), "coordinator", "--coordinator=HOST:PORT"),
        (("here", 2, 0), "coordinator", "--coordinator=HOST:PORT"),
        (("here:99999", 2, 0), "coordinator", "--coordinator=HOST:PORT"),
        (("here:1", -2, 0), "processes", "--processes=NUMBER"),
        (("here:1", None, 0), "processes", "JAX_NUM_PROCESSES"),
        (("here:1", 2, "x"), "process", "--process=NUMBER"),
        (("here:1", 2, 2), "process", "0 to 1"),
    ],
    ids=str,
)
def test_a_mistake_in_joining_names_the_flag(arguments, field, advice):
    with raises_for(field) as error:
        distributed.initialize(*arguments)
    assert advice in str(error.value) and "\n" not in str(error.value)


def test_one_process_agrees_with_itself():
    assert distributed.is_main_process()
    assert distributed.all_gather_objects({"a": 1}) == [{"a": 1}]
    assert distributed.first_nonempty("") == ""
    with pytest.raises(KeyError), distributed.sync_errors():
        raise KeyError("mine")


def test_an_error_of_another_process_is_raised_here(monkeypatch):
    monkeypatch.setattr(distributed, "all_gather_objects", lambda message: [message, "disk full"])
    with raises_for("process") as error, distributed.sync_errors():
        pass
    assert "1 failed: disk full" in str(error.value)


@pytest.mark.parametrize(
    "error, printed",
    [
        (ValueError("UNKNOWN: Gloo failed: reset\nmore"), "(UNKNOWN: Gloo failed: reset)"),
        (KeyError("mine"), "KeyError: 'mine'\n"),
    ],
    ids=["lost", "own"],
)
def test_a_failing_process_of_several_says_why_and_exits(error, printed, monkeypatch, capsys):
    status = []
    monkeypatch.setattr(os, "_exit", status.append)

    def fail(*_):
        # What comes before the mode would wait for a second process.
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        raise error

    failing = cli.Mode(fail, starts_run=True)
    monkeypatch.setitem(cli.MODES, "train", failing)
    cli.run_mode(voting.get_config("tiny"), "voting:tiny", "unused", "train")
    shown = capsys.readouterr().err
    assert status == [1] and printed in shown and ("Traceback" in shown) == ("mine" in printed)
