"""The trainer: rollouts and advantages become batches, gradients and a new train state."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ccpo_jax.devices.sharding import fetch, num_shards, put
from ccpo_jax.devices.xla_options import options
from ccpo_jax.integers import next_power_of_two
from ccpo_jax.learner.logprobs import scores
from ccpo_jax.learner.packing import PackedBatch, TrainSequence, pack
from ccpo_jax.rl.losses import batch_totals
from ccpo_jax.rl.types import Array, BatchTotals, Policy


class TrainState(NamedTuple):
    """Everything that a step changes; what a checkpoint holds."""

    step: Array  # [] int32, steps completed
    params: tuple  # P parameter pytrees, float32
    opt_state: tuple  # P optimizer states
    credit_state: Any  # carried statistics of the credit estimator
    key: Array  # typed PRNG key of the run; step k uses fold_in(key, k)


class LossConfig(NamedTuple):
    """What the gradient function needs to know, static."""

    function: Callable  # an entry of LOSSES with its hyper-parameters bound
    on_policy: bool  # True: one update per rollout, so old log-probs are stop_gradient(new)
    zero_is_silent: (
        bool  # True: a sequence whose advantage is 0 has no gradient and may be left out
    )
    entropy_bonus: float
    chunk: int  # response tokens whose logits exist at once


@functools.cache
def optimizer(
    *,
    learning_rate: float,
    warmup_steps: int = 0,
    b1: float = 0.9,
    b2: float = 0.999,
    weight_decay: float = 0.01,
    grad_clip: float = 1.0,
) -> optax.GradientTransformation:
    """AdamW behind a global-norm clip; step k of the linear warm-up has (k + 1) / (warmup_steps + 1) of the rate.

    Equal arguments give the same object, so that runs in one process share compiled programs.
    """
    first = learning_rate / (warmup_steps + 1)
    schedule = (
        optax.linear_schedule(first, learning_rate, warmup_steps) if warmup_steps else learning_rate
    )
    return optax.chain(
        optax.clip_by_global_norm(grad_clip),
        optax.adamw(schedule, b1=b1, b2=b2, weight_decay=weight_decay),
    )


def response_logprobs(
    policy: Policy,
    params,
    batch: PackedBatch,
    temperature: Array,
    *,
    chunk: int,
    entropy_gradient: bool = True,
) -> tuple[Array, Array]:
    """Log-probability and entropy of every response token, without ever holding ``[N, T, V]`` logits.

    Args:
      policy: the network's functions.
      params: master parameters.
      batch: a micro-batch with M packed rows.
      temperature: ``[]``, the sampling temperature; 0 counts as 1.
      chunk: tokens whose logits exist at once; chunks without a response token are skipped.
      entropy_gradient: False: the entropy is a number alone, and costs nothing in the backward pass.

    Returns:
      ``(logprobs, entropy)``, both ``[M * R, T]`` float32; positions past a response hold no meaning.
    """
    packs, slots = batch.source.shape
    size = min(max(chunk // packs, 1), slots)
    padding = ((0, 0), (0, -slots % size))
    params = policy.gather(params)
    hidden = policy.hidden(params, batch.tokens, batch.positions, batch.segments, batch.parents)
    hidden = jnp.take_along_axis(hidden, jnp.pad(batch.source, padding)[..., None], axis=1)
    scale = 1.0 / jnp.where(temperature > 0, temperature, 1.0)
    head, target, used = policy.head(params), jnp.pad(batch.target, padding), jnp.max(batch.used)
    scored = scores(policy.logits, size, entropy_gradient, head, hidden, target, used, scale)
    responses, width = batch.old_logprobs.shape[1:]
    place = jnp.minimum(batch.first[..., None] + jnp.arange(width), slots - 1).reshape(packs, -1)
    return tuple(
        jnp.take_along_axis(x, place, axis=1).reshape(packs * responses, width) for x in scored
    )


def accumulate(
    policy: Policy,
    loss: LossConfig,
    params,
    batch: PackedBatch,
    totals: BatchTotals,
    temperature,
    total,
):
    """Adds one micro-batch's gradient to `total`; returns it with the micro-batch's share of each metric.

    `totals` are the whole mini-batch's, so that gradients, losses and metrics of micro-batches add up to its own.
    """
    sampled = batch.old_logprobs.reshape(-1, batch.old_logprobs.shape[2])
    mask = jnp.arange(sampled.shape[1]) < batch.length.reshape(-1, 1)

    def objective(params):
        logprobs, entropy = response_logprobs(
            policy,
            params,
            batch,
            temperature,
            chunk=loss.chunk,
            entropy_gradient=bool(loss.entropy_bonus),
        )
        logprobs = jnp.where(mask, logprobs, 0.0)
        old = jax.lax.stop_gradient(logprobs) if loss.on_policy else sampled
        value, metrics = loss.function(
            logprobs, old, batch.advantage.reshape(-1), mask, totals=totals
        )
        entropy = jnp.sum(jnp.where(mask, entropy, 0.0)) / totals.tokens
        gap = jnp.where(mask, jnp.abs(logprobs - sampled), 0.0)
        metrics |= {
            "entropy": entropy,
            "logprob_gap": jnp.sum(gap) / totals.tokens,
            "logprob_gap_max": jnp.max(gap),
        }
        value = value - loss.entropy_bonus * entropy
        return value, metrics | {"loss": value, "tokens": jnp.sum(mask)}

    grads, metrics = jax.grad(objective, has_aux=True)(params)
    return jax.tree.map(jnp.add, total, grads), metrics


@functools.cache
def gradient_program() -> Callable:
    """`accumulate`, jitted: made at the first call, when the backend and with it the compiler's options are known."""
    return jax.jit(
        accumulate,
        static_argnames=("policy", "loss"),
        donate_argnames=("total",),
        compiler_options=options("training"),
    )


