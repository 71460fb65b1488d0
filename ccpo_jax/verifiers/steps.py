"""The steps in which a job is done, each of which may hang or kill its process."""

import functools
import pickle
import time
from collections.abc import Callable, Generator, Hashable, Sequence
from typing import NamedTuple

from ccpo_jax.references import place_of
from ccpo_jax.reward_names import BUILT_IN
from ccpo_jax.verifiers.classes import AnswerClasses
from ccpo_jax.verifiers.registry import VERIFIERS, check_gold
from ccpo_jax.verifiers.types import NO_CONTEXT, Context, Verifier
from ccpo_jax.verifiers.worker import StepFailure


class Job(NamedTuple):
    """An item without repeated texts, so that each text is sent and verified once.

    Attributes:
      verifier: a key of `VERIFIERS`.
      gold: the reference answer.
      texts: the ends of the item's texts, each distinct one once.
      context: the item's.
      num_records: the job stops when it has so many; None: when its steps end.
    """

    verifier: str
    gold: str
    texts: tuple[str, ...]
    context: Context = NO_CONTEXT
    num_records: int | None = None


class GoldCheck(NamedTuple):
    """Why answers cannot be compared with the gold, or None."""

    failure: str | None


class Extraction(NamedTuple):
    """What some texts answer.

    Attributes:
      answers: the answer of each text, None where it states none.
      failures: "", "no_answer" or the error, for each text.
    """

    answers: tuple[str | None, ...]
    failures: tuple[str, ...]


class Verdict(NamedTuple):
    """What the gold says about an answer.

    Attributes:
      correct: whether it is right.
      value: the canonical value of a wrong answer, None if it has none.
      failure: "" or why there is no verdict.
    """

    correct: bool
    value: Hashable | None
    failure: str


class Comparison(NamedTuple):
    """Whether two wrong answers mean the same.

    Attributes:
      is_same: whether they do.
      seconds: that it took to find out.
      failure: "" or the error of a verifier that is not the package's own.
    """

    is_same: bool
    seconds: float
    failure: str = ""


# A step's failure that is not the last word: it took longer than a first try may, and is repeated
# when all others are done.
SLOW = "slow"

# The number of the step that extracts all answers. Where it is slow, each text has a step.
EXTRACT_ALL = 1

# What a worker reports, and what the pool records where a step killed its worker.
Record = GoldCheck | Extraction | Verdict | Comparison
Step = Callable[[], Record]


class Judged(NamedTuple):
    """What the records of a job say.

    Attributes:
      gold_failure: None, or why the gold could not be parsed.
      answers: what each text of the job answers.
      failures: "" or why each text has no verdict.
      verdicts: answer -> its verdict.
      representatives: wrong answer -> an answer that stands for its class.
    """

    gold_failure: str | None
    answers: list[str | None]
    failures: list[str]
    verdicts: dict[str, Verdict]
    representatives: dict[str, str]


def steps_of(job: Job) -> Generator[Step, Record | StepFailure, Judged | None]:
    """The steps of a job. Each is sent the record of the one before, which may decide what follows.

    The gold is checked, all answers are extracted, each distinct answer is compared with the gold,
    and then the wrong ones with each other. A step that hangs or kills its process costs what it
    was about: an answer that could not be compared with the gold has no verdict, two wrong answers
    that could not be compared with each other are different.

    Returns:
      What the records say; None if steps were slow that decide what follows: it ends there.
    """
    verifier = VERIFIERS[job.verifier]
    gold = job.gold
    gold_check = yield functools.partial(_check_gold, job)
    if isinstance(gold_check, GoldCheck):
        gold_failure = gold_check.failure
    else:
        gold_failure = _reason(gold_check)
        if gold_failure == SLOW:
            return None
        # Comparing each answer with it would hang or crash again.
        gold = ""

    answers, failures = yield from _extract_all(verifier, job)
    if SLOW in failures:
        return None

    distinct = [answer for answer in dict.fromkeys(answers) if answer is not None]
    verdicts = yield from _judge_all(job, gold, distinct)
    if any(verdict.failure == SLOW for verdict in verdicts.values()):
        return None

    representatives = yield from _group_wrong(job, verdicts)
    for index, answer in enumerate(answers):
        if answer is not None:
            failures[index] = verdicts[answer].failure
    return Judged(gold_failure, answers, failures, verdicts, representatives)


def _extract_all(
    verifier: Verifier, job: Job
) -> Generator[Step, Record | StepFailure, tuple[list[str | None], list[str]]]:
    """The steps that find the answer of every text: one, or one for each text where that fails.

    Returns:
      ``(answers, failures)`` of the texts in their order.
    """
    together = yield functools.partial(_extract, verifier, job.texts, job.context)
    if isinstance(together, Extraction):
        return list(together.answers), list(together.failures)

    answers: list[str | None] = []
    failures: list[str] = []
    for text in job.texts:
        alone = yield functools.partial(_extract, verifier, (text,), job.context)
        if not isinstance(alone, Extraction):
            alone = Extraction((None,), (_reason(alone),))
        answers += alone.answers
        failures += alone.failures
    return answers, failures


