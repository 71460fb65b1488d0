"""Datasets by name: defects, labels, unknown names, synthetic and joined sets."""

import pytest

from ccpo_jax.data import DATASETS, check_names, load, load_many
from ccpo_jax.data.synthetic import TASKS, VIEWS, most_problems, split_of
from tests.support.errors import raises_for
from tests.support.problems import ids, write_json


def test_defects_are_dropped_and_counted(tmp_path):
    rows = [("a", "1"), ("", "2"), ("b", ""), ("A ", "3"), ("c", "4"), ("d", None)]
    dataset = load(write_json(tmp_path, "x.json", [{"question": q, "answer": a} for q, a in rows]))
    assert ids(dataset) == ["x/0", "x/4"] and dataset.problems[0].gold == "1"
    assert dataset.dropped == {"empty question": 1, "empty gold": 2, "duplicate question": 1}
    assert (
        dataset.summary()
        == "x: 2 problems (dropped: 1 duplicate question, 2 empty gold, 1 empty question); question "
        "from `question`, gold from `answer`, verifier math"
    )


@pytest.mark.parametrize(
    "name, facts",
    [
        ("maht", ["'maht'", "did you mean 'math'", ", ".join(DATASETS)]),
        ("zzz", ["'zzz'", "synthetic/dyad"]),
        ("", ["''"]),
        ("folder/none.json", ["'folder/none.json'"]),
        ("none.json", ["'none.json'"]),
        ("math=none", ["'none'"]),
        ("synthetic/chess", ["'synthetic/chess'", "synthetic/dyad"]),
        ("synthetic/dyad/dev", ["'synthetic/dyad/dev'", "synthetic/TASK/test"]),
    ],
)
def test_unknown_names(name, facts):
    with raises_for("data.eval") as error:
        load(name, field="data.eval")
    message = str(error.value)
    assert all(fact in message for fact in facts) and "\n" not in message


def test_a_file_may_have_a_name_of_its_own(tmp_path):
    path = write_json(tmp_path, "x=1+1.json", [{"question": "q", "answer": "1"}])
    assert ids(load(f"math={path}")) == ["math/0"]
    assert ids(load(path)) == ids(load_many(path)) == ["x=1+1/0"]


@pytest.mark.parametrize("task", TASKS)
def test_synthetic_sets(task):
    dataset = load(f"synthetic/{task}", size=50, seed=3)
    assert len(dataset.problems) == 50 and {p.verifier for p in dataset.problems} == {"exact"}
    assert (
        load(f"synthetic/{task}", size=50, seed=3)
        == dataset
        != load(f"synthetic/{task}", size=50, seed=4)
    )
    test = load_many(f"synthetic/{task}/test")
    assert len(test.problems) == min(1024, most_problems(task, "test"))
    assert {split_of(p.question) for p in test.problems} == {"test"}
    assert {split_of(p.question) for p in dataset.problems} == {"train"}
    for size in (0, -3):
        with raises_for("data.size"):
            load(f"synthetic/{task}", size=size)


def test_views_follow_the_team():
    parts = load("synthetic/parts", size=20, num_agents=5, informed=2).problems
    assert {(len(p.views), p.views.count(p.question)) for p in parts} == {(5, 2)}
    assert load("synthetic/voting", size=20, num_agents=5).problems[0].views == ()
    with raises_for("data.informed"):
        load("synthetic/parts", num_agents=2, informed=3)
    with raises_for("data.size"):
        load("synthetic/parts", size=5000)


def test_views_of_a_plugin_depend_on_the_question_alone(monkeypatch):
    monkeypatch.setitem(TASKS, "mine", lambda split, size, seed: [("1+2", "3")] * size)
    monkeypatch.setitem(VIEWS, "mine", lambda question: (question, "?"))
    assert load("synthetic/mine", size=1, num_agents=7).problems[0].views == ("1+2", "?")


def test_joined_sets_share_no_question(tmp_path):
    a = write_json(tmp_path, "a.json", [{"question": q, "answer": "1"} for q in "xy"])
    b = write_json(tmp_path, "b.json", [{"question": q, "answer": "1"} for q in "y?yz"])
    dataset = load_many(f"{a} + {b}")
    assert ids(dataset) == ["a/0", "a/1", "b/1", "b/3"]
    assert dataset.name == "a+b" and dataset.dropped == {"duplicate question": 2}
    assert load_many((a, b)) == dataset


def test_joined_sets_need_different_names(tmp_path):
    (tmp_path / "b").mkdir()
    a = write_json(tmp_path, "x.json", [{"question": "first", "answer": "1"}])
    b = write_json(tmp_path / "b", "x.json", [{"question": "second", "answer": "1"}])
    with raises_for("data.train") as error:
        load_many(f"{a}+{b}")
    assert "'x'" in str(error.value) and "label=FILE" in str(error.value)
    assert ids(load_many(f"{a}+y={b}")) == ["x/0", "y/0"]


def test_sets_that_are_used_together_need_different_names(tmp_path):
    (tmp_path / "b").mkdir()
    a = load(write_json(tmp_path, "test.json", [{"question": "first", "answer": "1"}]))
    b = write_json(tmp_path / "b", "test.json", [{"question": "second", "answer": "1"}])
    check_names([a, load(f"other={b}")], "data.eval")
    check_names([], "data.eval")
    with raises_for("data.eval") as error:
        check_names([a, load(b)], "data.eval")
    assert "'test'" in str(error.value) and "label=FILE" in str(error.value)


@pytest.mark.parametrize(
    "name", ["a,b.json", "a=b.json", "a,b=c,d.json", "a+b.json", " a b.json", "ä~é.json", "~x.json"]
)
def test_odd_names_of_files(name, tmp_path, monkeypatch):
    path = write_json(tmp_path, name, [{"question": "q", "answer": "1"}])
    stem = name.removesuffix(".json")
    assert ids(load(path)) == ids(load_many([path])) == [f"{stem}/0"]
    assert ids(load(f"label={path}")) == ["label/0"]
    monkeypatch.chdir(tmp_path)
    assert ids(load(f"./{name}")) == [f"{stem}/0"]
