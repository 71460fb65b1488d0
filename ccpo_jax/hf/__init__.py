"""Hugging Face files: models on the Hub or on disk, and tokenizers."""

from ccpo_jax.hf.tokenizer import Tokenizer, load_tokenizer

__all__ = ["Tokenizer", "load_tokenizer"]
