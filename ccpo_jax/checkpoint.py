"""Checkpoints of a run: asynchronous, atomic, the newest few and the best, with fallback past a damaged one."""

import contextlib
import itertools
import json
import logging
import math
import pathlib
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from orbax import checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

_LOG = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one folder. A context manager: leaving it waits for saves under way.

    Args:
      folder: created if need be.
      keep_last: newest checkpoints kept.
      keep_best: best checkpoints kept besides, by `best_metric`.
      best_metric: name in the metrics given to `save`; larger is better. Checkpoints without it are never the best.

    Raises:
      ValueError: if the folder cannot be created or written.
    """

    def __init__(
        self, folder: str | pathlib.Path, *, keep_last: int = 3, keep_best: int = 1, best_metric: str | None = None
    ):
        self.folder = pathlib.Path(folder).resolve()
        self._best_metric = best_metric

        def score(metrics: Mapping[str, float]) -> float:
            return metrics.get(best_metric, -math.inf)

        newest = checkpoint_managers.LatestN(n=keep_last)
        best = checkpoint_managers.BestN(get_metric_fn=score, n=keep_best, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=score,
            preservation_policy=checkpoint_managers.AnyPreservationPolicy([newest, best]),
            save_decision_policy=_Always(),
            enable_async_checkpointing=True,
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _set_aside_damaged(self.folder)
            handlers = {"state": ocp.StandardCheckpointHandler()}
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)
        except OSError as error:
            raise ValueError(
                f"workdir: cannot write {self.folder} ({error.strerror or error}); type --workdir=FOLDER"
            ) from error

    def save(self, step: int, state, *, metrics: Mapping[str, float] | None = None) -> None:
        """Saves in the background; the state may be donated as soon as this returns.

        Args:
          step: steps completed; larger than that of every checkpoint in the folder.
          state: a pytree of arrays; typed PRNG keys are allowed.
          metrics: recorded with the checkpoint; the best one is chosen by them.

        Raises:
          ValueError: `step` is not the newest: orbax would skip it without a word.
        """
        finite = {name: float(value) for name, value in (metrics or {}).items() if math.isfinite(value)}
        args = ocp.args.Composite(state=ocp.args.StandardSave(_without_keys(state)))
        if not self._manager.save(step, args=args, metrics=finite):
            raise ValueError(
                f"step: {step} is not after {self.latest_step()}, the newest checkpoint in {self.folder}; "
                "resume from it, or name another --workdir"
            )

    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, oldest first. Waits for saves under way: they have no metrics yet."""
        self.wait()
        return sorted(self._manager.all_steps())

    def latest_step(self) -> int | None:
        """The newest checkpoint's step, None if there is none."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """The step with the largest `best_metric` (the earlier of equals), None if no checkpoint has it."""
        values = {step: self._metric(step) for step in self.steps()}
        known = {step: value for step, value in values.items() if value is not None}
        return max(known, key=lambda step: (known[step], -step)) if known else None

    def _metric(self, step: int) -> float | None:
        return (self._manager.metrics(step) or {}).get(self._best_metric)

    def restore(self, like, *, step: int | None = None) -> tuple[int, object]:
        """Restores the newest readable checkpoint, or the one of `step`.

        Args:
          like: a state (or its `jax.ShapeDtypeStruct`s) with the structure, shapes, dtypes and shardings wanted.
          step: None = the newest; damaged ones are passed over with a warning and set aside, so that their steps can
            be saved again. Files cut short, emptied or lost count as damage; a flipped bit in an array goes unnoticed.

        Returns:
          ``(step, state)``.

        Raises:
          ValueError: nothing to restore, nothing readable, or a checkpoint of another model or team.
        """
        known = self.steps()
        if not known:
            raise ValueError(f"workdir: no checkpoint in {self.folder}; train first, or name another --workdir")
        if step is not None and step not in known:
            raise ValueError(f"step: no checkpoint of step {step} in {self.folder}; use one of {known}")
        tried = known if step is None else [step]
        damaged: list[int] = []
        for candidate in reversed(tried):
            try:
                self._check_structure(candidate, like)
                state = self._read(candidate, like)
            except _Unreadable as error:
                _LOG.warning("checkpoint of step %d cannot be read (%s)", candidate, error)
                damaged.append(candidate)
                continue
            for late in damaged:  # only now: where nothing can be read, the disk may be at fault and not the files
                _set_aside(self.folder / str(late))
            if damaged:
                self._manager.reload()
            return candidate, state
        raise ValueError(
            f"workdir: no readable checkpoint in {self.folder} (tried steps {tried}); restore a copy of it"
        )

    def _read(self, step: int, like):
        target = jax.tree.map(_abstract, _without_keys(like))
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        with _failures_as_damage():  # the structure has been checked
            restored = self._manager.restore(step, args=args)["state"]
        return _with_keys(restored, like)

    def _check_structure(self, step: int, like) -> None:
        """One clear line if the checkpoint is of another model, team or optimizer."""
        with _failures_as_damage():
            metadata = self._manager.item_metadata(step)["state"]
            tree = getattr(metadata, "tree", metadata)
        if tree is None:
            raise _Unreadable("its description is missing")
        saved = {_name(path): tuple(leaf.shape) for path, leaf in _leaves(tree)}
        wanted = {_name(path): np.shape(leaf) for path, leaf in _leaves(_without_keys(like))}
        for name in sorted(saved.keys() | wanted.keys()):
            if saved.get(name) != wanted.get(name):
                raise ValueError(
                    f"workdir: the checkpoint of step {step} has {name} {_shape(saved.get(name))}, this configuration "
                    f"{_shape(wanted.get(name))}; use the configuration it was made with, or another --workdir"
                )

    def wait(self) -> None:
        """Waits for saves under way."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and releases threads."""
        try:
            self.wait()
        finally:
            self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _set_aside_damaged(folder: pathlib.Path) -> None:
    """Renames checkpoints whose metrics cannot be read: the manager reads all of them when it starts."""
    for file in folder.glob("[0-9]*/metrics/metrics"):
        try:
            json.loads(file.read_text())
        except ValueError:
            _LOG.warning("checkpoint of step %s cannot be read (its metrics are damaged)", file.parents[1].name)
            _set_aside(file.parents[1])


def _set_aside(checkpoint: pathlib.Path) -> None:
    """Renames a checkpoint to damaged-<step>, or damaged-<step>-1 and so on where an earlier one has that name."""
    names = (f"damaged-{checkpoint.name}" + (f"-{again}" if again else "") for again in itertools.count())
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
        lines = str(error.__cause__ or error).strip().splitlines()
        raise _Unreadable(lines[0][:200] if lines else type(error).__name__) from error


class _Always:
    """When to save is the caller's decision."""

    def should_save(self, step, previous_steps, *, context) -> bool:
        del step, previous_steps, context
        return True


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
        return jax.random.wrap_key_data(leaf, impl=jax.random.key_impl(model)) if _is_key(model) else leaf

    return jax.tree.map(typed, tree, like)


def _abstract(leaf) -> jax.ShapeDtypeStruct:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    return jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=getattr(leaf, "sharding", None))


def _leaves(tree) -> list:
    return jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: hasattr(node, "shape"))


def _name(path) -> str:
    return ".".join(str(getattr(entry, "name", getattr(entry, "key", getattr(entry, "idx", entry)))) for entry in path)


def _shape(shape: tuple | None) -> str:
    return "missing" if shape is None else f"of shape {list(shape)}"
