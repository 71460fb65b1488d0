"""Options in the question's own text: a letter as the gold then names one of them."""

import pytest

from ccpo_jax.data import from_rows
from ccpo_jax.data.inline_options import names_inline_option


@pytest.mark.parametrize(
    "question,gold",
    [
        ("Which is prime?\nOptions:\n(A) 8\n(B) 7", "(B)"),
        ("Which is prime? A) 8 B) 7 C) 9", "B"),
        ("Which is prime?\nA. 8\nB. 7", "b"),
        ("Which is prime?\nA: 8\nB: 7", "A"),
        ("Which is prime? [A] 8 [B] 7", "[B]"),
        ("A.8\nB.7\nWhich is prime?", "B"),
    ],
)
def test_a_letter_names_an_option_of_the_text(question, gold):
    assert names_inline_option(question, gold)


@pytest.mark.parametrize(
    "question,gold",
    [
        ("Which is prime? (A) 8 (B) 7", "C"),
        ("Which is prime? (A) 8 (B) 7", "7"),
        ("Which is prime? (A) 8 (C) 7", "C"),
        ("Point A lies on the line through B. Which is closer to C?", "B"),
        ("Solve x: A = B", "A"),
        ("(A) is the only one", "A"),
    ],
)
def test_other_letters_name_none(question, gold):
    assert not names_inline_option(question, gold)


def test_a_set_of_such_rows_is_judged_as_choice():
    rows = [{"input": f"Which is {n}? (A) {n + 1} (B) {n}", "target": "(B)"} for n in range(3)] + [
        {"input": "What is 2 + 2?", "target": "4"}
    ]
    dataset = from_rows(rows, name="bbh", columns="question=input,answer=target")
    kinds = [(problem.gold, problem.verifier) for problem in dataset.problems]
    assert kinds == [("B", "choice")] * 3 + [("4", "math")]
    assert "options in the question" in dataset.summary()


def test_a_letter_in_a_set_of_mathematics_stays_an_answer():
    rows = [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(3)]
    rows.append({"question": "Which set is larger? (A) odd (B) all", "answer": "B"})
    dataset = from_rows(rows, name="sums")
    assert {problem.verifier for problem in dataset.problems} == {"math"}
