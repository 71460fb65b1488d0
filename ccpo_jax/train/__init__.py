"""Training: build a run from its configuration, step, evaluate, resume."""

from ccpo_jax.train.loop import Trainer, train

__all__ = ["Trainer", "train"]
