"""Which agents each step trains, and the optimizer of every parameter set."""

import pytest

from ccpo_jax.config import combine, parse
from ccpo_jax.presets import load_preset
from ccpo_jax.train.build import make_topology
from ccpo_jax.train.schedule import Schedule, make_optimizers, make_schedule
from tests.support.errors import raises_for

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("period", [None, 1, 3])
def test_the_steps_that_train_an_agent_are_counted(period):
    schedule = Schedule(((0,), (1, 2), (3,)), period=period)
    for steps in range(20):
        trained = [schedule.active(step) for step in range(steps)]
        for agents in ((0,), (2,), (1, 2), (0, 1, 2, 3)):
            expected = sum(bool(set(agents) & set(active)) for active in trained)
            assert schedule.num_training(agents, steps) == expected


def optimizers_of(preset="voting:tiny", **fields):
    config = parse(combine(load_preset(preset), {"steps": 5} | fields))
    topology = make_topology(config)
    return make_optimizers(config, topology, make_schedule(config, topology))


@pytest.mark.parametrize("fields,expected", [
    ({}, [5, 5, 5]),
    ({"trainer.mini_batches": 2, "trainer.epochs": 3}, [30, 30, 30]),
    ({"trainer.schedule": "alternate", "trainer.period": 2, "trainer.epochs": 2}, [4, 4, 2]),
    ({"trainer.schedule": "alternate", "shared_policy": True}, [5]),
    ({"trainer.schedule": "alternate", "trainer.period": 2, "model": ("tiny*2", "tiny")}, [3, 2]),
    ({"optimizer.decay_steps": 7, "trainer.epochs": 2}, [7, 7, 7]),
])  # fmt: skip
def test_the_rate_decays_over_the_optimizer_steps_of_the_run(fields, expected):
    optimizers = optimizers_of(**{"optimizer.schedule": "cosine"} | fields)
    assert [optimizer.decay_steps for optimizer in optimizers] == expected
    assert optimizers_of()[0].decay_steps is None


def test_a_warm_start_takes_one_optimizer_step_per_batch():
    """The preset alternates, and cuts its batches in eight."""
    decaying = {"optimizer.schedule": "linear"}
    demonstrated = optimizers_of("dyad:event", mode="sft", **decaying)
    assert [optimizer.decay_steps for optimizer in demonstrated] == [5, 5]
    assert optimizers_of("dyad:event", **decaying)[0].decay_steps == 40


def test_parameters_whose_turn_never_comes_need_no_schedule():
    alternate = {"trainer.schedule": "alternate", "trainer.period": 5}
    fields = {"optimizer.schedule": "linear", "optimizer.warmup_steps": 4} | alternate
    first, *others = optimizers_of(**fields)
    assert first.decay_steps == 5 and len(others) == 2
    with raises_for("optimizer.warmup_steps") as error:
        optimizers_of(**fields | {"optimizer.warmup_steps": 5})
    assert "agent 0 (voter)" in str(error.value) and "at most 4" in str(error.value)


def test_learning_rates_are_given_once_or_per_agent():
    assert [o.learning_rate for o in optimizers_of()] == [2e-4] * 3
    rates = {"optimizer.learning_rate": (1e-4, 2e-4, 1e-4)}
    first, second, third = optimizers_of(**rates)
    assert (first.learning_rate, second.learning_rate) == (1e-4, 2e-4)
    assert first == third != second
    for fields in (
        {"optimizer.learning_rate": (1e-4, 2e-4)},
        rates | {"shared_policy": True},
    ):
        with raises_for("optimizer.learning_rate"):
            optimizers_of(**fields)
