"""What is printed and drawn of teams beyond ten agents: mean and range, and equal lines once."""

from types import SimpleNamespace

import numpy as np

from ccpo_jax.modes.sample import _sample_lines
from ccpo_jax.report.charts import LEARNING, chart_lines
from ccpo_jax.report.load import RunData
from ccpo_jax.rl.topology import agent_masks, voting
from ccpo_jax.rl.types import Outcome
from ccpo_jax.rollout import Turn
from ccpo_jax.train.step import Credited
from ccpo_jax.workdir.accuracy_table import accuracy_rows

AGENTS = 12
TEAM = voting(AGENTS)


def test_the_table_has_mean_and_range():
    metrics = {
        "eval/team_accuracy": 0.5,
        "eval/team_accuracy/low": 0.4,
        "eval/team_accuracy/high": 0.6,
    }
    for agent in range(AGENTS):
        metrics |= {f"eval/agent_accuracy/{agent}": agent / 100}
        metrics |= {f"eval/without_agent_accuracy/{agent}": 0.5}
    team, alone, without = accuracy_rows(metrics, "eval", TEAM).values()
    assert team == (0.5, 0.4, 0.6) and without == (0.5, 0.5, 0.5)
    np.testing.assert_allclose(alone, (0.055, 0, 0.11))


def test_charts_have_a_line_for_mean_lowest_and_highest():
    lines = [{"step": s, **{f"correct/{a}": a + s for a in range(AGENTS)}} for s in (1, 2)]
    run = RunData("run", {"model": ["tiny*12"]}, TEAM, lines, {}, [], 0)
    (chart,) = [chart for chart in LEARNING if "correct/*" in chart.lines]
    drawn = {line.name: list(line.y) for line in chart_lines(run, chart)}
    assert drawn == {"mean of 12": [6.5, 7.5], "lowest of 12": [1, 2], "highest of 12": [12, 13]}
    assert run.set_names == ["all agents"]


def test_samples_show_agents_of_equal_credit_once():
    """Agents 0 and 1 would be missed, the others not."""
    masks = agent_masks(AGENTS)
    reward = np.ones((len(masks), 1, 1))
    reward[1:3] = 0.0
    own = np.zeros((len(masks), 1, 1, AGENTS))
    samples = SimpleNamespace(length=np.ones((1, 1)), truncated=np.zeros((1, 1)))
    turn = Turn(None, samples, [["Answer: 1"]], (0,) * len(masks), (1,))
    graded = SimpleNamespace(scores=[1.0] * AGENTS, failures=[""] * AGENTS, parts={})
    collected = SimpleNamespace(
        outcome=Outcome(reward, own, own, masks),
        rollouts=SimpleNamespace(turns=(turn,) * AGENTS, ratings=()),
        graded=[graded],
    )
    credit = (1.0 - reward[1:, 0]).reshape(AGENTS, 1, 1)
    credited = Credited(credit, credit, np.ones(AGENTS, bool))
    lines = _sample_lines(TEAM, 0, 0, collected, credited)
    told = [line for line in lines if line.startswith("---")]
    assert len(lines) == len(told) + AGENTS and len(told) == 5
    assert told[1].startswith(
        "--- without one of agents 0, 1: reward 0.00, a contribution of +1.00"
    )
    assert told[3].startswith("--- agents 0, 1, voter: credit +1.000")
