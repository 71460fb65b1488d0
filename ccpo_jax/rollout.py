"""Rollouts: a team answers a batch of problems, in the factual world and in the worlds that mask an agent.

Agents speak in stages: everyone whose partners have already spoken. A stage is one call of the sampler. What no mask
touches is decoded once for all worlds; what a mask changes is decoded again as further rows of the same call, behind
the same question cache. Voting decodes nothing extra.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from ccpo_jax import prompts as text
from ccpo_jax.draw import sampling
from ccpo_jax.generate import generate
from ccpo_jax.records import Outcome, Policy, Samples
from ccpo_jax.sampler import Groups, Prompts
from ccpo_jax.topology import Topology, agent_masks, team_reward, variants


@dataclasses.dataclass(frozen=True)
class Agent:
    """What one agent needs to read and to speak. Static."""

    policy: Policy
    tokenizer: text.TextCodec
    template: text.Template
    max_tokens: int  # T, tokens at which its response is cut
    parameter_set: int  # index into the tuple of parameter sets

    @property
    def has_tail(self) -> bool:
        """Whether its rows differ in their prompt (they quote partners), not only in their samples."""
        return bool(self.template.message)


@dataclasses.dataclass(frozen=True)
class Team:
    """A topology and its agents. Static."""

    topology: Topology
    agents: tuple[Agent, ...]
    prompt_length: int  # L, most tokens a problem's prompt may take before any message

    @property
    def stages(self) -> tuple[tuple[int, ...], ...]:
        """Agents grouped by when they can speak."""
        depth: dict[int, int] = {}
        for agent, partners in enumerate(self.topology.reads):
            depth[agent] = 1 + max((depth[p] for p in partners), default=-1)
        return tuple(tuple(a for a in depth if depth[a] == d) for d in sorted(set(depth.values())))


class Turn(NamedTuple):
    """Everything one agent said to one batch. Host arrays; row r of a prompt is (variant, sample), variant 0 first."""

    prompts: Prompts
    samples: Samples
    texts: list[list[str]]  # [B][R]
    variant: tuple[int, ...]  # [W] which variant each world reads
    counts: tuple[int, ...]  # samples of each variant; they add up to R

    def rows(self, world: int) -> slice:
        """The rows that belong to `world`."""
        first = sum(self.counts[: self.variant[world]])
        return slice(first, first + self.counts[self.variant[world]])


class Rollout(NamedTuple):
    """One batch of team rollouts over all worlds."""

    turns: tuple[Turn, ...]  # [A]
    masks: np.ndarray  # [W, A] bool

    def first(self, count: int) -> "Rollout":
        """The first `count` prompts of the batch alone."""

        def cut(turn: Turn) -> Turn:
            prompts, samples = (type(part)(*(x[:count] for x in part)) for part in (turn.prompts, turn.samples))
            return turn._replace(prompts=prompts, samples=samples, texts=turn.texts[:count])

        return Rollout(tuple(map(cut, self.turns)), self.masks)

    @property
    def decoded_tokens(self) -> int:
        """Tokens decoded for this batch, end tokens included."""
        return int(sum(turn.samples.length.sum() for turn in self.turns))


def bucket(length: int, limit: int) -> int:
    """`length` rounded up to two significant bits (at most a third of padding, few shapes), never above `limit`.

    Example:
      >>> [bucket(n, 100) for n in (0, 3, 5, 9, 50, 97)]
      [0, 3, 6, 12, 64, 100]
    """
    if length <= 2:
        return min(length, limit)
    unit = 1 << (length.bit_length() - 2)
    return min(-(-length // unit) * unit, limit)


def rollout(
    team: Team,
    weights: Sequence,
    problems: Sequence[str],
    key: jax.Array,
    *,
    group_size: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    ablated: tuple[int, ...] = (),
    solo_samples: int | None = None,
    chunk: int = 32,
    rows: int | None = None,
    sharding: jax.sharding.Sharding | None = None,
    stack_agents: bool = True,
    heard: Callable[[dict[int, tuple[str, ...]]], None] | None = None,
) -> Rollout:
    """Lets the team answer every problem `group_size` times, in the factual world and with each of `ablated` masked.

    Args:
      team: who speaks.
      weights: P decode weights, from ``policy.publish``.
      problems: B problem texts.
      key: typed PRNG key of this batch. Row (agent, world, prompt, sample) derives its own key, so its tokens do not
        depend on which other worlds, samples or devices take part.
      group_size: G, samples per prompt in the factual world.
      temperature: 0 = greedy.
      top_p: mass of the sampled distribution; 1 = all of it.
      ablated: agents that get a masked world each; () decodes the factual world alone.
      solo_samples: samples per prompt of what a mask changes; None = G.
      chunk: tokens between two looks at which responses have ended; changes no token.
      rows: most responses of one call that decode at once, see `generate`; changes no token.
      sharding: placement of the batch axis.
      stack_agents: agents of one architecture with separate parameters sample in one vmapped call.
      heard: called with all texts of a prompt, those of agent 0 first, as soon as its last response has ended, while
        others still decode; each prompt is in one call.

    Returns:
      `Rollout` on the host.
    """
    masks = agent_masks(team.topology.num_agents, ablated)
    turns: dict[int, Turn] = {}
    texts: list[list] = [[None] * len(problems) for _ in team.agents]

    def listen(agents: Sequence[int], prompts: Sequence[int], spoken: Samples) -> None:
        for i, agent in enumerate(agents):
            said = _texts(team.agents[agent], Samples(*(field[i] for field in spoken)))
            for b, rows in zip(prompts, said, strict=True):
                texts[agent][b] = rows
        if heard is not None and all(texts[a][b] is not None for a in range(len(texts)) for b in prompts):
            heard({b: tuple(text for said in texts for text in said[b]) for b in prompts})

    for stage in team.stages:
        pending = {a: _compose(team, a, masks, problems, turns, group_size, solo_samples) for a in stage}
        for agents in _calls(team, pending, stack_agents):
            finished = functools.partial(listen, agents)
            samples = _sample_agents(team, agents, weights, pending, key, temperature, top_p, chunk=chunk, rows=rows,
                                     sharding=sharding, finished=finished)  # fmt: skip
            for agent, spoken in zip(agents, samples, strict=True):
                turns[agent] = pending[agent]._replace(samples=spoken, texts=texts[agent])
    return Rollout(tuple(turns[a] for a in range(len(turns))), masks)


def _compose(team, index, masks, problems, turns, group_size, solo_samples) -> Turn:
    """Prompts of one agent for all rows; samples and texts still empty."""
    agent, topology = team.agents[index], team.topology
    worlds, variant = variants(topology, index, masks)
    counts = (group_size,) + (solo_samples or group_size,) * (len(worlds) - 1)
    head = text.prefix if agent.has_tail else text.whole
    prefixes = [head(agent.template, agent.tokenizer, problem) for problem in problems]
    longest = max(len(row) for row in prefixes)
    if longest > team.prompt_length:
        raise ValueError(
            f"prompt_length: a prompt of agent {index} takes {longest} tokens, the limit is {team.prompt_length}; "
            f"type --config.prompt_length={longest}"
        )
    prefix, prefix_length = text.pad_right(prefixes, bucket(longest, team.prompt_length), agent.tokenizer.pad_id)
    tails = [[[] for _ in range(sum(counts))] for _ in problems]
    if agent.has_tail:
        quoted = _quotes(team, index, turns)
        for b in range(len(problems)):
            rows = [(world, g) for world, count in zip(worlds, counts, strict=True) for g in range(count)]
            tails[b] = [text.tail(agent.template, _heard(quoted, turns, masks, world, b, g)) for world, g in rows]
    flat = [row for rows in tails for row in rows]
    loudest = [[agent.tokenizer.pad_id] * team.agents[p].max_tokens for p in topology.reads[index]]
    limit = len(text.tail(agent.template, loudest)) if agent.has_tail else 0
    tail, tail_length = text.pad_left(flat, bucket(max(map(len, flat)), limit), agent.tokenizer.pad_id)
    shape = (len(problems), sum(counts))
    prompts = Prompts(prefix, prefix_length, tail.reshape(shape + tail.shape[1:]), tail_length.reshape(shape))
    return Turn(prompts, samples=None, texts=[], variant=variant, counts=counts)


def _quotes(team: Team, reader: int, turns: dict[int, Turn]) -> dict[int, list[list[list[int]]]]:
    """Every partner's messages as the reader's own inert tokens: partner -> [B][R] token lists."""
    tokenizer = team.agents[reader].tokenizer
    quotes = {}
    for partner in team.topology.reads[reader]:
        texts = turns[partner].texts
        flat = text.quote(tokenizer, [t for rows in texts for t in rows], team.agents[partner].max_tokens)
        rows = len(texts[0])
        quotes[partner] = [flat[b * rows : (b + 1) * rows] for b in range(len(texts))]
    return quotes


def _heard(quotes, turns, masks, world: int, b: int, g: int) -> list[list[int] | None]:
    """Messages that sample g of prompt b reads in `world`; None where the partner is masked."""
    messages: list[list[int] | None] = []
    for partner, rows in quotes.items():
        own = turns[partner].rows(world)
        row = own.start + g % (own.stop - own.start)
        messages.append(rows[b][row] if masks[world, partner] else None)
    return messages


def _calls(team: Team, pending: dict[int, Turn], stack_agents: bool) -> list[tuple[int, ...]]:
    """Agents of a stage that sample in one call: same network, tokenizer and response limit, and same rows."""
    calls: dict[tuple, list[int]] = {}
    for index, turn in pending.items():
        agent = team.agents[index]
        alone = None if stack_agents else agent.parameter_set
        calls.setdefault((agent.policy, agent.tokenizer, agent.max_tokens, turn.counts, alone), []).append(index)
    return [tuple(agents) for agents in calls.values()]


def _sample_agents(team, agents, weights, pending, key, temperature, top_p, **how) -> list[Samples]:
    """One call for `agents`; their prompts are padded to common lengths first."""
    first = team.agents[agents[0]]
    tokenizer = first.tokenizer
    settings = sampling(temperature=temperature, top_p=top_p, eos_ids=tokenizer.eos_ids, pad_id=tokenizer.pad_id)
    length = max(pending[a].prompts.prefix.shape[1] for a in agents)
    tail = max(pending[a].prompts.tail.shape[2] for a in agents)
    widened = [_widen(pending[a].prompts, length, tail, tokenizer.pad_id) for a in agents]
    ids = [_row_ids(a, pending[a]) for a in agents]
    sets = tuple(team.agents[a].parameter_set for a in agents)
    prompts = jax.tree.map(lambda *xs: np.stack(xs), *widened)
    groups = _groups(prompts, pending[agents[0]].counts)
    shared = len(set(sets)) == 1
    chosen = (weights[sets[0]],) if shared else tuple(weights[s] for s in sets)
    out = generate(
        first.policy, chosen, prompts, key, np.stack(ids), settings, max_tokens=first.max_tokens, groups=groups, **how
    )
    return [Samples(*(field[i] for field in out)) for i in range(len(agents))]


def _groups(prompts: Prompts, counts: tuple[int, ...]) -> Groups:
    """The variants' rows and the tail slots they need; neighbours that need the same slots are one group."""
    widest = prompts.tail.shape[-1]
    groups: list[tuple[int, int]] = []
    for last, count in zip(np.cumsum(counts), counts, strict=True):
        longest = int(prompts.tail_length[..., last - count : last].max())
        slots = bucket(longest, widest)
        joined = groups.pop()[0] if groups and groups[-1][1] == slots else 0
        groups.append((joined + count, slots))
    return tuple(groups)


