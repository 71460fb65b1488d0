"""The command line: a mistake is one line that names the field, and exit status 2."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "run.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    "arguments,message",
    [
        ([], "--config is missing; type --config=configs/voting.py:tiny"),
        (["--config=configs/nothing.py"], "No such file or directory: 'configs/nothing.py'"),
        (["--config=configs/voting.py:huge"], "no preset 'huge'; use one of"),
        (["--config=configs/voting.py:tiny", "--config.credit.nmae=ccpo"], "did you mean --config.credit.name?"),
        (["--config=configs/voting.py:tiny", "--config.steps=many"], "--config.steps=many: invalid literal for int()"),
        (["--config=configs/voting.py:tiny", "--mode=fly"], "should be one of <train|eval|sample|export>"),
        (["--config=configs/voting.py:tiny", "--bogus=1"], "Unknown command line flag 'bogus'"),
        (["--config=configs/voting.py:tiny", "stray"], "'stray' is not a flag"),
        (
            ["--config=configs/voting.py:tiny", "--config.credit.name=karma"],
            "credit.name: 'karma' is unknown; use one of",
        ),
        (["--config=configs/voting.py:tiny", "--config.model=nowhere/model"], "model"),
        (["--config=configs/voting.py:tiny", "--config.data.train=no_such_set"], "data.train"),
        (["--config=configs/voting.py:tiny", "--config.data.train=missing.parquet"], "data.train"),
        (["--config=configs/voting.py:tiny", "--config.data.train=math"], "data.train"),
        (["--config=configs/voting.py:tiny", "--config.prompt_length=5"], "prompt_length: "),
        (["--config=configs/voting.py:tiny", "--mode=export"], "workdir"),
    ],
    ids=lambda value: value[-1].removeprefix("--config") if isinstance(value, list) and value else None,
)
def test_a_mistake_is_one_line(arguments, message):
    done = run(*arguments)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0], done.stderr
    assert "Traceback" not in done.stderr
