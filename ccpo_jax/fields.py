"""Declares, reads, checks and describes configuration fields; `config.py` lists the fields."""

import dataclasses
import glob
import math
import os
import re
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Literal

from ccpo_jax.errors import InputError

OnResume = Literal["free", "asks", "fixed", "never"]

# Whether a resumed run may have another value, in the words of the documentation.
ON_RESUME: dict[OnResume, str] = {
    "free": "yes",
    "asks": "with `allow_changes`",
    "fixed": "with `allow_changes`; not by other modes",
    "never": "no",
}

# Begins the value of a field where a Python program gives an object in place of a name.
OBJECT = "object:"

# Longer text cannot be a list of names or numbers.
_LONGEST_LIST = 10_000
# Times that a number may stand for itself, as in 18*5.
_MOST_REPEATS = 1000
# Parts between commas that may be one file's name.
_MOST_PARTS = 16

# What a backslash stands before in a list of any texts; the backslash itself first.
_ESCAPES = {
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    ",": "\\,",
    " ": "\\ ",
}
# A list of texts as Python and JSON write it; as a text it would never be meant.
_QUOTED_LIST = re.compile(r"""\[\s*(?P<quote>["']).*(?P=quote)\s*\]""", re.DOTALL)

_TRUE = ("true", "t", "1", "yes", "on")
_FALSE = ("false", "f", "0", "no", "off")


@dataclasses.dataclass(frozen=True)
class Condition:
    """What a run must be like for a field to have an effect.

    Attributes:
      words: completes "applies only with ...".
      reads: dotted names of the fields that decide; errors show their values.
      holds: whether a configuration meets it.
    """

    words: str
    reads: tuple[str, ...]
    holds: Callable[[Any], bool]

    def __and__(self, other: "Condition") -> "Condition":
        return Condition(
            f"{self.words} and {other.words}",
            self.reads + other.reads,
            lambda config: self.holds(config) and other.holds(config),
        )


@dataclasses.dataclass(frozen=True)
class Limits:
    """The range of a number; None = no limit on that side.

    Infinity lies in it only where it stands for a bound that never binds (`infinite`).
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    infinite: bool = False

    def contain(self, value: float) -> bool:
        """Whether a number lies in the range. NaN does not."""
        return (
            value == value
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    @property
    def words(self) -> str:
        """The range as a phrase; "" where there is no limit.

        Example:
          >>> Limits(at_least=0, below=1).words, Limits(above=1).words
          ('in [0, 1)', 'above 1')
        """
        low = self.at_least if self.above is None else self.above
        high = self.at_most if self.below is None else self.below
        if low is not None and high is not None:
            opening = "[" if self.above is None else "("
            closing = "]" if self.below is None else ")"
            return f"in {opening}{low:g}, {high:g}{closing}"
        if low is not None:
            return f"at least {low:g}" if self.above is None else f"above {low:g}"
        if high is not None:
            return f"at most {high:g}" if self.below is None else f"below {high:g}"
        return ""


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of the configuration.

    Attributes:
      name: dotted, such as ``sample.temperature``.
      kind: the type of its values: bool, int, float, str, or a tuple of int, float or str.
      optional: whether None is a value of its own; it stands for `none_means`.
      default: the value of a run that does not set it.
      help: what it is, with its unit.
      none_means: what None stands for.
      limits: the range of its number, or of each number of its list.
      choices: allowed values; () = any.
      extensible: whether other values than `choices` can exist, because a table of the library has
        more.
      applies: when it has an effect; None = always.
      on_resume: whether a resumed run may change it.
      one_for_all: whether its list may have one element that stands for all; config.json has that
        element alone.
      asks_where: where a resumed run may not simply change it although it is free; None = nowhere.
      lower_for: phase of a step -> rank among the fields to lower where that phase runs out of
        memory.
      is_path: whether it may hold a path, in which ``~`` is expanded.
      is_mapping: whether its list is of ``NAME=VALUE``, which Python may also give as a mapping.
      has_escapes: whether its list is of any texts, in which a backslash is typed before what would
        otherwise end or change one.
    """

    name: str
    kind: Any
    optional: bool
    default: Any
    help: str
    none_means: str
    limits: Limits
    choices: tuple[str, ...]
    extensible: bool
    applies: Condition | None
    on_resume: OnResume
    lower_for: Mapping[str, int]
    is_path: bool
    is_mapping: bool = False
    has_escapes: bool = False
    one_for_all: bool = False
    asks_where: Condition | None = None

    def may_change(self, config: Any) -> bool:
        """Whether a resumed run of a configuration may simply have another value."""
        asks = self.asks_where is not None and self.asks_where.holds(config)
        return self.on_resume == "free" and not asks

    @property
    def is_list(self) -> bool:
        """Whether it holds a tuple."""
        return typing.get_origin(self.kind) is tuple

    @property
    def element(self) -> type:
        """The type of a value, or of a list's elements."""
        return typing.get_args(self.kind)[0] if self.is_list else self.kind

    @property
    def kind_words(self) -> str:
        """Its type in words."""
        noun = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}
        if self.is_list:
            words = "texts" if self.has_escapes else "names"
            kind = {int: "whole numbers", float: "numbers"}.get(self.element, words)
            return f"a list of {kind}, separated by commas"
        return noun[self.kind]

    def example(self) -> str:
        """A value as one would type it."""
        if self.choices:
            return self.choices[0]
        if self.default is not None and self.element is int and self.is_list:
            # One number fits every team.
            return str(self.default[0])
        if self.has_escapes:
            return "###"
        if self.default is not None:
            return as_text(self.default) or "NAME"
        return {int: "64", float: "1.0"}.get(self.element, "NAME")


