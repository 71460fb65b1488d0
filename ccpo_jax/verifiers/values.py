"""What reward functions return, as plain numbers and answer classes."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

# Bounds on what a function may return: an answer class in characters and depth, and the further
# numbers of a dict.
_MOST_CHARS = 2000
_MOST_DEPTH = 4
_MOST_MEMBERS = 100
_MOST_PARTS = 16
_LONGEST_PART = 40


class Returned(NamedTuple):
    """What a function says about one text.

    Attributes:
      score: as it gave it; None = it does not apply to the text.
      answer_class: () = it names none; (None,) = the text answers nothing; (value,) = the class.
      parts: further numbers by name.
    """

    score: float | None
    answer_class: tuple[Hashable, ...] = ()
    parts: tuple[tuple[str, float], ...] = ()


def read_score(value: Any) -> Returned:
    """What `score(answer, problem)` returned: a number, or a number and the answer's class.

    Raises:
      TypeError, ValueError: it is neither.
    """
    if isinstance(value, tuple):
        if len(value) != 2:
            raise TypeError(
                f"returned a tuple of {len(value)}; return the score, or (score, answer class)"
            )
        return Returned(as_number(value[0]), (as_class(value[1]),))
    return Returned(as_number(value))


def read_verl(value: Any) -> Returned:
    """What verl's `compute_score` returned: a number, or a dict with a "score".

    Raises:
      TypeError, ValueError: it is neither.
    """
    if not isinstance(value, Mapping):
        return Returned(as_number(value))
    if "score" not in value:
        raise ValueError('returned a dict without "score"')
    answer_class = (as_class(value["pred"]),) if "pred" in value else ()
    parts: list[tuple[str, float]] = []
    for key, number in value.items():
        if key in ("score", "pred") or not isinstance(key, str) or len(parts) == _MOST_PARTS:
            continue
        try:
            parts.append((key[:_LONGEST_PART], as_number(number)))
        except (TypeError, ValueError):
            # Texts and lists are notes for a log of verl's.
            continue
    return Returned(as_number(value["score"]), answer_class, tuple(parts))


def read_list(value: Any, count: int) -> list[Returned]:
    """What TRL's function returned: for each completion a number, or None where it does not apply.

    Raises:
      TypeError, ValueError: it is no list, or of another length.
    """
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__len__"):
        raise TypeError(f"returned {_shown(value)}; return a list with a score for each completion")
    if len(value) != count:
        raise ValueError(f"returned {len(value)} scores for {count} completions")
    return [Returned(None if score is None else as_number(score)) for score in value]


def as_number(value: Any) -> float:
    """A score as a float: of a bool, an int, a float, or a scalar of numpy or torch.

    Raises:
      TypeError, ValueError: it is no number, or not finite.
    """
    if type(value) is float:
        number = value
    elif value is None:
        raise TypeError("returned None, not a number")
    elif isinstance(value, str | bytes | bytearray):
        raise TypeError(f"returned text, {_shown(value)}, not a number")
    else:
        try:
            number = float(value)
        except Exception as error:
            raise TypeError(f"returned {_shown(value)}, not a number") from error
    if not math.isfinite(number):
        raise ValueError(f"returned {number}, not a finite number")
    return number


def as_class(value: Any) -> Hashable:
    """An answer class as plain data: text, numbers, and tuples or frozensets of them; None where
    it is None or blank.

    Raises:
      TypeError, ValueError: it is something else, or too large.
    """
    plain = _plain(value, _MOST_DEPTH)
    if isinstance(plain, str) and not plain.strip():
        # Nothing was found in the text.
        return None
    if len(repr(plain)) > _MOST_CHARS:
        raise ValueError(f"returned an answer class of more than {_MOST_CHARS} characters")
    return plain


def _plain(value: Any, depth: int) -> Hashable:
    """The value without types that another process may not know."""
    # Exact types: what a subclass of str does when it is compared is not known.
    if value is None or type(value) in (bool, int, str, bytes):
        if isinstance(value, str | bytes) and len(value) > _MOST_CHARS:
            raise ValueError(f"returned an answer class of more than {_MOST_CHARS} characters")
        if type(value) is int and value.bit_length() > 4 * _MOST_CHARS:
            raise ValueError("returned an answer class with too many digits")
        return value
    if type(value) is float:
        # NaN equals nothing, not even itself.
        return value if value == value else "nan"
    if isinstance(value, tuple | frozenset) and depth:
        if len(value) > _MOST_MEMBERS:
            raise ValueError(f"returned an answer class of more than {_MOST_MEMBERS} members")
        members = tuple(_plain(member, depth - 1) for member in value)
        return frozenset(members) if isinstance(value, frozenset) else members
    if isinstance(value, str):
        return _plain(str.__str__(value), depth)
    scalar = getattr(value, "item", None)
    if callable(scalar) and depth:
        # A scalar of numpy or torch.
        return _plain(scalar(), 0)
    raise TypeError(
        f"returned an answer class of type {type(value).__name__}; return text, a number or a "
        "tuple of them"
    )


def _shown(value: Any) -> str:
    """A value in an error message: any object, whose own words may fail."""
    if isinstance(value, str | bytes):
        return repr(value[:60])
    if isinstance(value, Sequence | Mapping):
        return f"a {type(value).__name__} of {len(value)}"
    return f"an object of type {type(value).__name__}"
