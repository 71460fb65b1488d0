"""Packing: ragged training sequences become a few dense rows of tokens with little padding. Host code, numpy alone.

The samples of a prompt share its tokens. A packed row holds groups one after another: the prompt once, then each
sample's own tokens (what it quotes, and its response) as branches of it.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ccpo_jax.integers import ceil_div, next_power_of_two
from ccpo_jax.rl.types import Array
from ccpo_jax.rollout import Rollout, bucket

_RAGGED = 4  # there is room for responses of this part of the longest one's length: most batches need no more


class TrainSequence(NamedTuple):
    """One sampled response and everything it is trained with. Host arrays."""

    group: int  # rows of one group have the same prefix
    prefix: np.ndarray  # [L'] int32, at least one token
    tail: np.ndarray  # [S'] int32, the row's own part of the prompt, may be empty
    response: np.ndarray  # [T'] int32
    advantage: float
    old_logprobs: np.ndarray  # [T'] float32, the sampler's own


class PackedBatch(NamedTuple):
    """One micro-batch: M packed rows of S slots, which hold up to R responses and K response tokens each."""

    tokens: Array  # [M, S] int32
    positions: Array  # [M, S] int32, within the unpacked sequence
    segments: Array  # [M, S] int32, numbers prefixes and branches apart; 0 = padding
    parents: Array  # [M, S] int32, the segment that this one continues: a branch its prefix, a prefix itself
    source: Array  # [M, K] int32, slot whose hidden state predicts a response token
    target: Array  # [M, K] int32, that token
    used: Array  # [M] int32, how many of the K are in use
    first: Array  # [M, R] int32, where each response begins among the K
    length: Array  # [M, R] int32, its tokens; 0 = no response here
    advantage: Array  # [M, R] float32
    old_logprobs: Array  # [M, R, T] float32


def gather_sequences(
    spoken: Rollout, advantage: np.ndarray, turns: Sequence[int], prompts: range
) -> list[TrainSequence]:
    """The factual responses of `turns` to some of the prompts, exactly as sampled.

    Args:
      spoken: a rollout.
      advantage: float32, of every turn, prompt and sample of the team; a text that several samples share takes the
        first one's.
      turns: which turns' responses.
      prompts: which prompts of the batch.
    """
    rows = []
    for index in turns:
        turn = spoken.turns[index]
        p, s = turn.prompts, turn.samples
        width = p.tail.shape[2]
        shared = advantage.shape[2] // turn.counts[0]
        for b in prompts:
            prefix = p.prefix[b, : p.prefix_length[b]]
            for g in range(turn.counts[0]):
                tail = p.tail[b, g, width - p.tail_length[b, g] :]
                said = slice(s.length[b, g])
                group = index * len(p.prefix) + b
                old = s.logprobs[b, g, said]
                rows.append(
                    TrainSequence(
                        group,
                        prefix,
                        tail,
                        s.tokens[b, g, said],
                        float(advantage[index, b, g * shared]),
                        old,
                    )
                )
    return rows


def pack(
    rows: Sequence[TrainSequence], *, length: int, size: int, multiple: int = 1, pad_id: int = 0
) -> list[PackedBatch]:
    """Packs rows into micro-batches.

    Args:
      rows: rows of one group stand together.
      length: slots of a packed row; a sequence that is longer gets them all lengthened, rounded up by `bucket`.
      size: packed rows in a micro-batch; those that are left over are micro-batches of their own.
      multiple: numbers of packed rows are rounded up to a multiple of this (devices).
      pad_id: any token.

    Returns:
      Micro-batches whose axes are the same but for the number of rows. R and T are powers of two with room to spare, so
      that steps reuse few compiled shapes; their padding costs a few bytes and no work of the network.
    """
    if not rows:
        return []
    longest = max(len(r.prefix) + len(r.tail) + len(r.response) for r in rows)
    length = length if longest <= length else bucket(longest, 1 << 30)
    bins = list(_bins(rows, length))
    width = next_power_of_two(max(len(row.response) for row in rows))
    axes = (length, next_power_of_two(max(*map(len, bins), _RAGGED * length // width)), width)
    filled = iter([_fill(part, *axes, pad_id) for part in bins + [[]] * (-len(bins) % multiple)])
    full, over = divmod(ceil_div(len(bins), multiple), ceil_div(size, multiple))
    counts = [ceil_div(size, multiple) * multiple] * full + [multiple] * over
    parts = [list(itertools.islice(filled, count)) for count in counts]
    return [PackedBatch(*(np.stack(field) for field in zip(*part, strict=True))) for part in parts]


def _bins(rows: Sequence[TrainSequence], length: int) -> Iterator[list[TrainSequence]]:
    """Fills one packed row after the other: always the longest remaining row of the group at hand that still fits."""
    waiting: dict[int, list[TrainSequence]] = {}
    for row in rows:
        waiting.setdefault(row.group, []).append(row)
    chosen, room = [], length
    for group in waiting.values():
        rest = sorted(group, key=lambda r: len(r.tail) + len(r.response), reverse=True)
        prefix = len(
            rest[0].prefix
        )  # to be paid once more in every packed row that the group enters
        while rest:
            fits = next(
                (i for i, r in enumerate(rest) if prefix + len(r.tail) + len(r.response) <= room),
                None,
            )
            if fits is None:
                yield chosen
                chosen, room, prefix = [], length, len(rest[0].prefix)
                continue
            row = rest.pop(fits)
            room -= prefix + len(row.tail) + len(row.response)
            prefix = 0
            chosen.append(row)
    yield chosen


def _fill(
    rows: list[TrainSequence], length: int, responses: int, width: int, pad_id: int
) -> PackedBatch:
    """Lays out one packed row."""
    slots = PackedBatch(
        *(np.zeros(length, np.int32) for _ in range(6)),
        np.int32(0),
        np.zeros(responses, np.int32),
        np.zeros(responses, np.int32),
        np.zeros(responses, np.float32),
        np.zeros((responses, width), np.float32),
    )
    slots.tokens[:] = pad_id
    cursor, used, segment, group = 0, 0, 0, None

    def put(tokens: np.ndarray, position: int, parent: int) -> None:
        nonlocal cursor, segment
        segment += 1
        here = slice(cursor, cursor + len(tokens))
        slots.tokens[here], slots.segments[here] = tokens, segment
        slots.parents[here] = parent or segment
        slots.positions[here] = np.arange(position, position + len(tokens))
        cursor += len(tokens)

    for r, row in enumerate(rows):
        if row.group != group:
            group = row.group
            put(row.prefix, 0, 0)
            stem, last = (
                segment,
                cursor - 1,
            )  # the branches' parent, and the slot that predicts their first token
        before = cursor + len(row.tail) - 1
        put(np.concatenate([row.tail, row.response]), len(row.prefix), stem)
        here = slice(used, used + len(row.response))
        slots.source[here] = np.arange(before, before + len(row.response))
        if not len(row.tail):
            slots.source[used] = last
        slots.target[here] = row.response
        slots.first[r], slots.length[r], slots.advantage[r] = used, len(row.response), row.advantage
        slots.old_logprobs[r, : len(row.response)] = row.old_logprobs
        used += len(row.response)
    return slots._replace(used=np.int32(used))
