"""The border: a configuration becomes typed records, once, and every complaint about it is made here."""

import dataclasses
import functools
import inspect
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax import data, models
from ccpo_jax.config import parse
from ccpo_jax.devices.sharding import (
    Layout,
    batch_sharding,
    make_layout,
    make_mesh,
    num_shards,
    state_sharding,
)
from ccpo_jax.hf.tokenizer import load_tokenizer
from ccpo_jax.learner.update import AdamW, LossConfig, PackingConfig, UpdateConfig
from ccpo_jax.rl.advantages import group_advantage, leave_one_out_advantage, surprisal_advantage
from ccpo_jax.rl.credit import CREDITS, make_credit
from ccpo_jax.rl.losses import LOSSES
from ccpo_jax.rl.topology import TOPOLOGIES, Topology, agent_masks, texts_per_sample
from ccpo_jax.rl.types import CreditEstimator, Outcome
from ccpo_jax.rollout import Agent, Team, prompts
from ccpo_jax.rollout.role_prompts import PROMPTS
from ccpo_jax.train.evaluate import EvalSettings
from ccpo_jax.train.guards import run_with_timeout

_CHARACTERS_PER_TOKEN = (
    64  # more than any text of words has: bounds what is tokenized of a problem of megabytes
)
TINY = pathlib.Path(__file__).parents[1] / "assets" / "tiny"


class Datasets(NamedTuple):
    """Problems to train on, to select by, and to report on."""

    train: data.Dataset
    heldout: data.Dataset
    tests: tuple[data.Dataset, ...]


class Run(NamedTuple):
    """A configuration, resolved."""

    team: Team
    model_configs: tuple  # P network configurations, for export
    sources: tuple[str, ...]  # P folders or Hub names the parameters came from
    params: tuple  # P float32 parameter pytrees, sharded
    datasets: Datasets
    credit: CreditEstimator
    advantage: Callable  # (credit, surprisal), both [A, B, G] -> advantage [A, B, G]
    update: UpdateConfig
    evaluation: EvalSettings
    layout: Layout


def lookup(table: dict, name: str, field: str):
    """``table[name]``, or one line that lists what there is."""
    if name not in table:
        raise ValueError(f"{field}: {name!r:.80} is unknown; use one of {', '.join(sorted(table))}")
    return table[name]


def section_values(section) -> dict[str, Any]:
    """The fields of a section, of a Config or of a ConfigDict."""
    return vars(section) if dataclasses.is_dataclass(section) else dict(section.items())


def accepted_kwargs(function: Callable, section) -> dict[str, Any]:
    """The entries of a configuration section that `function` takes as keyword-only hyper-parameters."""
    names = inspect.signature(function).parameters
    return {name: value for name, value in section_values(section).items() if name in names}


def build(config) -> Run:
    """Loads and checks everything a run needs, cheapest first, so that mistakes fail before work begins.

    Args:
      config: a `Config`, or nested mappings of its fields such as a ConfigDict.

    Raises:
      ValueError: one line naming the field, what was received and what to type instead.
    """
    config = parse(config)
    topology = make_topology(config)
    constructor = lookup(CREDITS, config.credit.name, "credit.name")
    credit = make_credit(
        config.credit.name, topology, **accepted_kwargs(constructor, config.credit)
    )
    loss, advantage = make_loss(config), make_advantage(config, credit)
    check_shapes(credit, advantage, loss, topology, config)
    mesh = make_mesh(data=config.mesh.data, fsdp=config.mesh.fsdp, model=config.mesh.model)
    layout = make_layout(mesh, config.mesh.rules)
    ways = num_shards(batch_sharding(layout.mesh, layout.decode))
    for field, size in (
        ("batch_size", config.batch_size),
        ("eval.batch_size", config.eval.batch_size),
    ):
        if size % ways:
            raise ValueError(
                f"{field}: {size} does not divide over {ways} devices; use a multiple of {ways}"
            )
    full, tests = load_problems(config)
    team, model_configs, sources = load_team(config, topology, credit, layout)
    full, *tests = (fit_prompts(dataset, team, config.data.overlong) for dataset in (full, *tests))
    datasets = split(full, tests, config)
    evaluation = EvalSettings(
        samples=config.eval.samples,
        temperature=_first(config.eval.temperature, config.sample.temperature),
        top_p=_first(config.eval.top_p, config.sample.top_p),
        batch_size=config.eval.batch_size,
        greedy=config.eval.greedy,
        rows=config.sample.max_concurrent,
    )
    return Run(
        team,
        model_configs,
        sources,
        run_with_timeout(
            config.load_time_limit, "model", lambda: load_params(sources, config.revision, layout)
        ),
        datasets,
        credit,
        advantage,
        make_update(config, layout),
        evaluation,
        layout,
    )


