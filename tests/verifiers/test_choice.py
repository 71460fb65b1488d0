"""The choice verifier."""

import pytest

from ccpo_jax.verifiers import VERIFIERS, check_gold, verify
from ccpo_jax.verifiers.types import NO_CONTEXT
from tests.support.verdicts import is_correct


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (B).", "B"),
        ("The answer is B", "B"),
        ("Answer: B", "B"),
        ("answer: b", "B"),
        ("The answer is (c)", "C"),
        ("**Answer:** C", "C"),
        ("**Answer: C**", "C"),
        ("Answer:\n\nD) because it rains", "D"),
        (r"\boxed{D}", "D"),
        (r"\boxed{\text{D}}", "D"),
        (r"$\boxed{\textbf{(E)}}$", "E"),
        (r"\boxed{B. The second one}", "B"),
        (r"The answer is $\boxed{A}$.", "A"),
        (r"The answer is \(\boxed{c}\)", "C"),
        (r"First \boxed{A}. On reflection \boxed{C}.", "C"),
        (r"\boxed{A}. No, wait: the answer is B.", "B"),
        ("The answer is A. No, the answer is (D).", "D"),
        ("the correct answer is option G", "G"),
        ("The correct option is: F", "F"),
        ("So the best choice would be (A).", "A"),
        ("The answer is most likely E", "E"),
        ("The answer must be **B**.", "B"),
        ("I vote for C", "C"),
        ("My vote: D", "D"),
        ("I choose (B) here.", "B"),
        ("Option C is correct.", "C"),
        ("Option B is wrong and option D is the correct answer.", "D"),
        ("The answer is A because it follows.", "A"),
        ("The answer is A", "A"),
        ("Answer: A. It is raining", "A"),
        ("B", "B"),
        ("(B)", "B"),
        ("It must rain.\nB.", "B"),
        ("It must rain.\n**(D)**", "D"),
        ("Therefore, C", "C"),
        ("C. It must rain because of the clouds.", "C"),
        ("Let us see.\n(B) It must rain", "B"),
        ("The answer is a matter of taste", None),
        ("The answer is A matter of taste", None),
        ("The answer is a good one", None),
        ("A dog barks.", None),
        ("A man walks. Be careful.", None),
        ("The answer is not B", None),
        ("Option B is incorrect.", None),
        ("The answer is A or B", None),
        ("Answer: A, C", None),
        (r"\boxed{A, C}", None),
        ("A. one\nB. two\nC. three", None),
        ("The answer is Boston", None),
        ("The answer is H", None),
        ("Vitamin C is good", None),
        ("", None),
    ],
)
def test_choice_extracts(text, letter):
    assert VERIFIERS["choice"].extract(text, NO_CONTEXT) == letter


@pytest.mark.parametrize(("gold", "letter"), [("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B")])
def test_choice_gold_is_any_way_of_writing_the_letter(gold, letter):
    assert check_gold("choice", gold) is None and is_correct("choice", gold, f"Answer: {letter}")
    assert not is_correct("choice", gold, "Answer: C")


def test_choice_gold_that_is_no_letter():
    assert check_gold("choice", "1") == "not a letter from A to G: '1'"
    assert verify("choice", "1", ["Answer: B"]).counts["gold_unparsed"] == 1
