"""Hugging Face checkpoints in and out: config.json and safetensors, no torch, no pickle.

Reading checks names, shapes and dtypes of every tensor against config.json from the file headers
alone, then that every number is finite. Only then are weights put on a device, one parameter of the
pytree at a time.
"""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ccpo_jax.devices.sharding import fetch
from ccpo_jax.errors import InputError
from ccpo_jax.models.decoder import ModelConfig, Params, parameter_shapes
from ccpo_jax.models.rope import Llama3Scaling, RopeScaling, YarnScaling
from ccpo_jax.rl.types import Array
from ccpo_jax.status import Phase, status

# safetensors' name of a dtype: numpy's.
DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"

# Bytes of the largest weight file written.
_SHARD_BYTES = 5 * 10**9

# Limits on what is read. Numbers in a config.json are below _MAX_NUMBER. The indices of published
# models have a thousandth of _MAX_JSON_BYTES. Layers beyond _MAX_LAYERS are not listed one by one.
# No file system that is in use allows longer file names than _MAX_NAME_LENGTH.
_MAX_NUMBER = 2**40
_MAX_JSON_BYTES = 10**8
_MAX_LAYERS = 10**4
_MAX_NAME_LENGTH = 255

# Numbers checked at a time.
_CHECK_SIZE = 1 << 24

_OUTER_NAMES = {
    "embed": "model.embed_tokens.weight",
    "final_norm": "model.norm.weight",
    "head": "lm_head.weight",
}
# After model.layers.<i>.
_LAYER_NAMES = {
    "attn_norm": "input_layernorm.weight",
    "q": "self_attn.q_proj.weight",
    "k": "self_attn.k_proj.weight",
    "v": "self_attn.v_proj.weight",
    "q_bias": "self_attn.q_proj.bias",
    "k_bias": "self_attn.k_proj.bias",
    "v_bias": "self_attn.v_proj.bias",
    "q_norm": "self_attn.q_norm.weight",
    "k_norm": "self_attn.k_norm.weight",
    "o": "self_attn.o_proj.weight",
    "o_bias": "self_attn.o_proj.bias",
    "mlp_norm": "post_attention_layernorm.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
}
# Of families whose norms stand behind attention and feed-forward.
_POST_NORM_NAMES = {
    "attn_norm": "post_attention_layernorm.weight",
    "mlp_norm": "post_feedforward_layernorm.weight",
}

# Values of config.json's layer_types.
_FULL = "full_attention"
_SLIDING = "sliding_attention"

# config.json fields whose other values would change the network. Absent means the first.
_SUPPORTED = {
    "hidden_act": ("silu",),
    "mlp_bias": (False,),
    "partial_rotary_factor": (1.0, None),
    "quantization_config": (None,),
}


@dataclasses.dataclass(frozen=True)
class Family:
    """What a Hugging Face model_type implies without writing it into config.json.

    Fields from head_dim on are defaults for a config.json that lacks them.
    """

    # transformers' class.
    architecture: str
    # None: config.json's attention_bias decides, for q, k, v and o alike.
    qkv_bias: bool | None = None
    qk_norm: bool = False
    qk_norm_whole: bool = False
    post_norm: bool = False
    # None: hidden_size / num_attention_heads.
    head_dim: int | None = None
    max_positions: int = 32768
    norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    # Every so many layers one sees everything and the others slide; None: no layer slides.
    full_every: int | None = None


class Tensor(NamedTuple):
    """Where a tensor of the file goes in the pytree."""

    leaf: str
    layer: int | None  # index into the stacked leaf; None for embed, final_norm and head
    shape: tuple[int, ...]  # in the file; kernels are stored as [out, in]
    transposed: bool


