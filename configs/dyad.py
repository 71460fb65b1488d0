"""The `dyad` presets of the package, as a file: `python run.py --config=configs/dyad.py[:preset]`."""

from ccpo_jax.presets.dyad import MODELS, get_config

__all__ = ["MODELS", "get_config"]
