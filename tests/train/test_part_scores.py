"""Parts of scores as metrics: what they add up to, and names that come from users' files."""

from types import SimpleNamespace

import numpy as np
import pytest

from ccpo_jax.report.legend import meaning
from ccpo_jax.rl.topology import agent_masks, dyad, voting
from ccpo_jax.rl.types import Samples
from ccpo_jax.rollout import Rollout, Turn, outcome
from ccpo_jax.train.part_scores import (
    counter_metrics,
    has_fractions,
    metric_names,
    part_metrics,
    part_scores,
)
from ccpo_jax.verifiers import Graded


def rollout_of(topology, problems, samples, *, cut=()) -> Rollout:
    """Texts of the factual world; `cut` are (turn, problem, sample) that met their limit."""
    prompts = SimpleNamespace(prefix=np.zeros((problems, 0)))
    turns = []
    for number in range(len(topology.roles)):
        truncated = np.zeros((problems, samples), bool)
        for turn, problem, sample in cut:
            truncated[problem, sample] |= turn == number
        tokens = np.zeros((problems, samples, 1))
        texts = Samples(tokens, tokens, np.ones((problems, samples), int), truncated)
        turns.append(Turn(prompts, texts, [], (0,), (samples,)))
    return Rollout(tuple(turns), agent_masks(topology.num_agents, ()))


def graded_of(scores, classes, parts) -> Graded:
    """Texts of one problem, those of turn 0 first."""
    count = len(scores)
    return Graded(scores, classes, [None] * count, [""] * count, None, {}, parts)


def test_parts_of_a_vote_add_up_to_its_reward():
    """Two of three agree, then a tie of three; 0.75 for the answer and 0.25 for its form."""
    parts = {"math": [1, 1, 1, 0, 0, 0], "form": [0.4, 0.2, 1.0, 0.6, 0.8, 1.0]}
    scores = [0.75 * right + 0.25 * form for right, form in zip(*parts.values(), strict=True)]
    graded = [graded_of(scores, [5, 0, 5, 1, 6, 2], parts)]
    rollouts = rollout_of(voting(3), 1, 2)

    found = part_metrics(part_scores(voting(3), rollouts, graded))
    assert found["score/math"] == pytest.approx((1 + 1 / 3) / 2)
    assert found["score/form"] == pytest.approx((0.7 + 0.6) / 2)
    assert found["score/form/1"] == pytest.approx(0.8) and found["score/math/2"] == 0

    per_turn = np.array(scores, np.float32).reshape(3, 1, 2)
    labels = np.array(graded[0].answer_id).reshape(3, 1, 2)
    reward = outcome(voting(3), rollouts, per_turn, labels).reward[0].mean()
    assert reward == pytest.approx(0.75 * found["score/math"] + 0.25 * found["score/form"])


def test_parts_of_a_dyad_are_those_of_its_answer():
    """The last agent answers; a cut text has 0; what a part gave nothing is left out of its mean."""
    parts = {"length": [7.0, 7.0, 2.0, 9.0], "form": [None, 0.5, None, 1.0]}
    graded = [graded_of([0.0] * 4, [-1] * 4, parts), graded_of([0.0] * 4, [-1] * 4, {})]
    rollouts = rollout_of(dyad(), 2, 2, cut=[(1, 0, 1)])
    scores = part_scores(dyad(), rollouts, graded)
    np.testing.assert_array_equal(scores["form"].of_problems(), [0.0, np.nan])
    found = part_metrics(scores)
    assert found == {
        "score/length": 1.0, "score/length/0": 7.0, "score/length/1": 1.0,
        "score/form": 0.0, "score/form/0": 0.5, "score/form/1": 0.0,
    }  # fmt: skip


def test_scores_without_parts_have_no_metrics():
    assert part_scores(dyad(), rollout_of(dyad(), 1, 1), [graded_of([1.0] * 2, [0, 0], {})]) == {}


def test_fractions_are_scores_between_or_with_parts():
    assert not has_fractions([graded_of([0.0, 1.0, 1], [0] * 3, {})])
    assert has_fractions([graded_of([1.0], [0], {}), graded_of([1.0, 0.1], [0, 0], {})])
    assert has_fractions([graded_of([1.0], [0], {"math": [1.0]})])


def test_counters_of_verifiers_alone_are_what_they_were():
    counts = {"no_answer": 3, "no_score": 0, "failed": 1}
    assert counter_metrics(counts) == {"verifier/no_answer": 3, "verifier/failed": 1}
    found = counter_metrics(counts | {"failed/a/b": 2, "failed/a_b": 0})
    assert found["verifier/failed/a_b"] == 2 and found["verifier/failed/a_b_2"] == 0
    assert found["verifier/no_score"] == 0
    assert all(meaning(name) and meaning(f"eval/{name}") for name in found)


HOSTILE = ["", "..", "../../etc", "a/b", "a b", "a_b", "<script>", "\x1b[2J\n", "x" * 500, "x" * 501,
           "low", "high", "0", "greedy", "läng", "{0}", "my.py:form"]  # fmt: skip


def test_names_of_metrics_are_safe_short_and_different():
    names = metric_names(HOSTILE)
    assert list(names) == HOSTILE and len(set(names.values())) == len(HOSTILE)
    for safe in names.values():
        assert 0 < len(safe) <= 60 and not set(safe) & set("/\\<> \n\x1b{}:")
    assert names["läng"] == "läng" and names["low"] == "low"
    for safe in names.values():
        own = f"score/{safe}"
        assert meaning(own) == meaning("score/math") and meaning(f"{own}/0") == meaning(
            "score/math/0"
        )
        for edge in ("", "/low", "/high"):
            assert meaning(f"eval/{own}{edge}").startswith(meaning("eval/score/math")), own
            assert meaning(f"test/x/greedy/{own}{edge}")
