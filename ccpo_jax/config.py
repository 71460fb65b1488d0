"""Every field of a run, declared once: default, meaning, allowed values, where it has an effect.

`python -m ccpo_jax.config` prints docs/configuration.md, which is made from these declarations; so
are the checks, the command line's `--help`, what a resumed run may change, and what to lower where
memory runs out.
"""

import dataclasses
import difflib
import functools
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

from ccpo_jax.counts import has_counts, without_counts
from ccpo_jax.errors import InputError
from ccpo_jax.fields import (
    OBJECT,
    Condition,
    Field,
    as_text,
    check_value,
    convert,
    field,
    fields_of,
    from_text,
    help_entry,
    path_exists,
    table_row,
    value_text,
)
from ccpo_jax.reward_names import (
    check_range,
    may_be_fraction,
    may_call_functions,
    may_use_verifiers,
    parse_reward,
)
from ccpo_jax.stop_strings import check_stop_strings

# --- where a field has an effect ------------------------------------------------------------------

# The library's own; what a table of the library gains from outside may take any field of its
# section.
TOPOLOGIES = ("solo", "dyad", "voting", "chain", "debate", "graph")
LOSSES = ("grpo", "gspo", "reinforce_pp", "cispo", "gmpo", "sapo")
# Those that clip: sapo has a smooth gate instead.
_CLIPPING_LOSSES = tuple(name for name in LOSSES if name != "sapo")
KL_ESTIMATORS = ("k1", "k2", "k3")
BASELINES = (
    "group",
    "leave_one_out",
    "none",
    "constant",
    "batch_mean",
    "asymmetric",
    "opo",
    "optimal",
    "weighted",
)
RULES = ("default", "replicated_decode")
# The products of a layer that can have an adapter, see models/lora.py.
LORA_TARGETS = ("q", "k", "v", "o", "gate", "up", "down")


def is_object(name: Any) -> bool:
    """Whether the value of a field names an object."""
    return isinstance(name, str) and name.startswith(OBJECT)


# In a weighted sum of rewards, some terms may be objects.
_OBJECT_TERM = re.compile(rf"{OBJECT}\w+")


@dataclasses.dataclass(frozen=True)
class CreditEntry:
    """What the configuration knows about a credit estimator, without importing the mathematics.

    Attributes:
      fields: of the section `credit`, that it takes.
      masked_worlds: it reads worlds in which agents are masked.
      solo_fields: that it takes besides where credit.solo_weight is above 0; where it has any, it
        then reads masked worlds too.
      baseline: "group" = the mean of the group is subtracted from its credit; "centred" = so, and
        the result is not divided by the standard deviation; "own" = it has one of its own.
    """

    fields: tuple[str, ...] = ()
    masked_worlds: bool = False
    solo_fields: tuple[str, ...] = ()
    baseline: Literal["group", "centred", "own"] = "group"


# A line for each entry of the dict in rl/credit.py. All that the fields below say about estimators
# follows from it, and a test compares it with the estimators.
CREDITS = {
    "shared": CreditEntry(),
    "magrpo": CreditEntry(baseline="centred"),
    "individual": CreditEntry(),
    "ccpo": CreditEntry(("alpha", "eta", "decay", "eps", "min_samples"), masked_worlds=True),
    "ccpo_event": CreditEntry(("weight", "soft"), masked_worlds=True, baseline="centred"),
    "sepo": CreditEntry(("own", "praise", "blame", "rating_length"), baseline="centred"),
    "difference": CreditEntry(masked_worlds=True),
    "agent_norm": CreditEntry(
        ("decay", "eps", "min_samples"), masked_worlds=True, baseline="centred"
    ),
    "cross_play": CreditEntry(("pairings",)),
    "shapley": CreditEntry(("orders",), masked_worlds=True),
    "nested": CreditEntry(("answers", "solo_weight"), solo_fields=("decay",), baseline="own"),
    "pooled": CreditEntry(("decay", "eps", "answers", "scaled"), baseline="own"),
    "cross_read": CreditEntry(("prior", "normalized"), baseline="own"),
}
# Entries of the library's tables from outside, by the field that names them: the fields of its
# section that each takes, without the section's name; None = any.
OUTSIDE: dict[str, dict[str, frozenset[str] | None]] = {
    "topology": {},
    "credit.name": {},
    "loss.name": {},
}
# The field that names the entry which a section's fields are for, and those of its fields that are
# not the entry's.
_NAMED_BY = {"team": "topology", "credit": "credit.name", "loss": "loss.name"}
_NOT_OF_AN_ENTRY = (
    "credit.name",
    "credit.rating_length",
    "credit.solo_samples",
    "credit.overlong_penalty",
    "credit.overlong_buffer",
    "loss.name",
    "loss.entropy_bonus",
    "loss.kl_weight",
    "loss.kl_estimator",
    "loss.reference",
)

# Estimators that take more where credit.solo_weight is above 0.
_WITH_SOLO_WEIGHT = tuple(name for name, entry in CREDITS.items() if entry.solo_fields)


def _credits_with(baseline: str) -> tuple[str, ...]:
    return tuple(name for name, entry in CREDITS.items() if entry.baseline == baseline)


def _listed(values: Sequence[str], last: str = "or") -> str:
    """``a, b or c``."""
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} {last} {values[-1]}"


def _only(
    name: str, known: Collection[str], values: tuple[str, ...], read: Callable[[Any], str]
) -> Condition:
    """One of the library's choices. A choice that the library does not know may take the field,
    but an object has none.
    """
    return Condition(
        f"{name}={_listed(values)}",
        (name,),
        lambda config: (
            read(config) in values or not (read(config) in known or is_object(read(config)))
        ),
    )


def _topology(*values: str) -> Condition:
    return _only("topology", TOPOLOGIES, values, lambda config: config.topology)


def _kind_of_topology(*values: str) -> Condition:
    """Like `_topology`, for what an object may have too: its name says what kind of team it is."""
    return _only(
        "topology", TOPOLOGIES, values, lambda config: config.topology.removeprefix(OBJECT)
    )


def _credit(name: str) -> Condition:
    """The estimators that take a field of the section `credit`."""
    takers = tuple(key for key, entry in CREDITS.items() if name in entry.fields)
    solo_takers = tuple(key for key, entry in CREDITS.items() if name in entry.solo_fields)
    condition = _only("credit.name", CREDITS, takers, lambda config: config.credit.name)
    if not solo_takers:
        return condition
    return Condition(
        f"{condition.words}, or {_listed(solo_takers)} with credit.solo_weight above 0",
        ("credit.name", "credit.solo_weight"),
        lambda config: (
            condition.holds(config)
            or (config.credit.name in solo_takers and config.credit.solo_weight > 0)
        ),
    )


def _loss(*values: str) -> Condition:
    return _only("loss.name", LOSSES, values, lambda config: config.loss.name)


def baseline(config: "Config") -> str:
    """A run's baseline: its own choice, else what follows from its loss and credit."""
    if config.advantage.baseline is not None:
        return config.advantage.baseline
    if config.loss.name == "reinforce_pp" or config.credit.name in _credits_with("own"):
        return "none"
    return "group"


def _on_hub(config: "Config") -> bool:
    # Behind a workdir there may stand the number of one of its parameter sets.
    models = without_counts(config.model)
    folders = [(name, name.rpartition(":")[0]) for name in models if name != "tiny"]
    return any(not any(map(os.path.isdir, names)) for names in folders)


def _generates_problems(config: "Config") -> bool:
    return any(name.startswith("synthetic/") for name in config.data.train)


