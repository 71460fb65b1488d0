"""The report's charts: metrics over training steps, and how each agent's credit is distributed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from ccpo_jax.errors import escape_control
from ccpo_jax.integers import ceil_div
from ccpo_jax.report.load import RunData
from ccpo_jax.report.names import agent_names, turn_names
from ccpo_jax.report.plots import COLOURS, Box, Line, box_chart, line_chart
from ccpo_jax.report.safe_text import finite, to_html
from ccpo_jax.rl.diagnostics import PERCENTS

# Points of a line; where there are more, neighbours are averaged.
_MAX_POINTS = 240
_MAX_BOXES = 20
# Agents, turns or parameter sets that are shown one by one; of more there are mean and range.
MOST_LINES = 10


class Chart(NamedTuple):
    """A chart of metrics over training steps.

    In the name of a metric, * stands for the number of an agent, a turn or a parameter set; in the
    name of its line, {} for that agent's, turn's or set's name.
    """

    title: str
    note: str
    lines: Mapping[str, str]  # metric -> name of its line
    counts: str = "agent"  # agent | turn | set: what * counts
    band: bool = False  # the metrics come with /low and /high
    hide_zero: bool = False  # leave out a line that is 0 throughout


class Points(NamedTuple):
    """The values of a chart's lines, for the pointer to show."""

    steps: list[float]
    lines: list[list[float | None]]  # of each line, a value per step; None = no such point

    def to_json(self) -> dict[str, Any]:
        """What the page's script reads."""
        return {"x": self.steps, "lines": self.lines}


def chart_figures(
    run: RunData, charts: Sequence[Chart], first_number: int = 0
) -> tuple[str, list[Points]]:
    """Figures of those charts that the run has metrics for, and the points in them.

    Args:
      run: the run.
      charts: what to draw.
      first_number: the number of the first figure in the page; a figure refers to its points by it.
    """
    figures = []
    points = []
    for chart in charts:
        lines = chart_lines(run, chart)
        if lines:
            figures.append(_figure(chart, lines, first_number + len(points)))
            points.append(_points(lines))
    return "".join(figures), points


def chart_lines(run: RunData, chart: Chart) -> list[Line]:
    """The chart's lines for which the run has metrics."""
    lines = []
    for metric, name in chart.lines.items():
        keys = metric_keys(run, metric, chart.counts)
        if len(keys) > MOST_LINES and chart.counts != "samples":
            lines += _lines_of_many(run, name, [key for key, _ in keys], chart.hide_zero)
            continue
        for key, owner in keys:
            columns = (key, f"{key}/low", f"{key}/high") if chart.band else (key,)
            points = _complete_rows(run, columns)
            if not points:
                continue
            if chart.hide_zero and not any(point[1] for point in points):
                continue
            lines.append(_line(name.format(owner), points))
    return lines


def _lines_of_many(run: RunData, name: str, keys: Sequence[str], hide_zero: bool) -> list[Line]:
    """Lines of the mean, the lowest and the highest of many metrics."""
    points: dict[str, list[tuple[float, ...]]] = {"mean": [], "lowest": [], "highest": []}
    for line in run.metrics:
        values = [finite(line.get(key)) for key in keys]
        known = [value for value in values if value is not None]
        if known:
            points["mean"].append((line["step"], mean(known)))
            points["lowest"].append((line["step"], min(known)))
            points["highest"].append((line["step"], max(known)))
    if not points["mean"] or (hide_zero and not any(high for _, high in points["highest"])):
        return []
    return [
        _line(name.format(f"{which} of {len(keys)}"), of_which)
        for which, of_which in points.items()
    ]


def metric_keys(run: RunData, metric: str, counts: str) -> list[tuple[str, str]]:
    """``(key, owner's name)`` of every metric that the pattern matches.

    Args:
      run: the run.
      metric: a name, in which * stands for a number.
      counts: agent | turn | set | samples: what * counts.
    """
    if "*" not in metric:
        return [(metric, "")]
    if counts == "samples":
        start = metric.removesuffix("*")
        ends = {name.removeprefix(start) for name in _metric_names(run) if name.startswith(start)}
        numbers = sorted(int(end) for end in ends if end.isdigit())
        return [(f"{start}{number}", f"{number} samples") for number in numbers]
    if counts == "turn":
        names = turn_names(run.topology)
    elif counts == "set":
        names = run.set_names
    else:
        names = agent_names(run.topology)
    return [(metric.replace("*", str(number)), name) for number, name in enumerate(names)]


def _metric_names(run: RunData) -> set[str]:
    return set(chain.from_iterable(run.metrics))


