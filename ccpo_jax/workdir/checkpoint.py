"""Checkpoints of a run: asynchronous, atomic, checked bit by bit, the newest few and the best.

Beside its arrays every checkpoint holds a record: their names, shapes and fingerprints, the metrics, and a checksum of
all this. Storage that loses or flips bits is found out when a checkpoint is restored, and an older one is taken.

Several processes write a checkpoint together, each its own parts, into one folder that all of them see.
"""

import contextlib
import errno
import itertools
import json
import logging
import math
import os
import pathlib
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from orbax import checkpoint as ocp

from ccpo_jax.devices.distributed import all_gather_objects, first_nonempty, is_main_process
from ccpo_jax.errors import first_line
from ccpo_jax.workdir.checksum import fingerprints
from ccpo_jax.workdir.disk_errors import storage_errors_as_os_errors

_LOG = logging.getLogger(__name__)
_RECORD = "record.json"


class Checkpoints:
    """The checkpoints of one folder. A context manager: leaving it waits for saves under way.

    Args:
      folder: created if need be.
      keep_last: newest checkpoints kept.
      best_metric: name in the metrics given to `save`; larger is better. The best checkpoint is kept besides;
        checkpoints without this metric are never the best.
      read_only: change nothing in the folder: another process may be saving into it.

    Raises:
      ValueError: if the folder cannot be created or written.
    """

    def __init__(
        self,
        folder: str | pathlib.Path,
        *,
        keep_last: int = 3,
        best_metric: str | None = None,
        read_only: bool = False,
    ):
        self.folder = pathlib.Path(folder).resolve()
        self._best_metric = best_metric
        self._read_only = read_only
        self._scores: dict[int, float | None] = {}
        self._options = ocp.CheckpointManagerOptions(
            preservation_policy=_NewestAndBest(keep_last, self._score),
            save_decision_policy=_Always(),
            enable_async_checkpointing=True,
            lightweight_initialize=True,  # the records say all that is needed, and are checked
            create=not read_only,
            cleanup_tmp_directories=not read_only,  # what a killed save has left
        )
        try:
            self._manager = self._open()
        except OSError as error:
            raise ValueError(
                f"workdir: cannot write {self.folder} ({error.strerror or error}); type --workdir=FOLDER"
            ) from error

    def _open(self) -> ocp.CheckpointManager:
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "record": ocp.JsonCheckpointHandler(_RECORD),
        }
        return ocp.CheckpointManager(self.folder, options=self._options, item_handlers=handlers)

    def save(self, step: int, state, *, metrics: Mapping[str, float] | None = None) -> None:
        """Saves in the background; the state may be donated as soon as this returns.

        Args:
          step: steps completed; larger than that of every checkpoint in the folder.
          state: a pytree of arrays; typed PRNG keys are allowed.
          metrics: recorded with the checkpoint; the best one is chosen by them.

        Raises:
          ValueError: `step` is not the newest: orbax would skip it without a word.
          OSError: the disk is full or may not be written, found out by this save or by the one before.
        """
        newest = self.latest_step()
        if newest is not None and step <= newest:
            raise ValueError(
                f"step: {step} is not after {newest}, the newest checkpoint in {self.folder}; "
                "resume from it, or name another --workdir"
            )
        self.require_room(state)
        finite = {
            name: float(value) for name, value in (metrics or {}).items() if math.isfinite(value)
        }
        plain = _without_keys(state)
        record = {"arrays": _described(plain, fingerprints(plain)), "metrics": finite}
        self._scores[step] = finite.get(self._best_metric)
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(plain),
            record=ocp.args.JsonSave(record | {"check": _checksum(record)}),
        )
        with storage_errors_as_os_errors(self.folder):
            self._manager.save(step, args=items)

    def require_room(self, state) -> None:
        """Raises OSError if the disk has no room for a checkpoint of `state`: found out later, it costs what was made.

        Arrays are compressed when they are saved, but trained parameters hardly shrink.
        """
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(_without_keys(state)))
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            told = (
                f"{os.strerror(errno.ENOSPC)}: {free:,} bytes free, a checkpoint takes {needed:,}"
            )
            raise OSError(errno.ENOSPC, told, str(self.folder))

    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, oldest first. Waits for saves under way."""
        self.wait()
        return sorted(self._manager.all_steps())

    def latest_step(self) -> int | None:
        """The newest checkpoint's step, None if there is none."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """The step with the largest `best_metric` (the earlier of equals), None if no checkpoint has it."""
        return max(
            (step for step in self.steps() if self._score(step) is not None),
            key=self._rank,
            default=None,
        )

    def _score(self, step: int) -> float | None:
        """The step's `best_metric`; None also where the record is damaged."""
        if step not in self._scores:
            try:
                value = self._record(step)["metrics"].get(self._best_metric)
            except _Unreadable as error:
                _LOG.warning("checkpoint of step %d cannot be the best (%s)", step, error)
                value = None
            self._scores[step] = value
        return self._scores[step]

    def _rank(self, step: int) -> tuple[float, int]:
        return self._scores[step], -step

    def restore(self, like, *, step: int | None = None) -> tuple[int, object]:
        """Restores the newest sound checkpoint, or the one of `step`.

        Args:
          like: a state (or its `jax.ShapeDtypeStruct`s) with the structure, shapes, dtypes and shardings wanted.
          step: None = the newest; damaged ones are passed over with a warning and set aside, so that their steps can
            be saved again. Files cut short, emptied or lost and every flipped bit of an array count as damage.

        Returns:
          ``(step, state)``.

        Raises:
          ValueError: nothing to restore, nothing sound, or a checkpoint of another model or team.
        """
        known = self.steps()
        if not known:
            raise ValueError(
                f"workdir: no checkpoint in {self.folder}; train first, or name another --workdir"
            )
        if step is not None and step not in known:
            raise ValueError(
                f"step: no checkpoint of step {step} in {self.folder}; use one of {known}"
            )
        tried = known if step is None else [step]
        damaged: list[int] = []
        for candidate in reversed(tried):
            state, why = None, ""
            try:
                state = self._read(candidate, like)
            except _Unreadable as error:
                why = str(error)
            if why := first_nonempty(why):
                _LOG.warning("checkpoint of step %d is damaged (%s)", candidate, why)
                damaged.append(candidate)
                continue
            self._set_aside(
                damaged
            )  # only now: where nothing can be read, the disk may be at fault and not the files
            return candidate, state
        raise ValueError(
            f"workdir: no readable checkpoint in {self.folder} (tried steps {tried}); restore a copy of it, "
            "or type another --workdir to start over"
        )

    def _set_aside(self, steps: Sequence[int]) -> None:
        if steps and not self._read_only:
            for step in steps:
                if is_main_process():
                    _set_aside(self.folder / str(step))
                self._scores.pop(step, None)
            all_gather_objects(None)  # nobody looks before they are away
            self._manager.close()
            self._manager = self._open()

    def _read(self, step: int, like):
        saved = self._record(step)["arrays"]
        target = jax.tree.map(_abstract, _without_keys(like))
        _check_structure(step, saved, target)
        with _failures_as_damage():  # the structure has been checked
            args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
            plain = self._manager.restore(step, args=args)["state"]
        found = _described(plain, fingerprints(plain))
        if changed := [name for name in saved if found[name] != saved[name]]:
            raise _Unreadable(f"{', '.join(changed[:3])}: not what was saved")
        return _with_keys(plain, like)

    def _record(self, step: int) -> dict[str, Any]:
        """What was written beside the arrays of a step."""
        try:
            record = json.loads(
                (self.folder / str(step) / "record" / _RECORD).read_text(encoding="utf-8")
            )
            sound = record.pop("check") == _checksum(record)
        except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
            raise _Unreadable(f"its record: {type(error).__name__}") from error
        if not sound:
            raise _Unreadable("its record: wrong checksum")
        return record

    def wait(self) -> None:
        """Waits for saves under way. Raises as `save`."""
        with storage_errors_as_os_errors(self.folder):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and releases threads. Raises as `save`."""
        with storage_errors_as_os_errors(self.folder):
            try:
                self._manager.wait_until_finished()
            finally:
                self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def open_checkpoints(
    workdir: str | pathlib.Path, *, keep_last: int = 3, read_only: bool = False
) -> Checkpoints:
    """The checkpoints of a run; the held-out team accuracy selects the best one."""
    return Checkpoints(
        pathlib.Path(workdir, "checkpoints"),
        keep_last=keep_last,
        best_metric="eval/team_accuracy",
        read_only=read_only,
    )


def _set_aside(checkpoint: pathlib.Path) -> None:
    """Renames a checkpoint to damaged-<step>, or damaged-<step>-1 and so on where an earlier one has that name."""
    names = (
        f"damaged-{checkpoint.name}" + (f"-{again}" if again else "") for again in itertools.count()
    )
    target = next(path for path in map(checkpoint.with_name, names) if not path.exists())
    checkpoint.rename(target)
    _LOG.warning("checkpoint of step %s set aside as %s", checkpoint.name, target.name)


class _Unreadable(Exception):
    """A damaged checkpoint."""


@contextlib.contextmanager
def _failures_as_damage() -> Iterator[None]:
    """Whatever orbax raises over damaged files (arrays cut short: a bare Exception). A full device is not damage."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError):
        raise
    except Exception as error:
        raise _Unreadable(first_line(error.__cause__ or error)) from error


