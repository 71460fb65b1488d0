"""One page about a run: how it learned, who was paid, what its agents said. Opens anywhere, needs nothing else.

    ccpo-jax report WORKDIR [--out=FILE]

The page (WORKDIR/report.html unless told otherwise) holds all it shows and loads nothing: its policy forbids it to.
What models and datasets wrote is shown and never obeyed: control characters and direction marks as their escapes,
everything else as text. Works while a run is under way, and on a run without rollouts.jsonl.
"""

import argparse
import base64
import hashlib
import inspect
import json
import math
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from ccpo_jax import CREDITS, TOPOLOGIES
from ccpo_jax.arguments import Parser
from ccpo_jax.errors import InputError, as_input_error, escape_control
from ccpo_jax.integers import ceil_div
from ccpo_jax.report.plots import COLOURS, Box, Line, box_chart, line_chart
from ccpo_jax.rl.diagnostics import PERCENTS
from ccpo_jax.rl.topology import Topology
from ccpo_jax.workdir.accuracy_table import accuracy_rows
from ccpo_jax.workdir.atomic_write import write_atomically
from ccpo_jax.workdir.rollout_log import shorten

TEMPLATE = pathlib.Path(__file__).with_name("report.html")
_MOST_POINTS = 240  # of a line; more are averaged
_MOST_BOXES = 20
_MOST_CHARS = 20_000  # of a text, however long the run kept it
_MOST_BYTES = 12_000_000  # of all rollouts in the page
_LARGEST = 1e12  # a number beyond it says that something is wrong, and would flatten its chart


class Run(NamedTuple):
    """What a workdir holds."""

    name: str
    config: dict[str, Any]  # flat: credit.name, ...
    topology: Topology
    metrics: list[dict]
    result: dict  # before and after; {} while the run is under way
    rollouts: list[dict]  # see `view`
    damaged: int  # lines of rollouts.jsonl that could not be read


class Chart(NamedTuple):
    """A chart of metrics over training steps."""

    title: str
    note: str
    lines: Mapping[
        str, str
    ]  # metric -> name of its line; in a metric * is a number, in the name {} whose it is
    whose: str = "agent"  # agent | turn | set: what * counts
    band: bool = False  # the metrics come with /low and /high


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; a mistake in it is one line on stderr and exit status 2."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=pathlib.Path, help="folder of a run")
    parser.add_argument(
        "--out", type=pathlib.Path, help="file of the page; WORKDIR/report.html if left out"
    )
    options = parser.parse_args(arguments)
    out = options.out or options.workdir / "report.html"
    try:
        page = write_page(read_run(options.workdir))
        try:
            write_atomically(out, page)
        except OSError as error:
            raise InputError(
                "out", f"cannot write {out} ({error.strerror}); type another --out=FILE"
            ) from error
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(out)
    return 0


# --- what a run left --------------------------------------------------------------------------------------------------


def read_run(workdir: pathlib.Path) -> Run:
    """Everything the page tells of, from the files of a run.

    Raises:
      InputError: there is no run, it has no metrics yet, or its configuration or result is damaged.
    """
    with as_input_error():
        if not (workdir / "config.json").is_file() or not (workdir / "metrics.jsonl").is_file():
            raise ValueError(
                f"workdir: there is no run in {workdir}; type the folder of a training run"
            )
        metrics, _ = read_lines(workdir / "metrics.jsonl")
        if not metrics:
            raise ValueError(
                f"workdir: the run in {workdir} has no metrics yet; try again after its first step"
            )
        path = workdir / "config.json"
        try:
            config = dict(_flat(json.loads(path.read_text(encoding="utf-8"))))
            constructor = TOPOLOGIES[config["topology"]]
            topology = constructor(
                **{k: config[k] for k in inspect.signature(constructor).parameters if k in config}
            )
            path = workdir / "result.json"
            result = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            if result and result["after"]["step"] < metrics[-1]["step"]:
                result = {}  # the run has gone on since
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"workdir: {path} is damaged ({error!r:.80}); restore it") from error
    rollouts, damaged, told = [], 0, {line["step"]: line for line in metrics}
    if (workdir / "rollouts.jsonl").is_file():
        lines, damaged = read_lines(workdir / "rollouts.jsonl")
        for line in lines:
            try:
                then = told.get(line["step"], {})
                rollouts.append(view(topology, line, then, config.get("advantage.baseline")))
            except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
                damaged += 1
    return Run(workdir.resolve().name, config, topology, metrics, result, rollouts, damaged)


