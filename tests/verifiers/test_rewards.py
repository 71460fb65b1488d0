"""Reward functions of the user's in worker processes: what they say, and what becomes of bad ones."""

import functools
import json
import math
import os
import sys

import pytest

from ccpo_jax import references
from ccpo_jax.data import Problem
from ccpo_jax.errors import RewardError
from ccpo_jax.verifiers import FAILURES, Context, Graded, Item, VerifierPool, grader, verify
from tests.support.errors import raises_for

# Every signature, and everything that may go wrong.
REWARDS = """
import os
import sys
import time

import numpy as np

LOUD = "x" * 1000


def score(answer, problem):
    return problem["gold"] in answer


def with_class(answer, problem):
    return len(answer) / 10, ("length", len(answer))


def says_nothing(answer, problem):
    return 0.5, None


def trl(prompts, completions, level, **columns):
    assert columns["gold"] == ["4"] * len(completions)
    assert "prompt" not in columns
    return [None if "skip" in text else n / 10 for text, n in zip(completions, level)]


def chat(prompts, completions, **columns):
    roles = [turn["role"] for turn in prompts[0]]
    assert all(c[0]["role"] == "assistant" and len(c) == 1 for c in completions)
    return [len(roles) / 10 if c[0]["content"] == "yes" else 0.0 for c in completions]


def compute_score(data_source, solution_str, ground_truth, extra_info):
    assert data_source == "set" and extra_info == {"index": 3}
    is_right = ground_truth in solution_str
    return {"score": float(is_right), "acc": is_right, "pred": solution_str[:1], "text": "note"}


def group(completions, **columns):
    return [completions.count(text) / 4 for text in completions]


def alone(completions, **columns):
    if len(completions) > 1:
        while True:
            pass
    if "exit" in completions[0]:
        os._exit(1)
    return [0.5]


def bad(answer, problem):
    what, _, value = answer.partition(" ")
    if what == "raise":
        raise ValueError("no good")
    if what == "words":
        raise Silent
    if what == "hang":
        while True:
            pass
    if what == "print":
        for _ in range(2000):
            print(LOUD)
            print(LOUD, file=sys.stderr)
        os.system("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2")
    if what == "return":
        return eval(value)
    if what == "exit":
        os._exit(int(value))
    if what == "quit":
        sys.exit(3)
    if what == "recursion":
        return bad(answer, problem)
    if what == "memory":
        return len(bytearray(1 << 34))
    if what == "fork":
        os.fork()
    if what == "spawn" and os.fork() == 0:
        time.sleep(60)
    if what == "mutate":
        assert problem["tags"] == ["a"]
        problem["tags"].append("b")
        problem.clear()
    return 0.75


class Silent(Exception):
    def __str__(self):
        raise RuntimeError
"""


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(references, "_LOADED", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my.py").write_text(REWARDS)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("_"):
            del sys.modules[name]


ROW = {
    "level": 3,
    "tags": ["a"],
    "prompt": "How many?",
    "data_source": "set",
    "extra_info": {"index": 3},
}
TEXTS = (
    "The answer is 4.",
    "Answer: 5",
    "  the answer   is **5** ",
    "<think>4?</think>skip",
    "Answer: 5",
    "",
)


def item_of(texts=TEXTS, row=ROW, **context):
    return Item("math", "4", tuple(texts), Context("How many?", **context), row)


def judged(name, item, *, workers=1, **settings) -> Graded:
    with VerifierPool(workers, name=name, **settings) as pool:
        return pool.verify([item])[0]


# name -> scores, classes, parts of TEXTS.
CONTRACT = {
    "my.py:score": ([1, 0, 0, 0, 0, 0], [0, 1, 1, 2, 1, -1], {}),
    "my.py:trl": ([0.3] * 3 + [0, 0.3, 0.3], [0, 1, 1, -1, 1, -1], {}),
    "my.py:compute_score": (
        [1, 0, 0, 0, 0, 0],
        [0, 1, 2, 3, 1, -1],
        {"acc": [1, 0, 0, 0, 0, 0]},
    ),
    "my.py:says_nothing": ([0.5] * 6, [-1] * 6, {}),
    "my.py:group": ([0.25, 0.5, 0.25, 0.25, 0.5, 0.25], [0, 1, 1, 2, 1, -1], {}),
    "0.5*math + 0.5*my.py:score": (
        [1, 0, 0, 0, 0, 0],
        [0, 1, 1, -1, 1, -1],
        {"math": [1, 0, 0, 0, 0, 0], "score": [1, 0, 0, 0, 0, 0]},
    ),
    "0.9*auto + 1*my.py:trl + 0*my.py:compute_score": (
        [1, 0.25, 0.25, 0, 0.25, 0.25],
        [0, 1, 1, -1, 1, -1],
        {
            "auto": [1, 0, 0, 0, 0, 0],
            "trl": [0.3, 0.3, 0.3, None, 0.3, 0.3],
            "compute_score": [1, 0, 0, 0, 0, 0],
            "compute_score.acc": [1, 0, 0, 0, 0, 0],
        },
    ),
}


@pytest.mark.parametrize("name", CONTRACT)
def test_every_signature_gives_scores_classes_and_parts(name):
    scores, classes, parts = CONTRACT[name]
    high = 1.2 if "0.9" in name else 1.0
    graded = judged(name, item_of(), workers=2, range=(0, high))
    assert graded.scores == pytest.approx(scores)
    assert graded.answer_id == classes
    assert graded.parts == parts
    if high == 1.0:
        assert verify(name, *item_of()[1:]) == graded, "the same without processes"


def test_right_answers_are_exactly_right():
    graded = judged("0.7*math + 0.2*my.py:score + 0.1*my.py:compute_score", item_of())
    assert graded.scores[0] == 1.0 and graded.correct[0]


def test_none_of_trl_is_no_verdict_where_nothing_else_judges():
    graded = judged("my.py:trl", item_of())
    assert graded.failures == ["", "", "", "no_score", "", ""]
    assert graded.counts == dict.fromkeys(FAILURES, 0) | {"no_score": 1, "failed/trl": 0}


def test_conversations_are_messages():
    row = {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]}
    assert judged("my.py:chat", item_of(("yes", "no"), row)).scores == [0.2, 0]
    history = (("system", "s"), ("user", "q"), ("assistant", "a"))
    assert judged("my.py:chat", item_of(("yes", "no"), {}, history=history)).scores == [0.4, 0]


