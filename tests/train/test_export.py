"""Exports: the type of the weights, the words of the team, and a write that fails."""

import dataclasses
import errno
import json
import os
import pathlib
import re
import runpy
import sys

import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ccpo_jax import cli, models
from ccpo_jax.models import hf
from ccpo_jax.rollout import prompts
from ccpo_jax.train.build import build
from ccpo_jax.train.export import export_networks
from tests.support.errors import raises_for
from tests.support.runs import first_devices, small_run


@pytest.fixture(scope="module")
def run():
    return build(small_run("dyad", steps=1), devices=first_devices(1))


def with_source_type(run, name):
    """The run, of models whose config.json named a type."""
    configs = []
    for network in run.model_configs:
        entries = json.loads(network.hf_config) | {"torch_dtype": name}
        entries.pop("dtype", None)
        configs.append(dataclasses.replace(network, hf_config=json.dumps(entries)))
    return dataclasses.replace(run, model_configs=tuple(configs))


def written_types(folder):
    weights = {str(array.dtype) for array in load_file(folder / "model.safetensors").values()}
    config = json.loads((folder / "config.json").read_text())
    return weights, config.get("torch_dtype", config.get("dtype"))


@pytest.mark.parametrize(
    "source, dtype, expected",
    [
        ("bfloat16", "source", "bfloat16"),
        ("float8_e4m3fn", "source", "float32"),
        ("bfloat16", "float32", "float32"),
        ("bfloat16", "float16", "float16"),
    ],
)
def test_the_type_of_the_weights(run, source, dtype, expected, tmp_path):
    folders = export_networks(with_source_type(run, source), run.params, tmp_path, dtype=dtype)
    assert [folder.name for folder in folders] == ["agent_0", "agent_1"]
    for folder in folders:
        assert written_types(folder) == ({expected}, expected)
        models.load(folder)


def test_an_unknown_type_is_refused(run, tmp_path):
    with raises_for("dtype") as error:
        export_networks(run, run.params, tmp_path / "x", dtype="int8")
    assert "'int8'" in str(error.value) and "bfloat16" in str(error.value)
    assert not (tmp_path / "x").exists()


def test_there_is_nothing_to_merge_without_adapters(run, tmp_path):
    with raises_for("merged"):
        export_networks(run, run.params, tmp_path / "x", merged=True)
    assert not (tmp_path / "x").exists()


def test_weights_that_float16_cannot_hold_are_refused(run, tmp_path):
    params = [{**tree, "embed": tree["embed"] + 1e6} for tree in run.params]
    with raises_for("dtype") as error:
        export_networks(run, params, tmp_path, dtype="float16")
    assert "float16" in str(error.value) and list(tmp_path.iterdir()) == []


def test_the_words_of_the_team_are_beside_its_models(run, tmp_path):
    export_networks(run, run.params, tmp_path)
    thinker, solver = json.loads((tmp_path / "prompts.json").read_text())["turns"]
    assert thinker == {
        "agent": 0,
        "model": "agent_0",
        "role": "thinker",
        "reads": [],
        "max_tokens": run.team.agents[0].max_tokens,
        "messages": [
            {"role": "system", "content": "Think"},
            {"role": "user", "content": "{problem}"},
        ],
    }
    assert solver["messages"][1]["content"] == "{problem}\nThought: {turn_0}"
    tokenizer = run.team.agents[1].tokenizer
    messages = [
        {**message, "content": message["content"].format(problem="1+2", turn_0="3")}
        for message in solver["messages"]
    ]
    # The chat template of the export writes the prompt that the model was trained with.
    template = run.team.agents[1].template
    prompt = prompts.prefix(template, tokenizer, "1+2")
    prompt += prompts.tail(template, prompts.quote(tokenizer, ["3"], 9))
    written = tokenizer.backend.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True
    )
    assert written["input_ids"] == prompt


def test_the_program_of_the_docs_plays_the_team(run, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    export_networks(run, run.params, tmp_path)
    page = pathlib.Path(__file__).parents[2] / "docs/leaving.md"
    (program,) = re.findall(r"```py\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "team.py").write_text(program)
    monkeypatch.setattr(sys, "argv", ["team.py", str(tmp_path), "Compute 1+2."])
    runpy.run_path(str(tmp_path / "team.py"))
    printed = capsys.readouterr().out
    assert "agent 0, thinker: " in printed and "agent 1, solver: " in printed


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
        OSError(errno.EROFS, os.strerror(errno.EROFS)),
    ],
)
def test_an_export_that_fails_leaves_the_earlier_one(run, error, tmp_path, monkeypatch):
    export_networks(run, run.params, tmp_path, dtype="bfloat16")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    real = hf.save_file
    calls = []

    def fail_at_the_second(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise error
        real(*arguments, **options)

    monkeypatch.setattr(hf, "save_file", fail_at_the_second)
    with raises_for("export") as raised:
        export_networks(run, run.params, tmp_path, dtype="float32")
    assert str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_option_is_of_its_mode(tmp_path, capsys):
    for mode in ("train", "eval", "sample"):
        arguments = ["--config=voting:tiny", f"--workdir={tmp_path}", f"--mode={mode}"]
        assert cli.main([*arguments, "--dtype=bfloat16"]) == 2
        errors = capsys.readouterr().err
        assert errors.startswith("error: dtype: ") and "--mode=export" in errors
    assert cli.main(["--config=voting:tiny", "--mode=export", "--dtype=int8"]) == 2
    assert capsys.readouterr().err.startswith("error: dtype: received 'int8'")
    assert "--dtype" in cli.usage()
