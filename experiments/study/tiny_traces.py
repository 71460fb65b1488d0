"""What the embedded model is trained to write: traces of every role, and its habits.

A habit is a way to respond that a role has learned. Each role can do its work, and mostly does
something else: what it does by habit is the most likely token wherever it has to decide, so greedy
decoding shows the habit and not the skill.

    thinker   stops after the first step of the chain, or is unsure; rarely writes the useful half
    solver    continues a chain that it can finish; guesses where the thought left too much to do
    voter     guesses, or guesses after one step; rarely computes the whole chain
    voter     of a two-term sum: answers at once; where a "?" stands it guesses or is unsure
    checker   copies the solution it reads, or computes from the plan
    debater   joins the most frequent of the answers it reads
"""

import collections
import functools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ccpo_jax.data.synthetic import LARGEST_TOTAL, TASKS, VIEWS, chain_sum

# What each role may write.
MAX_TOKENS = {"thinker": 18, "solver": 17, "voter": 32, "checker": 22, "debater": 32}

# Steps that the Thinker and the Solver have room for.
THINKER_STEPS = 3
SOLVER_STEPS = 2

# As many as any problem of voters takes.
VOTER_STEPS = 5

# Shares of each role's habits, see `think` and `solve`.
THINKER = {"unsure": 0.25, "first": 0.48, "short": 0.06, "slip": 0.05, "clean": 0.16}
SOLVER = {"guess": 0.27, "first": 0.08, "short": 0.05, "slip": 0.07, "clean": 0.53}
VOTER = {"guess": 0.58, "first": 0.19, "short": 0.04, "slip": 0.08, "clean": 0.11}

# A Solver that reads too little to finish the chain.
HELPLESS = {"guess": 0.85, "clean": 0.15}

# A voter that answers a two-term sum, or lacks its last term.
INFORMED = {"guess": 0.94, "slip": 0.04, "unsure": 0.02}
UNINFORMED = {"guess": 0.59, "unsure": 0.41}

# What the Solver learns to read; None is no thought.
THOUGHTS = {"clean": 0.5, "short": 0.1, "first": 0.15, "slip": 0.05, "unsure": 0.1, None: 0.1}

# How much of the training each role is.
ROLES = {
    "thinker": 0.15,
    "solver": 0.16,
    "voter": 0.2,
    "parts": 0.41,
    "checker": 0.05,
    "debater": 0.03,
}


class Trace(NamedTuple):
    """One supervised example.

    Attributes:
      role: a key of `MAX_TOKENS`.
      question: what the role is asked.
      messages: what it reads, in order; None is a masked message.
      response: what it writes.
    """

    role: str
    question: str
    messages: tuple[str | None, ...]
    response: str


def numbers(question: str) -> list[int]:
    """``Compute 47-8+6.`` -> [47, -8, 6]."""
    return [int(number) for number in re.findall(r"[+-]?\d+", question)]


def chain(start: int, changes: Sequence[int], slip_at: int = -1, slip: int = 0) -> tuple[str, int]:
    """Running totals: ``(47, [-8, 6])`` -> ("47-8=39+6=45", 45).

    The step `slip_at` comes out wrong by `slip`.
    """
    text = str(start)
    total = start
    for step, change in enumerate(changes):
        total += change
        if step == slip_at:
            total += slip
        total = _within_range(total)
        text += f"{change:+d}={total}"
    return text, total


def _within_range(total: int) -> int:
    return min(max(total, 0), LARGEST_TOTAL)


def slips(habit: str, steps: int, rng: random.Random) -> dict[str, int]:
    """Where and by how much to miscalculate: not at all unless it is the habit."""
    if habit != "slip":
        return {}
    return {"slip_at": rng.randrange(steps), "slip": rng.choice((-10, -2, -1, 1, 2, 10))}


