"""Datasets: formats, defects, splits, batches; real files where they are at hand."""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from ccpo_jax import data
from ccpo_jax.data import DATASETS, Dataset, Problem, batch_at, decontaminate, load, load_many, parse_row, split_heldout
from ccpo_jax.tasks import TASKS

LOGIQA = "\nb\nAll cats sleep.\nWhat follows?\nA.Dogs sleep\nB.Cats sleep\nNo one sleeps\nD. None\n"


def problems(count: int) -> tuple[Problem, ...]:
    return tuple(Problem(f"set/{i}", f"question {i}", str(i), "math") for i in range(count))


# --- rows and formats


@pytest.mark.parametrize("row,expected", [
    ({"question": " 1+1? ", "answer": "2"}, ("1+1?", "2", "math")),
    ({"problem": "p", "answer": 27.0}, ("p", "27.0", "math")),
    ({"question": "q", "answer": "$\\{x|x<1\\}$"}, ("q", "\\{x|x<1\\}", "math")),
    ({"question": "q", "answer": "$1$ and $2$"}, ("q", "$1$ and $2$", "math")),
    ({"question": "q", "answer": "so 3 x 24 = 72\n#### 72"}, ("q", "72", "math")),
    ({"problem": "p", "solution": "first \\boxed{1}, then \\boxed{\\frac{1}{2}} ok"}, ("p", "\\frac{1}{2}", "math")),
    ({"problem": "p", "solution": "no box"}, ("p", "", "math")),
    ({"problem": "p", "solution": "open \\boxed{1"}, ("p", "", "math")),
    ({"question": None, "answer": "2"}, ("", "2", "math")),
    ({"question": "q", "answer": None}, ("q", "", "math")),
    ({"text": "t", "question": "q", "options": ["x", "y"], "answer": 1}, ("t\nq\nA. x\nB. y", "B", "choice")),
    ({"context": "c", "query": "q", "options": ["A) x", "B) y"], "correct_option": 0}, ("c\nq\nA. x\nB. y", "A", "choice")),
    ({"question": "q", "options": ["I. only", "C. elegans"], "answer": "b"}, ("q\nA. I. only\nB. C. elegans", "B", "choice")),
    ({"question": "q", "options": ["x", "y"], "answer": "C"}, ("q\nA. x\nB. y", "", "choice")),
    ({"question": "q", "options": ["x", "y"], "answer": "Both"}, ("q\nA. x\nB. y", "", "choice")),
    ({"question": "q", "options": ["x", "y"], "answer": "1"}, ("q\nA. x\nB. y", "B", "choice")),
    ({"question": "q", "options": ["x", "y"], "answer": True}, ("q\nA. x\nB. y", "", "choice")),
])  # fmt: skip
def test_rows(row, expected):
    assert parse_row(row) == expected


@pytest.mark.parametrize("row,message", [
    ({"text": "t", "label": 1}, "row: needs a column of question/problem/query and one of answer/.*, has text, label"),
    ({"question": "q"}, "needs a column"),
    ({"question": "q", "options": "A B", "answer": 0}, "options must be a list"),
    ({"question": "q", "options": ["x"], "answer": 0}, "options must be a list of 2 to 26"),
])  # fmt: skip
def test_rows_of_no_known_kind(row, message):
    with pytest.raises(ValueError, match=message):
        parse_row(row)


