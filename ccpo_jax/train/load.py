"""Loading: problems, tokenizers, networks and parameters of a run, within a time limit."""

import dataclasses
import functools
import types
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax import data, models
from ccpo_jax.config import Config
from ccpo_jax.conversation import Conversation
from ccpo_jax.devices.sharding import Layout, put, state_sharding
from ccpo_jax.errors import InputError
from ccpo_jax.hf.chat_template import SWITCHES
from ccpo_jax.hf.tokenizer import Tokenizer, load_tokenizer
from ccpo_jax.parameter_sets import make_parameter_sets, names_per_set
from ccpo_jax.rl.topology import Topology
from ccpo_jax.rl.types import HostArray, Policy
from ccpo_jax.rollout import Agent, Team, prompts
from ccpo_jax.rollout.stopping import check_can_stop
from ccpo_jax.status import status
from ccpo_jax.stop_strings import check_stop_strings
from ccpo_jax.train.guards import run_with_timeout
from ccpo_jax.train.parts import NO_PARTS, Model, Parts, row_reader, training_reader
from ccpo_jax.train.sources import Source, find_sources, read_trained
from ccpo_jax.train.words import senders_of

# More characters than any token of words has: bounds what is tokenized of a problem of megabytes.
_CHARACTERS_PER_TOKEN = 64


class Datasets(NamedTuple):
    """Problems to train on, to select a checkpoint by, and to report on."""

    train: data.Dataset
    heldout: data.Dataset
    tests: tuple[data.Dataset, ...]


class Network(NamedTuple):
    """A network without its parameters."""

    config: Any  # `ccpo_jax.models.ModelConfig`
    tokenizer: Any  # `ccpo_jax.hf.tokenizer.Tokenizer`
    policy: Policy


class LoadedTeam(NamedTuple):
    """A team without its parameters."""

    team: Team
    model_configs: tuple  # P network configurations
    sources: tuple[Source, ...]  # P, where their parameters come from


# --- problems -------------------------------------------------------------------------------------


def load_problems(
    config: Config, parts: Parts = NO_PARTS, *, num_agents: int = 3
) -> tuple[data.Dataset, list[data.Dataset]]:
    """All problems to train on, and the test sets; for `num_agents` agents, who may see different
    texts.
    """
    audience = {"num_agents": num_agents, "informed": config.data.informed}

    def load(name: str, field: str, reader: data.RowReader, **options: Any) -> data.Dataset:
        if name in parts.datasets:
            return parts.datasets[name]
        with status(f"loading {name}"):
            return run_with_timeout(
                config.load_time_limit,
                field,
                lambda: data.load(name, field=field, reader=reader, **audience, **options),
            )

    columns, judge = config.data.columns, config.verifier.name
    of_tests = row_reader(columns, judge, keep_rows=config.mode == "sft")
    of_train = training_reader(columns, judge, mode=config.mode, heldout=config.data.heldout)
    options = {"size": config.data.size or None, "seed": config.seed}
    train = [load(name, "data.train", of_train, **options) for name in config.data.train]
    tests = [load(name, "data.eval", of_tests) for name in config.data.eval]
    data.check_names(tests, "data.eval")
    _check_columns(config, [*train, *tests])
    return data.join(train, "data.train"), tests


def _check_columns(config: Config, datasets: Sequence[data.Dataset]) -> None:
    """Raises InputError where the mapping of columns applies to no set."""
    reasons = [dataset.unmapped for dataset in datasets]
    if config.data.columns and all(reasons):
        raise InputError("data.columns", f"applies to no set: {reasons[0]}")


def split_problems(
    problems: data.Dataset, tests: Sequence[data.Dataset], config: Config
) -> Datasets:
    """Training and held-out problems without those of a test set, and the part of the test sets to
    evaluate on.
    """
    with status("comparing training with test problems"):
        clean = data.decontaminate(problems, tests, similarity=config.data.similarity)
    train, heldout = data.split_heldout(clean, config.data.heldout, config.seed)
    return Datasets(train, heldout, tuple(_first(test, config.eval.limit) for test in tests))


def _first(dataset: data.Dataset, limit: int) -> data.Dataset:
    """The first `limit` problems; 0 = all."""
    excess = len(dataset.problems) - (limit or len(dataset.problems))
    if excess <= 0:
        return dataset
    dropped = {**dataset.dropped, "past eval.limit": excess}
    return dataclasses.replace(dataset, problems=dataset.problems[:limit], dropped=dropped)


