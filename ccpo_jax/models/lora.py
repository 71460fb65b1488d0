"""LoRA: low-rank adapters that are trained beside weights that stay as they are.

A product with weights ``x W`` becomes ``x W + scale (x A) B``, with ``A [in, r]`` and
``B [r, out]`` for a rank r far below the sizes of W. B begins at zero, so that training begins at
the network itself.

Reference: LoRA arXiv:2106.09685; the scale alpha / sqrt(r) arXiv:2312.03732; initial values as in
Hugging Face PEFT.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ccpo_jax.errors import InputError
from ccpo_jax.rl.types import Array

# The products of a layer that can have an adapter.
TARGETS = ("q", "k", "v", "o", "gate", "up", "down")


@dataclasses.dataclass(frozen=True)
class LoRA:
    """The adapters of a network. Static, and compared by value.

    Attributes:
      rank: r.
      alpha: numerator of the scale.
      targets: the products that have an adapter, of `TARGETS`.
      rslora: the scale is ``alpha / sqrt(r)`` and not ``alpha / r``.
      decodes_merged: responses are sampled with ``W + scale A B`` in place of two more products.

    Example:
      >>> LoRA(rank=16).scale, LoRA(rank=16, rslora=True).scale
      (2.0, 8.0)
    """

    rank: int
    alpha: float = 32.0
    targets: tuple[str, ...] = TARGETS
    rslora: bool = False
    decodes_merged: bool = False

    def __post_init__(self):
        if self.rank < 1:
            raise InputError("lora.rank", f"received {self.rank}; use at least 1")
        unknown = [name for name in self.targets if name not in TARGETS]
        if unknown or not self.targets or len(set(self.targets)) < len(self.targets):
            raise InputError(
                "lora.targets",
                f"received {','.join(self.targets) or 'nothing'!s:.80}; use each at most once of "
                f"{','.join(TARGETS)}",
            )

    @property
    def scale(self) -> float:
        """What ``(x A) B`` is multiplied with."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


def a_name(target: str) -> str:
    """The name of a product's A."""
    return f"{target}_lora_a"


def b_name(target: str) -> str:
    """The name of a product's B."""
    return f"{target}_lora_b"


def is_adapter(name: str) -> bool:
    """Whether a parameter is an A or a B, by its name."""
    return name.endswith((a_name(""), b_name("")))


def init_adapters(lora: LoRA, kernels: Mapping[str, Any], key: Array) -> dict[str, Array]:
    """Fresh adapters, float32.

    A is uniform in ``[-1/sqrt(in), 1/sqrt(in)]``, which PEFT draws as Kaiming uniform; B is zero.

    Args:
      lora: rank and targets.
      kernels: the stacked kernels by name, arrays or shapes ``[layers, in, out]``.
      key: typed PRNG key.

    Returns:
      ``{"q_lora_a": [layers, in, r], "q_lora_b": [layers, r, out], ...}``.
    """
    adapters = {}
    for target, own_key in zip(lora.targets, jax.random.split(key, len(lora.targets)), strict=True):
        layers, inputs, outputs = kernels[target].shape
        bound = 1 / math.sqrt(inputs)
        shape = (layers, inputs, lora.rank)
        adapters[a_name(target)] = jax.random.uniform(own_key, shape, minval=-bound, maxval=bound)
        adapters[b_name(target)] = jnp.zeros((layers, lora.rank, outputs))
    return adapters


def scaled(lora: LoRA, adapters: Mapping[str, Array]) -> dict[str, Array]:
    """The adapters with the scale in B, so that ``x W + (x A) B`` is what they compute."""
    return {
        name: x * lora.scale if name.endswith(b_name("")) else x for name, x in adapters.items()
    }


def join(lora: LoRA, params: Mapping[str, Any], adapters: Mapping[str, Array]) -> dict[str, Any]:
    """A network's parameters with adapters beside the weights of its layers."""
    return {**params, "layers": params["layers"] | scaled(lora, adapters)}


def attach(weights: Mapping[str, Any], adapters: Mapping[str, Any]) -> dict[str, Any]:
    """Decode weights with those of adapters. No array is copied: all agents share the network's."""
    layers = zip(weights["layers"], adapters["layers"], strict=True)
    return {**weights, "layers": tuple(own | added for own, added in layers)}


def merge(lora: LoRA, params: Mapping[str, Any], adapters: Mapping[str, Array]) -> dict[str, Any]:
    """Parameters of the same network, without adapters: ``W + scale A B``, in float32."""
    layers = dict(params["layers"])
    for target in lora.targets:
        change = jnp.einsum(
            "lir,lro->lio",
            adapters[a_name(target)],
            adapters[b_name(target)],
            precision=jax.lax.Precision.HIGHEST,
        )
        layers[target] = layers[target].astype(jnp.float32) + lora.scale * change
    return {**params, "layers": layers}


def join_targets(
    adapters: Mapping[str, Array], name: str, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Array]:
    """One adapter of a product that stands for several, such as ``qkv`` for q, k and v.

    The A lie side by side; each B has rows and columns of its own in a larger one, and zeros stand
    elsewhere. Two products in place of six: at the sizes of adapters, it is their number that
    counts.

    Args:
      adapters: of one layer.
      name: of the joined product.
      shapes: target -> shape of its outputs; the second-last axis is the one along which the
        outputs of all targets are joined.

    Returns:
      A and B of the joined product; {} where none of the targets has an adapter.
    """
    own = [target for target in shapes if a_name(target) in adapters]
    if not own:
        return {}
    ranks = {target: adapters[a_name(target)].shape[-1] for target in own}
    total = sum(ranks.values())
    dtype = adapters[b_name(own[0])].dtype

    columns = []
    first = 0
    for target, shape in shapes.items():
        if target not in own:
            columns.append(jnp.zeros((total, *shape), dtype))
            continue
        block = adapters[b_name(target)].reshape(-1, *shape)
        rows = (first, total - first - ranks[target])
        columns.append(jnp.pad(block, (rows, *[(0, 0)] * len(shape))))
        first += ranks[target]
    return {
        a_name(name): jnp.concatenate([adapters[a_name(target)] for target in own], axis=-1),
        b_name(name): jnp.concatenate(columns, axis=-2),
    }
