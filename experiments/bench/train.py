"""Benchmark of gradients: tokens per second and model FLOP utilisation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax import models
from ccpo_jax.learner.optimizer import AdamW
from ccpo_jax.learner.packing import TrainSequence, pack
from ccpo_jax.learner.update import (
    LossConfig,
    PackingConfig,
    UpdateConfig,
    jitted_accumulate,
    totals_of,
    update_params,
)
from ccpo_jax.models import ModelConfig
from experiments.bench.roofline import median, train_work
from experiments.bench.workloads import beside_the_machine, dtype_of, network, peak_memory


def bench_train(args) -> dict:
    """Trained tokens per second, padding, and the fraction of the measured matrix-product rate."""
    config, params = network(args.model)
    policy = models.make_policy(
        config, compute_dtype=dtype_of(args), remat=args.remat, attention=args.attention
    )
    rows = training_rows(config, args)
    optimizer = AdamW(learning_rate=1e-6)
    state = jax.jit(optimizer.init)(params)
    loss = loss_of(args.logits)
    packing = PackingConfig(args.pack_length, args.micro_batch)
    update = UpdateConfig(loss, optimizer, packing, skip_silent=False)

    def step():
        nonlocal params, state
        params, state, _ = update_params(policy, params, state, [rows], update)
        return params

    jax.block_until_ready(step())
    took = median(step, args.repeats)
    batches = pack(rows, row_length=args.pack_length, rows_per_microbatch=args.micro_batch)
    slots = sum(batch.tokens.size for batch in batches)
    filled = sum(int((batch.segments > 0).sum()) for batch in batches)
    unshared = sum(len(row.prefix) + len(row.tail) + len(row.response) for row in rows)
    return {
        "tokens_per_second": filled / took,
        "sequence_tokens_per_second": unshared / took,
        "seconds": took,
        "compiles": jitted_accumulate()._cache_size(),
        "peak_memory_bytes": peak_memory(),
        "padding": 1 - filled / slots,
        "sharing": unshared / filled,
        "temporary_bytes": temporary_bytes(policy, loss, params, batches[0], rows),
    } | beside_the_machine([train_work(config, batches)], took, args)


def loss_of(chunk: int) -> LossConfig:
    """That of a run at the defaults, with the logits of so many tokens at once."""
    return LossConfig(logits_chunk=chunk)


def training_rows(config: ModelConfig, args) -> list[TrainSequence]:
    """Groups of responses to shared prompts; ragged ones are a quarter of the longest on
    average.
    """
    rng = np.random.default_rng(0)
    rows = []
    for group in range(args.prompts):
        prefix = rng.integers(0, config.vocab_size, args.prompt_length).astype(np.int32)
        for _ in range(args.samples):
            length = args.response_length
            if args.stop == "ragged":
                length = int(min(1 + rng.exponential(length / 4), length))
            response = rng.integers(0, config.vocab_size, length).astype(np.int32)
            old = np.zeros(length, np.float32)
            rows.append(
                TrainSequence(
                    group, prefix, np.zeros(0, np.int32), response, float(rng.normal()), old
                )
            )
    return rows


def temporary_bytes(policy, loss, params, batch, rows) -> int:
    """What the compiled gradient needs beside its arguments and results."""
    grads = jax.eval_shape(functools.partial(jax.tree.map, jnp.zeros_like), params)
    program = (
        jitted_accumulate()
        .lower(policy, loss, params, batch, totals_of(rows), np.float32(1), grads)
        .compile()
    )
    return int(program.memory_analysis().temp_size_in_bytes)
