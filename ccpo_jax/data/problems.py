"""A problem as agents see it, and a dataset: problems with a count of what was left out."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ccpo_jax.conversation import Conversation

# Kinds of rows that the log describes.
_MOST_READINGS = 4


@dataclasses.dataclass(frozen=True)
class Problem:
    """One problem as the agents see it.

    Attributes:
      id: name of the dataset and number of the row, from 0: "math/17".
      question: the full text: passage, question, options.
      gold: the reference answer; a letter where there are options.
      verifier: a key of `ccpo_jax.verifiers.VERIFIERS`: math, choice or exact.
      context: the passage alone; several problems may ask about the same one.
      views: what each agent reads in place of the question; () = all agents read the question.
      options: the texts of the options in their order; () = there are none, or they are unknown.
      history: (speaker, text) of the turns before the question: system, user, assistant; () = there
        are none.
      row: every column of the row, plain Python data; {} = the problem comes from no row. Problems
        with different rows may be equal.
    """

    id: str
    question: str
    gold: str
    verifier: str
    context: str = ""
    views: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    history: tuple[tuple[str, str], ...] = ()
    # A dict has no hash, and problems are members of sets.
    row: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    @property
    def prompt_text(self) -> str | Conversation | tuple[str | Conversation, ...]:
        """What prompts are made of: one text that all agents read, or each agent's own."""
        if self.views:
            return tuple(self.prompt_text_for(agent) for agent in range(len(self.views)))
        return self.prompt_text_for(0)

    def prompt_text_for(self, agent: int) -> str | Conversation:
        """The text that one agent reads, with the turns before it where there are any."""
        text = self.views[agent] if self.views else self.question
        return Conversation(self.history, text) if self.history else text


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Problems, and how many rows were left out for which reason.

    Attributes:
      name: for logs and metrics.
      problems: in the order of the source, no question twice.
      dropped: reason -> number of rows, positive.
      notes: what was chosen for the user, and which columns were left out; for the log.
      readings: what rows became, in words -> number of rows, before repeated questions are dropped.
      unmapped: why `data.columns` does not apply to the set; "" = it does, or there is none.
    """

    name: str
    problems: tuple[Problem, ...]
    dropped: Mapping[str, int]
    notes: tuple[str, ...] = ()
    readings: Mapping[str, int] = dataclasses.field(default_factory=dict)
    unmapped: str = ""

    def summary(self) -> str:
        """One line for the log.

        Example:
          >>> Dataset("set", (), {"empty gold": 2}).summary()
          'set: 0 problems (dropped: 2 empty gold)'
        """
        facts = [f"{self.name}: {len(self.problems)} problems"]
        if self.dropped:
            facts[0] += f" (dropped: {describe_dropped(self.dropped)})"
        if self.readings:
            facts.append(describe_readings(self.readings))
        return "; ".join([*facts, *self.notes])


def describe_dropped(dropped: Mapping[str, int]) -> str:
    """The reasons with their numbers, in alphabetical order: "2 empty gold, 1 empty question"."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))


def describe_readings(readings: Mapping[str, int]) -> str:
    """What rows became, the most frequent first; their numbers where they are of several kinds.

    Example:
      >>> describe_readings({"question from `q`": 2, "question from `p`": 7})
      'question from `p` (7 rows); question from `q` (2 rows)'
    """
    ranked = sorted(readings.items(), key=lambda item: -item[1])
    if len(ranked) == 1:
        return ranked[0][0]
    lines = [f"{reading} ({count} rows)" for reading, count in ranked[:_MOST_READINGS]]
    others = sum(count for _, count in ranked[_MOST_READINGS:])
    return "; ".join(lines + [f"{others} rows otherwise"] * bool(others))


def drop_repeated_questions(
    problems: Iterable[Problem], dropped: collections.Counter[str]
) -> tuple[Problem, ...]:
    """The first problem with each question; the others are counted in `dropped`."""
    first_with: dict[tuple, Problem] = {}
    for problem in problems:
        # After other turns the same words ask something else.
        key = (normalize_text(problem.question), problem.history)
        first = first_with.setdefault(key, problem)
        if first is not problem:
            dropped["duplicate question"] += 1
    return tuple(first_with.values())


def normalize_text(text: str) -> str:
    """The form in which texts are compared: case and white space do not count, signs do."""
    return " ".join(text.lower().split())
