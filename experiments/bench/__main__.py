"""How fast, and how near to what the machine can do: `python -m experiments.bench rollout|train|step|verify`.

Speed is reported as a ratio: to a peer that runs in turns with ours in this process (`--peer`), and to the rates that
the machine itself reaches (`roofline.py`). Times are medians over `--repeats` calls after one that compiles.
"""

import argparse
import dataclasses
import functools
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax import models
from ccpo_jax.arguments import Parser, positive
from ccpo_jax.learner.packing import TrainSequence, pack
from ccpo_jax.learner.update import (
    AdamW,
    LossConfig,
    PackingConfig,
    UpdateConfig,
    jitted_accumulate,
    totals_of,
    update_params,
)
from ccpo_jax.models import ModelConfig
from ccpo_jax.rl.topology import Topology, dyad, voting
from ccpo_jax.rl.types import Policy
from ccpo_jax.rollout import Agent, Rollout, Team, rollout
from ccpo_jax.rollout.prompts import RolePrompt, tokenize_role
from ccpo_jax.sampler.generate import compiled
from experiments.bench.peers import PEERS, make_peer
from experiments.bench.roofline import Work, decode_work, measure, median, multiplied, train_work

# name -> (hidden, layers, heads, key/value heads, head size, feed-forward, vocabulary, tied embeddings)
SHAPES = {
    "small": (256, 8, 8, 2, 32, 1024, 4096, True),
    "qwen2.5-0.5b": (896, 24, 14, 2, 64, 4864, 151936, True),
    "qwen2.5-1.5b": (1536, 28, 12, 2, 128, 8960, 151936, True),
    "qwen2.5-7b": (3584, 28, 28, 4, 128, 18944, 152064, False),
}
_SHORTEST_RAGGED = 8  # else most tokens would be stop tokens
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


def architecture(name: str) -> ModelConfig:
    """That of a named shape or of a checkpoint folder."""
    if name not in SHAPES:
        return models.load_config(name)
    hidden, layers, heads, kv, size, ffn, vocabulary, tied = SHAPES[name]
    return ModelConfig(
        "qwen2",
        vocabulary,
        hidden,
        layers,
        heads,
        kv,
        size,
        ffn,
        qkv_bias=True,
        tied_embeddings=tied,
        rope_theta=1e6,
    )


def network(name: str) -> tuple[ModelConfig, dict]:
    """A named shape with random weights, or a checkpoint folder with its own."""
    if name not in SHAPES:
        return models.load(name)
    config = architecture(name)
    return config, jax.jit(models.init_params, static_argnums=0)(config, jax.random.key(0))


def stand_in() -> tuple[ModelConfig, Policy, tuple]:
    """A network of one layer and its weights, where it does not matter who speaks: without a token that ends them all
    responses are as long."""
    config = ModelConfig("qwen2", 64, 32, 1, 2, 1, 16, 64, tied_embeddings=True)
    policy = models.make_policy(config)
    return config, policy, (policy.publish(models.init_params(config, jax.random.key(0))),)


def stop_tokens(config: ModelConfig, args) -> tuple[int, ...]:
    """Ragged: so many that random weights stop after a quarter of the limit on average. None: one that never comes."""
    if args.stop == "none":
        return (config.vocab_size,)
    if args.response_length < _SHORTEST_RAGGED:
        raise ValueError(
            f"--response_length: ragged responses have a limit of {_SHORTEST_RAGGED} or more, "
            f"received {args.response_length}; use --response_length={_SHORTEST_RAGGED} or --stop=none"
        )
    return tuple(range(8, 8 + max(1, round(config.vocab_size * 4 / args.response_length))))


def team_of(args, config: ModelConfig, policy, stop: tuple[int, ...]) -> Team:
    """A team whose agents read numbers: the problem, and what partners said."""
    topology = {"single": SINGLE, "dyad": dyad(), "voting": voting(3)}[args.topology]
    codec = IdCodec(stop)
    quoting, silent = (
        RolePrompt("", "{problem}", "{message}", ""),
        RolePrompt("", "{problem}", "", ""),
    )
    agents = tuple(
        Agent(
            policy,
            codec,
            tokenize_role(codec, quoting if reads else silent),
            args.response_length,
            0,
        )
        for reads in topology.reads
    )
    return Team(topology, agents, args.prompt_length + 1)


