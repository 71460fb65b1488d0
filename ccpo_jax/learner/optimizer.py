"""The optimizer: gradients become changes of the parameters, at a rate that a schedule gives."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np

from ccpo_jax.extras import train_extra
from ccpo_jax.rl.types import Array

with train_extra():
    import optax

Schedule = Callable[[Any], Any]


class Optimizer(Protocol):
    """An `optax.GradientTransformation`, or anything hashable with its two functions."""

    @property
    def init(self) -> Callable[[Any], Any]: ...

    @property
    def update(self) -> Callable[..., tuple[Any, Any]]: ...


@dataclasses.dataclass(frozen=True)
class AdamW:
    """AdamW behind a global-norm clip.

    Step k, from 0, of the linear warm-up has (k + 1) / (warmup_steps + 1) of the rate. Then the
    rate stays, or decays: it is back at a fraction `floor` after `decay_steps` steps, those of the
    warm-up among them, and stays there. A step that changes nothing, because a number was not
    finite, does not count.

    Static, and compared by value: equal settings share compiled programs.

    Reference: AdamW arXiv:1711.05101, cosine decay arXiv:1608.03983; both by optax.

    Example:
      >>> AdamW(learning_rate=1e-6) == AdamW(learning_rate=1e-6)
      True
      >>> rate = AdamW(learning_rate=1.0, schedule="linear", decay_steps=4, floor=0.5).rate
      >>> [float(rate(step)) for step in range(6)]
      [1.0, 0.875, 0.75, 0.625, 0.5, 0.5]
    """

    learning_rate: float
    warmup_steps: int = 0
    schedule: str = "constant"  # constant, or a key of DECAYS
    decay_steps: int | None = None  # a number unless the schedule is constant
    floor: float = 0.0  # fraction of the rate
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    grad_clip: float = 1.0

    def init(self, params: Any) -> Any:
        """The optimizer state of fresh parameters."""
        return self._transform().init(params)

    def update(self, grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        """(updates to add to the parameters, new optimizer state)."""
        return self._transform().update(grads, state, params)

    @property
    def rate(self) -> float | Schedule:
        """The learning rate: of all steps, or as a function of the steps before."""
        peak = self.learning_rate
        if self.schedule == "constant":
            return self._warm_up() if self.warmup_steps else peak

        assert self.decay_steps is not None
        decay = DECAYS[self.schedule](peak, self.decay_steps - self.warmup_steps, self.floor)
        if not self.warmup_steps:
            return decay
        return optax.join_schedules([self._warm_up(), decay], [self.warmup_steps])

    def _warm_up(self) -> Schedule:
        first = self.learning_rate / (self.warmup_steps + 1)
        return optax.linear_schedule(first, self.learning_rate, self.warmup_steps)

    def _transform(self) -> optax.GradientTransformation:
        rate: Any = self.rate
        return optax.chain(
            optax.clip_by_global_norm(self.grad_clip),
            optax.adamw(rate, b1=self.b1, b2=self.b2, eps=self.eps, weight_decay=self.weight_decay),
        )


def changing_rate(optimizer: Optimizer, state: Any) -> dict[str, float]:
    """``{"learning_rate": ...}`` of the last step that was taken; {} where it is always the same,
    or there was no step.

    Args:
      optimizer: any; that of an optimizer which is not `AdamW` is unknown.
      state: after the step.
    """
    if not (isinstance(optimizer, AdamW) and callable(optimizer.rate)):
        return {}
    count = int(jax.device_get(optax.tree.get(state, "ScaleByScheduleState").count))
    if not count:
        return {}
    return {"learning_rate": float(_rate_of_step(optimizer, np.int32(count - 1)))}


@functools.partial(jax.jit, static_argnums=0)
def _rate_of_step(optimizer: AdamW, step: Array) -> Array:
    rate: Any = optimizer.rate
    return rate(step)


def _linear_decay(peak: float, steps: int, floor: float) -> Schedule:
    return optax.linear_schedule(peak, floor * peak, steps)


def _cosine_decay(peak: float, steps: int, floor: float) -> Schedule:
    return optax.cosine_decay_schedule(peak, steps, alpha=floor)


# (rate, steps, fraction of the rate at their end) -> schedule, of config field optimizer.schedule.
DECAYS: dict[str, Callable[[float, int, float], Schedule]] = {
    "linear": _linear_decay,
    "cosine": _cosine_decay,
}
