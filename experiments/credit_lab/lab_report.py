"""The laboratory's report: tables, pictures and a CSV file."""

import csv
import pathlib
from collections.abc import Sequence

import numpy as np

from experiments.credit_lab.c3_diagnostics import influence
from experiments.credit_lab.claims import CLAIMS
from experiments.credit_lab.comparison import Study
from experiments.credit_lab.evidence import METRICS, Summary
from experiments.credit_lab.interval_panels import interval_panels

_SHORT = ("bias", "efficiency", "rank_texts", "rank_agents")
_PLOTTED = ("bias", "snr", "efficiency", "rank_texts", "rank_agents")
_PER_AGENT = ("credit", "credit_bias", "snr", "rank_texts", "fidelity", "context_variance")

# A table per agent of a larger team would not be read; results.csv has its figures.
_MOST_AGENTS = 9


def table(header: Sequence[str], rows: Sequence[Sequence]) -> str:
    """A markdown table with aligned columns."""
    lines = [list(map(str, line)) for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])

    text = ""
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        text += "| " + " | ".join(cells) + " |\n"
    return text


def cell(summary: Summary, who, metric: str) -> str:
    """A figure with its 95 % interval, or a dash where there is none."""
    if (who, metric) not in summary.figures:
        return "-"
    value, low, _ = summary.interval(who, metric)
    half = value - low
    if not np.isfinite(half):
        return "-"

    # Two digits of the uncertainty, at most three places.
    places = int(np.clip(1 - np.floor(np.log10(max(half, 1e-3))), 0, 3))
    text = f"{round(value, places) + 0.0:.{places}f}"
    return f"{text} ± {half:.{places}f}" if half > 1e-6 else text


def short_table(studies: Sequence[Study]) -> str:
    """Figures of the first team, and the credit of the replaced agent in the others; the first row
    is the truth.
    """
    first = studies[0]
    others = [study for study in studies if study.replacement.kind != "none"]

    header = ["estimator", "G", "decoded", *(METRICS[metric][0] for metric in _SHORT)]
    true_row = ["the truth", "", "", "0", "", "1", "1"]
    for study in others:
        agent, kind = study.replacement
        header.append(f"credit, agent {agent} {kind}")
        true_row.append(f"{study.known.contribution[agent].mean().round(3) + 0.0:.3f}")

    rows = [true_row]
    for label, summary in first.summaries.items():
        row = [f"`{label}`", summary.samples, f"{summary.cost:.0f}"]
        row += [cell(summary, "team", metric) for metric in _SHORT]
        for study in others:
            row.append(cell(study.summaries[label], study.replacement.agent, "credit"))
        rows.append(row)
    return table(header, rows)


def study_markdown(study: Study, picture: str) -> str:
    """One team's section."""
    roles = study.team.topology.agent_roles
    agents = range(len(roles))
    summaries = study.summaries

    contributions = []
    told = influence(study.team) if any(study.team.topology.reads) else None
    for agent, values in enumerate(study.known.contribution):
        numbers = [f"{x:+.4f}" for x in (values.mean(), values.min(), values.max())]
        dependence = f"{told[agent].mean():.3f}" if told is not None else "0"
        contributions.append([f"{agent} ({roles[agent]})", *numbers, dependence])

    metrics = []
    for metric in METRICS:
        if any(("team", metric) in summary.figures for summary in summaries.values()):
            metrics.append(metric)
    figures = []
    for label, summary in summaries.items():
        cells = [cell(summary, "team", metric) for metric in metrics]
        figures.append([f"`{label}`", summary.samples, f"{summary.cost:.0f}", *cells])

    titles = [METRICS[metric][0] for metric in metrics]
    parts = [
        f"## {study.title}\n",
        f"The mean reward of the team is {study.known.reward.mean():.3f}.\n",
        table(
            [
                "agent",
                "true contribution, mean over prompts",
                "least",
                "most",
                "C3 influence on its last reader, nats",
            ],
            contributions,
        ),
        table(["estimator", "G", "decoded", *titles], figures),
    ]
    for metric in _PER_AGENT if len(roles) <= _MOST_AGENTS else ():
        rows = []
        for label, summary in summaries.items():
            rows.append([f"`{label}`", *(cell(summary, agent, metric) for agent in agents)])
        parts.append(f"{METRICS[metric][0]}, per agent:\n")
        parts.append(table(["estimator", *(f"agent {agent}" for agent in agents)], rows))

    broken = [verdict for verdict in study.verdicts if not verdict.holds]
    parts.append(f"Claims looked at: {len(study.verdicts)}; broken: {len(broken)}.\n")
    parts += [f"- broken, {verdict.claim}: {verdict.text}" for verdict in broken]
    return "\n".join([*parts, f"![{study.title}]({picture})", ""])


def write(
    out: pathlib.Path, studies: Sequence[Study], left_out: dict[str, str], facts: dict[str, str]
) -> None:
    """Writes report.md, results.csv and a picture per team."""
    out.mkdir(parents=True, exist_ok=True)

    sections = []
    for number, study in enumerate(studies):
        picture = f"team_{number}.svg"
        (out / picture).write_text(interval_panels(study.title, _panels(study)), encoding="utf-8")
        sections.append(study_markdown(study, picture))

    rows = [["team", "estimator", "who", "metric", "value", "low", "high", "samples", "decoded"]]
    for study in studies:
        rows += _csv_rows(study)
    with open(out / "results.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)

    lines = [
        "# Credit laboratory\n",
        *(f"- {name}: {value}" for name, value in facts.items()),
        *(f"- `{name}` is left out: {why}" for name, why in left_out.items()),
        "",
        short_table(studies),
        *(f"- {head}: {meaning}" for head, meaning in METRICS.values()),
        "\n## What each estimator claims\n",
        _claims_table(),
        *sections,
    ]
    (out / "report.md").write_text("\n".join(lines), encoding="utf-8")


def _panels(study: Study) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Title of a panel -> label of an estimator -> figure with its interval."""
    panels = {}
    for metric in _PLOTTED:
        intervals = {}
        for label, summary in study.summaries.items():
            if ("team", metric) in summary.figures:
                intervals[label] = summary.interval("team", metric)
        panels[METRICS[metric][0]] = intervals
    return panels


def _csv_rows(study: Study) -> list[list]:
    rows = []
    for agent, values in enumerate(study.known.contribution):
        mean = f"{values.mean():.6g}"
        rows.append([study.title, "truth", agent, "contribution", mean, "", "", "", ""])
    for label, summary in study.summaries.items():
        for who, metric in summary.figures:
            numbers = [f"{x:.6g}" for x in summary.interval(who, metric)]
            cost = f"{summary.cost:g}"
            rows.append([study.title, label, who, metric, *numbers, summary.samples, cost])
    return rows


def _claims_table() -> str:
    header = [
        "estimator",
        "contribution",
        "silent: 0",
        "saboteur: below 0",
        "gradient of E[R]",
        "because",
    ]
    rows = []
    for name, claim in CLAIMS.items():
        claimed = (claim.contribution, claim.silent, claim.saboteur)
        marks = ["yes" if is_claimed else "" for is_claimed in claimed]
        rows.append([f"`{name}`", *marks, claim.gradient or "", claim.reason])
    return table(header, rows)
