"""The benchmark's figures agree with each other and with what was asked for."""

import importlib
import json
import re

import numpy as np
import pytest

from ccpo_jax.learner.packing import TrainSequence, pack
from ccpo_jax.models import ModelConfig
from experiments.bench import __main__ as bench
from experiments.bench import aims, peers, predict, roofline, workloads
from experiments.bench.roofline import Rates

SMALL = [
    "--prompts=2",
    "--samples=3",
    "--prompt_length=8",
    "--response_length=8",
    "--repeats=1",
    "--model=one layer",
]


@pytest.fixture(autouse=True)
def known_rates(monkeypatch):
    """The rates of no real machine: measuring one takes seconds and says nothing here."""
    monkeypatch.setattr(workloads, "measure", lambda dtype: Rates(1e9, 1e10))
    monkeypatch.setitem(workloads.SHAPES, "one layer", (16, 1, 2, 1, 8, 32, 128, True))


def run(capsys, *arguments) -> dict:
    assert bench.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_rollout_counts_its_tokens_and_its_work(capsys):
    found = run(capsys, "rollout", "--topology=dyad", *SMALL)
    assert found["counterfactual_cost_voting"] == 1.0 and found["counterfactual_cost_dyad"] == 1.5
    assert found["tokens_per_second"] * found["seconds"] == pytest.approx(2 * 3 * 3 * 8, rel=0.02)
    assert found["roofline_fraction"] == pytest.approx(found["ideal_seconds"] / found["seconds"])
    assert found["ideal_seconds"] >= max(found["bytes"] / 1e9, found["flops"] / 1e10) > 0
    assert found["compiles"] > 0 and found["peak_memory_bytes"] > 0 and "ratio" not in found


def test_training_and_whole_steps_are_measured(capsys):
    found = run(capsys, "train", *SMALL, "--pack_length=64")
    assert found["tokens_per_second"] * found["seconds"] == pytest.approx(2 * (8 + 3 * 8))
    assert found["padding"] == 0 and found["sharing"] == pytest.approx(3 * 16 / 32)
    assert found["temporary_bytes"] > 0 and found["compiles"] > 0
    found = run(capsys, "step", *SMALL, "--topology=dyad", "--solo=0")
    assert found["decoded_tokens"] == found["trained_tokens"] == 2 * 2 * 3 * 8
    assert found["seconds"] >= found["rollout"] + found["update"] > 0


def test_verification_finds_every_right_answer(capsys):
    found = run(capsys, "verify", "--prompts=2", "--samples=3", "--repeats=1")
    assert found["right_per_problem"] == found["expression_right_per_problem"] == 1
    assert found["verifications_per_second"] * found["seconds"] == pytest.approx(2 * 16 * 3)
    assert (
        found["tokens_per_second"] > 10 * found["verifications_per_second"]
    )  # "so \\boxed{1}" has 12 characters


def test_work_is_counted_as_by_hand():
    """One layer without heads to speak of: parameters and attention written out."""
    config = ModelConfig("llama", 10, 4, 1, 2, 1, 2, 6)
    weights = 4 * 4 + 2 * 4 * 2 + 4 * 4 + 3 * 4 * 6 + 4 + 4 + 4 + 4 * 10
    assert (
        roofline.multiplied(config) == weights
    )  # the embedding table is looked up, not multiplied
    rows = [
        TrainSequence(
            0, np.zeros(3, np.int32), np.zeros(0, np.int32), np.zeros(n, np.int32), 1.0, np.zeros(n)
        )
        for n in (2, 5)
    ]
    work = roofline.train_work(config, pack(rows, row_length=16, rows_per_microbatch=1))
    pairs = (
        3 * 1.5 + 2 * (1 + 3) + 5 * (2.5 + 3)
    )  # the prefix once, each branch with itself and the prefix
    assert work.flops == pytest.approx(6 * weights * 10 + 3 * 4 * 1 * 2 * 2 * pairs)


