"""Batches as a pure function of seed and step."""

import collections

import pytest

from ccpo_jax.data import batch_at
from ccpo_jax.data.batches import epoch_order
from tests.support.errors import raises_for
from tests.support.problems import ids, problems


def test_batches_are_a_pure_function_of_seed_and_step():
    pool = problems(10)
    later = [batch_at(pool, 0, step, 4) for step in range(20)]
    epoch_order.cache_clear()
    assert [batch_at(pool, 0, step, 4) for step in reversed(range(20))][::-1] == later
    assert batch_at(pool, 1, 0, 4) != later[0] and batch_at(pool, -1, 0, 4) != later[0]
    assert [[problem.gold for problem in batch] for batch in later[:4]] == [
        ["0", "2", "9", "1"],
        ["8", "5", "4", "3"],
        ["6", "7", "5", "3"],
        ["8", "7", "2", "4"],
    ]


@pytest.mark.parametrize(
    "count,batch_size", [(12, 4), (10, 4), (7, 4), (5, 4), (4, 4), (9, 1), (64, 63), (100, 30)]
)
def test_an_epoch_is_a_fresh_permutation_and_no_batch_repeats(count, batch_size):
    pool = problems(count)
    epochs = 2 * batch_size + 1
    batches = [
        ids(batch_at(pool, 0, step, batch_size)) for step in range(epochs * count // batch_size)
    ]
    assert all(len(set(batch)) == batch_size for batch in batches)
    shown = [number for batch in batches for number in batch]
    seen = [tuple(shown[i : i + count]) for i in range(0, len(shown) - count + 1, count)]
    assert all(sorted(epoch) == sorted(ids(pool)) for epoch in seen)
    assert len(set(seen)) > len(seen) / 2


def test_every_problem_is_as_likely_everywhere():
    first = collections.Counter(batch_at(range(5), 0, 5 * epoch, 1)[0] for epoch in range(2000))
    assert (
        sorted(first) == list(range(5)) and max(first.values()) - min(first.values()) < 120
    )  # 400 each, sd 18


def test_a_set_smaller_than_the_batch_repeats():
    counts = collections.Counter(ids(batch_at(problems(3), 0, 5, 7)))
    assert sorted(counts.values()) == [2, 2, 3]


@pytest.mark.parametrize(
    "field, count, step, batch_size",
    [("problems", 0, 0, 1), ("step", 3, -1, 1), ("batch_size", 3, 0, 0)],
)
def test_batches_of_nothing(field, count, step, batch_size):
    with raises_for(field):
        batch_at(problems(count), 0, step, batch_size)
