"""Sets of real numbers: unions of intervals, however they are written."""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ccpo_jax.verifiers.math.evaluation import Number, Value, as_float, infinity, number_key


class Interval(NamedTuple):
    """All numbers between two bounds; a closed bound belongs to the interval."""

    low: Number
    low_closed: bool
    high: Number
    high_closed: bool


def everything() -> Interval:
    """All real numbers."""
    return Interval(-infinity(), False, infinity(), False)


def is_empty(interval: Interval) -> bool:
    """Whether no number lies between the bounds."""
    low, high = as_float(interval.low), as_float(interval.high)
    if number_key(interval.low) == number_key(interval.high):
        return not (interval.low_closed and interval.high_closed)
    return bool(low > high)


def union(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """Intervals in order, with those joined that overlap or touch."""
    ordered = sorted(
        (interval for interval in intervals if not is_empty(interval)),
        key=lambda interval: (as_float(interval.low), not interval.low_closed),
    )
    joined: list[Interval] = []
    for interval in ordered:
        if not joined or not _meet(joined[-1], interval):
            joined.append(interval)
            continue
        last = joined[-1]
        if number_key(last.high) == number_key(interval.high):
            closed = last.high_closed or interval.high_closed
            joined[-1] = last._replace(high_closed=closed)
        elif as_float(interval.high) > as_float(last.high):
            joined[-1] = last._replace(high=interval.high, high_closed=interval.high_closed)
    return tuple(joined)


def intersection(first: Sequence[Interval], second: Sequence[Interval]) -> tuple[Interval, ...]:
    """What two unions share."""
    shared = []
    for one in first:
        for other in second:
            low, low_closed = _inner(one.low, one.low_closed, other.low, other.low_closed, 1)
            high, high_closed = _inner(one.high, one.high_closed, other.high, other.high_closed, -1)
            shared.append(Interval(low, low_closed, high, high_closed))
    return union(shared)


def without(intervals: Sequence[Interval], points: Iterable[Number]) -> tuple[Interval, ...]:
    """A union from which some numbers are taken."""
    remaining = tuple(intervals)
    for point in points:
        below = Interval(-infinity(), False, point, False)
        above = Interval(point, False, infinity(), False)
        remaining = intersection(remaining, (below, above))
    return remaining


def gaps(intervals: Sequence[Interval]) -> list[Interval]:
    """The single points that lie between neighbouring intervals."""
    points = []
    for left, right in itertools.pairwise(intervals):
        if number_key(left.high) == number_key(right.low):
            points.append(Interval(left.high, True, left.high, True))
    return points


def key(intervals: Sequence[Interval]) -> Value:
    """The canonical value of a union; of single points, that of the set of these points."""
    if all(number_key(i.low) == number_key(i.high) for i in intervals):
        return ("set", tuple(sorted((number_key(i.low) for i in intervals), key=repr)))
    bounds = tuple(
        (number_key(i.low), i.low_closed, number_key(i.high), i.high_closed) for i in intervals
    )
    return ("reals", bounds)


def _meet(left: Interval, right: Interval) -> bool:
    """Whether no number lies between two intervals in order."""
    if number_key(left.high) == number_key(right.low):
        return left.high_closed or right.low_closed
    return bool(as_float(right.low) < as_float(left.high))


def _inner(
    one: Number, one_closed: bool, other: Number, other_closed: bool, sign: int
) -> tuple[Number, bool]:
    """The higher of two lower bounds, or with sign -1 the lower of two upper ones."""
    if number_key(one) == number_key(other):
        return one, one_closed and other_closed
    if sign * as_float(one) > sign * as_float(other):
        return one, one_closed
    return other, other_closed
