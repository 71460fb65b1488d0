"""What a team's members are taught before a study begins: habits, skills, and how much of each.

A lesson is a stream of prompts with the responses to learn. A habit that is frequent is what greedy
decoding shows; a rare one is what reinforcement learning can find. So every lesson mixes them.
"""

import functools
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping

from ccpo_jax.data.synthetic import TASKS
from ccpo_jax.rollout import prompts
from ccpo_jax.rollout.ratings import OUTCOMES
from ccpo_jax.rollout.role_prompts import PROMPTS
from experiments.study import pretrain_tiny as pretrain
from experiments.study import tiny_traces
from experiments.study.tiny_traces import Trace

# (prompt ids, response ids)
Pair = tuple[list[int], list[int]]

# --- habits of a Thinker --------------------------------------------------------------------------

# Five thoughts in six help nobody.
LAZY = {"unsure": 3.0, "nothing": 2.0, "clean": 1.0}

# Five thoughts in six lead to a wrong total. They err alike: were every step wrong at times, the most
# likely one would still be right, and greedy decoding would mislead nobody.
MISLEADING = {"one too many": 5.0, "clean": 1.0}

# --- work that can be left to others --------------------------------------------------------------

# Each member mostly leaves the chain to the others: a Thinker of the whole chain, of half of it or
# of one step; a Solver that works; a checker that copies what it reads or works.
SHIRKING_THINKER = {"unsure": 0.7, "first": 0.08, "half": 0.13, "all": 0.09}
SHIRKING_SOLVER = {"guess": 0.7, "clean": 0.22, "slip": 0.08}
SHIRKING_CHECKER = {"copy": 0.45, "guess": 0.35, "clean": 0.12, "slip": 0.08}

# Steps that a response of 22 tokens has room for, beside its answer.
SHIRKING_STEPS = 3

# --- uneven voters --------------------------------------------------------------------------------

# Both mostly guess: were computing what the strong one mostly does, a lower temperature alone would
# make the team right (51 % at T = .25 against 34 % at T = 1 with half of its answers computed).
STRONG = {"clean": 0.32, "guess": 0.6, "slip": 0.08}
WEAK = {"clean": 0.08, "guess": 0.72, "first": 0.1, "slip": 0.1}


def pick(rng: random.Random, shares: Mapping[str, float]) -> str:
    """A habit, drawn by its share."""
    return rng.choices(list(shares), list(shares.values()))[0]


