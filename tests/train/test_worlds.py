"""Every estimator in a run: its shapes, the masked worlds of a step, and the agents that a step trains."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax import Outcome, make_credit
from ccpo_jax.config import from_flat
from ccpo_jax.rl.topology import debate, dyad, voting
from ccpo_jax.train.build import check_credit, make_advantage, make_run_credit
from ccpo_jax.train.worlds import credit_of_step, masked_worlds
from tests.support.outcomes import FITS, outcome_for

PAIRS = [(name, team) for name, teams in FITS.items() for team in teams]
per_pair = pytest.mark.parametrize(
    "name, team", PAIRS, ids=lambda x: x if isinstance(x, str) else x.name
)


@per_pair
def test_a_run_can_choose_it(name, team):
    """By --config.credit.name, with the defaults of the configuration: `build` checks shapes before anything is loaded."""
    config = from_flat({"credit.name": name, "batch_size": 2, "group_size": 4})
    estimator = make_run_credit(config, team)
    advantage = make_advantage(config, estimator)
    check_credit(config, estimator, advantage, team)


def test_masked_worlds_are_decoded_where_they_are_free_or_read():
    def worlds(name, team, **hyper):
        return masked_worlds(make_credit(name, team, **hyper), team)

    assert (
        worlds("shared", voting(3)) == worlds("cross_play", voting(3)) == (0, 1, 2)
    )  # a re-tally, for diagnostics
    assert worlds("shared", dyad()) == worlds("shared", debate(3)) == worlds("nested", dyad()) == ()
    assert worlds("difference", dyad()) == (0,) and worlds("agent_norm", debate(3)) == (0, 1, 2)
    assert worlds("shapley", dyad()) == ((0,), (1,), (0, 1)) and worlds(
        "nested", dyad(), solo_weight=0.5
    ) == ((0,),)


def test_a_step_masks_only_whom_it_trains():
    """Their credit is the same as in all worlds, and nothing is decoded for the others."""

    def of_step(name, team, active):
        return credit_of_step(make_credit(name, team), team, active)

    cases = [
        (name, team)
        for name in ("difference", "ccpo_event")
        for team in FITS[name]
        if any(team.reads)
    ]
    for (name, team), active in itertools.product(cases, ((0,), (1,))):
        whole, part = make_credit(name, team), of_step(name, team, active)
        outcome = outcome_for(name, team)
        read = [0] + [1 + team.ablated.index(agent) for agent in active if agent in team.ablated]
        narrow = Outcome(*(x[jnp.array(read)] for x in outcome[:4]))
        np.testing.assert_array_equal(
            part.update((), narrow)[0][active], whole.update((), outcome)[0][active]
        )
        assert masked_worlds(part, team) == tuple(
            agent for agent in active if agent in team.ablated
        )
        assert part.baseline == whole.baseline
    for name, team in (
        ("ccpo", dyad()),
        ("agent_norm", dyad()),
        ("difference", voting(3)),
    ):  # memory, or free masks
        whole = make_credit(name, team)
        assert credit_of_step(whole, team, (1,)) is whole
    assert masked_worlds(of_step("difference", dyad(), (0, 1)), dyad()) == (0,)