def field(
    default: Any,
    help: str,
    *,
    none_means: str = "",
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    infinite: bool = False,
    choices: Sequence[str] = (),
    extensible: bool = False,
    applies: Condition | None = None,
    on_resume: OnResume = "asks",
    lower_for: Mapping[str, int] | None = None,
    is_path: bool = False,
    is_mapping: bool = False,
    has_escapes: bool = False,
    one_for_all: bool = False,
    asks_where: Condition | None = None,
) -> Any:
    """Declares a field of a section; see `Field` for the arguments."""
    facts = {
        "help": help,
        "none_means": none_means,
        "limits": Limits(at_least, above, at_most, below, infinite),
        "choices": tuple(choices),
        "extensible": extensible,
        "applies": applies,
        "on_resume": on_resume,
        "lower_for": dict(lower_for or {}),
        "is_path": is_path,
        "is_mapping": is_mapping,
        "has_escapes": has_escapes,
        "one_for_all": one_for_all,
        "asks_where": asks_where,
    }
    return dataclasses.field(default=default, metadata=facts)


def fields_of(section: type, prefix: str = "") -> Iterator[Field]:
    """The fields of a dataclass and of its sections, in the order of their declaration."""
    for entry in dataclasses.fields(section):
        name = prefix + entry.name
        if dataclasses.is_dataclass(entry.type):
            assert isinstance(entry.type, type)
            yield from fields_of(entry.type, f"{name}.")
            continue
        kinds = [kind for kind in typing.get_args(entry.type) if kind is not type(None)]
        optional = type(None) in typing.get_args(entry.type)
        kind = kinds[0] if optional else entry.type
        yield Field(name, kind, optional, entry.default, **entry.metadata)


def as_text(value: Any) -> str:
    """A value as one types it on the command line.

    Example:
      >>> as_text(("tiny", "a/b")), as_text((18, 22)), as_text(0.5)
      ('tiny,a/b', '18,22', '0.5')
    """
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def value_text(entry: Field, value: Any) -> str:
    """A value of a field as one types it on the command line."""
    if not entry.has_escapes:
        return as_text(value)
    return ",".join(map(_escape, value))


def _escape(text: str) -> str:
    for letter, escaped in _ESCAPES.items():
        if letter != " ":
            text = text.replace(letter, escaped)
    # Blanks are dropped at the ends alone.
    inner = text.strip(" ")
    before, _, after = text.partition(inner) if inner else (text, "", "")
    return before.replace(" ", "\\ ") + inner + after.replace(" ", "\\ ")


def from_text(entry: Field, text: str) -> Any:
    """The value that a text on the command line stands for; "None" gives back the default.

    Raises:
      InputError: it is not of the field's type.
    """
    if text == "None":
        return entry.default
    if entry.has_escapes:
        return tuple(_split_escaped(entry, text))
    if entry.is_list:
        return convert(entry, text)
    try:
        if entry.kind is bool:
            return _as_bool(text)
        return entry.kind(text)
    except ValueError as error:
        raise _wrong_type(entry, text) from error


def _as_bool(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)


def convert(entry: Field, value: Any) -> Any:
    """A value as the field holds it: a list as a tuple, numbers as floats, ``~`` expanded.

    Raises:
      InputError: it is not of the field's type.
    """
    if value is None:
        return entry.default
    if entry.is_list:
        return tuple(_convert_element(entry, item) for item in _as_list(entry, value))
    return _convert_element(entry, value)


