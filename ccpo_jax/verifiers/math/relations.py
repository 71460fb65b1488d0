r"""Reads equations, inequalities and memberships: ``x = 5``, ``2 < x \le 5``, ``m \in [0, 1)``."""

from collections.abc import Callable, Sequence
from fractions import Fraction

from ccpo_jax.verifiers.math import reals
from ccpo_jax.verifiers.math.evaluation import (
    Number,
    Undefined,
    at_point,
    digits_key,
    is_close,
    is_real,
    numeric,
    value_of,
)
from ccpo_jax.verifiers.math.expressions import Node, symbols_of
from ccpo_jax.verifiers.math.items import Item, Unread
from ccpo_jax.verifiers.math.splitting import close_of, split_at
from ccpo_jax.verifiers.math.tokens import Token

_EQUAL = frozenset(["=", r"\approx"])
_ORDER = {"<": (False, 1), r"\le": (True, 1), ">": (False, -1), r"\ge": (True, -1)}
RELATIONS = frozenset([*_EQUAL, *_ORDER, r"\ne", r"\in", r"\equiv"])

# The points at which equations are compared.
_POINTS = (0, 1, 2)

_CONSTANTS = frozenset([r"\pi", "e", "i", r"\infty"])

# What an angle, a length or a probability is called.
_NAME_SIGNS = frozenset(
    [":", "(", ")", ",", "_", "{", "}", "'", "|", r"\angle", r"\triangle", r"\prime", "^"]
)
_ACCENTS = frozenset([r"\overline", r"\vec", r"\overrightarrow", r"\hat", r"\mathcal", r"\tilde"])

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
    if operators == [r"\ne"] or set(operators) <= _ORDER.keys():
        return _inequality(sides, operators, read)
    raise Unread("an unknown chain of relations")


def _equality(sides: list[list[Token]], operators: list[str], read: Reader) -> Item:
    """An assignment, an equation, or a chain whose last exact side is the answer."""
    exact = 1
    while exact < len(sides) and operators[exact - 1] == "=":
        exact += 1
    approximation = None
    if exact < len(sides):
        approximation = read(sides[-1])
        if exact == 1 and _is_name(sides[0]):
            # x \approx 11 says what x is.
            exact = len(sides)
    exact_sides = sides[:exact]

    if len(exact_sides) == 2 and _is_name(exact_sides[1]) and not _is_name(exact_sides[0]):
        # 5 = x.
        exact_sides = exact_sides[::-1]
    if len(exact_sides) == 1:
        return read(exact_sides[0])._replace(approximation=approximation)
    if _is_name(exact_sides[0]):
        return _assigned(exact_sides, approximation, read)
    items = [read(side) for side in exact_sides]
    nodes = [item.node for item in items]
    values = [_plain_value(item) for item in items]
    if all(value == values[0] and value is not None for value in values):
        # Steps of a calculation: the last one is the answer.
        return items[-1]._replace(approximation=approximation)
    if len(items) != 2 or nodes[0] is None or nodes[1] is None:
        raise Unread("an unknown equation")
    if not (symbols_of(nodes[0]) | symbols_of(nodes[1])) - _CONSTANTS:
        # 4 = 3 states nothing.
        raise Unread("a false equation")
    return Item("relation", _equation_value(nodes[0], nodes[1]))


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
    for side in sides[1:-1]:
        if _is_name(side):
            continue
        step = read(side)
        # Another number than the last is another answer: x = 4 = 3.
        if is_literal(step) and step.value != last.value:
            raise Unread("two answers in one chain")
    equation = None
    if len(sides) == 2:
        equation = _try_equation(sides, read)
    value = None if last.value is None else ("assignment", names[0], last.value)
    if equation is not None:
        value = equation
    return Item("assignment", value, items=(last,), name=names[0], approximation=approximation)


def _try_equation(sides: list[list[Token]], read: Reader) -> tuple | None:
    """The canonical value of an equation between expressions, such as y = 2x + 3."""
    items = [read(side) for side in sides]
    if any(item.node is None or item.unit or item.is_percent for item in items):
        return None
    nodes = [item.node for item in items if item.node is not None]
    if symbols_of(nodes[1]) <= _CONSTANTS and nodes[0].kind != "symbol":
        return None
    try:
        return _equation_value(nodes[0], nodes[1])
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