_SUPERVISED = Condition("--mode=sft", ("mode",), lambda config: config.mode == "sft")
_VOTES = Condition(
    "topology=voting or debate, or graph with team.decision=vote",
    ("topology", "team.decision"),
    lambda config: (
        config.topology in ("voting", "debate")
        or not (config.topology in TOPOLOGIES or is_object(config.topology))
        or (config.topology == "graph" and config.team.decision == "vote")
    ),
)
_FROM_HUB = Condition("a model from the Hub", ("model",), _on_hub)
_OTHER_MODEL = Condition(
    "a model other than tiny",
    ("model",),
    lambda config: set(without_counts(config.model)) != {"tiny"},
)
_SYNTHETIC = Condition("a synthetic/... set in data.train", ("data.train",), _generates_problems)
_WHO_KNOWS = Condition(
    "synthetic/parts in data.train or data.eval",
    ("data.train", "data.eval"),
    lambda config: any(
        name.split("/")[:2] == ["synthetic", "parts"]
        for name in (*config.data.train, *config.data.eval)
    ),
)
_FRACTIONS = Condition(
    "a function of your own or a weighted sum in verifier.name",
    ("verifier.name",),
    lambda config: may_be_fraction(config.verifier.name),
)
_FUNCTIONS = Condition(
    "a function of your own in verifier.name",
    ("verifier.name",),
    lambda config: may_call_functions(config.verifier.name),
)
_VERIFIERS = Condition(
    "a verifier in verifier.name",
    ("verifier.name",),
    lambda config: may_use_verifiers(config.verifier.name),
)
_SEVERAL_UPDATES = Condition(
    "trainer.mini_batches or trainer.epochs above 1 (with one update per batch the ratio is 1)",
    ("trainer.mini_batches", "trainer.epochs"),
    lambda config: config.trainer.mini_batches * config.trainer.epochs > 1,
)
_DECAYS = Condition(
    "optimizer.schedule=linear or cosine",
    ("optimizer.schedule",),
    lambda config: config.optimizer.schedule != "constant",
)
_DECAYS_OVER_THE_RUN = Condition(
    "the learning rate decays over all steps of the run",
    ("optimizer.schedule", "optimizer.decay_steps"),
    lambda config: _DECAYS.holds(config) and config.optimizer.decay_steps is None,
)
_KL = Condition(
    "loss.kl_weight above 0", ("loss.kl_weight",), lambda config: config.loss.kl_weight > 0
)
_LORA = Condition("lora.rank above 0", ("lora.rank",), lambda config: config.lora.rank > 0)
_ONE_SET = Condition(
    "one parameter set (several would each hold a whole model)",
    ("topology", "team.num_agents", "model", "shared_policy"),
    lambda config: not _has_several_sets(config),
)
_NORMALIZE_LENGTH = Condition(
    "loss.normalize=length", ("loss.normalize",), lambda config: config.loss.normalize == "length"
)


def _baseline(*values: str) -> Condition:
    return Condition(
        f"advantage.baseline={_listed(values)}",
        ("advantage.baseline",),
        lambda config: baseline(config) in values,
    )


_GROUP_BASELINE = Condition(
    "advantage.baseline=group, which is what None stands for with most losses and credits",
    ("advantage.baseline", "loss.name", "credit.name"),
    lambda config: baseline(config) == "group",
)


# Baselines under which equal credit in a group is advantage 0.
_GROUP_BASELINES = ("group", "leave_one_out")
_POOL_BASELINES = ("opo", "optimal")


def _has_silent_groups(config: "Config") -> bool:
    """Whether a group whose samples earn the same teaches nothing."""
    if config.loss.name == "reinforce_pp":
        return False
    kind = baseline(config)
    if kind == "none":
        own = config.credit.name in _credits_with("own")
        return own and config.credit.solo_weight == 0
    within_the_prompt = kind in _POOL_BASELINES and config.advantage.pool == "prompt"
    return kind in _GROUP_BASELINES or within_the_prompt


_SILENT_GROUPS = Condition(
    "a loss and a baseline under which a group of equal credit has no gradient: not loss "
    "reinforce_pp, advantage.baseline=group or leave_one_out, or opo or optimal with "
    "advantage.pool=prompt, not credit.solo_weight above 0",
    ("loss.name", "advantage.baseline", "advantage.pool", "credit.name", "credit.solo_weight"),
    _has_silent_groups,
)


def _has_several_agents(config: "Config") -> bool:
    if config.topology in ("voting", "debate"):
        return config.team.num_agents > 1
    return config.topology.removeprefix(OBJECT) != "solo"


def _has_several_sets(config: "Config") -> bool:
    """Whether a team has several parameter sets."""
    is_one_set = config.shared_policy or (len(config.model) == 1 and has_counts(config.model))
    return _has_several_agents(config) and not is_one_set


_READS_ROWS = Condition(
    "a set of data.train or data.eval that is not generated",
    ("data.train", "data.eval"),
    lambda config: any(
        not name.startswith("synthetic/") for name in (*config.data.train, *config.data.eval)
    ),
)
_ALTERNATE = Condition(
    "trainer.schedule=alternate in a team of several agents that do not all share their parameters",
    ("trainer.schedule", "topology", "team.num_agents", "model", "shared_policy"),
    lambda config: config.trainer.schedule == "alternate" and _has_several_sets(config),
)


def _reads_masked_worlds(config: "Config") -> bool:
    name = config.credit.name
    if name in _WITH_SOLO_WEIGHT and config.credit.solo_weight > 0:
        return True
    return name not in CREDITS or CREDITS[name].masked_worlds


def _members_read_each_other(config: "Config") -> bool:
    if config.topology == "graph":
        return "(" in config.team.graph
    kind = config.topology.removeprefix(OBJECT)
    return kind not in ("solo", "voting") and _has_several_agents(config)


_READERS = [
    *(name for name, entry in CREDITS.items() if entry.masked_worlds),
    *(f"{name} with credit.solo_weight above 0" for name in _WITH_SOLO_WEIGHT),
]
_MASKED_WORLDS = Condition(
    f"a credit that reads masked worlds ({', '.join(_READERS)}) in a team whose members read each "
    "other (dyad, chain, debate or graph)",
    ("credit.name", "topology"),
    lambda config: _members_read_each_other(config) and _reads_masked_worlds(config),
)
_EVALUATES = Condition(
    "data.heldout above 0 or a test set in data.eval",
    ("data.heldout", "data.eval"),
    lambda config: config.data.heldout > 0 or bool(config.data.eval),
)
_EVALUATES_AT_RANDOM = _EVALUATES & Condition(
    "eval.temperature above 0 (at 0 all samples are the same)",
    ("eval.temperature",),
    # None is the temperature of training, which is above 0.
    lambda config: config.eval.temperature != 0,
)
# One sample is what temperature 0 takes.
_EVALUATES_SAMPLES = dataclasses.replace(
    _EVALUATES_AT_RANDOM,
    holds=lambda config: (
        _EVALUATES_AT_RANDOM.holds(config)
        or (_EVALUATES.holds(config) and config.eval.samples == 1)
    ),
)
# Experiment trackers: a field of the log section, and a package that it needs.
_TRACKERS = ("wandb", "trackio", "mlflow")
_TRACKED = Condition(
    "a tracker (log.wandb, log.trackio or log.mlflow)",
    tuple(f"log.{name}" for name in _TRACKERS),
    lambda config: bool(config.log.trackers),
)
_HELD_OUT = Condition(
    "data.heldout above 0",
    ("data.heldout",),
    # 0 says that nothing is evaluated, which is then true.
    lambda config: config.data.heldout > 0 or config.eval_every == 0,
)
_TEST_SETS = Condition(
    "a test set in data.eval",
    ("data.eval",),
    lambda config: bool(config.data.eval),
)
_LOGS_ROLLOUTS = Condition(
    "rollout_log.problems above 0",
    ("rollout_log.problems",),
    lambda config: config.rollout_log.problems > 0,
)
_BONUS = Condition(
    "credit.weight above 0", ("credit.weight",), lambda config: config.credit.weight > 0
)
_JUDGED = Condition(
    "credit.praise or credit.blame above 0",
    ("credit.praise", "credit.blame"),
    lambda config: config.credit.praise > 0 or config.credit.blame > 0,
)
_OVERLONG = Condition(
    "credit.overlong_penalty above 0",
    ("credit.overlong_penalty",),
    lambda config: config.credit.overlong_penalty > 0,
)
_MODEL_SHARDS = Condition(
    "mesh.model above 1 (at 1 all rules are the same)",
    ("mesh.model",),
    # Rules from outside may split any axis.
    lambda config: config.mesh.model > 1 or config.mesh.rules not in RULES,
)

# Names of earlier versions; runs that recorded one go on under the new name.
FORMER_BASELINES = {"surprisal": "weighted"}