def think(question: str, rng: random.Random, habit: str) -> str:
    """The Thinker's response.

    Args:
      question: a chain.
      rng: decides lengths and slips.
      habit: "clean" = the first `THINKER_STEPS` steps of the chain; "first" and "short" = one of
        them, or some but not all; "slip" = one step is wrong; "unsure" = that word.
    """
    first, *changes = numbers(question)
    steps = min(THINKER_STEPS, (len(changes) + 1) // 2)
    if habit == "unsure":
        return "unsure"
    if habit in ("first", "guess"):
        steps = 1
    if habit == "short":
        steps = rng.randrange(1, max(steps, 2))
    return chain(first, changes[:steps], **slips(habit, steps, rng))[0]


def solve(question: str, thought: str | None, rng: random.Random, habit: str, room: int) -> str:
    """The Solver's or a voter's response: it continues where the thought ends.

    Args:
      question: a chain.
      thought: running totals; None or no total in it = begin from the first number.
      rng: decides lengths and slips.
      habit: "clean" = computes as many steps as there is room for; "first" and "short" = one step,
        or some; "guess" = none; "slip" = as clean, one step is wrong; "unsure" = that word. The
        answer behind steps that do not reach the end is the right one, which the model can only
        guess.
      room: most steps.
    """
    start, *changes = numbers(question)
    totals = re.findall(r"=(\d+)", thought or "")
    if totals:
        start = int(totals[-1])
        changes = changes[len(totals) :]

    if habit == "unsure":
        return "unsure"
    steps = min(len(changes), room)
    if habit == "guess":
        steps = 0
    if habit == "first":
        steps = min(steps, 1)
    if habit == "short" and steps > 1:
        steps = rng.randrange(1, steps)

    slip = slips(habit, steps, rng) if steps else {}
    text, total = chain(start, changes[:steps], **slip)
    answer = f"Answer: {_within_range(total + sum(changes[steps:]))}"
    return f"{text}\n{answer}" if steps else answer


def add(seen: str, rng: random.Random, habit: str) -> str:
    """A voter's response to a two-term sum, of which it may lack the second.

    Args:
      seen: the question or its view without the last term.
      rng: decides guessed terms and slips.
      habit: "guess" = answers at once; "slip" = wrongly; "unsure" = that word.
    """
    if habit == "unsure":
        return "unsure"
    first, *changes = numbers(seen)
    total = first + sum(changes)
    if not changes:
        total = rng.choice([guess for guess in _reachable(first) if guess != first])
    if habit == "slip":
        total += rng.choice((-10, -1, 1, 10))
    return f"Answer: {_within_range(total)}"


def _reachable(first: int) -> range:
    """Totals of two-term sums that begin with `first`."""
    return range(max(first - 49, 0), min(first + 49, LARGEST_TOTAL) + 1)


def join(answers: Sequence[str]) -> str:
    """A debater's second response: the answer that most of the first ones give."""
    votes = collections.Counter(re.findall(r"Answer: (\d+)", "\n".join(answers)))
    return f"Answer: {votes.most_common(1)[0][0]}" if votes else "unsure"


class _TraceSampler:
    """Draws the traces of each role on problems of the "pretrain" split."""

    def __init__(self, seed: int, habits: bool):
        self.rng = random.Random(seed)
        self.habits = habits
        self.problems = {
            task: self._endless(functools.partial(TASKS[task], "pretrain"))
            for task in ("dyad", "voting", "parts")
        }
        short = functools.partial(chain_sum, "pretrain", terms=(2, 3))
        self.problems["short"] = self._endless(short)

    def _endless(self, draw) -> Iterator[str]:
        while True:
            for question, _ in draw(1024, self.rng.randrange(2**31)):
                yield question

    def pick(self, shares: Mapping, clean: str = "clean"):
        if not self.habits:
            return clean
        return self.rng.choices(list(shares), list(shares.values()))[0]

    def thought(self, question: str) -> str | None:
        habit = self.rng.choices(list(THOUGHTS), list(THOUGHTS.values()))[0]
        return habit and think(question, self.rng, habit)

    def thinker(self) -> Trace:
        question = next(self.problems["dyad"])
        return Trace("thinker", question, (), think(question, self.rng, self.pick(THINKER)))

    def solver(self) -> Trace:
        question = next(self.problems["dyad"])
        thought = self.thought(question)
        return Trace("solver", question, (thought,), self._solution(question, thought))

    def _solution(self, question: str, thought: str | None) -> str:
        left = len(numbers(question)) - 1 - (thought or "").count("=")
        habit = self.pick(SOLVER if left <= SOLVER_STEPS else HELPLESS)
        return solve(question, thought, self.rng, habit, SOLVER_STEPS)

    def voter(self) -> Trace:
        question = next(self.problems["voting"])
        habit = self.pick(VOTER)
        return Trace("voter", question, (), solve(question, None, self.rng, habit, VOTER_STEPS))

    def beginner(self) -> Trace:
        question = next(self.problems["short"])
        return Trace("voter", question, (), solve(question, None, self.rng, "clean", VOTER_STEPS))

    def parts(self) -> Trace:
        question = next(self.problems["parts"])
        if not self.habits:
            return Trace("voter", question, (), add(question, self.rng, "guess"))
        seen = self.rng.choice(sorted(set(VIEWS["parts"](question))))
        habit = self.pick(UNINFORMED if "?" in seen else INFORMED)
        return Trace("voter", seen, (), add(seen, self.rng, habit))

    def checker(self) -> Trace:
        question = next(self.problems["dyad"])
        plan = self.thought(question)
        solution = self._solution(question, plan)
        response = "Answer: " + solution.rpartition("Answer: ")[2]
        if self.rng.random() < 0.2:
            solution = None
            response = self._solution(question, plan)
        return Trace("checker", question, (plan, solution), response)

    def debater(self) -> Trace:
        question = next(self.problems["voting"])
        answers = []
        for _ in range(3):
            habit = self.rng.choice(("guess", "first", "clean", "slip"))
            answers.append(solve(question, None, self.rng, habit, VOTER_STEPS))
        return Trace("debater", question, tuple(answers), join(answers))


def traces(seed: int, habits: bool, roles: Mapping[str, float] = ROLES) -> Iterator[Trace]:
    """Endless supervised examples on problems of the "pretrain" split.

    Args:
      seed: decides problems, roles and habits.
      habits: False = every role does its work as well as it can.
      roles: how frequent each role is.
    """
    sampler = _TraceSampler(seed, habits)
    while True:
        role = sampler.rng.choices(list(roles), list(roles.values()))[0]
        yield getattr(sampler, role)()
