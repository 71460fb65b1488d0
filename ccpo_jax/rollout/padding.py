"""Padding token lists to few lengths, so that few programs compile."""

from collections.abc import Sequence

import numpy as np

from ccpo_jax.integers import ceil_div
from ccpo_jax.rl.types import HostArray
from ccpo_jax.sampler import Prompts
from ccpo_jax.sampler.decode_loop import TailGroups


def bucket(length: int, limit: int) -> int:
    """`length` rounded up to two significant bits: at most a third of padding. At most `limit`.

    Example:
      >>> [bucket(n, 100) for n in (0, 3, 5, 9, 50, 97)]
      [0, 3, 6, 12, 64, 100]
    """
    if length <= 2:
        return min(length, limit)
    unit = 1 << (length.bit_length() - 2)
    return min(ceil_div(length, unit) * unit, limit)


def pad_right(
    rows: Sequence[Sequence[int]], length: int, pad_id: int
) -> tuple[HostArray, HostArray]:
    """Rows padded on the right: ``([N, length], [N])`` int32, ids and lengths."""
    ids = np.full((len(rows), length), pad_id, np.int32)
    for target, row in zip(ids, rows, strict=True):
        target[: len(row)] = row
    return ids, np.array([len(row) for row in rows], np.int32)


def pad_left(
    rows: Sequence[Sequence[int]], length: int, pad_id: int
) -> tuple[HostArray, HostArray]:
    """Rows padded on the left: ``([N, length], [N])`` int32, ids and lengths."""
    ids = np.full((len(rows), length), pad_id, np.int32)
    for target, row in zip(ids, rows, strict=True):
        target[length - len(row) :] = row
    return ids, np.array([len(row) for row in rows], np.int32)


def stack_prompts(prompts: Sequence[Prompts], pad_id: int) -> Prompts:
    """Prompts of A' agents with a leading agent axis, padded to common lengths."""
    widened = _widen(prompts, pad_id)
    return Prompts(*(np.stack(field) for field in zip(*widened, strict=True)))


def join_prompts(prompts: Sequence[Prompts], pad_id: int) -> Prompts:
    """Prompts of several batches one after another, padded to common lengths."""
    widened = _widen(prompts, pad_id)
    return Prompts(*(np.concatenate(field) for field in zip(*widened, strict=True)))


def join_rows(prompts: Sequence[Prompts], order: HostArray, pad_id: int) -> Prompts:
    """Prompts with one prefix as rows of one batch.

    Args:
      prompts: with equal prefixes and rows of their own.
      order: of all their rows, one after another.
      pad_id: the pad token.
    """
    widened = _widen(prompts, pad_id)
    tail = np.concatenate([p.tail for p in widened], axis=1)
    tail_length = np.concatenate([p.tail_length for p in widened], axis=1)
    return widened[0]._replace(tail=tail[:, order], tail_length=tail_length[:, order])


def _widen(prompts: Sequence[Prompts], pad_id: int) -> list[Prompts]:
    """The same prompts, padded to common lengths."""
    prefix_slots = max(p.prefix.shape[1] for p in prompts)
    tail_slots = max(p.tail.shape[2] for p in prompts)
    widened = []
    for p in prompts:
        right = (0, prefix_slots - p.prefix.shape[1])
        left = (tail_slots - p.tail.shape[2], 0)
        widened.append(
            p._replace(
                prefix=np.pad(p.prefix, ((0, 0), right), constant_values=pad_id),
                tail=np.pad(p.tail, ((0, 0), (0, 0), left), constant_values=pad_id),
            )
        )
    return widened


def tail_groups(prompts: Prompts, samples_per_variant: Sequence[int]) -> TailGroups:
    """Rows of each variant and the tail slots they need; neighbours of one width are one group."""
    tail_slots = prompts.tail.shape[-1]
    tail_length = np.asarray(prompts.tail_length)
    groups: list[tuple[int, int]] = []
    first = 0
    for count in samples_per_variant:
        longest = int(tail_length[..., first : first + count].max())
        slots = bucket(longest, tail_slots)
        if groups and groups[-1][1] == slots:
            groups[-1] = (groups[-1][0] + count, slots)
        else:
            groups.append((count, slots))
        first += count
    return tuple(groups)