def test_local_formats(tmp_path):
    rows = [{"question": f"q{i}", "answer": str(i)} for i in range(3)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / "b.json").write_text(json.dumps(rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "c.parquet")
    (tmp_path / "d.txt").write_text(LOGIQA)
    for name in ("a.jsonl", "b.json", "c.parquet"):
        assert [(p.question, p.gold) for p in load(str(tmp_path / name)).problems] == [
            ("q0", "0"),
            ("q1", "1"),
            ("q2", "2"),
        ]
    (logiqa,) = load(str(tmp_path / "d.txt")).problems
    assert logiqa.gold == "B" and logiqa.verifier == "choice"
    assert logiqa.question.splitlines() == [
        "All cats sleep.", "What follows?", "A. Dogs sleep", "B. Cats sleep", "C. No one sleeps", "D. None",
    ]  # fmt: skip


def test_defects_are_dropped_and_counted(tmp_path):
    rows = [("a", "1"), ("", "2"), ("b", ""), ("A ", "3"), ("c", "4")]
    (tmp_path / "x.json").write_text(json.dumps([{"question": q, "answer": a} for q, a in rows]))
    found = load(str(tmp_path / "x.json"))
    assert [p.id for p in found.problems] == ["x/0", "x/4"]
    assert found.dropped == {"empty question": 1, "empty gold": 1, "duplicate question": 1}
    assert found.summary() == "x: 2 problems (dropped: 1 duplicate question, 1 empty gold, 1 empty question)"


@pytest.mark.parametrize("name,content,message", [
    ("x.jsonl", '{"question": "q", "answer": "1"}\n{oops}\n', "data.train: .*x.jsonl cannot be read: line 2 is no JSON"),
    ("x.jsonl", "[1]\n", "line 1 must hold an object"),
    ("x.json", '{"a": 1}', "must hold a list of objects"),
    ("x.json", "[]", "x holds no problem"),
    ("x.json", '[{"question": "q", "answer": ""}]', "x holds no problem"),
    ("x.json", '[{"note": "q"}]', "row 0: needs a column"),
    ("x.txt", LOGIQA + "\nb\n", "records of eight lines, received 10 lines"),
    ("x.txt", LOGIQA.replace("\nb\n", "\nz\n"), "line 2 a letter a-d, received 'z'"),
    ("x.parquet", "no parquet", "x.parquet cannot be read"),
    ("x.csv", "a,b", "neither a dataset name nor a .parquet"),
])  # fmt: skip
def test_bad_files_are_one_clear_line(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        load(str(tmp_path / name), field="data.train")
    assert str(caught.value).startswith("data.train: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name,message", [
    ("maht", "data.eval: 'maht' is no dataset; did you mean 'math'"),
    ("zzz", "use a file path or one of math, math500"),
    ("folder/none.json", "there is no file 'folder/none.json'"),
    ("synthetic/chess", "no synthetic task; use one of synthetic/"),
])  # fmt: skip
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=message):
        load(name, field="data.eval")


def test_without_a_network_a_hub_set_says_what_to_type(monkeypatch):
    import datasets

    def unreachable(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(
        ValueError,
        match=r"data.train: 'math' could not .*MATH-lighteval \(ConnectionError: no route\);.*--config.data.train=FILE",
    ):
        load("math", field="data.train")


@pytest.mark.parametrize("name", DATASETS)
def test_every_hub_set_reaches_the_reader(name, monkeypatch):
    import datasets

    asked = {}
    rows = [{"question": "q", "answer": "1"}]

    def fake(hub, config, *, split, revision):
        asked.update(hub=hub, split=split)
        return rows

    monkeypatch.setattr(datasets, "load_dataset", fake)
    assert load(name).problems[0].id == f"{name}/0"
    assert asked["hub"] == DATASETS[name].hub and asked["split"] in ("train", "test", "validation")


@pytest.mark.parametrize("task", TASKS)
def test_synthetic_sets(task):
    found = load(f"synthetic/{task}", size=50, seed=3)
    assert len(found.problems) == 50 and {p.verifier for p in found.problems} == {"exact"}
    assert load(f"synthetic/{task}", size=50, seed=3) == found != load(f"synthetic/{task}", size=50, seed=4)


def test_joined_sets_share_no_question(tmp_path):
    for name, asked in (("a", "xy"), ("b", "yz")):
        (tmp_path / f"{name}.json").write_text(json.dumps([{"question": q, "answer": "1"} for q in asked]))
    found = load_many(f"{tmp_path}/a.json + {tmp_path}/b.json")
    assert [p.id for p in found.problems] == ["a/0", "a/1", "b/1"]
    assert found.name == "a+b" and found.dropped == {"duplicate question": 1}


# --- real files


REAL = {
    "aime24.parquet": 30, "aime25.parquet": 30, "amc23.parquet": 40, "ar_lsat_test.json": 230, "ar_lsat_train.json": 1564,
    "gaokao2023en.parquet": 383, "gsm8k_test.jsonl": 1319, "gsm8k_train.jsonl": 7473, "logical_deduction_dev.json": 300,
    "logical_deduction_train.json": 1200, "logiqa2_dev.jsonl": 1555, "logiqa2_test.jsonl": 1558, "logiqa_eval.txt": 651,
    "logiqa_test.txt": 651, "math500.parquet": 500, "math_train.parquet": 7495, "minervamath.parquet": 272,
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_real_files_load_with_their_defects_counted(name, real_data):
    found = load(str(real_data / name))
    assert len(found.problems) == REAL[name]
    assert all(p.question and p.gold for p in found.problems)
    if name == "math_train.parquet":
        assert found.dropped == {"empty gold": 4, "duplicate question": 1}
    if name == "gaokao2023en.parquet":
        assert found.dropped == {"empty gold": 2}
    if name == "logiqa_test.txt":
        golds = [p.gold for p in found.problems]
        assert {g: golds.count(g) for g in "ABCD"} == {"A": 132, "B": 159, "C": 179, "D": 181}
        assert all(
            len([o for o in p.question.splitlines() if o[:3] in ("A. ", "B. ", "C. ", "D. ")]) >= 4
            for p in found.problems
        )


def test_every_real_file_has_its_count(real_data):
    assert {f.name for f in real_data.iterdir()} - {"README.md"} == set(REAL)


# --- splits and batches


def test_heldout_is_disjoint_deterministic_and_independent_of_order():
    whole = Dataset("set", problems(100), {})
    train, held = split_heldout(whole, 20, seed=1)
    assert len(held.problems) == 20 and len(train.problems) == 80
    assert not {p.id for p in train.problems} & {p.id for p in held.problems}
    backwards = split_heldout(Dataset("set", problems(100)[::-1], {}), 20, seed=1)[1]
    assert {p.id for p in backwards.problems} == {p.id for p in held.problems}
    assert {p.id for p in split_heldout(whole, 20, seed=2)[1].problems} != {p.id for p in held.problems}
    assert [p.id for p in split_heldout(whole, 3, seed=0)[1].problems] == ["set/15", "set/42", "set/64"]


def test_heldout_must_leave_something_to_train_on():
    with pytest.raises(ValueError, match="data.heldout: 5 of 5 problems"):
        split_heldout(Dataset("set", problems(5), {}), 5, seed=0)


def test_test_questions_leave_the_training_set():
    test = Dataset("test", (Problem("t/0", "  QUESTION  1", "9", "math"),), {})
    kept = decontaminate(Dataset("set", problems(3), {}), [test])
    assert [p.id for p in kept.problems] == ["set/0", "set/2"] and kept.dropped["also in a test set"] == 1
    with pytest.raises(ValueError, match="data.train: all of set stands in the test sets"):
        decontaminate(Dataset("set", problems(1), {}), [Dataset("t", problems(1), {})])


def test_batches_are_a_pure_function_of_seed_and_step():
    pool = problems(10)
    later = [batch_at(pool, 0, step, 4) for step in range(6)]
    data._order.cache_clear()
    assert [batch_at(pool, 0, step, 4) for step in reversed(range(6))][::-1] == later
    assert batch_at(pool, 1, 0, 4) != later[0]


def test_an_epoch_shows_no_problem_twice_and_the_next_is_shuffled_anew():
    pool = problems(12)
    epochs = [[p.id for step in range(3) for p in batch_at(pool, 0, 3 * e + step, 4)] for e in range(3)]
    assert all(sorted(epoch) == sorted(p.id for p in pool) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_set_smaller_than_the_batch_repeats():
    batch = batch_at(problems(3), 0, 5, 7)
    counts = np.unique([p.id for p in batch], return_counts=True)[1]
    assert len(batch) == 7 and counts.min() >= 2
