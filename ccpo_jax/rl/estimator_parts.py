"""What credit estimators have in common: what they read of an outcome, and checks."""

import dataclasses

import jax.numpy as jnp

from ccpo_jax.errors import InputError
from ccpo_jax.rl.rewards import contribution
from ccpo_jax.rl.topology import Topology
from ccpo_jax.rl.types import Array, Baseline, Outcome

# Per sample of the team: beyond it an estimator would spend a step on one prompt.
MOST_TEXTS = 64

# Made for advantages that are not divided by the group's deviation.
CENTRED = Baseline(normalize_std=False)

# The credit is an advantage already.
OWN_BASELINE = Baseline(kind="none")


def no_state() -> tuple[()]:
    """`init` of an estimator that carries nothing."""
    return ()


def factual_reward(outcome: Outcome) -> Array:
    """``[B, G]``: the team's reward in the factual world."""
    return jnp.asarray(outcome.reward[0], jnp.float32)


def contributions(topology: Topology, outcome: Outcome) -> Array:
    """``[W-1, B, G]``: contribution of each ablated agent, in the order of `topology.ablated`."""
    require_worlds(1 + len(topology.ablated), outcome)
    return contribution(outcome.reward)


def masking_only(topology: Topology, agents: tuple[int, ...]) -> Topology:
    """The same team, of which only `agents` have a masked world."""
    ablated = tuple(agent for agent in topology.ablated if agent in agents)
    return dataclasses.replace(topology, ablated=ablated)


def require_worlds(expected: int, outcome: Outcome) -> None:
    """Checks that the masked worlds were decoded.

    Raises:
      InputError: `outcome.reward`.
    """
    # An index beyond the end of a traced array would be clamped, not refused.
    worlds = outcome.reward.shape[0]
    if worlds != expected:
        raise InputError(
            "outcome.reward",
            f"needs {expected} worlds, received {worlds}; decode the masked worlds too",
        )


def require_team(fits: bool, name: str, topology: Topology, need: str) -> None:
    """Checks that an estimator fits the team.

    Args:
      fits: whether it does.
      name: of the estimator.
      topology: the team.
      need: the teams that it fits, in words.

    Raises:
      InputError: `credit.name`.
    """
    if not fits and topology.num_agents == 1:
        # Nobody may have typed the name: it is that of a preset for a larger team.
        raise InputError(
            "credit.name",
            f"{name!r} needs {need}, received a team of one, topology {topology.name!r}; type "
            "--config.credit.name=shared",
        )
    if not fits:
        raise InputError(
            "credit.name",
            f"{name!r} needs {need}, received topology {topology.name!r}; "
            "use 'shared' or 'difference', which fit every team, or another topology",
        )


def require_decay(decay: float) -> None:
    """Checks the weight of the past.

    Raises:
      InputError: `credit.decay`.
    """
    if not 0.0 <= decay < 1.0:
        raise InputError(
            "credit.decay", f"must be in [0, 1), received {decay}; use credit.decay=0.99"
        )


def require_eps(eps: float) -> None:
    """Checks what is added to deviations.

    Raises:
      InputError: `credit.eps`.
    """
    if not eps >= 0.0:
        raise InputError("credit.eps", f"must be at least 0, received {eps}; use credit.eps=1e-6")
