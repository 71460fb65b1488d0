"""Small teams for tests: problems, roles, random networks, and the prompts that were read as
text."""

import jax
import jax.numpy as jnp

from ccpo_jax.models import init_params, make_policy
from ccpo_jax.models.decoder import ModelConfig
from ccpo_jax.rl.topology import Topology
from ccpo_jax.rl.types import Policy
from ccpo_jax.rollout import Agent, Rollout, Team, Turn, rollout
from ccpo_jax.rollout.prompts import RolePrompt, TextCodec, tokenize_role
from tests.support.stubs import CODEC

ROLES = {
    "thinker": RolePrompt("t", "{problem}", "", "?"),
    "solver": RolePrompt("s", "{problem}", "\nhint: {message}", "?"),
    "voter": RolePrompt("v", "{problem}", "", ""),
    "planner": RolePrompt("p", "{problem}", "", "?"),
    "checker": RolePrompt(
        "c", "{problem}", {"planner": "\nplan: {message}", "": "\nwork: {message}"}, "."
    ),
    "debater": RolePrompt(
        "d", "{problem}", {"own": "\nmine: {message}", "": "\nyours: {message}"}, ""
    ),
}
PROBLEMS = ["1+1", "2+2+2", "what is 9-3", "7", "8-1", "0", "3+4+5", "1=1"]


def small_config(vocab_size: int = CODEC.vocab_size, layers: int = 1) -> ModelConfig:
    return ModelConfig(
        model_type="qwen2",
        vocab_size=vocab_size,
        hidden_size=32,
        num_layers=layers,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        ffn_size=48,
        qkv_bias=True,
        tied_embeddings=True,
    )


def small_policy() -> Policy:
    return make_policy(small_config(), compute_dtype=jnp.float32, remat="none")


def small_params(seed: int, config: ModelConfig | None = None):
    """Random parameters, large enough for responses to end at different lengths."""
    params = init_params(config or small_config(), jax.random.key(seed))
    return jax.tree.map(lambda x: 6.0 * x if x.ndim > 1 else x, params)


def senders_of(topology: Topology) -> list[list[str]]:
    """Per turn, who wrote each message it reads: a role, or "own"."""
    senders = []
    for speaker, reads in zip(topology.speakers, topology.reads, strict=True):
        own = [topology.speakers[turn] == speaker for turn in reads]
        roles = [topology.roles[turn] for turn in reads]
        senders.append(["own" if mine else role for mine, role in zip(own, roles, strict=True)])
    return senders


def team_of(
    topology: Topology, *, shared=False, codec: TextCodec = CODEC, policy=None, max_tokens: int = 12
) -> Team:
    policy = policy or small_policy()
    turns = zip(topology.roles, topology.speakers, senders_of(topology), strict=True)
    agents = tuple(
        Agent(
            policy,
            codec,
            tokenize_role(codec, ROLES[role], senders),
            max_tokens,
            0 if shared else speaker,
        )
        for role, speaker, senders in turns
    )
    return Team(topology, agents, prompt_length=32)


def weights_of(team: Team, count: int) -> tuple:
    """Decode weights of `count` random networks."""
    return tuple(team.agents[0].policy.publish(small_params(seed)) for seed in range(count))


def small_rollout(team: Team, weights, problems=PROBLEMS, **changes) -> Rollout:
    """A rollout of three samples per problem, always with the same key."""
    return rollout(team, weights, problems, jax.random.key(5), **{"group_size": 3} | changes)


def prompt_text(turn: Turn, b: int, row: int) -> str:
    """One row's whole prompt as text."""
    prompts = turn.prompts
    prefix = prompts.prefix[b, : prompts.prefix_length[b]]
    tail = prompts.tail[b, row, prompts.tail.shape[2] - prompts.tail_length[b, row] :]
    return CODEC.decode(prefix) + CODEC.decode(tail)
