"""What the math verifier makes of the question, of set-ups, and of hostile answers."""

import time

import pytest

from ccpo_jax.verifiers import Context
from ccpo_jax.verifiers.math import check_math, equivalent_math, math_value, same_math

EVALUATED = Context(evaluated=True)


@pytest.mark.parametrize(
    "gold, answer",
    [
        ("3", "3"),
        ("1/2", "2/4"),
        ("1/2", "0.5"),
        ("3.5", r"3\frac12"),
        ("4.5e33", r"4.5\times10^{33}"),
        (r"5\text{ million}", "5000000"),
        ("x=5", "5"),
        ("5", "x = 2+3 = 5"),
        ("18", "6 + 12 = 18"),
        (r"50\%", "50"),
        (r"2\sqrt3", r"\sqrt{12}"),
        (r"\frac{3+\sqrt5}{2}", r"\frac32+\frac{\sqrt5}2"),
        (r"\frac{\pi}{2}", r"\pi/2"),
        ("x^2+1", "1+x^2"),
        ("2^{100}", "2^{100}"),
        ("10!", "3628800"),
        ("10!", "10!"),
    ],
)
def test_numbers_that_are_worked_out_are_paid(gold, answer):
    assert equivalent_math(gold, answer, EVALUATED)


@pytest.mark.parametrize(
    "gold, answer",
    [
        ("3", "7-4"),
        ("5050", r"\sum_{k=1}^{100}k"),
        ("9", "3^2"),
        ("6", r"2\cdot3"),
        ("120", "5!"),
        ("10", r"\binom52"),
        ("4", r"\sqrt{16}"),
        ("100", "10^2"),
        ("1", r"\sin 90^\circ"),
        ("1/2", r"\frac{3-2}{2}"),
        ("5", "x=2+3"),
        ("(3,4)", "(1+2,4)"),
        ("x+2", "x+1+1"),
        (r"2\sqrt3", r"(1+1)\sqrt3"),
    ],
)
def test_set_ups_are_right_but_not_paid_where_a_number_is_asked_for(gold, answer):
    assert equivalent_math(gold, answer, Context())
    assert not equivalent_math(gold, answer, EVALUATED)


@pytest.mark.parametrize(
    "question, is_ordered",
    [
        ("List the solutions in increasing order, separated by commas.", True),
        ("Enter the roots from least to greatest.", True),
        ("What are the values of p and q, respectively?", True),
        ("Arrange the numbers from smallest to largest.", True),
        ("Write the numbers in ascending order.", True),
        ("Rank the three runners.", True),
        ("Find all roots.", False),
        ("Find all values. Enter them in any order.", False),
        ("In order to win, how many points are needed? Find all.", False),
        ("", False),
    ],
)
def test_an_order_counts_where_the_question_asks_for_one(question, is_ordered):
    context = Context(question=question)
    assert equivalent_math("1,2", "1, 2", context)
    assert equivalent_math("1,2", "2, 1", context) != is_ordered
    assert (math_value("1,2", context) == math_value("2,1", context)) != is_ordered


@pytest.mark.parametrize(
    "question, gold, answer, is_right",
    [
        ("What is 42 in base 8?", "52_8", "52", True),
        ("What is 42 in base 8?", "52", "52_8", True),
        ("What is 42 in base $8$?", "52_8", r"52_{8}", True),
        ("What is 42 in base 8?", "52_8", "52_9", False),
        ("What is 42 in base 8?", "52_8", "53", False),
        ("What is 42 in octal?", "52_8", "052", True),
        ("What is 5 in binary?", "101_2", "101", True),
        ("Write it in base sixteen.", r"\text{A5}_{16}", "A5", True),
        ("What is 42 in base 9?", "52_8", "52", False),
        ("What is 42?", "52_8", "52", False),
        ("", "9901", "9901_{10}", True),
        ("", "9901", "9901_{5}", False),
    ],
)
def test_a_numeral_may_leave_out_a_base_that_the_question_names(question, gold, answer, is_right):
    assert equivalent_math(gold, answer, Context(question=question)) == is_right


