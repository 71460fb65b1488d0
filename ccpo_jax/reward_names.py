"""What `verifier.name` says: a verifier, a function of the user's, or a weighted sum of several."""

import math
import os
import pathlib
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ccpo_jax.errors import InputError
from ccpo_jax.fields import OBJECT
from ccpo_jax.references import real_path, split_reference

# The verifier that each problem's data asks for.
AUTO = "auto"

# Verifiers of the package, without importing them; a test compares.
BUILT_IN = ("math", "choice", "exact")

_MOST_TERMS = 16
_LONGEST = 4000

# A plus between two terms, not the one of an exponent, 1e+2.
_PLUS = re.compile(r"(?<!\d[eE])\+|\+(?!\d)")

_NAME = re.compile(r"[^\W\d]\w*")
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class Term(NamedTuple):
    """One term of a weighted sum.

    Attributes:
      weight: what its score is multiplied by.
      name: `AUTO`, the name of a verifier, a reference, ``FILE.py:NAME`` or
        ``package.module:NAME``, or the name of a function that a Python program gives.
      label: the name of its metric; no two terms of a sum share one.
    """

    weight: float
    name: str
    label: str

    @property
    def is_object(self) -> bool:
        """Whether it is a function that a Python program gives."""
        return self.name.startswith(OBJECT)

    @property
    def is_reference(self) -> bool:
        """Whether it is a function in a file or module."""
        return ":" in self.name and not self.is_object


def parse_reward(text: str, field: str = "verifier.name") -> tuple[Term, ...]:
    """The terms of a weighted sum, one where it is no sum. Loads nothing.

    Args:
      text: as typed: ``math``, ``my.py:score`` or ``0.9*math + 0.1*my.py:form``.
      field: the configuration field that holds it, for errors.

    Raises:
      InputError: a weight is no number, a term is empty, comes twice or names no function.

    Example:
      >>> [(term.weight, term.label) for term in parse_reward("0.9*math + 0.1*my.py:form")]
      [(0.9, 'math'), (0.1, 'form')]
    """
    if len(text) > _LONGEST:
        raise InputError(field, f"{text[:40]!r}... is longer than {_LONGEST} characters")
    pieces = _split_sum(text)
    if len(pieces) > _MOST_TERMS:
        raise InputError(field, f"a sum of {len(pieces)} terms; type at most {_MOST_TERMS}")
    weighted = [_weight_and_name(piece.strip(), text, field) for piece in pieces]

    names = [name for _, name in weighted]
    for name, count in Counter(map(_identity, names)).items():
        if count > 1:
            raise InputError(
                field,
                f"{name!r:.200} comes {count} times in the sum; type it once, with one weight",
            )
    labels = _labels(names, field)
    return tuple(
        Term(weight, name, label) for (weight, name), label in zip(weighted, labels, strict=True)
    )


def is_plain(terms: tuple[Term, ...]) -> bool:
    """Whether it is no sum: one term that counts as it is."""
    return len(terms) == 1 and terms[0].weight == 1


def may_be_fraction(text: str) -> bool:
    """Whether scores may be other than 0 and 1: it is no verifier of the package alone."""
    return text.strip() not in (AUTO, *BUILT_IN)


def may_call_functions(text: str) -> bool:
    """Whether functions of the user's may be called. A name that the package does not know may be
    one's.
    """
    names = _names(text)
    return names is None or any(name not in (AUTO, *BUILT_IN) for name in names)


def may_use_verifiers(text: str) -> bool:
    """Whether a verifier may be used, and not functions of the user's alone."""
    names = _names(text)
    return names is None or any(":" not in name for name in names)


def data_verifier(text: str) -> str:
    """The verifier that all problems have to suit: the first of the package's, `AUTO` where none is
    named.

    Raises:
      InputError: as `parse_reward`.

    Example:
      >>> data_verifier("0.9*exact + 0.1*my.py:form"), data_verifier("my.py:score")
      ('exact', 'auto')
    """
    names = [term.name for term in parse_reward(text) if term.name in BUILT_IN]
    return names[0] if names else AUTO


def _names(text: str) -> list[str] | None:
    """The names of the terms; None where they cannot be read."""
    try:
        return [term.name for term in parse_reward(text)]
    except InputError:
        return None