def _first(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def make_topology(config) -> Topology:
    """The team's topology."""
    constructor = lookup(TOPOLOGIES, config.topology, "topology")
    return constructor(**accepted_kwargs(constructor, config.team))


def make_update(config, layout: Layout) -> UpdateConfig:
    """Loss, optimizer and packing, the same for every parameter set."""
    mini_batches = config.trainer.mini_batches
    return UpdateConfig(
        loss=make_loss(config),
        optimizer=make_optimizer(config),
        packing=PackingConfig(
            row_length=config.trainer.pack_length,
            rows_per_microbatch=config.trainer.micro_batch,
            sharding=batch_sharding(layout.mesh, layout.train),
        ),
        temperature=config.sample.temperature,
        mini_batches=mini_batches,
        rescore=mini_batches > 1 and config.compute_dtype != "float32",
    )


def make_optimizer(config) -> AdamW:
    """One optimizer, used for every parameter set."""
    return AdamW(**section_values(config.optimizer))


def make_loss(config) -> LossConfig:
    """The loss with its hyper-parameters bound."""
    function = lookup(LOSSES, config.loss.name, "loss.name")
    hyper = {k: v for k, v in accepted_kwargs(function, config.loss).items() if v is not None}
    for name in ("clip_low", "clip_high", "dual_clip", "max_length"):
        if getattr(config.loss, name) is not None and name not in hyper:
            raise ValueError(
                f"loss.{name}: {config.loss.name!r} does not take it; leave it out, or type another loss.name"
            )
    return LossConfig(
        name=config.loss.name,
        hyper=tuple(sorted(hyper.items())),
        on_policy=config.trainer.mini_batches == 1,
        entropy_bonus=config.loss.entropy_bonus,
        logits_chunk=config.trainer.logits_chunk,
    )


def make_advantage(config, credit: CreditEstimator) -> Callable:
    """How credit becomes an advantage: (credit, surprisal) -> advantage, all ``[A, B, G]``.

    What is left open follows from the loss and the credit.
    """
    divide, baseline = config.advantage.normalize_std, config.advantage.baseline
    if divide is None:
        divide = credit.baseline.normalize_std
    if baseline is None:
        baseline = "none" if config.loss.name == "reinforce_pp" else credit.baseline.kind
    if credit.baseline.kind == "none" and baseline != "none":
        raise ValueError(
            f"advantage.baseline: credit {config.credit.name!r} brings its own, received {baseline!r}; leave it out"
        )
    if config.advantage.normalize_std and baseline != "group":
        raise ValueError(
            f"advantage.normalize_std: baseline {baseline!r} does not divide, received True; "
            "leave it out, or type --config.advantage.baseline=group"
        )
    if baseline == "surprisal" and (
        config.loss.name != "grpo" or config.loss.normalize != "length"
    ):
        raise ValueError(
            f"advantage.baseline: 'surprisal' needs a loss that divides by a fixed length, received "
            f"{config.loss.name!r} with normalize={config.loss.normalize!r}; type --config.loss.name=grpo "
            f"--config.loss.normalize=length --config.loss.max_length={max(config.response_length)}"
        )
    if baseline == "surprisal" and config.batch_size < 2:
        raise ValueError(
            "batch_size: baseline 'surprisal' compares prompts, at least 2, received 1; use batch_size=2"
        )
    table = {
        "group": lambda credit, _: group_advantage(credit, normalize_std=divide),
        "leave_one_out": lambda credit, _: leave_one_out_advantage(credit),
        "surprisal": surprisal_advantage,
        "none": lambda credit, _: jnp.asarray(credit),
    }
    return lookup(table, baseline, "advantage.baseline")


def masked_worlds(credit: CreditEstimator, topology: Topology) -> tuple:
    """What the masked worlds of a training step mask: nothing where that costs decoding and the credit ignores it."""
    if credit.needs.ablated:
        return credit.needs.ablated
    return topology.ablated if _masks_are_free(topology) else ()


@functools.cache
def credit_of_step(
    credit: CreditEstimator, topology: Topology, active: tuple[int, ...]
) -> CreditEstimator:
    """The credit of a step that trains the agents `active` alone: worlds that mask others cost decoding for nothing.

    An estimator with a memory keeps all its worlds, and so does a team whose masks cost nothing.
    """
    everyone_masked_is_active = set(topology.ablated) <= set(active)
    if credit.restrict is None or everyone_masked_is_active or _masks_are_free(topology):
        return credit
    return credit.restrict(active)


def _masks_are_free(topology: Topology) -> bool:
    return texts_per_sample(topology, agent_masks(topology.num_agents, topology.ablated)) == len(
        topology.roles
    )


def check_shapes(
    credit: CreditEstimator, advantage: Callable, loss: LossConfig, topology: Topology, config
) -> None:
    """Traces credit, advantage and loss for the run's sizes without computing, so that what they refuse shows here."""
    masks = agent_masks(topology.num_agents, masked_worlds(credit, topology))
    worlds, agents = masks.shape
    shape = (
        worlds,
        config.batch_size,
        config.group_size * credit.needs.answers_per_text ** (agents - 1),
    )
    found = Outcome(
        jax.ShapeDtypeStruct(shape, jnp.float32),
        jax.ShapeDtypeStruct((*shape, agents), jnp.float32),
        jax.ShapeDtypeStruct((*shape, agents), jnp.int32),
        jax.ShapeDtypeStruct(masks.shape, jnp.bool),
        jax.ShapeDtypeStruct((agents, *shape[1:], 2), jnp.float32)
        if credit.needs.ratings
        else None,
        jax.ShapeDtypeStruct((agents, *shape[1:]), jnp.float32),
    )
    value, _ = jax.eval_shape(credit.update, jax.eval_shape(credit.init), found)
    jax.eval_shape(advantage, value, found.surprisal)
    row, mask = jax.ShapeDtypeStruct((1, 1), jnp.float32), jax.ShapeDtypeStruct((1, 1), jnp.bool)
    jax.eval_shape(loss.function, row, row, jax.ShapeDtypeStruct((1,), jnp.float32), mask)


def load_problems(config) -> tuple[data.Dataset, list[data.Dataset]]:
    """Everything to train on, and the test sets."""

    def load(names: tuple[str, ...], field: str, **how) -> data.Dataset:
        return run_with_timeout(
            config.load_time_limit, field, lambda: data.load_many(names, field=field, **how)
        )

    full = load(config.data.train, "data.train", size=config.data.size or None, seed=config.seed)
    return full, [load((name,), "data.eval") for name in config.data.eval]


def split(full: data.Dataset, tests: list[data.Dataset], config) -> Datasets:
    """Training and held-out problems without what a test set asks, and the part of the test sets to evaluate on."""
    clean = data.decontaminate(full, tests, similarity=config.data.similarity)
    train, heldout = data.split_heldout(clean, config.data.heldout, config.seed)

    def limited(dataset: data.Dataset) -> data.Dataset:
        over = len(dataset.problems) - (config.eval.limit or len(dataset.problems))
        if over <= 0:
            return dataset
        dropped = {**dataset.dropped, "past eval.limit": over}
        return dataclasses.replace(
            dataset, problems=dataset.problems[: config.eval.limit], dropped=dropped
        )

    return Datasets(train, heldout, tuple(map(limited, tests)))


def load_team(
    config, topology: Topology, credit: CreditEstimator, layout: Layout
) -> tuple[Team, tuple, tuple[str, ...]]:
    """(team, P network configurations, P sources): everything about the agents but their parameters."""
    names = [str(TINY) if name == "tiny" else name for name in config.model]
    sets = 1 if config.shared_policy else topology.num_agents
    if len(names) not in (1, sets):
        raise ValueError(
            f"model: {len(names)} models for {sets} parameter sets; give one name, "
            "or one per agent with shared_policy=False"
        )
    names = names * (sets if len(names) == 1 else 1)
    networks, tokenizers, policies = {}, {}, {}
    for name in dict.fromkeys(names):
        read = functools.partial(
            load_tokenizer, name, revision=config.revision, thinking=config.thinking
        )
        tokenizers[name] = run_with_timeout(config.load_time_limit, "model", read)
        networks[name] = models.load_config(name, revision=config.revision)
        if tokenizers[name].vocab_size > networks[name].vocab_size:
            raise ValueError(
                f"model: the tokenizer of {name} has {tokenizers[name].vocab_size} tokens, its network knows "
                f"{networks[name].vocab_size}; choose a model whose files belong together"
            )
        dtype = jnp.dtype(config.compute_dtype)
        policies[name] = models.make_policy(
            networks[name],
            compute_dtype=dtype,
            remat=config.trainer.remat,
            attention=config.attention,
            layout=None if layout.mesh.size == 1 else layout,
        )
    lengths = response_lengths(config.response_length, topology)
    style = lookup(PROMPTS, config.prompt_style, "prompt_style")

    def agent(role: str, speaker: int, hears: list[str], max_tokens: int) -> Agent:
        if role not in style:
            raise ValueError(
                f"prompt_style: {config.prompt_style!r} has no words for the role {role!r}; "
                f"it has {', '.join(sorted(style))}"
            )
        parameter_set = 0 if config.shared_policy else speaker
        name = names[parameter_set]
        frame = functools.partial(prompts.tokenize_role, tokenizers[name], style[role], hears)
        template = run_with_timeout(
            config.load_time_limit, "model", frame
        )  # a foreign chat template may loop
        return Agent(policies[name], tokenizers[name], template, max_tokens, parameter_set)

    agents, roles, speakers = [], topology.roles, topology.speakers
    for turn, (role, speaker, reads) in enumerate(
        zip(roles, speakers, topology.reads, strict=True)
    ):
        hears = ["own" if speakers[t] == speaker else roles[t] for t in reads]
        agents.append(agent(role, speaker, hears, lengths[turn]))
    raters = enumerate(topology.agent_roles) if credit.needs.ratings else ()
    raters = [
        agent(f"rate_{role}", k, [*roles, "verdict"], config.credit.rating_length)
        for k, role in raters
    ]
    team = Team(topology, tuple(agents), config.prompt_length, tuple(raters))
    return team, tuple(networks[name] for name in names), tuple(names)


def response_lengths(given: tuple[int, ...], topology: Topology) -> tuple[int, ...]:
    """Tokens each turn may take, from one number, or one per agent or per turn."""
    if len(given) == len(topology.roles):
        return tuple(given)
    if len(given) not in (1, topology.num_agents):
        turns = (
            ""
            if topology.num_agents == len(topology.roles)
            else f" who speak in {len(topology.roles)} turns"
        )
        raise ValueError(
            f"response_length: {len(given)} entries for {topology.num_agents} agents{turns}; give one, or one per "
            f"agent, such as --config.response_length='({', '.join([str(given[0])] * topology.num_agents)})'"
        )
    return tuple(given[speaker % len(given)] for speaker in topology.speakers)


def load_params(sources: tuple[str, ...], revision: str | None, layout: Layout) -> tuple:
    """P float32 parameter sets on the mesh; each is trained and donated on its own."""
    place = functools.partial(state_sharding, layout.mesh, rules=layout.train)
    loaded = {
        name: models.load(name, revision=revision, sharding=place)[1]
        for name in dict.fromkeys(sources)
    }
    copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))
    return tuple(copy(loaded[name]) for name in sources)


