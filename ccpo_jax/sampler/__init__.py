"""Sampling: a jitted, batched decode loop that refills finished slots."""

from ccpo_jax.sampler.decode_loop import sample

__all__ = ["sample"]
