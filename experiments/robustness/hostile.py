"""Sends hostile texts through every verifier and every family's prompts, and says what that cost and what came of it.

    python -m experiments.robustness.hostile --strings=1000 --seed=0 --out=experiments/results/hostile.json

Verifiers run in their pool as in a run, at the limits of configs/base.py. Each text is judged between an earlier one
of its kind, which it is compared with, and a right answer, which it must not harm. Prompts are made with a tokenizer
in the manner of each family: the text as a problem, and as a thought that the Solver reads. Exit status 1 if an item
takes longer than its limit, or if anything is not as it should be.
"""

import argparse
import collections
import contextlib
import datetime
import functools
import itertools
import json
import os
import pathlib
import platform
import random
import re
import resource
import sys
import tempfile
import threading
import time

from ccpo_jax import verifiers
from ccpo_jax.arguments import Parser, positive
from ccpo_jax.data import Dataset, Problem
from ccpo_jax.hf.tokenizer import load_tokenizer
from ccpo_jax.rl.topology import TOPOLOGIES
from ccpo_jax.rollout import Agent, Team, prompts, ratings
from ccpo_jax.train import build as setup
from configs.base import base
from experiments.robustness.families import FAMILIES, load_family

_SECONDS = {
    "verifier": 20.0,
    "prompt": 5.0,
    "rating": 1.0,
}  # of a text; 5 in the pool, then a new process may start
_MEBIBYTES = {"parent": 2048, "worker": 4096}  # at the peak; the pool's own bound on a worker
_GOLDS = {"math": r"\frac{17}{23}", "choice": "G", "exact": "17 of 23"}
_ANSWERS = (
    r"Both sides are divided by 23, so $x = \boxed{\frac{17}{23}}$.", r"The answer is $\frac{17}{23}$, as $17 < 23$.",
    "Option F fails, as the text says nothing of rain. The answer is (G).", r"Hence \boxed{\text{G}}, not \boxed{F}.",
    "Of the 23 there are 6 that fail.\nAnswer: 17 of 23", '{"outcome": "right", "thinker": 0.3, "solver": 0.7}',
)  # fmt: skip
_CONTROLS = sorted(
    {token for spec in FAMILIES.values() for token in (*spec["special"], *spec["plain"])}
)


# --- texts -----------------------------------------------------------------------------------------------------------


def _many(dice: random.Random) -> int:
    """A number of repetitions, from ten to more than a million."""
    return int(10 ** dice.uniform(1, 6.1))


def _mixed(dice: random.Random, pieces) -> str:
    """Pieces in any order, up to 400, at times an answer's frame around them."""
    text = "".join(dice.choices(pieces, k=dice.randint(1, 400)))
    return dice.choice(
        ("{}", r"\boxed{{{}}}", "Answer: {}", "The answer is ${}$.", r"\boxed{{{}")
    ).format(text)


def _tower(dice: random.Random) -> str:
    """Few letters that stand for much work."""
    deep, base_ = dice.randint(2, 60), dice.choice(("9", "10", "x", "(1+x)", r"\sqrt{7}", "0.3"))
    return r"\boxed{" + dice.choice((
        f"{base_}^{{" * deep + "9" + "}" * deep, "(" * deep + "9" + "!)" * deep, "(" * deep + "1" + ")" * deep,
        rf"\binom{{10^{deep}}}{{10^{deep - 1}}}", rf"\sum_{{n=1}}^{{10^{{{deep}}}}} n^n", "^".join(["9"] * deep),
        rf"\int_0^{{{deep}}} x^{{x^x}} dx", r"\frac{1}{" * deep + "2" + "}" * deep, f"(x+y+z)^{{{deep}00}}",
        "!" * deep + "7" + "!" * deep, rf"\sqrt[{deep}]{{" * deep + "3" + "}" * deep, f"{base_}e{'9' * deep}",
    )) + "}"  # fmt: skip


def _mutated(dice: random.Random) -> str:
    """An answer that once was right, after up to 30 blows."""
    text = dice.choice(_ANSWERS)
    for _ in range(int(30 ** dice.random())):
        a, b = sorted(dice.choices(range(len(text) + 1), k=2))
        piece = dice.choice((
            "", text[a:b] * 2, text[a:b][::-1], chr(dice.randrange(0x11000)), dice.choice("{}$\\^_()"),
            dice.choice(_CONTROLS), text[a:b] * dice.randint(2, 99), text[a:b].upper(),
        ))  # fmt: skip
        text = (text[:a] + piece + text[b:])[:3_000_000]
    return text


