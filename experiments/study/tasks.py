"""The tasks and methods that the study compares."""

import pathlib
from typing import Any, NamedTuple

SEEDS = (0, 1, 2, 3, 4)


class Task(NamedTuple):
    """What a team has to learn.

    Attributes:
      config: name of a shipped configuration; its tiny preset is used.
      changes: fields that differ from the preset.
      description: a few words for the table.
      model: per agent "tiny" or a key of `teach_tiny.LESSONS`; one entry serves all agents.
      methods: the methods compared; () = all methods of the team that need no lesson.
    """

    config: str
    changes: dict[str, Any]
    description: str
    model: tuple[str, ...] = ("tiny",)
    methods: tuple[str, ...] = ()


_DYAD = {"steps": 32}
_RATED = {"steps": 32}
_CREDITS = ("shared", "difference", "ccpo", "ccpo_event", "nested", "pooled")

# The comparison planned in results/hunt.md: `surprisal` needs no group, so it spends its samples on
# more prompts. The two wide `shared` arms measure what that alone is worth; `mean_2x104` adds the
# loss that `surprisal` needs.
_HUNT = ("shared_4x52", "shared_2x104", "mean_2x104", "surprisal")

# Ratings need a lesson first, and the wide arms answer one question that is asked on one task only.
_SEPARATE = ("solo", "sepo", "shared_4x52", "shared_2x104", "mean_2x104")

# A team of one, where all members see the same problem and start from the same model.
_VOTES = ("shared", "individual", "difference", "ccpo", "cross_play", "shapley", "solo")

TASKS = {
    "voting": Task(
        config="voting",
        changes={"steps": 24},
        description="three voters see the same problem",
        methods=_VOTES,
    ),
    "parts": Task(
        config="voting",
        changes={"steps": 32, "data.train": "synthetic/parts", "response_length": (6,)},
        description=(
            "one voter sees the whole problem, the other two lack its last term; "
            "who knows changes with the problem"
        ),
    ),
    "dyad": Task(
        config="dyad",
        changes=_DYAD,
        description="Thinker and Solver",
        methods=(*_CREDITS, *_HUNT, "solo"),
    ),
    "lazy": Task(
        config="dyad",
        changes=_DYAD,
        description="a Thinker that starts out writing nothing useful",
        model=("lazy", "tiny"),
    ),
    "misleading": Task(
        config="dyad",
        changes=_DYAD,
        description="a Thinker that starts out miscalculating",
        model=("misleading", "tiny"),
    ),
    "rating": Task(
        config="dyad",
        changes=_RATED,
        description="a dyad that was taught to rate its outcomes",
        model=("rating",),
        methods=("shared", "sepo"),
    ),
}

# Group sizes make all methods of a team decode the same number of tokens within a few per cent. A
# sample of the dyad is a thought and an answer; a counterfactual adds one more answer, `nested` and
# `pooled` add K.
_SUMMED_LOSS = {
    "credit.name": "shared",
    "group_size": 2,
    "batch_size": 104,
    "loss.normalize": "length",
    "loss.max_length": 22,
}

METHODS = {
    "voting": {
        "shared": {"credit.name": "shared"},
        "individual": {"credit.name": "individual"},
        "difference": {"credit.name": "difference"},
        "ccpo": {"credit.name": "ccpo"},
        "cross_play": {"credit.name": "cross_play"},
        "shapley": {"credit.name": "shapley"},
        # One voter, with the samples of three.
        "solo": {"credit.name": "shared", "team.num_agents": 1, "group_size": 24},
    },
    "dyad": {
        "shared": {"credit.name": "shared", "group_size": 13},
        "difference": {"credit.name": "difference", "group_size": 8},
        "ccpo": {"credit.name": "ccpo", "group_size": 8},
        "ccpo_event": {"credit.name": "ccpo_event", "group_size": 8},
        "nested": {"credit.name": "nested", "credit.answers": 2, "group_size": 9},
        "pooled": {"credit.name": "pooled", "credit.answers": 2, "group_size": 9},
        "shared_4x52": {"credit.name": "shared", "group_size": 4, "batch_size": 52},
        "shared_2x104": {"credit.name": "shared", "group_size": 2, "batch_size": 104},
        "mean_2x104": _SUMMED_LOSS | {"advantage.baseline": "leave_one_out"},
        "surprisal": _SUMMED_LOSS | {"advantage.baseline": "weighted"},
        # Two ratings take three times the tokens of what they rate.
        "sepo": {"credit.name": "sepo", "credit.rating_length": 52, "group_size": 3},
        "solo": {
            "credit.name": "shared",
            "topology": "solo",
            "response_length": (22,),
            # A thought and an answer of the dyad have as many tokens as 1.7 answers of a solo.
            "group_size": 22,
        },
    },
}

COMMON = {"log.tensorboard": False, "data.heldout": 512, "verifier.workers": 1}


def methods_of(task: str) -> tuple[str, ...]:
    """The methods that are compared on a task."""
    return TASKS[task].methods or tuple(
        name for name in METHODS[TASKS[task].config] if name not in _SEPARATE
    )


class Run(NamedTuple):
    """One training run of the study."""

    task: str
    method: str
    seed: int

    def folder(self, out: pathlib.Path) -> pathlib.Path:
        """The run's workdir below `out`."""
        return out / self.task / self.method / f"seed-{self.seed}"
