"""Optimizer: the rate of each step, the clip, the settings of AdamW."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ccpo_jax.learner.optimizer import AdamW, changing_rate

pytestmark = pytest.mark.fast

PEAK = 0.5


def taken(optimizer, steps, params=0.0, grads=None):
    """The changes that `steps` steps make to one number, and the state after them."""
    tree = {"w": jnp.float32(params)}
    state = optimizer.init(tree)
    changes = []
    for step in range(steps):
        grad = 1.0 if grads is None else grads[step]
        updates, state = optimizer.update({"w": jnp.float32(grad)}, state, tree)
        tree = optax.apply_updates(tree, updates)
        changes.append(float(updates["w"]))
    return changes, state


def test_warm_up_clip_and_decay():
    transform = AdamW(learning_rate=1.0, warmup_steps=2, weight_decay=0.0, grad_clip=1.0)
    params = {"w": jnp.zeros(3)}
    state = transform.init(params)
    sizes = []
    for _ in range(4):
        updates, state = transform.update({"w": jnp.full(3, 100.0)}, state, params)
        sizes.append(float(jnp.abs(updates["w"]).max()))
    np.testing.assert_allclose(sizes, [1 / 3, 2 / 3, 1.0, 1.0], atol=1e-3)


def schedule_of_optax(schedule, warmup_steps, decay_steps, floor):
    first = PEAK / (warmup_steps + 1)
    end = floor * PEAK
    if schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(first, PEAK, warmup_steps, decay_steps, end)
    warm_up = optax.linear_schedule(first, PEAK, warmup_steps)
    decay = optax.linear_schedule(PEAK, end, decay_steps - warmup_steps)
    return optax.join_schedules([warm_up, decay], [warmup_steps])


def expected_rate(schedule, step, warmup_steps, decay_steps, floor):
    if step < warmup_steps:
        return PEAK * (step + 1) / (warmup_steps + 1)
    done = min((step - warmup_steps) / (decay_steps - warmup_steps), 1.0)
    left = 1 - done if schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return PEAK * (floor + (1 - floor) * left)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("warmup_steps,decay_steps,floor", [(0, 6, 0.0), (3, 8, 0.1), (4, 5, 0.5)])
def test_a_decaying_rate_is_optaxs_in_every_step(schedule, warmup_steps, decay_steps, floor):
    optimizer = AdamW(PEAK, warmup_steps, schedule, decay_steps, floor, weight_decay=0.0)
    steps = range(decay_steps + 2)
    rates = np.array([optimizer.rate(step) for step in steps])
    of_optax = schedule_of_optax(schedule, warmup_steps, decay_steps, floor)
    np.testing.assert_array_equal(rates, [of_optax(step) for step in steps])
    by_hand = [expected_rate(schedule, n, warmup_steps, decay_steps, floor) for n in steps]
    np.testing.assert_allclose(rates, by_hand, atol=1e-7)
    assert rates.argmax() == warmup_steps and rates[decay_steps - 1] > floor * PEAK

    # Adam's step is the rate where all gradients are the same.
    changes, _ = taken(optimizer, len(steps))
    np.testing.assert_allclose(changes, -rates, rtol=1e-4, atol=1e-7)


def test_a_constant_rate_after_warm_up_is_what_it_always_was():
    rate = AdamW(PEAK, warmup_steps=4).rate
    np.testing.assert_array_equal(
        [rate(step) for step in range(8)],
        [optax.linear_schedule(PEAK / 5, PEAK, 4)(step) for step in range(8)],
    )
    assert AdamW(PEAK).rate == PEAK


def test_three_steps_by_hand():
    """Every setting counts: moments and their correction, eps, decoupled decay at the step's rate, the clip."""
    settings = {"b1": 0.8, "b2": 0.9, "eps": 0.3, "weight_decay": 0.2, "grad_clip": 1.5}
    optimizer = AdamW(PEAK, 1, "linear", 3, 0.25, **settings)
    grads = [0.5, -3.0, 1.0]
    changes, _ = taken(optimizer, 3, params=2.0, grads=grads)

    value, first, second = 2.0, 0.0, 0.0
    for step, (change, grad) in enumerate(zip(changes, grads, strict=True)):
        clipped = max(min(grad, 1.5), -1.5)
        first = 0.8 * first + 0.2 * clipped
        second = 0.9 * second + 0.1 * clipped**2
        direction = first / (1 - 0.8 ** (step + 1))
        direction /= math.sqrt(second / (1 - 0.9 ** (step + 1))) + 0.3
        rate = expected_rate("linear", step, 1, 3, 0.25)
        expected = -rate * (direction + 0.2 * value)
        assert change == pytest.approx(expected, rel=1e-5)
        value += expected


def test_the_rate_is_told_where_it_changes():
    optimizer = AdamW(PEAK, 1, "cosine", 4)
    assert changing_rate(optimizer, optimizer.init({"w": jnp.zeros(2)})) == {}
    for steps in (1, 2, 4):
        _, state = taken(optimizer, steps)
        expected = expected_rate("cosine", steps - 1, 1, 4, 0.0)
        assert changing_rate(optimizer, state) == {"learning_rate": pytest.approx(expected)}
    for constant in (dataclasses.replace(optimizer, warmup_steps=0, schedule="constant"),
                     optax.adam(PEAK)):  # fmt: skip
        assert changing_rate(constant, taken(constant, 2)[1]) == {}
