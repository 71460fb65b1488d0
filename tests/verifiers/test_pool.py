"""Verification in worker processes."""

import os
import pathlib
import subprocess
import sys

import pytest

import ccpo_jax
import ccpo_jax.verifiers.pool
from ccpo_jax.verifiers import FAILURES, VERIFIERS, Context, Graded, Item, VerifierPool, verify
from ccpo_jax.verifiers.job import Job, collect_records, make_job, verify_job
from ccpo_jax.verifiers.process_pool import ProcessPool
from ccpo_jax.verifiers.worker import TIMED_OUT, StepFailure
from tests.support.errors import raises_for

# math-verify, which is asked about integrals, evaluates the tower.
INTEGRAL = r"\int_0^1 f(t)\,dt"
TOWER = rf"\boxed{{{INTEGRAL} + 9^{{9^{{9^{{9^{{9}}}}}}}}}}"


def test_pool_agrees_with_one_process_whatever_the_number_of_workers(pool):
    items = [
        Item(
            "math",
            str(i % 7),
            tuple(rf"\boxed{{{(i * j) % 9}}}" if j % 4 else "none" for j in range(6)),
        )
        for i in range(60)
    ] + [
        Item("choice", "B", ("Answer: A", "B", "(B)")),
        Item("exact", "x", ("x", "y")),
        Item("math", "", ("1",)),
    ]
    expected = [verify(*item) for item in items]
    assert pool.verify(items) == expected
    assert pool.verify(items[::-1]) == expected[::-1]
    with VerifierPool(workers=1) as single, VerifierPool(workers=3) as triple:
        assert single.verify(items) == triple.verify(items) == expected


def test_no_items(pool):
    assert pool.verify([]) == []
    assert pool.verify([Item("math", "1", ())]) == [
        Graded([], [], [], [], None, dict.fromkeys(FAILURES, 0), {})
    ]


def test_hanging_answer_dies_alone():
    easy = Item("math", "4", (r"\boxed{4}", "5"))
    right = rf"\boxed{{{INTEGRAL}}}"
    hard = Item("math", INTEGRAL, (right, TOWER, r"\boxed{5}", TOWER, right, r"\boxed{5}"))
    with VerifierPool(workers=1, time_limit=1.0) as pool:
        before, graded, after = pool.verify([easy, hard, easy])
    assert before == after == verify(*easy)
    assert graded.correct == [True, False, False, False, True, False]
    assert graded.answer_id == [0, -1, 1, -1, 0, 1]
    assert (
        graded.failures == ["", "timed_out", "", "timed_out", "", ""]
        and graded.counts["timed_out"] == 2
    )


def test_gold_whose_check_hung_is_not_compared():
    item = Item("math", "1", ("1", "2", "1"))
    job = make_job(item, 1000)
    records: list = [StepFailure(TIMED_OUT)]
    records += verify_job(job, records)
    graded = collect_records(item, job, records, 1000)
    assert graded.gold_failure == "timed_out"
    assert graded.correct == [False] * 3
    assert graded.answer_id == [0, 1, 0]
    assert graded.counts["gold_unparsed"] == 1
    assert graded.counts["timed_out"] == 0


def test_a_worker_loads_neither_jax_nor_numpy(tmp_path, monkeypatch):
    """Neither at its start nor for a verdict: they would cost each worker seconds and memory."""
    (tmp_path / "verify_and_look.py").write_text(
        "import sys\n"
        "from ccpo_jax.verifiers.job import verify_job\n"
        "def verify_and_look(job, done):\n"
        "    yield from verify_job(job, done)\n"
        "    yield sorted({'jax', 'numpy'} & sys.modules.keys())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    texts = (r"\boxed{\frac{x}{2}}", r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}", "2:3")
    jobs = [Job(name, "x/2", texts) for name in VERIFIERS]
    pool = ProcessPool("verify_and_look:verify_and_look", workers=1, time_limit=20)
    results = pool.run(jobs)
    pool.close()
    assert [records[-1] for records in results] == [[]] * len(jobs)
    assert results[0][2].correct