# --- config.json ----------------------------------------------------------------------------------


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
      InputError: the file is missing or contains something else.
    """
    if not path.is_file():
        raise _model_error(
            f"no {path.name} in {path.parent}; give a folder with a Hugging Face checkpoint"
        )
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise _model_error(
            f"{path} is larger than {_MAX_JSON_BYTES:,} bytes; do not use this checkpoint"
        )
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _model_error(f"{path} is not valid JSON ({error}); download it again") from error
    if not isinstance(entries, dict):
        raise _model_error(
            f"{path} contains a {type(entries).__name__}, not an object; download it again"
        )
    return entries


def parse_config(entries: dict[str, Any], family: Family) -> ModelConfig:
    """The architecture that config.json describes.

    Args:
      entries: content of config.json, as transformers 4 or 5 writes it.
      family: of its model_type.

    Raises:
      InputError: a field is missing, of the wrong type, or asks for what is not supported.
    """
    for field, values in _SUPPORTED.items():
        if entries.get(field, values[0]) not in values:
            raise _unsupported(field, entries[field], repr(values[0]))

    hidden = _number(entries, "hidden_size")
    heads = _number(entries, "num_attention_heads")
    layers = _number(entries, "num_hidden_layers")
    window, sliding = _parse_sliding_window(entries, family, layers)
    theta, scaling = _parse_rope(entries, family)
    bias = _flag(entries, "attention_bias")
    return ModelConfig(
        model_type=entries["model_type"],
        vocab_size=_number(entries, "vocab_size"),
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=_number(entries, "num_key_value_heads", heads),
        head_dim=_number(entries, "head_dim", family.head_dim or hidden // heads),
        ffn_size=_number(entries, "intermediate_size"),
        rope_theta=theta,
        rope_scaling=scaling,
        norm_eps=_number(entries, "rms_norm_eps", family.norm_eps, float),
        qkv_bias=bias if family.qkv_bias is None else family.qkv_bias,
        o_bias=bias and family.qkv_bias is None,
        qk_norm=family.qk_norm,
        qk_norm_whole=family.qk_norm_whole,
        post_norm=family.post_norm,
        window=window,
        sliding=sliding,
        tied_embeddings=_flag(entries, "tie_word_embeddings"),
        max_positions=_number(entries, "max_position_embeddings", family.max_positions),
        hf_config=json.dumps(entries),
    )


def _model_error(message: str) -> InputError:
    """An error about the files of a checkpoint."""
    return InputError("model", message)


def _config_error(field: str, message: str) -> InputError:
    """An error about one field of config.json."""
    return InputError(f"config.json.{field}", message)


def _unsupported(field: str, value: Any, supported: str) -> InputError:
    return _config_error(field, f"{value!r:.60} is not supported; supported: {supported}")


def _number(
    entries: dict[str, Any],
    field: str,
    default: float | None = None,
    kind: type[int] | type[float] = int,
    *,
    minimum: int = 1,
    prefix: str = "",
) -> Any:
    """A number of type `kind`; `minimum` is 1, which means positive, or 0.

    `prefix` says in errors where `entries` lies.
    """
    value = default if entries.get(field) is None else entries[field]
    name = f"{prefix}{field}"
    required = f"a positive {kind.__name__}" if minimum else f"a {kind.__name__} from 0"
    if value is None:
        raise _config_error(name, f"missing; add it, {required}")
    is_number = isinstance(value, (int, kind)) and not isinstance(value, bool)
    if not is_number or not (value > 0 or value == minimum):
        raise _config_error(name, f"must be {required}, received {value!r:.60}")
    if not value < _MAX_NUMBER:
        raise _config_error(name, f"must be below 2**40, received {value!r:.60}")
    return kind(value)


def _flag(entries: dict[str, Any], field: str) -> bool:
    value = entries.get(field, False)
    if not isinstance(value, bool):
        raise _config_error(field, f"must be true or false, received {value!r:.60}")
    return value


def _parse_sliding_window(
    entries: dict[str, Any], family: Family, layers: int
) -> tuple[int | None, tuple[bool, ...]]:
    """The window and which layers have it; (None, ()) if none has."""
    kinds = entries.get("layer_types")
    supported = (_FULL, _SLIDING) if family.full_every else (_FULL,)
    if kinds is not None:
        others = [kinds]
        if isinstance(kinds, list):
            others = [kind for kind in kinds if kind not in supported]
        if others:
            raise _unsupported("layer_types", others[0], ", ".join(map(repr, supported)))
        if family.full_every and len(kinds) != layers:
            raise _config_error(
                "layer_types", f"{len(kinds)} entries for num_hidden_layers={layers}"
            )
    elif not family.full_every and _flag(entries, "use_sliding_window"):
        has_window = entries.get("sliding_window", 4096) is not None
        if has_window and _number(entries, "max_window_layers", 28, minimum=0) < layers:
            raise _unsupported("use_sliding_window", True, "False")

    if not family.full_every:
        return None, ()
    if kinds is None:
        if layers > _MAX_LAYERS:
            raise _config_error(
                "num_hidden_layers", f"must be at most {_MAX_LAYERS:,}, received {layers}"
            )
        kinds = [_SLIDING if (layer + 1) % family.full_every else _FULL for layer in range(layers)]
    if _SLIDING not in kinds:
        return None, ()
    return _number(entries, "sliding_window", 4096), tuple(kind == _SLIDING for kind in kinds)


def _parse_rope(entries: dict[str, Any], family: Family) -> tuple[float, RopeScaling]:
    """Rotary base and scaling, from `rope_parameters` or the older `rope_theta`, `rope_scaling`.

    A family with sliding layers may give each kind its own parameters; sliding layers are never
    scaled.
    """
    newer = entries.get("rope_parameters")
    newer = newer if isinstance(newer, dict) else {}
    by_kind = not {_FULL, _SLIDING}.isdisjoint(newer)
    if not family.full_every or not by_kind:
        field = "rope_scaling" if entries.get("rope_scaling") else "rope_parameters"
        return _parse_rope_object(field, entries.get(field), entries, family)

    full = _parse_rope_object(f"rope_parameters.{_FULL}", newer.get(_FULL), entries, family)
    sliding = _parse_rope_object(
        f"rope_parameters.{_SLIDING}", newer.get(_SLIDING), entries, family
    )
    theta, _ = full
    if _SLIDING in newer and sliding != (theta, None):
        supported = f"rope_type 'default' with the rope_theta of {_FULL}"
        raise _unsupported(f"rope_parameters.{_SLIDING}", newer[_SLIDING], supported)
    return full


def _parse_rope_object(
    field: str, value: Any, entries: dict[str, Any], family: Family
) -> tuple[float, RopeScaling]:
    """Base and scaling of one rotary object; the base may stand in `entries` instead."""
    if not isinstance(value or {}, dict):
        raise _config_error(field, f"must be an object, received {value!r:.60}")
    rope = {"rope_theta": entries.get("rope_theta")} | (value or {})
    _set_original_length(rope, entries, family)
    kind = rope.get("rope_type", rope.get("type", "default"))
    theta = _number(rope, "rope_theta", family.rope_theta, float)
    if rope.get("partial_rotary_factor") not in (1.0, None):
        raise _unsupported("partial_rotary_factor", rope["partial_rotary_factor"], "1.0")
    if kind == "default":
        return theta, None
    if kind == "yarn":
        return theta, _parse_yarn(field, rope, theta)
    if kind == "llama3":
        return theta, _parse_llama3(field, rope)
    raise _unsupported(f"{field}.rope_type", kind, "'default', 'llama3', 'yarn'")


def _set_original_length(rope: dict[str, Any], entries: dict[str, Any], family: Family) -> None:
    """Puts the length before scaling where transformers 5 puts it.

    Some models have it beside the rotary object, and where none is given the length is that of
    ``max_position_embeddings``.
    """
    name = "original_max_position_embeddings"
    if entries.get(name) is not None:
        rope[name] = entries[name]
    elif rope.get(name) is None:
        rope[name] = entries.get("max_position_embeddings") or family.max_positions


def _parse_llama3(field: str, rope: dict[str, Any]) -> Llama3Scaling:
    prefix = f"{field}."
    return Llama3Scaling(
        factor=_number(rope, "factor", kind=float, prefix=prefix),
        low_freq_factor=_number(rope, "low_freq_factor", kind=float, prefix=prefix),
        high_freq_factor=_number(rope, "high_freq_factor", kind=float, prefix=prefix),
        original_max_positions=_number(rope, "original_max_position_embeddings", prefix=prefix),
    )


def _parse_yarn(field: str, rope: dict[str, Any], theta: float) -> YarnScaling:
    """YaRN's numbers; an absent attention factor follows from the factor, as in transformers."""
    supported = {"truncate": (True, None), "mscale": (None,), "mscale_all_dim": (None,)}
    for other, values in supported.items():
        if rope.get(other) not in values:
            raise _unsupported(f"{field}.{other}", rope[other], repr(values[0]))
    if theta <= 1:
        raise _config_error(
            "rope_theta", f"must be above 1 with rope_type 'yarn', received {theta}"
        )

    prefix = f"{field}."
    factor = _number(rope, "factor", kind=float, prefix=prefix)
    implied = 0.1 * math.log(max(factor, 1.0)) + 1.0
    return YarnScaling(
        factor=factor,
        original_max_positions=_number(rope, "original_max_position_embeddings", prefix=prefix),
        attention_factor=_number(rope, "attention_factor", implied, float, prefix=prefix),
        beta_fast=_number(rope, "beta_fast", 32.0, float, prefix=prefix),
        beta_slow=_number(rope, "beta_slow", 1.0, float, prefix=prefix),
    )


