"""Synthetic problems for the embedded model: chains of additions and subtractions, made on demand, nothing to download.

A stable hash of the question decides its split, so no problem is ever in two of them, whatever the seeds.
"""

import functools
import random
import zlib
from collections.abc import Callable, Iterator

LARGEST = 99  # every running total stays in [0, LARGEST]: at most two digits to write
_SPLIT_OF_RESIDUE = ("test",) + ("train",) * 3 + ("pretrain",) * 4  # hash modulo 8 -> split
SPLITS = (
    "train",
    "test",
    "pretrain",
)  # "pretrain": what the embedded model was made from, before any reinforcement


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
      seed: decides which; equal arguments give equal lists, and a longer list begins with the shorter one.
      terms: fewest and most numbers in a chain; the count is drawn uniformly.
      largest_term: the numbers after the first are 1 to this, in [1, 49].

    Returns:
      ``[(question, gold)]``; gold is the sum in decimal digits, 0 to 99, as are all running totals.

    Raises:
      ValueError: unknown split, or size below 1.
    """
    if split not in SPLITS:
        raise ValueError(f"split: unknown {split!r}; use one of {', '.join(SPLITS)}")
    if size < 1:
        raise ValueError(
            f"size: must be at least 1, received {size}; type how many problems you want"
        )
    found: dict[str, str] = {}
    chains = _chains(random.Random(seed), terms, largest_term)
    while len(found) < size:
        question, gold = next(chains)
        if split_of(question) == split:
            found[question] = gold
    return list(found.items())


def _chains(
    rng: random.Random, terms: tuple[int, int], largest_term: int
) -> Iterator[tuple[str, str]]:
    while True:
        total = rng.randint(1, LARGEST)
        text = str(total)
        for _ in range(rng.randint(*terms) - 1):
            change = rng.choice((1, -1)) * rng.randint(1, largest_term)
            if not 0 <= total + change <= LARGEST:
                change = -change
            total += change
            text += f"{change:+d}"
        yield f"Compute {text}.", str(total)


def hide_last_term(question: str, voters: int = 3) -> tuple[str, ...]:
    """What each voter sees of a chain: one of them all of it, the others a "?" for its last term.

    Who is decided by a hash of the question: every voter knows a third of the problems, and the others had better say
    that they do not know than vote for a guess.

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


TASKS: dict[str, Callable[[str, int, int], list[tuple[str, str]]]] = {
    "dyad": functools.partial(chain_sum, terms=(4, 6)),
    "voting": functools.partial(chain_sum, terms=(4, 6)),
    "parts": functools.partial(chain_sum, terms=(4, 6)),
}
VIEWS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "parts": hide_last_term
}  # tasks whose agents see different things
