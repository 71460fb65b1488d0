"""The report: one page about a run. It opens in any browser and needs nothing else.

    ccpo-jax report WORKDIR [--out=FILE]

The page (WORKDIR/report.html by default) contains everything it shows and loads nothing: its
content security policy forbids it. Texts that models and datasets wrote are shown and never
interpreted: control characters and direction marks as escapes, everything else as text. It works
while a run is in progress, on a run without rollouts.jsonl, and on runs of earlier versions.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from ccpo_jax.arguments import Parser, path, program_name
from ccpo_jax.errors import InputError, as_input_error
from ccpo_jax.report.load import load_run
from ccpo_jax.report.page import render_page
from ccpo_jax.status import status
from ccpo_jax.workdir import write_atomically

__all__ = ["load_run", "main", "render_page", "write_report"]


def write_report(workdir: pathlib.Path, out: pathlib.Path | None = None) -> pathlib.Path:
    """Writes the page about the run in `workdir`; returns its path.

    Raises:
      InputError: ``workdir``: there is no run, or a damaged one; ``out``: it cannot be written.
    """
    out = out or workdir / "report.html"
    with as_input_error():
        with status(f"reading {workdir}"):
            run = load_run(workdir)
        with status("writing the page"):
            page = render_page(run)
        try:
            write_atomically(out, page)
        except OSError as error:
            reason = f"cannot write {out} ({error.strerror}); type another --out=FILE"
            raise InputError("out", reason) from error
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. A mistake in it is one line on standard error and exit status 2."""
    parser = Parser(
        prog=f"{program_name()} report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workdir", type=path, help="folder of a run")
    parser.add_argument("--out", type=path, help="the page; default: WORKDIR/report.html")
    options = parser.parse_args(arguments)
    try:
        print(write_report(options.workdir, options.out))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
