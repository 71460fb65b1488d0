"""Benchmark of whole training steps."""

import dataclasses
import statistics

import jax

from ccpo_jax import models
from ccpo_jax.config import flatten, from_flat
from ccpo_jax.data import Dataset, Problem
from ccpo_jax.devices.sharding import Layout, make_mesh, state_sharding
from ccpo_jax.learner.update import jitted_accumulate
from ccpo_jax.presets import load_preset
from ccpo_jax.rl.credit import make_credit
from ccpo_jax.sampler.generate import num_compiled
from ccpo_jax.train import build as parts
from ccpo_jax.train.load import Datasets
from ccpo_jax.train.schedule import make_optimizers, make_schedule
from ccpo_jax.train.step import initial_state, train_step
from experiments.bench.roofline import Work, multiplied
from experiments.bench.workloads import (
    beside_the_machine,
    dtype_of,
    network,
    peak_memory,
    prompts_of,
    stop_tokens,
    team_of,
)


def bench_step(args) -> dict:
    """Seconds of a whole training step by part; its roofline counts operations alone.

    All figures are medians over the second half of the steps. Without `--model` it is a tiny preset
    as it is; with it, random problems of the given sizes for a team of one network. All responses
    are trained on although none is right.
    """
    topology = "voting" if args.topology == "single" else args.topology
    if args.model is None:
        run = parts.build(load_preset(f"{topology}:tiny"))
    else:
        run = random_run(load_preset(topology), args, topology)

    state = initial_state(run)
    num_steps = 2 * args.repeats
    lines: list[dict[str, float]] = []
    with run.verifier_pool() as pool:
        for step in range(num_steps):
            result = train_step(run, state, step, pool)
            state = result.state
            lines.append(result.metrics)
    late = lines[num_steps // 2 :]

    def median(name: str) -> float:
        return statistics.median(line[name] for line in late)

    seconds = median("time/step")
    decoded = median("decoded_tokens")
    trained = statistics.median(_trained_tokens(line) for line in late)
    weights = multiplied(run.model_configs[0])
    work = Work(0.0, 2.0 * weights * decoded + 6.0 * weights * trained)
    return {
        "tokens_per_second": decoded / seconds,
        "seconds": seconds,
        "rollout": median("time/rollout"),
        "verify": median("time/verify"),
        "update": median("time/update"),
        "first_step_seconds": lines[0]["time/step"],
        "decoded_tokens": decoded,
        "trained_tokens": trained,
        "compiles": num_compiled() + jitted_accumulate()._cache_size(),
        "peak_memory_bytes": peak_memory(),
    } | beside_the_machine([work], seconds, args)


def _trained_tokens(line: dict[str, float]) -> float:
    """Of all parameter sets together."""
    return sum(value for name, value in line.items() if name.startswith("update/trained_tokens"))


def random_run(config, args, topology: str):
    """A run as `build` makes it, for random weights and problems without a tokenizer."""
    args.topology = topology
    network_config, params = network(args.model)
    stop = stop_tokens(network_config, args)
    config.batch_size = args.prompts
    config.group_size = args.samples
    config.credit.solo_samples = args.solo_samples
    config.credit.name = "ccpo" if args.solo else "shared"
    config.shared_policy = True
    config.trainer.schedule = "simultaneous"
    config.compute_dtype = dtype_of(args).name
    config.sample.max_concurrent = args.rows
    config.sample.decode_chunk = args.chunk
    config.trainer.logits_chunk = args.logits
    config.trainer.pack_length = args.pack_length
    config.trainer.micro_batch = args.micro_batch
    config = from_flat(flatten(config))

    policy = models.make_policy(
        network_config, compute_dtype=dtype_of(args), remat=args.remat, attention=args.attention
    )
    team = team_of(args, policy, stop)
    layout = Layout(make_mesh(devices=jax.devices()[:1]))
    problems = tuple(
        Problem(f"random/{i}", " ".join(map(str, prompt)), "0", "exact")
        for i, prompt in enumerate(prompts_of(args, network_config, stop))
    )
    data = Dataset("random", problems, {})
    credit = make_credit(config.credit.name, team.topology)
    rollout = parts.make_rollout(config, layout)
    schedule = make_schedule(config, team.topology)
    (optimizer,) = make_optimizers(config, team.topology, schedule)
    update = parts.make_update(config, parts.make_loss(config), layout, optimizer)
    return parts.Run(
        seed=config.seed,
        team=team,
        params=(jax.device_put(params, state_sharding(layout.mesh, params)),),
        datasets=Datasets(data, data, ()),
        credit=credit,
        advantage=parts.make_advantage(config, credit),
        rollout=rollout,
        # Every response is trained on, although none is right.
        update=dataclasses.replace(update, skip_silent=False, rescore=False),
        schedule=schedule,
        evaluation=parts.make_evaluation(config, rollout.sampling),
        loop=parts.LoopConfig(steps=config.steps),
        layout=layout,
        model_configs=(network_config,),
        verifier=config.verifier,
    )
