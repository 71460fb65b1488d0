"""Configurations that come with the package: data only. `--config=NAME[:preset]` reads them."""

import pathlib
import runpy

from ml_collections import ConfigDict

from ccpo_jax.errors import InputError
from ccpo_jax.fields import expand_home
from ccpo_jax.presets import chain, debate, dyad, voting

PRESETS = {
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
    try:
        content = runpy.run_path(str(path))
    except Exception as error:
        raise InputError("config", f"{path} cannot be run: {_one_line(error)}") from error
    if "get_config" not in content:
        raise InputError("config", f"{path} has no function get_config(preset); add one")
    try:
        return content["get_config"](preset)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            "config", f"get_config({preset!r}) of {path}: {_one_line(error)}"
        ) from error


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
