"""How fast, and how near to what the machine can do: `python -m experiments.bench rollout|train|step|verify`.

Speed is reported as a ratio: to a peer run alternately in the same process (`--peer`), and to the machine's own copy
bandwidth and matrix-product rate, measured first. Times are medians over `--repeats` calls after one that compiles.
"""

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax import models
from ccpo_jax.generate import compiled
from ccpo_jax.losses import policy_gradient_loss
from ccpo_jax.models import ModelConfig
from ccpo_jax.packing import Row, pack
from ccpo_jax.prompts import RolePrompt, tokenize_role
from ccpo_jax.rollout import Agent, Team, rollout
from ccpo_jax.topology import Topology, dyad, voting
from ccpo_jax.update import Loss, Micro, gradient_program, optimizer, totals_of, train_on
from ccpo_jax.verifiers import Item, VerifierPool
from experiments.peers import PEERS

# name -> (hidden, layers, heads, key/value heads, head size, feed-forward, vocabulary, tied embeddings)
SHAPES = {
    "small": (256, 8, 8, 2, 32, 1024, 4096, True),
    "qwen2.5-0.5b": (896, 24, 14, 2, 64, 4864, 151936, True),
    "qwen2.5-1.5b": (1536, 28, 12, 2, 128, 8960, 151936, True),
    "qwen2.5-7b": (3584, 28, 28, 4, 128, 18944, 152064, False),
}
SINGLE = Topology("single", roles=("voter",), reads=((),), ablated=(), decision="last")


# --- what is measured with --------------------------------------------------------------------------------------------


class IdCodec:
    """Texts are numbers separated by spaces, so that the whole rollout path runs without a real tokenizer."""

    pad_id = 0

    def __init__(self, stop: tuple[int, ...]):
        self.eos_ids = stop

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]

    def encode_batch(self, texts) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode_batch(self, rows) -> list[str]:
        return [" ".join(map(str, row)) for row in rows]

    def frame(self, system: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (), (1,)


def machine(dtype) -> dict[str, float]:
    """The device's own rates: bytes copied and floating-point operations of a matrix product, per second."""
    large = jnp.ones((1 << 26,) if jax.default_backend() == "cpu" else (1 << 29,), jnp.float32)
    side = 2048 if jax.default_backend() == "cpu" else 8192
    square = jnp.ones((side, side), dtype)
    copy, product = jax.jit(lambda x: x + 1), jax.jit(lambda x: x @ x)
    return {
        "copy_bytes_per_second": 2 * large.nbytes / best(lambda: copy(large)),
        "matmul_flops_per_second": 2 * side**3 / best(lambda: product(square)),
    }


def best(call: Callable, repeats: int = 5) -> float:
    """Fewest seconds of a call whose result is waited for."""
    return min(timed(call) for _ in range(repeats + 1))


def timed(call: Callable) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def network(name: str) -> tuple[ModelConfig, dict | None]:
    """A named shape without weights, or a checkpoint folder with them."""
    if name not in SHAPES:
        return models.load(name)
    hidden, layers, heads, kv, size, ffn, vocabulary, tied = SHAPES[name]
    config = ModelConfig(
        "qwen2", vocabulary, hidden, layers, heads, kv, size, ffn, qkv_bias=True, tied_embeddings=tied, rope_theta=1e6
    )
    return config, None


def parameter_count(config: ModelConfig) -> int:
    """Parameters that every token is multiplied with; an untied embedding table is only looked up."""
    shapes = models.decoder.parameter_shapes(config)
    total = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))
    return total if config.tied_embeddings else total - config.vocab_size * config.hidden_size