def config_entries(config: ModelConfig, family: Family, dtype: str) -> dict[str, Any]:
    """Content of config.json: `config`, over everything else that the original one had.

    Rotary settings are written in both spellings, for transformers 4 and 5.

    Raises:
      InputError: the family has no way to express `config`.
    """
    original = json.loads(config.hf_config or "{}")
    scaling = _rope_scaling_entry(config.rope_scaling)
    theta = {"rope_theta": config.rope_theta}
    rope = (scaling or {"rope_type": "default"}) | theta
    if family.full_every:
        rope = {_FULL: rope, _SLIDING: {"rope_type": "default"} | theta}
    written = {
        "architectures": [family.architecture],
        "model_type": config.model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.ffn_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "max_position_embeddings": config.max_positions,
        "tie_word_embeddings": config.tied_embeddings,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling,
        "rope_parameters": rope,
        "torch_dtype" if "torch_dtype" in original else "dtype": dtype,
    }
    if family.qkv_bias is None:
        written["attention_bias"] = config.qkv_bias
    if family.full_every:
        slides = config.sliding or (False,) * config.num_layers
        written["layer_types"] = [_SLIDING if slide else _FULL for slide in slides]
        written["sliding_window"] = config.window or original.get("sliding_window", 4096)

    entries = original | written
    _check_round_trip(config, parse_config(entries, family))
    return entries


