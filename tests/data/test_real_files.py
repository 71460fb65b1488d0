"""Public benchmark files: sizes, defects, golds, and what test sets share with training sets."""

import collections
import string

import pyarrow.parquet
import pytest

from ccpo_jax.data import decontaminate, load, parse_row
from tests.support.problems import ids

REAL = {  # file -> problems, what is dropped, verifier
    "aime24.parquet": (30, {}, "math"),
    "aime25.parquet": (30, {}, "math"),
    "amc23.parquet": (40, {}, "math"),
    "asdiv.jsonl": (2083, {}, "math"),
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
    "mawps.jsonl": (1890, {}, "math"),
    "minervamath.parquet": (272, {}, "math"),
    "svamp.jsonl": (1000, {}, "math"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_load_with_their_defects_counted(name, real_data):
    dataset = load(str(real_data / name))
    assert (len(dataset.problems), dataset.dropped, {p.verifier for p in dataset.problems}) == (
        *REAL[name][:2],
        {REAL[name][2]},
    )
    for problem in dataset.problems:
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
    rows = {int(name.split("/")[1]) for name in ids(load(str(real_data / "math_train.parquet")))}
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


def test_real_solutions_end_in_their_golds(real_data):
    rows = pyarrow.parquet.read_table(real_data / "math500.parquet").to_pylist()
    for row in rows:
        from_solution = parse_row({"question": "q", "answer": "", "solution": row["groundtruth"]})
        assert from_solution.gold == parse_row({"question": "q", "answer": row["answer"]}).gold


def test_real_options_stand_in_the_question(real_data):
    for name in ("logiqa_test.txt", "logiqa2_test.jsonl", "ar_lsat_test.json"):
        for problem in load(str(real_data / name)).problems:
            shown = "\n".join(f"{a}. {b}" for a, b in zip("ABCDE", problem.options, strict=False))
            assert problem.question.endswith(f"\n{shown}") and len(problem.options) in (4, 5)


def test_real_logiqa_options_stand_under_their_own_letter(real_data):
    """The puzzle puts F third and G second: the gold is B, which is the third line of the file."""
    question = next(
        p for p in load(str(real_data / "logiqa_test.txt")).problems if p.id == "logiqa_test/192"
    )
    assert (
        question.question.split("\n")[-4:] == ["A. F", "B. G", "C. L", "D. M"]
        and question.gold == "B"
    )


@pytest.mark.parametrize(
    "train,test,similarity,kept",
    [
        (
            "logiqa2_dev.jsonl",
            "logiqa_test.txt",
            1.0,
            1555,
        ),  # other translations of the same passages: no word-for-word match
        ("logiqa2_dev.jsonl", "logiqa_test.txt", 0.5, 1435),
        ("logiqa2_dev.jsonl", "logiqa2_test.jsonl", 1.0, 1512),
        (
            "logical_deduction_train.json",
            "logical_deduction_dev.json",
            1.0,
            492,
        ),  # the same rows of things, asked otherwise
        ("ar_lsat_train.json", "ar_lsat_test.json", 0.5, 1564),
        ("math_train.parquet", "math500.parquet", 1.0, 7495),
    ],
)
def test_real_training_sets_hold_test_passages(train, test, similarity, kept, real_data):
    dataset = decontaminate(
        load(str(real_data / train)), [load(str(real_data / test))], similarity=similarity
    )
    assert len(dataset.problems) == kept