def endless(task: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Questions and golds of a task's "pretrain" split."""
    while True:
        yield from TASKS[task]("pretrain", 1024, rng.randrange(2**31))


def encoded(tokenizer, traces: Iterator[Trace]) -> Iterator[Pair]:
    """Traces as a rollout would compose and sample them."""
    templates = {}
    for role in tiny_traces.MAX_TOKENS:
        templates[role] = prompts.tokenize_role(tokenizer, PROMPTS["tiny"][role])
    for trace in traces:
        yield pretrain.encode(trace, tokenizer, templates)


# --- lessons --------------------------------------------------------------------------------------


def thinker(tokenizer, seed: int, habits: Mapping[str, float]) -> Iterator[Pair]:
    """A Thinker of the dyad's chains with some habits."""

    def traces() -> Iterator[Trace]:
        rng = random.Random(seed)
        for question, _ in endless("dyad", rng):
            yield Trace("thinker", question, (), think(question, rng, pick(rng, habits)))

    return encoded(tokenizer, traces())


def voter(tokenizer, seed: int, habits: Mapping[str, float]) -> Iterator[Pair]:
    """A voter with some habits."""

    def traces() -> Iterator[Trace]:
        rng = random.Random(seed)
        for question, _ in endless("voting", rng):
            habit = pick(rng, habits)
            answer = tiny_traces.solve(question, None, rng, habit, tiny_traces.VOTER_STEPS)
            yield Trace("voter", question, (), answer)

    return encoded(tokenizer, traces())


def shirking(tokenizer, seed: int) -> Iterator[Pair]:
    """All roles of a dyad and of a chain of three, on chains that either of two could compute."""

    def traces() -> Iterator[Trace]:
        rng = random.Random(seed)
        for question, _ in endless("voting", rng):
            thought = leave(question, pick(rng, SHIRKING_THINKER))
            # What others read has to vary more than what they will see at first.
            seen = leave(question, rng.choice(list(SHIRKING_THINKER)))
            message = None if rng.random() < 0.05 else seen
            habit = pick(rng, SHIRKING_SOLVER)
            solution = tiny_traces.solve(question, message, rng, habit, SHIRKING_STEPS)
            role = rng.choice(("thinker", "solver", "solver", "checker"))
            if role == "thinker":
                yield Trace(role, question, (), thought)
            elif role == "solver":
                yield Trace(role, question, (message,), solution)
            else:
                yield Trace(
                    role, question, (message, solution), check(question, message, solution, rng)
                )

    return encoded(tokenizer, traces())


def think(question: str, rng: random.Random, habit: str) -> str:
    """A thought of the dyad: "nothing" = no text, "one too many" = so is the first total and all that
    follow, else as `tiny_traces.think`.
    """
    if habit == "nothing":
        return ""
    if habit == "one too many":
        first, *changes = tiny_traces.numbers(question)
        steps = min(tiny_traces.THINKER_STEPS, (len(changes) + 1) // 2)
        return tiny_traces.chain(first, changes[:steps], slip_at=0, slip=1)[0]
    return tiny_traces.think(question, rng, habit)


def leave(question: str, habit: str) -> str:
    """A thought that leaves some of a chain to others.

    Args:
      question: a chain.
      habit: "unsure" = all of it; "first", "half" and "all" = what the thought computes.
    """
    if habit == "unsure":
        return "unsure"
    first, *changes = tiny_traces.numbers(question)
    steps = {"first": 1, "half": (len(changes) + 1) // 2, "all": SHIRKING_STEPS}[habit]
    return tiny_traces.chain(first, changes[:steps])[0]


def check(question: str, plan: str | None, solution: str, rng: random.Random) -> str:
    """A checker's response: the answer that it reads, or its own, from the plan."""
    habit = pick(rng, SHIRKING_CHECKER)
    if habit == "copy":
        return "Answer: " + solution.rpartition("Answer: ")[2]
    return tiny_traces.solve(question, plan, rng, habit, SHIRKING_STEPS)


def fair_shares(thought: str, right: bool) -> tuple[float, float]:
    """The Thinker's and the Solver's share of an outcome, as one who can compute would rate it.

    Praise goes to the Thinker for a right half of the chain, blame for a wrong one or none.

    Example:
      >>> fair_shares("4-1=3", right=True)
      (0.6, 0.4)
      >>> fair_shares("4-1=5", right=False)
      (0.8, 0.2)
    """
    steps = re.findall(r"(?=(?<!\d)(\d+)([+-]\d+)=(\d+))", thought)
    is_right = all(int(total) + int(change) == int(result) for total, change, result in steps)
    ends_in_total = re.search(r"=\d+$", thought) is not None
    if is_right and ends_in_total:
        tenths = 6 if right else 2
    else:
        tenths = 2 if right else 8
    return tenths / 10, (10 - tenths) / 10


def rating(tokenizer, seed: int) -> Iterator[Pair]:
    """Ratings of both roles, a third each, between traces of the first training."""
    rng = random.Random(seed)
    words = PROMPTS["tiny"]
    messages = ("thinker", "solver", "verdict")
    raters = []
    for role in ("thinker", "solver"):
        raters.append(prompts.tokenize_role(tokenizer, words[f"rate_{role}"], messages))

    first_training = encoded(tokenizer, tiny_traces.traces(seed, habits=True))
    for question, gold in endless("dyad", rng):
        thought = tiny_traces.think(question, rng, rng.choice(list(tiny_traces.THINKER)))
        habit = rng.choice(list(tiny_traces.SOLVER))
        answer = tiny_traces.solve(question, thought, rng, habit, tiny_traces.SOLVER_STEPS)
        outcome = OUTCOMES[answer.endswith(f"Answer: {gold}")]
        by_thinker, by_solver = fair_shares(thought, outcome == "right")

        quoted = []
        for text in (thought, answer):
            quoted += prompts.quote(tokenizer, [text], tiny_traces.MAX_TOKENS["checker"])
        quoted.append(tokenizer.encode(outcome))
        shares = {"outcome": outcome, "thinker": by_thinker, "solver": by_solver}
        reply = json.dumps(shares, separators=(",", ":"))
        response = [*tokenizer.encode(reply), tokenizer.eos_ids[0]]
        for rater in raters:
            prefix = prompts.prefix(rater, tokenizer, question)
            yield prefix + prompts.tail(rater, quoted), response

        yield next(first_training)


# (tokenizer, seed) -> endless pairs.
LESSONS: dict[str, Callable[..., Iterator[Pair]]] = {
    "lazy": functools.partial(thinker, habits=LAZY),
    "misleading": functools.partial(thinker, habits=MISLEADING),
    "shirking": shirking,
    "strong": functools.partial(voter, habits=STRONG),
    "weak": functools.partial(voter, habits=WEAK),
    "rating": rating,
}
