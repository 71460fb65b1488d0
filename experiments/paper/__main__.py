"""The paper's tables as data, one command to run them, and our figures beside the paper's.

    python -m experiments.paper --list
    python -m experiments.paper --table=math500 --scale=tiny --seeds=0,1
    python -m experiments.paper --table=gspo --scale=paper --dry_run
    python -m experiments.paper --table=math500 --row=math500/qwen2.5-1.5b/ccpo --seeds=0 --config.data.train=FILE

Every row is a configuration, what it changes, and seeds, beside the paper's figure. A row and seed runs in a process of
its own, `run.py` in a folder of its own under --out; one that has its result is not run again, and one that was
interrupted goes on after its last checkpoint. So rows can be given to several machines that share --out, and the same
command prints the table of whatever is there. Rows that read the same run share it.

--scale=tiny runs the same rows with the embedded model in place of each model: synthetic arithmetic, few steps, and
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
from experiments.paper.results import as_csv, markdown, read_row
from experiments.paper.rows import TABLES, listing, tables
from experiments.paper.runs import configuration, launch, run_rows
from experiments.provenance import stop


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Options and the typed fields of every row's configuration."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--table", choices=list(TABLES), help="one table; all of them when absent")
    parser.add_argument("--scale", choices=["paper", "tiny"], default="paper")
    parser.add_argument("--seeds", type=seeds, help="such as 0,1; each row's own when absent")
    parser.add_argument("--row", help="run only this row, as --list names it, or several: a,b")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/tables"),
        help="runs and tables go here",
    )
    parser.add_argument("--list", action="store_true", help="print every row and run nothing")
    parser.add_argument(
        "--dry_run", action="store_true", help="print what would run, where, how long; run nothing"
    )
    parser.add_argument(
        "--print", action="store_true", help="print the tables of what is there; run nothing"
    )
    options, rest = parser.parse_known_args(arguments)
    typed = {}
    for word in rest:
        name, equals, value = word.removeprefix("--config.").partition("=")
        if not word.startswith("--config.") or not equals:
            parser.error(
                f"{word!r:.80} is not an option; fields of all rows are typed as --config.FIELD=VALUE"
            )
        try:
            typed[name] = parse_field(name, value)
        except InputError as error:
            parser.error(str(error))
    return options, typed


def main(arguments: Sequence[str], start: Callable[[Sequence[str]], int] = launch) -> int:
    """The command line. Returns the exit status: 2 after a mistake in what was typed, 1 where a row failed."""
    options, typed = parse(arguments)
    chosen = {name: t for name, t in tables(options.scale).items() if options.table in (None, name)}
    rows = [row for table in chosen.values() for row in table.rows]
    failed = []
    try:
        if options.row:
            known = {row.name: row for row in rows}
            if unknown := [name for name in options.row.split(",") if name not in known]:
                raise ValueError(
                    f"--row: there is no row {unknown[0]!r}; use one of {', '.join(known)}"
                )
            rows = [known[name] for name in options.row.split(",")]
        if options.list:
            for table in chosen.values():
                print(listing(table, rows))
            return 0
        if options.dry_run:
            from experiments.paper.forecast import forecast

            print(
                forecast(
                    [
                        (r, configuration(r, typed, s), s)
                        for r in rows
                        for s in (options.seeds or r.seeds)
                    ]
                )
            )
            return 0
        folder = options.out / options.scale
        if not options.print:
            failed = run_rows(rows, typed, options.seeds, folder, start)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    for name, table in chosen.items():
        found = [f for row in table.rows for f in read_row(row, options.seeds, folder)]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(markdown(table, found, options.scale), encoding="utf-8")
        (folder / f"{name}.csv").write_text(as_csv(table, found), encoding="utf-8")
        print(markdown(table, found, options.scale))
    for line in failed:
        print(f"error: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main(sys.argv[1:]))
