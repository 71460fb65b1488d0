"""The optimizer: gradients become changes of the parameters."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from ccpo_jax.extras import train_extra

with train_extra():
    import optax


class Optimizer(Protocol):
    """An `optax.GradientTransformation`, or anything hashable with its two functions."""

    @property
    def init(self) -> Callable[[Any], Any]: ...

    @property
    def update(self) -> Callable[..., tuple[Any, Any]]: ...


@dataclasses.dataclass(frozen=True)
class AdamW:
    """AdamW behind a global-norm clip; step k of the linear warm-up has (k + 1) / (warmup_steps +
    1) of the rate.

    Static, and compared by value: equal settings share compiled programs.

    Example:
      >>> AdamW(learning_rate=1e-6) == AdamW(learning_rate=1e-6)
      True
    """

    learning_rate: float
    warmup_steps: int = 0
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

    def _transform(self) -> optax.GradientTransformation:
        rate: Any = self.learning_rate
        if self.warmup_steps:
            first = self.learning_rate / (self.warmup_steps + 1)
            rate = optax.linear_schedule(first, self.learning_rate, self.warmup_steps)
        return optax.chain(
            optax.clip_by_global_norm(self.grad_clip),
            optax.adamw(rate, b1=self.b1, b2=self.b2, eps=self.eps, weight_decay=self.weight_decay),
        )
