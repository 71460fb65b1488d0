"""Rows as public sets have them: each becomes the right problem, or is refused with what to type.

The rows are made up; the columns, their order and their types are those of the sets.
"""

import json
import pathlib

import numpy as np
import pytest

from ccpo_jax.data import UnusableRow, from_rows, parse_row
from tests.support.errors import raises_for


def turn(speaker, text):
    return {"role": speaker, "content": text}


def user(text):
    return turn("user", text)


SYSTEM = turn("system", "Reason first. Put the answer in \\boxed{}.")
SHOTS = [user("2+2?"), turn("assistant", "\\boxed{4}")]
HISTORY = (
    ("system", "Reason first. Put the answer in \\boxed{}."),
    ("user", "2+2?"),
    ("assistant", "\\boxed{4}"),
)

# Name of the layout -> a row whose question is "1+1?" and whose answer is 2, where both are from.
FREE = {
    "GSM8K": (
        {"question": "1+1?", "answer": "1 and 1 make <<1+1=2>>2.\n#### 2"},
        "question from `question`, gold from `answer`",
    ),
    "MATH": (
        {
            "problem": "1+1?",
            "level": "Level 1",
            "type": "Algebra",
            "solution": "It is $\\boxed{2}$.",
        },
        "question from `problem`, gold from `solution`",
    ),
    "MATH-500": (
        {
            "problem": "1+1?",
            "solution": "It is $\\boxed{2}$.",
            "answer": "2",
            "subject": "Algebra",
            "level": 1,
            "unique_id": "test/algebra/1.json",
        },
        "question from `problem`, gold from `answer`",
    ),
    "NuminaMath-CoT": (
        {
            "source": "olympiads",
            "problem": "1+1?",
            "solution": "So $\\boxed{2}$.",
            "messages": [user("1+1?"), turn("assistant", "So $\\boxed{2}$.")],
        },
        "question from `problem`, gold from `solution`",
    ),
    "OpenR1-Math": (
        {
            "problem": "1+1?",
            "solution": "It is even.",
            "answer": "2",
            "problem_type": "Algebra",
            "question_type": "math-word-problem",
            "generations": ["<think>a</think>", "<think>b</think>"],
            "correctness_math_verify": [True, False],
            "finish_reasons": ["stop", "length"],
            "messages": [user("1+1?"), turn("assistant", "<think>a</think>")],
        },
        "question from `problem`, gold from `answer`",
    ),
    "DeepScaleR": (
        {"problem": "1+1?", "answer": "2", "solution": ""},
        "question from `problem`, gold from `answer`",
    ),
    "Big-Math": (
        {
            "problem": "1+1?",
            "answer": "2",
            "source": "orca_math",
            "domain": ["Mathematics -> Algebra"],
            "llama8b_solve_rate": 0.5,
        },
        "question from `problem`, gold from `answer`",
    ),
    "DeepMath": (
        {
            "question": "1+1?",
            "final_answer": "2",
            "difficulty": 4.5,
            "topic": "Mathematics -> Algebra",
            "r1_solution_1": "a",
            "r1_solution_2": "b",
            "r1_solution_3": "c",
        },
        "question from `question`, gold from `final_answer`",
    ),
    "OpenMathReasoning": (
        {
            "expected_answer": "2",
            "problem_type": "has_answer_extracted",
            "generation_model": "m",
            "problem": "1+1?",
            "generated_solution": "a",
        },
        "question from `problem`, gold from `expected_answer`",
    ),
    "OlympiadBench": (
        {
            "id": 1,
            "question": "1+1?",
            "solution": ["One step.", "Another."],
            "final_answer": ["2"],
            "context": None,
            "is_multiple_answer": False,
            "unit": None,
            "answer_type": "Numerical",
        },
        "question from `question`, gold from `final_answer`",
    ),
    "TRL, text": ({"prompt": "1+1?", "ground_truth": 2}, "question from `prompt`, gold from `g"),
    "TRL, text and solution": (
        {"prompt": "1+1?", "solution": "$2$"},
        "question from `prompt`, gold from `solution`",
    ),
    "TRL, text and answers": (
        {"prompt": "1+1?", "answers": ["2"]},
        "question from `prompt`, gold from `answers`",
    ),
    "TRL, conversation": (
        {"prompt": [user("1+1?")], "solution": "$2$"},
        "question from `prompt[-1].content`, gold from `solution`",
    ),
    "TRL, prompt and completion": (
        {"prompt": [user("1+1?")], "completion": [turn("assistant", "So \\boxed{2}.")]},
        "question from `prompt[-1].content`, gold from `completion`",
    ),
    "messages": (
        {"messages": [user("1+1?"), turn("assistant", "So \\boxed{2}.")]},
        "question from `messages[-2].content`, gold from `messages[-1].content`",
    ),
    "ShareGPT": (
        {
            "conversations": [
                {"from": "human", "value": "1+1?"},
                {"from": "gpt", "value": "So \\boxed{2}."},
            ]
        },
        "question from `conversations[-2].value`, gold from `conversations[-1].value`",
    ),
    "parts of a content": (
        {"prompt": [user([{"type": "text", "text": "1+1?"}])], "answer": "2"},
        "question from `prompt[-1].content`, gold from `answer`",
    ),
    "verl": (
        {
            "data_source": "openai/gsm8k",
            "prompt": [user("1+1?")],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "2"},
            "extra_info": {"split": "train", "index": 0, "answer": "#### 2", "question": "1+1?"},
        },
        "question from `prompt[-1].content`, gold from `reward_model.ground_truth`",
    ),
    "verl, by pandas": (
        {
            "data_source": "math_dapo",
            "prompt": np.array([user("1+1?")]),
            "ability": "MATH",
            "reward_model": {"ground_truth": np.str_("2"), "style": "rule-lighteval/MATH_v2"},
            "extra_info": {"index": "9a9b"},
        },
        "question from `prompt[-1].content`, gold from `reward_model.ground_truth`",
    ),
    "verl, in a table of text": (
        {
            "prompt": json.dumps([user("1+1?")]),
            "reward_model": json.dumps({"style": "rule", "ground_truth": "2"}),
        },
        "question from `prompt[-1].content`, gold from `reward_model.ground_truth`",
    ),
    "Skywork-OR1": (
        {
            "data_source": "train-math-deepscaler",
            "prompt": [user("1+1?")],
            "ability": "math",
            "reward_model": {"ground_truth": '["2"]', "style": "rule"},
            "extra_info": {"index": 0, "model_difficulty": {"m": 8}},
        },
        "question from `prompt[-1].content`, gold from `reward_model.ground_truth`",
    ),
    "DAPO, processed": (
        {
            "prompt": "1+1?",
            "solution": "2",
            "data_source": "math_dapo",
            "source_prompt": [user("Solve: 1+1?")],
            "ability": "MATH",
            "reward_model": {"ground_truth": "2", "style": "rule-lighteval/MATH_v2"},
            "extra_info": {"index": "9a9b"},
        },
        "question from `prompt`, gold from `reward_model.ground_truth`",
    ),
    "SYNTHETIC-1": (
        {
            "source": "numina",
            "task_type": "verifiable_math",
            "prompt": "1+1?",
            "gold_standard_solution": "It is even.",
            "verification_info": '{"ground_truth": "2"}',
            "metadata": "{}",
        },
        "question from `prompt`, gold from `verification_info.ground_truth`",
    ),
    "Open-Reasoner-Zero": (
        {
            "0": {"from": "human", "value": "1+1?", "ground_truth": None},
            "1": {
                "from": "assistant",
                "value": None,
                "ground_truth": {"value": "2", "pass_at_n": 0.5},
            },
        },
        "question from `0.value`, gold from `1.ground_truth.value`",
    ),
}