def test_scores_beyond_0_and_1_need_a_range():
    item = item_of(("x" * 5, "x" * 20))
    with pytest.raises(RewardError, match=r"verifier\.range: my\.py:with_class gave 2.*range="):
        judged("my.py:with_class", item)
    graded = judged("my.py:with_class", item, range=(-2, 2))
    assert graded.scores == pytest.approx([0.625, 1]) and graded.answer_id == [0, 1]
    with pytest.raises(RewardError, match="sum is 2"):
        judged("0*math + 1*my.py:with_class", item)


def test_a_column_that_is_not_there_is_named_before_anything_is_called():
    with raises_for("verifier.name") as error:
        judged("my.py:trl", item_of(row={}))
    assert "'level'" in str(error.value)


def test_functions_are_found_before_a_process_starts():
    for name, words in {
        "my.py:scor": "did you mean score?",
        "none.py:score": "there is no file",
        "my.py:LOUD": "is a str",
        "my.py:time.sleep": "a reward function is score(answer, problem)",
        "mth": "did you mean math?",
    }.items():
        with raises_for("verifier.name") as error:
            VerifierPool(name=name)
        assert words in str(error.value)


# --- functions that misbehave ---------------------------------------------------------------------

# Text -> score, or the failure.
MISBEHAVIOUR = {
    "fine": 0.75,
    "raise": "failed: ValueError: no good",
    "words": "failed: Silent",
    "quit": "failed: SystemExit: 3",
    "recursion": "failed: RecursionError: maximum recursion depth exceeded",
    "hang": "timed_out",
    "exit 0": "crashed",
    "exit 1": "crashed",
    "memory": "crashed",
    "print": 0.75,
    "fork": 0.75,
    "spawn": 0.75,
    "mutate": 0.75,
    "return True": 1,
    "return 1": 1,
    "return np.float32(0.25)": 0.25,
    "return np.array(0.5)": 0.5,
    "return (np.float64(0.5), np.int64(3))": 0.5,
    "return None": "failed: TypeError: returned None, not a number",
    "return float('nan')": "failed: ValueError: returned nan, not a finite number",
    "return float('inf')": "failed: ValueError: returned inf, not a finite number",
    "return '1'": "failed: TypeError: returned text, '1', not a number",
    "return [1.0]": "failed: TypeError: returned a list of 1, not a number",
    "return {}": "failed: TypeError: returned a dict of 0, not a number",
    "return 0.5, 'a', 'b'": "failed: TypeError: returned a tuple of 3; return the score, or (score, answer class)",
    "return 0.5, [1]": "failed: TypeError: returned an answer class of type list; return text, a number or a tuple of them",
    "return 0.5, 'x' * 10**7": "failed: ValueError: returned an answer class of more than 2000 characters",
    "return 0.5, (('x' * 999,) * 50)": "failed: ValueError: returned an answer class of more than 2000 characters",
    "mutate again": 0.75,
}