def _rope_scaling_entry(scaling: RopeScaling) -> dict[str, Any] | None:
    if scaling is None:
        return None
    kind = "yarn" if isinstance(scaling, YarnScaling) else "llama3"
    entry = {"rope_type": kind} | dataclasses.asdict(scaling)
    entry["original_max_position_embeddings"] = entry.pop("original_max_positions")
    return entry


def _check_round_trip(config: ModelConfig, read_back: ModelConfig) -> None:
    """Refuses a `config` that its config.json does not describe."""
    for field in dataclasses.fields(ModelConfig):
        expected = getattr(read_back, field.name)
        received = getattr(config, field.name)
        if field.compare and received != expected:
            raise InputError(
                f"config.{field.name}",
                f"a config.json of model_type {config.model_type!r} implies {expected}, received "
                f"{received}; change the ModelConfig, or choose another model_type",
            )


# --- weights --------------------------------------------------------------------------------------


def layer_tensor(leaf: str) -> str:
    """The name of a layer's tensor in a checkpoint, such as ``self_attn.q_proj.weight``."""
    return _LAYER_NAMES[leaf]


def tensors(config: ModelConfig) -> dict[str, Tensor]:
    """Every tensor of a checkpoint by its name in the file, and where it goes in the pytree."""
    by_name = {}

    def add(name: str, leaf: str, layer: int | None, shape: tuple[int, ...]) -> None:
        transposed = len(shape) == 2 and leaf != "embed"
        by_name[name] = Tensor(leaf, layer, shape[::-1] if transposed else shape, transposed)

    shapes = parameter_shapes(config)
    layer_names = _LAYER_NAMES | (_POST_NORM_NAMES if config.post_norm else {})
    for leaf, name in _OUTER_NAMES.items():
        if leaf in shapes:
            add(name, leaf, None, shapes[leaf].shape)
    for layer in range(config.num_layers):
        for leaf, shape in shapes["layers"].items():
            add(f"model.layers.{layer}.{layer_names[leaf]}", leaf, layer, shape.shape[1:])
    return by_name


