"""Local files: formats by content, and one clear line for each malformed one."""

import datetime
import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from ccpo_jax.data import load, load_many
from ccpo_jax.data.files import read_file
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
        assert dataset.summary().startswith(f"{name[0]}: 3 problems; question from `")


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


JSONL_THEN_LATIN = b'{"question": "q", "answer": "1"}\n' + '{"question": "\u00e9"}'.encode(
    "latin-1"
)

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
    ("x.json", '{"train": [{"a": 1}], "test": [{"a": 1}]}', ["2 lists", "'train', 'test'"]),
    ("x.json", '{"columns": ["question", "answer"], "data": [["q"]]}', ["row 0", "2 cells"]),
    ("x.json", '{"columns": 7, "data": [["q"]]}', ["must be lists"]),
    ("x.json", '{"data": [{"note": "q"}]}', ["row 0", "question", "note"]),
    ("x.json", '{\n "data": [\n  {"question": "q",, }\n ]\n}', ["line 3"]),
    ("x.jsonl", '{"a": ' + "9" * 5000 + "}", ["limit"]),
    ("x.jsonl", '{"question": "q", "answer": "1"}\n{"a": ' + "9" * 5000 + "}", ["line 2", "limit"]),
    # One row that holds a conversation is a row.
    (
        "x.jsonl",
        json.dumps(
            {
                "data_source": "mine",
                "prompt": [{"role": "user", "content": "1+1?"}],
                "reward_model": {"truth": "2", "style": "rule"},
            }
        ),
        ["row 0", "--config.data.columns=answer=COLUMN"],
    ),
    (
        "x.json",
        '{"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]}',
        ["1 empty gold", "--config.data.columns=answer=COLUMN"],
    ),
    ("x.json", '{"goal": "q", "tags": ["x", "y"], "answer": "1"}', ["question=goal"]),
    ("x.jsonl", "", ["empty"]),
    ("x.jsonl", " \n\n", ["empty"]),
    ("x.json", "[" * 100_000, ["nested too deeply"]),
    ("x.txt", "Only a sentence.\n", ["parquet, JSON, JSON lines, CSV", "LogiQA"]),
    ("x.txt", LOGIQA + "\nb\nthe end\n", ["line 9", "eight lines", "3 lines to the end"]),
    ("x.txt", LOGIQA.replace("\nb\n", "\nz\n"), ["line 1", "received ['', 'z']"]),
    ("x.txt", LOGIQA.replace("\nb\n", "\nb\nmore\n") + LOGIQA, ["line 9", "eight lines"]),
    ("x.txt", b"\xff\xfe\x00", ["'utf-8' codec can't decode", "not text"]),
    ("x.jsonl", '{"question": "Café?", "answer": "1"}'.encode("latin-1"), ["Latin-1", "UTF-8"]),
    ("x.json", '[{"question": "“Why?”", "answer": "1"}]'.encode("cp1252"), ["Windows-1252"]),
    ("x.txt", LOGIQA.replace("Cats", "Où").encode("latin-1"), ["Latin-1", "position"]),
    ("x.jsonl", JSONL_THEN_LATIN, ["line 2:", "Latin-1"]),
    ("x.jsonl.gz", gzip.compress(JSONL_THEN_LATIN, mtime=0), ["line 2:", "Latin-1"]),
    ("x.jsonl", b"\x80\x04\x95\x10\x00\x00\x00", ["not text"]),
    (
        "x.parquet",
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n",
        ["Git LFS pointer", "git lfs pull"],
    ),
    ("data-00000-of-00001.arrow", b"\xff\xff\xff\xff\x10", ["Arrow", "save_to_disk"]),
    ("x.arrow", b"ARROW1\x00\x00", ["Arrow", "parquet"]),
    ("x.json", "\n<!DOCTYPE html>\n<html></html>\n", ["HTML"]),
    ("x.parquet", b"PAR1 and no more", ["x.parquet: "]),
]


