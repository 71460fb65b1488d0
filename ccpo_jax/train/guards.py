"""A step that computes what is no number, a device that is full, work that never ends: told, and not waited for."""

import contextlib
import functools
import pathlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import jax
import numpy as np

from ccpo_jax.config import Config, fields_to_lower, get
from ccpo_jax.devices.distributed import print_main
from ccpo_jax.errors import InputError
from ccpo_jax.learner.packing import TrainSequence
from ccpo_jax.learner.replay import SavedBatch, nonfinite_sequences, save_batch

T = TypeVar("T")


class NonFiniteUpdateError(RuntimeError):
    """A run that stopped because an update was not finite."""


def describe_nonfinite(rows: Sequence[TrainSequence], found: Mapping[str, float]) -> str:
    """What was not finite in an update; "" where all is well.

    Args:
      rows: what was to be learned from.
      found: metrics of `update.train_on`; {} where the rows were not fit for it.
    """
    if sick := nonfinite_sequences(rows):
        what = "log-probs" if np.isfinite([row.advantage for row in sick]).all() else "advantages"
        return f"{what} of {len(sick)} of {len(rows)} responses are not finite"
    words = {
        "loss": "the loss",
        "grad_norm": "the gradient",
        "logprob_gap": "a log-prob in training",
    }
    bad = [word for name, word in words.items() if not np.isfinite(found.get(name, 0.0))]
    return f"not finite: {', '.join(bad)}" if bad else ""


class NonFiniteGuard:
    """Told of every update that was left out because it was not finite; decides whether the run goes on.

    Args:
      folder: where batches are kept for replay.
      roles: names of the agents' roles.
      action: "stop" or "skip".
    """

    def __init__(self, folder: pathlib.Path, roles: Sequence[str], action: str):
        self._folder, self._roles, self._action = folder, roles, action
        self.stop = ""  # why the run should stop

    def report(
        self,
        why: str,
        rows: Sequence[TrainSequence],
        *,
        step: int,
        agents: Sequence[int],
        problems: Sequence[str],
    ) -> None:
        """Saves the batch and says in one line what happened.

        Args:
          why: from `describe_nonfinite`.
          rows: the whole batch of one parameter set.
          step: the step that was under way, from 1.
          agents: whose responses the rows are.
          problems: ``[B]`` names of the step's problems.
        """
        batch = SavedBatch(step, tuple(agents), tuple(problems), why, tuple(rows))
        path = save_batch(self._folder, batch)
        concerned = [
            problems[i]
            for i in sorted(
                {row.group % len(problems) for row in nonfinite_sequences(rows) or rows}
            )
        ]
        named = ", ".join(concerned[:3]) + (
            f" and {len(concerned) - 3} more" if len(concerned) > 3 else ""
        )
        who = ", ".join(f"agent {agent} ({self._roles[agent]})" for agent in agents)
        line = f"step {step}, {who}: {why}, on {named}; this update is left out, its batch is in {path}"
        if self._action == "stop":
            self.stop = line
        else:
            print_main(f"\nwarning: {line}", file=sys.stderr)


@contextlib.contextmanager
def explain_oom(phase: str, config: Config) -> Iterator[None]:
    """Says which field to lower where a phase of the program does not fit the device's memory, or the host's.

    Args:
      phase: rollout, update, evaluation or loading.
      config: the run's configuration.

    Raises:
      InputError: in place of the device's own error.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        where = "host" if isinstance(error, MemoryError) else "device"
        values = {name: get(config, name) for name in fields_to_lower(phase)}
        first, *_ = values
        received = ", ".join(f"{name}={value}" for name, value in values.items())
        raise InputError(
            first,
            f"the {phase} does not fit the {where}'s memory with {received}; type a lower --config.{first}"
            if phase != "loading"
            else f"{received} does not fit the {where}'s memory; type --config.mesh.fsdp=N on N devices, or a "
            "smaller --config.model",
        ) from error


def run_with_timeout(seconds: float, field: str, work: Callable[[], T]) -> T:
    """Calls `work` and gives it up where it takes too long: a disk or a server may never answer.

    Args:
      seconds: 0 = no limit.
      field: the configuration field that asks for the work, for the complaint.
      work: runs in a thread of its own, which is left behind if it must be.

    Returns:
      What `work` returns; what it raises is raised here.

    Raises:
      ValueError: it has not come back in time.
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
        raise ValueError(
            f"{field}: loading it has not ended within {seconds:g} seconds; see whether its disk or server answers, or "
            "type a larger --config.load_time_limit (0 = no limit)"
        )
    return outcome[0]()


def _raise(error: BaseException):
    raise error
