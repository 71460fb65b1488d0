"""A run's folder: one run at a time, the configuration it belongs to, its checkpoints, and complaints as one line.

Of several processes the first holds the folder and writes into it; the others read.
"""

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ccpo_jax.devices.distributed import (
    all_gather_objects,
    is_main_process,
    print_main,
    sync_errors,
)
from ccpo_jax.errors import as_input_error
from ccpo_jax.workdir.atomic_write import write_atomically
from ccpo_jax.workdir.disk_errors import as_disk_error

# What a run was trained on and with: another value would meet parameters or problems that are not its own.
_FIXED = (
    "topology", "num_agents", "graph", "decision", "model", "revision", "shared_policy", "seed",
    "data.train", "data.heldout", "data.size", "data.similarity", "data.overlong", "prompt_length",
)  # fmt: skip
_MAY_CHANGE = (
    "steps", "eval_every", "checkpoint_every", "keep_last", "log.", "journal.", "verifier.workers", "mesh.",
    "allow_changes", "trainer.not_finite", "load_time_limit",
)  # fmt: skip


def check_same_config(config, workdir: str) -> None:
    """Several processes have to be started alike.

    Raises:
      ValueError: another workdir or another configuration here than in the first process.
    """
    mine = _flat(_as_json(config)) | {"workdir": workdir}
    theirs = all_gather_objects(mine)[0]
    with sync_errors():
        if odd := sorted(
            name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)
        ):
            raise ValueError(
                f"{odd[0]}: {mine.get(odd[0])!r:.80} here, {theirs.get(odd[0])!r:.80} in the first process; start all "
                "processes with the same command"
            )


def default_workdir(config_file: str) -> str:
    """``configs/voting.py:tiny`` -> ``runs/voting-tiny-<time>``: a new run never meets an old one by accident."""
    path, _, preset = config_file.partition(":")
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return str(
        pathlib.Path("runs") / "-".join(filter(None, (pathlib.Path(path).stem, preset, stamp)))
    )


@contextlib.contextmanager
def lock_workdir(workdir: str) -> Iterator[None]:
    """Holds the folder, made if need be, for one run. The kernel lets go with the process, however that ends.

    A folder that was made here and stayed empty goes again.

    Raises:
      ValueError: another run holds it, it cannot be written, or not all processes see it.
    """
    with contextlib.ExitStack() as held:
        with sync_errors():
            if is_main_process():
                held.enter_context(_lock(workdir))
        with sync_errors():
            if not pathlib.Path(workdir, "lock").is_file():
                raise ValueError(
                    f"workdir: {workdir} is not there; use a folder that all processes share"
                )
        yield


@contextlib.contextmanager
def _lock(workdir: str) -> Iterator[None]:
    folder = pathlib.Path(workdir)
    made = not folder.exists()
    with as_disk_error(workdir):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+", encoding="utf-8")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read(100).strip() or "another process"
            raise ValueError(
                f"workdir: {workdir} is in use by {holder}; wait for its end, or type another --workdir"
            ) from error
        except OSError as error:
            print(
                f"warning: {workdir} cannot be locked ({error.strerror}); start no second run there",
                file=sys.stderr,
            )
        with as_disk_error(workdir):
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {os.uname().nodename}\n")
            lock.flush()
        try:
            yield
        finally:
            if made and [path.name for path in folder.iterdir()] == ["lock"]:
                (folder / "lock").unlink()
                folder.rmdir()