def test_bad_functions_are_limited_counted_and_shown_once(capfd):
    with VerifierPool(2, 0.4, name="my.py:bad", on_error="skip") as pool:
        first, second = pool.verify([item_of(MISBEHAVIOUR), item_of(["raise", "fine"])])
        shown = capfd.readouterr().err
        (again,) = pool.verify([item_of(["raise", "hang", "quit", "return None"])])
        assert capfd.readouterr().err == "", "nothing is shown twice"

    # Python's words about a recursion differ.
    failures = [failure.partition(" while")[0] for failure in first.failures]
    outcomes = [f or s for f, s in zip(failures, first.scores, strict=True)]
    assert dict(zip(MISBEHAVIOUR, outcomes, strict=True)) == MISBEHAVIOUR
    assert all(s == 0 for s, f in zip(first.scores, first.failures, strict=True) if f)
    assert all(n == -1 for n, f in zip(first.answer_id, first.failures, strict=True) if f)
    assert second.scores == [0, 0.75] and again.failures[1] == "timed_out"

    failed = sum(str(outcome).startswith("failed") for outcome in outcomes)
    assert first.counts["failed"] == first.counts["failed/bad"] == failed
    assert first.counts["timed_out"] == 1 and first.counts["crashed"] == 3
    assert shown.count('raise ValueError("no good")') == 1, "with its traceback, once"
    assert shown.count("TypeError: returned") == 1, "once for each kind"
    assert shown.count("took longer than 0.4 seconds (verifier.time_limit)") == 1
    assert shown.count("ended its process") == 1
    assert "x" * 500 in shown and len(shown) < 20_000, "the beginning of what it prints"


def test_an_exception_stops_where_errors_stop(capfd):
    with pytest.raises(RewardError) as error:
        judged("0.9*math + 0.1*my.py:bad", item_of(["raise", "fine"]))
    message = str(error.value)
    assert "my.py:bad: ValueError: no good" in message and "on_error=skip" in message
    assert "\n" not in message and "Traceback" in capfd.readouterr().err


def test_texts_are_called_alone_where_all_at_once_hang(capfd):
    graded = judged("my.py:alone", item_of(["a", "exit", "b", "a"]), time_limit=0.4)
    assert graded.scores == [0.5, 0, 0.5, 0.5] and graded.failures == ["", "crashed", "", ""]
    assert "with 4 texts; each of them is a call of its own" in capfd.readouterr().err


