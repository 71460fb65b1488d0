"""Golds without options: boxes, placeholders, merged columns."""

import pytest

from ccpo_jax.data import UnusableRow, load, parse_row
from tests.support.problems import write_json

NAN = float("nan")


def gold(**cells):
    return parse_row({"question": "q", **cells}).gold


@pytest.mark.parametrize(
    "solution, expected",
    [
        ("so \\boxed{3} and \\boxed{-3}", "3, -3"),
        ("$\\boxed{3}$ or $\\boxed{-3}$", "3, -3"),
        ("$x=\\boxed{3}$ or $x=\\boxed{-3}$", "3, -3"),
        ("either $\\boxed{1}$, $\\boxed{2}$, or $\\boxed{3}$", "1, 2, 3"),
        ("$x=\\boxed{2}$, $y=\\boxed{1}$", "x=2, y=1"),
        ("First $a=\\boxed{1}$. Then $b = \\boxed{2}$.", "2"),
        ("$\\boxed{5}$, as $\\boxed{5}$", "5"),
        ("$\\boxed 7$", "7"),
        ("our answer is $\\boxed 7$.", "7"),
        ("\\boxed 7", "7"),
        ("$\\boxed\\frac12$", "\\frac12"),
        ("$\\boxed-3$", "-3"),
        ("$\\boxed{\\boxed{3}}$", "3"),
        ("\\boxed{$7$}", "7"),
        ("$\\boxed{1\\frac{1}{2}},$ or $\\boxed{\\frac{3}{2}}$ inches", "\\frac{3}{2}"),
        ("$\\boxed{\\dfrac{1}{2}}$ or $\\boxed{0.5}$", "0.5"),
        ("$\\boxed{-1/2}$ or $\\boxed{-\\frac{2}{4}}$", "-\\frac{2}{4}"),
        ("$\\boxed{\\frac{1}{2}}$ or $\\boxed{0.25}$", "\\frac{1}{2}, 0.25"),
        ("the roots are \\boxed{3, 3}", "3, 3"),
        ("\\boxed{None}", "None"),
        ("\\boxed{1}\n\nCheck: 1 + 1 = 2.", "1"),
        ("first \\boxed{1}. In the second case we get \\boxed{2}.", "2"),
        ("it is \\fbox{5}", "5"),
        ("\\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("Step 1: 2 + 2 = 4.\n#### 4", "4"),
        ("#### Step 1\nwe add\n#### Step 2\nso \\boxed{9}", "9"),
    ],
)
def test_the_box_of_a_solution(solution, expected):
    assert gold(solution=solution) == expected
    assert gold(answer="", solution=solution) == expected
    assert gold(answer=None, solution=solution) == expected
    assert gold(answer=NAN, solution=solution) == expected


def test_a_solution_under_the_name_of_an_answer():
    assert gold(answer="We add and get $\\boxed{5}$.") == "5"
    assert gold(answer="\\boxed{x+1}") == "x+1"
    assert gold(groundtruth="so \\boxed{8}", answer=" ") == "8"
    assert gold(answer="6 + 2 = 8\n#### \\boxed{8}") == "8"


@pytest.mark.parametrize(
    "solution", ["no box", "open \\boxed{1", "#### A heading\nno box", "\\boxed{}", "#### "]
)
def test_a_solution_without_an_end(solution):
    with pytest.raises(UnusableRow, match=r"^empty gold$"):
        gold(solution=solution)


PLACEHOLDERS = """proof Proof proof. (proof) \\text{proof} None none null NaN n/a N/A #N/A <NA> unknown
Unknown. - -- — ? ??? ... $-$ notfound TBD 略 见解析""".split()


@pytest.mark.parametrize(
    "text",
    [
        *PLACEHOLDERS,
        "no answer",
        "No answer provided.",
        "see solution",
        "See the solution",
        "Not found",
        "not available",
        "Answers may vary",
        "Answers will vary.",
        "(Answers may vary.)",
        "answer varies",
        "Many answers are possible.",
        "答案不唯一",
        "work #### N/A",
    ],
)
def test_placeholders_are_no_golds(text):
    with pytest.raises(UnusableRow, match=r"^gold is a placeholder$"):
        gold(answer=text)


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "No solution",
        "no real roots",
        "none of these",
        "\\text{None}",
        "does not exist",
        "undefined",
        "\\emptyset",
        "∅",
        "\\{\\}",
        "0",
        "-1",
        "-x",
        "n",
        "Na",
        "unknown variable x",
        "infinity",
        "yes",
        "A proof by induction",
        "varies",
        "Many",
        "x may vary",
    ],
)
def test_answers_that_look_like_placeholders(text):
    assert gold(answer=text) == text


