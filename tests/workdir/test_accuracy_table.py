"""The table of accuracies before and after training."""

from ccpo_jax.workdir.accuracy_table import accuracy_table


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
