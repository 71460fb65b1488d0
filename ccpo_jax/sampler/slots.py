"""Slots: which response decodes in which row of the batch. Numpy, on the host.

Arrays have a leading axis of A' agents that sample in one call, each with slots of its own.
"""

from typing import NamedTuple

import numpy as np

from ccpo_jax.integers import ceil_div
from ccpo_jax.rl.types import HostArray

# Below this many rows a smaller batch saves nothing: a decode step then costs what reading the
# weights costs.
_MIN_ROWS = 8


class Slots(NamedTuple):
    """The batch as the host sees it: B' prompts with R' rows each."""

    # shape=[A', B', R'], dtype=int64: number of the response within the call; -1 = empty.
    response: HostArray
    # shape=[A', B', R'], dtype=int64: decode step at which the response began.
    began: HostArray
    # shape=[A'], dtype=int64: the first prompt that has not joined yet.
    next_prompt: HostArray
    # Rows of each tail group of a prompt; they add up to R'.
    group_sizes: tuple[int, ...]

    @property
    def empty(self) -> HostArray:
        """``[A', B', R']`` bool."""
        return self.response < 0


def first_slots(
    response_numbers: HostArray, num_prompts: int, group_sizes: tuple[int, ...]
) -> Slots:
    """The slots of the first `num_prompts` prompts of ``response_numbers [A', B, R]``."""
    response = response_numbers[:, :num_prompts].copy()
    return Slots(
        response=response,
        began=np.zeros(response.shape, np.int64),
        next_prompt=np.full(len(response), num_prompts),
        group_sizes=group_sizes,
    )


class Admission(NamedTuple):
    """Prompts that join the batch, up to b per agent."""

    # shape=[A', b], dtype=int64: number of the prompt; 0 where `target` is B'.
    prompt: HostArray
    # shape=[A', b], dtype=int64: where in the batch it goes; B' = nowhere.
    target: HostArray


def plan_admission(slots: Slots, num_prompts: int, refill_size: int) -> Admission | None:
    """The next prompts to join; None if none waits, or too few places are free for a refill.

    Args:
      slots: the batch.
      num_prompts: B, prompts of the call.
      refill_size: b, prompts that join at a time; fewer at the end.
    """
    waiting = num_prompts - slots.next_prompt
    finished = np.all(slots.empty, axis=-1)
    wanted = np.minimum(waiting, refill_size)
    joining = np.minimum(wanted, np.sum(finished, axis=-1))
    if not ((joining == wanted) & (waiting > 0)).any():
        return None

    agents, places = slots.response.shape[:2]
    prompt = np.zeros((agents, refill_size), np.int64)
    target = np.full((agents, refill_size), places)
    for agent, count in enumerate(joining):
        prompt[agent, :count] = slots.next_prompt[agent] + np.arange(count)
        target[agent, :count] = np.flatnonzero(finished[agent])[:count]
    return Admission(prompt, target)


def apply_admission(
    slots: Slots, admission: Admission, response_numbers: HostArray, step: int
) -> Slots:
    """The slots after the prompts of `admission` have joined at decode step `step`."""
    response = slots.response.copy()
    began = slots.began.copy()
    joins = admission.target < response.shape[1]
    for agent in range(len(response)):
        prompts = admission.prompt[agent, joins[agent]]
        targets = admission.target[agent, joins[agent]]
        response[agent, targets] = response_numbers[agent, prompts]
        began[agent, targets] = step
    return slots._replace(
        response=response, began=began, next_prompt=slots.next_prompt + joins.sum(axis=-1)
    )


class Compaction(NamedTuple):
    """A smaller batch: which prompts and rows move where. What `decode_loop.compact` takes."""

    # shape=[A', B''], dtype=int32: prompts that stay.
    prompts: HostArray
    # shape=[A', B'', r''], dtype=int32 for each tail group: rows that stay, counted from the
    # group's first row.
    rows: tuple[HostArray, ...]
    # shape=[A', B'', R''], dtype=bool: True = no response sits here.
    empty: HostArray


