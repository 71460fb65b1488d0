"""Passages, and texts that are the question again with its answer."""

import pytest

from ccpo_jax.data import load, parse_row
from tests.support.errors import raises_for
from tests.support.problems import write_json

ROW = {"question": "What is 6*7?", "answer": "42"}

RENDERINGS = [
    "What is 6*7? 42",
    "Q: What is 6*7? A: 42",
    "Question: What is 6*7?\nAnswer: 42",
    "### Question:\nWhat  is 6*7?\n\n### Answer:\n42",
    "<|im_start|>user\nWhat is 6*7?<|im_end|>\n<|im_start|>assistant\n42<|im_end|>",
    "[INST] What is 6*7? [/INST] It is \\boxed{42}.",
    "WHAT IS 6*7?\n6 times 7 makes 42 eggs, as we know.",
    "What is 6*7?\n#### 42",
    "Question: What is 6*7?\n<think>7+7</think>**42**",
    "Q: What is 6*7? A: It must be 42.0, then.",
]


@pytest.mark.parametrize("text", RENDERINGS)
@pytest.mark.parametrize("column", ["text", "context"])
def test_the_question_again_with_its_answer_is_no_passage(text, column):
    problem = parse_row(ROW | {column: text})
    assert (problem.question, problem.context) == ("What is 6*7?", "")


@pytest.mark.parametrize(
    "text",
    [
        "Q: ... A: 42",
        "The answer is 42.",
        "answer: **42**",
        "Six times seven. Solution: 42",
        "Six times seven is \\boxed{42}.",
        "Multiply.\n#### 42",
        "Result = 42",
        "Question: ... Answer: I think that it is 42.",
        "User: Six times seven?\nAssistant: That makes 42, my friend.",
        "Answer: 42.0",
        "Tom has laid six rows of seven tiles in his kitchen on Monday. What is 6*7? 42!",
        "42",
    ],
)
def test_a_text_with_the_answer_is_refused(text):
    with raises_for("text"):
        parse_row(ROW | {"text": text})


@pytest.mark.parametrize(
    "text",
    [
        "Six times seven is asked for.",
        "Products are found by adding.",
        "42 hens lay eggs, and 17 do not.",
        "The answer is 4.",
        "The answer is 420.",
        "The answer is 42.5",
        "Answer in 42 words.",
        "A table: 41, 43",
        "The solution of salt weighs 42 g.",
        "Question 42 of the exam: a sum.",
        "Tom: I have 42. Ann: I have a few.",
        "A box of 42 eggs.",
    ],
)
def test_a_passage_may_mention_the_answer(text):
    problem = parse_row(ROW | {"text": text})
    assert problem.question == f"{text}\nWhat is 6*7?" and problem.context == text


def test_a_passage_may_contain_the_question():
    text = "Tom lays 6 rows of 7 tiles. What is 6*7? He wonders."
    assert parse_row(ROW | {"text": text}).context == text


OPTIONS = {"question": "Which planet is red?", "options": ["Venus", "Mars"], "answer": "B"}


@pytest.mark.parametrize(
    "text, context",
    [
        ("Which planet is red?\nA. Venus\nB. Mars\nAnswer: B", ""),
        ("Q: Which planet is red? A: Mars", ""),
        ("Venus is bright, Mars is not. Iron rusts.", "Venus is bright, Mars is not. Iron rusts."),
        ("Planet B orbits star A.", "Planet B orbits star A."),
        ("The answer is bright.", "The answer is bright."),
        ("The answer is Before us.", "The answer is Before us."),
    ],
)
def test_passages_of_questions_with_options(text, context):
    problem = parse_row(OPTIONS | {"text": text})
    assert problem.context == context
    assert problem.question.endswith("Which planet is red?\nA. Venus\nB. Mars")


@pytest.mark.parametrize("text", ["Iron rusts. The answer is B.", "Answer: (B)", "Answer: Mars"])
def test_a_passage_with_the_letter_is_refused(text):
    with raises_for("text"):
        parse_row(OPTIONS | {"text": text})


def test_an_article_is_no_letter():
    row = {"question": "Who?", "options": ["x", "y"], "answer": "A"}
    for text in ("The answer is a long story.", "The answer is A long story.", "Answer: a dog"):
        assert parse_row(row | {"text": text}).context == text
    for text in ("The answer is A.", "Answer: A", "### Answer:\n(A) x"):
        with raises_for("text"):
            parse_row(row | {"text": text})


@pytest.mark.parametrize("column", ["passage", "article"])
def test_other_names_of_passages(column):
    assert parse_row(ROW | {column: "Six rows."}).question == "Six rows.\nWhat is 6*7?"


def test_numbers_in_another_form_are_the_answer():
    row = {"question": "How many?", "answer": "1000"}
    for answer, text in [("1000", "Answer: 1,000"), (1000.0, "Answer: 1000"), ("1,000", "A: 1000")]:
        with raises_for("text"):
            parse_row(row | {"answer": answer, "text": text})
    assert parse_row(row | {"text": "Answer: 1,000,000"}).context


def test_a_worked_solution_is_no_passage():
    row = {
        "question": "Sum?",
        "text": "Problem. First we add 3 and 4, then we have 7 in all. Done.",
    }
    with raises_for("text"):
        parse_row(row | {"solution": "First we add 3 and 4, then we have 7 in all.", "answer": "x"})


def load_texts(tmp_path, texts):
    rows = [
        {"question": f"What is {i}+40?", "answer": str(i + 40), "text": text}
        for i, text in enumerate(texts)
    ]
    return load(write_json(tmp_path, "x.json", rows))


def test_most_rows_tell_what_the_column_is(tmp_path):
    dataset = load_texts(
        tmp_path, ["What is 0+40? 40", "What is 1+40? A: 41", "Sum two numbers: forty-two"]
    )
    assert [problem.context for problem in dataset.problems] == ["", "", ""]

    dataset = load_texts(tmp_path, ["A hint.", "Another hint.", "The answer is 42"])
    assert [problem.context for problem in dataset.problems] == ["A hint.", "Another hint."]
    assert dataset.dropped == {"passage states the answer": 1}

    with raises_for("data.train") as error:
        load_texts(tmp_path, ["Answer: 40", "Answer: 41", "A hint."])
    assert "text" in str(error.value) and "2 of 3 rows" in str(error.value)
