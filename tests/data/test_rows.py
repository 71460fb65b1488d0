"""Rows at hand: optional golds, one verifier for all, what a problem keeps, what the log says."""

import pickle

import numpy as np
import pytest

from ccpo_jax.config import from_flat
from ccpo_jax.data import Problem, from_rows, load
from ccpo_jax.data.rows import RowReader
from ccpo_jax.train.load import load_problems
from ccpo_jax.train.parts import row_reader
from tests.support.errors import raises_for
from tests.support.problems import write_json


def test_problems_keep_every_column():
    row = {"question": "9+9?", "answer": np.int64(18), "meta": {"range": np.array([0, 1])}}
    problem = from_rows([row], name="set").problems[0]
    assert problem.row == {"question": "9+9?", "answer": 18, "meta": {"range": [0, 1]}}
    assert type(problem.row["answer"]) is int
    assert pickle.loads(pickle.dumps(problem)).row == problem.row


@pytest.mark.parametrize(
    "golds, is_noted",
    [
        (["She has 5 apples left.", "It takes them 3 days.", "7"], True),
        (["<b>2</b>", "<p>3</p>"], True),
        (["5 apples", "\\text{no real solution}", "x < 1 \\text{ or } x > 2"], False),
        (["She has 5 apples left.", "3 days", "7"], False),
    ],
)
def test_golds_that_only_a_repetition_matches_are_noted(golds, is_noted):
    rows = [{"question": f"q{k}", "answer": gold} for k, gold in enumerate(golds)]
    assert ("golds are sentences" in from_rows(rows, name="set").summary()) == is_noted


def test_a_row_that_is_nested_too_deeply_is_one_line():
    cell = {}
    for _ in range(3000):
        cell = {"a": cell}
    with raises_for("data.train") as error:
        from_rows([{"question": "q", "answer": "1", "meta": cell}], name="set")
    assert "row 0: is nested too deeply" in str(error.value)


@pytest.mark.parametrize("rows", [[1], "question", {"question": ["1+1?"], "answer": [2]}, None])
def test_rows_that_are_no_dicts(rows):
    with raises_for("data.train") as error:
        from_rows(rows, name="set")
    assert "give a list of dicts" in str(error.value)


def test_a_row_is_no_part_of_a_problems_identity():
    one, other = Problem("s/0", "q", "1", "math", row={"a": []}), Problem("s/0", "q", "1", "math")
    assert one == other and len({one, other}) == 1


def test_rows_are_left_out_where_nobody_reads_them(tmp_path):
    path = write_json(tmp_path, "x.json", [{"question": "1+1?", "answer": "2"}])
    assert load(path).problems[0].row
    assert not load(path, reader=RowReader(keep_rows=False)).problems[0].row
    assert load("synthetic/dyad", size=1).problems[0].row.keys() == {"question", "answer"}


@pytest.mark.parametrize(
    "row, gold",
    [
        ({"prompt": "Write a haiku."}, ""),
        ({"prompt": "1+1?", "answer": "2"}, "2"),
        ({"prompt": "1+1?", "answer": None}, ""),
        ({"prompt": "1+1?", "answer": "N/A"}, ""),
        ({"prompt": "1+1?", "answers": ["1", "2"]}, ""),
        (
            {"prompt": "1+1?", "tests": ["a", "b"], "reward_model": {"ground_truth": '{"in": 1}'}},
            "",
        ),
        ({"question": "q", "options": ["x", "y"]}, ""),
        ({"question": "q", "options": ["x", "y"], "answer": "B"}, "B"),
        ({"question": "q", "options": ["1", "2"], "answer": 1}, ""),
        ({"question": "q", "candidates": ["x", "y"], "answer": "B"}, ""),
    ],
)
def test_a_reward_of_ones_own_needs_no_gold(row, gold):
    problem = from_rows([row], name="set", gold="optional").problems[0]
    assert problem.gold == gold
    assert bool(problem.options) == ("options" in row)


