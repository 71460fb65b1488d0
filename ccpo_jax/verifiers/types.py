"""Records that verifiers take and return."""

from collections.abc import Callable
from typing import NamedTuple

# Why a text has no verdict; the last one counts golds and not texts.
FAILURES = ("no_answer", "failed", "timed_out", "crashed", "gold_unparsed")


class Verifier(NamedTuple):
    """One way to check answers. Correctness and answer classes both come from `equivalent`.

    Attributes:
      extract: text -> the answer that the text states, None if it states none.
      equivalent: (gold or an answer, answer) -> whether the two mean the same.
      check_gold: gold -> None, or the reason why answers cannot be compared with it as intended.
    """

    extract: Callable[[str], str | None]
    equivalent: Callable[[str, str], bool]
    check_gold: Callable[[str], str | None]


class Item(NamedTuple):
    """The texts that answer one problem.

    Attributes:
      verifier: a key of `VERIFIERS`.
      gold: the reference answer, the whole string.
      texts: what the agents wrote.
    """

    verifier: str
    gold: str
    texts: tuple[str, ...]


class Graded(NamedTuple):
    """Verdicts on the texts of one item, in the order of the texts.

    Attributes:
      correct: whether each text answers the problem.
      answer_id: class of equivalent answers, numbered from 0 in order of first appearance; -1 where
        a text has no answer.
      answers: the answer of each text as the text states it, None where it states none.
      failures: "" or the reason for no verdict: one of `FAILURES`; "failed" is followed by ": the
        error".
      gold_failure: None, or why the gold could not be parsed; answers were then compared with it as
        text.
      counts: for each of `FAILURES` the number of texts; for "gold_unparsed" 0 or 1.
    """

    correct: list[bool]
    answer_id: list[int]
    answers: list[str | None]
    failures: list[str]
    gold_failure: str | None
    counts: dict[str, int]
