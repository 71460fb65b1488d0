"""rollouts.jsonl: the texts of a problem in every world, with verdicts and credit; bounded, and no step twice."""

import dataclasses
import json

import numpy as np
import pytest

from ccpo_jax.data import Problem
from ccpo_jax.rl.topology import agent_masks, dyad, voting
from ccpo_jax.rl.types import Outcome, Samples
from ccpo_jax.rollout import Rollout, Turn
from ccpo_jax.verifiers import Graded
from ccpo_jax.workdir.rollout_log import RolloutLog, StepBatch, parts_of_text, rollout_record

PROBLEM = Problem("sums/7", "What is 1+1?", "2", "exact", views=("1+?", "?+1"))


def turn(texts, *, variant, counts, cut=()) -> Turn:
    """One prompt's texts of a turn; `cut` are the rows that met their limit."""
    truncated = np.isin(np.arange(len(texts)), cut)[None]
    samples = Samples(
        *(np.zeros((1, len(texts), 1)),) * 2, np.ones((1, len(texts)), int), truncated
    )
    return Turn(None, samples, [list(texts)], variant, counts)


def record_of(
    topology,
    masks,
    turns,
    reward,
    credit,
    *,
    verdicts=None,
    problem=PROBLEM,
    known=None,
    max_chars=100,
) -> dict:
    """Of one prompt: reward [W, G], credit [A, G]; advantages are twice the credit."""
    count = sum(len(turn.texts[0]) for turn in turns)
    answers, correct, problems = verdicts or ([None] * count, [False] * count, [""] * count)
    graded = Graded(correct, [0] * count, answers, problems, None, {}, {})
    reward, credit = np.array(reward, np.float32)[:, None], np.array(credit, float)[:, None]
    outcome = Outcome(reward, np.zeros((*reward.shape, masks.shape[1])), None, masks)
    rollout = Rollout(tuple(turns), masks)
    known = np.ones(len(credit), bool) if known is None else np.array(known)
    batch = StepBatch([problem], rollout, [graded], outcome, credit, 2 * credit, known)
    return rollout_record(topology, batch, 0, max_chars=max_chars)


def dyad_record(solos: int, **changes) -> dict:
    """Two samples of a dyad and `solos` answers without the Thinker, of which the first alone is right."""
    turns = (
        turn(["so it is 2", "hm"], variant=(0, 0), counts=(2,), cut=(1,)),
        turn(["2", "3", *("24"[: 1 + s] for s in range(solos))], variant=(0, 1), counts=(2, solos)),
    )
    verdicts = (
        ["9", None, "2", "3", *"2" * solos],
        [False, False, True, False, True] + [False] * (solos - 1),
        ["", "no_answer", "", ""] + [""] * solos,
    )
    alone = [1, 0] if solos == 2 else [1 / solos] * 2
    credit = [[0, -0.5], [1, np.nan]]
    return record_of(
        dyad(), agent_masks(2, (0,)), turns, [[1, 0], alone], credit, verdicts=verdicts, **changes
    )


def texts_in(record: dict, sample: int, world: int) -> list[list[str | None]]:
    """The transcripts of a sample in a world as texts."""

    def text(turn: int, number: int | None) -> str | None:
        return None if number is None else record["turns"][turn]["texts"][number]["text"]

    transcripts = record["samples"][sample]["said"][world]
    return [[text(turn, n) for turn, n in enumerate(transcript)] for transcript in transcripts]


def test_a_problem_by_hand():
    record = dyad_record(2)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert (record["id"], record["question"], record["gold"], record["group"]) == (
        "sums/7",
        "What is 1+1?",
        "2",
        2,
    )
    assert record["views"] == ["1+?", "?+1"] and record["masked"] == [[], [0]]
    assert [(turn["speaker"], turn["role"]) for turn in record["turns"]] == [
        (0, "thinker"),
        (1, "solver"),
    ]
    assert record["turns"][0]["texts"] == [
        {"text": "so it is 2", "verdict": "wrong", "answer": "9"},
        {"text": "hm", "verdict": "cut off"},
    ]
    assert [texts_in(record, s, w) for s in (0, 1) for w in (0, 1)] == [
        [["so it is 2", "2"]], [[None, "2"]], [["hm", "3"]], [[None, "24"]]
    ]  # fmt: skip
    (_, joint), (_, solo) = (record["samples"][0]["said"][world][0] for world in (0, 1))
    assert joint != solo  # two texts, though both say 2
    for text in (joint, solo):
        assert record["turns"][1]["texts"][text] == {"text": "2", "verdict": "right", "answer": "2"}
    first, second = record["samples"]
    assert first["reward"] == [1, 1] and first["credit"] == [0, 1] and first["advantage"] == [0, 2]
    assert second["reward"] == [0, 0] and second["credit"] == [-0.5, None]  # JSON knows no NaN
    assert record["mean_credit"] == [-0.25, None]


