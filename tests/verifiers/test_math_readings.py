"""Further kinds of answers: expressions of both signs, units, thousands, repeating decimals."""

import pytest

from ccpo_jax.verifiers import Context
from ccpo_jax.verifiers.math import equivalent_math, math_value

ACCEPTED = {
    "roots and signs": [
        ("|x|", r"\sqrt{x^2}"),
        ("|x-4|", r"\sqrt{(x-4)^2}"),
        ("|x-4|", "|4-x|"),
        (r"\sqrt{1/n}", r"1/\sqrt n"),
        (r"\sqrt{xy}", r"\sqrt x\sqrt y"),
        (r"\sqrt x\sqrt y", r"\sqrt{xy}"),
        (r"\ln(x^2)", r"2\ln x"),
        ("x", r"(\sqrt x)^2"),
        ("x^{2/3}", r"\sqrt[3]{x^2}"),
        ("n!", r"n\cdot(n-1)!"),
        (r"\cosh x-\sinh x", "e^{-x}"),
        (r"\binom{n}{2}", "n(n-1)/2"),
        (r"\sqrt{x^2+1}", "(x^2+1)^{1/2}"),
        (r"x\sqrt2", r"\sqrt2 x"),
        ("y=|x|", r"y=\sqrt{x^2}"),
        (r"\sqrt x+\sqrt y=\sqrt{xy}", r"\sqrt x+\sqrt y=\sqrt x\sqrt y"),
        ("2^{n+1}", r"2\cdot2^n"),
        ("(-1)^n x", "x(-1)^n"),
        (r"\frac{x^{99}-1}{x-1}", r"\frac{1-x^{99}}{1-x}"),
        (r"\tan x", r"\frac{\sin x}{\cos x}"),
        ("a^{m+n}", "a^m a^n"),
        ("(x-1)^{10}", "(1-x)^{10}"),
        (r"\log_2 x", r"\frac{\ln x}{\ln 2}"),
        ("e^{2x}", "(e^x)^2"),
    ],
    "units and approximations": [
        (r"\$5", r"\$5"),
        ("5", "€5"),
        ("€5", "5"),
        ("5 weeks", "35 days"),
        ("5 gallons", "20 quarts"),
        ("2 years", "24 months"),
        ("7.33", r"7.33\approx 7.3"),
        (r"\frac{22}{3}", r"\frac{22}{3}\approx 7.33"),
        ("7", r"\approx 7"),
        ("x=7", r"x\approx7"),
        ("9.6 cm", r"9.6\text{ cm}"),
        ("9.6 cm", r"9.6\text{ cm}."),
        ("8", r"8\text{ cm}^2"),
        ("8", r"8\text{ square apples}"),
        ("$3.50", r"350\text{ cents}"),
        (r"25\text{ cents}", r"\$0.25"),
        ("500000", r"5\text{ lakh}"),
        ("50000000", r"5\text{ crore}"),
        ("Thursday", r"\text{Thursday}"),
        ("8", r"8\text{ apples}"),
    ],
}