def _is_name(tokens: Sequence[Token]) -> bool:
    """Whether tokens name something: x, f(x), x_1, AB, an angle, (x, y), a word."""
    letters = [token for token in tokens if token.kind == "letters"]
    signs = [token for token in tokens if token.kind == "sign"]
    if any(token.kind == "number" for token in tokens) and tokens[0].kind == "number":
        return False
    if [token.text for token in tokens[1:5]] == ["^", "{", "-", "1"] and letters[:1] == tokens[:1]:
        # f^{-1}(x).
        return len(tokens) > 6 and tokens[6].text == "("
    if any(
        sign.text not in _NAME_SIGNS | _ACCENTS | {"/", r"\frac"} and sign.text not in _GREEK
        for sign in signs
    ):
        return False
    if tokens[0].text == r"\frac" or any(sign.text == "/" for sign in signs):
        # NO/BO: a ratio of lengths.
        return bool(letters) and all(_is_length(letter) for letter in letters)
    if not letters:
        return len(tokens) == 1 and tokens[0].text in _GREEK
    if all(letter.in_text for letter in letters):
        return True
    if all(token.kind == "letters" or token.text == ":" for token in tokens) and len(signs) > 0:
        # x:y = 1:3.
        return all(len(letter.text) == 1 or letter.text.isupper() for letter in letters)
    if tokens[0].text == "m" and len(tokens) > 1 and tokens[1].text == r"\angle":
        # The measure of an angle.
        return True
    if len(letters) == 1 and len(letters[0].text) == 1:
        # x, x_1 and x', not 2x and not x^2.
        is_index = len(tokens) == 1 or tokens[1].text in ("_", "'", "(")
        return tokens[0] == letters[0] and is_index and "^" not in [t.text for t in tokens]
    if tokens[0].text == "(" and close_of(tokens, 0) == len(tokens) - 1:
        return any(token.text == "," for token in tokens)
    if len(letters) > 1 and tokens[0] == letters[0] and len(letters[0].text) == 1:
        # f(x), P(A): an application; x_a; not x y.
        return tokens[1].text in ("(", "_", "'")
    if tokens[0].kind == "letters" and len(letters) > 1:
        return False
    # AB, \angle ABC, \overline{AB}; a lower-case run is a product: xy.
    return (
        all(letter.text.isupper() or len(letter.text) == 1 for letter in letters)
        and (tokens[0].kind == "sign" or tokens[0].text.isupper())
        and tokens[0].kind != "number"
    )


def _is_length(token: Token) -> bool:
    return len(token.text) == 2 and token.text.isupper()


_GREEK = frozenset(
    rf"\{name}"
    for name in """alpha beta gamma delta epsilon theta lambda mu rho sigma tau phi psi omega Delta
    Omega Phi Theta eta zeta kappa nu xi chi""".split()
)


def _equation_value(left: Node, right: Node) -> tuple:
    """Left minus right up to a factor: what equations that say the same share."""
    values = _differences(left, right)
    first = values[0]
    if any(isinstance(value, Fraction) and value == 0 for value in values):
        raise Unread("an identity")
    ratios = [digits_key(value / first) for value in values[1:]]
    return ("equation", *ratios)


def _differences(left: Node, right: Node) -> list[Number]:
    """Left minus right at the points."""
    difference = Node("add", children=(left, Node("negative", children=(right,))))
    try:
        return [at_point(difference, point) for point in _POINTS]
    except Undefined as error:
        raise Unread(str(error)) from error


def _congruence(sides: list[list[Token]], read: Reader) -> Item:
    """A congruence: its sides and its modulus; of a name alone, what it is assigned."""
    left, right = (read(side) for side in sides)
    if right.unit is None or left.value is None or right.value is None:
        raise Unread("a congruence without a modulus")
    if _is_name(sides[0]):
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


def _inequality(sides: list[list[Token]], operators: list[str], read: Reader) -> Item:
    """Bounds on one unknown, or a chain that is compared side by side."""
    items = [read(side) for side in sides]
    nodes = [_with_unknowns(item.node) for item in items if item.node is not None]
    if len(nodes) != len(items):
        raise Unread("a relation of what are no expressions")
    bounds = _bounds(nodes, operators)
    if bounds is not None:
        return bounds
    if len(nodes) == 2:
        return Item("relation", _inequality_value(nodes[0], nodes[1], operators[0]))
    # A chain that falls is read from its end.
    values = [value_of(node) for node in nodes]
    if all(_ORDER[operator][1] < 0 for operator in operators):
        values, operators = values[::-1], [_mirrored(sign) for sign in reversed(operators)]
    return Item("relation", ("chain", *values, *operators))


def _mirrored(operator: str) -> str:
    return {">": "<", r"\ge": r"\le", "<": ">", r"\le": r"\ge"}[operator]


