r"""Further forms of announcements and of what they announce."""

import pytest

from ccpo_jax.verifiers import verify


@pytest.mark.parametrize(
    "text",
    [
        "The Answer Is 42",
        "THE ANSWER IS 42.",
        "So the answer's 42.",
        "The answer’s $42$.",
        "Final Result: 42",
        "**Final Result:** 42",
        "Final Value: 42 dollars",
        "[Answer] 42",
        "[Answer]: 42",
        "__Answer__: 42",
        "__Answer:__ 42",
        "The answer is found to be 42.",
        "The answer was determined to be 42.",
        "The answer is a total of 42.",
        "The answer is a total of 42 eggs.",
        "结果是42",
        "所以结果是42。",
        "结果为 $42$。",
    ],
)
def test_further_announcements(text):
    assert verify("math", "42", [text]).correct == [True]
    assert verify("math", "7", [text]).correct == [False]


@pytest.mark.parametrize(
    "text",
    ["The answer's digits sum to 42.", "Answered: 42", "The final resultant force: 42 holds"],
)
def test_words_that_announce_nothing(text):
    assert verify("math", "42", [text]).correct == [False]


@pytest.mark.parametrize("label", ["Answer: {}", "#### {}", "<answer>{}</answer>", "A: {}"])
@pytest.mark.parametrize(
    "written, gold, wrong",
    [
        ("|x-2|", "|x-2|", "x-2"),
        ("|x|+|y|", "|x|+|y|", "|x|+y"),
        ("5!", "120", "5"),
        ("6!", "720", "6"),
        ("x!", "x!", "x"),
    ],
)
def test_bars_and_factorials(label, written, gold, wrong):
    text = label.format(written)
    assert verify("math", gold, [text]).correct == [True]
    assert verify("math", wrong, [text]).correct == [False]


def test_exclamation_mark_ends_a_sentence():
    assert verify("math", "42", ["The answer is 42!"]).correct == [True]


@pytest.mark.parametrize(
    "gold, text",
    [
        ("5, 6", r"(a) \boxed{5} (b) \boxed{6}"),
        ("5, 6", "(a) $\\boxed{5}$\n\n(b) $\\boxed{6}$"),
        ("5, 6", r"Part a: \boxed{5}, part b: \boxed{6}"),
        ("5, 6", r"i) \boxed{5} ii) \boxed{6}"),
        ("1/2", r"\boxed\frac12"),
        ("1/2", r"So it is $\boxed\frac12$."),
        ("3/4", r"\boxed\frac{3}{4}"),
        ("x", r"\boxed x"),
    ],
)
def test_boxes_of_parts_and_without_braces(gold, text):
    assert verify("math", gold, [text]).correct == [True]
    assert verify("math", "6", [text]).correct == [False]
