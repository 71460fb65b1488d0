"""Teams in which some agents share parameters: training, resuming, starting from one, and export."""

import jax
import numpy as np
import pytest

from ccpo_jax.rl.topology import chain, reaching
from ccpo_jax.train import Trainer
from ccpo_jax.train.build import build
from tests.support.errors import raises_for
from tests.support.runs import brief_run, first_devices


def trainer_of(workdir=None, **fields):
    config = brief_run(2, **{"shared_policy": False, "data.heldout": 0, **fields})
    return Trainer(config, workdir=workdir, devices=first_devices(1))


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(other))


def without_times(metrics):
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}


def test_one_model_for_three_agents_is_one_shared_policy():
    with trainer_of(model=("tiny*3",)) as ours, trainer_of(shared_policy=True) as theirs:
        assert without_times(ours.step()) == without_times(theirs.step())
        assert len(ours.state.params) == 1
        assert_equal(ours.state.params, theirs.state.params)
        assert_equal(ours.state.opt_state, theirs.state.opt_state)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two voters share, the third is on its own: the workdir after a step, the state after two."""
    workdir = tmp_path_factory.mktemp("runs") / "a"
    with trainer_of(workdir, model=("tiny*2", "tiny*1")) as trainer:
        first = trainer.step()
        trainer.save()
        trainer.step()
        return workdir, first, jax.device_get(trainer.state)


def test_agents_that_share_learn_together_and_a_resume_changes_nothing(run):
    workdir, first, whole = run
    assert [agent for agent in (0, 1, 2) if f"update/loss/{agent}" in first] == [0, 1]
    with trainer_of(workdir, model=("tiny*2", "tiny*1")) as trainer:
        assert trainer.step_count == 1 and len(trainer.state.params) == 2
        assert [a.parameter_set for a in trainer.run.team.agents] == [0, 0, 1]
        trainer.step()
        assert_equal(trainer.state.params, whole.params)
        assert_equal(trainer.state.opt_state, whole.opt_state)


def test_a_team_starts_from_the_sets_of_a_run(run, tmp_path):
    workdir, *_ = run
    with trainer_of(workdir, model=("tiny*2", "tiny*1")) as trainer:
        saved = trainer.state.params
    with trainer_of(model=(f"{workdir}:1*2", f"{workdir}:0")) as trainer:
        assert_equal(trainer.state.params, saved[::-1])
    with trainer_of(model=(f"{workdir}*1", f"{workdir}*2")) as trainer:
        assert_equal(trainer.state.params, saved)
    with raises_for("model") as error:
        trainer_of(model=(str(workdir),))
    assert f"--config.model={workdir}:0*2,{workdir}:1*1" in str(error.value)


def test_a_long_chain_is_told_what_its_masked_worlds_cost(capsys):
    """And who reads whom is found without walking every path, of which there are 2^62."""
    assert len(reaching(chain(64), 63, [True] * 64)) == 63
    config = brief_run(1, **{"credit.name": "difference", "shared_policy": False})
    config.update_from_flattened_dict({"topology": "chain", "team.num_agents": 9})
    config.data.train = ("synthetic/dyad",)
    build(config, devices=first_devices(1), for_training=False)
    error = capsys.readouterr().err
    assert "chain of 9 agents" in error and "45 in training" in error
