"""The command line: a mistake is one line that names the field, and exit status 2."""

import os
import pathlib
import subprocess
import sys

import pytest

from ccpo_jax import train
from configs import voting

ROOT = pathlib.Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "run.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    "arguments,message",
    [
        ([], "--config is missing; type --config=configs/voting.py:tiny"),
        (["--config=configs/nothing.py"], "config: there is no file 'configs/nothing.py'"),
        (["--config=configs/voting.py:huge"], "no preset 'huge'; use one of"),
        (["--config=configs/voting.py:tiny", "--config.credit.nmae=ccpo"], "did you mean --config.credit.name?"),
        (
            ["--config=configs/voting.py:tiny", "--config.steps=many"],
            "config.steps: 'many' is not of type int; type a value such as 40",
        ),
        (["--config=configs/voting.py:tiny", "--mode=fly"], "should be one of <train|eval|sample|export>"),
        (["--config=configs/voting.py:tiny", "--bogus=1"], "Unknown command line flag 'bogus'"),
        (["--config=configs/voting.py:tiny", "stray"], "'stray' is not a flag"),
        (["--config=configs/voting.py:tiny", "--config.credit.name=karma"], "credit.name: 'karma' is unknown"),
    ],
    ids=lambda value: value[-1].removeprefix("--config") if isinstance(value, list) and value else None,
)
def test_a_mistake_on_the_command_line_is_one_line(arguments, message):
    done = run(*arguments)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0], done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"model": "nowhere/model"}, "model: "),
        ({"model": "tiny,tiny"}, "model: 2 models for 3 parameter sets"),
        ({"data.train": "no_such_set"}, "data.train: no dataset 'no_such_set'"),
        ({"data.train": "missing.parquet"}, "data.train: "),
        ({"data.train": "math"}, "data.train: "),
        ({"data.heldout": 100_000}, "data.heldout: "),
        ({"prompt_length": 5}, "prompt_length: "),
        ({"prompt_style": "poem"}, "prompt_style: 'poem' is unknown"),
        ({"response_length": (5, 5)}, "response_length: 2 entries for 3 agents"),
        ({"batch_size": 12}, "batch_size: 12 does not divide over 8 devices"),
        ({"mesh.model": 3}, "mesh: "),
        ({"credit.name": "ccpo_event"}, "ccpo_event"),
        ({"verifier.time_limit": -1.0}, "verifier.time_limit: must be above 0"),
        ({"optimizer.learning_rate": -1.0}, "optimizer.learning_rate: must be above 0"),
        ({"solo_samples": -1}, "solo_samples: must be at least 1"),
        ({"log.wandb": True}, "log.wandb: the wandb package is missing"),
        ({"loss.normalize": "foo"}, "loss.normalize: 'foo' is unknown"),
        ({"loss.normalize": "length"}, "loss.max_length: "),
        ({"loss.ratio": "foo"}, "loss.ratio: 'foo' is unknown"),
        ({"loss.name": "gspo", "loss.dual_clip": 3.0}, "loss.dual_clip: 'gspo' does not take it"),
        ({"credit.alpha": -1.0}, "credit.alpha: must be above 0"),
        ({"credit.name": "cross_play", "num_agents": 6, "group_size": 17}, "group_size"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_mistake_in_the_configuration_is_one_line(changes, message, tmp_path, capsys):
    config = voting.get_config("tiny")
    config.update_from_flattened_dict(changes)
    assert train.main(config, "configs/voting.py:tiny", str(tmp_path), "train") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ") and message in errors[0]
    assert not (tmp_path / "metrics.jsonl").exists()


def test_export_without_checkpoints_says_so(tmp_path, capsys):
    assert train.main(voting.get_config("tiny"), "configs/voting.py:tiny", str(tmp_path), "export") == 2
    assert "error: workdir: there is no run in" in capsys.readouterr().err


def test_an_unwritable_workdir_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert train.main(voting.get_config("tiny"), "configs/voting.py:tiny", str(tmp_path / "file"), "train") == 2
    assert "error: workdir: cannot write" in capsys.readouterr().err


def test_without_a_network_there_is_one_line_and_no_wait(tmp_path):
    """Not offline mode: a network that leads nowhere, as on a machine without one."""
    nowhere = {
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path),
        "JAX_PLATFORMS": "cpu",
    }
    for field, name in (("model", "Qwen/Qwen2.5-0.5B-Instruct"), ("data.train", "math")):
        command = [sys.executable, "run.py", "--config=configs/voting.py:tiny", f"--config.{field}={name}"]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | nowhere, capture_output=True, text=True, timeout=100)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith(f"error: {field}: ") and "cannot be reached" in done.stderr
