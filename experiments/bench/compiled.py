"""Programs compiled for a GPU that is not here, and the bytes and operations of their kernels.

Compiling needs jax's CUDA plugin (`pip install 'jax[cuda13]'`) but no GPU; without one the compiler
chooses kernels by its own models instead of timing them. Costs are counted from the compiled
program's text, because XLA sums up none for a device that is absent. A kernel moves its operands
and results once each, but only the parts that it slices, gathers or overwrites. Operations are
those of matrix products, attention's among them.
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
    if importlib.util.find_spec("jax_plugins") is None:
        return False
    plugins = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")
    return any(importlib.util.find_spec(plugin) is not None for plugin in plugins)


@functools.cache
def _mesh() -> jax.sharding.Mesh:
    topology = topologies.get_topology_desc(
        platform="cuda", target_config=_HOPPER, topology="1x1x1"
    )
    return topologies.make_mesh(topology, (1,), ("device",))


def compiled(f: Callable, *arguments, donate=()) -> jax.stages.Compiled:
    """The program of `f` on one H200, for arguments of such shapes; it cannot run here."""
    everywhere = jax.sharding.NamedSharding(_mesh(), jax.sharding.PartitionSpec())

    def place(x) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere)

    placed = jax.tree.map(place, arguments)
    with jax.sharding.use_abstract_mesh(_mesh().abstract_mesh):
        traced = jax.jit(f, donate_argnums=donate).trace(*placed)
        return traced.lower(lowering_platforms=("cuda",)).compile()


class Kernel(NamedTuple):
    """One instruction that launches a kernel.

    Attributes:
      name: of the instruction.
      times: how often a call of the program launches it.
      work: of one launch.
    """

    name: str
    times: float
    work: Work


def kernels(
    text: str, *, steps: float = 1, filled: float = 1, taken: Callable = max
) -> list[Kernel]:
    """What a compiled program launches.

    Args:
      text: of `jax.stages.Compiled.as_text`.
      steps: turns of loops whose number the program does not state.
      filled: the part of a cache that is read on average by a kernel of our own that writes into
        it: such a kernel reads the slots in use.
      taken: which branch of a conditional counts: `max`, the one that moves most; `min`, least.

    Raises:
      ValueError: for a text that is written in another way, or work that is not counted here.
    """
    program = _Program(text)
    return list(program.launches(program.entry, 1, steps, filled, taken))


def seconds(launched: list[Kernel], rates: Rates) -> float:
    """The least time in which a device with such rates runs them one after the other."""
    return sum(kernel.times * kernel.work.seconds(rates) for kernel in launched)


class _Instruction(NamedTuple):
    """One line of a program's text.

    Attributes:
      name: of its result.
      shape: text of the result's shape.
      op: what it does.
      operands: names of other instructions.
      rest: of the line, from the operands on.
      is_root: whether its result is that of the computation.
    """

    name: str
    shape: str
    op: str
    operands: tuple[str, ...]
    rest: str
    is_root: bool


# Instructions that launch no kernel.
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

# Instructions whose work is not counted here.
_UNKNOWN = {
    "convolution",
    "async-start",
    "sort",
    "fft",
    "cholesky",
    "triangular-solve",
}

_VIEWS = {"bitcast", "reshape"}

# Instructions that read a part of their first operand.
_SLICES = {"slice", "dynamic-slice", "gather"}

# Instructions that write one operand, in place, into their first: its index.
_WRITTEN = {"dynamic-update-slice": 1, "scatter": 2}

# The first line of a computation, and the line of an instruction.
_HEAD = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\{\s*$")
_LINE = re.compile(r"^\s+(ROOT )?%([\w.\-]+) = (.+?) ([a-z][\w\-]*)\((.*)$")


class _Program:
    """The computations of a program by name, each with its instructions by name."""

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, _Instruction]] = {}
        # The computation that the program runs.
        self.entry = ""

        current: dict[str, _Instruction] | None = None
        for line in text.splitlines():
            head = _HEAD.match(line)
            if head:
                is_entry, name = head.groups()
                current = self.computations[name] = {}
                self.entry = name if is_entry else self.entry
            elif line.startswith("}"):
                current = None
            elif current is not None:
                instruction = _parse_instruction(line)
                current[instruction.name] = instruction

    def launches(
        self, name: str, times: float, steps: float, filled: float, taken: Callable
    ) -> Iterator[Kernel]:
        """The kernels of one computation and of those that it calls."""
        for one in self.computations[name].values():
            if one.op == "while":
                known = re.search(r'"known_trip_count":\{"n":"(\d+)"', one.rest)
                turns = int(known[1]) if known else steps
                yield from self.launches(_named(one, "body"), times * turns, steps, filled, taken)
            elif one.op == "conditional":
                branches = []
                for branch in _branches(one):
                    branches.append(list(self.launches(branch, times, steps, filled, taken)))
                yield from taken(branches, key=_bytes_moved)
            elif one.op == "call":
                yield from self.launches(_named(one, "to_apply"), times, steps, filled, taken)
            elif one.op not in _FREE:
                yield Kernel(one.name, times, self._work(name, one, filled))

    def _work(self, computation: str, one: _Instruction, filled: float) -> Work:
        """Bytes and operations of one launch."""
        if one.op.startswith("fusion"):
            fused = _named(one, "calls")
            return Work(self._fused_bytes(fused), self._products(fused))
        if one.op in _UNKNOWN:
            raise ValueError(f"{one.op}: its work is not counted here")

        inside = self.computations[computation]
        operands = [inside[operand].shape for operand in one.operands]
        if one.op == "custom-call":
            return _library_work(one, operands, filled)
        if one.op in _WRITTEN:
            return Work(2.0 * _bytes(operands[_WRITTEN[one.op]]), 0.0)
        if one.op == "copy-start":
            return Work(2.0 * _bytes(operands[0]), 0.0)

        result = _bytes(one.shape)
        read = result if one.op in _SLICES else sum(map(_bytes, operands))
        flops = _product(inside, one) if one.op == "dot" else 0.0
        return Work(read + result, flops)

    def _fused_bytes(self, name: str) -> float:
        """Bytes that a fusion reads of its operands and writes."""
        inside = self.computations[name]
        used = _used(inside)
        moved = 0.0
        for one in inside.values():
            if one.op == "parameter":
                moved += used[one.name] * _bytes(one.shape)

        (root,) = (one for one in inside.values() if one.is_root)
        results = root.operands if root.op == "tuple" else (root.name,)
        for result in results:
            moved += _written(inside, inside[result])
        return moved

    def _products(self, name: str) -> float:
        """Operations of the matrix products in a fusion."""
        inside = self.computations[name]
        total = 0.0
        for one in inside.values():
            if one.op == "dot":
                total += _product(inside, one)
            elif one.op == "fusion":
                total += self._products(_named(one, "calls"))
        return total


def _parse_instruction(line: str) -> _Instruction:
    """A line of a computation.

    Raises:
      ValueError: if it is written in another way.
    """
    match = _LINE.match(line)
    if match is None:
        raise ValueError(f"not an instruction as XLA writes them: {line[:200]!r}")
    is_root, name, shape, op, rest = match.groups()
    operands = tuple(re.findall(r"%([\w.\-]+)", rest.partition(")")[0]))
    return _Instruction(name, shape, op, operands, rest, bool(is_root))


def _bytes_moved(launched: list[Kernel]) -> float:
    return sum(kernel.times * kernel.work.bytes for kernel in launched)


def _product(inside: dict[str, _Instruction], one: _Instruction) -> float:
    """Operations of one matrix product."""
    ((_, left_axes),) = _arrays(inside[one.operands[0]].shape)
    ((_, result_axes),) = _arrays(one.shape)
    contracting = _group(r"lhs_contracting_dims=\{([\d,]*)\}", one.rest)
    return _product_flops(left_axes, contracting, result_axes)


def _product_flops(left: list[int], contracting: str, result: list[int]) -> float:
    """Two operations per element of the result and per index that is summed over."""
    summed = math.prod(left[int(axis)] for axis in re.findall(r"\d+", contracting))
    return 2.0 * math.prod(result) * summed


def _written(inside: dict[str, _Instruction], result: _Instruction) -> float:
    """Bytes that a fusion writes for a result.

    Where it writes into one of its operands, these are the parts that change.
    """
    source = result
    changed = 0.0
    while source.op in _VIEWS or source.op in _WRITTEN:
        if source.op in _WRITTEN:
            changed += _bytes(inside[source.operands[_WRITTEN[source.op]]].shape)
        source = inside[source.operands[0]]
    is_in_place = changed > 0 and source.op == "parameter"
    return changed if is_in_place else _bytes(result.shape)


def _used(inside: dict[str, _Instruction]) -> dict[str, float]:
    """The part of each instruction's result that the root of a fusion asks for."""
    used = dict.fromkeys(inside, 0.0)
    # Operands come before their users.
    for one in reversed(inside.values()):
        used[one.name] = 1.0 if one.is_root else min(used[one.name], 1.0)
        for place, operand in enumerate(one.operands):
            part = used[one.name]
            if place == 0 and one.op in _SLICES:
                part *= _bytes(one.shape) / _bytes(inside[operand].shape)
            elif place == 0 and one.op == "scatter":
                part *= _bytes(inside[one.operands[_WRITTEN["scatter"]]].shape) / _bytes(one.shape)
            elif place == 0 and one.op in _WRITTEN:
                part = 0.0
            used[operand] += part
    return used