@functools.cache
def _note_once(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


# --- the fields -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TeamConfig:
    """The team, where its topology leaves a choice."""

    num_agents: int = field(
        3,
        "agents; in a chain one plans, one solves and the others check",
        at_least=1,
        at_most=64,
        applies=_topology("voting", "chain", "debate"),
        on_resume="fixed",
    )
    tie: str = field(
        "expected",
        "reward of a tied vote: its expectation, wrong, or the first answer's",
        choices=("expected", "wrong", "first"),
        applies=_VOTES,
    )
    graph: str = field(
        "planner solver(0) solver(0) checker(1,2)",
        "turns in their order, separated by blanks: role, role(turns it reads) or "
        "role@agent(turns it reads)",
        applies=_topology("graph"),
        on_resume="fixed",
    )
    decision: str = field(
        "last",
        "the team's answer: that of the last agent present, or a vote of all last turns",
        choices=("last", "vote"),
        applies=_topology("graph"),
        on_resume="fixed",
    )


@dataclasses.dataclass(frozen=True)
class CreditConfig:
    """What each agent is rewarded for."""

    name: str = field("ccpo", "credit estimator", choices=tuple(CREDITS), extensible=True)
    alpha: float = field(1.0, "slope inside tanh", above=0, applies=_credit("alpha"))
    eta: float = field(
        1.0,
        "slope of the history gate",
        at_least=0,
        applies=_credit("eta") & _kind_of_topology("dyad"),
    )
    decay: float = field(
        0.99, "decay of the running moments per step", at_least=0, below=1, applies=_credit("decay")
    )
    eps: float = field(
        1e-6,
        "added to a standard deviation before division",
        above=0,
        applies=_credit("eps"),
    )
    min_samples: int = field(
        10, "values seen before shaping begins", at_least=1, applies=_credit("min_samples")
    )
    weight: float = field(
        0.2, "weight of the event bonus (lambda)", at_least=0, applies=_credit("weight")
    )
    soft: bool = field(
        False,
        "bonus (joint - solo) / 2 instead of the three-valued event",
        applies=_credit("soft") & _BONUS,
    )
    own: float = field(
        0.3,
        "weight of a role's rating of itself",
        at_least=0,
        at_most=1,
        applies=_credit("own") & _JUDGED,
    )
    praise: float = field(
        0.2,
        "weight of the shares where the team was right",
        at_least=0,
        below=1,
        applies=_credit("praise"),
    )
    blame: float = field(
        0.2,
        "weight of the shares where the team was wrong",
        at_least=0,
        below=1,
        applies=_credit("blame"),
    )
    pairings: int | None = field(
        None,
        "teams of a group's samples that stand for all that it can form",
        none_means="all where that is affordable, else 64",
        at_least=1,
        at_most=65_536,
        applies=_credit("pairings"),
    )
    orders: int | None = field(
        None,
        "random orders of joining, half of them the reverse of the others; even, of voters that "
        "read nobody",
        none_means="all up to 10 agents, else 16",
        at_least=4,
        at_most=65_536,
        applies=_credit("orders"),
    )
    answers: int = field(4, "answers per thought (K)", at_least=2, applies=_credit("answers"))
    solo_weight: float = field(
        0.0,
        "share of solo answers in agent 0's baseline; above 0 they are decoded",
        at_least=0,
        at_most=1,
        applies=_credit("solo_weight"),
    )
    scaled: bool = field(
        True, "divide by the standard deviation of the prompt's rewards", applies=_credit("scaled")
    )
    prior: float = field(
        1.0,
        "weight of the mean of the other answers in the Solver's baseline, in answers",
        above=0,
        applies=_credit("prior"),
    )
    normalized: bool = field(
        True,
        "divide the weights of the answers that judge a thought by their sum; without it the "
        "Thinker's gradient is unbiased and noisier",
        applies=_credit("normalized"),
    )
    rating_length: int = field(
        256, "most tokens of a rating", at_least=1, applies=_credit("rating_length")
    )
    solo_samples: int | None = field(
        None,
        "samples per prompt in each masked world that is decoded",
        none_means="group_size",
        at_least=1,
        applies=_MASKED_WORLDS,
    )
    overlong_penalty: float = field(
        0.0,
        "credit that an agent loses for a response that is cut at response_length; the penalty "
        "grows linearly over the last credit.overlong_buffer tokens; 0 = none",
        at_least=0,
    )
    overlong_buffer: int | None = field(
        None,
        "tokens before response_length over which the penalty grows from 0",
        none_means="a fifth of response_length",
        at_least=1,
        applies=_OVERLONG,
    )


@dataclasses.dataclass(frozen=True)
class AdvantageConfig:
    """How credit becomes an advantage."""

    def __post_init__(self) -> None:
        former = FORMER_BASELINES.get(self.baseline or "")
        if former is not None:
            _note_once(f"advantage.baseline={self.baseline} is now called {former}")
            object.__setattr__(self, "baseline", former)

    baseline: str | None = field(
        None,
        "what is subtracted from credit: group = the mean of the group, leave_one_out = that of "
        "its other samples, none = nothing, constant = advantage.delta, batch_mean = the mean of "
        "the other prompts' samples, asymmetric = the mean of the group plus advantage.delta, "
        "opo = a mean weighted by length, optimal = by squared scores, weighted = by surprisal, of "
        "the other prompts' samples; see baselines.md",
        none_means=(
            "group, but none with loss reinforce_pp and with credits that have a baseline "
            "of their own"
        ),
        choices=BASELINES,
    )
    delta: float | None = field(
        None,
        "the constant that is subtracted, or added to the mean of the group, in units of credit; "
        "below 0, right samples weigh more than wrong ones",
        none_means="0.1 with constant, -0.1 with asymmetric",
        applies=_baseline("constant", "asymmetric"),
    )
    pool: str = field(
        "prompt",
        "which samples one is compared with: the other samples of its prompt, or those of the "
        "other prompts",
        choices=("prompt", "others"),
        applies=_baseline("opo", "optimal"),
    )
    form: str = field(
        "sequence",
        "one baseline for a response, or one for each of its tokens (needs loss.ratio=token)",
        choices=("sequence", "token"),
        applies=_baseline("optimal"),
    )
    carried: bool = field(
        False,
        "the sums of the weighted mean go on from step to step, so that a batch without a mistake "
        "is compared with earlier ones",
        applies=_baseline("weighted"),
    )
    normalize_std: bool | None = field(
        None,
        "divide by the standard deviation of the group",
        none_means=(
            f"True, but False with credit {_listed(_credits_with('centred'), 'and')}, made "
            "for centred advantages"
        ),
        applies=_GROUP_BASELINE,
    )


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The policy-gradient loss."""

    name: str = field("grpo", "policy-gradient loss", choices=LOSSES, extensible=True)
    clip_low: float | None = field(
        None,
        "the probability ratio is clipped below 1 - clip_low, at 1 and more not at all; with cispo "
        "it bounds the token's weight; with gmpo the logarithm of the ratio is clipped below "
        "-clip_low",
        none_means=(
            "the loss's own default: 0.2 with grpo and reinforce_pp, 3e-4 with gspo, no bound "
            "with cispo, 0.4 with gmpo"
        ),
        at_least=0,
        infinite=True,
        applies=_loss(*_CLIPPING_LOSSES) & _SEVERAL_UPDATES,
    )
    clip_high: float | None = field(
        None,
        "the probability ratio is clipped above 1 + clip_high; with cispo it bounds the token's "
        "weight; with gmpo the logarithm of the ratio is clipped above clip_high",
        none_means=(
            "the loss's own default: 0.2 with grpo and reinforce_pp, 4e-4 with gspo, 4 with "
            "cispo, 0.4 with gmpo"
        ),
        at_least=0,
        infinite=True,
        applies=_loss(*_CLIPPING_LOSSES) & _SEVERAL_UPDATES,
    )
    ratio: str = field(
        "sequence",
        "ratio of each token, or of the whole sequence (length-normalised, the paper's first "
        "version)",
        choices=("token", "sequence"),
        applies=_loss("grpo"),
    )
    dual_clip: float | None = field(
        None,
        "bound on the ratio of negative advantages",
        none_means="no bound",
        above=1,
        infinite=True,
        applies=_loss("grpo") & _SEVERAL_UPDATES,
    )
    tau_positive: float = field(
        1.0,
        "temperature of the gate on the probability ratio where the advantage is positive; a "
        "larger one narrows it",
        above=0,
        applies=_loss("sapo") & _SEVERAL_UPDATES,
    )
    tau_negative: float = field(
        1.05,
        "temperature of the gate on the probability ratio where the advantage is negative",
        above=0,
        applies=_loss("sapo") & _SEVERAL_UPDATES,
    )
    normalize: str = field(
        "sequence",
        "mean over sequences, over tokens, or division by loss.max_length (Dr. GRPO)",
        choices=("sequence", "token", "length"),
        applies=_loss("grpo"),
    )
    max_length: int | None = field(
        None,
        "what the sum over a response is divided by, in tokens",
        none_means="not set",
        at_least=1,
        applies=_loss("grpo") & _NORMALIZE_LENGTH,
    )
    entropy_bonus: float = field(0.0, "weight of the mean token entropy", at_least=0)
    kl_weight: float = field(
        0.0,
        "weight of the KL divergence to a reference model, in nats per token; 0 = no reference is "
        "loaded",
        at_least=0,
    )
    kl_estimator: str = field(
        "k3",
        "divergence whose gradient is taken: k1 = of whole responses, which RLHF subtracts from "
        "the reward; k2 and k3 = of the next token at each prefix, less noisy; these two differ "
        "only in the loss that is reported",
        choices=KL_ESTIMATORS,
        applies=_KL,
    )
    reference: tuple[str, ...] = field(
        (),
        "reference model: a folder, a Hub name, or the workdir of an earlier run; one for all "
        "agents, or one per agent; empty = the model that each agent's training began with",
        applies=_KL,
        is_path=True,
    )


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """How responses are sampled in training."""

    temperature: float = field(1.0, "softmax temperature", above=0)
    top_p: float = field(
        1.0,
        "probability mass that is sampled from, a share of what sample.top_k leaves; below 1 the "
        "gradient still counts the tokens that are never sampled",
        above=0,
        at_most=1,
    )
    top_k: int | None = field(
        None,
        "number of most likely tokens to sample from, ties with the last of them included; the "
        "gradient still counts the others",
        none_means="all",
        at_least=1,
    )
    min_p: float = field(
        0.0,
        "least probability of a token that is sampled, as a share of the most likely token's; "
        "above 0 the gradient still counts the tokens that are never sampled",
        at_least=0,
        at_most=1,
    )
    stop: tuple[str, ...] = field(
        (),
        "stop strings: any of them ends a response, in every role; what verifiers and other agents "
        "read ends before it. On the command line \\n is a line break, \\t a tab, and a backslash "
        "goes before a comma, a backslash, and a blank at either end",
        has_escapes=True,
    )
    decode_chunk: int = field(
        32,
        "decode steps between checks for finished responses; changes no token",
        at_least=1,
        on_resume="free",
    )
    max_concurrent: int | None = field(
        None,
        "responses decoded at once, the others wait; changes no token",
        none_means="all",
        at_least=1,
        on_resume="free",
        lower_for={"rollout": 1, "evaluation": 2},
    )
    max_draws: int = field(
        1,
        "dynamic sampling (DAPO): the most batches of prompts that a step may draw to find "
        "batch_size informative groups, those with an advantage other than 0; 1 = off",
        at_least=1,
        at_most=1000,
        applies=_SILENT_GROUPS,
    )

    @property
    def leaves_out_tokens(self) -> bool:
        """Whether some tokens are never sampled although the network gives them a probability."""
        return self.top_p < 1 or self.top_k is not None or self.min_p > 0


@dataclasses.dataclass(frozen=True)
class TrainerConfig:
    """How parameters are updated."""

    schedule: str = field(
        "alternate",
        "one agent at a time, with all that share its parameters, or all in every step",
        choices=("alternate", "simultaneous"),
    )
    period: int = field(
        10,
        "steps before the turn of the next agent, or agents of one parameter set; agent 0 first",
        at_least=1,
        applies=_ALTERNATE,
    )
    mini_batches: int = field(
        1,
        "parts of a batch of rollouts, an optimizer step each; divides batch_size",
        at_least=1,
    )
    epochs: int = field(
        1,
        "passes over each batch of rollouts, in the same order; old log-probs are those of before "
        "the first",
        at_least=1,
    )
    pack_length: int = field(
        2048,
        "tokens of a packed row: a prompt once, then its responses; longer ones lengthen it",
        at_least=1,
        lower_for={"update": 2},
    )
    micro_batch: int = field(
        8,
        "packed rows per gradient computation; changes memory, not results",
        at_least=1,
        lower_for={"update": 1},
    )
    not_finite: str = field(
        "stop",
        "what follows an update that was left out because a number was not finite",
        choices=("stop", "skip"),
        on_resume="free",
    )
    remat: str = field(
        "full",
        "what the backward pass computes again to save memory, most to nothing",
        choices=("full", "attention", "dots", "none"),
    )
    logits_chunk: int = field(
        2048,
        "response tokens whose logits exist at once",
        at_least=1,
        lower_for={"update": 3},
    )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW behind a clip of the global norm."""

    learning_rate: tuple[float, ...] = field(
        (1e-6,),
        "learning rate after warm-up; one number, or one per parameter set or agent: 2e-5*5,1e-5*4",
        above=0,
        one_for_all=True,
    )
    schedule: str = field(
        "constant",
        "learning rate after warm-up: constant, or decaying linearly or along half a cosine",
        choices=("constant", "linear", "cosine"),
    )
    decay_steps: int | None = field(
        None,
        "optimizer steps, warm-up included, after which the learning rate is at its floor; counted "
        "per agent",
        none_means="all that an agent's parameters make in the run",
        at_least=1,
        applies=_DECAYS,
    )
    floor: float = field(
        0.0,
        "learning rate at the end of the decay, as a fraction of learning_rate",
        at_least=0,
        below=1,
        applies=_DECAYS,
    )
    warmup_steps: int = field(0, "optimizer steps of linear warm-up, counted per agent", at_least=0)
    b1: float = field(0.9, "decay of the first moment", at_least=0, below=1)
    b2: float = field(0.999, "decay of the second moment", at_least=0, below=1)
    eps: float = field(1e-8, "added to the root of the second moment", above=0)
    weight_decay: float = field(0.01, "decoupled weight decay", at_least=0)
    grad_clip: float = field(1.0, "largest global norm of a gradient", above=0, infinite=True)


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters, trained in place of the model's own parameters."""

    rank: int = field(
        0,
        "rank of the adapters; above 0 each parameter set trains adapters on a model that stays as "
        "it is and is kept once for all agents; 0 = all parameters are trained",
        at_least=0,
        at_most=4096,
        on_resume="fixed",
    )
    alpha: float = field(
        32.0,
        "numerator of the scale alpha / rank of what an adapter adds",
        above=0,
        applies=_LORA,
        on_resume="fixed",
    )
    targets: tuple[str, ...] = field(
        LORA_TARGETS,
        f"the products of each layer that have an adapter, of {','.join(LORA_TARGETS)}",
        applies=_LORA,
        on_resume="fixed",
    )
    rslora: bool = field(
        False,
        "rank-stabilised: the scale is alpha / sqrt(rank)",
        applies=_LORA,
        on_resume="fixed",
    )
    merge: bool = field(
        False,
        "sample with the adapters added to the weights, in place of two more products at each; "
        "changes no distribution",
        applies=_LORA & _ONE_SET,
    )
    start: tuple[str, ...] = field(
        (),
        "adapters to start from: folders as PEFT and --mode=export write them; one for all agents, "
        "or one per agent; empty = fresh ones",
        applies=_LORA,
        on_resume="fixed",
        is_path=True,
    )


@dataclasses.dataclass(frozen=True)
class SftConfig:
    """Demonstrations of a supervised warm start."""

    targets: tuple[str, ...] = field(
        (),
        "which column has the text that a role learns to write: ROLE=COLUMN, such as "
        "thinker=plan,solver=solution; a list in a column holds several demonstrations. Left "
        "empty, the role that answers learns from the column solution, or else answer",
        applies=_SUPERVISED,
        is_mapping=True,
    )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Problems to train on and to report on."""

    train: tuple[str, ...] = field(
        ("math",),
        "training sets, joined: files, patterns of files, folders, owner/name on the Hub, named "
        "sets, label=SET, or synthetic/TASK",
        on_resume="fixed",
        is_path=True,
    )
    eval: tuple[str, ...] = field(
        ("math500",), "test sets, likewise; they never select a checkpoint", is_path=True
    )
    columns: tuple[str, ...] = field(
        (),
        "which column of a set is the question, the answer and so on, where their names do not "
        "tell: TARGET=COLUMN; targets are question, answer, answer_index (the number of an option "
        "from 0), answer_number (from 1), options, context, views and system; such as "
        "question=prompt,answer=reward_model.ground_truth",
        applies=_READS_ROWS,
        on_resume="fixed",
        is_mapping=True,
    )
    heldout: int = field(
        256,
        "problems split off the training set; they select the best checkpoint",
        at_least=0,
        on_resume="fixed",
    )
    size: int = field(
        0,
        "problems to generate; 0 = the set's own size",
        at_least=0,
        applies=_SYNTHETIC,
        on_resume="fixed",
    )
    informed: int = field(
        1,
        "agents that see the whole problem; the others see a ? for its last term. Who does changes "
        "with the problem",
        at_least=1,
        applies=_WHO_KNOWS,
        on_resume="fixed",
    )
    similarity: float = field(
        1.0,
        "training passages that share this fraction of their words with a test set's are dropped",
        above=0,
        at_most=1,
        applies=_TEST_SETS,
        on_resume="fixed",
    )
    overlong: str = field(
        "error",
        "what happens to problems whose prompt exceeds prompt_length",
        choices=("error", "drop"),
        on_resume="fixed",
    )


@dataclasses.dataclass(frozen=True)
class VerifierConfig:
    """The processes that check answers."""

    name: str = field(
        "auto",
        "what judges answers; auto = math or choice, by the data. A function of your own is "
        "FILE.py:NAME or package.module:NAME, a weighted sum 0.9*math + 0.1*FILE.py:NAME",
        choices=("auto", "math", "choice", "exact"),
        extensible=True,
    )
    range: tuple[float, ...] = field(
        (0.0, 1.0),
        "the lowest and the highest score, LOW,HIGH, of functions and weighted sums; they count as "
        "0 and 1",
        applies=_FRACTIONS,
    )
    on_error: str = field(
        "stop",
        "what follows an exception in a function of your own: the run stops, or the text counts as "
        "wrong and verifier/failed counts it",
        choices=("stop", "skip"),
        applies=_FUNCTIONS,
        on_resume="free",
    )
    workers: int = field(2, "worker processes", at_least=1, at_most=1000, on_resume="free")
    time_limit: float = field(
        5.0,
        "seconds of computing for one answer or one call of a function, then its process is "
        "killed; many slow answers of one batch get less",
        above=0,
        at_most=86_400,
    )
    extraction: str = field(
        "strict",
        "what counts as an answer: what is marked as one, or else also the last expression or "
        "number of a text",
        choices=("strict", "lenient"),
        applies=_VERIFIERS,
    )
    evaluated: bool = field(
        False,
        "a number has to be worked out: where the gold is 3, 7 - 4 is not right",
        applies=_VERIFIERS,
    )


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Evaluation on held-out problems and test sets."""

    samples: int = field(
        4,
        "sampled answers per problem, k of avg@k and maj@k, and the largest k of pass@k; at "
        "temperature 0 there is one",
        at_least=1,
        applies=_EVALUATES_SAMPLES,
    )
    temperature: float | None = field(
        None,
        "softmax temperature; 0 = the most likely tokens",
        none_means="that of sample.temperature",
        at_least=0,
        applies=_EVALUATES,
    )
    top_p: float | None = field(
        None,
        "probability mass that is sampled from",
        none_means="that of sample.top_p",
        above=0,
        at_most=1,
        applies=_EVALUATES_AT_RANDOM,
    )
    top_k: int | None = field(
        None,
        "number of most likely tokens to sample from; 0 = all",
        none_means="that of sample.top_k",
        at_least=0,
        applies=_EVALUATES_AT_RANDOM,
    )
    min_p: float | None = field(
        None,
        "least probability of a token that is sampled, as a share of the most likely token's",
        none_means="that of sample.min_p",
        at_least=0,
        at_most=1,
        applies=_EVALUATES_AT_RANDOM,
    )
    batch_size: int = field(
        64,
        "problems per call",
        at_least=1,
        applies=_EVALUATES,
        lower_for={"evaluation": 1},
    )
    greedy: bool = field(True, "also evaluate at temperature 0", applies=_EVALUATES)
    limit: int = field(0, "problems per test set; 0 = all", at_least=0, applies=_TEST_SETS)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How devices share the work."""

    data: int = field(-1, "replicas; -1 = all devices left over", at_least=-1, on_resume="free")
    fsdp: int = field(1, "parameter shards", at_least=1, on_resume="free")
    model: int = field(
        1,
        "tensor-parallel shards; heads are split only where it divides the number of key/value "
        "heads",
        at_least=1,
        on_resume="free",
    )
    rules: str = field(
        "default",
        "which mesh axes split which array axes",
        choices=RULES,
        extensible=True,
        applies=_MODEL_SHARDS,
        on_resume="free",
    )


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """Where metrics go besides metrics.jsonl."""

    tensorboard: bool = field(True, "write TensorBoard files", on_resume="free")
    wandb: bool = field(
        False, "log to Weights & Biases; needs the wandb package and an account", on_resume="free"
    )
    trackio: bool = field(
        False, "log to trackio, on this machine; needs the trackio package", on_resume="free"
    )
    mlflow: bool = field(
        False,
        "log to MLflow, to the server of MLFLOW_TRACKING_URI or on this machine; needs the mlflow "
        "package",
        on_resume="free",
    )
    project: str = field(
        "ccpo_jax",
        "project (MLflow: experiment) under which a tracker lists the run",
        applies=_TRACKED,
        on_resume="free",
    )

    @property
    def trackers(self) -> tuple[str, ...]:
        """The experiment trackers that are on, by the names of their packages."""
        return tuple(name for name in _TRACKERS if getattr(self, name))


@dataclasses.dataclass(frozen=True)
class RolloutLogConfig:
    """rollouts.jsonl: the messages of some steps, which the report shows."""

    problems: int = field(
        3, "problems of a step that are logged; 0 = none", at_least=0, on_resume="free"
    )
    every: int = field(
        25,
        "steps between two that are logged, more in runs of over 5000 steps; step 1 always is",
        at_least=1,
        applies=_LOGS_ROLLOUTS,
        on_resume="free",
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """A run."""

    seed: int = field(
        0, "decides data order and sampling; same seed, same metrics", on_resume="fixed"
    )
    steps: int = field(
        1000,
        "training steps, one batch of rollouts each",
        at_least=0,
        on_resume="free",
        asks_where=_DECAYS_OVER_THE_RUN,
    )
    mode: str = field(
        "train",
        "how the team learns: train = by reinforcement learning, sft = a supervised warm start "
        "from demonstrations; --mode=sft sets it",
        choices=("train", "sft"),
        on_resume="never",
    )
    topology: str = field(
        "dyad",
        "who speaks when and reads whom",
        choices=TOPOLOGIES,
        extensible=True,
        on_resume="fixed",
    )
    model: tuple[str, ...] = field(
        ("Qwen/Qwen2.5-1.5B-Instruct",),
        "Hub names or folders, tiny = the embedded model; one for all agents, or one per agent, "
        "each of which then trains parameters of its own. a*5,b*4 makes two parameter sets: five "
        "agents share a, the four after them b. The workdir of a run starts from its best "
        "checkpoint, each agent from its own parameters; WORKDIR:K from its parameter set K",
        on_resume="fixed",
        lower_for={"loading": 1},
        is_path=True,
    )
    revision: str | None = field(
        None,
        "revision on the Hub",
        none_means="the default branch",
        applies=_FROM_HUB,
        on_resume="fixed",
    )
    shared_policy: bool = field(
        False,
        "one set of parameters plays every role; who shares in part says model=a*5,b*4",
        on_resume="fixed",
    )
    compute_dtype: str = field(
        "bfloat16",
        "type of activations; master weights stay float32",
        choices=("float32", "bfloat16"),
    )
    attention: str = field(
        "auto",
        "attention kernels: fused (one NVIDIA GPU or TPU, in bfloat16), xla (anywhere), or fused "
        "if that runs",
        choices=("auto", "fused", "xla"),
    )
    prompts: str | None = field(
        None,
        "TOML file of role prompts; roles that it leaves out come from prompt_style",
        none_means="those of prompt_style for every role",
        is_path=True,
    )
    prompt_style: str = field(
        "math",
        "role prompts that come with the package",
        choices=("math", "choice", "tiny"),
        extensible=True,
    )
    thinking: bool | None = field(
        None,
        "whether models think before they answer, by the switch of their chat template (Qwen3, "
        "SmolLM3, Granite, ...); thoughts are kept apart from answers and count towards "
        "response_length",
        none_means="the default of the template, which is on for Qwen3",
        applies=_OTHER_MODEL,
    )
    prompt_length: int = field(
        1024,
        "most tokens of a problem's prompt, messages excluded",
        at_least=1,
        on_resume="fixed",
    )
    response_length: tuple[int, ...] = field(
        (2048, 2048),
        "most tokens of a response; one number, or one per agent or per turn: 64*5,96*4",
        at_least=1,
        lower_for={"rollout": 4, "evaluation": 3},
    )
    group_size: int = field(4, "samples per prompt (G)", at_least=2, lower_for={"rollout": 2})
    batch_size: int = field(64, "prompts per step (B)", at_least=1, lower_for={"rollout": 3})
    eval_every: int = field(
        50,
        "steps between held-out evaluations; 0 = only before and after",
        at_least=0,
        applies=_HELD_OUT,
        on_resume="free",
    )
    eval_first: bool = field(
        True,
        "evaluate before step 1; without it there is nothing to compare with, and training begins "
        "at once",
        applies=_EVALUATES,
        on_resume="free",
    )
    checkpoint_every: int = field(
        50, "steps between checkpoints; 0 = only at the end", at_least=0, on_resume="free"
    )
    keep_last: int = field(
        3, "newest checkpoints kept; the best is kept besides", at_least=1, on_resume="free"
    )
    allow_changes: bool = field(
        False,
        "resume a run that had other values; the differences are shown either way",
        on_resume="free",
    )
    plugins: tuple[str, ...] = field(
        (),
        "Python files (FILE.py) and modules (package.module) that add teams, credits, losses, "
        "verifiers, datasets, prompts, families or tasks; imported before anything is built",
        is_path=True,
    )
    load_time_limit: float = field(
        3600.0,
        "seconds in which each dataset, each model and each plugin must have been loaded; 0 = no "
        "limit",
        at_least=0,
        on_resume="free",
    )
    team: TeamConfig = TeamConfig()
    credit: CreditConfig = CreditConfig()
    advantage: AdvantageConfig = AdvantageConfig()
    loss: LossConfig = LossConfig()
    sample: SampleConfig = SampleConfig()
    trainer: TrainerConfig = TrainerConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    lora: LoraConfig = LoraConfig()
    sft: SftConfig = SftConfig()
    data: DataConfig = DataConfig()
    verifier: VerifierConfig = VerifierConfig()
    eval: EvalConfig = EvalConfig()
    mesh: MeshConfig = MeshConfig()
    log: LogConfig = LogConfig()
    rollout_log: RolloutLogConfig = RolloutLogConfig()


# Phases of the program that may run out of memory.
PHASES = ("loading", "rollout", "update", "evaluation")

# Sections and fields that a mode does not use; those that are not listed use all. Batch sizes are
# used by every mode, which checks that they divide over the devices.
_TRAINING = (
    "steps",
    "mode",
    "eval_every",
    "eval_first",
    "checkpoint_every",
    "keep_last",
    "allow_changes",
    "sft",
    "advantage",
    "loss",
    "sample.max_draws",
    "trainer",
    "optimizer",
    "log",
    "rollout_log",
)
_EVALUATION = (
    "eval.samples",
    "eval.temperature",
    "eval.top_p",
    "eval.top_k",
    "eval.min_p",
    "eval.greedy",
    "eval.limit",
)


def _fields_but(section: type, name: str, used: Collection[str]) -> tuple[str, ...]:
    """The dotted names of a section's fields, without some of them."""
    fields = (entry.name for entry in dataclasses.fields(section))
    return tuple(f"{name}.{field}" for field in fields if field not in used)


# What a supervised update takes of the section `trainer`.
_SUPERVISED_UPDATE = ("pack_length", "micro_batch", "not_finite", "remat", "logits_chunk")
UNUSED_BY_MODE = {
    "sft": (
        *("credit", "advantage", "loss", "sample.max_draws", "rollout_log"),
        *_fields_but(TrainerConfig, "trainer", _SUPERVISED_UPDATE),
    ),
    "eval": (*_TRAINING, "credit", "group_size"),
    "sample": (*(name for name in _TRAINING if name != "advantage"), *_EVALUATION),
    # An export lists the stop strings of every role.
    "export": (
        *(*_TRAINING, *_EVALUATION, "credit", "group_size", "verifier"),
        *_fields_but(SampleConfig, "sample", ("stop", "max_draws")),
    ),
}

FIELDS: dict[str, Field] = {entry.name: entry for entry in fields_of(Config)}
SECTIONS: dict[str, type] = {
    entry.name: entry.type
    for entry in dataclasses.fields(Config)
    if isinstance(entry.type, type) and dataclasses.is_dataclass(entry.type)
}

# --- names of earlier versions --------------------------------------------------------------------

MOVED = {
    "num_agents": "team.num_agents",
    "tie": "team.tie",
    "graph": "team.graph",
    "decision": "team.decision",
    "rating_length": "credit.rating_length",
    "solo_samples": "credit.solo_samples",
    "sample.chunk": "sample.decode_chunk",
    "sample.rows": "sample.max_concurrent",
    "trainer.chunk": "trainer.logits_chunk",
    "journal.problems": "rollout_log.problems",
    "journal.every": "rollout_log.every",
}


@dataclasses.dataclass(frozen=True)
class Removed:
    """A field of an earlier version that became a constant.

    Attributes:
      reason: why it is gone, after "was removed: ".
      constant: its value from now on. None = it never changed a result, so any value of an old run
        is read.
    """

    reason: str
    constant: Any = None


_RULES_BY_NAME = Removed("was removed: --config.mesh.rules names a whole set of rules")
REMOVED = {
    "sample.stack_agents": Removed("was removed: agents of one architecture always share a call"),
    "trainer.skip_silent": Removed("was removed: sequences of advantage 0 are always left out"),
    "journal.chars": Removed("was removed: texts are always shortened to 2000 characters"),
    "verifier.max_chars": Removed("was removed: it is always 20000", 20_000),
    "mesh.train.batch": _RULES_BY_NAME,
    "mesh.train.hidden": _RULES_BY_NAME,
    "mesh.train.vocab": _RULES_BY_NAME,
    "mesh.train.heads": _RULES_BY_NAME,
    "mesh.train.ffn": _RULES_BY_NAME,
    "mesh.decode.batch": _RULES_BY_NAME,
    "mesh.decode.hidden": _RULES_BY_NAME,
    "mesh.decode.vocab": _RULES_BY_NAME,
    "mesh.decode.heads": _RULES_BY_NAME,
    "mesh.decode.ffn": _RULES_BY_NAME,
}


# Defaults of earlier versions, which their runs recorded, see `keep_former_defaults`. Before
# `thinking` could be left to the template, it was off.
FORMER_DEFAULTS: dict[str, Any] = {"thinking": False}


def upgrade(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a run of an earlier version, flat, under today's names.

    Raises:
      InputError: a field that is gone held a value that changes results.
    """
    fields = {}
    for name, value in saved.items():
        if name in REMOVED:
            constant = REMOVED[name].constant
            if constant is not None and value != constant:
                message = f"{REMOVED[name].reason}; this run had {value!r:.60}; use its version"
                raise InputError(name, message)
            continue
        if name == "data.train" and isinstance(value, str) and not os.path.exists(value):
            fields[name] = [part.strip() for part in value.split("+")]
        else:
            fields[MOVED.get(name, name)] = value
    return fields


# --- from mappings and text to a Config -----------------------------------------------------------


def get(config: Config, name: str) -> Any:
    """The value of a field by its dotted name."""
    value = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def objects_in(config: Config) -> dict[str, tuple[str, ...]]:
    """Field -> the names of objects among its values."""
    named = {}
    for name in FIELDS:
        value = get(config, name)
        values: Sequence[Any] = value if isinstance(value, tuple) else (value,)
        if name == "verifier.name":
            values = _OBJECT_TERM.findall(str(value))
        objects = tuple(filter(is_object, values))
        if name in ("model", "loss.reference"):
            objects = without_counts(objects, name)
        if objects:
            named[name] = objects
    return named


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value, of a Config or of nested mappings."""
    if isinstance(tree, Config):
        return {name: get(tree, name) for name in FIELDS}
    flat = {}
    for name, value in tree.items():
        # Sections are one level deep, two in earlier versions; what is deeper is a value, and
        # wrong.
        full_name = f"{prefix}{name}"
        is_value = full_name in FIELDS and FIELDS[full_name].is_mapping
        if hasattr(value, "items") and prefix.count(".") < 2 and not is_value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def from_flat(flat: Mapping[str, Any]) -> Config:
    """A Config of values by dotted name; what is absent or None has its default.

    Raises:
      InputError: an unknown field, or a value of another type.
    """
    values: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for name, value in flat.items():
        section, _, last = lookup(name).name.rpartition(".")
        target = sections[section] if section else values
        target[last] = convert(FIELDS[name], value)
    for name, section_type in SECTIONS.items():
        values[name] = section_type(**sections[name])
    return Config(**values)


def combine(
    start: Any, changes: Mapping[str, Any], *, inherited: Mapping[str, Any] | None = None
) -> Config:
    """A configuration with other values in some fields, unchecked.

    An inherited value that has no effect in this run is at its default instead, which changes
    nothing and is not recorded; so is what `start` says about another kind of learning.

    Args:
      start: a Config, or nested mappings such as a ConfigDict; what is absent or None has its
        default.
      changes: values by dotted name; None gives back the default.
      inherited: values by dotted name that the user did not choose for this run; None = those that
        `start` has from a preset of the package, its attribute `inherited`.

    Raises:
      InputError: an unknown field, or a value of another type.
    """
    made = from_flat(flatten(start) | dict(changes))
    of_preset = getattr(start, "inherited", {})
    not_chosen = from_flat(of_preset if inherited is None else inherited)
    kept = []
    for name in FIELDS:
        inherits = get(made, name) == get(not_chosen, name) or not is_used_by(made.mode, name)
        if name not in changes and inherits:
            kept.append(name)
    return reset_unused(made, kept)


def lookup(name: str) -> Field:
    """A field by its dotted name.

    Raises:
      InputError: there is no such field; the message says where it moved, or what was probably
        meant.
    """
    if name in FIELDS:
        return FIELDS[name]
    if name in MOVED:
        raise InputError(name, f"is now {MOVED[name]}; type --config.{MOVED[name]}=VALUE")
    if name in REMOVED:
        raise InputError(name, f"{REMOVED[name].reason}; leave it out")
    if name in SECTIONS:
        inside = next(entry for entry in FIELDS if entry.startswith(f"{name}."))
        raise InputError(
            name, f"is a section; type one of its fields, such as --config.{inside}=VALUE"
        )
    for old in (*MOVED, *REMOVED):
        # A section of an earlier version: one of its fields says where they went.
        if old.startswith(f"{name}."):
            return lookup(old)
    shown = name[:80]
    close = _closest(name)
    hint = f"did you mean --config.{close}?" if close else "see --help"
    raise InputError(shown, f"no such field; {hint}")


def _closest(name: str) -> str | None:
    """The field that was probably meant: one of the same last part, else of a similar name."""
    last = name.rpartition(".")[2]
    for entry in FIELDS:
        if entry.rpartition(".")[2] == last and last != "name":
            return entry

    # In a section that exists only the last part can be wrong: its name makes all fields similar.
    section = name.rpartition(".")[0]
    inside = [entry for entry in FIELDS if section and entry.startswith(f"{section}.")]
    last_parts = {entry.rpartition(".")[2]: entry for entry in inside or reversed(FIELDS)}
    # Most words of three letters have two in common with some field.
    cutoff = 0.65 if len(last) > 3 else 0.8
    near = difflib.get_close_matches(last[:80], last_parts, n=1, cutoff=cutoff)
    return last_parts[near[0]] if near else None


def parse_field(name: str, text: str) -> Any:
    """The value of one field as typed on the command line; "None" gives back its default.

    Raises:
      InputError: no such field, or text of another type.
    """
    return from_text(lookup(name), text)


def parse(config: Any, typed: Mapping[str, Any] | Collection[str] = ()) -> Config:
    """The typed configuration, checked.

    Args:
      config: a Config, or nested mappings such as a ConfigDict, see `combine`.
      typed: names of fields that were typed on the command line; they must have an effect even at
        their default. With their values: one that is None was typed to give back the default, and
        need not.

    Raises:
      InputError: unknown field, wrong type, value out of range, or a field without effect in this
        run.
    """
    made = config if isinstance(config, Config) else combine(config, {})
    check(made, typed)
    return made


def check(config: Config, typed: Mapping[str, Any] | Collection[str] = ()) -> None:
    """Checks every value, how values fit together, and that every field that was set has an effect.

    Args:
      config: a configuration.
      typed: see `parse`.

    Raises:
      InputError: the first that does not.
    """
    values = typed if isinstance(typed, Mapping) else dict.fromkeys(typed, True)
    for name, entry in FIELDS.items():
        check_value(entry, get(config, name))
    _check_lists(config)
    check_stop_strings(config.sample.stop, "sample.stop")
    _check_decay(config)
    parse_reward(config.verifier.name)
    check_range(config.verifier.range)
    for name in FIELDS:
        was_typed = values.get(name) is not None
        if was_typed or get(config, name) != FIELDS[name].default:
            _check_effect(config, name, typed=was_typed)
    if config.batch_size % config.trainer.mini_batches:
        raise InputError(
            "trainer.mini_batches",
            f"{config.trainer.mini_batches} does not divide batch_size={config.batch_size}; use "
            f"a divisor",
        )
    buffer = config.credit.overlong_buffer
    shortest = min(config.response_length)
    if buffer is not None and buffer > shortest:
        raise InputError(
            "credit.overlong_buffer",
            f"{buffer} tokens are more than a response may have, response_length={shortest}; use "
            f"at most {shortest}",
        )
    for name in config.log.trackers:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"log.{name}",
                f"the {name} package is missing; type pip install {name}, or leave log.{name} out",
            )


def _check_decay(config: Config) -> None:
    warmup_steps = config.optimizer.warmup_steps
    decay_steps = config.optimizer.decay_steps
    if decay_steps is not None and warmup_steps >= decay_steps:
        raise InputError(
            "optimizer.decay_steps",
            f"{decay_steps} leaves no step to decay in after optimizer.warmup_steps="
            f"{warmup_steps}, which it counts too; use at least {warmup_steps + 1}",
        )


def _check_lists(config: Config) -> None:
    for name in ("model", "response_length", "data.train", "optimizer.learning_rate"):
        if not get(config, name):
            default = as_text(FIELDS[name].default)
            raise InputError(name, f"is empty; type --config.{name}={default}")
    for field_name in ("data.train", "data.eval"):
        for name in get(config, field_name):
            if _joins_by_plus(name):
                example = f"--config.{field_name}=a,b"
                raise InputError(
                    field_name,
                    f"received {name!r:.80}; lists are separated by commas, such as {example}",
                )


def _joins_by_plus(name: str) -> bool:
    """Whether a name is a list in an earlier version's spelling, not a path with a plus."""
    return "+" in name and not name.startswith(("/", ".")) and not path_exists(name)


def check_mode(mode: str, typed: Mapping[str, Any]) -> None:
    """Checks that a mode uses the fields that were typed.

    Args:
      mode: what `--mode` names.
      typed: values by dotted name; None takes a field back, which is never wrong.

    Raises:
      InputError: all fields that it does not use.
    """
    unused = [
        name for name, value in typed.items() if value is not None and not is_used_by(mode, name)
    ]
    if len(unused) > 1:
        raise InputError(", ".join(unused), f"have no effect with --mode={mode}; leave them out")
    for name in unused:
        received = shown(typed[name])
        raise InputError(
            name, f"has no effect with --mode={mode}; received {received}; leave it out"
        )


def is_used_by(mode: str, name: str) -> bool:
    """Whether a mode uses a field."""
    unused = UNUSED_BY_MODE.get(mode, ())
    return name not in unused and name.partition(".")[0] not in unused


def has_effect(config: Config, name: str) -> bool:
    """Whether a field has an effect in a run."""
    if not is_used_by(config.mode, name):
        return False
    is_taken = _is_taken_from_outside(config, name)
    if is_taken is not None and (not is_taken or name.startswith("credit.")):
        # What decides about the fields of a credit beside its name concerns the library's own.
        return is_taken
    condition = FIELDS[name].applies
    return condition is None or condition.holds(config)


def _is_taken_from_outside(config: Config, name: str) -> bool | None:
    """Whether an entry from outside takes a field; None where the field is not for one."""
    section, _, last = name.rpartition(".")
    if section not in _NAMED_BY or name in _NOT_OF_AN_ENTRY:
        return None
    chooser = _NAMED_BY[section]
    entries = OUTSIDE[chooser]
    if get(config, chooser) not in entries:
        return None
    taken = entries[get(config, chooser)]
    return taken is None or last in taken


def _check_effect(config: Config, name: str, *, typed: bool) -> None:
    if has_effect(config, name):
        return
    if not is_used_by(config.mode, name):
        check_mode(config.mode, {name: get(config, name)})
    leave_out = "leave it out" + ("" if typed else f", or type --config.{name}=None")
    if name == "team.num_agents" and get(config, name) == 1 and _has_several_agents(config):
        leave_out += ", or type --config.topology=solo for a team of one"
    received = shown(get(config, name))
    if _is_taken_from_outside(config, name) is False:
        section = name.rpartition(".")[0]
        chooser = _NAMED_BY[section]
        entry = get(config, chooser)
        taken = ", ".join(f"{section}.{field}" for field in sorted(OUTSIDE[chooser][entry] or ()))
        raise InputError(
            name,
            f"{chooser}={entry} does not take it, but {taken or 'no field of this section'}; "
            f"received {received}; {leave_out}",
        )
    condition = FIELDS[name].applies
    assert condition is not None
    context = ", ".join(
        f"{other}={shown(get(config, other))}" for other in dict.fromkeys(condition.reads)
    )
    raise InputError(
        name,
        f"applies only with {condition.words}; received {received} with {context}; {leave_out}",
    )


def reset_unused(config: Config, names: Collection[str] = FIELDS) -> Config:
    """A configuration with those of some fields at their default that have no effect in its run.

    Presets set fields for all their runs, and earlier versions recorded fields without effect.
    """
    unused = {name: FIELDS[name].default for name in names if not has_effect(config, name)}
    return from_flat(flatten(config) | unused)


def shown(value: Any) -> str:
    """A value in an error: a list as it is typed."""
    if isinstance(value, tuple):
        return f"{as_text(value) or 'nothing':.60}"
    return f"{value!r:.60}"


# --- what the declarations are used for -----------------------------------------------------------


def to_json(config: Config) -> dict[str, Any]:
    """Nested values for config.json: every field that has an effect."""
    tree: dict[str, Any] = {}
    for name in FIELDS:
        value = get(config, name)
        if not has_effect(config, name):
            continue
        section, _, last = name.rpartition(".")
        target = tree.setdefault(section, {}) if section else tree
        target[last] = _as_json(FIELDS[name], value)
    return tree


def _as_json(entry: Field, value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    return value[0] if entry.one_for_all and len(value) == 1 else list(value)


def fields_to_lower(phase: str) -> tuple[str, ...]:
    """The fields to lower where a phase runs out of memory, most effective first.

    Args:
      phase: rollout, update, evaluation or loading.

    Example:
      >>> fields_to_lower("update")
      ('trainer.micro_batch', 'trainer.pack_length', 'trainer.logits_chunk')
    """
    ranked = [
        (entry.lower_for[phase], name) for name, entry in FIELDS.items() if phase in entry.lower_for
    ]
    return tuple(name for _, name in sorted(ranked))


def changes(old: Config, new: Config) -> list[str]:
    """Fields in which two runs differ and that a resumed run may not simply change."""
    return [
        name
        for name, entry in FIELDS.items()
        if get(old, name) != get(new, name) and not entry.may_change(new)
    ]


def help_text(values: Config = Config()) -> str:
    """Every field as `--help` shows it, with its value in `values`."""
    blocks = []
    for title, entries in _by_section():
        blocks.append(f"{title}\n")
        for entry in entries:
            blocks.append(help_entry(entry, value_text(entry, get(values, entry.name))))
        blocks.append("")
    return "\n".join(blocks)


def _by_section() -> Iterator[tuple[str, list[Field]]]:
    yield "The run", [entry for name, entry in FIELDS.items() if "." not in name]
    for section, section_type in SECTIONS.items():
        title = f"{section}: {(section_type.__doc__ or '').rstrip('.')}"
        yield title, [entry for name, entry in FIELDS.items() if name.startswith(f"{section}.")]


_MARKDOWN_HEAD = """\
# Configuration

<!-- Written by `python -m ccpo_jax.config --write`; edit the declarations in ccpo_jax/config.py
instead. -->

A configuration file is a Python file with a function `get_config(preset)` that returns a
`ConfigDict`; it starts from `ccpo_jax.presets.base.base()`, which has every field at its default,
or from a preset, such as `ccpo_jax.presets.voting.get_config("tiny")`. `--config=voting:tiny` names
a preset that comes with the package, `--config=my_run.py:preset` a file.

On the command line `--config.FIELD=VALUE` sets a field over the file's value.

- `None` gives back the field's default, also where the file sets another value.
- A list is separated by commas: `--config.model=tiny,tiny`, `--config.response_length=18,22`. In
Python it is a tuple.
  A number with a count stands for so many: `--config.response_length=18*5,22*4` is five times 18,
  then four times 22. Behind a model, a count says how many agents share it.
  Nothing after the equals sign is an empty list: `--config.data.eval=`.
  A path with commas in it is taken whole where it exists.
- `~` is the home directory in every path.
- A field that has no effect in the run is refused, with the condition under which it would have
one: the column "applies".
  That holds for a field that is typed, whatever its value, and for a field that your own file, or
  your own program, sets to another value than its default and than that of the preset it started
  from. A value that a preset of the package sets for all its runs blames nobody: where it has no
  effect, the run has the default and does not record it. To take back what a file sets, type the
  field with `None`.
- `eval`, `sample` and `export` refuse a typed field that they do not use, such as
`optimizer.learning_rate`.
- The column "may change" says whether a run that resumes in its workdir may have another value:
freely, or with
  `--config.allow_changes=True`. The modes `eval`, `sample` and `export` take a run's own values;
  what is typed beside them changes those, except for the fields marked so.
"""


_MEMORY_HEAD = """\
## When memory runs out

The error names the phase of the program. Lower these fields, the most effective first; `model`
means a smaller one, or more devices with `mesh.fsdp`.

| phase | fields |
|---|---|"""


def markdown() -> str:
    """The content of docs/configuration.md."""
    blocks = [_MARKDOWN_HEAD]
    for title, entries in _by_section():
        section, _, description = title.partition(": ")
        heading = f"## {section}\n\n{description}.\n" if description else f"## {section}\n"
        rows = "\n".join(table_row(entry) for entry in entries)
        columns = "| field | default | meaning | allowed | applies | may change |"
        blocks.append(f"{heading}\n{columns}\n|---|---|---|---|---|---|\n{rows}\n")
    blocks.append(f"{_MEMORY_HEAD}\n")
    for phase in PHASES:
        names = ", ".join(f"`{name}`" for name in fields_to_lower(phase))
        blocks[-1] += f"| {phase} | {names} |\n"
    blocks.append("## Names of earlier versions\n")
    blocks.append(
        "A typed old name is refused and says where it moved; `config.json` of an old run is "
        "read.\n"
    )
    moved = [f"| `{old}` | `{new}` |" for old, new in MOVED.items()]
    reasons: dict[str, list[str]] = {}
    for old, entry in REMOVED.items():
        reasons.setdefault(entry.reason.removeprefix("was removed: "), []).append(f"`{old}`")
    removed = [f"| {', '.join(names)} | {reason} |" for reason, names in reasons.items()]
    blocks.append("\n".join(["| then | now |", "|---|---|", *moved, *removed]) + "\n")
    return "\n".join(blocks)


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        with open("docs/configuration.md", "w", encoding="utf-8") as page:
            page.write(markdown())
    else:
        print(markdown(), end="")
