"""The tasks and methods that the study compares."""

import pathlib
from typing import Any, NamedTuple

SEEDS = (0, 1, 2, 3, 4)


class Task(NamedTuple):
    """What a team has to learn."""

    config: str  # module of configs/, its tiny preset
    changes: dict[str, Any]
    about: str  # a few words for the table
    model: tuple[str, ...] = (
        "tiny",
    )  # "tiny", or what it was taught before, a key of teach_tiny.LESSONS; per agent
    methods: tuple[str, ...] = ()  # who is compared; () = all of the team's but those in _APART


_DYAD = {"steps": 32}


_RATED = {**_DYAD, "rating_length": 52}


_ALONE = ("shared", "difference", "ccpo", "ccpo_event", "nested", "pooled")


_HUNT = ("shared_4x52", "shared_2x104", "mean_2x104", "surprisal")


_APART = (
    "sepo",
    *_HUNT[:-1],
)  # ratings need a lesson, and the hunt's arms are one question, asked once


TASKS = {
    "voting": Task("voting", {"steps": 24}, "three voters see the same problem"),
    "parts": Task(
        "voting",
        {"steps": 32, "data.train": "synthetic/parts"},
        "one voter sees the whole problem, the other two lack its last term; who knows changes with the problem",
        ("parts",),
    ),
    "dyad": Task("dyad", _DYAD, "Thinker and Solver", methods=_ALONE + _HUNT),
    "lazy": Task("dyad", _DYAD, "a Thinker that begins by saying nothing of use", ("lazy", "tiny")),
    "misleading": Task(
        "dyad", _DYAD, "a Thinker that begins by miscalculating", ("misleading", "tiny")
    ),
    "rating": Task(
        "dyad",
        _RATED,
        "a dyad that was taught to rate its outcomes",
        ("rating",),
        ("shared", "sepo"),
    ),
}


# Group sizes are such that all methods of a team decode the same within a few per cent: a sample of the dyad is a
# thought and an answer, with a counterfactual one more answer, with nested and pooled K answers. The hunt: `surprisal`
# needs no group, so it spends its samples on more prompts. What that alone is worth the two wide ones say, and what it
# is worth with the loss that `surprisal` needs, and no division by the group's deviation, `mean_2x104`.
_SUMMED = {
    "credit.name": "shared", "group_size": 2, "batch_size": 104, "loss.normalize": "length", "loss.max_length": 22,
}  # fmt: skip


METHODS = {
    "voting": {
        "shared": {"credit.name": "shared"},
        "individual": {"credit.name": "individual"},
        "difference": {"credit.name": "difference"},
        "ccpo": {"credit.name": "ccpo"},
        "cross_play": {"credit.name": "cross_play"},
        "shapley": {"credit.name": "shapley"},
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
        "mean_2x104": _SUMMED | {"advantage.baseline": "leave_one_out"},
        "surprisal": _SUMMED | {"advantage.baseline": "surprisal"},
        "sepo": {"credit.name": "sepo", "group_size": 3},  # two ratings take three times as much as what they rate
    },
}  # fmt: skip


_COMMON = {"log.tensorboard": False, "data.heldout": 512, "verifier.workers": 1}


def methods_of(task: str) -> tuple[str, ...]:
    """The methods that are compared on a task."""
    return TASKS[task].methods or tuple(
        name for name in METHODS[TASKS[task].config] if name not in _APART
    )


class Run(NamedTuple):
    """One training run."""

    task: str
    method: str
    seed: int

    def folder(self, out: pathlib.Path) -> pathlib.Path:
        """Where it lives."""
        return out / self.task / self.method / f"seed-{self.seed}"
