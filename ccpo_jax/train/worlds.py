"""Which masked worlds a training step decodes, and whose credit it then knows."""

import numpy as np

from ccpo_jax.rl.topology import Topology, agent_masks, texts_per_sample
from ccpo_jax.rl.types import CreditEstimator, HostArray


def masked_worlds(credit: CreditEstimator, topology: Topology) -> tuple:
    """What the masked worlds of a training step mask: what the credit reads, and all that costs no
    decoding.
    """
    if credit.needs.ablated:
        return credit.needs.ablated
    return topology.ablated if _masks_are_free(topology) else ()


def credit_of_step(
    credit: CreditEstimator, topology: Topology, active: tuple[int, ...]
) -> CreditEstimator:
    """The credit of a step that trains the agents `active` only: worlds that mask the others are
    not decoded.

    An estimator with a state keeps all its worlds, and so does a team whose masks cost nothing.
    """
    all_masked_are_active = set(topology.ablated) <= set(active)
    if credit.restrict is None or all_masked_are_active or _masks_are_free(topology):
        return credit
    return credit.restrict(active)


def known_credit(
    credit: CreditEstimator, step_credit: CreditEstimator, active: tuple[int, ...], num_agents: int
) -> HostArray:
    """``[A]`` bool: agents whose credit a step computes, all but those whose worlds
    `credit_of_step` left out.
    """
    if step_credit is credit:
        return np.ones(num_agents, bool)
    return np.isin(np.arange(num_agents), active)


def _masks_are_free(topology: Topology) -> bool:
    """Whether masking changes no prompt, so that a masked world needs no text of its own."""
    masks = agent_masks(topology.num_agents, topology.ablated)
    return texts_per_sample(topology, masks) == len(topology.roles)
