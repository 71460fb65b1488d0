"""Optimizer: the rate of each step, the clip, the settings of AdamW."""

import jax.numpy as jnp
import numpy as np

from ccpo_jax.learner.optimizer import AdamW


def test_warm_up_clip_and_decay():
    transform = AdamW(learning_rate=1.0, warmup_steps=2, weight_decay=0.0, grad_clip=1.0)
    params = {"w": jnp.zeros(3)}
    state = transform.init(params)
    sizes = []
    for _ in range(4):
        updates, state = transform.update({"w": jnp.full(3, 100.0)}, state, params)
        sizes.append(float(jnp.abs(updates["w"]).max()))
    np.testing.assert_allclose(sizes, [1 / 3, 2 / 3, 1.0, 1.0], atol=1e-3)
