"""Checkpoints of a run: asynchronous, atomic, verified; the newest few and the best are kept.

Beside its arrays every checkpoint holds a record: their names, shapes and fingerprints, the
  metrics, and a checksum of
all this. Restoring verifies it, and falls back to an older checkpoint where storage lost or flipped
bits.

Several processes write a checkpoint together, each its own shards, into one folder that all of them
see."""

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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from orbax import checkpoint as ocp

from ccpo_jax.devices.distributed import (
    all_gather_objects,
    first_nonempty,
    is_main_process,
    sync_errors,
)
from ccpo_jax.errors import InputError, first_line
from ccpo_jax.status import status
from ccpo_jax.workdir.atomic_write import write_atomically
from ccpo_jax.workdir.checksum import fingerprints
from ccpo_jax.workdir.disk_errors import storage_errors_as_os_errors

_LOG = logging.getLogger(__name__)
_RECORD = "record.json"

State = TypeVar("State")


def _is_no_failed_save(record: logging.LogRecord) -> bool:
    """Whether a log record is not the traceback of a save: `wait` raises its error."""
    return record.exc_info is None or "orbax" not in record.pathname


# Orbax saves in threads of its own, and logs what happens there.
logging.getLogger("absl").addFilter(_is_no_failed_save)


class Checkpoints:
    """The checkpoints in one folder. A context manager: leaving it waits for pending saves.

    Args:
      folder: created if it does not exist.
      keep_last: newest checkpoints kept.
      best_metric: name in the metrics given to `save`; larger is better. The best checkpoint is
        kept too; checkpoints without this metric are never the best.
      read_only: change nothing in the folder: another process may be saving into it.

    Raises:
      InputError: ``workdir``: the folder cannot be created, read or written.
    """

    def __init__(
        self,
        folder: str | pathlib.Path,
        *,
        keep_last: int = 3,
        best_metric: str | None = None,
        read_only: bool = False,
    ):
        with sync_errors():
            _check_folder(pathlib.Path(folder))
        self.folder = pathlib.Path(folder).resolve()
        self._best_metric = best_metric
        self._read_only = read_only
        # The best metric of each step as far as it was looked up; None = it has none.
        self._scores: dict[int, float | None] = {}
        self._options = ocp.CheckpointManagerOptions(
            preservation_policy=_NewestAndBest(keep_last, self._score),
            save_decision_policy=_AlwaysSave(),
            enable_async_checkpointing=True,
            # The records hold everything that is needed, and are verified.
            lightweight_initialize=True,
            create=not read_only,
            # Left behind by a save that was killed.
            cleanup_tmp_directories=not read_only,
        )
        try:
            self._manager = self._open()
        except OSError as error:
            reason = error.strerror or error
            raise InputError(
                "workdir", f"cannot write {self.folder} ({reason}); type --workdir=FOLDER"
            ) from error

    def _open(self) -> ocp.CheckpointManager:
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "record": ocp.JsonCheckpointHandler(_RECORD),
        }
        return ocp.CheckpointManager(self.folder, options=self._options, item_handlers=handlers)

    def save(self, step: int, state: Any, *, metrics: Mapping[str, float] | None = None) -> None:
        """Saves in the background; the state may be donated as soon as this returns.

        Args:
          step: steps completed; larger than that of every checkpoint in the folder.
          state: a pytree of arrays; typed PRNG keys are allowed.
          metrics: recorded with the checkpoint; the best one is chosen by them.

        Raises:
          InputError: ``step`` is not after the newest checkpoint's; orbax would skip it silently.
          OSError: the disk is full or not writable, noticed by this save or by the one before.
        """
        newest = self.latest_step()
        if newest is not None and step <= newest:
            raise InputError(
                "step",
                f"{step} is not after {newest}, the newest checkpoint in {self.folder}; "
                "resume from it, or type another --workdir",
            )
        self.check_disk_space(state)

        finite = _finite(metrics or {})
        arrays = _as_saved(state)
        record = {"arrays": _describe(arrays, fingerprints(arrays)), "metrics": finite}
        self._scores[step] = None if self._best_metric is None else finite.get(self._best_metric)

        items = ocp.args.Composite(
            state=ocp.args.StandardSave(arrays),
            record=ocp.args.JsonSave(record | {"check": _checksum(record)}),
        )
        with storage_errors_as_os_errors(self.folder):
            self._manager.save(step, args=items)

    def metrics(self, step: int) -> dict[str, Any]:
        """The metrics recorded with a checkpoint; {} where its record is damaged."""
        try:
            return self._read_record(step)["metrics"]
        except _DamagedCheckpointError:
            return {}

    def set_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records metrics that were not known when a checkpoint was saved. Waits for the save."""
        self.wait()
        finite = _finite(metrics)
        self._scores[step] = None if self._best_metric is None else finite.get(self._best_metric)
        if is_main_process():
            record = self._read_record(step) | {"metrics": finite}
            text = json.dumps(record | {"check": _checksum(record)})
            write_atomically(self.folder / str(step) / "record" / _RECORD, text)

    def check_disk_space(self, state: Any) -> None:
        """Checks that the disk has space for a checkpoint of `state`.

        Failing later would lose the checkpoint. Arrays are compressed when they are saved, but
        trained parameters hardly shrink.

        Raises:
          OSError: too little space.
        """
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(_as_saved(state)))
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            reason = os.strerror(errno.ENOSPC)
            message = f"{reason}: {free:,} bytes free, a checkpoint takes {needed:,}"
            raise OSError(errno.ENOSPC, message, str(self.folder))

    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, oldest first. Waits for pending saves."""
        self.wait()
        return sorted(self._manager.all_steps())

    def latest_step(self) -> int | None:
        """The newest checkpoint's step, None if there is none."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """The earliest step with the largest `best_metric`; None if no step has it."""
        return _best_step(self.steps(), self._score)

    def _score(self, step: int) -> float | None:
        """The step's `best_metric`; None also where the record is damaged."""
        if self._best_metric is None:
            return None
        if step not in self._scores:
            try:
                value = self._read_record(step)["metrics"].get(self._best_metric)
            except _DamagedCheckpointError as error:
                _LOG.warning("checkpoint of step %d cannot be the best (%s)", step, error)
                value = None
            self._scores[step] = value
        return self._scores[step]

    def restore(self, like: State, *, step: int | None = None) -> tuple[int, State]:
        """Restores the newest intact checkpoint, or the one of `step`.

        Args:
          like: a state (or its `jax.ShapeDtypeStruct`s) with the wanted structure, shapes, dtypes
            and shardings.
          step: None = the newest; damaged ones are skipped with a warning and renamed, so that
            their steps can be saved again. Truncated, empty or missing files and every flipped bit
            of an array count as damage.

        Returns:
          ``(step, state)``.

        Raises:
          InputError: ``step``: no such checkpoint; ``workdir``: no checkpoint, no intact one, or
            one of another model or team.
        """
        return self._restore(step, lambda candidate: self._read(candidate, like))

    def restore_params(
        self, like: State, parameter_set: int, *, step: int | None = None
    ) -> tuple[int, State]:
        """Restores one parameter set of a `TrainState`, and reads nothing else.

        Args:
          like: the set, as in `restore`.
          parameter_set: its number.
          step: as in `restore`.

        Returns:
          ``(step, parameters)``.

        Raises:
          InputError: as in `restore`.
        """
        return self._restore(
            step, lambda candidate: self._read_params(candidate, like, parameter_set)
        )

    def num_parameter_sets(self) -> int:
        """P, the parameter sets of the newest checkpoint whose record is intact.

        Raises:
          InputError: ``workdir``: no checkpoint, or no intact one.
        """
        _, count = self._restore(None, self._count_parameter_sets)
        return count

    def _restore(self, step: int | None, read: Callable[[int], State]) -> tuple[int, State]:
        """What `read` makes of the checkpoint of `step`, or of the newest intact one."""
        known = self.steps()
        if not known:
            raise InputError(
                "workdir", f"no checkpoint in {self.folder}; train first, or type another --workdir"
            )
        if step is not None and step not in known:
            raise InputError(
                "step", f"no checkpoint of step {step} in {self.folder}; use one of {known}"
            )

        candidates = known if step is None else [step]
        damaged: list[int] = []
        for candidate in reversed(candidates):
            with status(f"reading the checkpoint of step {candidate}"):
                state, damage = _try_read(candidate, read)
            # All processes take the same checkpoint.
            damage = first_nonempty(damage)
            if not damage:
                # Renamed only now: where nothing can be read, the disk may be at fault, not the
                # files.
                self._set_aside(damaged)
                return candidate, cast(State, state)
            _LOG.warning("checkpoint of step %d is damaged (%s)", candidate, damage)
            damaged.append(candidate)
        raise InputError(
            "workdir",
            f"no readable checkpoint in {self.folder} (tried steps {candidates}); restore a copy, "
            "or type another --workdir to start over",
        )

    def _set_aside(self, steps: Sequence[int]) -> None:
        """Renames damaged checkpoints; all processes wait until it is done."""
        if not steps or self._read_only:
            return
        for step in steps:
            if is_main_process():
                _rename_damaged(self.folder / str(step))
            self._scores.pop(step, None)
        # A barrier: no process lists the folder before the damaged checkpoints are gone.
        all_gather_objects(None)
        self._manager.close()
        self._manager = self._open()

    def _read(self, step: int, like: State) -> State:
        saved = self._read_record(step)["arrays"]
        target = jax.tree.map(_abstract, _as_saved(like))
        _check_structure(step, saved, target)
        # The structure is right, so that whatever fails from here on is damage.
        with _failures_as_damage():
            args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
            arrays = self._manager.restore(step, args=args)["state"]

        _check_fingerprints(saved, arrays)
        return _from_saved(arrays, like)

    def _read_params(self, step: int, like: State, parameter_set: int) -> State:
        own = f"params.{parameter_set}."
        saved = self._read_record(step)["arrays"]
        target = jax.tree.map(_abstract, like)
        wanted = {name.removeprefix(own): saved[name] for name in saved if name.startswith(own)}
        _check_structure(step, wanted, target)

        # Orbax wants the other sets named as well: placeholders stand for what is not read.
        tree = _placeholders(name for name in saved if name.startswith("params."))
        sets = [tree["params"][str(index)] for index in range(len(tree["params"]))]
        sets[parameter_set] = target
        item = {"params": sets}
        with _failures_as_damage(), ocp.PyTreeCheckpointer() as reader:
            args = ocp.args.PyTreeRestore(
                item=item,
                restore_args=ocp.checkpoint_utils.construct_restore_args(item),
                partial_restore=True,
            )
            arrays = reader.restore(self.folder / str(step) / "state", args=args)
        params = arrays["params"][parameter_set]
        _check_fingerprints(wanted, params)
        return params

    def _count_parameter_sets(self, step: int) -> int:
        names = self._read_record(step)["arrays"]
        return len({name.split(".")[1] for name in names if name.startswith("params.")})

    def _read_record(self, step: int) -> dict[str, Any]:
        """The record beside the arrays of a step."""
        path = self.folder / str(step) / "record" / _RECORD
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            intact = record.pop("check") == _checksum(record)
        except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
            raise _DamagedCheckpointError(f"its record: {type(error).__name__}") from error
        if not intact:
            raise _DamagedCheckpointError("its record: wrong checksum")
        return record

    def wait(self) -> None:
        """Waits for pending saves. Raises as `save`."""
        with storage_errors_as_os_errors(self.folder), status("waiting for the checkpoint"):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and releases threads. Raises as `save`."""
        with storage_errors_as_os_errors(self.folder):
            try:
                self.wait()
            finally:
                self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_folder(folder: pathlib.Path) -> None:
    """Checks that what is in the folder's place can be read: an unreadable one is not empty.

    Raises:
      InputError: it is not a folder, cannot be read, or is a link to nowhere.
    """
    if not os.path.lexists(folder):
        return
    try:
        os.listdir(folder)
    except OSError as error:
        link = f", a link to {os.readlink(folder)}" if folder.is_symlink() else ""
        raise InputError(
            "workdir",
            f"cannot read {folder}{link} ({error.strerror}); make it readable, restore it, or type "
            "another --workdir to start over",
        ) from error


def open_checkpoints(
    workdir: str | pathlib.Path, *, keep_last: int = 3, read_only: bool = False
) -> Checkpoints:
    """The checkpoints of a run; the best has the largest held-out team accuracy.

    Arguments and errors as in `Checkpoints`.
    """
    return Checkpoints(
        pathlib.Path(workdir, "checkpoints"),
        keep_last=keep_last,
        best_metric="eval/team_accuracy",
        read_only=read_only,
    )


# --- which checkpoints are kept ----------------------------------------------------------------


class _AlwaysSave:
    """Orbax's save policy: the caller decides when to save."""

    def should_save(self, step: Any, previous_steps: Any, *, context: Any) -> bool:
        del step, previous_steps, context
        return True


