"""What a run's answers are judged by: one verifier, or a weighted sum with functions of the user's.

Each term of a sum is a job of its own; `combine` puts together what they say about a text.
"""

import difflib
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from ccpo_jax.errors import InputError
from ccpo_jax.reward_names import AUTO, Term, check_range, is_plain, parse_reward
from ccpo_jax.scores import ROUNDING
from ccpo_jax.verifiers.functions import (
    FunctionRecords,
    Scored,
    ShippedFunction,
    asked_of,
    check_columns,
    load_function,
    ship_object,
    ship_reference,
)
from ccpo_jax.verifiers.registry import VERIFIERS
from ccpo_jax.verifiers.signatures import RewardFunction, read_function
from ccpo_jax.verifiers.types import FAILURES, Graded, Item, Note
from ccpo_jax.verifiers.worker import CRASHED, TIMED_OUT, StepFailure

_FIELD = "verifier.name"


class Reward(NamedTuple):
    """What judges answers.

    Attributes:
      terms: of the weighted sum, one where it is none.
      functions: those of the user's, by the names of their terms.
      given: those of them that were given as objects.
      low, high: the scores that count as 0 and as 1.
    """

    terms: tuple[Term, ...]
    functions: Mapping[str, RewardFunction]
    given: Mapping[str, Any]
    low: float = 0.0
    high: float = 1.0

    @property
    def is_verifier(self) -> bool:
        """Whether it is a verifier alone, which needs no combining."""
        return is_plain(self.terms) and not self.functions

    @property
    def needs_marks(self) -> bool:
        """Whether answers are told apart by what their texts mark, unless a function does."""
        return all(term.name in self.functions for term in self.terms)

    def modules(self) -> list[str]:
        """References to the modules that a process needs before it gets the functions."""
        return [term.name for term in self.terms if term.is_reference]

    def ship(self) -> tuple[ShippedFunction, ...] | None:
        """The functions as worker processes get them; None where there are none.

        Raises:
          InputError: one cannot be sent.
        """
        if not self.functions:
            return None
        return tuple(
            ship_object(name, self.given[name]) if name in self.given else ship_reference(name)
            for name in self.functions
        )