def test_a_thought_stands_beside_the_text_where_there_is_one():
    masks = agent_masks(2, ())
    thinker = turn(["5", "6"], variant=(0,), counts=(2,))
    solver = turn(["2", ""], variant=(0,), counts=(2,))
    solver = solver._replace(thoughts=[["Is it 3?", "x" * 200]], unfinished=[[False, True]])
    record = record_of(dyad(), masks, (thinker, solver), [[1, 0]], [[0, 0], [1, 0]])
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert all("thought" not in text for text in record["turns"][0]["texts"])
    thoughts = [text["thought"] for text in record["turns"][1]["texts"]]
    assert thoughts[0] == "Is it 3?"
    assert thoughts[1] == f"{'x' * 50} [100 characters left out] {'x' * 50}"
    assert [text["text"] for text in record["turns"][1]["texts"]] == ["2", ""]
    assert "rating_thoughts" not in record["samples"][0]


def test_fractions_and_parts_stand_beside_the_text():
    texts = ["a", "b", "c", "d", "e", "f"]
    scores = [0.4, 1.0, 0.0, 0.0, 0.9996, 0.5]
    failures = ["", "", "", "timed_out", "", ""]
    parts = {"math": [0, 1, 0, 0, 1, 1], "form": [0.8, 1, None, 0, 0.5, float("nan")]}
    graded = Graded(scores, [0] * 6, [None] * 6, failures, None, {}, parts)
    masks, counts = agent_masks(2, ()), (3,)
    thoughts = turn(texts[:3], variant=(0,), counts=counts)
    answers = turn(texts[3:], variant=(0,), counts=counts, cut=(2,))
    outcome = Outcome(np.zeros((1, 1, 3)), np.zeros((1, 1, 3, 2)), None, masks)
    rollout = Rollout((thoughts, answers), masks)
    batch = StepBatch(
        [PROBLEM], rollout, [graded], outcome, *(np.zeros((2, 1, 3)),) * 2, np.ones(2)
    )
    record = rollout_record(dyad(), batch, 0)
    assert json.loads(json.dumps(record, allow_nan=False)) == record

    logged = [text for each in record["turns"] for text in each["texts"]]
    verdicts = ["0.40", "right", "wrong", "timed out", "0.99", "cut off"]
    assert [text["verdict"] for text in logged] == verdicts
    assert [text.get("score") for text in logged] == [0.4, None, None, None, 0.9996, None]
    assert [text["parts"]["form"] for text in logged] == [0.8, 1, None, 0, 0.5, None]
    assert logged[4]["parts"] == {"math": 1, "form": 0.5}


def test_names_of_parts_are_bounded():
    names = [str(number) * 150 for number in range(100)]
    graded = Graded([1.0], [0], ["1"], [""], None, {}, {name: [1.0] for name in names})
    parts = parts_of_text(graded, 0)
    assert len(parts) == 16 and max(map(len, parts)) < 250


def test_credit_that_a_step_did_not_compute_is_null():
    record = dyad_record(2, known=[False, True])
    for sample in record["samples"]:
        assert sample["credit"][0] is sample["advantage"][0] is None
    assert record["samples"][0]["credit"][1] == 1 and record["samples"][0]["advantage"][1] == 2
    assert record["mean_credit"][0] is None


