"""The unit of work of a verifier process: one gold and the distinct texts that answer it."""

import functools
import time
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from typing import NamedTuple

from ccpo_jax.verifiers.classes import AnswerClasses
from ccpo_jax.verifiers.reasoning import strip_reasoning
from ccpo_jax.verifiers.registry import VERIFIERS, check_gold, get_verifier
from ccpo_jax.verifiers.types import FAILURES, NO_CONTEXT, Context, Graded, Item, Verifier
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
    """Whether an answer is right; of a wrong one also its canonical value."""

    correct: bool
    value: Hashable | None
    failure: str


class Comparison(NamedTuple):
    """Whether two wrong answers mean the same, and the seconds that it took to find out."""

    is_same: bool
    seconds: float


# A step's failure that is not the last word: it took longer than a first try may, and is repeated
# when all others are done.
SLOW = "slow"

# The number of the step that extracts all answers. Where it is slow, each text has a step.
_EXTRACT_ALL = 1

# What a worker reports, and what the pool records where a step killed its worker.
Record = GoldCheck | Extraction | Verdict | Comparison
Step = Callable[[], Record]


class Judged(NamedTuple):
    """What the records of a job say.

    Attributes:
      gold_failure: None, or why the gold could not be parsed.
      answers: what each text of the job answers.
      failures: "" or why each text has no verdict.
      correct: answer -> whether it is right, for all answers that have a verdict.
      representatives: wrong answer -> an answer that stands for its class.
    """

    gold_failure: str | None
    answers: list[str | None]
    failures: list[str]
    correct: dict[str, bool]
    representatives: dict[str, str]


def verify(
    name: str,
    gold: str,
    texts: Sequence[str],
    context: Context = NO_CONTEXT,
    *,
    max_chars: int = 20_000,
) -> Graded:
    """Verifies the texts of one problem in this process, without a time limit: for trusted texts.

    Args:
      name: a key of `VERIFIERS`.
      gold: the reference answer, the whole string.
      texts: what the agents wrote.
      context: what else is known about the problem, and how strictly its answers are read.
      max_chars: only the last `max_chars` characters of each text are read.

    Returns:
      One verdict per text. All correct answers share a class.

    Raises:
      InputError: if there is no such verifier.

    Example:
      >>> texts = [r"so it is \\boxed{\\frac12}", "The answer is 3.", "no idea", "Answer: 1/2"]
      >>> graded = verify("math", "0.5", texts)
      >>> graded.correct, graded.answer_id
      ([True, False, False, True], [0, 1, -1, 0])
    """
    get_verifier(name)
    item = Item(name, gold, tuple(texts), context)
    job = make_job(item, max_chars)
    return collect_records(item, list(verify_job(job, [])), max_chars)


def prepare() -> None:
    """Loads what verifiers load late, see `ProcessPool`."""
    import math_verify  # noqa: F401


def make_job(item: Item, max_chars: int) -> Job:
    """The job of an item: the ends of its texts, each distinct one once."""
    ends = dict.fromkeys(_end_of(text, max_chars) for text in item.texts)
    return Job(item.verifier, item.gold, tuple(ends), item.context)


def _end_of(text: str, max_chars: int) -> str:
    """The end of a text, without its thoughts where it is longer than that.

    A thought that never ends and is cut in its middle would no longer be known as one.
    """
    return text if len(text) <= max_chars else strip_reasoning(text)[-max_chars:]


def verify_job(job: Job, done: Sequence[Record | StepFailure]) -> Iterator[Record]:
    """Takes the steps of a job, see `_steps`: the function that verifier processes run.

    Args:
      job: what to verify.
      done: records of the steps that an earlier process completed, or died in.

    Yields:
      The records that `done` lacks.
    """
    steps = _steps(job)
    try:
        step = next(steps)
        for record in done:
            step = steps.send(record)
        num_records = len(done)
        while job.num_records is None or num_records < job.num_records:
            record = step()
            yield record
            num_records += 1
            step = steps.send(record)
    except StopIteration:
        return


