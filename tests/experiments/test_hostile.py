"""experiments/hostile.py in short: a few hostile texts through every reader, and what it calls a fault."""

from experiments.robustness import hostile


def test_a_few_hostile_texts_harm_nobody_and_a_limit_that_is_passed_is_told(monkeypatch):
    monkeypatch.setitem(hostile._MEBIBYTES, "parent", 1)
    report = hostile.assault(seed=0, count=3)
    ((told, who),) = report["faults"]
    assert who == "parent" and told.endswith(" MiB")
    verifiers = {
        name: found for name, found in report["verdicts"].items() if name.startswith("verifier")
    }
    assert len(verifiers) == 3
    assert all(sum(found.values()) == 3 and "right" not in found for found in verifiers.values())