def fit_prompts(
    dataset: data.Dataset, team: Team, overlong: str, *, time_limit: float = 0.0
) -> data.Dataset:
    """Checks every problem against the team's chat templates and prompt length.

    Args:
      dataset: its problems.
      team: its tokenizers and prompt length.
      overlong: "error", or "drop": longer problems are dropped and counted.
      time_limit: seconds for a chat template to write all conversations; 0 = no limit.

    Raises:
      InputError: a chat template does not write the turns of a problem, a prompt is too long and
        `overlong` is "error", all are too long, or a problem has not one view per agent.
    """
    agents = team.topology.num_agents
    for problem in dataset.problems:
        if problem.views and len(problem.views) != agents:
            raise InputError(
                "views",
                f"problem {problem.id} has {len(problem.views)}, the team {agents} agents; "
                "give every agent one, or "
                "leave them out",
            )

    run_with_timeout(
        time_limit, "model", functools.partial(_write_conversations, dataset.problems, team)
    )
    with status(f"measuring the prompts of {dataset.name}"):
        longest = _prompt_lengths(dataset.problems, team)
    fits = longest <= team.prompt_length
    too_long = int(np.sum(~fits))
    if not too_long:
        return dataset
    if overlong == "error" or not fits.any():
        raise InputError(
            "prompt_length",
            f"{too_long} prompts of {dataset.name} exceed {team.prompt_length} tokens, the "
            "longest takes "
            f"{max(longest)} at least; type --config.prompt_length={max(longest)} or "
            "--config.data.overlong=drop",
        )
    problems = tuple(p for p, fit in zip(dataset.problems, fits, strict=True) if fit)
    dropped = {**dataset.dropped, "prompt too long": too_long}
    return dataclasses.replace(dataset, problems=problems, dropped=dropped)


def _write_conversations(problems: Sequence[data.Problem], team: Team) -> None:
    """Lets each chat template write every sequence of speakers once, so that none fails later.

    Raises:
      InputError: one does not; the message names the first problem with these speakers.
    """
    first_with: dict[tuple, tuple[str, Conversation]] = {}
    for problem in problems:
        conversation = problem.prompt_text_for(0)
        # Of more turns the prompt is too long.
        if isinstance(conversation, Conversation) and len(problem.history) <= team.prompt_length:
            kind = (conversation.speakers, bool(conversation.system))
            first_with.setdefault(kind, (problem.id, conversation))

    for problem_id, conversation in first_with.values():
        for agent in team.agents + team.raters:
            try:
                prompts.frame_of(agent.template, agent.tokenizer, conversation)
            except InputError as error:
                message = str(error).removeprefix(f"{error.field}: ")
                raise InputError(error.field, f"problem {problem_id:.80}: {message}") from error


def _prompt_lengths(problems: Sequence[data.Problem], team: Team) -> HostArray:
    """``[N]`` tokens of each problem's longest prompt."""
    readers = [*team.topology.speakers, *range(len(team.raters))]
    # Where all agents read the same text, it makes no difference who reads it.
    have_views = any(problem.views for problem in problems)
    distinct: dict[tuple, tuple[Agent, int]] = {}
    for agent, reader in zip(team.agents + team.raters, readers, strict=True):
        distinct[agent.tokenizer, agent.template, have_views and reader] = (agent, reader)

    lengths = []
    for agent, reader in distinct.values():
        texts = [problem.prompt_text_for(reader) for problem in problems]
        lengths.append(_lengths_for(agent, texts, team.prompt_length))
    return np.max(lengths, axis=0)


def _lengths_for(
    agent: Agent, problems: Sequence[str | Conversation], prompt_length: int
) -> HostArray:
    """``[N]`` tokens of an agent's prompts. For texts beyond the limit, a prefix counts if it
    already exceeds it.
    """
    template = agent.template
    frame = len(template.opening) + len(template.after) + len(prompts.tail(template, []))
    lengths = np.full(len(problems), frame, int)
    texts: list[str] = []
    owners: list[int] = []
    for number, problem in enumerate(problems):
        own = [problem] if isinstance(problem, str) else [*problem.texts, problem.question]
        if isinstance(problem, str):
            head = len(template.head)
        elif len(problem.history) > prompt_length:
            # Each turn takes a token at least.
            head = len(problem.history)
            own = []
        else:
            head = prompts.live_tokens(template, agent.tokenizer, problem)
        lengths[number] += head
        texts += own
        owners += [number] * len(own)

    np.add.at(lengths, owners, _token_counts(agent.tokenizer, texts, prompt_length))
    return lengths


