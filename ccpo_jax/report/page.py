"""The report page: the template report.html, filled with what a run left."""

import base64
import hashlib
import inspect
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from ccpo_jax.report.charts import (
    DIAGNOSTICS,
    LEARNING,
    MOST_LINES,
    chart_figures,
    credit_figures,
    history_chart,
    mean,
    metric_keys,
    part_charts,
)
from ccpo_jax.report.legend import meaning
from ccpo_jax.report.load import RunData
from ccpo_jax.report.names import agent_names
from ccpo_jax.report.safe_text import finite, to_embedded_json, to_html
from ccpo_jax.rl.credit import CREDITS
from ccpo_jax.workdir import accuracy_rows
from ccpo_jax.workdir.accuracy_table import Interval

TEMPLATE = pathlib.Path(__file__).with_name("report.html")

# Bytes of all rollouts in the page.
_MAX_BYTES = 12_000_000


def render_page(run: RunData, *, max_bytes: int = _MAX_BYTES) -> str:
    """The page about a run, as HTML. The same run gives the same page.

    Args:
      run: what the run left.
      max_bytes: of all rollouts in the page; those of some steps are left out beyond it.
    """
    rollouts = fitting_rollouts(run.rollouts, max_bytes)
    learning, learning_points = chart_figures(run, (*LEARNING, *part_charts(run)))
    history = history_chart(str(run.config.get("credit.name")))
    diagnostics, diagnostic_points = chart_figures(
        run, (*DIAGNOSTICS, history), first_number=len(learning_points)
    )
    points = [chart.to_json() for chart in learning_points + diagnostic_points]
    parts = {
        "title": to_html(run.name),
        "facts": _facts(run),
        "tiles": _tiles(run),
        "learning": learning,
        "accuracy": _accuracy_tables(run),
        "credit": credit_figures(run),
        "estimator": _estimator(run),
        "diagnostics": diagnostics,
        "metrics": _metric_rows(run),
        "missing": to_html(missing_rollouts(run, rollouts)),
        "settings": _settings(run),
        "charts-json": to_embedded_json(points),
        "rollouts-json": to_embedded_json(
            {"agents": agent_names(run.topology), "entries": rollouts}
        ),
    }

    template = TEMPLATE.read_text(encoding="utf-8")
    for tag in ("style", "script"):
        parts[f"{tag}-hash"] = _policy_hash(template, tag)
    return re.sub(r"<!--\{([\w-]+)\}-->", lambda match: parts[match[1]], template)


def _policy_hash(template: str, tag: str) -> str:
    """The hash of the template's own style or script: by the page's policy nothing else may run."""
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", template, re.DOTALL)
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def fitting_rollouts(rollouts: Sequence[dict[str, Any]], max_bytes: int) -> list[dict[str, Any]]:
    """The rollouts of as many steps, spread evenly and with the last, as fit into `max_bytes`."""
    size_of_step: dict[int, int] = {}
    for rollout in rollouts:
        size = len(to_embedded_json(rollout))
        size_of_step[rollout["step"]] = size_of_step.get(rollout["step"], 0) + size

    newest_first = sorted(size_of_step, reverse=True)
    for stride in range(1, len(newest_first) + 1):
        steps = set(newest_first[::stride])
        if sum(size_of_step[step] for step in steps) <= max_bytes:
            return [rollout for rollout in rollouts if rollout["step"] in steps]
    return []


def missing_rollouts(run: RunData, shown: Sequence[dict[str, Any]]) -> str:
    """What the browser of rollouts does not show, in words."""
    logged_steps = {rollout["step"] for rollout in run.rollouts}
    shown_steps = {rollout["step"] for rollout in shown}
    parts = []
    if not logged_steps:
        parts.append(
            "This run logged no rollouts: --config.rollout_log.problems=3 logs some, from its next "
            "steps on."
        )
    if len(shown_steps) < len(logged_steps):
        parts.append(
            f"{len(shown_steps)} of {len(logged_steps)} logged steps fit into this page; "
            "rollouts.jsonl holds all."
        )
    if run.damaged:
        parts.append(f"{run.damaged} damaged lines of rollouts.jsonl are left out.")
    return " ".join(parts)


# --- the head of the page ----------------------------------------------------------------------


def _facts(run: RunData) -> str:
    """The line under the title."""
    fields = {
        "team": "topology",
        "credit": "credit.name",
        "loss": "loss.name",
        "model": "model",
        "data": "data.train",
        "seed": "seed",
    }
    facts = {name: _as_text(run.config.get(field)) for name, field in fields.items()}
    facts["steps"] = f"{run.metrics[-1]['step']} of {run.config.get('steps')}"
    return " ".join(f"<li>{name} <b>{to_html(value)}</b></li>" for name, value in facts.items())


def _as_text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _tiles(run: RunData) -> str:
    """The numbers that a reader looks for first."""
    tiles = [*_accuracy_tile(run), *_recent_tiles(run)]
    steps = [line for line in run.metrics if line["step"] > 0]
    tokens = sum(finite(line.get("decoded_tokens")) or 0 for line in steps)
    tiles.append((f"{tokens:,.0f}", "tokens decoded", "in training, all worlds"))
    return "".join(
        f"<li><b>{to_html(value)}</b> {to_html(name)} <small>{to_html(note)}</small></li>"
        for value, name, note in tiles
    )


