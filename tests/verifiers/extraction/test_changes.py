r"""A number is not paid where the words around it make another value of it."""

import pytest

from ccpo_jax.verifiers import verify

CHANGED = [
    "5 squared",
    "5 cubed",
    "5 factorial",
    "5 doubled",
    "5 times x",
    "5 times the length",
    "5 times 7",
    "5 multiplied by x",
    "5 divided by 3",
    "5 over 3",
    "5 plus 2",
    "5 minus y",
    "5 raised to 3",
    "5 to the power of 3",
    "5 to the fourth power",
    "5 percent of x",
    "5 per cent of 80",
    "5% of 80",
    "5 less than x",
    "5 more than twice x",
    "5 dollars more than 10",
    "5 fewer than the number of cats",
    "5 below zero",
    "5 degrees below zero",
    "5 halves",
    "5 thirds",
    "5 tenths",
    "5 hundredths",
    "5 seventeenths",
    "5 hundreds",
    "5 thousands",
    "5 crores",
    "5 and a half",
    "5 hours and a half",
    "5 and two thirds",
    "5 and three fifths",
    "5 in base 7",
    "5 base 8",
    "5 followed by 3 zeros",
    "5 with a remainder of 2",
    "5 remainder 2",
    "5 out of 8",
    "5 out of every 8",
    "5 in 6",
    "5 in 6 chance",
    "5 of 8",
    "5 per 1000",
    "5 by 6",
    "5 cm by 6 cm",
    "5 added to x",
    "5 subtracted from 9",
    "5 or more",
    "5 and above",
    "5 for n odd and 6 for n even",
    "5 if x is even and 6 otherwise",
    "5 if x is even, otherwise 6",
    "5 when x=1 but 6 when x=2",
    "5 eggs for boys and 6 for girls",
    "5 (if x > 0), 6 (if x < 0)",
]


@pytest.mark.parametrize("changed", CHANGED)
def test_changed_number_is_not_paid(changed):
    formula = changed.replace("5", "$5$", 1)
    texts = [
        f"The answer is {changed}.",
        f"The answer is {formula}.",
        f"Answer: {changed}",
        f"Answer: It is {changed}.",
        f"#### {changed}",
        f"<answer>{changed}</answer>",
        changed.replace("5", "\\boxed{5}", 1),
        changed.replace("5", "$\\boxed{5}$", 1),
    ]
    for gold in ("5", "6"):
        assert not any(verify("math", gold, texts).correct), changed


@pytest.mark.parametrize(
    "words",
    [
        "5 apples",
        "5 times",
        "5 times a day",
        "5 times as many",
        "5 times larger",
        "5 more",
        "5 more apples",
        "5 more than Tom has",
        "5 less than last year",
        "5 of them",
        "5 of the apples",
        "5 in total",
        "5 in 2 days",
        "5 in 2023",
        "5 by 2023",
        "5 by noon",
        "5 per day",
        "5 quarters",
        "5 cm squared",
        "5 square meters",
        "5 hours a day for 3 days",
        "5 if she sells 3 eggs",
        "5 when she sells 3 eggs and keeps 2 for dinner",
        "5 for each of them",
        "5 thirsty dogs",
        "5 third graders",
        "5 seconds",
        "5 out of all of them",
        "5 because 3 times 2 is 6",
        "5 below the roof",
        "5, half of 10",
        "5, which is 20% of 25",
    ],
)
def test_number_with_its_circumstances_is_paid(words):
    formula = words.replace("5", "$5$", 1)
    texts = [f"The answer is {words}.", f"The answer is {formula}.", f"Answer: {words}"]
    assert verify("math", "5", texts).correct == [True] * 3


@pytest.mark.parametrize("percent", ["5% of 80", "5\\% of x", "5 percent of x", "5 per cent of 80"])
def test_percentage_of_a_number(percent):
    texts = [f"The answer is {percent}.", f"Answer: {percent}"]
    for gold in ("5", "5%", "0.05", "4"):
        assert verify("math", gold, texts).correct == [False, False]
    assert verify("math", "5", ["The answer is 5% of the students."]).correct == [True]


@pytest.mark.parametrize(
    "gold, wrong, number",
    [
        ("11/3", "3", r"3.\overline{6}"),
        ("11/3", "3", r"3.\dot{6}"),
        ("11/3", "3", r"3.\bar{6}"),
        ("11/3", "3", "3.(6)"),
        ("3/11", "0", r"0.\overline{27}"),
        ("-3/11", "0", r"-0.\overline{27}"),
    ],
)
def test_period_of_a_decimal_number(gold, wrong, number):
    texts = [f"Answer: {number}", f"The answer is {number}.", f"#### {number}", f"A: {number}"]
    texts += [f"<answer>{number}</answer>", f"The answer is ${number}$."]
    assert verify("math", gold, texts).correct == [True] * len(texts)
    assert verify("math", wrong, texts).correct == [False] * len(texts)


def test_point_before_other_latex_ends_a_sentence():
    for text in ("The answer is 3.\n\\boxed{3}", "The answer is 3. $\\frac{1}{2}$ is too small."):
        assert verify("math", "3", [text]).correct == [True]
    assert verify("math", "3", [r"Answer: 3.$\overline{6}$"]).correct == [False]


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{7} if x>0, \boxed{9} otherwise",
        r"\boxed{7} if x>0, and $\boxed{9}$ if x<0",
        r"$\boxed{7}$ for even n, $\boxed{9}$ for odd n",
        r"\boxed{7} plus \boxed{9}",
        r"$\boxed{7}$ + $\boxed{9}$",
        r"\boxed{7} times \boxed{9}",
        r"\boxed{7} divided by \boxed{9}",
        r"\boxed{7} \cdot \boxed{9}",
    ],
)
def test_parts_and_cases_in_boxes(text):
    for gold in ("7", "9"):
        assert verify("math", gold, [text]).correct == [False]


@pytest.mark.parametrize(
    "changed",
    [
        "42的平方",
        "42的立方",
        "42的3倍",
        "42分之一",
        "42倍的x",
        "42万",
        "42亿元",
        "42千",
        "42以上",
        "42多",
    ],
)
def test_chinese_words_change_a_number(changed):
    texts = [f"答案是{changed}。", f"答案：{changed}"]
    assert verify("math", "42", texts).correct == [False, False]


@pytest.mark.parametrize(
    "words", ["42个", "42千克", "42元", "42平方米", "42百分点", "42左右", "42。"]
)
def test_chinese_units(words):
    assert verify("math", "42", [f"答案是{words}"]).correct == [True]


@pytest.mark.parametrize(
    "words",
    [
        "the square root of 18",
        "twice 18",
        "half of 18",
        "a third of 18",
        "log of 18",
        "the reciprocal of 18",
        "more than 18",
        "the number of primes below 18",
        "18 three-quarters",
        "18 times itself",
    ],
)
def test_words_before_a_number_change_it(words):
    texts = [f"Answer: {words}", f"#### {words}", f"The answer is {words}."]
    assert verify("math", "18", texts).correct == [False] * 3


def test_words_before_a_number_that_do_not():
    for text in (
        "Answer: She has 18 eggs",
        "Answer: The number of eggs is 18",
        "Answer: at least 18",
    ):
        assert verify("math", "18", [text]).correct == [True]
