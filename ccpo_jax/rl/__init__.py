"""Ring 1, the mathematics: rewards, credit, advantages and losses, in jax and numpy alone."""

from ccpo_jax.rl.advantages import (
    asymmetric_advantage,
    group_advantage,
    leave_one_out_advantage,
)
from ccpo_jax.rl.credit import CREDITS, make_credit
from ccpo_jax.rl.cross_play import cross_play_contribution
from ccpo_jax.rl.kl import KL_ESTIMATORS, kl_loss
from ccpo_jax.rl.length_penalty import overlong_penalty
from ccpo_jax.rl.losses import (
    LOSSES,
    batch_totals,
    cispo_loss,
    gmpo_loss,
    gspo_loss,
    policy_gradient_loss,
    reinforce_pp_loss,
    sapo_loss,
)
from ccpo_jax.rl.moments import init_moments, standardize, update_moments
from ccpo_jax.rl.optimal_advantage import optimal_advantage, squared_score
from ccpo_jax.rl.pass_at_k import pass_at_k
from ccpo_jax.rl.rewards import (
    contribution,
    event_bonus,
    gated_reward,
    history_gate,
    sepo_reward,
    shape_contribution,
)
from ccpo_jax.rl.shapley import shapley_value
from ccpo_jax.rl.supervised import supervised_loss
from ccpo_jax.rl.topology import TOPOLOGIES, Topology, agent_masks, team_reward
from ccpo_jax.rl.types import (
    Baseline,
    BatchTotals,
    CCPOState,
    CreditEstimator,
    Needs,
    Outcome,
    Policy,
    RunningMoments,
    Samples,
)
from ccpo_jax.rl.votes import vote_reward
from ccpo_jax.rl.weighted_advantages import (
    batch_mean_advantage,
    opo_advantage,
    surprisal_advantage,
    weighted_advantage,
)

__all__ = [
    "CREDITS",
    "KL_ESTIMATORS",
    "LOSSES",
    "TOPOLOGIES",
    "Baseline",
    "BatchTotals",
    "CCPOState",
    "CreditEstimator",
    "Needs",
    "Outcome",
    "Policy",
    "RunningMoments",
    "Samples",
    "Topology",
    "agent_masks",
    "asymmetric_advantage",
    "batch_mean_advantage",
    "batch_totals",
    "cispo_loss",
    "contribution",
    "cross_play_contribution",
    "event_bonus",
    "gated_reward",
    "gmpo_loss",
    "group_advantage",
    "gspo_loss",
    "history_gate",
    "init_moments",
    "kl_loss",
    "leave_one_out_advantage",
    "make_credit",
    "opo_advantage",
    "optimal_advantage",
    "overlong_penalty",
    "pass_at_k",
    "policy_gradient_loss",
    "reinforce_pp_loss",
    "sapo_loss",
    "sepo_reward",
    "shape_contribution",
    "shapley_value",
    "squared_score",
    "standardize",
    "supervised_loss",
    "surprisal_advantage",
    "team_reward",
    "update_moments",
    "vote_reward",
    "weighted_advantage",
]
