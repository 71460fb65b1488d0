r"""Whether a number is worked out: 3 is, and ``7 - 4`` is a set-up of it."""

from collections.abc import Iterator
from fractions import Fraction

from ccpo_jax.verifiers.math.evaluation import Undefined, value_of
from ccpo_jax.verifiers.math.expressions import Node
from ccpo_jax.verifiers.math.items import Answer, Item


def is_worked_out(gold: Answer, answer: Answer) -> bool:
    """Whether an answer leaves no arithmetic to do that the gold does not leave as well."""
    left = {operation for item in gold.items for operation in _operations_of(item)}
    todo = {operation for item in answer.items for operation in _operations_of(item)}
    return todo <= left


def _operations_of(item: Item) -> Iterator[str]:
    if item.node is not None:
        yield from _operations(item.node)
    for member in item.items:
        yield from _operations_of(member)


def _operations(node: Node) -> Iterator[str]:
    """The operations on numbers below a node that could be carried out."""
    if not _is_written_out(node) and _could_be_done(node):
        yield f"{node.kind} {node.value}" if node.kind == "call" else node.kind
    if not _is_written_out(node):
        for child in node.children:
            yield from _operations(child)


def _is_written_out(node: Node) -> bool:
    """Whether a node is the usual way to write a number: -3, 2/3, 3 1/2, 4.5e33, 50%."""
    if node.kind == "number" or node.value in ("mixed", "percent", "magnitude"):
        return True
    if node.kind == "negative":
        return _is_written_out(node.children[0])
    if node.kind == "divide":
        # 12/2 is a set-up of 6.
        return all(map(_is_integer, node.children)) and not _is_whole(node)
    if node.kind == "power" and _is_ten(node.children[0]):
        return _is_integer(node.children[1]) and not _is_small(node.children[1])
    if node.kind == "multiply" and node.children[1].kind == "power":
        base, exponent = node.children[1].children
        return node.children[0].kind == "number" and _is_ten(base) and _is_integer(exponent)
    return False


def _is_whole(node: Node) -> bool:
    """Whether a number is an integer."""
    try:
        value = value_of(node)
    except Undefined:
        return False
    return value[0] == "number" and value[2] == 1


def _is_small(node: Node) -> bool:
    """Whether an exponent of ten is small: 10^2 is 100, but 10^{12} is rather left as it is."""
    return node.kind == "number" and isinstance(node.value, Fraction) and node.value < 4


def _is_integer(node: Node) -> bool:
    node = node.children[0] if node.kind == "negative" else node
    return node.kind == "number" and node.decimals is None


def _is_ten(node: Node) -> bool:
    return node.kind == "number" and node.value == 10


def _could_be_done(node: Node) -> bool:
    """Whether an operation has a number that can be written instead of it."""
    if node.kind in ("series", "factorial", "binomial"):
        return _is_rational(node)
    if node.kind in ("add", "multiply"):
        # Of a sum, two rational terms; of a product, two rational factors.
        return sum(map(_is_rational, _flat(node, node.kind))) > 1
    return node.kind in ("divide", "power", "root", "call") and _is_rational(node)


def _flat(node: Node, kind: str) -> Iterator[Node]:
    """The terms of nested sums, or the factors of nested products."""
    if node.kind != kind:
        yield node
        return
    for child in node.children:
        yield from _flat(child, kind)


def _is_rational(node: Node) -> bool:
    try:
        return value_of(node)[0] == "number"
    except Undefined:
        return False
