"""What a name stands for: files, patterns, folders, splits."""

import gzip
import json

import datasets
import pytest

from ccpo_jax.data import load, load_many
from tests.support.errors import raises_for
from tests.support.problems import ids, write_json


def rows(*questions):
    return [{"question": question, "answer": "1"} for question in questions]


def questions(name, **options):
    return [problem.question for problem in load(name, **options).problems]


@pytest.mark.parametrize(
    "name",
    ["a:b", "a@b.json", "a#b.json", "a=b", "a*b.json", "a[1].json", "a,b", "a+b", "a b", "o/n:c#s"],
)
def test_what_exists_is_a_path_whatever_its_signs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "o").mkdir()
    write_json(tmp_path, name, rows("q"))
    assert questions(name) == questions(str(tmp_path / name)) == questions(f"./{name}") == ["q"]
    assert ids(load_many(f"mine={name}")) == ids(load_many([f"mine={name}"])) == ["mine/0"]


def test_files_that_a_pattern_matches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/deep").mkdir(parents=True)
    write_json(tmp_path / "data", "train-2.json", rows("c"))
    write_json(tmp_path / "data", "train-1.json", rows("a", "b"))
    with gzip.open(tmp_path / "data/deep/part-1.jsonl.gz", "wt") as file:
        file.write(json.dumps(rows("d")[0]))
    (tmp_path / "data/train-notes").mkdir()

    assert questions("data/train-*") == ["a", "b", "c"]
    assert ids(load("data/train-*.json")) == ["train/0", "train/1", "train/2"]
    assert ids(load("data/**/part-*.jsonl.gz")) == ["part/0"]
    assert ids(load("data/*.json"))[0] == "data/0" and ids(load("x=data/*.json"))[0] == "x/0"
    (tmp_path / "data/train-3.jsonl").write_text(json.dumps(rows("e")[0]) + "\n{}\n")
    for pattern, fact in (
        ("data/test-*.json", "no file matches 'data/test-*.json'"),
        ("data/train-*", "data/train-*, train-3.jsonl, line 2: question: no column"),
    ):
        with raises_for("data.train") as error:
            load(pattern)
        assert fact in str(error.value) and "\n" not in str(error.value)


def test_folders_of_save_to_disk(tmp_path):
    table = datasets.Dataset.from_list(rows("a", "b"))
    table.filter(lambda row: row["question"] == "b").save_to_disk(tmp_path / "one")
    splits = datasets.DatasetDict(train=table, test=datasets.Dataset.from_list(rows("c")))
    splits.save_to_disk(tmp_path / "two")

    assert questions(f"{tmp_path}/one") == ["b"]
    assert questions(f"{tmp_path}/two") == ["a", "b"]
    assert questions(f"{tmp_path}/two", field="data.eval") == ["c"]
    assert ids(load(f"{tmp_path}/two#test")) == ["two-test/0"]
    for name, fact in (
        ("two#dev", "no split 'dev'; type one of train, test"),
        ("one#train", "has no splits; leave out #train"),
        ("two:main", "leave out :main"),
        ("two@main", "leave out @main"),
    ):
        with raises_for("data.train") as error:
            load(f"{tmp_path}/{name}")
        assert fact in str(error.value)


def test_folders_in_the_layout_of_the_hub(tmp_path):
    data = tmp_path / "sums/data"
    data.mkdir(parents=True)
    for name, question in (("train-00000-of-00002", "a"), ("train-00001-of-00002", "b")):
        datasets.Dataset.from_list(rows(question)).to_parquet(data / f"{name}.parquet")
    datasets.Dataset.from_list(rows("c")).to_parquet(data / "test-00000-of-00001.parquet")
    (tmp_path / "sums/README.md").write_text("# Sums\n")
    dataset = load(f"{tmp_path}/sums")
    assert [problem.id for problem in dataset.problems] == ["sums/0", "sums/1"]
    assert dataset.notes == (f"split train of {tmp_path}/sums",)
    assert questions(f"{tmp_path}/sums#test") == ["c"]
    with raises_for("data.train") as error:
        load(f"{tmp_path}/sums:other")
    assert "no configuration 'other'" in str(error.value)


def test_folders_of_files_of_one_kind(tmp_path, capfd):
    (tmp_path / "csv").mkdir()
    for name in "ba":
        (tmp_path / f"csv/{name}.csv").write_text(f"question,answer\n{name},1\n")
    assert questions(f"{tmp_path}/csv") == ["a", "b"]
    assert load(f"{tmp_path}/csv").notes == ()
    (tmp_path / "csv/dataset_infos.json").write_text("{}")
    (tmp_path / "csv/c.jsonl").write_text('{"question": "c", "answer": "1"}')
    unread = f"files of another kind not read, such as {tmp_path}/csv/c.jsonl"
    assert load(f"{tmp_path}/csv").notes == (unread,)
    (tmp_path / "empty").mkdir()
    with raises_for("data.train") as error:
        load(f"{tmp_path}/empty")
    assert "data files" in str(error.value) and "empty/*.jsonl" in str(error.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "name, fact",
    [
        ("x" * 300, "no dataset 'xxx"),
        ("./" + "x" * 300, "no file 'xxx"),
        ("a\0b", "no dataset"),
        ("mine=", "nothing stands behind 'mine='"),
        ("https://huggingface.co/datasets/org/name", "type org/name"),
        ("hf://datasets/org/name", "type org/name"),
    ],
)
def test_names_of_nothing(name, fact):
    with raises_for("data.train") as error:
        load(name)
    assert fact in str(error.value) and len(str(error.value)) < 500
