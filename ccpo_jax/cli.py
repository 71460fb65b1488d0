"""The command line: `python run.py`, `python -m ccpo_jax` and `ccpo-jax` are this program."""

import dataclasses
import difflib
import functools
import gc
import importlib.metadata
import io
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from ccpo_jax import modes, report
from ccpo_jax.arguments import program_name
from ccpo_jax.config import (
    FIELDS,
    Config,
    check_mode,
    combine,
    get,
    help_text,
    lookup,
    parse,
    parse_field,
    shown,
)
from ccpo_jax.devices import distributed
from ccpo_jax.devices.distributed import print_main
from ccpo_jax.errors import InputError, RewardError, escape_control
from ccpo_jax.extras import MissingExtraError, train_extra
from ccpo_jax.fields import expand_home
from ccpo_jax.modes import replay
from ccpo_jax.presets import PRESETS, load_preset
from ccpo_jax.train import plugins
from ccpo_jax.train.build import settle_words
from ccpo_jax.train.closed_pipe import stop_at_closed_pipe
from ccpo_jax.train.export import DTYPES
from ccpo_jax.train.guards import NonFiniteUpdateError
from ccpo_jax.train.loop import train
from ccpo_jax.train.signals import watch_signals
from ccpo_jax.workdir import (
    expand_workdir,
    kept_inputs,
    load_config,
    new_workdir,
    saved_config,
    typed_inputs,
)

with train_extra():
    from absl import logging

_USAGE = """\
usage: {program} --config=NAME[:preset] [--workdir=DIR] [--mode=MODE] [--config.FIELD=VALUE ...]
       {program} {commands} ...   (each has a --help of its own)

  --config       {presets}, or the path of a file;
                 that of the run in --workdir when left out
  --workdir      folder of the run; a new one under runs/ when left out
  --mode         {modes}; train when left out.
                 sft = a supervised warm start; a later run starts from it with
                 --config.model=WORKDIR
  --dtype        with --mode=export: type of the weights, {dtypes}; source, that
                 of the model before training, when left out
  --merged       with --mode=export: adapters are added to the model, which is
                 written whole; else a run with lora.rank exports the adapters
  --coordinator  one of several processes: HOST:PORT of process 0, or auto
  --processes    how many processes
  --process      which one this is, from 0
  --version      prints the program's version

Examples:
  {program} --config=voting:tiny
  {program} --config=voting:tiny --workdir=runs/a --config.credit.name=cross_play --config.seed=1
  {program} --config=voting:tiny --workdir=runs/a --mode=sample

Fields, with the values of {config}. A list is separated by commas, and empty where nothing follows
the equals sign. None gives back a field's default. A field without effect in the run is refused.

{fields}"""

_OPTIONS = ("config", "workdir", "mode", "dtype", "merged", "coordinator", "processes", "process")
# Options that need no value.
_SWITCHES = ("merged",)


class Mode(NamedTuple):
    """What `--mode` names.

    Attributes:
      run: called with the configuration and the workdir.
      starts_run: True: it gets a new workdir where none was typed. False: it gets the
        configuration that the run in its workdir was started with, changed by typed fields.
      options: of the command line, that it alone takes; `run` gets those that were typed.
      group_size: of this mode, where none was typed; None = that of training.
    """

    run: Callable[..., Any]
    starts_run: bool
    options: tuple[str, ...] = ()
    group_size: int | None = None


