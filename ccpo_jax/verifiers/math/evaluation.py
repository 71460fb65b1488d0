r"""The value of an expression at fixed points: exact where it is rational, else to 60 digits.

Two expressions are the same where they agree at every point. Nothing here is evaluated without a
bound: a number of more than some thousand digits becomes a floating-point number of unbounded
exponent, and towers of powers beyond that are refused.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from mpmath.ctx_mp import MPContext

from ccpo_jax.verifiers.math.expressions import CONSTANTS, Node, symbols_of

# Longer numerators and denominators are rounded.
_MAX_BITS = 20_000

# Integers whose factorial is exact.
_MAX_FACTORIAL = 2_000

# Terms of a sum that are added one by one, and operations per evaluation.
_MAX_TERMS = 2_000
_MAX_OPERATIONS = 20_000

_DIGITS = 60
# Sums whose terms cancel to this share are zero, and numbers that close are the same.
_CANCELLED = Fraction(1, 10**45)

# Digits of a canonical value.
_KEY_DIGITS = 25

# Where the symbols are positive, and where some are negative or larger: sqrt(x^2) is x at the
# former alone. At the latter an expression without a real value has none.
_POINTS = (0, 1)
_SIGNED_POINTS = (3, 4, 5, 6)
_LETTER_POINTS = (7, 8, 9, 10, 11)
_REAL_POINTS = (*_SIGNED_POINTS, *_LETTER_POINTS, 12)
_POSITIVE_POINTS = (0, 12)
_MAX_OPERATIONS_AT_REAL_POINTS = 1_000

# Where equations are compared: their sides differ by a factor that is the same everywhere.
_EQUATION_POINTS = (0, 1, 2)

# Lowest coordinate and width. At one point all powers fall and at one they rise, so that x^100 + 1
# differs from x^100 and from 1.
_RANGES = {
    0: (Fraction(3, 10), Fraction(13, 20)),
    1: (Fraction(11, 10), Fraction(7, 5)),
    2: (Fraction(1, 5), Fraction(2)),
    9: (Fraction(1, 20), Fraction(1, 10)),
    11: (Fraction(4), Fraction(5)),
    12: (Fraction(12), Fraction(10)),
}

# An integer, or a floating-point number, real or complex, of the context below.
Number = Any

_mp: Any = MPContext()
_mp.dps = _DIGITS


class Undefined(ValueError):
    """An expression has no value: a division by zero, a tower of powers, an open sum."""


# value of a rational number: (numerator, denominator); of others their digits.
Value = tuple


@lru_cache(maxsize=8192)
def value_of(node: Node) -> Value:
    """The canonical value of an expression: equal for expressions that mean the same.

    Returns:
      ("number", numerator, denominator) where it is rational, ("real", digits) or ("complex",
      digits, digits) where it is a number, else ("expression", its values at the points).

    Raises:
      Undefined: if it has no value.
    """
    if node.kind == "number" and isinstance(node.value, Fraction):
        return ("number", node.value.numerator, node.value.denominator)
    names = symbols_of(node) - CONSTANTS
    first = _Evaluation(0).value(node)
    if not names and not _is_applied(node):
        return number_key(first)
    # Rational or not is an accident of the path there: the root of x, squared, is x.
    digits = [digits_key(first)]
    if names:
        digits.append(digits_key(_Evaluation(1).value(node)))
        digits += [_real_key(node, point) for point in _REAL_POINTS]
    if not _is_applied(node) and all(key in (digits[0], None) for key in digits):
        return number_key(first)
    return ("expression", *digits)


def _real_key(node: Node, point: int) -> Value | None:
    """The digits of an expression at a point; None where it is not real there."""
    try:
        return digits_key(_Evaluation(point, real=True).value(node))
    except Undefined:
        return None


def agree_where_real(first: object, second: object, positive: Iterable[str] = ()) -> bool:
    """Whether the values of two expressions or equations agree wherever both are real.

    sqrt(x) sqrt(y) is sqrt(xy), which is real also where x and y are negative.

    Args:
      first: the canonical value of one.
      second: the canonical value of the other.
      positive: the symbols that are meant to be positive, so that nothing else is looked at.
    """
    if not isinstance(first, tuple) or not isinstance(second, tuple) or len(first) != len(second):
        return False
    if first[0] != second[0] or first[0] not in ("expression", "equation"):
        return False
    # The head and two keys at positive numbers come first.
    start = 3
    if first[:start] != second[:start]:
        return False
    points = _REAL_POINTS[: len(first) - start]
    for point, one, other in zip(points, first[start:], second[start:], strict=True):
        is_skipped = None in (one, other) or any(_coordinate(name, point) < 0 for name in positive)
        if one != other and not is_skipped:
            return False
    return True


@lru_cache(maxsize=8192)
def positive_symbols(node: Node) -> frozenset[str]:
    """The symbols that are meant to be positive: alone negative they leave nothing real."""
    names = symbols_of(node) - CONSTANTS
    return frozenset(name for name in names if not _is_real_at_negative(node, name))


def _is_real_at_negative(node: Node, name: str) -> bool:
    for point in _POSITIVE_POINTS:
        try:
            _Evaluation(point, {name: -_coordinate(name, point)}, real=True).value(node)
        except Undefined:
            continue
        return True
    return False


def numeric(node: Node) -> Number:
    """The value of an expression without symbols, a Fraction or a floating-point number.

    Raises:
      Undefined: if it has symbols or no value.
    """
    if symbols_of(node) - CONSTANTS or _is_applied(node):
        raise Undefined("it has symbols")
    return _Evaluation(0).value(node)


def at_point(node: Node, point: int, symbols: Mapping[str, Number] | None = None) -> Number:
    """The value of an expression at one of the points, some symbols given."""
    return _Evaluation(point, symbols).value(node)


def differences(left: Node, right: Node) -> list[Number]:
    """Left minus right at three points.

    Raises:
      Undefined: if it has no value there.
    """
    return [at_point(_difference(left, right), point) for point in _EQUATION_POINTS]


def difference_keys(left: Node, right: Node) -> list[Value | None]:
    """Left minus right wherever it is compared, as shares of the first; None where not real.

    Raises:
      Undefined: if it has no value at one of the three points.
    """
    first, *others = differences(left, right)
    keys: list[Value | None] = [digits_key(number / first) for number in others]
    scaled = Node("divide", children=(_difference(left, right), Node("number", first)))
    return keys + [_real_key(scaled, point) for point in _REAL_POINTS]


def _difference(left: Node, right: Node) -> Node:
    return Node("add", children=(left, Node("negative", children=(right,))))


def is_close(first: Number, second: Number, tolerance: Fraction = _CANCELLED) -> bool:
    """Whether two numbers agree: exactly if both are rational, else relatively."""
    if isinstance(first, Fraction) and isinstance(second, Fraction):
        return first == second
    difference = abs(as_float(first) - as_float(second))
    size = max(abs(as_float(first)), abs(as_float(second)))
    return difference <= size * as_float(tolerance)


def number_key(number: Number) -> Value:
    """The canonical value of a number."""
    number = _simplified(number)
    if isinstance(number, Fraction):
        return ("number", number.numerator, number.denominator)
    if isinstance(number, _mp.mpc):
        return ("complex", *(_digits(part) for part in (number.real, number.imag)))
    return ("real", _digits(number))


def digits_key(number: Number) -> Value:
    """The digits of a number, whether it is exact or not."""
    number = as_float(_simplified(number))
    if isinstance(number, _mp.mpc):
        return ("complex", *(_digits(part) for part in (number.real, number.imag)))
    return ("real", _digits(number))


def is_real(number: Number) -> bool:
    """Whether a number is real and finite or infinite."""
    return not isinstance(_simplified(number), _mp.mpc)


def _digits(number: Number) -> str:
    return _mp.nstr(number, _KEY_DIGITS, strip_zeros=True)


def _simplified(number: Number) -> Number:
    """A number without an imaginary part that is only rounding, and exact where it is rational."""
    if isinstance(number, Fraction):
        return number
    if isinstance(number, _mp.mpc):
        size = abs(number) * as_float(_CANCELLED)
        if abs(number.imag) > size:
            return number if abs(number.real) > size else _mp.mpc(0, number.imag)
        number = number.real
    if not _mp.isfinite(number) or not 1e-12 < abs(number) < 1e12:
        return number
    sign, mantissa, exponent, _ = number._mpf_
    exact = Fraction(int(mantissa)) * (-1 if sign else 1) * Fraction(2) ** int(exponent)
    near = exact.limit_denominator(10**6)
    return near if abs(near - exact) <= abs(exact) * _CANCELLED else number


def infinity() -> Number:
    """Positive infinity as a floating-point number."""
    return _mp.inf


def as_float(number: Number) -> Number:
    """A number as a floating-point number, for comparing sizes."""
    if isinstance(number, Fraction):
        return _mp.mpf(number.numerator) / number.denominator
    return number


def hides_signs(node: Node) -> bool:
    """Whether an expression has an absolute value, or chooses or rounds numbers."""
    if node.kind == "call" and node.value in ("abs", "floor", "ceil", "min", "max"):
        return True
    return any(hides_signs(child) for child in node.children)


def _is_applied(node: Node) -> bool:
    """Whether an unknown function is applied."""
    return node.kind == "apply" or any(_is_applied(child) for child in node.children)


@lru_cache(maxsize=4096)
def _coordinate(name: str, point: int) -> Fraction:
    """Where a symbol stands at a point: a number that its name decides."""
    digest = hashlib.sha256(f"{point // 2} {name}".encode()).digest()
    share = Fraction(1 + int.from_bytes(digest[:3]), 2**24 + 43)
    low, width = _RANGES.get(point, (Fraction(1, 3), 3))
    number = low + width * share
    is_negative = point in _SIGNED_POINTS and (digest[3] + point) % 2
    if point in _LETTER_POINTS:
        # Each two letters have different signs at one of these points, by the bits of their codes.
        code = ord(name) % 32 if len(name) == 1 else 1 + digest[3] % 31
        is_negative = code >> _LETTER_POINTS.index(point) & 1
    return -number if is_negative else number


class _Evaluation:
    """One evaluation at one point, with a bound on its operations.

    With `real` an expression with a step that is not real is undefined.
    """

    def __init__(
        self, point: int, symbols: Mapping[str, Number] | None = None, *, real: bool = False
    ):
        self.point = point
        self.symbols = dict(symbols or {})
        self.operations = 0
        self.max_operations = _MAX_OPERATIONS_AT_REAL_POINTS if real else _MAX_OPERATIONS
        self.real = real

    def value(self, node: Node) -> Number:
        self.operations += 1
        if self.operations > self.max_operations:
            raise Undefined("too many operations")
        try:
            if node.kind == "series":
                number = self.series(node)
            elif node.kind == "symbol":
                number = self.symbol(str(node.value))
            elif node.kind == "number":
                number = node.value
            else:
                operands = [self.value(child) for child in node.children]
                number = _OPERATIONS[node.kind](str(node.value), operands)
        except (ZeroDivisionError, OverflowError, TypeError, KeyError) as error:
            raise Undefined(str(error)) from error
        number = _bounded(number)
        if self.real and not is_real(number):
            raise Undefined("not real")
        if isinstance(number, Fraction):
            # Long numbers cost more.
            self.operations += number.numerator.bit_length() // 200
        return number

    def symbol(self, name: str) -> Number:
        if name in self.symbols:
            return self.symbols[name]
        if name in _CONSTANTS:
            return _CONSTANTS[name]()
        return _coordinate(name, self.point)

    def series(self, node: Node) -> Number:
        variable, first, last, body = node.children
        start = self.value(first)
        end = self.value(last)
        if not _is_integer(start) or not _is_integer(end) or end - start > _MAX_TERMS:
            raise Undefined("a series without end")
        name = str(variable.value)
        before = self.symbols.get(name)
        total = Fraction(0) if node.value == "sum" else Fraction(1)
        for index in range(int(start), int(end) + 1):
            self.symbols[name] = Fraction(index)
            term = self.value(body)
            total = _bounded(
                _add([total, term]) if node.value == "sum" else _multiply([total, term])
            )
        self.symbols.pop(name)
        if before is not None:
            self.symbols[name] = before
        return total


def _bounded(number: Number) -> Number:
    """A number that is not longer than it may be; no value that is not a number."""
    if isinstance(number, Fraction):
        size = max(number.numerator.bit_length(), number.denominator.bit_length())
        return number if size <= _MAX_BITS else as_float(number)
    if _mp.isnan(number):
        raise Undefined("not a number")
    return number


def _is_integer(number: Number) -> bool:
    return isinstance(number, Fraction) and number.denominator == 1


def _mixed(operands: list[Number]) -> list[Number]:
    """Operands of one kind: all rational, or all floating-point."""
    if all(isinstance(operand, Fraction) for operand in operands):
        return operands
    return [as_float(operand) for operand in operands]


def _add(operands: list[Number]) -> Number:
    operands = _mixed(operands)
    total = operands[0]
    for operand in operands[1:]:
        total = total + operand
    if isinstance(total, Fraction) or not _mp.isfinite(total):
        return total
    largest = max(abs(operand) for operand in operands)
    return Fraction(0) if abs(total) <= largest * as_float(_CANCELLED) else total


def _multiply(operands: list[Number]) -> Number:
    first, second = _mixed(operands)
    return first * second


def _divide(operands: list[Number]) -> Number:
    first, second = _mixed(operands)
    if second == 0:
        raise Undefined("a division by zero")
    return first / second


def _power(operands: list[Number]) -> Number:
    base, exponent = operands
    if _is_integer(exponent):
        return _integer_power(base, int(exponent))
    if isinstance(exponent, Fraction) and isinstance(base, Fraction) and base > 0:
        root = _exact_root(base, exponent.denominator)
        if root is not None:
            return _integer_power(root, exponent.numerator)
    if base == 0:
        if _mp.re(as_float(exponent)) > 0:
            return Fraction(0)
        raise Undefined("a power of zero")
    _check_exponent(base, exponent)
    return _mp.power(as_float(base), as_float(exponent))


def _integer_power(base: Number, exponent: int) -> Number:
    if base == 0 and exponent <= 0:
        raise Undefined("a power of zero")
    if isinstance(base, Fraction):
        if abs(base) == 1:
            return base if exponent % 2 else Fraction(1)
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits * abs(exponent) <= _MAX_BITS:
            return base**exponent
    _check_exponent(base, exponent)
    return as_float(base) ** exponent


def _check_exponent(base: Number, exponent: Number) -> None:
    """Refuses towers of powers, whose exponents would be numbers of millions of digits."""
    if not _mp.isfinite(as_float(base)):
        raise Undefined("a power of infinity")
    size = abs(as_float(Fraction(exponent) if isinstance(exponent, int) else exponent))
    if not _mp.isfinite(size) or size * (abs(_mp.log(abs(as_float(base)))) + 1) > 2**60:
        raise Undefined("a tower of powers")


def _exact_root(number: Fraction, index: int) -> Fraction | None:
    """The root of a positive rational number if it is rational."""
    if index > 64:
        return None
    roots = []
    for whole in (number.numerator, number.denominator):
        root = _integer_root(whole, index)
        if root is None:
            return None
        roots.append(root)
    return Fraction(*roots)


def _integer_root(whole: int, index: int) -> int | None:
    if index == 1:
        return whole
    if index == 2:
        root = math.isqrt(whole)
        return root if root * root == whole else None
    if whole.bit_length() > 900:
        return None
    near = round(whole ** (1 / index))
    return next((root for root in (near - 1, near, near + 1) if root**index == whole), None)


def _root(operands: list[Number]) -> Number:
    radicand, index = operands
    if not _is_integer(index) or not 1 <= int(index) <= 10_000:
        return _power([radicand, _divide([Fraction(1), index])])
    degree = int(index)
    if isinstance(radicand, Fraction) and radicand >= 0:
        root = _exact_root(radicand, degree) if radicand else Fraction(0)
        if root is not None:
            return root
    # An odd root of a negative number is the real one, as school writes it.
    if degree % 2 and not isinstance(radicand, _mp.mpc) and radicand < 0:
        return -_root([-radicand, index])
    return _mp.root(as_float(radicand), degree)


def _factorial(operands: list[Number]) -> Number:
    (number,) = operands
    if _is_integer(number) and 0 <= number <= _MAX_FACTORIAL:
        return Fraction(math.factorial(int(number)))
    is_pole = _is_integer(number) and number < 0
    if isinstance(number, Fraction) and abs(number) < 2**60 and not is_pole:
        return _mp.gamma(as_float(number) + 1)
    if not isinstance(number, Fraction) and _mp.isfinite(number) and abs(number) < 2**60:
        return _mp.gamma(number + 1)
    raise Undefined("no factorial")


def _binomial(operands: list[Number]) -> Number:
    upper, lower = operands
    if all(_is_integer(operand) and 0 <= operand <= _MAX_FACTORIAL for operand in operands):
        return Fraction(math.comb(int(upper), int(lower)))
    if any(abs(as_float(operand)) > 2**60 for operand in operands):
        raise Undefined("a binomial of large numbers")
    return _mp.binomial(as_float(upper), as_float(lower))


def _apply(name: str, operands: list[Number]) -> Number:
    """An unknown function: a number that its name and its arguments decide."""
    keys = [digits_key(operand) for operand in operands]
    return _coordinate(f"{name} {keys}", 0)


def _call(name: str, operands: list[Number]) -> Number:
    """A known function."""
    if name in _INTEGER_FUNCTIONS:
        return _INTEGER_FUNCTIONS[name](operands)
    (argument,) = operands
    if name == "abs":
        return abs(argument)
    argument = as_float(argument)
    if not _mp.isfinite(argument) or abs(argument) > 2**200:
        raise Undefined("a function of infinity")
    if argument == 0 and name in ("ln", "lg", "cot", "csc"):
        raise Undefined("a pole")
    if name == "exp":
        _check_exponent(_mp.e, argument)
    return _FUNCTIONS[name](argument)


def _integers(function: Callable[..., int]) -> Callable[[list[Number]], Number]:
    def apply(operands: list[Number]) -> Number:
        if not all(_is_integer(operand) for operand in operands):
            raise Undefined("not integers")
        return Fraction(function(*map(int, operands)))

    return apply


def _rounded(function: Callable[[Number], Any]) -> Callable[[list[Number]], Number]:
    def apply(operands: list[Number]) -> Number:
        (number,) = operands
        if isinstance(number, Fraction):
            return Fraction(function(number))
        raise Undefined("rounding of what is not rational")

    return apply


def _double_factorial(number: int) -> int:
    """The product of every other integer down from a number."""
    if not 0 <= number <= _MAX_FACTORIAL:
        raise Undefined("no double factorial")
    return math.prod(range(number, 0, -2))


_INTEGER_FUNCTIONS: dict[str, Callable[[list[Number]], Number]] = {
    "gcd": _integers(math.gcd),
    "lcm": _integers(math.lcm),
    "double factorial": _integers(_double_factorial),
    "min": lambda operands: min(operands, key=as_float),
    "max": lambda operands: max(operands, key=as_float),
    "floor": _rounded(math.floor),
    "ceil": _rounded(math.ceil),
}

_FUNCTIONS: dict[str, Callable[[Number], Number]] = {
    "sin": _mp.sin, "cos": _mp.cos, "tan": _mp.tan, "cot": _mp.cot, "sec": _mp.sec,
    "csc": _mp.csc, "arcsin": _mp.asin, "arccos": _mp.acos, "arctan": _mp.atan,
    "arccot": _mp.acot, "arcsec": _mp.asec, "arccsc": _mp.acsc, "sinh": _mp.sinh,
    "cosh": _mp.cosh, "tanh": _mp.tanh, "ln": _mp.ln, "lg": _mp.log10, "exp": _mp.exp,
}  # fmt: skip

_CONSTANTS: dict[str, Callable[[], Number]] = {
    r"\pi": lambda: +_mp.pi,
    "e": lambda: +_mp.e,
    "i": lambda: _mp.mpc(0, 1),
    r"\infty": lambda: _mp.inf,
}

_OPERATIONS: dict[str, Callable[[str, list[Number]], Number]] = {
    "add": lambda _, operands: _add(operands),
    "multiply": lambda _, operands: _multiply(operands),
    "divide": lambda _, operands: _divide(operands),
    "power": lambda _, operands: _power(operands),
    "negative": lambda _, operands: -operands[0],
    "root": lambda _, operands: _root(operands),
    "factorial": lambda _, operands: _factorial(operands),
    "binomial": lambda _, operands: _binomial(operands),
    "degrees": lambda _, operands: _multiply([operands[0], _mp.pi / 180]),
    "call": _call,
    "apply": _apply,
}
