"""Kills a tiny run at random moments, resumes it, compares it with an uninterrupted run.

    python -m experiments.robustness.chaos --kills=100 --seed=0 \
        --out=experiments/robustness/results/chaos.json

Kills are SIGKILL. Each start of the run is a process of its own, forked from one that has imported
everything. Half of the kills come during the start-up, the other half after the process has written
its first step, where steps, evaluations and saves alternate. A run that ends before all kills are
spent is followed by another in a fresh folder. Exit status 1 if a line differs, or if a checkpoint
was lost. """

import argparse
import datetime
import json
import multiprocessing
import os
import pathlib
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from ccpo_jax import cli
from ccpo_jax.arguments import Parser, positive

# Few shapes, so that a process starts quickly: evaluations have those of training.
CHANGES = {
    "shared_policy": True,
    "batch_size": 2,
    "group_size": 2,
    "response_length": (16,),
    "data.size": 100,
    "data.heldout": 4,
    "eval.samples": 2,
    "eval.batch_size": 2,
    "eval_every": 7,
    "checkpoint_every": 2,
    "keep_last": 2,
    "verifier.workers": 1,
    "trainer.pack_length": 64,
    "trainer.micro_batch": 2,
}
# Steps after a process's first one within which a kill of the second kind comes.
_MAX_STEPS_TO_KILL = 60
# Seconds after which a process that has written no step counts as hung.
_HANG_SECONDS = 600.0


class Pace(NamedTuple):
    """How fast the run is on this machine, in seconds."""

    start: float  # a whole process that trains one step, with everything compiled
    step: float  # the median step


class Killer(NamedTuple):
    """Starts processes of a run and kills them."""

    context: ForkServerContext
    changes: Mapping[str, Any]  # fields of the run that differ from the preset's

    def start(self, workdir: pathlib.Path) -> BaseProcess:
        """A new process that starts or resumes the run in `workdir`."""
        process = self.context.Process(target=_train, args=(str(workdir), dict(self.changes)))
        process.start()
        return process

    def finish(self, workdir: pathlib.Path) -> None:
        """Trains the run in `workdir` to its end."""
        wait_for_end(self.start(workdir), workdir, None)

    def kill_once(
        self, workdir: pathlib.Path, rng: random.Random, pace: Pace
    ) -> dict[str, Any] | None:
        """Lets the run in `workdir` train for a random time and kills it.

        Args:
          workdir: the run's folder.
          rng: chooses the moment.
          pace: of the run on this machine.

        Returns:
          What the kill left; None where the run ended first.

        Raises:
          SystemExit: the process failed, or hung.
        """
        checkpoint_before = newest_checkpoint(workdir)
        phase = rng.choice(("start", "training"))
        longest = pace.start if phase == "start" else _MAX_STEPS_TO_KILL * pace.step
        delay = rng.uniform(0, longest)

        started_at = time.time()
        process = self.start(workdir)
        if phase == "training":
            _wait_for_step(process, workdir, checkpoint_before, started_at)
        if wait_for_end(process, workdir, delay):
            return None
        process.kill()
        process.join()

        metrics = workdir / "metrics.jsonl"
        steps = [line["step"] for line in metrics_without_times(workdir)]
        checkpoint = newest_checkpoint(workdir)
        return {
            "phase": phase,
            "seconds": round(delay, 3),
            "lines": len(steps),
            "checkpoint": checkpoint,
            "steps_lost": len(steps) - 1 - checkpoint if steps else 0,
            "save_under_way": any(workdir.glob("checkpoints/*tmp*")),
            "torn_line": metrics.exists() and metrics.read_bytes()[-1:] not in (b"\n", b""),
            "step_twice_or_missing": steps != list(range(len(steps))),
            "checkpoint_lost": checkpoint < checkpoint_before,
        }


