"""What a row of the paper's tables would take: memory, machine and hours, calculated.

Calculated per training step, for the devices of the configuration's mesh, each with 80 GB, 3.35 TB/s
and 989 TFLOP/s in bfloat16 (an H100):
- a response takes a quarter of its limit, a prompt 256 tokens;
- decoding is bound by memory: every step up to the limit reads the weights of the speaker in
  bfloat16, every token reads the keys and values of its own response so far, prompts are read once
  for all samples, and 40 % of the bandwidth is reached;
- where the caches of all responses do not fit, as many decode at once as do, and there are more
  steps;
- learning is bound by arithmetic: 6 operations per parameter and token, 2 more where layers are
  computed again, on the responses of the agents that this step trains and on one prompt per group;
  35 % of the rate is reached;
- an evaluation decodes avg@k and greedy answers to its problems in the worlds that it compares.
Memory holds parameters and two moments in float32, the decode weights in bfloat16 and one agent's
gradients. The caches of the responses that decode at once come on top; at least a tenth is left for
activations.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ccpo_jax.config import Config
from ccpo_jax.data import DATASETS
from ccpo_jax.fields import as_text
from ccpo_jax.parameter_sets import make_parameter_sets, names_per_set
from ccpo_jax.rl.credit import make_credit
from ccpo_jax.rl.topology import agent_masks, variants
from ccpo_jax.train.build import make_topology
from ccpo_jax.train.evaluate import evaluation_worlds
from ccpo_jax.train.load import response_lengths
from ccpo_jax.train.worlds import credit_of_step, masked_worlds

# Of one device: bytes/s, operations/s and bytes.
_BANDWIDTH = 3.35e12
_ARITHMETIC = 989e12
_MEMORY = 80e9

# The part of the bandwidth that decoding reaches, and of the arithmetic that learning does.
_DECODING_EFFICIENCY = 0.40
_LEARNING_EFFICIENCY = 0.35

# The part of its limit that a response takes, and the tokens of a prompt.
_RESPONSE_FRACTION = 0.25
_PROMPT_TOKENS = 256

# The part of a device's memory that may be planned for.
_PLANNED = 0.9


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

# Problems in a set after duplicates, for the time of an evaluation.
PROBLEMS = {
    "math500": 500,
    "aime25": 30,
    "amc23": 40,
    "gaokao2023en": 385,
    "minervamath": 272,
    "logiqa_test": 651,
}


class Forecast(NamedTuple):
    """What one run takes.

    Attributes:
      devices: of the mesh.
      memory: bytes per device without caches.
      caches: bytes per device of all responses of the largest call.
      rows: responses of that call.
      decode: seconds per step.
      learn: seconds per step.
      evaluate: seconds of all evaluations.
      total: seconds of the run.
    """

    devices: int
    memory: float
    caches: float
    rows: int
    decode: float
    learn: float
    evaluate: float
    total: float


class _Spoken(NamedTuple):
    """What one turn says to each problem, in all worlds.

    Attributes:
      size: of the speaker's model.
      limit: tokens of a response at most.
      texts: responses per problem.
      read: tokens of messages before a response at most.
    """

    size: Size
    limit: int
    texts: int
    read: int


class _Team:
    """The sizes of a configuration's team, and how long its calls take."""

    def __init__(self, config: Config):
        topology = make_topology(config)
        names = list(config.model)
        sets = make_parameter_sets(names, topology.num_agents, shared_policy=config.shared_policy)
        self.topology = topology
        self.sizes = [SIZES[name] for name in names_per_set(names, sets)]
        self.speakers = [self.sizes[sets.of_agent[speaker]] for speaker in topology.speakers]
        self.limits = response_lengths(config.response_length, topology)
        self.devices = config.mesh.fsdp * config.mesh.model

        parameters = [size.parameters for size in self.sizes]
        self.memory = (14 * sum(parameters) + 4 * max(parameters)) / self.devices

    def turns(self, samples: int, ablated: Sequence[int]) -> list[_Spoken]:
        """All turns of a rollout in which these agents are masked, one at a time."""
        topology = self.topology
        masks = agent_masks(topology.num_agents, ablated)
        turns = []
        for turn, reads in enumerate(topology.reads):
            num_variants = len(variants(topology, turn, masks)[0])
            read = sum(self.limits[other] for other in reads)
            turns.append(
                _Spoken(self.speakers[turn], self.limits[turn], samples * num_variants, read)
            )
        return turns

    def largest_call(self, turns: Sequence[_Spoken], problems: int) -> tuple[int, float]:
        """Responses of the call that holds most, and bytes of their caches on a device."""
        calls = []
        for turn in turns:
            rows = turn.texts * problems
            cells = turn.limit + turn.read
            calls.append((rows, rows * cells * turn.size.cell / self.devices))

        # Turns that read nobody are one call.
        if any(turn.read for turn in turns):
            return max(calls, key=lambda call: call[1])
        rows, caches = zip(*calls, strict=True)
        return sum(rows), sum(caches)

    def decode_seconds(self, turns: Sequence[_Spoken], problems: int, caches: float) -> float:
        """Seconds of a rollout whose caches take so many bytes on a device."""
        room = max(_PLANNED * _MEMORY - self.memory, 1.0)
        at_once = min(1.0, room / caches)
        return sum(_decode_seconds(turn, problems, self.devices, at_once) for turn in turns)

    def learn_seconds(self, problems: int, samples: int) -> float:
        """Seconds to learn from a rollout, if all agents are trained."""
        seconds = 0.0
        for size, limit in zip(self.speakers, self.limits, strict=True):
            per_problem = samples * _RESPONSE_FRACTION * limit + _PROMPT_TOKENS
            operations = 8 * size.parameters * problems * per_problem
            seconds += operations / (_ARITHMETIC * _LEARNING_EFFICIENCY * self.devices)
        return seconds


