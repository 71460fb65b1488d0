"""Golds of public benchmarks: each is equivalent to itself and to no other answer."""

import json
import random

import pytest

from ccpo_jax.verifiers import Context, Item
from ccpo_jax.verifiers.math import equivalent_math, math_value
from ccpo_jax.verifiers.math.answers import read_answer
from ccpo_jax.verifiers.math.comparison import accepts

# File, stride, rows that are read, golds that are empty, golds that are not mathematics.
REAL = [
    ("math500", 2, 250, 0, 0),
    ("aime24", 1, 30, 0, 0),
    ("aime25", 1, 30, 0, 0),
    ("amc23", 1, 40, 0, 0),
    ("minervamath", 4, 68, 0, 0),
    ("gaokao2023en", 1, 385, 2, 0),
    ("math_train", 20, 375, 0, 0),
]


@pytest.mark.parametrize("name, stride, rows, empty, unparsed", REAL, ids=[row[0] for row in REAL])
def test_real_golds_equal_themselves(real_data, pool, name, stride, rows, empty, unparsed):
    parquet = pytest.importorskip("pyarrow.parquet", reason="reading parquet files needs pyarrow")
    table = parquet.read_table(real_data / f"{name}.parquet", columns=["answer"])
    golds = [str(gold) for gold in table["answer"].to_pylist()][::stride]
    graded = pool.verify(
        [Item("math", gold, (rf"Hence \boxed{{{gold}}}.", r"\boxed{-98765}")) for gold in golds]
    )
    assert len(golds) == rows
    assert sum(g.gold_failure == "empty" for g in graded) == empty
    assert sum(g.gold_failure is not None for g in graded) == empty + unparsed
    for gold, g in zip(golds, graded, strict=True):
        assert g.correct == [bool(gold), False], (gold, g)


def test_real_golds_equal_themselves_when_parsed(real_data):
    """Without the shortcut for equal words."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="reading parquet files needs pyarrow")
    table = parquet.read_table(real_data / "math500.parquet", columns=["answer"])
    golds = table["answer"].to_pylist()[1::5]
    read = [read_answer(gold) for gold in golds]
    assert [
        gold for gold, answer in zip(golds, read, strict=True) if not accepts(answer, answer)
    ] == []


def test_real_gsm8k_golds(real_data, pool):
    lines = (real_data / "gsm8k_test.jsonl").read_text().splitlines()
    answers = [json.loads(line)["answer"] for line in lines]
    items = [
        Item("math", a.rpartition("####")[2].strip(), (a, a.rpartition("####")[0])) for a in answers
    ]
    graded = pool.verify(items)
    assert all(g.correct[0] and g.gold_failure is None for g in graded)
    assert sum(g.correct[1] for g in graded) == 0, (
        "a solution without its last line states no answer"
    )


def test_real_golds_accept_no_other_gold(real_data):
    """Golds that accept each other are the same number, the same set, the same word ..."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="reading parquet files needs pyarrow")
    table = parquet.read_table(real_data / "math_train.parquet", columns=["answer"])
    golds = [gold for gold in dict.fromkeys(table["answer"].to_pylist()) if gold.strip()]
    rng = random.Random(0)
    for _ in range(3000):
        gold, other = rng.sample(golds, 2)
        if equivalent_math(gold, other, Context()):
            assert math_value(gold, Context()) == math_value(other, Context()), (gold, other)
