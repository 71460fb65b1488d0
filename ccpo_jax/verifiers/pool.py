"""Verification of many items in worker processes, each answer within a time limit."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ccpo_jax.errors import InputError
from ccpo_jax.verifiers.job import collect_records, make_job, slow_steps, verify_job
from ccpo_jax.verifiers.process_pool import ProcessPool
from ccpo_jax.verifiers.registry import get_verifier
from ccpo_jax.verifiers.steps import SLOW, Job
from ccpo_jax.verifiers.types import Graded, Item
from ccpo_jax.verifiers.worker import TIMED_OUT, StepFailure

# Seconds of computing that the first try of a step may take; hardly any honest answer needs more.
_FIRST_TRY = 0.5

# Seconds of computing that slow steps share: so many time limits, or so much per text of the batch.
_SHARED_LIMITS = 2.0
_SHARED_PER_TEXT = 0.01


class Begun(NamedTuple):
    """An item whose quick steps are done.

    Attributes:
      item: what is verified.
      job: its job.
      records: those of the job so far, slow steps among them.
    """

    item: Item
    job: Job
    records: list[Any]


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
        extraction: str | None = None,
        evaluated: bool | None = None,
        plugins: Sequence[str] = (),
    ):
        """Starts the processes and returns at once.

        Args:
          workers: number of processes.
          time_limit: seconds of computing for one answer; its process is killed when they have
            passed.
          max_chars: only the last `max_chars` characters of a text are read.
          extraction: "strict" or "lenient" for all items; None: as the context of each says.
          evaluated: whether an answer has to be worked out, for all items; None: as the context of
            each says.
          plugins: files and modules that add verifiers; every process imports them.

        Raises:
          InputError: if `workers` or `max_chars` is below 1, `time_limit` is not positive,
            `extraction` is unknown, or a plugin cannot be imported.
        """
        if max_chars < 1:
            message = f"must be at least 1, received {max_chars}; use max_chars=20000"
            raise InputError("max_chars", message)
        if extraction not in (None, "strict", "lenient"):
            message = f"unknown kind {extraction!r}; use one of 'strict', 'lenient'"
            raise InputError("extraction", message)

        self._settings: dict[str, Any] = {}
        if extraction is not None:
            self._settings["extraction"] = extraction
        if evaluated is not None:
            self._settings["evaluated"] = evaluated
        self._max_chars = max_chars
        function = f"{verify_job.__module__}:{verify_job.__name__}"
        self._time_limit = time_limit
        self._first_try = min(_FIRST_TRY, time_limit)
        self._pool = ProcessPool(function, workers=workers, time_limit=time_limit, plugins=plugins)

    def verify(self, items: Sequence[Item]) -> list[Graded]:
        """Verifies all items; the result does not depend on the number of workers.

        Raises:
          InputError: if an item names no verifier.
          RuntimeError: if the workers cannot start, or after `close`.
        """
        return self.finish(self.begin(items))

    def begin(self, items: Sequence[Item]) -> list[Begun]:
        """Takes all steps but the slow ones: the parts of a batch may begin one after the other.

        Raises:
          InputError: if an item names no verifier.
          RuntimeError: if the workers cannot start, or after `close`.
        """
        for item in items:
            get_verifier(item.verifier)
        if self._settings:
            items = [
                item._replace(context=item.context._replace(**self._settings)) for item in items
            ]
        jobs = [make_job(item, self._max_chars) for item in items]
        records = self._pool.run(jobs, time_limit=self._first_try, late=SLOW)
        return [Begun(*parts) for parts in zip(items, jobs, records, strict=True)]

    def finish(self, batch: Sequence[Begun]) -> list[Graded]:
        """Repeats the slow steps of a batch, takes those that follow and returns all verdicts.

        Raises:
          RuntimeError: if the workers cannot start, or after `close`.
        """
        num_texts = sum(len(begun.job.texts) for begun in batch)
        budget = max(_SHARED_LIMITS * self._time_limit, _SHARED_PER_TEXT * num_texts)
        unfinished = list(batch)
        while unfinished := [b for b in unfinished if slow_steps(b.job, b.records)]:
            self._repeat_slow_steps(unfinished, budget)
            jobs = [begun.job for begun in unfinished]
            done = [begun.records for begun in unfinished]
            longer = self._pool.run(jobs, done, time_limit=self._first_try, late=SLOW)
            for begun, records in zip(unfinished, longer, strict=True):
                begun.records[:] = records
        return [collect_records(begun.item, begun.records, self._max_chars) for begun in batch]

    def _repeat_slow_steps(self, unfinished: Sequence[Begun], budget: float) -> None:
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
