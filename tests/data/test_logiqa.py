"""LogiQA's text format and its misplaced letters."""

import pytest

from ccpo_jax.data import Problem, load
from tests.support.problems import LOGIQA


def test_logiqa_text(tmp_path):
    (tmp_path / "d.txt").write_text(
        LOGIQA + LOGIQA.replace("\nb\n", "\nD\n").replace("cats", "rats") + "\n"
    )
    first, second = load(str(tmp_path / "d.txt")).problems
    assert first == Problem(
        "d/0",
        "All cats sleep.\nWhat follows?\nA. Dogs sleep\nB. Cats sleep\nC. No one sleeps\nD. None",
        "B",
        "choice",
        "All cats sleep.",
        options=("Dogs sleep", "Cats sleep", "No one sleeps", "None"),
    )
    assert (second.id, second.gold, second.context) == ("d/1", "D", "All rats sleep.")


@pytest.mark.parametrize(
    "given,expected",
    [
        (
            ["A.F", "C.L", "B.G", "D.M"],
            ["F", "G", "L", "M"],
        ),  # the gold names the letter: sorted by it
        (["A first", "B Third", "C? Fourth", "D.fifth"], ["first", "Third", "Fourth", "fifth"]),
        (["A.A runs", "B.I sit", "C. C? no", "D.D"], ["A runs", "I sit", "C? no", "D"]),
        (["A.x", "B.y", "Professor C.Lin quit", "D.z"], ["x", "y", "Professor Lin quit", "z"]),
        (
            ["The base in City A.B rose", "B.y", "C z", "d.w"],
            ["The base in City B rose", "y", "z", "w"],
        ),
        (["A.x", "B.y", "A part in C.S City", "D.z"], ["x", "y", "A part in S City", "z"]),
        (["Anne", "Bob", "Carl", "D.Dan"], ["Anne", "Bob", "Carl", "Dan"]),
    ],
)
def test_logiqa_letters(given, expected, tmp_path):
    (tmp_path / "x.txt").write_text("\n".join(["", "c", "context", "question", *given]))
    (problem,) = load(str(tmp_path / "x.txt")).problems
    assert problem.question.split("\n")[2:] == [
        f"{letter}. {text}" for letter, text in zip("ABCD", expected, strict=True)
    ]