def plan_compaction(
    empty: HostArray, group_sizes: tuple[int, ...], drop_prompts: bool
) -> Compaction | None:
    """The smallest batch that holds all responses under way; None if that is the batch as it is.

    A prompt with more responses than the smaller batch has rows for takes several places; one
    without responses takes none.

    Args:
      empty: ``[A', B', R']`` bool, rows without a response under way.
      group_sizes: rows of each tail group of a prompt; they add up to R'.
      drop_prompts: False: each prompt keeps its place.
    """
    live = np.split(~empty, np.cumsum(group_sizes)[:-1], axis=-1)
    live_counts = [group.sum(axis=-1) for group in live]
    for num_prompts, sizes in smaller_batches(empty.shape[1], group_sizes, drop_prompts):
        # [A', B'] places that each prompt needs.
        needed = [ceil_div(count, size) for count, size in zip(live_counts, sizes, strict=True)]
        places = np.max(needed, axis=0)
        if not drop_prompts:
            places = np.maximum(places, 1)
        if places.sum(axis=-1).max() <= num_prompts:
            return _assign_places(live, places, num_prompts, sizes)
    return None


def smaller_batches(
    num_prompts: int, group_sizes: tuple[int, ...], drop_prompts: bool
) -> list[tuple[int, tuple[int, ...]]]:
    """Batches to shrink to, as (prompts, rows of each tail group), smallest first.

    They are few, so that few programs compile. Rows halve first: until each prompt has one, a
    decode step still reads every prompt. Then prompts halve.

    Example:
      >>> smaller_batches(8, (4,), drop_prompts=True)
      [(8, (1,)), (8, (2,))]
    """
    batches = []
    while num_prompts * sum(group_sizes) > _MIN_ROWS:
        if max(group_sizes) > 1:
            group_sizes = tuple(ceil_div(size, 2) for size in group_sizes)
        elif drop_prompts and num_prompts > 1:
            num_prompts = ceil_div(num_prompts, 2)
        else:
            break
        batches.append((num_prompts, group_sizes))
    return batches[::-1]


def _assign_places(
    live: list[HostArray], places: HostArray, num_prompts: int, sizes: tuple[int, ...]
) -> Compaction:
    """Assigns ``places [A', B']`` to prompts and to their ``live[group] [A', B', r]`` rows."""
    agents = len(places)
    prompts = np.zeros((agents, num_prompts), np.int32)
    rows = tuple(np.zeros((agents, num_prompts, size), np.int32) for size in sizes)
    taken = tuple(np.zeros(chosen.shape, bool) for chosen in rows)
    for agent in range(agents):
        prompt_at = np.repeat(np.arange(places.shape[1]), places[agent])
        prompts[agent, : len(prompt_at)] = prompt_at
        for place, prompt in enumerate(prompt_at):
            # Of a prompt with several places, this is number `nth`.
            nth = place - int(np.searchsorted(prompt_at, prompt))
            for group, size, chosen, used in zip(live, sizes, rows, taken, strict=True):
                moving = np.flatnonzero(group[agent, prompt])[nth * size :][:size]
                chosen[agent, place, : len(moving)] = moving
                used[agent, place, : len(moving)] = True
    return Compaction(prompts, rows, ~np.concatenate(taken, axis=-1))


def apply_compaction(slots: Slots, compaction: Compaction) -> Slots:
    """The slots of the smaller batch."""
    response = take_rows(slots.response, compaction, slots.group_sizes)
    return slots._replace(
        response=np.where(compaction.empty, -1, response),
        began=take_rows(slots.began, compaction, slots.group_sizes),
        group_sizes=tuple(rows.shape[-1] for rows in compaction.rows),
    )


def take_rows(x: HostArray, compaction: Compaction, group_sizes: tuple[int, ...]) -> HostArray:
    """The rows of ``x [A', B', R']`` that stay; any row where none does."""
    firsts = np.cumsum((0, *group_sizes[:-1]))
    groups = [rows + first for rows, first in zip(compaction.rows, firsts, strict=True)]
    rows = np.concatenate(groups, axis=-1)
    agent = np.arange(len(x))[:, None, None]
    return x[agent, compaction.prompts[..., None], rows]
