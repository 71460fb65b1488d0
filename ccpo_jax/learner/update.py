"""The update: packed sequences become gradients, optimizer steps and new parameters."""

import dataclasses
import functools
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.devices.sharding import fetch, num_shards, put
from ccpo_jax.devices.xla_options import compiler_options
from ccpo_jax.errors import InputError
from ccpo_jax.extras import train_extra
from ccpo_jax.integers import next_power_of_two
from ccpo_jax.learner.logprobs import packed_logprobs, response_logprobs
from ccpo_jax.learner.optimizer import Optimizer, changing_rate
from ccpo_jax.learner.packing import PackedBatch, TrainSequence, pack
from ccpo_jax.learner.reference import Reference, score_reference
from ccpo_jax.rl.kl import kl_loss
from ccpo_jax.rl.losses import LOSSES, batch_totals
from ccpo_jax.rl.supervised import supervised_loss
from ccpo_jax.rl.types import Array, BatchTotals, Policy

with train_extra():
    import optax

# Losses in which a sequence of advantage 0 has no gradient, so that it can be left out. Those that
# subtract the batch's mean are not among them.
_SILENT_AT_ZERO_ADVANTAGE = ("grpo", "gspo", "cispo", "gmpo", "sapo")

# Metrics that compare sampler and trainer, which later passes would not: their policy has moved.
SAMPLER_GAPS = ("logprob_gap", "logprob_gap_max")

# The loss of a warm start; no run by reinforcement can choose it.
SUPERVISED = "supervised"


class TrainState(NamedTuple):
    """Everything that a step changes; what a checkpoint holds."""

    step: Array  # [] int32, steps completed
    params: tuple  # P parameter pytrees, float32; with LoRA, those of adapters alone
    opt_state: tuple  # P optimizer states
    credit_state: Any  # carried statistics of the credit estimator
    key: Array  # typed PRNG key of the run; step k uses fold_in(key, k)
    # [] int32, batches of prompts drawn so far; () where every step draws one.
    drawn: Any = ()
    # Carried statistics of the baseline; () where nothing is carried.
    advantage_state: Any = ()
    # [P, 2] uint32, the digests of the networks that adapters were trained on; () without adapters.
    base: Any = ()


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """What an update minimises. Static, and compared by value: equal settings share compiled
    programs.

    Example:
      >>> LossConfig("gspo", (("clip_low", 1e-3),)).function.keywords
      {'clip_low': 0.001}
    """

    name: str = "grpo"  # a key of LOSSES, or SUPERVISED
    hyper: tuple[tuple[str, Any], ...] = ()  # (name, value) of that loss's hyper-parameters
    on_policy: bool = True  # one update per rollout: old log-probs are stop_gradient(new)
    entropy_bonus: float = 0.0  # weight of the mean token entropy
    kl_weight: float = 0.0  # weight of the divergence from a reference
    kl_estimator: str = "k3"  # one of KL_ESTIMATORS
    logits_chunk: int = 2048  # response tokens whose logits exist at once

    @property
    def function(self) -> functools.partial:
        """The loss with its hyper-parameters bound."""
        loss = supervised_loss if self.name == SUPERVISED else LOSSES[self.name]
        return functools.partial(loss, **dict(self.hyper))

    @property
    def zero_advantage_is_silent(self) -> bool:
        """True: a sequence whose advantage is 0 has no gradient and may be left out."""
        has_other_terms = bool(self.entropy_bonus or self.kl_weight)
        return self.name in _SILENT_AT_ZERO_ADVANTAGE and not has_other_terms


@dataclasses.dataclass(frozen=True)
class PackingConfig:
    """How a batch of sequences is cut for the device."""

    row_length: int  # tokens of a packed row
    rows_per_microbatch: int  # most packed rows per gradient computation
    sharding: jax.sharding.Sharding | None = None  # placement of the packed rows


