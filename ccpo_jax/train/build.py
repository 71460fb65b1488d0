"""Build a run: the configuration becomes typed objects, once."""

import dataclasses
import functools
import inspect
import sys
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ccpo_jax import config as table
from ccpo_jax.config import Config, LogConfig, RolloutLogConfig, VerifierConfig
from ccpo_jax.devices.compile_status import watch_compilation
from ccpo_jax.devices.distributed import print_main
from ccpo_jax.devices.sharding import Layout, batch_sharding, make_layout, make_mesh, num_shards
from ccpo_jax.errors import InputError
from ccpo_jax.learner.optimizer import Optimizer
from ccpo_jax.learner.reference import Reference
from ccpo_jax.learner.update import (
    SUPERVISED,
    LossConfig,
    PackingConfig,
    UpdateConfig,
    whole_params,
)
from ccpo_jax.models import LoRA
from ccpo_jax.parameter_sets import make_parameter_sets
from ccpo_jax.reward_names import AUTO, may_call_functions
from ccpo_jax.rl.credit import CREDITS, make_credit
from ccpo_jax.rl.losses import LOSSES, batch_totals
from ccpo_jax.rl.topology import TOPOLOGIES, Topology, agent_masks, texts_per_sample
from ccpo_jax.rl.types import CreditEstimator, Outcome
from ccpo_jax.rollout import Team
from ccpo_jax.rollout.prompts import RolePrompt
from ccpo_jax.sampler import SamplingParams
from ccpo_jax.train import plugins
from ccpo_jax.train.adapters import first_adapters, load_bases, make_lora
from ccpo_jax.train.advantage import Advantage
from ccpo_jax.train.baselines import check_baseline
from ccpo_jax.train.demonstrations import (
    Demonstrations,
    find_targets,
    with_demonstrations,
)
from ccpo_jax.train.evaluate import EvalConfig, evaluation_worlds
from ccpo_jax.train.load import (
    Datasets,
    fit_prompts,
    load_params,
    load_problems,
    load_team,
    split_problems,
)
from ccpo_jax.train.overlong import Overlong
from ccpo_jax.train.parts import NO_PARTS, Parts, check_objects
from ccpo_jax.train.reference import load_references
from ccpo_jax.train.rollouts import RolloutConfig
from ccpo_jax.train.schedule import Schedule, make_optimizers, make_schedule
from ccpo_jax.train.sources import choose_steps
from ccpo_jax.train.words import apply_file, check_style, team_words
from ccpo_jax.train.worlds import credit_of_step, masked_worlds
from ccpo_jax.verifiers import VerifierPool
from ccpo_jax.verifiers.grader import check_problems
from ccpo_jax.verifiers.reward import load_reward

# Fields of the credit section that concern any estimator, and are not its arguments.
_ROLLOUT_FIELDS = (
    "name",
    "rating_length",
    "solo_samples",
    "overlong_penalty",
    "overlong_buffer",
)

# Fields of the loss section that concern any loss, and are not its arguments.
_TERMS_OF_ANY_LOSS = ("name", "entropy_bonus", "kl_weight", "kl_estimator", "reference")

# Texts per turn, masked worlds included, from which on their number is worth a note.
_MANY_TEXTS = 4

