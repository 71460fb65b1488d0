"""Kills a tiny run with SIGKILL at random moments, resumes it, and compares every line with an uninterrupted run.

    python -m experiments.robustness.chaos --kills=100 --seed=0 --out=experiments/results/chaos.json

A life of the run is a process of its own, forked from one that has imported everything. Half of the moments are drawn
from its start-up, the other half from the time after its first step, where steps, evaluations and saves take turns. A
run that comes to its end before all kills are spent is followed by another in a fresh folder.
"""

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

from ccpo_jax import cli
from ccpo_jax.arguments import Parser, positive

CHANGES = {  # few shapes, so that a life starts quickly: evaluations have those of training
    "shared_policy": True, "batch_size": 2, "group_size": 2, "response_length": (16,), "data.size": 100,
    "data.heldout": 4, "eval.samples": 2, "eval.batch_size": 2, "eval_every": 7, "checkpoint_every": 2, "keep_last": 2,
    "verifier.workers": 1, "trainer.pack_length": 64, "trainer.micro_batch": 2,
}  # fmt: skip
_REACH = 60  # steps after a life's first one within which a kill of the second kind comes
_PATIENCE = 600.0  # seconds until a life that shows no sign counts as hung


def live(workdir: str, changes: dict) -> None:
    """One life: starts or resumes the run in `workdir` and trains to its end. Runs in a process of its own."""
    from configs import voting

    log = os.open(f"{workdir}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    config = voting.get_config("tiny")
    config.update_from_flattened_dict(changes)
    sys.exit(cli.run_mode(config, "configs/voting.py:tiny", workdir, "train"))


def rows_of(workdir: pathlib.Path) -> list[dict]:
    """Whole lines of metrics.jsonl."""
    path = workdir / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def lines_of(workdir: pathlib.Path) -> list[dict]:
    """Those lines without wall-clock fields."""
    return [
        {name: value for name, value in row.items() if not name.startswith("time/")}
        for row in rows_of(workdir)
    ]


def newest_checkpoint(workdir: pathlib.Path) -> int:
    """The step of the newest complete checkpoint, 0 if there is none."""
    return max(
        (int(path.name) for path in workdir.glob("checkpoints/*") if path.name.isdecimal()),
        default=0,
    )


def begin(context, workdir: pathlib.Path, changes: dict):
    """A new life of the run in `workdir`."""
    life = context.Process(target=live, args=(str(workdir), changes))
    life.start()
    return life


def end(life, workdir: pathlib.Path, patience: float | None) -> bool:
    """Waits for a life. Returns whether it has come to its end; one that fails ends this program."""
    life.join(patience)
    if life.exitcode:
        raise SystemExit(
            f"chaos: a life ended by itself with status {life.exitcode}; see {workdir}.log"
        )
    return life.exitcode == 0


def kill_once(
    context, workdir: pathlib.Path, changes: dict, dice: random.Random, pace: dict
) -> dict | None:
    """Lets the run live for a random time and kills it.

    Args:
      context: of multiprocessing.
      workdir: the run's folder.
      changes: fields of the whole run that differ from the preset's.
      dice: decides the moment.
      pace: seconds that "start" and "step" take here.

    Returns:
      What the kill left; None where the run came to its end first.
    """
    before, metrics = newest_checkpoint(workdir), workdir / "metrics.jsonl"
    phase = dice.choice(("start", "training"))
    delay = dice.uniform(0, pace["start"] if phase == "start" else _REACH * pace["step"])
    began, life = time.time(), begin(context, workdir, changes)
    while phase == "training" and life.is_alive():  # until this life has written its first step
        if (
            metrics.exists()
            and metrics.stat().st_mtime > began
            and len(lines_of(workdir)) > before + 1
        ):
            break
        if time.time() - began > _PATIENCE:
            raise SystemExit(
                f"chaos: a life has written no step within {_PATIENCE:g} s; see {workdir}.log"
            )
        time.sleep(0.005)
    if end(life, workdir, delay):
        return None
    life.kill()
    life.join()
    left = [row["step"] for row in lines_of(workdir)]
    return {
        "phase": phase,
        "seconds": round(delay, 3),
        "lines": len(left),
        "checkpoint": newest_checkpoint(workdir),
        "steps_lost": len(left) - 1 - newest_checkpoint(workdir) if left else 0,
        "save_under_way": any(workdir.glob("checkpoints/*tmp*")),
        "torn_line": metrics.exists() and metrics.read_bytes()[-1:] not in (b"\n", b""),
        "step_twice_or_missing": left != list(range(len(left))),
        "checkpoint_lost": newest_checkpoint(workdir) < before,
    }


def differences(workdir: pathlib.Path, whole: pathlib.Path) -> list[str]:
    """Where a run's lines and result differ from those of the uninterrupted one."""
    found, expected = lines_of(workdir), lines_of(whole)
    wrong = [
        f"line {i + 1}" for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b
    ]
    if len(found) != len(expected):
        wrong.append(f"{len(found)} lines instead of {len(expected)}")
    ends = [
        json.loads((folder / "result.json").read_text())["after"] for folder in (workdir, whole)
    ]
    wrong += [
        name
        for name, value in ends[1].items()
        if not name.startswith("time/") and ends[0].get(name) != value
    ]
    return wrong


def chaos(folder: pathlib.Path, *, kills: int, seed: int, steps: int) -> tuple[dict, list[dict]]:
    """Kills runs in `folder` until all kills are spent and compares each with the uninterrupted one.

    Returns:
      (report, what each kill left)

    Raises:
      SystemExit: a life failed, or hung.
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ccpo_jax.train", "configs.voting"])
    began, whole, changes = time.monotonic(), folder / "whole", CHANGES | {"steps": steps}
    end(begin(context, whole, changes), whole, None)
    started, again = (
        time.monotonic(),
        folder / "again",
    )  # for the pace of a life that finds everything compiled
    end(begin(context, again, changes | {"steps": 1}), again, None)
    rows = rows_of(whole)
    pace = {
        "start": time.monotonic() - started,
        "step": statistics.median(row["time/step"] for row in rows[1:]),
    }
    dice, left, wrong, runs = random.Random(seed), [], [], 0
    while len(left) < kills:
        workdir, runs, found = folder / f"run-{runs}", runs + 1, {}
        while (
            len(left) < kills
            and (found := kill_once(context, workdir, changes, dice, pace)) is not None
        ):
            left.append({"run": runs} | found)
            print(f"kill {len(left)}: {left[-1]}", file=sys.stderr)
        if found is not None:
            end(begin(context, workdir, changes), workdir, None)
        wrong += [f"run {runs}: {difference}" for difference in differences(workdir, whole)]
    counted = ("save_under_way", "torn_line", "step_twice_or_missing", "checkpoint_lost")
    return {
        "command": f"python -m experiments.robustness.chaos --kills={kills} --seed={seed} --steps={steps}",
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, Python {platform.python_version()}",
        "seconds": round(time.monotonic() - began),
        "pace": {name: round(value, 3) for name, value in pace.items()},
        "kills": len(left),
        "kills_during_start": sum(moment["phase"] == "start" for moment in left),
        **{f"kills_with_{name}": sum(moment[name] for moment in left) for name in counted},
        "most_steps_lost_by_a_kill": max(moment["steps_lost"] for moment in left),
        "runs_compared": runs,
        "lines_of_a_run": len(rows),
        "differences": wrong,
    }, left


def main() -> None:
    """The command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=positive, default=100)
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the moments; how far a run gets until then is the machine's",
    )
    parser.add_argument("--steps", type=positive, default=60)
    parser.add_argument("--out", type=pathlib.Path, help="file for the report")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report, left = chaos(
            pathlib.Path(folder), kills=options.kills, seed=options.seed, steps=options.steps
        )
    shown = json.dumps(report, indent=1)
    print(shown)
    if options.out:
        rows = ",\n  ".join(map(json.dumps, left))
        options.out.write_text(
            shown.removesuffix("\n}") + f',\n "left_by_each_kill": [\n  {rows}\n ]\n}}\n'
        )
    faults = report["kills_with_step_twice_or_missing"] + report["kills_with_checkpoint_lost"]
    sys.exit(1 if report["differences"] or faults else 0)


if __name__ == "__main__":
    main()
