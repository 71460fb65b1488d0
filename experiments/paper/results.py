"""What the finished runs of a table measured, beside the published figures."""

import csv
import io
import json
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.paper.rows import Row, Table
from experiments.statistics import mean_and_half


class Measurement(NamedTuple):
    """A row's figures on one test set, in percent, over the seeds that have a result.

    Attributes:
      row: the row.
      test: the test set.
      seeds: seeds that have a result.
      samples: k of avg@k.
      mean: mean of avg@k over seeds.
      half: half width of its 95 % interval; None below two seeds.
      greedy: mean accuracy at temperature 0; None where it was not evaluated.
      tokens: mean number of tokens decoded in training.
      parsed: share of ratings that could be read; None where nobody rates.
    """

    row: Row
    test: str
    seeds: tuple[int, ...]
    samples: int | None
    mean: float | None
    half: float | None
    greedy: float | None
    tokens: float | None
    parsed: float | None

    @property
    def published(self) -> float | None:
        """The published figure in percent; None = not published."""
        return self.row.figures[self.test]

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean."""
        if self.mean is None or self.half is None:
            return None
        return self.mean - self.half, self.mean + self.half

    @property
    def difference(self) -> float | None:
        """Our mean minus the published figure."""
        if self.mean is None or self.published is None:
            return None
        return self.mean - self.published


class _Run(NamedTuple):
    """The files of one finished run."""

    accuracies: dict[str, float]
    samples: int
    tokens: float
    parsed: list[float]


def _read_run(workdir: pathlib.Path, when: str) -> _Run:
    result = json.loads((workdir / "result.json").read_text(encoding="utf-8"))
    config = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
    metrics = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()

    tokens = 0.0
    parsed = []
    for line in map(json.loads, metrics):
        tokens += line.get("decoded_tokens", 0.0)
        for name, value in line.items():
            if name.startswith("rating/parsed/"):
                parsed.append(value)
    return _Run(result[when], config["eval"]["samples"], tokens, parsed)


def read_row(row: Row, seeds: Sequence[int] | None, folder: pathlib.Path) -> list[Measurement]:
    """The figures of a row's finished runs, one entry per test set."""
    runs: dict[int, _Run] = {}
    for seed in seeds or row.seeds:
        workdir = folder / row.run / f"seed-{seed}"
        if (workdir / "result.json").is_file():
            runs[seed] = _read_run(workdir, row.when)

    parsed = [value for run in runs.values() for value in run.parsed]
    samples = next((run.samples for run in runs.values()), None)
    tokens = _mean([run.tokens for run in runs.values()])

    measurements = []
    for test in row.figures:
        prefix = "eval" if test == "held-out" else f"test/{test}"
        sampled = _percentages(runs, f"{prefix}/{row.metric}")
        greedy = _percentages(runs, f"{prefix}/greedy/{row.metric}")
        mean, half = mean_and_half(list(sampled.values()))
        measurements.append(
            Measurement(
                row=row,
                test=test,
                seeds=tuple(sampled),
                samples=samples,
                mean=mean,
                half=half,
                greedy=_mean(list(greedy.values())),
                tokens=tokens,
                parsed=_mean(parsed),
            )
        )
    return measurements


def _percentages(runs: dict[int, _Run], name: str) -> dict[int, float]:
    """Seed -> an accuracy in percent, of the runs that have it."""
    return {
        seed: 100 * run.accuracies[name] for seed, run in runs.items() if name in run.accuracies
    }


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def markdown(table: Table, measurements: Sequence[Measurement], scale: str) -> str:
    """The table for people."""
    k = next((m.samples for m in measurements if m.samples), "k")
    columns = [
        "row",
        "test set",
        "seeds",
        f"avg@{k}",
        "95 % interval",
        "greedy",
        "paper",
        "ours − paper",
        "decoded",
    ]
    title = f"## {table.title}" + ("" if scale == "paper" else ", tiny scale")
    lines = [title, "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for m in measurements:
        interval = "–" if m.interval is None else "{:.2f} to {:.2f}".format(*m.interval)
        tokens = None if m.row.when == "before" else m.tokens
        cells = [
            m.row.name.partition("/")[2],
            m.test,
            str(len(m.seeds)),
            _cell(m.mean),
            interval,
            _cell(m.greedy),
            _cell(m.published, otherwise="not given"),
            _cell(m.difference, "+.2f"),
            _cell(tokens, ",.0f"),
        ]
        lines.append("| " + " | ".join(cells) + " |")

    lines += [
        "",
        "Accuracies in percent, intervals by Student's t over seeds, tokens decoded in training.",
        "",
        f"The paper's figures: {table.source}.",
    ]
    for m in measurements:
        if m.parsed is not None:
            lines.append(
                f"{m.row.name}: {100 * m.parsed:.1f} % of the ratings in training could be read."
            )
    return "\n".join(lines) + "\n"


def _cell(value: float | None, form: str = ".2f", otherwise: str = "–") -> str:
    return otherwise if value is None else format(value, form)


def as_csv(table: Table, measurements: Sequence[Measurement]) -> str:
    """The table for programs: figures in percent, empty where there is none."""
    rows: list[dict[str, Any]] = []
    for m in measurements:
        low, high = m.interval or (None, None)
        overrides = [f"{name}={value}" for name, value in m.row.overrides.items()]
        rows.append(
            {
                "row": m.row.name,
                "test_set": m.test,
                "seeds": " ".join(map(str, m.seeds)),
                "k": m.samples,
                "mean": m.mean,
                "low": low,
                "high": high,
                "greedy": m.greedy,
                "paper": m.published,
                "difference": m.difference,
                "decoded_tokens": m.tokens,
                "ratings_parsed": m.parsed,
                "config": m.row.config,
                "overrides": " ".join(overrides),
                "source": table.source,
            }
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
