"""Classes of answers: the same partition, and so the same vote, in every order of the agents."""

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest

from ccpo_jax.rl import vote_reward
from ccpo_jax.verifiers import VERIFIERS, Item, steps, verify
from ccpo_jax.verifiers import classes as classes_module
from ccpo_jax.verifiers.classes import AnswerClasses
from ccpo_jax.verifiers.job import collect_records, make_job, verify_job
from ccpo_jax.verifiers.types import Verifier
from ccpo_jax.verifiers.worker import TIMED_OUT, StepFailure


@pytest.fixture(autouse=True)
def _stand_ins_are_the_packages_own(monkeypatch):
    """Its parsers may raise anything; what one from outside raises is a mistake in it."""
    monkeypatch.setattr(steps, "is_own", lambda name: True)


AGENTS = 7
MAX_CHARS = 1_000


class Hang(BaseException):
    """Stands for a step that the pool kills."""


# --- a verifier whose relations are as bad as they may be ---
#
# Answers: "3/4", "75%", "0.75", "{1,2}", "(1,2)", "B"; "s12" and "t12" are expressions that no
# value is known of. Two expressions mean the same when their numbers differ by at most one, which
# is not transitive; some comparisons raise, some hang.


def odd_extract(text, context):
    return None if text == "?" else text


def odd_value(answer, context):
    if answer[0] in "st":
        return None
    if answer[0] in "{(":
        members = answer[1:-1].split(",")
        return frozenset(members) if answer[0] == "{" else tuple(members)
    if answer.isalpha():
        return answer.casefold()
    if answer.endswith("%"):
        return Fraction(answer[:-1]) / 100
    return Fraction(answer)


def odd_number(answer):
    if answer[0] in "st":
        return int(answer[1:])
    value = odd_value(answer, None)
    return round(8 * value) if isinstance(value, Fraction) else -99


def odd_same(first, second, context):
    low, high = sorted([first, second])
    total = odd_number(low) + odd_number(high)
    if "t" in low + high and total % 5 == 0:
        raise Hang
    if total % 11 == 0:
        raise ArithmeticError("no such number")
    return abs(odd_number(low) - odd_number(high)) <= 1


def odd_equivalent(gold, answer, context):
    if answer == "t13":
        raise Hang
    if answer == "s13":
        raise ArithmeticError("no such number")
    if gold == answer:
        return True
    value = odd_value(answer, None)
    return value is not None and odd_value(gold, None) == value


ODD = Verifier(odd_extract, odd_equivalent, odd_value, odd_same, lambda gold, context: None)

ODD_TEXTS = [
    "?",
    *("1/2", "50%", "0.5", "50", "2/4", "0.50", "3/8", "0.375", "37.5%", "1", "100%", "5/8"),
    *("{1,2}", "{2,1}", "{1,2,2}", "(1,2)", "(2,1)", "A", "a", "B"),
    *(f"s{number}" for number in range(16)),
    *(f"t{number}" for number in range(16)),
]


def judged(item):
    """The verdicts of an item; a step that hangs is killed as in the pool, and the job resumed."""
    job = make_job(item, MAX_CHARS)
    records = []
    while True:
        try:
            for record in verify_job(job, list(records)):
                records.append(record)
        except Hang:
            records.append(StepFailure(TIMED_OUT))
        else:
            return collect_records(item, job, records, MAX_CHARS)


def partition(answer_id):
    """For each text the numbers of the texts of its class, -1 where it has none."""
    numbers = np.asarray(answer_id)
    together = (numbers[:, None] == numbers[None, :]) & (numbers >= 0)[:, None]
    return together


def assert_same_in_every_order(graded, shuffled, order):
    order = np.asarray(order)
    np.testing.assert_array_equal(np.asarray(graded.correct)[order], shuffled.correct)
    np.testing.assert_array_equal(
        partition(graded.answer_id)[np.ix_(order, order)], partition(shuffled.answer_id)
    )
    assert [graded.failures[index] for index in order] == shuffled.failures


def votes(answer_ids, corrects):
    present = np.ones(np.shape(answer_ids), bool)
    return vote_reward(np.asarray(answer_ids), np.asarray(corrects, np.float32), present)


def test_classes_and_votes_are_the_same_in_every_order(monkeypatch):
    monkeypatch.setitem(VERIFIERS, "odd", ODD)
    rng = random.Random(21)
    plain, mixed = [], []
    for _ in range(10_000):
        gold = rng.choice(ODD_TEXTS[1:])
        # Few different texts in some groups, so that agents agree, and many in others.
        texts = rng.choices(rng.sample(ODD_TEXTS, rng.randint(2, AGENTS + 3)), k=AGENTS)
        order = rng.sample(range(AGENTS), AGENTS)

        graded = judged(Item("odd", gold, tuple(texts)))
        shuffled = judged(Item("odd", gold, tuple(texts[index] for index in order)))
        assert_same_in_every_order(graded, shuffled, order)
        plain.append(graded)
        mixed.append(shuffled)

    np.testing.assert_array_equal(
        votes([g.answer_id for g in plain], [g.correct for g in plain]),
        votes([g.answer_id for g in mixed], [g.correct for g in mixed]),
    )
    failures = {failure.partition(" (")[0] for graded in plain for failure in graded.failures}
    assert failures == {"", "no_answer", TIMED_OUT, "failed: ArithmeticError: no such number"}


REAL_TEXTS = [
    *("50", r"50\%", "0.5", r"\frac12", r"\frac{1}{2}", "50.0", "0.50", "x = 50"),
    *(
        "x+1",
        "1+x",
        "2x+2",
        "2(x+1)",
        "x^2",
        r"\sqrt{2}",
        "1.414",
        "1.41421356",
        r"\frac{\sqrt8}{2}",
    ),
    *("(1,2)", "(1, 2)", r"\{1, 2\}", r"\{2, 1\}", "[1,2]", "1, 2", "x=1, x=2"),
    *("2:3", "4:6", "2/3", "0.6666667", r"\text{east}", "East", "A", r"10^{2}", "100"),
]


