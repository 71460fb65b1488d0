"""How credit becomes an advantage."""

import dataclasses

import jax.numpy as jnp

from ccpo_jax.rl.advantages import (
    asymmetric_advantage,
    group_advantage,
    leave_one_out_advantage,
)
from ccpo_jax.rl.types import Array
from ccpo_jax.rl.weighted_advantages import batch_mean_advantage, weighted_advantage

# What `delta` is where a run leaves it open.
_DELTAS = {"constant": 0.1, "asymmetric": -0.1}


@dataclasses.dataclass(frozen=True)
class Advantage:
    """Credit minus a baseline. Static, and compared by value.

    Attributes:
      baseline: one of config.BASELINES.
      normalize_std: group alone: divide by the group's standard deviation.
      delta: constant and asymmetric alone, see there; None = the default of each.
    """

    baseline: str = "group"
    normalize_std: bool = True
    delta: float | None = None

    def __call__(self, credit: Array, surprisal: Array | None) -> Array:
        """Advantages ``[A, B, G]`` of a batch's credit; `surprisal`, of the same shape, is read by
        "weighted" alone.
        """
        delta = _DELTAS.get(self.baseline, 0.0) if self.delta is None else self.delta
        if self.baseline == "group":
            return group_advantage(credit, normalize_std=self.normalize_std)
        if self.baseline == "leave_one_out":
            return leave_one_out_advantage(credit)
        if self.baseline == "constant":
            return jnp.asarray(credit) - delta
        if self.baseline == "batch_mean":
            return batch_mean_advantage(credit)
        if self.baseline == "asymmetric":
            return asymmetric_advantage(credit, delta=delta)
        if self.baseline == "weighted":
            assert surprisal is not None, "rollouts have the surprisal of every response"
            return weighted_advantage(credit, surprisal)
        return jnp.asarray(credit)