@pytest.mark.parametrize("layout", FREE)
def test_free_answers(layout):
    row, reading = FREE[layout]
    dataset = from_rows([row], name="set")
    problem = dataset.problems[0]
    assert (problem.question, problem.gold, problem.verifier) == ("1+1?", "2", "math")
    assert problem.history == () and problem.options == ()
    assert [text.startswith(reading) for text in dataset.readings] == [True]


QUESTION = {"question": "Which planet is red?"}

# Layout -> a row whose options are Venus and Mars, of which Mars is right.
CHOICES = {
    "MMLU": QUESTION | {"subject": "astronomy", "choices": ["Venus", "Mars"], "answer": 1},
    "ARC": {"id": "q1"}
    | QUESTION
    | {"choices": {"text": ["Venus", "Mars"], "label": ["A", "B"]}, "answerKey": "B"},
    "CommonsenseQA": QUESTION
    | {
        "question_concept": "planet",
        "choices": {"label": ["A", "B"], "text": ["Venus", "Mars"]},
        "answerKey": "B",
    },
    "OpenBookQA": {
        "question_stem": "Which planet is red?",
        "choices": {"text": ["Venus", "Mars"], "label": ["A", "B"]},
        "answerKey": "B",
    },
    "HellaSwag": {
        "ind": 1,
        "activity_label": "Stars",
        "ctx_a": "Which planet",
        "ctx_b": "is red?",
        "ctx": "Which planet is red?",
        "endings": ["Venus", "Mars"],
        "source_id": "a~b",
        "split": "val",
        "label": "1",
    },
    "AQuA": QUESTION | {"options": ["A)Venus", "B)Mars"], "rationale": "Rust.", "correct": "B"},
    "RACE": {"example_id": "high1.txt", "article": None}
    | QUESTION
    | {"options": ["Venus", "Mars"], "answer": "B"},
    "PIQA": {"goal": "Which planet is red?", "sol1": "Venus", "sol2": "Mars", "label": 1},
    "WinoGrande": {
        "sentence": "Which planet is red?",
        "option1": "Venus",
        "option2": "Mars",
        "answer": "2",
    },
    "options as text in JSON": QUESTION | {"choices": '["Venus", "Mars"]', "answer": 1},
}


