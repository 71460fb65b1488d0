"""Collects rollouts: a team answers a batch of problems, in the factual world and in worlds that
mask agents.

Turns are sampled in stages; a stage holds every turn whose messages exist. Turns of a stage that
share a network are one call of the sampler, see `calls`. What no mask touches is decoded once for
all worlds; what a mask changes is decoded again, as further rows of the same call behind the same
prefix.
Voting decodes nothing extra.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import jax
import numpy as np

from ccpo_jax.conversation import Conversation
from ccpo_jax.errors import InputError
from ccpo_jax.reasoning import Reply
from ccpo_jax.rl.topology import agent_masks, is_chain, variants
from ccpo_jax.rl.types import HostArray, Samples
from ccpo_jax.rollout import prompts as segments
from ccpo_jax.rollout.calls import Call, Request, plan_calls, sample_call
from ccpo_jax.rollout.padding import bucket, pad_left, pad_right
from ccpo_jax.rollout.records import Agent, ProblemText, Rollout, Team, Turn
from ccpo_jax.rollout.thoughts import decode_replies, encode_replies
from ccpo_jax.sampler import Prompts, SamplingParams
from ccpo_jax.stop_strings import text_before_stop

# Room for a verdict of one word in any tokenizer.
_VERDICT_TOKENS = 8

# [B][R] messages that each row reads, as token ids in reading order; None = the sender is masked.
_Messages = list[list[list[Sequence[int] | None]]]


def rollout(
    team: Team,
    weights: Sequence[Any],
    problems: Sequence[ProblemText],
    key: jax.Array,
    *,
    group_size: int,
    sampling: SamplingParams = SamplingParams(),
    ablated: Sequence[int | Sequence[int]] = (),
    masked_samples: int | None = None,
    answers_per_text: int = 1,
    on_prompt_done: Callable[[dict[int, tuple[str, ...]]], None] | None = None,
) -> Rollout:
    """Lets the team answer every problem `group_size` times, in every world.

    Args:
      team: who answers.
      weights: P decode weights, from ``policy.publish``.
      problems: B problem texts, each with the turns before it where it has any; in place of a
        text, one per agent where agents read different things.
      key: typed PRNG key of this batch. Row (turn, variant, prompt, sample) derives its own key, so
        its tokens do not depend on which other samples or devices take part.
      group_size: G, samples per prompt in the factual world.
      sampling: temperature, top-p, top-k and min-p; all other fields change how the work is done
        and not one token.
      ablated: the agents that each further world masks, see `agent_masks`; () decodes the factual
        world alone.
      masked_samples: samples per prompt of what a mask changes; None = G.
      answers_per_text: K, factual responses to each text of the turn before: turn t of a chain has
        G * K^t samples. More than 1 needs a chain.
      on_prompt_done: called with prompt numbers and all their texts, those of turn 0 first, as soon
        as the last response of a prompt has ended, while others still decode; each prompt is in one
        call.

    Returns:
      `Rollout` on the host.

    Raises:
      InputError: if `answers_per_text` does not fit the topology, or a prompt is longer than
      ``team.prompt_length``.
    """
    if answers_per_text > 1 and not is_chain(team.topology):
        raise InputError(
            "answers_per_text",
            f"{answers_per_text} answers to every text need a chain, received the topology "
            f"{team.topology.name!r}; use 1",
        )
    masks = agent_masks(team.topology.num_agents, ablated)
    # Per turn, the replies to the prompts that have finished.
    replies: list[dict[int, list[Reply]]] = [{} for _ in team.agents]

    def receive(call: Call, finished: Sequence[int], samples: Sequence[Samples]) -> None:
        for request, of_request in zip(call.requests, samples, strict=True):
            of_turn = _decode_replies(request.agent, of_request)
            replies[request.number].update(zip(finished, of_turn, strict=True))
        if on_prompt_done is None:
            return
        complete = {}
        for b in finished:
            if all(b in of_turn for of_turn in replies):
                written = chain.from_iterable(of_turn[b] for of_turn in replies)
                complete[b] = tuple(reply.answer for reply in written)
        if complete:
            on_prompt_done(complete)

    turns: dict[int, Turn] = {}
    for numbers in team.stages:
        stage = _Stage(
            team=team,
            problems=problems,
            masks=masks,
            turns=turns,
            factual_samples=group_size * answers_per_text ** min(numbers),
            masked_samples=group_size if masked_samples is None else masked_samples,
        )
        requests = [_turn_request(stage, number) for number in numbers]
        for call in plan_calls(requests, sampling.max_concurrent):
            roles = dict.fromkeys(team.topology.roles[r.number] for r in call.requests)
            results = sample_call(
                call,
                weights,
                key,
                sampling,
                what=", ".join(roles),
                on_prompts_done=functools.partial(receive, call),
            )
            for request, samples in zip(call.requests, results, strict=True):
                of_turn = replies[request.number]
                turns[request.number] = request.to_turn(
                    samples, [of_turn[b] for b in range(len(problems))]
                )
    return Rollout(tuple(turns[number] for number in range(len(turns))), masks)


def rate(
    team: Team,
    weights: Sequence[Any],
    problems: Sequence[ProblemText],
    rollout: Rollout,
    verdicts: Sequence[Sequence[str]],
    key: jax.Array,
    *,
    sampling: SamplingParams = SamplingParams(),
) -> Rollout:
    """Lets every agent rate every factual outcome.

    A rater reads the problem, every message of its sample, and the verdict in a word.

    Args:
      team: with raters.
      weights, problems, sampling: as in `rollout`.
      rollout: what is rated.
      verdicts: ``[B][G]`` the verdict on each sample.
      key: the batch's; the keys of ratings differ from those of turns.

    Returns:
      `rollout` with its `ratings`.
    """
    requests = [
        _rating_request(team, problems, rollout, verdicts, agent)
        for agent in range(len(team.raters))
    ]
    ratings: dict[int, Turn] = {}
    for call in plan_calls(requests, sampling.max_concurrent):
        results = sample_call(call, weights, key, sampling, what="ratings")
        for request, samples in zip(call.requests, results, strict=True):
            replies = _decode_replies(request.agent, samples)
            ratings[request.number] = request.to_turn(samples, replies)
    return rollout._replace(ratings=tuple(ratings[number] for number in sorted(ratings)))


def demonstrate(
    team: Team, problems: Sequence[ProblemText], texts: Mapping[int, Sequence[Sequence[str]]]
) -> dict[int, Turn]:
    """The turns that a rollout would leave in which the responses are given, and not sampled.

    A turn reads what the given texts of other turns become as responses. A turn without texts is
    masked in the prompts of the others.

    Args:
      team: who answers.
      problems: as in `rollout`.
      texts: turn -> ``[B][G]`` texts. Those of one number belong together: sample g of a turn reads
        text g of the others.

    Returns:
      Turn -> `Turn`, of the turns with texts. A response is the text as inert tokens, but for
      markers of thoughts, and an end token, or the text up to its first stop string; of one that is
      too long the first ``max_tokens``, without an end token.

    Raises:
      InputError: a prompt is longer than ``team.prompt_length``.
    """
    turns: dict[int, Turn] = {}
    for number in sorted(texts):
        agent = team.agents[number]
        group = len(texts[number][0])
        masks = np.ones((1, team.topology.num_agents), bool)
        stage = _Stage(team, problems, masks, turns, group, group)
        partners = stage.partners(number)
        rows = [
            [(partner, sample) if partner in turns else None for partner in partners]
            for sample in range(group)
        ]
        prompts = _build_prompts(
            agent,
            number,
            _view(problems, team.topology.speakers[number]),
            _messages(stage, number, rows),
            longest_messages=[team.agents[partner].max_tokens for partner in partners],
            prompt_length=team.prompt_length,
        )
        samples = _as_responses(agent, texts[number])
        request = Request(number, agent, prompts, (0,), (group,))
        turns[number] = request.to_turn(samples, _decode_replies(agent, samples))
    return turns


def demonstrated_ids(agent: Agent, texts: Sequence[str]) -> list[list[int]]:
    """What `demonstrate` makes of texts before it cuts them to ``max_tokens``."""
    tokenizer = agent.tokenizer
    # Where the prompt opens a thought, the response begins inside it.
    opened = segments.opened_thought(agent.template, tokenizer)
    ended = [_until_stop(_behind_opening(text, opened), agent.stop) for text in texts]
    responses = encode_replies(tokenizer, [text for text, _ in ended])
    for ids, (_, is_stopped) in zip(responses, ended, strict=True):
        if not is_stopped:
            ids.append(_end_id(tokenizer))
    return responses


def _as_responses(agent: Agent, texts: Sequence[Sequence[str]]) -> Samples:
    """``[B][G]`` texts as responses; nobody sampled them, so their log-probabilities are 0."""
    responses = demonstrated_ids(agent, list(chain.from_iterable(texts)))
    cut = [ids[: agent.max_tokens] for ids in responses]
    tokens, length = pad_right(cut, max(map(len, cut)), agent.tokenizer.pad_id)
    truncated = np.array([len(ids) > agent.max_tokens for ids in responses])
    shape = (len(texts), len(texts[0]))
    return Samples(
        tokens=tokens.reshape(*shape, -1),
        logprobs=np.zeros((*shape, tokens.shape[1]), np.float32),
        length=length.reshape(shape),
        truncated=truncated.reshape(shape),
    )


def _behind_opening(text: str, opened: str) -> str:
    """A demonstration behind the marker that ends its prompt; "" = none ends it. The text may have
    other blanks around the marker, or leave it out.
    """
    marker = opened.rstrip()
    written = text.lstrip()
    if not marker or not written.startswith(marker):
        return text
    return written.removeprefix(marker).removeprefix(opened.removeprefix(marker))


def _until_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """``(a text up to the stop string that would have ended it, whether there is one)``."""
    before = text_before_stop(text, stop)
    rest = text[len(before) :]
    return before + next((end for end in stop if rest.startswith(end)), ""), bool(rest)


@functools.lru_cache(maxsize=64)
def _end_id(tokenizer: segments.TextCodec) -> int:
    """The token that ends a response: what the chat template writes there, else the first that
    sampling stops at.
    """
    # A tokenizer of the user's need not know its template.
    end_of_turn = getattr(tokenizer, "end_of_turn_id", lambda: None)()
    return end_of_turn if end_of_turn in tokenizer.eos_ids else tokenizer.eos_ids[0]


class _Stage(NamedTuple):
    """What the turns of a stage have in common."""

    team: Team
    problems: Sequence[ProblemText]
    masks: HostArray  # shape=[W, A], dtype=bool
    turns: Mapping[int, Turn]  # of earlier stages
    factual_samples: int  # per prompt
    masked_samples: int  # per prompt and variant that a mask changes

    def partners(self, number: int) -> tuple[int, ...]:
        """The turns that turn `number` quotes."""
        reads = self.team.topology.reads[number]
        return tuple(reads) if self.team.agents[number].reads_messages else ()


def _turn_request(stage: _Stage, number: int) -> Request:
    """One turn of a stage, with its prompts for all variants."""
    team, topology = stage.team, stage.team.topology
    agent = team.agents[number]
    worlds, variant_of_world = variants(topology, number, stage.masks)
    masked = (stage.masked_samples,) * (len(worlds) - 1)
    samples_per_variant = (stage.factual_samples, *masked)
    rows = []
    for world, count in zip(worlds, samples_per_variant, strict=True):
        rows += [_sources(stage, number, world, sample, count) for sample in range(count)]

    prompts = _build_prompts(
        agent,
        number,
        _view(stage.problems, topology.speakers[number]),
        _messages(stage, number, rows),
        longest_messages=[team.agents[partner].max_tokens for partner in stage.partners(number)],
        prompt_length=team.prompt_length,
    )
    return Request(number, agent, prompts, variant_of_world, samples_per_variant)


def _sources(
    stage: _Stage, number: int, world: int, sample: int, num_samples: int
) -> list[tuple[int, int] | None]:
    """The (turn, row) that a sample of turn `number` reads, in reading order; None where the sender
    is masked."""
    topology = stage.team.topology
    sources: list[tuple[int, int] | None] = []
    for partner in stage.partners(number):
        if stage.masks[world, topology.speakers[partner]]:
            row = stage.turns[partner].row_of_sample(world, sample, num_samples)
            sources.append((partner, row))
        else:
            sources.append(None)
    return sources


def _messages(
    stage: _Stage, number: int, rows: Sequence[Sequence[tuple[int, int] | None]]
) -> _Messages:
    """What the rows of a turn read, from the `_sources` of each."""
    agents = stage.team.agents
    quotes = {
        partner: _quote(agents[number], stage.turns[partner].texts, agents[partner].max_tokens)
        for partner in stage.partners(number)
        if partner in stage.turns
    }
    messages: _Messages = []
    for b in range(len(stage.problems)):
        of_prompt = []
        for sources in rows:
            of_prompt.append(
                [None if source is None else quotes[source[0]][b][source[1]] for source in sources]
            )
        messages.append(of_prompt)
    return messages


def _rating_request(
    team: Team,
    problems: Sequence[ProblemText],
    rollout: Rollout,
    verdicts: Sequence[Sequence[str]],
    agent: int,
) -> Request:
    """The ratings of one agent: each reads all factual messages of its sample, then the verdict."""
    rater = team.raters[agent]
    group = len(verdicts[0])
    quotes = []
    for turn, author in zip(rollout.turns, team.agents, strict=True):
        quotes.append(_quote(rater, turn.texts, author.max_tokens))
    verdict_quotes = _quote(rater, verdicts, _VERDICT_TOKENS)
    rows = [
        [turn.row_of_sample(0, sample, group) for turn in rollout.turns] for sample in range(group)
    ]

    messages: _Messages = []
    for b in range(len(problems)):
        of_prompt = []
        for sample in range(group):
            read = [quoted[b][row] for quoted, row in zip(quotes, rows[sample], strict=True)]
            of_prompt.append([*read, verdict_quotes[b][sample]])
        messages.append(of_prompt)

    number = len(team.agents) + agent
    prompts = _build_prompts(
        rater,
        number,
        _view(problems, agent),
        messages,
        longest_messages=[*(author.max_tokens for author in team.agents), _VERDICT_TOKENS],
        prompt_length=team.prompt_length,
    )
    return Request(number, rater, prompts, (0,) * len(rollout.masks), (group,))


def _view(problems: Sequence[ProblemText], agent: int) -> list[str | Conversation]:
    """The problems as one agent reads them."""
    views = []
    for problem in problems:
        shared = isinstance(problem, str | Conversation)
        views.append(problem if shared else problem[agent])
    return views


def _quote(reader: Agent, texts: Sequence[Sequence[str]], max_tokens: int) -> list[list[list[int]]]:
    """``[B][R]`` texts as tokens of the reader's tokenizer."""
    flat = segments.quote(reader.tokenizer, list(chain.from_iterable(texts)), max_tokens)
    width = len(texts[0])
    return [flat[b * width : (b + 1) * width] for b in range(len(texts))]


