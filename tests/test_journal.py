"""rollouts.jsonl: what was said to a problem, in every world, with verdicts and pay; bounded, and no step twice."""

import json

import numpy as np
import pytest

from ccpo_jax.data import Problem
from ccpo_jax.journal import Journal, entry, shorten
from ccpo_jax.records import Outcome, Samples
from ccpo_jax.rollout import Rollout, Turn
from ccpo_jax.topology import agent_masks, dyad, voting
from ccpo_jax.verifiers import Graded

PROBLEM = Problem("sums/7", "What is 1+1?", "2", "exact")


def turn(texts, *, variant, counts, cut=()) -> Turn:
    """One prompt's texts of a turn; `cut` are the rows that met their limit."""
    truncated = np.isin(np.arange(len(texts)), cut)[None]
    samples = Samples(*(np.zeros((1, len(texts), 1)),) * 2, np.ones((1, len(texts)), int), truncated)
    return Turn(None, samples, [list(texts)], variant, counts)


def graded(answers, correct, problems=None) -> Graded:
    return Graded(list(correct), [0] * len(answers), list(answers), problems or [""] * len(answers), None, {})


def outcome(reward, masks) -> Outcome:
    """Of one prompt: reward [W, G]."""
    reward = np.array(reward, np.float32)[:, None]
    return Outcome(reward, np.zeros((*reward.shape, masks.shape[1])), None, masks)


def dyad_entry(*, solos: int, **changes) -> dict:
    """Two samples of a dyad and `solos` answers without the Thinker, of which the first alone is right."""
    masks = agent_masks(2, (0,))
    spoken = Rollout(
        (
            turn(["so it is 2", "hm"], variant=(0, 0), counts=(2,), cut=(1,)),
            turn(["2", "3", *("24"[: 1 + s] for s in range(solos))], variant=(0, 1), counts=(2, solos)),
        ),
        masks,
    )
    verdicts = graded(
        ["2", None, "2", "3", *"2" * solos],
        [True, False, True, False, True] + [False] * (solos - 1),
        ["", "no_answer", "", ""] + [""] * solos,
    )
    alone = [1.0, 0.0] if solos == 2 else [1 / solos] * 2
    credit = np.array([[[0.0, -0.5]], [[1.0, np.nan]]])
    facts = dict(problem=PROBLEM, b=0, spoken=spoken, graded=verdicts, outcome=outcome([[1.0, 0.0], alone], masks),
                 credit=credit, advantage=2 * credit, most_chars=100)  # fmt: skip
    return entry(dyad(), **facts | changes)


def test_a_problem_by_hand():
    found = dyad_entry(solos=2)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["id"], found["question"], found["gold"], found["group"]) == ("sums/7", "What is 1+1?", "2", 2)
    assert found["masked"] == [[], [0]]
    thoughts, answers = found["turns"]
    assert (thoughts["speaker"], thoughts["role"], answers["speaker"], answers["role"]) == (0, "thinker", 1, "solver")
    assert thoughts["texts"] == [
        {"text": "so it is 2", "verdict": "right", "answer": "2"},
        {"text": "hm", "verdict": "cut off"},
    ]
    told = [
        [[[t and t["text"] for t in (telling[0] is not None and thoughts["texts"][telling[0]] or None,
                                     answers["texts"][telling[1]])] for telling in world] for world in sample["said"]]
        for sample in found["samples"]
    ]  # fmt: skip
    assert told == [[[["so it is 2", "2"]], [[None, "2"]]], [[["hm", "3"]], [[None, "24"]]]]
    solo = answers["texts"][found["samples"][0]["said"][1][0][1]]
    assert solo is not answers["texts"][found["samples"][0]["said"][0][0][1]] and solo["verdict"] == "right"
    assert found["samples"][0]["reward"] == [1.0, 1.0] and found["samples"][1]["reward"] == [0.0, 0.0]
    assert found["samples"][0]["credit"] == [0.0, 1.0] and found["samples"][0]["advantage"] == [0.0, 2.0]
    assert found["samples"][1]["credit"] == [-0.5, None]  # JSON knows no NaN
    assert found["mean_credit"] == [-0.25, None]


