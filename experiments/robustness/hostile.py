"""Sends hostile texts through every verifier and every family's prompts; reports cost and faults.

    python -m experiments.robustness.hostile --strings=1000 --seed=0 \
        --out=experiments/robustness/results/hostile.json

Verifiers run in their pool as in a run, at its default limits. Each text is judged between an
earlier one of its kind, which it is compared with, and a right answer, which it must not harm.
Prompts are made with a tokenizer in the manner of each family, with the text as a problem and as a
thought that the Solver reads. Exit status 1 if a text takes longer than its limit, or at any fault.
"""

import argparse
import collections
import contextlib
import datetime
import functools
import json
import os
import pathlib
import platform
import re
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ccpo_jax import verifiers
from ccpo_jax.arguments import Parser, positive
from ccpo_jax.config import Config
from ccpo_jax.data import Dataset, Problem
from ccpo_jax.hf.tokenizer import load_tokenizer
from ccpo_jax.rl.topology import TOPOLOGIES
from ccpo_jax.rollout import Agent, Team, prompts, ratings
from ccpo_jax.rollout.role_prompts import PROMPTS
from ccpo_jax.train.load import fit_prompts
from ccpo_jax.train.sources import TINY
from experiments.robustness.families import FAMILIES, load_family
from experiments.robustness.hostile_texts import KINDS, hostile_texts

# Seconds that a text may take, by the kind of its reader. A verdict is given up after 5 seconds;
# then a new process may have to start.
MAX_SECONDS = {"verifier": 20.0, "prompt": 5.0, "rating": 1.0}
# Peak memory; a worker's is the pool's own bound.
MAX_MEBIBYTES = {"parent": 2048, "worker": 4096}
_REFERENCES = {"math": r"\frac{17}{23}", "choice": "G", "exact": "17 of 23"}
_POLL_SECONDS = 0.02


class Reading(NamedTuple):
    """What became of a text."""

    verdicts: list[str]
    fault: str = ""  # "" = as it should be


# (kind, text) -> what became of it
Reader = Callable[[str, str], Reading]


# --- readers -----------------------------------------------------------------------------------


class VerifierReader:
    """Judges a text between an earlier wrong answer of its kind and a right answer."""

    def __init__(self, pool: verifiers.VerifierPool, name: str):
        self._pool = pool
        self._name = name
        self._earlier: dict[str, str] = {}  # kind -> the last text that was judged wrong

    def __call__(self, kind: str, text: str) -> Reading:
        reference = _REFERENCES[self._name]
        earlier = [self._earlier[kind]] if kind in self._earlier else []
        texts = (*earlier, text, rf"\boxed{{{reference}}}")
        (graded,) = self._pool.verify([verifiers.Item(self._name, reference, texts)])
        correct = graded.correct[-2]
        failure = graded.failures[-2].partition(":")[0]
        if not correct and not failure:
            self._earlier[kind] = text

        verdict = failure or ("right" if correct else "wrong")
        if not graded.correct[-1]:
            return Reading([verdict], "harmed its neighbour")
        if correct and kind != "mutated answers":
            return Reading([verdict], "judged right")
        return Reading([verdict])


def read_rating(kind: str, text: str) -> Reading:
    """Reads a text as a rater's reply."""
    _, failure = ratings.parse_rating(text, "right")
    if failure:
        return Reading([failure])
    return Reading(["rating"], "" if kind == "mutated answers" else "taken for a rating")


def read_prompt(team: Team, kind: str, text: str) -> Reading:
    """Puts a text into the Solver's prompt: as a problem if short enough, and as a thought."""
    del kind
    solver = team.agents[-1]
    tokenizer = solver.tokenizer
    template = solver.template
    fits = _fits_as_problem(team, text)
    problem = text if fits else ""

    (thought,) = prompts.quote(tokenizer, [text], solver.max_tokens)
    ids = prompts.prefix(template, tokenizer, problem) + prompts.tail(template, [thought])
    empty = prompts.prefix(template, tokenizer, "") + prompts.tail(template, [[]])
    control_ids = [i for i in ids if i in tokenizer.control_ids]
    own_control_ids = [i for i in empty if i in tokenizer.control_ids]

    max_length = len(empty) + team.prompt_length + solver.max_tokens
    fault = ""
    if len(thought) > solver.max_tokens or len(ids) > max_length:
        fault = "longer than its bound"
    elif control_ids != own_control_ids:
        fault = "a live control token"
    cut = len(thought) == solver.max_tokens
    verdicts = [
        "problem read" if fits else "problem too long",
        "thought cut" if cut else "thought whole",
    ]
    return Reading(verdicts, fault)


def _fits_as_problem(team: Team, text: str) -> bool:
    """Whether a run keeps a problem with this text; one that is too long it reports, or drops."""
    problem = Problem("hostile/0", text, "4", "exact")
    try:
        fit_prompts(Dataset("hostile", (problem,), {}), team, "drop")
    except ValueError as error:
        if not str(error).startswith("prompt_length: "):
            raise
        return False
    return True