def _build_prompts(
    agent: Agent,
    number: int,
    problems: Sequence[str | Conversation],
    messages: _Messages,
    *,
    longest_messages: Sequence[int],
    prompt_length: int,
) -> Prompts:
    """The prompts of turn `number`; message i has at most ``longest_messages[i]`` tokens."""
    pad_id = agent.tokenizer.pad_id
    head = segments.prefix if agent.reads_messages else segments.whole
    prefixes = [head(agent.template, agent.tokenizer, problem) for problem in problems]
    needed = max(len(ids) for ids in prefixes)
    if needed > prompt_length:
        raise InputError(
            "prompt_length",
            f"a prompt of turn {number} takes {needed} tokens, the limit is {prompt_length}; "
            f"type --config.prompt_length={needed}",
        )
    prefix, prefix_length = pad_right(prefixes, bucket(needed, prompt_length), pad_id)

    shape = (len(problems), len(messages[0]))
    if not agent.reads_messages:
        empty = np.zeros((*shape, 0), np.int32)
        return Prompts(prefix, prefix_length, empty, np.zeros(shape, np.int32))

    tails = [segments.tail(agent.template, row) for row in chain.from_iterable(messages)]
    longest_tail = segments.tail(agent.template, [[pad_id] * count for count in longest_messages])
    slots = bucket(max(len(ids) for ids in tails), len(longest_tail))
    tail, tail_length = pad_left(tails, slots, pad_id)
    return Prompts(prefix, prefix_length, tail.reshape(*shape, slots), tail_length.reshape(shape))


def _decode_replies(agent: Agent, samples: Samples) -> list[list[Reply]]:
    """``[b][R]`` replies of samples ``[b, R, T]``, up to the stop string that ended them, thoughts
    apart from answers."""
    batch, rows, max_tokens = samples.tokens.shape
    tokens = np.asarray(samples.tokens).reshape(-1, max_tokens)
    lengths = np.asarray(samples.length).reshape(-1)
    ids = [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]
    flat = decode_replies(agent.template, agent.tokenizer, ids, stops=agent.stop)
    return [flat[b * rows : (b + 1) * rows] for b in range(batch)]