def test_a_world_with_other_numbers_stands_whole_beside_every_sample():
    found = dyad_entry(solos=3)
    texts = found["turns"][1]["texts"]
    for sample in found["samples"]:
        tellings = sample["said"][1]
        assert [thought for thought, _ in tellings] == [None] * 3
        assert [texts[answer]["text"] for _, answer in tellings] == ["2", "24", "24"]
        assert sample["reward"][1] == pytest.approx(1 / 3, abs=1e-6)


def test_answers_to_one_thought_share_it():
    """Two thoughts with two answers each: four samples."""
    masks = agent_masks(2, ())
    spoken = Rollout(
        (turn("xy", variant=(0,), counts=(2,)), turn("abcd", variant=(0,), counts=(4,))),
        masks,
    )
    credit = np.zeros((2, 1, 4))
    found = entry(dyad(), PROBLEM, 0, spoken, graded([None] * 6, [False] * 6), outcome([[0] * 4], masks), credit,
                  credit, most_chars=10)  # fmt: skip
    pairs = [tuple(turn["texts"][row]["text"] for turn, row in zip(found["turns"], sample["said"][0][0], strict=True))
             for sample in found["samples"]]  # fmt: skip
    assert pairs == [("x", "a"), ("x", "b"), ("y", "c"), ("y", "d")]


def test_voters_say_nothing_twice():
    """Their worlds are re-tallied: each has the same texts, less those of the masked voter."""
    masks = agent_masks(3)
    spoken = Rollout(
        tuple(turn([f"{k}{g}" for g in range(20)], variant=(0,) * 4, counts=(20,)) for k in range(3)), masks
    )
    credit = np.zeros((3, 1, 20))
    found = entry(voting(3), PROBLEM, 0, spoken, graded(["5"] * 60, [False] * 60), outcome([[0.0] * 20] * 4, masks),
                  credit, credit, most_chars=10)  # fmt: skip
    assert found["group"] == 20 and len(found["samples"]) == 16  # bounded
    assert [len(turn["texts"]) for turn in found["turns"]] == [16] * 3
    assert found["samples"][3]["said"] == [[[3, 3, 3]], [[None, 3, 3]], [[3, None, 3]], [[3, 3, None]]]


def test_everything_is_bounded():
    found = dyad_entry(solos=2, problem=Problem("x" * 10**6, "q" * 10**6, "g" * 10**6, "exact"), most_chars=50)
    assert len(json.dumps(found)) < 4000
    for long in (found["id"], found["question"], found["gold"]):
        assert "characters left out" in long
    assert shorten("abcdefg", 7) == "abcdefg" and shorten("abcdefgh", 7) == "abcd [1 characters left out] fgh"
    assert shorten("abc", 1) == "a [2 characters left out] "


def test_some_steps_are_kept_and_none_twice(tmp_path):
    masks = agent_masks(2, ())
    spoken = Rollout((turn("x", variant=(0,), counts=(1,)), turn("\ud800", variant=(0,), counts=(1,))), masks)
    credit = np.zeros((2, 1, 1))
    facts = (spoken, [graded(["1"] * 2, [True] * 2)], outcome([[1.0]], masks), credit, credit)

    def live(start: int, steps: int) -> list[int]:
        with Journal(tmp_path, dyad(), resume_step=start, rollouts=1, rollouts_every=3, rollout_chars=9) as journal:
            for step in range(start + 1, steps + 1):
                journal.write(step, [PROBLEM], *facts)
        lines = [json.loads(line) for line in (tmp_path / "rollouts.jsonl").read_text().splitlines()]
        assert all(line["turns"][1]["texts"][0]["text"] == "\ud800" for line in lines)
        return [line["step"] for line in lines]

    assert live(0, 7) == [1, 3, 6]
    with (tmp_path / "rollouts.jsonl").open("a") as file:
        file.write('{"step": 6, "id": "to')
    assert live(4, 6) == [1, 3, 6]
    assert live(0, 2) == [1]
