"""What a row of the paper's tables would take: memory, machine and hours, calculated.

How it is reckoned, per training step and on the devices of the configuration's mesh, each with 80
GB, 3.35 TB/s and 989 TFLOP/s in bfloat16 (an H100):
- a response takes a quarter of its limit, a prompt 256 tokens;
- decoding is bound by memory: every step up to the limit reads the weights of who speaks in
  bfloat16, every token reads the keys and values of its own response so far; prompts are read once
  for all samples; 40 % of the bandwidth is had;
- where the caches of all responses do not fit, as many decode at once as do, the others wait, and
  there are more steps;
- learning is bound by arithmetic: 6 operations per parameter and token, and 2 more where layers are
  computed again, on the responses of those who are trained in this step and on one prompt per
  group; 35 % of the rate is had;
- an evaluation decodes avg@k and greedy answers of its problems, in the worlds that it compares.
Memory is that of parameters and two moments in float32, of the decode weights in bfloat16 and of
one agent's gradients; the caches of the responses that decode at once come on top, and what they
leave is for activations:
  a tenth at least.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ccpo_jax.config import Config
from ccpo_jax.data import DATASETS
from ccpo_jax.rl.credit import make_credit
from ccpo_jax.rl.topology import agent_masks, variants
from ccpo_jax.train.build import make_topology
from ccpo_jax.train.evaluate import evaluation_worlds
from ccpo_jax.train.load import response_lengths
from ccpo_jax.train.worlds import credit_of_step, masked_worlds

_BANDWIDTH, _ARITHMETIC, _MEMORY = (
    3.35e12,
    989e12,
    80e9,
)  # of one device: bytes/s, operations/s, bytes
_DECODES, _LEARNS = 0.40, 0.35  # shares of them that are had
_LENGTH, _PROMPT = 0.25, 256  # of a response, in its limit; of a prompt, in tokens


class Size(NamedTuple):
    """A published model."""

    parameters: int
    layers: int
    kv_heads: int
    head_dim: int

    @property
    def cell(self) -> int:
        """Bytes of one token's keys and values in bfloat16."""
        return 2 * 2 * self.layers * self.kv_heads * self.head_dim


SIZES = {
    "Qwen/Qwen2.5-1.5B-Instruct": Size(1_543_714_304, 28, 2, 128),
    "Qwen/Qwen2.5-7B-Instruct": Size(7_615_616_512, 28, 4, 128),
    "meta-llama/Llama-3.1-8B-Instruct": Size(8_030_261_248, 32, 8, 128),
    "Qwen/Qwen3-4B-Base": Size(4_022_468_096, 36, 8, 128),
    "allenai/Olmo-3-7B-Instruct": Size(7_298_011_136, 32, 32, 128),
}
# Problems in a set after duplicates; for how long an evaluation takes.
PROBLEMS = {
    "math500": 500,
    "aime25": 30,
    "amc23": 40,
    "gaokao2023en": 385,
    "minervamath": 272,
    "logiqa_test": 651,
}


class Forecast(NamedTuple):
    """What one run takes."""

    devices: int
    memory: float  # bytes per device, caches not counted
    caches: float  # bytes per device, of all responses of the largest call
    rows: int  # responses of that call
    decode: float  # seconds per step
    learn: float  # seconds per step
    evaluate: float  # seconds, all evaluations
    total: float  # seconds


