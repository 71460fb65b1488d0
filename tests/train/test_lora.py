"""Runs with adapters: they begin as the model does, save little, resume, and know their base."""

import json

import jax
import numpy as np
import pytest

from ccpo_jax import models
from ccpo_jax.config import LORA_TARGETS
from ccpo_jax.models.lora import TARGETS
from ccpo_jax.train import Trainer
from ccpo_jax.train.build import build
from ccpo_jax.train.sources import TINY, find_sources
from ccpo_jax.train.step import draw_batch
from tests.support.errors import raises_for
from tests.support.runs import brief_run, first_devices

LORA = {
    "lora.rank": 3,
    "shared_policy": False,
    "optimizer.learning_rate": (1e-2,),
    "trainer.schedule": "alternate",
}


def trainer(steps, workdir=None, **changes):
    config = brief_run(steps, **{**LORA, "data.heldout": 0, **changes})
    return Trainer(config, workdir=workdir, devices=first_devices(1))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of two steps in one go: ``(workdir, state after it, metrics of step 2)``."""
    folder = tmp_path_factory.mktemp("lora") / "run"
    with trainer(2, folder) as straight:
        straight.step()
        straight.save()
        second = straight.step()
        return folder, straight.state, second


def test_the_targets_are_those_of_the_models():
    assert LORA_TARGETS == TARGETS


def test_the_first_rollouts_are_those_of_the_model_itself():
    """All voters sample in one call from one base, what full parameters sample in a call each."""
    tokens = []
    for rank in (LORA["lora.rank"], 0):
        with trainer(1, **{"lora.rank": rank}) as team:
            drawn = draw_batch(team.run, team.state, 0, team._pool)
        tokens.append([turn.samples.tokens for turn in drawn.kept.rollouts.turns])
    jax.tree.map(np.testing.assert_array_equal, *tokens)


def test_sampler_and_trainer_agree_on_what_trained_adapters_compute(runs):
    _, state, second = runs
    assert max(np.abs(x).max() for n, x in state.params[0].items() if n.endswith("_b")) > 1e-3
    assert second["update/grad_norm/0"] > 0
    assert second["update/logprob_gap_max/0"] < 1e-4


def test_a_step_trains_adapters_and_nothing_else(runs):
    _, state, _ = runs
    config = brief_run(2, **LORA)
    run = build(config, devices=first_devices(1))
    assert len(run.bases) == 3 and all(base is run.bases[0] for base in run.bases)
    _, embedded = models.load(str(TINY))
    jax.tree.map(np.testing.assert_array_equal, run.bases[0].params, embedded)
    # Agents take turns: agent 0 has trained, the others have not.
    assert any(np.any(x) for name, x in state.params[0].items() if name.endswith("_b"))
    jax.tree.map(np.testing.assert_array_equal, state.params[1:], run.params[1:])
    assert not np.array_equal(run.params[1]["q_lora_a"], run.params[2]["q_lora_a"])


def test_the_reference_of_the_kl_term_is_the_base_itself():
    run = build(brief_run(2, **LORA, **{"loss.kl_weight": 0.1}), devices=first_devices(1))
    assert run.references is run.bases


def test_a_checkpoint_holds_adapters_and_a_run_resumes_from_it_bit_for_bit(runs):
    folder, straight, _ = runs
    record = json.loads((folder / "checkpoints" / "1" / "record" / "record.json").read_text())
    kernels = {name for name in record["arrays"] if name.startswith("params.")}
    assert kernels and all("_lora_" in name for name in kernels)
    with trainer(2, folder) as resumed:
        assert resumed.step_count == 1
        resumed.step()
        same = jax.tree.map(np.array_equal, resumed.state.params, straight.params)
        assert all(jax.tree.leaves(same))


def test_another_base_is_refused_by_its_name(runs, tmp_path):
    folder, _, _ = runs
    config, params = models.load(str(TINY))
    other = tmp_path / "tiny"
    models.save(other, config, params | {"embed": params["embed"] + 1e-3})
    for file in TINY.iterdir():
        if not (other / file.name).exists():
            (other / file.name).write_bytes(file.read_bytes())
    with raises_for("model") as error:
        trainer(2, folder, model=(str(other),), allow_changes=True)
    assert str(other) in str(error.value)
    with raises_for("model") as error:
        find_sources((str(folder),), 1)
    assert "--mode=export" in str(error.value)


def test_an_export_holds_the_adapters_or_the_sum(runs, tmp_path):
    folder, state, _ = runs
    with trainer(2, folder) as resumed:
        run = resumed.run
        resumed.state = state
        adapters = resumed.export(tmp_path / "adapters")
        resumed.export(tmp_path, "float32", merged=True)
        with raises_for("dtype"):
            resumed.export(tmp_path, "float32")
    starts = {"lora.start": tuple(map(str, adapters))}
    started = build(brief_run(1, **LORA, **starts), devices=first_devices(1))
    jax.tree.map(np.testing.assert_array_equal, started.params, state.params)
    with raises_for("lora.start") as error:
        build(brief_run(1, **{**LORA, **starts, "lora.rank": 4}), devices=first_devices(1))
    assert "--config.lora.rank=3" in str(error.value)

    _, exported = models.load(tmp_path / "agent_0")
    own = jax.device_get(state.params[0])
    for name in TARGETS:
        change = own[f"{name}_lora_a"] @ own[f"{name}_lora_b"]
        expected = run.bases[0].params["layers"][name] + 32 / 3 * change
        np.testing.assert_allclose(exported["layers"][name], expected, atol=1e-6)
