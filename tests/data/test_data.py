"""Datasets: formats, defects, splits, batches; real files where they are at hand."""

import collections
import json
import string

import pyarrow
import pyarrow.parquet
import pytest

from ccpo_jax import data
from ccpo_jax.data import (
    DATASETS,
    Dataset,
    Problem,
    UnusableRow,
    batch_at,
    decontaminate,
    load,
    load_many,
    parse_row,
    split_heldout,
)
from ccpo_jax.data.synthetic import TASKS, split_of

LOGIQA = (
    "\nb\nAll cats sleep.\nWhat follows?\nA.Dogs sleep\nB.Cats sleep\nC.No one sleeps\nD. None\n"
)


def problems(count: int) -> tuple[Problem, ...]:
    return tuple(Problem(f"set/{i}", f"question {i}", str(i), "math") for i in range(count))


def ids(found) -> list[str]:
    return [problem.id for problem in getattr(found, "problems", found)]


def write_json(folder, name: str, rows) -> str:
    (folder / name).write_text(json.dumps(rows))
    return str(folder / name)


# --- rows


@pytest.mark.parametrize("row,expected", [
    ({"question": " 1+1? ", "answer": "2"}, ("1+1?", "2", "math", "")),
    ({"problem": "p", "answer": 27.0}, ("p", "27.0", "math", "")),
    ({"problem": "p", "solution": "by \\boxed{1}", "answer": 70}, ("p", "70", "math", "")),
    ({"question": "q", "answer": "$\\{x|x<1\\}$"}, ("q", "\\{x|x<1\\}", "math", "")),
    ({"question": "q", "answer": "$$ x^2 $$"}, ("q", "x^2", "math", "")),
    ({"question": "q", "answer": "$5$ or $9$"}, ("q", "$5$ or $9$", "math", "")),
    ({"question": "q", "answer": "\\$3.60"}, ("q", "\\$3.60", "math", "")),
    ({"question": "q", "answer": "$3\\$"}, ("q", "$3\\$", "math", "")),
    ({"question": "q", "answer": "$"}, ("q", "$", "math", "")),
    ({"question": "q", "answer": "so 3 x 24 = 72\n#### 72"}, ("q", "72", "math", "")),
    ({"problem": "p", "solution": "\\boxed{1}, then \\boxed{\\frac{1}{2}} ok"}, ("p", "\\frac{1}{2}", "math", "")),
    ({"problem": "p", "solution": "\\boxed{\\left\\{ x \\right.} {"}, ("p", "\\left\\{ x \\right.", "math", "")),
    ({"text": "t", "question": "q", "options": ["x", "y"], "answer": 1}, ("t\nq\nA. x\nB. y", "B", "choice", "t")),
    ({"context": "c", "query": "q", "options": ["A) x", "(B) y"], "answer": "A"}, ("c\nq\nA. x\nB. y", "A", "choice", "c")),
    ({"question": "q", "options": ["A. x", "y"], "answer": "b"}, ("q\nA. A. x\nB. y", "B", "choice", "")),
    ({"question": "q", "options": ["A is", "B is"], "answer": "(B)"}, ("q\nA. A is\nB. B is", "B", "choice", "")),
    ({"question": "q", "answer": 1, "views": ["q ", "?"]}, ("q", "1", "math", "", ("q", "?"))),
    ({"question": "q", "options": ["I. only", "C. elegans"], "answer": "B) C"}, ("q\nA. I. only\nB. C. elegans", "B", "choice", "")),
])  # fmt: skip
def test_rows(row, expected):
    assert parse_row(row, id="set/3") == Problem("set/3", *expected)


