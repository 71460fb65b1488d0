"""Synthetic problems: right golds, disjoint splits, the same problems on every machine."""

import re

import pytest

from ccpo_jax.data.synthetic import LARGEST_TOTAL, SPLITS, TASKS, VIEWS, chain_sum, split_of
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


@pytest.mark.parametrize(
    "task, counts, largest", [("dyad", {4, 5, 6}, 9), ("voting", {4, 5, 6}, 9)]
)
def test_shape_of_the_problems(task, counts, largest):
    lengths, changes = set(), set()
    for question, _ in TASKS[task]("train", 500, 4):
        terms = [int(term) for term in re.findall(r"[+-]?\d+", question)]
        lengths.add(len(terms))
        changes |= {abs(term) for term in terms[1:]}
        assert all(0 <= sum(terms[:n]) <= LARGEST_TOTAL for n in range(1, len(terms) + 1))
    assert lengths == counts
    assert changes == set(range(1, largest + 1))


def test_every_voter_knows_a_third_of_the_parts():
    knows = [0, 0, 0]
    for question, _ in TASKS["parts"]("train", 600, 3):
        views = VIEWS["parts"](question)
        assert views.count(question) == 1
        hidden = next(view for view in views if view != question)
        assert re.fullmatch(re.escape(hidden[:-2]) + r"[+-]\d+\.", question) and hidden.endswith(
            "?."
        )
        knows[views.index(question)] += 1
    assert min(knows) > 160


def test_pinned_problems():
    assert TASKS["voting"]("test", 2, 1) == [
        ("Compute 62-7+6-2.", "59"),
        ("Compute 82+2-1+2.", "85"),
    ]
    assert TASKS["dyad"]("train", 2, 0) == [
        ("Compute 62-1+2-1-6.", "56"),
        ("Compute 24-8+2+3.", "21"),
    ]


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
