"""Compares our verifiers with other graders on judged sets; fetches nothing.

    python -m experiments.judge --set math_verify=FILE --set gsm8k=FILE --golds=FILE.parquet \
        --out=experiments/judge/results/comparison.json

Prints every disagreement, what is falsely paid first; then a table: how many verdicts of each grader
agree with the right ones (false positives / false negatives).
"""

import argparse
import datetime
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from ccpo_jax.arguments import Parser, positive
from ccpo_jax.errors import InputError
from experiments.judge.cases import Case, read_cases
from experiments.judge.comparison import Judged, disagreements, format_table, judge
from experiments.judge.graders import find_graders
from experiments.judge.own_sets import (
    corruption_cases,
    read_golds,
    style_cases,
    surface_form_cases,
)
from experiments.provenance import commit

# How much of a gold and of an answer is printed.
_PRINTED = 100


def read_sets(
    named_files: Sequence[str], golds: pathlib.Path | None, max_golds: int
) -> dict[str, list[Case]]:
    """The sets by name: answer styles, what is made of golds, and those of files.

    Raises:
      InputError: if a set is not written as NAME=FILE, or its file cannot be read.
    """
    sets = {"answer styles": style_cases()}
    if golds:
        answers = read_golds(golds)[:max_golds]
        sets["surface forms"] = surface_form_cases(answers)
        sets["corruptions"] = corruption_cases(answers)

    for named_file in named_files:
        name, _, path = named_file.partition("=")
        if not path:
            raise InputError("set", f"received {named_file!r}; use NAME=FILE")
        sets[name] = read_cases(pathlib.Path(path).expanduser())
    return sets


def report(results: Sequence[Judged], command: Sequence[str]) -> dict[str, Any]:
    """What is written to a file: the table as numbers and the disagreements of ours."""
    scores = {
        result.name: {
            "cases": len(result.cases),
            **{grader: result.score(grader)._asdict() for grader in result.verdicts},
        }
        for result in results
    }
    return {
        "command": f"python -m experiments.judge {' '.join(command)}".strip(),
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
        "scores": scores,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=FILE", dest="sets")
    parser.add_argument("--golds", type=pathlib.Path, help="parquet file with a column answer")
    parser.add_argument("--max_golds", type=positive, default=10_000, help="use the first of them")
    parser.add_argument("--grader", action="append", default=[], metavar="NAME=module:function")
    parser.add_argument("--workers", type=positive, default=2, help="processes for our verifiers")
    parser.add_argument("--out", type=pathlib.Path, help="file for the numbers")
    options = parser.parse_args(arguments)

    try:
        sets = read_sets(options.sets, options.golds, options.max_golds)
        graders = find_graders(options.grader, options.workers)
    except InputError as error:
        parser.error(str(error))
    results = list(judge(sets, graders))

    for row in disagreements(results):
        kind = "falsely unpaid" if row["correct"] else "falsely paid"
        gold = row["gold"][:_PRINTED]
        answer = row["answer"][-_PRINTED:]
        print(f"{kind} by {', '.join(row['wrong'])} | {row['set']} | {gold!r} | {answer!r}")
    print(f"\n{format_table(results)}")

    if options.out:
        command = sys.argv[1:] if arguments is None else list(arguments)
        text = json.dumps(report(results, command), indent=1, ensure_ascii=False)
        options.out.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