def read_lines(path: pathlib.Path) -> tuple[list[dict], int]:
    """``(objects, damaged)``: the lines of a file that are objects about a step, and how many lines are not."""
    found, damaged = [], 0
    for raw in path.open("rb"):
        try:
            line = json.loads(raw)
            if type(line["step"]) is not int or not 0 <= line["step"] < 2**31:
                raise ValueError(line["step"])
            found.append(line)
        except (ValueError, LookupError, TypeError, RecursionError):
            damaged += 1
    return sorted(found, key=lambda line: line["step"]), damaged


def _flat(tree: Mapping, prefix: str = "") -> list[tuple[str, Any]]:
    return [
        pair
        for name, value in tree.items()
        for pair in (
            _flat(value, f"{prefix}{name}.")
            if isinstance(value, dict)
            else [(prefix + name, value)]
        )
    ]


def names_of(roles: Sequence[str], agents: Sequence[int]) -> list[str]:
    """A name for each agent or turn: its role, with the agent's number where several share the role."""
    pairs = zip(roles, agents, strict=True)
    return [f"{role} {agent}" if roles.count(role) > 1 else role for role, agent in pairs]


def agent_names(topology: Topology) -> list[str]:
    """A name for each agent."""
    return names_of(topology.agent_roles, range(topology.num_agents))


# --- rollouts ---------------------------------------------------------------------------------------------------------


def view(topology: Topology, line: dict, metrics: dict, baseline: str | None = None) -> dict:
    """One problem of rollouts.jsonl as the page shows it: every text inert, every number finite, and why who was paid.

    Args:
      topology: the team.
      line: see `ccpo_jax.journal.entry`.
      metrics: of the same step.
      baseline: see `paid`.

    Returns:
      The line with `history`, the name of who is missing in each of its `worlds`, for every turn whether it `decides`
      the team's answer in one of them, and for every sample what its `agents` were `paid`.

    Raises:
      LookupError, TypeError, ValueError, AttributeError, RecursionError: it is damaged.
    """
    line, names = _clean(line), agent_names(topology)
    texts = [len(turn["texts"]) for turn in line["turns"]]
    decide = set(topology.final_turns)
    if topology.decision == "last":
        finals = list(enumerate(topology.final_turns))
        decide = {
            max(turn for agent, turn in finals if agent not in masked) for masked in line["masked"]
        }
    whose = zip(names_of(topology.roles, topology.speakers), topology.speakers, strict=True)
    for t, (turn, (who, agent)) in enumerate(zip(line["turns"], whose, strict=True)):
        turn |= {"who": who, "agent": agent, "decides": t in decide}
        if not all(type(text["text"]) is type(text["verdict"]) is str for text in turn["texts"]):
            raise TypeError("text")
    for sample in line["samples"]:
        tellings = [telling for world in sample["said"] for telling in world]
        here = [
            [p is None or type(p) is int and 0 <= p < n for p, n in zip(t, texts, strict=True)]
            for t in tellings
        ]
        if not all(map(all, here)) or not len(sample["said"]) == len(sample["reward"]) == len(
            line["masked"]
        ):
            raise ValueError("said")
        sample["agents"] = [
            paid(line, sample, agent, baseline) for agent in range(topology.num_agents)
        ]
    worlds = [" and ".join(names[agent] for agent in masked) for masked in line["masked"]]
    return line | {"worlds": worlds, "history": history(metrics)}


def _clean(value: Any) -> Any:
    """JSON with bounded inert texts, and None for numbers that cannot be drawn."""
    if isinstance(value, str):
        return inert(value)
    if isinstance(value, list):
        return [_clean(part) for part in value]
    return (
        {inert(k): _clean(v) for k, v in value.items()}
        if isinstance(value, dict)
        else _finite(value)
    )


