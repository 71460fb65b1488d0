"""From verdicts on texts to the team's outcome in every world."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from ccpo_jax.rl.topology import Topology, agent_masks, team_reward, votes_independently
from ccpo_jax.rl.types import Array, HostArray, Outcome, Samples
from ccpo_jax.rl.votes import votes_without_each
from ccpo_jax.rollout.records import Rollout

_team_reward = jax.jit(team_reward, static_argnums=0)
_votes_without_each = jax.jit(votes_without_each, static_argnames="tie")


def outcome(
    topology: Topology,
    rollout: Rollout,
    correct: Sequence[HostArray],
    answer_id: Sequence[HostArray],
) -> Outcome:
    """The team's outcome in every world, from verdicts on its texts. Truncated answers count as
    wrong: they score 0, whatever the verifier says.

    Args:
      topology: the team's rule.
      rollout: the rollout.
      correct: per turn ``[B, R]`` in [0, 1], the verifier's score of each text.
      answer_id: per turn ``[B, R]`` int, answer classes within each prompt, -1 = none.

    Returns:
      `Outcome` with fields ``[W, B, G(, A)]`` on the host. An agent's answer is its last turn. With
      K answers to every text, G counts the samples of the last turn. Where a masked world has
      another number of samples than G, each of the G stands for their mean, which has no answer
      class. Surprisal is that of the factual responses.
    """
    finals = [rollout.turns[turn] for turn in topology.final_turns]
    right, label = [], []
    for turn, final in zip(topology.final_turns, finals, strict=True):
        right.append(np.where(final.samples.truncated, 0.0, correct[turn]))
        label.append(np.where(final.samples.truncated, -1, answer_id[turn]))

    batch = len(finals[0].prompts.prefix)
    group = rollout.num_samples(topology, 0)
    num_worlds, num_agents = rollout.masks.shape
    reward = np.zeros((num_worlds, batch, group), np.float32)
    agent_correct = np.zeros((num_worlds, batch, group, num_agents), np.float32)
    agent_answer = np.zeros((num_worlds, batch, group, num_agents), np.int32)

    # One call for all worlds with the same number of samples.
    counts = [rollout.num_samples(topology, world) for world in range(num_worlds)]
    for count in sorted(set(counts)):
        worlds = [world for world in range(num_worlds) if counts[world] == count]
        rows = [
            [final.row_of_sample(world, np.arange(count), count) for final in finals]
            for world in worlds
        ]
        right_here = _per_world(right, rows)
        label_here = _per_world(label, rows)
        mask = rollout.masks[worlds]
        reward_here = _rewards(topology, right_here, label_here, mask)
        if count == group:
            reward[worlds] = reward_here
            agent_correct[worlds] = right_here
            agent_answer[worlds] = label_here
        else:
            reward[worlds] = reward_here.mean(axis=2, keepdims=True)
            agent_correct[worlds] = right_here.mean(axis=2, keepdims=True)
            agent_answer[worlds] = -1
    return Outcome(
        reward,
        agent_correct,
        agent_answer,
        rollout.masks,
        surprisal=add_up_turns(topology, rollout, lambda samples: -samples.logprobs, group),
    )


def _rewards(
    topology: Topology, correct: HostArray, answer_id: HostArray, masks: HostArray
) -> HostArray:
    """``[W', B, G]``: `team_reward`; where voters are left out one by one, for little more than one
    vote.
    """
    everyone = agent_masks(topology.num_agents)
    if not (votes_independently(topology) and np.array_equal(masks, everyone)):
        return np.asarray(_team_reward(topology, correct, answer_id, masks))
    factual = _team_reward(topology, correct[:1], answer_id[:1], masks[:1])
    without = _votes_without_each(answer_id[0], correct[0], tie=topology.tie)
    return np.concatenate([factual, without])


def _per_world(values: Sequence[HostArray], rows: Sequence[Sequence[HostArray]]) -> HostArray:
    """``[W', B, G, A]``: the rows ``rows[world][agent] [G]`` of ``values[agent] [B, R]``."""
    worlds = []
    for rows_of_world in rows:
        chosen = [x[:, r] for x, r in zip(values, rows_of_world, strict=True)]
        worlds.append(np.stack(chosen, axis=-1))
    return np.stack(worlds)


def add_up_turns(
    topology: Topology,
    rollout: Rollout,
    per_token: Callable[[Samples], Array | HostArray],
    group: int | None = None,
) -> HostArray:
    """A number per token, added up over all tokens of each agent's factual responses.

    Args:
      topology: the team's.
      rollout: of a batch.
      per_token: the samples ``[B, R, T]`` of a turn -> numbers ``[B, R, T]``.
      group: G, samples of the whole team; None = as many as the factual world has.

    Returns:
      ``[A, B, G]`` float32.
    """
    batch = len(rollout.turns[0].prompts.prefix)
    group = rollout.num_samples(topology, 0) if group is None else group
    total = np.zeros((topology.num_agents, batch, group), np.float32)
    for agent, turn in zip(topology.speakers, rollout.turns, strict=True):
        amount = np.where(is_token(turn.samples), per_token(turn.samples), 0.0).sum(axis=-1)
        total[agent] += amount[:, turn.row_of_sample(0, np.arange(group), group)]
    return total


def is_token(samples: Samples) -> HostArray:
    """``[B, R, T]`` bool, True = a sampled token. Host arrays."""
    return np.arange(samples.logprobs.shape[-1]) < np.asarray(samples.length)[..., None]
