"""How credit becomes an advantage."""

import dataclasses

import jax.numpy as jnp

from ccpo_jax.rl.advantages import group_advantage, leave_one_out_advantage, surprisal_advantage
from ccpo_jax.rl.types import Array

BASELINES = ("group", "leave_one_out", "surprisal", "none")


@dataclasses.dataclass(frozen=True)
class Advantage:
    """Credit minus a baseline. Static, and compared by value.

    Attributes:
      baseline: one of BASELINES.
      normalize_std: group alone: divide by the group's standard deviation.
    """

    baseline: str = "group"
    normalize_std: bool = True

    def __call__(self, credit: Array, surprisal: Array | None) -> Array:
        """Advantages ``[A, B, G]`` of a batch's credit; `surprisal`, of the same shape, is read by
        "surprisal" alone.
        """
        if self.baseline == "group":
            return group_advantage(credit, normalize_std=self.normalize_std)
        if self.baseline == "leave_one_out":
            return leave_one_out_advantage(credit)
        if self.baseline == "surprisal":
            assert surprisal is not None, "rollouts have the surprisal of every response"
            return surprisal_advantage(credit, surprisal)
        return jnp.asarray(credit)