def teams(folder: str) -> Iterator[tuple[str, Team]]:
    """Yields ``(name, dyad)`` for every family's and the embedded tokenizer, at paper lengths."""
    config = Config()
    dyad = TOPOLOGIES["dyad"]()
    tokenizers = {
        name: load_family(os.path.join(folder, name), family) for name, family in FAMILIES.items()
    }
    tokenizers["embedded"] = load_tokenizer(str(TINY))
    for name, tokenizer in tokenizers.items():
        role_prompts = PROMPTS["tiny" if name == "embedded" else "math"]
        agents = []
        for role, max_tokens in zip(dyad.roles, config.response_length, strict=True):
            template = prompts.tokenize_role(tokenizer, role_prompts[role])
            # No policy: nothing is decoded here.
            agents.append(Agent(None, tokenizer, template, max_tokens, 0))
        yield name, Team(dyad, tuple(agents), config.prompt_length)


# --- cost --------------------------------------------------------------------------------------


class WorkerMemory:
    """Watches the peak memory of this process's descendants (Linux). A context manager."""

    def __init__(self):
        self.peak_mebibytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "WorkerMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            self._look_at_children("self")

    def _look_at_children(self, process: str) -> None:
        # A process or a thread may have ended meanwhile.
        with contextlib.suppress(OSError, IndexError):
            for thread in pathlib.Path(f"/proc/{process}/task").iterdir():
                for child in (thread / "children").read_text().split():
                    self._look_at(child)
                    # Workers run jobs in forks of themselves.
                    self._look_at_children(child)

    def _look_at(self, process: str) -> None:
        status = pathlib.Path(f"/proc/{process}/status").read_text()
        kibibytes = int(status.split("VmHWM:")[1].split()[0])
        self.peak_mebibytes = max(self.peak_mebibytes, kibibytes // 1024)


class Tally:
    """What the readers made of all texts, and what that cost."""

    def __init__(self, readers: dict[str, Reader]):
        self.seconds: collections.Counter[str] = collections.Counter()
        self.worst: dict[str, list] = {}
        self.verdicts = {name: collections.Counter() for name in readers}
        self.verdicts_by_kind = {kind: collections.Counter() for kind in KINDS}
        self.faults: list[list[str]] = []

    def add(self, reader: str, kind: str, number: int, reading: Reading, seconds: float) -> None:
        """Counts what a reader made of text `number`."""
        stage = reader.partition(" ")[0]
        where = [reader, kind, f"text {number}"]
        self.seconds[stage] += seconds
        self.worst[stage] = max(self.worst.get(stage, [0]), [round(seconds, 2), *where])
        self.verdicts[reader].update(reading.verdicts)
        if stage == "verifier":
            self.verdicts_by_kind[kind].update(reading.verdicts)
        if reading.fault:
            self.faults.append([reading.fault, *where])
        elif seconds > MAX_SECONDS[stage]:
            self.faults.append([f"{seconds:.1f} s", *where])


def attack(seed: int, count: int) -> dict[str, Any]:
    """Sends `count` texts through all readers. Returns the report."""
    limits = {"time_limit": Config().verifier.time_limit}
    characters = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        WorkerMemory() as workers,
        verifiers.VerifierPool(1, **limits) as pool,
    ):
        readers: dict[str, Reader] = {}
        for name in _REFERENCES:
            readers[f"verifier {name}"] = VerifierReader(pool, name)
        for name, team in teams(folder):
            readers[f"prompt {name}"] = functools.partial(read_prompt, team)
        readers["rating"] = read_rating

        # Starts the pool's process.
        pool.verify([verifiers.Item("exact", "1", ("1",))])
        tally = Tally(readers)
        for number, (kind, text) in enumerate(hostile_texts(seed, count)):
            characters += len(text)
            for name, read in readers.items():
                started_at = time.monotonic()
                reading = read(kind, text)
                tally.add(name, kind, number, reading, time.monotonic() - started_at)

    parent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    memory = {"worker": workers.peak_mebibytes, "parent": parent}
    for process, mebibytes in memory.items():
        if mebibytes > MAX_MEBIBYTES[process]:
            tally.faults.append([f"{mebibytes} MiB", process])
    return {
        "command": f"python -m experiments.robustness.hostile --strings={count} --seed={seed}",
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, "
        f"Python {platform.python_version()}",
        "texts": count,
        "characters": characters,
        "seconds": {stage: round(seconds, 1) for stage, seconds in tally.seconds.items()},
        "seconds_allowed_for_one_text": MAX_SECONDS,
        "worst_text": tally.worst,
        "peak_memory_mib": memory,
        "peak_memory_allowed_mib": MAX_MEBIBYTES,
        "verdicts": _sorted_counts(tally.verdicts),
        "verdicts_of_verifiers_by_kind": _sorted_counts(tally.verdicts_by_kind),
        "faults": tally.faults,
    }


def _sorted_counts(counters: dict[str, collections.Counter[str]]) -> dict[str, dict[str, int]]:
    return {name: dict(sorted(counts.items())) for name, counts in counters.items()}


def main() -> None:
    """The command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strings", type=positive, default=1000, help="number of texts")
    parser.add_argument("--seed", type=int, default=0, help="of the texts")
    parser.add_argument("--out", type=pathlib.Path, help="file for the report")
    options = parser.parse_args()

    report = attack(options.seed, options.strings)
    text = json.dumps(report, indent=1, ensure_ascii=False)
    # Inner lists and objects on one line each.
    text = re.sub(r"\n {3,}|(?<=\S)\n {2}(?=[\]}])", " ", text)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    sys.exit(1 if report["faults"] else 0)


if __name__ == "__main__":
    main()
