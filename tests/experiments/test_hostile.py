"""The hostile-text experiment in short: a few texts through every reader, and what counts as a fault."""

import pytest

from experiments.robustness import hostile

pytestmark = pytest.mark.experiments


def test_a_few_hostile_texts_do_no_harm_and_a_limit_exceeded_is_a_fault(monkeypatch):
    monkeypatch.setitem(hostile.MAX_MEBIBYTES, "parent", 1)
    report = hostile.attack(seed=0, count=3)
    ((fault, process),) = report["faults"]
    assert process == "parent" and fault.endswith(" MiB")
    verdicts = {
        reader: counts for reader, counts in report["verdicts"].items() if "verifier" in reader
    }
    assert len(verdicts) == 3
    assert all(sum(counts.values()) == 3 and "right" not in counts for counts in verdicts.values())
