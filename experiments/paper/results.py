"""What the finished runs of a table measured, beside the published figures."""

import csv
import io
import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from experiments.paper.rows import Row, Table
from experiments.statistics import mean_and_half


class Found(NamedTuple):
    """A row's figures on one test set, in percent, over the seeds that have a result."""

    row: Row
    test: str
    seeds: tuple[int, ...]
    samples: int | None  # k of avg@k
    mean: float | None  # of avg@k
    half: float | None  # half width of the 95 % interval; None below two seeds
    greedy: float | None  # mean at temperature 0; None where it was not evaluated
    tokens: float | None  # decoded in training, mean
    parsed: float | None  # share of ratings that could be read; None where nobody rates

    @property
    def paper(self) -> float | None:
        return self.row.figures[self.test]


def read_row(row: Row, seeds: Sequence[int] | None, folder: pathlib.Path) -> list[Found]:
    """What a row's finished runs say, one entry per test set."""
    results, tokens, parsed, samples = {}, [], [], None
    for seed in seeds or row.seeds:
        workdir = folder / row.run / f"seed-{seed}"
        if not (workdir / "result.json").is_file():
            continue
        results[seed] = json.loads((workdir / "result.json").read_text(encoding="utf-8"))[row.when]
        samples = json.loads((workdir / "config.json").read_text(encoding="utf-8"))["eval"][
            "samples"
        ]
        lines = [
            json.loads(line)
            for line in (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        tokens.append(sum(line.get("decoded_tokens", 0.0) for line in lines))
        parsed += [
            value
            for line in lines
            for name, value in line.items()
            if name.startswith("rating/parsed/")
        ]
    found = []
    for test in row.figures:
        prefix = "eval" if test == "held-out" else f"test/{test}"
        values = {
            s: 100 * r[f"{prefix}/{row.metric}"]
            for s, r in results.items()
            if f"{prefix}/{row.metric}" in r
        }
        greedy = [
            100 * r[name]
            for r in results.values()
            if (name := f"{prefix}/greedy/{row.metric}") in r
        ]
        mean, half = mean_and_half(list(values.values()))
        told = (mean_and_half(kind)[0] for kind in (greedy, tokens, parsed))
        found.append(Found(row, test, tuple(values), samples, mean, half, *told))
    return found


def markdown(table: Table, found: Sequence[Found], scale: str) -> str:
    """The table as people read it."""

    def cell(value: float | None, form: str = ".2f", otherwise: str = "–") -> str:
        return otherwise if value is None else format(value, form)

    k = next((f.samples for f in found if f.samples), "k")
    head = [
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
    lines = [f"## {table.title}" + ("" if scale == "paper" else ", tiny scale"), ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for f in found:
        interval = "–" if f.half is None else f"{f.mean - f.half:.2f} to {f.mean + f.half:.2f}"
        difference = None if f.mean is None or f.paper is None else f.mean - f.paper
        tokens = None if f.row.when == "before" else f.tokens
        lines.append(
            f"| {f.row.name.partition('/')[2]} | {f.test} | {len(f.seeds)} | {cell(f.mean)} | {interval} "
            f"| {cell(f.greedy)} | {cell(f.paper, otherwise='not given')} | {cell(difference, '+.2f')} "
            f"| {cell(tokens, ',.0f')} |"
        )
    lines += [
        "",
        "Accuracies in percent, intervals by Student's t over seeds, tokens decoded in training.",
    ]
    lines += ["", f"The paper's figures: {table.source}."]
    for f in found:
        if f.parsed is not None:
            lines.append(
                f"{f.row.name}: {100 * f.parsed:.1f} % of the ratings in training could be read."
            )
    return "\n".join(lines) + "\n"


def as_csv(table: Table, found: Sequence[Found]) -> str:
    """The table as programs read it: figures in percent, empty where there is none."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(
        ["row", "test_set", "seeds", "k", "mean", "low", "high", "greedy", "paper", "difference", "decoded_tokens",
         "ratings_parsed", "config", "overrides", "source"]
    )  # fmt: skip
    for f in found:
        low, high = (None, None) if f.half is None else (f.mean - f.half, f.mean + f.half)
        difference = None if f.mean is None or f.paper is None else f.mean - f.paper
        changes = " ".join(f"{name}={value}" for name, value in f.row.overrides.items())
        out.writerow(
            [f.row.name, f.test, " ".join(map(str, f.seeds)), f.samples, f.mean, low, high, f.greedy, f.paper,
             difference, f.tokens, f.parsed, f.row.config, changes, table.source]
        )  # fmt: skip
    return text.getvalue()