@pytest.mark.parametrize("layout", CHOICES)
def test_options(layout):
    problem = parse_row(CHOICES[layout])
    assert problem.question == "Which planet is red?\nA. Venus\nB. Mars"
    assert (problem.gold, problem.verifier) == ("B", "choice")


@pytest.mark.parametrize("label, letter", [("1", "A"), ("3", "C"), (2, "B")])
def test_social_iqa(label, letter):
    row = {"context": "Kim helped.", "question": "Why?", "label": label}
    problem = parse_row(row | {"answerA": "a", "answerB": "b", "answerC": "c"})
    assert problem.question == "Kim helped.\nWhy?\nA. a\nB. b\nC. c" and problem.gold == letter


@pytest.mark.parametrize("label, letter", [(0, "A"), (3, "D")])
def test_medmcqa(label, letter):
    row = {"id": "x", "question": "q", "opa": "a", "opb": "b", "opc": "c", "opd": "d"}
    problem = parse_row(row | {"cop": label, "choice_type": "single", "exp": None})
    assert problem.options == ("a", "b", "c", "d") and problem.gold == letter


@pytest.mark.parametrize(
    "row",
    [
        CHOICES["PIQA"] | {"label": -1},
        CHOICES["WinoGrande"] | {"answer": ""},
        CHOICES["HellaSwag"] | {"label": ""},
        CHOICES["MMLU"] | {"answer": None},
        CHOICES["PIQA"] | {"sol2": float("nan")},
        {"question": "q", "answers": [None]},
    ],
)
def test_rows_of_test_sets_and_broken_ones_are_dropped(row):
    with pytest.raises(UnusableRow):
        parse_row(row)


@pytest.mark.parametrize("answer, letter", [(True, "A"), (False, "B"), (np.bool_(True), "A")])
def test_boolq(answer, letter):
    row = {"question": "is mars red", "answer": answer, "passage": "Mars is full of iron."}
    problem = parse_row(row)
    assert problem.question == "Mars is full of iron.\nis mars red\nA. Yes\nB. No"
    assert (problem.gold, problem.verifier, problem.options) == (letter, "choice", ("Yes", "No"))


SCIQ = {
    "question": "Which planet is red?",
    "distractor3": "Earth",
    "distractor1": "Venus",
    "distractor2": "Pluto",
    "correct_answer": "Mars",
    "support": "Mars is full of iron.",
}
GPQA = {
    "Pre-Revision Question": "old",
    "Pre-Revision Correct Answer": "old",
    "Pre-Revision Incorrect Answer 1": "older",
    "Question": "Which planet is red?",
    "Correct Answer": "Mars",
    "Incorrect Answer 1": "Venus",
    "Incorrect Answer 2": "Earth",
    "Incorrect Answer 3": "Pluto",
    "Explanation": "Rust.",
}


@pytest.mark.parametrize("row", [SCIQ, GPQA], ids=["SciQ", "GPQA"])
def test_right_and_wrong_answers_are_mixed(row):
    problem = parse_row(row)
    assert sorted(problem.options) == ["Earth", "Mars", "Pluto", "Venus"]
    assert problem.options["ABCD".index(problem.gold)] == "Mars"
    # The order depends on the texts alone.
    assert parse_row(dict(reversed(row.items()))) == problem