def _judge_all(
    job: Job, gold: str, answers: Sequence[str]
) -> Generator[Step, Record | StepFailure, dict[str, Verdict]]:
    """The steps that compare answers with the gold, one for each.

    Returns:
      answer -> its verdict.
    """
    verdicts: dict[str, Verdict] = {}
    for answer in answers:
        verdict = yield functools.partial(_judge, job, gold, answer)
        if not isinstance(verdict, Verdict):
            verdict = Verdict(False, None, _reason(verdict))
        verdicts[answer] = verdict
    return verdicts


def _group_wrong(
    job: Job, verdicts: dict[str, Verdict]
) -> Generator[Step, Record | StepFailure, dict[str, str]]:
    """The steps that compare wrong answers with each other, one for each pair.

    A failed comparison of a verifier that is not the package's own is one of both answers.

    Returns:
      wrong answer -> an answer that stands for its class.
    """
    values: dict[str, Hashable | None] = {}
    for answer, verdict in verdicts.items():
        if not verdict.correct and not verdict.failure:
            values[answer] = verdict.value

    classes = AnswerClasses(values)
    for first, second in classes.pairs():
        comparison = yield functools.partial(_compare, job, first, second)
        if isinstance(comparison, Comparison):
            if comparison.failure:
                for answer in (first, second):
                    verdicts[answer] = verdicts[answer]._replace(failure=comparison.failure)
            classes.record(first, second, is_same=comparison.is_same, seconds=comparison.seconds)
        else:
            classes.record(first, second, is_same=None)
    return classes.representatives()


def _reason(record: Record | StepFailure) -> str:
    """Why a step has no record of its own kind."""
    assert isinstance(record, StepFailure), record
    return record.reason


# --- the steps ---
#
# A parser of hostile texts may raise anything; it is counted, with its reason. Only MemoryError is
# passed on: the process is out of memory, the pool restarts it and counts the step as crashed.
# What a verifier from outside raises is a mistake in it: no verdict follows from it.


def _check_gold(job: Job) -> GoldCheck:
    return GoldCheck(check_gold(job.verifier, job.gold, job.context))


def _extract(verifier: Verifier, texts: Sequence[str], context: Context) -> Extraction:
    answers: list[str | None] = []
    failures: list[str] = []
    for text in texts:
        answer = None
        failure = ""
        try:
            answer = verifier.extract(text, context)
            if answer is not None and not isinstance(answer, str):
                raise TypeError(f"extract returned {type(answer).__name__}; return text or None")
        except MemoryError:
            raise
        except Exception as error:
            answer = None
            failure = _described(error)
        else:
            failure = "no_answer" if answer is None else ""
        answers.append(answer)
        failures.append(failure)
    return Extraction(tuple(answers), tuple(failures))


def _judge(job: Job, gold: str, answer: str) -> Verdict:
    verifier = VERIFIERS[job.verifier]
    try:
        correct = bool(gold.strip()) and _answered(verifier.equivalent, gold, answer, job.context)
    except MemoryError:
        raise
    except Exception as error:
        return Verdict(False, None, _described(error))

    if correct:
        return Verdict(True, None, "")
    try:
        value = verifier.value(answer, job.context)
        if not is_own(job.verifier):
            # It is a key of a dict, and sent from process to process.
            hash(value)
            pickle.dumps(value)
    except MemoryError:
        raise
    except Exception as error:
        if not is_own(job.verifier):
            return Verdict(False, None, _described(error))
        # It is wrong all the same; pairwise comparison decides which answers it agrees with.
        value = None
    return Verdict(False, value, "")


def _compare(job: Job, first: str, second: str) -> Comparison:
    began = time.process_time()
    failure = ""
    try:
        is_same = _answered(VERIFIERS[job.verifier].same, first, second, job.context)
    except MemoryError:
        raise
    except Exception as error:
        is_same = False
        failure = "" if is_own(job.verifier) else _described(error)
    return Comparison(is_same, time.process_time() - began, failure)


def _answered(
    function: Callable[[str, str, Context], bool], first: str, second: str, context: Context
) -> bool:
    """What a comparison says; a function that returns nothing says neither yes nor no."""
    answer = function(first, second, context)
    if answer is None:
        name = getattr(function, "__name__", "a function")
        raise TypeError(f"{name} returned None; return True or False")
    return bool(answer)


def is_own(name: str) -> bool:
    """Whether a verifier is the package's own, and no mistake of the user's."""
    return name in BUILT_IN


def _described(error: Exception) -> str:
    return f"failed: {type(error).__name__}: {str(error)[:200]}{place_of(error)}"