@pytest.mark.parametrize("row,reason", [
    ({"question": None, "answer": "2"}, "empty question"),
    ({"context": "c", "question": " ", "answer": "2"}, "empty question"),
    ({"question": "q", "answer": None}, "empty gold"),
    ({"question": "q", "answer": " "}, "empty gold"),
    ({"question": "q", "answer": float("nan")}, "empty gold"),
    ({"question": "q", "answer": "worked out ####"}, "empty gold"),
    ({"problem": "p", "solution": "no box"}, "empty gold"),
    ({"problem": "p", "solution": "open \\boxed{1"}, "empty gold"),
    ({"question": "q", "options": ["x", "y"], "answer": ""}, "empty gold"),
    ({"question": "q", "options": ["x", "y"], "answer": "C"}, "gold is none of the options"),
    ({"question": "q", "options": ["x", "y"], "answer": "Both"}, "gold is none of the options"),
    ({"question": "q", "options": ["x", "y"], "answer": "A man"}, "gold is none of the options"),
    ({"question": "q", "options": ["x", "y"], "answer": "1"}, "gold is none of the options"),
    ({"question": "q", "options": ["x", "y"], "answer": 2}, "gold is none of the options"),
    ({"question": "q", "options": ["x", "y"], "answer": -1}, "gold is none of the options"),
    ({"question": "q", "options": ["x", "y"], "answer": -26}, "gold is none of the options"),
])  # fmt: skip
def test_rows_without_what_a_problem_needs(row, reason):
    with pytest.raises(UnusableRow, match=f"^{reason}$"):
        parse_row(row)


@pytest.mark.parametrize("row,message", [
    ({"text": "t", "label": 1}, "no column question or problem or query among text, label"),
    ({"question": "q"}, "no column answer or correct_option or groundtruth or solution among question"),
    ({}, "among none"),
    ({"question": 5, "answer": "1"}, "question must be text, received 5"),
    ({"question": "q", "context": ["c"], "answer": "1"}, r"context must be text, received \['c'\]"),
    ({"question": "q", "answer": ["1"]}, r"answer must be text or a number, received \['1'\]"),
    ({"question": "q", "answer": True}, "answer must be text or a number, received True"),
    ({"question": "q", "options": "A B", "answer": 0}, "options must be a list of texts, received 'A B'"),
    ({"question": "q", "options": ["x", None], "answer": 0}, "options must be a list of texts"),
    ({"question": "q", "options": ["x"], "answer": 0}, "options must be 2 to 26 texts, received 1"),
    ({"question": "q", "options": ["x", "y"], "correct_option": 0.5}, "correct_option must be a letter or a number from 0"),
    ({"question": "q", "answer": 1, "views": "all"}, "views must be a list of texts, one per agent, received 'all'"),
    ({"question": "q", "options": ["x", "y"], "answer": True}, "answer must be a letter or a number from 0, received True"),
])  # fmt: skip
def test_rows_of_the_wrong_kind(row, message):
    with pytest.raises(ValueError, match=message):
        parse_row(row)


# --- files


def test_local_formats_are_told_by_content(tmp_path):
    rows = [{"question": f"q{i}", "answer": str(i)} for i in range(3)]
    (tmp_path / "a.txt").write_text(
        "\ufeff" + "\r\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8"
    )
    (tmp_path / "b").write_text(json.dumps(rows, indent=2))
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{**row, "level": 2} for row in rows]), tmp_path / "c.bin"
    )
    for name in ("a.txt", "b", "c.bin"):
        found = load(str(tmp_path / name))
        assert [(p.question, p.gold) for p in found.problems] == [
            ("q0", "0"),
            ("q1", "1"),
            ("q2", "2"),
        ]
        assert found.summary() == f"{name[0]}: 3 problems"


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
    )
    assert (second.id, second.gold, second.context) == ("d/1", "D", "All rats sleep.")


@pytest.mark.parametrize("given,expected", [
    (["A.F", "C.L", "B.G", "D.M"], ["F", "G", "L", "M"]),  # the gold names the letter: sorted by it
    (["A first", "B Third", "C? Fourth", "D.fifth"], ["first", "Third", "Fourth", "fifth"]),
    (["A.A runs", "B.I sit", "C. C? no", "D.D"], ["A runs", "I sit", "C? no", "D"]),
    (["A.x", "B.y", "Professor C.Lin quit", "D.z"], ["x", "y", "Professor Lin quit", "z"]),
    (["The base in City A.B rose", "B.y", "C z", "d.w"], ["The base in City B rose", "y", "z", "w"]),
    (["A.x", "B.y", "A part in C.S City", "D.z"], ["x", "y", "A part in S City", "z"]),
    (["Anne", "Bob", "Carl", "D.Dan"], ["Anne", "Bob", "Carl", "Dan"]),
])  # fmt: skip
def test_logiqa_letters(given, expected, tmp_path):
    (tmp_path / "x.txt").write_text("\n".join(["", "c", "context", "question", *given]))
    (problem,) = load(str(tmp_path / "x.txt")).problems
    assert problem.question.split("\n")[2:] == [
        f"{letter}. {text}" for letter, text in zip("ABCD", expected, strict=True)
    ]


