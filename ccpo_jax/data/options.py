"""The options of a multiple-choice question, whatever a dataset calls them."""

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ccpo_jax.data.cells import UnusableRow, is_empty, is_number, plain, printable, structured
from ccpo_jax.errors import InputError

OPTIONS_COLUMNS = ("options", "choices", "endings")

# Keys of a struct that holds options: ARC has {"text": [...], "label": [...]}.
_TEXTS_KEY = "text"
_LABELS_KEY = "label"

_LETTERS = string.ascii_uppercase


class Options(NamedTuple):
    """The options of a question, in order.

    Attributes:
      texts: what each says, without its letter; "" for an empty one.
      labels: what the dataset calls each, () = nothing: A, B, C and D, or 1, 2, 3 and 4.
      source: the column, or the columns joined by "+".
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    source: str = ""

    @property
    def shown(self) -> tuple[str, ...]:
        """The texts that agents read: all but the empty ones at the end."""
        return self.texts[: _count_without_padding(self.texts)]

    @property
    def lines(self) -> list[str]:
        """The options as agents read them: ``A. text``."""
        return [f"{letter}. {text}" for letter, text in zip(_LETTERS, self.shown, strict=False)]


def read_options(row: Mapping[str, Any]) -> Options | None:
    """The options of a row, None where it has none.

    They are a list of texts; a struct of texts and labels; a struct of letters and texts, each also
    as text in JSON; or columns A, B, C, ...

    Raises:
      InputError: a column of options of another kind.
      UnusableRow: fewer than two options that are not empty.
    """
    for column in OPTIONS_COLUMNS:
        value = row.get(column)
        if not is_empty(value):
            return options_of(value, column)

    columns = lettered_keys(row)
    if len(columns) < 2 or all(is_empty(row[name]) for name in columns):
        return None
    texts = [row[name] for name in columns]
    return _checked(columns[0], texts, labels=columns)._replace(source="+".join(columns))


def options_of(value: Any, source: str, labels: Sequence[str] = ()) -> Options:
    """The options that a cell holds.

    Args:
      value: a list of texts, or a struct, as `read_options` has them.
      source: the column, for errors.
      labels: what a gold calls each of a list of texts; () = nothing.

    Raises:
      InputError: a cell of another kind.
      UnusableRow: fewer than two options that are not empty.
    """
    if labels:
        return _checked(source, value, labels)._replace(source=source)
    return _options(source, structured(value))._replace(source=source)


def lettered_keys(mapping: Mapping[Any, Any]) -> list[str]:
    """The keys A, B, C, ... of a mapping, as many as follow one another."""
    count = 0
    while count < len(_LETTERS) and _LETTERS[count] in mapping:
        count += 1
    return list(_LETTERS[:count])


def _options(column: str, value: Any) -> Options:
    if not isinstance(value, Mapping):
        return _checked(column, value)

    if _TEXTS_KEY in value and _LABELS_KEY in value:
        labels = plain(value[_LABELS_KEY])
        texts = plain(value[_TEXTS_KEY])
        are_lists = isinstance(labels, list | tuple) and isinstance(texts, list | tuple)
        if not are_lists or len(labels) != len(texts):
            message = f"must have one label for each text, received {value!r:.80}"
            raise InputError(column, message)
        return _checked(column, texts, labels=[str(label).strip() for label in labels])

    value = {str(key).strip().upper(): text for key, text in value.items()}
    keys = lettered_keys(value)
    if len(keys) < 2 or len(keys) < len(value):
        message = (
            f"must be a list of texts, or a struct of text and label or of letters, "
            f"received {value!r:.60}"
        )
        raise InputError(column, message)
    return _checked(column, [value[key] for key in keys], labels=keys)


def _checked(column: str, values: Any, labels: Sequence[str] = ()) -> Options:
    """Options from their texts, the letters removed that some datasets put in front of them."""
    # A column or key of its own may be empty; in a list, None is padding at its end or a mistake.
    if labels:
        cells = [None if is_empty(value) else plain(value) for value in values]
    else:
        cells = _without_padding(values)
    is_list = isinstance(cells, list | tuple)
    if not is_list or not all(_is_text(cell) or (labels and cell is None) for cell in cells):
        raise InputError(column, f"must be a list of texts, received {values!r:.40}")
    if not 2 <= len(cells) <= len(_LETTERS):
        raise InputError(column, f"must be 2 to {len(_LETTERS)} texts, received {len(cells)}")
    if len(set(labels)) < len(labels):
        raise InputError(column, f"has a label twice, received {list(labels)!r:.60}")

    texts = ["" if cell is None else printable(str(cell)).strip() for cell in cells]
    mixed = "" if labels else _mixed_letters(texts)
    shown = _without_letters(texts, mixed)
    options = Options(tuple(shown), tuple(labels or mixed))
    if len(list(filter(None, texts))) < 2:
        raise UnusableRow("fewer than two options")
    return options


def _without_padding(values: Any) -> Any:
    """A list whose nulls at the end, behind two full options or more, are empty texts."""
    if not isinstance(values, list | tuple):
        return values
    count = _count_without_padding(values)
    if count < 2:
        return values
    return [*values[:count], *[""] * (len(values) - count)]


def _count_without_padding(cells: Sequence[Any]) -> int:
    """The number of cells up to the last that is not empty."""
    count = len(cells)
    while count and is_empty(cells[count - 1]):
        count -= 1
    return count


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or is_number(value)


def _mixed_letters(texts: Sequence[str]) -> str:
    """The letters in front of texts where they are in another order, such as "BAC"; "" = none.

    Two texts may begin with the names of species.
    """
    letters = "".join(label[1] if label else " " for label in map(_match_letter, texts)).upper()
    in_order = "".join(sorted(letters))
    is_mixed = in_order == _LETTERS[: len(texts)] and letters != in_order
    return letters if is_mixed and len(texts) > 2 else ""


def _match_letter(text: str) -> re.Match[str] | None:
    return re.match(r"\s*\(?([A-Za-z])[.):]\s*", text)


def _without_letters(texts: Sequence[str], mixed: str) -> list[str]:
    """Texts without their letters, whether or not they have any."""
    count = _count_without_padding(texts)
    padding = texts[count:]
    texts = texts[:count]
    labels = [_match_letter(text) for text in texts]
    letters = "".join(label[1] if label else " " for label in labels)
    # Letters are the options' own only if all are there, in order: "C. elegans" begins with a name.
    is_ordered = letters in (_LETTERS[: len(texts)], _LETTERS[: len(texts)].lower())
    if not is_ordered and not mixed:
        return [*texts, *padding]
    shown = [text[label.end() :] for text, label in zip(texts, labels, strict=True) if label]
    return [*shown, *padding]