def test_a_world_with_other_numbers_stands_whole_beside_every_sample():
    record = dyad_record(3)
    for sample in (0, 1):
        assert texts_in(record, sample, 1) == [[None, "2"], [None, "24"], [None, "24"]]
        assert record["samples"][sample]["reward"][1] == pytest.approx(1 / 3, abs=1e-6)


def test_answers_to_one_thought_share_it():
    turns = turn("xy", variant=(0,), counts=(2,)), turn("abcd", variant=(0,), counts=(4,))
    record = record_of(dyad(), agent_masks(2, ()), turns, [[0] * 4], [[0] * 4] * 2)
    assert [texts_in(record, s, 0)[0] for s in range(4)] == [
        ["x", "a"],
        ["x", "b"],
        ["y", "c"],
        ["y", "d"],
    ]


def test_everything_is_bounded():
    """Many samples, long texts: some of the samples, the beginnings and the ends. Voters say nothing twice."""
    turns = [
        turn([f"{k}{g:02}" + "x" * 10**5 for g in range(20)], variant=(0,) * 4, counts=(20,))
        for k in range(3)
    ]
    vast = Problem("x" * 10**6, "q" * 10**6, "g" * 10**6, "exact")
    facts = (voting(3), agent_masks(3), turns, [[0] * 20] * 4, [[0] * 20] * 3)
    record = record_of(*facts, problem=vast, max_chars=50)
    assert record["group"] == 20 and len(record["samples"]) == 16
    assert [len(turn["texts"]) for turn in record["turns"]] == [16] * 3
    assert record["samples"][3]["said"] == [
        [[3, 3, 3]],
        [[None, 3, 3]],
        [[3, None, 3]],
        [[3, 3, None]],
    ]
    assert (
        record["turns"][2]["texts"][7]["text"]
        == "207" + "x" * 22 + " [99,953 characters left out] " + "x" * 25
    )
    assert len(json.dumps(record)) < 16_000
    assert 900_000 < len(json.dumps(record_of(*facts, problem=vast, max_chars=10**6))) < 1_100_000


def test_the_turns_before_a_question_are_logged_and_bounded():
    assert "before" not in dyad_record(2)
    history = (("system", "Be brief."), ("user", "u" * 300))
    record = dyad_record(2, problem=dataclasses.replace(PROBLEM, history=history))
    said = "u" * 50 + " [200 characters left out] " + "u" * 50
    assert record["before"] == [("system", "Be brief."), ("user", said)]

    many = tuple(("user", str(turn)) for turn in range(100))
    before = dyad_record(2, problem=dataclasses.replace(PROBLEM, history=many))["before"]
    assert [text for _, text in before] == [
        *map(str, range(8)),
        "[84 turns left out]",
        *map(str, range(92, 100)),
    ]


def test_some_steps_are_kept_and_none_twice(tmp_path):
    masks = agent_masks(2, ())
    rollout = Rollout(
        (turn("x", variant=(0,), counts=(1,)), turn("\ud800", variant=(0,), counts=(1,))), masks
    )
    outcome = Outcome(np.ones((1, 1, 1), np.float32), None, None, masks)
    graded = [Graded([True] * 2, [0] * 2, ["1"] * 2, [""] * 2, None, {}, {})]
    credit = np.zeros((2, 1, 1))
    batch = StepBatch([PROBLEM], rollout, graded, outcome, credit, credit, np.ones(2, bool))

    def live(start: int, stop: int, total: int = 10) -> list[int]:
        with RolloutLog(
            tmp_path, dyad(), total_steps=total, problems=1, every=3, resume_step=start
        ) as log:
            for step in range(start + 1, stop + 1):
                log.write(step, batch)
        lines = [
            json.loads(line) for line in (tmp_path / "rollouts.jsonl").read_text().splitlines()
        ]
        assert all(line["turns"][1]["texts"][0]["text"] == "\ud800" for line in lines)
        return [line["step"] for line in lines]

    assert live(0, 7) == [1, 3, 6]
    with (tmp_path / "rollouts.jsonl").open("a") as file:
        file.write('{"step": 6, "id": "to')
    assert live(5, 6) == [1, 3, 6]
    assert live(0, 2) == [1]
    assert live(0, 40, total=1200) == [
        1,
        *range(6, 41, 6),
    ]  # 400 steps to keep would be too many: every other one
