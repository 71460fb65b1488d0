"""Where a configuration of one's own starts: every field at its default."""

from ccpo_jax.presets.base import base, sharded, tiny

__all__ = ["base", "sharded", "tiny"]
