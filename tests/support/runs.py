"""What runs leave in their folders, and how many devices a run sees."""

import json
import pathlib

import jax

ALL_DEVICES = jax.devices


def first_devices(count: int):
    """A stand-in for `jax.devices` that shows the first `count` of the fake devices."""
    return lambda *_: ALL_DEVICES()[:count]


def lines_of(workdir) -> list[dict]:
    """A run's metrics without wall-clock fields."""
    text = pathlib.Path(workdir, "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


def rollouts_of(workdir) -> list[dict]:
    """A run's recorded rollouts."""
    text = pathlib.Path(workdir, "rollouts.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]