def _weight_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The safetensors files of a checkpoint: the single one, or those that the index names."""
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if not (folder / _INDEX).is_file():
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
            raise _model_error(
                f"{folder} has pickled weights only, which are never read because they can run "
                "code; convert them with transformers' save_pretrained, which writes safetensors"
            )
        raise _model_error(f"neither {_WEIGHTS} nor {_INDEX} in {folder}; download the weights")

    weight_map = read_json(folder / _INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(x, str) for x in weight_map.values()):
        raise _model_error(
            f"{folder / _INDEX} has no weight_map from tensor to file; download it again"
        )
    names = sorted(set(weight_map.values()))
    for name in names:
        if name != pathlib.PurePath(name).name or name == ".." or "\\" in name:
            raise _model_error(
                f"{folder / _INDEX} points outside its folder, to {name!r}; do not use this "
                "checkpoint"
            )
        # Links are followed, because the Hub's cache consists of links.
        if len(name) > _MAX_NAME_LENGTH or not (folder / name).is_file():
            raise _model_error(f"{_INDEX} names {name:.80}, which is not in {folder}; download it")
    return [folder / name for name in names]


@contextlib.contextmanager
def _open_tensors(folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The open file of every tensor, by the tensor's name."""
    with contextlib.ExitStack() as stack:
        files = {}
        for path in _weight_files(folder):
            try:
                file = stack.enter_context(safe_open(path, framework="np"))
            except (SafetensorError, OSError) as error:
                raise _model_error(
                    f"{path} is truncated or damaged ({error}); download it again"
                ) from error
            duplicates = sorted(files.keys() & file.keys())
            if duplicates:
                raise _model_error(
                    f"two files in {folder} contain {duplicates[0]}; download them again"
                )
            files |= dict.fromkeys(file.keys(), file)
        yield files


def _check_headers(folder: pathlib.Path, files: dict[str, Any], config: ModelConfig) -> None:
    """Checks names, shapes and dtypes of all tensors against `config`."""
    if config.num_layers > len(files):
        raise _model_error(
            f"{folder} has {len(files)} tensors in all, too few for num_hidden_layers="
            f"{config.num_layers} in config.json, which describes another network"
        )
    expected = tensors(config)
    _check_names(folder, files, expected, config)
    for name, tensor in expected.items():
        header = files[name].get_slice(name)
        shape = tuple(header.get_shape())
        if shape != tensor.shape:
            raise _model_error(
                f"{name} in {folder} has shape {shape}, config.json implies {tensor.shape}"
            )
        if header.get_dtype() not in DTYPES:
            raise _model_error(
                f"{name} in {folder} is {header.get_dtype()}; supported: {', '.join(DTYPES)}; use "
                "an unquantized checkpoint"
            )

    head_name, embed_name = _OUTER_NAMES["head"], _OUTER_NAMES["embed"]
    if config.tied_embeddings and head_name in files:
        head = files[head_name].get_tensor(head_name)
        embed = files[embed_name].get_tensor(embed_name)
        if not np.array_equal(head, embed):
            raise _model_error(
                f"{head_name} in {folder} differs from the embeddings, but config.json ties them; "
                "set its tie_word_embeddings to false"
            )


