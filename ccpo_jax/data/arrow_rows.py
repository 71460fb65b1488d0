"""Rows of Arrow tables: parquet files and datasets of the Hub; columns of bytes are left out."""

import pathlib
from collections.abc import Iterator
from typing import Any

from ccpo_jax.data.columns import COLUMNS
from ccpo_jax.data.located_row import LocatedRow

# Rows that are turned into Python objects at a time.
_BATCH = 1024


def read_parquet(source: pathlib.Path | bytes, notes: list[str]) -> Iterator[LocatedRow]:
    """Rows of a parquet file, a batch at a time.

    Args:
      source: the file, or its content.
      notes: receives a line about columns that are left out.

    Raises:
      ValueError: the file is damaged.
    """
    # Imported late: it comes with `datasets`, and only this format needs it.
    import pyarrow
    import pyarrow.parquet

    opened = pyarrow.BufferReader(source) if isinstance(source, bytes) else source
    try:
        file = pyarrow.parquet.ParquetFile(opened)
        columns = _without_bytes(file.schema_arrow, notes)
        number = 0
        for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
            for row in batch.to_pylist():
                yield LocatedRow(f"row {number}", row)
                number += 1
    except (pyarrow.ArrowException, OverflowError) as error:
        raise ValueError(str(error)) from error


def read_table(table: Any, notes: list[str]) -> Iterator[LocatedRow]:
    """Rows of a `datasets.Dataset`, a batch at a time; images and sounds are not decoded.

    Args:
      table: the dataset.
      notes: receives a line about columns that are left out.
    """
    table = table.with_format(None).select_columns(
        _without_bytes(table.features.arrow_schema, notes)
    )
    number = 0
    for batch in table.iter(batch_size=_BATCH):
        names = list(batch)
        for cells in zip(*batch.values(), strict=True):
            yield LocatedRow(f"row {number}", dict(zip(names, cells, strict=True)))
            number += 1


def _without_bytes(schema: Any, notes: list[str]) -> list[str]:
    """Names of the columns that hold no bytes, such as images, at any depth."""
    # A column that is read is kept, so that an error shows what it holds.
    hidden = [
        column.name for column in schema if column.name not in COLUMNS and _holds_bytes(column.type)
    ]
    note = f"columns of bytes left out: {', '.join(hidden)}"
    # Files of one source share their columns.
    if hidden and note not in notes:
        notes.append(note)
    return [name for name in schema.names if name not in hidden]


def _holds_bytes(kind: Any) -> bool:
    import pyarrow

    if isinstance(kind, pyarrow.BaseExtensionType):
        return _holds_bytes(kind.storage_type)
    if isinstance(kind, pyarrow.DictionaryType):
        return _holds_bytes(kind.value_type)
    if pyarrow.types.is_nested(kind):
        return any(_holds_bytes(kind.field(position).type) for position in range(kind.num_fields))
    tests = (
        pyarrow.types.is_binary,
        pyarrow.types.is_large_binary,
        pyarrow.types.is_fixed_size_binary,
        pyarrow.types.is_binary_view,
    )
    return any(test(kind) for test in tests)