def _token_counts(
    tokenizer: prompts.TextCodec, texts: Sequence[str], prompt_length: int
) -> list[int]:
    """Tokens of each text; of one beyond the limit, of a part that already exceeds it."""
    limit = _CHARACTERS_PER_TOKEN * prompt_length
    # Worked examples are mostly the same for all problems.
    distinct = list(dict.fromkeys(texts))
    counts = [len(ids) for ids in tokenizer.encode_batch([text[:limit] for text in distinct])]
    counts_of = dict(zip(distinct, counts, strict=True))
    cut = [text for text in distinct if len(text) > limit and counts_of[text] <= prompt_length]
    for text, ids in zip(cut, tokenizer.encode_batch(cut), strict=True):
        counts_of[text] = len(ids)
    return [counts_of[text] for text in texts]


# --- the team -------------------------------------------------------------------------------------


def load_team(
    config: Config,
    topology: Topology,
    layout: Layout,
    words: Mapping[str, prompts.RolePrompt],
    *,
    ratings: bool,
    parts: Parts = NO_PARTS,
    recorded: Collection[str] = (),
    steps: Mapping[str, int] = types.MappingProxyType({}),
    lora: models.LoRA | None = None,
) -> LoadedTeam:
    """Everything about the agents but their parameters.

    Args:
      config: models and lengths.
      topology: the team's.
      layout: of the devices.
      words: of every role.
      ratings: True: the agents also rate outcomes.
      parts: models of a program.
      recorded: see `build`.
      steps: workdir -> step of the checkpoints of earlier runs that it starts from.
      lora: the adapters that are trained; None = all parameters are.
    """
    sets = make_parameter_sets(
        config.model, topology.num_agents, shared_policy=config.shared_policy
    )
    sources = find_sources(
        names_per_set(config.model, sets),
        len(sets),
        revision=config.revision,
        objects=parts.models,
        steps=steps,
    )
    # Runs that started from one model share its tokenizer, and so its sampler calls.
    names = [source.model for source in sources]
    networks: dict[str, Any] = {name: model.config for name, model in parts.models.items()}
    tokenizers: dict[str, Any] = {name: model.tokenizer for name, model in parts.models.items()}
    policies = {name: _policy_of(model) for name, model in parts.models.items()}
    for source in sources:
        name = source.model
        if name in networks:
            continue
        networks[name], tokenizers[name], policies[name] = load_network(source, config, layout)
    if lora is not None:
        policies = {name: models.with_adapters(policy, lora) for name, policy in policies.items()}
    if config.thinking is not None and "thinking" not in recorded:
        _check_thinking(tokenizers, config)

    def agent(role: str, speaker: int, senders: list[str], max_tokens: int) -> Agent:
        parameter_set = sets.of_agent[speaker]
        name = names[parameter_set]
        # A foreign chat template may loop forever.
        template = run_with_timeout(
            config.load_time_limit,
            "model",
            functools.partial(prompts.tokenize_role, tokenizers[name], words[role], senders),
        )
        # Each once, those for every role first.
        stop = tuple(dict.fromkeys((*config.sample.stop, *words[role].stop)))
        return Agent(policies[name], tokenizers[name], template, max_tokens, parameter_set, stop)

    agents = []
    lengths = response_lengths(config.response_length, topology)
    for turn, role in enumerate(topology.roles):
        speaker = topology.speakers[turn]
        agents.append(agent(role, speaker, senders_of(topology, turn), lengths[turn]))

    raters = []
    if ratings:
        senders = [*topology.roles, "verdict"]
        for speaker, role in enumerate(topology.agent_roles):
            raters.append(agent(f"rate_{role}", speaker, senders, config.credit.rating_length))

    team = Team(topology, tuple(agents), config.prompt_length, tuple(raters))
    if any(agent.stop for agent in (*agents, *raters)):
        with status("preparing stop strings"):
            _check_stops(team, config, words)
    return LoadedTeam(team, tuple(networks[name] for name in names), sources)


def _policy_of(model: Model) -> Policy:
    """The policy of a program's model. Ids that its tokenizer does not have are never sampled, also
    where the policy was made without their number.
    """
    if not isinstance(model.tokenizer, Tokenizer):
        # Of another codec only the policy knows which ids are tokens.
        return model.policy
    tokenizer = model.tokenizer
    return models.with_tokens(model.policy, tokenizer.vocab_size, tokenizer.unused_ids)