@functools.partial(jax.jit, static_argnames=("transform",), donate_argnames=("params", "opt_state"))
def apply_gradients(transform: optax.GradientTransformation, params, opt_state, grads, loss):
    """One optimizer step, which changes nothing where the gradient or the loss is not finite.

    Returns (params, opt_state, gradient norm before clipping).
    """
    norm = optax.tree.norm(grads)
    updates, moved = transform.update(grads, opt_state, params)
    fine = jnp.isfinite(norm) & jnp.isfinite(loss)
    kept = jax.tree.map(
        lambda new, old: jnp.where(fine, new, old),
        (optax.apply_updates(params, updates), moved),
        (params, opt_state),
    )
    return *kept, norm


class PackingConfig(NamedTuple):
    """How a batch of rows is cut for the device."""

    pack_length: int  # tokens of a packed row
    rows: int  # most packed rows per gradient computation
    pad_id: int  # any token
    sharding: jax.sharding.Sharding | None = None  # placement of the packed rows


def update_params(
    policy: Policy,
    loss: LossConfig,
    transform: optax.GradientTransformation,
    params,
    opt_state,
    mini_batches: Sequence[Sequence[TrainSequence]],
    *,
    micro: PackingConfig,
    skip_silent: bool,
    temperature: float,
    rescore: bool = False,
) -> tuple[Any, Any, dict[str, float]]:
    """One optimizer step on each mini-batch of rows; one whose loss or gradient is not finite is left out.

    Args:
      policy: the network's functions.
      loss: what to minimise.
      transform: the optimizer.
      params: one parameter set; donated.
      opt_state: its optimizer state; donated.
      mini_batches: the rows of one batch of rollouts.
      micro: how they are cut.
      skip_silent: leave out rows whose advantage is 0 (they still count in every mean).
      temperature: the sampler's temperature.
      rescore: take the old log-probs from this network before its first step instead of from the sampler. In bfloat16
        the two differ by rounding, which a narrow clip would take for a change of policy.

    Returns:
      ``(params, opt_state, metrics)``, metrics averaged over the tokens trained on.
    """
    temperature = np.float32(temperature)
    silent = skip_silent and loss.zero_is_silent
    kept = [[row for row in rows if row.advantage or not silent] for rows in mini_batches]
    cut = functools.partial(
        pack,
        length=micro.pack_length,
        size=micro.rows,
        multiple=num_shards(micro.sharding),
        pad_id=micro.pad_id,
    )
    packed = [cut(rows) for rows in kept]
    gap = {}
    if rescore:
        packed, gap = _rescored(policy, params, packed, temperature, loss.chunk, micro.sharding)
    whole = totals_of([row for rows in mini_batches for row in rows])
    shares, norms = [], []
    for rows, batches in zip(mini_batches, packed, strict=True):
        totals = totals_of(rows)._replace(
            advantage_mean=whole.advantage_mean, advantage_std=whole.advantage_std
        )
        grads, value = _zeros(params), np.float32(0)
        for batch in put(batches, micro.sharding):
            grads, metrics = gradient_program()(
                policy, loss, params, batch, totals, temperature, grads
            )
            shares.append((totals, metrics))
            value += metrics["loss"]
        params, opt_state, norm = apply_gradients(transform, params, opt_state, grads, value)
        norms.append(norm)
    norms = jax.device_get(norms)
    return (
        params,
        opt_state,
        _summary(jax.device_get(shares), len(norms)) | gap | {"grad_norm": float(np.mean(norms))},
    )


