"""The table of accuracies before and after training."""

from ccpo_jax.rl.topology import dyad
from ccpo_jax.workdir.accuracy_table import accuracy_rows, accuracy_table


def test_closing_table_shows_both_columns_and_the_change():
    text = accuracy_table({"team": (0.5, 0.45, 0.55)}, {"team": (0.75, 0.7, 0.8)})
    assert "before" in text and "change" in text
    assert text.splitlines()[1].split() == [
        "team",
        "50.0",
        "[45.0,",
        "55.0]",
        "75.0",
        "[70.0,",
        "80.0]",
        "+25.0",
    ]
    assert "before" not in accuracy_table({"team": (0.5, 0.4, 0.6)})


def test_fractional_scores_are_named_and_full_ones_counted():
    metrics = {}
    for name, value in {"team_accuracy": 0.62, "solved": 0.4, "agent_solved/0": 0.1}.items():
        metrics |= {f"eval/{name}": value, f"eval/{name}/low": value, f"eval/{name}/high": value}
    rows = accuracy_rows(metrics, "eval", dyad())
    assert rows == {"team": (0.62,) * 3, "team, full scores": (0.4,) * 3}
    assert "mean score %" in accuracy_table(rows)
    assert "accuracy %" in accuracy_table({"team": (0.62,) * 3})


def test_pass_at_k_has_one_row_of_all_samples():
    metrics = {}
    values = {"team_accuracy": 0.3, "maj_accuracy": 0.4, "pass_at_2": 0.5, "pass_at_10": 0.7}
    for name, value in values.items():
        metrics |= {f"test/a/{name}{edge}": value for edge in ("", "/low", "/high")}
    metrics |= {"eval/pass_at_64": 1.0}
    rows = accuracy_rows(metrics, "test/a", dyad())
    assert rows["team, pass@10"] == (0.7,) * 3 and len(rows) == 3


def test_a_row_of_one_evaluation_alone_has_no_change():
    before = {"team": (0.5, 0.4, 0.6)}
    after = before | {"team, full scores": (0.25, 0.2, 0.3)}
    _, team, full = accuracy_table(before, after).splitlines()
    assert team.endswith("+0.0") and full.split() == [
        "team,",
        "full",
        "scores",
        "25.0",
        "[20.0,",
        "30.0]",
    ]
    assert accuracy_table(after, before).splitlines()[2].endswith("25.0 [20.0,  30.0]" + " " * 21)
