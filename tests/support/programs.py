"""What traced and compiled programs contain."""

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