def _steps(job: Job) -> Generator[Step, Record | StepFailure, Judged | None]:
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

    correct: dict[str, bool] = {}
    values: dict[str, Hashable | None] = {}
    failure_of: dict[str, str] = {}
    for answer in dict.fromkeys(answers):
        if answer is None:
            continue
        verdict = yield functools.partial(_judge, verifier, gold, answer, job.context)
        if not isinstance(verdict, Verdict):
            failure_of[answer] = _reason(verdict)
        elif verdict.failure:
            failure_of[answer] = verdict.failure
        else:
            correct[answer] = verdict.correct
            if not verdict.correct:
                values[answer] = verdict.value

    if SLOW in failure_of.values():
        return None

    classes = AnswerClasses(values)
    for first, second in classes.pairs():
        comparison = yield functools.partial(_compare, verifier, first, second, job.context)
        if isinstance(comparison, Comparison):
            classes.record(first, second, is_same=comparison.is_same, seconds=comparison.seconds)
        else:
            classes.record(first, second, is_same=None)

    for index, answer in enumerate(answers):
        if answer in failure_of:
            failures[index] = failure_of[answer]
    return Judged(gold_failure, answers, failures, correct, classes.representatives())


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


def _reason(record: Record | StepFailure) -> str:
    """Why a step has no record of its own kind."""
    assert isinstance(record, StepFailure), record
    return record.reason


# --- the steps ---
#
# A parser of hostile texts may raise anything; it is counted, with its reason. Only MemoryError is
# passed on: the process is out of memory, the pool restarts it and counts the step as crashed.


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
        except MemoryError:
            raise
        except Exception as error:
            failure = _described(error)
        else:
            failure = "no_answer" if answer is None else ""
        answers.append(answer)
        failures.append(failure)
    return Extraction(tuple(answers), tuple(failures))


def _judge(verifier: Verifier, gold: str, answer: str, context: Context) -> Verdict:
    try:
        correct = bool(gold.strip()) and bool(verifier.equivalent(gold, answer, context))
    except MemoryError:
        raise
    except Exception as error:
        return Verdict(False, None, _described(error))

    if correct:
        return Verdict(True, None, "")
    try:
        value = verifier.value(answer, context)
    except MemoryError:
        raise
    except Exception:
        # It is wrong all the same; pairwise comparison decides which answers it agrees with.
        value = None
    return Verdict(False, value, "")


def _compare(verifier: Verifier, first: str, second: str, context: Context) -> Comparison:
    began = time.process_time()
    try:
        is_same = bool(verifier.same(first, second, context))
    except MemoryError:
        raise
    except Exception:
        is_same = False
    return Comparison(is_same, time.process_time() - began)


def _described(error: Exception) -> str:
    return f"failed: {type(error).__name__}: {str(error)[:200]}"


# --- what the records say ---


def slow_steps(job: Job, records: Sequence[Record | StepFailure]) -> list[int]:
    """The numbers of the steps that have to be repeated before the job can go on; often none."""
    if not any(isinstance(record, StepFailure) for record in records):
        return []
    if _replay(job, records) is not None:
        return []
    return [
        number
        for number, record in enumerate(records)
        if isinstance(record, StepFailure) and record.reason == SLOW and number != _EXTRACT_ALL
    ]


def collect_records(item: Item, records: Sequence[Record | StepFailure], max_chars: int) -> Graded:
    """Assigns what the records of an item's job say to the texts of the item."""
    job = make_job(item, max_chars)
    judged = _replay(job, records)
    assert judged is not None, "slow steps have not been repeated"

    number_of = {text: number for number, text in enumerate(job.texts)}
    numbers = [number_of[_end_of(text, max_chars)] for text in item.texts]
    answers = [judged.answers[number] for number in numbers]
    failures = [judged.failures[number] for number in numbers]
    counts = Counter(failure.partition(":")[0] for failure in failures)
    counts["gold_unparsed"] = int(judged.gold_failure is not None)
    return Graded(
        correct=[answer is not None and judged.correct.get(answer, False) for answer in answers],
        answer_id=_class_numbers(answers, judged),
        answers=answers,
        failures=failures,
        gold_failure=judged.gold_failure,
        counts={name: counts[name] for name in FAILURES},
    )


def _replay(job: Job, records: Sequence[Record | StepFailure]) -> Judged | None:
    """What the records of all steps of a job say, see `_steps`. No step is taken again."""
    steps = _steps(job)
    next(steps)
    try:
        for record in records:
            steps.send(record)
    except StopIteration as end:
        return end.value
    raise AssertionError(f"{len(records)} records are not all of this job")


def _class_numbers(answers: Sequence[str | None], judged: Judged) -> list[int]:
    """Classes numbered from 0 in order of first appearance, -1 where there is no verdict."""
    numbers: dict[tuple[bool, str], int] = {}
    class_of_each = []
    for answer in answers:
        if answer is None or answer not in judged.correct:
            class_of_each.append(-1)
            continue
        correct = judged.correct[answer]
        class_key = (correct, "" if correct else judged.representatives[answer])
        class_of_each.append(numbers.setdefault(class_key, len(numbers)))
    return class_of_each
