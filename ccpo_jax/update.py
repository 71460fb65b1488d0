"""The trainer: rollouts and advantages become batches, gradients and a new train state."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ccpo_jax.losses import batch_totals
from ccpo_jax.packing import Packed, Row, pack
from ccpo_jax.records import Array, BatchTotals, Policy


class TrainState(NamedTuple):
    """Everything that a step changes; what a checkpoint holds."""

    step: Array  # [] int32, steps completed
    params: tuple  # P parameter pytrees, float32
    opt_state: tuple  # P optimizer states
    credit_state: Any  # carried statistics of the credit estimator
    key: Array  # typed PRNG key of the run; step k uses fold_in(key, k)


class Loss(NamedTuple):
    """What the gradient function needs to know, static."""

    function: Callable  # an entry of LOSSES with its hyper-parameters bound
    on_policy: bool  # True: one update per rollout, so old log-probs are stop_gradient(new)
    zero_is_silent: bool  # True: a sequence whose advantage is 0 has no gradient and may be left out
    entropy_bonus: float
    chunk: int  # response tokens whose logits exist at once


def optimizer(
    *,
    learning_rate: float,
    warmup_steps: int = 0,
    b1: float = 0.9,
    b2: float = 0.999,
    weight_decay: float = 0.01,
    grad_clip: float = 1.0,
) -> optax.GradientTransformation:
    """AdamW behind a global-norm clip, with a linear warm-up to a constant rate."""
    schedule = optax.linear_schedule(0.0, learning_rate, warmup_steps) if warmup_steps else learning_rate
    return optax.chain(
        optax.clip_by_global_norm(grad_clip), optax.adamw(schedule, b1=b1, b2=b2, weight_decay=weight_decay)
    )


def response_logprobs(policy: Policy, params, batch: Packed, temperature: Array, *, chunk: int) -> tuple[Array, Array]:
    """Log-probability and entropy of every response token, without ever holding ``[N, T, V]`` logits.

    Args:
      policy: the network's functions.
      params: master parameters.
      batch: a micro-batch with M packed rows.
      temperature: ``[]``, the sampling temperature; 0 counts as 1.
      chunk: tokens whose logits exist at once; chunks without a response token are skipped.

    Returns:
      ``(logprobs, entropy)``, both ``[M * R, T]`` float32; positions past a response hold no meaning.
    """
    packs, slots = batch.source.shape
    hidden = policy.hidden(params, batch.tokens, batch.positions, batch.segments, batch.parents)
    hidden = jnp.take_along_axis(hidden, batch.source[..., None], axis=1)
    scale = 1.0 / jnp.where(temperature > 0, temperature, 1.0)

    @jax.checkpoint
    def score(states, chosen):
        logits = policy.logits(params, states) * scale
        norm = jax.nn.logsumexp(logits, axis=-1)
        picked = jnp.take_along_axis(logits, chosen[..., None], axis=-1)[..., 0] - norm
        return picked, norm - jnp.sum(jnp.exp(logits - norm[..., None]) * logits, axis=-1)

    def unless_empty(piece):
        start, states, chosen = piece
        nothing = jnp.zeros(chosen.shape, jnp.float32)
        return jax.lax.cond(start < jnp.max(batch.used), score, lambda *_: (nothing, nothing), states, chosen)

    size = min(max(chunk // packs, 1), slots)
    pieces = -(-slots // size)

    def cut(x: Array) -> Array:
        x = jnp.pad(x, ((0, 0), (0, pieces * size - slots)) + ((0, 0),) * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(packs, pieces, size, *x.shape[2:]), 1, 0)

    scored = jax.lax.map(unless_empty, (jnp.arange(pieces) * size, cut(hidden), cut(batch.target)))
    responses, width = batch.old_logprobs.shape[1:]
    place = jnp.minimum(batch.first[..., None] + jnp.arange(width), slots - 1).reshape(packs, -1)

    def by_response(x: Array) -> Array:
        flat = jnp.moveaxis(x, 0, 1).reshape(packs, -1)
        return jnp.take_along_axis(flat, place, axis=1).reshape(packs * responses, width)

    return tuple(map(by_response, scored))


@functools.partial(jax.jit, static_argnames=("policy", "loss"), donate_argnames=("total",))
def accumulate(policy: Policy, loss: Loss, params, batch: Packed, totals: BatchTotals, temperature, total):
    """Adds one micro-batch's gradient to `total`; returns it with the micro-batch's share of each metric.

    `totals` are the whole mini-batch's, so that gradients, losses and metrics of micro-batches add up to its own.
    """
    sampled = batch.old_logprobs.reshape(-1, batch.old_logprobs.shape[2])
    mask = jnp.arange(sampled.shape[1]) < batch.length.reshape(-1, 1)

    def objective(params):
        logprobs, entropy = response_logprobs(policy, params, batch, temperature, chunk=loss.chunk)
        logprobs = jnp.where(mask, logprobs, 0.0)
        old = jax.lax.stop_gradient(logprobs) if loss.on_policy else sampled
        value, metrics = loss.function(logprobs, old, batch.advantage.reshape(-1), mask, totals=totals)
        entropy = jnp.sum(jnp.where(mask, entropy, 0.0)) / totals.tokens
        gap = jnp.where(mask, jnp.abs(logprobs - sampled), 0.0)
        metrics |= {"entropy": entropy, "logprob_gap": jnp.sum(gap) / totals.tokens, "logprob_gap_max": jnp.max(gap)}
        value = value - loss.entropy_bonus * entropy
        return value, metrics | {"loss": value, "tokens": jnp.sum(mask)}

    grads, metrics = jax.grad(objective, has_aux=True)(params)
    return jax.tree.map(jnp.add, total, grads), metrics


@functools.partial(jax.jit, static_argnames=("transform",), donate_argnames=("params", "opt_state"))
def apply(transform: optax.GradientTransformation, params, opt_state, grads):
    """One optimizer step. Returns (params, opt_state, gradient norm before clipping)."""
    norm = optax.tree.norm(grads)
    updates, opt_state = transform.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, norm


def train_on(
    policy: Policy,
    loss: Loss,
    transform: optax.GradientTransformation,
    params,
    opt_state,
    rows: Sequence[Row],
    *,
    micro_batch: int,
    pack_length: int,
    skip_silent: bool,
    temperature: float,
    pad_id: int,
    sharding: jax.sharding.Sharding | None = None,
) -> tuple[Any, Any, dict[str, Array]]:
    """One optimizer step on one mini-batch of rows.

    Args:
      policy: the network's functions.
      loss: what to minimise.
      transform: the optimizer.
      params: one parameter set; donated.
      opt_state: its optimizer state; donated.
      rows: the mini-batch.
      micro_batch: most packed rows per gradient computation.
      pack_length: tokens of a packed row.
      skip_silent: leave out rows whose advantage is 0 (they still count in every mean).
      temperature: the sampler's temperature.
      pad_id: any token.
      sharding: placement of the packed rows.

    Returns:
      ``(params, opt_state, metrics)``, metrics averaged over the tokens trained on.
    """
    totals = totals_of(rows)
    silent = skip_silent and loss.zero_is_silent
    kept = [row for row in rows if row.advantage] if silent else rows
    grads = jax.tree.map(jnp.zeros_like, params)
    shares = []
    for batch in pack(kept, length=pack_length, size=micro_batch, multiple=_parts(sharding), pad_id=pad_id):
        batch = jax.device_put(batch, sharding)
        grads, metrics = accumulate(policy, loss, params, batch, totals, np.float32(temperature), grads)
        shares.append(metrics)
    params, opt_state, norm = apply(transform, params, opt_state, grads)
    return params, opt_state, _summary(jax.device_get(shares), totals) | {"grad_norm": float(norm)}


def _parts(sharding: jax.sharding.Sharding | None) -> int:
    """Over how many devices a leading axis is split."""
    return 1 if sharding is None else sharding.num_devices // sharding.shard_shape((sharding.num_devices,))[0]


def totals_of(rows: Sequence[Row]) -> BatchTotals:
    """Denominators of a mini-batch; rows that are left out as silent count in them all the same."""
    lengths = np.array([len(row.response) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    return jax.device_get(batch_totals(np.array([row.advantage for row in rows], np.float32), mask))


def _summary(shares: list[dict], totals: BatchTotals) -> dict[str, float]:
    """Adds up micro-batches; means are over the tokens trained on, not over those left out."""
    if not shares:
        return {"trained_tokens": 0.0}
    columns = {name: np.array([share[name] for share in shares], np.float64) for name in shares[0]}
    trained = columns.pop("tokens").sum()
    found = {"trained_tokens": float(trained), "loss": float(columns.pop("loss").sum())}
    for name, values in columns.items():
        largest = name.endswith("max")
        found[name] = float(values.max() if largest else values.sum() * totals.tokens / trained)
    return found
