"""Tables of the study: one per task, always with its controls.

    python -m experiments.study --task=parts_9 --print

A task that fails the gate has its arms in the order of the plan, and no comparisons.
"""

import pathlib
import statistics as means
from collections.abc import Mapping, Sequence

from experiments.statistics import compare, holm, mean_and_half
from experiments.study import gate, predictions, uncontrolled_tables
from experiments.study.records import Records
from experiments.study.tasks import (
    CONTROLS,
    PRIMARY,
    PRIMARY_SEEDS,
    SEEDS,
    TASKS,
    TEMPERATURES,
    UNTRAINED,
    arms_of,
    comparisons_of,
)

_COLUMNS = (
    "arm",
    "seeds",
    "rate",
    "greedy",
    "T = 1",
    "pass@8",
    "steps to level",
    "entropy, first to last step",
    "decoded, thousands",
    "trained, thousands",
)

# More agents than this have no column each.
_MOST_IN_A_CELL = 3


class MissingControlsError(Exception):
    """A table without its controls."""


def table(task: str, records: Records, *, quick: bool = False) -> str:
    """A task's results for people, in Markdown.

    Raises:
      MissingControlsError: a control has no run, or none that another arm's seeds can be held
        against.
    """
    missing = [arm for arm in CONTROLS if not records.of(arm)]
    if missing:
        raise MissingControlsError(
            f"{task}: no runs of {', '.join(missing)}; a table of training results needs its "
            f"controls: run --task={task} " + " ".join(f"--arm={arm}" for arm in missing)
        )
    passed = gate.passes(records)
    level = level_of(records)
    arms = [arm for arm in arms_of(task) if records.of(arm)]
    if passed:
        arms.sort(key=lambda arm: -_mean(records, arm, "greedy"))

    exchanged = TASKS[task].exchange
    columns = _COLUMNS + (("lost by an exchange",) if exchanged else ())
    lines = [
        f"### {task}: {TASKS[task].description}" + (" (quick)" if quick else ""),
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
    ]
    for arm in arms:
        cells = _cells(arm, records, level)
        if exchanged:
            cells.append(_several(records, arm, "exchanged"))
        lines.append("| " + " | ".join(cells) + " |")

    paragraphs = ["\n".join(lines), _untrained_line(records)]
    paragraphs.append(_gate_paragraph(records))
    if passed:
        paragraphs.append(comparisons(task, records))
    paragraphs.append(_source(task, records, level, quick=quick))
    text = "\n\n".join(paragraphs) + "\n"
    if uncontrolled_tables.sections_without_controls(text):
        raise MissingControlsError(f"{task}: the table has lost its controls")
    return text


def level_of(records: Records) -> float:
    """The greedy accuracy that *steps to level* asks for: half of what the untrained team lacks."""
    return (_mean(records, UNTRAINED, "greedy") + 100) / 2


def steps_to(curve: Sequence[Mapping[str, float]], level: float) -> int | None:
    """The first measured step at which greedy accuracy reaches a level; None = never.

    Example:
      >>> steps_to([{"step": 0, "greedy": 10}, {"step": 4, "greedy": 60}], 50)
      4
    """
    return next((int(row["step"]) for row in curve if row["greedy"] >= level), None)


def comparisons(task: str, records: Records) -> str:
    """The planned comparisons of a task: differences of greedy accuracy, paired by seed."""
    if not comparisons_of(task):
        return "The plan has no arms for this task, only its controls."
    greedy = {arm: records.column(arm, "greedy") for arm in arms_of(task)}
    rows = []
    for arm, against in comparisons_of(task):
        result = compare(greedy[arm], greedy[against])
        if result.p is not None:
            rows.append((arm, against, result))
    if not rows:
        return "No planned comparison has two seeds yet."

    primary = [(task, arm, against) == PRIMARY for arm, against, _ in rows]
    others = [result.p for (_, _, result), first in zip(rows, primary, strict=True) if not first]
    adjusted = iter(holm(others))
    predicted = predictions.greedy(task)
    lines = [
        "| planned comparison, greedy | seeds | difference | p | p, Holm | predicted |",
        "|---|---|---|---|---|---|",
    ]
    short = []
    for (arm, against, result), first in zip(rows, primary, strict=True):
        corrected = "primary" if first else f"{next(adjusted):.3f}"
        known = arm in predicted and against in predicted
        expected = f"{predicted[arm] - predicted[against]:+.1f}" if known else "–"
        lines.append(
            f"| {arm} − {against} | {result.count} | {result.mean:+.1f} ± {result.half:.1f} | "
            f"{result.p:.3f} | {corrected} | {expected} |"
        )
        needed = len(PRIMARY_SEEDS if first else SEEDS)
        if result.count < needed:
            short.append(f"{arm} − {against} ({result.count} of {needed})")
    if short:
        lines += ["", f"**Too few seeds, not to be cited as a result:** {', '.join(short)}."]
    return "\n".join(lines)


