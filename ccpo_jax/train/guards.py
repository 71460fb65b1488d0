"""Guards: non-finite updates, hints where memory runs out, time limits."""

import contextlib
import functools
import pathlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from ccpo_jax.devices.distributed import print_main
from ccpo_jax.errors import InputError
from ccpo_jax.learner.packing import TrainSequence
from ccpo_jax.learner.replay import SavedBatch, nonfinite_sequences, save_batch

T = TypeVar("T")


# --- numbers that are not finite ------------------------------------------------------------------


class NonFiniteUpdateError(RuntimeError):
    """The run stopped because an update was not finite."""


def describe_nonfinite(sequences: Sequence[TrainSequence], metrics: Mapping[str, float]) -> str:
    """What was not finite in an update; "" where everything was finite.

    Args:
      sequences: those of the update.
      metrics: of `update_params`; {} where it was not called because the sequences were not finite.
    """
    if bad := nonfinite_sequences(sequences):
        finite_advantages = all(np.isfinite(sequence.advantage).all() for sequence in bad)
        what = "log-probs" if finite_advantages else "advantages"
        return f"{what} of {len(bad)} of {len(sequences)} responses are not finite"
    names = {
        "loss": "the loss",
        "grad_norm": "the gradient",
        "logprob_gap": "a log-prob in training",
        "kl": "the divergence to the reference",
    }
    bad_names = [name for key, name in names.items() if not np.isfinite(metrics.get(key, 0.0))]
    return f"not finite: {', '.join(bad_names)}" if bad_names else ""


class NonFiniteGuard:
    """Saves and reports every update that was left out, and decides whether the run goes on.

    Args:
      folder: receives the batches for `ccpo-jax replay`; None = they are not saved.
      roles: names of the agents' roles.
      action: "stop" or "skip".

    Attributes:
      stop_reason: one line that says why the run should stop; "" = it goes on.
    """

    def __init__(self, folder: pathlib.Path | None, roles: Sequence[str], action: str):
        self.stop_reason = ""
        self._folder = folder
        self._roles = roles
        self._action = action

    def report(self, batch: SavedBatch) -> None:
        """Saves the batch of an update that was left out, and says in one line what happened."""
        agents = ", ".join(f"agent {agent} ({self._roles[agent]})" for agent in batch.agents)
        problems = _problem_names(batch)
        line = (
            f"step {batch.step}, {agents}: {batch.reason}, on {problems}; this update is left out"
        )
        if self._folder is not None:
            path = save_batch(self._folder, batch)
            line += f"; to see where it arises, type: ccpo-jax replay {path}"
        if self._action == "stop":
            self.stop_reason = line
        else:
            print_main(f"\nwarning: {line}", file=sys.stderr)


def _problem_names(batch: SavedBatch) -> str:
    """The problems of the sequences that are not finite; of all where the sequences themselves are
    finite.
    """
    bad = nonfinite_sequences(batch.sequences) or batch.sequences
    indices = sorted({sequence.group % len(batch.problems) for sequence in bad})
    names = [batch.problems[index] for index in indices]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


# --- memory and time ------------------------------------------------------------------------------


@contextlib.contextmanager
def explain_oom(phase: str, fields: Mapping[str, Any]) -> Iterator[None]:
    """Says which field to lower where a phase of the program does not fit the device's memory, or
    the host's.

    Args:
      phase: rollout, update, evaluation or loading.
      fields: dotted name and value of the fields to lower, most effective first; {} = none is
        known.

    Raises:
      InputError: in place of the device's own error.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        out_of_memory = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
        if not fields or not out_of_memory:
            raise
        memory = "the host's memory" if isinstance(error, MemoryError) else "the device's memory"
        first = next(iter(fields))
        received = ", ".join(f"{name}={value}" for name, value in fields.items())
        message = (
            f"the {phase} does not fit {memory} with {received}; type a lower --config.{first}"
        )
        if phase == "loading":
            message = (
                f"{received} does not fit {memory}; type --config.mesh.fsdp=N on N devices, or "
                "a smaller "
                f"--config.{first}"
            )
        raise InputError(first, message) from error


def run_with_timeout(seconds: float, field: str, work: Callable[[], T]) -> T:
    """Calls `work` and abandons it where it takes too long: a disk or a server may never answer.

    Args:
      seconds: 0 = no limit.
      field: the configuration field that asks for the work, named in the error.
      work: runs in a thread of its own, which is left behind after a timeout.

    Returns:
      What `work` returns; what it raises is raised here.

    Raises:
      InputError: `work` has not returned in time.
    """
    if not seconds:
        return work()
    outcome: list[Callable[[], T]] = []

    def call() -> None:
        try:
            value = work()
            outcome.append(lambda: value)
        except BaseException as error:
            outcome.append(functools.partial(_raise, error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(min(seconds, threading.TIMEOUT_MAX))
    if not outcome:
        raise InputError(
            field,
            f"loading it takes longer than {seconds:g} seconds; see whether its disk or server "
            "answers, or type a "
            "larger --config.load_time_limit (0 = no limit)",
        )
    return outcome[0]()


def _raise(error: BaseException):
    raise error
