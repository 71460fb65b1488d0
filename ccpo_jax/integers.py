"""Integer arithmetic that Python's operators lack: rounding up."""

from typing import Any


def ceil_div(numerator: Any, denominator: Any) -> Any:
    """Division rounded up. Python integers, numpy arrays and traced jax integers alike.

    Example:
      >>> ceil_div(7, 2), ceil_div(6, 2), ceil_div(0, 2)
      (4, 3, 0)
    """
    return -(-numerator // denominator)


def next_power_of_two(count: int) -> int:
    """The smallest power of two that is at least `count`, itself at least 1.

    Example:
      >>> [next_power_of_two(count) for count in (1, 2, 3, 8, 9)]
      [1, 2, 4, 8, 16]
    """
    return 1 << (int(count) - 1).bit_length()
