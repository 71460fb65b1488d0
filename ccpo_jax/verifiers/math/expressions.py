r"""Reads an expression such as ``\frac{3\sqrt2}{x+1}`` into a tree.

The grammar is that of answers and not of LaTeX: ``\frac12``, ``{a\over b}``, ``4\sqrt(2)``, ``2 sin
x`` and ``1 1/2`` are read as their authors mean them. What it does not know it refuses.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from ccpo_jax.verifiers.math.tokens import Token
from ccpo_jax.verifiers.math.vocabulary import NO_PRODUCTS

# Deeper nesting than this is hostile.
_MAX_DEPTH = 40

_GREEK = """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma
tau upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"""

# Commands that stand for a symbol.
SYMBOLS = frozenset(
    rf"\{name}"
    for name in [*_GREEK.split(), "infty", "ell", "hbar", "triangle", "angle", "partial"]
)

# Symbols that are numbers.
CONSTANTS = frozenset([r"\pi", "e", "i", r"\infty"])

# Commands that mark the symbol in their braces.
_ACCENTS = frozenset(
    rf"\{name}"
    for name in """overline vec hat tilde dot ddot overrightarrow widehat mathcal mathbb mathfrak
    mathscr""".split()
)

# Functions that are written with or without a backslash, and in which case.
FUNCTIONS = frozenset(
    """sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh ln log lg exp sqrt cbrt
    abs gcd lcm min max asin acos atan""".split()
)
_LISTED = frozenset(["gcd", "lcm", "min", "max"])
_OTHER_NAMES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "log": "ln"}

# Words that stand for a symbol.
_WORD_SYMBOLS = {"pi": r"\pi", "inf": r"\infty", "infty": r"\infty", "infinity": r"\infty"}
_WORD_SYMBOLS |= {name: rf"\{name}" for name in _GREEK.split() if len(name) > 3}
_WORD_SYMBOLS |= {"Infinity": r"\infty", "oo": r"\infty", "phi": r"\phi", "tau": r"\tau"}

# Letters that are functions where brackets follow.
_APPLIED = frozenset("fgFG")

# A longer run of letters is a word and no product.
_MAX_PRODUCT = 4

# 1e1000 is a product: written out it might fill the memory.
_MAX_EXPONENT_DIGITS = 3

# `decimals` of a number whose decimals never end.
REPEATING = -1

# What repeats at the end of written decimals: one digit three times, or several digits twice.
_REPEATS = re.compile(r"(\d)\1{2,}$|^(\d)\2$|(\d{2,12}?)\3+$")

# The tokens of \frac12 and \frac{1}{2} behind the command.
_NUMERIC_FRACTION = re.compile(
    r"\{ (\d+) \} \{ (\d+) \}|\{ (\d+) \} (\d)|(\d) \{ (\d+) \}|(\d)(\d)(?!\S)|(\d) (\d+)(?!\S)"
)

_BRACKETS = {"(": ")", "[": "]", "{": "}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil", "|": "|"}


class Unparsed(ValueError):
    """The tokens are no expression that this grammar knows."""


class Node(NamedTuple):
    """A node of an expression.

    Attributes:
      kind: "number", "symbol", "add", "multiply", "divide", "power", "negative", "root", "call",
        "apply", "factorial", "binomial", "degrees", "signs" (plus or minus) or "series".
      value: the number, or the name of the symbol or function.
      children: the operands.
      decimals: of a number written as a decimal, how many digits follow the point; `REPEATING` if
        they never end.
    """

    kind: str
    value: Fraction | str = ""
    children: tuple["Node", ...] = ()
    decimals: int | None = None


def parse_expression(tokens: Sequence[Token]) -> Node:
    r"""The tree of an expression.

    Raises:
      Unparsed: if the tokens are anything else.

    Example:
      >>> from ccpo_jax.verifiers.math.tokens import tokenize
      >>> parse_expression(tokenize(r"\frac12")).kind
      'divide'
    """
    parser = _Parser(list(tokens))
    node = parser.sum()
    if parser.peek() is not None:
        raise Unparsed(f"unexpected {parser.peek()!r}")
    return node


class _Parser:
    """A position in a list of tokens, and one method per rule of the grammar."""

    def __init__(self, tokens: list[Token]):
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        # How many |...| are open: there a bar closes.
        self.open_bars = 0

    def peek(self, offset: int = 0) -> str | None:
        index = self.position + offset
        return self.tokens[index].text if index < len(self.tokens) else None

    def token(self) -> Token:
        if self.position >= len(self.tokens):
            raise Unparsed("ends too early")
        return self.tokens[self.position]

    def accept(self, *texts: str) -> str | None:
        text = self.peek()
        if text is None or text not in texts:
            return None
        self.position += 1
        return text

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise Unparsed(f"{text!r} is missing")

    def sum(self) -> Node:
        """Terms with signs; a fraction that is written ``a \\over b``."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise Unparsed("nested too deeply")
        terms: list[Node] = []
        while not terms or self.peek() in ("+", "-", r"\pm", r"\mp"):
            sign = self.accept("+", "-", r"\pm", r"\mp")
            # Signs may meet, as in "3 + -2".
            while next_sign := self.accept("+", "-"):
                sign = "+" if sign == next_sign else "-"
            terms.append(_signed(sign, self.product()))
        node = terms[0] if len(terms) == 1 else Node("add", children=tuple(terms))
        if self.accept(r"\over"):
            node = Node("divide", children=(node, self.sum()))
        elif self.accept(r"\choose"):
            node = Node("binomial", children=(node, self.sum()))
        self.depth -= 1
        return node

    def product(self) -> Node:
        node = self.factor()
        while True:
            if self.accept(r"\cdot", r"\times"):
                node = Node("multiply", children=(node, self.signed_factor()))
            elif self.accept("/"):
                node = Node("divide", children=(node, self.signed_factor()))
            elif self.begins_factor():
                is_number = self.token().kind == "number"
                if is_number and node.kind == "number":
                    node = self.mixed_number(node)
                elif is_number and node.kind in ("divide", "root"):
                    raise Unparsed("two numbers side by side")
                elif self.peek() == "{" and self.tokens[self.position - 1].text == "}":
                    raise Unparsed("two groups side by side")
                elif self.is_mixed_fraction(node):
                    node = Node("add", "mixed", (node, self.factor()))
                else:
                    node = Node("multiply", children=(node, self.factor()))
            else:
                return node

    def mixed_number(self, whole: Node) -> Node:
        """``1 1/2``: a whole number and a fraction below one."""
        numerator = self.factor()
        self.expect("/")
        denominator = self.factor()
        if not _is_proper(whole, numerator, denominator):
            raise Unparsed("two numbers side by side")
        fraction = Node("divide", children=(numerator, denominator))
        return Node("add", "mixed", (whole, fraction))

    def is_mixed_fraction(self, whole: Node) -> bool:
        r"""Whether a number is followed by a proper \frac of numbers, as in ``3\frac{1}{2}``."""
        if whole.kind != "number" or whole.decimals is not None or self.peek() != r"\frac":
            return False
        following = self.tokens[self.position + 1 : self.position + 7]
        fraction = _NUMERIC_FRACTION.match(" ".join(token.text for token in following))
        if fraction is None:
            return False
        numerator, denominator = [text for text in fraction.groups() if text]
        return _is_proper(whole, _number_node(numerator), _number_node(denominator))

    def begins_factor(self) -> bool:
        text = self.peek()
        if text is None:
            return False
        if text == "|":
            return self.open_bars == 0
        kind = self.token().kind
        if kind in ("number", "letters") or text in _BRACKETS:
            return True
        name = text[1:]
        return (
            text in SYMBOLS
            or text in _ACCENTS
            or name in FUNCTIONS
            or name in ("frac", "binom", "sum", "prod", "operatorname")
        )

    def signed_factor(self) -> Node:
        sign = self.accept("+", "-", r"\pm", r"\mp")
        return _signed(sign, self.factor())

    def factor(self) -> Node:
        """An atom with its powers, factorials and percent signs."""
        node = self.atom()
        while True:
            if self.peek() == self.peek(1) == "!":
                self.position += 2
                node = Node("call", "double factorial", (node,))
            elif self.accept("!"):
                node = Node("factorial", children=(node,))
            elif self.accept("%"):
                node = Node("divide", "percent", (node, _number_node("100")))
            elif self.peek() == "^":
                node = self.power(node)
            elif self.peek() == r"\circ":
                self.position += 1
                node = Node("degrees", children=(node,))
            else:
                return node

    def power(self, base: Node) -> Node:
        self.expect("^")
        if self.accept(r"\circ"):
            return Node("degrees", children=(base,))
        if self.peek() == "{" and self.peek(1) in (r"\circ", r"\prime") and self.peek(2) == "}":
            command = self.peek(1)
            self.position += 3
            if command == r"\circ":
                return Node("degrees", children=(base,))
            return Node("symbol", f"{base.value}'", base.children)
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise Unparsed("nested too deeply")
        exponent = self.argument(whole_number=True)
        # a^b^c is read from the right.
        if self.peek() == "^":
            exponent = self.power(exponent)
        self.depth -= 1
        return Node("power", children=(base, exponent))

    def argument(self, *, whole_number: bool = False) -> Node:
        r"""The argument of a command: a group, or one sign; of ``\frac12`` each takes a digit."""
        if self.accept("-"):
            return Node("negative", children=(self.argument(whole_number=whole_number),))
        token = self.token()
        if token.text == "{":
            return self.group()
        if token.kind == "number" and not whole_number and len(token.text) > 1:
            first, rest = token.text[0], token.text[1:]
            self.tokens[self.position] = token._replace(text=rest)
            return _number_node(first)
        if token.kind == "letters" and len(token.text) > 1 and not whole_number:
            first, rest = token.text[0], token.text[1:]
            self.tokens[self.position] = token._replace(text=rest)
            return Node("symbol", first)
        return self.atom()

    def group(self) -> Node:
        """Brackets and what stands in them."""
        opening = self.token().text
        self.position += 1
        self.open_bars += opening == "|"
        bars = self.open_bars
        if opening != "|":
            self.open_bars = 0
        node = self.sum()
        self.open_bars = bars
        self.expect(_BRACKETS[opening])
        self.open_bars -= opening == "|"
        if opening in ("|", r"\lfloor", r"\lceil"):
            names = {"|": "abs", r"\lfloor": "floor", r"\lceil": "ceil"}
            return Node("call", names[opening], (node,))
        return node

    def atom(self) -> Node:
        token = self.token()
        if token.text in _BRACKETS:
            return self.group()
        if token.kind == "number":
            self.position += 1
            return self.repeating(_number_node(token.text), token.text)
        if token.kind == "letters":
            return self.letters()
        self.position += 1
        name = token.text[1:]
        if name == "frac":
            numerator = self.argument()
            return Node("divide", children=(numerator, self.argument()))
        if name == "binom":
            upper = self.argument()
            return Node("binomial", children=(upper, self.argument()))
        if name in ("sum", "prod"):
            return self.series(name)
        if name in FUNCTIONS:
            return self.function(name)
        if token.text in _ACCENTS:
            marked = self.argument()
            return self.subscripted(f"{name} {_name(marked)}")
        if token.text in SYMBOLS:
            return self.subscripted(token.text)
        raise Unparsed(f"unexpected {token.text!r}")

    def repeating(self, number: Node, written: str) -> Node:
        r"""``0.\overline{3}`` and ``0.333\ldots``: the number whose last decimals repeat."""
        if number.decimals is None:
            return number
        if self.accept(r"\overline", r"\dot"):
            period = "".join(token.text for token in self.group_tokens())
            if not period.isdecimal():
                raise Unparsed("no repeating decimals")
            return Node("number", _repeated(written, period), (), REPEATING)
        if self.accept(r"\ldots"):
            repeats = _REPEATS.search(written.partition(".")[2])
            if repeats:
                stem = written[: len(written) - len(repeats[0])]
                period = repeats[1] or repeats[2] or repeats[3]
                return Node("number", _repeated(stem, period), (), REPEATING)
        return number

    def group_tokens(self) -> list[Token]:
        """The tokens of the next group, or the next token."""
        if not self.accept("{"):
            self.position += 1
            return self.tokens[self.position - 1 : self.position]
        start = self.position
        depth = 1
        while depth:
            depth += (self.token().text == "{") - (self.token().text == "}")
            self.position += 1
        return self.tokens[start : self.position - 1]

    def letters(self) -> Node:
        """A run of letters: a function, a symbol, or a product of symbols."""
        token = self.token()
        run = token.text
        if run in _WORD_SYMBOLS:
            self.position += 1
            return self.subscripted(_WORD_SYMBOLS[run])
        if run in FUNCTIONS:
            self.position += 1
            return self.function(run)
        if len(run) == 1:
            self.position += 1
            return self.subscripted(run)

        for name in ("sin", "cos", "tan", "ln", "log", "pi"):
            if run.startswith(name) and len(run) == len(name) + 1:
                self.tokens[self.position] = token._replace(text=run[len(name) :])
                return Node("symbol", r"\pi") if name == "pi" else self.function(name)
        if token.in_text or len(run) > _MAX_PRODUCT or run.lower() in NO_PRODUCTS:
            raise Unparsed(f"the word {run!r}")
        # A product of letters: this one, and the others as the next factor.
        self.tokens[self.position] = token._replace(text=run[1:], spaced=False)
        return Node("symbol", run[0])

    def subscripted(self, name: str) -> Node:
        """A symbol with its index and its primes, or an unknown function of its argument."""
        if self.accept("_"):
            name += "_" + "".join(token.text for token in self.group_tokens())
        while self.accept("'"):
            name += "'"
        if self.peek() == "(" and (name[0] in _APPLIED or self.is_at_number()):
            return Node("apply", name, tuple(self.listed()))
        index = name.removeprefix("C_")
        if index.isdecimal() and index != name and self.accept("^"):
            return Node("binomial", children=(_number_node(index), self.argument()))
        return Node("symbol", name)

    def is_at_number(self) -> bool:
        """Whether brackets with one number follow a letter: I(0) is a value of I."""
        number = self.tokens[self.position + 1 : self.position + 2]
        is_number = bool(number) and number[0].kind == "number"
        return is_number and self.peek(2) == ")" and not self.token().spaced

    def function(self, name: str) -> Node:
        """A known function, its power or base, and its argument with or without brackets."""
        name = _OTHER_NAMES.get(name, name)
        if name in ("sqrt", "cbrt"):
            return self.root(name)
        base = power = None
        while self.peek() in ("_", "^"):
            if self.accept("_"):
                base = self.argument(whole_number=True)
            else:
                self.expect("^")
                power = self.argument(whole_number=True)
        node = Node("call", name, tuple(self.function_arguments()))
        if base is not None:
            node = Node("divide", children=(node, Node("call", name, (base,))))
        if power is None:
            return node
        if power == Node("negative", children=(_number_node("1"),)):
            return Node("call", f"arc{name}", node.children)
        return Node("power", children=(node, power))

    def root(self, name: str) -> Node:
        index = _number_node("3" if name == "cbrt" else "2")
        if self.accept("["):
            index = self.sum()
            self.expect("]")
        if self.peek() == "{" and self.peek(1) == "}":
            # \sqrt{}{3}: the braces were meant for the 3.
            self.position += 2
        return Node("root", children=(self.argument(whole_number=True), index))

    def function_arguments(self) -> list[Node]:
        if self.peek() == "(":
            return self.listed()
        if self.peek() in ("{", "[", "|"):
            return [self.group()]
        sign = self.accept("-")
        argument = _signed(sign, self.factor())
        while self.begins_factor() and not self.begins_function():
            argument = Node("multiply", children=(argument, self.factor()))
        # cos 2 pi / 3 is the cosine of a fraction; sin x / 2 is half a sine.
        if self.peek() == "/" and not symbols_of(argument) - {r"\pi"}:
            self.position += 1
            argument = Node("divide", children=(argument, self.factor()))
        return [argument]

    def begins_function(self) -> bool:
        text = self.peek() or ""
        return text.removeprefix("\\") in FUNCTIONS - {"sqrt", "cbrt", "abs"}

    def listed(self) -> list[Node]:
        """Arguments in brackets, divided by commas."""
        self.expect("(")
        bars, self.open_bars = self.open_bars, 0
        arguments = [self.sum()]
        while self.accept(","):
            arguments.append(self.sum())
        self.open_bars = bars
        self.expect(")")
        return arguments

    def series(self, name: str) -> Node:
        """A sum or product over an index between two bounds."""
        self.expect("_")
        self.expect("{")
        variable = self.token().text
        self.position += 1
        self.expect("=")
        first = self.sum()
        self.expect("}")
        self.expect("^")
        last = self.argument(whole_number=True)
        return Node("series", name, (Node("symbol", variable), first, last, self.product()))


