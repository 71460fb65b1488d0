"""A run's config.json: writes it, compares it with a resuming command, reads it for other modes."""

import json
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ccpo_jax.config import (
    FIELDS,
    FORMER_DEFAULTS,
    Config,
    changes,
    combine,
    flatten,
    from_flat,
    get,
    has_effect,
    objects_in,
    parse,
    reset_unused,
    shown,
    to_json,
    upgrade,
)
from ccpo_jax.devices.distributed import (
    all_gather_objects,
    is_main_process,
    print_main,
    sync_errors,
)
from ccpo_jax.errors import InputError
from ccpo_jax.workdir.atomic_write import write_atomically


def check_same_config(config: Config, workdir: str) -> None:
    """Checks that all processes of a run were started alike.

    Raises:
      InputError: another workdir or another configuration here than in the first process.
    """
    # As it arrives from another process: tuples travel as lists.
    here = json.loads(json.dumps(flatten(config) | {"workdir": workdir}))
    first = all_gather_objects(here)[0]
    with sync_errors():
        for name in here:
            if here[name] != first[name]:
                raise InputError(
                    name,
                    f"{here[name]!r:.80} here, {first[name]!r:.80} in the first process; start all "
                    "processes with the same command",
                )


def compare_config(config: Config, workdir: str) -> None:
    """Prints the fields in which the run in `workdir` differs from this configuration.

    Raises:
      InputError: fields that change results differ and ``allow_changes`` is off, or config.json is
        damaged.
    """
    path = _config_path(workdir)
    if not path.exists():
        return
    saved = _read_config(path)
    if saved.mode != config.mode:
        raise InputError(
            "mode",
            f"{workdir} contains a run of --mode={saved.mode}, and this is one of "
            f"--mode={config.mode}; type --config.model={workdir} with another --workdir to start "
            f"from its parameters, or --mode={saved.mode} to resume it",
        )
    changed = changes(saved, config)
    if not changed:
        return

    print_main(f"--- {path}\n+++ this command", file=sys.stderr)
    for name in changed:
        print_main(f"-{name} = {get(saved, name)!r:.200}", file=sys.stderr)
        print_main(f"+{name} = {get(config, name)!r:.200}", file=sys.stderr)
    if config.allow_changes:
        return

    differences = [_difference(name, saved, config) for name in changed[:4]]
    if len(changed) > 4:
        differences.append(f"and {len(changed) - 4} more fields")
    raise InputError(
        "config",
        f"{workdir} contains a run with a different configuration: {', '.join(differences)}; "
        "use another --workdir, or type --config.allow_changes=True to resume it with the new "
        "values",
    )


def _difference(name: str, saved: Config, config: Config) -> str:
    """A field's two values; where it may change in other runs, why not in this one."""
    difference = f"{name} was {shown(get(saved, name))} and is {shown(get(config, name))}"
    reason = FIELDS[name].asks_where
    return difference if reason is None else f"{difference} ({reason.words})"


def check_drawing(config: Config, workdir: str) -> None:
    """Checks that a run with checkpoints goes on with dynamic sampling if it began with it, and
    only then: they hold where it stands in the stream of prompts, or follow from the step.

    Raises:
      InputError: ``sample.max_draws`` switches it on or off.
    """
    saved = saved_config(workdir)
    if saved is None:
        return
    before, now = saved.sample.max_draws, config.sample.max_draws
    if (before > 1) != (now > 1):
        raise InputError(
            "sample.max_draws",
            f"cannot switch dynamic sampling {'on' if now > 1 else 'off'} in a run that has begun: "
            f"received {now}, the run in {workdir} has {before}; type "
            f"--config.sample.max_draws={before}, or another --workdir",
        )


def check_carried(config: Config, workdir: str) -> None:
    """Checks that a run with checkpoints goes on with a carried baseline if it began with one, and
    only then: they hold its statistics, or have none.

    Raises:
      InputError: ``advantage.carried`` switches it on or off.
    """
    saved = saved_config(workdir)
    if saved is None or saved.advantage.carried == config.advantage.carried:
        return
    before, now = saved.advantage.carried, config.advantage.carried
    raise InputError(
        "advantage.carried",
        f"cannot be switched {'on' if now else 'off'} in a run that has begun, whose checkpoints "
        f"{'hold' if before else 'lack'} its statistics: received {now}; type "
        f"--config.advantage.carried={before}, or another --workdir",
    )


def check_rate(config: Config, workdir: str) -> None:
    """Checks that the learning rate of a run with checkpoints varies if it did when it began, and
    only then: the optimizer of a rate that stays keeps no count of its steps.

    Raises:
      InputError: ``optimizer.schedule`` or ``optimizer.warmup_steps`` changes that.
    """
    saved = saved_config(workdir)
    if saved is None or _varies_rate(saved) == _varies_rate(config):
        return
    is_schedule = saved.optimizer.schedule != config.optimizer.schedule
    name = "optimizer.schedule" if is_schedule else "optimizer.warmup_steps"
    before, now = get(saved, name), get(config, name)
    raise InputError(
        name,
        f"cannot make the learning rate {'vary' if _varies_rate(config) else 'constant'} in a run "
        "that has begun, since the optimizer of a constant rate keeps no count of its steps: "
        f"received {now}, the run in {workdir} has {before}; type --config.{name}={before}, or "
        "another --workdir",
    )


