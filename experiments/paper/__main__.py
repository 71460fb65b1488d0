"""The paper's tables as data, one command to run them, and our figures beside the published ones.

    python -m experiments.paper --list
    python -m experiments.paper --table=math500 --scale=tiny --seeds=0,1
    python -m experiments.paper --table=gspo --scale=paper --dry_run
    python -m experiments.paper --table=math500 --row=math500/qwen2.5-1.5b/ccpo --seeds=0 --config.data.train=FILE

A row is a configuration, the fields it changes, and its seeds, beside the published figure. Each
row and seed runs in a process and a folder of its own under --out. A run that has its result is not
repeated, and an interrupted one resumes after its last checkpoint; so several machines that share
--out can work on one table, and the same command prints the table of the finished runs. Rows that
read the same run share it.

--scale=tiny runs the same rows with the embedded model: synthetic arithmetic, few steps, and
held-out problems in place of test sets. The paper has no figures for that.
"""

import argparse
import pathlib
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ccpo_jax.arguments import Parser, seeds
from ccpo_jax.config import parse_field
from ccpo_jax.errors import InputError
from experiments.paper.forecast import forecast
from experiments.paper.results import as_csv, markdown, read_row
from experiments.paper.rows import TABLES, Row, listing, tables
from experiments.paper.runs import configuration, launch, run_rows
from experiments.provenance import stop


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Options, and the fields typed for every row's configuration."""
    parser = Parser(
        prog="python -m experiments.paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--table", choices=list(TABLES), help="one table; default: all of them")
    add("--scale", choices=["paper", "tiny"], default="paper")
    add("--seeds", type=seeds, help="such as 0,1; default: each row's own")
    add("--row", help="run only these rows, as --list names them: a,b")
    add(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/tables"),
        help="folder of runs and tables",
    )
    add("--list", action="store_true", help="print every row; run nothing")
    add("--dry_run", action="store_true", help="print what each row needs; run nothing")
    add("--print", action="store_true", help="print the tables of the finished runs; run nothing")
    options, rest = parser.parse_known_args(arguments)

    typed = {}
    for word in rest:
        name, equals, value = word.removeprefix("--config.").partition("=")
        if not word.startswith("--config.") or not equals:
            parser.error(
                f"{word!r:.80} is not an option; fields of all rows are typed as "
                "--config.FIELD=VALUE"
            )
        try:
            typed[name] = parse_field(name, value)
        except InputError as error:
            parser.error(str(error))
    return options, typed


def select_rows(names: str | None, rows: Sequence[Row]) -> list[Row]:
    """The rows with the given comma-separated names; all of them for None.

    Raises:
      InputError: no such row.
    """
    if names is None:
        return list(rows)
    known = {row.name: row for row in rows}
    selected = []
    for name in names.split(","):
        if name not in known:
            raise InputError("--row", f"no row {name!r}; use one of {', '.join(known)}")
        selected.append(known[name])
    return selected


def main(arguments: Sequence[str], start: Callable[[Sequence[str]], int] = launch) -> int:
    """The command line. Returns the exit status: 2 after a mistake in the input, 1 where a row
    failed.
    """
    options, typed = parse(arguments)
    chosen = tables(options.scale)
    if options.table is not None:
        chosen = {options.table: chosen[options.table]}
    folder = options.out / options.scale

    failures = []
    try:
        rows = select_rows(options.row, [row for table in chosen.values() for row in table.rows])
        if options.list:
            for table in chosen.values():
                print(listing(table, rows))
            return 0
        if options.dry_run:
            runs = []
            for row in rows:
                for seed in options.seeds or row.seeds:
                    runs.append((row, configuration(row, typed, seed), seed))
            print(forecast(runs))
            return 0
        if not options.print:
            failures = run_rows(rows, typed, options.seeds, folder, start)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command resumes", file=sys.stderr)
        return 130

    folder.mkdir(parents=True, exist_ok=True)
    for name, table in chosen.items():
        measurements = []
        for row in table.rows:
            measurements += read_row(row, options.seeds, folder)
        text = markdown(table, measurements, options.scale)
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
        (folder / f"{name}.csv").write_text(as_csv(table, measurements), encoding="utf-8")
        print(text)

    for line in failures:
        print(f"error: {line}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main(sys.argv[1:]))
