"""Counterfactual credit for teams of language models.

The mathematics is here and needs jax and numpy alone. Models, sampling, rollouts and training are submodules
(`ccpo_jax.models`, `ccpo_jax.sampler`, `ccpo_jax.rollout`, `ccpo_jax.train`, ...) that are imported by name.
"""

from ccpo_jax.rl.advantages import group_advantage, leave_one_out_advantage, surprisal_advantage
from ccpo_jax.rl.credit import CREDITS, make_credit
from ccpo_jax.rl.losses import (
    LOSSES,
    batch_totals,
    gspo_loss,
    policy_gradient_loss,
    reinforce_pp_loss,
)
from ccpo_jax.rl.moments import init_moments, standardize, update_moments
from ccpo_jax.rl.rewards import (
    contribution,
    cross_play_contribution,
    event_bonus,
    gated_reward,
    history_gate,
    sepo_reward,
    shape_contribution,
    shapley_value,
    vote_reward,
)
from ccpo_jax.rl.topology import TOPOLOGIES, Topology, agent_masks, team_reward
from ccpo_jax.rl.types import (
    BatchTotals,
    CCPOState,
    CreditEstimator,
    Outcome,
    Policy,
    RunningMoments,
    Samples,
)

__all__ = [
    "CREDITS",
    "LOSSES",
    "TOPOLOGIES",
    "BatchTotals",
    "CCPOState",
    "CreditEstimator",
    "Outcome",
    "Policy",
    "RunningMoments",
    "Samples",
    "Topology",
    "agent_masks",
    "batch_totals",
    "contribution",
    "cross_play_contribution",
    "event_bonus",
    "gated_reward",
    "group_advantage",
    "gspo_loss",
    "history_gate",
    "init_moments",
    "leave_one_out_advantage",
    "make_credit",
    "policy_gradient_loss",
    "reinforce_pp_loss",
    "sepo_reward",
    "shape_contribution",
    "shapley_value",
    "standardize",
    "surprisal_advantage",
    "team_reward",
    "update_moments",
    "vote_reward",
]
