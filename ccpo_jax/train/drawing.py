"""Dynamic sampling: prompts are drawn until enough groups tell the agents something.

A group whose samples all have advantage 0 has no gradient. A step that may draw more than one batch
of prompts replaces such groups by groups of further prompts.

Reference: arXiv:2503.14476 (DAPO), section 3.2. Deviation: a group counts as informative by the
advantages of the agents that the step trains, not by its share of right answers.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from ccpo_jax.devices.distributed import print_main
from ccpo_jax.rl.types import HostArray
from ccpo_jax.rollout import Team
from ccpo_jax.status import status
from ccpo_jax.train.rollouts import Collected, join_collected, select_collected

# Folded into a step's key together with the number of a draw after the first. The first draw's rows
# fold in the number of their turn, which is never as large.
_REDRAWS = 2**30


class Drawn(NamedTuple):
    """What a step drew, and what it keeps of it."""

    kept: Collected  # batch_size groups to train on, in the order drawn
    everything: Collected  # all groups drawn; `kept` itself after a single draw
    draws: int  # batches of prompts drawn
    metrics: dict[str, float]


def is_informative(advantage: HostArray, active: Sequence[int]) -> HostArray:
    """Whether a group tells any of the agents that a step trains something, ``[B]`` bool.

    Args:
      advantage: ``[A, B, G]``. A value that is not finite counts, so that it shows in the update.
      active: the agents that the step trains.

    Example:
      >>> advantage = np.array([[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, -1.0]]])
      >>> is_informative(advantage, (0, 1)).tolist(), is_informative(advantage, (0,)).tolist()
      ([False, True], [False, False])
    """
    return (advantage[list(active)] != 0).any(axis=(0, 2))


def draw_groups(
    draw: Callable[[int, jax.Array], Collected],
    informative: Callable[[Collected], HostArray],
    team: Team,
    key: jax.Array,
    *,
    first: int,
    max_draws: int,
) -> Drawn:
    """Draws batches of prompts until as many groups are informative as a batch has.

    Kept are the first informative groups in the order drawn; informative groups beyond the size of
    a batch are dropped, so that every step trains on rollouts of its own parameters. Where there
    are too few after the last draw, the first uninformative groups fill the batch up, so that its
    shape stays.

    Args:
      draw: ``(position, key) -> rollouts``: those of batch `position` of the stream of prompts.
      informative: see `is_informative`, of a draw's ``[B]`` groups.
      team: who answers.
      key: of the step; the first draw has this key itself.
      first: position of the first draw in the stream.
      max_draws: most draws, at least 1; 1 = what is drawn is kept.
    """
    if max_draws == 1:
        collected = draw(first, key)
        return Drawn(collected, collected, 1, {})

    drawn = [draw(first, key)]
    flags = informative(drawn[0])
    size = len(flags)
    while flags.sum() < size and len(drawn) < max_draws:
        number = len(drawn)
        progress = f"draw {number + 1} of {max_draws}, {flags.sum()} of {size} groups informative"
        with status(progress):
            redraw_key = jax.random.fold_in(key, _REDRAWS + number)
            drawn.append(draw(first + number, redraw_key))
        flags = np.concatenate([flags, informative(drawn[-1])])

    chosen = np.flatnonzero(flags)
    missing = max(size - len(chosen), 0)
    filling = np.flatnonzero(~flags)[:missing]
    metrics = {
        "draws": float(len(drawn)),
        "discarded_groups": float(len(flags) - size),
        "surplus_groups": float(len(chosen) + missing - size),
        "filled_groups": float(missing),
    }
    if len(drawn) == 1:
        return Drawn(drawn[0], drawn[0], 1, metrics)
    everything = join_collected(team, drawn)
    numbers = np.sort(np.concatenate([chosen[:size], filling]))
    kept = select_collected(everything, numbers.tolist())
    return Drawn(kept, everything, len(drawn), metrics)


class ShortBatches:
    """Says on standard error that steps found too few informative groups: of such steps the first,
    the second, the fourth, the eighth and so on.
    """

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._count = 0

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """To be called after each step, counted from 1, with its metrics."""
        filled = int(metrics.get("filled_groups", 0))
        if not filled:
            return
        self._count += 1
        # Powers of two.
        if self._count & (self._count - 1):
            return
        size = self._batch_size
        draws = int(metrics["draws"])
        line = (
            f"step {step}: only {size - filled} of {size} groups were informative after {draws} "
            "draws (sample.max_draws)"
        )
        if self._count > 1:
            line += f"; {self._count} such steps so far"
        print_main(line, file=sys.stderr)