def compare_config(config, workdir: str) -> None:
    """Shows in which fields the run in `workdir` differs from this configuration.

    Raises:
      ValueError: fields that change results differ and ``allow_changes`` is off, or config.json is damaged.
    """
    path = pathlib.Path(workdir, "config.json")
    if not path.exists():
        return
    old, new = _flat(_read_object(path)), _flat(_as_json(config))
    changed = [
        k
        for k in sorted(old.keys() | new.keys())
        if old.get(k) != new.get(k) and not k.startswith(_MAY_CHANGE)
    ]
    if not changed:
        return
    print_main(f"--- {path}\n+++ this command", file=sys.stderr)
    for name in changed:
        for sign, values in (("-", old), ("+", new)):
            held = (
                f"{_shown(name)} = {values[name]!r:.200}"
                if name in values
                else f"({_shown(name)} is absent)"
            )
            print_main(sign + held, file=sys.stderr)
    if not config.allow_changes:
        found = ", ".join(
            f"{_shown(k)} was {old.get(k)!r:.60} and is {new.get(k)!r:.60}" for k in changed[:4]
        )
        found += f" and {len(changed) - 4} fields more" * (len(changed) > 4)
        raise ValueError(
            f"config: {workdir} holds another run: {found}; use another --workdir, or type "
            "--config.allow_changes=True to go on from its last checkpoint with the new values"
        )


def save_config(config, workdir: str, step: int) -> None:
    """Writes config.json; one that held other values is kept as config-until-step-<step>.json."""
    if not is_main_process():
        return
    path = pathlib.Path(workdir, "config.json")
    new = _as_json(config)
    if path.exists() and (old := _read_object(path)) != new:
        if any(
            _flat(old).get(k) != v and not k.startswith(_MAY_CHANGE) for k, v in _flat(new).items()
        ):
            write_atomically(
                path.with_name(f"config-until-step-{step}.json"), json.dumps(old, indent=1)
            )
    write_atomically(path, json.dumps(new, indent=1))


def load_config(config, workdir: str, typed: Mapping):
    """The configuration that the run in `workdir` was started with, changed by what was typed.

    Raises:
      InputError: no run there, a damaged config.json, or a typed field that its parameters or its held-out problems
        depend on.
    """
    path = pathlib.Path(workdir, "config.json")
    with as_input_error():
        if not path.is_file():
            raise ValueError(
                f"workdir: there is no run in {workdir}; type the --workdir of a training run"
            )
        saved = _flat(_read_object(path))
        for name in _FIXED:
            if name in typed and typed[name] != saved.get(name):
                raise ValueError(
                    f"{name}: the run in {workdir} was trained with {saved.get(name)!r}; leave out --config.{name}"
                )
        known = dict(_kinds(config))
        recalled = {
            k: tuple(v) if isinstance(v, list) else v for k, v in saved.items() if k in known
        }
        for name, value in recalled.items():
            if not _fits(value, *known[name]):
                raise ValueError(
                    f"config: {path} holds {name}={value!r:.60}, which cannot be; restore it"
                )
        config = config.copy_and_resolve_references()
        config.update_from_flattened_dict(recalled)
        config.update_from_flattened_dict(dict(typed))
    return config


def _kinds(config, prefix: str = "") -> Iterator[tuple[str, tuple[type, bool]]]:
    """Every field's dotted name with the type of its value and whether it may be None."""
    for name, value in config.iteritems(preserve_field_references=True):
        if hasattr(value, "iteritems"):
            yield from _kinds(value, f"{prefix}{name}.")
        else:
            may_be_none = hasattr(value, "get_type")  # a placeholder
            yield prefix + name, (value.get_type() if may_be_none else type(value), may_be_none)


def _fits(value: Any, kind: type, may_be_none: bool) -> bool:
    """Whether a field can hold a value; what floats hold may be written as a whole number."""
    whole = kind is float and type(value) is int and abs(value) < 2**53
    return whole or type(value) is kind or value is None and may_be_none


def _shown(name: str) -> str:
    """A name from a file that may be damaged, as part of a line."""
    return repr(name)[1:-1][:80]


def _as_json(config) -> dict[str, Any]:
    return json.loads(config.to_json_best_effort())


def _read_object(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file, or one line about what is there instead."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"workdir: cannot read {path} ({error.strerror}); type another --workdir"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"config: {path} is damaged ({type(error).__name__}); restore it"
        ) from error
    if not isinstance(held, dict):
        raise ValueError(
            f"config: {path} is damaged (a {type(held).__name__}, no object); restore it"
        )
    return held


def _flat(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for name, value in tree.items():
        flat |= (
            _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return flat
