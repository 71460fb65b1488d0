"""The exact verifier."""

import pytest

from ccpo_jax.verifiers import check_gold, verify
from tests.support.verdicts import is_correct


@pytest.mark.parametrize(
    ("gold", "text", "verdict"),
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
