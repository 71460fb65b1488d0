"""Status lines: what they say and when, on a terminal and in a log."""

import io

import pytest

from ccpo_jax.status import Display, minutes


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


def in_log(clock):
    """A display that writes into a log when `refresh` is called, and not on its own."""
    display = Display(io.StringIO(), clock)
    display._start_thread = lambda: None
    return display


def on_terminal(clock):
    display = Display(Terminal(), clock)
    display._start_thread = lambda: None
    return display


def text_of(display):
    return display._stream.getvalue()


def shown_by(display):
    """What stands in the last line of a terminal."""
    return text_of(display).split("\n")[-1].split("\r\033[K")[-1]


def advance(display, clock, seconds):
    for _ in range(round(2 * seconds)):
        clock.now += 0.5
        display.refresh()


@pytest.mark.parametrize("make", [in_log, on_terminal])
def test_what_ends_soon_says_nothing(make, clock):
    display = make(clock)
    for _ in range(20):
        with display.phase("compiling"):
            advance(display, clock, 1.5)
    assert text_of(display) == ""


def test_a_log_has_a_line_when_it_takes_a_moment_and_one_every_ten_seconds(clock):
    display = in_log(clock)
    with display.phase("loading model X"):
        advance(display, clock, 35)
    assert text_of(display).splitlines() == [
        "loading model X ...",
        "loading model X: 0:12",
        "loading model X: 0:22",
        "loading model X: 0:32",
    ]


def test_progress_says_how_much_is_done_and_how_long_the_rest_takes(clock):
    display = in_log(clock)
    with display.phase("evaluating held-out", "problems") as phase:
        phase.update(0, 64)
        advance(display, clock, 10)
        phase.advance(16)
        advance(display, clock, 10)
    # A quarter took 10 seconds of 12: the rest takes 36.
    assert text_of(display).splitlines() == [
        "evaluating held-out: 0 of 64 problems, 0:02",
        "evaluating held-out: 16 of 64 problems, 0:12, ETA 0:36",
    ]


@pytest.mark.parametrize(
    "done, total, shown",
    [
        (98_400_000, 269_000_000, "98 of 269 MB"),
        (2_000_000_000, 16_060_000_000, "2,000 of 16,060 MB"),
        (12_300_000, None, "12 MB"),
    ],
)
def test_bytes_are_shown_in_megabytes(done, total, shown, clock):
    display = in_log(clock)
    with display.phase("reading", "bytes") as phase:
        phase.update(done, total)
        assert phase.text() == f"reading: {shown}, 0:00"


def test_phases_within_a_phase_follow_it(clock):
    display = in_log(clock)
    with display.phase("step 1"):
        advance(display, clock, 3)
        with display.phase("rollout", "tokens") as phase:
            phase.update(12_000)
            advance(display, clock, 10)
    assert text_of(display).splitlines() == [
        "step 1 ...",
        "step 1: 0:07 | rollout: 12,000 tokens, 0:04",
    ]


def test_on_a_terminal_phases_share_the_line_of_the_run_and_leave_it(clock):
    display = on_terminal(clock)
    display.progress("step 5/20")
    with display.phase("evaluating"):
        advance(display, clock, 3)
        assert shown_by(display) == "step 5/20 | evaluating ..."
    assert shown_by(display) == "step 5/20"
    display.progress("step 20/20", last=True)
    assert text_of(display).endswith("\r\033[Kstep 20/20\n") and shown_by(display) == ""


def test_a_line_on_a_terminal_is_never_longer_than_the_terminal(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    display = on_terminal(clock)
    with display.phase("loading " + "long" * 50):
        advance(display, clock, 3)
        assert len(shown_by(display)) == 39


def test_other_text_takes_the_place_of_the_line(clock):
    display = on_terminal(clock)
    with display.phase("evaluating"):
        advance(display, clock, 3)
        display.make_way()
        display._stream.write("a table\n")
        advance(display, clock, 1)
    assert "\r\033[Ka table\n\r\033[Kevaluating ..." in text_of(display)


@pytest.mark.parametrize("shown, lines", [("steps", 1), ("nothing", 0)])
def test_it_can_be_silenced(shown, lines, clock):
    display = in_log(clock)
    display.shown = shown
    display.progress("step 1/2")
    with display.phase("evaluating"):
        advance(display, clock, 30)
    assert len(text_of(display).splitlines()) == lines


def test_names_cannot_move_the_cursor(clock):
    display = in_log(clock)
    with display.phase("loading \x1b[2J"):
        advance(display, clock, 3)
    assert "\x1b" not in text_of(display)


def test_a_stream_that_is_closed_or_absent_is_left_alone(clock, monkeypatch):
    display = in_log(clock)
    display._stream.close()
    with display.phase("loading"):
        advance(display, clock, 3)
    monkeypatch.setattr("sys.stderr", None)
    absent = Display(None, clock)
    with absent.phase("loading"):
        advance(absent, clock, 3)


def test_a_thread_of_its_own_writes_while_the_program_works():
    """The clock runs by itself here: the phase lasts until its line is there."""
    display = Display(io.StringIO(), clock := Clock())
    with display.phase("compiling"):
        clock.now = 3.0
        for _ in range(200):
            if text_of(display):
                break
            display._thread.join(0.05)
    assert text_of(display) == "compiling ...\n"


def test_durations():
    assert [minutes(seconds) for seconds in (0, 59.6, 3600)] == ["0:00", "1:00", "60:00"]