_PHASES = ("rollout", "update", "evaluation", "loading")


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """What happens around the steps of a run."""

    steps: int  # of the whole run
    eval_every: int = 0  # steps between held-out evaluations; 0 = only before and after
    eval_first: bool = True  # also evaluate before step 1
    checkpoint_every: int = 0  # steps between checkpoints; 0 = only at the end
    keep_last: int = 3  # newest checkpoints kept; the best is kept besides
    not_finite: str = "stop"  # stop | skip: what follows an update that was left out


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run, built: everything that `Trainer` needs."""

    seed: int
    team: Team
    params: tuple  # P float32 parameter pytrees, on the mesh; with LoRA those of adapters alone
    datasets: Datasets
    credit: CreditEstimator
    advantage: Advantage
    rollout: RolloutConfig
    update: UpdateConfig  # of parameter sets without an optimizer of their own
    schedule: Schedule
    evaluation: EvalConfig
    loop: LoopConfig
    layout: Layout
    optimizers: tuple = ()  # P optimizers; () = that of `update` for every parameter set
    references: tuple[Reference, ...] = ()  # P, or none where the loss has no KL term
    # P, the networks that adapters are trained on; sets of one source share one. () without LoRA.
    bases: tuple[Reference, ...] = ()
    lora: LoRA | None = None  # the adapters that are trained on them
    # workdir -> step of the checkpoints of earlier runs that it starts from
    started_from: Mapping[str, int] = dataclasses.field(default_factory=dict)
    model_configs: tuple = ()  # P network configurations, for export
    words: Mapping[str, RolePrompt] = dataclasses.field(default_factory=dict)  # of each role
    overlong: Overlong | None = None  # the penalty on long responses; None = there is none
    verifier: VerifierConfig = VerifierConfig()
    functions: Mapping[str, Callable] = dataclasses.field(default_factory=dict)  # reward functions
    log: LogConfig = LogConfig()
    rollout_log: RolloutLogConfig = RolloutLogConfig()
    demonstrations: Demonstrations | None = None  # None = it learns by reinforcement
    config: Config | None = None  # what it was built from, for config.json alone
    # phase -> name and value of the fields to lower where it runs out of memory
    memory_fields: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def step_credits(self) -> Mapping[tuple[int, ...], CreditEstimator]:
        """The credit of a step by the agents that it trains. Made once: an estimator is the key of
        compiled programs.
        """
        topology = self.team.topology
        return {
            active: credit_of_step(self.credit, topology, active)
            for active in self.schedule.all_active()
        }

    def frozen(self, parameter_set: int) -> Any:
        """The parameters of a set's network that adapters are trained on; None without LoRA."""
        return self.bases[parameter_set].params if self.bases else None

    def whole_params(self, params: Sequence[Any]) -> tuple:
        """What the networks compute with: P trained parameter sets, adapters with their bases."""
        if not self.bases:
            return tuple(params)
        return tuple(
            whole_params(base.policy, base.params, adapters)
            for base, adapters in zip(self.bases, params, strict=True)
        )

    def update_of(self, parameter_set: int) -> UpdateConfig:
        """How one parameter set is updated."""
        if not self.optimizers:
            return self.update
        return dataclasses.replace(self.update, optimizer=self.optimizers[parameter_set])

    def verifier_pool(self) -> VerifierPool:
        """Starts the processes that check its answers. A context manager."""
        options: dict[str, Any] = {"functions": self.functions} if self.functions else {}
        if self.config is not None:
            options["plugins"] = plugins.verifier_plugins(self.config.plugins)
        return VerifierPool(**vars(self.verifier), **options)

    @property
    def has_reward_function(self) -> bool:
        """Whether a function of the user's judges answers, alone or among others."""
        return may_call_functions(self.verifier.name)

    def reading_pool(self) -> VerifierPool:
        """Starts processes that read answers without a function of the user's."""
        settings = dataclasses.replace(self.verifier, name=AUTO, range=(0.0, 1.0))
        return VerifierPool(**vars(settings))


