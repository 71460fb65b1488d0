"""The `debate` presets of the package, as a file: `python run.py --config=configs/debate.py[:preset]`."""

from ccpo_jax.presets.debate import MODELS, get_config

__all__ = ["MODELS", "get_config"]
