"""Verification of many items in worker processes, each answer within a time limit."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ccpo_jax.errors import InputError
from ccpo_jax.references import load_module
from ccpo_jax.reward_names import AUTO
from ccpo_jax.verifiers.functions import FunctionRecords, make_function_job, steps_of_function
from ccpo_jax.verifiers.job import (
    collect_records,
    make_job,
    replay,
    slow_steps,
    spoken_texts,
    verify_job,
)
from ccpo_jax.verifiers.process_pool import ProcessPool
from ccpo_jax.verifiers.registry import get_verifier
from ccpo_jax.verifiers.reports import Reports
from ccpo_jax.verifiers.reward import (
    combine,
    judgements_of_function,
    judgements_of_verifier,
    load_reward,
)
from ccpo_jax.verifiers.steps import SLOW, Job
from ccpo_jax.verifiers.types import Graded, Item
from ccpo_jax.verifiers.worker import TIMED_OUT, StepFailure

# Seconds of computing that the first try of a step may take; hardly any honest answer needs more.
_FIRST_TRY = 0.5

# Seconds of computing that slow steps share: so many time limits, or so much per text of the batch.
_SHARED_LIMITS = 2.0
_SHARED_PER_TEXT = 0.01


class BegunJob(NamedTuple):
    """A job whose quick steps are done, and the records so far, slow steps among them."""

    job: Job
    records: list[Any]


class Begun(NamedTuple):
    """An item whose quick steps are done.

    Attributes:
      item: what is verified.
      verifiers: term of the weighted sum -> the job of its verifier.
      functions: term -> the records of the user's function, all of them.
    """

    item: Item
    verifiers: dict[int, BegunJob]
    functions: dict[int, FunctionRecords]


class VerifierPool:
    """Verifies items in worker processes, each answer within a time limit.

    An answer that hangs or crashes its process has no verdict and is counted; the other answers are
    unaffected. `verify` releases the interpreter lock while it waits, so a background thread that
    calls it overlaps with decoding.

    Slow answers come last and are cut together: a step that takes longer than half a second is put
    aside, and when everything else is done, those put aside share a bounded time. Few slow answers
    get the full limit each, many get less. So a batch of hanging answers stalls a step by seconds,
    and which answers are cut depends on the batch (where several processes train, on the share of
    it that each verifies), not on the number of workers.

    Example:
      >>> with VerifierPool(workers=1) as pool:
      ...     pool.verify([Item("choice", "B", ("The answer is (B).", "C"))])[0].correct
      [True, False]
    """

    def __init__(
        self,
        workers: int = 2,
        time_limit: float = 5.0,
        max_chars: int = 20_000,
        *,
        name: str = AUTO,
        range: Sequence[float] = (0.0, 1.0),  # noqa: A002
        on_error: str = "stop",
        extraction: str | None = None,
        evaluated: bool | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        plugins: Sequence[str] = (),
    ):
        """Starts the processes and returns at once.

        Args:
          workers: number of processes.
          time_limit: seconds of computing for one answer, or for one call of a function; its
            process is killed when they have passed.
          max_chars: only the last `max_chars` characters of a text are read.
          name: what judges, see `verifier.name` of the configuration; "auto": the verifier of each
            item.
          range: the scores of the user's functions that count as 0 and as 1.
          on_error: "stop": `verify` raises what a function of the user's raises; "skip": the text
            has no verdict, and is counted.
          extraction: "strict" or "lenient" for all items; None: as the context of each says.
          evaluated: whether an answer has to be worked out, for all items; None: as the context of
            each says.
          functions: functions by names that may stand in `name`.
          plugins: files and modules that add verifiers; every process imports them.

        Raises:
          InputError: if `workers` or `max_chars` is below 1, `time_limit` is not positive,
            `extraction` or `on_error` is unknown, `name` names no verifier and no function, or a
            plugin cannot be imported.
        """
        if max_chars < 1:
            message = f"must be at least 1, received {max_chars}; use max_chars=20000"
            raise InputError("max_chars", message)
        if extraction not in (None, "strict", "lenient"):
            message = f"unknown kind {extraction!r}; use one of 'strict', 'lenient'"
            raise InputError("extraction", message)
        if on_error not in ("stop", "skip"):
            message = f"unknown action {on_error!r}; use one of 'stop', 'skip'"
            raise InputError("on_error", message)

        self._settings: dict[str, Any] = {}
        if extraction is not None:
            self._settings["extraction"] = extraction
        if evaluated is not None:
            self._settings["evaluated"] = evaluated
        self._max_chars = max_chars
        function = f"{verify_job.__module__}:{verify_job.__name__}"
        self._time_limit = time_limit
        self._first_try = min(_FIRST_TRY, time_limit)
        for plugin in plugins:
            # They may add what `name` names.
            load_module(plugin, "plugins")
        self._reward = load_reward(name, range, functions)
        self._reports = Reports(on_error)
        self._pool = ProcessPool(
            function,
            workers=workers,
            time_limit=time_limit,
            plugins=(*plugins, *self._reward.modules()),
            setup=self._reward.ship(),
        )

    def verify(self, items: Sequence[Item]) -> list[Graded]:
        """Verifies all items; the result does not depend on the number of workers.

        Raises:
          InputError: if an item names no verifier, or lacks a column that a function needs.
          RewardError: if a function of the user's raises and errors stop, or a score lies outside
            the range.
          RuntimeError: if the workers cannot start, or after `close`.
        """
        graded = self.finish(self.begin(items))
        self.report(graded)
        return graded

    def report(self, graded: Sequence[Graded], *, quiet: bool = False) -> None:
        """Shows what is to be told about the user's functions, each thing once.

        Args:
          graded: verdicts of `finish`, of other processes too where several train together.
          quiet: whether another process shows it.

        Raises:
          RewardError: as `verify`.
        """
        self._reports.report(graded, quiet=quiet)

    def begin(self, items: Sequence[Item]) -> list[Begun]:
        """Takes all steps but the slow ones: the parts of a batch may begin one after the other.

        Raises:
          InputError: if an item names no verifier, or lacks a column that a function needs.
          RuntimeError: if the workers cannot start, or after `close`.
        """
        if self._settings:
            items = [
                item._replace(context=item.context._replace(**self._settings)) for item in items
            ]
        begun = [Begun(item, {}, {}) for item in items]
        for number, term in enumerate(self._reward.terms):
            if term.name in self._reward.functions:
                self._begin_function(begun, number)
            else:
                self._begin_verifier(begun, number)
        return begun

    def _begin_verifier(self, batch: Sequence[Begun], number: int) -> None:
        """Begins the jobs of a term that is a verifier."""
        name = self._reward.terms[number].name
        jobs = []
        for begun in batch:
            item = begun.item if name == AUTO else begun.item._replace(verifier=name)
            get_verifier(item.verifier)
            jobs.append(make_job(item, self._max_chars))
        records = self._pool.run(jobs, time_limit=self._first_try, late=SLOW)
        for begun, job, job_records in zip(batch, jobs, records, strict=True):
            begun.verifiers[number] = BegunJob(job, job_records)

    def _begin_function(self, batch: Sequence[Begun], number: int) -> None:
        """Does the jobs of a term that is a function: it may take the whole time limit at once, as
        what is called twice need not say the same twice.
        """
        name = self._reward.terms[number].name
        function = self._reward.functions[name]
        marks = self._reward.needs_marks
        jobs = [
            make_function_job(
                name, function, begun.item, spoken_texts(begun.item, self._max_chars), marks=marks
            )
            for begun in batch
        ]
        records = self._pool.run(jobs)
        for begun, job, job_records in zip(batch, jobs, records, strict=True):
            begun.functions[number] = replay(steps_of_function(job), job_records)

    def finish(self, batch: Sequence[Begun]) -> list[Graded]:
        """Repeats the slow steps of a batch, takes those that follow and returns all verdicts.

        Raises:
          RuntimeError: if the workers cannot start, or after `close`.
        """
        jobs = [begun_job for begun in batch for begun_job in begun.verifiers.values()]
        num_texts = sum(len(begun_job.job.texts) for begun_job in jobs)
        budget = max(_SHARED_LIMITS * self._time_limit, _SHARED_PER_TEXT * num_texts)
        unfinished = jobs
        while unfinished := [b for b in unfinished if slow_steps(b.job, b.records)]:
            self._repeat_slow_steps(unfinished, budget)
            done = [begun.records for begun in unfinished]
            longer = self._pool.run(
                [begun.job for begun in unfinished], done, time_limit=self._first_try, late=SLOW
            )
            for begun, records in zip(unfinished, longer, strict=True):
                begun.records[:] = records
        return [self._verdicts(begun) for begun in batch]

    def _verdicts(self, begun: Begun) -> Graded:
        """The verdicts on an item whose steps are all done."""
        item = begun.item
        of_verifiers = {
            number: collect_records(item, begun_job.job, begun_job.records, self._max_chars)
            for number, begun_job in begun.verifiers.items()
        }
        if self._reward.is_verifier:
            return of_verifiers[0]

        judgements = []
        for number, term in enumerate(self._reward.terms):
            if number in of_verifiers:
                judgements.append(judgements_of_verifier(of_verifiers[number]))
            else:
                records = begun.functions[number]
                judgements.append(judgements_of_function(term, records, self._time_limit))
        gold_failures = [graded.gold_failure for graded in of_verifiers.values()]
        gold_failure = next((failure for failure in gold_failures if failure is not None), None)
        return combine(self._reward, judgements, gold_failure)

    def _repeat_slow_steps(self, unfinished: Sequence[BegunJob], budget: float) -> None:
        """Replaces the records of slow steps by final ones; `budget` is what they share."""
        slow = [
            (begun, step) for begun in unfinished for step in slow_steps(begun.job, begun.records)
        ]
        limit = min(self._time_limit, budget / len(slow))
        if limit <= self._first_try:
            # They have had as much already.
            for begun, step in slow:
                begun.records[step] = StepFailure(TIMED_OUT)
            return

        jobs = [begun.job._replace(num_records=step + 1) for begun, step in slow]
        done = [begun.records[:step] for begun, step in slow]
        for (begun, step), records in zip(
            slow, self._pool.run(jobs, done, time_limit=limit), strict=True
        ):
            begun.records[step] = records[step]

    def close(self) -> None:
        """Ends the processes."""
        self._pool.close()

    def __enter__(self) -> "VerifierPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
