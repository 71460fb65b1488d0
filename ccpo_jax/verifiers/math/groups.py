"""Reads what stands in brackets: tuples, intervals, sets, matrices; and unions of such sets."""

from collections.abc import Callable, Sequence

from ccpo_jax.verifiers.math import reals
from ccpo_jax.verifiers.math.evaluation import as_float, number_key
from ccpo_jax.verifiers.math.items import Item, Unread
from ccpo_jax.verifiers.math.relations import real_number
from ccpo_jax.verifiers.math.splitting import close_of, split_at
from ccpo_jax.verifiers.math.tokens import Token

_BRACKETS = {"(": ")", "[": "]", r"\langle": r"\rangle", "<": ">"}
_MATRICES = frozenset(["pmatrix", "bmatrix", "matrix", "array", "smallmatrix", "Bmatrix"])
_MAX_MEMBERS = 100

Reader = Callable[[Sequence[Token]], Item]


def read_group(tokens: Sequence[Token], read: Reader, read_all: Callable) -> Item | None:
    """A tuple, an interval, a set or a matrix; None for brackets around an expression.

    Args:
      tokens: the group, from its first bracket to its last.
      read: reads one member.
      read_all: reads the members between commas, with two for each ``\\pm``.

    Raises:
      Unread: if it is none of these.
    """
    opening = tokens[0].text
    tokens, is_transposed = _without_transpose(tokens)
    if is_transposed:
        return _transposed(read_group(tokens, read, read_all))
    closing = tokens[-1].text
    if opening == r"\begin":
        return _matrix(tokens, read)
    inner = tokens[1:-1]
    is_matrix = len(inner) > 4 and inner[0].text == r"\begin" and inner[-4].text == r"\end"
    if is_matrix and closing in (")", "]"):
        return _matrix(inner, read)
    if opening == r"\{":
        if closing != r"\}" or close_of(tokens, 0) != len(tokens) - 1:
            return None
        return _set(inner, read_all)
    if close_of_pair(tokens) != len(tokens) - 1:
        return None
    parts, _ = split_at(inner, lambda token: token.text in (",", ";"))
    if len(parts) < 2 or len(parts) > _MAX_MEMBERS:
        return None
    items = tuple(read(part) for part in parts)
    if opening in (r"\langle", "<"):
        return tuple_of(items)
    interval = _interval(items, opening, closing)
    if interval is not None:
        return interval
    if opening + closing == "()":
        return tuple_of(items)
    return _bracketed(items, opening + closing)


def _transposed(item: Item | None) -> Item | None:
    """A row, or a tuple, as the column that its transpose is; None for all others."""
    if item is None or not item.items or (item.kind == "matrix" and item.name[:2] != "1x"):
        return None
    return tuple_of(item.items)


def _without_transpose(tokens: Sequence[Token]) -> tuple[Sequence[Token], bool]:
    """A group without the sign of a transpose behind it."""
    texts = [token.text for token in tokens]
    for sign in (["^", "T"], ["^", "{", "T", "}"], ["^", r"\top"], ["^", "{", r"\top", "}"]):
        if len(texts) > len(sign) and texts[-len(sign) :] == sign:
            return tokens[: -len(sign)], True
    return tokens, False


def close_of_pair(tokens: Sequence[Token]) -> int | None:
    """Where the first bracket closes; a pair of angles may be written as < and >."""
    if tokens[0].text == "<":
        return len(tokens) - 1 if tokens[-1].text == ">" else None
    return close_of(tokens, 0)


def tuple_of(items: tuple[Item, ...]) -> Item:
    """A tuple, a point or a vector."""
    return Item("tuple", _values("tuple", items), items=items, name="()")


def _bracketed(items: tuple[Item, ...], brackets: str) -> Item:
    """Members in square brackets, or an interval between bounds that are no numbers."""
    return Item("bracketed", _values(brackets, items), items=items, name=brackets)


def _values(head: str, items: tuple[Item, ...]) -> tuple | None:
    values = tuple(item.value for item in items)
    return None if None in values else (head, *values)


def _interval(items: tuple[Item, ...], opening: str, closing: str) -> Item | None:
    """The interval between two numbers in order; it may also be meant as a pair."""
    if len(items) != 2 or opening not in "([" or closing not in ")]":
        return None
    low, high = (real_number(item) for item in items)
    if low is None or high is None or as_float(low) > as_float(high):
        return None
    if number_key(low) == number_key(high) and opening + closing != "[]":
        return None
    interval = reals.Interval(low, opening == "[", high, closing == "]")
    value = reals.key((interval,))
    return Item("reals", value, items=items, name="", intervals=(interval,))