def build(
    config: Config | Mapping[str, Any],
    *,
    parts: Parts = NO_PARTS,
    devices: Sequence[Any] | None = None,
    for_training: bool = True,
    recorded: Collection[str] = (),
    recorded_steps: Mapping[str, int] = types.MappingProxyType({}),
) -> Run:
    """Loads and checks everything a run needs, cheapest first, so that mistakes fail before work
    begins.

    Args:
      config: a `Config`, or nested mappings of its fields such as a ConfigDict.
      parts: the objects that it names.
      devices: of the mesh; None = all.
      for_training: False: what only updates need is not loaded.
      recorded: fields whose values are those that the run has recorded. An earlier version recorded
        some without effect, which is no mistake now.
      recorded_steps: workdir -> step of the checkpoints of earlier runs that the run started from.

    Raises:
      InputError: one line that names the field, what was received and what to type instead.
    """
    watch_compilation()
    config = table.parse(plugins.combine(config, {}))
    check_objects(config, parts)
    reward = load_reward(config.verifier.name, config.verifier.range, parts.functions)
    topology = parts.topology or make_topology(config)
    credit = make_run_credit(config, topology, parts)
    loss = make_loss(config)
    lora = make_lora(config)
    schedule = make_schedule(config, topology)
    optimizers = make_optimizers(config, topology, schedule)
    advantage = make_advantage(config, credit, recorded)
    check_credit(config, credit, advantage, topology)
    check_loss(config, loss)
    _note_masked_worlds(config, credit, topology)
    words = team_words(config, topology, ratings=credit.needs.ratings, own=parts.prompts)
    layout = make_run_layout(config, devices)
    rollout = make_rollout(config, layout, record_collision=advantage.reads_collisions)
    _check_batch_sizes(config, num_shards(rollout.sampling.sharding))

    steps = choose_steps(config.model, recorded_steps)
    reference_steps = {}
    if for_training and loss.kl_weight:
        known = {**recorded_steps, **steps}
        reference_steps = choose_steps(config.loss.reference, known, field="loss.reference")
    problems, tests = load_problems(config, parts, num_agents=topology.num_agents)
    for dataset in (problems, *tests):
        check_problems(reward, dataset.problems)
    team, model_configs, sources = load_team(
        config,
        topology,
        layout,
        words,
        ratings=credit.needs.ratings,
        parts=parts,
        recorded=recorded,
        steps=steps,
        lora=lora,
    )
    problems, *tests = (
        fit_prompts(dataset, team, config.data.overlong, time_limit=config.load_time_limit)
        for dataset in (problems, *tests)
    )
    datasets = split_problems(problems, tests, config)
    demonstrations = None
    if config.mode == "sft":
        demonstrations = find_targets(config.sft.targets, topology)
        train = with_demonstrations(datasets.train, demonstrations, team)
        datasets = datasets._replace(train=train)
    bases: tuple[Reference, ...] = ()
    if lora is not None:
        bases = load_bases(config, team, sources, layout, parts.models)
        sets = make_parameter_sets(
            config.model, topology.num_agents, shared_policy=config.shared_policy
        )
        params = first_adapters(config, sets, bases, model_configs, layout)
    else:
        params = load_params(
            sources,
            layout,
            time_limit=config.load_time_limit,
            models_given=parts.models,
        )
    references = ()
    if for_training and loss.kl_weight and bases and not config.loss.reference:
        references = bases
    elif for_training and loss.kl_weight:
        references = load_references(
            config, team, params, sources, layout, parts, steps=reference_steps
        )
    return Run(
        seed=config.seed,
        team=team,
        params=params,
        references=references,
        bases=bases,
        lora=lora,
        datasets=datasets,
        credit=credit,
        advantage=advantage,
        rollout=rollout,
        update=make_update(config, loss, layout, optimizers[0]),
        schedule=schedule,
        evaluation=make_evaluation(config, rollout.sampling),
        loop=LoopConfig(
            steps=config.steps,
            eval_every=config.eval_every,
            eval_first=config.eval_first,
            checkpoint_every=config.checkpoint_every,
            keep_last=config.keep_last,
            not_finite=config.trainer.not_finite,
        ),
        layout=layout,
        optimizers=optimizers if len(set(optimizers)) > 1 else (),
        model_configs=model_configs,
        words=words,
        started_from={**steps, **reference_steps},
        overlong=make_overlong(config),
        verifier=config.verifier,
        functions=parts.functions,
        log=config.log,
        rollout_log=config.rollout_log,
        demonstrations=demonstrations,
        config=config,
        memory_fields={phase: memory_fields(config, phase) for phase in _PHASES},
    )


def settle_words(config: Config, typed: Mapping[str, Any]) -> Config:
    """A checked configuration with what its file of role prompts says about answers.

    Args:
      config: of a new run.
      typed: values by dotted name; None takes a field back.

    Raises:
      InputError: the file cannot be read, contradicts the configuration, or leaves a typed
        `prompt_style` without effect.
    """
    names = [name for name, value in typed.items() if value is not None]
    config = apply_file(config, names)
    if "prompt_style" in names:
        topology = make_topology(config)
        ratings = make_run_credit(config, topology).needs.ratings
        check_style(config, topology, ratings=ratings)
    return config


def memory_fields(config: Config, phase: str) -> dict[str, Any]:
    """Name and value of the fields to lower where a phase runs out of memory, most effective
    first.
    """
    return {name: table.get(config, name) for name in table.fields_to_lower(phase)}


