"""Hugging Face files: tokenizers with their chat templates, and models on the Hub or on disk."""

from ccpo_jax.extras import train_extra

with train_extra():
    from ccpo_jax.hf.tokenizer import Tokenizer, load_tokenizer

__all__ = ["Tokenizer", "load_tokenizer"]
