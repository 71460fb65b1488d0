"""A pool of processes that crash, hang, stall and refuse to start."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

import ccpo_jax
from ccpo_jax.verifiers.process_pool import ProcessPool
from ccpo_jax.verifiers.worker import CRASHED, TIMED_OUT, StepFailure

STEPS = """
import os, signal, sys, time

import ccpo_jax.verifiers.worker

prepared = 0

def prepare():
    global prepared
    prepared += 1

def steps(job, done):
    for word in job[len(done):]:
        if word == "spin":
            while True:
                pass
        if word == "work":
            began = time.process_time()
            while time.process_time() - began < 0.4:
                pass
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
        if word.startswith("nap"):
            time.sleep(float(word[4:]))
        if word == "untimed work":
            with ccpo_jax.verifiers.worker.untimed():
                began = time.process_time()
                while time.process_time() - began < 0.4:
                    pass
        if word == "prepared":
            word = prepared
        if word == "pid":
            word = os.getpid()
        if word == "worker":
            word = os.getppid()
        if word == "kill worker":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
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
        ["c", "spin", "d", "exit", "e"],
        ["f"],
        ["segfault"],
        ["memory", "g"],
        ["h", "i", "spin"],
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


@pytest.mark.parametrize("stall", ["sleep", "stop", "stop while sending"])
def test_a_process_that_no_timer_ends_is_reported_and_replaced(steps, caplog, stall):
    with_one = ProcessPool(steps, workers=1, time_limit=0.5, wall_limit=1.0)
    began = time.monotonic()
    results = with_one.run([["a", stall, "b"], ["c"]])
    assert time.monotonic() - began < 30
    with_one.close()
    assert results == [[("a", 0), StepFailure(TIMED_OUT), ("b", 2)], [("c", 0)]]
    assert "has not answered for" in caplog.text


def test_only_computing_counts(steps):
    """A process that waits, or that the scheduler stops, has not used up its time."""
    with_one = ProcessPool(steps, workers=1, time_limit=0.3)
    assert with_one.run([["nap 1", "spin"]]) == [[("nap 1", 0), StepFailure(TIMED_OUT)]]
    ((pid, _),) = with_one.run([["pid"]])[0]
    continues = threading.Timer(1.5, os.kill, (pid, signal.SIGCONT))
    continues.start()
    assert with_one.run([["stop", "spin"]]) == [[("stop", 0), StepFailure(TIMED_OUT)]]
    continues.join()
    with_one.close()


def test_a_step_that_dies_costs_no_new_start(steps):
    with_one = ProcessPool(steps, workers=1, time_limit=0.2)
    deaths = ["spin", "segfault", "exit", "memory"]
    (records,) = with_one.run([["worker", *(word for d in deaths for word in (d, "worker"))]])
    with_one.close()
    failures = [StepFailure(TIMED_OUT)] + [StepFailure(CRASHED)] * 3
    assert records[1::2] == failures
    assert len({worker for worker, _ in records[::2]}) == 1


def test_trusted_work_of_a_step_does_not_count(steps):
    with_one = ProcessPool(steps, workers=1, time_limit=0.2)
    (records,) = with_one.run([["untimed work", "spin", "a"]])
    with_one.close()
    assert records == [("untimed work", 0), StepFailure(TIMED_OUT), ("a", 2)]


def test_a_worker_prepares_for_more_when_a_step_has_died(steps):
    with_one = ProcessPool(steps, workers=1, time_limit=0.1)
    (records,) = with_one.run(
        [["nap 0.02", "prepared", "nap 0.02", "spin", "prepared", "nap 0.02", "spin", "prepared"]]
    )
    with_one.close()
    assert [records[index][0] for index in (1, 4, 7)] == [0, 1, 1]


def test_limits_and_records_of_one_call(steps):
    with_one = ProcessPool(steps, workers=1, time_limit=60)
    results = with_one.run(
        [["a", "work", "b"], ["c", "d"]], [[], ["earlier"]], time_limit=0.1, late="slow"
    )
    assert results == [[("a", 0), StepFailure("slow"), ("b", 2)], ["earlier", ("d", 1)]]
    assert with_one.run([["work"]]) == [[("work", 0)]]
    with_one.close()


def test_a_worker_whose_fork_lives_on_is_replaced(steps):
    with_one = ProcessPool(steps, workers=1, time_limit=5)
    ((worker, _),) = with_one.run([["worker"]])[0]
    killed, after = with_one.run([["kill worker", "worker"], ["a"]])
    with_one.close()
    assert killed[0] == StepFailure(CRASHED) and after == [("a", 0)]
    assert killed[1][0] != worker


PROGRAM = """
import sys
from ccpo_jax.verifiers import process_pool
process_pool._STOPPED_SECONDS = 2.0
pool = process_pool.ProcessPool("steps:steps", workers=1, time_limit=1.0, wall_limit=4.0)
print(pool.run([["pid"]])[0][0][0], flush=True)
print(pool.run([[sys.argv[1], "a"]]), flush=True)
"""


@pytest.fixture
def program(steps, tmp_path):
    """A program that makes a pool and runs the step that it is given."""
    root = str(pathlib.Path(ccpo_jax.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, str(tmp_path)])}
    started = []

    def start(step):
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, step],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
        )
        return started[-1], int(started[-1].stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_patience_of_a_program_that_was_stopped_begins_anew(program):
    """As when the lid of a laptop is closed."""
    process, worker = program("stop")
    time.sleep(1.0)
    process.send_signal(signal.SIGSTOP)
    time.sleep(5.0)
    process.send_signal(signal.SIGCONT)
    time.sleep(1.5)
    os.kill(worker, signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert out == "[[('stop', 0), ('a', 0)]]\n" and err == ""


@pytest.mark.parametrize("step", ["spin", "sleep", "nap 0.5"])
def test_workers_of_a_program_that_was_killed_end_without_a_word(program, step):
    process, worker = program(step)
    process.kill()
    # The pipe of messages to stderr is closed by its last writer.
    _, err = process.communicate(timeout=60)
    assert err == "" and has_ended(worker)


def test_half_a_message_of_a_program_that_was_killed_ends_a_worker_without_a_word(steps, capfd):
    with_one = ProcessPool(steps, workers=1, time_limit=5)
    with_one.run([["a"]])
    (worker,) = with_one._workers
    os.write(worker.connection.fileno(), b"\0\0\1\0half a message")
    worker.connection.close()
    assert worker.process.wait(20) == 0
    assert capfd.readouterr().err == ""
    with_one.close()


def has_ended(pid: int) -> bool:
    """Whether a process of another parent ends, or has ended and waits to be collected."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


def test_a_process_that_does_not_read_does_not_block_the_pool(steps):
    with_one = ProcessPool(steps, workers=1, time_limit=0.5, wall_limit=1.0)
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
    assert all(map(has_ended, pids))