# --- the parts ------------------------------------------------------------------------------------


def make_topology(config: Config) -> Topology:
    """The team's topology."""
    constructor = _lookup(TOPOLOGIES, config.topology, "topology")
    known = config.topology in table.TOPOLOGIES
    arguments = _arguments(config, "team", None if known else constructor)
    with plugins.outside_errors("topology", config.topology, known):
        topology = constructor(**arguments)
    if not isinstance(topology, Topology):
        raise InputError(
            "topology",
            f"the function of {config.topology!r} returned {type(topology).__name__}; return a "
            "ccpo_jax.Topology",
        )
    return topology


def make_run_credit(config: Config, topology: Topology, parts: Parts = NO_PARTS) -> CreditEstimator:
    """The credit estimator. Where demonstrations are learned, the shared reward is shown."""
    if config.mode == "sft":
        return make_credit("shared", topology)
    name = config.credit.name
    known = name in table.CREDITS
    with plugins.outside_errors("credit.name", name, known):
        if parts.credit is not None:
            credit = parts.credit(topology)
        else:
            constructor = None if known else CREDITS.get(name)
            arguments = _arguments(config, "credit", constructor, without=_ROLLOUT_FIELDS)
            credit = make_credit(name, topology, **arguments)
    if not isinstance(credit, CreditEstimator):
        raise InputError(
            "credit" if parts.credit is not None else "credit.name",
            f"the function of {name!r} returned {type(credit).__name__}; return a "
            "ccpo_jax.CreditEstimator",
        )
    return credit


def make_loss(config: Config) -> LossConfig:
    """The loss with its hyper-parameters."""
    if config.mode == "sft":
        return LossConfig(SUPERVISED, logits_chunk=config.trainer.logits_chunk)
    function = _lookup(LOSSES, config.loss.name, "loss.name")
    known = config.loss.name in table.LOSSES
    constructor = None if known else function
    arguments = _arguments(config, "loss", constructor, without=_TERMS_OF_ANY_LOSS)
    return LossConfig(
        name=config.loss.name,
        hyper=tuple(sorted(arguments.items())),
        on_policy=config.trainer.mini_batches * config.trainer.epochs == 1,
        entropy_bonus=config.loss.entropy_bonus,
        kl_weight=config.loss.kl_weight,
        kl_estimator=config.loss.kl_estimator,
        logits_chunk=config.trainer.logits_chunk,
    )


def make_advantage(
    config: Config, credit: CreditEstimator, recorded: Collection[str] = ()
) -> Advantage:
    """How credit becomes an advantage; what the configuration leaves open follows from loss and
    credit.

    Args:
      config: of the run.
      credit: its estimator.
      recorded: see `build`.
    """
    baseline = config.advantage.baseline
    if baseline is None:
        baseline = "none" if config.loss.name == "reinforce_pp" else credit.baseline.kind
    if baseline not in table.BASELINES:
        raise InputError(
            "advantage.baseline",
            f"{baseline!r:.80} is unknown; use one of {', '.join(table.BASELINES)}",
        )
    if credit.baseline.kind == "none" and baseline != "none":
        raise InputError(
            "advantage.baseline",
            f"credit {config.credit.name!r} has a baseline of its own, received {baseline!r}; "
            "leave it out",
        )
    if config.advantage.normalize_std and baseline != "group":
        raise InputError(
            "advantage.normalize_std",
            f"baseline {baseline!r} does not divide, received True; leave it out, or type "
            "--config.advantage.baseline=group",
        )
    check_baseline(config, baseline, recorded)
    normalize_std = config.advantage.normalize_std
    if normalize_std is None:
        normalize_std = credit.baseline.normalize_std
    rule = Advantage(
        baseline,
        normalize_std,
        delta=config.advantage.delta,
        pool=config.advantage.pool,
        form=config.advantage.form,
        carried=config.advantage.carried,
    )
    if rule.by_token and credit.needs.answers_per_text > 1:
        raise InputError(
            "advantage.form",
            f"credit {config.credit.name!r} has several answers to a text, which an advantage for "
            "each token does not compare; type --config.advantage.form=sequence",
        )
    return rule


