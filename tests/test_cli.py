"""The command line: a mistake is one line that names the field, and exit status 2."""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys

import pytest
from absl import flags
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ccpo_jax import cli
from ccpo_jax.train import build as setup
from ccpo_jax.workdir.workdir import save_config
from configs import voting
from configs.base import base

ROOT = pathlib.Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "run.py", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize(
    "arguments,message",
    [
        ([], "--config is missing; type --config=configs/voting.py:tiny"),
        (["--config=configs/nothing.py"], "config: there is no file 'configs/nothing.py'"),
        (["--config=configs/voting.py:huge"], "no preset 'huge'; use one of"),
        (
            ["--config=configs/voting.py:tiny", "--config.credit.nmae=ccpo"],
            "did you mean --config.credit.name?",
        ),
        (
            ["--config=configs/voting.py:tiny", "--config.steps=many"],
            "config.steps: 'many' is not of type int; type a value such as 40",
        ),
        (
            ["--config=configs/voting.py:tiny", "--mode=fly"],
            "should be one of <train|eval|sample|export>",
        ),
        (["--config=configs/voting.py:tiny", "--bogus=1"], "Unknown command line flag 'bogus'"),
        (["--config=configs/voting.py:tiny", "stray"], "'stray' is not a flag"),
        (
            ["--config=configs/voting.py:tiny", "--config.credit.name=karma"],
            "credit.name: 'karma' is unknown",
        ),
    ],
    ids=lambda value: (
        value[-1].removeprefix("--config") if isinstance(value, list) and value else None
    ),
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
        ({"mesh.model": 3}, "mesh.fsdp: 1 x mesh.model=3 does not divide"),
        ({"credit.name": "ccpo_event"}, "ccpo_event"),
        ({"verifier.time_limit": -1.0}, "verifier.time_limit: must be above 0"),
        ({"verifier.time_limit": 1e30}, "verifier.time_limit: must be at most 86400"),
        ({"credit.alpha": 1e308}, "credit.alpha: must be a number of less than 2**127"),
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
    assert cli.run_mode(config, "configs/voting.py:tiny", str(tmp_path), "train") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ") and message in errors[0]
    assert not (tmp_path / "metrics.jsonl").exists()


def test_export_without_checkpoints_says_so(tmp_path, capsys):
    assert (
        cli.run_mode(voting.get_config("tiny"), "configs/voting.py:tiny", str(tmp_path), "export")
        == 2
    )
    assert "error: workdir: there is no run in" in capsys.readouterr().err


def test_an_unwritable_workdir_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert (
        cli.run_mode(
            voting.get_config("tiny"), "configs/voting.py:tiny", str(tmp_path / "file"), "train"
        )
        == 2
    )
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
        command = [
            sys.executable,
            "run.py",
            "--config=configs/voting.py:tiny",
            f"--config.{field}={name}",
        ]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | nowhere, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith(f"error: {field}: ") and "is unreachable" in done.stderr


FIELDS = sorted(cli._fields(base()))
ENOUGH = "error: enough: nothing was wrong with it\n"
ODD = ["", "nan", "inf", "1e308", "9" * 400, "None", "True", "(1,", "(0,)", "[" * 3000, "voter " * 2000, "x" * 5000,
       "lambda: 1", "a\nb", "\x1b[2J", "\u202e", "\udc80", "\x00", ",", "/", "tiny,", "solver(5)", "1_0"]  # fmt: skip


@pytest.fixture
def checked(monkeypatch):
    """Calls the program and returns its status and its stderr; what passes every check stops before it takes time."""

    def enough(*_):
        raise ValueError(ENOUGH.removeprefix("error: ").strip())

    def call(act) -> tuple[int, str]:
        errors = io.TextIOWrapper(
            io.BytesIO(), errors="backslashreplace", newline=""
        )  # as python's own stderr
        with contextlib.redirect_stderr(errors):
            try:
                status = act()
            except SystemExit as ended:
                status = ended.code
        errors.flush()
        return status, errors.buffer.getvalue().decode()

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(setup, "fit_prompts", enough)
    return call


def is_one_line(errors: str) -> bool:
    line = errors.removesuffix("\n")
    return line != errors and line.startswith("error: ") and line.isprintable() and len(line) < 1000


def test_any_text_typed_for_any_field_is_read_or_refused_in_one_line(
    checked, monkeypatch, tmp_path
):
    texts = (
        st.sampled_from(ODD)
        | st.text(max_size=20)
        | st.integers(-9, 9).map(str)
        | st.floats(-9, 9).map(str)
    )
    seen = {"enough": 0, "by the program": 0, "by the parser": 0}

    @settings(max_examples=80, deadline=None, derandomize=True)
    @given(st.sampled_from(FIELDS), texts)
    @example("response_length", "voter " * 2000)  # more than python's own parser can hold
    @example("loss.ratio", "x" * 5000)
    def type_it(field, text):
        small = ["--config.data.size=20", "--config.data.heldout=4"]
        typed = ["run.py", "--config=configs/voting.py:tiny", *small, f"--config.{field}={text}"]
        for name in [name for name in flags.FLAGS if name.startswith("config.")]:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
        monkeypatch.setattr(sys, "argv", typed)

        def act():
            cli.parse(typed)
            outcome.append("by the program")
            return cli.run_mode(
                cli._CONFIG.value, "configs/voting.py:tiny", str(tmp_path / "run"), "train", {}
            )

        outcome = ["by the parser"]
        status, errors = checked(act)
        assert status == 2 and is_one_line(errors), errors
        seen["enough" if errors == ENOUGH else outcome[-1]] += 1

    monkeypatch.chdir(ROOT)
    type_it()
    assert min(seen.values()) >= 5, seen


DAMAGE = {
    "flip": lambda content, at: (
        content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]
    ),
    "cut": lambda content, at: content[:at],
    "zeros": lambda content, at: content[:at] + bytes(len(content) - at),
    "nest": lambda content, at: content[:at] + b"[" * 100_000 + content[at:],
    "bytes": lambda content, at: content[:at] + b"\xff\x00\x1b" + content[at:],
}


