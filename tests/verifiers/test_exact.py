"""The exact verifier."""

import pytest

from ccpo_jax.verifiers import check_gold, verify
from tests.support.verdicts import is_correct


@pytest.mark.parametrize(
    "gold, text, verdict",
    [
        ("24", "6+2=8;8+9=17;17+7=24;Answer: 24", True),
        ("24", "Answer: 23; Answer: 24", True),
        ("24", "Answer: 24; Answer: 23", False),
        ("24", "Answer: 24.0", True),
        ("1,250", "1250.", True),
        ("1250", r"Answer: 3 so \boxed{1,250.00}", True),
        ("-0.5", "-.50", True),
        ("0", "-0.0", True),
        ("-3", "3", False),
        ("12,50", "1250", False),
        ("New  York", "I think\nAnswer: new york.", True),
        ("New York", "York", False),
        ("7", "first line\n7", True),
        ("7", "7\nlast line", False),
        ("7", "Answer:", False),
        ("9" * 5000, "0" + "9" * 5000, True),
    ],
)
def test_exact(gold, text, verdict):
    assert is_correct("exact", gold, text) is verdict


@pytest.mark.parametrize(
    "text", ["unsure", "47-8=39\nunsure", "Answer: I don't know.", "I am not sure!"]
)
def test_unsure_counts_as_no_answer(text):
    """As an answer, two votes of "unsure" would outweigh the one agent that knows."""
    graded = verify("exact", "4", [text, text, "Answer: 4"])
    assert (
        graded.answer_id[:2] == [-1, -1]
        and graded.answer_id[2] >= 0
        and graded.correct == [False, False, True]
    )
    assert graded.counts["no_answer"] == 2 and "not known" in check_gold("exact", "Not sure")


def test_words_that_only_resemble_unsure_are_answers():
    assert is_correct("exact", "unknown", "Answer: Unknown") and is_correct(
        "exact", "unsure of b", "unsure of b"
    )


@pytest.mark.parametrize(
    "text",
    [
        "**Answer: 24**",
        "Answer: **24**",
        "**Answer:** `24`",
        "ANSWER: 24",
        "A: 24",
        "Answer:\n24",
        "**Final Answer**\n\n24",
        "The answer is 24.",
        "The answer is 24. It took 3 steps.",
        "The answer is therefore 24.",
        'The answer is "24".',
        "#### 24",
        "**24**",
        "$24$",
        "Answer: $24$",
        "Answer: \\(24\\)",
        "Answer: \\text{24}",
        "<answer>24</answer>",
        "<answer>**24**</answer>",
        "\\boxed{24}",
        "\\boxed{\\text{24}}",
        "24 is the answer.",
        "答案：24",
        "答案是24。",
        "<think>Answer: 7</think>Answer: 24",
        "Answer: 7? No.\nAnswer: 24",
        "\\boxed{7} is wrong. Answer: 24",
        "Answer: 24\n\nQ: And this?\nA: 7",
        "Answer: 24<|im_end|>",
    ],
)
def test_marks_and_markup_are_those_of_math(text):
    assert is_correct("exact", "24", text)
    assert not is_correct("exact", "7", text)


@pytest.mark.parametrize(
    "text",
    [
        "<think>Answer: 24",
        "Answer: 24 or 7",
        "The answer is 24 or 7.",
        "Answer: 24, 7",
        "<answer>24</answer> or <answer>7</answer>",
        "\\boxed{24} or \\boxed{7}",
        "The answer is not 24.",
        "Answer: 24\nThe answer is 7.",
    ],
)
def test_other_statements_are_not_the_answer(text):
    assert not is_correct("exact", "24", text)


def test_words_keep_what_belongs_to_them():
    assert is_correct("exact", "St. Louis", "Answer: St. Louis")
    assert is_correct("exact", "17 of 23", "The answer is 17 of 23.")
    assert is_correct("exact", "about a boy", "Answer: About a Boy")
    assert is_correct("exact", "U.S.", "Answer: **U.S.**")
    assert is_correct("exact", "$24", "Answer: $24")
    assert is_correct("exact", "**bold**", "bold")
    assert not is_correct("exact", "*args", "args") and not is_correct("exact", '"', "")
