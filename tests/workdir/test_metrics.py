"""Metrics files, the live line, intervals, tables and diagnostics."""

import io
import json
import sys
import types

import numpy as np
import pytest

from ccpo_jax.rl.diagnostics import diagnostics
from ccpo_jax.rl.topology import agent_masks, all_subsets, chain, dyad, graph, voting
from ccpo_jax.rl.types import Outcome
from ccpo_jax.workdir.metrics import (
    MetricsWriter,
    accuracy_table,
    bootstrap_interval,
    progress_line,
)


def writer(folder, **changes):
    return MetricsWriter(
        folder, **{"total_steps": 10, "tensorboard": False, "stream": io.StringIO()} | changes
    )


def test_lines_are_json_objects_with_step_first(tmp_path):
    with writer(tmp_path) as out:
        out.write(1, {"reward": np.float32(0.1), "loss": float("nan"), "worst": float("inf")})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text.startswith('{"step": 1, ')
    assert json.loads(text) == {
        "step": 1,
        "reward": float(np.float32(0.1)),
        "loss": None,
        "worst": None,
    }


def test_resuming_drops_later_and_torn_lines(tmp_path):
    with writer(tmp_path) as out:
        for step in range(6):
            out.write(step, {"reward": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "rew')
    with writer(tmp_path, resume_step=3) as out:
        assert [line["step"] for line in out.lines()] == [0, 1, 2, 3]
        out.write(4, {"reward": 40})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4] and lines[-1]["reward"] == 40


def test_a_run_that_starts_over_starts_a_new_file(tmp_path):
    for value in (1, 2):
        with writer(tmp_path) as out:
            out.write(0, {"reward": value})
    assert [line["reward"] for line in out.lines()] == [2]


def test_live_line_has_step_reward_accuracy_speed_and_time_left():
    values = {"reward": 0.25, "eval/team_accuracy": 0.5, "time/tokens_per_second": 12345.6}
    line = progress_line(5, 20, values, elapsed=50.0, done=5)
    assert line == "step 5/20 | reward 0.250 | held-out accuracy 0.500 | tokens/s 12,346 | ETA 2:30"
    assert "ETA" not in progress_line(20, 20, values, elapsed=50.0, done=5)


def test_logs_are_not_flooded(tmp_path):
    now = [0.0]
    stream = io.StringIO()
    with writer(tmp_path, total_steps=100, stream=stream, clock=lambda: now[0]) as out:
        for step in range(101):
            out.write(step, {"reward": 0})
            now[0] += 1.0
    shown = stream.getvalue().splitlines()
    assert (
        15 <= len(shown) <= 25
        and shown[0].startswith("step 0/")
        and shown[-1].startswith("step 100/")
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_one_line_in_place_with_the_last_known_accuracy(tmp_path):
    with writer(tmp_path, total_steps=2, stream=(stream := Terminal())) as out:
        out.write(0, {"eval/team_accuracy": 0.5})
        out.write(1, {"reward": 0.25})
        assert stream.getvalue().count("\n") == 0
        assert (
            stream.getvalue()
            .split("\r\033[K")[-1]
            .startswith("step 1/2 | reward 0.250 | held-out accuracy 0.500")
        )
        out.write(2, {"reward": 0.5})
        assert stream.getvalue().endswith("step 2/2 | reward 0.500 | held-out accuracy 0.500\n")
    assert stream.getvalue().count("\n") == 1


def test_an_interrupted_live_line_is_ended(tmp_path):
    with writer(tmp_path, total_steps=9, stream=(stream := Terminal())) as out:
        out.write(1, {"reward": 0.5})
    assert stream.getvalue().endswith("\n")


def test_tensorboard_files_hold_the_scalars(tmp_path):
    with writer(tmp_path, tensorboard=True) as out:
        out.write(3, {"reward": 0.5})
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert b"reward" in file.read_bytes()


def test_wandb_without_the_package_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match="log.wandb: the wandb package is missing"):
        writer(tmp_path, wandb=True)


def test_wandb_receives_the_same_values(tmp_path, monkeypatch):
    sent = []

    class Run:
        def log(self, values, step):
            sent.append((step, values))

        def finish(self):
            sent.append("finished")

    package = types.ModuleType("wandb")
    package.init = lambda **_: Run()
    monkeypatch.setitem(sys.modules, "wandb", package)
    with writer(tmp_path, wandb=True) as out:
        out.write(1, {"reward": 0.5})
    assert sent == [(1, {"reward": 0.5}), "finished"]


def test_interval_is_deterministic_and_as_wide_as_theory_says():
    values = np.random.default_rng(0).integers(0, 2, 400)
    mean, low, high = bootstrap_interval(values)
    assert bootstrap_interval(values) == (mean, low, high) and mean == values.mean()
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(mean * (1 - mean) / 400), rel=0.08)


