"""Where the networks of a run come from: models, and the workdirs of earlier runs.

`model=runs/a` starts from the parameters of the best checkpoint in that workdir; `model=runs/a:1`
from those of its parameter set 1, for every agent; `model=runs/a:0*5,runs/a:1*4` from its sets 0
and 1, for five agents and for four. Configuration and tokenizer of a network are
those of the model that the earlier run itself started from.
"""

import contextlib
import json
import os
import pathlib
import re
import sys
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ccpo_jax.config import is_object
from ccpo_jax.counts import has_counts, read_counts, without_counts
from ccpo_jax.devices.distributed import print_main
from ccpo_jax.errors import InputError
from ccpo_jax.workdir import Checkpoints, open_checkpoints, saved_config

# The embedded model.
TINY = pathlib.Path(__file__).parents[1] / "assets" / "tiny"

# WORKDIR:NUMBER, a parameter set of a run.
_CHOSEN_SET = re.compile(r"(.+):(\d{1,4})")

# Runs that start from runs; more are a circle.
_LONGEST_CHAIN = 100

# Entries of a list that an error shows.
_LONGEST_EXAMPLE = 8

# No step has been chosen.
_NO_STEPS: Mapping[str, int] = types.MappingProxyType({})


class Source(NamedTuple):
    """Where the parameters of one set come from. Equal sources have equal parameters.

    Attributes:
      name: as typed, for messages.
      model: folder or Hub name of the network's configuration and tokenizer.
      revision: of a Hub name.
      workdir: of the run whose checkpoint holds the parameters; "" = the model's own.
      parameter_set: of that run.
      step: of its checkpoint; None = the best one, or the newest where none has an accuracy.
    """

    name: str
    model: str
    revision: str | None = None
    workdir: str = ""
    parameter_set: int = 0
    step: int | None = None


def find_sources(
    names: Sequence[str],
    num_sets: int,
    *,
    revision: str | None = None,
    objects: Collection[str] = (),
    field: str = "model",
    steps: Mapping[str, int] = _NO_STEPS,
) -> tuple[Source, ...]:
    """The source of every parameter set.

    Args:
      names: as in the field `model`, without counts: one, or one per set.
      num_sets: P, parameter sets of the team.
      revision: of Hub names.
      objects: names of models that a program gives.
      field: for errors.
      steps: workdir -> step of the checkpoint to start from, from `choose_steps`.

    Raises:
      InputError: another number of names than of sets, or a workdir without checkpoints, with
        another number of parameter sets, or of a network that no file holds.
    """
    if len(names) not in (1, num_sets):
        raise InputError(
            field,
            f"{len(names)} models for {num_sets} parameter sets; give one name, or one per agent "
            "with shared_policy=False",
        )
    sources = []
    for index in range(num_sets):
        name = names[index % len(names)]
        workdir, chosen = ("", None) if name in objects else _split(name)
        if not workdir:
            sources.append(Source(name, _folder(name), revision))
            continue
        _check_whole(workdir, field)
        number = _parameter_set(workdir, chosen, index, num_sets, field)
        model, own_revision = _model_of(workdir, number, field)
        step = steps.get(workdir)
        sources.append(Source(name, model, own_revision, workdir, number, step))
    return tuple(sources)


def choose_steps(
    names: Sequence[str], recorded: Mapping[str, int] = _NO_STEPS, *, field: str = "model"
) -> dict[str, int]:
    """Which checkpoint of each run among models is started from.

    A run may train on, and have another best checkpoint then. Where a run started from is recorded
    by then, and stays.

    Args:
      names: as in the field `model`.
      recorded: workdir -> step, of a run that resumes.
      field: for errors.

    Returns:
      Workdir -> step: the recorded one where it is still there, else the best one, or the newest
      where none has an accuracy. A recorded one that is gone is noted.

    Raises:
      InputError: a run that is recorded is not there, or has no checkpoints.
    """
    chosen: dict[str, int] = {}
    for name in without_counts(names, field):
        workdir, _ = _split(name)
        if not workdir:
            _check_not_moved(name, recorded, field)
            continue
        if workdir in chosen:
            continue
        _check_has_checkpoints(workdir, field)
        with _open(workdir, field) as checkpoints:
            known = checkpoints.steps()
            best = checkpoints.best_step()
        if not known:
            raise InputError(
                field, f"no checkpoints in {workdir}; train first, or type the folder of a model"
            )
        step = recorded.get(workdir)
        if step in known:
            chosen[workdir] = step
            continue
        chosen[workdir] = max(known) if best is None else best
        if step is not None:
            print_main(
                f"note: this run started from step {step} of {workdir}, whose checkpoint is gone; "
                f"step {chosen[workdir]} is in its place",
                file=sys.stderr,
            )
    return chosen


def _check_not_moved(name: str, recorded: Mapping[str, int], field: str) -> None:
    """Raises InputError where a name is that of a run by the record, and there is none."""
    path = "" if is_object(name) else os.path.expanduser(name)
    chosen = _CHOSEN_SET.fullmatch(path)
    for workdir in (path, chosen[1] if chosen else path):
        if workdir in recorded:
            raise InputError(
                field,
                f"this run started from the run {workdir}, which is not there; put it back: its "
                "config.json says what network this is",
            )


def read_trained(source: Source, like: Any, *, field: str = "model") -> Any:
    """Reads the parameters of a source that is a run, and prints which checkpoint they are from.

    Args:
      source: with a workdir.
      like: the parameters' structure, shapes, dtypes and shardings.
      field: for errors.

    Raises:
      InputError: no checkpoint, no intact one, or one of another network.
    """
    with _open(source.workdir, field) as checkpoints:
        best = checkpoints.best_step()
        wanted = best if source.step is None else source.step
        step, params = checkpoints.restore_params(like, source.parameter_set, step=wanted)
        if step == best:
            which = "best"
        else:
            which = "newest" if step == checkpoints.latest_step() else "recorded"
    print_main(
        f"model {source.workdir}: parameter set {source.parameter_set} of its {which} checkpoint, "
        f"step {step}",
        file=sys.stderr,
    )
    return params


