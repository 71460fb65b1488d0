"""Calls of the sampler: which turns are sampled together, and which of them share their prompts.

Turns of one parameter set that read the same prefix, such as voters of one policy with one role,
are further rows of the same prompts: their prefix is computed and kept once.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ccpo_jax.reasoning import Reply
from ccpo_jax.rl.types import HostArray, Samples
from ccpo_jax.rollout.padding import join_rows, stack_prompts, tail_groups
from ccpo_jax.rollout.records import Agent, Turn
from ccpo_jax.rollout.stopping import stop_table
from ccpo_jax.sampler import Prompts, SamplingParams
from ccpo_jax.sampler.generate import ResponseFormat, generate
from ccpo_jax.status import status


class Request(NamedTuple):
    """A turn to be sampled."""

    number: int  # of the turn; ratings follow the last turn. Part of every row's key
    agent: Agent
    prompts: Prompts
    variant_of_world: tuple[int, ...]
    samples_per_variant: tuple[int, ...]

    def to_turn(self, samples: Samples, replies: list[list[Reply]]) -> Turn:
        """The turn with its responses."""
        return Turn(
            self.prompts,
            samples,
            [[reply.answer for reply in of_prompt] for of_prompt in replies],
            self.variant_of_world,
            self.samples_per_variant,
            thoughts=[[reply.thought for reply in of_prompt] for of_prompt in replies],
            unfinished=[[reply.unfinished for reply in of_prompt] for of_prompt in replies],
        )


class Call(NamedTuple):
    """What one call of the sampler serves: bundles of as many requests each.

    The requests of a bundle are rows of the same prompts. All bundles have one parameter set, or
    each one of its own.
    """

    bundles: tuple[tuple[Request, ...], ...]

    @property
    def requests(self) -> list[Request]:
        """All requests."""
        return [request for bundle in self.bundles for request in bundle]


def plan_calls(requests: Sequence[Request], max_concurrent: int | None = None) -> list[Call]:
    """The fewest calls for some requests, in which no weights stand twice.

    Args:
      requests: turns whose prompts exist.
      max_concurrent: most responses that decode at once, which a prompt's rows should not exceed.
    """
    kinds: dict[tuple, list[Request]] = {}
    for request in requests:
        agent = request.agent
        ends = (agent.max_tokens, agent.stop)
        kind = (agent.policy, agent.tokenizer, *ends, request.samples_per_variant)
        kinds.setdefault(kind, []).append(request)

    calls = []
    for of_kind in kinds.values():
        bundles_of_size: dict[int, list[tuple[Request, ...]]] = {}
        for bundle in _bundles(of_kind, max_concurrent):
            bundles_of_size.setdefault(len(bundle), []).append(bundle)
        for bundles in bundles_of_size.values():
            calls += _by_parameters(bundles)
    return calls


def _bundles(requests: Sequence[Request], max_concurrent: int | None) -> list[tuple[Request, ...]]:
    """Requests that can be rows of the same prompts."""
    same_prefix: dict[tuple, list[Request]] = {}
    for request in requests:
        prefix = (request.prompts.prefix, request.prompts.prefix_length)
        content = tuple(np.asarray(x).tobytes() for x in prefix)
        same_prefix.setdefault((request.agent.parameter_set, *content), []).append(request)

    bundles = []
    for alike in same_prefix.values():
        rows = sum(alike[0].samples_per_variant)
        most = len(alike) if max_concurrent is None else max(max_concurrent // rows, 1)
        # All bundles of a prefix have the same shape, and so share a program.
        size = max(n for n in range(1, len(alike) + 1) if n <= most and len(alike) % n == 0)
        bundles += [tuple(alike[i : i + size]) for i in range(0, len(alike), size)]
    return bundles


def _by_parameters(bundles: Sequence[tuple[Request, ...]]) -> list[Call]:
    """Calls for bundles of one size: one for all sets that have a single bundle, one for each
    other set.
    """
    of_set: dict[int, list[tuple[Request, ...]]] = {}
    for bundle in bundles:
        of_set.setdefault(bundle[0].agent.parameter_set, []).append(bundle)
    alone = tuple(of_one[0] for of_one in of_set.values() if len(of_one) == 1)
    calls = [Call(alone)] if alone else []
    return calls + [Call(tuple(several)) for several in of_set.values() if len(several) > 1]


def sample_call(
    call: Call,
    weights: Sequence[Any],
    key: jax.Array,
    sampling: SamplingParams,
    *,
    what: str,
    on_prompts_done: Callable[[Sequence[int], list[Samples]], None] | None = None,
) -> list[Samples]:
    """Samples the requests of one call.

    Args:
      call: from `plan_calls`.
      weights: P decode weights.
      key: of the batch.
      sampling: how to sample.
      what: is said while it takes long.
      on_prompts_done: called with prompts that have finished, and each request's samples of them.

    Returns:
      Samples ``[B, R, T]`` of ``call.requests``.
    """
    first = call.bundles[0][0]
    agent, tokenizer = first.agent, first.agent.tokenizer
    counts = first.samples_per_variant
    own_rows = rows_of_requests(counts, len(call.bundles[0]))
    # Where the rows of the requests, one request after another, go.
    order = np.argsort(np.concatenate(own_rows))
    bundled = []
    key_paths = []
    for bundle in call.bundles:
        prompts_of_bundle = [request.prompts for request in bundle]
        bundled.append(join_rows(prompts_of_bundle, order, tokenizer.pad_id))
        paths = np.concatenate([_key_paths(request) for request in bundle], axis=1)
        key_paths.append(paths[:, order])

    prompts = stack_prompts(bundled, tokenizer.pad_id)
    sets = dict.fromkeys(bundle[0].agent.parameter_set for bundle in call.bundles)
    count = sum(paths[..., 0].size for paths in key_paths)

    def split(samples: Samples) -> list[Samples]:
        """The samples of each request, from ``[bundles, b, rows of a bundle, T]``."""
        of_requests = []
        for number in range(len(call.bundles)):
            of_bundle = jax.tree.map(lambda field, number=number: field[number], samples)
            for rows in own_rows:
                of_requests.append(jax.tree.map(lambda field, rows=rows: field[:, rows], of_bundle))
        return of_requests

    def receive(prompts_done: Sequence[int], samples: Samples) -> None:
        if on_prompts_done is not None:
            on_prompts_done(prompts_done, split(samples))

    with status(f"decoding {what}, {count} responses", unit="tokens") as phase:
        samples = generate(
            agent.policy,
            [weights[index] for index in sets],
            prompts,
            key,
            np.stack(key_paths),
            ResponseFormat(
                tokenizer.eos_ids, tokenizer.pad_id, agent.max_tokens, stop_table(agent)
            ),
            sampling=sampling,
            tail_groups=tail_groups(prompts, [len(own_rows) * samples for samples in counts]),
            on_prompts_done=receive,
            on_progress=phase.update,
        )
    return split(samples)


def rows_of_requests(samples_per_variant: Sequence[int], count: int) -> list[HostArray]:
    """The rows ``[R]`` of each of `count` requests among those of their bundle, where rows of one
    variant are neighbours.

    Example:
      >>> [rows.tolist() for rows in rows_of_requests((2, 1), 2)]
      [[0, 1, 4], [2, 3, 5]]
    """
    first = 0
    rows: list[list[int]] = [[] for _ in range(count)]
    for samples in samples_per_variant:
        for own in rows:
            own.extend(range(first, first + samples))
            first += samples
    return [np.array(own) for own in rows]


def _key_paths(request: Request) -> HostArray:
    """``[B, R, 4]``: (turn, variant, prompt, sample), folded into the batch key for each row's
    key."""
    counts = request.samples_per_variant
    batch = len(request.prompts.prefix)
    paths = np.zeros((batch, sum(counts), 4), np.uint32)
    paths[..., 0] = request.number
    paths[..., 1] = np.repeat(np.arange(len(counts)), counts)
    paths[..., 2] = np.arange(batch)[:, None]
    paths[..., 3] = np.concatenate([np.arange(count) for count in counts])
    return paths