def _inequality_value(left: Node, right: Node, operator: str) -> tuple:
    if not (symbols_of(left) | symbols_of(right)) - _CONSTANTS:
        return ("statement", operator, value_of(left), value_of(right))
    values = _differences(left, right)
    if not all(map(is_real, values)) or any(value == 0 for value in values):
        raise Unread("no real difference")
    if operator == r"\ne":
        return ("unequal", *(digits_key(value / values[0]) for value in values[1:]))
    is_closed, direction = _ORDER[operator]
    sign = direction if values[0] > 0 else -direction
    ratios = [digits_key(value / values[0]) for value in values[1:]]
    return ("inequality", is_closed, sign, *ratios)


def _bounds(nodes: list[Node], operators: list[str]) -> Item | None:
    """The numbers that a chain of linear inequalities in one unknown leaves; None for others."""
    names = set().union(*(symbols_of(node) for node in nodes)) - _CONSTANTS
    if len(names) != 1:
        return None
    (name,) = names
    absolute = next((node for node in nodes if _is_absolute(node)), None)
    if absolute is not None:
        inner = [_UNKNOWN if node == absolute else node for node in nodes]
        return _absolute_bounds(inner, operators, absolute.children[0], name)
    remaining: tuple[reals.Interval, ...] = (reals.everything(),)
    for left, right, operator in zip(nodes[:-1], nodes[1:], operators, strict=True):
        if _is_infinite(left) or _is_infinite(right):
            continue
        solved = _linear_root(left, right, name)
        if solved is None:
            return None
        root, is_rising = solved
        if operator == r"\ne":
            remaining = reals.without(remaining, [root])
            continue
        is_closed, direction = _ORDER[operator]
        # left - right < 0: below the root where the difference rises.
        is_below = (direction > 0) == is_rising
        low, high = (-reals.infinity(), root) if is_below else (root, reals.infinity())
        half = reals.Interval(low, is_closed and not is_below, high, is_closed and is_below)
        remaining = reals.intersection(remaining, [half])
    return Item("reals", reals.key(remaining), name=name, intervals=remaining)


_UNKNOWN = Node("symbol", "an absolute value")


def _is_absolute(node: Node) -> bool:
    """Whether a side is the absolute value of something with an unknown."""
    return node.kind == "call" and node.value == "abs" and bool(symbols_of(node) - _CONSTANTS)


def _absolute_bounds(
    nodes: list[Node], operators: list[str], inside: Node, name: str
) -> Item | None:
    """The bounds on x that bounds on |ax + b| are: |x - 1| < 2 is -1 < x < 3."""
    item = _bounds(nodes, operators)
    line = _linear(inside, name)
    if item is None or item.name != _UNKNOWN.value or line is None:
        return None
    at_least_zero = [reals.Interval(Fraction(0), True, reals.infinity(), False)]
    positive = reals.intersection(item.intervals, at_least_zero)
    negative = [reals.Interval(-i.high, i.high_closed, -i.low, i.low_closed) for i in positive]
    slope, start = line
    solved = []
    for part in [*positive, *negative]:
        low, high = (part.low - start) / slope, (part.high - start) / slope
        if slope > 0:
            solved.append(reals.Interval(low, part.low_closed, high, part.high_closed))
        else:
            solved.append(reals.Interval(high, part.high_closed, low, part.low_closed))
    both = reals.union(solved)
    return Item("reals", reals.key(both), name=name, intervals=both)


def _with_unknowns(node: Node) -> Node:
    """An expression whose unknown functions are unknowns: 0 < f(x) < 1 bounds f(x)."""
    if node.kind == "apply":
        return Node("symbol", f"{node.value}{node.children!r}")
    return node._replace(children=tuple(map(_with_unknowns, node.children)))


def _is_infinite(node: Node) -> bool:
    node = node.children[0] if node.kind == "negative" else node
    return node.kind == "symbol" and node.value == r"\infty"


def _linear_root(left: Node, right: Node, name: str) -> tuple[Number, bool] | None:
    """The root of left minus right if it is linear in the unknown, and whether it rises."""
    line = _linear(Node("add", children=(left, Node("negative", children=(right,)))), name)
    if line is None:
        return None
    slope, start = line
    return -start / slope, bool(slope > 0)


def _linear(node: Node, name: str) -> tuple[Number, Number] | None:
    """Slope and value at zero of an expression that is linear in an unknown, else None."""
    try:
        values = [at_point(node, 0, {name: Fraction(x)}) for x in (1, 2, 5, -3)]
    except Undefined:
        return None
    if not all(map(is_real, values)):
        return None
    slope = values[1] - values[0]
    if slope == 0 or not is_close(values[2] - values[0], 4 * slope):
        return None
    if not is_close(values[0] - values[3], 4 * slope):
        return None
    return slope, values[0] - slope


def real_number(item: Item) -> Number | None:
    """The real number that an item is, else None."""
    if item.node is None:
        return None
    try:
        number = numeric(item.node)
    except Undefined:
        return None
    return number if is_real(number) else None