def is_workdir(folder: str) -> bool:
    """Whether a folder is that of a run, and not a model in Hugging Face format."""
    try:
        text = pathlib.Path(os.path.expanduser(folder), "config.json").read_text(encoding="utf-8")
        entries = json.loads(text)
    except (OSError, ValueError, RecursionError):
        # A run that a program made of parts of its own has no configuration.
        return pathlib.Path(os.path.expanduser(folder), "checkpoints").is_dir()
    return isinstance(entries, dict) and "model" in entries and "model_type" not in entries


def base_models(names: Sequence[str]) -> tuple[str, ...]:
    """The models in a field `model`, of a run those that it started from; `tiny` stays `tiny`.

    Raises:
      InputError: the configuration of a run is missing or damaged.
    """
    models = []
    for name in without_counts(names):
        workdir, _ = _split(name)
        if workdir:
            models += base_models(_own_config(workdir, "model").model)
        else:
            models.append(name)
    return tuple(models)


def _split(name: str) -> tuple[str, int | None]:
    """(workdir, chosen parameter set) of a run's name; ("", None) of a model's."""
    if is_object(name):
        return "", None
    chosen = _CHOSEN_SET.fullmatch(name)
    if chosen and not os.path.isdir(os.path.expanduser(name)) and is_workdir(chosen[1]):
        return os.path.expanduser(chosen[1]), int(chosen[2])
    return (os.path.expanduser(name), None) if is_workdir(name) else ("", None)


def _folder(name: str) -> str:
    return str(TINY) if name == "tiny" else name


def _check_has_checkpoints(workdir: str, field: str) -> None:
    if not pathlib.Path(workdir, "checkpoints").is_dir():
        raise InputError(
            field, f"no checkpoints in {workdir}; train first, or type the folder of a model"
        )


def _check_whole(workdir: str, field: str) -> None:
    """Raises InputError where the checkpoints of a run hold adapters alone."""
    config = saved_config(workdir)
    if config is not None and config.lora.rank:
        raise InputError(
            field,
            f"{workdir} trained adapters (lora.rank={config.lora.rank}), which are no model; type "
            f"--mode=export --workdir={workdir}, and then the folder that it writes",
        )


def _parameter_set(workdir: str, chosen: int | None, index: int, num_sets: int, field: str) -> int:
    """Which set of a run becomes set `index` of a team that has `num_sets`."""
    _check_has_checkpoints(workdir, field)
    with _open(workdir, field) as checkpoints:
        available = checkpoints.num_parameter_sets()
    if chosen is not None:
        if chosen >= available:
            raise InputError(
                field,
                f"{workdir} has {available} parameter sets, received number {chosen}; use one from "
                f"0 to {available - 1}",
            )
        return chosen
    if available not in (1, num_sets):
        example = _example_of_sets(workdir, available, num_sets)
        raise InputError(
            field,
            f"{workdir} has {available} parameter sets, this team {num_sets}; choose one for each, "
            f"such as --config.{field}={example}",
        )
    return index if available > 1 else 0


def _example_of_sets(workdir: str, available: int, num_sets: int) -> str:
    """What to type to choose among the sets of a run: in a team as large as the run's, who shared
    there shares again.
    """
    config = saved_config(workdir)
    if config is not None and has_counts(config.model):
        counts = [entry.count or 1 for entry in read_counts(config.model)]
        if sum(counts) == num_sets and len(counts) == available:
            return ",".join(f"{workdir}:{i}*{count}" for i, count in enumerate(counts))
    chosen = [f"{workdir}:{min(i, available - 1)}" for i in range(num_sets)]
    if num_sets <= _LONGEST_EXAMPLE:
        return ",".join(chosen)
    rest = f"{workdir}:{available - 1}*{num_sets - available + 1}"
    return ",".join([*chosen[: available - 1], rest])


def _model_of(workdir: str, parameter_set: int, field: str) -> tuple[str, str | None]:
    """(model, revision) that a set of a run started from, through runs that started from runs."""
    for _ in range(_LONGEST_CHAIN):
        config = _own_config(workdir, field)
        models = without_counts(config.model, field)
        name = models[parameter_set if len(models) > 1 else 0]
        if is_object(name):
            raise InputError(
                field,
                f"{workdir} trained a network of a Python program ({name:.80}), which no file "
                "holds; give Trainer(model=Model(policy, params, tokenizer))",
            )
        earlier, chosen = _split(name)
        if not earlier:
            return _folder(name), config.revision
        workdir = earlier
        parameter_set = parameter_set if chosen is None else chosen
    raise InputError(field, f"{workdir} started from itself; type the folder of a model")


@contextlib.contextmanager
def _open(workdir: str, field: str) -> Iterator[Checkpoints]:
    """The checkpoints of a run that is a model: what is wrong with them is wrong with the model."""
    try:
        with open_checkpoints(workdir, read_only=True) as checkpoints:
            yield checkpoints
    except InputError as error:
        reason = str(error).removeprefix(f"{error.field}: ").partition("; ")[0]
        raise InputError(field, f"{reason}; restore it, or type the folder of a model") from error


def _own_config(workdir: str, field: str) -> Any:
    config = saved_config(workdir)
    if config is None:
        raise InputError(
            field,
            f"{workdir} has checkpoints but no config.json, which says what network they are of; "
            "restore it, or type the folder of a model",
        )
    return config
