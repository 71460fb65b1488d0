"""A workdir as a model: whose parameters a team starts from, and what is refused."""

import pathlib
import shutil

import jax
import numpy as np
import pytest

from ccpo_jax import models
from ccpo_jax.train import Trainer
from ccpo_jax.train.load import load_params
from ccpo_jax.train.sources import TINY, base_models, choose_steps, find_sources
from ccpo_jax.workdir import open_checkpoints
from tests.support.errors import raises_for
from tests.support.runs import first_devices, small_run


def trainer_of(preset, **fields):
    config = small_run(preset, **{"data.heldout": 0, **fields})
    return Trainer(config, devices=first_devices(1))


def scaled(params, factor):
    return jax.tree.map(lambda x: x * factor, params)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A dyad's run with parameters of its own in three checkpoints, of which step 2 is the best."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    config = small_run("dyad", **{"data.heldout": 0})
    with Trainer(config, workdir=folder, devices=first_devices(1)) as trainer:
        first = trainer.state
        for step, accuracy in ((1, 0.3), (2, 0.5), (3, 0.4)):
            sets = (scaled(first.params[0], step + 1), scaled(first.params[1], -step))
            trainer.state = first._replace(step=np.int32(step), params=sets)
            trainer.step_count = step
            trainer.save({"eval/team_accuracy": accuracy})
    return folder


def test_each_agent_starts_from_its_own_parameters_of_the_best_checkpoint(workdir, capsys):
    _, embedded = models.load(str(TINY))
    with trainer_of("dyad", model=(str(workdir),)) as trainer:
        assert_equal(trainer.state.params, (scaled(embedded, 3), scaled(embedded, -2)))
        assert trainer.run.team.agents[0].tokenizer is trainer.run.team.agents[1].tokenizer
    assert "best checkpoint, step 2" in capsys.readouterr().err


def test_a_number_chooses_a_set_for_teams_of_another_shape(workdir):
    _, embedded = models.load(str(TINY))
    names = (f"{workdir}:1", "tiny", f"{workdir}:0")
    with trainer_of("voting", model=names) as trainer:
        expected = (scaled(embedded, -2), embedded, scaled(embedded, 3))
        assert_equal(trainer.state.params, expected)
    with trainer_of("voting", model=(f"{workdir}:0",), shared_policy=True) as trainer:
        assert_equal(trainer.state.params, (scaled(embedded, 3),))


def test_a_run_that_started_from_a_run_is_a_model_too(workdir, tmp_path):
    chosen = (f"{workdir}:1",)
    config = small_run("solo", **{"data.heldout": 0, "model": chosen, "steps": 0})
    with Trainer(config, workdir=tmp_path / "b", devices=first_devices(1)) as trainer:
        trainer.save()
        expected = trainer.state.params[0]
    # A Trainer takes the presets of what the run itself started from.
    with Trainer(model=tmp_path / "b", topology="voting", devices=first_devices(1)) as trainer:
        for params in trainer.state.params:
            assert_equal(params, expected)
    assert base_models([str(tmp_path / "b"), "tiny"]) == ("tiny", "tiny")
    (source,) = find_sources([str(tmp_path / "b")], 1)
    assert (source.model, source.parameter_set) == (str(TINY), 0)


def test_a_run_resumes_from_the_checkpoint_that_it_started_from(workdir, tmp_path, capsys):
    """Also where the earlier run has a better one by then; one that is gone is told."""
    earlier = tmp_path / "a"
    shutil.copytree(workdir, earlier)
    names = (str(earlier),)
    config = small_run("dyad", **{"data.heldout": 0, "model": names, "steps": 0})
    later = tmp_path / "b"
    with Trainer(config, workdir=later, devices=first_devices(1)) as trainer:
        trainer.save()
        first = trainer.run.params
    with open_checkpoints(str(earlier)) as checkpoints:
        checkpoints.set_metrics(3, {"eval/team_accuracy": 0.9})
    with Trainer(config, workdir=later, devices=first_devices(1)) as trainer:
        assert_equal(trainer.run.params, first)
    assert "its recorded checkpoint, step 2" in capsys.readouterr().err
    assert choose_steps(names) == {names[0]: 3}

    shutil.rmtree(earlier / "checkpoints" / "2")
    assert choose_steps(names, {names[0]: 2}) == {names[0]: 3}
    assert "started from step 2" in capsys.readouterr().err
    shutil.move(earlier, tmp_path / "moved")
    for name in (str(earlier), f"{earlier}:1"):
        with raises_for("model") as error:
            choose_steps([name], {names[0]: 2})
        assert f"started from the run {earlier}, which is not there" in str(error.value)
    with raises_for("model") as error:
        Trainer(config, workdir=later, devices=first_devices(1))
    assert "which is not there" in str(error.value)


def test_sets_of_one_source_share_arrays_where_nobody_trains_them(workdir):
    with trainer_of("voting") as trainer:
        layout = trainer.run.layout
    sources = find_sources([f"{workdir}:1"], 3)
    first, second, third = load_params(
        sources, layout, time_limit=0.0, dtype=jax.numpy.bfloat16, copies=False
    )
    assert first is second is third
    assert {leaf.dtype for leaf in jax.tree.leaves(first)} == {jax.numpy.dtype("bfloat16")}


@pytest.mark.parametrize(
    "names, sets, told",
    [
        ([":2"], 2, "2 parameter sets, received number 2"),
        ([""], 3, "2 parameter sets, this team 3"),
        (["", "", ""], 2, "3 models for 2"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(workdir, names, sets, told):
    with raises_for("model") as error:
        find_sources([f"{workdir}{name}" for name in names], sets)
    assert told in str(error.value)


def test_damaged_and_missing_files_are_told(workdir, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    (copy / "checkpoints" / "2" / "record" / "record.json").write_text("{}")
    _, embedded = models.load(str(TINY))
    with trainer_of("dyad", model=(str(copy),)) as trainer:
        assert_equal(trainer.state.params[0], scaled(embedded, 4))
    # Of the best of those whose record is intact, an array is not what was saved.
    for file in pathlib.Path(copy, "checkpoints", "3", "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with raises_for("model") as error:
        trainer_of("dyad", model=(str(copy),))
    assert "no readable checkpoint" in str(error.value)

    shutil.rmtree(copy / "checkpoints")
    with raises_for("model") as error:
        find_sources([str(copy)], 2)
    assert "no checkpoints" in str(error.value)
    shutil.copytree(workdir / "checkpoints", copy / "checkpoints")
    (copy / "config.json").unlink()
    with raises_for("model") as error:
        find_sources([str(copy)], 2)
    assert "no config.json" in str(error.value)
