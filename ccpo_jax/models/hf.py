"""Hugging Face checkpoints in and out: config.json and safetensors, without torch and without pickle.

Reading checks names, shapes and dtypes of every tensor against config.json from the file headers alone, then that every
number is finite; only then do weights reach a device, one parameter of the pytree at a time.
"""

import contextlib
import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ccpo_jax.devices.sharding import fetch
from ccpo_jax.models.decoder import ModelConfig, parameter_shapes
from ccpo_jax.models.rope import RopeScaling, Scaling, Yarn
from ccpo_jax.rl.types import Array

_SHARD_BYTES = 5 * 10**9  # largest weight file written
_LARGEST = 2**40  # no number in a config.json is larger
_JSON_BYTES = (
    10**8
)  # largest JSON file read; the indices of published models have a thousandth of that
_MOST_LAYERS = 10**4  # more are not listed one by one
_PIECE = 1 << 24  # numbers looked at together when all are checked
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_LONGEST_NAME = 255  # of a file, on the file systems there are
DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}  # safetensors' word: ours

_OUTER = {
    "embed": "model.embed_tokens.weight",
    "final_norm": "model.norm.weight",
    "head": "lm_head.weight",
}
_INNER = {  # after model.layers.<i>.
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
_INNER_POST = {  # where the norms stand behind what they norm
    "attn_norm": "post_attention_layernorm.weight",
    "mlp_norm": "post_feedforward_layernorm.weight",
}
_FULL, _SLIDING = "full_attention", "sliding_attention"  # words of config.json's layer_types

_SUPPORTED = {  # config.json fields whose other values would change the network; absent = the first
    "hidden_act": ("silu",),
    "mlp_bias": (False,),
    "partial_rotary_factor": (1.0, None),
    "quantization_config": (None,),
}


@dataclasses.dataclass(frozen=True)
class Family:
    """What a Hugging Face model_type says without writing it into config.json."""

    architecture: str  # transformers' class
    qkv_bias: bool | None = (
        None  # None: config.json's attention_bias decides, for q, k, v and o alike
    )
    qk_norm: bool = False
    qk_norm_whole: bool = False
    post_norm: bool = False
    head_dim: int | None = (
        None  # where config.json has none; None: hidden_size / num_attention_heads
    )
    max_positions: int = 32768  # where config.json has none, likewise what follows
    norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    full_every: int | None = (
        None  # such a layer sees everything, those between them slide; None: no layer slides
    )


class Tensor(NamedTuple):
    """Where a tensor of the file goes in the pytree."""

    leaf: str
    layer: int | None  # index into the stacked leaf; None for embed, final_norm and head
    shape: tuple[int, ...]  # in the file; kernels lie there as [out, in]
    transposed: bool


# --- config.json -----------------------------------------------------------------------------------------------------


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
      ValueError: the file is missing or holds something else.
    """
    if not path.is_file():
        raise ValueError(
            f"model: no {path.name} in {path.parent}; type a folder that holds a Hugging Face checkpoint"
        )
    if path.stat().st_size > _JSON_BYTES:
        raise ValueError(
            f"model: {path} is larger than {_JSON_BYTES:,} bytes; do not use this checkpoint"
        )
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"model: {path} is not valid JSON ({error}); download it again") from error
    if not isinstance(entries, dict):
        raise ValueError(
            f"model: {path} holds a {type(entries).__name__}, not an object; download it again"
        )
    return entries


def parse_config(entries: dict[str, Any], family: Family) -> ModelConfig:
    """The architecture that config.json describes.

    Args:
      entries: content of config.json, as transformers 4 or 5 writes it.
      family: of its model_type.

    Raises:
      ValueError: a field is missing, of the wrong type, or asks for what is not built.
    """
    for field, values in _SUPPORTED.items():
        if entries.get(field, values[0]) not in values:
            raise _unsupported(field, entries[field], repr(values[0]))
    hidden, heads = _number(entries, "hidden_size"), _number(entries, "num_attention_heads")
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


def _number(
    entries: dict[str, Any],
    field: str,
    default: float | None = None,
    kind: type = int,
    least: int = 1,
):
    value = default if entries.get(field) is None else entries[field]
    words = f"a positive {kind.__name__}" if least else f"a {kind.__name__} from 0"
    if value is None:
        raise ValueError(f"config.json: {field} is missing; add it, {words}")
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, kind))
        or not (value > 0 or value == least)
    ):
        raise ValueError(f"config.json: {field} must be {words}, received {value!r:.60}")
    if not value < _LARGEST:
        raise ValueError(f"config.json: {field} must be below 2**40, received {value!r:.60}")
    return kind(value)


def _flag(entries: dict[str, Any], field: str) -> bool:
    value = entries.get(field, False)
    if not isinstance(value, bool):
        raise ValueError(f"config.json: {field} must be true or false, received {value!r:.60}")
    return value


def _unsupported(field: str, value: Any, supported: str) -> ValueError:
    return ValueError(
        f"config.json: {field}={value!r:.60} is not supported; supported: {supported}"
    )


def _parse_sliding_window(
    entries: dict[str, Any], family: Family, layers: int
) -> tuple[int | None, tuple[bool, ...]]:
    """The window, and which layers have it: (None, ()) where none has."""
    kinds = entries.get("layer_types")
    known = (_FULL, _SLIDING) if family.full_every else (_FULL,)
    if kinds is not None:
        if (
            other := [kind for kind in kinds if kind not in known]
            if isinstance(kinds, list)
            else [kinds]
        ):
            raise _unsupported("layer_types", other[0], ", ".join(map(repr, known)))
        if family.full_every and len(kinds) != layers:
            raise ValueError(
                f"config.json: layer_types has {len(kinds)} entries for num_hidden_layers={layers}"
            )
    elif not family.full_every and _flag(entries, "use_sliding_window"):
        if entries.get("sliding_window", 4096) is not None:
            if _number(entries, "max_window_layers", 28, least=0) < layers:
                raise _unsupported("use_sliding_window", True, "False")
    if not family.full_every:
        return None, ()
    if kinds is None:
        if layers > _MOST_LAYERS:
            raise ValueError(
                f"config.json: num_hidden_layers must be at most {_MOST_LAYERS:,}, received {layers}"
            )
        kinds = [_SLIDING if (layer + 1) % family.full_every else _FULL for layer in range(layers)]
    if _SLIDING not in kinds:
        return None, ()
    return _number(entries, "sliding_window", 4096), tuple(kind == _SLIDING for kind in kinds)


def _parse_rope(entries: dict[str, Any], family: Family) -> tuple[float, Scaling]:
    """Rotary base and scaling, from `rope_parameters` or from the older `rope_theta` and `rope_scaling`.

    A family with sliding layers may give each kind its own parameters; layers that slide are never stretched.
    """
    newer = entries.get("rope_parameters")
    if family.full_every and isinstance(newer, dict) and not {_FULL, _SLIDING}.isdisjoint(newer):
        read = [
            _rope_of(f"rope_parameters.{kind}", newer.get(kind), entries, family)
            for kind in (_FULL, _SLIDING)
        ]
        if _SLIDING in newer and read[1] != (read[0][0], None):
            supported = f"rope_type 'default' with the rope_theta of {_FULL}"
            raise _unsupported(f"rope_parameters.{_SLIDING}", newer[_SLIDING], supported)
        return read[0]
    field = "rope_scaling" if entries.get("rope_scaling") else "rope_parameters"
    return _rope_of(field, entries.get(field), entries, family)


def _rope_of(
    field: str, given: Any, entries: dict[str, Any], family: Family
) -> tuple[float, Scaling]:
    """Base and scaling of one object with rotary parameters; `entries` may hold its base."""
    if not isinstance(given or {}, dict):
        raise ValueError(f"config.json: {field} must be an object, received {given!r:.60}")
    rope = {"rope_theta": entries.get("rope_theta")} | (given or {})
    kind = rope.get("rope_type", rope.get("type", "default"))
    theta = _number(rope, "rope_theta", family.rope_theta, float)
    if rope.get("partial_rotary_factor") not in (1.0, None):
        raise _unsupported("partial_rotary_factor", rope["partial_rotary_factor"], "1.0")
    if kind == "default":
        return theta, None
    if kind == "yarn":
        return theta, _parse_yarn(field, rope, theta)
    if kind != "llama3":
        raise _unsupported(f"{field}.rope_type", kind, "'default', 'llama3', 'yarn'")
    return theta, RopeScaling(
        factor=_number(rope, "factor", kind=float),
        low_freq_factor=_number(rope, "low_freq_factor", kind=float),
        high_freq_factor=_number(rope, "high_freq_factor", kind=float),
        original_max_positions=_number(rope, "original_max_position_embeddings"),
    )


def _parse_yarn(field: str, rope: dict[str, Any], theta: float) -> Yarn:
    """YaRN's numbers; an absent attention factor follows from the factor, as transformers has it."""
    for other, allowed in (
        ("truncate", (True, None)),
        ("mscale", (None,)),
        ("mscale_all_dim", (None,)),
    ):
        if rope.get(other) not in allowed:
            raise _unsupported(f"{field}.{other}", rope[other], repr(allowed[0]))
    if theta <= 1:
        raise ValueError(
            f"config.json: rope_theta must be above 1 with rope_type 'yarn', received {theta}"
        )
    factor = _number(rope, "factor", kind=float)
    return Yarn(
        factor=factor,
        original_max_positions=_number(rope, "original_max_position_embeddings"),
        attention_factor=_number(
            rope, "attention_factor", 0.1 * math.log(max(factor, 1.0)) + 1.0, float
        ),
        beta_fast=_number(rope, "beta_fast", 32.0, float),
        beta_slow=_number(rope, "beta_slow", 1.0, float),
    )


def config_entries(config: ModelConfig, family: Family, dtype: str) -> dict[str, Any]:
    """Content of config.json: what `config` says, over everything else the original config.json held.

    Rotary settings are written in both spellings, for transformers 4 and 5.

    Raises:
      ValueError: the family has no way to express `config`.
    """
    kept = json.loads(config.hf_config or "{}")
    scaling, theta = None, {"rope_theta": config.rope_theta}
    if config.rope_scaling is not None:
        kind = "yarn" if isinstance(config.rope_scaling, Yarn) else "llama3"
        scaling = {"rope_type": kind} | dataclasses.asdict(config.rope_scaling)
        scaling["original_max_position_embeddings"] = scaling.pop("original_max_positions")
    rope = (scaling or {"rope_type": "default"}) | theta
    entries = {
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
        "rope_parameters": {_FULL: rope, _SLIDING: {"rope_type": "default"} | theta}
        if family.full_every
        else rope,
        "torch_dtype" if "torch_dtype" in kept else "dtype": dtype,
    }
    if family.qkv_bias is None:
        entries["attention_bias"] = config.qkv_bias
    if family.full_every:
        slides = config.sliding or (False,) * config.num_layers
        entries["layer_types"] = [_SLIDING if slide else _FULL for slide in slides]
        entries["sliding_window"] = config.window or kept.get("sliding_window", 4096)
    entries = kept | entries
    read_back = parse_config(entries, family)
    for field in dataclasses.fields(ModelConfig):
        if field.compare and (meant := getattr(config, field.name)) != (
            read := getattr(read_back, field.name)
        ):
            raise ValueError(
                f"config: a {config.model_type} config.json means {field.name}={read}, received {field.name}={meant}; "
                "build the ModelConfig so, or choose another model_type"
            )
    return entries


# --- weights ---------------------------------------------------------------------------------------------------------


def tensors(config: ModelConfig) -> dict[str, Tensor]:
    """Every tensor of a checkpoint by its name in the file, and its place in the pytree."""
    found = {}

    def add(name: str, leaf: str, layer: int | None, shape: tuple[int, ...]) -> None:
        transposed = len(shape) == 2 and leaf != "embed"
        found[name] = Tensor(leaf, layer, shape[::-1] if transposed else shape, transposed)

    shapes = parameter_shapes(config)
    names = _INNER | (_INNER_POST if config.post_norm else {})
    for leaf, name in _OUTER.items():
        if leaf in shapes:
            add(name, leaf, None, shapes[leaf].shape)
    for layer in range(config.num_layers):
        for leaf, shape in shapes["layers"].items():
            add(f"model.layers.{layer}.{names[leaf]}", leaf, layer, shape.shape[1:])
    return found


def _weight_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The safetensors files of a checkpoint: the single one, or those that the index names."""
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if not (folder / _INDEX).is_file():
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
            raise ValueError(
                f"model: {folder} holds pickled weights only, which are never read because they can run code; "
                "convert them with transformers' save_pretrained, which writes safetensors"
            )
        raise ValueError(
            f"model: neither {_WEIGHTS} nor {_INDEX} in {folder}; download the weights"
        )
    names = read_json(folder / _INDEX).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(
            f"model: {folder / _INDEX} has no weight_map from tensor to file; download it again"
        )
    for name in sorted(set(names.values())):
        if name != pathlib.PurePath(name).name or name == ".." or "\\" in name:
            raise ValueError(
                f"model: {folder / _INDEX} points outside its folder, to {name!r}; do not use this checkpoint"
            )
        if (
            len(name) > _LONGEST_NAME or not (folder / name).is_file()
        ):  # a link is followed: the Hub's cache is links
            raise ValueError(
                f"model: {_INDEX} names {name:.80}, which is not in {folder}; download it"
            )
    return [folder / name for name in sorted(set(names.values()))]


@contextlib.contextmanager
def _open(folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The open file of every tensor, by the tensor's name."""
    with contextlib.ExitStack() as stack:
        where = {}
        for path in _weight_files(folder):
            try:
                file = stack.enter_context(safe_open(path, framework="np"))
            except (SafetensorError, OSError) as error:
                raise ValueError(
                    f"model: {path} is cut short or damaged ({error}); download it again"
                ) from error
            if twice := sorted(where.keys() & file.keys()):
                raise ValueError(
                    f"model: two files in {folder} hold {twice[0]}; download them again"
                )
            where |= dict.fromkeys(file.keys(), file)
        yield where


def _check(folder: pathlib.Path, where: dict[str, Any], config: ModelConfig) -> None:
    """Names, shapes and dtypes, from the headers."""
    if config.num_layers > len(where):
        raise ValueError(
            f"model: {folder} holds {len(where)} tensors in all, its config.json means num_hidden_layers="
            f"{config.num_layers}; it describes another network than its weights"
        )
    expected = tensors(config)
    unneeded = {
        name for name in where if name.endswith("rotary_emb.inv_freq")
    }  # old files keep this constant
    if config.tied_embeddings:
        unneeded.add(_OUTER["head"])  # some writers store the embedding table twice
    for problem, names in (
        ("lacks", expected.keys() - where.keys()),
        ("has unexpected", where.keys() - expected.keys() - unneeded),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ValueError(
                f"model: {folder} {problem} {', '.join(sorted(names)[:3])}{more}; "
                f"its config.json describes another network than its weights"
            )
    for name, tensor in expected.items():
        header = where[name].get_slice(name)
        if tuple(header.get_shape()) != tensor.shape:
            raise ValueError(
                f"model: {name} in {folder} has shape {tuple(header.get_shape())}, config.json means {tensor.shape}"
            )
        if header.get_dtype() not in DTYPES:
            raise ValueError(
                f"model: {name} in {folder} is {header.get_dtype()}; supported: {', '.join(DTYPES)}; "
                "use an unquantized checkpoint"
            )
    if config.tied_embeddings and _OUTER["head"] in where:
        head, embed = (where[_OUTER[leaf]].get_tensor(_OUTER[leaf]) for leaf in ("head", "embed"))
        if not np.array_equal(head, embed):
            raise ValueError(
                f"model: {_OUTER['head']} in {folder} differs from the embeddings, but config.json ties them; "
                "set its tie_word_embeddings to false"
            )


def _check_numbers(folder: pathlib.Path, where: dict[str, Any], config: ModelConfig) -> None:
    """Every number is finite: its exponent is not all ones, which numpy finds faster in the bits than in the floats."""
    for name in list(tensors(config))[
        jax.process_index() :: jax.process_count()
    ]:  # processes share the work
        stored = where[name].get_tensor(name).reshape(-1)
        bits = stored.view(f"uint{8 * stored.itemsize}")
        ones = np.array(np.inf, stored.dtype).view(bits.dtype)
        pieces = (bits[start : start + _PIECE] for start in range(0, len(bits), _PIECE))
        bad = sum(int(np.count_nonzero((piece & ones) == ones)) for piece in pieces)
        if bad:
            raise ValueError(
                f"model: {name} in {folder} holds NaN or infinity ({bad} of {len(bits)} numbers); download it again"
            )


def read_params(
    folder: pathlib.Path, config: ModelConfig, dtype, sharding: Callable[[Any], Any] | None = None
) -> dict[str, Any]:
    """Parameters from the safetensors files of a folder.

    Args:
      folder: with model.safetensors, or several files and their index.
      config: what the folder's config.json describes.
      dtype: of the returned arrays.
      sharding: pytree of `jax.ShapeDtypeStruct` -> pytree of shardings; None = the default device. Each process reads
        what its own devices hold.

    Raises:
      ValueError: files missing or damaged; tensors missing, unexpected, or of the wrong shape or dtype.
    """
    shapes = parameter_shapes(config)
    leaves, tree = jax.tree.flatten_with_path(shapes)
    targets = tree.flatten_up_to(sharding(shapes)) if sharding else [None] * len(leaves)
    with _open(folder) as where:
        _check(folder, where, config)
        _check_numbers(folder, where, config)
        sources = {}
        for name, tensor in tensors(config).items():
            sources.setdefault(tensor.leaf, []).append((name, tensor))

        def place(leaf: str, shape: tuple[int, ...], target) -> Array:
            whole = (slice(None),) * len(shape)
            if target is None:
                return jax.device_put(_read(where, sources[leaf], shape, whole, dtype))
            parts = {}  # replicas are read once

            def part(index: tuple[slice, ...]) -> np.ndarray:
                if str(index) not in parts:
                    parts[str(index)] = _read(where, sources[leaf], shape, index, dtype)
                return parts[str(index)]

            return jax.make_array_from_callback(shape, target, part)

        return tree.unflatten(
            place(path[-1].key, leaf.shape, target)
            for (path, leaf), target in zip(leaves, targets, strict=True)
        )


def _read(where, sources, shape: tuple[int, ...], index: tuple[slice, ...], dtype) -> np.ndarray:
    """A part of one parameter of the pytree: no other bytes of the files are read."""
    bounds = [slice(*part.indices(size)[:2]) for part, size in zip(index, shape, strict=True)]
    out = np.empty([b.stop - b.start for b in bounds], dtype)
    for name, tensor in sources:
        if tensor.layer is None:
            inner, here = bounds, ...
        elif bounds[0].start <= tensor.layer < bounds[0].stop:
            inner, here = bounds[1:], tensor.layer - bounds[0].start
        else:
            continue
        stored = where[name].get_slice(name)[tuple(inner[::-1] if tensor.transposed else inner)]
        out[here] = stored.T if tensor.transposed else stored
    return out


def write_params(
    folder: pathlib.Path, config: ModelConfig, params: dict[str, Any], dtype: str
) -> None:
    """Writes model.safetensors, or files of at most 5 GB and their index, in place of weights already there."""
    host = jax.tree.map(lambda x: fetch(x) if isinstance(x, jax.Array) else x, params)
    listed = tensors(config)
    size = jnp.dtype(dtype).itemsize
    shards, room = [[]], _SHARD_BYTES
    for name, tensor in listed.items():
        needed = size * int(np.prod(tensor.shape))
        if needed > room and shards[-1]:
            shards.append([])
            room = _SHARD_BYTES
        shards[-1].append(name)
        room -= needed

    def value(tensor: Tensor) -> np.ndarray:
        x = np.asarray(
            host[tensor.leaf] if tensor.layer is None else host["layers"][tensor.leaf][tensor.layer]
        )
        # safetensors writes the memory as it lies, so a transposed view has to be laid out first.
        return np.ascontiguousarray((x.T if tensor.transposed else x).astype(dtype))

    for stale in (*folder.glob("model*.safetensors"), folder / _INDEX):
        stale.unlink(missing_ok=True)
    weight_map = {}
    for number, names in enumerate(shards, start=1):
        file = (
            _WEIGHTS if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        )
        save_file(
            {name: value(listed[name]) for name in names}, folder / file, metadata={"format": "pt"}
        )
        (folder / file).chmod(0o644)  # written for the owner alone otherwise
        weight_map |= dict.fromkeys(names, file)
    if len(shards) > 1:
        total = size * sum(int(np.prod(tensor.shape)) for tensor in listed.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