def test_the_right_answer_is_at_every_place():
    rows = [SCIQ | {"question": f"Which of {number}?"} for number in range(40)]
    golds = [problem.gold for problem in from_rows(rows, name="sciq").problems]
    assert set(golds) == set("ABCD")


def test_the_rows_of_the_page_are_read():
    page = pathlib.Path(__file__).parents[2] / "docs" / "your-model-and-data.md"
    block = page.read_text(encoding="utf-8").partition("```json\n")[2].partition("```")[0]
    problems = from_rows(map(json.loads, block.splitlines()), name="page").problems
    assert [problem.gold for problem in problems] == ["80", "B", "56"]
    assert problems[2].history == (("system", "Be brief."),)


# --- conversations --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [SYSTEM, *SHOTS, user("1+1?")], "answer": "2"},
        {"messages": [SYSTEM, *SHOTS, user("1+1?")], "answer": "2"},
        {"messages": [SYSTEM, *SHOTS, user("1+1?"), turn("assistant", "#### 2")]},
        {"prompt": [SYSTEM, *SHOTS, user("1+1?"), turn("assistant", "")], "answer": "2"},
    ],
)
def test_the_turns_before_the_question_are_kept(row):
    dataset = from_rows([row], name="set")
    problem = dataset.problems[0]
    assert (problem.question, problem.gold, problem.history) == ("1+1?", "2", HISTORY)
    assert "the turns before it kept" in dataset.summary()


def test_the_same_words_after_other_turns_are_another_question():
    rows = [
        {"prompt": [user(f"x={x}"), turn("assistant", "ok"), user("2x?")], "answer": 2 * x}
        for x in (1, 2, 2)
    ]
    dataset = from_rows(rows, name="set")
    assert [problem.gold for problem in dataset.problems] == ["2", "4"]
    assert dataset.dropped == {"duplicate question": 1}


def test_an_answer_column_counts_before_a_reply():
    row = {"messages": [user("1+1?"), turn("assistant", "\\boxed{3}")], "answer": "2"}
    assert parse_row(row).gold == "2"


@pytest.mark.parametrize(
    "cells, unread",
    [
        ({"messages": [SYSTEM, user("1+1?")]}, "messages"),
        ({"system": "Be brief."}, "system"),
        ({"messages": [user("1+1?"), turn("assistant", "2")], "system": None}, ""),
    ],
)
def test_the_log_names_a_system_turn_that_is_not_read(cells, unread):
    dataset = from_rows([{"question": "1+1?", "answer": "2"} | cells], name="set")
    assert dataset.problems[0].history == ()
    assert ("not read" in dataset.summary()) == bool(unread)
    assert f"`{unread}` not read" in dataset.summary() or not unread


def test_a_question_counts_before_a_prompt_and_the_log_says_so():
    row = {"prompt": [SYSTEM, user("1+1?")], "question": "1+1?", "answer": "2"}
    dataset = from_rows([row], name="set")
    assert dataset.problems[0].history == () and "`prompt` not read" in dataset.summary()
    dataset = from_rows([row], name="set", columns="question=prompt")
    assert dataset.problems[0].history == HISTORY[:1]


@pytest.mark.parametrize(
    "row, column, fact",
    [
        (
            {"prompt": [user("q"), turn("assistant", "So")], "answer": "2"},
            "prompt",
            '"question=prompt[-2].content"',
        ),
        ({"prompt": [user("q"), turn("tool", "2")], "answer": "2"}, "prompt", "'tool'"),
        ({"prompt": [user("q"), SYSTEM, user("r")], "answer": "2"}, "prompt", "put it first"),
        (
            {"prompt": [user([{"type": "image"}, {"type": "text", "text": "q"}])], "answer": "2"},
            "prompt",
            "other than text",
        ),
        (
            {"messages": [user("q"), *[turn("assistant", "x")] * 2], "answer": "2"},
            "messages",
            "at most one reply",
        ),
        ({"prompt": "q", "chosen": "x", "rejected": "y"}, "answer", "answer=COLUMN"),
        ({"prompt": "The sky is", "completion": "blue."}, "answer", "answer=completion"),
        ({"prompt": [user("q")]}, "answer", "--config.verifier.name=FILE.py:function"),
    ],
)
def test_conversations_that_are_refused(row, column, fact):
    with raises_for(column) as error:
        parse_row(row)
    assert fact in str(error.value) and "\n" not in str(error.value)


