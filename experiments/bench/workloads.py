"""What the benchmarks run: model shapes, teams, prompts and training batches."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax import models
from ccpo_jax.conversation import Frame
from ccpo_jax.models import ModelConfig
from ccpo_jax.rl.topology import Topology, dyad, voting
from ccpo_jax.rl.types import Policy
from ccpo_jax.rollout import Agent, Rollout, Team, rollout
from ccpo_jax.rollout.prompts import RolePrompt, tokenize_role
from ccpo_jax.sampler import SamplingParams
from experiments.bench.roofline import Work, measure

# name -> (hidden, layers, heads, key/value heads, head size, feed-forward, vocabulary, tied
# embeddings)
SHAPES = {
    "small": (256, 8, 8, 2, 32, 1024, 4096, True),
    "qwen2.5-0.5b": (896, 24, 14, 2, 64, 4864, 151936, True),
    "qwen2.5-1.5b": (1536, 28, 12, 2, 128, 8960, 151936, True),
    "qwen2.5-7b": (3584, 28, 28, 4, 128, 18944, 152064, False),
}

# With a shorter limit most tokens of the vocabulary would have to be stop tokens.
_SHORTEST_RAGGED = 8

SINGLE = Topology("single", roles=("voter",), reads=((),), ablated=(), decision="last")


class IdCodec:
    """Texts are numbers separated by spaces, so that the whole rollout path runs without a real
    tokenizer.
    """

    pad_id = 0

    def __init__(self, stop: tuple[int, ...]):
        self.eos_ids = stop

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]

    def encode_batch(self, texts) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode_batch(self, rows) -> list[str]:
        return [" ".join(map(str, row)) for row in rows]

    def show(self, ids) -> str:
        return " ".join(map(str, ids))

    def frame(self, system: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        # It would be read by nobody.
        del system
        return (), (1,)

    def conversation_frame(self, system: str, speakers, *, has_system: bool) -> Frame:
        del system
        texts = len(speakers) + has_system
        return Frame(((),) * texts, tuple(range(texts)), ())


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
    """A network of one layer, for counts of tokens that do not depend on the network."""
    config = ModelConfig("qwen2", 64, 32, 1, 2, 1, 16, 64, tied_embeddings=True)
    policy = models.make_policy(config)
    return config, policy, (policy.publish(models.init_params(config, jax.random.key(0))),)


def stop_tokens(config: ModelConfig, args) -> tuple[int, ...]:
    """The tokens that end a response.

    With --stop=ragged there are so many that random weights stop after a quarter of the limit on
    average; with --stop=none there is one that lies outside the vocabulary.
    """
    if args.stop == "none":
        return (config.vocab_size,)
    if args.response_length < _SHORTEST_RAGGED:
        raise ValueError(
            f"--response_length: ragged responses have a limit of {_SHORTEST_RAGGED} or more, "
            f"received {args.response_length}; use --response_length={_SHORTEST_RAGGED} or "
            "--stop=none"
        )
    return tuple(range(8, 8 + max(1, round(config.vocab_size * 4 / args.response_length))))


def team_of(args, policy, stop: tuple[int, ...]) -> Team:
    """A team whose agents read numbers: the problem, and their partners' messages."""
    topology = {"single": SINGLE, "dyad": dyad(), "voting": voting(3)}[args.topology]
    codec = IdCodec(stop)
    with_messages = RolePrompt("", "{problem}", "{message}", "")
    without_messages = RolePrompt("", "{problem}", "", "")

    agents = []
    for reads in topology.reads:
        template = tokenize_role(codec, with_messages if reads else without_messages)
        agents.append(Agent(policy, codec, template, args.response_length, 0))
    return Team(topology, tuple(agents), args.prompt_length + 1)


def prompts_of(args, config: ModelConfig, stop: tuple[int, ...]) -> list[list[int]]:
    """Random tokens, none of which ends a response."""
    first = max(stop) + 1 if args.stop == "ragged" else 1
    rng = np.random.default_rng(0)
    return rng.integers(first, config.vocab_size - 1, (args.prompts, args.prompt_length)).tolist()


def spoken_by(team: Team, weights, prompts, args, solo: bool, seed: int) -> Rollout:
    """One rollout as the bench's arguments describe it."""
    texts = [" ".join(map(str, prompt)) for prompt in prompts]
    return rollout(
        team,
        weights,
        texts,
        jax.random.key(seed),
        group_size=args.samples,
        sampling=SamplingParams(decode_chunk=args.chunk, max_concurrent=args.rows),
        ablated=team.topology.ablated if solo else (),
        masked_samples=args.solo_samples,
    )


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
    """The rates of the machine, and the fraction of them that pieces of work reached."""
    rates = measure(dtype_of(args))
    num_bytes = sum(piece.bytes for piece in pieces)
    flops = sum(piece.flops for piece in pieces)
    ideal = sum(piece.seconds(rates) for piece in pieces)

    result = rates._asdict()
    result["flops"] = flops
    result["matmul_fraction"] = flops / seconds / rates.matmul_flops_per_second
    if num_bytes:
        result["bytes"] = num_bytes
        result["copy_fraction"] = num_bytes / seconds / rates.copy_bytes_per_second
    result["ideal_seconds"] = ideal
    result["roofline_fraction"] = ideal / seconds
    return result