def prompts_of(args, config: ModelConfig, stop: tuple[int, ...]) -> list[list[int]]:
    """Random tokens, none of which ends a response."""
    first = max(stop) + 1 if args.stop == "ragged" else 1
    rng = np.random.default_rng(0)
    return rng.integers(first, config.vocab_size - 1, (args.prompts, args.prompt_length)).tolist()


def spoken_by(team: Team, weights, prompts, args, solo: bool, seed: int) -> Rollout:
    """One rollout as the bench's arguments describe it."""
    texts = [" ".join(map(str, prompt)) for prompt in prompts]
    return rollout(
        team, weights, texts, jax.random.key(seed), group_size=args.samples, solo_samples=args.solo_samples,
        ablated=team.topology.ablated if solo else (), rows=args.rows, chunk=args.chunk,
    )  # fmt: skip


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


def beside_the_machine(pieces: Sequence[Work], seconds: float, args) -> dict[str, float]:
    """How near a piece of work came to the device's own rates."""
    rates = measure(dtype_of(args))
    bytes_, flops = sum(piece.bytes for piece in pieces), sum(piece.flops for piece in pieces)
    ideal = sum(piece.seconds(rates) for piece in pieces)
    found = {"flops": flops, "matmul_fraction": flops / seconds / rates.matmul_flops_per_second}
    if bytes_:
        found |= {"bytes": bytes_, "copy_fraction": bytes_ / seconds / rates.copy_bytes_per_second}
    return rates._asdict() | found | {"ideal_seconds": ideal, "roofline_fraction": ideal / seconds}


# --- rollout ----------------------------------------------------------------------------------------------------------


def bench_rollout(args) -> dict:
    """Tokens per second of a rollout, beside a peer's, and the fraction of what the machine allows."""
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
    result |= {"compiles": compiled(), "peak_memory_bytes": peak_memory()}
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
    """Median tokens per second and seconds of each, run in turns after one call each that compiles."""
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
    """Tokens decoded with the masked worlds over tokens decoded without them, of both kinds of team."""
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


# --- train ------------------------------------------------------------------------------------------------------------


def bench_train(args) -> dict:
    """Trained tokens per second, padding, and the fraction of the measured matrix-product rate."""
    config, params = network(args.model)
    policy = models.make_policy(
        config, compute_dtype=dtype_of(args), remat=args.remat, attention=args.attention
    )
    rows = training_rows(config, args)
    optimizer = AdamW(learning_rate=1e-6)
    state = jax.jit(optimizer.init)(params)
    loss = loss_of(args.logits)
    packing = PackingConfig(args.pack_length, args.micro_batch)
    update = UpdateConfig(loss, optimizer, packing, skip_silent=False)

    def step():
        nonlocal params, state
        params, state, _ = update_params(policy, params, state, [rows], update)
        return params

    jax.block_until_ready(step())
    took = median(step, args.repeats)
    batches = pack(rows, row_length=args.pack_length, rows_per_microbatch=args.micro_batch)
    slots = sum(batch.tokens.size for batch in batches)
    filled = sum(int((batch.segments > 0).sum()) for batch in batches)
    unshared = sum(len(row.prefix) + len(row.tail) + len(row.response) for row in rows)
    return {
        "tokens_per_second": filled / took,
        "sequence_tokens_per_second": unshared / took,
        "seconds": took,
        "compiles": jitted_accumulate()._cache_size(),
        "peak_memory_bytes": peak_memory(),
        "padding": 1 - filled / slots,
        "sharing": unshared / filled,
        "temporary_bytes": temporary_bytes(policy, loss, params, batches[0], rows),
    } | beside_the_machine([train_work(config, batches)], took, args)


def loss_of(chunk: int) -> LossConfig:
    """That of a run at the defaults, with the logits of so many tokens at once."""
    return LossConfig(logits_chunk=chunk)