def test_lists_of_trl_are_checked():
    functions = {
        "short": lambda completions: [1.0],
        "dict": lambda completions: {0: 1.0},
        "text": lambda completions: "1.0",
        "number": lambda completions: 1.0,
        "texts": lambda completions: ["1.0"] * len(completions),
        "endless": lambda completions: iter(lambda: 1.0, 2.0),
    }
    for name, function in functions.items():
        with pytest.raises(
            RewardError, match=f"verifier.name: {name}: (Type|Value)Error: returned"
        ):
            verify(name, "4", ["a", "b"], functions={name: function})
    scores = verify("f", "4", ["a", "b"], functions={"f": lambda completions: (True, 0.5)}).scores
    assert scores == [1, 0.5]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says who is an orphan")
def test_what_a_dead_step_has_started_dies_with_it(tmp_path):
    source = f"""
import os, time
def f(answer, problem):
    if os.fork() == 0:
        open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
        time.sleep(300)
    while True:
        pass
"""
    (tmp_path / "forks.py").write_text(source)
    with VerifierPool(1, 0.4, name="forks.py:f") as pool:
        assert pool.verify([item_of(["a"])])[0].failures == ["timed_out"]
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)


def test_verdicts_do_not_depend_on_the_number_of_workers():
    items = [item_of(TEXTS[: 1 + n % 6]) for n in range(9)]
    name = "0.5*auto + 0.3*my.py:trl + 0.2*my.py:compute_score"
    with VerifierPool(1, name=name) as one, VerifierPool(3, name=name) as three:
        assert one.verify(items) == three.verify(items)


# --- functions that are objects -------------------------------------------------------------------


class Longer:
    def __init__(self, than):
        self.than = than

    def __call__(self, answer, problem):
        return len(answer) > self.than


def test_objects_reach_the_workers():
    limit = 3
    functions = {
        "closure": lambda answer, problem: len(answer) > limit,
        "object": Longer(3),
        "partial": functools.partial(lambda answer, problem, than: len(answer) > than, than=3),
    }
    # As in a notebook: a function of a module that no other process has.
    namespace = {"__name__": "__main__", "math": math}
    exec("LIMIT = 3\ndef f(answer, problem): return math.floor(len(answer)) > LIMIT", namespace)
    functions["notebook"] = namespace["f"]
    for name, function in functions.items():
        graded = judged(
            f"0.5*exact + 0.5*{name}", item_of(["four", "4"]), functions={name: function}
        )
        assert graded.parts[name] == [1, 0], name


def test_an_object_that_cannot_be_sent_is_refused():
    stream = sys.stdin.__class__
    generator = (number for number in range(3))
    with raises_for("verifier.name") as error:
        VerifierPool(name="f", functions={"f": lambda answer, problem: next(generator) or stream})
    assert "FILE.py:NAME" in str(error.value)


# --- several processes ----------------------------------------------------------------------------


def test_what_one_process_finds_stops_all(monkeypatch):
    """Verdicts travel as JSON, with what is to be told about the functions."""
    monkeypatch.setattr(grader, "all_gather_objects", lambda value: [json.loads(json.dumps(value))])
    problem = Problem("set/0", "How many?", "4", "math", row=ROW)

    def verdicts(name, **settings):
        with VerifierPool(1, name=name, **settings) as pool:
            asked = grader.Grader(pool, [problem])
            asked.submit({0: ("raise", "fine", "return 7")})
            return asked._all_verdicts()

    with pytest.raises(RewardError, match="no good"):
        verdicts("0.5*my.py:bad + 0.5*math", range=(0, 9))
    with pytest.raises(RewardError, match=r"verifier\.range"):
        verdicts("my.py:bad", on_error="skip")
    (graded,) = verdicts("my.py:bad", on_error="skip", range=(0, 10))
    assert graded.scores == pytest.approx([0, 0.075, 0.7])
