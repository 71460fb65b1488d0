"""Rollouts: a team answers a batch of problems, in the factual world and in worlds that mask
agents."""

from ccpo_jax.rollout.collect import demonstrate, demonstrated_ids, rate, rollout
from ccpo_jax.rollout.outcomes import outcome
from ccpo_jax.rollout.padding import bucket, tail_groups
from ccpo_jax.rollout.prompts import RolePrompt, Template, TextCodec, tokenize_role
from ccpo_jax.rollout.records import Agent, Rollout, Team, Turn
from ccpo_jax.rollout.role_prompts import PROMPTS

__all__ = [
    "PROMPTS",
    "Agent",
    "RolePrompt",
    "Rollout",
    "Team",
    "Template",
    "TextCodec",
    "Turn",
    "bucket",
    "demonstrate",
    "demonstrated_ids",
    "outcome",
    "rate",
    "rollout",
    "tail_groups",
    "tokenize_role",
]