def training_rows(config: ModelConfig, args) -> list[TrainSequence]:
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
            rows.append(
                TrainSequence(
                    group, prefix, np.zeros(0, np.int32), response, float(rng.normal()), old
                )
            )
    return rows


def temporary_bytes(policy, loss, params, batch, rows) -> int:
    """What the compiled gradient needs beside its arguments and results."""
    grads = jax.eval_shape(functools.partial(jax.tree.map, jnp.zeros_like), params)
    program = (
        jitted_accumulate()
        .lower(policy, loss, params, batch, totals_of(rows), np.float32(1), grads)
        .compile()
    )
    return int(program.memory_analysis().temp_size_in_bytes)


# --- whole steps and verification -------------------------------------------------------------------------------------


def bench_step(args) -> dict:
    """Seconds of a whole training step by part, medians over the second half of the steps; its roofline is of FLOPs.

    Without `--model` a tiny preset as it is; with it, random problems of the given sizes for a team of one network, all
    responses trained on although none is right.
    """
    from ccpo_jax.train.build import build
    from ccpo_jax.train.step import initial_state, train_step
    from ccpo_jax.verifiers import VerifierPool

    name = "voting" if args.topology == "single" else args.topology
    module = importlib.import_module(f"configs.{name}")
    if args.model is None:
        config = module.get_config("tiny")
        program = build(config)
    else:
        config, program = random_program(module.get_config(""), args, name)
    state, lines = initial_state(program, config), []
    steps = 2 * args.repeats
    with VerifierPool(**config.verifier) as pool:
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
        "compiles": compiled() + jitted_accumulate()._cache_size(),
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
    config.batch_size, config.group_size, config.solo_samples = (
        args.prompts,
        args.samples,
        args.solo_samples,
    )
    config.credit.name = "ccpo" if args.solo else "shared"
    config.shared_policy = True
    config.trainer.schedule = "simultaneous"
    config.compute_dtype, config.sample.rows, config.sample.chunk = (
        dtype_of(args).name,
        args.rows,
        args.chunk,
    )
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
            AdamW(**config.optimizer),
            PackingConfig(args.pack_length, args.micro_batch, batch_sharding(layout.mesh)),
            temperature=config.sample.temperature,
            skip_silent=False,
        ),
        None,
        layout,
    )
    return config, program


def bench_verify(args) -> dict:
    """Math answers verified per second with the hard kill on; the roofline is the bare verifier in every process.

    Every repeat has answers of its own, so that no process remembers them. Their tokens are the embedded model's,
    nearly one a character: a rate of decoding that verification keeps up with.
    """
    from ccpo_jax.hf.tokenizer import load_tokenizer
    from ccpo_jax.train.build import TINY
    from ccpo_jax.verifiers import VerifierPool

    tokenizer, found = load_tokenizer(str(TINY)), {"compiles": 0}
    with VerifierPool(workers=args.workers, time_limit=5.0, max_chars=20000) as pool:
        for kind, make in (("", numbers), ("expression_", expressions)):
            pool.verify(make(args, args.repeats)[: 8 * args.workers])
            seconds, right = [], 0
            for seed in range(args.repeats):
                items = make(args, seed)
                began = time.perf_counter()
                graded = pool.verify(items)
                seconds.append(time.perf_counter() - began)
                right += sum(sum(one.correct) for one in graded) / len(items) / args.repeats
            took = statistics.median(seconds)
            tokens = tokenizer.encode_batch([text for item in items for text in item.texts])
            found |= {
                f"{kind}tokens_per_second": sum(map(len, tokens)) / took,
                f"{kind}verifications_per_second": sum(len(item.texts) for item in items) / took,
                f"{kind}seconds": took,
                f"{kind}right_per_problem": right,
                f"{kind}roofline_fraction": bare_verification(make(args, args.repeats + 1))
                / args.workers
                / took,
            }
    return found | {"peak_memory_bytes": peak_memory()}