def _decode_seconds(turn: _Spoken, problems: int, devices: int, at_once: float) -> float:
    """Seconds to decode one turn of all problems, a part of its responses at once."""
    mean_length = _RESPONSE_FRACTION * turn.limit
    steps = max(turn.limit, mean_length / at_once)
    weights = 2 * turn.size.parameters * steps
    own_cells = turn.texts * problems * mean_length * mean_length / 2
    prompt_cells = problems * _PROMPT_TOKENS * turn.limit
    num_bytes = weights + (own_cells + prompt_cells) * turn.size.cell
    return num_bytes / (_BANDWIDTH * _DECODING_EFFICIENCY * devices)


def calculate(config: Config) -> Forecast:
    """The forecast for one run.

    Args:
      config: a run.

    Raises:
      ValueError: if it has a model whose size is not in `SIZES`.
    """
    for name in config.model:
        if name not in SIZES:
            raise ValueError(
                f"model: the size of {name!r} is not known here; add it to SIZES in this file"
            )
    team = _Team(config)
    topology = team.topology
    credit = make_credit(config.credit.name, topology)

    # The kinds of steps: all agents are trained, or one in turn.
    everyone = tuple(range(topology.num_agents))
    trained = [everyone]
    if config.trainer.schedule != "simultaneous":
        trained = [(agent,) for agent in everyone]
    steps = []
    for agents in trained:
        worlds = masked_worlds(credit_of_step(credit, topology, agents), topology)
        steps.append(team.turns(config.group_size, worlds))

    calls = [team.largest_call(turns, config.batch_size) for turns in steps]
    rows, caches = max(calls, key=lambda call: call[1])
    ratings = []
    if credit.needs.ratings:
        length = config.credit.rating_length
        ratings = [_Spoken(size, length, config.group_size, 0) for size in team.sizes]

    decode = 0.0
    for turns in steps:
        decode += team.decode_seconds(turns + ratings, config.batch_size, caches) / len(steps)
    learn = team.learn_seconds(config.batch_size, config.group_size) / len(steps)
    evaluate = _evaluate_seconds(config, team)
    return Forecast(
        devices=team.devices,
        memory=team.memory,
        caches=caches,
        rows=rows,
        decode=decode,
        learn=learn,
        evaluate=evaluate,
        total=config.steps * (decode + learn) + evaluate,
    )


