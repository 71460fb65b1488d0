r"""Reads equations, inequalities and memberships: ``x = 5``, ``2 < x \le 5``, ``m \in [0, 1)``."""

from collections.abc import Callable, Sequence
from fractions import Fraction

from ccpo_jax.verifiers.math.evaluation import (
    Number,
    Undefined,
    as_float,
    difference_keys,
    differences,
    is_real,
    numeric,
    value_of,
)
from ccpo_jax.verifiers.math.expressions import CONSTANTS, Node, symbols_of
from ccpo_jax.verifiers.math.inequalities import ORDER, read_inequality
from ccpo_jax.verifiers.math.items import Item, Unread
from ccpo_jax.verifiers.math.names import is_name
from ccpo_jax.verifiers.math.splitting import split_at
from ccpo_jax.verifiers.math.tokens import Token

_EQUAL = frozenset(["=", r"\approx"])

RELATIONS = frozenset([*_EQUAL, *ORDER, r"\ne", r"\in", r"\equiv"])


Reader = Callable[[Sequence[Token]], Item]


def read_relation(tokens: Sequence[Token], read: Reader) -> Item:
    """The item of a chain of relations.

    Args:
      tokens: the whole chain.
      read: reads a side of it.

    Raises:
      Unread: if it is no relation that is known.
    """
    sides, signs = split_at(tokens, lambda token: token.text in RELATIONS)
    operators = [sign.text for sign in signs]
    if not operators or not all(sides):
        raise Unread("no relation")
    if set(operators) <= _EQUAL:
        return _equality(sides, operators, read)
    if operators == [r"\equiv"]:
        return _congruence(sides, read)
    if operators == [r"\in"]:
        return _membership(sides, read)
    if operators == [r"\ne"] or set(operators) <= ORDER.keys():
        return read_inequality(sides, operators, read)
    raise Unread("an unknown chain of relations")


def _equality(sides: list[list[Token]], operators: list[str], read: Reader) -> Item:
    """An assignment, an equation, or a chain whose last exact side is the answer."""
    exact = 1
    while exact < len(sides) and operators[exact - 1] == "=":
        exact += 1
    approximation = None
    if exact < len(sides):
        approximation = read(sides[-1])
        if exact == 1 and is_name(sides[0]):
            # x \approx 11 says what x is.
            exact = len(sides)
        elif not all(_is_near_a_step(sides[:exact], read(side), read) for side in sides[exact:]):
            raise Unread("two answers with an approximate sign")
    exact_sides = sides[:exact]

    if len(exact_sides) == 2 and is_name(exact_sides[1]) and not is_name(exact_sides[0]):
        # 5 = x.
        exact_sides = exact_sides[::-1]
    if len(exact_sides) == 1:
        return read(exact_sides[0])._replace(approximation=approximation)
    if is_name(exact_sides[0]):
        return _assigned(exact_sides, approximation, read)
    items = [read(side) for side in exact_sides]
    nodes = [item.node for item in items]
    values = [_plain_value(item) for item in items]
    if all(value == values[0] and value is not None for value in values):
        # Steps of a calculation: the last one is the answer.
        return items[-1]._replace(approximation=approximation)
    if len(items) != 2 or nodes[0] is None or nodes[1] is None:
        raise Unread("an unknown equation")
    if not (symbols_of(nodes[0]) | symbols_of(nodes[1])) - CONSTANTS:
        # 4 = 3 states nothing.
        raise Unread("a false equation")
    value = _equation_value(nodes[0], nodes[1])
    return Item("relation", value, difference=_difference(nodes[0], nodes[1]))


def _is_near_a_step(steps: list[list[Token]], approximation: Item, read: Reader) -> bool:
    """Whether an approximation may be that of the last step, or of a number before it."""
    if is_near(read(steps[-1]), approximation):
        return True
    earlier = [read(step) for step in steps[:-1] if not is_name(step)]
    numbers = [item for item in earlier if real_number(item) is not None]
    return any(is_near(item, approximation) for item in numbers)


def is_near(item: Item, approximation: Item) -> bool:
    """Whether an approximation may be meant: 7 is not about 9, but 22/3 is about 7.3."""
    number, rounded = real_number(item), real_number(approximation)
    if number is None or rounded is None or approximation.node is None:
        return True
    if item.is_percent != approximation.is_percent or item.unit != approximation.unit:
        return True
    difference = abs(as_float(number) - as_float(rounded))
    if difference <= abs(as_float(number)) / 1000:
        return True
    node = approximation.node
    if node.kind == "negative":
        node = node.children[0]
    if node.kind != "number" or not isinstance(node.value, Fraction):
        return bool(difference <= abs(as_float(number)) / 20)
    if node.decimals is not None and node.decimals >= 0:
        return bool(difference * 10**node.decimals < 1)
    digits = str(node.value)
    zeros = len(digits) - len(digits.rstrip("0")) if node.value else 0
    return bool(difference <= 10**zeros / 2) if zeros else bool(difference < 1)