_FRAMES = (
    "{",
    "}",
    "{}",
    "}{",
    r"\boxed{",
    r"\frac{",
    r"\left(",
    "[",
    "$",
    "$$",
    r"\(",
    r"\{",
    '{"a":',
    r"\text{",
)
_LATEX = r"\frac \sqrt \left( \right] { } [ ] ^ _ & \\ $ $$ \( \) \boxed{ \begin{pmatrix} \end{cases} \text{ \int \lim_"
_LATEX = [
    *_LATEX.split(),
    "1",
    "x",
    "+",
    "=",
    " ",
    ",",
    "/",
    "%",
    "#",
    "~",
    "\n",
    r"\operatorname",
    r"\cup",
]
_RUNS = (
    "answer is ",
    "Answer:",
    "#### ",
    "The answer",
    r"\boxed",
    "Option ",
    "I choose ",
    '{"outcome":',
)
_TAILS = (
    " ",
    "*",
    "\n",
    "\t",
    " *",
    "A, B or ",
    "B) is ",
    "the most likely ",
    "A)\n",
    "1,000",
    "$x$ and ",
    "=",
    "`_",
)
_MARKS = [*"\u200e\u200f\u202a\u202b\u202d\u202e\u2066\u2067\u2069\u200b\u200d\ufeff"]
_LETTERS = [
    "7",
    "x",
    "=",
    "א",
    "ب",
    "e\u0301\u0323\u0330",
    "𝟕",
    "٣",
    "½",
    "🙂",
    "ﷺ",
    "ﬃ",
    "İ",
    "\u2028",
]

KINDS = {  # none but mutations may be right
    "braces": lambda dice: dice.choice(_FRAMES) * (n := _many(dice))
    + dice.choice(("", "}" * n, "1" + "}" * n, ")" * n)),
    "towers": _tower,
    "digits": lambda dice: dice.choice(("Answer: ", r"\boxed{", "#### ", "-", "0.", "1/", "1e"))
    + dice.choice(("9", "12,", "0", "1/", "3:", "1.", "-", "٣")) * _many(dice) + dice.choice(("", "}", "%")),
    "unbalanced latex": lambda dice: _mixed(dice, _LATEX),
    "nulls and controls": lambda dice: _mixed(dice, [*map(chr, range(32)), "\x7f", "\x85", "\x1b[2J", "4", "x"]),
    "lone surrogates": lambda dice: _mixed(dice, ["\ud800", "\udbff", "\udc00", "\udfff", "7", "x", " "]),
    "directions and marks": lambda dice: _mixed(dice, _MARKS + _LETTERS),
    "control tokens": lambda dice: _mixed(dice, [*_CONTROLS, "system\n", "<", "|>", "{problem}", "{{ 7 }}"]),
    "runs": lambda dice: dice.choice(_RUNS) + dice.choice(_TAILS) * _many(dice) + dice.choice(("", "x", r"\boxed{")),
    "mutated answers": _mutated,
}  # fmt: skip


def texts_of(seed: int, count: int):
    """Yields ``(kind, text)``, the kinds in turn."""
    for number, kind in enumerate(itertools.islice(itertools.cycle(KINDS), count)):
        yield kind, KINDS[kind](random.Random(f"{seed}/{number}"))


# --- readers: text -> (verdicts, what is not as it should be) ---------------------------------------------------------


def by_verifier(
    pool: verifiers.VerifierPool, earlier: dict, name: str, kind: str, text: str
) -> tuple[list[str], str]:
    """Judges a text between an earlier wrong answer of its kind and a right one."""
    texts = (*earlier.get((name, kind), ()), text, rf"\boxed{{{_GOLDS[name]}}}")
    (graded,) = pool.verify([verifiers.Item(name, _GOLDS[name], texts)])
    correct, problem = graded.correct[-2], graded.problems[-2].partition(":")[0]
    if not correct and not problem:
        earlier[name, kind] = (text,)
    fault = "judged right" if correct and kind != "mutated answers" else ""
    return [problem or ("right" if correct else "wrong")], fault if graded.correct[
        -1
    ] else "harmed its neighbour"


def by_rating(kind: str, text: str) -> tuple[list[str], str]:
    """Reads a text as a rater's reply."""
    _, failure = ratings.parse(text, "right")
    return [
        failure or "rating"
    ], "" if failure or kind == "mutated answers" else "taken for a rating"


def by_prompt(team: Team, kind: str, text: str) -> tuple[list[str], str]:
    """Puts a text into the Solver's prompt, as a problem if it is short enough, and as the Thinker's thought."""
    solver, problem, read = team.agents[-1], "", "problem too long"
    tokenizer, template = solver.tokenizer, solver.template
    try:
        setup.fit_prompts(
            Dataset("hostile", (Problem("hostile/0", text, "4", "exact"),), {}), team, "drop"
        )
    except ValueError as error:  # a run says so and ends, or drops the problem
        if not str(error).startswith("prompt_length: 1 prompts of hostile exceed"):
            raise
    else:
        problem, read = text, "problem read"
    (thought,) = prompts.quote(tokenizer, [text], solver.max_tokens)
    ids = prompts.prefix(template, tokenizer, problem) + prompts.tail(template, [thought])
    live = [i for i in ids if i in tokenizer.control_ids]
    fixed = prompts.prefix(template, tokenizer, "") + prompts.tail(template, [[]])
    fault = (
        "" if live == [i for i in fixed if i in tokenizer.control_ids] else "a live control token"
    )
    if (
        len(thought) > solver.max_tokens
        or len(ids) > len(fixed) + team.prompt_length + solver.max_tokens
    ):
        fault = "longer than its bound"
    return [read, "thought cut" if len(thought) == solver.max_tokens else "thought whole"], fault