class Command(NamedTuple):
    """A command line.

    Attributes:
      config: the values of the configuration file and of typed fields, not yet checked.
      config_name: what was typed as `--config`.
      workdir: the run's folder, or None.
      mode: a key of MODES.
      typed: typed fields by their dotted name; None = the default was asked for.
      preset: what `config_name` names, without typed fields.
      coordinator, processes, process: for one of several processes.
      options: of the mode alone, by name.
    """

    config: Config
    config_name: str
    workdir: str | None
    mode: str
    typed: dict[str, Any]
    preset: Any
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    options: Mapping[str, str] = {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status.

    Args:
      arguments: without the program's name; None = those of this process.
    """
    with stop_at_closed_pipe(), watch_signals():
        return _dispatch(list(sys.argv[1:] if arguments is None else arguments))


def _dispatch(arguments: list[str]) -> int:
    if arguments and arguments[0] in SUBCOMMANDS:
        return SUBCOMMANDS[arguments[0]](arguments[1:])
    if {"-h", "--help"} & set(arguments):
        print(usage(arguments))
        return 0
    if "--version" in arguments:
        print(f"ccpo_jax {_version()}")
        return 0
    _prepare_process()
    return exit_status(lambda: _run_command(parse_command(arguments)))


def _version() -> str:
    try:
        return importlib.metadata.version("ccpo_jax")
    except importlib.metadata.PackageNotFoundError:
        return "of a checkout that is not installed"


def _run_command(command: Command) -> None:
    # A plugin may ask for devices while it is imported, so none is before this.
    distributed.initialize(command.coordinator, command.processes, command.process)
    _run(
        command.preset,
        command.config_name,
        command.workdir,
        command.mode,
        command.typed,
        command.options,
    )


def exit_status(action: Callable[[], Any]) -> int:
    """Calls `action`; the one place that turns exceptions into a line and an exit status.

    Returns:
      0; 2 after a mistake in the input or where a package is missing, 1 after an update that was
      not finite or a reward function that failed, each with one line on stderr; 130 after Ctrl-C.
      Other errors are bugs and keep their traceback.
    """
    try:
        action()
    except (InputError, MissingExtraError) as error:
        _print_error(error)
        return 2
    except (NonFiniteUpdateError, RewardError) as error:
        _print_error(error)
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if jax.process_count() == 1:
            raise
        # The other processes wait in a collective: an orderly exit would wait for them.
        distributed.abort(error)
    return 0


def _print_error(error: Exception) -> None:
    print(f"error: {escape_control(str(error))}", file=sys.stderr)


def run_mode(
    config: Config | Mapping[str, Any],
    config_name: str,
    workdir: str | None,
    mode: str,
    typed: Mapping[str, Any] | None = None,
    options: Mapping[str, str] | None = None,
) -> int:
    """Runs one mode and returns the exit status, see `exit_status`.

    Args:
      config: a `Config`, or nested mappings of its fields such as a ConfigDict, with typed fields
        put in.
      config_name: preset or file, which names a new run's folder.
      workdir: the run's folder; None = a new one (train) or the untrained models (eval, sample).
      mode: a key of MODES.
      typed: the fields typed on the command line by their dotted name: all that eval, sample and
        export change in a run's own configuration.
      options: of the mode alone, by name.
    """
    return exit_status(lambda: _run(config, config_name, workdir, mode, typed or {}, options or {}))


def _run(
    config: Config | Mapping[str, Any],
    config_name: str,
    workdir: str | None,
    mode: str,
    typed: Mapping[str, Any],
    options: Mapping[str, str],
) -> None:
    _use_compilation_cache()
    if workdir is not None:
        workdir = expand_workdir(workdir)
    if mode == "sft":
        typed = {**typed, "mode": mode}
    chosen = MODES[mode]
    chosen = chosen._replace(run=functools.partial(chosen.run, **options))
    check_mode(mode, typed)
    with kept_inputs(workdir, prefer_copies=not chosen.starts_run, typed=typed_inputs(typed)):
        _run_in(workdir, chosen, config, config_name, typed)


def _run_in(
    workdir: str | None,
    mode: Mode,
    config: Config | Mapping[str, Any],
    config_name: str,
    typed: Mapping[str, Any],
) -> None:
    if mode.starts_run or workdir is None:
        with distributed.sync_errors():
            config = settle_words(parse(plugins.combine(config, typed), typed), typed)
    else:
        named = config if isinstance(config, Config) else combine(config, typed)
        with distributed.sync_errors():
            config = load_config(workdir, typed, combine=plugins.combine)
        _compare_named(named, config, config_name, workdir)
    if mode.group_size and "group_size" not in typed and config.group_size > mode.group_size:
        note = (
            f"note: {mode.group_size} samples per problem; type "
            f"--config.group_size={config.group_size} for groups as in training"
        )
        print_main(note, file=sys.stderr)
        config = dataclasses.replace(config, group_size=mode.group_size)
    if mode.starts_run and workdir is None:
        with new_workdir(config_name) as folder:
            mode.run(config, folder)
    else:
        mode.run(config, workdir)


def _compare_named(named: Config, own: Config, config_name: str, workdir: str) -> None:
    """Says which values hold where `--config` names another run than the one in the workdir.

    Raises:
      InputError: it names another kind of team.
    """
    if named.topology != own.topology:
        raise InputError(
            "config",
            f"{config_name:.200} is a run with topology={named.topology}, {workdir} contains one "
            f"with topology={own.topology}; type the --config that it was started with, or "
            f"--config.topology={own.topology}",
        )
    differ = [
        f"{name}={shown(get(own, name))}"
        for name, field in FIELDS.items()
        if field.on_resume == "fixed" and get(own, name) != get(named, name)
    ]
    if differ:
        more = f", and {len(differ) - 4} more" if len(differ) > 4 else ""
        note = f"note: the run's own values hold: {', '.join(differ[:4])}{more}"
        print_main(escape_control(note), file=sys.stderr)


# --- arguments ------------------------------------------------------------------------------------


def parse_command(arguments: Sequence[str]) -> Command:
    """Reads a command line.

    Raises:
      InputError: an unknown option or field, or a value of another type.
    """
    options = _read_options(arguments)
    typed = {}
    for option, text in options.items():
        if option.startswith("config."):
            field = option.removeprefix("config.")
            value = parse_field(field, text)
            typed[field] = None if text == "None" else value
    mode = options.get("mode", "train")
    if mode not in MODES:
        raise InputError("mode", f"{mode!r:.80} is unknown; use one of {', '.join(MODES)}")
    if "mode" in options and typed.get("mode", mode) != mode:
        raise InputError("mode", f"--mode={mode} and --config.mode={typed['mode']}; leave one out")
    if mode == "sft":
        typed["mode"] = mode
    workdir = options.get("workdir")
    for option in ("workdir", "coordinator"):
        if not options.get(option, "something").strip():
            raise InputError(option, f"is empty; type --{option}=VALUE, or leave it out")
    if workdir is not None:
        workdir = expand_home(workdir)
    name = options.get("config")
    preset = _own_config(workdir) if name is None else load_preset(name)
    return Command(
        combine(preset, typed),
        name or "the run's own",
        workdir,
        mode,
        typed,
        preset,
        options.get("coordinator"),
        _as_number(options, "processes"),
        _as_number(options, "process"),
        _mode_options(mode, options),
    )


def _own_config(workdir: str | None) -> Config:
    """The configuration of the run in a workdir, where none was typed.

    Raises:
      InputError: there is no run.
    """
    own = None if workdir is None else saved_config(expand_workdir(workdir))
    if own is None:
        raise InputError(
            "config",
            "is missing; type --config=voting:tiny, or the --workdir of a run, which has one",
        )
    return own


def _mode_options(mode: str, options: Mapping[str, str]) -> dict[str, str]:
    """The options that the mode alone takes.

    Raises:
      InputError: an option of another mode.
    """
    for other, entry in MODES.items():
        for name in entry.options:
            if name in options and name not in MODES[mode].options:
                raise InputError(
                    name,
                    f"has no effect with --mode={mode}; leave it out, or type --mode={other}",
                )
    return {name: options[name] for name in MODES[mode].options if name in options}


def _read_options(arguments: Sequence[str]) -> dict[str, str]:
    """Option -> text, for ``--name=value``, ``--name value``, and a switch ``--config.FIELD``."""
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--"):
            raise InputError("arguments", _not_an_option(argument))
        name, equals, text = argument.removeprefix("--").partition("=")
        is_field = name.startswith("config.")
        if not is_field and name not in _OPTIONS:
            raise InputError(f"--{name:.80}", "no such option; see --help")
        if not equals:
            is_switch = name in _SWITCHES or (
                is_field and lookup(name.removeprefix("config.")).kind is bool
            )
            if not is_switch and not rest:
                raise InputError(f"--{name:.80}", "has no value; type --NAME=VALUE")
            text = "True" if is_switch else rest.pop(0)
        options[name] = text
    return options


def _not_an_option(argument: str) -> str:
    commands = " or ".join(SUBCOMMANDS)
    near = difflib.get_close_matches(argument[:80], SUBCOMMANDS, n=1, cutoff=0.6)
    if near:
        return (
            f"{argument!r:.80} is no command; did you mean {near[0]}? the commands are {commands}"
        )
    return (
        f"{argument!r:.80} is not an option; type --config.FIELD=VALUE, or first the command "
        f"{commands}; see --help"
    )


def _as_number(options: Mapping[str, str], name: str) -> int | None:
    if name not in options:
        return None
    try:
        return int(options[name])
    except ValueError as error:
        raise InputError(name, f"received {options[name]!r:.80}; type --{name}=NUMBER") from error


def usage(arguments: Sequence[str] = ()) -> str:
    """The text of `--help`: every field, with its value in the configuration typed beside it."""
    shown, config = "the defaults", Config()
    try:
        name = _read_options([text for text in arguments if text not in ("-h", "--help")])["config"]
        shown, config = name, parse(load_preset(name))
    except (InputError, KeyError):
        # Help is for those whose command line is not right yet.
        pass
    return _USAGE.format(
        program=program_name(),
        commands=" | ".join(SUBCOMMANDS),
        presets=", ".join(PRESETS),
        modes=", ".join(MODES),
        dtypes=", ".join(DTYPES),
        config=shown,
        fields=help_text(config),
    )


# --- the process ----------------------------------------------------------------------------------


def _prepare_process() -> None:
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Models write letters that not every terminal knows.
        sys.stdout.reconfigure(errors="backslashreplace")
    _keep_modules_out_of_collections()


def _keep_modules_out_of_collections() -> None:
    """Freezes what the imports made: it lives to the end; full collections need not walk it."""
    gc.freeze()


def _use_compilation_cache() -> None:
    """Keeps compiled programs between runs, unless the environment decides about it."""
    folder_setting = "jax_compilation_cache_dir"
    if not os.environ.get(folder_setting.upper()):
        folder = _cache_folder()
        if folder is None:
            return
        jax.config.update(folder_setting, str(folder))
    # A run has dozens of programs that compile in less than jax's threshold of a second.
    threshold = "jax_persistent_cache_min_compile_time_secs"
    if not os.environ.get(threshold.upper()):
        jax.config.update(threshold, 0.1)


def _cache_folder() -> pathlib.Path | None:
    """Where compiled programs are kept; None where the user has no home folder or cannot write."""
    # Unlike Path.home, this leaves a "~" that stands for no home folder as it is.
    home = pathlib.Path(os.path.expanduser("~"))
    folder = home / ".cache" / "ccpo_jax"
    try:
        if not home.is_absolute():
            return None
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


# A mode is added here.
MODES: dict[str, Mode] = {
    "train": Mode(train, starts_run=True),
    "sft": Mode(train, starts_run=True),
    "eval": Mode(modes.evaluate_only, starts_run=False),
    # It shows two samples of each problem, and a whole group may take minutes.
    "sample": Mode(modes.show_samples, starts_run=False, group_size=2),
    "export": Mode(modes.export, starts_run=False, options=("dtype", "merged")),
}

# Programs of their own: name -> main(arguments) -> exit status.
SUBCOMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "replay": replay.main,
    "report": report.main,
}
