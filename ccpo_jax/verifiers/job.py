"""The unit of work of a verifier process: one gold and the distinct texts that answer it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ccpo_jax.verifiers.process_pool import StepFailure
from ccpo_jax.verifiers.registry import VERIFIERS, check_gold, get_verifier
from ccpo_jax.verifiers.types import FAILURES, NO_CONTEXT, Context, Graded, Item, Verifier


class Job(NamedTuple):
    """An item without repeated texts, so that each text is sent and verified once."""

    verifier: str
    gold: str
    texts: tuple[str, ...]
    context: Context = NO_CONTEXT


class GoldCheck(NamedTuple):
    """The first record of a job: why answers cannot be compared with the gold, or None."""

    failure: str | None


class Verdict(NamedTuple):
    """The record of one text; the fields are those of `Graded`."""

    answer: str | None
    correct: bool
    answer_id: int
    failure: str


# What a worker reports, and what the pool records where a step killed its worker.
Record = GoldCheck | Verdict | StepFailure


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


def make_job(item: Item, max_chars: int) -> Job:
    """The job of an item: the ends of its texts, each distinct one once."""
    ends = dict.fromkeys(text[-max_chars:] for text in item.texts)
    return Job(item.verifier, item.gold, tuple(ends), item.context)


def verify_job(job: Job, done: Sequence[Record]) -> Iterator[GoldCheck | Verdict]:
    """Checks the gold, then verifies one text per step: the function that verifier processes run.

    A wrong answer joins the first class whose first member means the same; correct answers form one
    class. So classes are transitive by construction.

    Args:
      job: what to verify.
      done: records of the steps that an earlier process completed, or died in.

    Yields:
      The records that `done` lacks: a `GoldCheck`, then one `Verdict` per text.
    """
    verifier = VERIFIERS[job.verifier]
    gold = job.gold
    if not done:
        yield GoldCheck(check_gold(job.verifier, gold, job.context))
    elif isinstance(done[0], StepFailure):
        # Checking the gold hung or crashed. Comparing each text with it would do so again.
        gold = ""

    verdicts: dict[str | None, Verdict] = {}
    for record in done[1:]:
        if isinstance(record, Verdict):
            verdicts.setdefault(record.answer, record)

    first_text = max(0, len(done) - 1)
    for text in job.texts[first_text:]:
        verdict = _verify_text(verifier, gold, text, verdicts, job.context)
        verdicts.setdefault(verdict.answer, verdict)
        yield verdict


def _verify_text(
    verifier: Verifier,
    gold: str,
    text: str,
    verdicts: dict[str | None, Verdict],
    context: Context,
) -> Verdict:
    """Verifies one text, with the first verdict on each distinct answer so far."""
    answer = None
    try:
        answer = verifier.extract(text, context)
        if answer is None:
            return Verdict(None, False, -1, "no_answer")
        if answer in verdicts:
            return verdicts[answer]

        correct = bool(gold.strip()) and verifier.equivalent(gold, answer, context)
        first_of_class: dict[int, Verdict] = {}
        for verdict in verdicts.values():
            if verdict.answer_id >= 0:
                first_of_class.setdefault(verdict.answer_id, verdict)

        for answer_id, first in first_of_class.items():
            if first.correct != correct:
                continue
            if correct or verifier.same(first.answer or "", answer, context):
                return Verdict(answer, correct, answer_id, "")
        return Verdict(answer, correct, len(first_of_class), "")
    except MemoryError:
        # This process is out of memory: the pool restarts it and counts the text as crashed.
        raise
    except Exception as error:
        # A hostile text can make a parser raise anything; it is counted, with its reason.
        return Verdict(answer, False, -1, f"failed: {type(error).__name__}: {str(error)[:200]}")


def collect_records(item: Item, records: Sequence[Record], max_chars: int) -> Graded:
    """Assigns the records of a job (its gold, then its distinct texts) to the texts of the item."""
    gold_check, *text_records = records
    if isinstance(gold_check, StepFailure):
        gold_failure = gold_check.reason
    else:
        assert isinstance(gold_check, GoldCheck)
        gold_failure = gold_check.failure

    verdict_of: dict[str, Verdict] = {}
    distinct_texts = make_job(item, max_chars).texts
    for text, record in zip(distinct_texts, text_records, strict=True):
        if isinstance(record, StepFailure):
            record = Verdict(None, False, -1, record.reason)
        assert isinstance(record, Verdict)
        verdict_of[text] = record
    verdicts = [verdict_of[text[-max_chars:]] for text in item.texts]

    counts = Counter(verdict.failure.partition(":")[0] for verdict in verdicts)
    counts["gold_unparsed"] = int(gold_failure is not None)
    return Graded(
        correct=[verdict.correct for verdict in verdicts],
        answer_id=[verdict.answer_id for verdict in verdicts],
        answers=[verdict.answer for verdict in verdicts],
        failures=[verdict.failure for verdict in verdicts],
        gold_failure=gold_failure,
        counts={name: counts[name] for name in FAILURES},
    )
