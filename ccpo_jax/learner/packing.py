"""Packing: ragged training sequences become a few dense rows of tokens. Host code.

The samples of a prompt share its tokens. A packed row holds groups one after another: the shared
prefix once, then a branch per sample with the sample's own part of the prompt (the messages it
quotes) and its response.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from ccpo_jax.integers import ceil_div, next_power_of_two
from ccpo_jax.rl.types import Array, HostArray
from ccpo_jax.rollout import Rollout, bucket

# A packed row has room for as many responses as if each had this fraction (one over it) of the
# longest one's length. Most batches need no more, so the number of responses per row, a compiled
# shape, rarely changes.
_LONGEST_TO_TYPICAL = 4


class TrainSequence(NamedTuple):
    """One sampled response and everything it is trained with."""

    group: int  # sequences of one group have the same prefix
    prefix: HostArray  # [L'] int32, at least one token
    tail: HostArray  # [S'] int32, the sequence's own part of the prompt, may be empty
    response: HostArray  # [T'] int32, at least one token
    advantage: float | HostArray  # or one for each token, [T'] float32
    old_logprobs: HostArray  # [T'] float32, the sampler's, nats


class PackedBatch(NamedTuple):
    """One micro-batch: M packed rows of S slots, which hold up to R responses and K response tokens
    each.

    Host arrays as `pack` makes them, device arrays inside compiled programs.
    """

    tokens: Array | HostArray  # [M, S] int32
    positions: Array | HostArray  # [M, S] int32, within the unpacked sequence
    segments: Array | HostArray  # [M, S] int32, a number per prefix and per branch; 0 = padding
    parents: Array | HostArray  # [M, S] int32, segment this one continues; of a prefix its own
    source: Array | HostArray  # [M, K] int32, slot whose hidden state predicts a response token
    target: Array | HostArray  # [M, K] int32, that token
    used: Array | HostArray  # [M] int32, how many of the K are in use
    first: Array | HostArray  # [M, R] int32, where each response begins among the K
    length: Array | HostArray  # [M, R] int32, its tokens; 0 = no response here
    advantage: Array | HostArray  # [M, R] float32, or [M, R, T]: one for each token
    old_logprobs: Array | HostArray  # [M, R, T] float32
    # [M, R, T] float32, those of the reference policy; () = there is none
    reference_logprobs: Array | HostArray | tuple[()] = ()


def gather_sequences(
    rollout: Rollout,
    advantage: HostArray | Sequence[HostArray],
    turns: Sequence[int],
    prompts: range,
) -> list[TrainSequence]:
    """The factual responses of `turns` to some of the prompts, exactly as sampled.

    Args:
      rollout: of a whole batch.
      advantage: ``[turns of the topology, B, G]`` float32. Where several samples of the team share
        a text, the text gets the advantage of the first of them. Or, for each turn, ``[B, G, T]``:
        one for each token.
      turns: indices of the turns whose responses to gather.
      prompts: indices of the prompts.
    """
    sequences = []
    # Turns that read the same, such as voters with one role, share the prefix.
    group_of: dict[tuple[int, bytes], int] = {}
    for index in turns:
        turn = rollout.turns[index]
        prefixes = np.asarray(turn.prompts.prefix)
        tails = np.asarray(turn.prompts.tail)
        tokens = np.asarray(turn.samples.tokens)
        logprobs = np.asarray(turn.samples.logprobs)

        samples = turn.samples_per_variant[0]
        team_samples_per_text = advantage[index].shape[1] // samples
        for b in prompts:
            prefix = prefixes[b, : turn.prompts.prefix_length[b]]
            group = group_of.setdefault((b, prefix.tobytes()), index * len(prefixes) + b)
            for g in range(samples):
                # Tails are padded on the left, responses on the right.
                tail_start = tails.shape[2] - turn.prompts.tail_length[b, g]
                response = slice(turn.samples.length[b, g])
                own = advantage[index][b, g * team_samples_per_text]
                sequence = TrainSequence(
                    group=group,
                    prefix=prefix,
                    tail=tails[b, g, tail_start:],
                    response=tokens[b, g, response],
                    advantage=own[response] if own.ndim else float(own),
                    old_logprobs=logprobs[b, g, response],
                )
                sequences.append(sequence)
    return sequences


def pack(
    sequences: Sequence[TrainSequence],
    *,
    row_length: int,
    rows_per_microbatch: int,
    multiple: int = 1,
    pad_id: int = 0,
) -> list[PackedBatch]:
    """Packs sequences into micro-batches.

    Args:
      sequences: in any order.
      row_length: slots of a packed row. A longer sequence lengthens all rows, to its length rounded
        up by `bucket`.
      rows_per_microbatch: packed rows of a full micro-batch, rounded up to `multiple`; rows left
        over become micro-batches of `multiple` rows.
      multiple: every micro-batch has a multiple of this many rows (the devices that share it).
      pad_id: any token.

    Returns:
      Micro-batches whose shapes differ in the number of rows only. R and T are powers of two with
      room to spare, so that steps share compiled programs; padding them costs a few bytes and no
      work in the network.
    """
    if not sequences:
        return []
    longest = max(len(s.prefix) + _branch_length(s) for s in sequences)
    if longest > row_length:
        row_length = bucket(longest, 1 << 30)
    rows = _assign_rows(sequences, row_length)
    empty_rows = -len(rows) % multiple
    rows += [[] for _ in range(empty_rows)]

    max_tokens = next_power_of_two(max(len(s.response) for s in sequences))
    usual_responses = _LONGEST_TO_TYPICAL * row_length // max_tokens
    most_responses = max(len(row) for row in rows)
    max_responses = next_power_of_two(max(most_responses, usual_responses))
    by_token = any(np.ndim(s.advantage) for s in sequences)
    filled = []
    for row in rows:
        filled.append(
            _fill_row(row, row_length, max_responses, max_tokens, pad_id, by_token=by_token)
        )

    batches = []
    start = 0
    for size in _microbatch_sizes(len(filled), rows_per_microbatch, multiple):
        batches.append(_stack(filled[start : start + size]))
        start += size
    return batches


def _stack(rows: Sequence[PackedBatch]) -> PackedBatch:
    """Rows without the axis M as one batch."""
    return jax.tree.map(lambda *values: np.stack(values), *rows)


def _branch_length(sequence: TrainSequence) -> int:
    return len(sequence.tail) + len(sequence.response)


def _assign_rows(sequences: Sequence[TrainSequence], row_length: int) -> list[list[TrainSequence]]:
    """Which sequences each packed row holds: always the longest remaining one of the current group
    that still fits.
    """
    groups: dict[int, list[TrainSequence]] = {}
    for sequence in sequences:
        groups.setdefault(sequence.group, []).append(sequence)

    rows: list[list[TrainSequence]] = [[]]
    free = row_length
    for group in groups.values():
        remaining = sorted(group, key=_branch_length, reverse=True)
        # The prefix is repeated in every packed row that the group enters.
        prefix = len(remaining[0].prefix)
        while remaining:
            fitting = (i for i, s in enumerate(remaining) if prefix + _branch_length(s) <= free)
            index = next(fitting, None)
            if index is None:
                rows.append([])
                free = row_length
                prefix = len(remaining[0].prefix)
                continue
            sequence = remaining.pop(index)
            rows[-1].append(sequence)
            free -= prefix + _branch_length(sequence)
            prefix = 0
    return rows


def _microbatch_sizes(rows: int, rows_per_microbatch: int, multiple: int) -> list[int]:
    """Rows of each micro-batch; `rows` is a multiple of `multiple`."""
    units_per_microbatch = ceil_div(rows_per_microbatch, multiple)
    full, left_over = divmod(rows // multiple, units_per_microbatch)
    return [units_per_microbatch * multiple] * full + [multiple] * left_over


def _fill_row(
    sequences: Sequence[TrainSequence],
    row_length: int,
    max_responses: int,
    max_tokens: int,
    pad_id: int,
    *,
    by_token: bool,
) -> PackedBatch:
    """One packed row, without the axis M."""
    tokens = np.full(row_length, pad_id, np.int32)
    positions = np.zeros(row_length, np.int32)
    segments = np.zeros(row_length, np.int32)
    parents = np.zeros(row_length, np.int32)
    source = np.zeros(row_length, np.int32)
    target = np.zeros(row_length, np.int32)
    first = np.zeros(max_responses, np.int32)
    length = np.zeros(max_responses, np.int32)
    advantage = np.zeros((max_responses, max_tokens) if by_token else max_responses, np.float32)
    old_logprobs = np.zeros((max_responses, max_tokens), np.float32)

    cursor = 0  # slots written
    segment = 0  # segments written
    used = 0  # response tokens written

    def write_segment(content: HostArray, position: int, parent: int | None) -> slice:
        """Writes one prefix or branch; returns its slots."""
        nonlocal cursor, segment
        segment += 1
        slots = slice(cursor, cursor + len(content))
        tokens[slots] = content
        positions[slots] = np.arange(position, position + len(content))
        segments[slots] = segment
        parents[slots] = segment if parent is None else parent
        cursor += len(content)
        return slots

    group = None
    prefix_segment = 0
    prefix_end = 0
    for r, sequence in enumerate(sequences):
        if sequence.group != group:
            group = sequence.group
            prefix_end = write_segment(sequence.prefix, 0, None).stop
            prefix_segment = segment
        branch = np.concatenate([sequence.tail, sequence.response])
        slots = write_segment(branch, len(sequence.prefix), prefix_segment)

        size = len(sequence.response)
        response = slice(used, used + size)
        # The slot before a token predicts it. Before a branch without a tail that is the end of the
        # prefix.
        before = slots.start + len(sequence.tail) - 1
        source[response] = np.arange(before, before + size)
        if not len(sequence.tail):
            source[used] = prefix_end - 1
        target[response] = sequence.response
        first[r] = used
        length[r] = size
        if by_token:
            advantage[r, :size] = sequence.advantage
        else:
            advantage[r] = sequence.advantage
        old_logprobs[r, :size] = sequence.old_logprobs
        used += size

    return PackedBatch(
        tokens=tokens,
        positions=positions,
        segments=segments,
        parents=parents,
        source=source,
        target=target,
        used=np.array(used, np.int32),
        first=first,
        length=length,
        advantage=advantage,
        old_logprobs=old_logprobs,
    )
