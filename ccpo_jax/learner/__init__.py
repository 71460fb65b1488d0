"""Learning: packed sequences, log-probs, gradients and optimizer updates."""
