"""Training sequences of the network whose next token depends on the last one alone."""

import jax
import numpy as np

from ccpo_jax.learner.packing import TrainSequence

# Tokens of the vocabulary.
V = 11


def ragged_rows(count=13, seed=0, silent=(), group=4) -> list[TrainSequence]:
    """Rows in groups that share a prefix; about half of them have a tail of their own."""
    rng = np.random.default_rng(seed)
    rows, prefix = [], None
    for n in range(count):
        if n % group == 0:
            prefix = rng.integers(0, V, rng.integers(1, 6)).astype(np.int32)
        tail = rng.integers(0, V, rng.integers(0, 3)).astype(np.int32)
        response = rng.integers(0, V, rng.integers(1, 9)).astype(np.int32)
        old = rng.normal(-2, 0.1, len(response)).astype(np.float32)
        advantage = 0.0 if n in silent else float(np.float32(rng.normal()))
        rows.append(TrainSequence(n // group, prefix, tail, response, advantage, old))
    return rows


def scores_of(row: TrainSequence, table, temperature=1.0):
    """Log-probabilities ``[T', V]`` of everything that might have been said, one row alone."""
    tokens = np.concatenate([row.prefix, row.tail, row.response])
    return jax.nn.log_softmax(table[tokens[-len(row.response) - 1 : -1]] / temperature)
