"""Verifiers of a plugin in worker processes: found, limited, and the same file for every worker."""

import contextlib
import logging
import os
import sys
import time

import pytest

from ccpo_jax import references
from ccpo_jax.errors import RewardError
from ccpo_jax.verifiers import VERIFIERS, Item, VerifierPool
from ccpo_jax.verifiers.job import collect_records, make_job, verify_job
from ccpo_jax.verifiers.process_pool import ProcessPool
from ccpo_jax.verifiers.reports import Reports
from ccpo_jax.verifiers.worker import CRASHED, StepFailure
from tests.support.errors import raises_for

VERIFIER = """
from ccpo_jax.verifiers import VERIFIERS, Verifier

def extract(text, context):
    if text == "spin":
        while True:
            pass
    if text == "memory":
        bytearray(1 << 33)
    return text[::-1]

def same(first, second, context):
    return first == second

VERIFIERS["reversed"] = Verifier(
    extract, same, lambda answer, context: answer, same, lambda gold, context: None
)
"""


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(references, "_LOADED", {})
    monkeypatch.setattr(references, "_GIVEN", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    known = dict(VERIFIERS)
    yield
    VERIFIERS.clear()
    VERIFIERS.update(known)
    for name in set(sys.modules) - before:
        if name.startswith("_"):
            del sys.modules[name]


def test_verifier_of_a_plugin_works_in_workers_and_has_their_limits(tmp_path):
    (tmp_path / "my.py").write_text(VERIFIER)
    with VerifierPool(1, 0.6, plugins=("my.py",)) as pool:
        # Nothing on the disk matters any more, also not for workers that start later.
        (tmp_path / "my.py").write_text("raise ValueError('changed')\n")
        texts = ("cba", "abc", "spin", "memory", "cba")
        (graded,) = pool.verify([Item("reversed", "abc", texts)])
        assert graded.correct == [True, False, False, False, True]
        assert graded.failures[2:4] == ["timed_out", "crashed"]
        assert pool.verify([Item("choice", "B", ("Answer: B",))])[0].correct == [True]


STEPS = """
import sys

def steps(job, done):
    for word in job[len(done):]:
        if word == "memory":
            bytearray(5 << 30)
        yield eval(word)
"""


@pytest.fixture
def steps(tmp_path, monkeypatch):
    (tmp_path / "steps.py").write_text(STEPS)
    monkeypatch.syspath_prepend(tmp_path)
    return "steps:steps"


def closing_pool(*arguments, **options):
    return contextlib.closing(ProcessPool(*arguments, **options))


def test_plugin_may_import_jax_and_compute_with_it(steps, tmp_path):
    (tmp_path / "my.py").write_text("import jax.numpy as jnp\n")
    name = references.module_name(str(tmp_path / "my.py"))
    jnp = f"sys.modules['{name}'].jnp"
    with closing_pool(steps, workers=1, time_limit=20.0, plugins=("my.py",)) as pool:
        job = [
            f"int({jnp}.arange(4).sum())",
            "memory",
            f"float({jnp}.sin(0.0))",
            "__import__('jax').default_backend()",
        ]
        assert pool.run([job])[0] == [6, StepFailure(CRASHED), 0.0, "cpu"]


def test_plugin_that_computes_while_it_is_imported_is_warned_of_once(steps, tmp_path, capsys):
    (tmp_path / "my.py").write_text("import jax.numpy as jnp\nTABLE = jnp.arange(3)\n")
    with closing_pool(steps, workers=1, time_limit=20.0, plugins=("my.py",)) as pool:
        assert pool.run([["1"], ["2"]]) == [[1], [2]]
        assert pool.run([["1"]]) == [[1]]
    assert capsys.readouterr().err.count("my.py computes with jax while it is imported") == 1


def test_plugins_are_files_and_modules(steps, tmp_path):
    (tmp_path / "a b.py").write_text("VALUE = 1\n")
    (tmp_path / "my_module.py").write_text("VALUE = 2\n")
    file = references.module_name(str(tmp_path / "a b.py"))
    with closing_pool(steps, workers=2, time_limit=5.0, plugins=("a b.py", "my_module")) as pool:
        job = [f"sys.modules['{file}'].VALUE", "sys.modules['my_module'].VALUE"]
        assert pool.run([job, job]) == [[1, 2], [1, 2]]


@pytest.mark.parametrize(
    "text,expected",
    [
        ("sys.exit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError"),
        ("import no_such", "no_such"),
    ],
    ids=["exits", "raises", "lacks a module"],
)
def test_failure_in_a_worker_alone_is_one_line(steps, tmp_path, text, expected):
    line = f"import os, sys\nif os.getpid() != {os.getpid()}:\n    {text}\n"
    (tmp_path / "my.py").write_text(line)
    with closing_pool(steps, workers=1, time_limit=5.0, plugins=("my.py",)) as pool:
        with raises_for("plugins") as error:
            pool.run([["1"]])
        assert "my.py, line 3: " in str(error.value) and expected in str(error.value)
        assert "\n" not in str(error.value) and "in a worker process" in str(error.value)


def test_import_that_hangs_in_a_worker_ends(steps, tmp_path, caplog):
    line = f"import os, time\nif os.getpid() != {os.getpid()}:\n    time.sleep(600)\n"
    (tmp_path / "my.py").write_text(line)
    began = time.monotonic()
    with (
        caplog.at_level(logging.WARNING),
        closing_pool(steps, workers=1, time_limit=5.0, start_limit=1.0, plugins=("my.py",)) as pool,
        pytest.raises(RuntimeError, match="could not start"),
    ):
        pool.run([["1"]])
    assert time.monotonic() - began < 30


def test_what_a_worker_prints_while_it_imports_is_bounded(steps, tmp_path, capfd):
    (tmp_path / "my.py").write_text(
        "import sys\nfor _ in range(1000):\n    print('x' * 1000, file=sys.stderr)\n"
    )
    with closing_pool(steps, workers=1, time_limit=5.0, plugins=("my.py",)) as pool:
        assert pool.run([["1"]]) == [[1]]
    assert len(capfd.readouterr().err) < 30_000


def test_missing_plugin_is_an_error_before_a_process_starts(steps):
    with raises_for("plugins"):
        ProcessPool(steps, workers=1, time_limit=5.0, plugins=("none.py",))


FAILING = {
    "extract": ("extract", "text if text != 'b' else 1 / 0", "ZeroDivisionError"),
    "type": ("extract", "3", "extract returned int; return text or None"),
    "equivalent": ("equivalent", "{}[answer]", "KeyError: 'a'"),
    "no verdict": ("equivalent", "None", "equivalent returned None; return True or False"),
    "value": ("value", "1 / 0", "ZeroDivisionError"),
    "not hashable": ("value", "[]", "unhashable type"),
    # Python versions word it differently.
    "not sent": ("value", "lambda: 0", "<lambda>"),
    "same": ("same", "1 / 0", "ZeroDivisionError"),
}


def failing_verifier(name, text):
    """A verifier of which one function is wrong, in a file."""
    bodies = {
        "extract": "text",
        "equivalent": "gold == answer",
        "value": "None",
        "same": "first == second",
        name: text,
    }
    return f"""
from ccpo_jax.verifiers import VERIFIERS, Verifier

def extract(text, context):
    return {bodies["extract"]}

def equivalent(gold, answer, context):
    return {bodies["equivalent"]}

def value(answer, context):
    return {bodies["value"]}

def same(first, second, context):
    return {bodies["same"]}

VERIFIERS["failing"] = Verifier(extract, equivalent, value, same, lambda gold, context: None)
"""


@pytest.mark.parametrize("case", FAILING)
def test_what_a_verifier_raises_is_no_verdict_and_names_its_line(tmp_path, capsys, case):
    name, text, expected = FAILING[case]
    (tmp_path / "my.py").write_text(failing_verifier(name, text))
    references.load_module("my.py", "plugins")
    item = Item("failing", "g", ("a", "b", "g"))
    job = make_job(item, 1000)
    graded = collect_records(item, job, list(verify_job(job, [])), 1000)
    assert any(expected in failure for failure in graded.failures), graded.failures
    assert graded.counts["failed"] >= 1 and graded.notes
    if "returned" not in expected and case not in ("not hashable", "not sent"):
        assert "my.py, line " in graded.notes[0].summary
    Reports("skip").report([graded, graded], quiet=False)
    assert capsys.readouterr().err.count("warning: the verifier 'failing' raised") == 1
    with pytest.raises(RewardError, match="the verifier 'failing' raised"):
        Reports("stop").report([graded], quiet=True)
