"""Credit without jit, operation by operation, which is slow to compile: the same as with it."""

import jax
import numpy as np
import pytest

from ccpo_jax import CREDITS, make_credit
from ccpo_jax.rl.topology import dyad, voting
from tests.support.outcomes import FITS, compiled, outcome_for

KINDS = [(name, team) for name in CREDITS for team in (dyad(), voting(3)) if team in FITS[name]]


@pytest.mark.parametrize("name, team", KINDS, ids=lambda x: x if isinstance(x, str) else x.name)
def test_jit_changes_nothing(name, team):
    estimator = make_credit(name, team)
    state = eager_state = estimator.init()
    for step in range(3):
        outcome = outcome_for(name, team, seed=step)
        eager, eager_state = estimator.update(eager_state, outcome)
        credit, state = compiled(name, team)(state, outcome)
        np.testing.assert_allclose(credit, eager, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state, eager_state)
