"""Rollouts: a team answers a batch of problems, in the factual world and in the worlds that mask an agent.

Turns are spoken in stages: every turn that reads what has been said already. A stage is one call of the sampler. What
no mask touches is decoded once for all worlds; what a mask changes is decoded again as further rows of the same call,
behind the same question cache. Voting decodes nothing extra.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from ccpo_jax.errors import InputError
from ccpo_jax.integers import ceil_div
from ccpo_jax.rl.topology import Topology, agent_masks, is_chain, team_reward, variants
from ccpo_jax.rl.types import Outcome, Policy, Samples
from ccpo_jax.rollout import prompts as text
from ccpo_jax.sampler import SamplingParams
from ccpo_jax.sampler.decode_loop import Prompts, TailGroups
from ccpo_jax.sampler.generate import ResponseFormat, generate

_VERDICT_TOKENS = 8  # room for one word in any tokenizer


@dataclasses.dataclass(frozen=True)
class Agent:
    """What an agent needs to read and to speak in one of its turns. Static."""

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
    agents: tuple[Agent, ...]  # who speaks in each turn: an agent that speaks twice is there twice
    prompt_length: int  # L, most tokens a problem's prompt may take before any message
    raters: tuple[Agent, ...] = ()  # what each agent needs to rate an outcome; () = nobody rates

    @property
    def stages(self) -> tuple[tuple[int, ...], ...]:
        """Turns grouped by when they can be spoken."""
        depth: dict[int, int] = {}
        for turn, partners in enumerate(self.topology.reads):
            depth[turn] = 1 + max((depth[p] for p in partners), default=-1)
        return tuple(tuple(t for t in depth if depth[t] == d) for d in sorted(set(depth.values())))


class Turn(NamedTuple):
    """What was said in one turn to a batch. Host arrays; row r of a prompt is (variant, sample), variant 0 first."""

    prompts: Prompts
    samples: Samples
    texts: list[list[str]]  # [B][R]
    variant: tuple[int, ...]  # [W] which variant each world reads
    counts: tuple[int, ...]  # samples of each variant; they add up to R

    def rows(self, world: int) -> slice:
        """The rows that belong to `world`."""
        first = sum(self.counts[: self.variant[world]])
        return slice(first, first + self.counts[self.variant[world]])

    def row(self, world: int, sample, count: int):
        """The row that goes with `sample`, one of the `count` that `world` has of something else.

        Where there are K times as many of the other, K in a row share one of these; else they are paired by number.
        """
        rows = self.rows(world)
        mine = rows.stop - rows.start
        return rows.start + (sample // (count // mine) if count % mine == 0 else sample % mine)


class Rollout(NamedTuple):
    """One batch of team rollouts over all worlds."""

    turns: tuple[Turn, ...]  # as in the topology
    masks: np.ndarray  # [W, A] bool
    ratings: tuple[
        Turn, ...
    ] = ()  # [A] what each agent said about the outcome; () = nobody was asked

    def first(self, count: int) -> "Rollout":
        """The first `count` prompts of the batch alone."""

        def cut(turn: Turn) -> Turn:
            prompts, samples = (
                type(part)(*(x[:count] for x in part)) for part in (turn.prompts, turn.samples)
            )
            return turn._replace(prompts=prompts, samples=samples, texts=turn.texts[:count])

        return Rollout(tuple(map(cut, self.turns)), self.masks, tuple(map(cut, self.ratings)))

    def samples(self, topology: Topology, world: int) -> int:
        """Samples of the whole team in `world`: those of what its mask lets it say anew, else as in the factual one."""
        finals = [self.turns[turn] for turn in topology.final_turns]
        again = [turn.counts[turn.variant[world]] for turn in finals if turn.variant[world]]
        return again[0] if again else max(turn.counts[0] for turn in self.turns)

    @property
    def decoded_tokens(self) -> int:
        """Tokens decoded for this batch, end tokens included."""
        return int(sum(turn.samples.length.sum() for turn in self.turns + self.ratings))


def bucket(length: int, limit: int) -> int:
    """`length` rounded up to two significant bits (at most a third of padding, few shapes), never above `limit`.

    Example:
      >>> [bucket(n, 100) for n in (0, 3, 5, 9, 50, 97)]
      [0, 3, 6, 12, 64, 100]
    """
    if length <= 2:
        return min(length, limit)
    unit = 1 << (length.bit_length() - 2)
    return min(ceil_div(length, unit) * unit, limit)


def rollout(
    team: Team,
    weights: Sequence,
    problems: Sequence[str | Sequence[str]],
    key: jax.Array,
    *,
    group_size: int,
    sampling: SamplingParams = SamplingParams(),
    ablated: Sequence[int | Sequence[int]] = (),
    masked_samples: int | None = None,
    answers_per_text: int = 1,
    on_prompt_done: Callable[[dict[int, tuple[str, ...]]], None] | None = None,
) -> Rollout:
    """Lets the team answer every problem `group_size` times, in the factual world and with each of `ablated` masked.

    Args:
      team: who speaks.
      weights: P decode weights, from ``policy.publish``.
      problems: B problem texts; in place of a text, one per agent where they read different things.
      key: typed PRNG key of this batch. Row (turn, variant, prompt, sample) derives its own key, so its tokens do not
        depend on which other samples or devices take part.
      group_size: G, samples per prompt in the factual world.
      sampling: temperature, top-p, and how the work is cut and placed, which changes no token.
      ablated: what each further world masks, see `agent_masks`; () decodes the factual world alone.
      masked_samples: samples per prompt of what a mask changes; None = G.
      answers_per_text: K, texts in the factual world that answer each text of the turn before: turn t of a chain has G * K^t.
        More than 1 needs a chain.
      on_prompt_done: called with all texts of a prompt, those of turn 0 first, as soon as its last response has ended, while
        others still decode; each prompt is in one call.

    Returns:
      `Rollout` on the host.
    """
    if answers_per_text > 1 and not is_chain(team.topology):
        raise InputError(
            "answers_per_text",
            f"{answers_per_text} answers to every text need a chain, received the topology "
            f"{team.topology.name!r}; use 1",
        )
    masks = agent_masks(team.topology.num_agents, ablated)
    turns: dict[int, Turn] = {}
    texts: list[list] = [[None] * len(problems) for _ in team.agents]

    def listen(call: Sequence[int], prompts: Sequence[int], spoken: Samples) -> None:
        for i, turn in enumerate(call):
            said = _texts(team.agents[turn], Samples(*(field[i] for field in spoken)))
            for b, rows in zip(prompts, said, strict=True):
                texts[turn][b] = rows
        if on_prompt_done is not None and all(
            said[b] is not None for said in texts for b in prompts
        ):
            on_prompt_done({b: tuple(text for said in texts for text in said[b]) for b in prompts})

    masked_size = group_size if masked_samples is None else masked_samples
    for stage in team.stages:
        size = group_size * answers_per_text ** min(stage)
        pending = {t: _compose(team, t, masks, problems, turns, size, masked_size) for t in stage}
        for call in _calls(team.agents, pending):
            samples = _sample_turns(
                team.agents,
                call,
                weights,
                pending,
                key,
                sampling,
                on_prompts_done=functools.partial(listen, call),
            )
            for turn, spoken in zip(call, samples, strict=True):
                turns[turn] = pending[turn]._replace(samples=spoken, texts=texts[turn])
    return Rollout(tuple(turns[t] for t in range(len(turns))), masks)


def rate(
    team: Team,
    weights: Sequence,
    problems: Sequence[str | Sequence[str]],
    spoken: Rollout,
    verdicts: Sequence[Sequence[str]],
    key: jax.Array,
    *,
    sampling: SamplingParams = SamplingParams(),
) -> Rollout:
    """Asks every agent about every factual outcome, once it is known.

    A rater reads the problem, everything that was said in its sample, and the verdict in a word.

    Args:
      team: who spoke and rates.
      weights: as in `rollout`, likewise all further arguments.
      problems: B problem texts; in place of a text, one per agent where they read different things.
      spoken: what was said.
      verdicts: ``[B][G]`` the verdict on each sample.
      key: the batch's; raters' keys differ from speakers'.

    Returns:
      `spoken` with its `ratings`.
    """
    count, first = len(verdicts[0]), len(team.agents)
    agents, pending = team.agents + team.raters, {}
    longest = [*(agent.max_tokens for agent in team.agents), _VERDICT_TOKENS]
    for index, rater in enumerate(team.raters, first):
        quoted = [
            _quote(rater, t.texts, a.max_tokens)
            for t, a in zip(spoken.turns, team.agents, strict=True)
        ]
        words = _quote(rater, verdicts, _VERDICT_TOKENS)
        places = [[turn.row(0, g, count) for turn in spoken.turns] for g in range(count)]
        messages = [
            [
                [*(said[b][row] for said, row in zip(quoted, places[g], strict=True)), words[b][g]]
                for g in range(count)
            ]
            for b in range(len(problems))
        ]
        seen = _seen(problems, index - first)
        prompts = _prompts(rater, index, seen, messages, longest, team.prompt_length)
        pending[index] = Turn(prompts, None, [], variant=(0,) * len(spoken.masks), counts=(count,))
    for call in _calls(agents, pending):
        samples = _sample_turns(agents, call, weights, pending, key, sampling)
        for index, said in zip(call, samples, strict=True):
            pending[index] = pending[index]._replace(
                samples=said, texts=_texts(agents[index], said)
            )
    return spoken._replace(ratings=tuple(pending[index] for index in sorted(pending)))


def _compose(team, index, masks, problems, turns, samples: int, masked_samples: int) -> Turn:
    """Prompts of one turn for all rows; samples and texts still empty."""
    agent, topology = team.agents[index], team.topology
    worlds, variant = variants(topology, index, masks)
    counts = (samples,) + (masked_samples,) * (len(worlds) - 1)
    quoted = _quotes(team, index, turns) if agent.has_tail else {}
    rows = [
        (world, g, count) for world, count in zip(worlds, counts, strict=True) for g in range(count)
    ]
    messages = [
        [_heard(topology, quoted, turns, masks, *row, b) for row in rows]
        for b in range(len(problems))
    ]
    longest = [team.agents[partner].max_tokens for partner in topology.reads[index]]
    seen = _seen(problems, topology.speakers[index])
    prompts = _prompts(agent, index, seen, messages, longest, team.prompt_length)
    return Turn(prompts, samples=None, texts=[], variant=variant, counts=counts)


def _seen(problems: Sequence[str | Sequence[str]], agent: int) -> list[str]:
    """The problems as one agent reads them."""
    return [problem if isinstance(problem, str) else problem[agent] for problem in problems]


def _prompts(
    agent: Agent, index: int, problems, messages, longest: Sequence[int], prompt_length: int
) -> Prompts:
    """Prompts of an agent that reads ``messages [B][R]``, lists of token lists of at most `longest` tokens each."""
    head = text.prefix if agent.has_tail else text.whole
    prefixes = [head(agent.template, agent.tokenizer, problem) for problem in problems]
    needed = max(len(row) for row in prefixes)
    if needed > prompt_length:
        raise InputError(
            "prompt_length",
            f"a prompt of turn {index} takes {needed} tokens, the limit is {prompt_length}; "
            f"type --config.prompt_length={needed}",
        )
    prefix, prefix_length = text.pad_right(
        prefixes, bucket(needed, prompt_length), agent.tokenizer.pad_id
    )
    tails = [
        text.tail(agent.template, heard) if agent.has_tail else []
        for rows in messages
        for heard in rows
    ]
    loudest = [[agent.tokenizer.pad_id] * count for count in longest]
    limit = len(text.tail(agent.template, loudest)) if agent.has_tail else 0
    tail, tail_length = text.pad_left(
        tails, bucket(max(map(len, tails)), limit), agent.tokenizer.pad_id
    )
    shape = (len(problems), len(messages[0]))
    return Prompts(
        prefix, prefix_length, tail.reshape(shape + tail.shape[1:]), tail_length.reshape(shape)
    )


def _quotes(team: Team, reader: int, turns: dict[int, Turn]) -> dict[int, list[list[list[int]]]]:
    """Messages of every turn that is read, as the reader's own inert tokens: turn -> [B][R] token lists."""
    quotes = {}
    for partner in team.topology.reads[reader]:
        quotes[partner] = _quote(
            team.agents[reader], turns[partner].texts, team.agents[partner].max_tokens
        )
    return quotes


