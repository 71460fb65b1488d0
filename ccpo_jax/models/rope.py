"""Rotary position embeddings, plain and with Llama 3's scaling."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from ccpo_jax.records import Array


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Llama 3's stretching of the slow frequencies ("llama3" in config.json)."""

    factor: float  # slow frequencies are divided by it
    low_freq_factor: float  # waves longer than original_max_positions / this count as slow
    high_freq_factor: float  # waves shorter than original_max_positions / this stay as they are
    original_max_positions: int  # tokens, context length before stretching


def frequencies(head_dim: int, theta: float, scaling: RopeScaling | None) -> np.ndarray:
    """``[head_dim / 2]`` float32, radians per position: ``theta ** (-2 i / head_dim)``, scaled.

    Waves between the two bounds of `scaling` are blended linearly in the number of turns they make within
    ``original_max_positions``.
    """
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequency = 1 / np.float32(theta) ** exponent
    if scaling is None:
        return frequency
    turns = scaling.original_max_positions * frequency / (2 * math.pi)
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = np.clip(keep, 0, 1)
    return (frequency * (keep + (1 - keep) / scaling.factor)).astype(np.float32)


def rotation(positions: Array, head_dim: int, theta: float, scaling: RopeScaling | None) -> tuple[Array, Array]:
    """Cosine and sine of every position's angles, ``[..., 1, 1, head_dim / 2]`` float32 for positions ``[...]``."""
    angles = positions[..., None, None, None].astype(jnp.float32) * frequencies(head_dim, theta, scaling)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: Array, turn: tuple[Array, Array]) -> Array:
    """Turns the pair (i, i + head_dim / 2) of every head by its position's angle.

    Args:
      x: ``[..., heads, group, head_dim]``.
      turn: from `rotation`.
    """
    cos, sin = turn
    left, right = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1).astype(x.dtype)