def make_overlong(config: Config) -> Overlong | None:
    """The penalty on long responses, where there is one."""
    if not config.credit.overlong_penalty:
        return None
    return Overlong(config.credit.overlong_penalty, config.credit.overlong_buffer)


def make_run_layout(config: Config, devices: Sequence[Any] | None) -> Layout:
    """The mesh, and by which rules it splits what is trained and what samples."""
    mesh = make_mesh(
        data=config.mesh.data, fsdp=config.mesh.fsdp, model=config.mesh.model, devices=devices
    )
    return make_layout(mesh, config.mesh.rules)


def make_rollout(
    config: Config, layout: Layout, *, record_collision: bool = False
) -> RolloutConfig:
    """Group size and sampling of training."""
    return RolloutConfig(
        batch_size=config.batch_size,
        group_size=config.group_size,
        solo_samples=config.credit.solo_samples,
        max_draws=config.sample.max_draws,
        sampling=SamplingParams(
            temperature=config.sample.temperature,
            top_p=config.sample.top_p,
            top_k=config.sample.top_k,
            min_p=config.sample.min_p,
            decode_chunk=config.sample.decode_chunk,
            max_concurrent=config.sample.max_concurrent,
            sharding=batch_sharding(layout.mesh, layout.decode),
            record_collision=record_collision,
        ),
    )


def make_evaluation(config: Config, sampling: SamplingParams) -> EvalConfig:
    """Evaluation samples as training does, but for a temperature or filters of its own."""
    changes = {
        name: getattr(config.eval, name)
        for name in ("temperature", "top_p", "top_k", "min_p")
        if getattr(config.eval, name) is not None
    }
    # None says that evaluation samples as training does.
    if changes.get("top_k") == 0:
        changes["top_k"] = None
    return EvalConfig(
        # At temperature 0 all samples are the same.
        samples=1 if config.eval.temperature == 0 else config.eval.samples,
        batch_size=config.eval.batch_size,
        greedy=config.eval.greedy,
        sampling=dataclasses.replace(sampling, record_collision=False, **changes),
    )


def make_update(
    config: Config, loss: LossConfig, layout: Layout, optimizer: Optimizer
) -> UpdateConfig:
    """Loss, optimizer and packing of a parameter set."""
    # Of fewer tokens, or of rounded numbers, the sampler's log-probs are not those of training.
    sampler_differs = config.compute_dtype != "float32" or config.sample.leaves_out_tokens
    return UpdateConfig(
        loss=loss,
        optimizer=optimizer,
        packing=PackingConfig(
            row_length=config.trainer.pack_length,
            rows_per_microbatch=config.trainer.micro_batch,
            sharding=batch_sharding(layout.mesh, layout.train),
        ),
        # Nobody samples a demonstration.
        temperature=1.0 if config.mode == "sft" else config.sample.temperature,
        mini_batches=config.trainer.mini_batches,
        epochs=config.trainer.epochs,
        rescore=not loss.on_policy and sampler_differs,
    )


# --- checks and arguments -------------------------------------------------------------------------


def check_credit(
    config: Config, credit: CreditEstimator, advantage: Advantage, topology: Topology
) -> None:
    """Traces credit and advantage at the run's sizes without computing, so that what they refuse
    shows here.

    Raises:
      InputError: they refuse the run, or a credit from outside is not one per agent and sample.
    """
    masks = agent_masks(topology.num_agents, masked_worlds(credit, topology))
    worlds, agents = masks.shape
    samples = config.group_size * credit.needs.answers_per_text ** (agents - 1)
    shape = (worlds, config.batch_size, samples)
    outcome = Outcome(
        reward=_abstract(*shape),
        correct=_abstract(*shape, agents),
        answer_id=_abstract(*shape, agents, dtype=jnp.int32),
        agent_mask=_abstract(*masks.shape, dtype=jnp.bool),
        shares=_abstract(agents, *shape[1:], 2) if credit.needs.ratings else None,
        surprisal=_abstract(agents, *shape[1:]),
        answer_logprob=(_abstract(samples, *shape[1:]) if credit.needs.answer_logprob else None),
    )
    name = config.credit.name
    with plugins.outside_errors("credit.name", name, name in table.CREDITS):
        value, _ = jax.eval_shape(credit.update, jax.eval_shape(credit.init), outcome)
    expected = (agents, *shape[1:])
    received = getattr(value, "shape", None)
    if received != expected:
        raise InputError(
            "credit.name",
            f"{name!r} returns credit of shape {received}; it has to be [agents, prompts, "
            f"samples], here {expected}",
        )
    jax.eval_shape(advantage, value, outcome.surprisal, advantage.init(agents))


