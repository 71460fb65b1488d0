"""The batch of a step as a pure function: there is no iterator whose state must be saved."""

import functools
import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from ccpo_jax.errors import InputError

T = TypeVar("T")


def batch_at(problems: Sequence[T], seed: int, step: int, batch_size: int) -> list[T]:
    """The batch of a step.

    Epochs follow one another without a gap, each a fresh permutation of all problems. A batch may
    begin in one epoch and end in the next and still has no problem twice. Only a set smaller than
    the batch repeats.

    Args:
      problems: the training set, not empty.
      seed: decides the order.
      step: training step, >= 0.
      batch_size: B, >= 1.

    Returns:
      B problems.

    Raises:
      InputError: no problems, a negative step or a batch size below 1.

    Example:
      >>> [batch_at("abcd", 0, step, 3) for step in range(4)]
      [['a', 'c', 'b'], ['d', 'c', 'b'], ['d', 'a', 'c'], ['b', 'd', 'a']]
    """
    if not len(problems):
        raise InputError("problems", "must not be empty; pass at least one problem")
    if step < 0:
        raise InputError("step", f"must be at least 0, received {step}")
    if batch_size < 1:
        raise InputError("batch_size", f"must be at least 1, received {batch_size}")

    count = len(problems)
    # A set smaller than the batch has to repeat: its epochs need not be kept apart.
    distinct = batch_size if count >= batch_size else 1
    batch = []
    for position in range(step * batch_size, (step + 1) * batch_size):
        epoch, index = divmod(position, count)
        batch.append(problems[epoch_order(count, seed, epoch, distinct)[index]])
    return batch


@functools.lru_cache(maxsize=2)
def epoch_order(count: int, seed: int, epoch: int, batch_size: int) -> np.ndarray:
    """Order of an epoch, int64 [count]; the batch begun in the epoch before repeats nothing.

    That batch has fewer than `batch_size` problems in either epoch, so it is enough to move the
    ones it already has to the end of the first `batch_size` of this epoch. Which ones those are
    follows from the epochs since the last one that began with a batch of its own.
    """
    period = batch_size // math.gcd(count, batch_size)
    order = np.empty(0, np.int64)
    begun = np.empty(0, np.int64)
    for earlier in range(epoch - epoch % period, epoch + 1):
        order = _shuffle(count, seed, earlier)
        head = order[:batch_size]
        is_repeated = np.isin(head, begun)
        order[:batch_size] = np.concatenate([head[~is_repeated], head[is_repeated]])
        num_begun = (earlier + 1) * count % batch_size
        begun = order[count - num_begun :]
    return order


def _shuffle(count: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation, int64 [count], by sorting raw Philox words.

    Their stream is fixed by definition; that of `numpy.random.Generator` may change between
    versions.
    """
    key = np.array([seed % 2**64, epoch], np.uint64)
    return np.random.Philox(key=key).random_raw(count).argsort(kind="stable")
