"""Local files: formats by content, and one clear line for each malformed one."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from ccpo_jax.data import load, load_many
from tests.support.errors import raises_for
from tests.support.problems import LOGIQA


def test_the_format_is_recognised_by_content(tmp_path):
    rows = [{"question": f"q{i}", "answer": str(i)} for i in range(3)]
    (tmp_path / "a.txt").write_text(
        "\ufeff" + "\r\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8"
    )
    (tmp_path / "b").write_text(json.dumps(rows, indent=2))
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{**row, "level": 2} for row in rows]), tmp_path / "c.bin"
    )
    for name in ("a.txt", "b", "c.bin"):
        dataset = load(str(tmp_path / name))
        assert [(p.question, p.gold) for p in dataset.problems] == [
            ("q0", "0"),
            ("q1", "1"),
            ("q2", "2"),
        ]
        assert dataset.summary() == f"{name[0]}: 3 problems"


def test_one_problem_alone_may_be_laid_out(tmp_path):
    (tmp_path / "x.json").write_text(
        json.dumps({"question": "q", "options": ["a", "b"], "answer": "b"}, indent=2)
    )
    assert [problem.gold for problem in load(str(tmp_path / "x.json")).problems] == ["B"]


def test_a_unicode_line_separator_ends_no_line(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(
        json.dumps({"question": "a\u2028b", "answer": "1"}, ensure_ascii=False), encoding="utf-8"
    )
    assert load(str(path)).problems[0].question == "a\u2028b"


# Content of a file, and what its error must say besides the path: where, and what is there.
BAD_FILES = [
    ("x.jsonl", '{"question": "q", "answer": "1"}\n\n{oops}\n', ["line 3", "JSON", "character 1"]),
    ("x.jsonl", '{"question": "q", "answer": "1"}\n[1]\n', ["line 2", "received '[1]'"]),
    ("x.jsonl", '{"question": "q", "answer": "1"}\n{"note": 1}\n', ["line 2", "question", "note"]),
    ("x.jsonl", '{"question": "q", "answer": {}}\n', ["row 0", "answer", "received {}"]),
    ("x.json", '[{"question": "q"', ["Expecting ',' delimiter: line 1"]),
    ("x.json", "[7]", ["row 0", "received 7"]),
    ("x.json", "[]", ["no rows"]),
    ("x.json", '[{"question": "q", "answer": ""}]', ["1 empty gold"]),
    ("x.json", '[{"question": "q", "answer": "1"}, {"note": "q"}]', ["row 1", "question", "note"]),
    ("x.txt", "", ["empty"]),
    ("x.json", '{"data": [{"question": "q", "answer": "1"}]}', ["list", "the key 'data'"]),
    (
        "x.json",
        '{\n  "version": 1,\n  "data": [\n    {"question": "q", "answer": "1"}\n  ]\n}',
        ["list", "the key 'data'"],
    ),
    ("x.jsonl", "", ["empty"]),
    ("x.jsonl", " \n\n", ["empty"]),
    ("x.json", "[" * 100_000, ["nested too deeply"]),
    ("x.csv", "question,answer\n1,2\n", ["parquet, JSON, JSON lines", "LogiQA"]),
    ("x.txt", LOGIQA + "\nb\nthe end\n", ["line 9", "eight lines", "3 lines to the end"]),
    ("x.txt", LOGIQA.replace("\nb\n", "\nz\n"), ["line 1", "received ['', 'z']"]),
    ("x.txt", LOGIQA.replace("\nb\n", "\nb\nmore\n") + LOGIQA, ["line 9", "eight lines"]),
    ("x.txt", b"\xff\xfe\x00", ["'utf-8' codec can't decode"]),
    ("x.parquet", b"PAR1 and no more", ["x.parquet: "]),
]


@pytest.mark.parametrize(("name", "content", "facts"), BAD_FILES)
def test_bad_files_are_one_clear_line(name, content, facts, tmp_path):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with raises_for("data.eval") as error:
        load(str(path), field="data.eval")
    message = str(error.value)
    assert message.startswith(f"data.eval: {path}") and "\n" not in message
    assert all(fact in message for fact in facts), message


def test_home_folders_are_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.json").write_text(json.dumps([{"question": "q", "answer": "1"}]))
    assert load("~/x.json").name == load_many("~/x.json").name == "x"
    assert load("math=~/x.json").problems[0].id == "math/0"
    with raises_for("data.train"):
        load("~nobody-of-this-name/x.json")
