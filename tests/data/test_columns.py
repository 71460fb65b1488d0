"""Rows: the columns of known kinds, what makes a row unusable, values of the wrong type."""

import pytest

from ccpo_jax.data import Problem, UnusableRow, parse_row
from tests.support.errors import raises_for


@pytest.mark.parametrize(
    "row,expected",
    [
        ({"question": " 1+1? ", "answer": "2"}, ("1+1?", "2", "math", "")),
        ({"problem": "p", "answer": 27.0}, ("p", "27.0", "math", "")),
        ({"problem": "p", "solution": "by \\boxed{1}", "answer": 70}, ("p", "70", "math", "")),
        ({"question": "q", "answer": "$\\{x|x<1\\}$"}, ("q", "\\{x|x<1\\}", "math", "")),
        ({"question": "q", "answer": "$$ x^2 $$"}, ("q", "x^2", "math", "")),
        ({"question": "q", "answer": "$5$ or $9$"}, ("q", "$5$ or $9$", "math", "")),
        ({"question": "q", "answer": "\\$3.60"}, ("q", "\\$3.60", "math", "")),
        ({"question": "q", "answer": "$3\\$"}, ("q", "$3\\$", "math", "")),
        ({"question": "q", "answer": "$"}, ("q", "$", "math", "")),
        ({"question": "q", "answer": "so 3 x 24 = 72\n#### 72"}, ("q", "72", "math", "")),
        (
            {"problem": "p", "solution": "\\boxed{1}, then \\boxed{\\frac{1}{2}} ok"},
            ("p", "\\frac{1}{2}", "math", ""),
        ),
        (
            {"problem": "p", "solution": "\\boxed{\\left\\{ x \\right.} {"},
            ("p", "\\left\\{ x \\right.", "math", ""),
        ),
        (
            {"text": "t", "question": "q", "options": ["x", "y"], "answer": 1},
            ("t\nq\nA. x\nB. y", "B", "choice", "t", (), ("x", "y")),
        ),
        (
            {"context": "c", "query": "q", "options": ["A) x", "(B) y"], "answer": "A"},
            ("c\nq\nA. x\nB. y", "A", "choice", "c", (), ("x", "y")),
        ),
        (
            {"question": "q", "options": ["A. x", "y"], "answer": "b"},
            ("q\nA. A. x\nB. y", "B", "choice", "", (), ("A. x", "y")),
        ),
        (
            {"question": "q", "options": ["A is", "B is"], "answer": "(B)"},
            ("q\nA. A is\nB. B is", "B", "choice", "", (), ("A is", "B is")),
        ),
        ({"question": "q", "answer": 1, "views": ["q ", "?"]}, ("q", "1", "math", "", ("q", "?"))),
        (
            {"question": "q", "options": ["I. only", "C. elegans"], "answer": "B) C"},
            ("q\nA. I. only\nB. C. elegans", "B", "choice", "", (), ("I. only", "C. elegans")),
        ),
    ],
)
def test_rows(row, expected):
    assert parse_row(row, problem_id="set/3") == Problem("set/3", *expected)


@pytest.mark.parametrize(
    "row,reason",
    [
        ({"question": None, "answer": "2"}, "empty question"),
        ({"context": "c", "question": " ", "answer": "2"}, "empty question"),
        ({"question": "q", "answer": None}, "empty gold"),
        ({"question": "q", "answer": " "}, "empty gold"),
        ({"question": "q", "answer": float("nan")}, "empty gold"),
        ({"question": "q", "answer": "worked out ####"}, "empty gold"),
        ({"problem": "p", "solution": "no box"}, "empty gold"),
        ({"problem": "p", "solution": "open \\boxed{1"}, "empty gold"),
        ({"question": "q", "options": ["x", "y"], "answer": ""}, "empty gold"),
        ({"question": "q", "options": ["x", "y"], "answer": "C"}, "gold is none of the options"),
        ({"question": "q", "options": ["x", "y"], "answer": "Both"}, "gold is none of the options"),
        (
            {"question": "q", "options": ["x", "y"], "answer": "A man"},
            "gold is none of the options",
        ),
        ({"question": "q", "options": ["x", "y"], "answer": "1"}, "gold is none of the options"),
        ({"question": "q", "options": ["x", "y"], "answer": 2}, "gold is none of the options"),
        ({"question": "q", "options": ["x", "y"], "answer": -1}, "gold is none of the options"),
        ({"question": "q", "options": ["x", "y"], "answer": -26}, "gold is none of the options"),
    ],
)
def test_rows_without_what_a_problem_needs(row, reason):
    with pytest.raises(UnusableRow, match=f"^{reason}$"):
        parse_row(row)


@pytest.mark.parametrize(
    "row, column, received",
    [
        ({"question": 5, "answer": "1"}, "question", "5"),
        ({"question": "q", "context": ["c"], "answer": "1"}, "context", "['c']"),
        ({"question": "q", "answer": ["1", "2"]}, "answer", "['1', '2']"),
        ({"question": "q", "answer": {"text": "1"}}, "answer", "{'text': '1'}"),
        ({"question": "q", "options": "A B", "answer": 0}, "options", "'A B'"),
        ({"question": "q", "options": ["x", None], "answer": 0}, "options", "['x', None]"),
        ({"question": "q", "options": ["x"], "answer": 0}, "options", "1"),
        ({"question": "q", "options": ["x", "y"], "correct_option": 0.5}, "correct_option", "0.5"),
        ({"question": "q", "answer": 1, "views": "all"}, "views", "'all'"),
        ({"question": "q", "options": ["x", "y"], "answer": True}, "answer", "True"),
    ],
)
def test_rows_of_the_wrong_kind(row, column, received):
    with raises_for(column) as error:
        parse_row(row)
    assert str(error.value).endswith(received)


def test_a_missing_column_is_named_with_its_other_names():
    with raises_for("question") as error:
        parse_row({"text": "t", "label": 1})
    assert "question or problem or query" in str(error.value)
    assert "among text, label;" in str(error.value)
    with raises_for("answer") as error:
        parse_row({"question": "q"})
    assert "among question;" in str(error.value)
    with raises_for("question") as error:
        parse_row({})
    assert str(error.value).endswith("none")
