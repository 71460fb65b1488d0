"""Exchange of agents between finished runs: who is exchanged, by whom, and what the table says."""

import csv

import pytest

from ccpo_jax.config import combine, parse
from ccpo_jax.presets import load_preset
from tests.support.errors import raises_for

exchange = pytest.importorskip("experiments.study.exchange", reason="run from the repository root: experiments/ is no package of the library")  # fmt: skip

pytestmark = pytest.mark.fast


def config_of(preset="dyad:tiny", **changes):
    return parse(combine(load_preset(preset), changes))


def test_mixtures_of_a_dyad():
    configs = {"a": config_of(model=("m", "n")), "b": config_of(seed=1)}
    made = {(m.partner, m.exchanged): m.models for m in exchange.mixtures("a", configs)}
    assert made == {
        ("", ()): ("a:0", "a:1"),
        ("start", (0,)): ("m", "a:1"),
        ("start", (1,)): ("a:0", "n"),
        ("b", (0,)): ("b:0", "a:1"),
        ("b", (1,)): ("a:0", "b:1"),
    }


def test_mixtures_of_a_chain_exchange_one_agent_and_all_but_one():
    made = list(exchange.mixtures("a", {"a": config_of("chain:tiny")}))
    assert [m.exchanged for m in made] == [(), (0,), (1,), (2,), (1, 2), (0, 2), (0, 1)]
    assert made[-1].models == ("tiny", "tiny", "a:2")


def test_agents_that_share_a_policy_are_exchanged_one_by_one():
    config = config_of("voting:tiny", **{"team.num_agents": 3, "model": ("m*2", "n*1")})
    own, _, _, third, *_ = exchange.mixtures("a", {"a": config})
    assert own.models == ("a:0", "a:0", "a:1") and third.models == ("a:0", "a:0", "n")
    shared = config_of("voting:tiny", shared_policy=True, model=("m",))
    assert list(exchange.mixtures("a", {"a": shared}))[1].models == ("m", "a:0", "a:0")


def test_losses_are_relative_to_the_own_team(monkeypatch, tmp_path):
    """Accuracies that are known: each agent of the run is worth 20 points greedy and 10 sampled."""
    configs = {"a": config_of(), "b": config_of(seed=1)}
    tests = []

    def evaluate(config, workdir):
        assert workdir is None and config.mode == "eval"
        tests.append(config.data.eval)
        own = sum(name.startswith("a:") for name in config.model)
        values = {
            "greedy/team_accuracy": 0.5 + 0.2 * own,
            "team_accuracy": 0.4 + 0.1 * own,
            "pass_at_8": 1.0,
        }
        return {f"test/synthetic/dyad/test/{name}": value for name, value in values.items()}

    monkeypatch.setattr(exchange, "saved_config", configs.get)
    monkeypatch.setattr(exchange, "evaluate_only", evaluate)
    rows = exchange.exchange(["a", "b"])
    assert set(tests) == {("synthetic/dyad/test",)} and len(rows) == 10
    lost = {(row.partner, row.exchanged): (row.greedy_lost, row.sampled_lost) for row in rows[:5]}
    assert lost.pop(("own", "")) == (0, 0)
    assert all(loss == pytest.approx((20, 10)) for loss in lost.values())

    exchange.write(rows, tmp_path / "x" / "exchange.csv")
    with open(tmp_path / "x" / "exchange.csv", newline="") as lines:
        table = list(csv.DictReader(lines))
    assert table[1] == {
        "run": "a", "partner": "start", "exchanged": "0", "greedy": "70.00", "sampled": "50.00",
        "pass_at_k": "100.00", "greedy_lost": "20.00", "sampled_lost": "10.00",
    }  # fmt: skip


def test_refusals(monkeypatch, tmp_path):
    other = config_of("chain:tiny")
    for configs in ({"a": config_of("solo")}, {"a": config_of(), "b": other}):
        with raises_for("runs"):
            list(exchange.mixtures("a", configs))
    with raises_for("runs"):
        exchange.exchange([str(tmp_path)])
    monkeypatch.setattr(exchange, "saved_config", lambda run: config_of("dyad"))
    with raises_for("runs"):
        exchange.exchange(["a"])
