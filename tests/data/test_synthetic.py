"""Synthetic problems: right golds, disjoint splits, the same problems on every machine."""

import collections
import math
import re

import numpy as np
import pytest

from ccpo_jax.data.synthetic import (
    LARGEST_TOTAL,
    SPLITS,
    TASKS,
    VIEWS,
    chain_sum,
    hide_last_term,
    most_problems,
    split_of,
    two_term_sum,
)
from tests.support.errors import raises_for


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", TASKS)
def test_contract(task, split):
    problems = TASKS[task](split, 300, 7)
    assert len(problems) == len({question for question, _ in problems}) == 300
    assert all(split_of(question) == split for question, _ in problems)
    assert TASKS[task](split, 300, 7) == problems
    assert TASKS[task](split, 40, 7) == problems[:40]
    assert TASKS[task](split, 300, 8) != problems


@pytest.mark.parametrize("task", TASKS)
def test_gold_is_what_python_computes(task):
    for question, gold in TASKS[task]("train", 500, 3):
        assert re.fullmatch(r"Compute \d+([+-]\d+)+\.", question)
        assert str(eval(question.removeprefix("Compute ").removesuffix("."))) == gold


@pytest.mark.parametrize("task, counts, largest", [("dyad", {6}, 9), ("voting", {4, 5, 6}, 9)])
def test_shape_of_the_problems(task, counts, largest):
    lengths, changes = set(), set()
    for question, _ in TASKS[task]("train", 500, 4):
        terms = [int(term) for term in re.findall(r"[+-]?\d+", question)]
        lengths.add(len(terms))
        changes |= {abs(term) for term in terms[1:]}
        assert all(0 <= sum(terms[:n]) <= LARGEST_TOTAL for n in range(1, len(terms) + 1))
    assert lengths == counts
    assert changes == set(range(1, largest + 1))


def test_sums_of_two_terms_are_all_there_are():
    """Counted independently: all pairs of terms whose total has at most two digits."""
    sizes = {split: most_problems("parts", split) for split in SPLITS}
    pairs = [(a, b) for a in range(1, 100) for b in range(-49, 50) if b and 0 <= a + b <= 99]
    assert sum(sizes.values()) == len(pairs)
    everything = [q for split, size in sizes.items() for q, _ in two_term_sum(split, size, 5)]
    assert set(everything) == {f"Compute {a}{b:+d}." for a, b in pairs}

    # Half a thousand held-out problems leave more than forty steps of sixteen.
    assert sizes["train"] > 512 + 40 * 16 and sizes["test"] > 512
    assert most_problems("dyad", "train") == math.inf


@pytest.mark.parametrize("voters, informed", [(1, 1), (3, 1), (4, 2), (8, 1), (9, 9), (64, 5)])
def test_exactly_some_voters_see_the_last_term(voters, informed):
    for question, _ in TASKS["parts"]("train", 100, 3) + TASKS["voting"]("train", 50, 3):
        views = VIEWS["parts"](question, voters, informed)
        assert len(views) == voters and views.count(question) == informed
        hidden = re.sub(r"[+-]\d+\.$", "?.", question)
        assert set(views) <= {question, hidden}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("voters, informed", [(3, 1), (4, 2), (8, 1), (64, 16)])
def test_who_knows_is_uniform_over_voters_within_each_split(split, voters, informed):
    """A CRC of the question, which decides the split, would not be: it is linear."""
    questions = [question for question, _ in TASKS["voting"](split, 1500, 3)]
    knows = np.zeros(voters)
    together = 0
    for question in questions:
        told = [view == question for view in VIEWS["parts"](question, voters, informed)]
        knows += told
        together += told[0] and told[1]

    share = informed / voters
    deviation = (len(questions) * share * (1 - share)) ** 0.5
    assert np.abs(knows - len(questions) * share).max() < 4 * deviation
    pairs = len(questions) * share * (informed - 1) / (voters - 1)
    assert abs(together - pairs) < 4 * pairs**0.5 + 1


def test_who_knows_two_of_four_is_uniform_over_pairs():
    questions = [question for question, _ in TASKS["voting"]("train", 1800, 9)]
    told = collections.Counter(
        tuple(view == question for view in hide_last_term(question, 4, 2)) for question in questions
    )
    assert len(told) == 6 and all(abs(count - 300) < 4 * 250**0.5 for count in told.values())


def test_pinned_problems():
    assert TASKS["voting"]("test", 2, 1) == [
        ("Compute 62-7+6-2.", "59"),
        ("Compute 82+2-1+2.", "85"),
    ]
    assert TASKS["dyad"]("train", 2, 0) == [
        ("Compute 18-9+5+2-8+6.", "14"),
        ("Compute 79-4-2+4+3-2.", "78"),
    ]
    question, _ = TASKS["parts"]("test", 1, 0)[0]
    assert question == "Compute 33+25." and VIEWS["parts"](question, 16).index(question) == 14


def test_split_shares():
    questions = [f"Compute {a}+{b}." for a in range(100) for b in range(100)]
    shares = {
        split: sum(split_of(q) == split for q in questions) / len(questions) for split in SPLITS
    }
    assert shares == pytest.approx({"train": 0.375, "test": 0.125, "pretrain": 0.5}, abs=0.02)


def test_refusals():
    with raises_for("split"):
        chain_sum("dev", 1, 0, terms=(4, 6))
    with raises_for("size"):
        chain_sum("train", 0, 0, terms=(4, 6))
    with raises_for("size"):
        two_term_sum("train", most_problems("parts", "train") + 1, 0)
    for informed in (0, 4):
        with raises_for("data.informed"):
            hide_last_term("Compute 1+2.", 3, informed)
