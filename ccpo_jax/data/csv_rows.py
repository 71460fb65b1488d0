"""Rows of CSV and TSV files: the first line names the columns, every cell is text."""

import csv
from collections.abc import Iterator, Sequence

from ccpo_jax.data.columns import COLUMNS
from ccpo_jax.data.located_row import LocatedRow

_DELIMITERS = (",", "\t", ";", "|")

# A cell longer than this has an open quote, which takes in the rest of the file.
_LONGEST_CELL = 16 * 2**20

# Longer text names no column.
_LONGEST_NAME = 64

# Names that only a header has.
_KNOWN_NAMES = {name.casefold() for name in COLUMNS} | {
    *("prompt", "instruction", "input", "task", "goal", "ground_truth", "target", "output"),
    *("response", "gold", "id"),
}


def delimiter_of(line: str) -> str:
    """The sign between the columns of a header; "" = the line is no header of a table.

    Example:
      >>> delimiter_of("question;answer"), delimiter_of("Only a sentence.")
      (';', '')
    """
    counts = {delimiter: len(_cells(line, delimiter)) for delimiter in _DELIMITERS}
    best = max(_DELIMITERS, key=lambda delimiter: counts[delimiter])
    if counts[best] > 1:
        return best
    # A single column of questions, for a reward that needs no answer.
    return best if line.strip().strip('"').casefold() in _KNOWN_NAMES else ""


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def read_csv(lines: Iterator[str], first_number: int, delimiter: str) -> Iterator[LocatedRow]:
    """Rows of a table, one at a time.

    Quoted cells may hold delimiters and line breaks. A cell without a text is "".

    Args:
      lines: from the header on, with their ends.
      first_number: number of the header's line in the file, from 1.
      delimiter: between cells.

    Raises:
      ValueError: there is no header, a row has another number of cells, or a quote is not closed.
    """
    # The limit is the module's, for all readers; another library may have raised it.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    # Line of the file in which a row begins.
    number = first_number
    try:
        names = _column_names(next(reader), number)
        number = first_number + reader.line_num
        for cells in reader:
            # A blank line is no row.
            if cells:
                yield LocatedRow(f"line {number}", _row(names, cells, number))
            number = first_number + reader.line_num
    except csv.Error as error:
        raise ValueError(
            f"the row that begins in line {number} cannot be read ({error}); close each quote, "
            'double a quote within a quoted cell ("")'
        ) from error


def _row(names: Sequence[str], cells: Sequence[str], number: int) -> dict[str, str]:
    if len(cells) != len(names):
        raise ValueError(
            f"line {number} has {len(cells)} cells and the header {len(names)} columns; put cells "
            "that hold delimiters or line breaks in double quotes"
        )
    return dict(zip(names, cells, strict=True))


def _column_names(cells: Sequence[str], number: int) -> list[str]:
    # pandas writes the numbers of its rows as a first column without a name.
    names = [cell.strip() or f"column {position}" for position, cell in enumerate(cells, 1)]
    strange = [name for name in names if not _is_name(name)]
    if strange and not {name.casefold() for name in names} & _KNOWN_NAMES:
        raise ValueError(
            f"line {number} must name the columns, such as question,answer; received "
            f"{strange[0]!r:.60}"
        )
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ValueError(f"two columns are called {repeated[0]!r:.60}; rename one of them")
    return names


def _is_name(text: str) -> bool:
    """Whether a cell of a header may be the name of a column, and is no datum."""
    is_number = text.replace(".", "", 1).removeprefix("-").isdecimal()
    return len(text) <= _LONGEST_NAME and not is_number and text[-1] not in ".?!"
