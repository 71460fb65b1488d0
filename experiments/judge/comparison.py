"""Verdicts of several graders on judged sets, as a table and as a list of disagreements."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.judge.cases import Case
from experiments.judge.graders import Grader


class Score(NamedTuple):
    """How a grader agrees with the right verdicts of a set."""

    agree: int
    false_positives: int
    false_negatives: int


class Judged(NamedTuple):
    """A set and what every grader says about each of its cases."""

    name: str
    cases: Sequence[Case]
    verdicts: Mapping[str, Sequence[bool]]

    def score(self, grader: str) -> Score:
        """How many verdicts of a grader are right, falsely paid, and falsely not paid."""
        pairs = list(zip(self.cases, self.verdicts[grader], strict=True))
        false_positives = sum(paid and not case.correct for case, paid in pairs)
        false_negatives = sum(case.correct and not paid for case, paid in pairs)
        agree = len(pairs) - false_positives - false_negatives
        return Score(agree, false_positives, false_negatives)


def judge(sets: Mapping[str, Sequence[Case]], graders: Mapping[str, Grader]) -> Iterator[Judged]:
    """Yields each set with the verdicts of all graders."""
    for name, cases in sets.items():
        yield Judged(name, cases, {grader: grade(cases) for grader, grade in graders.items()})


def format_table(results: Sequence[Judged]) -> str:
    """A Markdown table: of each set, how many verdicts agree (false positives / false negatives)."""
    graders = list(results[0].verdicts)
    lines = [f"| set | cases | {' | '.join(graders)} |", "|---|---|" + "---|" * len(graders)]
    for result in results:
        cells = [result.name, f"{len(result.cases):,}"]
        for grader in graders:
            score = result.score(grader)
            cells.append(f"{score.agree:,} ({score.false_positives}/{score.false_negatives})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def disagreements(results: Sequence[Judged]) -> list[dict[str, Any]]:
    """Every case that at least one grader judges wrongly: what is falsely paid by ours first."""
    rows = []
    for result in results:
        for index, case in enumerate(result.cases):
            wrong = [
                grader
                for grader, verdicts in result.verdicts.items()
                if verdicts[index] != case.correct
            ]
            if wrong:
                rows.append({"set": result.name, "wrong": wrong, **case._asdict()})

    def order(row: dict[str, Any]) -> tuple[bool, bool]:
        is_ours = any(grader.startswith("ours") for grader in row["wrong"])
        return row["correct"], not is_ours

    return sorted(rows, key=order)
