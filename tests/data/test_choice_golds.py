"""Golds of options: how they are written, what they may stand for, and where the set decides."""

import pytest

from ccpo_jax.data import UnusableRow, load, parse_row
from tests.support.errors import raises_for
from tests.support.problems import write_json

FOUR = ["north", "east", "south", "west"]
NUMBERS = ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    "gold, letter",
    [
        ("C", "C"),
        ("c", "C"),
        (" (c) ", "C"),
        ("[C]", "C"),
        ("C.", "C"),
        ("C: south", "C"),
        ("(C) south", "C"),
        (2, "C"),
        (2.0, "C"),
        (0, "A"),
        (3, "D"),
        ("south", "C"),
        ("South ", "C"),
        ("$south$", "C"),
        ("Option C", "C"),
        ("option (c)", "C"),
        ("Answer: C", "C"),
        ("The correct answer is C.", "C"),
        ("\\text{C}", "C"),
        ("$\\textbf{(C)}$", "C"),
        ("**C**", "C"),
        ("\\boxed{C}", "C"),
        ("The sun is there at noon. $\\boxed{\\text{(C)}}$", "C"),
        ("The sun is there at noon.\n#### C", "C"),
    ],
)
def test_ways_to_write_a_gold(gold, letter):
    assert parse_row({"question": "q", "options": FOUR, "answer": gold}).gold == letter


def test_options_that_are_formulas():
    row = {"question": "2+3?", "options": ["$5$", "$\\frac{6}{1}$"]}
    assert parse_row(row | {"answer": "$5$"}).gold == parse_row(row | {"answer": "5"}).gold == "A"
    assert parse_row(row | {"answer": "$\\frac{6}{1}$"}).gold == "B"


@pytest.mark.parametrize(
    "cells",
    [
        {"answer": None, "solution": "so \\boxed{C}"},
        {"answer": "", "solution": "so $\\boxed{\\textbf{(C)}\\ }$."},
        {"answer": "see solution", "solution": "so \\boxed{C}"},
        {"answer": "N/A", "answer_idx": "C"},
        {"answer": "unknown", "label": 2},
        {"solution": "#### C"},
    ],
)
def test_a_gold_from_another_column(cells):
    assert parse_row({"question": "q", "options": FOUR, **cells}).gold == "C"


@pytest.mark.parametrize("column", ["answerKey", "answer_letter", "correct", "correct_answer"])
def test_columns_of_golds(column):
    assert parse_row({"question": "q", "options": FOUR, column: "D"}).gold == "D"


@pytest.mark.parametrize("column", ["label", "answer_index", "answer_idx"])
@pytest.mark.parametrize("gold", [3, "3", 3.0])
def test_columns_of_indices_count_from_0(column, gold):
    assert parse_row({"question": "q", "options": FOUR, column: gold}).gold == "D"
    # An index is never the text of an option.
    assert parse_row({"question": "q", "options": NUMBERS, column: gold}).gold == "D"


@pytest.mark.parametrize(
    "options, gold, reason",
    [
        (FOUR, "E", "gold is none of the options"),
        (FOUR, "AB", "gold is none of the options"),
        (FOUR, "A or B", "gold is none of the options"),
        (FOUR, "A, B", "gold is none of the options"),
        (FOUR, "not C", "gold is none of the options"),
        (FOUR, "A man", "gold is none of the options"),
        (FOUR, "Option", "gold is none of the options"),
        (FOUR, "so \\boxed{A} or \\boxed{B}", "gold is none of the options"),
        (FOUR, "up", "gold is none of the options"),
        (FOUR, 4, "gold is none of the options"),
        (FOUR, -1, "gold is none of the options"),
        (FOUR, "2", "gold is none of the options"),
        (["x", "y", "x"], "x", "gold is none of the options"),
        (["#14", "#15", "", ""], "D", "gold is an empty option"),
        (["#14", "#15", "", ""], "C", "gold is an empty option"),
        (["#14", "#15", " "], 2, "gold is an empty option"),
        (["#14", "", "#15"], "B", "gold is an empty option"),
        ({"A": "x", "B": "y", "C": None}, "C", "gold is an empty option"),
        ({"text": ["x", "", "y"], "label": ["1", "2", "3"]}, "2", "gold is an empty option"),
        (FOUR, "", "empty gold"),
        (FOUR, None, "empty gold"),
        (FOUR, float("nan"), "empty gold"),
        (FOUR, "N/A", "gold is a placeholder"),
        (FOUR, "unknown", "gold is a placeholder"),
        (FOUR, "-", "gold is a placeholder"),
    ],
)
def test_golds_that_are_no_option(options, gold, reason):
    with pytest.raises(UnusableRow, match=f"^{reason}$"):
        parse_row({"question": "q", "options": options, "answer": gold})