def teams(folder: str):
    """Yields ``(name, dyad)`` for the tokenizer of every family and of the embedded model, at the paper's lengths."""
    config, dyad = base(), TOPOLOGIES["dyad"]()
    made = {name: load_family(os.path.join(folder, name), spec) for name, spec in FAMILIES.items()}
    for name, tokenizer in (made | {"embedded": load_tokenizer(str(setup.TINY))}).items():
        words = prompts.PROMPTS["tiny" if name == "embedded" else "math"]
        agents = (Agent(None, tokenizer, prompts.tokenize_role(tokenizer, words[role]), size, 0)
                  for role, size in zip(dyad.roles, config.response_length, strict=True))  # fmt: skip
        yield name, Team(dyad, tuple(agents), config.prompt_length)


# --- cost ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def watched_workers(found: dict):
    """Keeps ``found["worker"]`` at the peak memory, in MiB, of any child process while it lives (Linux)."""

    def watch() -> None:
        while not over.wait(0.02):
            for thread in pathlib.Path("/proc/self/task").iterdir():
                with contextlib.suppress(
                    OSError, IndexError
                ):  # the thread or the process has ended meanwhile
                    for child in (thread / "children").read_text().split():
                        peak = (
                            pathlib.Path(f"/proc/{child}/status")
                            .read_text()
                            .split("VmHWM:")[1]
                            .split()[0]
                        )
                        found["worker"] = max(found["worker"], int(peak) // 1024)

    over, found["worker"] = threading.Event(), 0
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def assault(seed: int, count: int) -> dict:
    """Sends all texts through all readers. Returns the report."""
    seconds, worst, memory, faults, size = collections.Counter(), {}, {}, [], 0
    how = {name: value for name, value in base().verifier.items() if name != "workers"}
    with (
        tempfile.TemporaryDirectory() as folder,
        watched_workers(memory),
        verifiers.VerifierPool(1, **how) as pool,
    ):
        earlier: dict = {}
        readers = {
            f"verifier {name}": functools.partial(by_verifier, pool, earlier, name)
            for name in _GOLDS
        }
        readers |= {
            f"prompt {name}": functools.partial(by_prompt, team) for name, team in teams(folder)
        }
        readers["rating"] = by_rating
        verdicts, by_kind = (
            {name: collections.Counter() for name in names} for names in (readers, KINDS)
        )
        pool.verify([verifiers.Item("exact", "1", ("1",))])  # its process has started
        for number, (kind, text) in enumerate(texts_of(seed, count)):
            size += len(text)
            for reader, read in readers.items():
                began, stage = time.monotonic(), reader.partition(" ")[0]
                found, fault = read(kind, text)
                spent = time.monotonic() - began
                seconds[stage] += spent
                verdicts[reader].update(found)
                by_kind[kind].update(found if stage == "verifier" else ())
                worst[stage] = max(
                    worst.get(stage, [0]), [round(spent, 2), reader, kind, f"text {number}"]
                )
                if fault or spent > _SECONDS[stage]:
                    faults.append([fault or f"{spent:.1f} s", reader, kind, f"text {number}"])
    memory["parent"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    faults += [[f"{memory[who]} MiB", who] for who in memory if memory[who] > _MEBIBYTES[who]]
    return {
        "command": f"python -m experiments.robustness.hostile --strings={count} --seed={seed}",
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, Python {platform.python_version()}",
        "texts": count,
        "characters": size,
        "seconds": {stage: round(spent, 1) for stage, spent in seconds.items()},
        "seconds_allowed_for_one_text": _SECONDS,
        "worst_text": worst,
        "peak_memory_mib": memory,
        "peak_memory_allowed_mib": _MEBIBYTES,
        "verdicts": {reader: dict(sorted(counts.items())) for reader, counts in verdicts.items()},
        "verdicts_of_verifiers_by_kind": {
            kind: dict(sorted(counts.items())) for kind, counts in by_kind.items()
        },
        "faults": faults,
    }


def main() -> None:
    """The command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strings", type=positive, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, help="file for the report")
    options = parser.parse_args()
    report = assault(options.seed, options.strings)
    shown = re.sub(
        r"\n {3,}|(?<=\S)\n {2}(?=[\]}])", " ", json.dumps(report, indent=1, ensure_ascii=False)
    )
    print(shown)
    if options.out:
        options.out.write_text(shown + "\n")
    sys.exit(1 if report["faults"] else 0)


if __name__ == "__main__":
    main()