@dataclasses.dataclass(frozen=True)
class UpdateConfig:
    """Everything about an update but the network and the data."""

    loss: LossConfig
    optimizer: Optimizer
    packing: PackingConfig
    temperature: float = 1.0  # the sampler's
    mini_batches: int = 1  # parts of a batch of rollouts, an optimizer step each
    epochs: int = 1  # passes over a batch of rollouts
    # True: take the old log-probs from this network before its first step instead of from the
    # sampler. In bfloat16 the two differ by rounding, and with top-p, top-k or min-p by the tokens
    # left out, which a clip would take for a change of policy.
    rescore: bool = False
    # Leave out sequences that have no gradient; they still count in every mean.
    skip_silent: bool = True

    @property
    def steps_per_batch(self) -> int:
        """Optimizer steps per batch of rollouts."""
        return self.mini_batches * self.epochs


def accumulate(
    policy: Policy,
    loss: LossConfig,
    params: Any,
    batch: PackedBatch,
    totals: BatchTotals,
    temperature: Array,
    total: Any,
    frozen: Any = None,
) -> tuple[Any, dict[str, Array]]:
    """Adds one micro-batch's gradient to `total`; returns it with the micro-batch's share of each
    metric.

    `totals` are those of the whole mini-batch, so that gradients, losses and metrics of
    micro-batches add up to its. `frozen` as in `update_params`; nothing is differentiated with
    respect to it.
    """
    sampled = batch.old_logprobs.reshape(-1, batch.old_logprobs.shape[2])
    mask = jnp.arange(sampled.shape[1]) < batch.length.reshape(-1, 1)

    def objective(params):
        logprobs, entropy = response_logprobs(
            policy,
            whole_params(policy, frozen, params),
            batch,
            temperature,
            logits_chunk=loss.logits_chunk,
            entropy_gradient=bool(loss.entropy_bonus),
        )
        logprobs = jnp.where(mask, logprobs, 0.0)
        old = jax.lax.stop_gradient(logprobs) if loss.on_policy else sampled
        value, metrics = loss.function(
            logprobs,
            old,
            batch.advantage.reshape(-1, *batch.advantage.shape[2:]),
            mask,
            totals=totals,
        )
        entropy = jnp.sum(jnp.where(mask, entropy, 0.0)) / totals.tokens
        gap = jnp.where(mask, jnp.abs(logprobs - sampled), 0.0)
        metrics |= {
            "entropy": entropy,
            "logprob_gap": jnp.sum(gap) / totals.tokens,
            "logprob_gap_max": jnp.max(gap),
        }
        value = value - loss.entropy_bonus * entropy
        if loss.kl_weight:
            # Any: without a reference there are no log-probs of one, but then there is no weight.
            reference: Any = batch.reference_logprobs
            divergence, kl_metrics = kl_loss(
                logprobs,
                old,
                reference.reshape(sampled.shape),
                mask,
                estimator=loss.kl_estimator,
                totals=totals,
            )
            value = value + loss.kl_weight * divergence
            metrics |= kl_metrics
        return value, metrics | {"loss": value, "tokens": jnp.sum(mask)}

    grads, metrics = jax.grad(objective, has_aux=True)(params)
    return jax.tree.map(jnp.add, total, grads), metrics


def whole_params(policy: Policy, frozen: Any, trained: Any) -> Any:
    """What a network computes with: its own parameters with adapters beside them, or the trained
    ones where nothing is frozen.
    """
    if frozen is None:
        return trained
    assert policy.adapters is not None, "only adapters leave parameters frozen"
    return policy.adapters.join(frozen, trained)


@functools.cache
def jitted_accumulate() -> Any:
    """`accumulate`, jitted. Made at the first call: the compiler's options depend on the backend
    that is known then.
    """
    return jax.jit(
        accumulate,
        static_argnames=("policy", "loss"),
        donate_argnames=("total",),
        compiler_options=compiler_options("training"),
    )


@functools.partial(jax.jit, static_argnames=("optimizer",), donate_argnames=("params", "opt_state"))
def apply_gradients(
    optimizer: Optimizer, params: Any, opt_state: Any, grads: Any, loss: Array
) -> tuple[Any, Any, Array]:
    """One optimizer step, which changes nothing where the gradient or the loss is not finite.

    Returns (params, opt_state, gradient norm before clipping).
    """
    norm = optax.tree.norm(grads)
    updates, new_state = optimizer.update(grads, opt_state, params)
    finite = jnp.isfinite(norm) & jnp.isfinite(loss)
    params, opt_state = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old),
        (optax.apply_updates(params, updates), new_state),
        (params, opt_state),
    )
    return params, opt_state, norm


