"""Counterfactual credit for teams of language models.

The mathematics, `ccpo_jax.rl`, is exported here and needs jax and numpy alone. Models, sampling,
rollouts and training are subpackages that are imported by name: `ccpo_jax.models`,
`ccpo_jax.sampler`, `ccpo_jax.rollout`, `ccpo_jax.train`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ccpo_jax.rl import (
        CREDITS,
        KL_ESTIMATORS,
        LOSSES,
        TOPOLOGIES,
        Baseline,
        BatchTotals,
        CCPOState,
        CreditEstimator,
        Needs,
        Outcome,
        Policy,
        RunningMoments,
        Samples,
        Topology,
        agent_masks,
        asymmetric_advantage,
        batch_mean_advantage,
        batch_totals,
        cispo_loss,
        contribution,
        cross_play_contribution,
        event_bonus,
        gated_reward,
        gmpo_loss,
        group_advantage,
        gspo_loss,
        history_gate,
        init_moments,
        kl_loss,
        leave_one_out_advantage,
        make_credit,
        opo_advantage,
        optimal_advantage,
        overlong_penalty,
        pass_at_k,
        policy_gradient_loss,
        reinforce_pp_loss,
        sapo_loss,
        sepo_reward,
        shape_contribution,
        shapley_value,
        squared_score,
        standardize,
        supervised_loss,
        surprisal_advantage,
        team_reward,
        update_moments,
        vote_reward,
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


# Names are resolved on first use (PEP 562), so that a process which uses none, such as a verifier
# worker, loads neither jax nor numpy.
def __getattr__(name: str) -> Any:
    if name in __all__:
        value = getattr(importlib.import_module("ccpo_jax.rl"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'ccpo_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
