"""The border: a configuration becomes typed records, once, and every complaint about it is made here."""

import dataclasses
import functools
import inspect
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ccpo_jax import data, models, prompts
from ccpo_jax.advantages import group_advantage, leave_one_out_advantage
from ccpo_jax.credit import CREDITS, make_credit
from ccpo_jax.evaluate import EvalSettings
from ccpo_jax.losses import LOSSES
from ccpo_jax.records import CreditEstimator
from ccpo_jax.rollout import Agent, Team
from ccpo_jax.sharding import batch_sharding, make_mesh, state_sharding
from ccpo_jax.tokenizer import load_tokenizer
from ccpo_jax.topology import TOPOLOGIES, Topology
from ccpo_jax.update import Loss, Micro, optimizer

TINY = pathlib.Path(__file__).parent / "assets" / "tiny"


class Datasets(NamedTuple):
    """Problems to train on, to select by, and to report on."""

    train: data.Dataset
    heldout: data.Dataset
    tests: tuple[data.Dataset, ...]


class Program(NamedTuple):
    """A configuration, resolved."""

    team: Team
    model_configs: tuple  # P network configurations, for export
    sources: tuple[str, ...]  # P folders or Hub names the parameters came from
    params: tuple  # P float32 parameter pytrees, sharded
    datasets: Datasets
    credit: CreditEstimator
    advantage: Callable  # credit [A, B, G] -> advantage [A, B, G]
    loss: Loss
    optimizer: Any  # optax.GradientTransformation
    micro: Micro  # how training rows are cut; each agent puts in its own pad_id
    evaluation: EvalSettings
    mesh: jax.sharding.Mesh


def choose(table: dict, name: str, field: str):
    """``table[name]``, or one line that lists what there is."""
    if name not in table:
        raise ValueError(f"{field}: {name!r} is unknown; use one of {', '.join(sorted(table))}")
    return table[name]


def keywords(function: Callable, section: dict) -> dict:
    """The entries of a configuration section that `function` takes as keyword-only hyper-parameters."""
    names = inspect.signature(function).parameters
    return {name: value for name, value in section.items() if name in names}


def resolve(config) -> Program:
    """Loads and checks everything a run needs, cheapest first, so that mistakes fail before work begins.

    Args:
      config: a `ConfigDict` with the fields of configs/base.py.

    Raises:
      ValueError: one line naming the field, what was received and what to type instead.
    """
    check_numbers(config)
    topology = make_topology(config)
    constructor = choose(CREDITS, config.credit.name, "credit.name")
    credit = make_credit(config.credit.name, topology, **keywords(constructor, config.credit))
    loss, advantage = make_loss(config), make_advantage(config)
    mesh = make_mesh(**config.mesh)
    splits = config.mesh.fsdp * mesh.shape["data"]
    for field, size in (("batch_size", config.batch_size), ("eval.batch_size", config.eval.batch_size)):
        if size % splits:
            raise ValueError(f"{field}: {size} does not divide over {splits} devices; use a multiple of {splits}")
    datasets = load_datasets(config)
    team, model_configs, sources, params = load_team(config, topology, mesh)
    datasets = fit_prompts(datasets, team, config)
    evaluation = EvalSettings(
        samples=config.eval.samples,
        temperature=config.sample.temperature,
        top_p=config.sample.top_p,
        batch_size=config.eval.batch_size,
        greedy=config.eval.greedy,
    )
    return Program(
        team,
        model_configs,
        sources,
        params,
        datasets,
        credit,
        advantage,
        loss,
        make_optimizer(config),
        Micro(config.trainer.pack_length, config.trainer.micro_batch, 0, batch_sharding(mesh)),
        evaluation,
        mesh,
    )


def make_topology(config) -> Topology:
    """The team's topology."""
    constructor = choose(TOPOLOGIES, config.topology, "topology")
    return constructor(**keywords(constructor, {"num_agents": config.num_agents, "tie": config.tie}))


def make_optimizer(config):
    """One optimizer, used for every parameter set."""
    return optimizer(**config.optimizer)


def make_loss(config) -> Loss:
    """The loss with its hyper-parameters bound."""
    function = choose(LOSSES, config.loss.name, "loss.name")
    hyper = {k: v for k, v in keywords(function, config.loss).items() if v is not None}
    return Loss(
        functools.partial(function, **hyper),
        on_policy=config.trainer.mini_batches == 1,
        zero_is_silent=config.loss.name != "reinforce_pp" and not config.loss.entropy_bonus,
        entropy_bonus=config.loss.entropy_bonus,
        chunk=config.trainer.chunk,
    )


def make_advantage(config) -> Callable:
    """How credit becomes an advantage within each group; what is left open follows from the loss and the credit."""
    divide, baseline = config.advantage.normalize_std, config.advantage.baseline
    if divide is None:
        divide = config.credit.name != "ccpo_event"
    if baseline is None:
        baseline = "none" if config.loss.name == "reinforce_pp" else "group"
    table = {
        "group": functools.partial(group_advantage, normalize_std=divide),
        "leave_one_out": leave_one_out_advantage,
        "none": jnp.asarray,
    }
    return choose(table, baseline, "advantage.baseline")


def load_datasets(config) -> Datasets:
    """Training, held-out and test problems."""
    full = data.load_many(config.data.train, size=config.data.size or None, seed=config.seed, field="data.train")
    names = [name.strip() for name in config.data.eval.split(",") if name.strip()]
    tests = tuple(data.load_many(name, field="data.eval") for name in names)
    clean = data.decontaminate(full, tests, similarity=config.data.similarity)
    train, heldout = data.split_heldout(clean, config.data.heldout, config.seed)
    return Datasets(train, heldout, tuple(tests))


