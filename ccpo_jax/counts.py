"""Counts in a list of names: `a*5,b*4` is a for the first five agents and b for the four after."""

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from ccpo_jax.errors import InputError

_COUNTED = re.compile(r"(?P<name>.*[^\s*])\s*\*\s*(?P<count>\d{1,6})", re.DOTALL)


class Counted(NamedTuple):
    """An entry of a list of names."""

    name: str
    count: int | None  # agents in a row that share it; None = no count stands behind it


def read_counts(names: Sequence[str], field: str = "model") -> tuple[Counted, ...]:
    """Names apart from the counts behind them.

    A path that exists is a name, whatever it looks like.

    Args:
      names: of models, folders or workdirs, each with or without a count.
      field: for errors.

    Raises:
      InputError: what stands behind a star is not a count of at least 1.

    Example:
      >>> read_counts(("tiny*2", "runs/a:1*3", "tiny"))[:2]
      (Counted(name='tiny', count=2), Counted(name='runs/a:1', count=3))
    """
    return tuple(_read(name, field) for name in names)


def without_counts(names: Sequence[str], field: str = "model") -> tuple[str, ...]:
    """The names alone.

    Example:
      >>> without_counts(("tiny*2", "tiny"))
      ('tiny', 'tiny')
    """
    return tuple(counted.name for counted in read_counts(names, field))


def has_counts(names: Sequence[str]) -> bool:
    """Whether a list says how many agents share each of its entries.

    Example:
      >>> has_counts(("tiny*2", "tiny")), has_counts(("tiny", "tiny"))
      (True, False)
    """
    return any(counted.count is not None for counted in read_counts(names))


def _read(name: str, field: str) -> Counted:
    if "*" not in name or _exists(name):
        return Counted(name, None)
    match = _COUNTED.fullmatch(name)
    if match is None or not int(match["count"]):
        raise InputError(
            field,
            f"received {name!r:.80}; behind a name and a star stands how many agents it is for, "
            f"at least 1, such as --config.{field}=tiny*5",
        )
    return Counted(match["name"], int(match["count"]))


def _exists(name: str) -> bool:
    try:
        return os.path.exists(os.path.expanduser(name))
    except ValueError:
        # A null character.
        return False
