"""Where arrays live: a mesh, a table of logical axes, and rules by which mesh axes split them.

Everything else is the compiler's work: programs are jitted on global arrays and XLA inserts the
collectives.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from ccpo_jax.errors import InputError
from ccpo_jax.rl.types import Array

# Axes of the device mesh, outermost first.
AXES = ("data", "fsdp", "model")

# Logical axes of each parameter and decode weight, outermost first. "layers" is the stacked layer
# axis, which decode weights do not have; None is never split.
LOGICAL_AXES: dict[str, tuple[str | None, ...]] = {
    "embed": ("vocab", "hidden"),
    "head": ("hidden", "vocab"),
    "final_norm": ("hidden",),
    "attn_norm": ("layers", "hidden"),
    "mlp_norm": ("layers", "hidden"),
    "q": ("layers", "hidden", "heads"),
    "k": ("layers", "hidden", "heads"),
    "v": ("layers", "hidden", "heads"),
    "q_bias": ("layers", "heads"),
    "k_bias": ("layers", "heads"),
    "v_bias": ("layers", "heads"),
    "q_norm": ("layers", None),
    "k_norm": ("layers", None),
    "o": ("layers", "heads", "hidden"),
    "o_bias": ("layers", "hidden"),
    "gate": ("layers", "hidden", "ffn"),
    "up": ("layers", "hidden", "ffn"),
    "down": ("layers", "ffn", "hidden"),
    "qkv": ("layers", "hidden", "heads", None, None),
    "qkv_bias": ("layers", "heads", None, None),
    "qk_norm": ("layers", None, None),
    "gate_up": ("layers", "hidden", None, "ffn"),
}

# An adapter of a product lies beside its kernel: A along the inputs, B along the outputs, neither
# along the rank.
for _name in ("q", "k", "v", "o", "gate", "up", "down", "qkv", "gate_up"):
    _layers, _inputs, *_outputs = LOGICAL_AXES[_name]
    LOGICAL_AXES[f"{_name}_lora_a"] = (_layers, _inputs, None)
    LOGICAL_AXES[f"{_name}_lora_b"] = (_layers, None, *_outputs)

# (logical axis, mesh axes that split it) for each logical axis: a mapping that can be hashed.
AxisRules = tuple[tuple[str, tuple[str, ...]], ...]

# Training: parameters, gradients, optimizer state and packed rows.
TRAIN: AxisRules = (
    ("batch", ("data", "fsdp")),
    ("hidden", ("fsdp",)),
    ("vocab", ("model",)),
    ("heads", ("model",)),
    ("ffn", ("model",)),
)

# Sampling: decode weights, caches and responses. Weights are whole along fsdp, because a decode
# step has no time to gather them.
DECODE: AxisRules = (
    ("batch", ("data", "fsdp")),
    ("hidden", ()),
    ("vocab", ("model",)),
    ("heads", ("model",)),
    ("ffn", ("model",)),
)


@dataclasses.dataclass(frozen=True)
class Rules:
    """A preset: how mesh axes split logical axes in training and in sampling."""

    train: AxisRules = TRAIN
    decode: AxisRules = DECODE


@dataclasses.dataclass(frozen=True)
class Layout:
    """A mesh and how it splits arrays: static and hashable."""

    mesh: Mesh
    train: AxisRules = TRAIN
    decode: AxisRules = DECODE

    @property
    def compute(self) -> AxisRules:
        """The training rules for parameters in use, which are gathered along `hidden`."""
        return tuple((name, () if name == "hidden" else axes) for name, axes in self.train)


# Which rules of a layout apply.
Phase = Literal["train", "compute", "decode"]


def make_mesh(
    *,
    data: int = -1,
    fsdp: int = 1,
    model: int = 1,
    devices: Sequence[Any] | None = None,
) -> Mesh:
    """The device mesh with axes (data, fsdp, model).

    Args:
      data: replicas that split the batch; -1 = every device that the other axes leave.
      fsdp: shards of parameters and optimizer state; the batch is split over this axis as well.
      model: shards of heads, feed-forward and vocabulary.
      devices: of jax; None = all devices.

    Raises:
      InputError: the sizes do not multiply to the number of devices.
    """
    available = np.asarray(jax.devices() if devices is None else devices)
    if data == -1:
        data, rest = divmod(available.size, fsdp * model)
        if rest:
            fitting_fsdp = math.gcd(fsdp, available.size)
            fitting_model = math.gcd(model, available.size // fitting_fsdp)
            raise InputError(
                "mesh.fsdp",
                f"{fsdp} x mesh.model={model} does not divide the {available.size} devices here; "
                f"type --config.mesh.fsdp={fitting_fsdp} --config.mesh.model={fitting_model}",
            )
    if data * fsdp * model != available.size:
        raise InputError(
            "mesh.data",
            f"{data} x mesh.fsdp={fsdp} x mesh.model={model} is not the {available.size} devices "
            "here; type --config.mesh.data=-1 for what the other two leave",
        )
    return Mesh(available.reshape(data, fsdp, model), AXES, axis_types=(AxisType.Auto,) * 3)


def make_layout(mesh: Mesh, rules: str = "default") -> Layout:
    """The layout of a mesh by a preset of `RULES`.

    Args:
      mesh: from `make_mesh`.
      rules: a key of `RULES`.

    Raises:
      InputError: no such preset.
    """
    if rules not in RULES:
        raise InputError(
            "mesh.rules", f"received {rules!r:.60}; use one of {', '.join(map(repr, RULES))}"
        )
    return Layout(mesh, RULES[rules].train, RULES[rules].decode)


def partition_spec(
    mesh: Mesh, rules: AxisRules, axes: Sequence[str | None], shape: Sequence[int]
) -> PartitionSpec:
    """How an array with these logical axes is split.

    An axis whose size the shards do not divide stays whole.
    """
    mesh_axes = dict(rules)

    def split(axis: str | None, size: int) -> str | tuple[str, ...] | None:
        names = () if axis is None else mesh_axes.get(axis, ())
        shards = math.prod(mesh.shape[name] for name in names)
        if not names or size % shards:
            return None
        return names[0] if len(names) == 1 else names

    return PartitionSpec(*map(split, axes, shape))


def constrain(layout: Layout | None, phase: Phase, x: Array, *axes: str | None) -> Array:
    """``x`` split by its logical axes, inside jit. Without a layout it is `x`.

    Args:
      layout: None = one device.
      phase: whose rules of the layout apply.
      x: any array.
      axes: one logical axis for each axis of x.
    """
    if layout is None:
        return x
    where = partition_spec(layout.mesh, getattr(layout, phase), axes, x.shape)
    return jax.lax.with_sharding_constraint(x, NamedSharding(layout.mesh, where))


def constrain_weights(layout: Layout | None, phase: Phase, tree: Any) -> Any:
    """`constrain` for a tree of parameters or decode weights, each by its own name."""
    if layout is None:
        return tree

    def constrain_leaf(path: tuple, leaf: Array) -> Array:
        return constrain(layout, phase, leaf, *_logical_axes(path, leaf))

    return jax.tree_util.tree_map_with_path(constrain_leaf, tree)


def batch_sharding(mesh: Mesh, rules: AxisRules = TRAIN) -> NamedSharding:
    """The first axis split as `rules` split "batch"."""
    return NamedSharding(mesh, PartitionSpec(dict(rules)["batch"] or None))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())


def num_shards(sharding: Sharding | None) -> int:
    """Into how many shards a leading axis is split; 1 without a sharding."""
    if sharding is None:
        return 1
    devices = sharding.num_devices
    return devices // sharding.shard_shape((devices,))[0]


def state_sharding(mesh: Mesh, tree: Any, rules: AxisRules = TRAIN) -> Any:
    """Shardings for parameters, decode weights and trees that repeat their names (Adam's moments).

    A leaf's last dictionary key says which parameter it belongs to. A leaf without one is
    replicated, and an axis that does not divide stays whole.
    """

    def leaf_sharding(path: tuple, leaf: Array) -> NamedSharding:
        axes = _logical_axes(path, leaf)
        return NamedSharding(mesh, partition_spec(mesh, rules, axes, leaf.shape))

    return jax.tree_util.tree_map_with_path(leaf_sharding, tree)


def _logical_axes(path: tuple, leaf: Array) -> tuple[str | None, ...]:
    """The logical axes of a leaf; all None if it is not a parameter."""
    names = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
    axes = LOGICAL_AXES.get(names[-1], ()) if names else ()
    unstacked = axes[:1] == ("layers",) and len(axes) == leaf.ndim + 1
    if unstacked:
        axes = axes[1:]
    return axes if len(axes) == leaf.ndim else (None,) * leaf.ndim


# --- between the host and the devices of all processes --------------------------------------------


def put(tree: Any, sharding: Sharding | None) -> Any:
    """Host arrays on the devices.

    With several processes all hold the same arrays, `sharding` is required, and each process
    transfers the shards of its own devices.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    assert sharding is not None, "several processes need a sharding"

    def put_leaf(x: Any) -> Array:
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(put_leaf, tree)


def fetch(x: Array) -> np.ndarray:
    """An array on the host, whole in every process."""
    if x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    assert isinstance(x.sharding, NamedSharding) and isinstance(x.sharding.mesh, Mesh)
    return np.asarray(_gather(replicated(x.sharding.mesh))(x))


@functools.cache
def _gather(sharding: NamedSharding):
    """A jitted identity, one for each sharding (equal by value)."""
    return jax.jit(lambda x: x, out_shardings=sharding)


# Presets of rules, chosen by mesh.rules. A new preset is one entry here.
RULES = {
    # Parameters split over fsdp and model, decode weights over model alone.
    "default": Rules(),
    # Decode weights whole on every device and the batch split over all of them: decoding sends
    # nothing between devices. For networks that need mesh.model to be trained but fit one device
    # for sampling.
    "replicated_decode": Rules(
        decode=(
            ("batch", ("data", "fsdp", "model")),
            ("hidden", ()),
            ("vocab", ()),
            ("heads", ()),
            ("ffn", ()),
        )
    ),
}
