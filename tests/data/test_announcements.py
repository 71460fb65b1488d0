"""The words that announce an answer in a passage, and passages that only mention it."""

import pytest

from ccpo_jax.data import load, parse_row
from tests.support.errors import raises_for
from tests.support.problems import write_json

ROW = {"question": "What is 6*7?", "answer": "42"}
OPTIONS = {"question": "Which planet is red?", "options": ["Venus", "Mars"], "answer": "B"}
ARTICLE = {"question": "Who?", "options": ["x", "y"], "answer": "A"}


@pytest.mark.parametrize(
    "text",
    [
        "The answer to this is 42.",
        "The answer we want is 42.",
        "The correct answer, as shown below, is 42.",
        "So the answer is therefore 42, as one sees.",
        "The answer should be 42.",
        "The answer must be 42 because six times seven makes that.",
        "The answer comes out to 42.",
        "The final answer, in units, equals $42$.",
        "Answer (in apples): 42",
        "The solution to this problem is 42.",
        "The result of the calculation is 42.",
        "42 is the answer.",
        "Here 42 would be the correct answer.",
        "Answer - 42",
        "Answer → 42",
        "答案是 42",
        "答案：42",
        "La respuesta es 42.",
        "Réponse : 42",
        "Die Antwort lautet 42.",
        "The right number is 42.",
        "The answer to 2.5 times 16.8 is 42.",
        "<answer>42</answer>",
        "The answer turns out to be 42.",
        "My answer was 42.",
        "Key: 42",
        "The answer that you should find is 42",
        "The answers are 42 and 42.",
    ],
)
def test_a_passage_that_announces_the_answer_is_refused(text):
    with raises_for("text"):
        parse_row(ROW | {"text": text})
    other = ROW | {"answer": "7001"}
    assert parse_row(other | {"text": text}).context == text


@pytest.mark.parametrize(
    "text",
    [
        "They answer in 30 minutes, and there are 42 of them.",
        "Students answer for points; the maximum is 42.",
        "The answer sheet of the class was 42 pages long.",
        "The answer was given. There are 42 hens.",
        "An answer in time is worth 42 points.",
        "Answer the questions; there are 42 of them.",
        "The solution of salt in water is heated to 42 degrees.",
        "A result: she had 41 and then 42 hens.",
        "The best runner is number 7 and runs 42 miles.",
        "The right side is 3 cm, the left is 42 cm.",
        "The best of the hens lays 42 eggs.",
        "Who can answer? 42 of us.",
        "There are 42 correct answers.",
        "42 was the number of answers.",
        "Tom is right, 42 hens are there.",
        "To answer, note that a hen is 42 weeks old.",
        "The key opens 42 doors.",
        "She has the correct change: 42 cents.",
        "The output of the factory is 42 cars.",
        "The true cost of a hen is 42 cents.",
        "The right side is 42 cm.",
        "The correct change is 42 cents.",
        "Her best time was 42 seconds.",
        "The right angle is not 42 degrees.",
    ],
)
def test_a_passage_in_which_the_answer_stands_in_a_sentence_is_read(text):
    assert parse_row(ROW | {"text": text}).context == text


@pytest.mark.parametrize(
    "text",
    [
        "The correct answer is B because Mars rusts.",
        "The correct answer is B, because of iron.",
        "The right option is B since it rusts",
        "The answer to this is (B) as Venus is bright.",
        "The correct choice, then, is B Mars.",
        "B is the correct answer.",
        "Option B is correct.",
        "(B) is right.",
        "Correct: B",
        "Key: B",
        "The answer is option B, I think.",
        "The answer is Mars because of rust.",
        "Mars is the answer.",
        "The best answer is (b).",
        "The answer we look for is therefore B because",
        "The correct answer is **B** because",
        "答案是 B",
    ],
)
def test_a_passage_that_announces_the_option_is_refused(text):
    with raises_for("context"):
        parse_row(OPTIONS | {"context": text})


@pytest.mark.parametrize(
    "text",
    [
        "The answer is A or B.",
        "Answer: A, B or C?",
        "Planet B is true to its orbit.",
        "Vitamin B is right for you.",
        "The answer is B's brother.",
        "The answer is unknown. B and C are planets.",
        "Is the answer A or B?",
        "Venus is bright, Mars is the smaller one.",
        "Mars is true north. Team B is the winner.",
        "The answer is Betelgeuse.",
    ],
)
def test_a_passage_that_mentions_an_option_is_read(text):
    assert parse_row(OPTIONS | {"context": text}).context == text


@pytest.mark.parametrize(
    "text",
    [
        "The answer is A because",
        "The answer is A, as shown",
        "The correct option is A and not B.",
        "The answer is A since it is",
    ],
)
def test_a_letter_that_is_no_article(text):
    with raises_for("text"):
        parse_row(ARTICLE | {"text": text})


@pytest.mark.parametrize(
    "text",
    [
        "The answer is A long story.",
        "The right one is A dog.",
        "The answer is A, B or C",
        "The answer is A/B",
        "A is a letter",
        "The best man is a dog.",
    ],
)
def test_an_article_and_the_first_of_several_letters(text):
    assert parse_row(ARTICLE | {"text": text}).context == text


def test_a_set_whose_passages_announce_the_answers(tmp_path):
    rows = [
        {
            "question": f"What is {i}+40?",
            "answer": str(i + 40),
            "text": f"The answer to this is {i + 40}.",
        }
        for i in range(40)
    ]
    with raises_for("data.train") as error:
        load(write_json(tmp_path, "x.json", rows))
    assert "text" in str(error.value) and "40 of 40 rows" in str(error.value)

    rows = [
        {
            "question": f"question {i}",
            "options": ["x", "y"],
            "answer": letter,
            "context": f"The correct answer is {letter} because of {i}.",
        }
        for i, letter in enumerate("AB" * 20)
    ]
    with raises_for("data.train") as error:
        load(write_json(tmp_path, "y.json", rows))
    assert "context" in str(error.value) and "40 of 40 rows" in str(error.value)
