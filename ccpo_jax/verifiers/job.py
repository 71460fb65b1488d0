"""The unit of work of a verifier process: one gold and the distinct texts that answer it."""

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ccpo_jax.reward_names import AUTO
from ccpo_jax.verifiers.functions import (
    LOADED,
    FunctionJob,
    ShippedFunction,
    install,
    make_function_job,
    steps_of_function,
)
from ccpo_jax.verifiers.reasoning import strip_reasoning
from ccpo_jax.verifiers.registry import get_verifier
from ccpo_jax.verifiers.reports import Reports
from ccpo_jax.verifiers.reward import (
    combine,
    judgements_of_function,
    judgements_of_verifier,
    load_reward,
)
from ccpo_jax.verifiers.steps import EXTRACT_ALL, SLOW, Job, Judged, Record, is_own, steps_of
from ccpo_jax.verifiers.types import FAILURES, NO_CONTEXT, NO_ROW, Context, Graded, Item, Note
from ccpo_jax.verifiers.worker import StepFailure

T = TypeVar("T")


def verify(
    name: str,
    gold: str,
    texts: Sequence[str],
    context: Context = NO_CONTEXT,
    row: Mapping[str, Any] = NO_ROW,
    *,
    max_chars: int = 20_000,
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> Graded:
    """Verifies the texts of one problem in this process, without a time limit: for trusted texts.

    Args:
      name: a verifier, a function of your own or a weighted sum, as in `verifier.name`; "auto" is
        "choice" where the context has options, else "math".
      gold: the reference answer, the whole string.
      texts: what the agents wrote.
      context: what else is known about the problem, and how strictly its answers are read.
      row: every column of the problem's row.
      max_chars: only the last `max_chars` characters of each text are read.
      functions: functions by names that may stand in `name`.

    Returns:
      One verdict per text. All answers that a verifier calls correct share a class.

    Raises:
      InputError: if there is no such verifier or function.
      RewardError: if a function raises, or a score lies outside 0 to 1.

    Example:
      >>> texts = [r"so it is \\boxed{\\frac12}", "The answer is 3.", "no idea", "Answer: 1/2"]
      >>> graded = verify("math", "0.5", texts)
      >>> graded.correct, graded.answer_id
      ([True, False, False, True], [0, 1, -1, 0])
    """
    reward = load_reward(name, functions=functions)
    item = Item(name, gold, tuple(texts), context, row)
    judgements = []
    gold_failure = None
    for term in reward.terms:
        if term.name in reward.functions:
            function = reward.functions[term.name]
            LOADED[term.name] = function
            spoken = spoken_texts(item, max_chars)
            job = make_function_job(term.name, function, item, spoken, marks=reward.needs_marks)
            records = replay(steps_of_function(job), list(verify_job(job, [])))
            judgements.append(judgements_of_function(term, records, math.inf))
            continue
        verifier = term.name
        if verifier == AUTO:
            verifier = "choice" if context.options else "math"
        get_verifier(verifier)
        verifier_job = make_job(item._replace(verifier=verifier), max_chars)
        done = list(verify_job(verifier_job, []))
        graded = collect_records(item, verifier_job, done, max_chars)
        if reward.is_verifier:
            return graded
        judgements.append(judgements_of_verifier(graded))
        gold_failure = gold_failure or graded.gold_failure
    graded = combine(reward, judgements, gold_failure)
    Reports("stop").report([graded], quiet=False)
    return graded


def prepare() -> None:
    """Loads what verifiers load late, see `ProcessPool`."""
    import math_verify  # noqa: F401


def setup(shipped: Sequence[ShippedFunction]) -> None:
    """Loads the user's functions in a verifier process, see `ProcessPool`."""
    install(shipped)


def make_job(item: Item, max_chars: int) -> Job:
    """The job of an item: the ends of its texts, each distinct one once."""
    ends = dict.fromkeys(_end_of(text, max_chars) for text in item.texts)
    return Job(item.verifier, item.gold, tuple(ends), item.context)


def spoken_texts(item: Item, max_chars: int) -> list[str]:
    """What the agents said, without what they marked as thought, for a function of the user's."""
    return [strip_reasoning(text)[-max_chars:].strip() for text in item.texts]


def _end_of(text: str, max_chars: int) -> str:
    """The end of a text, without its thoughts where it is longer than that.

    A thought that never ends and is cut in its middle would no longer be known as one.
    """
    return text if len(text) <= max_chars else strip_reasoning(text)[-max_chars:]


def verify_job(job: Job | FunctionJob, done: Sequence[Any]) -> Iterator[Any]:
    """Takes the steps of a job, see `steps_of` and `steps_of_function`: the function that verifier
    processes run.

    Args:
      job: what to verify.
      done: records of the steps that an earlier process completed, or died in.

    Yields:
      The records that `done` lacks.
    """
    steps: Generator[Callable[[], Any], Any, Any]
    steps = steps_of(job) if isinstance(job, Job) else steps_of_function(job)
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


def slow_steps(job: Job, records: Sequence[Record | StepFailure]) -> list[int]:
    """The numbers of the steps that have to be repeated before the job can go on; often none."""
    if not any(isinstance(record, StepFailure) for record in records):
        return []
    if replay(steps_of(job), records) is not None:
        return []
    return [
        number
        for number, record in enumerate(records)
        if isinstance(record, StepFailure) and record.reason == SLOW and number != EXTRACT_ALL
    ]


def collect_records(
    item: Item, job: Job, records: Sequence[Record | StepFailure], max_chars: int
) -> Graded:
    """Assigns what the records of a job say to the texts of its item."""
    judged = replay(steps_of(job), records)
    assert judged is not None, "slow steps have not been repeated"

    number_of = {text: number for number, text in enumerate(job.texts)}
    numbers = [number_of[_end_of(text, max_chars)] for text in item.texts]
    answers = [judged.answers[number] for number in numbers]
    failures = [judged.failures[number] for number in numbers]
    counts = Counter(failure.partition(":")[0] for failure in failures)
    counts["gold_unparsed"] = int(judged.gold_failure is not None)
    return Graded(
        scores=[
            float(answer is not None and judged.verdicts[answer].correct) for answer in answers
        ],
        answer_id=_class_numbers(answers, judged),
        answers=answers,
        failures=failures,
        gold_failure=judged.gold_failure,
        counts={name: counts[name] for name in FAILURES},
        parts={},
        notes=() if is_own(job.verifier) else _notes(job.verifier, failures),
    )


def _notes(verifier: str, failures: Sequence[str]) -> list[Note]:
    """What a user should be told about a verifier that is not the package's own."""
    notes = {}
    for failure in failures:
        kind, _, error = failure.partition(": ")
        if kind == "failed":
            kind = f"failed {error.partition(':')[0]}"
            notes[kind] = Note(verifier, kind, f"the verifier {verifier!r} raised {error}")
    return list(notes.values())


def replay(steps: Generator[Any, Any, T], records: Sequence[Any]) -> T:
    """What the records of all steps of a job say, see `steps_of`. No step is taken again."""
    try:
        next(steps)
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
        if answer is None or judged.verdicts[answer].failure:
            class_of_each.append(-1)
            continue
        correct = judged.verdicts[answer].correct
        class_key = (correct, "" if correct else judged.representatives[answer])
        class_of_each.append(numbers.setdefault(class_key, len(numbers)))
    return class_of_each
