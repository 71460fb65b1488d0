"""Adapters as Hugging Face PEFT keeps them: adapter_config.json and adapter_model.safetensors."""

import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ccpo_jax.errors import InputError, first_line
from ccpo_jax.extras import train_extra
from ccpo_jax.models import hf
from ccpo_jax.models.decoder import ModelConfig, parameter_shapes
from ccpo_jax.models.lora import TARGETS, LoRA, a_name, b_name

with train_extra():
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

# The field that is wrong where a folder is.
_FIELD = "lora.start"

# Entries of adapter_config.json that change what an adapter computes, and the values that do not.
_PLAIN = {
    "bias": ("none", None),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "lora_bias": (False, None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "modules_to_save": ([], None),
    "layers_to_transform": ([], None),
    "layer_replication": ([], None),
    "trainable_token_indices": ([], {}, None),
    "target_parameters": ([], None),
    "megatron_config": (None,),
    "alora_invocation_tokens": ([], None),
}

_TENSOR = re.compile(r"base_model\.model\.model\.layers\.(\d+)\.([\w.]+)\.lora_([AB])\.weight")


class PeftAdapter(NamedTuple):
    """An adapter that was read."""

    lora: LoRA
    adapters: dict[str, np.ndarray]  # float32, as in `lora.init_adapters`


def write_adapter(
    folder: pathlib.Path, config: ModelConfig, lora: LoRA, adapters: Mapping[str, Any], base: str
) -> None:
    """Writes an adapter that PEFT loads on its base.

    Args:
      folder: exists.
      config: of the base.
      lora: rank, scale and targets.
      adapters: host arrays, float32.
      base: folder or Hub name of the base, for those who load the adapter.

    Raises:
      OSError: the disk is full or cannot be written.
    """
    entries = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "use_rslora": lora.rslora,
        "target_modules": [_module(target).rpartition(".")[2] for target in lora.targets],
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    (folder / CONFIG).write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    tensors = {}
    for target in lora.targets:
        for letter, name in (("A", a_name(target)), ("B", b_name(target))):
            for layer in range(config.num_layers):
                # PyTorch's linear layers hold [out, in].
                value = np.ascontiguousarray(np.asarray(adapters[name][layer], np.float32).T)
                tensors[_tensor_name(layer, target, letter)] = value
    hf.save_tensors(tensors, folder / WEIGHTS)
    # safetensors makes it readable by the owner alone.
    (folder / WEIGHTS).chmod(0o644)


def read_adapter(folder: str | pathlib.Path, config: ModelConfig) -> PeftAdapter:
    """Reads an adapter that PEFT, or `write_adapter`, has written.

    Args:
      folder: with adapter_config.json and adapter_model.safetensors.
      config: of the base.

    Raises:
      InputError: files missing or damaged, an adapter that computes something else than ``x W +
        scale (x A) B`` of the same rank everywhere, or one of another network.
    """
    folder = pathlib.Path(folder)
    entries = _read_config(folder)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise _error(f"cannot read {folder / WEIGHTS} ({first_line(error)})") from error
    if entries.get("peft_type") != "LORA":
        raise _error(f"{folder} is of peft_type {entries.get('peft_type')!r:.40}; use LORA")
    for name, plain in _PLAIN.items():
        if entries.get(name) not in plain:
            raise _error(
                f"{folder} has {name}={entries[name]!r:.80}, which is not supported; use an "
                "adapter without it"
            )

    targets = _targets(folder, tensors)
    lora = LoRA(
        rank=_number(folder, entries, "r", int),
        alpha=float(_number(folder, entries, "lora_alpha", (int, float))),
        targets=targets,
        rslora=bool(entries.get("use_rslora")),
    )
    return PeftAdapter(lora, _stacked(folder, config, lora, tensors))


def _read_config(folder: pathlib.Path) -> dict[str, Any]:
    try:
        entries = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _error(
            f"cannot read {folder / CONFIG} ({first_line(error)}); type a folder of a PEFT adapter"
        ) from error
    if not isinstance(entries, dict):
        raise _error(f"{folder / CONFIG} is no object; type a folder of a PEFT adapter")
    return entries


def _number(folder: pathlib.Path, entries: Mapping[str, Any], name: str, kind: Any) -> Any:
    value: Any = entries.get(name)
    if isinstance(value, bool) or not isinstance(value, kind) or value <= 0:
        raise _error(f"{folder / CONFIG} has {name}={value!r:.40}; restore it")
    return value


def _targets(folder: pathlib.Path, tensors: Mapping[str, Any]) -> tuple[str, ...]:
    """The targets that have tensors, in the order of `TARGETS`."""
    by_module = {_module(target): target for target in TARGETS}
    present = set()
    for name in tensors:
        match = _TENSOR.fullmatch(name)
        if match is None or match[2] not in by_module:
            raise _error(f"{folder / WEIGHTS} holds {name:.120}, for which there is no place")
        present.add(by_module[match[2]])
    if not present:
        raise _error(f"{folder / WEIGHTS} is empty")
    return tuple(target for target in TARGETS if target in present)


def _stacked(
    folder: pathlib.Path, config: ModelConfig, lora: LoRA, tensors: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The layers of every A and B in one array."""
    kernels = parameter_shapes(config)["layers"]
    adapters = {}
    for target in lora.targets:
        _, inputs, outputs = kernels[target].shape
        for letter, name, shape in (
            ("A", a_name(target), (inputs, lora.rank)),
            ("B", b_name(target), (lora.rank, outputs)),
        ):
            layers = []
            for layer in range(config.num_layers):
                key = _tensor_name(layer, target, letter)
                stored = tensors.get(key)
                if stored is None or stored.T.shape != shape:
                    received = "nothing" if stored is None else list(stored.shape)
                    raise _error(
                        f"{folder / WEIGHTS} has {received} as {key}, this network needs "
                        f"{list(shape[::-1])}; use an adapter of the same network and rank"
                    )
                layers.append(np.asarray(stored.T, np.float32))
            adapters[name] = np.stack(layers)
    extra = len(tensors) - 2 * config.num_layers * len(lora.targets)
    if extra:
        raise _error(f"{folder / WEIGHTS} is of a network with more layers")
    return adapters


def _module(target: str) -> str:
    """The name of a product's module in a layer, such as ``self_attn.q_proj``."""
    return hf.layer_tensor(target).removesuffix(".weight")


def _tensor_name(layer: int, target: str, letter: str) -> str:
    return f"base_model.model.model.layers.{layer}.{_module(target)}.lora_{letter}.weight"


def _error(message: str) -> InputError:
    return InputError(_FIELD, message)
