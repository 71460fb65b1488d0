"""Synthetic problems for the embedded model: chains of additions and subtractions.

A stable hash of the question decides its split, so no problem is in two splits, whatever the seeds.
"""

import functools
import random
import zlib
from collections.abc import Callable, Iterator

from ccpo_jax.errors import InputError

# Every running total is in [0, LARGEST_TOTAL]: at most two digits to write.
LARGEST_TOTAL = 99

# "pretrain" is what the embedded model was pretrained on, before any reinforcement learning.
SPLITS = ("train", "test", "pretrain")

# Hash of the question modulo 8 -> split.
_SPLIT_OF_RESIDUE = ("test",) + ("train",) * 3 + ("pretrain",) * 4


def split_of(question: str) -> str:
    """The split a question belongs to, decided by the question alone.

    Args:
      question: full text.

    Returns:
      "train" (three in eight), "test" (one in eight) or "pretrain" (four in eight).

    Example:
      >>> split_of("Compute 47-8+6-9."), split_of("Compute 4+8+6-9.")
      ('pretrain', 'test')
    """
    return _SPLIT_OF_RESIDUE[zlib.crc32(question.encode()) % len(_SPLIT_OF_RESIDUE)]


def chain_sum(
    split: str, size: int, seed: int, *, terms: tuple[int, int], largest_term: int = 9
) -> list[tuple[str, str]]:
    """Different chains such as ``Compute 47-8+6-9.`` with their sums.

    Args:
      split: one of `SPLITS`.
      size: number of problems, >= 1.
      seed: decides which; equal arguments give equal lists, and a longer list begins with the
        shorter one.
      terms: fewest and most numbers in a chain; their count is drawn uniformly.
      largest_term: in [1, 49]; the numbers after the first are 1 to `largest_term`.

    Returns:
      ``[(question, gold)]``; gold is the sum in decimal digits, 0 to 99, as are all running totals.

    Raises:
      InputError: unknown split, or size below 1.
    """
    if split not in SPLITS:
        raise InputError("split", f"unknown {split!r}; use one of {', '.join(SPLITS)}")
    if size < 1:
        message = f"must be at least 1, received {size}; type how many problems you want"
        raise InputError("size", message)

    gold_of: dict[str, str] = {}
    chains = _chains(random.Random(seed), terms, largest_term)
    while len(gold_of) < size:
        question, gold = next(chains)
        if split_of(question) == split:
            gold_of[question] = gold
    return list(gold_of.items())


def _chains(
    rng: random.Random, terms: tuple[int, int], largest_term: int
) -> Iterator[tuple[str, str]]:
    """Endless random chains with their sums; a term that would leave the range changes its sign."""
    while True:
        total = rng.randint(1, LARGEST_TOTAL)
        text = str(total)
        for _ in range(rng.randint(*terms) - 1):
            change = rng.choice((1, -1)) * rng.randint(1, largest_term)
            if not 0 <= total + change <= LARGEST_TOTAL:
                change = -change
            total += change
            text += f"{change:+d}"
        yield f"Compute {text}.", str(total)


def hide_last_term(question: str, voters: int = 3) -> tuple[str, ...]:
    """What each voter sees of a chain: one voter all of it, the others a "?" for its last term.

    A hash of the question decides which voter it is. Each knows a third of the problems, and the
    others do better to say that they do not know than to vote for a guess.

    Args:
      question: a chain from `chain_sum`.
      voters: number of voters, >= 1.

    Example:
      >>> hide_last_term("Compute 47-8+6-9.")
      ('Compute 47-8+6?.', 'Compute 47-8+6-9.', 'Compute 47-8+6?.')
    """
    hidden = question[: max(question.rfind("+"), question.rfind("-"))] + "?."
    knows = zlib.crc32(b"who knows " + question.encode()) % voters
    return tuple(question if voter == knows else hidden for voter in range(voters))


# (split, size, seed) -> [(question, gold)].
TASKS: dict[str, Callable[[str, int, int], list[tuple[str, str]]]] = {
    "dyad": functools.partial(chain_sum, terms=(4, 6)),
    "voting": functools.partial(chain_sum, terms=(4, 6)),
    "parts": functools.partial(chain_sum, terms=(4, 6)),
}

# The package's own; a plugin may add others.
OWN_TASKS = tuple(TASKS)

# Tasks whose agents see different texts: question -> one text per agent.
VIEWS: dict[str, Callable[[str], tuple[str, ...]]] = {"parts": hide_last_term}
