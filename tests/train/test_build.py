"""From a configuration to the parts of a run."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from ccpo_jax import CREDITS, make_credit
from ccpo_jax.cli import parse_command
from ccpo_jax.config import combine, parse
from ccpo_jax.devices.sharding import Layout, make_mesh
from ccpo_jax.learner.optimizer import AdamW
from ccpo_jax.presets import load_preset
from ccpo_jax.train.build import (
    build,
    make_advantage,
    make_evaluation,
    make_loss,
    make_rollout,
    make_run_credit,
    make_topology,
    make_update,
)
from ccpo_jax.train.load import load_problems, response_lengths
from ccpo_jax.train.sources import TINY
from tests.support.errors import raises_for
from tests.support.problems import ids, write_json

pytestmark = pytest.mark.fast


def test_response_lengths_are_given_once_per_agent_or_per_turn():
    topology = make_topology(parse(load_preset("debate:tiny")))
    assert response_lengths((7,), topology) == (7,) * 6
    assert response_lengths((1, 2, 3), topology) == (1, 2, 3, 1, 2, 3)
    assert response_lengths((1, 2, 3, 4, 5, 6), topology) == (1, 2, 3, 4, 5, 6)
    with raises_for("response_length"):
        response_lengths((7, 8), topology)


def test_test_sets_of_one_name_are_refused_as_training_sets_are(tmp_path):
    (tmp_path / "b").mkdir()
    first = write_json(tmp_path, "test.json", [{"question": "first", "answer": "1"}])
    second = write_json(tmp_path / "b", "test.json", [{"question": "second", "answer": "1"}])
    for field in ("data.eval", "data.train"):
        with raises_for(field) as error:
            load_problems(config_of("dyad:tiny", **{field: (first, second)}))
        assert "'test'" in str(error.value) and "label=FILE" in str(error.value)
    with raises_for("data.eval"):
        load_problems(config_of("dyad:tiny", **{"data.eval": (first, first)}))

    _, tests = load_problems(config_of("dyad:tiny", **{"data.eval": (first, f"b={second}")}))
    assert [test.name for test in tests] == ["test", "b"]


@pytest.mark.parametrize("name", ["a,b.json", "a=b.json", "a,b=c,d.json"])
def test_a_typed_path_with_a_comma_or_an_equals_sign_is_read(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write_json(tmp_path, name, [{"question": "q", "answer": "1"}])
    for typed in (path, f"~/{name}", f"label={path}", f"label=~/{name}"):
        command = parse_command(
            ["--config=dyad:tiny", f"--config.data.eval={typed}", f"--config.data.train={typed}"]
        )
        expected = "label" if typed.startswith("label") else name.removesuffix(".json")
        problems, tests = load_problems(command.config)
        assert ids(problems) == ids(tests[0]) == [f"{expected}/0"]


def config_of(preset: str, **fields):
    """A preset's configuration with other values, unchecked."""
    return combine(load_preset(preset), fields)


def advantage_of(config, estimator, reward, surprisal=None):
    return make_advantage(config, estimator)(reward, surprisal)


@pytest.mark.parametrize("credit", ["nested", "magrpo", "ccpo_event", "shared"])
def test_credit_decides_about_the_advantage_unless_the_run_does(credit):
    config = config_of("dyad:tiny", **{"credit.name": credit})
    estimator = make_run_credit(config, make_topology(config))
    reward = np.array([[[1.0, 0.0, 0.0, 0.0]]])
    centred, divided = reward - 0.25, (reward - 0.25) / 0.5
    expected = {"nested": reward, "shared": divided}.get(credit, centred)
    np.testing.assert_allclose(advantage_of(config, estimator, reward), expected, atol=1e-4)
    if credit == "nested":
        config = config_of("dyad:tiny", **{"credit.name": credit, "advantage.baseline": "group"})
        with raises_for("advantage.baseline"):
            make_advantage(config, estimator)
    else:
        normalize = {"credit.name": credit, "advantage.normalize_std": credit != "shared"}
        config = config_of("dyad:tiny", **normalize)
        expected = centred if credit == "shared" else divided
        np.testing.assert_allclose(advantage_of(config, estimator, reward), expected, atol=1e-4)


WEIGHTED = {
    "advantage.baseline": "weighted",
    "loss.name": "grpo",
    "loss.normalize": "length",
    "batch_size": 3,
}


@pytest.mark.parametrize(
    "field, changes",
    [
        ("advantage.baseline", {"loss.normalize": "sequence"}),
        ("advantage.baseline", {"loss.normalize": "token"}),
        ("advantage.baseline", {"loss.name": "gspo"}),
        ("advantage.baseline", {"loss.name": "reinforce_pp"}),
        ("batch_size", {"batch_size": 1}),
        ("advantage.normalize_std", {"advantage.normalize_std": True}),
    ],
)
def test_weighted_is_a_baseline_for_losses_that_divide_by_a_fixed_length(field, changes):
    config = config_of("dyad:tiny", **WEIGHTED | changes)
    estimator = make_credit("difference", make_topology(config))
    with raises_for(field):
        make_advantage(config, estimator)


