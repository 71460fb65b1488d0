"""Tables as text: delimiters, quotes, headers, and where a malformed row begins."""

import gzip

import pytest

from ccpo_jax.data import load
from tests.support.errors import raises_for
from tests.support.problems import LOGIQA


def read(tmp_path, content, name="x.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [problem.row for problem in load(str(path)).problems]


ROWS = [{"question": "1, 2\nor 3?", "answer": "007"}, {"question": "q", "answer": "2"}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_delimiters_ends_and_encodings(delimiter, end, encoding, tmp_path):
    lines = ["question,answer", '"1, 2\nor 3?",007', "", "q,2", ""]
    text = end.join(lines).replace("question,", f"question{delimiter}")
    text = text.replace(",007", f"{delimiter}007").replace("q,", f"q{delimiter}")
    assert read(tmp_path, text.encode(encoding)) == ROWS
    assert read(tmp_path, gzip.compress(text.encode(encoding)), "x.csv.gz") == ROWS


def test_all_cells_are_text_and_all_columns_stay(tmp_path):
    text = ',question,answer,note\n0,"a ""b""",1.50,\n1,c,2,true\n'
    assert read(tmp_path, text, "any name") == [
        {"column 1": "0", "question": 'a "b"', "answer": "1.50", "note": ""},
        {"column 1": "1", "question": "c", "answer": "2", "note": "true"},
    ]


def test_a_blank_line_may_precede_a_table(tmp_path):
    assert read(tmp_path, "\nquestion,answer\nq,2\n") == ROWS[1:]
    assert [row["answer"] for row in read(tmp_path, LOGIQA)] == ["b"]


def test_options_in_columns(tmp_path):
    (tmp_path / "x.csv").write_text("question,A,B,answer\nq,x,y,B\n")
    (problem,) = load(str(tmp_path / "x.csv")).problems
    assert (problem.question, problem.gold) == ("q\nA. x\nB. y", "B")


@pytest.mark.parametrize(
    "text, facts",
    [
        ("What is 1 + 1?,2\nWhat is 2 + 2?,4\n", ["line 1 must name the columns", "What is 1"]),
        ("First,0,4,2,6,B\n", ["line 1 must name the columns", "'0'"]),
        ("question,answer,answer\nq,1,2\n", ["two columns are called 'answer'"]),
        ("question,answer\nq,1\nWhat\nnow,2\n", ["line 3 has 1 cells", "2 columns"]),
        ("question,answer\na, b,1\n", ["line 2 has 3 cells"]),
        ('question,answer\nq,1\n"open,2\nr,3\n', ["begins in line 3", "close each quote"]),
        ('question,answer\n"a"b,1\n', ["begins in line 2", "double a quote"]),
        ("question,answer\n" + "q" * 2**25 + ",1\n", ["begins in line 2", "field limit"]),
        ("question,answer\nq,\n", ["1 empty gold"]),
        ("question,note\nq,1\n", ["line 2", "answer"]),
        ("question,answer\n", ["no rows"]),
    ],
)
def test_malformed_tables_are_one_clear_line(text, facts, tmp_path):
    with raises_for("data.train") as error:
        read(tmp_path, text)
    message = str(error.value)
    assert all(fact in message for fact in facts) and "\n" not in message, message
