"""Runs of a table: one process and one folder for each row and seed, resumable."""

import json
import math
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from ccpo_jax.config import Config, flatten, from_flat, parse
from ccpo_jax.fields import as_text
from ccpo_jax.presets import load_preset
from experiments.paper.rows import _OWN, _TINY, Row

ROOT = pathlib.Path(__file__).resolve().parents[2]


def changed_fields(row: Row, typed: dict[str, Any], seed: int) -> dict[str, Any]:
    """All fields in which a row's run differs from its preset: the row's own, typed ones, the seed.

    Raises:
      ValueError: a typed field is what the row is about.
    """
    for name in typed:
        if name in _OWN or name in row.overrides and name not in _TINY:
            raise ValueError(
                f"config.{name}: row {row.name} decides about it; leave it out, or type another --row"
            )
    changes = row.overrides | typed | {"seed": seed}
    if row.when == "before":
        changes["steps"] = 0
    if row.samples != 1.0:
        changes["group_size"] = math.ceil(
            row.samples * typed.get("group_size", load_preset(row.config).group_size)
        )
    return changes


def configuration(row: Row, typed: dict[str, Any], seed: int) -> Config:
    """The row's whole configuration.

    Raises:
      InputError: a typed field does not exist, cannot hold its value, or has no effect in the row's run.
    """
    fields = flatten(load_preset(row.config)) | changed_fields(row, typed, seed)
    return parse(from_flat(fields), typed)


def command(row: Row, typed: dict[str, Any], seed: int, workdir: pathlib.Path) -> list[str]:
    """What runs the row, as one would type it beside run.py."""
    fields = [
        f"--config.{name}={as_text(value)}"
        for name, value in changed_fields(row, typed, seed).items()
    ]
    return ["run.py", f"--config={row.config}", f"--workdir={workdir.resolve()}", *fields]


def finished(workdir: pathlib.Path, config: Config) -> bool:
    """Whether the run in `workdir` has its result.

    Raises:
      ValueError: it is the result of another configuration.
    """
    from ccpo_jax.workdir.run_config import compare_config

    compare_config(config, str(workdir))
    if not (workdir / "result.json").is_file():
        return False
    steps = json.loads((workdir / "config.json").read_text(encoding="utf-8"))["steps"]
    if steps != config.steps:
        raise ValueError(
            f"steps: {workdir} holds a run of {steps} steps, not {config.steps}; type another --out"
        )
    return True


def launch(arguments: Sequence[str]) -> int:
    """Runs one row in a process of its own, with its words on standard error. Returns its exit status.

    If this program is asked to stop, the run saves its step and ends first. A terminal's Ctrl-C goes to whole groups of
    processes, and a run that is asked twice ends at once; so the run has a group of its own and is asked here.
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
    """Runs what has no result yet.

    Returns:
      What failed, in words.

    Raises:
      ValueError: a folder holds another run.
    """
    wanted = {}  # rows of the same run share it
    jobs = [(row, seed) for row in rows for seed in seeds or row.seeds]
    for row, seed in sorted(jobs, key=lambda job: job[1]):  # a whole table of one seed first
        wanted.setdefault(folder / row.run / f"seed-{seed}", (row, seed))
    todo = {
        w: job for w, job in wanted.items() if not finished(w, configuration(job[0], typed, job[1]))
    }
    if skipped := len(wanted) - len(todo):
        print(f"{skipped} of {len(wanted)} runs have their result already", file=sys.stderr)
    failed, began = [], time.monotonic()
    for number, (workdir, (row, seed)) in enumerate(todo.items(), 1):
        clock = f"{(time.monotonic() - began) / 60:.1f} min"
        print(
            f"\n[{number}/{len(todo)}, {clock}] {row.name}, seed {seed}",
            file=sys.stderr,
            flush=True,
        )
        status = start(command(row, typed, seed, workdir))
        if status or not (workdir / "result.json").is_file():
            failed.append(
                f"{row.name}, seed {seed}, ended with status {status} and no result; see {workdir}"
            )
    return failed
