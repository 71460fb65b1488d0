"""The progress line: what it says, and when it is shown."""

import io

from ccpo_jax.workdir.progress import ProgressLine, progress_line


def test_the_line_has_step_reward_accuracy_speed_and_time_left():
    values = {"reward": 0.25, "eval/team_accuracy": 0.5, "time/tokens_per_second": 12345.6}
    line = progress_line(5, 20, values, elapsed=50.0, done=5)
    assert line == "step 5/20 | reward 0.250 | held-out accuracy 0.500 | tokens/s 12,346 | ETA 2:30"
    fractional = progress_line(5, 20, values | {"eval/solved": 0.1}, elapsed=50.0, done=5)
    assert "held-out mean score 0.500" in fractional
    assert "ETA" not in progress_line(20, 20, values, elapsed=50.0, done=5)


def test_logs_are_not_flooded():
    now = [0.0]
    stream = io.StringIO()
    line = ProgressLine(100, stream=stream, clock=lambda: now[0])
    for step in range(101):
        line.update(step, {"reward": 0})
        now[0] += 1.0
    shown = stream.getvalue().splitlines()
    assert 15 <= len(shown) <= 25
    assert shown[0].startswith("step 0/") and shown[-1].startswith("step 100/")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_one_line_in_place_with_the_last_known_accuracy():
    stream = Terminal()
    line = ProgressLine(2, stream=stream)
    line.update(0, {"eval/team_accuracy": 0.5})
    line.update(1, {"reward": 0.25})
    assert stream.getvalue().count("\n") == 0
    latest = stream.getvalue().split("\r\033[K")[-1]
    assert latest.startswith("step 1/2 | reward 0.250 | held-out accuracy 0.500")
    line.update(2, {"reward": 0.5})
    assert stream.getvalue().endswith("step 2/2 | reward 0.500 | held-out accuracy 0.500\n")
    line.close()
    assert stream.getvalue().count("\n") == 1


def test_an_interrupted_line_is_ended():
    stream = Terminal()
    line = ProgressLine(9, stream=stream)
    line.update(1, {"reward": 0.5})
    line.close()
    assert stream.getvalue().endswith("\n")


def test_a_resumed_run_counts_its_own_steps_alone():
    now = [0.0]
    stream = io.StringIO()
    line = ProgressLine(30, first_step=10, stream=stream, clock=lambda: now[0])
    now[0] = 20.0
    line.update(20, {})
    assert "ETA 0:20" in stream.getvalue()
