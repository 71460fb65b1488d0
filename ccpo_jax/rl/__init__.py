"""The mathematics: rewards, credit, advantages and losses, in jax and numpy alone."""
