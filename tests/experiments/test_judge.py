"""The comparison of graders on judged sets: readers, counts and the order of disagreements."""

import importlib.util
import json
import re

import pytest

from ccpo_jax.errors import InputError
from experiments.judge import __main__ as program
from experiments.judge.answer_styles import styles
from experiments.judge.cases import Case, read_cases
from experiments.judge.comparison import Judged, Score, disagreements, format_table, judge
from experiments.judge.graders import find_graders, grade_with
from experiments.judge.own_sets import corruption_cases, style_cases, surface_form_cases

pytestmark = pytest.mark.experiments

RIGHT = Case("math", "7", r"\boxed{7}", correct=True)
WRONG = Case("math", "7", r"\boxed{8}", correct=False)


def write(path, rows, *, as_list=False):
    lines = json.dumps(rows) if as_list else "\n".join(map(json.dumps, rows))
    path.write_text(lines, encoding="utf-8")
    return path


def test_rows_of_our_own_form(tmp_path):
    row = {
        "verifier": "choice",
        "gold": "B",
        "answer": "(B)",
        "correct": True,
        "options": ["1", "2"],
    }
    (case,) = read_cases(write(tmp_path / "own.jsonl", [row]))
    assert case == Case("choice", "B", "(B)", correct=True, options=("1", "2"))


def test_model_solutions_of_gsm8k(tmp_path):
    row = {
        "question": "What is 9 + 9?",
        "ground_truth": "9 + 9 = 18\n#### 18",
        "6b_finetuning": {"solution": "It is 17.\nA: 17", "is_correct": False},
        "175b_verification": {"solution": "It is 18.\nA: 18", "is_correct": True},
    }
    cases = read_cases(write(tmp_path / "solutions.jsonl", [row]))
    assert [(case.gold, case.answer[-2:], case.correct) for case in cases] == [
        ("18", "17", False),
        ("18", "18", True),
    ]
    assert {case.source for case in cases} == {"6b_finetuning", "175b_verification"}


def test_generations_of_qwen(tmp_path):
    row = {"idx": 3, "question": "1+1", "gt": "2", "code": [r"\boxed{2}", "3"], "pred": ["2", "3"]}
    cases = read_cases(write(tmp_path / "math.jsonl", [{**row, "score": [True, False]}]))
    assert [(case.gold, case.answer, case.correct) for case in cases] == [
        ("2", r"\boxed{2}", True),
        ("2", "3", False),
    ]


@pytest.mark.parametrize("key", ["model_outputs", "response"])
def test_outputs_of_mmlu_pro(tmp_path, key):
    row = {"question_id": 7, "question": "Which?", "options": ["x", "y", "z"], "answer": "C"}
    rows = [{**row, "pred": "C", key: "The answer is (C)."}, {**row, "pred": None, key: "Hm"}]
    right, wrong = read_cases(write(tmp_path / "out.json", rows, as_list=True))
    assert right.correct and right.options == ("x", "y", "z") and right.verifier == "choice"
    assert not wrong.correct and wrong.answer == "Hm"


@pytest.mark.parametrize("text", ['{"gold": "1"}', "{", "[1]", "7"])
def test_files_of_another_form_are_refused(tmp_path, text):
    path = tmp_path / "other.jsonl"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_cases(path)
    assert error.value.field == "set"


def test_scores_count_false_positives_and_false_negatives():
    verdicts = {
        "all": [True, True, True],
        "none": [False, False, False],
        "own": [True, False, True],
    }
    judged = Judged("numbers", [RIGHT, WRONG, RIGHT], verdicts)
    assert judged.score("all") == Score(agree=2, false_positives=1, false_negatives=0)
    assert judged.score("none") == Score(agree=1, false_positives=0, false_negatives=2)
    assert judged.score("own") == Score(agree=3, false_positives=0, false_negatives=0)
    assert format_table([judged]).splitlines() == [
        "| set | cases | all | none | own |",
        "|---|---|---|---|---|",
        "| numbers | 3 | 2 (1/0) | 1 (0/2) | 3 (0/0) |",
    ]


def test_what_ours_pay_falsely_comes_first():
    verdicts = {"ours, strict": [False, True, True], "other": [True, False, False]}
    cases = [RIGHT, WRONG, RIGHT]
    rows = disagreements([Judged("numbers", cases, verdicts)])
    assert [(row["correct"], row["wrong"]) for row in rows] == [
        (False, ["ours, strict"]),
        (True, ["ours, strict"]),
        (True, ["other"]),
    ]


def test_graders_agree_on_plain_answers():
    graders = find_graders(["equal=operator:eq"], workers=1)
    assert ("math-verify" in graders) == (importlib.util.find_spec("math_verify") is not None)
    assert list(graders)[:2] == ["ours, strict", "ours, lenient"]

    choice = Case("choice", "B", "B", correct=True, options=("x", "y"))
    (result,) = judge({"plain": [RIGHT, WRONG, choice]}, graders)
    verdicts = dict(result.verdicts)
    assert verdicts.pop("equal") == [False, False, True]
    assert set(map(tuple, verdicts.values())) == {(True, False, True)}


def test_a_grader_that_raises_refuses(capsys):
    assert grade_with(lambda gold, answer: 1 / 0, [RIGHT]) == [False]
    assert "raised on 1 of 1 answers, first ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize("grader", ["nowhere", "x=no_such_module:f", "x=operator:no_such"])
def test_graders_that_do_not_exist_are_refused(grader):
    with pytest.raises(InputError) as error:
        find_graders([grader], workers=1)
    assert error.value.field == "grader"


def test_own_sets_are_what_they_say():
    assert sum(case.correct for case in style_cases()) > 215 * 3
    assert all(case.verifier == "choice" for case in style_cases())
    assert all("{X}" not in style.text for style in styles())

    forms = surface_form_cases(["12"])
    assert len(forms) >= 50 and all(case.correct and case.gold == "12" for case in forms)
    corruptions = corruption_cases(["12", "x^2"])
    assert corruptions and not any(case.correct for case in corruptions)
    assert not {case.answer for case in corruptions} & {r"\boxed{12}", r"\boxed{x^2}"}


def test_the_program_prints_the_table_and_writes_the_numbers(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(program, "style_cases", lambda: [RIGHT])
    rows = [RIGHT._asdict(), WRONG._asdict(), {**WRONG._asdict(), "correct": True}]
    judged = write(tmp_path / "judged.jsonl", rows)
    out = tmp_path / "numbers.json"
    program.main([f"--set=three={judged}", "--workers=1", f"--out={out}"])

    printed = capsys.readouterr().out
    assert re.search(r"\| three \| 3 \| 2 \(0/1\) \| 2 \(0/1\)", printed)
    assert "falsely unpaid by ours, strict, ours, lenient" in printed
    numbers = json.loads(out.read_text())
    assert numbers["scores"]["three"]["ours, strict"]["false_negatives"] == 1


@pytest.mark.parametrize("arguments", [["--set=file"], ["--set=x=no_such_file"], ["--grader=x"]])
def test_mistakes_end_in_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        program.main(arguments)
    assert error.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