def test_a_conversation_without_a_user_is_dropped():
    with pytest.raises(UnusableRow, match=r"^no user turn$"):
        parse_row({"prompt": [SYSTEM], "answer": "2"})


# --- what is refused, with what to type -----------------------------------------------------------


@pytest.mark.parametrize(
    "row, column, fact",
    [
        # TruthfulQA: the first of the choices is the right one in every row.
        (
            {"question": "q", "mc1_targets": {"choices": ["x", "y"], "labels": [1, 0]}},
            "mc1_targets.choices",
            "mixed order",
        ),
        (
            {"type": "t", "question": "q", "best_answer": "x", "incorrect_answers": ["y", "z"]},
            "incorrect_answers",
            "options=incorrect_answers",
        ),
        (
            {"question": "q", "correct_answer": "x", "incorrect_answers": list("abcdefg") * 4},
            "correct_answer+incorrect_answers",
            "2 to 26 texts",
        ),
        # SQuAD, TriviaQA: several answers are right.
        (
            {"context": "c", "question": "q", "answers": {"text": ["x"], "answer_start": [0]}},
            "answers",
            '"answer=answers.text[0]"',
        ),
        ({"question": "q", "answers": ["x", "y"]}, "answers", '"answer=answers[0]"'),
        # Programs.
        (
            {"prompt": [user("q")], "reward_model": {"ground_truth": '{"inputs": ["1"]}'}},
            "reward_model.ground_truth",
            "verifier.name=FILE.py:function",
        ),
        (
            {"prompt": [user("q")], "reward_model": {"ground_truth": {"target": ["x", "y"]}}},
            "reward_model.ground_truth",
            '"answer=reward_model.ground_truth.target[0]"',
        ),
        # SVAMP: the story is apart.
        ({"Body": "b", "Question": "q", "Answer": 2.0}, "Body", "context=Body"),
        # SWAG.
        (
            {"startphrase": "s", "ending0": "x", "ending1": "y", "label": 1},
            "question",
            "question=startphrase,options=ending0+ending1",
        ),
        (
            {"question": "q", "option_a": "x", "option_b": "y", "answer": "a"},
            "option_a",
            "+option_b",
        ),
        ({"question": "q", "label": 1}, "answer", "options=COLUMN,answer_index=label"),
    ],
)
def test_layouts_that_are_refused(row, column, fact):
    with raises_for(column) as error:
        parse_row(row)
    assert fact in str(error.value) and "\n" not in str(error.value)


def test_two_columns_that_should_be_the_answer(tmp_path):
    rows = [
        {"question": f"{i}+1?", "answer": f"They are {i + 1}.", "final_answer": i + 1}
        for i in range(3)
    ]
    with raises_for("data.train") as error:
        from_rows(rows, name="set")
    assert "answer=answer " in str(error.value) and "answer=final_answer" in str(error.value)
    problems = from_rows(rows, name="set", columns="answer=final_answer").problems
    assert [problem.gold for problem in problems] == ["1", "2", "3"]
    # In a few rows it is a slip, and in another spelling it is the same.
    same = [{"question": f"{i}?", "answer": f"${i}$", "final_answer": f"{i}.0"} for i in range(3)]
    assert len(from_rows([*same, rows[0]], name="set").problems) == 4


# --- solutions that are answers -------------------------------------------------------------------


def solutions(*texts):
    return [{"prompt": f"question {i}", "solution": text} for i, text in enumerate(texts)]


def test_short_solutions_may_be_the_answers():
    texts = ["$\\frac{1}{2}$", "34", "True", "x > 2", "$0$"]
    problems = from_rows(solutions(*texts), name="set").problems
    assert [problem.gold for problem in problems] == ["\\frac{1}{2}", "34", "True", "x > 2", "0"]


def test_a_short_solution_among_worked_ones_has_no_answer():
    dataset = from_rows(solutions("so \\boxed{1}", "so \\boxed{2}", "34"), name="set")
    assert [problem.gold for problem in dataset.problems] == ["1", "2"]
    assert dataset.dropped == {"empty gold": 1}


def test_sentences_are_no_answers():
    with raises_for("data.train") as error:
        from_rows(solutions("See the figure.", "It is clear.", "34"), name="set")
    assert "3 empty gold" in str(error.value) and "answer=COLUMN" in str(error.value)
