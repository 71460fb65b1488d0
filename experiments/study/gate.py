"""Whether a task can rank credit estimators: is there something to learn that only reward teaches?

Four conditions. Where one fails, a higher accuracy after training may be nothing but less random
sampling, and the study's tables compare no arms.
"""

from typing import NamedTuple

from experiments.statistics import compare, mean_and_half
from experiments.study.records import Records
from experiments.study.tasks import FULL, NO_REWARD, UNTRAINED

# Per cent and points.
MOST_GREEDY = 50.0
LEAST_REACH = 15.0
MOST_SHARPENING = 10.0
MOST_WITHOUT_REWARD = 3.0

_PASS = f"pass_{FULL.samples}"
_COLD = "T=0.25"


class Condition(NamedTuple):
    """One condition of the gate.

    Attributes:
      holds: whether it does; None = its runs are missing.
      words: what it asks for, with the measured figures.
    """

    holds: bool | None
    words: str


def conditions(records: Records) -> list[Condition]:
    """The four conditions, from the untrained team and the runs without a reward."""
    greedy = _mean(records, UNTRAINED, "greedy")
    reach = _mean(records, UNTRAINED, _PASS)
    warm = _mean(records, UNTRAINED, "sampled")
    cold = _mean(records, UNTRAINED, _COLD)
    checked = []
    if None in (greedy, reach, warm, cold):
        checked.append(Condition(None, "the untrained team was not measured"))
    else:
        checked += [
            Condition(
                greedy <= MOST_GREEDY,
                f"untrained greedy accuracy {greedy:.1f} %, at most {MOST_GREEDY:.0f}",
            ),
            Condition(
                reach >= greedy + LEAST_REACH,
                f"untrained pass@{FULL.samples} {reach:.1f} %, at least greedy + "
                f"{LEAST_REACH:.0f} = {greedy + LEAST_REACH:.1f}",
            ),
            Condition(
                abs(cold - warm) <= MOST_SHARPENING,
                f"untrained {cold:.1f} % at T = .25 and {warm:.1f} % at T = 1, at most "
                f"{MOST_SHARPENING:.0f} points apart",
            ),
        ]

    gain = compare(records.column(NO_REWARD, "greedy"), records.column(UNTRAINED, "greedy"))
    if gain.mean is None:
        checked.append(Condition(None, "training without reward was not run"))
    else:
        interval = "" if gain.half is None else f" ± {gain.half:.1f}"
        checked.append(
            Condition(
                gain.mean <= MOST_WITHOUT_REWARD,
                f"training without reward gains {gain.mean:+.1f}{interval} points greedy over "
                f"{gain.count} seeds, at most {MOST_WITHOUT_REWARD:.0f}",
            )
        )
    return checked


def passes(records: Records) -> bool:
    """Whether all conditions hold."""
    return all(condition.holds for condition in conditions(records))


def report(task: str, records: Records) -> str:
    """A line per condition."""
    lines = [f"{task}: {'passes the gate' if passes(records) else 'does not pass the gate'}"]
    for condition in conditions(records):
        word = {True: "holds", False: "FAILS", None: "UNKNOWN"}[condition.holds]
        lines.append(f"  {word:8} {condition.words}")
    return "\n".join(lines)


def _mean(records: Records, arm: str, name: str) -> float | None:
    return mean_and_half(list(records.column(arm, name).values()))[0]
