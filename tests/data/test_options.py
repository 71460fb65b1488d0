"""Options under the names and in the layouts of public sets, and what is refused."""

import pytest

from ccpo_jax.data import UnusableRow, load, parse_row
from ccpo_jax.verifiers import verify
from ccpo_jax.verifiers.types import Context
from tests.support.errors import raises_for
from tests.support.problems import ids, write_json

NAN = float("nan")
PLANETS = ("Venus", "Mars")
SHOWN = "Which planet is red?\nA. Venus\nB. Mars"
QUESTION = {"question": "Which planet is red?"}

# Layout -> a row in that layout; each asks the same question.
LAYOUTS = {
    "options and a letter": QUESTION | {"options": ["Venus", "Mars"], "answer": "B"},
    "choices and an index": QUESTION | {"choices": ["Venus", "Mars"], "answer": 1},
    "MMLU": QUESTION | {"subject": "astronomy", "choices": ["Venus", "Mars"], "answer": 1},
    "an index that pandas made a float": QUESTION | {"choices": ["Venus", "Mars"], "answer": 1.0},
    "ARC": QUESTION
    | {"choices": {"text": ["Venus", "Mars"], "label": ["A", "B"]}, "answerKey": "B"},
    "ARC with numbers": QUESTION
    | {"choices": {"text": ["Venus", "Mars"], "label": ["1", "2"]}, "answerKey": "2"},
    "ARC with whole numbers": QUESTION
    | {"choices": {"text": ["Venus", "Mars"], "label": [1, 2]}, "answerKey": 2},
    "OpenBookQA": {
        "question_stem": "Which planet is red?",
        "fact1": "Iron rusts.",
        "choices": {"text": ["Venus", "Mars"], "label": ["A", "B"]},
        "answerKey": "B",
    },
    "columns of letters": QUESTION | {"A": "Venus", "B": "Mars", "answer": "B"},
    "columns of letters, some empty": QUESTION
    | {"A": "Venus", "B": "Mars", "C": None, "D": NAN, "answer": "B"},
    "HellaSwag": {
        "ind": 4,
        "activity_label": "Astronomy",
        "ctx_a": "Which planet",
        "ctx_b": "is red?",
        "ctx": "Which planet is red?",
        "endings": ["Venus", "Mars"],
        "source_id": "x",
        "label": "1",
    },
    "AQuA": QUESTION | {"options": ["A)Venus", "B)Mars"], "rationale": "Rust.", "correct": "B"},
    "small letters": QUESTION | {"options": ["a) Venus", "b) Mars"], "answer": "b"},
    "MedQA": QUESTION
    | {"options": {"A": "Venus", "B": "Mars"}, "answer": "Mars", "answer_idx": "B"},
    "a struct of small letters": QUESTION | {"options": {"a": "Venus", "b": "Mars"}, "answer": "b"},
    "MedQA by letter": QUESTION
    | {"answer": None, "options": {"A": "Venus", "B": "Mars"}, "answer_idx": "B"},
    "MMLU-Pro": QUESTION | {"options": ["Venus", "Mars"], "answer": "B", "answer_index": 1},
    "an index beside an empty answer": QUESTION
    | {"options": ["Venus", "Mars"], "answer": "", "answer_index": 1},
    "the text of an option": QUESTION | {"options": ["Venus", "Mars"], "answer": "mars"},
    "SuperGPQA": QUESTION | {"options": ["Venus", "Mars"], "answer": "Mars", "answer_letter": "B"},
    "options null, choices full": QUESTION
    | {"options": None, "choices": ["Venus", "Mars"], "answer": 1},
    "options empty, choices full": QUESTION
    | {"options": [], "choices": ["Venus", "Mars"], "answer": 1},
    "an empty struct beside letters": QUESTION
    | {"choices": {"text": None, "label": None}, "A": "Venus", "B": "Mars", "answer": "B"},
    "empty options at the end": QUESTION | {"options": ["Venus", "Mars", "", " "], "answer": "B"},
    "nulls at the end": QUESTION | {"options": ["Venus", "Mars", None, None], "answer": "B"},
    "nulls and blanks at the end": QUESTION
    | {"choices": ["Venus", "Mars", None, "", NAN], "answer": 1},
    "letters before nulls": QUESTION
    | {"options": ["A. Venus", "B. Mars", None, None], "answer": "Mars"},
    "letters before blanks": QUESTION | {"options": ["A) Venus", "B) Mars", ""], "answer": "B"},
    "capitals": {"Question": SHOWN[:20], "options": ["Venus", "Mars"], "Answer": "B"},
    "CMMLU": {"Question": SHOWN[:20], "A": "Venus", "B": "Mars", "Answer": "B"},
    "a key in capitals": QUESTION | {"choices": ["Venus", "Mars"], "ANSWERKEY": "B"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_options(layout):
    problem = parse_row(LAYOUTS[layout])
    assert (problem.question, problem.gold, problem.verifier) == (SHOWN, "B", "choice")
    assert problem.options == PLANETS


def test_numbers_are_options():
    problem = parse_row({"question": "1+1?", "choices": [1, 2, 3.5], "answer": "C"})
    assert problem.options == ("1", "2", "3.5") and problem.gold == "C"


def test_letters_go_as_far_as_the_options():
    texts = [f"thing {i}" for i in range(26)]
    problem = parse_row({"question": "q", "options": texts, "answer": 25})
    assert problem.gold == "Z" and problem.question.endswith("\nZ. thing 25")
    with raises_for("options"):
        parse_row({"question": "q", "options": [*texts, "more"], "answer": 0})


def test_an_empty_option_between_others_keeps_the_letters():
    problem = parse_row({"question": "q", "A": "x", "B": "", "C": "z", "answer": "C"})
    assert problem.question == "q\nA. x\nB. \nC. z" and problem.gold == "C"


def test_letters_of_their_own_in_another_order_are_what_a_gold_names():
    row = {"question": "q", "options": ["B) 21", "A) 22", "C) 23"], "answer": "A"}
    problem = parse_row(row)
    assert problem.options == ("21", "22", "23") and problem.gold == "B"
    assert parse_row(row | {"answer": 0}).gold == "A"
    # A set of species, not of letters.
    assert parse_row(row | {"options": ["B. subtilis", "A. niger"]}).gold == "A"


def test_a_struct_of_labels_in_another_order():
    choices = {"text": ["Mars", "Venus"], "label": ["B", "A"]}
    problem = parse_row(QUESTION | {"choices": choices, "answerKey": "B"})
    assert problem.question.endswith("\nA. Mars\nB. Venus") and problem.gold == "A"


@pytest.mark.parametrize(
    "cells, column",
    [
        ({"options": "A. Venus B. Mars"}, "options"),
        ({"choices": "['Venus' 'Mars']"}, "choices"),
        ({"choices": [{"text": "Venus"}, {"text": "Mars"}]}, "choices"),
        ({"choices": ["Venus", None]}, "choices"),
        ({"choices": ["Venus", None, None, None]}, "choices"),
        ({"choices": ["Venus", None, "Mars"]}, "choices"),
        ({"choices": [None, None]}, "choices"),
        ({"choices": ["Venus", True]}, "choices"),
        ({"choices": {"text": ["Venus", "Mars"], "label": ["A"]}}, "choices"),
        ({"choices": {"text": ["Venus", "Mars"], "label": ["A", "A"]}}, "choices"),
        ({"choices": {"text": None, "label": ["A", "B"]}}, "choices"),
        ({"choices": {"text": "VM", "label": "AB"}}, "choices"),
        ({"choices": {"text": ["Venus", "Mars"], "label": None}}, "choices"),
        ({"choices": {"choices": ["Venus", "Mars"], "labels": [0, 1]}}, "choices"),
        ({"options": {"first": "Venus", "second": "Mars"}}, "options"),
        ({"endings": ["Mars"]}, "endings"),
    ],
)
def test_options_of_another_kind_are_refused(cells, column):
    with raises_for(column) as error:
        parse_row(QUESTION | cells | {"answer": "B"})
    assert "\n" not in str(error.value)


def test_one_option_that_is_not_empty_is_no_choice():
    with pytest.raises(UnusableRow):
        parse_row(QUESTION | {"options": ["Mars", "", ""], "answer": "A"})


def test_no_options_and_a_letter_are_no_mathematics():
    with pytest.raises(UnusableRow):
        parse_row(QUESTION | {"options": [], "answer": "B"})
    assert parse_row({"question": "q", "options": [], "answer": "7"}).verifier == "math"


def test_columns_of_letters_may_be_empty_in_a_row():
    row = {"question": "1+1?", "A": None, "B": NAN, "C": "", "answer": "2"}
    assert parse_row(row).verifier == "math"
    with pytest.raises(UnusableRow, match=r"^fewer than two options$"):
        parse_row(row | {"A": "Venus", "answer": "A"})


@pytest.mark.parametrize("count", [2, 7, 10, 26])
def test_every_letter_of_the_options_is_paid(count):
    row = {"question": "q", "options": [f"thing {i}" for i in range(count)], "answer": count - 1}
    problem = parse_row(row)
    context = Context(question=problem.question, options=problem.options)
    texts = [f"The answer is {problem.gold}.", "The answer is A."]
    graded = verify(problem.verifier, problem.gold, texts, context=context)
    assert graded.correct == [True, False] and graded.gold_failure is None


def test_a_merged_set_has_both_kinds(tmp_path):
    rows = [
        {"question": "1+1?", "choices": None, "answer": "2"},
        QUESTION | {"choices": ["Venus", "Mars"], "answer": "B"},
    ]
    problems = load(write_json(tmp_path, "x.json", rows)).problems
    assert [problem.verifier for problem in problems] == ["math", "choice"]
    assert ids(problems) == ["x/0", "x/1"]


def test_rows_padded_with_nulls_do_not_stop_a_file(tmp_path):
    animals = ["cat", "dog", None, None]
    rows = [
        {"question": "Which barks?", "options": animals, "answer": "B"},
        {"question": "Which purrs?", "options": animals, "answer": "C"},
        {"question": "Which swims?", "options": ["cat", "dog", "eel", "cow"], "answer": "C"},
    ]
    dataset = load(write_json(tmp_path, "x.json", rows))
    assert [problem.options for problem in dataset.problems] == [
        ("cat", "dog"),
        ("cat", "dog", "eel", "cow"),
    ]
    assert dataset.dropped == {"gold is an empty option": 1}


def test_a_padded_set_that_counts_from_1_is_refused(tmp_path):
    rows = [
        {"question": f"Which of {number}?", "options": ["x", "y", None], "answer": number}
        for number in (1, 2)
    ]
    with raises_for("data.train") as error:
        load(write_json(tmp_path, "x.json", rows))
    assert "from 1" in str(error.value)