def update_params(
    policy: Policy,
    params: Any,
    opt_state: Any,
    mini_batches: Sequence[Sequence[TrainSequence]],
    config: UpdateConfig,
    *,
    pad_id: int = 0,
    reference: Reference | None = None,
    frozen: Any = None,
) -> tuple[Any, Any, dict[str, float]]:
    """One optimizer step on each mini-batch, in the same order in each of `config.epochs` passes;
    one whose loss or gradient is not finite changes nothing.

    The old log-probs are those of before the first step, in all passes.

    Args:
      policy: the network's functions.
      params: one parameter set, or its adapters; donated.
      opt_state: its optimizer state; donated.
      mini_batches: the sequences of one batch of rollouts.
      config: loss, optimizer and packing.
      pad_id: any token of the network.
      reference: the policy that the KL term of the loss compares with, where it has one.
      frozen: the network's own parameters where adapters are trained; None = `params` are all.

    Returns:
      ``(params, opt_state, metrics)``, metrics averaged over the tokens trained on, each of them
      counted in every pass; the gap to the sampler is that of the first pass.

    Raises:
      InputError: the loss has a KL term, and there is no reference.
    """
    packed = [pack_trained(sequences, config, pad_id=pad_id) for sequences in mini_batches]
    gap = {}
    if config.rescore:
        packed, gap = rescore(policy, whole_params(policy, frozen, params), packed, config)
    packed = with_reference(reference, packed, config)

    totals = mini_batch_totals(mini_batches)
    passes = []
    norms = []
    for _ in range(config.epochs):
        passes.append([])
        for batches, total in zip(packed, totals, strict=True):
            grads, loss, metrics = gradient(policy, params, batches, total, config, frozen)
            params, opt_state, norm = apply_gradients(
                config.optimizer, params, opt_state, grads, loss
            )
            passes[-1] += [(total, part) for part in metrics]
            norms.append(norm)

    passes, norms = jax.device_get((passes, norms))
    metrics = _summary(list(chain.from_iterable(passes)), steps=len(norms))
    if config.epochs > 1:
        first = _summary(passes[0], steps=len(mini_batches))
        metrics |= {name: first[name] for name in SAMPLER_GAPS if name in first}
    metrics |= gap | {"grad_norm": float(np.mean(norms))}
    return params, opt_state, metrics | changing_rate(config.optimizer, opt_state)


def trained_sequences(
    sequences: Sequence[TrainSequence], config: UpdateConfig
) -> Sequence[TrainSequence]:
    """Those that have a gradient."""
    if config.skip_silent and config.loss.zero_advantage_is_silent:
        return [sequence for sequence in sequences if np.any(sequence.advantage)]
    return sequences


def pack_trained(
    sequences: Sequence[TrainSequence], config: UpdateConfig, *, pad_id: int = 0
) -> list[PackedBatch]:
    """Micro-batches of the sequences that have a gradient."""
    return pack(
        trained_sequences(sequences, config),
        row_length=config.packing.row_length,
        rows_per_microbatch=config.packing.rows_per_microbatch,
        multiple=num_shards(config.packing.sharding),
        pad_id=pad_id,
    )


def rescore(
    policy: Policy, params: Any, packed: Sequence[Sequence[PackedBatch]], config: UpdateConfig
) -> tuple[list[list[PackedBatch]], dict[str, float]]:
    """The batches with this network's log-probs as the old ones.

    Returns:
      ``(batches, metrics)``; the metrics say how far the new old log-probs are from the sampler's.
    """
    temperature = np.float32(config.temperature)
    rescored = []
    gaps = []
    for batches in packed:
        rescored.append([])
        for batch in batches:
            placed = put(batch, config.packing.sharding)
            new = fetch(
                packed_logprobs(
                    policy, params, placed, temperature, logits_chunk=config.loss.logits_chunk
                )
            )
            mask = np.arange(new.shape[-1]) < batch.length[..., None]
            gaps.append(np.abs(new - batch.old_logprobs)[mask])
            rescored[-1].append(batch._replace(old_logprobs=np.where(mask, new, 0)))
    gap = np.concatenate(gaps or [np.zeros(1)])
    return rescored, {"logprob_gap": float(gap.mean()), "logprob_gap_max": float(gap.max())}


