"""How credit becomes an advantage."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.rl.advantages import (
    asymmetric_advantage,
    group_advantage,
    leave_one_out_advantage,
)
from ccpo_jax.rl.optimal_advantage import optimal_advantage, squared_score
from ccpo_jax.rl.topology import Topology
from ccpo_jax.rl.types import Array, HostArray, Outcome, Samples
from ccpo_jax.rl.weighted_advantages import (
    batch_mean_advantage,
    init_weighted,
    opo_advantage,
    update_weighted,
    weighted_advantage,
)
from ccpo_jax.rollout import Rollout
from ccpo_jax.rollout.outcomes import add_up_turns, is_token

# What `delta` is where a run leaves it open.
_DELTAS = {"constant": 0.1, "asymmetric": -0.1}


@dataclasses.dataclass(frozen=True)
class Advantage:
    """Credit minus a baseline. Static, and compared by value.

    Attributes:
      baseline: one of config.BASELINES.
      normalize_std: group alone: divide by the group's standard deviation.
      delta: constant and asymmetric alone, see there; None = the default of each.
      pool: opo and optimal alone: one of POOLS.
      form: optimal alone: one of FORMS.
      carried: weighted alone: its sums go on from step to step.
    """

    baseline: str = "group"
    normalize_std: bool = True
    delta: float | None = None
    pool: str = "prompt"
    form: str = "sequence"
    carried: bool = False

    def __call__(self, credit: Array, weight: Array | None = None, state: Any = ()) -> Array:
        """Advantages ``[A, B, G]`` of a batch's credit, those of the sequence form.

        Args:
          credit: ``[A, B, G]``.
          weight: ``[A, B, G]``, see `weights`.
          state: from before the step, see `init`.
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
        if self.baseline == "none":
            return jnp.asarray(credit)

        assert weight is not None, f"the baseline {self.baseline} weighs responses"
        if self.baseline == "opo":
            return opo_advantage(credit, weight, pool=self.pool)
        if self.baseline == "optimal":
            # As of one token that stands for the whole response.
            whole = jnp.asarray(weight)[..., None]
            return optimal_advantage(credit, whole, jnp.ones_like(whole, bool), pool=self.pool)
        return weighted_advantage(credit, weight, state=state if self.carried else None)

    @property
    def by_token(self) -> bool:
        """Whether every token has an advantage of its own, see `token_advantages`."""
        return self.baseline == "optimal" and self.form == "token"

    @property
    def reads_collisions(self) -> bool:
        """Whether the sampler has to record `Samples.collision`."""
        return self.baseline == "optimal"

    def init(self, num_agents: int) -> Any:
        """What is carried before the first step; () = nothing is ever."""
        return init_weighted(num_agents) if self.carried else ()

    def update(self, state: Any, credit: Array, weight: Array, known: Array) -> Any:
        """What is carried after a step; that of agents whose credit it did not compute stays.

        Args:
          state: from before the step.
          credit, weight: as in `__call__`.
          known: ``[A]`` bool, True = the credit of this agent was computed.
        """
        if not self.carried:
            return ()
        new = update_weighted(state, credit, weight)
        return jax.tree.map(lambda after, before: jnp.where(known, after, before), new, state)

    def weights(
        self, topology: Topology, rollouts: Rollout, outcome: Outcome
    ) -> Array | HostArray | None:
        """``[A, B, G]``, what the baseline weighs each agent's responses with: their surprisal in
        nats, their tokens, or their squared score; None = it does not weigh.
        """
        if self.baseline == "weighted":
            return outcome.surprisal
        if self.baseline == "opo":
            return add_up_turns(topology, rollouts, lambda samples: np.ones(samples.tokens.shape))
        if self.baseline == "optimal":
            return add_up_turns(topology, rollouts, _squared_scores)
        return None


def token_advantages(
    rule: Advantage, topology: Topology, rollouts: Rollout, credit: HostArray
) -> tuple[list[HostArray], HostArray]:
    """Advantages of every token of the factual responses, by the token form of `rule`.

    A turn is compared with the same turn of other samples, token by token. Of an agent that speaks
    several times, what it drew in earlier turns counts as drawn before: the whole of its responses
    is one sequence, and only where its parts begin follows the turns.

    Args:
      rule: with `by_token`.
      topology: the team's.
      rollouts: of the batch; every text has one reader.
      credit: ``[A, B, G]``.

    Returns:
      ``(per turn [B, G, T], mean over the tokens of each agent's responses [A, B, G])``, float32.
    """
    earlier = jnp.zeros(credit.shape)
    total = jnp.zeros(credit.shape)
    tokens = jnp.zeros(credit.shape)
    of_turns = []
    for agent, turn in zip(topology.speakers, rollouts.turns, strict=True):
        factual = turn.rows(0)
        samples = jax.tree.map(lambda field, rows=factual: field[:, rows], turn.samples)
        mask = is_token(samples)
        advantage, reached = _turn_advantages(
            credit[agent], _squared_scores(samples), mask, earlier[agent], pool=rule.pool
        )
        earlier = earlier.at[agent].set(reached)
        total = total.at[agent].add(advantage.sum(axis=-1))
        tokens = tokens.at[agent].add(mask.sum(axis=-1))
        of_turns.append(advantage)
    return jax.device_get((of_turns, total / jnp.maximum(tokens, 1)))


@functools.partial(jax.jit, static_argnames="pool")
def _turn_advantages(credit, scores, mask, earlier, *, pool: str) -> tuple[Array, Array]:
    """A turn's ``[B, G, T]``, and ``[B, G]``: the squared scores up to its end."""
    advantage = optimal_advantage(credit, scores, mask, earlier=earlier, pool=pool, form="token")
    return advantage, earlier + jnp.where(mask, scores, 0.0).sum(axis=-1)


def _squared_scores(samples: Samples) -> Array:
    assert samples.collision is not None, "the run's sampler records it for this baseline"
    return squared_score(samples.logprobs, samples.collision)