def test_the_weighted_baseline_compares_a_prompt_with_the_others():
    config = config_of("dyad:tiny", **WEIGHTED)
    estimator = make_credit("difference", make_topology(config))
    reward = np.array([[[1.0], [0.5], [0.0]]])
    surprisal = np.array([[[5.0], [1.0], [3.0]]])
    advantage = advantage_of(config, estimator, reward, surprisal)
    np.testing.assert_allclose(advantage[0, :, 0], [1 - 0.125, 0.5 - 0.625, 0 - 5.5 / 6], atol=1e-5)


def test_a_graph_comes_from_one_line():
    fields = {
        "topology": "graph",
        "team.graph": "voter voter checker(0, 1)",
        "team.decision": "last",
    }
    topology = make_topology(config_of("dyad:tiny", **fields))
    assert topology.reads == ((), (), (0, 1)) and topology.num_agents == 3


def test_evaluation_samples_as_training_does():
    """All settings of sampling reach both; evaluation may have a temperature and filters of its own."""
    sample = {
        "sample.temperature": 0.7,
        "sample.top_p": 0.9,
        "sample.top_k": 20,
        "sample.min_p": 0.05,
        "sample.decode_chunk": 5,
        "sample.max_concurrent": 6,
    }
    config = config_of("dyad:tiny", **sample)
    layout = Layout(make_mesh(devices=jax.devices()[:1]))
    sampling = make_rollout(config, layout).sampling
    expected = (0.7, 0.9, 20, 0.05, 5, 6)
    assert dataclasses.astuple(dataclasses.replace(sampling, sharding=None))[:6] == expected
    assert make_evaluation(config, sampling).sampling == sampling

    own = config_of("dyad:tiny", **sample, **{"eval.temperature": 0.2, "eval.top_p": 0.5})
    evaluated = make_evaluation(own, sampling).sampling
    assert evaluated == dataclasses.replace(sampling, temperature=0.2, top_p=0.5)

    for top_k, expected in ((3, 3), (0, None)):
        own = config_of("dyad:tiny", **sample, **{"eval.top_k": top_k, "eval.min_p": 0.0})
        evaluated = make_evaluation(own, sampling).sampling
        assert evaluated == dataclasses.replace(sampling, top_k=expected, min_p=0.0)


@pytest.mark.parametrize("field, value", [("top_p", 0.9), ("top_k", 20), ("min_p", 0.05)])
def test_old_logprobs_are_the_trainers_where_the_sampler_leaves_tokens_out(field, value):
    """Of one mini-batch there is nothing to rescore: new and old log-probs are the same numbers."""
    layout = Layout(make_mesh(devices=jax.devices()[:1]))

    def rescores(**fields):
        config = config_of("dyad:tiny", **fields)
        return make_update(config, make_loss(config), layout, AdamW(1e-6)).rescore

    several = {"trainer.mini_batches": 2}
    assert not rescores(**several)
    assert rescores(**several, **{f"sample.{field}": value})
    assert rescores(**{"trainer.epochs": 2, f"sample.{field}": value})
    assert not rescores(**{f"sample.{field}": value})


def test_an_entry_from_outside_gets_what_is_recorded_and_refuses_what_it_does_not_take(monkeypatch):
    """A library entry gets the fields that the table says apply; a user's own, those that its signature names."""

    def karma(topology, *, weight=0.5):
        return dataclasses.replace(make_credit("shared", topology), init=lambda: weight)

    monkeypatch.setitem(CREDITS, "karma", karma)
    topology = make_topology(config_of("dyad:tiny"))

    def estimator(**fields):
        return make_run_credit(
            config_of("dyad:tiny", **{"credit.name": "karma"} | fields), topology
        )

    # The table's default, which config.json records, and not the function's.
    assert estimator().init() == 0.2
    assert estimator(**{"credit.weight": 0.9}).init() == 0.9
    with raises_for("credit.alpha"):
        estimator(**{"credit.alpha": 2.0})


def test_a_loss_gets_its_own_fields_alone():
    config = config_of(
        "dyad:tiny", **{"loss.name": "gspo", "trainer.mini_batches": 2, "loss.clip_low": 0.1}
    )
    assert make_loss(config).hyper == (("clip_low", 0.1),)
    assert make_loss(config) == make_loss(config)


def test_at_temperature_zero_one_sample_is_evaluated():
    def samples_of(**fields):
        config = parse(config_of("voting", **fields))
        layout = Layout(make_mesh(devices=jax.devices()[:1]))
        return make_evaluation(config, make_rollout(config, layout).sampling).samples

    assert samples_of() == 4 and samples_of(**{"eval.samples": 3}) == 3
    assert samples_of(**{"eval.temperature": 0.0}) == 1
    assert samples_of(**{"eval.temperature": 0.5, "eval.samples": 2}) == 2


@pytest.mark.parametrize("thinking", [True, False])
def test_thinking_is_refused_where_no_chat_template_reads_it(thinking, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(TINY, folder)
    config = config_of("voting:tiny", model=(str(folder),), thinking=thinking, **{"data.size": 600})
    with raises_for("thinking") as error:
        build(config, devices=jax.devices()[:1])
    assert str(folder) in str(error.value) and f"received {thinking}" in str(error.value)
    # An earlier version recorded it in every run.
    build(config, devices=jax.devices()[:1], recorded=("thinking",))
    settings = folder / "chat_template.jinja"
    text = settings.read_text()
    settings.write_text(text + "{% if enable_thinking %} think{% endif %}")
    build(config, devices=jax.devices()[:1])