def with_reference(
    reference: Reference | None, packed: Sequence[Sequence[PackedBatch]], config: UpdateConfig
) -> Sequence[Sequence[PackedBatch]]:
    """The batches with the log-probs of the reference, where the loss has a KL term."""
    if not config.loss.kl_weight:
        return packed
    if reference is None:
        raise InputError(
            "loss.kl_weight",
            f"is {config.loss.kl_weight:g}, but there is no reference; give one, or use 0",
        )
    return score_reference(
        reference,
        packed,
        temperature=config.temperature,
        logits_chunk=config.loss.logits_chunk,
        sharding=config.packing.sharding,
    )


def gradient(
    policy: Policy,
    params: Any,
    batches: Sequence[PackedBatch],
    totals: BatchTotals,
    config: UpdateConfig,
    frozen: Any = None,
) -> tuple[Any, Array | np.float32, list[dict[str, Array]]]:
    """The gradient of one mini-batch: ``(gradient, loss, metrics of each micro-batch)``, on the
    device.
    """
    temperature = np.float32(config.temperature)
    grads = _zeros_like_placed(params)
    loss = np.float32(0)
    parts = []
    for batch in put(batches, config.packing.sharding):
        grads, metrics = jitted_accumulate()(
            policy, config.loss, params, batch, totals, temperature, grads, frozen
        )
        parts.append(metrics)
        loss += metrics["loss"]
    return grads, loss, parts


def mini_batch_totals(mini_batches: Sequence[Sequence[TrainSequence]]) -> list[BatchTotals]:
    """Denominators of each mini-batch. The statistics of the advantage are those of the whole batch
    of rollouts.
    """
    whole = totals_of([sequence for sequences in mini_batches for sequence in sequences])
    statistics = {"advantage_mean": whole.advantage_mean, "advantage_std": whole.advantage_std}
    return [totals_of(sequences)._replace(**statistics) for sequences in mini_batches]


def totals_of(sequences: Sequence[TrainSequence]) -> BatchTotals:
    """Denominators of a mini-batch, on the host; sequences that are left out as silent count as
    well.
    """
    lengths = np.array([len(sequence.response) for sequence in sequences])
    advantage = np.array([np.mean(sequence.advantage) for sequence in sequences], np.float32)
    # Powers of two: few compiled shapes.
    count = next_power_of_two(len(sequences))
    longest = next_power_of_two(lengths.max())
    padding = (0, count - len(sequences))
    mask = np.arange(longest) < np.pad(lengths, padding)[:, None]
    return jax.device_get(_batch_totals(np.pad(advantage, padding), mask))


_batch_totals = jax.jit(batch_totals)


def _zeros_like_placed(tree: Any) -> Any:
    """Zeros placed as the arrays of `tree`, by one program."""
    placement = jax.tree.map(lambda x: x.sharding if x.committed else None, tree)
    return jax.jit(_zeros_like, out_shardings=placement)(tree)


def _zeros_like(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)


def _summary(
    parts: Sequence[tuple[BatchTotals, dict[str, Array]]], *, steps: int
) -> dict[str, float]:
    """Adds up micro-batches; means are over the tokens trained on, not over those left out."""
    if not parts:
        return {"trained_tokens": 0.0}
    weights = np.array([totals.tokens for totals, _ in parts], np.float64)
    columns = {}
    for name in parts[0][1]:
        columns[name] = np.array([metrics[name] for _, metrics in parts], np.float64)

    trained = columns.pop("tokens").sum()
    loss = columns.pop("loss").sum() / steps
    summary = {"trained_tokens": float(trained), "loss": float(loss)}
    for name, values in columns.items():
        value = values.max() if name.endswith("max") else (values * weights).sum() / trained
        summary[name] = float(value)
    return summary