def _difference(left: Node, right: Node) -> Node:
    return Node("add", children=(left, Node("negative", children=(right,))))


def _plain_value(item: Item) -> tuple | None:
    """The value of a side; 56% is 0.56 here."""
    if not item.is_percent or item.node is None:
        return item.value if isinstance(item.value, tuple) else None
    hundred = Node("number", Fraction(100))
    return value_of(Node("divide", children=(item.node, hundred)))


def _assigned(sides: list[list[Token]], approximation: Item | None, read: Reader) -> Item:
    """``x = 5``, also with steps in between, ``x = 2 + 3 = 5``."""
    names = ["".join(token.text for token in side if token.text not in "{}") for side in sides]
    last = read(sides[-1])
    steps = [read(side) for side in sides[1:-1] if not is_name(side)]
    others = [step for step in steps if is_literal(step) and step.value != last.value]
    # Another number than the last is another answer, x = 4 = 3, unless a set-up gives the last.
    if others and not any(step.value == last.value for step in steps):
        raise Unread("two answers in one chain")
    equation, difference = _try_equation([sides[0], sides[-1]], read) or (None, None)
    value = None if last.value is None else ("assignment", names[0], last.value)
    if equation is not None:
        value = equation
    return Item(
        "assignment",
        value,
        items=(last,),
        name=names[0],
        approximation=approximation,
        difference=difference,
    )


def _try_equation(sides: list[list[Token]], read: Reader) -> tuple[tuple, Node] | None:
    """The canonical value and the difference of an equation of expressions, y = 2x + 3."""
    try:
        items = [read(side) for side in sides]
    except Unread:
        # A name such as P(A|B) is no expression.
        return None
    if any(item.node is None or item.unit or item.is_percent for item in items):
        return None
    nodes = [item.node for item in items if item.node is not None]
    if symbols_of(nodes[1]) <= CONSTANTS and nodes[0].kind != "symbol":
        return None
    try:
        value = _equation_value(nodes[0], nodes[1])
        return value, _difference(nodes[0], nodes[1])
    except Unread:
        return None


def is_literal(item: Item) -> bool:
    """Whether an item is a number that is written out: 4, 0.5, 2/3."""
    node = item.node
    if node is not None and node.kind == "negative":
        node = node.children[0]
    if node is None:
        return False
    if node.kind == "divide":
        return all(child.kind == "number" for child in node.children)
    return node.kind == "number"


def _equation_value(left: Node, right: Node) -> tuple:
    """Left minus right up to a factor: what equations that say the same share."""
    try:
        values = differences(left, right)
        if any(isinstance(value, Fraction) and value == 0 for value in values):
            raise Unread("an identity")
        return ("equation", *difference_keys(left, right))
    except Undefined as error:
        raise Unread(str(error)) from error


def _congruence(sides: list[list[Token]], read: Reader) -> Item:
    """A congruence: its sides and its modulus; of a name alone, what it is assigned."""
    left, right = (read(side) for side in sides)
    if right.unit is None or left.value is None or right.value is None:
        raise Unread("a congruence without a modulus")
    if is_name(sides[0]):
        name = sides[0][0].text
        value = ("congruence", name, right.value, right.unit.factor)
        return Item("assignment", value, items=(right,), name=name)
    return Item("relation", ("congruence", left.value, right.value, right.unit.factor))


def _membership(sides: list[list[Token]], read: Reader) -> Item:
    r"""``x \in [0, 1)`` bounds x; ``k \in \mathbb{Z}`` is a membership that equals itself."""
    name = "".join(token.text for token in sides[0])
    item = read(sides[1])
    if item.kind == "reals":
        return item._replace(name=name)
    if item.kind == "set" or item.intervals:
        return item
    value = None if item.value is None else ("member", name, item.value)
    return Item("relation", value)


def real_number(item: Item) -> Number | None:
    """The real number that an item is, else None."""
    if item.node is None:
        return None
    try:
        number = numeric(item.node)
    except Undefined:
        return None
    return number if is_real(number) else None