def _convert_element(entry: Field, value: Any) -> Any:
    kind = entry.element
    if kind is float and type(value) is int:
        try:
            return float(value)
        except OverflowError as error:
            raise _wrong_type(entry, value) from error
    if type(value) is not kind:
        raise _wrong_type(entry, value)
    return expand_home(value) if entry.is_path else value


def _as_list(entry: Field, value: Any) -> list:
    """The elements of a list, or of its text: separated by commas, empty where it is empty. One
    text alone is an element where any text can be one.
    """
    if isinstance(value, list | tuple):
        return list(value)
    if entry.is_mapping and isinstance(value, Mapping):
        texts = {name: "" if text is None else text for name, text in value.items()}
        if all(isinstance(text, str) for text in texts.values()):
            return [f"{name}={text}" for name, text in texts.items()]
    if not isinstance(value, str):
        return [value]
    if len(value) > _LONGEST_LIST:
        raise _wrong_type(entry, value)
    if entry.has_escapes:
        return [value] if value else []
    text = value.strip()
    if entry.element is float and text[:1] + text[-1:] in ("()", "[]"):
        # A pair of numbers is often written so.
        text = text[1:-1].strip()
    if not text:
        return []
    parts = _split_paths(text) if entry.is_path else [part.strip() for part in text.split(",")]
    if "" in parts or _has_brackets(text):
        raise _wrong_type(entry, value)
    if entry.element is str:
        return parts
    try:
        return list(chain.from_iterable(_repeated(entry, part) for part in parts))
    except ValueError as error:
        raise _wrong_type(entry, value) from error


def _repeated(entry: Field, text: str) -> list:
    """The numbers that a part of a list stands for: ``18``, or ``18*5``, which is five times 18."""
    number, star, count = text.partition("*")
    times = int(count) if star else 1
    if not 1 <= times <= _MOST_REPEATS:
        raise ValueError(text)
    return [entry.element(number)] * times


def _split_escaped(entry: Field, text: str) -> list[str]:
    """The texts in a list with escapes; blanks around a text are dropped unless escaped."""
    if not text:
        return []
    if len(text) > _LONGEST_LIST:
        raise _wrong_type(entry, text)
    if _QUOTED_LIST.fullmatch(text.strip()):
        raise InputError(
            entry.name,
            f"received {text!r:.80}; leave out brackets and quotes: type the texts alone, with "
            "commas between them",
        )
    parts: list[list[str]] = [[]]
    for piece in re.findall(r"\\.?|[^\\]", text, re.DOTALL):
        if piece == ",":
            parts.append([])
        else:
            parts[-1].append(piece)

    letters = {escaped: letter for letter, escaped in _ESCAPES.items()}
    texts = []
    for pieces in parts:
        while pieces and pieces[0] == " ":
            del pieces[0]
        while pieces and pieces[-1] == " ":
            del pieces[-1]
        for piece in pieces:
            if piece.startswith("\\") and piece not in letters:
                raise InputError(
                    entry.name,
                    f"received {text!r:.80}, and {piece} means nothing; type \\\\ for a backslash, "
                    "\\n for a line break, \\t for a tab, and \\, for a comma",
                )
        texts.append("".join(letters.get(piece, piece) for piece in pieces))
    if "" in texts:
        raise InputError(
            entry.name,
            f"received {text!r:.80}, where a text is empty; leave it out, or type \\, for a comma "
            "and a backslash before a blank",
        )
    return texts


def _has_brackets(text: str) -> bool:
    """Whether a text is a list as Python writes it."""
    return text[0] + text[-1] in ("()", "[]") and not path_exists(text)


def _split_paths(text: str) -> list[str]:
    """The names in a list, of which some may be files with commas in their names."""
    parts = text.split(",")
    paths = []
    while parts:
        taken = 1
        for count in range(2, min(len(parts), _MOST_PARTS) + 1):
            if path_exists(",".join(parts[:count]).strip()):
                taken = count
        paths.append(",".join(parts[:taken]).strip())
        parts = parts[taken:]
    return paths


def path_exists(name: str) -> bool:
    """Whether a name is a path that exists, alone or behind a label: ``label=PATH``.

    The path may also be a pattern that matches files, or a folder with a split, ``PATH#SPLIT``.
    """
    label, equals, path = name.partition("=")
    # A label holds none of the marks that separate names or folders.
    is_labelled = bool(equals) and not set(label) & set("/+,")
    return _names_path(name) or (is_labelled and _names_path(path))


