"""Where arrays live: one mesh, one table of logical axes, and the shardings made from them.

Everything else is the compiler's work: programs are jitted on global arrays and XLA inserts the collectives.
"""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

# Logical axes of each parameter, outermost first ("layers" is the stacked layer axis).
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
}

# Mesh axis that each logical axis is split over; axes not named here are replicated.
RULES = {"hidden": "fsdp", "vocab": "model", "heads": "model", "ffn": "model"}


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
        data = devices.size // (fsdp * model)
    if data * fsdp * model != devices.size:
        raise ValueError(
            f"mesh: {data or 1} x {fsdp} x {model} (data, fsdp, model) does not fit the {devices.size} devices here; "
            "leave mesh.data=-1 and make mesh.fsdp x mesh.model divide the number of devices"
        )
    return Mesh(devices.reshape(data, fsdp, model), ("data", "fsdp", "model"), axis_types=(AxisType.Auto,) * 3)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """First axis split over every replica and parameter shard."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_sharding(mesh: Mesh, tree):
    """Shardings for parameters and for any tree that repeats their names (optimizer moments).

    A leaf's last dictionary key says which parameter it belongs to; a leaf without one, or whose axis does not divide,
    is replicated along that axis.
    """

    def place(path, leaf):
        names = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey)]
        axes = LOGICAL_AXES.get(names[-1], ()) if names else ()
        if len(axes) != leaf.ndim:
            return replicated(mesh)
        split = [RULES.get(axis) for axis in axes]
        fits = [m if m and size % mesh.shape[m] == 0 else None for m, size in zip(split, leaf.shape, strict=True)]
        return NamedSharding(mesh, PartitionSpec(*fits))

    return jax.tree_util.tree_map_with_path(place, tree)
