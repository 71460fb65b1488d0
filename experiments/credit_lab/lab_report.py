"""The laboratory's report: tables, pictures and a CSV file."""

import csv
import pathlib
from collections.abc import Sequence

import numpy as np

from experiments.credit_lab.claims import CLAIMS
from experiments.credit_lab.comparison import Study
from experiments.credit_lab.evidence import METRICS, Summary
from experiments.credit_lab.interval_plot import interval_plot


def table(header: Sequence[str], rows: Sequence[Sequence]) -> str:
    """Markdown whose columns stand below each other."""
    lines = [list(map(str, line)) for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    padded = (
        [text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in lines
    )
    return "\n".join("| " + " | ".join(line) + " |" for line in padded) + "\n"


def cell(summary: Summary, who, metric: str) -> str:
    """A figure, give or take its interval of 95 %, or a dash where there is none."""
    value, low, _ = (
        summary.interval(who, metric) if (who, metric) in summary.figures else (np.nan,) * 3
    )
    if not np.isfinite(value - low):
        return "-"
    places = int(
        np.clip(1 - np.floor(np.log10(max(value - low, 1e-3))), 0, 3)
    )  # two digits of what is not sure, at most three
    return f"{round(value, places) + 0.0:.{places}f}" + (
        f" ± {value - low:.{places}f}" if value - low > 1e-6 else ""
    )


def short_table(studies: Sequence[Study]) -> str:
    """Figures of the first team, and what is paid to who was replaced in the others; the first row is what is true."""
    first, others = studies[0], [one for one in studies if one.how != "none"]
    metrics = ("bias", "efficiency", "rank_texts", "rank_agents")
    header = ["estimator", "G", "decoded", *(METRICS[m][0] for m in metrics)]
    header += [f"credit, agent {one.changed} {one.how}" for one in others]
    rows = [
        [
            "the truth",
            "",
            "",
            "0",
            "",
            "1",
            "1",
            *(f"{one.known.contribution[one.changed].mean().round(3) + 0.0:.3f}" for one in others),
        ]
    ]
    for label, found in first.found.items():
        paid = [cell(one.found[label], one.changed, "credit") for one in others]
        rows.append(
            [
                f"`{label}`",
                found.samples,
                f"{found.cost:.0f}",
                *(cell(found, "team", m) for m in metrics),
                *paid,
            ]
        )
    return table(header, rows)


def study_markdown(one: Study, picture: str) -> str:
    """One team's section."""
    roles, known = one.team.topology.agent_roles, one.known
    agents = range(len(roles))
    truths = [
        [f"{k} ({roles[k]})", *(f"{x:+.4f}" for x in (c.mean(), c.min(), c.max()))]
        for k, c in enumerate(known.contribution)
    ]
    metrics = [m for m in METRICS if any(("team", m) in s.figures for s in one.found.values())]
    figures = [
        [f"`{label}`", s.samples, f"{s.cost:.0f}", *(cell(s, "team", m) for m in metrics)]
        for label, s in one.found.items()
    ]
    parts = [
        f"## {one.title}\n",
        f"The team is right {known.reward.mean():.3f} of the time.\n",
        table(["agent", "true contribution, mean over prompts", "least", "most"], truths),
        table(["estimator", "G", "decoded", *(METRICS[m][0] for m in metrics)], figures),
    ]
    for metric in ("credit", "credit_bias", "snr", "rank_texts"):
        rows = [
            [f"`{label}`", *(cell(s, k, metric) for k in agents)] for label, s in one.found.items()
        ]
        parts += [
            f"{METRICS[metric][0]}, per agent:\n",
            table(["estimator", *(f"agent {k}" for k in agents)], rows),
        ]
    broken = [f"- broken, {v.claim}: {v.text}" for v in one.verdicts if not v.holds]
    parts += [f"Claims looked at: {len(one.verdicts)}; broken: {len(broken)}.\n", *broken]
    return "\n".join([*parts, f"![{one.title}]({picture})", ""])


def write(
    out: pathlib.Path, studies: Sequence[Study], left_out: dict[str, str], facts: dict[str, str]
) -> None:
    """report.md, results.csv and a picture per team."""
    out.mkdir(parents=True, exist_ok=True)
    rows, sections = (
        [["team", "estimator", "who", "metric", "value", "low", "high", "samples", "decoded"]],
        [],
    )
    for number, one in enumerate(studies):
        panels = {
            METRICS[m][0]: {
                label: s.interval("team", m)
                for label, s in one.found.items()
                if ("team", m) in s.figures
            }
            for m in ("bias", "snr", "efficiency", "rank_texts", "rank_agents")
        }
        (out / f"team_{number}.svg").write_text(interval_plot(one.title, panels), encoding="utf-8")
        sections.append(study_markdown(one, f"team_{number}.svg"))
        for k, x in enumerate(one.known.contribution):
            rows.append([one.title, "truth", k, "contribution", f"{x.mean():.6g}", "", "", "", ""])
        for label, s in one.found.items():
            for who, metric in s.figures:
                numbers = (f"{x:.6g}" for x in s.interval(who, metric))
                rows.append([one.title, label, who, metric, *numbers, s.samples, f"{s.cost:g}"])
    with open(out / "results.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    claims = table(
        [
            "estimator",
            "contribution",
            "silent: 0",
            "saboteur: below 0",
            "gradient of E[R]",
            "because",
        ],
        [
            [f"`{n}`", *("yes" if x else "" for x in c[:3]), c.gradient, c.reason]
            for n, c in CLAIMS.items()
        ],
    )
    lines = [
        "# Credit laboratory\n",
        *(f"- {name}: {value}" for name, value in facts.items()),
        *(f"- `{n}` is left out: {why}" for n, why in left_out.items()),
        "",
        short_table(studies),
        *(f"- {head}: {what}" for head, what in METRICS.values()),
        "\n## What each estimator claims\n",
        claims,
        *sections,
    ]
    (out / "report.md").write_text("\n".join(lines), encoding="utf-8")