def _set(inner: Sequence[Token], read_all: Callable) -> Item:
    """A set of members, or of all numbers with a property."""
    if not inner:
        return Item("set", ("set", ()))
    parts, dividers = split_at(inner, lambda token: token.text in ("|", ":"))
    if len(dividers) == 1 and all(parts):
        return _set_builder(parts[0], parts[1], read_all)
    items = read_all(inner)
    values = {item.value for item in items}
    value = None if None in values else ("set", tuple(sorted(values, key=repr)))
    return Item("set", value, items=tuple(items))


def _set_builder(member: Sequence[Token], condition: Sequence[Token], read_all: Callable) -> Item:
    """{x | x > 2} is what its condition bounds."""
    items = read_all(condition)
    if len(items) == 1 and items[0].kind == "reals":
        return items[0]._replace(name="")
    name = "".join(token.text for token in member)
    values = tuple(item.value for item in items)
    return Item("relation", None if None in values else ("builder", name, *values))


def _matrix(tokens: Sequence[Token], read: Reader) -> Item:
    """A matrix; one of a single column is a vector."""
    texts = [token.text for token in tokens]
    if texts[1] != "{" or "}" not in texts or texts[2] not in _MATRICES:
        raise Unread("an unknown environment")
    start = texts.index("}") + 1
    if texts[2] == "array" and texts[start : start + 1] == ["{"]:
        start = texts.index("}", start) + 1
    if r"\end" not in texts or texts.index(r"\end") + 4 != len(texts):
        raise Unread("more than one matrix")
    body = tokens[start : texts.index(r"\end")]
    lines, _ = split_at(body, lambda token: token.text == r"\\")
    rows = []
    for line in lines:
        if line:
            cells, _ = split_at(line, lambda token: token.text == "&")
            rows.append([read(cell) for cell in cells])
    width = len(rows[0]) if rows else 0
    if not rows or any(len(row) != width for row in rows) or width * len(rows) > _MAX_MEMBERS:
        raise Unread("no matrix")
    items = tuple(item for row in rows for item in row)
    if width == 1 and len(rows) > 1:
        return tuple_of(items)._replace(name="vector")
    return Item(
        "matrix", _values(f"{len(rows)}x{width}", items), items=items, name=f"{len(rows)}x{width}"
    )


def read_combination(tokens: Sequence[Token], read: Reader) -> Item | None:
    r"""A union, an intersection or a difference of sets, or a set that has a name."""
    texts = [token.text for token in tokens]
    if texts == [r"\emptyset"]:
        return Item("set", ("set", ()))
    named = "".join(text for text in texts if text not in ("{", "}", "(", ")"))
    if named == r"\mathbbR":
        return _reals((reals.everything(),))
    if texts[:1] == [r"\mathbb"] and len(named) == len(r"\mathbb") + 1:
        return Item("relation", ("numbers", named[-1]))
    parts, signs = split_at(
        tokens, lambda token: token.text in (r"\cup", r"\cap", "U", r"\setminus", "-")
    )
    operators = {r"\cup" if sign.text == "U" else sign.text for sign in signs}
    if not signs or not all(parts) or len(operators) != 1:
        return None
    items = [read(part) for part in parts]
    operator = operators.pop()
    if operator in (r"\setminus", "-"):
        return _difference(items)
    unions = [_intervals_of(item) for item in items]
    if operator == r"\cup" and all(union is not None for union in unions):
        return _reals(reals.union(interval for union in unions for interval in union or ()))
    if operator == r"\cap" and all(union is not None for union in unions):
        shared = unions[0] or ()
        for union in unions[1:]:
            shared = reals.intersection(shared, union or ())
        return _reals(shared)
    values = {item.value for item in items}
    value = None if None in values else (operator, *sorted(values, key=repr))
    return Item("relation", value)


def _difference(items: list[Item]) -> Item | None:
    whole = _intervals_of(items[0])
    if whole is None or len(items) != 2 or items[1].kind != "set":
        return None
    points = [real_number(item) for item in items[1].items]
    if any(point is None for point in points):
        return None
    return _reals(reals.without(whole, points))


def _intervals_of(item: Item) -> tuple[reals.Interval, ...] | None:
    """The intervals of a set of real numbers, or its numbers as intervals; None for others."""
    if item.kind == "reals":
        return item.intervals
    if item.kind != "set" or item.value is None:
        return None
    points = [real_number(member) for member in item.items]
    if any(point is None for point in points):
        return None
    return tuple(reals.Interval(point, True, point, True) for point in points)


def _reals(intervals: tuple[reals.Interval, ...]) -> Item:
    return Item("reals", reals.key(intervals), intervals=intervals)
