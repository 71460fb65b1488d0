"""The trainer: rollouts and advantages become batches, gradients and a new train state."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ccpo_jax.losses import batch_totals
from ccpo_jax.records import Array, BatchTotals, Policy
from ccpo_jax.rollout import Rollout, bucket


class TrainState(NamedTuple):
    """Everything that a step changes; what a checkpoint holds."""

    step: Array  # [] int32, steps completed
    params: tuple  # P parameter pytrees, float32
    opt_state: tuple  # P optimizer states
    credit_state: Any  # carried statistics of the credit estimator
    key: Array  # typed PRNG key of the run; step k uses fold_in(key, k)


class Batch(NamedTuple):
    """One micro-batch of training sequences, padded on the right."""

    tokens: Array  # [N, S] int32, prompt then response
    prompt_length: Array  # [N] int32
    length: Array  # [N] int32, prompt and response
    advantage: Array  # [N] float32
    old_logprobs: Array  # [N, T] float32, the sampler's own


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


def response_logprobs(
    policy: Policy, params, batch: Batch, temperature: Array, *, width: int, chunk: int
) -> tuple[Array, Array]:
    """Log-probability and entropy of every response token, without ever holding ``[N, T, V]`` logits.

    Args:
      policy: the network's functions.
      params: master parameters.
      batch: sequences.
      temperature: ``[]``, the sampling temperature; 0 counts as 1.
      width: T, response positions to look at.
      chunk: tokens whose logits exist at once.

    Returns:
      ``(logprobs, entropy)``, both ``[N, T]`` float32; positions past a response hold no meaning.
    """
    rows, length = batch.tokens.shape
    index = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (rows, length))
    segments = (index < batch.length[:, None]).astype(jnp.int32)
    hidden = policy.hidden(params, batch.tokens, index, segments)
    source = jnp.clip(batch.prompt_length[:, None] - 1 + jnp.arange(width), 0, length - 2)
    hidden = jnp.take_along_axis(hidden, source[..., None], axis=1).reshape(rows * width, -1)
    target = jnp.take_along_axis(batch.tokens, source + 1, axis=1).reshape(rows * width)
    scale = 1.0 / jnp.where(temperature > 0, temperature, 1.0)

    @jax.checkpoint
    def score(inputs):
        states, chosen = inputs
        logits = policy.logits(params, states) * scale
        norm = jax.nn.logsumexp(logits, axis=-1)
        picked = jnp.take_along_axis(logits, chosen[..., None], axis=-1)[..., 0] - norm
        return picked, norm - jnp.sum(jnp.exp(logits - norm[..., None]) * logits, axis=-1)

    total = rows * width
    size = min(chunk, total)
    pieces = -(-total // size)
    pad = pieces * size - total
    stacked = (
        jnp.pad(hidden, ((0, pad), (0, 0))).reshape(pieces, size, -1),
        jnp.pad(target, (0, pad)).reshape(pieces, size),
    )
    logprobs, entropy = jax.lax.map(score, stacked)
    return logprobs.reshape(-1)[:total].reshape(rows, width), entropy.reshape(-1)[:total].reshape(rows, width)


@functools.partial(jax.jit, static_argnames=("policy", "loss"), donate_argnames=("total",))
def accumulate(policy: Policy, loss: Loss, params, batch: Batch, totals: BatchTotals, temperature, total):
    """Adds one micro-batch's gradient to `total`; returns it with the micro-batch's share of each metric.

    `totals` are the whole mini-batch's, so that gradients, losses and metrics of micro-batches add up to its own.
    """
    width = batch.old_logprobs.shape[1]
    mask = jnp.arange(width) < (batch.length - batch.prompt_length)[:, None]

    def objective(params):
        logprobs, entropy = response_logprobs(policy, params, batch, temperature, width=width, chunk=loss.chunk)
        logprobs = jnp.where(mask, logprobs, 0.0)
        old = jax.lax.stop_gradient(logprobs) if loss.on_policy else batch.old_logprobs
        value, metrics = loss.function(logprobs, old, batch.advantage, mask, totals=totals)
        entropy = jnp.sum(jnp.where(mask, entropy, 0.0)) / totals.tokens
        gap = jnp.where(mask, jnp.abs(logprobs - batch.old_logprobs), 0.0)
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


class Rows(NamedTuple):
    """Training sequences of one parameter set on the host, ragged."""

    tokens: list[np.ndarray]  # N x [prompt + response]
    prompt_length: np.ndarray  # [N] int32
    advantage: np.ndarray  # [N] float32
    old_logprobs: list[np.ndarray]  # N x [response]

    def take(self, index) -> "Rows":
        """A subset, in the order of `index`."""
        return Rows(
            [self.tokens[i] for i in index],
            self.prompt_length[index],
            self.advantage[index],
            [self.old_logprobs[i] for i in index],
        )


def gather_rows(spoken: Rollout, advantage: np.ndarray, agents: Sequence[int], prompts: range) -> Rows:
    """The factual responses of `agents` to some of the prompts, exactly as sampled.

    Args:
      spoken: a rollout.
      advantage: ``[A, B, G]`` float32.
      agents: whose responses.
      prompts: which prompts of the batch.
    """
    tokens, prompt_length, advantages, old = [], [], [], []
    for agent in agents:
        turn = spoken.turns[agent]
        p, s = turn.prompts, turn.samples
        width = p.tail.shape[2]
        for b in prompts:
            head = p.prefix[b, : p.prefix_length[b]]
            for g in range(turn.counts[0]):
                tail = p.tail[b, g, width - p.tail_length[b, g] :]
                response = s.tokens[b, g, : s.length[b, g]]
                tokens.append(np.concatenate([head, tail, response]))
                prompt_length.append(len(head) + len(tail))
                advantages.append(advantage[agent, b, g])
                old.append(s.logprobs[b, g, : s.length[b, g]])
    return Rows(tokens, np.array(prompt_length, np.int32), np.array(advantages, np.float32), old)


def micro_batches(rows: Rows, size: int, *, pad_id: int) -> list[Batch]:
    """Cuts rows into batches of `size` sequences of similar length; the last is filled with empty sequences.

    Widths are rounded up by `bucket`, so that steps reuse a few compiled shapes.
    """
    lengths = np.array([len(t) for t in rows.tokens], np.int32)
    order = np.argsort(lengths, kind="stable")
    batches = []
    for first in range(0, len(order), size):
        part = rows.take(order[first : first + size])
        width = bucket(max(len(o) for o in part.old_logprobs), 1 << 30)
        prompt = bucket(int(part.prompt_length.max()), 1 << 30)
        tokens = np.full((size, prompt + width), pad_id, np.int32)
        old = np.zeros((size, width), np.float32)
        for i, (sequence, logprobs) in enumerate(zip(part.tokens, part.old_logprobs, strict=True)):
            tokens[i, : len(sequence)] = sequence
            old[i, : len(logprobs)] = logprobs
        empty = size - len(part.tokens)
        batches.append(
            Batch(
                tokens,
                np.pad(part.prompt_length, (0, empty), constant_values=1),
                np.pad([len(t) for t in part.tokens], (0, empty), constant_values=1).astype(np.int32),
                np.pad(part.advantage, (0, empty)),
                old,
            )
        )
    return batches


def train_on(
    policy: Policy,
    loss: Loss,
    transform: optax.GradientTransformation,
    params,
    opt_state,
    rows: Rows,
    *,
    micro_batch: int,
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
      micro_batch: sequences per gradient computation.
      skip_silent: leave out rows whose advantage is 0 (they still count in every mean).
      temperature: the sampler's temperature.
      pad_id: any token.
      sharding: placement of the sequence axis.

    Returns:
      ``(params, opt_state, metrics)``, metrics averaged over the tokens trained on.
    """
    totals = totals_of(rows)
    silent = skip_silent and loss.zero_is_silent
    kept = rows.take(np.flatnonzero(rows.advantage)) if silent else rows
    grads = jax.tree.map(jnp.zeros_like, params)
    shares = []
    for batch in micro_batches(kept, micro_batch, pad_id=pad_id):
        batch = jax.device_put(batch, sharding)
        grads, metrics = accumulate(policy, loss, params, batch, totals, np.float32(temperature), grads)
        shares.append(metrics)
    params, opt_state, norm = apply(transform, params, opt_state, grads)
    return params, opt_state, _summary(jax.device_get(shares), totals) | {"grad_norm": float(norm)}


def totals_of(rows: Rows) -> BatchTotals:
    """Denominators of a mini-batch; rows that are left out as silent count in them all the same."""
    width = max(len(o) for o in rows.old_logprobs)
    mask = np.arange(width) < np.array([len(o) for o in rows.old_logprobs])[:, None]
    return jax.device_get(batch_totals(rows.advantage, mask))


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
