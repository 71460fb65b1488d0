"""The trainer as a library: step by step, saved and resumed, with parts exchanged."""

import dataclasses

import jax
import numpy as np
import pytest

from ccpo_jax.train import Trainer, train
from ccpo_jax.train.build import build
from tests.support.errors import raises_for
from tests.support.runs import brief_run, lines_of


def without_time(metrics):
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Metrics of steps 1 to 3 of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("lines")
    train(brief_run(3, **{"data.heldout": 0}), str(workdir))
    return [{k: v for k, v in line.items() if k != "step"} for line in lines_of(workdir)[1:]]


def test_single_steps_are_those_of_a_run_and_write_nothing(lines, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Trainer(brief_run(3, **{"data.heldout": 0})) as trainer:
        metrics = [without_time(trainer.step()) for _ in range(2)]
        assert trainer.step_count == int(trainer.state.step) == 2
        with raises_for("workdir"):
            trainer.save()
    assert metrics == lines[:2]
    assert not list(tmp_path.iterdir())


def test_a_saved_trainer_continues_where_it_was(lines, tmp_path):
    config = brief_run(3, **{"data.heldout": 0})
    with Trainer(config, tmp_path) as trainer:
        trainer.step()
        trainer.step()
        trainer.save()
    with Trainer(config, tmp_path) as trainer:
        assert trainer.step_count == 2
        assert without_time(trainer.step()) == lines[2]


def test_a_trainer_without_a_workdir_trains_to_the_end(lines):
    seen = []

    def on_step(trainer, metrics):
        seen.append((trainer.step_count, without_time(metrics)))
        metrics["mine"] = 1.0

    with Trainer(brief_run(3, **{"data.heldout": 0}), on_step=on_step) as trainer:
        final = trainer.train()
    assert seen == [(step, line) for step, line in enumerate(lines, start=1)]
    assert final["mine"] == 1.0 and final["reward"] == lines[-1]["reward"]


def test_what_on_step_adds_is_written(tmp_path):
    def on_step(trainer, metrics):
        metrics["mine"] = float(trainer.step_count)

    train(brief_run(2, **{"data.heldout": 0}), str(tmp_path), on_step=on_step)
    assert [line.get("mine") for line in lines_of(tmp_path)] == [None, 1.0, 2.0]


def test_evaluation_is_repeatable_and_trains_nothing():
    with Trainer(brief_run(1)) as trainer:
        once, again = (without_time(trainer.evaluate()) for _ in range(2))
        assert trainer.step_count == 0
    assert once == again and 0 <= once["eval/team_accuracy"] <= 1


def test_a_part_of_a_run_can_be_exchanged():
    """Half the credit of every agent: the advantage of a group that is not divided halves as well."""
    run = build(brief_run(1, **{"advantage.normalize_std": False, "data.heldout": 0}))
    credit = run.credit

    def half(state, outcome):
        value, state = credit.update(state, outcome)
        return value / 2, state

    halved = dataclasses.replace(run, credit=dataclasses.replace(credit, update=half))
    means = []
    for each in (run, halved):
        # Parameters are donated by the first step.
        copied = dataclasses.replace(each, params=jax.tree.map(lambda x: x.copy(), run.params))
        with Trainer(copied) as trainer:
            means.append(trainer.step()["credit/mean/0"])
    assert means[1] == pytest.approx(means[0] / 2)


def test_the_credit_state_stays_on_the_devices():
    with Trainer(brief_run(2, **{"data.heldout": 0})) as trainer:
        before = jax.tree.map(lambda x: x.sharding, trainer.state.credit_state)
        trainer.step()
        after = jax.tree.map(lambda x: x.sharding, trainer.state.credit_state)
        assert before == after
        assert int(np.asarray(trainer.state.credit_state.delta.count)) > 0
