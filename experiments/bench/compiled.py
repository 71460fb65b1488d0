"""Programs compiled for a GPU that is not here, and the bytes and operations of their kernels.

Compiling needs jax's CUDA plugin (`pip install 'jax[cuda13]'`) and no GPU; the compiler then
chooses by its own models what it would else choose by timing. Counting reads the compiled program's
text: XLA sums up no costs for a device that is absent. A kernel moves its operands and results once
each, but only the parts of them that it slices, gathers or overwrites; operations are those of
matrix products, attention's among them.
"""

import functools
import importlib.util
import math
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
from jax.experimental import topologies

from experiments.bench.roofline import Rates, Work

_HOPPER = """
platform_name: "CUDA"
device_description_str: "NVIDIA H200"
dnn_version_info { major: 9 }
runtime_version { major: 13 }
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  l2_cache_size: 52428800 memory_bandwidth: 4800000000000 device_memory_size: 150754820096
}
"""


def can_compile() -> bool:
    """Whether jax's CUDA plugin is installed."""
    return any(
        importlib.util.find_spec("jax_plugins")
        and importlib.util.find_spec(f"jax_plugins.xla_cuda{n}")
        for n in (12, 13)
    )


@functools.cache
def _mesh() -> jax.sharding.Mesh:
    topology = topologies.get_topology_desc(
        platform="cuda", target_config=_HOPPER, topology="1x1x1"
    )
    return topologies.make_mesh(topology, (1,), ("device",))


def compiled(f: Callable, *arguments, donate=()) -> jax.stages.Compiled:
    """The program of `f` on one H200, for arguments of such shapes; it cannot run here."""
    everywhere = jax.sharding.NamedSharding(_mesh(), jax.sharding.PartitionSpec())
    placed = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), arguments
    )
    with jax.sharding.use_abstract_mesh(_mesh().abstract_mesh):
        lowered = (
            jax.jit(f, donate_argnums=donate).trace(*placed).lower(lowering_platforms=("cuda",))
        )
    return lowered.compile()


class Kernel(NamedTuple):
    """One launch of a program's text."""

    name: str
    times: float  # how often a call of the program launches it
    work: Work  # of one launch


def kernels(
    text: str, *, steps: float = 1, filled: float = 1, taken: Callable = max
) -> list[Kernel]:
    """What a compiled program launches.

    Args:
      text: of `jax.stages.Compiled.as_text`.
      steps: turns of loops whose number the program does not say.
      filled: the part of a cache that is read on average, where a kernel of our own writes into it:
        such a kernel reads the slots in use.
      taken: of the branches of a conditional, `max` = the one that moves most, `min` = least.

    Raises:
      ValueError: for a text that is written in another way, or work that is not counted here.
    """
    program = _Program(text)
    return list(program.launches(program.entry, 1, steps, filled, taken))


def seconds(launched: list[Kernel], rates: Rates) -> float:
    """The least time in which a device with such rates gets through them, one after the other."""
    return sum(kernel.times * kernel.work.seconds(rates) for kernel in launched)


class _Instruction(NamedTuple):
    name: str
    shape: str
    op: str
    operands: tuple[str, ...]
    rest: str  # of the line, from the operands on
    is_root: bool


_FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "fusion-done",
    "copy-done",
}
_UNKNOWN = {
    "convolution",
    "async-start",
    "sort",
    "fft",
    "cholesky",
    "triangular-solve",
}  # work that nothing here counts
_VIEWS = {"bitcast", "reshape"}
_CUTS = {"slice", "dynamic-slice", "gather"}
_WRITTEN = {
    "dynamic-update-slice": 1,
    "scatter": 2,
}  # which operand an instruction writes, in place, into its first
_HEAD = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\{\s*$")
_LINE = re.compile(r"^\s+(ROOT )?%([\w.\-]+) = (.+?) ([a-z][\w\-]*)\((.*)$")


class _Program:
    """The computations of a program by name, each with its instructions by name."""

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, _Instruction]] = {}
        self.entry = ""  # the one that the program runs
        here = None  # the one whose lines these are
        for line in text.splitlines():
            if head := _HEAD.match(line):
                here = self.computations[head[2]] = {}
                self.entry = head[2] if head[1] else self.entry
            elif line.startswith("}"):
                here = None
            elif here is not None:
                if not (found := _LINE.match(line)):
                    raise ValueError(f"not an instruction as XLA writes them: {line[:200]!r}")
                operands = tuple(re.findall(r"%([\w.\-]+)", found[5].partition(")")[0]))
                here[found[2]] = _Instruction(
                    found[2], found[3], found[4], operands, found[5], bool(found[1])
                )

    def launches(
        self, name: str, times: float, steps: float, filled: float, taken: Callable
    ) -> Iterator[Kernel]:
        """Of one computation, with what it calls."""
        for one in self.computations[name].values():
            if one.op == "while":
                known = re.search(r'"known_trip_count":\{"n":"(\d+)"', one.rest)
                turns = int(known[1]) if known else steps
                yield from self.launches(_named(one, "body"), times * turns, steps, filled, taken)
            elif one.op == "conditional":
                ways = [
                    list(self.launches(way, times, steps, filled, taken)) for way in _branches(one)
                ]
                yield from taken(
                    ways, key=lambda way: sum(kernel.times * kernel.work.bytes for kernel in way)
                )
            elif one.op == "call":
                yield from self.launches(_named(one, "to_apply"), times, steps, filled, taken)
            elif one.op not in _FREE:
                yield Kernel(one.name, times, self._work(name, one, filled))

    def _work(self, where: str, one: _Instruction, filled: float) -> Work:
        if one.op.startswith("fusion"):
            return Work(
                self._fused_bytes(_named(one, "calls")), self._products(_named(one, "calls"))
            )
        inside = self.computations[where]
        given = [inside[operand].shape for operand in one.operands]
        if one.op in _UNKNOWN:
            raise ValueError(f"{one.op}: its work is not counted here")
        if one.op == "custom-call":
            return _library_work(one, given, filled)
        if one.op in _WRITTEN:
            return Work(2.0 * _bytes(given[_WRITTEN[one.op]]), 0.0)
        if one.op == "copy-start":
            return Work(2.0 * _bytes(given[0]), 0.0)
        read = _bytes(one.shape) if one.op in _CUTS else sum(map(_bytes, given))
        return Work(read + _bytes(one.shape), _product(inside, one) if one.op == "dot" else 0.0)

    def _fused_bytes(self, name: str) -> float:
        """What a fusion reads of its operands and writes."""
        inside = self.computations[name]
        used = _used(inside)
        read = sum(
            used[one.name] * _bytes(one.shape) for one in inside.values() if one.op == "parameter"
        )
        (root,) = (one for one in inside.values() if one.is_root)
        results = root.operands if root.op == "tuple" else (root.name,)
        return read + sum(_written(inside, inside[result]) for result in results)

    def _products(self, name: str) -> float:
        """Operations of the matrix products in a fusion."""
        inside, total = self.computations[name], 0.0
        for one in inside.values():
            if one.op == "dot":
                total += _product(inside, one)
            elif one.op == "fusion":
                total += self._products(_named(one, "calls"))
        return total