def paid(line: dict, sample: dict, agent: int, baseline: str | None = None) -> dict:
    """What an agent contributed to a sample, its credit and its advantage, and in a few sentences why.

    Args:
      line: the problem.
      sample: one of its samples.
      agent: whose.
      baseline: the run's advantage.baseline; None = its default.

    Returns:
      ``contribution`` (None where no world without it was decoded), ``credit``, ``advantage``, ``why``.
    """
    credit, advantage, mean = (
        x[agent] for x in (sample["credit"], sample["advantage"], line["mean_credit"])
    )
    contribution, why = None, "No world without it was decoded; its credit asks for none."
    if credit is None:
        why = "It does not train in this step, and no world without it was decoded."
    if [agent] in line["masked"]:
        team, without = sample["reward"][0], sample["reward"][line["masked"].index([agent])]
        contribution = round(team - without, 6)
        if contribution:
            effect = "it helps" if contribution > 0 else "it hurts"
            why = f"Without it the team earns {without:.2f} instead of {team:.2f}: {effect}."
        else:
            free = ", so here it rides free" if team > 0.5 else ""
            why = f"The team earns {team:.2f} with and without it{free}."
    if None not in (credit, advantage, mean):
        if not advantage:
            compared = (
                f"the mean of its {line['group']} samples"
                if baseline != "surprisal"
                else "what others earned"
            )
            why += f" Its credit is {compared}: nothing is learned from it."
        elif baseline == "surprisal":
            side = "above" if advantage > 0 else "below"
            why += (
                f" Its credit is {abs(advantage):.2f} {side} that of the other prompts' samples, each weighed with how "
                f"surprising it was, {credit - advantage:.2f}."
            )
        elif abs(advantage - credit) < 1e-5 and abs(mean) > 1e-5:
            why += " Its credit is the advantage: it is compared with no mean."
        else:
            side = "above" if credit > mean else "below"
            why += f" Its credit is {abs(credit - mean):.2f} {side} the mean of its {line['group']} samples, {mean:.2f}."
    return {"contribution": contribution, "credit": credit, "advantage": advantage, "why": why}


def history(metrics: dict) -> str:
    """The running moments that shaped a step's credit, in words; "" where there are none."""
    parts = []
    for name, words in (
        ("delta", "contribution"),
        ("joint", "team's reward"),
        ("solo", "reward without the Thinker"),
    ):
        mean, var = (_finite(metrics.get(f"moments/{name}/{moment}")) for moment in ("mean", "var"))
        if mean is not None and var is not None and (mean or var):
            parts.append(f"{words} {mean:.2f} ± {math.sqrt(max(var, 0)):.2f}")
    gate = _finite(metrics.get("moments/gate"))
    if parts and gate is not None:
        parts.append(f"gate {gate:.2f}")
    return f"History before this step: {', '.join(parts)}." if parts else ""


def fitting(entries: Sequence[dict], most: int) -> list[dict]:
    """Entries of as many steps, spread evenly and always with the last, as fit into `most` bytes of the page."""
    sizes: dict[int, int] = {}
    for entry in entries:
        sizes[entry["step"]] = sizes.get(entry["step"], 0) + len(embedded(entry))
    newest = sorted(sizes, reverse=True)
    for stride in range(1, len(newest) + 1):
        chosen = set(newest[::stride])
        if sum(sizes[step] for step in chosen) <= most:
            return [entry for entry in entries if entry["step"] in chosen]
    return []


# --- text that is safe to show ----------------------------------------------------------------------------------------


def inert(text: str) -> str:
    """Bounded text without anything that a page or an eye would obey: control and direction characters as escapes."""
    return escape_control(shorten(text, _MOST_CHARS))


def html(text: Any) -> str:
    """A value as text within HTML."""
    return escape(inert(str(text)))


