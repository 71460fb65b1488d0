"""Networks: pure-JAX decoders that read and write Hugging Face checkpoints.

To add a family: one entry in `FAMILIES` if `Family` can express it, else first an option in
decoder.py.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ccpo_jax.errors import InputError
from ccpo_jax.extras import train_extra
from ccpo_jax.fields import expand_home
from ccpo_jax.models.decoder import (
    ATTENTION,
    REMAT,
    ModelConfig,
    init_params,
    make_policy,
    parameter_shapes,
    with_adapters,
    with_tokens,
)
from ccpo_jax.models.lora import LoRA
from ccpo_jax.status import status

with train_extra():
    from ccpo_jax.hf import hub
    from ccpo_jax.models import hf
    from ccpo_jax.models.hf import Family

__all__ = [
    "ATTENTION",
    "FAMILIES",
    "REMAT",
    "Family",
    "LoRA",
    "ModelConfig",
    "init_params",
    "load",
    "load_config",
    "make_policy",
    "parameter_shapes",
    "save",
    "with_adapters",
    "with_tokens",
]


def load(
    model: str | pathlib.Path,
    *,
    dtype: Any = jnp.float32,
    revision: str | None = None,
    sharding: Callable[[Any], Any] | None = None,
) -> tuple[ModelConfig, dict[str, Any]]:
    """Reads a checkpoint in Hugging Face format.

    Args:
      model: folder with config.json and safetensors, or a name on the Hugging Face Hub.
      dtype: of the parameters; float32 for training.
      revision: branch, tag or commit of a Hub name; None = its main branch.
      sharding: where to put the parameters: pytree of `jax.ShapeDtypeStruct` -> pytree of
        shardings, for example ``functools.partial(state_sharding, mesh)``. None = the default
        device.

    Returns:
      ``(config, params)``; see `decoder.parameter_shapes` for the pytree.

    Raises:
      InputError: no such model, an unsupported network, or a checkpoint that contradicts itself.

    Example:
      config, params = load("Qwen/Qwen2.5-0.5B-Instruct")
      policy = make_policy(config, compute_dtype=jnp.bfloat16)
    """
    folder = hub.fetch(model, revision=revision, weights=True)
    config = load_config(folder)
    with status(f"loading {model}"):
        return config, hf.read_params(folder, config, dtype, sharding)


def load_config(model: str | pathlib.Path, *, revision: str | None = None) -> ModelConfig:
    """The architecture of a checkpoint, without its weights. Arguments and errors as in `load`."""
    folder = hub.fetch(model, revision=revision, weights=False)
    entries = hf.read_json(folder / "config.json")
    return hf.parse_config(entries, _family(entries.get("model_type")))


def save(
    folder: str | pathlib.Path, config: ModelConfig, params: dict[str, Any], *, dtype: Any = None
) -> None:
    """Writes config.json and safetensors that transformers reads.

    Args:
      folder: created if absent; weights already there are replaced.
      config: fields of the config.json it was read from are kept.
      params: the pytree of `decoder.parameter_shapes`.
      dtype: float32, bfloat16 or float16 to write; None = that of ``params["embed"]``.

    Raises:
      InputError: `params` do not fit `config`, or `config` does not fit its model_type.
    """
    name = jnp.dtype(params["embed"].dtype if dtype is None else dtype).name
    if name not in hf.DTYPES.values():
        raise InputError("dtype", f"received {name}; use one of {', '.join(hf.DTYPES.values())}")
    _check_shapes(config, params)

    entries = hf.config_entries(config, _family(config.model_type), name)
    folder = pathlib.Path(expand_home(str(folder)))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    hf.write_params(folder, config, params, name)


def _check_shapes(config: ModelConfig, params: dict[str, Any]) -> None:
    def shapes_by_path(tree: Any) -> dict[str, tuple[int, ...]]:
        leaves = jax.tree.leaves_with_path(tree)
        return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}

    expected = shapes_by_path(parameter_shapes(config))
    received = shapes_by_path(params)
    for path in sorted(expected.keys() | received.keys()):
        if expected.get(path) != received.get(path):
            raise InputError(
                f"params{path}",
                f"received shape {received.get(path)}, config requires {expected.get(path)}",
            )


def _family(model_type: Any) -> Family:
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise InputError(
            "config.json.model_type",
            f"{model_type!r:.60} is not supported; supported: {', '.join(FAMILIES)}",
        )
    return FAMILIES[model_type]


# Hugging Face model_type -> what it implies. A new family is one entry here.
FAMILIES = {
    "qwen2": Family("Qwen2ForCausalLM", qkv_bias=True),
    "llama": Family("LlamaForCausalLM", max_positions=2048),
    "qwen3": Family("Qwen3ForCausalLM", qk_norm=True, head_dim=128),
    "olmo3": Family(
        "Olmo3ForCausalLM",
        qk_norm=True,
        qk_norm_whole=True,
        post_norm=True,
        full_every=4,
        max_positions=2048,
        norm_eps=1e-5,
        rope_theta=5e5,
    ),
}
