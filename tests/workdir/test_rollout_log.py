"""rollouts.jsonl: what was said to a problem, in every world, with verdicts and pay; bounded, and no step twice."""

import json

import numpy as np
import pytest

from ccpo_jax.data import Problem
from ccpo_jax.rl.topology import agent_masks, dyad, voting
from ccpo_jax.rl.types import Outcome, Samples
from ccpo_jax.rollout import Rollout, Turn
from ccpo_jax.verifiers import Graded
from ccpo_jax.workdir.rollout_log import RolloutLog, entry

PROBLEM = Problem("sums/7", "What is 1+1?", "2", "exact", views=("1+?", "?+1"))


def turn(texts, *, variant, counts, cut=()) -> Turn:
    """One prompt's texts of a turn; `cut` are the rows that met their limit."""
    truncated = np.isin(np.arange(len(texts)), cut)[None]
    samples = Samples(
        *(np.zeros((1, len(texts), 1)),) * 2, np.ones((1, len(texts)), int), truncated
    )
    return Turn(None, samples, [list(texts)], variant, counts)


def entry_of(
    topology, masks, turns, reward, credit, *, verdicts=None, problem=PROBLEM, most_chars=100
) -> dict:
    """Of one prompt: reward [W, G], credit [A, G]; advantages are twice the credit."""
    count = sum(len(turn.texts[0]) for turn in turns)
    answers, correct, problems = verdicts or ([None] * count, [False] * count, [""] * count)
    graded = Graded(correct, [0] * count, answers, problems, None, {})
    reward, credit = np.array(reward, np.float32)[:, None], np.array(credit, float)[:, None]
    outcome = Outcome(reward, np.zeros((*reward.shape, masks.shape[1])), None, masks)
    return entry(topology, problem, 0, Rollout(tuple(turns), masks), graded, outcome, credit, 2 * credit,
                 most_chars=most_chars)  # fmt: skip


def dyad_entry(solos: int, **changes) -> dict:
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
    return entry_of(
        dyad(), agent_masks(2, (0,)), turns, [[1, 0], alone], credit, verdicts=verdicts, **changes
    )


def told(found: dict, sample: int, world: int) -> list[list[str | None]]:
    """The words of a sample in a world."""
    return [[row if row is None else turn["texts"][row]["text"] for turn, row in zip(found["turns"], telling, strict=True)]
            for telling in found["samples"][sample]["said"][world]]  # fmt: skip


def test_a_problem_by_hand():
    found = dyad_entry(2)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["id"], found["question"], found["gold"], found["group"]) == (
        "sums/7",
        "What is 1+1?",
        "2",
        2,
    )
    assert found["views"] == ["1+?", "?+1"] and found["masked"] == [[], [0]]
    assert [(turn["speaker"], turn["role"]) for turn in found["turns"]] == [
        (0, "thinker"),
        (1, "solver"),
    ]
    assert found["turns"][0]["texts"] == [
        {"text": "so it is 2", "verdict": "wrong", "answer": "9"},
        {"text": "hm", "verdict": "cut off"},
    ]
    assert [told(found, s, w) for s in (0, 1) for w in (0, 1)] == [
        [["so it is 2", "2"]], [[None, "2"]], [["hm", "3"]], [[None, "24"]]
    ]  # fmt: skip
    (_, joint), (_, solo) = (found["samples"][0]["said"][world][0] for world in (0, 1))
    assert joint != solo  # two texts, though both say 2
    for text in (joint, solo):
        assert found["turns"][1]["texts"][text] == {"text": "2", "verdict": "right", "answer": "2"}
    first, second = found["samples"]
    assert first["reward"] == [1, 1] and first["credit"] == [0, 1] and first["advantage"] == [0, 2]
    assert second["reward"] == [0, 0] and second["credit"] == [-0.5, None]  # JSON knows no NaN
    assert found["mean_credit"] == [-0.25, None]


def test_a_world_with_other_numbers_stands_whole_beside_every_sample():
    found = dyad_entry(3)
    for sample in (0, 1):
        assert told(found, sample, 1) == [[None, "2"], [None, "24"], [None, "24"]]
        assert found["samples"][sample]["reward"][1] == pytest.approx(1 / 3, abs=1e-6)


def test_answers_to_one_thought_share_it():
    turns = turn("xy", variant=(0,), counts=(2,)), turn("abcd", variant=(0,), counts=(4,))
    found = entry_of(dyad(), agent_masks(2, ()), turns, [[0] * 4], [[0] * 4] * 2)
    assert [told(found, s, 0)[0] for s in range(4)] == [
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
    found = entry_of(*facts, problem=vast, most_chars=50)
    assert found["group"] == 20 and len(found["samples"]) == 16
    assert [len(turn["texts"]) for turn in found["turns"]] == [16] * 3
    assert found["samples"][3]["said"] == [
        [[3, 3, 3]],
        [[None, 3, 3]],
        [[3, None, 3]],
        [[3, 3, None]],
    ]
    assert (
        found["turns"][2]["texts"][7]["text"]
        == "207" + "x" * 22 + " [99,953 characters left out] " + "x" * 25
    )
    assert len(json.dumps(found)) < 16_000
    assert 900_000 < len(json.dumps(entry_of(*facts, problem=vast, most_chars=10**6))) < 1_100_000


def test_some_steps_are_kept_and_none_twice(tmp_path):
    masks = agent_masks(2, ())
    spoken = Rollout(
        (turn("x", variant=(0,), counts=(1,)), turn("\ud800", variant=(0,), counts=(1,))), masks
    )
    outcome = Outcome(np.ones((1, 1, 1), np.float32), None, None, masks)
    graded = [Graded([True] * 2, [0] * 2, ["1"] * 2, [""] * 2, None, {})]
    facts = ([PROBLEM], spoken, graded, outcome, np.zeros((2, 1, 1)), np.zeros((2, 1, 1)))

    def live(start: int, stop: int, total: int = 10) -> list[int]:
        how = {"problems": 1, "every": 3, "chars": 9}
        with RolloutLog(tmp_path, dyad(), resume_step=start, total_steps=total, **how) as journal:
            for step in range(start + 1, stop + 1):
                journal.write(step, *facts)
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