@pytest.mark.parametrize(
    "spellings",
    [
        ("1/2", "0.5", r"\frac12", r"\dfrac{2}{4}", "x = 0.5", r"0.50\text{ cm}", "$0.5$"),
        ("(2,5]", r"2<x\le5", r"x\in(2,5]", r"\{x \mid 2 < x \le 5\}"),
        (r"\{1,2\}", "2, 1", r"1 \text{ and } 2", r"\{2, 1, 1\}"),
        (r"\sqrt{12}", r"2\sqrt3", "2√3"),
        ("x^2-1", "(x+1)(x-1)", r"-1+x\cdot x"),
        ("y=2x+1", "2x-y=-1"),
        (r"\text{even}", "Even", r"\textbf{even}"),
        ("2:3", "4:6", "6:9"),
        (r"\begin{pmatrix}1\\2\\0\end{pmatrix}", "(1,2,0)", r"\langle 1,2,0\rangle"),
    ],
    ids=lambda spellings: spellings[0],
)
def test_equal_answers_have_one_value(spellings):
    values = {math_value(spelling, Context()) for spelling in spellings}
    assert len(values) == 1 and None not in values


def test_different_answers_have_different_values():
    answers = ["1", "2", "(1,2)", "[1,2]", "1,2", r"\{1,2,3\}", "x+1", "1+y", "even", "odd", "52_8"]
    answers += ["52_7", "1:2", "2:1", r"8\text{ am}", r"8\text{ pm}", r"\pi", "3.14", "x>1", "x<1"]
    values = [math_value(answer, Context()) for answer in answers]
    assert len(set(values)) == len(answers) and None not in values


def test_answers_that_only_math_verify_reads():
    first, second = r"\int_0^1 x\,dx + \frac12", r"\frac12+\int_0^1 x \, dx"
    assert math_value(first, Context()) is None
    assert same_math(first, second, Context()) and same_math(second, first, Context())
    assert not same_math(first, r"\int_0^1 x\,dx + \frac13", Context())


@pytest.mark.parametrize(
    "gold", ["proof", r"\text{See solution}", "N/A", "answers may vary", "qed"]
)
def test_golds_that_are_no_answers_are_reported_and_accept_nothing(gold):
    assert check_math(gold, Context()) is not None
    assert not equivalent_math(gold, gold, Context())


HOSTILE = {
    "powers": "10**10**10",
    "tower": "9^{9^{9^{9}}}",
    "factorials": "((((10!)!)!)!)!",
    "large factorial": "(10^{9})!",
    "small number": r"2^{-10^{15}}",
    "exponent": "1e999999999",
    "negative exponent": "1e-999999999",
    "binomial": r"\binom{10^9}{5\cdot10^8}",
    "long sum": r"\sum_{k=1}^{10^9} k",
    "nested sums": r"\sum_{k=1}^{2000}\sum_{j=1}^{2000}\sum_{i=1}^{2000} i",
    "product of factorials": r"\prod_{k=1}^{2000} k!",
    "brackets": "(" * 39 + "1" + ")" * 39,
    "open brackets": "(" * 300,
    "fractions": r"\frac" * 100,
    "bars": "|" * 300,
    "signs": "-" * 500 + "1",
    "double signs": ",".join(rf"\pm {i}" for i in range(50)),
    "polynomial": "(((((x+y+z)^{99})^{99})^{99})^{99})",
    "digits": "9" * 295 + "^" + "9" * 290,
    "functions": r"\cos " * 100 + "x",
    "ratio": "1:2:" * 100 + "3",
    "intervals": r"(0,1)\cup" * 50 + "(2,3)",
    "text commands": r"\text{" * 100,
    "roots": "√" * 300,
    "matrix": r"\begin{pmatrix}" + "1&" * 200 + r"1\end{pmatrix}",
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_hostile_answers_are_bounded(answer):
    start = time.process_time()
    for gold in ("5", r"\frac{x}{2}", "(1,2)", f"2({answer})"):
        assert not equivalent_math(gold, answer, EVALUATED)
    math_value(answer, Context())
    check_math(answer, Context())
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "gold, answer, is_right",
    [
        (r"Adding both sides, we get $x=\boxed{\frac{3}{4}}$.", "0.75", True),
        (r"Adding both sides, we get $x=\boxed{\frac{3}{4}}$.", "3", False),
        (r"So $x = \boxed{1}$ or $x = \boxed{2}$.", "2, 1", True),
        ("Word. " * 150 + "The final answer is $28$.", "28", True),
        ("Word. " * 150 + "The final answer is $28$.", "27", False),
    ],
)
def test_golds_that_are_whole_solutions(gold, answer, is_right):
    assert equivalent_math(gold, answer, Context()) == is_right
    assert check_math(gold, Context()) is None


def test_a_set_up_vouches_for_the_last_number_of_a_chain():
    assert equivalent_math("5", "x = 2+3 = 4 = 5", Context())
    assert not equivalent_math("5", "x = 4 = 5", Context())
    assert not equivalent_math("4", "x = 2+3 = 4 = 5", Context())