def test_a_damaged_config_json_is_read_or_refused_in_one_line(checked, tmp_path):
    junk = st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=5)
        | st.sampled_from([10**40, 10**400, 1e308, "9" * 100_000, "a\nb", "\x1b[2J", "\ud800"]),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "a\nb"]), inner, max_size=2),
        max_leaves=3,
    )  # fmt: skip
    config = voting.get_config("tiny")
    config.update_from_flattened_dict({"data.size": 20, "data.heldout": 4})
    save_config(config, str(tmp_path), 0)
    path = tmp_path / "config.json"
    whole, seen = path.read_bytes(), {"enough": 0, "refused": 0}

    @settings(max_examples=70, deadline=None, derandomize=True)
    @given(st.data())
    def strike(data):
        if data.draw(st.booleans()):
            held, (*sections, name) = (
                json.loads(whole),
                data.draw(st.sampled_from([*FIELDS, "mesh", "x\x1b"])).split("."),
            )
            (held[sections[0]] if sections else held)[name] = data.draw(junk)
            content = json.dumps(held).encode()
        else:
            content = DAMAGE[data.draw(st.sampled_from(sorted(DAMAGE)))](
                whole, data.draw(st.integers(0, len(whole) - 1))
            )
        for mode in ("eval", "train"):
            path.write_bytes(content)
            status, errors = checked(
                lambda: cli.run_mode(config, "configs/voting.py:tiny", str(tmp_path), mode, {})  # noqa: B023
            )
            *diff, last = errors.splitlines(keepends=True)
            assert status == 2 and is_one_line(last), errors
            assert (
                not diff
                or mode == "train"
                and all(line[0] in "+-" and len(line) < 400 for line in diff)
            ), errors
            seen["enough" if last == ENOUGH else "refused"] += 1

    strike()
    assert min(seen.values()) >= 5, seen
