"""The tasks and arms of the study: what a team has to learn, and what teaches it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

# Learning rates that pilots try for every arm, and the rate of an arm without pilots.
RATES = (1e-4, 2e-4, 4e-4)
DEFAULT_RATE = 2e-4


class Task(NamedTuple):
    """What a team has to learn.

    Attributes:
      config: name of a shipped configuration with its preset.
      changes: fields that differ from the preset.
      description: a few words for the table.
      arms: what is trained beside the controls, and compared with `shared`; () = nothing.
      model: per agent "tiny" or a key of `teach_tiny.LESSONS`; one entry serves all agents.
      rates_of: the task whose pilots choose the learning rates; "" = its own.
      exchange: also measure what the team loses where one agent is exchanged for its untrained self.
    """

    config: str
    changes: dict[str, Any]
    description: str
    arms: tuple[str, ...]
    model: tuple[str, ...] = ("tiny",)
    rates_of: str = ""
    exchange: bool = False


class Measures(NamedTuple):
    """How a run is measured. Every evaluation takes the first problems of the held-out ones.

    Attributes:
      heldout: problems of the greedy evaluation after the last step.
      watched: problems of the greedy evaluations along the way; 0 = there are none.
      every: steps between those.
      sampled: problems of evaluations at a temperature; 0 = there are none.
      samples: answers to each of them.
    """

    heldout: int
    watched: int
    every: int
    sampled: int
    samples: int = 8


FULL = Measures(heldout=512, watched=128, every=4, sampled=128)
QUICK = Measures(heldout=256, watched=128, every=10, sampled=64)
PILOT = Measures(heldout=512, watched=0, every=0, sampled=0)

# Of the untrained team, beside 0 and 1.
TEMPERATURES = (0.25, 0.5)

# --- arms -----------------------------------------------------------------------------------------

# The team before training: evaluated, and nothing else.
UNTRAINED = "untrained"

# Trained without any reward: its advantages are 0, and the loss is this share of the tokens' entropy.
NO_REWARD = "no_reward"
ENTROPY_WEIGHT = 0.2

# No table without them.
CONTROLS = (UNTRAINED, NO_REWARD, "none", "mean_of_others", "constant")

# Every arm that is not named here subtracts the mean of the group's other samples, undivided, which
# leaves its gradient without bias; these have a baseline of their own.
_OWN_BASELINE = ("nested", "pooled", "cross_read")

ARMS: dict[str, dict[str, Any]] = {
    UNTRAINED: {"credit.name": "shared"},
    NO_REWARD: {"credit.name": "shared"},
    "none": {"credit.name": "shared", "advantage.baseline": "none"},
    "mean_of_others": {"credit.name": "shared", "advantage.baseline": "batch_mean"},
    "constant": {
        "credit.name": "shared",
        "advantage.baseline": "constant",
        "advantage.delta": 0.1,
    },
    "shared": {"credit.name": "shared"},
    "individual": {"credit.name": "individual"},
    "difference": {"credit.name": "difference"},
    "ccpo": {"credit.name": "ccpo"},
    "cross_play": {"credit.name": "cross_play"},
    "shapley": {"credit.name": "shapley"},
    "ccpo_event": {"credit.name": "ccpo_event"},
    "nested": {"credit.name": "nested", "credit.answers": 2},
    "pooled": {"credit.name": "pooled", "credit.answers": 2},
    "cross_read": {"credit.name": "cross_read"},
    "shared_one_policy": {"credit.name": "shared", "shared_policy": True},
    "difference_one_policy": {"credit.name": "difference", "shared_policy": True},
    "cross_play_one_policy": {"credit.name": "cross_play", "shared_policy": True},
}

# Samples per prompt that make all arms of a team decode as many tokens, within a few per cent. A
# counterfactual of the dyad is one more answer per sample, of the chain three; `nested` and `pooled`
# have K per thought.
# In a vote nothing more is decoded, and every arm has the preset's group.
_GROUP_SIZES = {
    "dyad:tiny": {"": 12, "difference": 9, "ccpo": 9, "ccpo_event": 9, "nested": 8, "pooled": 8},
    "chain:tiny": {"": 12, "difference": 6, "ccpo": 6},
}

# --- tasks ----------------------------------------------------------------------------------------

_VOTES = ("shared", "individual", "difference", "ccpo", "cross_play", "shapley")
_ONE_POLICY = ("shared_one_policy", "difference_one_policy", "cross_play_one_policy")
_DYAD = ("shared", "difference", "ccpo", "ccpo_event", "nested", "pooled", "cross_read")
_CHAIN = ("shared", "difference", "ccpo")

# So short that arms can still differ: after 40 steps `shared`, `difference` and `nested` are all between
# 86 and 89 % greedy (seed 100, rate 2e-4).
_DYAD_CHANGES = {"steps": 24, "batch_size": 10}

# What a response of full length costs its agent, and how long it may be: three steps and the answer.
_COST = 0.2
_ROOM = 22


def _leave_work(agents: int) -> dict[str, Any]:
    """A turn costs its agent in proportion to its tokens: the penalty grows from the first one."""
    return {
        "steps": 40,
        "batch_size": 10,
        "data.train": ("synthetic/voting",),
        "response_length": (_ROOM,) * agents,
        "credit.overlong_penalty": _COST,
        "credit.overlong_buffer": _ROOM,
    }


def _voting(agents: int) -> Task:
    return Task(
        config="voting:tiny",
        changes={"steps": 24, "team.num_agents": agents},
        description=f"{agents} voters see the same problem",
        arms=(*_VOTES, *_ONE_POLICY),
        rates_of="" if agents == 3 else "voting_3",
    )


def _parts(agents: int) -> Task:
    return Task(
        config="voting:parts",
        changes={"steps": 60, "team.num_agents": agents},
        description=f"{agents} voters, of whom one sees the whole problem; who it is changes with it",
        arms=(*_VOTES, *_ONE_POLICY),
        rates_of="" if agents == 9 else "parts_9",
    )


TASKS = {
    "parts_3": _parts(3),
    "parts_5": _parts(5),
    "parts_9": _parts(9),
    "parts_15": _parts(15),
    "voting_3": _voting(3),
    "voting_9": _voting(9),
    "dyad": Task(
        config="dyad:tiny",
        changes=_DYAD_CHANGES,
        description="a Thinker and a Solver",
        arms=_DYAD,
    ),
    "lazy": Task(
        config="dyad:tiny",
        changes=_DYAD_CHANGES,
        description="a dyad whose Thinker starts out writing nothing useful",
        arms=(),
        model=("lazy", "tiny"),
        rates_of="dyad",
    ),
    "misleading": Task(
        config="dyad:tiny",
        changes=_DYAD_CHANGES,
        description="a dyad whose Thinker starts out miscalculating",
        arms=(),
        model=("misleading", "tiny"),
        rates_of="dyad",
    ),
    "shirking_dyad": Task(
        config="dyad:tiny",
        changes=_leave_work(agents=2),
        description="a Thinker and a Solver, either of whom can do most of the work, at a cost a token",
        arms=_DYAD,
        model=("shirking",),
        rates_of="dyad",
        exchange=True,
    ),
    "shirking_chain": Task(
        config="chain:tiny",
        changes=_leave_work(agents=3),
        description="three in a row, each of whom can do most of the work, at a cost a token",
        arms=_CHAIN,
        model=("shirking",),
        rates_of="dyad",
        exchange=True,
    ),
    "uneven_5": Task(
        config="voting:tiny",
        changes={"steps": 24, "team.num_agents": 5},
        description="a strong and four weak voters see the same problem",
        arms=(),
        model=("strong", "weak", "weak", "weak", "weak"),
        rates_of="voting_3",
        exchange=True,
    ),
}

# The comparison that the study is made for: (task, arm, against), and its seeds.
PRIMARY = ("parts_9", "difference", "shared")
PRIMARY_SEEDS = tuple(range(12))

SEEDS = tuple(range(6))
QUICK_SEEDS = (0, 1)
PILOT_SEEDS = (100, 101)

# What --quick compares, beside the controls.
QUICK_ARMS = ("shared", "difference")


def arms_of(task: str) -> tuple[str, ...]:
    """The arms of a task, controls first."""
    return (*CONTROLS, *TASKS[task].arms)


def seeds_of(task: str, arm: str) -> tuple[int, ...]:
    """The seeds that the plan asks for."""
    if task == PRIMARY[0] and arm in (*CONTROLS, *PRIMARY[1:]):
        return PRIMARY_SEEDS
    return SEEDS


def comparisons_of(task: str) -> tuple[tuple[str, str], ...]:
    """The planned comparisons of a task, ``(arm, against)``: every credit with the shared reward,
    and one policy for all agents with a policy for each.
    """
    pairs = []
    for arm in TASKS[task].arms:
        base, one_policy, _ = arm.partition("_one_policy")
        if one_policy:
            pairs.append((arm, base))
            if base != "shared":
                pairs.append((arm, "shared_one_policy"))
        elif arm != "shared":
            pairs.append((arm, "shared"))
    return tuple(pairs)


def changed_fields(task: str, arm: str, rate: float) -> dict[str, Any]:
    """The fields in which the runs of an arm differ from the task's preset; models and seed apart."""
    team = TASKS[task]
    changes: dict[str, Any] = {
        "data.heldout": FULL.heldout,
        "verifier.workers": 1,
        "log.tensorboard": False,
        "optimizer.learning_rate": rate,
        # One divisor for all responses: a mean over each response would bias every baseline.
        "loss.normalize": "length",
        "loss.max_length": longest_response(team),
    }
    if arm not in _OWN_BASELINE:
        changes["advantage.baseline"] = "leave_one_out"
    sizes = _GROUP_SIZES.get(team.config)
    if sizes:
        changes["group_size"] = sizes.get(arm, sizes[""])
    return changes | team.changes | ARMS[arm]


def longest_response(team: Task) -> int:
    """Most tokens of a response of any agent."""
    from ccpo_jax.presets import load_preset

    preset = load_preset(team.config)
    lengths: Sequence[int] = team.changes.get("response_length", preset.response_length)
    return max(lengths)
