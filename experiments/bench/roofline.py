"""A machine's measured limits, and the bytes and operations that a piece of work needs.

A device's own rates are measured first, never read off a data sheet. The least seconds of a piece
of work are then the larger of its bytes over the copy rate and its operations over the rate of
matrix products; of several pieces one after the other, their sum.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.learner.packing import PackedBatch
from ccpo_jax.models import ModelConfig
from ccpo_jax.models.decoder import parameter_shapes
from ccpo_jax.rollout import Turn


class Rates(NamedTuple):
    """What the default device reaches."""

    copy_bytes_per_second: float  # read and written, of a copy far larger than any cache
    matmul_flops_per_second: float  # of a large product of random matrices in the dtype of the work


class Work(NamedTuple):
    """What a piece of work needs at least."""

    bytes: float  # moved between memory and processor, each array once a step
    flops: float

    def seconds(self, rates: Rates) -> float:
        """The least seconds of this work on a device with such rates."""
        return max(
            self.bytes / rates.copy_bytes_per_second, self.flops / rates.matmul_flops_per_second
        )


def measure(dtype) -> Rates:
    """Measures the default device. Random numbers: zeros take less power, and so run faster on some
    devices.
    """
    cpu = jax.default_backend() == "cpu"
    key = jax.random.key(0)
    large = jax.random.normal(key, (1 << (26 if cpu else 30),), jnp.float32)
    side = 2048 if cpu else 8192
    square = jax.random.normal(key, (side, side), dtype)
    copy, product = jax.jit(lambda x: x + 1), jax.jit(lambda x: x @ x)
    return Rates(
        2 * large.nbytes / fastest(lambda: copy(large)),
        2 * side**3 / fastest(lambda: product(square)),
    )


def fastest(call: Callable, repeats: int = 5) -> float:
    """Fewest seconds of a call whose result is waited for; the first call, which compiles, does not
    count.
    """
    return min([timed(call) for _ in range(repeats + 1)][1:])


def median(call: Callable, repeats: int = 5) -> float:
    """Median seconds of a call whose result is waited for."""
    return statistics.median(timed(call) for _ in range(repeats))


def timed(call: Callable) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def multiplied(config: ModelConfig) -> int:
    """Parameters that every token is multiplied with; an untied embedding table is only looked
    up.
    """
    total = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(parameter_shapes(config)))
    return total if config.tied_embeddings else total - config.vocab_size * config.hidden_size


def attention_flops(config: ModelConfig, pairs: float) -> float:
    """Operations of scores and weighted values for so many (query, key) pairs, forward."""
    return 4.0 * config.num_layers * config.num_heads * config.head_dim * pairs


def decode_work(config: ModelConfig, turns: Sequence[Turn], itemsize: int) -> list[Work]:
    """Prefill and decoding of turns that share parameters and sample in one call.

    Decoding reads the weights once a step and, for each token, the row's own tail and earlier
    tokens; a prompt's cache is read once a step for all rows of the prompt that still decode.
    """
    slot = (
        2 * config.num_layers * config.num_kv_heads * config.head_dim * itemsize
    )  # bytes of a cached token
    weights = multiplied(config)
    prompt, steps, read, tokens, pairs, seen = 0.0, 0, 0.0, 0.0, 0.0, 0.0
    for turn in turns:
        prefix, length = (
            np.asarray(x, np.float64) for x in (turn.prompts.prefix_length, turn.samples.length)
        )
        tail = turn.prompts.tail_length.astype(np.float64)
        prompt += prefix.sum() + tail.sum()
        seen += (prefix**2).sum() / 2 + (tail * (prefix[:, None] + tail / 2)).sum()
        steps = max(steps, int(length.max()))
        read += (prefix * length.max(axis=1)).sum() + (length * (tail + length / 2)).sum()
        tokens += length.sum()
        pairs += (length * (prefix[:, None] + tail + length / 2)).sum()
    return [
        Work(
            weights * itemsize + slot * prompt,
            2.0 * weights * prompt + attention_flops(config, seen),
        ),
        Work(
            steps * weights * itemsize + slot * read,
            2.0 * weights * tokens + attention_flops(config, pairs),
        ),
    ]


def train_work(config: ModelConfig, batches: Sequence[PackedBatch]) -> Work:
    """Forward and backward pass over packed rows: three products for each parameter and token,
    nothing twice.

    The bytes are those of the master weights read for each micro-batch and its gradients added up,
    in float32.
    """
    tokens = sum(int((batch.segments > 0).sum()) for batch in batches)
    pairs = 0.0
    for batch in batches:
        for own, parent in zip(batch.segments, batch.parents, strict=True):
            sizes = np.bincount(own[own > 0]).astype(np.float64)
            heads = np.array([parent[own == s][0] for s in range(1, len(sizes))], int)
            above = (
                np.where(heads == np.arange(1, len(sizes)), 0, sizes[heads])
                if len(heads)
                else np.zeros(0)
            )
            pairs += (sizes[1:] * (sizes[1:] / 2 + above)).sum()
    weights = multiplied(config)
    return Work(
        4.0 * weights * 3 * len(batches),
        6.0 * weights * tokens + 3 * attention_flops(config, pairs),
    )