def test_the_math_verifier_has_the_same_classes_in_every_order():
    rng = random.Random(1)
    for _ in range(500):
        gold = rng.choice([*REAL_TEXTS, "7", "7"])
        texts = [rf"\boxed{{{answer}}}" for answer in rng.choices(REAL_TEXTS, k=AGENTS)]
        order = rng.sample(range(AGENTS), AGENTS)
        graded = verify("math", gold, texts)
        shuffled = verify("math", gold, [texts[index] for index in order])
        assert_same_in_every_order(graded, shuffled, order)


def test_a_half_and_fifty_percent_in_all_orders():
    answers = ["50", r"50\%", "0.5", r"\frac{1}{2}"]
    expected = verify("math", "7", [rf"\boxed{{{answer}}}" for answer in answers])
    for order in itertools.permutations(range(4)):
        graded = verify("math", "7", [rf"\boxed{{{answers[index]}}}" for index in order])
        assert_same_in_every_order(expected, graded, order)
    assert expected.answer_id[2] == expected.answer_id[3] != expected.answer_id[0]


# --- the rules ---


def grouped(values, same, failing=()):
    """The classes as sets of answers, and the pairs that were compared."""
    classes = AnswerClasses(values)
    pairs = []
    for first, second in classes.pairs():
        pairs.append((first, second))
        is_same = None if {first, second} & set(failing) else same(first, second)
        classes.record(first, second, is_same=is_same)
    by_representative = {}
    for answer, representative in classes.representatives().items():
        by_representative.setdefault(representative, set()).add(answer)
    return {frozenset(members) for members in by_representative.values()}, pairs


def sets(*words):
    return {frozenset(word) for word in words}


def test_values_need_no_comparison():
    values = {"a": 1, "b": 2, "c": 1, "d": (1, 2), "e": frozenset([1, 2])}
    found, pairs = grouped(values, lambda first, second: True)
    assert found == sets("ac", "b", "d", "e") and pairs == []


def test_pairs_that_are_the_same_are_closed_transitively():
    def neighbours(first, second):
        return abs(ord(first) - ord(second)) == 1

    found, _ = grouped(dict.fromkeys("acbegf"), neighbours)
    assert found == sets("abc", "efg")


@pytest.mark.parametrize(
    "equal, expected",
    [
        ({"x1"}, sets(["x", "1", "3"], ["2"])),
        ({"x1", "x2"}, sets(["x"], ["1", "3"], ["2"])),
        ({"x1", "xy", "y2"}, sets(["x", "y"], ["1", "3"], ["2"])),
        ({"x1", "xy", "y1"}, sets(["x", "y", "1", "3"], ["2"])),
        ({"x1", "y2"}, sets(["x", "1", "3"], ["y", "2"])),
    ],
)
def test_an_answer_joins_a_value_if_it_equals_no_other(equal, expected):
    values = {"1": 1, "2": 2, "3": 1, "x": None, "y": None}
    if not any("y" in pair for pair in equal):
        del values["y"]
    found, _ = grouped(values, lambda a, b: a + b in equal or b + a in equal)
    assert found == expected


def test_pairs_that_are_joined_already_are_not_compared():
    _, pairs = grouped(dict.fromkeys(map(str, range(10))), lambda first, second: True)
    assert len(pairs) == 9


def test_comparisons_are_bounded_and_what_is_not_compared_is_different():
    answers = [str(number) for number in range(1_000)]
    found, pairs = grouped(dict.fromkeys(answers), lambda first, second: False)
    assert len(pairs) == classes_module._MAX_COMPARISONS and len(found) == len(answers)

    slow = AnswerClasses(dict.fromkeys(answers))
    count = 0
    for first, second in slow.pairs():
        slow.record(first, second, is_same=False, seconds=1.0)
        count += 1
    assert count == classes_module._MAX_SECONDS

    _, pairs = grouped(dict.fromkeys(answers), lambda first, second: False, failing=answers)
    assert len(pairs) == classes_module._MAX_FAILED


def test_an_answer_that_always_hangs_does_not_keep_others_apart():
    values = dict.fromkeys(["h", "aa", "bb", "cc", "dd"])
    found, pairs = grouped(values, lambda first, second: True, failing=["h"])
    assert found == {frozenset(["h"]), frozenset(["aa", "bb", "cc", "dd"])}
    assert sum("h" in pair for pair in pairs) == classes_module._MAX_FAILED_OF_ONE


@pytest.mark.parametrize("trouble", [ArithmeticError, Hang])
def test_trouble_between_two_wrong_answers_makes_them_different_and_nothing_else(
    monkeypatch, trouble
):
    def same(first, second, context):
        raise trouble

    monkeypatch.setitem(VERIFIERS, "odd", ODD._replace(same=same))
    graded = judged(Item("odd", "A", ("s1", "s2", "a", "s1", "s3")))
    assert graded.answer_id == [0, 1, 2, 0, 3]
    assert graded.correct == [False, False, True, False, False]
    assert not any(graded.failures) and not any(graded.counts.values())


def test_a_value_that_cannot_be_computed_is_no_abstention(monkeypatch):
    def value(answer, context):
        raise RecursionError

    monkeypatch.setitem(VERIFIERS, "odd", ODD._replace(value=value))
    graded = judged(Item("odd", "A", ("s1", "s2", "s6")))
    assert graded.answer_id == [0, 0, 1] and not any(graded.failures)
