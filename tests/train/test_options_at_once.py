"""What learners switch on, all in one run that starts from a supervised warm start: the same lines after SIGKILL, and on
one device and on eight."""

import dataclasses
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax import cli, models, report
from ccpo_jax.report.legend import meaning
from ccpo_jax.train.sources import TINY
from ccpo_jax.workdir import open_checkpoints
from tests.support.runs import lines_of, rollouts_of

ROOT = pathlib.Path(__file__).parents[2]

ROLES = """
[thinker]
system = "Think"
stop = ["="]

[solver]
system = "Solve"
message = "\\nThought: {message}"
stop = ["."]
"""

FIELDS = {
    "data.train": "sums.jsonl",
    "data.heldout": "8",
    "prompts": "roles.toml",
    "thinking": "True",
    "response_length": "8,16",
    "batch_size": "8",
    "verifier.workers": "1",
    "verifier.time_limit": "60.0",
    "log.tensorboard": "False",
    "eval.samples": "2",
    "eval.temperature": "0.7",
    "eval.top_p": "1.0",
    "eval.batch_size": "8",
    "eval_every": "1",
    "sample.top_k": "60",
    "sample.top_p": "0.99",
    "sample.min_p": "0.001",
    "sample.stop": "##",
    "optimizer.eps": "1e-5",
    "optimizer.warmup_steps": "2",
}
WARM = FIELDS | {
    "model": "model",
    "steps": "20",
    "eval_every": "0",
    "sft.targets": "thinker=plan,solver=solution",
    "optimizer.learning_rate": "1e-2",
    "optimizer.schedule": "linear",
}
LEARN = FIELDS | {
    "model": "warm",
    "steps": "3",
    "group_size": "4",
    "checkpoint_every": "1",
    "rollout_log.problems": "8",
    "rollout_log.every": "1",
    "sample.max_draws": "3",
    "loss.name": "gmpo",
    "loss.clip_low": "0.02",
    "loss.clip_high": "0.02",
    "loss.kl_weight": "0.05",
    "loss.kl_estimator": "k3",
    "loss.reference": "model",
    "loss.entropy_bonus": "1e-3",
    "credit.overlong_penalty": "0.2",
    "credit.overlong_buffer": "6",
    "trainer.mini_batches": "2",
    "trainer.epochs": "2",
    "optimizer.learning_rate": "1e-3,5e-4",
    "optimizer.schedule": "cosine",
    "optimizer.floor": "0.1",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a user has: demonstrations, words, and a small model that thinks between markers of its own."""
    folder = tmp_path_factory.mktemp("options")
    (folder / "roles.toml").write_text(ROLES)
    sums = [
        {
            "question": f"Compute {i}+{j}.",
            "answer": str(i + j),
            "plan": f"{i}+{j}=",
            "solution": f"<think>{j}+{i}</think>Answer: {i + j}.",
        }
        for i in range(8)
        for j in range(8)
    ]
    (folder / "sums.jsonl").write_text("\n".join(map(json.dumps, sums)))

    # One layer compiles quickly; the table has more rows than the tokenizer has tokens.
    shutil.copytree(TINY, folder / "model")
    config, params = models.load(TINY)
    params["layers"] = jax.tree.map(lambda x: x[:1], params["layers"])
    table = np.asarray(params["embed"])
    more = np.random.default_rng(0).normal(0, table.std(), (8, table.shape[1]))
    params["embed"] = jnp.concatenate([table, more.astype(table.dtype)])
    vocabulary = len(table)
    config = dataclasses.replace(config, num_layers=1, vocab_size=vocabulary + len(more))
    models.save(folder / "model", config, params)

    file = folder / "model" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    special = tokenizer["added_tokens"][0]
    for number, marker in enumerate(("<think>", "</think>")):
        added = {"id": vocabulary + number, "content": marker}
        tokenizer["added_tokens"].append(special | added)
    file.write_text(json.dumps(tokenizer))
    template = folder / "model" / "chat_template.jinja"
    switch = "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    template.write_text(template.read_text() + switch)
    return folder


def command(fields: dict[str, str], workdir: str, *more: str) -> list[str]:
    changes = [f"--config.{name}={value}" for name, value in fields.items()]
    return ["--config=dyad:tiny", f"--workdir={workdir}", *changes, *more]


def run_here(fields: dict[str, str], workdir: str, *more: str) -> list[dict]:
    """A run in this process. Returns its metrics."""
    assert cli.main(command(fields, workdir, *more)) == 0
    return lines_of(workdir)


def kill_after_a_step(fields: dict[str, str], workdir: str) -> None:
    """The same in a process of its own with eight devices, which ends when it has saved a step."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "8"}
    with open("killed.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ccpo_jax", *command(fields, workdir)],
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            while not list(pathlib.Path(workdir).glob("checkpoints/[1-9]")):
                assert process.poll() is None, pathlib.Path("killed.log").read_text()
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
    assert not pathlib.Path(workdir, "result.json").exists(), "it came to its end"


def arrays_of(workdir: str) -> dict:
    """What the last checkpoint says of every array of the state: name -> its checksums."""
    with open_checkpoints(workdir, read_only=True) as checkpoints:
        step = checkpoints.latest_step()
    record = pathlib.Path(workdir, "checkpoints", str(step), "record", "record.json")
    return json.loads(record.read_text())["arrays"]


def test_all_options_at_once_survive_a_kill_and_move_to_other_devices(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    with monkeypatch.context() as patch:
        first = jax.devices()[:1]
        patch.setattr(jax, "devices", lambda: first)
        warm = run_here(WARM, "warm", "--mode=sft")
        alone = run_here(LEARN, "alone")
    assert warm[-1]["eval/loss"] < 0.7 * warm[0]["eval/loss"]

    split = LEARN | {"mesh.fsdp": "2"}
    whole = run_here(split, "whole")
    kill_after_a_step(split, "killed")
    assert run_here(split, "killed") == whole
    assert rollouts_of("killed") == rollouts_of("whole")
    assert arrays_of("killed") == arrays_of("whole")

    assert [line["step"] for line in alone] == [0, 1, 2, 3]
    for line, other in zip(whole, alone, strict=True):
        assert line.keys() == other.keys()
        for name in line:
            close = math.isclose(line[name], other[name], rel_tol=1e-3, abs_tol=1e-4)
            assert close, (line["step"], name, line[name], other[name])

    check_that_all_act(alone)
    assert report.main(["whole"]) == 0
    page = pathlib.Path("whole", "report.html").read_text()
    titles = ("Distance", "Draws", "Length penalty", "Learning rate", "One of k samples")
    assert all(f"<h3>{title}</h3>" in page for title in titles)
    capsys.readouterr()


def check_that_all_act(lines: list[dict]) -> None:
    """Every option leaves its mark, and every metric has a meaning."""
    assert all(meaning(name, "ccpo") for line in lines for name in line)
    assert all({"eval/pass_at_2", "eval/maj_accuracy"} <= line.keys() for line in lines)
    steps = lines[1:]
    assert any(line["draws"] > 1 for line in steps)
    assert all(line["discarded_groups"] == 8 * (line["draws"] - 1) for line in steps)
    assert all(line[f"kl/{k}"] > 0 for line in steps for k in (0, 1))
    assert any(line["overlong_penalty/1"] < 0 for line in steps)
    assert any(line["update/clip_fraction/1"] > 0 for line in steps)
    for line in steps:
        assert line["update/learning_rate/0"] == pytest.approx(2 * line["update/learning_rate/1"])
    assert steps[-1]["update/learning_rate/0"] == pytest.approx(1.22e-4, rel=0.01)

    solved = [
        text
        for one in rollouts_of("alone")
        for turn in one["turns"]
        if turn["role"] == "solver"
        for text in turn["texts"]
    ]
    assert any(text.get("thought") for text in solved)
    assert not any("." in text["text"] or "<think>" in text["text"] for text in solved)
