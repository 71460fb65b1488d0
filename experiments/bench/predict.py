"""Predicts the GPU benchmarks from the bytes and operations of compiled programs.

The least time of a compiled program is that of its kernels, one after the other, at the device's
own rates (`compiled.py`). A prediction stretches it by as much as such programs took longer when
they were last measured. Nothing else takes time: the host runs ahead, and verification is short.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.integers import ceil_div
from ccpo_jax.learner.optimizer import AdamW
from ccpo_jax.learner.packing import PackedBatch, TrainSequence, gather_sequences, pack
from ccpo_jax.learner.update import accumulate, apply_gradients
from ccpo_jax.models import ModelConfig
from ccpo_jax.models.decoder import Decoder, parameter_shapes, policy_of
from ccpo_jax.rl.types import BatchTotals, Policy
from ccpo_jax.rollout import Rollout, Team, tail_groups
from ccpo_jax.sampler.decode_loop import DecodeState, Prompts, TailGroups, decode, prefill
from ccpo_jax.sampler.token_sampling import token_sampling
from experiments.bench import __main__ as bench
from experiments.bench import train, workloads
from experiments.bench.compiled import compiled, kernels, seconds
from experiments.bench.roofline import Rates, decode_work, train_work

# Measured 2026-11-26, see docs/performance-logbook.md.
H200 = Rates(copy_bytes_per_second=3.75e12, matmul_flops_per_second=644e12)

_DTYPE = jnp.dtype(jnp.bfloat16)


class Reached(NamedTuple):
    """The part of the speed that their kernels allow that programs reached."""

    sampling: float
    learning: float


ALLOWED = Reached(1.0, 1.0)

# On an H200, 2026-11-26, see docs/performance-logbook.md.
MEASURED = Reached(0.60, 0.86)


class Allowed(NamedTuple):
    """Least seconds of compiled programs, and the least work that they have to do.

    Attributes:
      prefill: seconds.
      decode: seconds.
      learn: seconds.
      decode_bytes: of the last turns, as the benchmark counts them.
      train_flops: operations of the gradients.
    """

    prefill: float = 0.0
    decode: float = 0.0
    learn: float = 0.0
    decode_bytes: float = 0.0
    train_flops: float = 0.0


def predict(words: Sequence[str], reached: Reached) -> dict[str, float]:
    """Some of the figures of one run of the benchmark on an H200.

    Args:
      words: its command line, `rollout`, `train` or `step`, with responses that never stop.
      reached: by how much to stretch what the compiled programs allow.
    """
    found = allowed(tuple(words))
    decode, learn = found.decode / reached.sampling, found.learn / reached.learning
    took = found.prefill / reached.sampling + decode + learn
    figures = {"seconds": took, "rollout": took - learn, "update": learn}
    if decode:
        figures["decode_copy_fraction"] = found.decode_bytes / decode / H200.copy_bytes_per_second
    if learn:
        figures["matmul_fraction"] = found.train_flops / learn / H200.matmul_flops_per_second
    return figures


@functools.cache
def allowed(words: tuple[str, ...]) -> Allowed:
    """What the programs of one run of the benchmark allow; `words` as in `predict`."""
    args = bench.parser().parse_args(words)
    config = workloads.architecture(args.model)
    if args.what == "train":
        return _with_learning(Allowed(), config, args, train.training_rows(config, args))

    team, spoken = _spoken(args)
    prefill, decode = _sampling(config, team, spoken)
    last_turns = [spoken.turns[turn] for turn in team.stages[-1]]
    work = decode_work(config, last_turns, _DTYPE.itemsize)[-1]
    found = Allowed(prefill, decode, decode_bytes=float(work.bytes))
    if args.what == "rollout":
        return found

    num_turns = len(spoken.turns)
    signal = np.ones((num_turns, args.prompts, args.samples), np.float32)
    rows = gather_sequences(spoken, signal, range(num_turns), range(args.prompts))
    return _with_learning(found, config, args, rows)


def _with_learning(
    found: Allowed, config: ModelConfig, args, rows: Sequence[TrainSequence]
) -> Allowed:
    """What is known of sampling, with an update on these sequences."""
    batches = pack(rows, row_length=args.pack_length, rows_per_microbatch=args.micro_batch)
    return found._replace(
        learn=_learning(config, args, batches),
        train_flops=float(train_work(config, batches).flops),
    )


def _spoken(args) -> tuple[Team, Rollout]:
    """The team and a rollout as long as on the GPU, but by a network of one layer."""
    small, policy, weights = workloads.stand_in()
    stop = workloads.stop_tokens(small, args)
    team = workloads.team_of(args, policy, stop)
    prompts = workloads.prompts_of(args, small, stop)
    return team, workloads.spoken_by(team, weights, prompts, args, bool(args.solo), 0)


def _gpu_policy(config: ModelConfig, remat: str) -> Policy:
    """`make_policy` as on a GPU with all its kernels."""
    return policy_of(Decoder(config, _DTYPE, remat, "gpu", "gpu", None))


def _sampling(config: ModelConfig, team: Team, spoken: Rollout) -> tuple[float, float]:
    """Seconds of the prefills and of the decode loops, one of each per stage."""
    policy = _gpu_policy(config, "none")
    weights = jax.eval_shape(policy.publish, parameter_shapes(config))
    prefill_seconds = 0.0
    decode_seconds = 0.0
    for stage in team.stages:
        turns = [spoken.turns[turn] for turn in stage]
        fields = zip(*(turn.prompts for turn in turns), strict=True)
        prompts = Prompts(*(np.concatenate(field) for field in fields))
        limit = team.agents[stage[0]].max_tokens
        first, loop, _ = sampling_programs(
            policy,
            weights,
            prompts,
            max_tokens=limit,
            groups=tail_groups(prompts, turns[0].samples_per_variant),
        )

        # Of branches the short one is taken: nothing asks for top-p.
        begin = kernels(first.as_text(), taken=min)
        # The part of the slots that holds a token on average.
        filled = (1 + 1 / limit) / 2
        decoding = kernels(loop.as_text(), steps=limit - 1, filled=filled, taken=min)
        prefill_seconds += seconds(begin, H200)
        decode_seconds += seconds(decoding, H200)
    return prefill_seconds, decode_seconds


def _learning(config: ModelConfig, args, batches: Sequence[PackedBatch]) -> float:
    """Seconds of one step of the optimizer with the gradients of these micro-batches."""
    policy = _gpu_policy(config, args.remat)
    params = parameter_shapes(config)
    programs: dict[tuple[int, ...], str] = {}
    took = 0.0
    for batch in batches:
        shape = batch.tokens.shape
        if shape not in programs:
            programs[shape] = gradient(policy, params, batch, args.logits).as_text()
        # Chunks of response tokens whose logits exist at once.
        chunks = ceil_div(int(batch.used.max()), max(args.logits // shape[0], 1))
        took += seconds(kernels(programs[shape], steps=chunks), H200)

    optimizer = AdamW(learning_rate=1e-6)
    number = jax.ShapeDtypeStruct((), jnp.float32)
    state = jax.eval_shape(optimizer.init, params)
    step = compiled(
        functools.partial(apply_gradients, optimizer), params, state, params, number, donate=(0, 1)
    )
    return took + seconds(kernels(step.as_text()), H200)


def sampling_programs(
    policy: Policy,
    weights,
    prompts: Prompts,
    *,
    max_tokens: int,
    groups: TailGroups | None = None,
    stacked: bool = False,
) -> tuple[jax.stages.Compiled, jax.stages.Compiled, DecodeState]:
    """The prefill and the decode loop, compiled, and the shapes that pass between the two.

    Args:
      policy: the network's functions, as on that GPU.
      weights: shapes of its decode weights; with a leading axis of agents when `stacked`.
      prompts: shapes or arrays; likewise.
      max_tokens, groups, stacked: see `prefill`.
    """
    settings = jax.eval_shape(lambda: token_sampling(eos_ids=(1,), pad_id=0))
    numbers = jax.ShapeDtypeStruct((*prompts.tail_length.shape, 2), jnp.uint32)

    def start(weights, prompts, numbers, settings):
        keys = jax.random.wrap_key_data(numbers)
        return prefill(
            policy,
            weights,
            prompts,
            keys,
            settings,
            max_tokens=max_tokens,
            tail_groups=groups,
            stacked=stacked,
        )

    begun = jax.eval_shape(start, weights, prompts, numbers, settings)
    go_on = functools.partial(decode, policy, stacked=stacked)
    loop = compiled(go_on, weights, begun, settings, jax.ShapeDtypeStruct((), jnp.int32), donate=1)
    return compiled(start, weights, prompts, numbers, settings), loop, begun


def gradient(policy: Policy, params, batch: PackedBatch, chunk: int) -> jax.stages.Compiled:
    """The program that adds up the gradient of one micro-batch, for arguments of such shapes."""
    number = jax.ShapeDtypeStruct((), jnp.float32)
    one = functools.partial(accumulate, policy, train.loss_of(chunk))
    return compiled(
        one,
        params,
        batch,
        BatchTotals(*[number] * len(BatchTotals._fields)),
        number,
        params,
        donate=4,
    )
