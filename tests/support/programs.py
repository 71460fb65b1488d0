"""What traced and compiled programs contain."""

import math
import re
from collections.abc import Iterator
from typing import Any

import jax


def equations(program: Any) -> Iterator[Any]:
    """Every equation of a traced program, those of the functions that it calls among them."""

    def is_program(x: Any) -> bool:
        return hasattr(x, "eqns")

    for equation in program.eqns:
        yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=is_program):
            if is_program(inner):
                yield from equations(inner)


_BLOCK = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*?\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_COLLECTIVE = re.compile(
    r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
_SHAPE = re.compile(r"\w+\[([\d,]*)\]")


def collectives(compiled: Any, *, loops_only: bool = False) -> list[tuple[str, int]]:
    """(kind, numbers in the largest result) of each collective of a compiled program.

    Args:
      compiled: the program.
      loops_only: count those in the bodies of its loops alone.
    """
    text = compiled.as_text()
    blocks = dict(_BLOCK.findall(text))
    chosen = _loop_blocks(text, blocks) if loops_only else set(blocks)
    kinds_and_sizes = []
    for name in chosen:
        for result, kind in _COLLECTIVE.findall(blocks[name]):
            sizes = [
                math.prod(map(int, filter(None, dims.split(","))))
                for dims in _SHAPE.findall(result)
            ]
            kinds_and_sizes.append((kind, max(sizes)))
    return kinds_and_sizes


def _loop_blocks(text: str, blocks: dict[str, str]) -> set[str]:
    """The names of loop bodies and of what they call."""
    chosen: set[str] = set()
    reached = set(re.findall(r"body=%([\w.-]+)", text))
    while reached:
        chosen |= reached
        called = [set(re.findall(r"%([\w.-]+)", blocks[name])) & blocks.keys() for name in reached]
        reached = set().union(*called) - chosen
    return chosen