def symbols_of(node: Node) -> set[str]:
    """The names of the symbols of an expression."""
    if node.kind == "symbol":
        return {str(node.value)}
    if node.kind == "series":
        variable, first, last, body = node.children
        return symbols_of(first) | symbols_of(last) | (symbols_of(body) - symbols_of(variable))
    names: set[str] = set()
    for child in node.children:
        names |= symbols_of(child)
    return names


def contains(node: Node, *kinds: str) -> bool:
    """Whether a node or one below it is of one of these kinds."""
    return node.kind in kinds or any(contains(child, *kinds) for child in node.children)


def _signed(sign: str | None, node: Node) -> Node:
    if sign == "-":
        return Node("negative", children=(node,))
    if sign in (r"\pm", r"\mp"):
        return Node("signs", sign, (node,))
    return node


def _number_node(text: str) -> Node:
    mantissa, _, exponent = text.lower().partition("e")
    if len(exponent.lstrip("+-0")) > _MAX_EXPONENT_DIGITS:
        ten_to = Node("power", children=(_number_node("10"), Node("number", Fraction(exponent))))
        return Node("multiply", children=(_number_node(mantissa), ten_to))
    whole, point, decimals = text.partition(".")
    if exponent or not point:
        return Node("number", Fraction(text))
    return Node("number", Fraction(f"{whole or 0}.{decimals or 0}"), (), len(decimals))


def _repeated(stem: str, period: str) -> Fraction:
    """The number whose decimals go on with a period behind what is written."""
    whole, _, decimals = stem.partition(".")
    unit = Fraction(1, 10 ** len(decimals))
    return int(whole + decimals or "0") * unit + unit * Fraction(int(period), 10 ** len(period) - 1)


def _is_proper(whole: Node, numerator: Node, denominator: Node) -> bool:
    """Whether three numbers are the parts of a mixed number."""
    parts = (whole, numerator, denominator)
    if any(part.kind != "number" or part.decimals is not None for part in parts):
        return False
    return Fraction(0) < Fraction(numerator.value) < Fraction(denominator.value)


def _name(node: Node) -> str:
    """A marked symbol's name: AB of \\overline{AB}."""
    if node.kind == "multiply":
        return "".join(_name(child) for child in node.children)
    if node.kind != "symbol":
        raise Unparsed("a mark on what is no symbol")
    return str(node.value)