def peak_memory() -> int:
    """Bytes in use at most: on the device where it tells, else of this process."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def dtype_of(args) -> jnp.dtype:
    """float32 on a CPU, bfloat16 on accelerators, unless told otherwise."""
    return jnp.dtype(args.dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16"))


# --- rollout ----------------------------------------------------------------------------------------------------------


def bench_rollout(args) -> dict:
    """Tokens per second of a rollout, beside a peer's, and the fraction of what the memory allows."""
    config, params = network(args.model)
    rng = np.random.default_rng(0)
    stop = tuple(range(8, 8 + max(1, round(config.vocab_size * 4 / args.response_length))))
    stop = stop if args.stop == "ragged" else (config.vocab_size - 1,)
    prompts = rng.integers(max(stop) % 4000 + 1, config.vocab_size - 1, (args.prompts, args.prompt_length)).tolist()
    codec = IdCodec(stop)
    policy = models.make_policy(config, compute_dtype=dtype_of(args), attention=args.attention)
    params = models.init_params(config, jax.random.key(0)) if params is None else params
    weights = (jax.jit(policy.publish)(params),)
    del params
    topology = {"single": SINGLE, "dyad": dyad(), "voting": voting(3)}[args.topology]
    role = RolePrompt("", "{problem}", "{message}" if args.topology == "dyad" else "", "")
    silent = RolePrompt("", "{problem}", "", "")
    agents = tuple(
        Agent(policy, codec, tokenize_role(codec, role if reads else silent), args.response_length, 0)
        for reads in topology.reads
    )
    team = Team(topology, agents, args.prompt_length + 1)
    texts = [" ".join(map(str, prompt)) for prompt in prompts]
    ablated = topology.ablated if args.solo else ()

    def ours(seed: int) -> tuple[int, float]:
        began = time.perf_counter()
        spoken = rollout(
            team, weights, texts, jax.random.key(seed), group_size=args.samples, ablated=ablated,
            solo_samples=args.solo_samples,
        )  # fmt: skip
        return spoken.decoded_tokens, time.perf_counter() - began

    calls = {"ours": ours}
    if args.peer != "none":
        peer = PEERS[args.peer](config, stop)

        def theirs(seed: int) -> tuple[int, float]:
            began = time.perf_counter()
            tokens = peer(prompts, args.samples, args.response_length)
            if args.topology == "dyad":  # thoughts, then joint answers behind question and thought, then solo answers
                longer = [p + prompts[0][: args.response_length] for p in prompts]
                tokens += peer(longer, args.samples, args.response_length)
                tokens += peer(prompts, args.samples, args.response_length) if args.solo else 0
            elif args.topology == "voting":
                tokens += sum(peer(prompts, args.samples, args.response_length) for _ in range(2))
            return tokens, time.perf_counter() - began

        calls["peer"] = theirs
    speeds, seconds = alternate(calls, args.repeats)
    result = {
        "tokens_per_second": speeds["ours"],
        "seconds": seconds["ours"],
        "compiles": compiled(),
        "peak_memory_bytes": peak_memory(),
    }
    rates = machine(dtype_of(args))
    ideal = decode_bound(config, args, rates, dtype_of(args))
    result |= rates | {"ideal_seconds": ideal, "roofline_fraction": ideal / seconds["ours"]}
    if "peer" in speeds:
        ratio = speeds["ours"] / speeds["peer"]
        result |= {"peer": args.peer, "peer_tokens_per_second": speeds["peer"], "ratio": ratio}
    return result | {"solo_cost": solo_cost(team, weights, texts, args)}


