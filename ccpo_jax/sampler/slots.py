"""Seating: which rows stay when a batch shrinks, and where. Host code, numpy alone.

Arrays have a leading axis of A' agents that sample in one call, each with seats of its own.
"""

from typing import NamedTuple

import numpy as np

from ccpo_jax.integers import ceil_div

_LEAST = 8  # rows below which a smaller batch saves nothing: a step then costs what reading the weights costs


class Plan(NamedTuple):
    """Which rows stay, and where: what `sampler.keep` takes."""

    prompts: np.ndarray
    rows: tuple[np.ndarray, ...]
    filler: np.ndarray


def rungs(
    batch: int, sizes: tuple[int, ...], drop_prompts: bool
) -> list[tuple[int, tuple[int, ...]]]:
    """Smaller batches, (prompts, rows of each group), smallest first: few, so that few programs are compiled.

    Rows halve first: what they read of the prompts stays the same until each has one, then prompts halve.
    """
    steps = []
    while batch * sum(sizes) > _LEAST:
        if max(sizes) > 1:
            sizes = tuple(ceil_div(size, 2) for size in sizes)
        elif drop_prompts and batch > 1:
            batch = ceil_div(batch, 2)
        else:
            break
        steps.append((batch, sizes))
    return steps[::-1]


def plan(done: np.ndarray, sizes: tuple[int, ...], drop_prompts: bool) -> Plan | None:
    """The smallest batch that holds all live rows, or None where that is the batch as it is.

    A prompt with more live rows than the batch has for it takes several places; it has none without live rows.

    Args:
      done: ``[A', B, R]`` bool.
      sizes: rows of each group of a prompt's rows; they add up to R.
      drop_prompts: False: each prompt keeps the place it has.
    """
    groups = np.split(~done, np.cumsum(sizes)[:-1], axis=-1)
    left = np.stack([group.sum(-1) for group in groups])  # [groups, A', B]
    for batch, smaller in rungs(done.shape[1], sizes, drop_prompts):
        places = np.max(
            ceil_div(left, np.array(smaller)[:, None, None]), axis=0
        )  # [A', B] places that each prompt needs
        if not drop_prompts:
            places = np.maximum(places, 1)
        if places.sum(-1).max() <= batch:
            return _seat(groups, places, batch, smaller)
    return None


def _seat(groups: list[np.ndarray], places: np.ndarray, batch: int, sizes: tuple[int, ...]) -> Plan:
    """Gives the live rows of every prompt their places."""
    agents = len(places)
    prompts = np.zeros((agents, batch), np.int32)
    rows = tuple(np.zeros((agents, batch, size), np.int32) for size in sizes)
    taken = tuple(np.zeros(chosen.shape, bool) for chosen in rows)
    for agent in range(agents):
        own = np.repeat(np.arange(places.shape[1]), places[agent])
        prompts[agent, : len(own)] = own
        for place, prompt in enumerate(own):
            part = place - int(np.searchsorted(own, prompt))
            for group, size, chosen, used in zip(groups, sizes, rows, taken, strict=True):
                found = np.flatnonzero(group[agent, prompt])[part * size :][:size]
                chosen[agent, place, : len(found)], used[agent, place, : len(found)] = found, True
    return Plan(prompts, rows, ~np.concatenate(taken, axis=-1))


def pick(x: np.ndarray, plan: Plan, sizes: tuple[int, ...]) -> np.ndarray:
    """What stays of ``[A', B, R]``."""
    firsts = np.cumsum((0, *sizes[:-1]))
    rows = np.concatenate(
        [rows + first for rows, first in zip(plan.rows, firsts, strict=True)], axis=-1
    )
    return x[np.arange(len(x))[:, None, None], plan.prompts[..., None], rows]