def test_a_placeholder_beside_a_solution():
    assert gold(answer="see solution", solution="so \\boxed{7}") == "7"
    assert gold(answer="N/A", groundtruth="12") == "12"
    for cells in (
        {"answer": "unknown", "solution": "no box"},
        {"solution": "\\boxed{\\text{Proof}}"},
    ):
        with pytest.raises(UnusableRow, match=r"^gold is a placeholder$"):
            gold(**cells)
    # A box in a proof is not what the problem asks for.
    with pytest.raises(UnusableRow, match=r"^gold is a placeholder$"):
        gold(answer="proof", solution="so \\boxed{7}")


def test_placeholders_are_counted(tmp_path):
    rows = [{"problem": f"p{i}", "answer": text} for i, text in enumerate(["7", "proof", "-", ""])]
    dataset = load(write_json(tmp_path, "x.json", rows))
    assert dataset.dropped == {"gold is a placeholder": 2, "empty gold": 1}


@pytest.mark.parametrize(
    "row, question, answer",
    [
        ({"question": None, "problem": "2+2?", "answer": "4"}, "2+2?", "4"),
        ({"question": NAN, "problem": "2+2?", "answer": "4"}, "2+2?", "4"),
        ({"question": " ", "problem": "", "query": "2+2?", "answer": "4"}, "2+2?", "4"),
        ({"question": "2+2?", "problem": None, "answer": "4"}, "2+2?", "4"),
        ({"problem": "2+2?", "answer": None, "groundtruth": "4"}, "2+2?", "4"),
        ({"problem": "2+2?", "answer": NAN, "correct_option": None, "groundtruth": 4}, "2+2?", "4"),
        ({"problem": "2+2?", "answer": [], "solution": "\\boxed{4}"}, "2+2?", "4"),
        (
            {"context": None, "text": "Tom has 2.", "question": "Twice?", "answer": "4"},
            "Tom has 2.\nTwice?",
            "4",
        ),
        (
            {"context": NAN, "text": NAN, "options": NAN, "views": NAN}
            | {"problem": "2+2?", "answer": 4.0},
            "2+2?",
            "4.0",
        ),
    ],
)
def test_the_first_full_column_of_merged_sets(row, question, answer):
    problem = parse_row(row)
    assert (problem.question, problem.gold) == (question, answer)


@pytest.mark.parametrize(
    "row",
    [
        {"question": None, "problem": "", "answer": "4"},
        {"question": NAN, "answer": "4"},
        {"question": "q", "answer": None, "solution": None},
        {"question": "q", "answer": NAN, "groundtruth": ""},
    ],
)
def test_rows_without_any_full_column(row):
    with pytest.raises(UnusableRow, match=r"^empty (question|gold)$"):
        parse_row(row)


def test_cells_of_numpy_and_pandas():
    import decimal

    import numpy as np

    assert gold(answer=np.int64(7)) == "7"
    assert gold(answer=np.float32(2.5)) == "2.5"
    assert gold(answer=decimal.Decimal("7.00")) == "7"
    options = np.array(["x", "y"])
    problem = parse_row({"question": "q", "options": options, "answer": np.int64(1)})
    assert problem.gold == "B" and problem.options == ("x", "y")
    assert parse_row({"question": np.float64("nan"), "query": "q", "answer": "1"}).question == "q"
