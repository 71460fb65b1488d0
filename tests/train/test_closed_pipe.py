"""Output into a closed pipe: a training run ends saved, other programs end, and nothing is raised."""

import contextlib
import io
import os
import sys
import threading
import time

import pytest

from ccpo_jax import cli
from ccpo_jax.train import train
from ccpo_jax.train.closed_pipe import STATUS, stop_at_closed_pipe
from ccpo_jax.train.signals import GracefulStop
from tests.support.runs import brief_run, first_devices, lines_of


def closed_pipe():
    """A text stream that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w", buffering=1, encoding="utf-8")


def leave_unread(monkeypatch, names: str) -> None:
    """Makes closed pipes of the named standard streams.

    Not a fixture: between a test's fixtures and the test pytest sets the streams again.
    """
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, closed_pipe() if name in names else io.StringIO())


each_stream = pytest.mark.parametrize("names", ["stdout, stderr", "stdout", "stderr"])


@pytest.mark.parametrize("names", ["stdout, stderr", "stderr"])
def test_a_run_whose_log_nobody_reads_ends_saved_and_goes_on_from_there(
    names, tmp_path, monkeypatch
):
    leave_unread(monkeypatch, names)
    with stop_at_closed_pipe():
        train(brief_run(3), str(tmp_path / "stopped"), devices=first_devices(1))
    monkeypatch.undo()
    assert [row["step"] for row in lines_of(tmp_path / "stopped")] == [0, 1]
    assert GracefulStop.active is None

    train(brief_run(3), str(tmp_path / "stopped"), devices=first_devices(1))
    train(brief_run(3), str(tmp_path / "whole"), devices=first_devices(1))
    assert lines_of(tmp_path / "stopped") == lines_of(tmp_path / "whole")


def test_a_run_whose_closing_tables_nobody_reads_ends_as_ever(tmp_path, monkeypatch):
    leave_unread(monkeypatch, "stdout")
    with stop_at_closed_pipe():
        train(brief_run(1), str(tmp_path), devices=first_devices(1))
    assert [row["step"] for row in lines_of(tmp_path)] == [0, 1]
    assert (tmp_path / "result.json").exists()


@each_stream
def test_outside_of_training_the_program_ends(names, monkeypatch):
    leave_unread(monkeypatch, names)
    before = sys.stdout, sys.stderr

    @stop_at_closed_pipe()
    def program():
        print("a", file=sys.stdout, flush=True)
        print("b", file=sys.stderr, flush=True)

    with pytest.raises(SystemExit) as ended:
        program()
    assert ended.value.code == STATUS
    assert (sys.stdout, sys.stderr) == before


@each_stream
def test_once_is_enough(names, monkeypatch):
    """Further text, of either stream, goes nowhere and stops nothing twice."""
    leave_unread(monkeypatch, names)
    stop = GracefulStop()
    with stop_at_closed_pipe(), stop:
        for _ in range(3):
            print("a" * 100_000, file=sys.stdout, flush=True)
            print("b", file=sys.stderr, flush=True)
        assert stop.signal_name == ""
        stop.step_done()
        first = stop.signal_name
        stop.step_done()
    assert first == stop.signal_name != ""


@pytest.mark.parametrize("arguments", [["--help"], ["--config=nothing"], ["report", "nowhere"]])
def test_no_command_shows_an_error_about_the_pipe(arguments, monkeypatch):
    leave_unread(monkeypatch, "stdout, stderr")
    try:
        status = cli.main(arguments)
    except SystemExit as ended:
        status = ended.code
    assert status in (0, 2, STATUS)


def test_a_thread_that_notices_the_closed_pipe_ends_the_program(monkeypatch):
    leave_unread(monkeypatch, "stderr")

    @stop_at_closed_pipe()
    def program():
        reporter = threading.Thread(target=lambda: print("50 %", file=sys.stderr, flush=True))
        with contextlib.suppress(KeyboardInterrupt):
            reporter.start()
            reporter.join()
            time.sleep(10)
        return 130

    with pytest.raises(SystemExit) as ended:
        program()
    assert ended.value.code == STATUS


def test_an_open_pipe_and_no_stream_at_all_change_nothing(monkeypatch):
    reading, writing = os.pipe()
    with open(writing, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", None)
        with stop_at_closed_pipe():
            print("hello")
            print("nowhere", file=sys.stderr)
        assert os.read(reading, 100) == b"hello\nnowhere\n"
        assert sys.stderr is None
        monkeypatch.undo()
    os.close(reading)


def test_a_signal_is_taken_where_standard_error_is_closed(monkeypatch):
    def broken(*_):
        raise BrokenPipeError

    stop = GracefulStop()
    stop.has_work = True
    with stop:
        monkeypatch.setattr(os, "write", broken)
        os.kill(os.getpid(), 15)
        monkeypatch.undo()
    assert stop.signal_name == "SIGTERM"
