"""The `voting` presets of the package, as a file: `python run.py --config=configs/voting.py[:preset]`."""

from ccpo_jax.presets.voting import MODELS, get_config

__all__ = ["MODELS", "get_config"]
