"""Rotary position embeddings (RoPE): plain, with Llama 3's scaling and with YaRN's."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from ccpo_jax.rl.types import Array


@dataclasses.dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3's scaling of the low frequencies ("llama3" in config.json)."""

    # Low frequencies are divided by it.
    factor: float
    # Wavelengths above original_max_positions / low_freq_factor count as low frequencies.
    low_freq_factor: float
    # Wavelengths below original_max_positions / high_freq_factor are kept.
    high_freq_factor: float
    # Tokens; context length before scaling.
    original_max_positions: int


@dataclasses.dataclass(frozen=True)
class YarnScaling:
    """YaRN's scaling of the low frequencies ("yarn" in config.json)."""

    # Low frequencies are divided by it.
    factor: float
    # Tokens; context length before scaling.
    original_max_positions: int
    # Cosines and sines are multiplied by it.
    attention_factor: float
    # Frequencies with more periods than this within original_max_positions are kept.
    beta_fast: float = 32.0
    # Frequencies with fewer periods than this count as low.
    beta_slow: float = 1.0


RopeScaling = Llama3Scaling | YarnScaling | None


def frequencies(head_dim: int, theta: float, scaling: RopeScaling) -> np.ndarray:
    """``theta ** (-2 i / head_dim)``, scaled: ``[head_dim / 2]`` float32, in radians per position.

    Frequencies between the two bounds of `scaling` are interpolated linearly: Llama 3's in their
    number of periods within ``original_max_positions``, YaRN's in their index i, between the
    integers around the bounds.
    """
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequency = 1 / np.float32(theta) ** exponent
    if scaling is None:
        return frequency
    if isinstance(scaling, YarnScaling):
        return _scale_yarn(frequency, head_dim, theta, scaling)
    return _scale_llama3(frequency, scaling)


def _scale_llama3(frequency: np.ndarray, scaling: Llama3Scaling) -> np.ndarray:
    periods = scaling.original_max_positions * frequency / (2 * math.pi)
    width = scaling.high_freq_factor - scaling.low_freq_factor
    keep = np.clip((periods - scaling.low_freq_factor) / width, 0, 1)
    return (frequency * (keep + (1 - keep) / scaling.factor)).astype(np.float32)


def _scale_yarn(
    frequency: np.ndarray, head_dim: int, theta: float, scaling: YarnScaling
) -> np.ndarray:
    def index(periods: float) -> float:
        """Of the frequency with so many periods, from 0 to head_dim - 1."""
        wavelength = scaling.original_max_positions / (2 * math.pi * periods)
        position = head_dim * math.log(wavelength) / (2 * math.log(theta))
        return min(max(position, 0), head_dim - 1)

    first = math.floor(index(scaling.beta_fast))
    last = math.ceil(index(scaling.beta_slow))
    slow = np.clip((np.arange(head_dim // 2) - first) / (last - first or 1e-3), 0, 1)
    return (frequency * (1 - slow + slow / scaling.factor)).astype(np.float32)


def cos_sin(
    positions: Array, head_dim: int, theta: float, scaling: RopeScaling
) -> tuple[Array, Array]:
    """Cosine and sine of the angles of positions ``[...]``.

    Returns:
      ``[..., 1, 1, head_dim / 2]`` float32, twice.
    """
    angles = positions[..., None, None, None].astype(jnp.float32)
    angles = angles * frequencies(head_dim, theta, scaling)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    if isinstance(scaling, YarnScaling):
        return cos * scaling.attention_factor, sin * scaling.attention_factor
    return cos, sin


def apply_rope(x: Array, rope: tuple[Array, Array]) -> Array:
    """Rotates the pair (i, i + head_dim / 2) of every head by the angle of its position.

    Args:
      x: ``[..., heads, group, head_dim]``.
      rope: from `cos_sin`.
    """
    cos, sin = rope
    left, right = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = [left * cos - right * sin, right * cos + left * sin]
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