def credit_figures(run: RunData) -> str:
    """Box plots on a common axis, one figure per agent: its credit over the run."""
    rows_of_agent = {}
    for agent in range(run.topology.num_agents):
        keys = [f"credit/percentile_{percent}/{agent}" for percent in PERCENTS]
        rows = _complete_rows(run, [*keys, f"credit/mean/{agent}"])
        if rows:
            bins = _bins(rows, _MAX_BOXES)
            rows_of_agent[agent] = [_column_means(rows_of_bin) for rows_of_bin in bins]
    if not rows_of_agent:
        return '<p class="quiet">This run has no percentiles of credit.</p>'

    note = ""
    if len(rows_of_agent) > MOST_LINES:
        ranked = sorted(rows_of_agent, key=lambda agent: rows_of_agent[agent][-1][-1])
        half = MOST_LINES // 2
        note = (
            f'<p class="quiet">Of {len(ranked)} agents, the {half} whose credit is lowest in the '
            f"end, and the {half} whose is highest.</p>"
        )
        shown = sorted(ranked[:half] + ranked[-half:])
        rows_of_agent = {agent: rows_of_agent[agent] for agent in shown}

    values = [value for rows in rows_of_agent.values() for row in rows for value in row[1:]]
    margin = 0.05 * (max(values) - min(values)) or 0.5
    y_range = (min(values) - margin, max(values) + margin)
    names = agent_names(run.topology)
    figures = []
    for agent, rows in rows_of_agent.items():
        boxes = [
            Box(step, (low, q1, median, q3, high), average)
            for step, low, q1, median, q3, high, average in rows
        ]
        label = f"Credit of {names[agent]} over training steps"
        plot = box_chart(boxes, label=label, colour=agent, y_range=y_range)
        caption = f"<figcaption><h3>Credit of {to_html(names[agent])}</h3></figcaption>"
        figures.append(f"<figure>{caption}{plot}</figure>")
    return note + "".join(figures)


def mean(values: Iterable[float]) -> float:
    """The mean of at least one value."""
    values = list(values)
    return sum(values) / len(values)


def _figure(chart: Chart, lines: Sequence[Line], number: int) -> str:
    ranges = [f"{line.name} {line.y[0]:.3g} to {line.y[-1]:.3g}" for line in lines]
    label = escape_control(f"{chart.title}: {', '.join(ranges)}")
    legend = [
        f'<li class="c{index % COLOURS}"><i></i>{to_html(line.name)} <b>{line.y[-1]:.3g}</b></li>'
        for index, line in enumerate(lines)
    ]
    return (
        f'<figure data-chart="{number}">'
        f"<figcaption><h3>{to_html(chart.title)}</h3><p>{to_html(chart.note)}</p></figcaption>"
        f"{line_chart(lines, label=label)}"
        f'<ul class="legend">{"".join(legend)}<li class="at"></li></ul>'
        "</figure>"
    )


def _points(lines: Sequence[Line]) -> Points:
    steps = sorted({step for line in lines for step in line.x})
    values = []
    for line in lines:
        value_at = dict(zip(line.x, line.y, strict=True))
        values.append([_rounded(value_at.get(step)) for step in steps])
    return Points(steps, values)


def _complete_rows(run: RunData, keys: Sequence[str]) -> list[tuple[float, ...]]:
    """``(step, value of every key)`` of the steps that have all of them."""
    rows = []
    for line in run.metrics:
        values = [finite(line.get(key)) for key in keys]
        known = [value for value in values if value is not None]
        if len(known) == len(keys):
            rows.append((line["step"], *known))
    return rows