@pytest.mark.parametrize("text", ["None", "N/A", "unknown", "Proof"])
def test_a_word_for_nothing_may_be_an_option(text):
    assert parse_row({"question": "q", "options": ["x", text], "answer": text}).gold == "B"


@pytest.mark.parametrize("gold", [True, 1.5, ["A"], {"text": "A"}])
def test_golds_of_another_type_are_refused(gold):
    with raises_for("answer"):
        parse_row({"question": "q", "options": FOUR, "answer": gold})


def test_equal_options_may_stand_beside_the_gold():
    problem = parse_row({"question": "q", "options": ["x", "y", "y"], "answer": "A"})
    assert problem.gold == "A"


# --- golds that can be read in two ways -----------------------------------------------------------


@pytest.mark.parametrize(
    "options, gold",
    [
        (NUMBERS, 1),
        (NUMBERS, 2),
        (["4", "3", "2", "1"], 1),
        ([5, 2, 0], 2),
        (["B", "A"], "A"),
        (["b", "c", "a"], "a"),
    ],
)
def test_one_row_alone_does_not_tell_names_from_texts(options, gold):
    with raises_for("answer"):
        parse_row({"question": "q", "options": options, "answer": gold})


@pytest.mark.parametrize(
    "options, gold, letter",
    [
        (["0", "1", "2"], 1, "B"),
        (["A", "B", "C"], "B", "B"),
        (["7", "8", "9"], 1, "B"),
        (["7", "8", "9"], 9, "C"),
        (["B", "C"], "A", "A"),
        (["north", "A"], "B", "B"),
    ],
)
def test_where_both_ways_agree_or_one_is_impossible(options, gold, letter):
    assert parse_row({"question": "q", "options": options, "answer": gold}).gold == letter


def golds(tmp_path, *rows, column="answer", name="options"):
    written = [
        {"question": f"question {i}", name: options, column: gold}
        for i, (options, gold) in enumerate(rows)
    ]
    return [problem.gold for problem in load(write_json(tmp_path, "x.json", written)).problems]


def test_other_rows_tell_an_index_from_a_text(tmp_path):
    assert golds(tmp_path, (NUMBERS, 1), (FOUR, 3)) == ["B", "D"]
    assert golds(tmp_path, (NUMBERS, 1), (["10", "20"], 20)) == ["A", "B"]
    assert golds(tmp_path, (["B", "A"], "A"), (FOUR, "C")) == ["A", "C"]
    assert golds(tmp_path, (["B", "A"], "A"), (FOUR, "south")) == ["B", "C"]


def test_rows_that_contradict_one_another_are_refused(tmp_path):
    with raises_for("data.train") as error:
        golds(tmp_path, (NUMBERS, 1), (FOUR, 3), (["10", "20"], 20))
    assert "answer" in str(error.value) and "letters" in str(error.value)


@pytest.mark.parametrize("column", ["answer", "label", "answer_index"])
def test_a_set_that_counts_from_1_is_refused(column, tmp_path):
    with raises_for("data.train") as error:
        golds(tmp_path, (FOUR, 1), (FOUR, 4), (FOUR, 2), column=column)
    assert column in str(error.value) and "from 1" in str(error.value)


def test_a_set_that_counts_from_0_drops_what_is_out_of_range(tmp_path):
    assert golds(tmp_path, (FOUR, 0), (FOUR, 4), (FOUR, 2)) == ["A", "C"]
    assert golds(tmp_path, (FOUR, 1), (FOUR, 2), (FOUR, 3)) == ["B", "C", "D"]


def test_digits_as_text_are_refused(tmp_path):
    with raises_for("data.train") as error:
        golds(tmp_path, (FOUR, "1"), (FOUR, "2"), (FOUR, "B"))
    assert "from 1" in str(error.value)
    # A single one among letters is a slip.
    assert golds(tmp_path, (FOUR, "1"), (FOUR, "A"), (FOUR, "B")) == ["A", "B"]
    # Labels say what digits mean.
    labelled = {"text": FOUR, "label": ["1", "2", "3", "4"]}
    assert golds(tmp_path, (labelled, "1"), (labelled, "4")) == ["A", "D"]


def test_numbers_beside_numeric_labels_are_labels():
    choices = {"text": FOUR, "label": ["1", "2", "3", "4"]}
    assert parse_row({"question": "q", "choices": choices, "answer": 1}).gold == "A"
    with raises_for("answer"):
        parse_row({"question": "q", "choices": choices, "answer": 0})
    with pytest.raises(UnusableRow):
        parse_row({"question": "q", "choices": choices, "answer": 5})
