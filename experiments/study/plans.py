"""The plan of a run: everything that decides its outcome but the seed, and a short hash of it.

Runs of different plans never stand in one table. What a plan does not see is the code: the commit
of every run is recorded beside it.
"""

import csv
import functools
import hashlib
import itertools
import json
import pathlib
from typing import Any, NamedTuple

from ccpo_jax.config import FIELDS, Config, combine, flatten, parse
from ccpo_jax.hf.tokenizer import load_tokenizer
from ccpo_jax.presets import load_preset
from ccpo_jax.train.load import load_problems
from ccpo_jax.train.sources import TINY
from experiments.study.lessons import LESSONS
from experiments.study.tasks import (
    DEFAULT_RATE,
    ENTROPY_WEIGHT,
    NO_REWARD,
    TASKS,
    TEMPERATURES,
    UNTRAINED,
    Measures,
    changed_fields,
)
from experiments.study.teach_tiny import pace

RATES_FILE = pathlib.Path(__file__).parent / "rates.csv"

# Fields that change no figure.
_WITHOUT_EFFECT = ("seed", "verifier.workers", "log.tensorboard", "model", "data.heldout")

# Problems of the training set, or texts of a lesson, that stand for all: if their generator changes,
# so do they.
_EXAMPLES = 64


class Plan(NamedTuple):
    """What an arm does in a task."""

    task: str
    arm: str
    rate: float
    measures: Measures

    def config(self, seed: int, models: pathlib.Path) -> Config:
        """The configuration of a run; `models` holds the lessons."""
        team = TASKS[self.task]
        names = [name if name == "tiny" else str(models / name) for name in team.model]
        changes = changed_fields(self.task, self.arm, self.rate)
        changes |= {"seed": seed, "model": tuple(names)}
        return parse(combine(load_preset(team.config), changes))

    def contents(self) -> dict[str, Any]:
        """What the hash is of."""
        changed = {
            name: value
            for name, value in flatten(self.config(0, pathlib.Path("lessons"))).items()
            if value != FIELDS[name].default and name not in _WITHOUT_EFFECT
        }
        contents = {
            "fields": changed,
            "models": {name: _lesson(name) for name in TASKS[self.task].model},
            "exchange": TASKS[self.task].exchange,
            "embedded model": _embedded_model(),
            "problems": _problems(self.task),
            "measures": self.measures._asdict(),
        }
        if self.arm == NO_REWARD:
            contents["entropy weight"] = ENTROPY_WEIGHT
        if self.arm == UNTRAINED:
            contents["temperatures"] = TEMPERATURES
        return contents

    def hash(self) -> str:
        """Eight hexadecimal digits."""
        text = json.dumps(self.contents(), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def plan_of(task: str, arm: str, measures: Measures, rate: float | None = None) -> Plan:
    """The plan of an arm; `rate` None = the one that its pilots chose."""
    if rate is None:
        rate = chosen_rates().get((TASKS[task].rates_of or task, arm), DEFAULT_RATE)
    return Plan(task, arm, rate, measures)


def chosen_rates(path: pathlib.Path = RATES_FILE) -> dict[tuple[str, str], float]:
    """``(task, arm) -> learning rate`` of all pilots."""
    if not path.is_file():
        return {}
    with path.open(newline="") as lines:
        return {(row["task"], row["arm"]): float(row["rate"]) for row in csv.DictReader(lines)}


@functools.cache
def _embedded_model() -> str:
    """A hash of the model that all teams start from."""
    digest = hashlib.sha256()
    for name in ("config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"):
        digest.update((TINY / name).read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def _lesson(name: str) -> str:
    """A hash of what a model was taught; "" = it is the embedded one."""
    if name == "tiny":
        return ""
    pairs = LESSONS[name](load_tokenizer(str(TINY)), 0)
    taught = (list(itertools.islice(pairs, _EXAMPLES)), pace(name))
    return hashlib.sha256(repr(taught).encode()).hexdigest()[:16]


@functools.cache
def _problems(task: str) -> str:
    """A hash of some problems, as every agent reads them, with their answers."""
    config = Plan(task, "shared", DEFAULT_RATE, Measures(0, 0, 0, 0)).config(0, pathlib.Path())
    problems, _ = load_problems(config)
    read = [(problem.prompt_text, problem.gold) for problem in problems.problems[:_EXAMPLES]]
    return hashlib.sha256(repr(read).encode()).hexdigest()[:16]
