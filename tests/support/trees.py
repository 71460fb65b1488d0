"""Sizes of pytrees."""

import jax
import jax.numpy as jnp
import numpy as np


def bytes_of(tree) -> int:
    """Bytes of all leaves, which may be arrays or shapes."""
    leaves = jax.tree.leaves(tree)
    return sum(int(np.prod(leaf.shape)) * jnp.dtype(leaf.dtype).itemsize for leaf in leaves)
