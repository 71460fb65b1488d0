"""A pool of processes that crash, hang, stall and refuse to start."""

import os
import signal
import time

import pytest

from ccpo_jax.verifiers.process_pool import CRASHED, TIMED_OUT, ProcessPool, StepFailure

STEPS = """
import os, signal, sys, time

def steps(job, done):
    for word in job[len(done):]:
        if word == "sleep":
            time.sleep(60)
        if word == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if word == "exit":
            os._exit(3)
        if word == "memory":
            bytearray(1 << 33)
        if word == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if word == "stop while sending":
            os.write(int(sys.argv[1]), b"\\0\\0\\1\\0half a message")
            os.kill(os.getpid(), signal.SIGSTOP)
        if word == "raise":
            raise KeyError("a mistake in the function")
        if word == "pid":
            word = os.getpid()
        yield (word, len(done))
"""


@pytest.fixture
def steps(tmp_path, monkeypatch) -> str:
    """The function above, as workers find it along this process's path."""
    (tmp_path / "steps.py").write_text(STEPS)
    monkeypatch.syspath_prepend(tmp_path)
    return "steps:steps"


def test_a_dead_step_costs_its_own_record_only(steps):
    jobs = [
        ["a", "b"],
        ["c", "sleep", "d", "exit", "e"],
        ["f"],
        ["segfault"],
        ["memory", "g"],
        ["h", "i", "sleep"],
        [],
    ]
    with_two = ProcessPool(steps, workers=2, time_limit=0.7)
    try:
        results = with_two.run(jobs)
        again = with_two.run([["after"]])
    finally:
        with_two.close()
    timed_out = StepFailure(TIMED_OUT)
    crashed = StepFailure(CRASHED)
    assert results == [
        [("a", 0), ("b", 0)],
        [("c", 0), timed_out, ("d", 2), crashed, ("e", 4)],
        [("f", 0)],
        [crashed],
        [crashed, ("g", 1)],
        [("h", 0), ("i", 0), timed_out],
        [],
    ]
    assert again == [[("after", 0)]]


@pytest.mark.parametrize("stall", ["stop", "stop while sending"])
def test_a_process_that_no_timer_ends_is_reported_and_replaced(steps, caplog, stall):
    with_one = ProcessPool(steps, workers=1, time_limit=0.5, grace=0.5)
    began = time.monotonic()
    results = with_one.run([["a", stall, "b"], ["c"]])
    assert time.monotonic() - began < 30
    with_one.close()
    assert results == [[("a", 0), StepFailure(TIMED_OUT), ("b", 2)], [("c", 0)]]
    assert "has not answered for" in caplog.text


def test_a_process_that_does_not_read_does_not_block_the_pool(steps):
    with_one = ProcessPool(steps, workers=1, time_limit=0.5, grace=0.5)
    ((pid, _),) = with_one.run([["pid"]])[0]
    os.kill(pid, signal.SIGSTOP)
    assert with_one.run([["b" * 10_000_000]]) == [[StepFailure(TIMED_OUT)]]
    assert with_one.run([["c"]]) == [[("c", 0)]]
    with_one.close()


def test_a_start_that_never_ends_is_an_error_not_a_wait(tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text("import time; time.sleep(1000)")
    monkeypatch.syspath_prepend(tmp_path)
    with_two = ProcessPool("slow:steps", workers=2, time_limit=5, start_limit=0.5)
    with pytest.raises(RuntimeError, match="could not start"):
        with_two.run([["a"]])


def test_sigterm_is_the_parents_business(steps):
    """Schedulers send it to the whole process group; a verdict must not depend on it."""
    with_one = ProcessPool(steps, workers=1, time_limit=5)
    ((pid, _),) = with_one.run([["pid"]])[0]
    os.kill(pid, signal.SIGTERM)
    assert with_one.run([["pid"]]) == [[(pid, 0)]]
    with_one.close()


def test_an_idle_worker_that_is_killed_is_replaced_without_blame(steps):
    with_one = ProcessPool(steps, workers=1, time_limit=5)
    ((pid, _),) = with_one.run([["pid"]])[0]
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    ((other, _), last) = with_one.run([["pid", "a"]])[0]
    with_one.close()
    assert other != pid and last == ("a", 0)


def test_a_mistake_in_the_function_is_raised_and_closes_the_pool(steps):
    with_one = ProcessPool(steps, workers=1, time_limit=5)
    with pytest.raises(RuntimeError, match="a mistake in the function"):
        with_one.run([["a"], ["raise"]])
    with pytest.raises(RuntimeError, match="closed"):
        with_one.run([["a"]])


@pytest.mark.parametrize("function", ["absent:steps", "steps:absent"])
def test_a_function_that_cannot_be_loaded_is_an_error_not_a_wait(steps, function):
    broken = ProcessPool(function, workers=1, time_limit=5)
    with pytest.raises(RuntimeError, match="could not start"):
        broken.run([["a"]])


def test_close_ends_the_processes(steps):
    with_two = ProcessPool(steps, workers=2, time_limit=60)
    pids = {record[0] for records in with_two.run([["pid"]] * 4) for record in records}
    with_two.close()
    with_two.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
