"""What `--mode` does besides training, and the replay command: evaluate, sample, export, replay."""

from ccpo_jax.extras import train_extra

with train_extra():
    from ccpo_jax.modes.evaluate import evaluate_only
    from ccpo_jax.modes.export import export
    from ccpo_jax.modes.restore import trained_or_loaded
    from ccpo_jax.modes.sample import show_samples


__all__ = ["evaluate_only", "export", "show_samples", "trained_or_loaded"]
