"""Load a configuration preset by the name that run.py takes."""

import importlib


def preset(config: str):
    """The configuration that ``configs/dyad.py:tiny`` names."""
    path, _, name = config.partition(":")
    return importlib.import_module(path.removesuffix(".py").replace("/", ".")).get_config(name)
