"""Sampling: a jitted, batched decode loop that refills finished slots."""

from ccpo_jax.sampler.decode_loop import Prompts, sample
from ccpo_jax.sampler.sampling_params import SamplingParams
from ccpo_jax.sampler.token_sampling import TokenSampling, token_sampling

__all__ = ["Prompts", "SamplingParams", "TokenSampling", "sample", "token_sampling"]
