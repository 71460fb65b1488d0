"""The `chain` presets of the package, as a file: `python run.py --config=configs/chain.py[:preset]`."""

from ccpo_jax.presets.chain import MODELS, get_config

__all__ = ["MODELS", "get_config"]