@pytest.mark.parametrize("row", [{"prompt": ""}, {"note": "x"}])
def test_a_question_is_needed_all_the_same(row):
    with raises_for("data.train"):
        from_rows([row], name="set", gold="optional")


def test_rows_without_a_gold_say_that_a_reward_of_ones_own_needs_none():
    for row in ({"prompt": "q"}, {"prompt": "q", "answer": ""}):
        with raises_for("data.train") as error:
            from_rows([row], name="set")
        assert "--config.verifier.name=FILE.py:function" in str(error.value)


FREE = {"question": "1+1?", "answer": "2"}
CHOICE = {"question": "Which?", "options": ["x", "y"], "answer": 1}


@pytest.mark.parametrize(
    "verifier, row, judged",
    [
        ("auto", FREE, ("2", "math")),
        ("auto", CHOICE, ("B", "choice")),
        ("math", FREE, ("2", "math")),
        ("exact", FREE, ("2", "exact")),
        ("exact", CHOICE, ("B", "exact")),
        ("choice", CHOICE, ("B", "choice")),
        # The options stand in the question.
        ("choice", {"question": "Which? (A) x (B) y", "answer": "(b)"}, ("B", "choice")),
    ],
)
def test_one_verifier_for_all(verifier, row, judged):
    problem = from_rows([row], name="set", verifier=verifier).problems[0]
    assert (problem.gold, problem.verifier) == judged


@pytest.mark.parametrize(
    "verifier, row, facts",
    [
        ("math", CHOICE, ["options", "verifier.name=auto"]),
        ("choice", FREE, ["answer", "'2'", "options=COLUMN"]),
    ],
)
def test_a_verifier_that_cannot_judge_the_rows(verifier, row, facts):
    with raises_for("data.train") as error:
        from_rows([row], name="set", verifier=verifier)
    message = str(error.value)
    assert all(fact in message for fact in facts) and "\n" not in message


def test_choice_cannot_judge_generated_problems():
    with raises_for("verifier.name"):
        load("synthetic/dyad", size=1, reader=RowReader(verifier="choice"))
    problem = load("synthetic/dyad", size=1, reader=RowReader(verifier="math")).problems[0]
    assert problem.verifier == "math"


@pytest.mark.parametrize(
    "name, gold, verifier, keep_rows",
    [
        ("auto", "required", "auto", False),
        ("math", "required", "math", False),
        ("my.py:score", "optional", "auto", True),
        ("0.9*math + 0.1*my.py:form", "required", "math", True),
        ("0.5*math + 0.5*exact", "required", "math", False),
    ],
)
def test_what_a_reward_needs_of_the_rows(name, gold, verifier, keep_rows):
    reader = row_reader(("question=q",), name)
    assert (reader.gold, reader.verifier, reader.keep_rows) == (gold, verifier, keep_rows)
    assert reader.columns.sources == {"question": "q"}


def test_a_set_of_several_kinds_says_how_many_of_each():
    rows = [FREE, FREE | {"question": "1+2?"}, CHOICE]
    assert from_rows(rows, name="set").summary() == (
        "set: 3 problems; question from `question`, gold from `answer`, verifier math (2 rows); "
        "question from `question`, options from `options`, gold from `answer`, verifier choice "
        "(1 rows)"
    )


def test_a_mapping_that_applies_to_no_set_of_a_run_is_refused(tmp_path):
    train = write_json(tmp_path, "a.json", [{"question": "1+1?", "answer": "2"}])
    test = write_json(tmp_path, "b.json", [{"problem": "1+2?", "answer": "3", "key": "4"}])

    def load_run(columns):
        data = {"train": (train,), "eval": (test, "synthetic/dyad/test"), "columns": columns}
        return load_problems(from_flat({f"data.{name}": value for name, value in data.items()}))

    with raises_for("data.columns") as error:
        load_run("answer=kay")
    assert "applies to no set" in str(error.value) and "no kay among" in str(error.value)
    problems, tests = load_run({"answer": "key"})
    assert (problems.problems[0].gold, tests[0].problems[0].gold) == ("2", "4")
