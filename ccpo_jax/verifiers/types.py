"""Records that verifiers take and return."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from ccpo_jax.scores import is_solved

# Why a text has no verdict; the last one counts golds and not texts.
FAILURES = ("no_answer", "no_score", "failed", "timed_out", "crashed", "gold_unparsed")


class Context(NamedTuple):
    """What a verifier may know besides the gold and the text.

    Attributes:
      question: the full text that agents read; "" where it is not known.
      options: the texts of the options in their order; () where there are none or they are not
        known.
      extraction: "strict": an answer has to be marked as one; "lenient": else the last expression
        or number of the text counts.
      evaluated: a number is asked for, so a set-up that is not worked out, 7 - 4, is not right.
      history: (speaker, text) of the turns before the question; () = there are none.
    """

    question: str = ""
    options: tuple[str, ...] = ()
    extraction: str = "strict"
    evaluated: bool = False
    history: tuple[tuple[str, str], ...] = ()


# Nothing is known but the gold and the text, and the defaults hold.
NO_CONTEXT = Context()

# A problem that is not a row of a table.
NO_ROW: Mapping[str, Any] = {}


class Verifier(NamedTuple):
    """One way to check answers.

    Attributes:
      extract: (text, context) -> the answer that the text states, None if it states none.
      equivalent: (gold, answer, context) -> whether the gold accepts the answer.
      value: (answer, context) -> the answer's canonical value. Answers with equal values mean the
        same, answers with different values do not; None where only `same` can tell. It has to be
        cheap, and plain Python data: it is sent from process to process.
      same: (answer, answer, context) -> whether two answers mean the same, where at least one has
        no canonical value. Symmetric.
      check_gold: (gold, context) -> None, or the reason why answers cannot be compared with it as
        intended.
    """

    extract: Callable[[str, Context], str | None]
    equivalent: Callable[[str, str, Context], bool]
    value: Callable[[str, Context], Hashable | None]
    same: Callable[[str, str, Context], bool]
    check_gold: Callable[[str, Context], str | None]


class Item(NamedTuple):
    """The texts that answer one problem.

    Attributes:
      verifier: a key of `VERIFIERS`.
      gold: the reference answer, the whole string.
      texts: what the agents wrote.
      context: what else is known about the problem, and how strictly its answers are read.
      row: every column of the problem's row as plain Python data; a user's function may read them.
    """

    verifier: str
    gold: str
    texts: tuple[str, ...]
    context: Context = NO_CONTEXT
    row: Mapping[str, Any] = NO_ROW


class Note(NamedTuple):
    """What somebody should be told about a user's function.

    Attributes:
      part: the function's label.
      kind: "failed" and the type of the error, "timed_out", "crashed", "out_of_range", "printed".
      summary: one line, the same for all notes that need to be shown once.
      details: a traceback or what was printed; "" = there are none.
    """

    part: str
    kind: str
    summary: str
    details: str = ""


class Graded(NamedTuple):
    """Verdicts on the texts of one item, in the order of the texts.

    Attributes:
      scores: how good each text is, from 0 to 1. A verifier that says right or wrong gives 1 or 0;
        a text without a verdict has 0, and its failure says why.
      answer_id: class of equivalent answers, numbered from 0 in order of first appearance; -1 where
        a text has no answer.
      answers: the answer of each text as the text states it, None where it states none.
      failures: "" or the reason for no verdict: one of `FAILURES`; "failed" is followed by ": the
        error". Of "no_answer" in a weighted sum the other parts may count all the same.
      gold_failure: None, or why the gold could not be parsed; answers were then compared with it as
        text.
      counts: for each of `FAILURES` the number of texts; for "gold_unparsed" 0 or 1; for
        "failed/<part>" those on which this function of the user's failed.
      parts: name -> what this part of the verifier gave each text, as it gave it; None where it
        gave nothing. {} where the score has no parts.
      notes: about the user's functions.
    """

    scores: list[float]
    answer_id: list[int]
    answers: list[str | None]
    failures: list[str]
    gold_failure: str | None
    counts: dict[str, int]
    parts: dict[str, list[float | None]]
    notes: Sequence[Note] = ()

    @property
    def correct(self) -> list[bool]:
        """Whether each text answers the problem in full: its score is 1."""
        return [is_solved(score) for score in self.scores]
