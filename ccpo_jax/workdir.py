"""A run's folder: which configuration it belongs to, its checkpoints, and complaints as one line."""

import contextlib
import datetime
import json
import pathlib
from collections.abc import Mapping

from ccpo_jax.checkpoint import Checkpoints

# What a run was trained on and with: another value would meet parameters or problems that are not its own.
_FIXED = (
    "topology", "num_agents", "graph", "decision", "model", "revision", "shared_policy", "seed",
    "data.train", "data.heldout", "data.size", "data.similarity", "data.overlong", "prompt_length",
)  # fmt: skip
_MAY_CHANGE = ("steps", "eval_every", "checkpoint_every", "keep_last", "log.", "verifier.workers", "mesh.")


class InputError(ValueError):
    """A mistake in what the user typed or gave, told in one line."""


@contextlib.contextmanager
def input_errors():
    """Marks complaints of the checks at the border as the user's to mend; errors elsewhere keep their traceback."""
    try:
        yield
    except ValueError as error:
        raise InputError(" ".join(str(error).split())) from error


def default_workdir(config_file: str) -> str:
    """``configs/voting.py:tiny`` -> ``runs/voting-tiny-<time>``: a new run never meets an old one by accident."""
    path, _, preset = config_file.partition(":")
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return str(pathlib.Path("runs") / "-".join(filter(None, (pathlib.Path(path).stem, preset, stamp))))


def remember_config(config, workdir: str) -> None:
    """Writes config.json; refuses a workdir whose run had other values in fields that change results."""
    folder = pathlib.Path(workdir)
    new = json.loads(config.to_json_best_effort())
    path = folder / "config.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            old, fresh = (_flat(tree) for tree in (json.loads(path.read_text()), new))
            changed = [k for k in sorted(old.keys() | fresh.keys()) if old.get(k) != fresh.get(k)]
            changed = [k for k in changed if not k.startswith(_MAY_CHANGE)]
            if changed:
                found = ", ".join(f"{k} was {old.get(k)!r} and is {fresh.get(k)!r}" for k in changed)
                raise ValueError(f"config: {workdir} holds another run: {found}; use another --workdir")
        path.write_text(json.dumps(new, indent=1))
    except OSError as error:
        raise ValueError(f"workdir: cannot write {workdir} ({error.strerror}); type --workdir=FOLDER") from error


def recall_config(config, workdir: str, typed: Mapping):
    """The configuration that the run in `workdir` was started with, changed by what was typed.

    Raises:
      InputError: no run there, or a typed field that its parameters or its held-out problems depend on.
    """
    path = pathlib.Path(workdir, "config.json")
    with input_errors():
        if not path.is_file():
            raise ValueError(f"workdir: there is no run in {workdir}; type the --workdir of a training run")
        saved = _flat(json.loads(path.read_text()))
        for name in _FIXED:
            if name in typed and typed[name] != saved.get(name):
                raise ValueError(
                    f"{name}: the run in {workdir} was trained with {saved.get(name)!r}; leave out --config.{name}"
                )
        known = _flat(config.to_dict())
        recalled = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items() if k in known}
        config = config.copy_and_resolve_references()
        with config.ignore_type():
            config.update_from_flattened_dict(recalled | dict(typed))
    return config


def open_checkpoints(config, workdir: str) -> Checkpoints:
    """The run's checkpoints; the held-out team accuracy selects the best."""
    return Checkpoints(
        pathlib.Path(workdir, "checkpoints"), keep_last=config.keep_last, best_metric="eval/team_accuracy"
    )


def _flat(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