def _product(inside: dict[str, _Instruction], one: _Instruction) -> float:
    """Operations of one matrix product."""
    (left,), (result,) = _arrays(inside[one.operands[0]].shape), _arrays(one.shape)
    axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.rest)[1].split(",")
    return 2.0 * math.prod(result[1]) * math.prod(left[1][int(axis)] for axis in axes if axis)


def _written(inside: dict[str, _Instruction], result: _Instruction) -> float:
    """Bytes that a fusion writes for a result: the parts that change, where it writes into one of
    its operands.
    """
    source, parts = result, 0.0
    while source.op in _VIEWS or source.op in _WRITTEN:
        if source.op in _WRITTEN:
            parts += _bytes(inside[source.operands[_WRITTEN[source.op]]].shape)
        source = inside[source.operands[0]]
    return parts if parts and source.op == "parameter" else _bytes(result.shape)


def _used(inside: dict[str, _Instruction]) -> dict[str, float]:
    """The part of each instruction's result that the root of a fusion asks for; operands come
    before their users.
    """
    used = dict.fromkeys(inside, 0.0)
    for one in reversed(inside.values()):
        used[one.name] = 1.0 if one.is_root else min(used[one.name], 1.0)
        for place, operand in enumerate(one.operands):
            part = used[one.name]
            if place == 0 and one.op in _CUTS:
                part *= _bytes(one.shape) / _bytes(inside[operand].shape)
            elif place == 0 and one.op == "scatter":
                part *= _bytes(inside[one.operands[_WRITTEN["scatter"]]].shape) / _bytes(one.shape)
            elif place == 0 and one.op in _WRITTEN:
                part = 0.0
            used[operand] += part
    return used


def _library_work(one: _Instruction, given: list[str], filled: float) -> Work:
    """Of a kernel that XLA did not write: a library's product or attention, or our own kernel."""
    target = re.search(r'custom_call_target="([^"]*)"', one.rest)[1]
    results = [
        kind_and_axes for kind_and_axes in _arrays(one.shape) if kind_and_axes[0] != "u8"
    ]  # no work space
    moved = float(sum(map(_bytes, given)) + sum(map(_size, results)))
    if target.startswith("__cublas"):
        left = _arrays(given[0])[0][1]
        axes = (
            re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', one.rest)[1]
            .replace('"', "")
            .split(",")
        )
        return Work(
            moved, 2.0 * math.prod(results[0][1]) * math.prod(left[int(axis)] for axis in axes)
        )
    if target.startswith("__cudnn$fmha"):
        (batch, new, heads, width), seen = _arrays(given[0])[0][1], _arrays(given[1])[0][1][1]
        return Work(
            moved, 2.0 * (5 if "Backward" in target else 2) * batch * heads * new * seen * width
        )
    written = re.findall(
        r"\{\d*\}: \((\d+), \{\}\)", one.rest.partition("output_to_operand_aliasing=")[2]
    )
    caches = sum(_bytes(given[int(place)]) for place in written)  # counted as read and as written
    return Work(moved - (2 - filled) * caches, 0.0)


def _named(one: _Instruction, role: str) -> str:
    """The computation that an instruction calls in a role."""
    return re.search(rf"\b{role}=%?([\w.\-]+)", one.rest)[1]


def _branches(one: _Instruction) -> list[str]:
    listed = re.search(r"branch_computations=\{([^}]*)\}", one.rest)
    if listed:
        return listed[1].replace("%", "").replace(" ", "").split(",")
    return [_named(one, "true_computation"), _named(one, "false_computation")]


def _arrays(shape: str) -> list[tuple[str, list[int]]]:
    """(element type, axes) of every array in a shape's text."""
    found = re.findall(r"\b([a-z]\w*)\[([\d,]*)\]", shape)
    return [(kind, [int(axis) for axis in axes.split(",") if axis]) for kind, axes in found]


def _size(array: tuple[str, list[int]]) -> float:
    kind, axes = array
    bits = re.search(r"\d+", kind)  # "pred" has none, and takes a byte
    return math.prod(axes) * (int(bits[0]) / 8 if bits else 1)


def _bytes(shape: str) -> float:
    return sum(map(_size, _arrays(shape)))
