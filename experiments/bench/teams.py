"""What a step costs by the number of agents: CPU seconds, memory, and programs compiled.

    python -m experiments.bench.teams --agents=3,9,16,32,64
    python -m experiments.bench.teams --agents=3,9,16 --separate

Voters of the embedded model, 16 prompts x 4 samples, each number of agents in a process of its own.
CPU seconds are those of all threads and of the verifiers, so that a busy machine changes little.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from typing import Any, NamedTuple

STEPS = 3


class Cost(NamedTuple):
    """What a run of a few steps costs."""

    step: float  # CPU seconds of the last step, in which nothing compiles
    first: float  # of the first step
    evaluation: float  # of one evaluation of 16 problems
    memory: float  # MiB at most
    compiled: int  # programs compiled in all


def measure(agents: int, separate: bool) -> Cost:
    """Trains voters for a few steps in this process."""
    import jax

    from ccpo_jax.train import Trainer

    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if "backend_compile" in name else None
    )
    fields: dict[str, Any] = {
        "preset": "voting:tiny",
        "team.num_agents": agents,
        "model": ("tiny",) if separate else (f"tiny*{agents}",),
        "batch_size": 16,
        "group_size": 4,
        "steps": STEPS,
        "data.heldout": 16,
        "eval.batch_size": 16,
        "eval.samples": 4,
        "verifier.workers": 1,
    }
    seconds = []
    with Trainer(fields, devices=jax.devices()[:1]) as trainer:
        for _ in range(STEPS):
            start = _cpu_seconds()
            trainer.step()
            seconds.append(_cpu_seconds() - start)
        start = _cpu_seconds()
        trainer.evaluate()
        evaluation = _cpu_seconds() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cost(seconds[-1], seconds[0], evaluation, peak, len(compiled))


def _cpu_seconds() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--agents", default="3,9,16,32,64", help="numbers of voters")
    parser.add_argument("--separate", action="store_true", help="parameters for each agent")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(int(args.agents), args.separate)))
        return
    print("| N | step | first step | evaluation | peak memory | compiled |")
    print("|---|---|---|---|---|---|")
    for agents in args.agents.split(","):
        command = [sys.executable, "-m", "experiments.bench.teams", "--one", f"--agents={agents}"]
        command += ["--separate"] if args.separate else []
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, env=dict(os.environ)
        )
        cost = Cost(*json.loads(done.stdout.splitlines()[-1]))
        print(
            f"| {agents} | {cost.step:.1f} s | {cost.first:.1f} s | {cost.evaluation:.1f} s | "
            f"{cost.memory:,.0f} MiB | {cost.compiled} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