def embedded(value: Any) -> str:
    """JSON that can stand in a page: pure ASCII, without a letter that HTML knows."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> float | None:
    """A number that can be drawn; None for everything else."""
    fine = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
    return value if fine else None


# --- charts -----------------------------------------------------------------------------------------------------------


def charts(run: Run, chosen: Sequence[Chart], data: list) -> str:
    """Figures of those charts that the run has metrics for; what their points are is appended to `data`."""
    return "".join(_figure(run, chart, data) for chart in chosen)


def _figure(run: Run, chart: Chart, data: list) -> str:
    lines = []
    for metric, name in chart.lines.items():
        for key, whose in _keys(run, metric, chart.whose):
            edges = (f"{key}/low", f"{key}/high") if chart.band else ()
            points = [
                (line["step"], *(_finite(line.get(k)) for k in (key, *edges)))
                for line in run.metrics
            ]
            points = [point for point in points if None not in point]
            if (
                any(point[1] for point in points) or points and "moments/" not in metric
            ):  # 0: it shapes nothing here
                lines.append(_line(name.format(whose), points))
    if not lines:
        return ""
    steps = sorted({x for line in lines for x in line.x})
    known = [dict(zip(line.x, line.y, strict=True)) for line in lines]
    data.append(
        {"x": steps, "lines": [[_rounded(values.get(step)) for step in steps] for values in known]}
    )
    legend = "".join(
        f'<li class="c{i % COLOURS}"><i></i>{html(line.name)} <b>{line.y[-1]:.3g}</b></li>'
        for i, line in enumerate(lines)
    )
    label = f"{chart.title}: " + ", ".join(
        f"{line.name} {line.y[0]:.3g} to {line.y[-1]:.3g}" for line in lines
    )
    return (
        f'<figure data-chart="{len(data) - 1}"><figcaption><h3>{html(chart.title)}</h3><p>{html(chart.note)}</p>'
        f'</figcaption>{line_chart(lines, label=escape_control(label))}<ul class="legend">{legend}<li class="at"></li></ul>'
        "</figure>"
    )


def _keys(run: Run, metric: str, whose: str) -> list[tuple[str, str]]:
    """``(metric, whose)`` of every metric of the run that the pattern means."""
    if "*" not in metric:
        return [(metric, "")]
    names = agent_names(run.topology)
    if whose == "turn":
        names = names_of(run.topology.roles, run.topology.speakers)
    elif whose == "set" and run.config.get("shared_policy"):
        names = ["all agents"]
    return [(metric.replace("*", str(number)), name) for number, name in enumerate(names)]


def _line(name: str, points: Sequence[tuple]) -> Line:
    """A line of bounded length; one of many noisy points also has its moving average."""
    bins = _bins(points, _MOST_POINTS)
    x, y = [part[-1][0] for part in bins], [_mean(point[1] for point in part) for part in bins]
    if len(points[0]) > 2:
        return Line(name, x, y, band=[part[-1][2:] for part in bins])
    reach = len(y) // 16
    smooth = (
        [_mean(y[max(0, i - reach) : i + reach + 1]) for i in range(len(y))] if reach > 1 else ()
    )
    return Line(name, x, y, smooth=smooth)


def _bins(points: Sequence, most: int) -> list[Sequence]:
    size = ceil_div(len(points), most)
    return [points[i : i + size] for i in range(0, len(points), size)]


def _mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def credit_boxes(run: Run) -> str:
    """Figures of box plots, one per agent on a common axis: how its credit spread over the run."""
    drawn, values = {}, []
    for agent, name in enumerate(agent_names(run.topology)):
        keys = [f"credit/percentile_{percent}/{agent}" for percent in PERCENTS] + [
            f"credit/mean/{agent}"
        ]
        rows = [(line["step"], *(_finite(line.get(key)) for key in keys)) for line in run.metrics]
        rows = [row for row in rows if None not in row]
        if rows:
            means = [
                [_mean(column) for column in zip(*part, strict=True)]
                for part in _bins(rows, _MOST_BOXES)
            ]
            drawn[agent, name] = [Box(row[0], tuple(row[1:6]), row[6]) for row in means]
            values += [value for row in means for value in row[1:]]
    if not drawn:
        return '<p class="quiet">This run wrote no percentiles of credit.</p>'
    room = 0.05 * (max(values) - min(values)) or 0.5
    y_range = (min(values) - room, max(values) + room)
    return "".join(
        f"<figure><figcaption><h3>Credit of {html(name)}</h3></figcaption>"
        + box_chart(
            boxes, label=f"Credit of {name} over training steps", colour=agent, y_range=y_range
        )
        + "</figure>"
        for (agent, name), boxes in drawn.items()
    )


# --- the page ---------------------------------------------------------------------------------------------------------


def write_page(run: Run) -> str:
    """The page about a run. The same run gives the same page."""
    data: list = []
    shown = fitting(run.rollouts, _MOST_BYTES)
    parts = {name: charts(run, chosen, data) for name, chosen in CHARTS.items()} | {
        "title": html(run.name),
        "facts": facts(run),
        "tiles": tiles(run),
        "credit": credit_boxes(run),
        "estimator": estimator(run),
        "accuracy": accuracy(run),
        "missing": html(missing(run, shown)),
        "settings": "".join(
            f"<tr><th>{html(name)}</th><td>{html(json.dumps(value))}</td></tr>"
            for name, value in run.config.items()
        ),
        "charts-json": embedded(data),
        "rollouts-json": embedded({"agents": agent_names(run.topology), "entries": shown}),
    }
    template = TEMPLATE.read_text(encoding="utf-8")
    for tag in ("style", "script"):  # the policy: nothing else may run or load
        (own,) = re.findall(rf"<{tag}>(.*?)</{tag}>", template, re.DOTALL)
        parts[f"{tag}-hash"] = (
            f"'sha256-{base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()}'"
        )
    return re.sub(r"<!--\{([\w-]+)\}-->", lambda found: parts[found[1]], template)


def facts(run: Run) -> str:
    """The line under the title."""
    fields = {
        "team": "topology",
        "credit": "credit.name",
        "loss": "loss.name",
        "model": "model",
        "data": "data.train",
    }
    parts = {name: run.config.get(field) for name, field in (fields | {"seed": "seed"}).items()}
    parts["steps"] = f"{run.metrics[-1]['step']} of {run.config.get('steps')}"
    return " ".join(f"<li>{name} <b>{html(value)}</b></li>" for name, value in parts.items())


def tiles(run: Run) -> str:
    """The few numbers one looks for first."""
    found = []
    scores = [line for line in run.metrics if _finite(line.get("eval/team_accuracy")) is not None]
    if scores:
        first, last = (100 * line["eval/team_accuracy"] for line in (scores[0], scores[-1]))
        found.append((f"{last:.1f} %", "held-out accuracy", f"{first:.1f} % before training"))
    steps = [line for line in run.metrics if line["step"] > 0]
    tail = steps[-max(1, len(steps) // 10) :]
    recent = f"mean of the last {len(tail)} steps" if len(tail) > 1 else "in the last step"
    for metric, words in (
        ("reward", "team's reward"),
        ("credit/free_rider_rate/*", "free-rider rate"),
    ):
        for key, whose in _keys(run, metric, "agent"):
            values = [value for line in tail if (value := _finite(line.get(key))) is not None]
            if values:
                found.append(
                    (f"{_mean(values):.2f}", words, f"{whose}, {recent}" if whose else recent)
                )
    tokens = sum(_finite(line.get("decoded_tokens")) or 0 for line in steps)
    found.append((f"{tokens:,.0f}", "tokens decoded", "in training, all worlds"))
    return "".join(
        f"<li><b>{html(a)}</b> {html(b)} <small>{html(c)}</small></li>" for a, b, c in found
    )


def estimator(run: Run) -> str:
    """How the run's credit estimator pays, in the words of its own documentation."""
    name = str(run.config.get("credit.name"))
    if name not in CREDITS:
        return ""
    words = re.split(r"\n(?=Reference:|Deviation:|Args:)", inspect.getdoc(CREDITS[name]))[0].strip()
    return f"<details><summary>How <code>{html(name)}</code> pays</summary><pre>{html(words)}</pre></details>"


