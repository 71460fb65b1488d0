"""Running mean and variance as explicit state: an init and an update."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from ccpo_jax.rl.types import Array, RunningMoments

# A quantity whose variance is at most this is not rescaled.
_SMALLEST_VARIANCE = 1e-6
_LARGEST_COUNT = jnp.iinfo(jnp.int32).max


def init_moments(shape: tuple[int, ...] = ()) -> RunningMoments:
    """Moments before the first value.

    Args:
      shape: of every field; () = moments of one quantity.

    Returns:
      RunningMoments: count 0 (int32), mean 0 and var 0 (float32).

    Example:
      >>> state = init_moments()
      >>> int(state.count)
      0
    """
    return RunningMoments(
        count=jnp.zeros(shape, jnp.int32),
        mean=jnp.zeros(shape, jnp.float32),
        var=jnp.zeros(shape, jnp.float32),
    )


def update_moments(
    state: RunningMoments, x: ArrayLike, *, decay: float = 0.99, where: ArrayLike | None = None
) -> RunningMoments:
    """Updates the moments with one batch.

    The first batch is copied; later ones enter an exponential moving average,

        mean <- d * mean + (1 - d) * mean(x),
        var  <- d * var  + (1 - d) * mean((x - mean(x))^2).

    ``var`` averages the variances *within* batches; it is not a second moment around the running
    mean. A batch without valid values changes nothing.

    Reference: arXiv:2603.21563, global-history-aware normalisation.

    Args:
      state: moments of one quantity.
      x: any shape, float; all its values are one batch.
      decay: d in [0, 1), weight of the past.
      where: bool, broadcasts to the shape of `x`; True = the value counts. None = all count.

    Returns:
      The new moments. Their count grows by the number of valid values, up to the largest int32.

    Example:
      >>> state = update_moments(init_moments(), jnp.array([1.0, 3.0]))
      >>> int(state.count), float(state.mean), float(state.var)
      (2, 2.0, 1.0)
    """
    x = jnp.asarray(x, jnp.float32)
    if where is None:
        keep = jnp.ones(x.shape, bool)
    else:
        keep = jnp.broadcast_to(jnp.asarray(where, bool), x.shape)
    num_new = keep.sum(dtype=jnp.int32)

    divisor = jnp.maximum(num_new, 1)
    mean = jnp.where(keep, x, 0.0).sum() / divisor
    var = jnp.where(keep, jnp.square(x - mean), 0.0).sum() / divisor

    past = jnp.where(state.count == 0, 0.0, decay)
    past = jnp.where(num_new == 0, 1.0, past)
    return RunningMoments(
        count=jnp.minimum(state.count, _LARGEST_COUNT - num_new) + num_new,
        mean=past * state.mean + (1.0 - past) * mean,
        var=past * state.var + (1.0 - past) * var,
    )


def standard_deviation(state: RunningMoments) -> Array:
    """Square root of the running variance: ``sd = sqrt(var)``, or 1 where var is at most 1e-6.

    Reference: arXiv:2603.21563, as in its released code.

    Args:
      state: moments of one quantity.

    Returns:
      ``[]`` float32, positive, in the unit of the quantity.

    Example:
      >>> state = init_moments()
      >>> float(standard_deviation(state))
      1.0
    """
    return jnp.sqrt(jnp.where(state.var > _SMALLEST_VARIANCE, state.var, 1.0))


def standardize(x: ArrayLike, state: RunningMoments, *, eps: float = 1e-6) -> Array:
    """Centres and scales by the running moments: ``z = (x - mean) / (sd + eps)``.

    Before the first update (count 0) it is the identity, ``z = x``.

    Reference: arXiv:2603.21563, global-history-aware normalisation.

    Args:
      x: any shape, in the unit of the moments.
      state: moments of one quantity, from the steps before this one.
      eps: added to the standard deviation.

    Returns:
      The shape of `x`, float32, without unit.

    Example:
      >>> state = update_moments(init_moments(), jnp.array([1.0, 5.0]))
      >>> standardize(jnp.array([3.0, 5.0]), state, eps=0.0).tolist()
      [0.0, 1.0]
    """
    x = jnp.asarray(x, jnp.float32)
    return jnp.where(state.count == 0, x, (x - state.mean) / (standard_deviation(state) + eps))
