"""Benchmark of whole training steps."""

import dataclasses
import statistics

import jax

from ccpo_jax import models
from ccpo_jax.config import flatten, from_flat, parse
from ccpo_jax.learner.update import (
    AdamW,
    PackingConfig,
    UpdateConfig,
    jitted_accumulate,
)
from ccpo_jax.presets import load_preset
from ccpo_jax.sampler.generate import num_compiled
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

# name -> (hidden, layers, heads, key/value heads, head size, feed-forward, vocabulary, tied embeddings)


def bench_step(args) -> dict:
    """Seconds of a whole training step by part, medians over the second half of the steps; its roofline is of FLOPs.

    Without `--model` a tiny preset as it is; with it, random problems of the given sizes for a team of one network, all
    responses trained on although none is right.
    """
    from ccpo_jax.train.build import build
    from ccpo_jax.train.step import initial_state, train_step
    from ccpo_jax.verifiers import VerifierPool

    name = "voting" if args.topology == "single" else args.topology
    if args.model is None:
        config = parse(load_preset(f"{name}:tiny"))
        program = build(config)
    else:
        config, program = random_program(load_preset(name), args, name)
    state, lines = initial_state(program, config), []
    steps = 2 * args.repeats
    with VerifierPool(**dataclasses.asdict(config.verifier)) as pool:
        for _ in range(steps):
            state, metrics = train_step(program, config, state, pool)
            lines.append(metrics)
    late = lines[steps // 2 :]
    parts = {
        part: statistics.median(m[f"time/{part}"] for m in late)
        for part in ("rollout", "verify", "update")
    }
    seconds = statistics.median(m["time/step"] for m in late)
    decoded = statistics.median(m["decoded_tokens"] for m in late)
    trained = statistics.median(
        sum(v for k, v in m.items() if k.startswith("update/trained_tokens")) for m in late
    )
    weights = multiplied(program.model_configs[0])
    work = Work(0.0, 2.0 * weights * decoded + 6.0 * weights * trained)
    return {
        "tokens_per_second": decoded / seconds,
        "seconds": seconds,
        **parts,
        "first_step_seconds": lines[0]["time/step"],
        "decoded_tokens": decoded,
        "trained_tokens": trained,
        "compiles": num_compiled() + jitted_accumulate()._cache_size(),
        "peak_memory_bytes": peak_memory(),
    } | beside_the_machine([work], seconds, args)


def random_program(config, args, topology: str):
    """A configuration and a program as `build` makes them, for random weights and problems without a tokenizer."""
    from ccpo_jax.data import Dataset, Problem
    from ccpo_jax.devices.sharding import Layout, batch_sharding, make_mesh, state_sharding
    from ccpo_jax.rl.credit import make_credit
    from ccpo_jax.train import build as setup

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
    config = from_flat(flatten(config))
    policy = models.make_policy(
        network_config, compute_dtype=dtype_of(args), remat=args.remat, attention=args.attention
    )
    team, layout = (
        team_of(args, network_config, policy, stop),
        Layout(make_mesh(devices=jax.devices()[:1])),
    )
    problems = tuple(
        Problem(f"random/{i}", " ".join(map(str, prompt)), "0", "exact")
        for i, prompt in enumerate(prompts_of(args, network_config, stop))
    )
    data = Dataset("random", problems, {})
    credit = make_credit(config.credit.name, team.topology)
    program = setup.Run(
        team,
        (network_config,),
        (args.model,),
        (jax.device_put(params, state_sharding(layout.mesh, params)),),
        setup.Datasets(data, data, ()),
        credit,
        setup.make_advantage(config, credit),
        UpdateConfig(
            dataclasses.replace(setup.make_loss(config), logits_chunk=args.logits),
            AdamW(**dataclasses.asdict(config.optimizer)),
            PackingConfig(args.pack_length, args.micro_batch, batch_sharding(layout.mesh)),
            temperature=config.sample.temperature,
            skip_silent=False,
        ),
        None,
        layout,
    )
    return config, program
