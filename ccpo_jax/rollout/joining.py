"""Several batches of rollouts as one: their prompts one after another, and some of them chosen."""

from collections.abc import Callable, Sequence
from itertools import chain

import jax
import numpy as np

from ccpo_jax.rl.types import HostArray, Outcome
from ccpo_jax.rollout.padding import join_prompts
from ccpo_jax.rollout.records import Rollout, Team, Turn


def join_rollouts(team: Team, rollouts: Sequence[Rollout]) -> Rollout:
    """The rollouts of several batches of problems as those of one batch.

    Args:
      team: who answered, in every batch.
      rollouts: at least one; all of the same worlds and numbers of samples.

    Returns:
      The same texts and log-probs. Only the padding of prompts may be wider.
    """
    turns = []
    for number, agent in enumerate(team.agents):
        parts = [rollout.turns[number] for rollout in rollouts]
        turns.append(_join_turns(parts, agent.tokenizer.pad_id))
    ratings = []
    for number in range(len(rollouts[0].ratings)):
        parts = [rollout.ratings[number] for rollout in rollouts]
        ratings.append(_join_turns(parts, team.raters[number].tokenizer.pad_id))
    return Rollout(tuple(turns), rollouts[0].masks, tuple(ratings))


def _join_turns(turns: Sequence[Turn], pad_id: int) -> Turn:
    samples = [turn.samples for turn in turns]
    return turns[0]._replace(
        prompts=join_prompts([turn.prompts for turn in turns], pad_id),
        samples=jax.tree.map(lambda *parts: np.concatenate(parts), *samples),
        texts=list(chain.from_iterable(turn.texts for turn in turns)),
        thoughts=list(chain.from_iterable(turn.thoughts for turn in turns)),
        unfinished=list(chain.from_iterable(turn.unfinished for turn in turns)),
    )


def join_outcomes(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcomes of several batches as those of one batch. Host arrays."""

    def joined(*values: HostArray) -> HostArray:
        return np.concatenate(values, axis=1)

    return _map_prompts(joined, *outcomes)


def select_outcome(outcome: Outcome, chosen: Sequence[int]) -> Outcome:
    """The outcome of the prompts with these numbers, in this order. Host arrays."""

    def selected(value: HostArray) -> HostArray:
        return value[:, list(chosen)]

    return _map_prompts(selected, outcome)


def _map_prompts(function: Callable[..., HostArray], *outcomes: Outcome) -> Outcome:
    """Applies a function to every field that has prompts, which are its second axis."""
    fields = {}
    for name, value in outcomes[0]._asdict().items():
        if name != "agent_mask" and value is not None:
            fields[name] = function(*(getattr(outcome, name) for outcome in outcomes))
    return outcomes[0]._replace(**fields)
