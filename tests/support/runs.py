"""Small configurations, devices to train them on, and what runs leave in their folders."""

import json
import pathlib
from typing import Any

import jax

from ccpo_jax.presets import load_preset


def first_devices(count: int) -> list[Any]:
    """The first of the fake devices, for `devices=`. All eight on two cores take their time."""
    return jax.devices()[:count]


def lines_of(workdir) -> list[dict]:
    """A run's metrics without wall-clock fields."""
    text = pathlib.Path(workdir, "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


def rollouts_of(workdir) -> list[dict]:
    """A run's recorded rollouts."""
    text = pathlib.Path(workdir, "rollouts.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def small_run(preset: str, **changes) -> Any:
    """The configuration of a tiny preset, cut down to seconds. `changes` are fields by their dotted name."""
    sizes = {
        "steps": 2,
        "batch_size": 8,
        "group_size": 4,
        "data.size": 300,
        "data.heldout": 16,
        "eval.batch_size": 16,
        "verifier.workers": 1,
        "log.tensorboard": False,
        "rollout_log.problems": 8,
        "rollout_log.every": 2,
    }
    return changed_preset(f"{preset}:tiny", sizes, changes)


def brief_run(steps: int, **changes):
    """The configuration of voters with one network and short answers: a step takes a moment."""
    sizes = {
        "steps": steps,
        "shared_policy": True,
        "batch_size": 2,
        "group_size": 4,
        "response_length": (16,),
        "data.size": 100,
        "data.heldout": 4,
        "eval.samples": 4,
        "eval.batch_size": 2,
        "eval_every": 0,
        "checkpoint_every": 0,
        "verifier.workers": 1,
        "trainer.micro_batch": 2,
        "log.tensorboard": False,
        # Every response has a gradient, also one whose advantage is 0.
        "loss.entropy_bonus": 1e-3,
    }
    return changed_preset("voting:tiny", sizes, changes)


def changed_preset(name: str, sizes: dict, changes: dict) -> Any:
    """A preset in other sizes, which count as its own: they need not have an effect in every run."""
    config: Any = load_preset(name)
    config.update_from_flattened_dict(sizes)
    config.inherited.update(sizes)
    config.update_from_flattened_dict(changes)
    return config