def _check_names(
    folder: pathlib.Path, files: dict[str, Any], expected: dict[str, Tensor], config: ModelConfig
) -> None:
    # Old files store this constant of rotary embeddings.
    ignored = {name for name in files if name.endswith("rotary_emb.inv_freq")}
    if config.tied_embeddings:
        # Some writers store the embedding table twice.
        ignored.add(_OUTER_NAMES["head"])

    missing = expected.keys() - files.keys()
    unexpected = files.keys() - expected.keys() - ignored
    for failure, names in (("lacks", missing), ("has unexpected", unexpected)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise _model_error(
                f"{folder} {failure} {', '.join(sorted(names)[:3])}{more}; its config.json "
                "describes another network than its weights"
            )


def _check_finite(
    folder: pathlib.Path, files: dict[str, Any], config: ModelConfig, phase: Phase
) -> None:
    """Checks that every number is finite: no exponent is all ones, which numpy sees fastest."""
    # Processes divide the work.
    names = list(tensors(config))[jax.process_index() :: jax.process_count()]
    for name in names:
        values = files[name].get_tensor(name).reshape(-1)
        bits = values.view(f"uint{8 * values.itemsize}")
        exponent = np.array(np.inf, values.dtype).view(bits.dtype)
        nonfinite = 0
        for start in range(0, len(bits), _CHECK_SIZE):
            chunk = bits[start : start + _CHECK_SIZE]
            nonfinite += int(np.count_nonzero((chunk & exponent) == exponent))
        if nonfinite:
            raise _model_error(
                f"{name} in {folder} contains NaN or infinity ({nonfinite} of {len(bits)} "
                "numbers); download it again"
            )
        phase.advance(values.nbytes)


def read_params(
    folder: pathlib.Path,
    config: ModelConfig,
    dtype: Any,
    sharding: Callable[[Any], Any] | None = None,
) -> Params:
    """Parameters from the safetensors files of a folder.

    Args:
      folder: with model.safetensors, or several files and their index.
      config: what the folder's config.json describes.
      dtype: of the returned arrays.
      sharding: pytree of `jax.ShapeDtypeStruct` -> pytree of shardings; None = the default device.
        Each process reads the shards of its own devices.

    Raises:
      InputError: files missing or damaged; tensors missing, unexpected, or of the wrong shape or
        dtype.
    """
    shapes = parameter_shapes(config)
    leaves, tree = jax.tree.flatten_with_path(shapes)
    shardings = tree.flatten_up_to(sharding(shapes)) if sharding else [None] * len(leaves)
    with _open_tensors(folder) as files:
        _check_headers(folder, files, config)
        size = _bytes_to_read(files, config)
        with status("checking the weights", unit="bytes", total=size) as phase:
            _check_finite(folder, files, config, phase)
        sources: dict[str, _Sources] = {}
        for name, tensor in tensors(config).items():
            sources.setdefault(tensor.leaf, []).append((name, tensor))

        arrays = []
        with status("reading the weights", unit="bytes", total=size) as phase:
            for (path, leaf), leaf_sharding in zip(leaves, shardings, strict=True):
                of_leaf = sources[path[-1].key]
                arrays.append(_read_leaf(files, of_leaf, leaf.shape, dtype, leaf_sharding, phase))
    return tree.unflatten(arrays)


def _bytes_to_read(files: dict[str, Any], config: ModelConfig) -> int:
    """Bytes of all tensors; this process's share of them, where several divide them evenly."""
    total = 0
    for name, tensor in tensors(config).items():
        itemsize = jnp.dtype(DTYPES[files[name].get_slice(name).get_dtype()]).itemsize
        total += itemsize * math.prod(tensor.shape)
    return total // jax.process_count()


# Name in the file and `Tensor` of everything that is stacked in one leaf of the pytree.
_Sources = list[tuple[str, Tensor]]


def _read_leaf(
    files: dict[str, Any],
    sources: _Sources,
    shape: tuple[int, ...],
    dtype: Any,
    sharding: jax.sharding.Sharding | None,
    phase: Phase,
) -> Array:
    """One parameter of the pytree on its devices."""
    if sharding is None:
        whole = (slice(None),) * len(shape)
        return jax.device_put(_read_slice(files, sources, shape, whole, dtype, phase))

    # Replicas of a shard are read once.
    shards: dict[str, np.ndarray] = {}

    def read_shard(index: Any) -> np.ndarray:
        if str(index) not in shards:
            shards[str(index)] = _read_slice(files, sources, shape, index, dtype, phase)
        return shards[str(index)]

    return jax.make_array_from_callback(shape, sharding, read_shard)


def _read_slice(
    files: dict[str, Any],
    sources: _Sources,
    shape: tuple[int, ...],
    index: tuple[slice, ...],
    dtype: Any,
    phase: Phase,
) -> np.ndarray:
    """A slice of one parameter of the pytree: no other bytes of the files are read."""
    bounds = [
        slice(*axis_slice.indices(size)[:2]) for axis_slice, size in zip(index, shape, strict=True)
    ]
    out = np.empty([b.stop - b.start for b in bounds], dtype)
    for name, tensor in sources:
        target: Any = ...
        inner = bounds
        if tensor.layer is not None:
            if not bounds[0].start <= tensor.layer < bounds[0].stop:
                continue
            target = tensor.layer - bounds[0].start
            inner = bounds[1:]
        stored = files[name].get_slice(name)[tuple(inner[::-1] if tensor.transposed else inner)]
        out[target] = stored.T if tensor.transposed else stored
        phase.advance(stored.nbytes)
    return out


def write_params(folder: pathlib.Path, config: ModelConfig, params: Params, dtype: str) -> None:
    """Writes model.safetensors, or files of at most 5 GB and their index.

    Weights that are already there are replaced.
    """
    host = jax.tree.map(lambda x: fetch(x) if isinstance(x, jax.Array) else x, params)
    by_name = tensors(config)
    itemsize = jnp.dtype(dtype).itemsize
    shards = _split_names({name: itemsize * math.prod(t.shape) for name, t in by_name.items()})

    def value(tensor: Tensor) -> np.ndarray:
        if tensor.layer is None:
            x = np.asarray(host[tensor.leaf])
        else:
            x = np.asarray(host["layers"][tensor.leaf][tensor.layer])
        # safetensors writes memory as it is, so a transposed view has to be copied first.
        with np.errstate(over="ignore"):
            written = np.ascontiguousarray((x.T if tensor.transposed else x).astype(dtype))
        if dtype == "float16" and not np.isfinite(written).all():
            raise InputError("dtype", "a weight is too large for float16; use bfloat16 or float32")
        return written

    for stale in (*folder.glob("model*.safetensors"), folder / _INDEX):
        stale.unlink(missing_ok=True)

    weight_map = {}
    for number, names in enumerate(shards, start=1):
        file = _WEIGHTS
        if len(shards) > 1:
            file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        values = {name: value(by_name[name]) for name in names}
        with status(f"writing {file}"):
            save_tensors(values, folder / file)
        # safetensors makes it readable by the owner alone.
        (folder / file).chmod(0o644)
        weight_map |= dict.fromkeys(names, file)
    if len(shards) > 1:
        total = itemsize * sum(math.prod(tensor.shape) for tensor in by_name.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def save_tensors(values: dict[str, np.ndarray], file: pathlib.Path) -> None:
    """Writes one file.

    Raises:
      OSError: the disk is full or cannot be written.
    """
    try:
        save_file(values, file, metadata={"format": "pt"})
    except SafetensorError as error:
        # The library's own type has the number of the error in its text.
        code = re.search(r"(?:os error|code:) (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(file)) from error


def _split_names(sizes: dict[str, int]) -> list[list[str]]:
    """Tensors by file, in order: each file takes `_SHARD_BYTES`, or a single larger tensor."""
    shards = [[]]
    free = _SHARD_BYTES
    for name, size in sizes.items():
        if size > free and shards[-1]:
            shards.append([])
            free = _SHARD_BYTES
        shards[-1].append(name)
        free -= size
    return shards