def _varies_rate(config: Config) -> bool:
    return config.optimizer.schedule != "constant" or config.optimizer.warmup_steps > 0


def keep_former_defaults(config: Config, workdir: str) -> Config:
    """The configuration with which the run in `workdir` goes on where a default has changed.

    A run that recorded the default of an earlier version keeps it, unless the command chooses
    another value than today's default.
    """
    saved = saved_config(workdir)
    if saved is None:
        return config
    kept = {}
    for name, former in FORMER_DEFAULTS.items():
        says_nothing = get(config, name) == FIELDS[name].default
        if says_nothing and get(saved, name) == former and has_effect(config, name):
            kept[name] = former
    if not kept:
        return config
    listed = ", ".join(f"{name}={value!r}" for name, value in kept.items())
    print_main(f"note: {workdir} was started with {listed}, which it keeps", file=sys.stderr)
    return from_flat(flatten(config) | kept)


def recorded_fields(config: Config | Mapping[str, Any], workdir: str) -> frozenset[str]:
    """The fields in which a configuration has the values that the run in `workdir` recorded."""
    saved = saved_config(workdir)
    if saved is None:
        return frozenset()
    values = flatten(config)
    return frozenset(name for name in FIELDS if values.get(name) == get(saved, name))


def save_config(config: Config, workdir: str, step: int) -> None:
    """Writes config.json; one with other values is kept as config-until-step-<step>.json."""
    if not is_main_process():
        return
    path = _config_path(workdir)
    if path.exists() and changes(_read_config(path), config):
        kept = path.with_name(f"config-until-step-{step}.json")
        write_atomically(kept, path.read_text(encoding="utf-8"))
    write_atomically(path, json.dumps(to_json(config), indent=1))


def saved_config(workdir: str) -> Config | None:
    """The configuration of the run in `workdir`; None = there is no run."""
    path = _config_path(workdir)
    return _read_config(path) if path.exists() else None


def load_config(
    workdir: str, typed: Mapping[str, Any], *, combine: Callable[..., Config] = combine
) -> Config:
    """The configuration of the run in `workdir`, changed by the fields typed on the command line.

    Args:
      workdir: of a run.
      typed: dotted name -> value.
      combine: makes the configuration, as `config.combine` does; that of `train.plugins` loads its
        plugins.

    Raises:
      InputError: no run there, a damaged config.json, or a typed field on which the run's
        parameters or its held-out problems depend.
    """
    path = _config_path(workdir)
    if not path.is_file():
        raise InputError(
            "workdir", f"there is no run in {workdir}; type the --workdir of a training run"
        )
    saved = _read_config(path)
    _refuse_objects(saved, workdir)
    for name, value in typed.items():
        if FIELDS[name].on_resume in ("fixed", "never") and value != get(saved, name):
            raise InputError(
                name,
                f"the run in {workdir} was trained with {get(saved, name)!r:.80}; leave out "
                f"--config.{name}",
            )
    # What the run set for its training is not this command's mistake where it has no effect here.
    return parse(combine(saved, typed, inherited=flatten(saved)), typed)


def _refuse_objects(saved: Config, workdir: str) -> None:
    """A command has no objects of a Python program."""
    named = objects_in(saved)
    if named:
        listed = ", ".join(f"{field}={names[0]:.60}" for field, names in named.items())
        raise InputError(
            next(iter(named)),
            f"the run in {workdir} got objects of a Python program, which a command does not have: "
            f"{listed}; use that program: Trainer(workdir=...) evaluates, samples and exports too",
        )


def _config_path(workdir: str) -> pathlib.Path:
    return pathlib.Path(workdir, "config.json")


def _read_config(path: pathlib.Path) -> Config:
    """The configuration in a config.json, also of an earlier version.

    What is absent has its default: the field did not exist yet, or had no effect.

    Raises:
      InputError: it is damaged, or has a field that this version does not read.
    """
    saved = upgrade(flatten(_read_object(path)))
    _refuse_unknown(saved, path)
    for name in saved:
        if saved[name] is None and not FIELDS[name].optional:
            raise InputError("config", f"{path} has {name}=null, which is invalid; restore it")
    try:
        return reset_unused(from_flat(saved))
    except InputError as error:
        raise InputError(
            "config", f"{path} has an invalid {error.field}={saved[error.field]!r:.60}; restore it"
        ) from error


def _refuse_unknown(saved: Mapping[str, Any], path: pathlib.Path) -> None:
    """Raises InputError where a config.json has fields that no version up to this one had."""
    unknown = [name for name in saved if name not in FIELDS]
    if unknown:
        shown = ", ".join(f"{name!r:.80}" for name in unknown[:4])
        more = f" and {len(unknown) - 4} more" if len(unknown) > 4 else ""
        raise InputError(
            "config",
            f"{path} has fields that this version does not know: {shown}{more}; use the version "
            "that wrote it, or remove them there",
        )


def _read_object(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            "workdir", f"cannot read {path} ({error.strerror}); type another --workdir"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            "config", f"{path} is damaged ({type(error).__name__}); restore it"
        ) from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise InputError("config", f"{path} is damaged ({kind} instead of an object); restore it")
    return content
