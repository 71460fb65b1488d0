"""The math verifier: what is extracted, what is equivalent, and real golds."""

import random
from fractions import Fraction

import numpy as np
import pytest

from ccpo_jax.verifiers import VERIFIERS, Context, verify
from ccpo_jax.verifiers.math import _accepts_meaning, equivalent_math
from ccpo_jax.verifiers.math.numbers import plain_number
from tests.support.verdicts import is_correct


@pytest.mark.parametrize(
    "gold, answer",
    [
        ("1/2", "0.5"),
        ("0.5", r"\frac12"),
        (r"\frac{1}{2}", r"\dfrac{1}{2}"),
        ("27.0", "27"),
        ("27", "27.0"),
        (r"\frac13", "0.333333"),
        ("x=5", "5"),
        ("$x=5$", "5"),
        ("5", "x=5"),
        ("[-2,7]", r"x \in [-2,7]"),
        ("[1,2]", r"\left[1,2\right]"),
        (r"1\le x\le 2", "[1,2]"),
        (r"$\{x|-2\leq x < 1\}$", "[-2,1)"),
        (r"(-\infty,2)\cup(3,\infty)", r"(3,\infty)\cup(-\infty,2)"),
        (r"\{1,2\}", "2, 1"),
        ("1,-2", "-2, 1"),
        ("x=1 or x=2", "1, 2"),
        (r"5\text{ cm}", "5"),
        ("5", "5 cm"),
        ("5", "5cm"),
        (r"15\mbox{ cm}^2", "15"),
        ("12", r"12 \text{ square inches}"),
        ("40", "40 dollars"),
        (r"90^\circ", "90"),
        ("90", "90 degrees"),
        ("1,234", "1234"),
        ("1234", r"1{,}234"),
        ("29322216", r"29,\!322,\!216"),
        (r"\$32", "32"),
        (r"50\%", "50"),
        (r"50\%", "50 percent"),
        ("4.5e33", r"4.5 \times 10^{33}"),
        ("1e-5", "10^{-5}"),
        ("-1./3", r"-\frac{1}{3}"),
        ("np.arcsin(10/13)", r"\arcsin(10/13)"),
        (r"\text{Evelyn}", "Evelyn"),
        (r"\text{Tuesday}", "tuesday"),
        (r"\text{(B)}", "B"),
        ("52_8", "52_{8}"),
        ("p - q", "-q+p"),
        ("y=2x+3", "2x - y + 3 = 0"),
        ("9", "3^2"),
        (r"11\sqrt2", r"\sqrt{242}"),
        (r"\frac{1}{3} E_{1}+\frac{2}{3} E_{2}", r"\frac{E_1+2E_2}{3}"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)"),
        ("necessary but not sufficient", r"\text{necessary but not sufficient}"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}"),
        ("8.24", r"\approx 8.24"),
        ("$145$solution:", "145"),
        ("$145$ Solution:", "145"),
        ("$145$ worked solution:", "145"),
        ("$x<1$answer", "x<1"),
        ("3:1", "3 : 1"),
        ("3:1", "6:2"),
        ("6:2", "3:1"),
        ("3:5", "12:20"),
        ("2:3", r"\frac23"),
        (r"\frac23", "2:3"),
        ("3:4:5", "6:8:10"),
        (r"1:\sqrt{2}", r"\sqrt{2}:2"),
        ("1:2", "0.5:1"),
        ("x:y=1:3", "1:3"),
        ("05\\!:\\!00", "5:00"),
    ],
)
def test_math_equivalent(gold, answer):
    assert is_correct("math", gold, rf"We find $\boxed{{{answer}}}$.")


@pytest.mark.parametrize(
    "gold, answer",
    [
        ("1/2", "0.51"),
        ("27", "28"),
        ("27", "270"),
        ("[1,2]", "(1,2)"),
        (r"\{1,2\}", r"\{1,2,3\}"),
        ("x=5", "x=6"),
        ("5", "-5"),
        ("a + b + c", "a + b"),
        ("a + b + c", "a"),
        (r"\sin^2 t", r"\sin^2"),
        ("1", r"\frac{1}{m}"),
        (r"\frac{1}{m} t", r"\frac{1}{m}"),
        ("2c", "2"),
        ("5", "5 million"),
        ("4.5e33", "4.5"),
        (r"\text{Evelyn}", "Evan"),
        ("i", "-i"),
        ("p-q", "q-p"),
        ("1,2", "1"),
        ("1", "1, 2"),
        ("$5$ million", "5"),
        ("$145$solution:", "14"),
        ("$5$ or $9$", "5"),
        ("$x$ squared", "x"),
        ("3:1", "3"),
        ("3", "3:1"),
        ("3:1", "3.0"),
        ("m:n=9:1", "9"),
        ("1:2", "0.5"),
        ("3:1", "1:3"),
        ("3:4:5", "3:4"),
        ("3:4:5", "3:4:6"),
        ("0:1:2", "0:1:3"),
        ("9:24", "3:8"),
        ("20:34", "10:17"),
        ("05:00", "1:0"),
        ("9:24", "9:2x"),
    ],
)
def test_math_different(gold, answer):
    assert not is_correct("math", gold, rf"We find $\boxed{{{answer}}}$.")