def alternate(calls: dict[str, Callable], repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median tokens per second and seconds of each, run in turns after one call each that compiles."""
    speeds, seconds = ({name: [] for name in calls} for _ in range(2))
    for seed in range(repeats + 1):
        for name, call in calls.items():
            tokens, took = call(seed)
            if seed:
                speeds[name].append(tokens / took)
                seconds[name].append(took)
    return tuple({name: statistics.median(values) for name, values in x.items()} for x in (speeds, seconds))


def solo_cost(team: Team, weights, texts, args) -> float:
    """Decoded tokens with the counterfactual over decoded tokens without it."""
    tokens = [
        rollout(
            team, weights, texts, jax.random.key(0), group_size=args.samples, ablated=ablated,
            solo_samples=args.solo_samples,
        ).decoded_tokens
        for ablated in ((), team.topology.ablated)
    ]  # fmt: skip
    return tokens[1] / tokens[0]


def decode_bound(config: ModelConfig, args, rates: dict, dtype) -> float:
    """Seconds that a lone agent's rollout takes at least: each step reads weights and caches or does its products.

    The prompt's cache is read once for all its samples, a sample's own cache grows by a token a step.
    """
    rows, size = args.prompts * args.samples, jnp.dtype(dtype).itemsize
    weights = parameter_count(config)
    per_token = 2 * config.num_layers * config.num_kv_heads * config.head_dim * size
    mean_own = args.response_length / 2
    read = weights * size + per_token * (args.prompts * args.prompt_length + rows * mean_own)
    context = args.prompt_length + mean_own
    attention = 4 * config.num_layers * config.num_heads * config.head_dim * context
    step = max(
        read / rates["copy_bytes_per_second"], rows * (2 * weights + attention) / rates["matmul_flops_per_second"]
    )
    prefill = 2 * weights * args.prompts * args.prompt_length / rates["matmul_flops_per_second"]
    agents = {"single": 1, "dyad": 2 + args.solo, "voting": 3}[args.topology]
    return agents * (step * args.response_length + prefill)


# --- train ------------------------------------------------------------------------------------------------------------


def bench_train(args) -> dict:
    """Trained tokens per second, padding, and the fraction of the measured matrix-product rate."""
    config, params = network(args.model)
    policy = models.make_policy(config, compute_dtype=dtype_of(args), remat=args.remat, attention=args.attention)
    params = models.init_params(config, jax.random.key(0)) if params is None else params
    rows = training_rows(config, args)
    transform = optimizer(learning_rate=1e-6)
    state = jax.jit(transform.init)(params)
    loss = Loss(policy_gradient_loss, on_policy=True, zero_is_silent=True, entropy_bonus=0.0, chunk=args.chunk)
    micro = Micro(args.pack_length, args.micro_batch, 0)
    seconds = []
    for _ in range(args.repeats + 1):
        began = time.perf_counter()
        params, state, _ = train_on(
            policy, loss, transform, params, state, [rows], micro=micro, skip_silent=False, temperature=1.0
        )
        jax.block_until_ready(params)
        seconds.append(time.perf_counter() - began)
    took = statistics.median(seconds[1:])
    batches = pack(rows, length=args.pack_length, size=args.micro_batch)
    slots = sum(batch.tokens.size for batch in batches)
    filled = sum(int((batch.segments > 0).sum()) for batch in batches)
    unshared = sum(len(row.prefix) + len(row.tail) + len(row.response) for row in rows)
    rates = machine(dtype_of(args))
    attention = 6 * config.num_layers * config.num_heads * config.head_dim * (args.prompt_length + args.response_length)
    flops = filled * (6 * parameter_count(config) + attention)
    return rates | {
        "tokens_per_second": filled / took,
        "sequence_tokens_per_second": unshared / took,
        "seconds": took,
        "compiles": gradient_program()._cache_size(),
        "peak_memory_bytes": peak_memory(),
        "padding": 1 - filled / slots,
        "sharing": unshared / filled,
        "roofline_fraction": flops / took / rates["matmul_flops_per_second"],
        "temporary_bytes": temporary_bytes(policy, loss, params, batches[0], rows),
    }


def training_rows(config: ModelConfig, args) -> list[Row]:
    """Groups of responses to shared prompts; ragged ones are a quarter of the longest on average."""
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
            rows.append(Row(group, prefix, np.zeros(0, np.int32), response, float(rng.normal()), old))
    return rows


def temporary_bytes(policy, loss, params, batch, rows) -> int:
    """What the compiled gradient needs beside its arguments and results."""
    grads = jax.tree.map(jnp.zeros_like, params)
    program = gradient_program().lower(policy, loss, params, batch, totals_of(rows), np.float32(1), grads).compile()
    return int(program.memory_analysis().temp_size_in_bytes)


# --- whole steps and verification -------------------------------------------------------------------------------------


def bench_step(args) -> dict:
    """Seconds of a tiny preset's training step by part, medians over the second half of the steps."""
    from ccpo_jax.setup import resolve
    from ccpo_jax.train import initial_state, train_step

    name = "voting" if args.topology == "single" else args.topology
    config = importlib.import_module(f"configs.{name}").get_config("tiny")
    program = resolve(config)
    state, lines = initial_state(program, config), []
    steps = 2 * args.repeats
    with VerifierPool(**config.verifier) as pool:
        for _ in range(steps):
            state, metrics = train_step(program, config, state, pool)
            lines.append(metrics)
    late = lines[steps // 2 :]
    parts = {part: statistics.median(m[f"time/{part}"] for m in late) for part in ("rollout", "verify", "update")}
    seconds = statistics.median(m["time/step"] for m in late)
    return parts | {
        "tokens_per_second": statistics.median(m["decoded_tokens"] for m in late) / seconds,
        "seconds": seconds,
        "first_step_seconds": lines[0]["time/step"],
        "compiles": compiled() + gradient_program()._cache_size(),
        "peak_memory_bytes": peak_memory(),
    }


def bench_verify(args) -> dict:
    """Math answers verified per second, hard kill on."""
    rng = np.random.default_rng(0)
    kinds = (
        lambda n: (str(n), f"so \\boxed{{{n}}}"),
        lambda n: (f"\\frac{{{n}}}{{7}}", f"\\boxed{{\\frac{{{2 * n}}}{{14}}}}"),
        lambda n: (f"{n}x+1", f"\\boxed{{1 + {n}x}}"),
    )
    items = []
    for number in range(args.prompts * 16):
        gold, answer = kinds[number % len(kinds)](int(rng.integers(1, 10**4)))
        items.append(Item("math", gold, (answer,) * args.samples))
    with VerifierPool(workers=args.workers, time_limit=5.0, max_chars=20000) as pool:
        pool.verify(items[: 8 * args.workers])
        seconds = statistics.median(timed(lambda: pool.verify(items) and None) for _ in range(args.repeats))
        right = sum(sum(graded.correct) for graded in pool.verify(items))
    total = len(items) * args.samples
    return {"verifications_per_second": total / seconds, "seconds": seconds, "right": right / total}


def main(argv=None) -> int:
    """Runs one benchmark and prints what it found."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["rollout", "train", "step", "verify"])
    parser.add_argument("--model", default="small", help=f"checkpoint folder, or one of {', '.join(SHAPES)}")
    parser.add_argument("--topology", choices=["single", "dyad", "voting"], default="single")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--prompt_length", type=int, default=128)
    parser.add_argument("--response_length", type=int, default=128)
    parser.add_argument("--stop", choices=["none", "ragged"], default="none")
    parser.add_argument("--solo", type=int, choices=[0, 1], default=1, help="dyad: 1 = decode the masked world as well")
    parser.add_argument("--solo_samples", type=int, default=None)
    parser.add_argument("--peer", choices=["none", *PEERS], default="none")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default=None)
    parser.add_argument("--remat", choices=list(models.REMAT), default="full")
    parser.add_argument("--attention", choices=models.ATTENTION, default="auto")
    parser.add_argument("--pack_length", type=int, default=2048)
    parser.add_argument("--micro_batch", type=int, default=1)
    parser.add_argument("--chunk", type=int, default=2048)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout and nothing else")
    args = parser.parse_args(argv)
    benchmarks = {"rollout": bench_rollout, "train": bench_train, "step": bench_step, "verify": bench_verify}
    try:
        found = benchmarks[args.what](args)
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found |= {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:28} {value:,.4g}" if isinstance(value, float) else f"{name:28} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
