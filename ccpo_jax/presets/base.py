"""Where every preset starts: the defaults of `ccpo_jax.config`, and what several presets change."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

from ccpo_jax.config import FIELDS, SECTIONS
from ccpo_jax.errors import InputError


def base() -> ConfigDict:
    """Every field at its default. A list may be set as text, as on the command line: ``"a,b"``."""
    config = ConfigDict()
    for section in SECTIONS:
        config[section] = ConfigDict()
    for name, field in FIELDS.items():
        section, _, last = name.rpartition(".")
        target: Any = config[section] if section else config
        if field.is_list:
            target[last] = FieldReference(field.default, field_type=object)
        elif field.optional:
            target[last] = placeholder(field.kind)
        else:
            target[last] = field.default
    return config.lock()


def choose(models: Mapping[str, tuple[str, ...]], name: str, preset: str) -> tuple[str, ...]:
    """The models of a preset.

    Raises:
      InputError: no such preset; the message lists those there are.
    """
    if preset not in models:
        known = ", ".join(filter(None, models))
        raise InputError("config", f"{name} has no preset {preset!r:.80}; use one of {known}")
    return models[preset]


def sharded(config: ConfigDict) -> ConfigDict:
    """Models that outgrow one device: parameters and optimizer state split over eight."""
    config.mesh.fsdp = 8
    return config


def tiny(config: ConfigDict) -> ConfigDict:
    """The embedded model on any CPU: same code path, minutes instead of days."""
    config.model = ("tiny",)
    config.compute_dtype = "float32"
    config.prompt_style = "tiny"
    config.prompt_length = 48
    config.optimizer.learning_rate = 2e-4
    config.optimizer.weight_decay = 0.0
    config.batch_size = 16
    config.group_size = 8
    config.trainer.pack_length = 128
    config.trainer.micro_batch = 4
    config.trainer.remat = "none"
    config.trainer.schedule = "simultaneous"
    config.data.heldout = 512
    config.data.eval = ()
    config.eval.samples = 1
    config.eval.batch_size = 256
    config.eval.greedy = False
    config.eval_every = 0
    config.checkpoint_every = 0
    config.rollout_log.every = 5
    return config