def test_bad_arguments_are_one_line(capsys):
    assert bench.main(["rollout", "--model=nowhere/at/all"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and "nowhere/at/all" in lines[0]


@pytest.mark.parametrize("typed, said", [
    ("rollout --samples=0", "argument --samples: received '0', use a positive integer"),
    ("train --micro_batch=-2", "argument --micro_batch: received '-2', use a positive integer"),
    ("step --repeats=1.5", "argument --repeats: received '1.5', use a positive integer"),
    ("rollout --stop=ragged --response_length=4", "--response_length: ragged responses .* use --response_length=8"),
    ("rollout --peer=tunix", "--peer: tunix needs not_here; type pip install google-tunix==0.1.7"),
    ("rollout --model=nowhere", "model: 'nowhere'"),
    ("verify --topology=dyad", "unrecognized arguments: --topology=dyad"),
    ("train --solo=0", "unrecognized arguments: --solo=0"),
    ("step --samples=4", "--samples: received 4, which has no effect without --model; add --model=small"),
])  # fmt: skip
def test_mistakes_are_one_line(typed, said, capsys, monkeypatch):
    monkeypatch.setitem(
        peers.PEERS, "tunix", lambda config, stop: importlib.import_module("not_here")
    )
    try:
        status = bench.main(typed.split())
    except SystemExit as ended:
        status = ended.code
    line = capsys.readouterr().err
    assert status == 2 and line.startswith("error: ") and line.count("\n") == 1
    assert re.search(said, line), line


def test_every_aim_is_measured_and_compared_with_its_bound(monkeypatch, capsys):
    """The benchmark knows the command lines; what the runs find is compared the right way around."""
    asked, fast = [], {"decode_copy_fraction": 0.65, "matmul_fraction": 0.5}

    def found(words):
        args = bench.parser().parse_args(words)
        assert args.model == "one layer" and args.repeats == 2
        asked.append(args)
        return fast | {"seconds": 6.6 if getattr(args, "solo", 0) else 5.0}

    monkeypatch.setattr(aims, "bench", found)
    monkeypatch.setattr(aims, "backend", lambda: "gpu")
    assert aims.main(["--model=one layer", "--repeats=2", "--json"]) == 0
    told = capsys.readouterr()
    assert [aim["met"] for aim in json.loads(told.out).values()] == [True, False, True, False]
    assert [line.split()[-1] for line in told.err.splitlines()] == [
        "met",
        "missed",
        "met",
        "missed",
    ]
    assert [a.prompts * a.samples for a in asked if a.what == "rollout"] == [256, 32]
    assert [a.prompt_length + a.response_length for a in asked if a.what == "train"] == [2048]


def test_predictions_stand_beside_what_programs_allow(monkeypatch, capsys):
    def found(words, reached):
        args = bench.parser().parse_args(words)
        return {
            "decode_copy_fraction": reached.sampling,
            "matmul_fraction": reached.learning,
            "seconds": 5 + getattr(args, "solo", 0),
        }

    monkeypatch.setattr(predict, "predict", found)
    monkeypatch.setattr(aims, "can_compile", lambda: True)
    assert aims.main(["--predict"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["missed" in line for line in lines] == [False, True, False, False]
    assert (
        all(line.endswith("would allow 1.00") for line in lines[:3])
        and "0.60" in lines[1]
        and "0.86" in lines[2]
    )
    assert aims.main(["--predict", "--json"]) == 0
    for found in json.loads(capsys.readouterr().out).values():
        assert (
            found["predicted_for"]["device"] == "H200"
            and found["runs"][0]["matmul_fraction"] == 0.86
        )
    monkeypatch.setattr(aims, "can_compile", lambda: False)
    assert aims.main(["--predict"]) == 2
    assert "type pip install 'jax[cuda13]' first" in capsys.readouterr().err


def test_aims_need_a_gpu_and_say_what_failed(monkeypatch, capsys):
    assert aims.main([]) == 2
    assert "error: these aims are a GPU's, and jax finds a cpu here" in capsys.readouterr().err
    monkeypatch.setenv("JAX_PLATFORMS", "nothing")
    assert aims.main([]) == 2
    assert re.fullmatch("error: jax finds no device: .*nothing.*\n", capsys.readouterr().err)
    monkeypatch.setattr(aims, "backend", lambda: "gpu")
    monkeypatch.setattr(aims, "AIMS", aims.AIMS[:1])
    assert aims.main(["--model=nothing"]) == 2
    assert re.search(
        "error: -m experiments.bench rollout .*: error: .*nothing", capsys.readouterr().err
    )
