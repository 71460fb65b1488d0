"""Fingerprints of arrays: 32 bits that any flipped bit changes, independent of the sharding."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def fingerprints(tree: Any) -> list[int]:
    """One fingerprint per leaf, in the order of `jax.tree.leaves`.

        fingerprint = sum over elements of mix(bits XOR mix(position))  mod 2**32

    `mix` is a bijection, so a change of one element always shows; other changes escape with a
    chance of 2**-32. The sum is exact in any order: shardings, and with them the number of devices
    and processes, do not matter.

    Args:
      tree: a pytree of arrays; no typed keys.

    Returns:
      Host integers in [0, 2**32).

    Example:
      >>> one, other = fingerprints([jnp.array([1.0, 2.0]), jnp.array([2.0, 1.0])])
      >>> one != other, fingerprints(np.array([1.0, 2.0], np.float32)) == [one]
      (True, True)
    """
    return [int(_fingerprint(leaf)) for leaf in jax.tree.leaves(tree)]


@jax.jit
def _fingerprint(x: jax.Array) -> jax.Array:
    words = _words(jnp.atleast_1d(x))
    position = jnp.uint32(0)
    for axis in range(words.ndim):
        index = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        position = _mix(position + index)
    return jnp.sum(_mix(words ^ position), dtype=jnp.uint32)


def _words(x: jax.Array) -> jax.Array:
    """The bits of every element as a 32-bit word; of wider elements as two, on a new last axis."""
    if x.dtype == jnp.bool:
        return x.astype(jnp.uint32)
    width = 8 * np.dtype(x.dtype).itemsize
    return jax.lax.bitcast_convert_type(x, f"uint{min(width, 32)}").astype(jnp.uint32)


def _mix(x: jax.Array) -> jax.Array:
    """A bijection that spreads every bit over all 32: the finalizer of MurmurHash3."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
    return x ^ (x >> 16)
