"""Held-out problems, and training sets without what a test set asks."""

import collections
import dataclasses
import functools
import hashlib
import re
from collections.abc import Sequence

from ccpo_jax.data.problems import Dataset, Problem, normalize_text
from ccpo_jax.errors import InputError


def split_heldout(dataset: Dataset, size: int, seed: int) -> tuple[Dataset, Dataset]:
    """Splits off problems that select the best checkpoint.

    The choice depends on the texts and the seed alone, not on the order of the rows. No passage is
    asked about in both parts: training problems about a held-out passage are dropped and counted.
    (Of the last passage held out, that may be some of its problems only.)

    Args:
      dataset: problems, no question twice.
      size: number of problems to hold out, >= 0.
      seed: decides which.

    Returns:
      (training part, held-out part), each in the order of `dataset`.

    Raises:
      InputError: a negative size, or nothing would be left to train on.
    """
    if size < 0:
        raise InputError(
            "data.heldout",
            f"must be at least 0, received {size}; type how many problems to hold out",
        )

    def rank(problem: Problem) -> list[bytes]:
        # By passage first, so that problems about one passage are held out together.
        texts = (_passage(problem), normalize_text(problem.question))
        salted = [f"{seed}/{text}".encode("utf-8", "replace") for text in texts]
        return [hashlib.sha256(text).digest() for text in salted]

    chosen = set(sorted(dataset.problems, key=rank)[:size])
    heldout_passages = {_passage(problem) for problem in chosen}
    heldout = tuple(problem for problem in dataset.problems if problem in chosen)
    others = tuple(problem for problem in dataset.problems if problem not in chosen)
    train = tuple(problem for problem in others if _passage(problem) not in heldout_passages)
    if not train:
        raise InputError(
            "data.heldout",
            f"{size} of {len(dataset.problems)} problems of {dataset.name} leave none to train on; "
            "type fewer",
        )

    rest = dataclasses.replace(dataset, problems=others)
    return (
        _keep_only(rest, train, "on a held-out passage"),
        Dataset(f"{dataset.name}, held out", heldout, {}),
    )


def decontaminate(train: Dataset, tests: Sequence[Dataset], *, similarity: float = 1.0) -> Dataset:
    """Removes from a training set what a test set asks.

    A training problem is removed if its passage, or its question where there is none, is word for
    word in a test set. With a similarity below 1 a passage is also removed if it shares that
    fraction of its words with one of a test set, such as another translation of it. Passages made
    from templates share words too, so use this only for passages that were written one by one: at
    0.5 it finds in LogiQA 2.0 dev what LogiQA test contains, but in LogicalDeduction it would find
    everything.

    Args:
      train: problems to train on.
      tests: sets that will be reported on.
      similarity: in (0, 1]; two passages count as the same when at least this fraction of the words
        of either are words of both.

    Returns:
      `train` with fewer problems, and the number dropped.

    Raises:
      InputError: a similarity out of range, or nothing left.

    Example:
      >>> problems = [Problem("s/0", "one?", "1", "math"), Problem("s/1", "two?", "2", "math")]
      >>> left = decontaminate(Dataset("s", problems, {}), [Dataset("t", problems[:1], {})])
      >>> [problem.id for problem in left.problems], left.dropped
      (['s/1'], {'also in a test set': 1})
    """
    if not 0 < similarity <= 1:
        raise InputError(
            "data.similarity",
            f"must be in (0, 1], received {similarity}; type 1.0 for equal passages only",
        )
    test_problems = [problem for test in tests for problem in test.problems]
    test_passages = {_passage(problem) for problem in test_problems}
    test_vocabularies = {_words(problem.context) for problem in test_problems if problem.context}

    # Several problems ask about one passage.
    @functools.cache
    def is_similar_to_a_test(context: str) -> bool:
        words = _words(context)
        return any(_overlap(words, other, similarity) for other in test_vocabularies)

    kept = []
    for problem in train.problems:
        if _passage(problem) in test_passages:
            continue
        if similarity < 1 and problem.context and is_similar_to_a_test(problem.context):
            continue
        kept.append(problem)
    if not kept:
        raise InputError(
            "data.train",
            f"all problems of {train.name} are in the test sets of data.eval; type other sets, or "
            "--config.data.similarity=1.0 where passages come from templates",
        )
    return _keep_only(train, tuple(kept), "also in a test set")


def _overlap(words: frozenset[str], other: frozenset[str], similarity: float) -> bool:
    """Whether the words of both are at least this fraction of the words of either."""
    # The sizes alone decide most pairs, at a fraction of the cost.
    if min(len(words), len(other)) < similarity * max(len(words), len(other)):
        return False
    return len(words & other) >= similarity * len(words | other)


def _keep_only(dataset: Dataset, kept: tuple[Problem, ...], reason: str) -> Dataset:
    """The dataset with these problems alone; the others are counted under a reason."""
    dropped = collections.Counter(dataset.dropped)
    num_lost = len(dataset.problems) - len(kept)
    if num_lost:
        dropped[reason] = num_lost
    return dataclasses.replace(dataset, problems=kept, dropped=dict(dropped))


def _passage(problem: Problem) -> str:
    """What related problems share: the passage, or the question where there is none."""
    return normalize_text(problem.context or problem.question)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))
