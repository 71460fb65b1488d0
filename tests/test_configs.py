"""Configurations: every preset builds, names only what exists, and is described in its file's own table."""

import importlib
import inspect

import numpy as np
import pytest

from ccpo_jax import CREDITS, LOSSES, TOPOLOGIES, make_credit
from ccpo_jax.data import DATASETS
from ccpo_jax.data.synthetic import TASKS
from ccpo_jax.rollout.prompts import PROMPTS
from ccpo_jax.train.build import (
    check_numbers,
    make_advantage,
    make_loss,
    make_optimizer,
    make_topology,
    response_lengths,
)
from configs.base import base

FILES = ("dyad", "voting", "chain", "debate")
PRESETS = [
    (name, preset) for name in FILES for preset in importlib.import_module(f"configs.{name}").MODELS
]


def build(name: str, preset: str):
    return importlib.import_module(f"configs.{name}").get_config(preset)


def fields(config, prefix=""):
    for key, value in config.items():
        yield from fields(value, f"{prefix}{key}.") if hasattr(value, "items") else [prefix + key]


@pytest.mark.parametrize("name,preset", PRESETS)
def test_every_preset_resolves(name, preset):
    config = build(name, preset)
    assert set(fields(config)) == set(fields(base()))
    check_numbers(config)
    topology = make_topology(config)
    assert config.topology == name and config.topology in TOPOLOGIES
    assert config.credit.name in CREDITS and config.loss.name in LOSSES
    assert set(topology.roles) <= set(PROMPTS[config.prompt_style])
    assert len(response_lengths(config.response_length, topology)) == len(topology.roles)
    known = set(DATASETS) | {f"synthetic/{task}" for task in TASKS}
    assert {n for n in [config.data.train, *config.data.eval.split(",")] if n} <= known
    credit = make_credit(config.credit.name, topology)
    make_loss(config), make_advantage(config, credit), make_optimizer(config)


@pytest.mark.parametrize("name,preset", PRESETS)
def test_every_preset_has_its_row(name, preset):
    text = importlib.import_module(f"configs.{name}").__doc__
    assert f"| {preset or '(none)'} |" in text


@pytest.mark.parametrize("name", FILES)
def test_unknown_preset_lists_the_known_ones(name):
    with pytest.raises(ValueError, match="no preset 'huge'.*tiny"):
        build(name, "huge")


def test_every_base_field_says_what_it_is():
    for line in inspect.getsource(base).splitlines():
        if line.strip().startswith("c.") and "ConfigDict()" not in line:
            field = line.split("=")[0].strip()
            assert "  # " in line or field.startswith(("c.optimizer.", "c.log.")), (
                f"{field} has no comment"
            )


@pytest.mark.parametrize(
    "field,value",
    [
        ("group_size", 1),
        ("batch_size", 0),
        ("sample.temperature", 0.0),
        ("sample.top_p", 1.5),
        ("trainer.mini_batches", 3),
        ("trainer.schedule", "sometimes"),
        ("compute_dtype", "float8"),
        ("response_length", (0, 5)),
    ],
)
def test_numbers_out_of_range_name_the_field(field, value):
    config = build("dyad", "tiny")
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=f"^{field}: "):
        check_numbers(config)


def test_response_lengths_are_given_once_per_agent_or_per_turn():
    config = build("debate", "tiny")
    topology = make_topology(config)
    assert response_lengths((7,), topology) == (7,) * 6
    assert response_lengths((1, 2, 3), topology) == (1, 2, 3, 1, 2, 3)
    assert response_lengths((1, 2, 3, 4, 5, 6), topology) == (1, 2, 3, 4, 5, 6)
    with pytest.raises(
        ValueError,
        match=r"response_length: 2 entries for 3 agents who speak in 6 turns; .*'\(7, 7, 7\)'",
    ):
        response_lengths((7, 8), topology)


@pytest.mark.parametrize("credit", ["nested", "magrpo", "ccpo_event", "shared"])
def test_credit_decides_about_the_advantage_unless_the_run_does(credit):
    config = build("dyad", "tiny")
    config.credit.name = credit
    estimator = make_credit(credit, make_topology(config))
    reward = np.array([[[1.0, 0.0, 0.0, 0.0]]])
    centred, divided = reward - 0.25, (reward - 0.25) / 0.5
    expected = {"nested": reward, "shared": divided}.get(credit, centred)
    np.testing.assert_allclose(make_advantage(config, estimator)(reward, ()), expected, atol=1e-4)
    if credit == "nested":
        config.advantage.baseline = "group"
        with pytest.raises(
            ValueError, match="advantage.baseline: credit 'nested' brings its own, received 'group'"
        ):
            make_advantage(config, estimator)
    else:
        config.advantage.normalize_std = credit != "shared"
        expected = centred if credit == "shared" else divided
        np.testing.assert_allclose(
            make_advantage(config, estimator)(reward, ()), expected, atol=1e-4
        )


def test_surprisal_is_a_baseline_for_losses_that_divide_by_a_fixed_length():
    config = build("dyad", "tiny")
    estimator = make_credit("difference", make_topology(config))
    config.advantage.baseline = "surprisal"
    for loss, normalize in (
        ("grpo", "sequence"),
        ("grpo", "token"),
        ("gspo", "length"),
        ("reinforce_pp", "length"),
    ):
        config.loss.name, config.loss.normalize = loss, normalize
        told = f"a fixed length, received '{loss}' with normalize='{normalize}'; .*normalize=length .*max_length=22"
        with pytest.raises(ValueError, match=told):
            make_advantage(config, estimator)
    config.loss.name, config.loss.normalize, config.batch_size = "grpo", "length", 1
    with pytest.raises(
        ValueError,
        match="batch_size: baseline 'surprisal' compares prompts, at least 2, received 1",
    ):
        make_advantage(config, estimator)
    config.batch_size, config.advantage.normalize_std = 3, True
    with pytest.raises(
        ValueError,
        match="normalize_std: baseline 'surprisal' does not divide, received True; leave",
    ):
        make_advantage(config, estimator)
    config.advantage.normalize_std = None
    reward, surprisal = np.array([[[1.0], [0.5], [0.0]]]), np.array([[[5.0], [1.0], [3.0]]])
    found = make_advantage(config, estimator)(reward, surprisal)
    np.testing.assert_allclose(found[0, :, 0], [1 - 0.125, 0.5 - 0.625, 0 - 5.5 / 6], atol=1e-5)


def test_a_graph_comes_from_one_line():
    config = build("dyad", "tiny")
    config.update_from_flattened_dict(
        {"topology": "graph", "graph": "voter voter checker(0, 1)", "decision": "last"}
    )
    topology = make_topology(config)
    assert topology.reads == ((), (), (0, 1)) and topology.num_agents == 3
