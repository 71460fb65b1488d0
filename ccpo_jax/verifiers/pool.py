"""Verification of many items in worker processes, each answer within a time limit."""

from collections.abc import Sequence
from typing import Any

from ccpo_jax.errors import InputError
from ccpo_jax.verifiers.job import collect_records, make_job, verify_job
from ccpo_jax.verifiers.process_pool import ProcessPool
from ccpo_jax.verifiers.registry import get_verifier
from ccpo_jax.verifiers.types import Graded, Item


class VerifierPool:
    """Verifies items in worker processes, each answer within a time limit.

    An answer that hangs or crashes its process has no verdict and is counted; the other answers are
    unaffected. `verify` releases the interpreter lock while it waits, so a background thread that
    calls it overlaps with decoding.

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
    ):
        """Starts the processes and returns at once.

        Args:
          workers: number of processes.
          time_limit: seconds for one answer; its process is killed when they have passed.
          max_chars: only the last `max_chars` characters of a text are read.
          extraction: "strict" or "lenient" for all items; None: as the context of each says.
          evaluated: whether an answer has to be worked out, for all items; None: as the context of
            each says.

        Raises:
          InputError: if `workers` or `max_chars` is below 1, `time_limit` is not positive or
            `extraction` is unknown.
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
        self._pool = ProcessPool(function, workers=workers, time_limit=time_limit)

    def verify(self, items: Sequence[Item]) -> list[Graded]:
        """Verifies all items; the result does not depend on the number of workers.

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
        records = self._pool.run([make_job(item, self._max_chars) for item in items])
        return [
            collect_records(item, item_records, self._max_chars)
            for item, item_records in zip(items, records, strict=True)
        ]

    def close(self) -> None:
        """Ends the processes."""
        self._pool.close()

    def __enter__(self) -> "VerifierPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
