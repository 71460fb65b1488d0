"""Benchmark of rollouts: tokens per second beside the memory roofline."""

import argparse
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable

import jax

from ccpo_jax import models
from ccpo_jax.rollout import Rollout, Team
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
    """Tokens per second of a rollout, beside a peer's, and the fraction of what the machine allows."""
    config, params = network(args.model)
    stop = stop_tokens(config, args)
    prompts = prompts_of(args, config, stop)
    policy = models.make_policy(config, compute_dtype=dtype_of(args), attention=args.attention)
    weights = (jax.jit(policy.publish)(params),)
    del params
    team = team_of(args, policy, stop)
    rollouts: list[Rollout] = []

    def ours(seed: int) -> int:
        rollouts.append(spoken_by(team, weights, prompts, args, bool(args.solo), seed))
        return rollouts[-1].decoded_tokens

    calls = {"ours": ours}
    if args.peer != "none":
        peer = make_peer(args.peer, config, stop)
        calls["peer"] = functools.partial(peer_rollout, peer, prompts, args)
    speeds, seconds = alternate(calls, args.repeats)

    works: list[Work] = []
    for stage in team.stages:
        turns = [rollouts[-1].turns[turn] for turn in stage]
        works += decode_work(config, turns, dtype_of(args).itemsize)
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
    agent = dataclasses.replace(team.agents[0], max_tokens=1)
    first = dataclasses.replace(team, agents=(agent,))

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
    # A peer draws with a key of its own.
    del seed
    tokens = peer(prompts, args.samples, args.response_length)
    if args.topology == "dyad":
        # Those were the thoughts. Joint answers stand behind question and thought.
        thought = prompts[0][: args.response_length]
        tokens += peer([prompt + thought for prompt in prompts], args.samples, args.response_length)
        if args.solo:
            tokens += peer(prompts, args.solo_samples or args.samples, args.response_length)
    elif args.topology == "voting":
        for _ in range(2):
            tokens += peer(prompts, args.samples, args.response_length)
    return tokens


def alternate(
    calls: dict[str, Callable[[int], int]], repeats: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Runs the calls in turns, after one call each that compiles.

    Returns:
      ``(tokens per second, seconds)``, medians by name.
    """
    speeds: dict[str, list[float]] = {name: [] for name in calls}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for seed in range(repeats + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            tokens = call(seed)
            took = time.perf_counter() - began
            if seed > 0:
                speeds[name].append(tokens / took)
                seconds[name].append(took)
    return _medians(speeds), _medians(seconds)


def _medians(values: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(found) for name, found in values.items()}


def counterfactual_costs(args) -> dict[str, float]:
    """For both kinds of team, tokens decoded with the masked worlds over those without them."""
    config, policy, weights = stand_in()
    sizes = {"stop": "none", "response_length": 8, "prompt_length": 8, "prompts": 2}
    short = argparse.Namespace(**vars(args) | sizes)
    stop = stop_tokens(config, short)

    costs = {}
    for name in ("voting", "dyad"):
        short.topology = name
        team = team_of(short, policy, stop)
        prompts = prompts_of(short, config, stop)
        with_masked = spoken_by(team, weights, prompts, short, True, 0).decoded_tokens
        without = spoken_by(team, weights, prompts, short, False, 0).decoded_tokens
        costs[f"counterfactual_cost_{name}"] = with_masked / without
    return costs