def _line(name: str, points: Sequence[tuple[float, ...]]) -> Line:
    """A line of bounded length, with its band or, of many points, with its moving average."""
    bins = _bins(points, _MAX_POINTS)
    steps = [neighbours[-1][0] for neighbours in bins]
    values = [mean(point[1] for point in neighbours) for neighbours in bins]
    if len(points[0]) > 2:
        return Line(name, steps, values, band=[neighbours[-1][2:4] for neighbours in bins])

    reach = len(values) // 16
    if reach < 2:
        return Line(name, steps, values)
    smooth = [mean(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]
    return Line(name, steps, values, smooth=smooth)


def _bins(rows: Sequence[Any], most: int) -> list[Sequence[Any]]:
    """Neighbouring rows in at most `most` bins."""
    size = ceil_div(len(rows), most)
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def _column_means(rows: Sequence[Sequence[float]]) -> list[float]:
    return [mean(column) for column in zip(*rows, strict=True)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


# --- which charts ------------------------------------------------------------------------------


LEARNING = (
    Chart("Reward", "The team's mean in a step.", {"reward": "team"}),
    Chart(
        "Loss",
        "Of demonstrations, in nats per token.",
        {"loss": "trained on", "eval/loss": "held out"},
    ),
    Chart(
        "Held-out accuracy",
        "The team, with 95 % intervals.",
        {
            "eval/team_accuracy": "sampled",
            "eval/maj_accuracy": "majority",
            "eval/greedy/team_accuracy": "greedy",
            "eval/solved": "full scores",
        },
        band=True,
    ),
    Chart(
        "One of k samples",
        "Held-out: at least one is right (pass@k).",
        {"eval/pass_at_*": "{}"},
        counts="samples",
    ),
    Chart("Alone", "Held-out, without the others.", {"eval/agent_accuracy/*": "{}"}),
    Chart("Own answers", "Mean score of final messages; 1 is right.", {"correct/*": "{}"}),
    Chart(
        "Full scores",
        "Samples, and own answers, with a score of 1.",
        {"solved": "team", "solved/*": "{}"},
    ),
    Chart("Length", "Mean tokens of a response.", {"response_length/*": "{}"}, counts="turn"),
    Chart("Cut off", "Responses that met their limit.", {"truncated/*": "{}"}, counts="turn"),
    Chart("Gradient norm", "Before clipping.", {"update/grad_norm/*": "{}"}, counts="set"),
    Chart("Entropy", "Per token, in nats.", {"update/entropy/*": "{}"}, counts="set"),
    Chart("Distance", "KL to the reference, nats per token.", {"kl/*": "{}"}, counts="set"),
    Chart(
        "Learning rate", "Of a step's last update.", {"update/learning_rate/*": "{}"}, counts="set"
    ),
)

DIAGNOSTICS = (
    Chart("Helps", "The team earns more with it.", {"credit/help_rate/*": "{}"}),
    Chart("Hurts", "The team earns less with it.", {"credit/hurt_rate/*": "{}"}),
    Chart(
        "Rides free",
        "Right also without it.",
        {"credit/free_rider_rate/*": "{}"},
    ),
    Chart("Pivotal", "Votes that its vote changes.", {"credit/pivotal_rate/*": "{}"}),
    Chart("Silent groups", "Problems that teach it nothing.", {"credit/silent_groups/*": "{}"}),
    Chart("Gives away", "States the right answer itself.", {"credit/leak_rate/*": "{}"}),
    Chart("Draws", "Batches of prompts in a step.", {"draws": "drawn"}),
    Chart(
        "Length penalty",
        "Added to its credit.",
        {"overlong_penalty/*": "{}"},
        hide_zero=True,
    ),
    Chart(
        "Unfinished thoughts",
        "Responses that end within one.",
        {"unfinished_thought/*": "{}"},
        counts="turn",
        hide_zero=True,
    ),
    Chart("Gate", "Weight of the joint reward.", {"moments/gate": "gate"}, hide_zero=True),
    Chart("Ratings read", "Ratings that hold a split.", {"rating/parsed/*": "{}"}),
    Chart(
        "Log-prob gap",
        "Largest between sampler and trainer.",
        {"update/logprob_gap_max/*": "{}"},
        counts="set",
    ),
)

# The carried statistics of credit estimators, by metric. Runs of earlier versions numbered those of
# `pooled` and `nested` like agents; `history_chart` names them by the estimator.
_HISTORY = {
    "moments/delta/mean": "contribution",
    "moments/joint/mean": "team",
    "moments/solo/mean": "solo",
    "pooled/between": "variance between thoughts",
    "pooled/within": "variance within thoughts",
    "nested/gain": "gain over the Solver alone",
    "shapley/variance": "variance by sampled orders",
}
_NUMBERED_HISTORY = {
    "pooled": {
        "moments/0/mean": "variance between thoughts",
        "moments/1/mean": "variance within thoughts",
    },
    "nested": {"moments/0/mean": "gain over the Solver alone"},
}


def part_charts(run: RunData) -> tuple[Chart, ...]:
    """The chart of the parts of the team's scores, where the run has such; more than 8 are left
    out.
    """
    names: dict[str, str] = {}
    for line in run.metrics:
        for metric in line:
            if match := re.fullmatch(r"score/([^/]+)", metric):
                # Braces in it would be fields of a line's name.
                names[metric] = match[1].replace("{", "{{").replace("}", "}}")
    if not names:
        return ()
    shown = dict(sorted(names.items())[:COLOURS])
    return (Chart("Parts of the score", "Means over the team's answers.", shown),)


def history_chart(estimator: str) -> Chart:
    """The chart of what a credit estimator carries from step to step."""
    per_agent = {"moments/*/mean": "{}"}
    lines = _HISTORY | _NUMBERED_HISTORY.get(estimator, per_agent)
    return Chart("History", "Running means that shape credit.", lines, hide_zero=True)