class _Always:
    """When to save is the caller's decision."""

    def should_save(self, step, previous_steps, *, context) -> bool:
        del step, previous_steps, context
        return True


class _NewestAndBest:
    """Which checkpoints stay: the newest few, and the one with the largest score (the earlier of equals)."""

    def __init__(self, newest: int, score: Callable[[int], float | None]):
        self._newest, self._score = newest, score

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        del context
        steps = [info.step for info in checkpoints]
        scored = [step for step in steps if self._score(step) is not None]
        best = max(scored, key=lambda step: (self._score(step), -step), default=None)
        return [step in steps[-self._newest :] or step == best for step in steps]


def _checksum(record: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def _described(tree, prints: Sequence[int]) -> dict[str, list]:
    """name -> [dtype, shape, fingerprint] of every array."""
    return {
        _name(path): [np.dtype(leaf.dtype).name, list(leaf.shape), value]
        for (path, leaf), value in zip(jax.tree.leaves_with_path(tree), prints, strict=True)
    }


def _check_structure(step: int, saved: Mapping[str, list], target) -> None:
    """One clear line if the checkpoint is of another model, team or optimizer."""
    had = {name: f"{dtype}{shape}" for name, (dtype, shape, _) in saved.items()}
    wants = {
        _name(path): f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"
        for path, leaf in jax.tree.leaves_with_path(target)
    }
    for name in sorted(had.keys() | wants.keys()):
        if had.get(name) != wants.get(name):
            raise ValueError(
                f"workdir: the checkpoint of step {step} has {name} {had.get(name, 'missing')}, this configuration "
                f"{wants.get(name, 'missing')}; use the configuration and the version it was made with, or another --workdir"
            )


def _is_key(leaf) -> bool:
    return jax.dtypes.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key)


def _without_keys(tree):
    """Typed keys as their raw words; everything else as it is."""

    def raw(leaf):
        if not _is_key(leaf):
            return leaf
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.eval_shape(jax.random.key_data, leaf)
        return jax.random.key_data(leaf)

    return jax.tree.map(raw, tree)


def _with_keys(tree, like):
    def typed(leaf, model):
        return (
            jax.random.wrap_key_data(leaf, impl=jax.random.key_impl(model))
            if _is_key(model)
            else leaf
        )

    return jax.tree.map(typed, tree, like)


def _abstract(leaf) -> jax.ShapeDtypeStruct:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    return jax.ShapeDtypeStruct(
        np.shape(leaf), leaf.dtype, sharding=getattr(leaf, "sharding", None)
    )


def _name(path) -> str:
    return ".".join(
        str(getattr(entry, "name", getattr(entry, "key", getattr(entry, "idx", entry))))
        for entry in path
    )