def _widen(prompts: Prompts, length: int, tail: int, pad_id: int) -> Prompts:
    right = length - prompts.prefix.shape[1]
    left = tail - prompts.tail.shape[2]
    return prompts._replace(
        prefix=np.pad(prompts.prefix, ((0, 0), (0, right)), constant_values=pad_id),
        tail=np.pad(prompts.tail, ((0, 0), (0, 0), (left, 0)), constant_values=pad_id),
    )


def _row_ids(agent: int, turn: Turn) -> np.ndarray:
    """[B, R, 4]: (agent, variant, prompt, sample), the path from the batch key to each row's own key."""
    batch = len(turn.prompts.prefix)
    variant = np.repeat(np.arange(len(turn.counts)), turn.counts)
    sample_index = np.concatenate([np.arange(count) for count in turn.counts])
    ids = np.zeros((batch, len(variant), 4), np.uint32)
    ids[..., 0], ids[..., 1] = agent, variant
    ids[..., 2], ids[..., 3] = np.arange(batch)[:, None], sample_index
    return ids


def _texts(agent: Agent, samples: Samples) -> list[list[str]]:
    """``[b][R]`` texts of samples ``[b, R, T]``."""
    batch, rows = samples.length.shape
    ids = [samples.tokens[b, r, : samples.length[b, r]] for b in range(batch) for r in range(rows)]
    flat = agent.tokenizer.decode_batch(ids)
    return [flat[b * rows : (b + 1) * rows] for b in range(batch)]


