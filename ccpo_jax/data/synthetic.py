"""Synthetic problems for the embedded model: chains of additions and subtractions.

A stable hash of the question decides its split, so no problem is in two splits, whatever the seeds.
"""

import functools
import hashlib
import math
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
    _check_set(split, size)
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


def _check_set(split: str, size: int) -> None:
    """Raises InputError for an unknown split, or for a size below 1."""
    if split not in SPLITS:
        raise InputError("split", f"unknown {split!r}; use one of {', '.join(SPLITS)}")
    if size < 1:
        message = f"must be at least 1, received {size}; type how many problems you want"
        raise InputError("size", message)


# --- who knows ------------------------------------------------------------------------------------

# The second term of a two-term sum is at most this, so that one of its signs always fits.
_LARGEST_SECOND_TERM = 49


def two_term_sum(split: str, size: int, seed: int) -> list[tuple[str, str]]:
    """Different sums such as ``Compute 47-23.``; there are 7,301 in all.

    Args:
      split: one of `SPLITS`.
      size: number of problems, >= 1.
      seed: decides their order; equal arguments give equal lists, and a longer list begins with
        the shorter one.

    Returns:
      ``[(question, gold)]``; the first term is 1 to 99, the second 1 to 49, gold 0 to 99.

    Raises:
      InputError: unknown split, size below 1, or more problems than the split has.
    """
    _check_set(split, size)
    sums = _two_term_sums(split)
    if size > len(sums):
        raise InputError(
            "size", f"there are {len(sums)} two-term sums in {split}, not {size}; type at most that"
        )
    shuffled = list(sums)
    random.Random(seed).shuffle(shuffled)
    return shuffled[:size]


@functools.cache
def _two_term_sums(split: str) -> tuple[tuple[str, str], ...]:
    """All two-term sums of a split with their golds."""
    sums = []
    for first in range(1, LARGEST_TOTAL + 1):
        for change in range(-_LARGEST_SECOND_TERM, _LARGEST_SECOND_TERM + 1):
            question = f"Compute {first}{change:+d}."
            if change and 0 <= first + change <= LARGEST_TOTAL and split_of(question) == split:
                sums.append((question, str(first + change)))
    return tuple(sums)


def hide_last_term(question: str, voters: int = 3, informed: int = 1) -> tuple[str, ...]:
    """What each voter sees of a problem: some all of it, the others a "?" for its last term.

    A hash of the question decides who sees all of it, uniformly over the sets of `informed` voters.
    The others do better to say that they do not know than to vote for a guess.

    Args:
      question: a chain from `chain_sum` or `two_term_sum`.
      voters: number of voters, >= 1.
      informed: how many see all of it, in [1, voters]. Those who do at a smaller number still do
        at a larger one.

    Returns:
      One text per voter.

    Raises:
      InputError: `informed` is out of range.

    Example:
      >>> hide_last_term("Compute 47-23.")
      ('Compute 47-23.', 'Compute 47?.', 'Compute 47?.')
    """
    if not 1 <= informed <= voters:
        raise InputError(
            "data.informed",
            f"{informed} of {voters} agents cannot know; type a number from 1 to {voters}, or more "
            "agents",
        )
    hidden = question[: max(question.rfind("+"), question.rfind("-"))] + "?."
    draws = {}
    for voter in range(voters):
        draws[voter] = hashlib.sha256(f"{voter} knows {question}".encode()).digest()
    knows = sorted(draws, key=draws.__getitem__)[:informed]
    return tuple(question if voter in knows else hidden for voter in range(voters))


# --- tables ---------------------------------------------------------------------------------------

# (split, size, seed) -> [(question, gold)].
TASKS: dict[str, Callable[[str, int, int], list[tuple[str, str]]]] = {
    "dyad": functools.partial(chain_sum, terms=(6, 6)),
    "voting": functools.partial(chain_sum, terms=(4, 6)),
    "parts": two_term_sum,
}

# The package's own; a plugin may add others.
OWN_TASKS = tuple(TASKS)

# Tasks whose agents see different texts: question -> one text per agent. Those of the package also
# take the numbers of agents and of those that are informed.
VIEWS: dict[str, Callable[..., tuple[str, ...]]] = {"parts": hide_last_term}


def most_problems(task: str, split: str) -> float:
    """How many different problems a task of the package has in a split; infinity = more than used.

    Example:
      >>> most_problems("parts", "test"), most_problems("dyad", "test")
      (918, inf)
    """
    return len(_two_term_sums(split)) if task == "parts" else math.inf
