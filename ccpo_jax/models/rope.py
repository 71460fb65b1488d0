"""Rotary position embeddings, plain, with Llama 3's scaling and with YaRN's."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from ccpo_jax.rl.types import Array


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Llama 3's stretching of the slow frequencies ("llama3" in config.json)."""

    factor: float  # slow frequencies are divided by it
    low_freq_factor: float  # waves longer than original_max_positions / this count as slow
    high_freq_factor: float  # waves shorter than original_max_positions / this stay as they are
    original_max_positions: int  # tokens, context length before stretching


@dataclasses.dataclass(frozen=True)
class Yarn:
    """YaRN's stretching of the slow frequencies ("yarn" in config.json)."""

    factor: float  # slow frequencies are divided by it
    original_max_positions: int  # tokens, context length before stretching
    attention_factor: float  # cosines and sines are multiplied by it
    beta_fast: float = (
        32.0  # waves that make more turns within original_max_positions stay as they are
    )
    beta_slow: float = 1.0  # waves that make fewer count as slow


Scaling = RopeScaling | Yarn | None


def frequencies(head_dim: int, theta: float, scaling: Scaling) -> np.ndarray:
    """``[head_dim / 2]`` float32, radians per position: ``theta ** (-2 i / head_dim)``, scaled.

    Waves between the two bounds of `scaling` are blended linearly: Llama's in the number of turns they make within
    ``original_max_positions``, YaRN's in their index i, between the whole numbers around the bounds.
    """
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequency = 1 / np.float32(theta) ** exponent
    if scaling is None:
        return frequency
    if isinstance(scaling, Yarn):

        def index(turns: float) -> float:
            """Of the wave that makes so many turns, from 0 to head_dim - 1."""
            found = (
                head_dim
                * math.log(scaling.original_max_positions / (2 * math.pi * turns))
                / (2 * math.log(theta))
            )
            return min(max(found, 0), head_dim - 1)

        first, last = math.floor(index(scaling.beta_fast)), math.ceil(index(scaling.beta_slow))
        slow = np.clip((np.arange(head_dim // 2) - first) / (last - first or 1e-3), 0, 1)
        return (frequency * (1 - slow + slow / scaling.factor)).astype(np.float32)
    turns = scaling.original_max_positions * frequency / (2 * math.pi)
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = np.clip(keep, 0, 1)
    return (frequency * (keep + (1 - keep) / scaling.factor)).astype(np.float32)


def rotation(
    positions: Array, head_dim: int, theta: float, scaling: Scaling
) -> tuple[Array, Array]:
    """Cosine and sine of every position's angles, ``[..., 1, 1, head_dim / 2]`` float32 for positions ``[...]``."""
    angles = positions[..., None, None, None].astype(jnp.float32) * frequencies(
        head_dim, theta, scaling
    )
    if isinstance(scaling, Yarn):
        return jnp.cos(angles) * scaling.attention_factor, jnp.sin(
            angles
        ) * scaling.attention_factor
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: Array, turn: tuple[Array, Array]) -> Array:
    """Turns the pair (i, i + head_dim / 2) of every head by its position's angle.

    Args:
      x: ``[..., heads, group, head_dim]``.
      turn: from `rotation`.
    """
    cos, sin = turn
    left, right = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1).astype(
        x.dtype
    )
