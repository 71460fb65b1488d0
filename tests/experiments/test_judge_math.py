"""Surface forms and corruptions of answers: all forms are accepted, hardly a corruption is."""

import pytest

from experiments.judge.corruptions import CORRUPTIONS, accepted, corrupted
from experiments.judge.surface_forms import FORMS, unaccepted

GOLDS = (
    "42",
    "-7",
    r"\frac{3}{8}",
    r"2\frac{1}{4}",
    r"5\sqrt{6}",
    r"-\frac{\pi}{3}",
    "12.75",
    r"23,\!400",
    r"135^\circ",
    r"15\%",
    r"\$4.25",
    r"18\text{ cm}^2",
    "(2,-3)",
    r"\left(\frac{1}{2}, 4\right]",
    r"(-\infty,0)\cup(5,\infty)",
    r"\{1,4,9\}",
    "2, -5",
    r"1 \pm \sqrt{7}",
    "x^3-2x+5",
    "(a+2)(b-1)",
    r"\frac{x+1}{x-2}",
    "3-4i",
    "y=3x-1",
    "x=9",
    r"-1\le x\le 3",
    r"\begin{pmatrix} 1 & -2 \\ 0 & 3 \end{pmatrix}",
    r"\begin{pmatrix} 4 \\ -1 \end{pmatrix}",
    "121_4",
    "3:7",
    r"\text{odd}",
    r"\text{(B)}",
    r"\text{Friday}",
    "e^{2}-1",
    r"2\sin\theta\cos\theta",
)


def test_there_are_enough_forms_and_corruptions():
    assert len(FORMS) >= 50
    assert len(CORRUPTIONS) >= 20


def test_all_forms_of_an_answer_are_accepted():
    assert unaccepted(GOLDS) == []


def test_forms_and_corruptions_change_their_answers():
    """Each form and each corruption rewrites one of these golds at least."""
    for name, form in FORMS.items():
        assert name == "as it is" or any(form(gold) != gold for gold in (*GOLDS, "\\dfrac12")), name
    for corruption in CORRUPTIONS:
        assert any(list(corruption(gold)) for gold in GOLDS), corruption.__name__


def test_corruptions_of_an_answer_are_refused():
    right, tried = accepted(GOLDS)
    assert right == []
    assert tried > 200


def test_corruptions_are_drawn_from_the_seed():
    assert corrupted("x^3-2x+5", seed=1) == corrupted("x^3-2x+5", seed=1)
    assert corrupted("x^3-2x+5", seed=1) != corrupted("x^3-2x+5", seed=2)


@pytest.mark.parametrize("name, stride, share", [("math500", 5, 0.02), ("minervamath", 5, 0.05)])
def test_corruptions_of_real_golds_are_refused(real_data, name, stride, share):
    parquet = pytest.importorskip("pyarrow.parquet", reason="reading parquet files needs pyarrow")
    table = parquet.read_table(real_data / f"{name}.parquet", columns=["answer"])
    right, tried = accepted(table["answer"].to_pylist()[::stride])
    assert len(right) < share * tried, right


def test_forms_of_real_golds_are_accepted(real_data):
    parquet = pytest.importorskip("pyarrow.parquet", reason="reading parquet files needs pyarrow")
    table = parquet.read_table(real_data / "math_train.parquet", columns=["answer"])
    golds = [gold for gold in table["answer"].to_pylist()[::50] if gold.strip()]
    assert unaccepted(golds) == []
