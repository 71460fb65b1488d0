"""Where arrays live: one mesh, one table of logical axes, and the rules by which mesh axes split them.

Everything else is the compiler's work: programs are jitted on global arrays and XLA inserts the collectives.
"""

import functools
import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

# Logical axes of each parameter and decode weight, outermost first. "layers" is the stacked layer axis, which decode
# weights do not have; None is never split.
LOGICAL_AXES = {
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
_ACTIVATIONS = (
    ("batch", "heads"),
    ("batch", "ffn"),
    ("batch", "vocab"),
)  # caches, feed-forward, logits

AXES = ("data", "fsdp", "model")

Rules = tuple[tuple[str, tuple[str, ...]], ...]  # (logical axis, mesh axes that split it), hashable

# Training: parameters, gradients, optimizer state and packed rows.
TRAIN: Rules = (
    ("batch", ("data", "fsdp")),
    ("hidden", ("fsdp",)),
    ("vocab", ("model",)),
    ("heads", ("model",)),
    ("ffn", ("model",)),
)
# Sampling: decode weights, caches and rows. Weights are whole along fsdp: a decode step has no time to gather them.
DECODE: Rules = tuple((name, () if name == "hidden" else axes) for name, axes in TRAIN)


class Layout(NamedTuple):
    """A mesh and what it splits. Static and hashable."""

    mesh: Mesh
    train: Rules = TRAIN
    decode: Rules = DECODE

    @property
    def compute(self) -> Rules:
        """The training rules for parameters at work: a layer's are gathered along `hidden` while it needs them."""
        return tuple((name, () if name == "hidden" else axes) for name, axes in self.train)


def make_mesh(*, data: int = -1, fsdp: int = 1, model: int = 1, devices=None) -> Mesh:
    """The device mesh with axes (data, fsdp, model).

    Args:
      data: replicas that split the batch; -1 = every device the other axes leave.
      fsdp: ways in which parameters and optimizer state are split; the batch is split over it as well.
      model: ways in which heads, ffn and vocabulary are split.
      devices: None = all devices.

    Raises:
      ValueError: if the sizes do not multiply to the number of devices.
    """
    devices = np.asarray(jax.devices() if devices is None else devices)
    if data == -1:
        data, rest = divmod(devices.size, fsdp * model)
        if rest:
            fits = math.gcd(fsdp, devices.size)
            raise ValueError(
                f"mesh.fsdp: {fsdp} x mesh.model={model} does not divide the {devices.size} devices here; type "
                f"--config.mesh.fsdp={fits} --config.mesh.model={math.gcd(model, devices.size // fits)}"
            )
    if data * fsdp * model != devices.size:
        raise ValueError(
            f"mesh.data: {data} x mesh.fsdp={fsdp} x mesh.model={model} is not the {devices.size} devices here; "
            "type --config.mesh.data=-1 for what the other two leave"
        )
    return Mesh(devices.reshape(data, fsdp, model), AXES, axis_types=(AxisType.Auto,) * 3)


def parse_rules(section: Mapping[str, str], field: str) -> Rules:
    """Rules from their spelling in a configuration: logical axis -> mesh axes joined by "+", "" for none.

    Args:
      section: an entry for every logical axis of `TRAIN`.
      field: the section's name, for complaints.

    Raises:
      ValueError: an unknown mesh axis, or one that would split the same array twice.

    Example:
      >>> parse_rules({"batch": "data+fsdp", "hidden": "", "vocab": "", "heads": "model", "ffn": "model"}, "mesh.train")
      (('batch', ('data', 'fsdp')), ('hidden', ()), ('vocab', ()), ('heads', ('model',)), ('ffn', ('model',)))
    """
    rules = {
        name: tuple(filter(None, section[name].replace(" ", "").split("+"))) for name, _ in TRAIN
    }
    for name, axes in rules.items():
        if not set(axes) <= set(AXES) or len(set(axes)) < len(axes):
            raise ValueError(
                f"{field}.{name}: received {section[name]!r:.60}; use one of {', '.join(AXES)}, several of them joined "
                "by + such as data+fsdp, or '' for none"
            )
    for together in (*LOGICAL_AXES.values(), *_ACTIVATIONS):
        for one, other in itertools.combinations([axis for axis in together if axis in rules], 2):
            if twice := set(rules[one]) & set(rules[other]):
                raise ValueError(
                    f"{field}.{other}: {twice.pop()!r} splits {one} already, and there are arrays that have both axes; "
                    f"type another mesh axis, or --config.{field}.{other}=''"
                )
    return tuple(rules.items())


def spec(mesh: Mesh, rules: Rules, axes, shape) -> PartitionSpec:
    """How an array with these logical axes is split; an axis that does not divide is not."""
    table = dict(rules)

    def split(axis: str | None, size: int):
        names = table.get(axis, ())
        fits = names and size % int(np.prod([mesh.shape[name] for name in names])) == 0
        return (names[0] if len(names) == 1 else names) if fits else None

    return PartitionSpec(*map(split, axes, shape))


def constrain(layout: Layout | None, rules: str, x: jax.Array, *axes: str | None) -> jax.Array:
    """``x`` split by its logical axes, inside jit. Without a layout it is `x`.

    Args:
      layout: None = one device.
      rules: which of the layout's: train, compute or decode.
      x: any array.
      axes: one for each axis of x.
    """
    if layout is None:
        return x
    where = spec(layout.mesh, getattr(layout, rules), axes, x.shape)
    return jax.lax.with_sharding_constraint(x, NamedSharding(layout.mesh, where))


def constrain_weights(layout: Layout | None, rules: str, tree):
    """`constrain` for a tree of parameters or decode weights, each by its own name."""
    if layout is None:
        return tree

    def place(path, leaf):
        return constrain(layout, rules, leaf, *_axes_of(path, leaf))

    return jax.tree_util.tree_map_with_path(place, tree)


def batch_sharding(mesh: Mesh, rules: Rules = TRAIN) -> NamedSharding:
    """First axis split as `rules` say of "batch"."""
    return NamedSharding(mesh, PartitionSpec(dict(rules)["batch"] or None))


def num_shards(sharding: jax.sharding.Sharding | None) -> int:
    """Into how many parts a leading axis is split."""
    return (
        1
        if sharding is None
        else sharding.num_devices // sharding.shard_shape((sharding.num_devices,))[0]
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(mesh: Mesh, tree, rules: Rules = TRAIN):
    """Shardings for parameters, decode weights and any tree that repeats their names (optimizer moments).

    A leaf's last dictionary key says which parameter it belongs to; a leaf without one, or whose axis does not divide,
    is replicated along that axis.
    """

    def place(path, leaf):
        return NamedSharding(mesh, spec(mesh, rules, _axes_of(path, leaf), leaf.shape))

    return jax.tree_util.tree_map_with_path(place, tree)


def _axes_of(path, leaf) -> tuple[str | None, ...]:
    """The logical axes of a leaf; all None where it is no parameter."""
    names = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
    axes = LOGICAL_AXES.get(names[-1], ()) if names else ()
    axes = (
        axes[len(axes) - leaf.ndim :]
        if axes[:1] == ("layers",) and len(axes) == leaf.ndim + 1
        else axes
    )
    return axes if len(axes) == leaf.ndim else (None,) * leaf.ndim


# --- between the host and the devices of all processes ---------------------------------------------------------------


def put(tree, sharding: jax.sharding.Sharding | None):
    """Host arrays on the devices. Of several processes, which hold the same, each transfers its own devices' parts."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def place(x):
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda part: x[part])

    return jax.tree.map(place, tree)


def fetch(x: jax.Array) -> np.ndarray:
    """An array on the host, whole in every process."""
    if x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    return np.asarray(_gather(replicated(x.sharding.mesh))(x))


@functools.cache
def _gather(sharding):
    return jax.jit(lambda x: x, out_shardings=sharding)
