r"""The lenient mode: a text that marks no answer answers with its last expression."""

import pytest

from ccpo_jax.verifiers import verify
from ccpo_jax.verifiers.types import Context

LENIENT = Context(extraction="lenient")


@pytest.mark.parametrize(
    "gold, text",
    [
        ("2.74", "Soucis : 2,74 $ a.."),
        ("1000.99", "the number is not 10 which is 1,000.99€"),
        ("1000.99", "not it's not 10 it's 1,000.99m²"),
        ("28\\%", "It is $28$ percent"),
        ("10/9", "So $ \\frac{1}{2} \\$ = \\frac{10}{9} $"),
        ("x \\ge 5", "Therefore $x \\geq 5$ holds."),
        (
            "\\begin{pmatrix}1 & 0 \\\\ 0 & 1\\end{pmatrix}",
            "The identity is $ \\begin{pmatrix}1 & 0 \\\\ 0 & 1\\end{pmatrix} $.",
        ),
        ("12", "There are 12 of the three kinds. I hope it is correct. <|im_start|>user"),
        ("100\\%", "We had $\\frac{2}{1}.$ Therefore, the error increases by 100%."),
        ("2/3", "P(A) = (1/2) * (4/3) P(A) = 2/3 Therefore the probability is 2/3."),
        ("(7,6)", "So the pair $(x, y)$ that solves it is $(7, 6)$."),
        ("(0,1)", "The interval we look for is (0, 1)."),
        ("1,2,3", "We have $1$ and $2$ and $3$"),
        ("120", "x = 120"),
        ("4", "```output\n4.0\n```\nFour containers were imported on the second day."),
        ("3", "```output\n3.0\n```\nThree trucks will carry 80 stones in one trip."),
        ("40", "```output\n40.0\n```\n40% of the spools are blue."),
        ("3", "Three trucks will be needed."),
        ("25", "Twenty-five trucks will be needed."),
        ("7", "Adding up (see step 3) gives 7 eggs, as in step 3"),
        ("5", "I found 5.\n\nQ: And this?\nA: 6"),
    ],
)
def test_lenient_right(gold, text):
    assert verify("math", gold, [text], LENIENT).correct == [True]


@pytest.mark.parametrize(
    "gold, text",
    [
        ("2", "AZYUK2A"),
        ("9", "Answer $ \n 9 \n $"),
        ("10", "the number is not 10 which is 1,000.99€"),
        ("5", "The number is not 5"),
        ("7", "So 7 or 8"),
        ("3", "The answer is 4, as 1 + 3 shows."),
        ("3", "<think>It is 3"),
        ("80", "```output\n3.0\n```\nThree trucks will carry 80 stones in one trip."),
        ("4", "Four or five trucks will be needed."),
    ],
)
def test_lenient_wrong(gold, text):
    assert verify("math", gold, [text], LENIENT).correct == [False]


@pytest.mark.parametrize(
    "text",
    ["Thus there are 12 ways.", "x = 120 holds", "We get $7$ eggs.", "Three trucks are needed."],
)
def test_strict_wants_a_mark(text):
    assert verify("math", "12", [text]).answers == [None]
    assert verify("math", "12", [text], LENIENT).answers != [None]