@pytest.mark.parametrize("name, content, facts", BAD_FILES)
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


# --- compressed files, encodings, parquet ---------------------------------------------------------

LINES = [{"question": f"q{i}", "answer": str(i)} for i in range(3)]
JSONL = "\n".join(map(json.dumps, LINES)).encode()


def golds(path, **options):
    return [problem.gold for problem in load(str(path), **options).problems]


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.json.GZ", "x.gz", "x.jsonl"])
def test_gzip_is_read_whatever_the_name(name, tmp_path):
    (tmp_path / name).write_bytes(gzip.compress(JSONL))
    assert golds(tmp_path / name) == ["0", "1", "2"]
    assert load(str(tmp_path / name)).name == "x"


def test_gzip_of_each_format(tmp_path):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(LINES), tmp_path / "x.parquet")
    contents = {
        "a.parquet.gz": (tmp_path / "x.parquet").read_bytes(),
        "b.json.gz": json.dumps(LINES).encode(),
        "c.txt.gz": LOGIQA.encode(),
        "d.jsonl.gz": JSONL.decode().encode("utf-16"),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(gzip.compress(content))
        assert load(str(tmp_path / name)).name == name[0]
    assert golds(tmp_path / "a.parquet.gz") == golds(tmp_path / "d.jsonl.gz") == ["0", "1", "2"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("separator", ["\n", "\r\n"])
def test_encodings_with_a_mark(encoding, separator, tmp_path):
    text = separator.join(map(json.dumps, LINES)).replace("q0", "q∑")
    (tmp_path / "x.jsonl").write_bytes(text.encode(encoding))
    dataset = load(str(tmp_path / "x.jsonl"))
    assert [problem.question for problem in dataset.problems] == ["q∑", "q1", "q2"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("content", ["json", "logiqa"])
def test_encodings_without_a_mark(encoding, content, tmp_path):
    text = JSONL.decode() if content == "json" else LOGIQA
    (tmp_path / "x").write_bytes(text.encode(encoding))
    assert golds(f"x={tmp_path / 'x'}") == (["0", "1", "2"] if content == "json" else ["B"])


@pytest.mark.parametrize(
    "content, fact",
    [
        (gzip.compress(JSONL, mtime=0)[:-9], "cut off"),
        (gzip.compress(JSONL, mtime=0)[:20], "cut off"),
        (b"\x1f\x8b\x00 and no more", "gz"),
        (b"PK\x03\x04 and more", "zip"),
        (b"BZh91AY", "bzip2"),
        (b"\xfd7zXZ\x00 and more", "xz"),
        (b"\x28\xb5\x2f\xfd and more", "Zstandard"),
        ("é".encode("latin-1"), "utf-8"),
    ],
)
def test_files_that_are_not_read_say_what_they_are(content, fact, tmp_path):
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(content)
    with raises_for("data.eval") as error:
        load(str(path), field="data.eval")
    assert fact in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value)


def write_parquet(path, rows, **columns):
    table = pyarrow.Table.from_pylist(rows)
    for name, column in columns.items():
        table = table.append_column(name, column)
    pyarrow.parquet.write_table(table, path)
    return str(path)


def test_views_are_kept_by_every_format(tmp_path):
    rows = [{"question": "1+2", "answer": "3", "views": ["1+?", "?+2"]}]
    (tmp_path / "a.jsonl").write_text(json.dumps(rows[0]))
    (tmp_path / "b.json").write_text(json.dumps(rows))
    write_parquet(tmp_path / "c.parquet", rows)
    for name in ("a.jsonl", "b.json", "c.parquet"):
        (problem,) = load(str(tmp_path / name)).problems
        assert problem.views == ("1+?", "?+2") and problem.prompt_text_for(1) == "?+2"


@pytest.mark.parametrize(
    "rows",
    [
        [{"question": "q", "choices": ["x", "y"], "answer": 1}],
        [{"question": "q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"}],
        [{"question": "q", "A": "x", "B": "y", "C": None, "answer": "B"}],
        [{"question": "q", "options": {"A": "x", "B": "y"}, "answer_idx": "B"}],
        [{"ctx": "q", "endings": ["x", "y"], "label": "1"}],
    ],
)
def test_options_in_parquet(rows, tmp_path):
    (problem,) = load(write_parquet(tmp_path / "x.parquet", rows)).problems
    assert (problem.question, problem.gold) == ("q\nA. x\nB. y", "B")


@pytest.mark.parametrize(
    "cells, column",
    [
        ({"candidates": ["x", "y"]}, "candidates"),
        ({"option1": "x", "option2": "y"}, "option1"),
        ({"meta": {"choices": ["x", "y"]}}, "meta.choices"),
        ({"things": ["x", "y"]}, "things"),
    ],
)
def test_options_under_another_name_in_parquet(cells, column, tmp_path):
    path = write_parquet(tmp_path / "x.parquet", [{"question": "q", "answer": "B", **cells}])
    with raises_for("data.train") as error:
        load(path)
    assert column in str(error.value)


def test_merged_columns_of_parquet(tmp_path):
    rows = [
        {"question": None, "problem": "2+2?", "answer": 4.0, "choices": None},
        {"question": "q", "problem": None, "answer": 1.0, "choices": ["x", "y"]},
        {"question": "r", "problem": None, "answer": None, "choices": None},
    ]
    dataset = load(write_parquet(tmp_path / "x.parquet", rows))
    assert [(p.question, p.gold) for p in dataset.problems] == [
        ("2+2?", "4.0"),
        ("q\nA. x\nB. y", "B"),
    ]
    assert dataset.dropped == {"empty gold": 1}


def test_a_column_of_another_type_is_named(tmp_path):
    path = write_parquet(tmp_path / "x.parquet", [{"question": "q", "answer": b"7"}])
    with raises_for("data.train") as error:
        load(path)
    assert "answer" in str(error.value) and "b'7'" in str(error.value)


def test_columns_of_parquet_survive_but_those_of_bytes(tmp_path):
    nanoseconds = pyarrow.array([1, 2, 3], pyarrow.timestamp("ns"))
    images = pyarrow.array([{"bytes": b"\x00\xff", "path": "a.png"}] * 3)
    names = pyarrow.array(["a", "b", "c"]).dictionary_encode()
    days = pyarrow.array([datetime.date(2026, 12, 1)] * 3)
    path = write_parquet(tmp_path / "x", LINES, made=nanoseconds, day=days, image=images, by=names)
    dataset = load(f"x={path}")
    assert dataset.problems[0].row == {
        "question": "q0",
        "answer": "0",
        "made": "1970-01-01T00:00:00.000000001",
        "day": "2026-12-01",
        "by": "a",
    }
    assert dataset.notes == ("columns of bytes left out: image",)
    assert dataset.summary().endswith("verifier math; columns of bytes left out: image")


TWO = [{"question": "q0", "answer": "0"}, {"question": "q1", "answer": "1"}]


@pytest.mark.parametrize(
    "content",
    [
        {"data": TWO, "version": 1},
        {"question": ["q0", "q1"], "answer": ["0", "1"]},
        {"question": {"0": "q0", "1": "q1"}, "answer": {"0": "0", "1": "1"}},
        {"columns": ["question", "answer"], "index": [0, 1], "data": [["q0", "0"], ["q1", "1"]]},
        {"a-1": TWO[0], "a-2": TWO[1]},
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_an_object_may_hold_the_rows(content, indent, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content, indent=indent))
    assert [problem.row for problem in load(str(path)).problems] == TWO


def test_lines_are_read_as_they_are_asked_for(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(map(json.dumps, TWO)) + "\n{oops}\n")
    rows = read_file(path, "data.train")
    assert [next(rows), next(rows)] == [("line 1", TWO[0]), ("line 2", TWO[1])]
    with raises_for("data.train"):
        next(rows)