def _note_masked_worlds(config: Config, credit: CreditEstimator, topology: Topology) -> None:
    """Says, before work begins, where masked worlds are most of what a large team decodes.

    Where agents read each other, what a mask changes is decoded again, and every message is in
    every later prompt: that grows with the square of the number of agents.
    """
    turns = len(topology.roles)
    worlds = {} if config.mode == "sft" else {"training": masked_worlds(credit, topology)}
    if config.data.heldout or config.data.eval:
        worlds["evaluation"] = evaluation_worlds(topology)
    texts = {
        what: texts_per_sample(topology, agent_masks(topology.num_agents, masked))
        for what, masked in worlds.items()
    }
    if max(texts.values(), default=0) > _MANY_TEXTS * turns:
        counts = " and ".join(f"{count} in {what}" for what, count in texts.items())
        print_main(
            f"note: {topology.name} of {topology.num_agents} agents: each sample takes {turns} "
            f"texts, with its masked worlds {counts}; that grows with the square of the number of "
            "agents (of voters, who read nobody, masked worlds decode nothing)",
            file=sys.stderr,
        )


def check_loss(config: Config, loss: LossConfig) -> None:
    """Traces the loss without computing, so that what it refuses shows here.

    Raises:
      InputError: it refuses the run, or one from outside returns something else than a loss.
    """
    logprobs = _abstract(2, 3)
    mask = _abstract(2, 3, dtype=jnp.bool)
    totals = jax.eval_shape(batch_totals, _abstract(2), mask)
    name = config.loss.name
    with plugins.outside_errors("loss.name", name, name in table.LOSSES):
        value, metrics = jax.eval_shape(
            loss.function, logprobs, logprobs, _abstract(2), mask, totals=totals
        )
    shapes = [getattr(x, "shape", None) for x in jax.tree.leaves((value, metrics))]
    if not isinstance(metrics, dict) or set(shapes) != {()}:
        raise InputError(
            "loss.name",
            f"{name!r} returns numbers of shapes {shapes}; it has to return a loss of shape () and "
            "a dict of metrics of shape ()",
        )


def _abstract(*shape: int, dtype: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def _check_batch_sizes(config: Config, shards: int) -> None:
    for field in ("batch_size", "eval.batch_size"):
        size = table.get(config, field)
        if size % shards:
            raise InputError(
                field,
                f"{size} does not divide over {shards} devices; use a multiple of {shards}",
            )


def _arguments(
    config: Config,
    section: str,
    constructor: Callable[..., Any] | None,
    without: Collection[str] = (),
) -> dict[str, Any]:
    """The fields of a section that a constructor is called with.

    Args:
      config: the configuration.
      section: its section.
      constructor: None for an entry of the table of fields, which gets the fields that have an
        effect in this run. Of an entry that was added from outside the table knows nothing: it gets
        the fields that its signature names, with the values that config.json records, and those
        that were set, so that it refuses what it does not take.
      without: fields that are not the constructor's.
    """
    signature = set(inspect.signature(constructor).parameters) if constructor else set()
    arguments = {}
    for field in dataclasses.fields(getattr(config, section)):
        name = f"{section}.{field.name}"
        value = table.get(config, name)
        if constructor is None:
            applies = table.has_effect(config, name)
        else:
            applies = field.name in signature or value != table.FIELDS[name].default
        if field.name not in without and value is not None and applies:
            arguments[field.name] = value
    return arguments


def _lookup(entries: Mapping[str, Any], name: str, field: str) -> Any:
    """``entries[name]``, or one line that lists what there is."""
    if name not in entries:
        raise InputError(field, f"{name!r:.80} is unknown; use one of {', '.join(sorted(entries))}")
    return entries[name]