def reckon(config: Config) -> Forecast:
    """The forecast for one run.

    Args:
      config: a run.

    Raises:
      ValueError: a model whose size is not in `SIZES`.
    """
    names = list(config.model)
    if unknown := [name for name in names if name not in SIZES]:
        raise ValueError(
            f"model: the size of {unknown[0]!r} is not known here; add it to SIZES in this file"
        )
    topology = make_topology(config)
    sets = 1 if config.shared_policy else topology.num_agents
    sizes = [SIZES[name] for name in names * (sets if len(names) == 1 else 1)]
    devices = config.mesh.fsdp * config.mesh.model
    credit = make_credit(config.credit.name, topology)
    speakers = [sizes[0 if config.shared_policy else speaker] for speaker in topology.speakers]
    limits = response_lengths(config.response_length, topology)

    memory = (
        14 * sum(size.parameters for size in sizes) + 4 * max(size.parameters for size in sizes)
    ) / devices
    heard = [
        sum(limits[other] for other in reads) for reads in topology.reads
    ]  # tokens of messages before a response

    def turns(samples: int, ablated) -> list[tuple[Size, int, float]]:
        """(who speaks, limit, texts per problem) of every turn in all worlds."""
        masks = agent_masks(topology.num_agents, ablated)
        texts = [samples * len(variants(topology, turn, masks)[0]) for turn in range(len(limits))]
        return list(zip(speakers, limits, texts, strict=True))

    def largest(spoken, problems: int) -> tuple[int, float]:
        """Responses of the call that holds most at once, and bytes of their caches on a device."""
        calls = [
            (texts * problems, texts * problems * (limit + tail) * size.cell / devices)
            for (size, limit, texts), tail in zip(spoken, heard, strict=True)
        ]
        return (
            max(calls, key=lambda call: call[1])
            if any(heard)
            else tuple(map(sum, zip(*calls, strict=True)))
        )

    def decoding(spoken, problems: int, caches: float) -> float:
        at_once = min(1.0, max(0.9 * _MEMORY - memory, 1.0) / caches)
        return sum(_decode(*turn, problems, devices, at_once) for turn in spoken)

    together, everyone = (
        config.trainer.schedule == "simultaneous",
        tuple(range(topology.num_agents)),
    )
    kinds = [everyone] if together else [(agent,) for agent in everyone]  # of steps, by who trains
    worlds = [masked_worlds(credit_of_step(credit, topology, active), topology) for active in kinds]
    spoken = [turns(config.group_size, ablated) for ablated in worlds]
    rows, caches = max(
        (largest(step, config.batch_size) for step in spoken), key=lambda call: call[1]
    )
    ratings = (
        [(size, config.credit.rating_length, config.group_size) for size in sizes]
        if credit.needs.ratings
        else []
    )
    decode = sum(decoding(step + ratings, config.batch_size, caches) for step in spoken) / len(
        spoken
    )
    trained = 1 / len(kinds)
    learn = sum(
        trained
        * _learn(size, config.batch_size * (config.group_size * _LENGTH * limit + _PROMPT), devices)
        for size, limit in zip(speakers, limits, strict=True)
    )
    asked = turns(config.eval.samples + config.eval.greedy, evaluation_worlds(topology.num_agents))

    def evaluation(problems: int) -> float:
        call = decoding(asked, config.eval.batch_size, largest(asked, config.eval.batch_size)[1])
        return call * math.ceil(problems / config.eval.batch_size)

    tests = sum(evaluation(PROBLEMS.get(name, 0)) for name in config.data.eval)
    between = config.steps // config.eval_every if config.eval_every else 1
    evaluate = 2 * tests + (1 + between if config.steps else 1) * evaluation(config.data.heldout)
    total = config.steps * (decode + learn) + evaluate
    return Forecast(devices, memory, caches, rows, decode, learn, evaluate, total)


def _decode(
    size: Size, limit: int, texts: float, problems: int, devices: int, at_once: float
) -> float:
    """Seconds to decode one turn of all problems, a part of its responses at once."""
    mean = _LENGTH * limit
    weights = 2 * size.parameters * max(limit, mean / at_once)
    own, shared = (
        texts * problems * mean * mean / 2 * size.cell,
        problems * _PROMPT * limit * size.cell,
    )
    return (weights + own + shared) / (_BANDWIDTH * _DECODES * devices)


def _learn(size: Size, tokens: float, devices: int) -> float:
    """Seconds to learn from so many tokens."""
    return 8 * size.parameters * tokens / (_ARITHMETIC * _LEARNS * devices)


def forecast(jobs: Sequence[tuple]) -> str:
    """What (row, configuration, seed) triples would run, from where, on what, for how long."""
    lines, hours, first = [], 0.0, {}  # rows that share a run share its hours
    for row, config, seed in jobs:
        lines.append(f"{row.name}, seed {seed}")
        if (earlier := first.setdefault((row.run, seed), row.name)) != row.name:
            lines.append(f"  the run of {earlier}")
            continue
        source = ", ".join(
            f"{n} ({DATASETS[n].hub} on the Hub)" if n in DATASETS else n for n in _sets(config)
        )
        if config.model == ("tiny",):
            model, machine, duration = (
                "the embedded one",
                "2 CPU cores",
                "one to three minutes, as in the README",
            )
        else:
            known = reckon(config)
            hours += known.devices * known.total / 3600
            model = f"{', '.join(config.model)} on the Hugging Face Hub"
            machine = (
                f"{known.devices} x 80 GB GPU; on each {known.memory / 1e9:.3g} GB for "
                "parameters and optimizer, "
                f"{known.caches / 1e9:.3g} GB for the caches of {known.rows} "
                f"responses{_advice(known)}"
            )
            duration = (
                f"{_clock(known.total)}: {config.steps} steps of "
                f"{known.decode + known.learn:.3g} s (decoding "
                f"{known.decode:.3g}, learning {known.learn:.3g}), evaluations "
                f"{_clock(known.evaluate)}"
            )
        lines += [
            f"  runs      --config={row.config} {_typed(row, config)} --config.seed={seed}",
            f"  model     {model}",
            f"  data      {source}",
            f"  hardware  {machine}",
            f"  duration  {duration}",
        ]
    lines.append(
        f"together {hours:,.0f} GPU hours. Reckoned, not measured. "
        f"{__doc__.partition(chr(10) * 2)[2]}"
    )
    return "\n".join(lines)


def _advice(known: Forecast) -> str:
    """What to type where the caches do not fit."""
    room = 0.9 * _MEMORY - known.memory
    if known.caches <= room:
        return ""
    fitting = int(known.rows * room / known.caches)
    enough = (
        f"add --config.sample.max_concurrent={fitting} or more devices"
        if fitting > 0
        else "add devices"
    )
    return f": more than fits, {enough}"


def _sets(config) -> list[str]:
    return list(config.data.train + config.data.eval)


def _typed(row, config) -> str:
    changes = dict(row.overrides) | (
        {"group_size": config.group_size} if row.samples != 1.0 else {}
    )
    return " ".join(f"--config.{name}={value}" for name, value in changes.items())


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"
