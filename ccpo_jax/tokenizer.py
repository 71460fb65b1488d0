"""The tokenizer under the path that the first version had; it lives in `ccpo_jax.hf`."""

from ccpo_jax.hf.tokenizer import Tokenizer, load_tokenizer

__all__ = ["Tokenizer", "load_tokenizer"]