@pytest.mark.parametrize(
    "text, answer",
    [
        (r"\boxed{1} was wrong, it is \boxed{\frac{1}{\sqrt{2}}}.", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{7} and later \boxed{8", "7"),
        (r"$x=\boxed{3}$ or $\boxed{4}$", "3, 4"),
        (r"\boxed{3}. Check: \boxed{3}", "3"),
        (r"\boxed{\boxed{5}}", r"\boxed{5}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"The answer is 6. So $\boxed{7}$", "7"),
        ("The final answer is $5$. I hope it is correct.", "5"),
        ("The answer is $x=1$ or $x=2$.", "x=1, x=2"),
        ("The answer to this problem is: 42, since it is.", "42"),
        ("**Answer:** 1,234 apples", "1,234"),
        ("**Final Answer**: $$\n\\frac12\n$$", r"\frac12"),
        ("Answer: 12 \\pi", r"12 \pi"),
        ("Answer: 3 sqrt(2)", "3 sqrt(2)"),
        ("16 + 2 = 18 dollars.\n#### 18", "18"),
        ("27", "27"),
        ("Adding up:\n$\\frac{3}{4}$", r"\frac{3}{4}"),
        ("I have no idea, maybe 5 or so", None),
        ("3 + 4 = 7", None),
        (r"\boxed{}", None),
        ("", None),
    ],
)
def test_math_extracts(text, answer):
    assert VERIFIERS["math"].extract(text, Context()) == answer


def test_nested_box_is_read_through():
    assert is_correct("math", "5", r"\boxed{\boxed{5}}") and is_correct("math", "5", r"\fbox{5}")


def test_too_long_an_answer_is_not_parsed_but_still_compared_as_text():
    long = "+".join(["x"] * 400)
    graded = verify("math", long, [rf"\boxed{{{long}}}", rf"\boxed{{{long}+1}}"])
    assert graded.correct == [True, False] and graded.answer_id == [0, 1] and graded.gold_failure


def test_plain_numbers_are_compared_exactly():
    """However a rational number is written, and however close another one is."""
    rng = np.random.default_rng(0)

    def written(value: Fraction) -> str:
        sign, numerator = "-" if value < 0 else "", abs(value.numerator)
        forms = [
            rf"{sign}\frac{{{numerator}}}{{{value.denominator}}}",
            f"{sign}{numerator}/{value.denominator}",
            rf"{sign}\dfrac{{{3 * numerator}}}{{{3 * value.denominator}}}",
        ]
        if value.denominator == 1:
            forms += [str(value.numerator), f"{value.numerator}.00"]
        return forms[rng.integers(len(forms))]

    for _ in range(300):
        value = Fraction(int(rng.integers(-50, 50)), int(rng.integers(1, 9)))
        other = value + Fraction(int(rng.integers(-1, 2)), int(10 ** rng.integers(0, 30)))
        gold, answer = written(value), written(other)
        assert equivalent_math(gold, answer, Context()) == (value == other), (gold, answer)


def test_the_short_way_for_plain_numbers_says_what_the_long_way_says():
    """Two decimals are compared exactly; a decimal may also round a fraction that has no end."""
    rng = random.Random(0)

    def written() -> str:
        value = Fraction(rng.randint(-300, 300), rng.choice([1, 2, 3, 4, 7, 8, 9, 12, 25]))
        if rng.random() < 0.3:
            return rf"\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"
        return f"{value.numerator}/{value.denominator}"

    def near(number: str) -> str:
        value = float(plain_number(number).value) + rng.choice([0, 0, 1e-3, -1e-4, 1e-5])
        return f"{value:.{rng.randint(1, 7)}f}"

    accepted = 0
    for _ in range(2_000):
        gold = written()
        answer = near(gold) if rng.random() < 0.8 else written()
        if rng.random() < 0.5:
            gold, answer = answer, gold
        expected = _accepts_meaning(gold, answer, False)
        assert equivalent_math(gold, answer, Context()) == expected, (gold, answer)
        accepted += expected
    assert 100 < accepted < 1_000