class _NewestAndBest:
    """Orbax's preservation policy: the newest few, and the one with the largest score."""

    def __init__(self, newest: int, score: Callable[[int], float | None]):
        self._newest = newest
        self._score = score

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        steps = [info.step for info in checkpoints]
        newest = steps[-self._newest :]
        best = _best_step(steps, self._score)
        return [step in newest or step == best for step in steps]


def _best_step(steps: Sequence[int], score: Callable[[int], float | None]) -> int | None:
    """The step with the largest score, the earlier of equals; None if no step has one."""
    best, best_score = None, -math.inf
    for step in sorted(steps):
        value = score(step)
        if value is not None and (best is None or value > best_score):
            best, best_score = step, value
    return best


# --- damage ------------------------------------------------------------------------------------


class _DamagedCheckpointError(Exception):
    """A checkpoint that cannot be read, or that does not hold what was saved."""


@contextlib.contextmanager
def _failures_as_damage() -> Iterator[None]:
    """Marks what orbax raises over damaged files, a bare Exception at times. OOM is not damage."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError):
        raise
    except Exception as error:
        raise _DamagedCheckpointError(first_line(error.__cause__ or error)) from error


def _try_read(step: int, read: Callable[[int], State]) -> tuple[State | None, str]:
    """``(what read returns, "")``, or ``(None, damage)``."""
    try:
        return read(step), ""
    except _DamagedCheckpointError as error:
        return None, str(error)


def _check_fingerprints(saved: Mapping[str, list], arrays: Any) -> None:
    """Raises _DamagedCheckpointError where an array is not what its record says."""
    restored = _describe(arrays, fingerprints(arrays))
    changed = [name for name in saved if restored[name] != saved[name]]
    if changed:
        raise _DamagedCheckpointError(f"{', '.join(changed[:3])}: not what was saved")


def _rename_damaged(checkpoint: pathlib.Path) -> None:
    """Renames a checkpoint to damaged-<step>, or to damaged-<step>-1, -2, ... if that exists."""
    name = f"damaged-{checkpoint.name}"
    target = checkpoint.with_name(name)
    for number in itertools.count(1):
        if not target.exists():
            break
        target = checkpoint.with_name(f"{name}-{number}")
    checkpoint.rename(target)
    _LOG.warning("checkpoint of step %s renamed to %s", checkpoint.name, target.name)


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """The metrics as JSON holds them, which has no NaN or infinity."""
    return {name: float(x) if math.isfinite(x) else None for name, x in metrics.items()}


def _checksum(record: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


# --- the arrays of a state ---------------------------------------------------------------------


def _describe(tree: Any, prints: Sequence[int]) -> dict[str, list]:
    """Name -> [dtype, shape, fingerprint] of every array."""
    description = {}
    for (path, leaf), value in zip(jax.tree.leaves_with_path(tree), prints, strict=True):
        description[_name(path)] = [np.dtype(leaf.dtype).name, list(leaf.shape), value]
    return description


def _check_structure(step: int, saved: Mapping[str, list], target: Any) -> None:
    """Raises InputError if the checkpoint is of another model, team or optimizer."""
    in_checkpoint = {name: f"{dtype}{shape}" for name, (dtype, shape, _) in saved.items()}
    wanted = {
        _name(path): f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"
        for path, leaf in jax.tree.leaves_with_path(target)
    }
    for name in sorted(in_checkpoint.keys() | wanted.keys()):
        if in_checkpoint.get(name) != wanted.get(name):
            raise InputError(
                "workdir",
                f"{_difference(step, name, in_checkpoint.get(name), wanted.get(name))}; use the "
                "configuration and version it was made with, or another --workdir",
            )


def _difference(step: int, name: str, saved: str | None, wanted: str | None) -> str:
    """How a checkpoint and a configuration differ in one array; None = there is none."""
    if saved is None:
        return f"the checkpoint of step {step} lacks {name}, which this run has as {wanted}"
    if wanted is None:
        return f"the checkpoint of step {step} holds {name} as {saved}, which this run lacks"
    return f"the checkpoint of step {step} holds {name} as {saved}, which this run has as {wanted}"


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key)


def _as_saved(state: Any) -> Any:
    """A state as a checkpoint holds it: keys as words, without fields that are empty by default.

    So a field that a later version adds to a record changes no checkpoint of runs without it.
    """
    return _keys_to_words(_without(state, _empty_fields(state)))


def _from_saved(arrays: Any, like: State) -> State:
    """The inverse of `_as_saved`, with the structure of `like`."""
    empty = _empty_fields(like)
    if empty:
        arrays = type(like)(**arrays, **dict.fromkeys(empty, ()))
    return _words_to_keys(arrays, like)


def _empty_fields(state: Any) -> list[str]:
    """The fields of a NamedTuple whose default, and value, is ()."""
    defaults = getattr(state, "_field_defaults", {})
    return [
        name for name in defaults if _is_empty(defaults[name]) and _is_empty(getattr(state, name))
    ]


def _is_empty(value: Any) -> bool:
    return isinstance(value, tuple) and not value


def _without(state: Any, names: Collection[str]) -> Any:
    """A NamedTuple as a dict of its other fields; the state itself where there is none to leave
    out.
    """
    if not names:
        return state
    return {name: value for name, value in state._asdict().items() if name not in names}


def _keys_to_words(tree: Any) -> Any:
    """Typed PRNG keys as their raw words; everything else unchanged."""

    def words(leaf: Any) -> Any:
        if not _is_key(leaf):
            return leaf
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.eval_shape(jax.random.key_data, leaf)
        return jax.random.key_data(leaf)

    return jax.tree.map(words, tree)


def _words_to_keys(tree: Any, like: State) -> State:
    """The inverse of `_keys_to_words`: keys where `like` has keys, of the same implementation."""

    def key(leaf: Any, model: Any) -> Any:
        if not _is_key(model):
            return leaf
        return jax.random.wrap_key_data(leaf, impl=jax.random.key_impl(model))

    return jax.tree.map(key, tree, like)


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    sharding = getattr(leaf, "sharding", None)
    return jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=sharding)


def _placeholders(names: Iterable[str]) -> dict[str, Any]:
    """Nested dicts of dotted names, with a placeholder for every array."""
    tree: dict[str, Any] = {}
    for name in names:
        *path, last = name.split(".")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[last] = ocp.PLACEHOLDER
    return tree


def _name(path: Sequence[Any]) -> str:
    """A leaf's dotted name: names of fields, keys of mappings, indices of sequences."""
    names = []
    for entry in path:
        for attribute in ("name", "key", "idx"):
            if hasattr(entry, attribute):
                names.append(str(getattr(entry, attribute)))
                break
        else:
            names.append(str(entry))
    return ".".join(names)