def fit_prompts(dataset: data.Dataset, team: Team, overlong: str) -> data.Dataset:
    """Checks every problem against the team's prompt length; drops and counts the longer ones if so configured."""
    agents = team.topology.num_agents
    for problem in dataset.problems:
        if problem.views and len(problem.views) != agents:
            raise ValueError(
                f"views: problem {problem.id} has {len(problem.views)}, the team {agents} agents; give every agent "
                "one, or leave them out"
            )
    who = (*team.topology.speakers, *range(len(team.raters)))
    turns = zip(team.agents + team.raters, who, strict=True)
    views = any(
        problem.views for problem in dataset.problems
    )  # else who reads it makes no difference
    readers = {
        (agent.tokenizer, agent.template, views and who): (agent, who) for agent, who in turns
    }.values()

    def lengths(agent, texts: list[str]) -> np.ndarray:
        """Tokens of prompts; of one that is far too long, those of a beginning that is too long itself."""
        template = agent.template
        around = len(template.head) + len(template.after) + len(prompts.tail(template, []))

        def tokens(texts: list[str]) -> np.ndarray:
            return np.array([around + len(row) for row in agent.tokenizer.encode_batch(texts)], int)

        limit = _CHARACTERS_PER_TOKEN * team.prompt_length
        found = tokens([text[:limit] for text in texts])
        again = [
            i
            for i, text in enumerate(texts)
            if len(text) > limit and found[i] <= team.prompt_length
        ]
        found[again] = tokens([texts[i] for i in again])
        return found

    longest = np.max(
        [
            lengths(agent, [p.prompt_text_for(who) for p in dataset.problems])
            for agent, who in readers
        ],
        axis=0,
    )
    fits = tuple(
        p for p, n in zip(dataset.problems, longest, strict=True) if n <= team.prompt_length
    )
    over = len(longest) - len(fits)
    if not over:
        return dataset
    if overlong == "error" or not fits:
        raise ValueError(
            f"prompt_length: {over} prompts of {dataset.name} exceed {team.prompt_length} tokens, the longest takes "
            f"{max(longest)} at least; type --config.prompt_length={max(longest)} or --config.data.overlong=drop"
        )
    return dataclasses.replace(
        dataset, problems=fits, dropped={**dataset.dropped, "prompt too long": over}
    )