def test_defects_are_dropped_and_counted(tmp_path):
    rows = [("a", "1"), ("", "2"), ("b", ""), ("A ", "3"), ("c", "4"), ("d", None)]
    found = load(write_json(tmp_path, "x.json", [{"question": q, "answer": a} for q, a in rows]))
    assert ids(found) == ["x/0", "x/4"] and found.problems[0].gold == "1"
    assert found.dropped == {"empty question": 1, "empty gold": 2, "duplicate question": 1}
    assert (
        found.summary()
        == "x: 2 problems (dropped: 1 duplicate question, 2 empty gold, 1 empty question)"
    )


@pytest.mark.parametrize("name,content,message", [
    ("x.jsonl", '{"question": "q", "answer": "1"}\n\n{oops}\n', "x.jsonl: line 3 is no JSON: Expecting property name"),
    ("x.jsonl", '{"question": "q", "answer": "1"}\n[1]\n', r"line 2 must be an object with columns, received '\[1\]'"),
    ("x.jsonl", '{"question": "q", "answer": "1"}\n{"note": 1}\n', "x.jsonl, line 2: no column question or problem or"),
    ("x.jsonl", '{"question": "q", "answer": {}}\n', "x.jsonl, row 0: answer must be text or a number, received {}"),
    ("x.json", '[{"question": "q"', "x.json: Expecting ',' delimiter: line 1"),
    ("x.json", "[7]", "x.json: row 0 must be an object with columns, received 7"),
    ("x.json", "[]", r"x.json holds no problem with a question and an answer \(no rows\)"),
    ("x.json", '[{"question": "q", "answer": ""}]', r"x.json holds no problem .*\(1 empty gold\); name another"),
    ("x.json", '[{"question": "q", "answer": "1"}, {"note": "q"}]', "x.json, row 1: no column"),
    ("x.txt", "", "x.txt: the file is empty"),
    ("x.json", '{"data": [{"question": "q", "answer": "1"}]}', "x.json: a list of problems is expected, received one object that has a list under the key 'data'; give that list"),
    ("x.json", '{\n  "version": 1,\n  "data": [\n    {"question": "q", "answer": "1"}\n  ]\n}', "a list of problems is expected, .*the key 'data'"),
    ("x.jsonl", "", "x.jsonl: the file is empty"),
    ("x.jsonl", " \n\n", "x.jsonl: the file is empty"),
    ("x.csv", "question,answer\n1,2\n", "x.csv: neither parquet"),
    ("x.txt", LOGIQA + "\nb\nthe end\n", "x.txt: line 9 must begin a record of eight lines: .* and 3 lines to the end"),
    ("x.txt", LOGIQA.replace("\nb\n", "\nz\n"), r"line 1 must begin a record .*received \['', 'z'\]"),
    ("x.txt", LOGIQA.replace("\nb\n", "\nb\nmore\n") + LOGIQA, "line 9 must begin a record of eight lines"),
    ("x.txt", b"\xff\xfe\x00", "x.txt: 'utf-8' codec can't decode"),
    ("x.parquet", b"PAR1 and no more", "x.parquet: "),
])  # fmt: skip
def test_bad_files_are_one_clear_line(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        load(str(tmp_path / name), field="data.eval")
    assert str(caught.value).startswith(f"data.eval: {tmp_path}") and "\n" not in str(caught.value)


# --- names


@pytest.mark.parametrize("name,message", [
    ("maht", "data.eval: no dataset 'maht'; did you mean 'math'. type the path of a file or one of math, math500"),
    ("zzz", "no dataset 'zzz'; type the path of a file or one of math, .*synthetic/"),
    ("", "no dataset ''; type the path"),
    ("folder/none.json", "data.eval: no file 'folder/none.json'; type the path"),
    ("none.json", "no file 'none.json'"),
    ("math=none", "no file 'none'"),
    ("synthetic/chess", "data.eval: no synthetic set 'synthetic/chess'; type one of synthetic/"),
    ("synthetic/dyad/dev", "no synthetic set 'synthetic/dyad/dev'; type one of .*, or synthetic/TASK/test"),
])  # fmt: skip
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        load(name, field="data.eval")
    assert "\n" not in str(caught.value)


def test_a_file_may_have_a_name_of_its_own(tmp_path):
    path = write_json(tmp_path, "x=1+1.json", [{"question": "q", "answer": "1"}])
    assert ids(load(f"math={path}")) == ["math/0"]
    assert ids(load(path)) == ids(load_many(path)) == ["x=1+1/0"]


def test_without_a_network_a_hub_set_says_what_to_type(monkeypatch):
    import datasets

    def unreachable(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(ValueError) as caught:
        load("math", field="data.train")
    assert str(caught.value) == (
        "data.train: cannot load 'math' from the Hub as DigitalLearningGmbH/MATH-lighteval (ConnectionError: no route); "
        "check the network, or type a local file: --config.data.train=math=path/to/file.parquet"
    )


LOGIQA_ROW = {"context": "c", "query": "q", "options": ["w", "x", "y", "z"], "correct_option": 3}
LOGIQA_PROBLEM = ("c\nq\nA. w\nB. x\nC. y\nD. z", "D", "choice", "c")
ANSWERED = {"question": "q", "answer": "1"}
HUB_ROWS = {  # hub name -> a row with the columns it has there, and the problem it stands for
    "DigitalLearningGmbH/MATH-lighteval": (
        {"problem": "p", "level": "Level 5", "solution": "so $\\boxed{7}$.", "type": "Algebra"}, ("p", "7", "math", "")),
    "HuggingFaceH4/MATH-500": (
        {"problem": "p", "solution": "so $\\boxed{\\text{7}}$.", "answer": "7", "subject": "Algebra", "level": 2,
         "unique_id": "test/1.json"}, ("p", "7", "math", "")),
    "HuggingFaceH4/aime_2024": (
        {"id": 60, "problem": "p", "solution": "s", "answer": "204", "url": "u", "year": "2024"}, ("p", "204", "math", "")),
    "math-ai/aime25": ({"problem": "p", "answer": "70", "id": "0"}, ("p", "70", "math", "")),
    "math-ai/amc23": ({"id": 0, "question": "q", "answer": 27.0, "url": "u"}, ("q", "27.0", "math", "")),
    "math-ai/minervamath": (ANSWERED, ("q", "1", "math", "")),
    "MARIO-Math-Reasoning/Gaokao2023-Math-En": (
        {"source": "s", "question": "q", "lang": "en", "answer": "$x<1$", "sourcename": None, "id": 0},
        ("q", "x<1", "math", "")),
    "openai/gsm8k": ({"question": "q", "answer": "3 x 24 = <<3*24=72>>72\n#### 72"}, ("q", "72", "math", "")),
    "lucasmccabe/logiqa": (LOGIQA_ROW, LOGIQA_PROBLEM),
}  # fmt: skip


@pytest.mark.parametrize("name", DATASETS)
def test_contract(name, monkeypatch):
    import datasets

    asked = []

    def fake(*args, **options):
        asked.append((args, options))
        return [HUB_ROWS[DATASETS[name].hub][0]]

    monkeypatch.setattr(datasets, "load_dataset", fake)
    source = DATASETS[name]
    assert load(name).problems == (Problem(f"{name}/0", *HUB_ROWS[source.hub][1]),)
    assert asked == [
        ((source.hub, source.config), {"split": source.split, "revision": source.revision})
    ]
    assert source.split in ("train", "test", "validation")


@pytest.mark.parametrize("task", TASKS)
def test_synthetic_sets(task):
    found = load(f"synthetic/{task}", size=50, seed=3)
    assert len(found.problems) == 50 and {p.verifier for p in found.problems} == {"exact"}
    assert (
        load(f"synthetic/{task}", size=50, seed=3)
        == found
        != load(f"synthetic/{task}", size=50, seed=4)
    )
    test = load_many(f"synthetic/{task}/test")
    assert len(test.problems) == 1024 and {split_of(p.question) for p in test.problems} == {"test"}
    assert {split_of(p.question) for p in found.problems} == {"train"}
    for size in (0, -3):
        with pytest.raises(
            ValueError,
            match=f"^data.size: must be at least 1, received {size}; type how many problems",
        ):
            load(f"synthetic/{task}", size=size)


def test_joined_sets_share_no_question(tmp_path):
    a = write_json(tmp_path, "a.json", [{"question": q, "answer": "1"} for q in "xy"])
    b = write_json(tmp_path, "b.json", [{"question": q, "answer": "1"} for q in "y?yz"])
    found = load_many(f"{a} + {b}")
    assert ids(found) == ["a/0", "a/1", "b/1", "b/3"]
    assert found.name == "a+b" and found.dropped == {"duplicate question": 2}
    assert load_many((a, b)) == found


def test_joined_sets_need_different_names(tmp_path):
    (tmp_path / "b").mkdir()
    a = write_json(tmp_path, "x.json", [{"question": "first", "answer": "1"}])
    b = write_json(tmp_path / "b", "x.json", [{"question": "second", "answer": "1"}])
    with pytest.raises(
        ValueError, match="^data.train: two datasets are called 'x'; name one of them: label=FILE"
    ):
        load_many(f"{a}+{b}")
    assert ids(load_many(f"{a}+y={b}")) == ["x/0", "y/0"]


# --- real files


REAL = {  # file -> problems, what is dropped, verifier
    "aime24.parquet": (30, {}, "math"),
    "aime25.parquet": (30, {}, "math"),
    "amc23.parquet": (40, {}, "math"),
    "ar_lsat_test.json": (230, {}, "choice"),
    "ar_lsat_train.json": (1564, {"duplicate question": 21}, "choice"),
    "gaokao2023en.parquet": (383, {"empty gold": 2}, "math"),
    "gsm8k_test.jsonl": (1319, {}, "math"),
    "gsm8k_train.jsonl": (7473, {}, "math"),
    "logical_deduction_dev.json": (300, {}, "choice"),
    "logical_deduction_train.json": (1200, {}, "choice"),
    "logiqa2_dev.jsonl": (1555, {"duplicate question": 14}, "choice"),
    "logiqa2_test.jsonl": (1558, {"duplicate question": 14}, "choice"),
    "logiqa_eval.txt": (651, {}, "choice"),
    "logiqa_test.txt": (651, {}, "choice"),
    "math500.parquet": (500, {}, "math"),
    "math_train.parquet": (7495, {"empty gold": 4, "duplicate question": 1}, "math"),
    "minervamath.parquet": (272, {}, "math"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_load_with_their_defects_counted(name, real_data):
    found = load(str(real_data / name))
    assert (len(found.problems), found.dropped, {p.verifier for p in found.problems}) == (
        *REAL[name][:2],
        {REAL[name][2]},
    )
    for problem in found.problems:
        assert problem.question and problem.gold and problem.question.startswith(problem.context)
        if problem.verifier == "choice":
            letters = [line[0] for line in problem.question.split("\n") if line[1:3] == ". "]
            count = string.ascii_uppercase.index(letters[-1]) + 1
            assert (
                letters[-count:] == list(string.ascii_uppercase[:count])
                and problem.gold in letters[-count:]
            )
        assert (
            not (problem.gold.startswith("$") and problem.gold.endswith("$"))
            or problem.gold == "$5$ or $9$"
        )


def test_every_real_file_has_its_count(real_data):
    assert {f.name for f in real_data.iterdir()} - {"README.md"} == set(REAL)


def test_real_golds(real_data):
    rows = {int(id.split("/")[1]) for id in ids(load(str(real_data / "math_train.parquet")))}
    assert set(range(7500)) - rows == {
        1634,
        2195,
        2737,
        7029,
        7407,
    }  # 2737 repeats a question, the others have no gold
    assert {p.gold[-2:] for p in load(str(real_data / "amc23.parquet")).problems} == {".0"}
    golds = collections.Counter(p.gold for p in load(str(real_data / "logiqa_test.txt")).problems)
    assert golds == {"A": 132, "B": 159, "C": 179, "D": 181}


def test_real_logiqa_options_stand_under_their_own_letter(real_data):
    """J speaks first, so F (first or third) speaks third and G (before lunch) second: gold B, and B is the third line."""
    question = next(
        p for p in load(str(real_data / "logiqa_test.txt")).problems if p.id == "logiqa_test/192"
    )
    assert (
        question.question.split("\n")[-4:] == ["A. F", "B. G", "C. L", "D. M"]
        and question.gold == "B"
    )


# --- splits


def test_heldout_is_disjoint_deterministic_and_independent_of_order():
    whole = Dataset("set", problems(100), {"empty gold": 2})
    train, held = split_heldout(whole, 20, seed=1)
    assert (
        len(held.problems) == 20
        and set(ids(train)) | set(ids(held)) == set(ids(whole))
        and len(train.problems) == 80
    )
    assert (train.name, held.name, train.dropped, held.dropped) == (
        "set",
        "set, held out",
        {"empty gold": 2},
        {},
    )
    backwards = split_heldout(Dataset("set", problems(100)[::-1], {}), 20, seed=1)[1]
    assert ids(backwards) == ids(held)[::-1]
    assert set(ids(split_heldout(whole, 19, seed=1)[1])) < set(ids(held))
    assert ids(split_heldout(whole, 20, seed=2)[1]) != ids(held)
    assert ids(split_heldout(whole, 3, seed=0)[1]) == ["set/15", "set/42", "set/64"]
    assert split_heldout(whole, 0, seed=1) == (whole, Dataset("set, held out", (), {}))


def test_a_passage_is_asked_about_in_one_part_only():
    about = tuple(
        Problem(f"s/{i}", f"passage {i // 3}\nq {i}", "A", "choice", f"passage {i // 3}")
        for i in range(30)
    )
    for size in (3, 4, 5):
        train, held = split_heldout(Dataset("s", about, {}), size, seed=0)
        assert len(held.problems) == size
        assert not {p.context for p in train.problems} & {p.context for p in held.problems}
        cut = -size % 3
        assert len(train.problems) == 30 - size - cut
        assert train.dropped == ({"on a held-out passage": cut} if cut else {})


def test_heldout_must_leave_something_to_train_on():
    with pytest.raises(
        ValueError, match="^data.heldout: 5 of 5 problems of set leave none to train on; type fewer"
    ):
        split_heldout(Dataset("set", problems(5), {}), 5, seed=0)
    with pytest.raises(ValueError, match="^data.heldout: must be at least 0, received -1"):
        split_heldout(Dataset("set", problems(5), {}), -1, seed=0)


def test_test_questions_leave_the_training_set():
    test = Dataset("test", (Problem("t/0", "  QUESTION  1", "9", "math"),), {})
    kept = decontaminate(Dataset("set", problems(3), {"empty gold": 1}), [test])
    assert ids(kept) == ["set/0", "set/2"] and kept.dropped == {
        "empty gold": 1,
        "also in a test set": 1,
    }
    clean = Dataset("set", problems(1), {})
    assert decontaminate(clean, [test]) == clean == decontaminate(clean, [])
    with pytest.raises(
        ValueError, match="^data.train: all of set stands in the test sets of data.eval"
    ):
        decontaminate(clean, [Dataset("t", problems(1), {})])


def test_other_questions_on_a_test_passage_leave_too():
    context = "five birds sit on one long branch"
    train = tuple(Problem(f"s/{i}", f"{c}\nq", "A", "choice", c) for i, c in enumerate((
        "Five birds  sit on one long branch", "five birds sit on a long branch", "six dogs lie under some short trees")))  # fmt: skip
    test = Dataset("t", (Problem("t/0", f"{context}\nanother", "B", "choice", context),), {})
    whole = Dataset("s", train, {})
    assert ids(decontaminate(whole, [test])) == ["s/1", "s/2"]
    assert ids(decontaminate(whole, [test], similarity=6 / 8)) == ["s/2"]
    assert ids(decontaminate(whole, [test], similarity=6 / 8 + 1e-6)) == ["s/1", "s/2"]
    shorter = Dataset(
        "s", (*train[2:], Problem("s/3", "q", "A", "choice", "five birds sit on one branch")), {}
    )
    assert ids(decontaminate(shorter, [test], similarity=6 / 7)) == ["s/2"]
    for similarity in (0.0, 1.5):
        with pytest.raises(ValueError, match="^data.similarity: must be in .0, 1., received"):
            decontaminate(whole, [test], similarity=similarity)


def test_questions_without_a_passage_are_compared_word_for_word():
    test = Dataset("t", (Problem("t/0", "roots of $z^4 + z^2 + 1$", "6", "math"),), {})
    train = Dataset("s", (Problem("s/0", "roots of $z^4 - z^2 + 1$", "12", "math"),), {})
    assert decontaminate(train, [test], similarity=0.1) == train


@pytest.mark.parametrize("train,test,similarity,kept", [
    ("logiqa2_dev.jsonl", "logiqa_test.txt", 1.0, 1555),  # other translations of the same passages: no word-for-word match
    ("logiqa2_dev.jsonl", "logiqa_test.txt", 0.5, 1435),
    ("logiqa2_dev.jsonl", "logiqa2_test.jsonl", 1.0, 1512),
    ("logical_deduction_train.json", "logical_deduction_dev.json", 1.0, 492),  # the same rows of things, asked otherwise
    ("ar_lsat_train.json", "ar_lsat_test.json", 0.5, 1564),
    ("math_train.parquet", "math500.parquet", 1.0, 7495),
])  # fmt: skip
def test_real_training_sets_hold_test_passages(train, test, similarity, kept, real_data):
    found = decontaminate(
        load(str(real_data / train)), [load(str(real_data / test))], similarity=similarity
    )
    assert len(found.problems) == kept


# --- batches


def test_batches_are_a_pure_function_of_seed_and_step():
    pool = problems(10)
    later = [batch_at(pool, 0, step, 4) for step in range(20)]
    data._order.cache_clear()
    assert [batch_at(pool, 0, step, 4) for step in reversed(range(20))][::-1] == later
    assert batch_at(pool, 1, 0, 4) != later[0] and batch_at(pool, -1, 0, 4) != later[0]
    assert [[problem.gold for problem in batch] for batch in later[:4]] == [
        ["0", "2", "9", "1"], ["8", "5", "4", "3"], ["6", "7", "5", "3"], ["8", "7", "2", "4"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "count,batch_size", [(12, 4), (10, 4), (7, 4), (5, 4), (4, 4), (9, 1), (64, 63), (100, 30)]
)
def test_an_epoch_is_a_fresh_permutation_and_no_batch_repeats(count, batch_size):
    pool = problems(count)
    epochs = 2 * batch_size + 1
    batches = [
        ids(batch_at(pool, 0, step, batch_size)) for step in range(epochs * count // batch_size)
    ]
    assert all(len(set(batch)) == batch_size for batch in batches)
    shown = [id for batch in batches for id in batch]
    seen = [tuple(shown[i : i + count]) for i in range(0, len(shown) - count + 1, count)]
    assert all(sorted(epoch) == sorted(ids(pool)) for epoch in seen)
    assert len(set(seen)) > len(seen) / 2


def test_every_problem_is_as_likely_everywhere():
    first = collections.Counter(batch_at(range(5), 0, 5 * epoch, 1)[0] for epoch in range(2000))
    assert (
        sorted(first) == list(range(5)) and max(first.values()) - min(first.values()) < 120
    )  # 400 each, sd 18


def test_a_set_smaller_than_the_batch_repeats():
    counts = collections.Counter(ids(batch_at(problems(3), 0, 5, 7)))
    assert sorted(counts.values()) == [2, 2, 3]


@pytest.mark.parametrize("count,step,batch_size", [(0, 0, 1), (3, -1, 1), (3, 0, 0)])
def test_batches_of_nothing(count, step, batch_size):
    with pytest.raises(
        ValueError,
        match=f"^batch_at: {count} problems, step {step}, batch_size {batch_size}; type at least",
    ):
        batch_at(problems(count), 0, step, batch_size)