def write(task: str, records: Records, folder: pathlib.Path, *, quick: bool = False) -> str:
    """Writes a task's table into its folder, beside the CSV files. Returns the table."""
    text = table(task, records, quick=quick)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return text


# --- cells ----------------------------------------------------------------------------------------


def _cells(arm: str, records: Records, level: float) -> list[str]:
    runs = records.of(arm)
    rates = {run["rate"] for run in runs.values()}
    if arm == UNTRAINED:
        middle = ["–", "–", "–", "–"]
        rate = "–"
    else:
        entropy = f"{_several(records, arm, 'entropy_first', 2)} to "
        entropy += _several(records, arm, "entropy_last", 2)
        middle = [_reached(arm, records, level), entropy]
        middle += [_plain(records, arm, "decoded"), _plain(records, arm, "trained")]
        rate = ", ".join(f"{rate:g}" for rate in sorted(rates))
    scores = [_score(records, arm, name) for name in ("greedy", "sampled", "pass_8")]
    return [arm, str(len(runs)), rate, *scores, *middle]


def _score(records: Records, arm: str, name: str) -> str:
    mean, half = mean_and_half(list(records.column(arm, name).values()))
    if mean is None:
        return "–"
    return f"{mean:.1f}" + ("" if half is None else f" ± {half:.1f}")


def _plain(records: Records, arm: str, name: str) -> str:
    return f"{_mean(records, arm, name) / 1000:.1f}"


def _several(records: Records, arm: str, name: str, digits: int = 1) -> str:
    """Means over seeds of one value per agent; the mean over agents where they are many."""
    rows = [value for value in records.column(arm, name).values()]
    if not rows:
        return "–"
    by_agent = [means.fmean(values) for values in zip(*map(_as_list, rows), strict=True)]
    if len(by_agent) > _MOST_IN_A_CELL:
        return f"{means.fmean(by_agent):.{digits}f}"
    return " / ".join(f"{value:.{digits}f}" for value in by_agent)


def _as_list(value: float | list[float]) -> list[float]:
    return value if isinstance(value, list) else [value]


def _reached(arm: str, records: Records, level: float) -> str:
    """The median step at which the level is reached, and how many runs never did.

    A run that never reached it counts as later than all others.
    """
    curves = [records.curve(arm, seed) for seed in records.of(arm)]
    curves = [curve for curve in curves if curve]
    if not curves:
        return "–"
    last = max(int(curve[-1]["step"]) for curve in curves)
    steps = [steps_to(curve, level) for curve in curves]
    censored = sum(step is None for step in steps)
    ordered = sorted(float("inf") if step is None else step for step in steps)
    median = means.median_high(ordered)
    cell = f"> {last}" if median == float("inf") else f"{median:.0f}"
    return cell + (f" ({censored} of {len(steps)} never)" if censored else "")


def _mean(records: Records, arm: str, name: str) -> float:
    return means.fmean(records.column(arm, name).values())


# --- paragraphs -----------------------------------------------------------------------------------


def _untrained_line(records: Records) -> str:
    """The untrained team at every temperature, and the best of them."""
    scores = {"greedy": _mean(records, UNTRAINED, "greedy")}
    for temperature in TEMPERATURES:
        scores[f"T = {temperature:g}"] = _mean(records, UNTRAINED, f"T={temperature:g}")
    scores["T = 1"] = _mean(records, UNTRAINED, "sampled")
    listed = ", ".join(f"{name} {value:.1f}" for name, value in scores.items())
    best = max(scores, key=lambda name: scores[name])
    return f"Untrained: {listed}; best: {best} with {scores[best]:.1f}."


def _gate_paragraph(records: Records) -> str:
    conditions = gate.conditions(records)
    if gate.passes(records):
        return "Gate passed: " + "; ".join(condition.words for condition in conditions) + "."
    failed = [condition.words for condition in conditions if not condition.holds]
    return (
        "**This task does not pass the gate: its arms are not compared, and their order says "
        f"nothing.** Not fulfilled: {'; '.join(failed)}."
    )


def _source(task: str, records: Records, level: float, *, quick: bool) -> str:
    """The paragraph under a table: command, commits, dates and the meaning of its columns."""
    commits = ", ".join(sorted({row["commit"] for row in records.runs}))
    days = sorted({row["day"] for row in records.runs})
    between = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    command = f"python -m experiments.study --task={task}" + (" --quick" if quick else "")
    mark = "**Quick: few seeds and few arms; it settles nothing.** " if quick else ""
    return (
        f"{mark}`{command}`; commits {commits}; {between}. Per cent on held-out problems, 95 % "
        "intervals by Student's t over seeds. *T = 1* and *pass@8*: 8 samples a problem; *steps to "
        f"level*: median first step with a greedy accuracy of {level:.0f} %, half of what the "
        "untrained team lacks; *entropy*: nats per sampled token; *trained*: tokens with an "
        "advantage other than 0, or all where the loss has no reward; *predicted*: by learning on "
        "tables."
    )
