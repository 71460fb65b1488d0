"""A soft penalty on responses that come near their length limit."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.rl.types import Array


def overlong_penalty(length: ArrayLike, limit: ArrayLike, buffer: ArrayLike) -> Array:
    """Penalty of responses by their length: 0 up to the buffer, then falling linearly to -1.

        p(n) = 0                              n <= limit - buffer
        p(n) = (limit - buffer - n) / buffer  limit - buffer < n < limit
        p(n) = -1                             n >= limit

    A reward that is 0 for every response that was cut tells a response that nearly ended no better
    from one that never would. The buffer tells them apart before they are cut.

    Reference: the soft overlong punishment of DAPO, arXiv:2503.14476, equation 13.

    Args:
      length: ``[...]`` number, tokens of each response; of a response that was cut, its limit.
      limit: ``[...]`` or ``[]`` number, tokens at which a response is cut.
      buffer: ``[...]`` or ``[]`` number of tokens, in [1, limit].

    Returns:
      ``[...]`` float32 in [-1, 0].

    Example:
      >>> length = jnp.array([10, 16, 18, 20])
      >>> overlong_penalty(length, 20, 4).tolist()
      [0.0, 0.0, -0.5, -1.0]
    """
    length = jnp.asarray(length, jnp.float32)
    limit = jnp.asarray(limit, jnp.float32)
    buffer = jnp.asarray(buffer, jnp.float32)
    return jnp.clip((limit - buffer - length) / buffer, -1.0, 0.0)
