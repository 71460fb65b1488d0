"""A run's folder: lock, configuration, checkpoints, metrics and rollouts."""