def _train(workdir: str, changes: dict[str, Any]) -> None:
    """Starts or resumes the run in `workdir` and trains to its end, in a process of its own."""
    from ccpo_jax.presets import voting

    log = os.open(f"{workdir}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    config = voting.get_config("tiny")
    config.update_from_flattened_dict(changes)
    sys.exit(cli.run_mode(config, "voting:tiny", workdir, "train"))


def _wait_for_step(
    process: BaseProcess, workdir: pathlib.Path, checkpoint: int, started_at: float
) -> None:
    """Waits until the process has written a step that was not in the checkpoint."""
    metrics = workdir / "metrics.jsonl"
    while process.is_alive():
        written = metrics.exists() and metrics.stat().st_mtime > started_at
        if written and len(complete_lines(workdir)) > checkpoint + 1:
            return
        if time.time() - started_at > _HANG_SECONDS:
            raise SystemExit(
                f"chaos: no step was written within {_HANG_SECONDS:g} s; see {workdir}.log"
            )
        time.sleep(0.005)


def wait_for_end(process: BaseProcess, workdir: pathlib.Path, timeout: float | None) -> bool:
    """Waits for a process, at most `timeout` seconds; returns whether it has ended.

    Raises:
      SystemExit: it failed.
    """
    process.join(timeout)
    if process.exitcode:
        raise SystemExit(
            f"chaos: a process ended with status {process.exitcode}; see {workdir}.log"
        )
    return process.exitcode == 0


def complete_lines(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that were written to their end."""
    path = workdir / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def metrics_without_times(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Those lines without wall-clock fields."""
    return [
        {name: value for name, value in line.items() if not name.startswith("time/")}
        for line in complete_lines(workdir)
    ]


def newest_checkpoint(workdir: pathlib.Path) -> int:
    """The step of the newest complete checkpoint, 0 if there is none."""
    names = [path.name for path in workdir.glob("checkpoints/*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def differences(workdir: pathlib.Path, reference: pathlib.Path) -> list[str]:
    """Where a run's lines and result differ from those of the uninterrupted run."""
    lines = metrics_without_times(workdir)
    expected = metrics_without_times(reference)
    different = []
    for number, (line, expected_line) in enumerate(zip(lines, expected, strict=False), 1):
        if line != expected_line:
            different.append(f"line {number}")
    if len(lines) != len(expected):
        different.append(f"{len(lines)} lines instead of {len(expected)}")

    result = json.loads((workdir / "result.json").read_text())["after"]
    expected_result = json.loads((reference / "result.json").read_text())["after"]
    for name, value in expected_result.items():
        if not name.startswith("time/") and result.get(name) != value:
            different.append(name)
    return different


def chaos(
    folder: pathlib.Path, *, kills: int, seed: int, steps: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Kills runs in `folder` until all kills are spent; compares each with an uninterrupted run.

    Returns:
      ``(report, what each kill left)``.

    Raises:
      SystemExit: a process failed, or hung.
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ccpo_jax.train", "ccpo_jax.presets.voting"])
    killer = Killer(context, CHANGES | {"steps": steps})

    started_at = time.monotonic()
    reference = folder / "whole"
    killer.finish(reference)
    pace = _measure_pace(killer, reference, folder / "again")

    rng = random.Random(seed)
    left: list[dict[str, Any]] = []
    different: list[str] = []
    runs = 0
    while len(left) < kills:
        workdir = folder / f"run-{runs}"
        runs += 1
        ended = False
        while len(left) < kills and not ended:
            kill = killer.kill_once(workdir, rng, pace)
            if kill is None:
                ended = True
            else:
                left.append({"run": runs} | kill)
                print(f"kill {len(left)}: {left[-1]}", file=sys.stderr)
        if not ended:
            killer.finish(workdir)
        different += [f"run {runs}: {name}" for name in differences(workdir, reference)]

    counted = ("save_under_way", "torn_line", "step_twice_or_missing", "checkpoint_lost")
    report = {
        "command": f"python -m experiments.robustness.chaos --kills={kills} --seed={seed} "
        f"--steps={steps}",
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, "
        f"Python {platform.python_version()}",
        "seconds": round(time.monotonic() - started_at),
        "pace": {name: round(value, 3) for name, value in pace._asdict().items()},
        "kills": len(left),
        "kills_during_start": sum(kill["phase"] == "start" for kill in left),
        **{f"kills_with_{name}": sum(kill[name] for kill in left) for name in counted},
        "most_steps_lost_by_a_kill": max(kill["steps_lost"] for kill in left),
        "runs_compared": runs,
        "lines_of_a_run": len(complete_lines(reference)),
        "differences": different,
    }
    return report, left


def _measure_pace(killer: Killer, reference: pathlib.Path, workdir: pathlib.Path) -> Pace:
    """The pace of a run that finds everything compiled."""
    one_step = killer._replace(changes={**killer.changes, "steps": 1})
    started_at = time.monotonic()
    one_step.finish(workdir)
    seconds = time.monotonic() - started_at
    step_seconds = [line["time/step"] for line in complete_lines(reference)[1:]]
    return Pace(start=seconds, step=statistics.median(step_seconds))


def main() -> None:
    """The command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=positive, default=100)
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the moments; how far a run gets until then depends on the machine",
    )
    parser.add_argument("--steps", type=positive, default=60, help="of a run")
    parser.add_argument("--out", type=pathlib.Path, help="file for the report")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        report, left = chaos(
            pathlib.Path(folder), kills=options.kills, seed=options.seed, steps=options.steps
        )
    text = json.dumps(report, indent=1)
    print(text)
    if options.out:
        lines = ",\n  ".join(map(json.dumps, left))
        head = text.removesuffix("\n}")
        options.out.write_text(f'{head},\n "left_by_each_kill": [\n  {lines}\n ]\n}}\n')

    lost = report["kills_with_step_twice_or_missing"] + report["kills_with_checkpoint_lost"]
    sys.exit(1 if report["differences"] or lost else 0)


if __name__ == "__main__":
    main()