def _quote(reader: Agent, texts: list[list[str]], max_tokens: int) -> list[list[list[int]]]:
    flat = text.quote(reader.tokenizer, [t for rows in texts for t in rows], max_tokens)
    rows = len(texts[0])
    return [flat[b * rows : (b + 1) * rows] for b in range(len(texts))]


def _heard(
    topology: Topology, quotes, turns, masks, world: int, g: int, count: int, b: int
) -> list[list[int] | None]:
    """Messages that sample g, one of `count`, of prompt b reads in `world`; None where the speaker is masked."""
    messages: list[list[int] | None] = []
    for partner, rows in quotes.items():
        row = turns[partner].row(world, g, count)
        messages.append(rows[b][row] if masks[world, topology.speakers[partner]] else None)
    return messages


def _calls(agents: Sequence[Agent], pending: dict[int, Turn]) -> list[tuple[int, ...]]:
    """Turns of a stage that are sampled in one call: same network, tokenizer and response limit, and same rows."""
    calls: dict[tuple, list[int]] = {}
    for index, turn in pending.items():
        agent = agents[index]
        kind = (agent.policy, agent.tokenizer, agent.max_tokens, turn.counts)
        calls.setdefault(kind, []).append(index)
    return [tuple(call) for call in calls.values()]


def _sample_turns(
    agents,
    call,
    weights,
    pending,
    key,
    sampling: SamplingParams,
    on_prompts_done: Callable[[Sequence[int], Samples], None] | None = None,
) -> list[Samples]:
    """One call for the turns `call`; their prompts are padded to common lengths first."""
    first = agents[call[0]]
    tokenizer = first.tokenizer
    length = max(pending[t].prompts.prefix.shape[1] for t in call)
    tail = max(pending[t].prompts.tail.shape[2] for t in call)
    widened = [_widen(pending[t].prompts, length, tail, tokenizer.pad_id) for t in call]
    ids = [_row_ids(t, pending[t]) for t in call]
    sets = tuple(agents[t].parameter_set for t in call)
    prompts = jax.tree.map(lambda *xs: np.stack(xs), *widened)
    groups = tail_groups(prompts, pending[call[0]].counts)
    shared = len(set(sets)) == 1
    chosen = (weights[sets[0]],) if shared else tuple(weights[s] for s in sets)
    out = generate(
        first.policy,
        chosen,
        prompts,
        key,
        np.stack(ids),
        ResponseFormat(tokenizer.eos_ids, tokenizer.pad_id, first.max_tokens),
        sampling=sampling,
        tail_groups=groups,
        on_prompts_done=on_prompts_done,
    )
    return [Samples(*(field[i] for field in out)) for i in range(len(call))]