def numbers(args, seed: int) -> list:
    """Problems with integers and fractions; one answer of each is right, and none comes twice."""
    from ccpo_jax.verifiers import Item

    items = []
    for i, value in enumerate(np.random.default_rng(seed).integers(1, 10**6, args.prompts * 16)):
        gold, right = (
            (f"{value}", f"{value}")
            if i % 2
            else (f"\\frac{{{value}}}{{7}}", f"\\frac{{{2 * value}}}{{14}}")
        )
        wrong = (f"{value + k}.5" for k in range(1, args.samples))
        items.append(
            Item("math", gold, tuple(f"so \\boxed{{{answer}}}" for answer in (right, *wrong)))
        )
    return items


def expressions(args, seed: int) -> list:
    """Problems that need the parser and algebra: few, because each answer takes milliseconds."""
    from ccpo_jax.verifiers import Item

    values = np.random.default_rng(seed).integers(1, 10**6, args.prompts)
    right = [(f"{value}x+1", f"\\boxed{{1 + {value}x}}") for value in values]
    return [
        Item("math", gold, (text, *(f"\\boxed{{{k}x}}" for k in range(1, args.samples))))
        for gold, text in right
    ]


def bare_verification(items) -> float:
    """Seconds of the same work without processes, limits and grouping, in this process."""
    from ccpo_jax.verifiers import VERIFIERS

    began = time.perf_counter()
    for item in items:
        verifier = VERIFIERS[item.verifier]
        for text in item.texts:
            answer = verifier.extract(text)
            if answer is not None:
                verifier.equivalent(item.gold, answer)
    return time.perf_counter() - began


# --- command line -----------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line; what a benchmark does not read it ignores."""
    p = Parser(
        prog="python -m experiments.bench", allow_abbrev=False, description=__doc__.splitlines()[0]
    )
    p.add_argument("what", choices=list(BENCHMARKS))
    p.add_argument(
        "--model",
        default=None,
        help=f"checkpoint folder, or one of {', '.join(SHAPES)} (random weights)",
    )
    p.add_argument("--topology", choices=["single", "dyad", "voting"], default="single")
    p.add_argument("--prompts", type=positive, default=8)
    p.add_argument("--samples", type=positive, default=8)
    p.add_argument("--prompt_length", type=positive, default=128)
    p.add_argument("--response_length", type=positive, default=128)
    p.add_argument(
        "--stop",
        choices=["none", "ragged"],
        default="none",
        help="ragged: a quarter of the limit on average",
    )
    p.add_argument(
        "--solo",
        type=int,
        choices=[0, 1],
        default=1,
        help="1: decode the worlds that mask an agent as well",
    )
    p.add_argument(
        "--solo_samples",
        type=positive,
        default=None,
        help="answers per prompt in such a world; all samples",
    )
    p.add_argument(
        "--rows", type=positive, default=None, help="most responses that decode at once; all"
    )
    p.add_argument(
        "--chunk",
        type=positive,
        default=32,
        help="tokens between two looks at which responses have ended",
    )
    p.add_argument(
        "--peer", choices=["none", *PEERS], default="none", help="needs its own installation"
    )
    p.add_argument(
        "--dtype",
        choices=["float32", "bfloat16"],
        default=None,
        help="float32 on CPUs, else bfloat16",
    )
    p.add_argument("--attention", choices=models.ATTENTION, default="auto")
    p.add_argument("--remat", choices=list(models.REMAT), default="full")
    p.add_argument("--pack_length", type=positive, default=2048)
    p.add_argument("--micro_batch", type=positive, default=1)
    p.add_argument(
        "--logits", type=positive, default=2048, help="response tokens whose logits exist at once"
    )
    p.add_argument("--workers", type=positive, default=2)
    p.add_argument("--repeats", type=positive, default=5)
    p.add_argument("--json", action="store_true", help="one JSON object on stdout and nothing else")
    return p


def main(argv=None) -> int:
    """Runs one benchmark and prints what it found."""
    args = parser().parse_args(argv)
    if args.what != "step":
        args.model = args.model or "small"
    try:
        found = BENCHMARKS[args.what](args)
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


BENCHMARKS = {
    "rollout": bench_rollout,
    "train": bench_train,
    "step": bench_step,
    "verify": bench_verify,
}


if __name__ == "__main__":
    sys.exit(main())