def _evaluate_seconds(config: Config, team: _Team) -> float:
    """Seconds of all evaluations: test sets before and after, held-out problems in between too."""
    batch_size = config.eval.batch_size
    samples = config.eval.samples + config.eval.greedy
    turns = team.turns(samples, evaluation_worlds(team.topology))
    _, caches = team.largest_call(turns, batch_size)
    call = team.decode_seconds(turns, batch_size, caches)

    def evaluation(problems: int) -> float:
        return call * math.ceil(problems / batch_size)

    tests = sum(evaluation(PROBLEMS.get(name, 0)) for name in config.data.eval)
    num_between = config.steps // config.eval_every if config.eval_every else 1
    num_heldout = 1 + num_between if config.steps else 1
    return 2 * tests + num_heldout * evaluation(config.data.heldout)


def forecast(jobs: Sequence[tuple]) -> str:
    """What (row, configuration, seed) triples would run, from where, on what, for how long."""
    lines = []
    gpu_hours = 0.0
    # Rows that share a run share its hours.
    first_with: dict[tuple, str] = {}
    for row, config, seed in jobs:
        lines.append(f"{row.name}, seed {seed}")
        earlier = first_with.setdefault((row.run, seed), row.name)
        if earlier != row.name:
            lines.append(f"  the run of {earlier}")
            continue

        if config.model == ("tiny",):
            model = "the embedded one"
            machine = "2 CPU cores"
            duration = "one to three minutes, as in the README"
        else:
            known = calculate(config)
            gpu_hours += known.devices * known.total / 3600
            model = f"{', '.join(config.model)} on the Hugging Face Hub"
            machine = _machine(known)
            duration = _duration(known, config.steps)
        lines += [
            f"  runs      --config={row.config} {_typed(row, config)} --config.seed={seed}",
            f"  model     {model}",
            f"  data      {_sources(config)}",
            f"  hardware  {machine}",
            f"  duration  {duration}",
        ]

    lines.append(f"together {gpu_hours:,.0f} GPU hours, not measured")
    # The assumptions.
    lines.append(__doc__.partition("\n\n")[2])
    return "\n".join(lines)


def _machine(known: Forecast) -> str:
    """The GPUs, and what lies on each."""
    return (
        f"{known.devices} x 80 GB GPU; on each {known.memory / 1e9:.3g} GB for parameters and "
        f"optimizer, {known.caches / 1e9:.3g} GB for the caches of {known.rows} responses"
        f"{_advice(known)}"
    )


def _duration(known: Forecast, steps: int) -> str:
    """The hours of the run, by part."""
    return (
        f"{_clock(known.total)}: {steps} steps of {known.decode + known.learn:.3g} s (decoding "
        f"{known.decode:.3g}, learning {known.learn:.3g}), evaluations {_clock(known.evaluate)}"
    )


def _advice(known: Forecast) -> str:
    """What to type where the caches do not fit."""
    room = _PLANNED * _MEMORY - known.memory
    if known.caches <= room:
        return ""
    fitting = int(known.rows * room / known.caches)
    if fitting > 0:
        advice = f"add --config.sample.max_concurrent={fitting} or more devices"
    else:
        advice = "add devices"
    return f": more than fits, {advice}"


def _sources(config: Config) -> str:
    """Names of the datasets, with their names on the Hub."""
    names = []
    for name in config.data.train + config.data.eval:
        names.append(f"{name} ({DATASETS[name].hub} on the Hub)" if name in DATASETS else name)
    return ", ".join(names)


def _typed(row, config: Config) -> str:
    """The row's fields as one types them."""
    changes = dict(row.overrides)
    if row.samples != 1.0:
        changes["group_size"] = config.group_size
    return " ".join(f"--config.{name}={as_text(value)}" for name, value in changes.items())


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"
