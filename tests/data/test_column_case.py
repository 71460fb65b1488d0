"""Columns whose names differ from the known ones in case alone."""

import pytest

from ccpo_jax.data import UnusableRow, load, parse_row
from tests.support.errors import raises_for
from tests.support.problems import write_json


@pytest.mark.parametrize(
    "row",
    [
        {"Question": "1+1?", "Answer": "2"},
        {"QUESTION": "1+1?", "ANSWER": 2},
        {"Problem": "1+1?", "Solution": "so \\boxed{2}"},
        {"question": "1+1?", "Answer": "2"},
        {"Query": "1+1?", "GroundTruth": "2"},
        {"question": None, "Question": "1+1?", "answer": " ", "Answer": "2"},
        {"question": "1+1?", "Question": "5+5?", "answer": "2", "Answer": "10", "ANSWER": "7"},
        {"question": "1+1?", "Problem": "5+5?", "answer": "2", "Solution": "\\boxed{10}"},
        {"Question": "1+1?", "QUESTION": "", "Answer": "2", "ANSWER": None},
    ],
)
def test_names_are_read_in_any_case(row):
    problem = parse_row(row)
    assert (problem.question, problem.gold) == ("1+1?", "2")


def test_a_passage_in_capitals():
    problem = parse_row({"Context": "Tom has 2.", "Question": "Twice?", "Answer": "4"})
    assert problem.question == "Tom has 2.\nTwice?" and problem.context == "Tom has 2."


@pytest.mark.parametrize(
    "row, column",
    [
        ({"Question": "1+1?", "QUESTION": "5+5?", "answer": "2"}, "Question"),
        ({"question": "1+1?", "ANSWER": "2", "Answer": "10"}, "ANSWER"),
    ],
)
def test_two_columns_that_differ_in_case_alone_are_refused(row, column):
    with raises_for(column) as error:
        parse_row(row)
    assert "case" in str(error.value) and f"={column}" in str(error.value)


def test_an_empty_column_in_capitals_is_an_empty_column():
    with pytest.raises(UnusableRow, match=r"^empty question$"):
        parse_row({"Question": "", "Answer": "2"})
    with pytest.raises(UnusableRow, match=r"^empty gold$"):
        parse_row({"Question": "q", "Answer": None})


@pytest.mark.parametrize("name", ["Body", "body", "BODY", "story", "Background", "input"])
def test_a_story_beside_its_question_is_not_left_out(name):
    row = {name: "Tom has 2 hens and buys 3.", "Question": "How many has he?", "Answer": 5.0}
    with raises_for(name) as error:
        parse_row(row)
    assert f"--config.data.columns=context={name}" in str(error.value)
    assert parse_row(row, columns=f"context={name}").context == row[name]
    assert parse_row(row, columns="context=").context == ""
    assert parse_row(row | {name: ""}).question == "How many has he?"
    assert parse_row(row | {name: row["Question"]}).question == "How many has he?"
    asked = f"{row[name]} How many has he?"
    assert parse_row(row | {"Question": asked}).question == asked
    assert parse_row(row | {"context": "Tom has 2 hens and buys 3."}).context


@pytest.mark.parametrize("name", ["Views", "A1", "Body"])
def test_other_columns_are_left_alone(name):
    assert parse_row({"question": "q", "answer": "1", name: 1200}).views == ()


def test_a_file_of_columns_in_capitals(tmp_path):
    rows = [{"Question": f"{i}+1?", "Answer": i + 1} for i in range(3)]
    assert len(load(write_json(tmp_path, "x.json", rows)).problems) == 3
    (tmp_path / "y.json").write_text('{"Question": "1+1?", "Answer": 2, "notes": [{}]}')
    assert len(load(str(tmp_path / "y.json")).problems) == 1
