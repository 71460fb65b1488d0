"""Lists and dicts as pandas writes them into a CSV file, in Python's words and numpy's."""

import pytest

from ccpo_jax.data import load
from ccpo_jax.data.cells import structured
from tests.support.errors import raises_for

pd = pytest.importorskip("pandas")

USER = {"role": "user", "content": "What's 1+1?"}
SYSTEM = {"role": "system", "content": 'Say "5".\n Be {brief}\n {'}


@pytest.mark.parametrize("cell", [[SYSTEM, USER], [str([SYSTEM, USER]).replace("}, {", "}\n {")]])
def test_a_conversation_is_no_text(tmp_path, cell):
    path = tmp_path / "x.csv"
    written = cell if len(cell) == 2 else cell[0]
    pd.DataFrame({"prompt": [written], "answer": [2]}).to_csv(path)
    problem = load(str(path)).problems[0]
    assert problem.question == "What's 1+1?"
    assert problem.history == (("system", SYSTEM["content"].strip()),)


def test_options_and_their_number(tmp_path):
    path = tmp_path / "x.csv"
    pd.DataFrame({"question": ["q"], "choices": [["it's", r"\frac12"]], "answer": ["B"]}).to_csv(
        path
    )
    problem = load(str(path)).problems[0]
    assert problem.options == ("it's", r"\frac12") and problem.gold == "B"


def test_texts_without_commas_are_not_joined(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("question,choices,answer\nq,['a' 'b'],B\n")
    with raises_for("data.train"):
        load(str(path))


@pytest.mark.parametrize(
    "text", ["['a'", "[" * 5000, "{'a': open('x')}", "['a', 'b'", "{1, 2}", r"['\frac{1}{2}']"]
)
def test_other_text_stays_text(text):
    assert structured(text) == text
