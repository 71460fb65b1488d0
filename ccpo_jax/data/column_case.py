"""Columns whose names differ from the known ones in case alone: Question, ANSWER, AnswerKey."""

import functools
from collections.abc import Mapping
from typing import Any

from ccpo_jax.data.cells import is_empty
from ccpo_jax.data.mapping import NO_MAPPING, ColumnMapping
from ccpo_jax.errors import InputError


def with_known_names(
    row: Mapping[str, Any],
    groups: Mapping[str, tuple[str, ...]],
    mapping: ColumnMapping = NO_MAPPING,
) -> Mapping[str, Any]:
    """The row with the known names in their own case.

    A column with a name in its own case that is not empty counts first, for all names of one
    meaning.

    Args:
      row: the row.
      groups: meaning -> the known names.
      mapping: what the user maps already, for the error.

    Raises:
      InputError: two columns differ in case alone, and either could be meant.

    Example:
      >>> with_known_names({"Question": "1+1?", "Level": 1}, {"question": ("question", "problem")})
      {'question': '1+1?', 'Level': 1}
    """
    variants = _variants(tuple(row), tuple(groups.values()))
    if not variants:
        return row
    known: dict[str, str] = {}
    for meaning, group in groups.items():
        if any(not is_empty(row.get(name)) for name in group):
            continue
        for name in group:
            full = [other for other in variants.get(name, ()) if not is_empty(row[other])]
            if len(full) > 1:
                raise InputError(
                    full[0],
                    f"differs from {full[1]} in case alone; type "
                    f"{mapping.typed(**{meaning: full[0]})}",
                )
            # An empty column still tells that the set has one.
            chosen = full or variants.get(name, ())[:1]
            known.update((other, name) for other in chosen)

    renamed = set(known.values())
    others = {name: value for name, value in row.items() if name not in renamed}
    return {known.get(name, name): value for name, value in others.items()}


@functools.lru_cache(maxsize=256)
def _variants(
    columns: tuple[str, ...], groups: tuple[tuple[str, ...], ...]
) -> dict[str, list[str]]:
    """Known name -> the columns that differ from it in case alone."""
    known = {name.casefold(): name for group in groups for name in group}
    variants: dict[str, list[str]] = {}
    for column in columns:
        name = known.get(str(column).casefold())
        if name is not None and name != column:
            variants.setdefault(name, []).append(column)
    return variants
