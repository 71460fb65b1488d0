"""LogiQA 1.0's text format: records of eight lines."""

import re
from collections.abc import Sequence
from typing import Any

_LINES_PER_RECORD = 8


def parse_logiqa(text: str) -> list[tuple[int, dict[str, Any]]]:
    """Rows of a LogiQA file.

    A record is a blank line, the letter of the gold, the context, the question and four options.

    Returns:
      ``[(number of the record's first line, row)]``, the row as `parse_row` takes it.

    Raises:
      ValueError: the text does not consist of such records.
    """
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if lines[0] or len(lines) < _LINES_PER_RECORD:
        raise ValueError(
            "neither parquet, JSON, JSON lines, CSV nor LogiQA's records of eight lines, the first "
            "of them blank"
        )
    rows = []
    for start in range(0, len(lines), _LINES_PER_RECORD):
        record = lines[start : start + _LINES_PER_RECORD]
        padding = [""] * (_LINES_PER_RECORD - len(record))
        blank, gold, context, question, *options = record + padding
        if blank or gold not in tuple("abcdABCD") or not all(options):
            raise ValueError(
                f"line {start + 1} must begin a record of eight lines: blank, a letter a to d, "
                f"context, question, four options; received {record[:2]} and "
                f"{len(lines) - start} lines to the end"
            )
        row = {
            "context": context,
            "question": question,
            "options": _without_letters(options),
            "answer": gold,
        }
        rows.append((start + 1, row))
    return rows


def _without_letters(options: Sequence[str]) -> list[str]:
    """LogiQA's options in the order of their letters, without the letters.

    The letters are part of the text and were translated with it. In some records the lines stand in
    the order A, C, B, D (the gold is the letter and not the position), in some the point behind the
    letter is lost, and in some the letter has moved into the sentence ("Professor C.Lin quit").
    """
    labels = [re.match(r"([A-D])(?:\s*[.?]\s*|\s+)", option) for option in options]
    letters = [label[1] if label else "" for label in labels]
    if sorted(letters) == list("ABCD"):
        texts = [
            option[label.end() :] for option, label in zip(options, labels, strict=True) if label
        ]
        return [text for _, text in sorted(zip(letters, texts, strict=True))]

    return [
        re.sub(rf"^(?i:{letter})(?:\s*[.?]\s*|\s+)|\b{letter}\.", "", option, count=1)
        for letter, option in zip("ABCD", options, strict=True)
    ]
