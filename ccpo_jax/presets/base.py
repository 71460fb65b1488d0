"""Where every preset starts: the defaults of `ccpo_jax.config`, and what several presets change."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

from ccpo_jax.config import FIELDS, SECTIONS, flatten, lookup
from ccpo_jax.errors import InputError
from ccpo_jax.fields import convert


class UnknownFieldError(InputError, AttributeError):
    """There is no such field; an AttributeError, as ml_collections raises."""


class WrongTypeError(InputError, TypeError):
    """A value of another type than the field's; a TypeError, as ml_collections raises."""


class Preset(ConfigDict):
    """A ConfigDict that knows its fields, and which values come from presets of the package.

    A mistake in a field's name or in the type of its value is an `InputError` where it is made.

    Attributes:
      inherited: values by dotted name that the package's own functions set. Nobody is to blame
        where one of them has no effect.
    """

    def __init__(self, *args: Any, **options: Any):
        _set(self, "_section", "")
        _set(self, "_inherited", {})
        super().__init__(*args, **options)

    @property
    def inherited(self) -> dict[str, Any]:
        """Dotted name -> value, see the class."""
        return self._inherited

    def __setitem__(self, key: Any, value: Any) -> None:
        name = f"{self._section}{key}"
        if self.is_locked and self.is_type_safe and not isinstance(value, FieldReference):
            if name in SECTIONS and isinstance(value, Mapping | ConfigDict):
                section: Any = self[key]
                for last, content in value.items():
                    section[last] = content
                return
            value = _checked(name, value)
        super().__setitem__(key, value)

    def __getattr__(self, attribute: str) -> Any:
        try:
            return super().__getattr__(attribute)
        except AttributeError:
            if not attribute.startswith("_"):
                _lookup(f"{self._section}{attribute}")
            raise

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        _set(self, "_section", state["_section"])
        _set(self, "_inherited", state["_inherited"])

    def copy_and_resolve_references(self, visit_map: dict | None = None) -> "Preset":
        """A copy, see `ConfigDict`."""
        copy = super().copy_and_resolve_references(visit_map)
        _set(copy, "_section", self._section)
        _set(copy, "_inherited", self._inherited)
        return copy


# Attributes of a ConfigDict that are no fields are set past it.
_set = object.__setattr__


def _lookup(name: str) -> None:
    try:
        lookup(name)
    except InputError as error:
        raise UnknownFieldError(error.field, _for_files(error)) from error


def _checked(name: str, value: Any) -> Any:
    _lookup(name)
    try:
        return convert(FIELDS[name], value)
    except InputError as error:
        field = FIELDS[name]
        example = field.example() if field.default is None else field.default
        if example == ():
            example = (field.example(),)
        message = _for_files(error).partition("; write ")[0]
        raise WrongTypeError(name, f"{message}; write config.{name} = {example!r}") from error


def _for_files(error: InputError) -> str:
    """A message about the command line as one about a file."""
    message = str(error).removeprefix(f"{error.field}: ")
    return message.replace("type --config.", "write config.").replace("--config.", "config.")


def shipped(make: Callable[..., Preset]) -> Callable[..., Preset]:
    """Marks a function of the package that makes or changes a configuration: what it sets is
    `inherited`.
    """

    @functools.wraps(make)
    def made(*args: Any) -> Preset:
        before = flatten(args[0]) if args and isinstance(args[0], ConfigDict) else {}
        config = make(*args)
        if isinstance(config, Preset):
            after = flatten(config)
            config.inherited.update(
                {name: value for name, value in after.items() if before.get(name) != value}
            )
        return config

    return made


def base() -> Preset:
    """Every field at its default. A list may be set as text, as on the command line: ``"a,b"``."""
    config = Preset()
    for section in SECTIONS:
        config[section] = Preset()
        _set(config[section], "_section", f"{section}.")
    for name, field in FIELDS.items():
        section, _, last = name.rpartition(".")
        target: Any = config[section] if section else config
        if field.is_list:
            target[last] = FieldReference(field.default, field_type=object)
        elif field.optional:
            target[last] = placeholder(field.kind)
        else:
            target[last] = field.default
    config.lock()
    return config


def choose(models: Mapping[str, tuple[str, ...]], name: str, preset: str) -> tuple[str, ...]:
    """The models of a preset.

    Raises:
      InputError: no such preset; the message lists those there are.
    """
    if preset not in models:
        known = ", ".join(filter(None, models))
        raise InputError("config", f"{name} has no preset {preset!r:.80}; use one of {known}")
    return models[preset]


@shipped
def sharded(config: Preset) -> Preset:
    """Models that outgrow one device: parameters and optimizer state split over eight."""
    config.mesh.fsdp = 8
    return config


@shipped
def tiny(config: Preset) -> Preset:
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