def tail_groups(prompts: Prompts, counts: tuple[int, ...]) -> TailGroups:
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


def _row_ids(index: int, turn: Turn) -> np.ndarray:
    """[B, R, 4]: (turn, variant, prompt, sample), the path from the batch key to each row's own key."""
    batch = len(turn.prompts.prefix)
    variant = np.repeat(np.arange(len(turn.counts)), turn.counts)
    sample_index = np.concatenate([np.arange(count) for count in turn.counts])
    ids = np.zeros((batch, len(variant), 4), np.uint32)
    ids[..., 0], ids[..., 1] = index, variant
    ids[..., 2], ids[..., 3] = np.arange(batch)[:, None], sample_index
    return ids


def _texts(agent: Agent, samples: Samples) -> list[list[str]]:
    """``[b][R]`` texts of samples ``[b, R, T]``."""
    batch, rows = samples.length.shape
    ids = [samples.tokens[b, r, : samples.length[b, r]] for b in range(batch) for r in range(rows)]
    flat = agent.tokenizer.decode_batch(ids)
    return [flat[b * rows : (b + 1) * rows] for b in range(batch)]


_team_reward = jax.jit(team_reward, static_argnums=0)


def outcome(topology: Topology, spoken: Rollout, correct: Sequence, answer_id: Sequence) -> Outcome:
    """Puts per-row verdicts into the team's outcome in every world. Truncated answers count as wrong.

    Args:
      topology: the team's rule.
      spoken: the rollout.
      correct: per turn ``[B, R]`` in {0, 1}, the verifier's verdict on each text.
      answer_id: per turn ``[B, R]`` int, answer classes within each prompt, -1 = none.

    Returns:
      `Outcome` with fields ``[W, B, G(, A)]`` on the host; an agent's answer is its last turn. With K answers to every
      text, G counts the samples of the last turn. Where a masked world has another number of samples, each of the G
      stands for the mean of the world's samples, which has no class. Surprisal is of what each agent was sampled from.
    """
    finals = [spoken.turns[turn] for turn in topology.final_turns]
    good = [
        np.where(t.samples.truncated, 0.0, correct[i])
        for i, t in zip(topology.final_turns, finals, strict=True)
    ]
    label = [
        np.where(t.samples.truncated, -1, answer_id[i])
        for i, t in zip(topology.final_turns, finals, strict=True)
    ]
    batch, group = len(finals[0].prompts.prefix), spoken.samples(topology, 0)
    worlds = []
    for world, mask in enumerate(spoken.masks):
        samples = np.arange(spoken.samples(topology, world))
        places = [turn.row(world, samples, len(samples)) for turn in finals]
        right, classes = (
            np.stack([x[:, place] for x, place in zip(verdicts, places, strict=True)], axis=-1)
            for verdicts in (good, label)
        )
        reward = np.asarray(_team_reward(topology, right[None], classes[None], mask[None]))[0]
        if len(samples) != group:
            right, reward = (
                np.broadcast_to(x.mean(axis=1, keepdims=True), (batch, group, *x.shape[2:]))
                for x in (right, reward)
            )
            classes = np.full(right.shape, -1)
        worlds.append(
            (reward.astype(np.float32), right.astype(np.float32), classes.astype(np.int32))
        )
    found = Outcome(*(np.stack(field) for field in zip(*worlds, strict=True)), spoken.masks)
    return found._replace(surprisal=_surprisal(topology, spoken, group))


def _surprisal(topology: Topology, spoken: Rollout, count: int) -> np.ndarray:
    """``[A, B, G]`` float32, nats: minus the log-likelihood of all that each agent said in each of `count` samples."""
    found = np.zeros((topology.num_agents, len(spoken.turns[0].prompts.prefix), count), np.float32)
    for agent, turn in zip(topology.speakers, spoken.turns, strict=True):
        said = turn.samples
        kept = np.arange(said.logprobs.shape[-1]) < said.length[..., None]
        likelihood = np.where(kept, said.logprobs, 0.0).sum(axis=-1)
        found[agent] -= likelihood[:, turn.row(0, np.arange(count), count)]
    return found