def test_the_programs_main_module_is_not_run_again(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "from ccpo_jax.verifiers import Item, VerifierPool\n"
        "print('run')\n"
        "with VerifierPool(workers=2) as pool:\n"
        "    print(pool.verify([Item('math', '1', ('1', '2'))])[0].correct)\n"
    )
    root = str(pathlib.Path(ccpo_jax.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split("\n") == ["run", "[True, False]", ""] and done.stderr == ""


@pytest.mark.parametrize("field", ["workers", "time_limit", "max_chars"])
def test_pool_arguments(field):
    with raises_for(field):
        VerifierPool(**{field: 0})


def test_a_pool_reads_every_item_as_it_is_told(monkeypatch):
    """Unless it is told nothing: then each item's own context holds."""
    items = [
        Item("exact", "1", ("1",)),
        Item("exact", "1", ("1",), Context("Q", ("a", "b"), "lenient", True)),
    ]
    seen = []

    def read_contexts(self, jobs, **_):
        seen.append([job.context for job in jobs])
        return [[*verify_job(job, [])] for job in jobs]

    monkeypatch.setattr(ProcessPool, "run", read_contexts)
    for settings in ({}, {"extraction": "lenient", "evaluated": True}, {"extraction": "strict"}):
        with VerifierPool(workers=1, **settings) as pool:
            pool.verify(items)
    assert seen == [
        [Context(), Context("Q", ("a", "b"), "lenient", True)],
        [Context("", (), "lenient", True), Context("Q", ("a", "b"), "lenient", True)],
        [Context(), Context("Q", ("a", "b"), "strict", True)],
    ]


def test_an_unknown_kind_of_extraction_is_refused():
    with raises_for("extraction"):
        VerifierPool(extraction="loose")


# --- slow answers ---

BUSY = """
import time
from ccpo_jax.verifiers.job import verify_job
from ccpo_jax.verifiers.registry import VERIFIERS

def compute(words, about):
    # "extract 0.2" computes for so long when it is extracted; likewise "gold", "judge", "same".
    for word, seconds in zip(words.split(), words.split()[1:]):
        began = time.process_time()
        while word == about and time.process_time() - began < float(seconds):
            pass

def extract(text, context):
    compute(text, "extract")
    return text or None

def equivalent(gold, answer, context):
    compute(answer, "judge")
    return "right" in answer

def same(first, second, context):
    compute(first, "same")
    return first[-1] == second[-1]

def check_gold(gold, context):
    compute(gold, "gold")

VERIFIERS["busy"] = VERIFIERS["exact"]._replace(
    extract=extract, equivalent=equivalent, value=lambda answer, context: None, same=same,
    check_gold=check_gold,
)
"""


@pytest.fixture
def busy_pool(tmp_path, monkeypatch):
    """Pools with a verifier whose texts say how long each step computes."""
    (tmp_path / "busy.py").write_text(BUSY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(VERIFIERS, "busy", VERIFIERS["exact"])

    def verify_job():
        """Only its name is read."""

    verify_job.__module__ = "busy"
    monkeypatch.setattr(ccpo_jax.verifiers.pool, "verify_job", verify_job)
    monkeypatch.setattr(ccpo_jax.verifiers.pool, "_FIRST_TRY", 0.1)
    return VerifierPool


def test_few_slow_answers_get_the_whole_limit(busy_pool):
    items = [
        Item(
            "busy", "g", ("right judge 0.2", "quick", "judge 60", "extract 0.2 right", "extract 60")
        ),
        Item("busy", "gold 0.2", ("right", "wrong judge 0.2 x", "wrong x", "wrong y")),
    ]
    expected = [["", "", "timed_out", "", "timed_out"], ["", "", "", ""]]
    for workers in (1, 3):
        with busy_pool(workers=workers, time_limit=0.6) as pool:
            first, second = pool.verify(items)
        assert [first.failures, second.failures] == expected
        assert first.correct == [True, False, False, True, False]
        assert first.answers == [items[0].texts[0], "quick", "judge 60", "extract 0.2 right", None]
        assert second.correct == [True, False, False, False]
        assert second.answer_id == [0, 1, 1, 2] and second.gold_failure is None


def test_many_slow_answers_are_cut_together(busy_pool, monkeypatch):
    """And the same ones, whatever the number of workers."""
    items = [
        Item("busy", "g", ("right", f"judge 60 {i}", "wrong", f"judge 0.2 {i}")) for i in range(8)
    ]
    run = ProcessPool.run
    given = []

    def run_and_count(self, jobs, done=None, *, time_limit, **rest):
        results = run(self, jobs, done, time_limit=time_limit, **rest)
        before = [0] * len(jobs) if done is None else map(len, done)
        late = sum(
            isinstance(record, StepFailure)
            for records, first in zip(results, before, strict=True)
            for record in records[first:]
        )
        given.append(late * time_limit)
        return results

    monkeypatch.setattr(ProcessPool, "run", run_and_count)
    for workers in (1, 4):
        given.clear()
        with busy_pool(workers=workers, time_limit=0.6) as pool:
            for graded in pool.verify(items):
                assert graded.correct == [True, False, False, False]
                assert graded.failures == ["", "timed_out", "", "timed_out"]
                assert graded.answer_id == [0, -1, 1, -1]
        # Sixteen first tries, and nothing after.
        assert sum(given) == pytest.approx(16 * 0.1)


def test_slow_answers_of_several_parts_of_a_batch_share_their_time(busy_pool):
    items = [Item("busy", "g", (f"right judge 0.2 {i}",)) for i in range(3)]
    with busy_pool(workers=2, time_limit=0.6) as pool:
        alone = [pool.verify([item])[0].correct for item in items]
        begun = [part for item in items for part in pool.begin([item])]
        together = [graded.correct for graded in pool.finish(begun)]
        begun = [part for item in items * 3 for part in pool.begin([item])]
        too_many = [graded.correct for graded in pool.finish(begun)]
    assert alone == together == [[True]] * 3 and too_many == [[False]] * 9


def test_a_comparison_that_hangs_makes_two_answers_different(busy_pool):
    items = [Item("busy", "g", ("same 60 a", "right", "sam a", "wrong b", "wrong a"))]
    for workers in (1, 2):
        with busy_pool(workers=workers, time_limit=0.5) as pool:
            (graded,) = pool.verify(items)
        assert graded.answer_id == [0, 1, 2, 3, 2] and not any(graded.failures)