def accuracy(run: Run) -> str:
    """Tables of accuracies with their intervals, before and after, of the held-out problems and every test set."""
    before, after = run.result.get("before", run.metrics[0]), run.result.get("after", {})
    if not after:
        after = next(
            (line for line in reversed(run.metrics[1:]) if "eval/team_accuracy" in line), {}
        )
    scored = (
        re.fullmatch(r"(eval|test/.+?)(?<!/greedy)/team_accuracy", key) for key in [*before, *after]
    )
    tables = []
    for prefix in dict.fromkeys(found[1] for found in scored if found):
        first, last = (
            accuracy_rows(before, prefix, run.topology),
            accuracy_rows(after, prefix, run.topology),
        )
        cells = "".join(
            f"<tr><th>{html(row)}</th>{_cells(first.get(row))}{_cells(last.get(row))}</tr>"
            for row in first | last
        )
        name = "held-out problems" if prefix == "eval" else prefix.removeprefix("test/")
        tables.append(
            f'<div class="scroll"><table class="numbers"><caption>{html(name)}, accuracy in %</caption>'
            '<tr><th></th><th>before</th><th class="quiet">95 % interval</th><th>after</th>'
            f'<th class="quiet">95 % interval</th></tr>{cells}</table></div>'
        )
    return "".join(tables) or '<p class="quiet">This run has not been evaluated.</p>'


