"""metrics.jsonl, TensorBoard and Weights & Biases."""

import io
import json
import sys
import types

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from ccpo_jax.workdir.metrics import (
    MetricsWriter,
)
from tests.support.errors import raises_for


def writer(folder, **changes):
    return MetricsWriter(
        folder, **{"total_steps": 10, "tensorboard": False, "stream": io.StringIO()} | changes
    )


def test_lines_are_json_objects_with_step_first(tmp_path):
    with writer(tmp_path) as out:
        out.write(1, {"reward": np.float32(0.1), "loss": float("nan"), "worst": float("inf")})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text.startswith('{"step": 1, ')
    assert json.loads(text) == {
        "step": 1,
        "reward": float(np.float32(0.1)),
        "loss": None,
        "worst": None,
    }


def test_resuming_drops_later_and_torn_lines(tmp_path):
    with writer(tmp_path) as out:
        for step in range(6):
            out.write(step, {"reward": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "rew')
    with writer(tmp_path, resume_step=3) as out:
        assert [line["step"] for line in out.lines()] == [0, 1, 2, 3]
        out.write(4, {"reward": 40})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4] and lines[-1]["reward"] == 40


def test_a_run_that_starts_over_starts_a_new_file(tmp_path):
    for value in (1, 2):
        with writer(tmp_path) as out:
            out.write(0, {"reward": value})
    assert [line["reward"] for line in out.lines()] == [2]


def test_tensorboard_files_hold_the_scalars_of_each_step(tmp_path):
    with writer(tmp_path, tensorboard=True) as out:
        out.write(3, {"reward": 0.5, "entropy": 2.0})
        out.write(4, {"reward": 0.75})
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert scalars_in(file) == [(3, {"reward": 0.5, "entropy": 2.0}), (4, {"reward": 0.75})]


def scalars_in(file) -> list[tuple[int, dict[str, float]]]:
    """Reads an events file: records of length, checksum, event, checksum."""
    content = file.read_bytes()
    scalars = []
    while content:
        size = int.from_bytes(content[:8], "little")
        event = event_pb2.Event.FromString(content[12 : 12 + size])
        content = content[16 + size :]
        if event.summary.value:
            values = {value.tag: value.simple_value for value in event.summary.value}
            scalars.append((event.step, values))
    return scalars


def test_wandb_without_the_package_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with raises_for("log.wandb"):
        writer(tmp_path, trackers=("wandb",))


def test_wandb_receives_the_same_values(tmp_path, monkeypatch):
    sent = []

    class Run:
        def log(self, values, step):
            sent.append((step, values))

        def finish(self, exit_code):
            sent.append("finished")

    package = types.ModuleType("wandb")
    package.init = lambda **_: Run()
    monkeypatch.setitem(sys.modules, "wandb", package)
    with writer(tmp_path, trackers=("wandb",)) as out:
        out.write(1, {"reward": 0.5})
    assert sent == [(1, {"reward": 0.5}), "finished"]


@pytest.fixture
def starts(monkeypatch):
    """What `wandb.init` received, call by call."""
    received = []

    class Run:
        def log(self, values, step):
            pass

        def finish(self, exit_code):
            pass

    def init(**arguments):
        received.append(arguments)
        return Run()

    package = types.ModuleType("wandb")
    package.init = init
    monkeypatch.setitem(sys.modules, "wandb", package)
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    return received


def test_a_run_that_resumes_continues_its_page_with_its_configuration(tmp_path, starts):
    config = {"seed": 3, "credit": {"name": "ccpo"}}
    for name in "ab":
        (tmp_path / name).mkdir()
    for step in (0, 0, 2):
        with writer(tmp_path / "a", trackers=("wandb",), config=config, resume_step=step) as out:
            out.write(step + 1, {"reward": 0.5})
    with writer(tmp_path / "b", trackers=("wandb",)) as out:
        out.write(1, {"reward": 0.5})

    *same, other = starts
    assert len({start["id"] for start in same}) == 1 and other["id"] != same[0]["id"]
    for start in same:
        assert start["config"] == config and start["resume"] == "allow"
        assert start["name"] == "a" and start["allow_val_change"]
    assert other["config"] == {}


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_page_id_is_replaced(tmp_path, starts, content):
    (tmp_path / "wandb_id").write_text(content)
    for _ in range(2):
        with writer(tmp_path, trackers=("wandb",)):
            pass
    first, second = (start["id"] for start in starts)
    assert first and first == second


def test_an_id_from_the_environment_is_used(tmp_path, starts, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    with writer(tmp_path, trackers=("wandb",)):
        pass
    assert starts[0]["id"] == "mine"
