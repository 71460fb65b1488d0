"""The `solo` presets of the package, as a file: `python run.py --config=configs/solo.py[:preset]`."""

from ccpo_jax.presets.solo import MODELS, get_config

__all__ = ["MODELS", "get_config"]
