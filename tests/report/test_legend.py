"""Every metric has a meaning, and charts name what an estimator carries."""

import contextlib

import pytest

from ccpo_jax.report.charts import DIAGNOSTICS, LEARNING, chart_lines, history_chart
from ccpo_jax.report.legend import MEANINGS, meaning
from ccpo_jax.report.load import RunData
from ccpo_jax.rl.credit import CREDITS
from ccpo_jax.rl.topology import TOPOLOGIES, dyad


def run_with(estimator: str, *lines: dict) -> RunData:
    """A run of a dyad with these lines of metrics."""
    metrics = [{"step": step} | line for step, line in enumerate(lines)]
    return RunData("run", {"credit.name": estimator}, dyad(), metrics, {}, [], 0)


def history(estimator: str, *lines: dict) -> dict[str, list[float]]:
    """The lines of the History chart: name -> values."""
    drawn = chart_lines(run_with(estimator, *lines), history_chart(estimator))
    return {line.name: list(line.y) for line in drawn}


@pytest.mark.parametrize(
    "keys", [("moments/0/mean", "moments/1/mean"), ("pooled/between", "pooled/within")]
)
def test_pooled_carries_variances_not_agents(keys):
    between, within = keys
    drawn = history("pooled", {between: 0.1, within: 0.2}, {between: 0.3, within: 0.4})
    assert drawn == {
        "variance between thoughts": [0.1, 0.3],
        "variance within thoughts": [0.2, 0.4],
    }
    assert "between thoughts" not in meaning(within, "pooled")
    assert "variance between thoughts" in meaning(between, "pooled")


@pytest.mark.parametrize("key", ["moments/0/mean", "nested/gain"])
def test_nested_carries_a_gain_not_the_thinkers(key):
    assert history("nested", {key: 0.1}) == {"gain over the Solver alone": [0.1]}
    assert "Solver alone" in meaning(key, "nested")


@pytest.mark.parametrize("name,hyper", [("pooled", {}), ("nested", {"solo_weight": 0.5})])
def test_what_they_write_today_is_not_drawn_as_an_agents(name, hyper):
    estimator = CREDITS[name](dyad(), **hyper)
    written = {
        metric: float(value) + 0.5 for metric, value in estimator.metrics(estimator.init()).items()
    }
    drawn = history(name, written)
    assert len(drawn) == len(written) > 0
    assert not {"thinker", "solver"} & drawn.keys()


def test_other_estimators_carry_moments_by_name_or_agent():
    assert history("ccpo", {"moments/delta/mean": 0.1}) == {"contribution": [0.1]}
    both = {"moments/0/mean": 0.1, "moments/1/mean": 0.2}
    assert history("agent_norm", both) == {"thinker": [0.1], "solver": [0.2]}


def test_pass_at_k_is_drawn_for_every_k_of_the_run():
    lines = [{"eval/pass_at_2": 0.5, "eval/pass_at_16": 0.75}, {"eval/pass_at_2": 0.625}]
    (chart,) = [chart for chart in LEARNING if "eval/pass_at_*" in chart.lines]
    drawn = chart_lines(run_with("shared", *lines), chart)
    assert [(line.name, list(line.y)) for line in drawn] == [
        ("2 samples", [0.5, 0.625]),
        ("16 samples", [0.75]),
    ]
    assert meaning("test/a/pass_at_16/low").endswith("lower end of the 95 % interval")


def test_what_is_unknown_has_no_meaning():
    assert meaning("moments/2/mean", "pooled") == "" and meaning("surprise") == ""
    assert meaning("test/gsm8k/greedy/team_accuracy/high").endswith(
        "greedy decoding: upper end of the 95 % interval"
    )


def test_charts_draw_metrics_that_have_a_meaning():
    for chart in (*LEARNING, *DIAGNOSTICS, history_chart("ccpo"), history_chart("pooled")):
        for metric in chart.lines:
            assert meaning(metric.replace("*", "0")), metric
    assert len(set(MEANINGS.values())) >= len(MEANINGS) - 1


@pytest.mark.parametrize("name", CREDITS)
def test_what_an_estimator_shows_of_its_state_has_a_meaning(name):
    teams = [make() for make in TOPOLOGIES.values()]
    fitting = []
    for team in teams:
        with contextlib.suppress(ValueError):
            fitting.append(CREDITS[name](team))
    assert fitting
    for credit in fitting:
        if credit.metrics is not None:
            assert all(meaning(metric, name) for metric in credit.metrics(credit.init()))
