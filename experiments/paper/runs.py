"""Runs of a table: one process and one folder for each row and seed, resumable."""

import json
import math
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from ccpo_jax.config import Config, combine, parse
from ccpo_jax.errors import InputError
from ccpo_jax.fields import as_text
from ccpo_jax.presets import load_preset
from ccpo_jax.workdir import compare_config
from experiments.paper.rows import FIXED, TINY, Row

ROOT = pathlib.Path(__file__).resolve().parents[2]


def changed_fields(row: Row, typed: dict[str, Any], seed: int) -> dict[str, Any]:
    """All fields in which a row's run differs from its preset: the row's own, typed ones, the seed.

    Raises:
      InputError: a typed field defines the row.
    """
    for name in typed:
        if name in FIXED or (name in row.overrides and name not in TINY):
            message = f"row {row.name} defines it; leave it out, or type another --row"
            raise InputError(f"config.{name}", message)

    changes = row.overrides | typed | {"seed": seed}
    if row.when == "before":
        changes["steps"] = 0
    if row.samples != 1.0:
        group_size = typed.get("group_size", load_preset(row.config).group_size)
        changes["group_size"] = math.ceil(row.samples * group_size)
    return changes


def configuration(row: Row, typed: dict[str, Any], seed: int) -> Config:
    """The row's whole configuration.

    Raises:
      InputError: a typed field does not exist, cannot hold its value, or has no effect in the row's
        run.
    """
    config = combine(load_preset(row.config), changed_fields(row, typed, seed))
    return parse(config, typed)


def command(row: Row, typed: dict[str, Any], seed: int, workdir: pathlib.Path) -> list[str]:
    """The command line of a row's run."""
    fields = []
    for name, value in changed_fields(row, typed, seed).items():
        fields.append(f"--config.{name}={as_text(value)}")
    return ["run.py", f"--config={row.config}", f"--workdir={workdir.resolve()}", *fields]


def finished(workdir: pathlib.Path, config: Config) -> bool:
    """Whether the run in `workdir` has its result.

    Raises:
      InputError: it is the result of another configuration.
    """
    compare_config(config, str(workdir))
    if not (workdir / "result.json").is_file():
        return False
    steps = json.loads((workdir / "config.json").read_text(encoding="utf-8"))["steps"]
    if steps != config.steps:
        message = f"{workdir} holds a run of {steps} steps, not {config.steps}; type another --out"
        raise InputError("steps", message)
    return True


def launch(arguments: Sequence[str]) -> int:
    """Runs one row in a process of its own, its output on standard error. Returns its exit status.

    When this program is asked to stop, the run saves its step and ends first. A terminal's Ctrl-C
    reaches a whole process group, and a run that is asked twice ends at once, so the run has a
    group of its own and is asked here.
    """
    child = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=sys.stderr, start_new_session=True
    )
    try:
        return child.wait()
    except BaseException:
        child.terminate()
        child.wait()
        raise


def run_rows(
    rows: Sequence[Row],
    typed: dict[str, Any],
    seeds: Sequence[int] | None,
    folder: pathlib.Path,
    start: Callable[[Sequence[str]], int] = launch,
) -> list[str]:
    """Runs the rows and seeds that have no result yet.

    Returns:
      One line per run that failed.

    Raises:
      InputError: a folder holds another run.
    """
    jobs = [(row, seed) for row in rows for seed in seeds or row.seeds]
    # A whole table of one seed comes before the next seed.
    jobs.sort(key=lambda job: job[1])

    # Rows of the same run share its folder.
    job_of: dict[pathlib.Path, tuple[Row, int]] = {}
    for row, seed in jobs:
        job_of.setdefault(folder / row.run / f"seed-{seed}", (row, seed))

    missing = []
    for workdir, (row, seed) in job_of.items():
        if not finished(workdir, configuration(row, typed, seed)):
            missing.append(workdir)
    if len(missing) < len(job_of):
        done = len(job_of) - len(missing)
        print(f"{done} of {len(job_of)} runs have their result already", file=sys.stderr)

    failures = []
    start_time = time.monotonic()
    for number, workdir in enumerate(missing, 1):
        row, seed = job_of[workdir]
        minutes = (time.monotonic() - start_time) / 60
        progress = f"[{number}/{len(missing)}, {minutes:.1f} min] {row.name}, seed {seed}"
        print(f"\n{progress}", file=sys.stderr, flush=True)

        status = start(command(row, typed, seed, workdir))
        if status or not (workdir / "result.json").is_file():
            failures.append(
                f"{row.name}, seed {seed}, ended with status {status} and no result; see {workdir}"
            )
    return failures
