"""Benchmark of rollouts: tokens per second beside the memory roofline."""

import argparse
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable

import jax

from ccpo_jax import models
from ccpo_jax.rollout import Team
from ccpo_jax.sampler.generate import num_compiled
from experiments.bench.peers import make_peer
from experiments.bench.roofline import Work, decode_work, median
from experiments.bench.workloads import (
    beside_the_machine,
    dtype_of,
    network,
    peak_memory,
    prompts_of,
    spoken_by,
    stand_in,
    stop_tokens,
    team_of,
)


def bench_rollout(args) -> dict:
    """Tokens per second of a rollout, beside a peer's, and the fraction of what the machine
    allows.
    """
    config, params = network(args.model)
    stop = stop_tokens(config, args)
    prompts = prompts_of(args, config, stop)
    policy = models.make_policy(config, compute_dtype=dtype_of(args), attention=args.attention)
    weights = (jax.jit(policy.publish)(params),)
    del params
    team = team_of(args, config, policy, stop)
    heard = []

    def ours(seed: int) -> int:
        heard.append(spoken_by(team, weights, prompts, args, bool(args.solo), seed))
        return heard[-1].decoded_tokens

    calls = {"ours": ours}
    if args.peer != "none":
        calls["peer"] = functools.partial(
            peer_rollout, make_peer(args.peer, config, stop), prompts, args
        )
    speeds, seconds = alternate(calls, args.repeats)
    works = [
        piece
        for stage in team.stages
        for piece in decode_work(
            config, [heard[-1].turns[a] for a in stage], dtype_of(args).itemsize
        )
    ]
    result = {"tokens_per_second": speeds["ours"], "seconds": seconds["ours"]}
    if "peer" in speeds:
        ratio = speeds["ours"] / speeds["peer"]
        result |= {"peer": args.peer, "peer_tokens_per_second": speeds["peer"], "ratio": ratio}
    result |= {"compiles": num_compiled(), "peak_memory_bytes": peak_memory()}
    result |= beside_the_machine(works, seconds["ours"], args)
    if args.topology == "single":
        result |= decoding_alone(args, team, weights, prompts, works[-1], result)
    return result | counterfactual_costs(args)


def decoding_alone(args, team: Team, weights, prompts, work: Work, found: dict) -> dict[str, float]:
    """The loop without the prefill: what is left when a rollout of one token is taken away."""
    first = dataclasses.replace(team, agents=(dataclasses.replace(team.agents[0], max_tokens=1),))

    def begin() -> None:
        spoken_by(first, weights, prompts, args, False, 0)

    begin()
    prefill = median(begin, args.repeats)
    decode = found["seconds"] - prefill
    return {
        "prefill_seconds": prefill,
        "decode_seconds": decode,
        "decode_bytes": work.bytes,
        "decode_copy_fraction": work.bytes / decode / found["copy_bytes_per_second"],
    }


def peer_rollout(peer: Callable, prompts, args, seed: int) -> int:
    """The same rollout as separate calls of a peer's sampler; returns the tokens it decoded."""
    tokens = peer(prompts, args.samples, args.response_length)
    if (
        args.topology == "dyad"
    ):  # thoughts, then joint answers behind question and thought, then solo answers
        longer = [p + prompts[0][: args.response_length] for p in prompts]
        tokens += peer(longer, args.samples, args.response_length)
        tokens += (
            peer(prompts, args.solo_samples or args.samples, args.response_length)
            if args.solo
            else 0
        )
    elif args.topology == "voting":
        tokens += sum(peer(prompts, args.samples, args.response_length) for _ in range(2))
    return tokens


def alternate(
    calls: dict[str, Callable[[int], int]], repeats: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Median tokens per second and seconds of each, run in turns after one call each that
    compiles.
    """
    speeds, seconds = ({name: [] for name in calls} for _ in range(2))
    for seed in range(repeats + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            tokens = call(seed)
            took = time.perf_counter() - began
            if seed:
                speeds[name].append(tokens / took)
                seconds[name].append(took)
    return tuple(
        {name: statistics.median(values) for name, values in x.items()} for x in (speeds, seconds)
    )


def counterfactual_costs(args) -> dict[str, float]:
    """Tokens decoded with the masked worlds over tokens decoded without them, of both kinds of
    team.
    """
    config, policy, weights = stand_in()
    short = argparse.Namespace(
        **vars(args) | {"stop": "none", "response_length": 8, "prompt_length": 8, "prompts": 2}
    )
    stop, costs = stop_tokens(config, short), {}
    for name in ("voting", "dyad"):
        short.topology = name
        team, prompts = team_of(short, config, policy, stop), prompts_of(short, config, stop)
        tokens = [
            spoken_by(team, weights, prompts, short, solo, 0).decoded_tokens
            for solo in (False, True)
        ]
        costs[f"counterfactual_cost_{name}"] = tokens[1] / tokens[0]
    return costs