def check_range(limits: Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest score of `verifier.range`.

    Raises:
      InputError: they are not two finite numbers in order.
    """
    numbers = tuple(limits)
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)) or numbers[0] >= numbers[1]:
        shown = ",".join(f"{number:g}" for number in numbers)
        raise InputError(
            "verifier.range",
            f"must be the lowest and the highest score, received {shown:.80}; type "
            "--config.verifier.range=0,1",
        )
    return numbers


def files_of(text: str) -> list[str]:
    """The paths of the files that it names, as typed.

    Raises:
      InputError: as `parse_reward`.
    """
    references = [split_reference(term.name) for term in parse_reward(text) if term.is_reference]
    return [reference.module for reference in references if reference.is_file]


def _split_sum(text: str) -> list[str]:
    """The terms between the plus signs, of which some may be paths that contain one."""
    borders = [match.start() for match in _PLUS.finditer(text)]
    pieces: list[str] = []
    start = 0
    while True:
        ends = [border for border in borders if border >= start][:_MOST_TERMS]
        end = ends[0] if ends else len(text)
        # The longest text that names a file is one term.
        for longer in (*ends[1:], len(text)):
            if _names_file(_without_weight(text[start:longer])):
                end = longer
        pieces.append(text[start:end])
        if end == len(text):
            return pieces
        start = end + 1


def _weight_and_name(piece: str, text: str, field: str) -> tuple[float, str]:
    """The weight of a term, 1 where it has none, and its name."""
    if not piece:
        where = "is empty" if not text.strip() else f"{text!r:.200} has an empty term"
        raise InputError(
            field, f"{where}; type --config.{field}=auto, or 0.9*math + 0.1*FILE.py:NAME"
        )
    weight = 1.0
    name = piece
    if "*" in piece and not _names_file(piece):
        factor, _, name = piece.partition("*")
        name = name.strip()
        try:
            weight = float(factor)
        except ValueError as error:
            raise InputError(
                field,
                f"the weight {factor.strip()!r:.80} in {piece!r:.200} is not a number; type "
                f"{_meant_by(factor.strip(), name, piece):.200}",
            ) from error
        if not math.isfinite(weight):
            raise InputError(
                field, f"the weight {factor.strip()!r:.80} is not finite; type 0.5*{name:.200}"
            )
    _check_name(name, field)
    return weight, name


def _meant_by(factor: str, name: str, piece: str) -> str:
    """The term that was probably meant, where the weight is not a number."""
    if re.fullmatch(r"[\d.]+", name):
        return f"{name}*{factor}"
    if " - " in factor:
        return piece.replace(" - ", " + -")
    return f"0.5*{name}"


def _check_name(name: str, field: str) -> None:
    """Checks that a name is written as one of a verifier or a function."""
    reference = split_reference(name)
    if _NAME.fullmatch(name) or (reference.module and _DOTTED.fullmatch(reference.name)):
        return
    if (reference.is_file and not reference.name) or re.fullmatch(r"[\w.]+", name):
        raise InputError(field, f"{name!r:.200} names no function; type {name:.200}:NAME")
    raise InputError(
        field,
        f"{name!r:.200} is neither a verifier nor a function; type auto, {', '.join(BUILT_IN)}, "
        "FILE.py:NAME or package.module:NAME",
    )


def _labels(names: list[str], field: str) -> list[str]:
    """A name for the metric of each term: the function's, with its file's where two share it."""
    labels = [split_reference(name).name if ":" in name else name for name in names]
    counts = Counter(labels)
    for index, name in enumerate(names):
        if ":" in name and counts[labels[index]] > 1:
            reference = split_reference(name)
            labels[index] = f"{pathlib.PurePath(reference.module).stem}.{reference.name}"
    for label, count in Counter(labels).items():
        if count > 1:
            raise InputError(
                field,
                f"{count} terms of the sum would have the metric {label!r:.80}; give one of the "
                "functions another name",
            )
    return labels


def _identity(name: str) -> str:
    """What two spellings of one function share."""
    reference = split_reference(name)
    return f"{real_path(reference.module)}:{reference.name}" if reference.is_file else name


def _without_weight(piece: str) -> str:
    """A term without its weight, where that is a number."""
    factor, star, name = piece.partition("*")
    try:
        float(factor)
    except ValueError:
        return piece.strip()
    return name.strip() if star else piece.strip()


def _names_file(name: str) -> bool:
    """Whether a name refers to a file that exists."""
    reference = split_reference(name.strip())
    if not reference.is_file or not _DOTTED.fullmatch(reference.name):
        return False
    return os.path.isfile(real_path(reference.module))