def load_network(source: Source, config: Config, layout: Layout) -> Network:
    """A network without its parameters.

    Args:
      source: its model, from `find_sources`.
      config: numbers and kernels that it computes with.
      layout: of the devices.
    """
    name, revision = source.model, source.revision
    with status(f"loading the tokenizer of {name}"):
        tokenizer = run_with_timeout(
            config.load_time_limit,
            "model",
            lambda: load_tokenizer(name, revision=revision, thinking=config.thinking),
        )
    network = models.load_config(name, revision=revision)
    if tokenizer.vocab_size > network.vocab_size:
        raise InputError(
            "model",
            f"the tokenizer vocabulary of {name} ({tokenizer.vocab_size}) is larger than the "
            "embedding table "
            f"({network.vocab_size}); choose a model whose files belong together",
        )
    policy = models.make_policy(
        network,
        compute_dtype=jnp.dtype(config.compute_dtype),
        remat=config.trainer.remat,
        attention=config.attention,
        layout=None if layout.mesh.size == 1 else layout,
        num_tokens=tokenizer.vocab_size,
        unused_ids=tokenizer.unused_ids,
    )
    return Network(network, tokenizer, policy)


def _check_stops(team: Team, config: Config, words: Mapping[str, prompts.RolePrompt]) -> None:
    """Checks that the stop strings of every role can occur in its responses."""
    roles = [*team.topology.roles, *(f"rate_{role}" for role in team.topology.agent_roles)]
    agents: dict[str, list[Agent]] = {}
    for role, agent in zip(roles, team.agents + team.raters, strict=False):
        agents.setdefault(role, []).append(agent)

    check_can_stop(config.sample.stop, team.agents + team.raters, "sample.stop")
    for role, of_role in agents.items():
        check_can_stop(words[role].stop, of_role, "prompts")
        check_stop_strings(of_role[0].stop, "sample.stop", f"with those of [{role:.80}], ")


def _check_thinking(tokenizers: Mapping[str, Any], config: Config) -> None:
    """Raises InputError where no model's chat template reads the switch."""
    for tokenizer in tokenizers.values():
        if run_with_timeout(config.load_time_limit, "model", tokenizer.reads_thinking):
            return
    names = ", ".join(config.model)
    raise InputError(
        "thinking",
        f"has no effect: the chat template of {names:.200} does not read it; received "
        f"{config.thinking}; type --config.thinking=None, or use a model whose template reads one "
        f"of {', '.join(SWITCHES)}",
    )


def response_lengths(lengths: Sequence[int], topology: Topology) -> tuple[int, ...]:
    """Most tokens of each turn's response, from one number, or one per agent or per turn."""
    turns = len(topology.roles)
    agents = topology.num_agents
    if len(lengths) == turns:
        return tuple(lengths)
    if len(lengths) not in (1, agents):
        team = f"{agents} agents" if agents == turns else f"{agents} agents in {turns} turns"
        example = ",".join([str(lengths[0])] * agents)
        raise InputError(
            "response_length",
            f"{len(lengths)} entries for {team}; give one, or one per agent, such as "
            f"--config.response_length={example}",
        )
    return tuple(lengths[speaker % len(lengths)] for speaker in topology.speakers)


def load_params(
    sources: Sequence[Source],
    layout: Layout,
    *,
    time_limit: float,
    models_given: Mapping[str, Model] = types.MappingProxyType({}),
    dtype: Any = jnp.float32,
    copies: bool = True,
) -> tuple:
    """P parameter sets on the mesh.

    Args:
      sources: of every set, from `find_sources`; each distinct one is loaded once.
      layout: of the devices.
      time_limit: seconds; 0 = no limit.
      models_given: models of a program by the names that the sources have.
      dtype: of the parameters.
      copies: True: each set is a copy of its own, which is trained and donated. False: sets of one
        source share their arrays.

    Raises:
      InputError: one of them cannot be read, or is of another network.
    """
    placement = functools.partial(state_sharding, layout.mesh, rules=layout.train)

    def load_one(source: Source) -> Any:
        if source.model in models_given:
            params = jax.tree.map(lambda x: np.asarray(x, dtype), models_given[source.model].params)
            return jax.tree.map(put, params, placement(params))
        if not source.workdir:
            _, params = models.load(
                source.model, dtype=dtype, revision=source.revision, sharding=placement
            )
            return params
        network = models.load_config(source.model, revision=source.revision)
        shapes = models.parameter_shapes(network)
        like = jax.tree.map(_placed, shapes, placement(shapes))
        params = read_trained(source, like)
        return jax.tree.map(lambda x: x.astype(dtype), params)

    def load() -> tuple:
        loaded = {source: load_one(source) for source in dict.fromkeys(sources)}
        if not copies:
            return tuple(loaded[source] for source in sources)
        copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))
        return tuple(copy(loaded[source]) for source in sources)

    return run_with_timeout(time_limit, "model", load)


def _placed(shape: jax.ShapeDtypeStruct, sharding: Any) -> jax.ShapeDtypeStruct:
    """Float32 parameters, as checkpoints hold them, with their place."""
    return jax.ShapeDtypeStruct(shape.shape, jnp.float32, sharding=sharding)
