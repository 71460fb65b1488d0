"""Training: build a run from its configuration, step, evaluate, resume."""

from ccpo_jax.extras import train_extra

with train_extra():
    from ccpo_jax.train.loop import Trainer, train
    from ccpo_jax.train.parts import Model

__all__ = ["Model", "Trainer", "train"]
