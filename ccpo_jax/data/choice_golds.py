"""Golds of multiple-choice questions: a letter, a label, a number, or the text of an option."""

import re
import string
from typing import Any, NamedTuple

from ccpo_jax.data.cells import UnusableRow, is_number, plain, same_spacing, whole_number
from ccpo_jax.data.free_golds import answer_of
from ccpo_jax.data.options import Options
from ccpo_jax.errors import InputError

# Columns that hold the gold of a question with options, besides those of any question.
CHOICE_GOLD_COLUMNS = (
    "answerKey",
    "answer_letter",
    "answer_index",
    "answer_idx",
    "correct",
    "correct_answer",
    "label",
    "cop",
)

# Columns in which digits are a number of an option, even as text.
_INDEX_COLUMNS = ("answer_index", "answer_idx", "label", "cop")

# Columns that name an option by their own name, and do not repeat its text where both are possible.
_NAMING_COLUMNS = (*_INDEX_COLUMNS, "answerKey", "answer_letter", "correct_option")

# Letters as golds are written: "b", "(B)", "[B]", "B.", "Option B", or "B) its text".
_LETTER = re.compile(
    r"(?i:(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)(?:\s+is)?\s*:?\s*)?"
    r"[(\[]?([A-Za-z])(?:[.):\]](.*))?",
    flags=re.DOTALL,
)

# LaTeX around a letter: "\text{(B)}".
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf)\s*\{([^{}]*)\}")


class GoldReading(NamedTuple):
    """What a gold may stand for.

    Attributes:
      by_name: letter of the option that it names by letter, label or number; "" = none.
      by_text: letter of the option whose text it repeats; "" = none.
      index: the number, if it counts the options from an end that is not known; None = it does not.
    """

    by_name: str
    by_text: str
    index: int | None = None


def read_gold(gold: Any, options: Options, column: str) -> GoldReading:
    """All that a gold may stand for; whole numbers count from 0.

    Raises:
      InputError: neither text nor a whole number.
    """
    gold = whole_number(plain(gold))
    if isinstance(gold, bool) or not isinstance(gold, int | str):
        message = f"must be a letter or a number from 0, received {gold!r:.40}"
        raise InputError(column, message)

    text = answer_of(str(gold))[0]
    if text in options.labels:
        return GoldReading(_letter(options.labels.index(text), options), "")

    is_digits = re.fullmatch(r"-?\d{1,9}", text) is not None
    if is_digits and any(label.isdigit() for label in options.labels):
        if text == "0":
            message = f"must be one of the labels {', '.join(options.labels)}, received {gold!r}"
            raise InputError(column, message)
        return GoldReading("", "")
    if is_number(gold) or (column in _INDEX_COLUMNS and is_digits):
        number = int(gold)
        reading = GoldReading(_letter(number, options), _letter_of_text(text, options), number)
    else:
        reading = _read_letter(text, options)
    is_name = column in _NAMING_COLUMNS and reading.by_name
    return reading._replace(by_text="") if is_name else reading


def _read_letter(text: str, options: Options) -> GoldReading:
    match = _LETTER.fullmatch(_TEXT_COMMAND.sub(r"\1", text).strip(" \n$*\\"))
    name = match[1].upper() if match else ""
    if name and options.labels:
        labels = [label.upper() for label in options.labels]
        position = labels.index(name) if name in labels else -1
    else:
        position = string.ascii_uppercase.find(name) if name else -1
    # "B) its text" names the option twice; two different ones are none.
    own_text = match[2] if match and match[2] else text
    return GoldReading(_letter(position, options), _letter_of_text(own_text, options))


def _letter(position: int, options: Options) -> str:
    """The letter under which agents read an option; "" = there is no such option."""
    is_option = 0 <= position < len(options.texts)
    return string.ascii_uppercase[position] if is_option else ""


def _letter_of_text(text: str, options: Options) -> str:
    """The letter of the one option of this text; case counts only where it tells options apart."""
    for fold in (str, str.casefold):
        texts = [fold(same_spacing(option).strip("$")) for option in options.texts]
        wanted = fold(same_spacing(text).strip("$"))
        if wanted and texts.count(wanted) == 1:
            return string.ascii_uppercase[texts.index(wanted)]
    return ""


def check_letter(letter: str, options: Options) -> str:
    """The letter, if it names an option that says something.

    Raises:
      UnusableRow: it is none of the options, or an empty one.
    """
    if not letter:
        raise UnusableRow("gold is none of the options")
    if not options.texts[string.ascii_uppercase.index(letter)]:
        raise UnusableRow("gold is an empty option")
    return letter