def _cells(row: tuple | None) -> str:
    if row is None:
        return "<td></td><td></td>"
    mean, low, high = (100 * value for value in row)
    return f'<td>{mean:.1f}</td><td class="quiet">{low:.1f} – {high:.1f}</td>'


def missing(run: Run, shown: Sequence[dict]) -> str:
    """What the browser of rollouts does not show."""
    kept, here = ({entry["step"] for entry in entries} for entries in (run.rollouts, shown))
    parts = []
    if not kept:
        parts.append(
            "This run kept no rollouts: --config.journal.problems=3 keeps some, from its next steps on."
        )
    if len(here) < len(kept):
        parts.append(
            f"{len(here)} of {len(kept)} kept steps fit into this page; rollouts.jsonl holds all."
        )
    if run.damaged:
        parts.append(f"{run.damaged} damaged lines of rollouts.jsonl are left out.")
    return " ".join(parts)


CHARTS = {
    "learning": (
        Chart("Reward", "The team's mean in a step.", {"reward": "team"}),
        Chart(
            "Held-out accuracy",
            "The team, with 95 % intervals.",
            {"eval/team_accuracy": "sampled", "eval/maj_accuracy": "majority", "eval/greedy/team_accuracy": "greedy"},
            band=True,
        ),
        Chart("Alone", "Held-out, without the others.", {"eval/agent_accuracy/*": "{}"}),
        Chart("Own answers", "Last words that are right.", {"correct/*": "{}"}),
        Chart("Length", "Mean tokens of a response.", {"response_length/*": "{}"}, whose="turn"),
        Chart("Cut off", "Responses that met their limit.", {"truncated/*": "{}"}, whose="turn"),
        Chart("Gradient norm", "Before clipping.", {"update/grad_norm/*": "{}"}, whose="set"),
        Chart("Entropy", "Of a token, in nats.", {"update/entropy/*": "{}"}, whose="set"),
    ),
    "diagnostics": (
        Chart("Helps", "The team earns more with it.", {"credit/help_rate/*": "{}"}),
        Chart("Hurts", "The team earns less with it.", {"credit/hurt_rate/*": "{}"}),
        Chart("Rides free", "Of what is right: also without it.", {"credit/free_rider_rate/*": "{}"}),
        Chart("Pivotal", "Votes that its voice changes.", {"credit/pivotal_rate/*": "{}"}),
        Chart("Silent groups", "Problems that teach it nothing.", {"credit/silent_groups/*": "{}"}),
        Chart("Gives away", "States the right answer itself.", {"credit/leak_rate/*": "{}"}),
        Chart(
            "History",
            "Running means that shape credit.",
            {f"moments/{key}/mean": name for key, name in
             {"delta": "contribution", "joint": "team", "solo": "solo", "*": "{}"}.items()},
        ),
        Chart("Gate", "Weight of the joint reward.", {"moments/gate": "gate"}),
        Chart("Ratings read", "Ratings that hold a split.", {"rating/parsed/*": "{}"}),
        Chart("Log-prob gap", "Most between sampler and trainer.", {"update/logprob_gap_max/*": "{}"}, whose="set"),
    ),
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
