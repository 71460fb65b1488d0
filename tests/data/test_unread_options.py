"""Options under a name that is not known: no such row is read as mathematics in silence."""

import pytest

from ccpo_jax.data import load, parse_row
from tests.support.errors import raises_for
from tests.support.problems import write_json

QUESTION = {"question": "Which planet is red?"}


@pytest.mark.parametrize(
    "cells, column",
    [
        ({"candidates": ["Venus", "Mars"]}, "candidates"),
        ({"answer_choices": ["Venus", "Mars"]}, "answer_choices"),
        ({"answerOptions": ["Venus", "Mars"]}, "answerOptions"),
        ({"Choices": ["Venus", "Mars"]}, "Choices"),
        ({"OPTIONS": ["Venus", "Mars"]}, "OPTIONS"),
        ({"alternatives": ["Venus", "Mars"]}, "alternatives"),
        ({"distractors": ["Venus", "Pluto"]}, "distractors"),
        ({"incorrect_answers": ["Venus", "Pluto"]}, "incorrect_answers"),
        ({"mc1_targets": {"choices": ["Venus", "Mars"], "labels": [0, 1]}}, "mc1_targets.choices"),
        ({"answer_choices": {"text": ["Venus", "Mars"], "label": [1, 2]}}, "answer_choices.text"),
        ({"extra_info": {"index": 3, "options": ["Venus", "Mars"]}}, "extra_info.options"),
        ({"info": {"row": {"options": ["Venus", "Mars"]}}}, "info.row.options"),
        ({"candidate_answers": [{"text": "Venus"}, {"text": "Mars"}]}, "candidate_answers"),
        ({"option1": "Venus", "option2": "Mars"}, "option1"),
        ({"option_a": "Venus", "option_b": "Mars"}, "option_a"),
        ({"optionA": "Venus", "optionB": "Mars"}, "optionA"),
        ({"opa": "Venus", "opb": "Mars", "opc": "Pluto"}, "opa"),
        ({"choice1": "Venus", "choice2": "Mars"}, "choice1"),
        ({"ending0": "Venus", "ending1": "Mars"}, "ending0"),
        ({"answer_options": "A. Venus\nB. Mars"}, "answer_options"),
        ({"mc_options": "['Venus', 'Mars']"}, "mc_options"),
        ({"Options": "a ) Venus , b ) Mars"}, "Options"),
    ],
)
@pytest.mark.parametrize("gold", ["B", "Mars", 1, "a planet"])
def test_columns_that_are_options_by_name(cells, column, gold):
    with raises_for(column) as error:
        parse_row(QUESTION | cells | {"answer": gold})
    assert "options" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "cells, column",
    [
        ({"planets": ["Venus", "Mars"], "answer": "B"}, "planets"),
        ({"planets": ["Venus", "Mars"], "answer": "(b)"}, "planets"),
        ({"planets": ["Venus", "Mars"], "answer": 1}, "planets"),
        ({"planets": ["Venus", "Mars"], "answer": "2"}, "planets"),
        ({"planets": ["Venus", "Mars"], "answer": 1.0}, "planets"),
        ({"planets": ["Venus", "Mars"], "answer": "mars"}, "planets"),
        ({"sol1": "Venus", "sol2": "Mars", "answer": 1}, "sol1"),
        ({"answerA": "Venus", "answerB": "Mars", "answer": "B"}, "answerA"),
        ({"meta": {"items": ["Venus", "Mars"]}, "answer": "A"}, "meta.items"),
        ({"a": "Venus", "b": "Mars", "answer": "b"}, "a"),
    ],
)
def test_columns_of_which_the_gold_is_one(cells, column):
    with raises_for(column):
        parse_row(QUESTION | cells)


@pytest.mark.parametrize(
    "cells",
    [
        {"tags": ["easy", "sums"], "answer": "2"},
        {"topics": ["algebra", "roots"], "answer": 1},
        {"domain": ["Algebra -> Roots", "Number Theory"], "answer": "B"},
        {"planets": ["Venus", "Mars"], "answer": "17"},
        {"planets": ["Mars"], "answer": "1"},
        {"generations": ["so \\boxed{2}", "hence 3"], "answer": "2"},
        {
            "prompt": [{"role": "user", "content": "q"}, {"role": "user", "content": "q"}],
            "answer": 1,
        },
        {"reward_model": {"ground_truth": "1", "style": "rule"}, "answer": "1"},
        {"r1_solution_1": "so 5", "r1_solution_2": "so 6", "answer": "5x"},
        {"level": 3, "choice": "x", "num_options": 4, "answer": "3"},
        {"options": None, "choices": None, "answer": "3"},
        {"difficulty": 1, "is_multiple_choice": False, "answer": "3"},
        {"source": "opt", "answer": "3"},
        {"a": 2, "b": 3, "answer": "5"},
    ],
)
def test_columns_that_are_no_options(cells):
    assert parse_row({"question": "1+1?"} | cells).verifier == "math"


def test_the_whole_set_tells_whether_a_gold_is_an_index(tmp_path):
    rows = [
        {"question": f"q{i}", "marks": ["x", "y", "z"], "answer": gold}
        for i, gold in enumerate(["1", "2", "17"])
    ]
    assert len(load(write_json(tmp_path, "x.json", rows)).problems) == 3
    with raises_for("data.train") as error:
        load(write_json(tmp_path, "y.json", rows[:2]))
    assert "marks" in str(error.value)


def test_a_set_of_which_some_rows_have_options_under_another_name(tmp_path):
    rows = [
        {"question": "1+1?", "answer": "2", "candidates": None},
        {"question": "Which?", "answer": "B", "candidates": ["x", "y"]},
    ]
    with raises_for("data.train") as error:
        load(write_json(tmp_path, "x.json", rows))
    assert "row 1" in str(error.value) and "candidates" in str(error.value)
