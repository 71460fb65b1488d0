"""Learning rates in whole runs: schedules through a resume, one rate per agent."""

import jax
import numpy as np
import optax
import pytest

from ccpo_jax.train import Trainer
from tests.support.errors import raises_for
from tests.support.runs import brief_run, first_devices

RATES = (2e-3, 1e-3)


def two_voters(steps, **changes):
    """Two voters with networks of their own, four optimizer steps per batch."""
    fields = {
        "team.num_agents": 2,
        "shared_policy": False,
        "data.heldout": 0,
        "trainer.mini_batches": 2,
        "trainer.epochs": 2,
    }
    return brief_run(steps, **fields | changes)


def trained(trainer, steps):
    """The metrics of each step."""
    return [trainer.step() for _ in range(steps)]


def leaves(state):
    return jax.tree.leaves(jax.device_get((state.params, state.opt_state)))


@pytest.mark.parametrize("schedule,expected_steps", [
    ("simultaneous", [12, 12]), ("alternate", [8, 4]),
])  # fmt: skip
def test_a_schedule_ends_with_the_run_and_survives_a_resume(schedule, expected_steps, tmp_path):
    fields = {
        "optimizer.learning_rate": RATES,
        "optimizer.schedule": "cosine",
        "optimizer.warmup_steps": 1,
        "optimizer.floor": 0.25,
        "trainer.schedule": schedule,
    }
    if schedule == "alternate":
        fields["trainer.period"] = 1
    config = two_voters(3, **fields)
    with Trainer(config, devices=first_devices(1)) as trainer:
        lines = trained(trainer, 3)
        whole = trainer.state

    for agent, steps in enumerate(expected_steps):
        count = int(optax.tree.get(whole.opt_state[agent], "ScaleByScheduleState").count)
        rate = optax.warmup_cosine_decay_schedule(
            RATES[agent] / 2, RATES[agent], 1, steps, 0.25 * RATES[agent]
        )
        assert count == steps and rate(count) == pytest.approx(0.25 * RATES[agent])
        name = f"update/learning_rate/{agent}"
        reported = [line[name] for line in lines if name in line]
        done = range(4, steps + 1, 4)
        assert reported == pytest.approx([float(rate(step - 1)) for step in done])

    options = {"workdir": tmp_path, "devices": first_devices(1)}
    with Trainer(config, **options) as trainer:
        trained(trainer, 2)
        trainer.save()
    with raises_for("config") as error:
        Trainer(two_voters(4, **fields), **options)
    assert "steps was 3 and is 4" in str(error.value)
    with Trainer(config, **options) as trainer:
        assert trainer.step_count == 2
        (last,) = trained(trainer, 1)
        resumed = trainer.state
    for ours, theirs in zip(leaves(resumed), leaves(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    learned = {name: value for name, value in lines[2].items() if name.startswith("update/")}
    assert learned == {name: last[name] for name in learned}


def test_each_agent_learns_at_its_own_rate():
    """In the first step, of which both have the same rollouts, as in a run with that rate alone."""
    states = []
    for rates in (RATES, RATES[:1], RATES[1:]):
        config = two_voters(1, **{"optimizer.learning_rate": rates})
        with Trainer(config, devices=first_devices(1)) as trainer:
            (line,) = trained(trainer, 1)
            states.append(jax.device_get(trainer.state))
        assert "update/learning_rate/0" not in line
    both, first, second = states
    jax.tree.map(np.testing.assert_array_equal, both.params[0], first.params[0])
    jax.tree.map(np.testing.assert_array_equal, both.params[1], second.params[1])
    changed = jax.tree.map(np.array_equal, both.params[1], first.params[1])
    assert not any(jax.tree.leaves(changed))