def outcome(topology: Topology, spoken: Rollout, correct: Sequence, answer_id: Sequence) -> Outcome:
    """Puts per-row verdicts into the team's outcome in every world. Truncated answers count as wrong.

    Args:
      topology: the team's rule.
      spoken: the rollout.
      correct: per agent ``[B, R]`` in {0, 1}, the verifier's verdict on each text.
      answer_id: per agent ``[B, R]`` int, answer classes within each prompt, -1 = none.

    Returns:
      `Outcome` with fields ``[W, B, G(, A)]`` on the host. Where a masked world has fewer samples than G, each of
      them stands for the mean of the world's samples.
    """
    worlds, agents = spoken.masks.shape
    batch, group = len(spoken.turns[0].prompts.prefix), spoken.turns[0].counts[0]
    right = np.zeros((worlds, batch, group, agents), np.float32)
    classes = np.full((worlds, batch, group, agents), -1, np.int32)
    for a, turn in enumerate(spoken.turns):
        good = np.where(turn.samples.truncated, 0.0, correct[a]).astype(np.float32)
        label = np.where(turn.samples.truncated, -1, answer_id[a])
        for w in range(worlds):
            rows = turn.rows(w)
            if rows.stop - rows.start == group:
                right[w, ..., a], classes[w, ..., a] = good[:, rows], label[:, rows]
            else:
                right[w, ..., a] = good[:, rows].mean(axis=1, keepdims=True)
    reward = np.asarray(team_reward(topology, right, classes, spoken.masks))
    return Outcome(reward, right, classes, spoken.masks)
