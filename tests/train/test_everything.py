"""A plugin, a weighted sum with a function of the user's, a CSV with columns of its own and role prompts in a file, all in
one run on a split mesh: the same lines in one process, after a resume, and from two processes."""

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

from ccpo_jax import cli, models, report
from ccpo_jax.report.legend import meaning
from ccpo_jax.scores import is_fraction
from ccpo_jax.train.sources import TINY
from tests.support.plugins import forgotten_plugins
from tests.support.runs import lines_of, rollouts_of

ROOT = pathlib.Path(__file__).parents[2]

TEAM = """
import jax.numpy as jnp

import ccpo_jax


def pair():
    return ccpo_jax.Topology("pair", ("writer", "editor"), ((), (0,)), (0,), "last")


def bonus(topology, *, weight=0.5):
    raw = ccpo_jax.CREDITS["difference"](topology)

    def update(state, outcome):
        delta, state = raw.update(state, outcome)
        return jnp.asarray(outcome.reward[0]) + weight * delta, state

    return ccpo_jax.CreditEstimator(raw.init, update, needs=raw.needs)


ccpo_jax.TOPOLOGIES["pair"] = pair
ccpo_jax.CREDITS["bonus"] = bonus
"""

REWARDS = """
def near(answer, problem):
    distance = abs(len(answer) - 8 * float(problem["level"]))
    return max(0.0, 1 - distance / 32), len(answer) // 8


def short(answer, problem):
    return 1 / (1 + len(answer.split()))
"""

ROLES = """
[writer]
system = "Think"

[editor]
system = "Solve"
message = "\\nThought: {message}"
"""

FIELDS = {
    "plugins": "my_team.py",
    "topology": "pair",
    "credit.name": "bonus",
    "prompts": "roles.toml",
    "verifier.name": "0.5*math + 0.4*my_rewards.py:near + 0.1*my_rewards.py:short",
    "verifier.workers": "1",
    "verifier.time_limit": "60.0",
    "data.train": "tasks.csv",
    "data.columns": "question=task, answer=result",
    "data.heldout": "8",
    "model": "model",
    "shared_policy": "True",
    "batch_size": "8",
    "group_size": "2",
    "response_length": "12,12",
    "eval_every": "1",
    "eval.samples": "2",
    "eval.batch_size": "8",
    "rollout_log.problems": "8",
    "rollout_log.every": "1",
    "log.tensorboard": "False",
    "loss.entropy_bonus": "1e-3",
    "optimizer.learning_rate": "1e-2",
    "mesh.fsdp": "2",
    "mesh.model": "2",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a user has: a model, a table, a reward, words and a team."""
    folder = tmp_path_factory.mktemp("everything")
    (folder / "my_team.py").write_text(TEAM)
    (folder / "my_rewards.py").write_text(REWARDS)
    (folder / "roles.toml").write_text(ROLES)
    rows = [f'"Compute {i}+{j}.",{i + j},{1 + i % 3}' for i in range(8) for j in range(8)]
    (folder / "tasks.csv").write_text("\n".join(["task,result,level", *rows]))

    # One layer compiles quickly.
    shutil.copytree(TINY, folder / "model")
    config, params = models.load(TINY)
    params["layers"] = jax.tree.map(lambda x: x[:1], params["layers"])
    models.save(folder / "model", dataclasses.replace(config, num_layers=1), params)
    return folder


def command(steps: int, workdir: str) -> list[str]:
    fields = FIELDS | {"steps": str(steps)}
    changes = [f"--config.{name}={value}" for name, value in fields.items()]
    return ["--config=dyad:tiny", f"--workdir={workdir}", *changes]


def train_here(steps: int, workdir: str) -> list[dict]:
    """A run on the devices of this process. Returns its metrics."""
    with forgotten_plugins():
        assert cli.main(command(steps, workdir)) == 0
    return lines_of(workdir)


def train_in_two(steps: int, workdir: str) -> list[dict]:
    """The same on two processes with two devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_NUM_CPU_DEVICES": "2",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": "2",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "ccpo_jax", *command(steps, workdir), f"--process={index}"],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for index in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], outputs
    return lines_of(workdir)


def test_everything_at_once_moves_and_resumes(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    four = jax.devices()[:4]
    monkeypatch.setattr(jax, "devices", lambda: four)
    whole = train_here(2, "whole")
    train_here(1, "resumed")
    shutil.copytree("resumed", "moved")
    resumed = train_here(2, "resumed")
    assert resumed == whole
    assert rollouts_of("resumed") == rollouts_of("whole")

    moved = train_in_two(2, "moved")
    assert [line["step"] for line in moved] == [0, 1, 2]
    for line, other in zip(moved, whole, strict=True):
        assert line.keys() == other.keys()
        for name in line:
            assert math.isclose(line[name], other[name], rel_tol=1e-3, abs_tol=1e-4), name

    check_what_is_written(whole)
    with forgotten_plugins():
        assert report.main(["whole"]) == 0, "the team comes from a plugin"
    page = pathlib.Path("whole", "report.html").read_text()
    assert "Parts of the score" in page and "full scores" in page
    capsys.readouterr()


def check_what_is_written(lines: list[dict]) -> None:
    """Parts, full scores and counters by name, each with a meaning, and scores that are fractions."""
    weights = {"math": 0.5, "near": 0.4, "short": 0.1}
    before, first, _ = lines
    assert {f"eval/score/{part}/low" for part in weights} | {"eval/solved"} <= before.keys()
    assert {f"score/{part}/{k}" for part in weights for k in (0, 1)} <= first.keys()
    assert first["verifier/failed/near"] == 0 and "solved/1" in first
    assert all(meaning(name, "bonus") for line in lines for name in line)
    for line, prefix in ((before, "eval/"), (first, "")):
        total = sum(weight * line[f"{prefix}score/{part}"] for part, weight in weights.items())
        assert line[f"{prefix}team_accuracy"] == pytest.approx(total, abs=1e-5)
    assert is_fraction(first["reward"]) and first["update/grad_norm/0"] > 0

    texts = [
        text for one in rollouts_of("whole") for turn in one["turns"] for text in turn["texts"]
    ]
    assert all(text["parts"].keys() == weights.keys() for text in texts)
    assert any(text["verdict"] == f"{text.get('score', 9):.2f}" for text in texts)
    assert json.loads(pathlib.Path("whole", "config.json").read_text())["topology"] == "pair"