def _accuracy_tile(run: RunData) -> list[tuple[str, str, str]]:
    accuracies = [finite(line.get("eval/team_accuracy")) for line in run.metrics]
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    if not known:
        return []
    before = ""
    if run.metrics[0]["step"] == 0:
        before = f"{100 * known[0]:.1f} % before training"
    fractional = any("eval/solved" in line for line in run.metrics)
    name = "held-out mean score" if fractional else "held-out accuracy"
    return [(f"{100 * known[-1]:.1f} %", name, before)]


def _recent_tiles(run: RunData) -> list[tuple[str, str, str]]:
    """Means over the last tenth of the steps."""
    steps = [line for line in run.metrics if line["step"] > 0]
    recent = steps[-max(1, len(steps) // 10) :]
    period = f"mean of the last {len(recent)} steps" if len(recent) > 1 else "in the last step"
    names = {"reward": "team's reward", "credit/free_rider_rate/*": "free-rider rate"}
    tiles = []
    for metric, name in names.items():
        keys = metric_keys(run, metric, "agent")
        if len(keys) > MOST_LINES:
            tiles += _tile_of_many(recent, [key for key, _ in keys], name, period)
            continue
        for key, owner in keys:
            values = [finite(line.get(key)) for line in recent]
            known = [value for value in values if value is not None]
            if known:
                note = f"{owner}, {period}" if owner else period
                tiles.append((f"{mean(known):.2f}", name, note))
    return tiles


def _tile_of_many(
    lines: Sequence[dict[str, Any]], keys: Sequence[str], name: str, period: str
) -> list[tuple[str, str, str]]:
    """One tile for many agents: the mean, and the range of their means."""
    means = []
    for key in keys:
        values = [finite(line.get(key)) for line in lines]
        known = [value for value in values if value is not None]
        if known:
            means.append(mean(known))
    if not means:
        return []
    note = f"mean of {len(means)} agents, {min(means):.2f} to {max(means):.2f}, {period}"
    return [(f"{mean(means):.2f}", name, note)]


# --- tables ------------------------------------------------------------------------------------


def _accuracy_tables(run: RunData) -> str:
    """Accuracies with their intervals before and after training, a table per evaluated set."""
    before, after = _evaluations(run)
    prefixes = {}
    for key in [*before, *after]:
        match = re.fullmatch(r"(eval|test/.+?)(?<!/greedy)/team_accuracy", key)
        if match:
            prefixes[match[1]] = None
    tables = [_accuracy_table(run, prefix, before, after) for prefix in prefixes]
    return "".join(tables) or '<p class="quiet">This run has not been evaluated.</p>'


def _evaluations(run: RunData) -> tuple[dict[str, Any], dict[str, Any]]:
    """``(before, after)``: the first and the latest evaluation."""
    if run.result:
        return run.result["before"], run.result["after"]
    before = run.metrics[0] if run.metrics[0]["step"] == 0 else {}
    later = [line for line in run.metrics if line["step"] > 0 and "eval/team_accuracy" in line]
    return before, later[-1] if later else {}


def _accuracy_table(run: RunData, prefix: str, before: dict, after: dict) -> str:
    first = accuracy_rows(before, prefix, run.topology)
    last = accuracy_rows(after, prefix, run.topology)
    rows = "".join(
        f"<tr><th>{to_html(name)}</th>{_cells(first.get(name))}{_cells(last.get(name))}</tr>"
        for name in first | last
    )
    name = "held-out problems" if prefix == "eval" else prefix.removeprefix("test/")
    quantity = "mean score" if f"{prefix}/solved" in before | after else "accuracy"
    interval = '<th class="quiet">95 % interval</th>'
    return (
        f'<div class="scroll"><table class="numbers">'
        f"<caption>{to_html(name)}, {quantity} in %</caption>"
        f"<tr><th></th><th>before</th>{interval}<th>after</th>{interval}</tr>"
        f"{rows}</table></div>"
    )


def _cells(row: Interval | None) -> str:
    if row is None:
        return "<td></td><td></td>"
    mean_, low, high = (100 * value for value in row)
    return f'<td>{mean_:.1f}</td><td class="quiet">{low:.1f} – {high:.1f}</td>'


def _estimator(run: RunData) -> str:
    """How the run's credit estimator works, in the words of its own documentation."""
    name = str(run.config.get("credit.name"))
    if name not in CREDITS:
        return ""
    documentation = inspect.getdoc(CREDITS[name]) or ""
    words = re.split(r"\n(?=Reference:|Deviation:|Args:)", documentation)[0].strip()
    title = f"How <code>{to_html(name)}</code> assigns credit"
    return f"<details><summary>{title}</summary><pre>{to_html(words)}</pre></details>"


def _metric_rows(run: RunData) -> str:
    """Every numeric metric with its latest value and its meaning."""
    estimator = str(run.config.get("credit.name"))
    latest: dict[str, Any] = {}
    for line in run.metrics:
        latest |= line
    rows = []
    for name in sorted(latest):
        value = finite(latest[name])
        shown = "" if value is None else f"{value:.6g}"
        cells = f"<td>{shown}</td><td>{to_html(meaning(name, estimator))}</td>"
        rows.append(f"<tr><th>{to_html(name)}</th>{cells}</tr>")
    return "".join(rows)


def _settings(run: RunData) -> str:
    """Every configuration field of the run."""
    return "".join(
        f"<tr><th>{to_html(name)}</th><td>{to_html(json.dumps(value))}</td></tr>"
        for name, value in run.config.items()
    )
