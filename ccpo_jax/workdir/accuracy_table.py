"""Accuracies of an evaluation as a table for the terminal, before and after training."""

from collections.abc import Mapping

from ccpo_jax.rl.topology import Topology

# (mean, low, high): an accuracy with its interval, as fractions.
Interval = tuple[float, float, float]

# The row of samples with a score of 1. Where there is one, the other rows are mean scores.
FULL_SCORES = "team, full scores"

# Beyond so many agents, a row stands for all of them.
_MOST_AGENTS = 10


def accuracy_rows(
    metrics: Mapping[str, float], prefix: str, topology: Topology
) -> dict[str, Interval]:
    """Rows of the accuracy table: name -> (mean, low, high), for those that the metrics hold.
    Of more than ten agents there are the mean and the range.

    Args:
      metrics: of an evaluation.
      prefix: of their names: "eval", or "test/<set>".
      topology: the team.
    """
    names = {
        "team": "team_accuracy",
        "team, majority of samples": "maj_accuracy",
        "team, greedy": "greedy/team_accuracy",
        FULL_SCORES: "solved",
    }
    if sizes := _pass_sizes(metrics, prefix):
        names[f"team, pass@{sizes[-1]}"] = f"pass_at_{sizes[-1]}"
    rows = {}
    if topology.num_agents <= _MOST_AGENTS:
        for agent, role in enumerate(topology.agent_roles):
            names[f"agent {agent} ({role}) alone"] = f"agent_accuracy/{agent}"
        for agent, role in enumerate(topology.agent_roles):
            names[f"team without agent {agent} ({role})"] = f"without_agent_accuracy/{agent}"

    for row, name in names.items():
        key = f"{prefix}/{name}"
        if key in metrics:
            rows[row] = (metrics[key], metrics[f"{key}/low"], metrics[f"{key}/high"])
    if topology.num_agents > _MOST_AGENTS:
        rows |= _rows_of_many(metrics, prefix, topology.num_agents)
    return rows


def _rows_of_many(
    metrics: Mapping[str, float], prefix: str, num_agents: int
) -> dict[str, Interval]:
    """A row for all agents alone, and one for all teams that lack an agent: their mean, and the
    lowest and the highest of them.
    """
    names = {
        f"{num_agents} agents alone [lowest, highest]": "agent_accuracy",
        "team without one of them [lowest, highest]": "without_agent_accuracy",
    }
    rows = {}
    for row, name in names.items():
        keys = [f"{prefix}/{name}/{agent}" for agent in range(num_agents)]
        values = [metrics[key] for key in keys if key in metrics]
        if values:
            rows[row] = (sum(values) / len(values), min(values), max(values))
    return rows


def _pass_sizes(metrics: Mapping[str, float], prefix: str) -> list[int]:
    """The k of pass@k among the metrics, in ascending order."""
    start = f"{prefix}/pass_at_"
    ends = [name.removeprefix(start) for name in metrics if name.startswith(start)]
    return sorted(int(end) for end in ends if end.isdigit())


def accuracy_table(
    before: Mapping[str, Interval], after: Mapping[str, Interval] | None = None
) -> str:
    """Aligned rows of accuracies in percent with intervals; with two columns also the change.

    Args:
      before: row name -> (mean, low, high), fractions.
      after: the rows later; None = one column. Only one of the two evaluations may have met
        fractional scores, and so have a row of full scores.
    """
    rows = {**before, **(after or {})}
    width = max(len(name) for name in rows)
    quantity = "mean score" if FULL_SCORES in rows else "accuracy"
    columns = [f"{quantity} %, 95 % interval"] if not after else ["before", "after", "change"]
    lines = [" " * width + "".join(f"  {column:>19}" for column in columns)]

    for name in rows:
        line = f"{name:<{width}}  {_cell(before.get(name)):>19}"
        if after:
            line += f"  {_cell(after.get(name)):>19}"
        if after and name in before and name in after:
            line += f"  {100 * (after[name][0] - before[name][0]):>+19.1f}"
        lines.append(line)
    return "\n".join(lines)


def _cell(row: Interval | None) -> str:
    if row is None:
        return ""
    mean, low, high = (100 * value for value in row)
    return f"{mean:5.1f} [{low:4.1f}, {high:5.1f}]"
