"""Cross-play: the contribution of a vote, averaged over the teams that its group can form.

Voters answer independently, so any sample of one agent may be teamed with any samples of the
others. All G^(A-1) teams are tried where they are few, counted where answers fall into few classes
(`class_counts`), and elsewhere a fixed pattern of M *pairings* stands for them. A pairing is one
sample of every agent; agent k's partners in it are the samples of the others.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ccpo_jax.integers import ceil_div
from ccpo_jax.rl.class_counts import expected_contribution, most_classes
from ccpo_jax.rl.types import Array, HostArray
from ccpo_jax.rl.votes import class_labels, replaced_votes, require_tie, without_rounding

# Of the pairings that stand for all teams, unless the caller says how many.
DEFAULT_PAIRINGS = 64

# As many teams are tried one by one, however many classes of answers there are.
_MOST_TEAMS = 2**12
# Pairings that are computed at once: bounds the memory.
_PAIRINGS_AT_ONCE = 64


def cross_play_contribution(
    answer_id: ArrayLike, correct: ArrayLike, *, tie: str = "expected", pairings: int | None = None
) -> Array:
    """Contribution of each vote, averaged over every team its group can form, or over a sample.

    Any sample of one agent may be teamed with any samples h of the others:

        c_k(g) = mean over h in {1..G}^(A-1) of  R(y_k^g, y_-k^h) - R(y_-k^h).

    This is the difference reward averaged over all pairings of the same samples (Rao-Blackwell):
    the same expectation, never more variance, and nothing more to decode. With M pairings the mean
    is over M of the teams, the same ones for all samples of an agent. Samples of a prompt are
    independent, so every fixed choice of teams has the same expectation; this one uses each sample
    equally often.

    Up to 2^12 teams are tried one by one. More are counted on prompts with few answer classes, see
    `expected_contribution`; other prompts, and all where M is given, have M pairings, whose time
    and memory are linear in A.

    Deviation: not in arXiv:2603.21563.

    Args:
      answer_id: ``[B, G, A]`` int32, answer classes, -1 = abstains.
      correct: ``[B, G, A]`` float in [0, 1].
      tie: as in `vote_reward`.
      pairings: M; None = exact where that is affordable, else 64.

    Returns:
      ``[A, B, G]`` float32 in [-1, 1].

    Raises:
      InputError: `team.tie`, if unknown.

    Example:
      >>> answer_id, correct = jnp.array([[[0, 0], [0, 1]]]), jnp.array([[[1.0, 1.0], [1.0, 0.0]]])
      >>> cross_play_contribution(answer_id, correct).tolist()
      [[[0.25, 0.25]], [[0.0, -0.5]]]
    """
    require_tie(tie)
    answer_id = jnp.asarray(answer_id)
    correct = jnp.asarray(correct, jnp.float32)
    batch, group, agents = answer_id.shape
    label = class_labels(answer_id.reshape(batch, -1)).reshape(answer_id.shape)

    teams = group ** (agents - 1)
    if teams <= min(_MOST_TEAMS, teams if pairings is None else pairings):
        return _mean_contribution(label, correct, all_teams(group, agents), tie=tie)
    pattern = sampled_teams(group, agents, pairings or DEFAULT_PAIRINGS)
    sampled = functools.partial(_mean_contribution, label, correct, pattern, tie=tie)
    if pairings is not None:
        return sampled()

    # How many classes there are depends on the answers, shapes do not. It does not depend on the
    # order of an agent's samples, and in the mean over orders both are equal: no bias.
    classes = min(most_classes(agents, tie), group * agents)
    used = jnp.where(label < group * agents, label + 1, 0).max(axis=(1, 2))
    is_counted = used <= classes
    counted = functools.partial(expected_contribution, label, correct, classes=classes, tie=tie)

    # Either is computed only where some prompt of the batch has it.
    nothing = functools.partial(jnp.zeros, (agents, batch, group), jnp.float32)
    of_counts = jax.lax.cond(is_counted.any(), counted, nothing)
    of_pairings = jax.lax.cond(is_counted.all(), nothing, sampled)
    return jnp.where(is_counted[:, None], of_counts, of_pairings)


def all_teams(group: int, agents: int) -> HostArray:
    """Pairings in which the partners of every agent form each of their G^(A-1) teams once.

    The sample of the last agent is the sum of the others' modulo G, so any A - 1 agents decide that
    of the one left out.

    Args:
      group: G.
      agents: A.

    Returns:
      ``[G^(A-1), A]`` int, the sample of each agent.

    Example:
      >>> all_teams(2, 2).tolist()
      [[0, 0], [1, 1]]
    """
    number = np.arange(group ** (agents - 1))[:, None]
    others = number // group ** np.arange(agents - 1) % group
    return np.concatenate([others, others.sum(axis=1, keepdims=True) % group], axis=1)


def sampled_teams(group: int, agents: int, pairings: int) -> HostArray:
    """A fixed pattern of pairings that uses every sample of each agent equally often.

    Args:
      group: G.
      agents: A.
      pairings: M.

    Returns:
      ``[M, A]`` int, the sample of each agent; where G does not divide M, some occur once more.

    Example:
      >>> sampled_teams(2, 3, 4).sum(axis=0).tolist()
      [2, 2, 2]
    """
    once = np.arange(group * ceil_div(pairings, group)) % group
    columns = np.broadcast_to(once[:pairings, None], (pairings, agents))
    return np.random.default_rng(0).permuted(columns, axis=0)


def _mean_contribution(label: Array, correct: Array, pairings: HostArray, *, tie: str) -> Array:
    """``[A, B, G]``: every sample's contribution, averaged over pairings ``[M, A]``."""
    batch, group, agents = label.shape
    classes = group * agents
    # Each agent's own samples take its place, and an abstention, [B, A, G + 1].
    own_label = jnp.pad(
        jnp.moveaxis(label, 1, -1), ((0, 0), (0, 0), (0, 1)), constant_values=classes
    )
    own_correct = jnp.pad(jnp.moveaxis(correct, 1, -1), ((0, 0), (0, 0), (0, 1)))

    def contribute(label, correct, own_label, own_correct, pairing):
        team = (pairing, jnp.arange(agents))
        reward = replaced_votes(
            label[team], correct[team], own_label, own_correct, classes=classes, tie=tie
        )
        return without_rounding(reward[:, :-1] - reward[:, -1:])

    over_prompts = jax.vmap(contribute, in_axes=(0, 0, 0, 0, None))
    over_pairings = jax.vmap(over_prompts, in_axes=(None, None, None, None, 0))

    def add(total, block):
        index, is_real = block
        credit = over_pairings(label, correct, own_label, own_correct, index)
        return total + jnp.where(is_real[:, None, None, None], credit, 0.0).sum(axis=0), None

    number = len(pairings)
    at_once = min(number, _PAIRINGS_AT_ONCE)
    missing = -number % at_once
    index = np.pad(pairings, ((0, missing), (0, 0))).reshape(-1, at_once, agents)
    is_real = (np.arange(number + missing) < number).reshape(-1, at_once)
    start = jnp.zeros((batch, agents, group), jnp.float32)
    total, _ = jax.lax.scan(add, start, (index, is_real))
    return jnp.moveaxis(total / number, 1, 0)
