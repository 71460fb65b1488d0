"""Configurations that come with the package: data only. `--config=NAME[:preset]` reads them."""

import pathlib
import runpy
import traceback
from collections.abc import Mapping
from typing import Any

from ccpo_jax.config import FIELDS, flatten, from_flat, get
from ccpo_jax.errors import InputError
from ccpo_jax.extras import train_extra
from ccpo_jax.fields import check_value, expand_home

with train_extra():
    from ml_collections import ConfigDict

    from ccpo_jax.presets import chain, debate, dyad, solo, voting

PRESETS = {
    "solo": solo.get_config,
    "dyad": dyad.get_config,
    "voting": voting.get_config,
    "chain": chain.get_config,
    "debate": debate.get_config,
}


def split_name(config: str) -> tuple[str, str]:
    """``voting:tiny`` -> ("voting", "tiny"); a file's path may contain colons.

    Example:
      >>> split_name("voting:tiny"), split_name("configs/voting.py"), split_name("a:b/my.py:large")
      (('voting', 'tiny'), ('configs/voting.py', ''), ('a:b/my.py', 'large'))
    """
    path, suffix, preset = config.rpartition(".py:")
    if suffix:
        return f"{path}.py", preset
    if config.endswith(".py"):
        return config, ""
    name, _, preset = config.partition(":")
    return name, preset


def load_preset(config: str) -> ConfigDict:
    """The configuration that ``voting:tiny`` or ``path/to/file.py:preset`` names.

    Raises:
      InputError: no such preset or file, or the file does not make a configuration.
    """
    if not config.strip():
        raise InputError("config", "is empty; type --config=voting:tiny, or the path of a file")
    name, preset = split_name(config)
    if name in PRESETS:
        return PRESETS[name](preset)
    path = pathlib.Path(expand_home(name))
    if not name.endswith(".py"):
        known = ", ".join(PRESETS)
        raise InputError(
            "config",
            f"{name!r:.200} is not a preset; type one of {known}, or the path of a .py file",
        )
    try:
        is_file = path.is_file()
    except (OSError, ValueError):
        # A name that no file can have.
        is_file = False
    if not is_file:
        raise InputError(
            "config",
            f"there is no file {name!r:.200}; type one of {', '.join(PRESETS)}, or an existing "
            f"file",
        )
    return _from_file(path, preset)


def _from_file(path: pathlib.Path, preset: str) -> ConfigDict:
    # A file may end the process as well as raise; either is a mistake of its author.
    try:
        content = runpy.run_path(str(path))
    except (Exception, SystemExit) as error:
        raise _mistake(path, error) from error
    if not callable(content.get("get_config")):
        raise InputError("config", f"{path} has no function get_config(preset); add one")
    try:
        config = content["get_config"](preset)
    except (Exception, SystemExit) as error:
        raise _mistake(path, error) from error
    if not isinstance(config, Mapping | ConfigDict):
        raise InputError(
            "config",
            f"get_config({preset!r:.80}) of {path} returned {config!r:.60}; return the ConfigDict "
            "that ccpo_jax.presets.base.base() makes, changed",
        )
    try:
        _check_values(config)
    except InputError as error:
        raise _mistake(path, error) from error
    return config  # type: ignore[return-value]


def _check_values(config: Any) -> None:
    """Names, types and ranges of a file's values."""
    made = from_flat(flatten(config))
    for name, field in FIELDS.items():
        check_value(field, get(made, name))


def _mistake(path: pathlib.Path, error: BaseException) -> InputError:
    """What a file did wrong, and in which line."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    where = f"{path}, line {lines[-1]}" if lines else f"{path}"
    if isinstance(error, InputError):
        message = str(error).removeprefix(f"{error.field}: ")
        return InputError(error.field, f"{where}: {message}")
    return InputError("config", f"{where}: {_one_line(error)}; correct the file")


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300].rstrip(": ")