def test_interval_resamples_problems_not_samples():
    perfectly_correlated = np.repeat(np.random.default_rng(1).integers(0, 2, (100, 1)), 50, axis=1)
    _, low, high = bootstrap_interval(perfectly_correlated)
    assert high - low > 0.15


def test_closing_table_shows_both_columns_and_the_change():
    text = accuracy_table({"team": (0.5, 0.45, 0.55)}, {"team": (0.75, 0.7, 0.8)})
    assert "before" in text and "change" in text
    assert text.splitlines()[1].split() == [
        "team",
        "50.0",
        "[45.0,",
        "55.0]",
        "75.0",
        "[70.0,",
        "80.0]",
        "+25.0",
    ]
    assert "before" not in accuracy_table({"team": (0.5, 0.4, 0.6)})


def test_diagnostics_of_a_vote_by_hand():
    reward = np.array([[[1.0, 0.0]], [[0.5, 0.0]], [[1.0, 0.5]], [[1.0, 0.0]]])
    outcome = Outcome(reward, np.zeros((4, 1, 2, 3)), np.zeros((4, 1, 2, 3), int), agent_masks(3))
    credit = np.arange(6.0).reshape(3, 1, 2)
    advantage = np.array([[[0.0, 0.0]], [[1.0, -1.0]], [[0.0, 0.0]]])
    found = diagnostics(outcome, credit, advantage, voting(3))
    assert found["credit/help_rate/0"] == 0.5 and found["credit/hurt_rate/0"] == 0
    assert found["credit/hurt_rate/1"] == 0.5 and found["credit/pivotal_rate/1"] == 0.5
    assert [found[f"credit/free_rider_rate/{k}"] for k in range(3)] == [0.0, 1.0, 1.0]
    assert [found[f"credit/silent_groups/{k}"] for k in range(3)] == [1.0, 0.0, 1.0]
    assert found["credit/mean/2"] == 4.5 and found["credit/var/2"] == 0.25


def test_nobody_rides_free_where_nothing_was_right():
    reward = np.array([[[0.0, 0.5]], [[0.0, 1.0]]])
    outcome = Outcome(
        reward, np.zeros((2, 1, 2, 2)), np.zeros((2, 1, 2, 2), int), agent_masks(2, (0,))
    )
    found = diagnostics(outcome, np.zeros((2, 1, 2)), np.zeros((2, 1, 2)), dyad())
    assert found["credit/hurt_rate/0"] == 0.5
    assert not any("free_rider" in name for name in found)


def test_diagnostics_leave_out_what_was_not_decoded():
    outcome = Outcome(
        np.ones((1, 2, 2)),
        np.ones((1, 2, 2, 2)),
        np.zeros((1, 2, 2, 2), int),
        np.ones((1, 2), bool),
    )
    found = diagnostics(outcome, np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), dyad())
    assert not any("help_rate" in name or "pivotal" in name for name in found)
    assert found["credit/leak_rate/0"] == 1.0


def test_diagnostics_of_a_graph_read_the_worlds_that_mask_one_agent():
    """All subsets of three: worlds 1, 2 and 4 are an agent's own; the planner may leak, those who follow may not."""
    reward = np.ones((8, 1, 2))
    reward[1], reward[4] = [[0, 1]], [[1, 0]]
    reward[3] = reward[5] = reward[6] = reward[7] = 0
    correct = np.zeros((8, 1, 2, 3))
    correct[0, 0, 0] = 1
    outcome = Outcome(reward, correct, np.zeros(correct.shape, int), agent_masks(3, all_subsets(3)))
    found = diagnostics(outcome, np.zeros((3, 1, 2)), np.zeros((3, 1, 2)), chain(3))
    assert [found[f"credit/help_rate/{k}"] for k in range(3)] == [0.5, 0.0, 0.5]
    assert found["credit/leak_rate/0"] == 0.5 and "credit/leak_rate/1" not in found
    assert not any(
        "leak" in name
        for name in diagnostics(outcome, np.zeros((3, 1, 2)), np.zeros((3, 1, 2)), voting(3))
    )
    two = diagnostics(
        outcome, np.zeros((3, 1, 2)), np.zeros((3, 1, 2)), graph("planner planner solver(0,1)")
    )
    assert {"credit/leak_rate/0", "credit/leak_rate/1"} <= two.keys()