REFUSED = {
    "roots and signs": [
        ("x", r"\sqrt{x^2}"),
        ("a-b", r"\sqrt{(a-b)^2}"),
        ("xy", r"\sqrt{x^2y^2}"),
        ("abc", r"\sqrt{a^2b^2c^2}"),
        (r"\sin x", r"\sqrt{1-\cos^2x}"),
        ("x", r"\arcsin(\sin x)"),
        ("4-x", r"\sqrt{(x-4)^2}"),
        ("x-4", r"\sqrt{(x-4)^2}"),
        ("y=x", r"y=\sqrt{x^2}"),
        (r"\ln|x|", r"\ln x"),
        ("x", "|x|"),
        ("x_1x_2", "|x_1||x_2|"),
        ("(x,1)", r"(\sqrt{x^2},1)"),
        ("x^3", r"\sqrt{x^6}"),
        (r"\cos x", r"\sqrt{1-\sin^2 x}"),
        ("2x", r"\ln e^{\sqrt{4x^2}}"),
        ("x", r"\arctan(\tan x)"),
    ],
    "units and approximations": [
        (r"\$5", "€5"),
        ("$5", "€5"),
        ("$3.50", "€3.50"),
        (r"\$3.50", "£3.50"),
        ("5 weeks", "5 months"),
        ("5 gallons", "5 quarts"),
        ("5 years", "5 months"),
        ("5 decades", "5 years"),
        ("5", r"5\text{ lakh}"),
        ("5", r"5\text{ crore}"),
        ("9.6 cm", r"9.6\text{ cm}x"),
        ("8", r"8\text{ cm}x"),
        ("8", r"8\text{ apples}^2"),
        ("8", r"8\text{ apples}x"),
        ("8", r"8\text{ cm}/2"),
        ("Thursday", r"-\text{Thursday}"),
        (r"\text{even}", r"-\text{even}"),
        ("7", r"7\approx 9"),
        ("7", r"7\sim 9"),
        ("7", r"7\simeq 9"),
        ("7", r"7\doteq 9"),
        ("7", r"7\approx 8"),
        ("9", r"7\approx 9"),
        ("5 pints", "5 cups"),
        ("5 tons", "5 kg"),
        ("7", r"7\text{ cm}\approx 9\text{ cm}"),
        ("5", r"x=5\approx6"),
        ("5 miles", "5 acres"),
        ("5 hours", "5 years"),
        ("8", r"8\text{ cm}y^2"),
        ("None", "None"),
    ],
}


def _pairs(kinds):
    return [
        pytest.param(gold, answer, id=f"{kind}: {gold} by {answer}")
        for kind, pairs in kinds.items()
        for gold, answer in pairs
    ]


@pytest.mark.parametrize("gold, answer", _pairs(ACCEPTED))
def test_gold_accepts(gold, answer):
    assert equivalent_math(gold, answer, Context())


@pytest.mark.parametrize("gold, answer", _pairs(REFUSED))
def test_gold_refuses(gold, answer):
    assert not equivalent_math(gold, answer, Context())


@pytest.mark.parametrize("gold, answer", REFUSED["roots and signs"])
def test_different_expressions_are_in_different_classes(gold, answer):
    assert math_value(gold, Context()) != math_value(answer, Context())


@pytest.mark.parametrize(
    "question, gold, answer",
    [
        ("What are the next three terms of the sequence 1/4, 1/2, 1?", "2,4,8", "8,4,2"),
        ("Find the first 3 terms of the sequence.", "2,4,8", "2,8,4"),
        ("1, 2, 4: write down the next two numbers.", "8,16", "16,8"),
        ("Find the ordered pair (x,y), give x,y.", "1,2", "2,1"),
        ("Give the ordered triple.", "1,2,3", "1,3,2"),
    ],
)
def test_an_order_that_the_question_asks_for_in_other_words(question, gold, answer):
    context = Context(question=question)
    assert equivalent_math(gold, gold, context)
    assert not equivalent_math(gold, answer, context)
    assert math_value(gold, context) != math_value(answer, context)


@pytest.mark.parametrize(
    "question, gold, answer",
    [
        ("Find all ordered pairs (x,y).", "(1,2),(3,4)", "(3,4),(1,2)"),
        ("Find all solutions. Write each as an ordered pair.", "(1,2),(3,4)", "(3,4),(1,2)"),
        ("The next two terms are 2x and 8. Find all values of x.", "1,-2", "-2,1"),
    ],
)
def test_questions_that_ask_for_no_order(question, gold, answer):
    assert equivalent_math(gold, answer, Context(question=question))


@pytest.mark.parametrize(
    "gold, answer",
    [("6", "12/2"), ("4", "8/2"), ("4", r"8\div2"), ("4", r"\frac{8}{2}"), ("-3", "-6/2")],
)
def test_a_fraction_that_is_an_integer_is_a_set_up(gold, answer):
    assert equivalent_math(gold, answer, Context())
    assert not equivalent_math(gold, answer, Context(evaluated=True))


def test_a_missing_gold_accepts_nothing():
    assert not equivalent_math("None", "None", Context())
    assert equivalent_math(r"\text{none}", "None", Context())