def _names_path(name: str) -> bool:
    path = os.path.expanduser(name)
    folder, mark, split = path.rpartition("#")
    has_split = bool(mark) and not set(split) & set("/,")
    try:
        if os.path.exists(path) or (has_split and os.path.isdir(folder)):
            return True
        return glob.has_magic(path) and any(glob.iglob(path, recursive=True))
    except ValueError:
        # A null character, or letters that no file name can have.
        return False


def expand_home(path: str) -> str:
    """``~/a`` and ``label=~/a`` with the home directory in place of ``~``."""
    label, equals, rest = path.partition("=")
    if equals and rest.startswith("~") and not path.startswith("~"):
        return f"{label}={os.path.expanduser(rest)}"
    return os.path.expanduser(path)


def _wrong_type(entry: Field, value: Any) -> InputError:
    example = f"--config.{entry.name}={_as_typed(entry, value)}"
    return InputError(
        entry.name, f"must be {entry.kind_words}, received {value!r:.80}; type {example:.100}"
    )


def _as_typed(entry: Field, value: Any) -> str:
    """A list in another spelling, such as ``(18, 22)``, as it is typed; else an example."""
    if entry.has_escapes:
        return entry.example()
    if not (entry.is_list and isinstance(value, str) and len(value) <= _LONGEST_LIST):
        return entry.example()
    parts = [part.strip(" ()[]'\"") for part in value.split(",")]
    parts = [part for part in parts if part]
    readable = entry.element is str or all(part.isdecimal() for part in parts)
    return ",".join(parts) if parts and readable else entry.example()


def check_value(entry: Field, value: Any) -> None:
    """Checks range and choices of a value that has its type.

    Raises:
      InputError: it is out of range or unknown.
    """
    if value is None:
        return
    elements = value if entry.is_list else (value,)
    default = f"the default is {as_text(entry.default)}"
    for element in elements:
        if element == "" and not entry.choices:
            raise InputError(
                entry.name, f"holds an empty text; type --config.{entry.name}={entry.example()}"
            )
        if isinstance(element, int | float) and not isinstance(element, bool):
            _check_magnitude(entry, element)
            if not entry.limits.contain(element):
                message = f"must be {entry.limits.words}, received {as_text(value):.80}; {default}"
                raise InputError(entry.name, message)
    if entry.choices and not entry.extensible and value not in entry.choices:
        known = ", ".join(entry.choices)
        raise InputError(entry.name, f"{value!r:.80} is unknown; use one of {known}")


def _check_magnitude(entry: Field, value: int | float) -> None:
    """Devices hold numbers in 32 bits."""
    if value == math.inf and entry.limits.infinite:
        return
    power = 31 if isinstance(value, int) else 127
    if value != value or abs(value) >= 2**power:
        kind = "a finite number" if isinstance(value, float) else "a whole number"
        raise InputError(
            entry.name,
            f"must be {kind} below 2**{power}, received {value!r:.40}; "
            f"the default is {as_text(entry.default)}",
        )


# --- descriptions ---------------------------------------------------------------------------------


def allowed_words(entry: Field) -> str:
    """Allowed values in words."""
    if entry.kind is bool:
        return "True or False"
    if entry.choices:
        return f"one of {', '.join(entry.choices)}"
    if not entry.limits.words:
        return entry.kind_words
    each = "each " if entry.is_list else ""
    return f"{entry.kind_words}, {each}{entry.limits.words}"


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def help_entry(entry: Field, default: str) -> str:
    """The lines of `--help` about a field."""
    sentences = [f"{_capitalized(entry.help)}.", f"{_capitalized(allowed_words(entry))}."]
    if entry.none_means:
        sentences.append(f"None: {entry.none_means}.")
    if entry.applies is not None:
        sentences.append(f"Applies only with {entry.applies.words}.")
    body = textwrap.fill(" ".join(sentences), 96, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return f"  --config.{entry.name}={default}\n{body}"


def table_row(entry: Field) -> str:
    """The line of docs/configuration.md about a field."""
    default = as_text(entry.default) or '""'
    meaning = entry.help + (f" (None: {entry.none_means})" if entry.none_means else "")
    applies = "always" if entry.applies is None else f"with {entry.applies.words}"
    cells = (f"`{entry.name}`", f"`{default}`", meaning, allowed_words(entry), applies)
    may_change = ON_RESUME[entry.on_resume]
    if entry.asks_where is not None:
        may_change += f"; {ON_RESUME['asks']} where {entry.asks_where.words}"
    escaped = [cell.replace("|", r"\|") for cell in (*cells, may_change)]
    return "| " + " | ".join(escaped) + " |"