def load_team(config, topology: Topology, mesh) -> tuple[Team, tuple, tuple[str, ...], tuple]:
    """Networks, tokenizers and prompts of all agents, and the P parameter sets on the mesh."""
    names = [str(TINY) if name.strip() == "tiny" else name.strip() for name in config.model.split(",")]
    sets = 1 if config.shared_policy else topology.num_agents
    if len(names) not in (1, sets):
        raise ValueError(
            f"model: {len(names)} models for {sets} parameter sets; give one name, "
            "or one per agent with shared_policy=False"
        )
    loaded = {name: _load_model(name, config, mesh) for name in dict.fromkeys(names)}
    names = names * (sets if len(names) == 1 else 1)
    policies = {
        name: models.make_policy(
            loaded[name][0], compute_dtype=jnp.dtype(config.compute_dtype), remat=config.trainer.remat
        )
        for name in loaded
    }
    lengths = config.response_length
    lengths = lengths * (topology.num_agents if len(lengths) == 1 else 1)
    if len(lengths) != topology.num_agents:
        raise ValueError(
            f"response_length: {len(lengths)} entries for {topology.num_agents} agents; give one, or one per agent"
        )
    style = choose(prompts.PROMPTS, config.prompt_style, "prompt_style")
    agents = []
    for index, role in enumerate(topology.roles):
        name = names[0 if config.shared_policy else index]
        tokenizer = loaded[name][2]
        template = prompts.tokenize_role(tokenizer, choose(style, role, "prompt_style"))
        parameter_set = 0 if config.shared_policy else index
        agents.append(Agent(policies[name], tokenizer, template, lengths[index], parameter_set))
    team = Team(topology, tuple(agents), config.prompt_length)
    copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))  # every set is trained and donated on its own
    params = tuple(copy(loaded[name][1]) for name in names)
    return team, tuple(loaded[name][0] for name in names), tuple(names), params


def _load_model(name: str, config, mesh):
    """(network configuration, sharded parameters, tokenizer) of one checkpoint."""
    tokenizer = load_tokenizer(name, revision=config.revision, thinking=config.thinking)
    place = functools.partial(state_sharding, mesh)
    model_config, params = models.load(name, revision=config.revision, sharding=place)
    return model_config, params, tokenizer


def fit_prompts(datasets: Datasets, team: Team, config) -> Datasets:
    """Checks every problem against `prompt_length`; drops and counts the longer ones if so configured."""
    groups = {}
    for agent in team.agents:
        groups[(agent.tokenizer, agent.template)] = agent

    def longest(problem) -> int:
        return max(len(prompts.whole(a.template, a.tokenizer, problem.question)) for a in groups.values())

    def fit(dataset: data.Dataset) -> data.Dataset:
        lengths = [longest(problem) for problem in dataset.problems]
        fits = tuple(p for p, n in zip(dataset.problems, lengths, strict=True) if n <= team.prompt_length)
        over = len(lengths) - len(fits)
        if over and (config.data.overlong == "error" or not fits):
            raise ValueError(
                f"prompt_length: {over} prompts of {dataset.name} exceed {team.prompt_length} tokens, the longest "
                f"takes {max(lengths)}; type --config.prompt_length={max(lengths)} or --config.data.overlong=drop"
            )
        dropped = {**dataset.dropped, "prompt too long": over} if over else dataset.dropped
        return dataclasses.replace(dataset, problems=fits, dropped=dropped)

    def limited(dataset: data.Dataset) -> data.Dataset:
        return dataclasses.replace(dataset, problems=dataset.problems[: config.eval.limit or None])

    heldout, *tests = (limited(fit(dataset)) for dataset in (datasets.heldout, *datasets.tests))
    return Datasets(fit(datasets.train), heldout, tuple(tests))


def check_numbers(config) -> None:
    """Ranges that would otherwise fail late or not at all."""
    at_least = {
        "steps": 0, "batch_size": 1, "group_size": 2, "prompt_length": 1, "eval.samples": 1, "eval.batch_size": 1,
        "trainer.micro_batch": 1, "trainer.pack_length": 1,
        "trainer.mini_batches": 1, "trainer.period": 1, "trainer.chunk": 1, "data.heldout": 0,
        "verifier.workers": 1, "eval_every": 0, "checkpoint_every": 0, "keep_last": 1, "optimizer.warmup_steps": 0,
    }  # fmt: skip
    for field, low in at_least.items():
        value = functools.reduce(getattr, field.split("."), config)
        if value < low:
            raise ValueError(f"{field}: must be at least {low}, received {value}; type --config.{field}={low}")
    if not config.sample.temperature > 0:
        raise ValueError(f"sample.temperature: must be > 0 in training, received {config.sample.temperature}; type 1.0")
    if not 0 < config.sample.top_p <= 1:
        raise ValueError(f"sample.top_p: must be in (0, 1], received {config.sample.top_p}; type 1.0")
    if config.batch_size % config.trainer.mini_batches:
        raise ValueError(
            f"trainer.mini_batches: {config.trainer.mini_batches} does not divide batch_size={config.batch_size}"
        )
    if min(config.response_length) < 1:
        raise ValueError(f"response_length: every entry must be at least 1, received {config.response_length}")
    one_of = {
        "trainer.schedule": ("alternate", "simultaneous"),
        "trainer.remat": ("full", "none"),
        "data.overlong": ("error", "drop"),
        "compute_dtype": ("float32", "bfloat16"),
    }
    for field, values in one_of.items():
        choose(dict.fromkeys(values, True), functools.reduce(getattr, field.split("."), config), field)
