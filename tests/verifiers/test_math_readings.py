"""Further kinds of answers: expressions of both signs, units, thousands, repeating decimals."""

import time

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
        # The decimal is that of a step before the last.
        ("x = 1/3", r"x = 5+5+1 = 1/3 \approx 11"),
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
    "thousands": [
        ("10000", r"10\,000"),
        ("1234567", r"1\,234\,567"),
        ("25000", r"25\,000\text{ km}"),
        ("1234", r"1\;234"),
        ("1234", "1~234"),
        ("1234", r"1\ 234"),
        ("10000", r"10\text{,}000"),
        ("1000", r"1\!,\!000"),
        (r"10\,000", "10000"),
        ("0.000125", r"0.000\,125"),
        (r"1\,234\,567", "1234567"),
        ("1234567.5", r"1\,234\,567.5"),
        ("12345", r"12\:345"),
        ("-10000", r"-10\,000"),
        ("(1000,2)", r"(1\,000,2)"),
        ("1000000", r"1\thinspace000\thinspace000"),
        (r"0.000\,125", "0.000125"),
    ],
    "repeating decimals": [
        ("1/3", r"0.\overline3"),
        ("7/3", r"2.\overline3"),
        ("1/3", r".\overline{3}"),
        ("1/7", r"0.\dot{1}4285\dot{7}"),
        ("1/11", r"0.\dot{0}\dot{9}"),
        ("1/3", "0.3̅"),
        ("1/6", r"0.1\dot6"),
        ("1/6", r"0.1\dot{6}"),
        ("1/3", r"0.\dot 3"),
        ("1/11", r"0.\overline{09}"),
        ("1/3", r"0.\bar3"),
        ("7/3", r"2.\bar 3"),
        (r"0.\dot{3}", "1/3"),
        (r"0.\dot{1}2\dot{3}", "123/999"),
        ("5/6", r"0.8\overline3"),
        ("1/11", "0.0̅9̅"),
    ],
    "further units": [
        ("15", r"15\Omega"),
        ("5", r"5\,\mu m"),
        ("5", r"5\,\mu\text{m}"),
        ("15", "15 kWh"),
        ("15", "15kWh"),
        ("15", "15th"),
        ("1", "1^{st}"),
        ("15", r"15^{\text{th}}"),
        ("5", "5元"),
        ("5", r"5\text{个}"),
        ("5", r"5\text{平方厘米}"),
        ("5", "5平方厘米"),
        ("5", r"5\text{ 元}"),
        ("5", "₩5"),
        ("5", "₽5"),
        ("5", "5₽"),
        ("50000", "5万"),
        ("50000", r"5\text{万元}"),
        ("500000000", "5亿"),
        ("$3.50", r"350\text{ cents}"),
        (r"25\text{ cents}", r"\$0.25"),
        ("$3.50", "350 cents"),
        ("25 cents", "$0.25"),
        (r"7\text{ hours }30\text{ minutes}", r"7\text{ hours and }30\text{ minutes}"),
        ("7 hours 30 minutes", r"7\text{ hours and }30\text{ minutes}"),
        ("7 hours and 30 minutes", "7 hours 30 minutes"),
        ("5 feet 6 inches", "5 feet and 6 inches"),
        ("15", r"15\ \Omega"),
        ("15", r"15\,k\Omega"),
        ("3", "3rd"),
        ("22", "22nd"),
        ("-5", r"\text{minus }5"),
        ("-5", "minus 5"),
        ("-5", r"\text{negative }5"),
        ("-5", r"\text{Minus } 5"),
        ("-1/2", r"\text{minus }\frac12"),
    ],
    "further spellings": [
        ("(1,2)", "y=2,x=1"),
        ("(1,2)", "x=1,y=2"),
        ("(1,2,3)", "z=3,x=1,y=2"),
        ("(0,1)", "]0,1["),
        ("[0,1)", "[0,1["),
        ("(0,1]", "]0,1]"),
        ("2.5", "2{,}5"),
        ("0,5", "0.5"),
        ("132_5", "(132)_5"),
        ("2A_{16}", "2a_{16}"),
        ("n!", r"n\cdot(n-1)!"),
        ("18", "P(x=3)=18"),
        ("15", "5!!"),
        ("48", "6!!"),
        (r"(-\infty,2)", r"]-\infty,2["),
        (r"[0,1]\cup(2,3)", r"[0,1]\cup]2,3["),
        ("(0,1)", r"\left]0,1\right["),
        (r"(0,1)\cup(2,3)", r"]0,1[\cup]2,3["),
        ("(132)_5", "132_5"),
        ("0.25", "0{,}25"),
        ("0.3", "P(X<2)=0.3"),
    ],
    "roots of positive numbers": [
        (r"\ln\frac{x}{y}", r"\ln x-\ln y"),
        (r"\frac{\sqrt{ab}}{b}", r"\sqrt{\frac{a}{b}}"),
        (r"\sqrt{\frac{2h}{g}}", r"\frac{\sqrt{2gh}}{g}"),
        (r"x\sqrt{x}", r"\sqrt{x^3}"),
        (r"\ln\frac{x}{y}", r"-\ln\frac{y}{x}"),
        (r"\frac{1}{\sqrt{x}}", r"\frac{\sqrt x}{x}"),
        (r"\sqrt{2gh}", r"\sqrt{2}\sqrt{g}\sqrt{h}"),
        (r"\frac{(2n)!}{n!n!}", r"\binom{2n}{n}"),
        (r"10\text{ m/s}", r"10\frac{m}{s}"),
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
    "thousands": [
        ("1234", r"12\,34"),
        ("10000", r"10\,00"),
        ("1234567", r"1\,234\,56"),
        ("1000", r"1,\ 000"),
        ("12345", r"1\,2345"),
        ("1234", r"123\,4"),
        ("5000", r"5\,0000"),
        ("123456", r"1234\,56"),
        ("20", r"2\,0"),
        ("1234567", r"1234\,567"),
    ],
    "repeating decimals": [
        ("1/3", r"0.\overline4"),
        ("1/7", r"0.\dot{1}4285\dot{6}"),
        ("1/3", "0.4̅"),
        ("1/11", r"0.\dot{9}\dot{0}"),
        ("3", r"0.\overline3"),
        ("1/6", r"0.\overline{16}"),
    ],
    "further units": [
        ("5", "5万"),
        ("5", "5亿"),
        ("5", r"5\text{万}"),
        ("5", r"5\text{以上}"),
        ("5", r"5\text{左右}"),
        ("5", "5或7"),
        ("5", r"5\text{不是}"),
        ("5 seconds", "5 hours"),
        ("7 hours 30 minutes", r"7\text{ hours and }31\text{ minutes}"),
        ("7 hours 30 minutes", r"7\text{ hours or }30\text{ minutes}"),
        ("15", "16th"),
        ("15", "15x"),
        ("5", r"\text{minus }5"),
        ("$3.50", "35 cents"),
        ("5", r"5\Omega x"),
        ("5", r"5\mu"),
        ("1/15", "15th"),
        ("5", r"5^{th}\text{ of }3"),
        ("5", "15th"),
        (r"5\text{ m}", r"5\,\mu m"),
        ("5元", "5€"),
        ("5", r"3-\text{minus }5"),
        ("2", r"7\text{ minus }5"),
    ],
    "further spellings": [
        (r"[a\rightarrow b,c]", "[a,c]"),
        ("[0,1[", "[0,1]"),
        ("(1,234)", r"1\,234"),
        (r"1,\,234", "1234"),
        ("[0,1]", "]0,1["),
        ("(0,1)", "]1,0["),
        ("(1,2)", "y=1,x=2"),
        ("(1,2)", "x=2,y=1"),
        ("2.5", "2{,}6"),
        ("25", "2{,}5"),
        ("0,5", "0.6"),
        ("132_5", "(132)_6"),
        ("2A_{16}", "2b_{16}"),
        ("18", "P(x=3)=19"),
        ("18", "P(x=18)=3"),
        ("120", "5!!"),
        ("3", "P(x=3)"),
        ("720", "3!!"),
        ("(1,2,3)", "z=3,x=2,y=1"),
        ("x_2", "X_2"),
        ("(1,2)", "b=1,a=2"),
        ("5", "0,5"),
    ],
    "roots of positive numbers": [
        (r"\ln\frac{x}{y}", r"\frac{\ln x}{y}"),
        (r"a\sqrt{b}", r"\sqrt{a^2b}"),
        (r"\frac{a}{b}", r"\sqrt{\frac{a^2}{b^2}}"),
        (r"\ln x^2", r"\ln x"),
        ("x+y", r"\sqrt{(x+y)^2}"),
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


@pytest.mark.parametrize(
    "first, second",
    [
        ("10000", r"10\,000"),
        ("1/3", r"0.\overline3"),
        ("1/7", r"0.\dot{1}4285\dot{7}"),
        ("-5", r"\text{minus }5"),
        ("(0,1)", "]0,1["),
        ("2.5", "2{,}5"),
        ("132_5", "(132)_5"),
        ("50000", "5万"),
        ("15", "5!!"),
        ("|x|", r"\sqrt{x^2}"),
        ("7 hours 30 minutes", r"7\text{ hours and }30\text{ minutes}"),
    ],
)
def test_spellings_of_one_answer_are_in_one_class(first, second):
    value = math_value(first, Context())
    assert value is not None and value == math_value(second, Context())


HOSTILE = {
    "spaces": r"1\,234" * 80,
    "groups": "1" + r"\,234" * 90 + r"\,2",
    "dots": r"\dot{1}" * 80,
    "lines": "3\u0305" * 250,
    "turned brackets": r"]0,1[\cup" * 60,
    "long bounds": "]" + "0" * 250 + "," + "1" * 250 + "[",
    "places": "1" * 550 + "th",
    "decimal commas": "1{,}5" * 100,
    "Chinese": "5" + "平方" * 250,
    "absolute values": "+".join(f"|x_{{{index}}}|" for index in range(60)),
    "roots": r"\sqrt{x^2+1}" * 40,
    "double factorials": "2000!!!!!!!!",
    "factorials": "(" * 20 + "x" + "!)" * 20,
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_hostile_answers_are_bounded(answer):
    start = time.process_time()
    for gold in ("5", r"\frac{x}{2}", "(1,2)", f"2({answer})"):
        assert not equivalent_math(gold, answer, Context())
    math_value(answer, Context())
    assert time.process_time() - start < 3