def load_reward(
    name: str,
    limits: Sequence[float] = (0.0, 1.0),
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> Reward:
    """Reads what judges answers, and loads the functions that it names.

    Args:
      name: as in `verifier.name`.
      limits: as in `verifier.range`.
      functions: functions by names that may stand in `name`.

    Raises:
      InputError: an unknown name, no such function, or one with none of the three signatures.
    """
    low, high = check_range(limits)
    given = dict(functions or {})
    loaded: dict[str, RewardFunction] = {}
    terms = parse_reward(name)
    for term in terms:
        if term.name in given:
            loaded[term.name] = read_function(given[term.name], repr(term.label), _FIELD)
        elif term.is_reference:
            loaded[term.name] = load_function(term.name)
        elif term.name != AUTO and term.name not in VERIFIERS:
            raise InputError(_FIELD, _unknown(term.name, given))
    used = {key: value for key, value in given.items() if key in loaded}
    if given and not used:
        first = next(iter(given))
        raise InputError("functions", f"{name!r:.200} names none of them; use name={first!r:.80}")
    return Reward(terms, loaded, used, low, high)


def needs_gold(name: str, functions: Mapping[str, Any] | None = None) -> bool:
    """Whether every problem needs a right answer: functions of the user's do without one.

    Args:
      name: as in `verifier.name`.
      functions: functions that were given as objects, by their names.

    Raises:
      InputError: the name cannot be read.

    Example:
      >>> needs_gold("auto"), needs_gold("my.py:score"), needs_gold("0.9*math + 0.1*my.py:form")
      (True, False, True)
    """
    given = functions or {}
    return any(
        not term.is_reference and not term.is_object and term.name not in given
        for term in parse_reward(name)
    )


def check_item(reward: Reward, item: Item) -> None:
    """Checks that an item's problem has the columns that the functions cannot do without.

    Raises:
      InputError: it lacks one.
    """
    asked = asked_of(item)
    for name, function in reward.functions.items():
        check_columns(name, function, asked.columns)


def _unknown(name: str, given: Mapping[str, Any]) -> str:
    known = [AUTO, *VERIFIERS, *given]
    near = difflib.get_close_matches(name[:80], known, n=1, cutoff=0.6)
    meant = f"did you mean {near[0]}? " if near else ""
    listed = ", ".join(map(repr, known))
    return (
        f"unknown verifier {name!r:.80}; {meant}use one of {listed:.300}, or a function of your "
        "own: FILE.py:NAME or package.module:NAME"
    )


# --- putting together -----------------------------------------------------------------------------


class Judgement(NamedTuple):
    """What one term says about a text.

    Attributes:
      score: as it gave it; None where it gave none.
      answer_class: as in `Returned`.
      marked: as in `Scored`.
      answer: the answer in words.
      failure: as in `Graded.failures`.
      parts: further numbers by name.
      notes: about the term.
    """

    score: float | None
    answer_class: tuple[Hashable, ...] = ()
    marked: tuple[Hashable, ...] = ()
    answer: str | None = None
    failure: str = ""
    parts: tuple[tuple[str, float], ...] = ()
    notes: tuple[Note, ...] = ()


def judgements_of_verifier(graded: Graded) -> list[Judgement]:
    """What a verifier says about each text of an item."""
    judgements = [
        Judgement(
            # A text without an answer is wrong; one that could not be judged is not.
            score if failure in ("", "no_answer") else None,
            (None,) if number < 0 else (number,),
            answer=answer,
            failure=failure,
        )
        for score, number, answer, failure in zip(
            graded.scores, graded.answer_id, graded.answers, graded.failures, strict=True
        )
    ]
    if judgements and graded.notes:
        # Known of the item, told with its first text.
        judgements[0] = judgements[0]._replace(notes=tuple(graded.notes))
    return judgements


def judgements_of_function(
    term: Term, records: FunctionRecords, time_limit: float
) -> list[Judgement]:
    """What a function says about each text of an item."""
    judgements = [_judgement(term, record, time_limit) for record in records.texts]
    if records.together and judgements:
        # Known of the first text, told once.
        note = _note_about_end(term, records.together, time_limit, count=len(judgements))
        judgements[0] = judgements[0]._replace(notes=(note, *judgements[0].notes))
    return judgements


def _note_about_end(term: Term, reason: str, time_limit: float, count: int) -> Note:
    """A note about a call that hung or killed its process, with so many texts."""
    what = {
        TIMED_OUT: f"took longer than {time_limit:g} seconds (verifier.time_limit)",
        CRASHED: "ended its process: out of memory, a crash, or an exit",
    }[reason]
    if count == 1:
        return Note(term.label, reason, f"{term.name} {what}; the text counts as wrong")
    summary = f"{term.name} {what} with {count} texts; each of them is a call of its own then"
    return Note(term.label, f"{reason} together", summary)


def _judgement(term: Term, record: Scored | StepFailure, time_limit: float) -> Judgement:
    if isinstance(record, StepFailure):
        note = _note_about_end(term, record.reason, time_limit, count=1)
        return Judgement(None, failure=record.reason, notes=(note,))

    shown = term.name
    notes: tuple[Note, ...] = ()
    if record.printed:
        summary = f"{shown} prints; its output is not shown again"
        notes = (Note(term.label, "printed", summary, record.printed),)
    if record.returned is None:
        error = record.failure.removeprefix("failed: ")
        kind = error.partition(":")[0]
        note = Note(term.label, f"failed {kind}", f"{shown}: {error}", record.traceback)
        return Judgement(None, failure=record.failure, notes=(*notes, note))

    returned = record.returned
    return Judgement(
        score=returned.score,
        answer_class=returned.answer_class,
        marked=record.marked,
        answer=record.answer,
        parts=returned.parts,
        notes=notes,
    )


def combine(
    reward: Reward, judgements: Sequence[Sequence[Judgement]], gold_failure: str | None
) -> Graded:
    """The verdicts on an item's texts from what each term says about them.

    Args:
      reward: what judges.
      judgements: of each term the judgements of all texts.
      gold_failure: as in `Graded`, of the verifiers among the terms.
    """
    texts = list(zip(*judgements, strict=True))
    scores: list[float] = []
    failures: list[str] = []
    notes: dict[tuple[str, str], Note] = {}
    keys: list[Hashable | None] = []
    for of_text in texts:
        for note in (note for judgement in of_text for note in judgement.notes):
            notes.setdefault((note.part, note.kind), note)

        failure = _failure(of_text)
        total = None if failure and failure != "no_answer" else _weighted(reward.terms, of_text)
        score = 0.0 if total is None else _scaled(total, reward)
        if not -ROUNDING <= score <= 1 + ROUNDING:
            notes.setdefault(("", "out_of_range"), _out_of_range(reward, of_text, total))
        scores.append(_rounded(score))
        failures.append(failure)
        keys.append(None if total is None else _class_key(of_text))

    counts = Counter(failure.partition(":")[0] for failure in failures)
    counts["gold_unparsed"] = int(gold_failure is not None)
    all_counts = {name: counts[name] for name in FAILURES}
    for term, of_term in zip(reward.terms, judgements, strict=True):
        if term.name in reward.functions:
            failed = [judgement.failure.startswith("failed") for judgement in of_term]
            all_counts[f"failed/{term.label}"] = sum(failed)
    return Graded(
        scores=scores,
        answer_id=_numbered(keys),
        answers=[
            next((j.answer for j in of_text if j.answer is not None), None) for of_text in texts
        ],
        failures=failures,
        gold_failure=gold_failure,
        counts=all_counts,
        parts=_parts(reward, judgements),
        notes=list(notes.values()),
    )


def _failure(of_text: Sequence[Judgement]) -> str:
    """Why a text has no verdict, or no answer; "" where it has both."""
    failures = [judgement.failure for judgement in of_text if judgement.failure]
    # What kept a term from judging outweighs an answer that is missing.
    serious = [failure for failure in failures if failure != "no_answer"]
    if serious:
        return serious[0]
    if all(judgement.score is None for judgement in of_text):
        return "no_score"
    return failures[0] if failures else ""


def _weighted(terms: Sequence[Term], of_text: Sequence[Judgement]) -> float:
    """The weighted sum of the scores; a term that does not apply to the text is left out."""
    return sum(
        term.weight * judgement.score
        for term, judgement in zip(terms, of_text, strict=True)
        if judgement.score is not None
    )


def _scaled(total: float, reward: Reward) -> float:
    return (total - reward.low) / (reward.high - reward.low)


def _rounded(score: float) -> float:
    """A score in [0, 1]; exactly 0 and 1 where it is so up to rounding."""
    if score <= ROUNDING:
        return 0.0
    return 1.0 if score >= 1 - ROUNDING else score


def _out_of_range(reward: Reward, of_text: Sequence[Judgement], total: float | None) -> Note:
    """A note about a score that is too low or too high."""
    assert total is not None
    if is_plain(reward.terms):
        what = f"{reward.terms[0].name} gave {total:g}"
    else:
        scores = ", ".join(
            f"{term.label} {judgement.score:g}"
            for term, judgement in zip(reward.terms, of_text, strict=True)
            if judgement.score is not None
        )
        what = f"the weighted sum is {total:g} ({scores})"
    summary = (
        f"{what}, outside {reward.low:g} to {reward.high:g}; type "
        "--config.verifier.range=LOW,HIGH with the lowest and the highest score that it can be"
    )
    return Note("", "out_of_range", summary)


def _class_key(of_text: Sequence[Judgement]) -> Hashable | None:
    """What tells the answer of a text from others; None where it has no answer.

    The first term that names a class decides; where none does, what the text marks.
    """
    for number, judgement in enumerate(of_text):
        if judgement.answer_class:
            (value,) = judgement.answer_class
            return None if value is None else (number, value)
    for judgement in of_text:
        if judgement.marked:
            (value,) = judgement.marked
            return None if value is None else ("marked", value)
    return None


def _numbered(keys: Sequence[Hashable | None]) -> list[int]:
    """Classes numbered from 0 in order of first appearance, -1 where there is none."""
    numbers: dict[Hashable, int] = {}
    return [-1 if key is None else numbers.setdefault(key, len(numbers)) for key in keys]


def _parts(
    reward: Reward, judgements: Sequence[Sequence[Judgement]]
) -> dict[str, list[float | None]]:
    """The score of each term by its label, and what functions return besides."""
    is_sum = not is_plain(reward.terms)
    parts: dict[str, list[float | None]] = {}
    for term, of_term in zip(reward.terms, judgements, strict=True):
        if is_sum:
            parts[term.label] = [judgement.score for judgement in of_term]
        prefix = f"{term.label}." if is_sum else ""
        names = dict.fromkeys(name for judgement in of_term for name, _ in judgement.parts)
        for name in sorted(names):
            parts[f"{prefix}{name}"] = [dict(judgement.parts).get(name) for judgement in of_term]
    return parts
