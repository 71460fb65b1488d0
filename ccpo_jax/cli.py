"""`python run.py --config=configs/voting.py[:preset] [--workdir=DIR] [--mode=train|eval|sample|export]`.

One of several processes also gets `--coordinator=HOST:PORT --processes=N --process=K`, or `--coordinator=auto`.
"""

import difflib
import gc
import os
import pathlib
import re
import runpy
import sys
from collections.abc import Mapping

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from ccpo_jax import modes
from ccpo_jax.devices.distributed import abort, all_gather_objects
from ccpo_jax.errors import InputError
from ccpo_jax.train.guards import NonFiniteUpdateError
from ccpo_jax.train.loop import train
from ccpo_jax.workdir import default_workdir
from ccpo_jax.workdir.workdir import load_config

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file, with an optional :preset."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; a new one under runs/ when absent."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "Several processes: HOST:PORT of process 0, or auto."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "Several processes: how many.")
_PROCESS = flags.DEFINE_integer("process", None, "Several processes: which one this is, from 0.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval", "sample", "export"], "What to do.")


def main(argv):
    """Hands the parsed flags to the program."""
    if len(argv) > 1:
        sys.exit(f"error: {argv[1]!r} is not a flag; type --config.FIELD=VALUE")
    if _CONFIG.value is None:
        sys.exit("error: --config is missing; type --config=configs/voting.py:tiny")
    logging.set_verbosity(logging.WARNING)
    sys.stdout.reconfigure(
        errors="backslashreplace"
    )  # models write letters that not every terminal knows
    gc.disable()
    from ccpo_jax.devices import distributed as processes

    gc.freeze()  # modules live to the end: no collection needs to look through them
    gc.enable()
    try:
        processes.initialize(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    flag = flags.FLAGS["config"]
    typed = config_flags.get_override_values(flag)
    file = config_flags.get_config_filename(flag)
    sys.exit(run_mode(_CONFIG.value, file, _WORKDIR.value, _MODE.value, typed))


def parse(argv):
    """Parses the command line; a mistake in it is one line on stderr and exit status 2."""
    try:
        rest = flags.FLAGS(argv)
        named = any(a.startswith("--config=") for a in argv)
        path = (
            config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]
            if named
            else ""
        )
        if path and not pathlib.Path(path).is_file():
            raise OSError(
                f"config: there is no file {path!r}; type --config=configs/voting.py or configs/dyad.py"
            )
        return rest
    except (flags.Error, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        told = (
            _unknown_field(argv)
            if isinstance(error, (AttributeError, KeyError))
            else _wrong_type(argv, error)
        )
        print(f"error: {(told or _first_cause(error))[:500]}", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RecursionError):  # of Python's own parser, which reads tuples
        longest = max(
            (a for a in argv if a.startswith("--config.")), key=len, default="--config"
        ).partition("=")[0]
        print(
            f"error: {longest.lstrip('-')[:80]}: its value is too long or nested too deep to be read",
            file=sys.stderr,
        )
        sys.exit(2)


def _known_fields(argv: list[str]) -> dict:
    """Every field of the chosen configuration file with its default; nothing where there is no such file."""
    chosen = [a.partition("=")[2] for a in argv if a.startswith("--config=")]
    path, _, preset = chosen[-1].partition(":") if chosen else ("", "", "")
    return (
        _fields(runpy.run_path(path)["get_config"](preset)) if pathlib.Path(path).is_file() else {}
    )


def _unknown_field(argv: list[str]) -> str | None:
    """Which --config.FIELD does not exist, and what was probably meant."""
    known = _known_fields(argv)
    for name in re.findall(r"--config\.([\w.]+)", " ".join(argv)):
        if known and name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            return f"config.{name}: no such field; " + (
                f"did you mean --config.{close[0]}?" if close else "see configs/base.py"
            )
    return None


def _wrong_type(argv: list[str], error: Exception) -> str | None:
    """Which --config.FIELD was given a value that it cannot hold, and what it holds by default."""
    found = re.match(r"flag --config\.([\w.]+)=(.*?): ", str(error), re.DOTALL)
    known = _known_fields(argv) if found else {}
    if not found or found[1] not in known:
        return None
    default = known[found[1]]
    kind = "a value" if default is None else f"{type(default).__name__}"
    return (
        f"config.{found[1]}: {found[2]!r} is not of type {kind}; type a value such as {default!r}"
    )


def _first_cause(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next(
        (line for line in reversed(lines) if re.match(r"ValueError: |\[Errno", line)), lines[0]
    )
    return told.removeprefix("ValueError: ")


def _fields(config, prefix: str = "") -> dict:
    found = {}
    for name, value in config.items():
        found |= (
            _fields(value, f"{prefix}{name}.")
            if hasattr(value, "items")
            else {prefix + name: value}
        )
    return found


def run_mode(
    config: ConfigDict,
    config_file: str,
    workdir: str | None,
    mode: str,
    typed: Mapping | None = None,
) -> int:
    """Runs one mode of the command line.

    Args:
      config: the configuration file's fields, with those typed on the command line put in.
      config_file: its path and preset, which name a new run's folder.
      workdir: the run's folder; None = a new one (train) or the untrained models (eval, sample).
      mode: train, eval, sample or export.
      typed: the fields typed on the command line, flat: all that eval, sample and export change in a run's own
        configuration.

    Returns:
      The exit status: 2 after a mistake in the input, 1 where an update was not finite, each with one line on stderr;
      130 after Ctrl-C.
    """
    cache = {
        "jax_compilation_cache_dir": str(pathlib.Path.home() / ".cache" / "ccpo_jax"),
        "jax_persistent_cache_min_compile_time_secs": 0.1,  # a run has dozens of programs that take less than a second
    }
    for name, value in cache.items():
        if not os.environ.get(name.upper()):
            jax.config.update(name, value)
    try:
        if mode == "train":
            train(config, workdir or all_gather_objects(default_workdir(config_file))[0])
        else:
            if workdir is not None:
                config = load_config(config, workdir, typed or {})
            {"eval": modes.evaluate_only, "sample": modes.show_samples, "export": modes.export}[
                mode
            ](config, workdir)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except NonFiniteUpdateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if jax.process_count() == 1:
            raise
        abort(error)
    return 0


def start():
    """The entry point of run.py, `python -m ccpo_jax` and the console script."""
    app.run(main, flags_parser=parse)