@functools.partial(jax.jit, static_argnames=("policy", "chunk"))
def _score(policy: Policy, params, batch: PackedBatch, temperature, *, chunk: int) -> Array:
    logprobs, _ = response_logprobs(policy, params, batch, temperature, chunk=chunk)
    return logprobs.reshape(batch.old_logprobs.shape)


def _rescored(
    policy, params, packed, temperature, chunk, sharding
) -> tuple[list[list[PackedBatch]], dict[str, float]]:
    """The batches with this network's log-probs as the old ones, and how far those are from the sampler's."""
    gaps, fresh = [np.zeros(1)], []
    for batches in packed:
        fresh.append([])
        for batch in batches:
            new = fetch(_score(policy, params, put(batch, sharding), temperature, chunk=chunk))
            mask = np.arange(new.shape[-1]) < batch.length[..., None]
            gaps.append(np.abs(new - batch.old_logprobs)[mask])
            fresh[-1].append(batch._replace(old_logprobs=np.where(mask, new, 0)))
    gaps = np.concatenate(gaps[1:] or gaps)
    return fresh, {"logprob_gap": float(gaps.mean()), "logprob_gap_max": float(gaps.max())}


_totals = jax.jit(batch_totals)


def _zeros(tree):
    """Zeros placed as the arrays of `tree`, by one program."""
    places = jax.tree.map(lambda x: x.sharding if x.committed else None, tree)
    return jax.jit(_zeros_like, out_shardings=places)(tree)


def _zeros_like(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def totals_of(rows: Sequence[TrainSequence]) -> BatchTotals:
    """Denominators of a mini-batch; rows that are left out as silent count in them all the same."""
    lengths = np.array([len(row.response) for row in rows])
    advantage = np.array([row.advantage for row in rows], np.float32)
    count, longest = (next_power_of_two(size) for size in (len(rows), lengths.max()))  # few shapes
    mask = np.arange(longest) < np.pad(lengths, (0, count - len(rows)))[:, None]
    return jax.device_get(_totals(np.pad(advantage, (0, count - len(rows))), mask))


def _summary(shares: list[tuple[BatchTotals, dict]], steps: int) -> dict[str, float]:
    """Adds up micro-batches; means are over the tokens trained on, not over those left out."""
    if not shares:
        return {"trained_tokens": 0.0}
    totals = np.array([share.tokens for share, _ in shares], np.float64)
    columns = {
        name: np.array([found[name] for _, found in shares], np.float64) for name in shares[0][1]
    }
    trained = columns.pop("tokens").sum()
    found = {"trained_tokens": float(trained), "loss": float(columns.pop("loss").sum() / steps)}
    for name, values in columns.items():
        found[name] = float(
            values.max() if name.endswith("max") else (values * totals).sum() / trained
        )
    return found