def _library_work(one: _Instruction, operands: list[str], filled: float) -> Work:
    """Of a kernel that XLA did not write: a library's product or attention, or our own kernel."""
    target = _group(r'custom_call_target="([^"]*)"', one.rest)
    # Bytes are work space.
    results = [array for array in _arrays(one.shape) if array[0] != "u8"]
    moved = float(sum(map(_bytes, operands)) + sum(map(_size, results)))

    if target.startswith("__cublas"):
        _, left_axes = _arrays(operands[0])[0]
        _, result_axes = results[0]
        contracting = _group(r'"lhs_contracting_dimensions":\[([^\]]*)\]', one.rest)
        return Work(moved, _product_flops(left_axes, contracting, result_axes))

    if target.startswith("__cudnn$fmha"):
        _, (batch, new, heads, width) = _arrays(operands[0])[0]
        _, key_axes = _arrays(operands[1])[0]
        num_products = 5 if "Backward" in target else 2
        return Work(moved, 2.0 * num_products * batch * heads * new * key_axes[1] * width)

    # Caches that it writes into were counted as read and as written.
    _, _, aliases = one.rest.partition("output_to_operand_aliasing=")
    written = re.findall(r"\{\d*\}: \((\d+), \{\}\)", aliases)
    caches = sum(_bytes(operands[int(index)]) for index in written)
    return Work(moved - (2 - filled) * caches, 0.0)


def _named(one: _Instruction, role: str) -> str:
    """The computation that an instruction calls in a role."""
    return _group(rf"\b{role}=%?([\w.\-]+)", one.rest)


def _group(pattern: str, text: str) -> str:
    """The one group of a pattern that the text has to match somewhere.

    Raises:
      ValueError: if it does not.
    """
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"not an instruction as XLA writes them: {text[:200]!r}")
    return match[1]


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
    # "pred" has no number, and takes a byte.
    bits = re.search(r"\d+", kind)
    return math.prod(axes) * (int(bits[0]) / 8 if bits else 1)


def _bytes(shape: str) -> float:
    return sum(map(_size, _arrays(shape)))
