r"""Reads an answer: its members, and of each whether it is a tuple, a set, a relation, words ..."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from ccpo_jax.verifiers.math import reals
from ccpo_jax.verifiers.math.evaluation import Undefined
from ccpo_jax.verifiers.math.groups import read_combination, read_group, tuple_of
from ccpo_jax.verifiers.math.items import Answer, Item, Unread
from ccpo_jax.verifiers.math.literals import is_word, read_based, read_ratio, read_words
from ccpo_jax.verifiers.math.quantities import read_quantity
from ccpo_jax.verifiers.math.relations import RELATIONS, read_relation, real_number
from ccpo_jax.verifiers.math.splitting import close_of, split, split_at, unwrap
from ccpo_jax.verifiers.math.tokens import Token, tokenize
from ccpo_jax.verifiers.math.units import read_unit
from ccpo_jax.verifiers.math.vocabulary import ANNOUNCING, MERIDIANS, NUMBER_WORDS

# Longer answers are compared as text; the longest gold of the usual sets has 210 characters.
MAX_CHARS = 600

# More members than this are compared as text.
_MAX_ITEMS = 60
_MAX_DEPTH = 6

# A formula followed by a heading of the solution, as in some golds: "$145$ Solution:".
_HEADING = re.compile(
    r"(\$\$?)([^$]*[^$\\])\1\s*+"
    r"(?:[A-Za-z][A-Za-z ]*:|(?i:solution|answer|explanation|analysis|proof))"
)

# numpy's names of functions: np.arcsin(...).
_NUMPY = re.compile(r"\bnp\.(?=[a-z])")

# Environments for several lines of formulas.
_LINES = ("aligned", "align", "cases", "gathered", "split", "equation", "gather")

_PLUS_MINUS = (r"\pm", r"\mp")

# Sets of numbers that are intervals, or that only have a name.
_REAL_WORDS = frozenset(
    ("words", *words.split()) for words in ("all real number", "all real", "real number")
)


@lru_cache(maxsize=8192)
def read_answer(answer: str, *, thousands: bool = True) -> Answer:
    """The members of an answer. What cannot be read is one member of kind "unread".

    Args:
      answer: what stands in a box or follows "the answer is".
      thousands: whether ``1,234`` is one number; else it is two.
    """
    text = answer.strip().strip("*_`").strip()
    if len(text) > MAX_CHARS:
        return Answer((Item("unread"),))
    headed = _HEADING.fullmatch(text)
    if headed:
        text = headed[2]
    tokens = _trimmed(tokenize(_NUMPY.sub(r"\\", text), thousands=thousands))
    try:
        return _read_members(tokens)
    except Unread:
        words = read_words(tokens)
        return Answer((words or Item("unread"),))


def _trimmed(tokens: list[Token]) -> list[Token]:
    """Without punctuation around, announcing words in front, and braces around everything."""
    while tokens:
        before = len(tokens)
        while tokens and tokens[-1].text in (",", ";", ":", ".", r"\\", r"\quad", "&"):
            tokens = tokens[:-1]
        while tokens and tokens[0].text in ("=", r"\approx", ",", ";", ":", r"\quad", "&", "?"):
            tokens = tokens[1:]
        tokens = unwrap(_without_environment(_without_announcement(tokens)))
        if len(tokens) == before:
            break
    return tokens


def _without_environment(tokens: list[Token]) -> list[Token]:
    """Equations that stand below each other, as the members of one line."""
    texts = [token.text for token in tokens[:3]]
    if texts[:2] != [r"\begin", "{"] or texts[-1] not in _LINES or tokens[-4].text != r"\end":
        return tokens
    return [token for token in tokens[4:-4] if token.text != "&"]


def _without_announcement(tokens: list[Token]) -> list[Token]:
    """Without "the answer is", "approximately" or "Answer:" in front."""
    position = 0
    while position < len(tokens):
        token = tokens[position]
        is_long = token.kind == "letters" and len(token.text) > 1
        following = tokens[position + 1 : position + 2]
        is_article = token.in_text and following and following[0].spaced
        if not (is_long or is_article) or token.text.lower() not in ANNOUNCING:
            break
        position += 1
    verbs = [index for index, token in enumerate(tokens) if token.text.lower() in ("is", "are")]
    if position and len(verbs) == 1 and tokens[0].text.lower() in ANNOUNCING:
        # "The volume of the box is 120."
        position = max(position, verbs[0] + 1)
    rest = tokens[position:]
    if position and len(rest) > 1 and rest[0].text == ":":
        return rest[1:]
    is_label = position and rest and (rest[0].kind == "number" or rest[0].text in r"\frac - $ {")
    return rest if is_label or (position > 1 and rest) else tokens


def _is_compound(tokens: Sequence[Token]) -> bool:
    """Whether tokens are one amount in two units of a kind: 7 hours and 30 minutes."""
    if [token.kind for token in tokens] != ["number", "letters", "letters", "number", "letters"]:
        return False
    if tokens[2].text.lower() != "and":
        return False
    larger, smaller = read_unit(tokens[1:2]), read_unit(tokens[4:5])
    is_kind = larger.dimensions is not None and larger.dimensions == smaller.dimensions
    return is_kind and larger.factor > smaller.factor


_MINUS_WORDS = ("minus", "negative")


def _with_sign(tokens: Sequence[Token]) -> Sequence[Token]:
    """ "minus 5" as -5."""
    is_number = len(tokens) > 1 and (tokens[1].kind == "number" or tokens[1].text == r"\frac")
    if not is_number or tokens[0].text.lower() not in _MINUS_WORDS:
        return tokens
    return [tokens[0]._replace(kind="sign", text="-"), *tokens[1:]]


def _read_members(tokens: Sequence[Token], depth: int = 0) -> Answer:
    """The members between commas, semicolons, "and" and "or"."""
    if _is_compound(tokens):
        tokens = [*tokens[:2], *tokens[3:]]
    parts, connective = split(tokens)
    if not parts or len(parts) > _MAX_ITEMS:
        raise Unread("no answer")
    solutions = _solutions(tokens, depth)
    if solutions:
        return Answer(tuple(solutions), ",")
    items: list[Item] = []
    for part in parts:
        items += _plus_minus(part, depth)
    items = _with_common_name(items)
    bounded = _as_reals(items, connective)
    if bounded is not None:
        return Answer((bounded,))
    if len(items) == 1:
        connective = ""
    elif not connective:
        connective = ","
    return Answer(tuple(items), connective)


def _solutions(tokens: Sequence[Token], depth: int) -> list[Item]:
    """The tuples that ``p=5, q=2; p=7, q=2`` lists; none where it lists no such thing."""
    groups, dividers = split_at(tokens, lambda token: token.text.lower() in (";", "or"))
    if not dividers or not any(token.text == "=" for token in tokens):
        return []
    solutions = []
    names = None
    for group in groups:
        parts, _ = split(group)
        items = [_read_item(part, depth) for part in parts]
        assigned = {item.name: item.items[0] for item in items if item.kind == "assignment"}
        if len(assigned) != len(items) or len(items) < 2 or (names and assigned.keys() != names):
            return []
        names = assigned.keys()
        solutions.append(tuple_of(tuple(assigned[name] for name in sorted(names))))
    return solutions


def _plus_minus(tokens: Sequence[Token], depth: int) -> list[Item]:
    r"""The item of some tokens, or the two that ``\pm`` stands for."""
    if not any(token.text in _PLUS_MINUS for token in tokens):
        return [_read_item(tokens, depth)]
    if close_of(tokens, 0) == len(tokens) - 1 and tokens[0].text in ("(", "[", r"\{"):
        return [_read_item(tokens, depth)]
    items = []
    for signs in (("+", "-"), ("-", "+")):
        signed = []
        for token in tokens:
            is_both = token.text in _PLUS_MINUS
            text = signs[_PLUS_MINUS.index(token.text)] if is_both else token.text
            signed.append(token._replace(text=text))
        items.append(_read_item(signed, depth))
    return items


def _with_common_name(items: list[Item]) -> list[Item]:
    """Assigns to the name of ``x = 1, 2`` what follows it; ``x != 1, 2`` excludes both."""
    first = items[0]
    rest = items[1:]
    if first.kind == "assignment" and all(_is_alike(item, first.items[0]) for item in rest):
        return [first, *(assignment(first.name, item) for item in rest)]
    if not rest or any(item.kind != "expression" for item in rest):
        return items
    points = [real_number(item) for item in rest]
    if first.kind == "reals" and first.name and _excludes(first) and None not in points:
        return [_reals(reals.without(first.intervals, points), first.name)]
    return items


def _is_alike(first: Item, second: Item) -> bool:
    pairs = ("tuple", "reals")
    return first.kind == second.kind or (first.kind in pairs and second.kind in pairs)


def assignment(name: str, item: Item) -> Item:
    """The assignment of an item to a name."""
    value = None if item.value is None else ("assignment", name, item.value)
    return Item("assignment", value, items=(item,), name=name)


def _excludes(item: Item) -> bool:
    """Whether a set is the line without single points."""
    return bool(
        reals.union([*item.intervals, *reals.gaps(item.intervals)]) == (reals.everything(),)
    )


def _as_reals(items: list[Item], connective: str) -> Item | None:
    """The set that several bounds on one unknown describe, such as ``x < 1 or x > 2``."""
    if len(items) < 2 or any(item.kind != "reals" or not item.name for item in items):
        return None
    if len({item.name for item in items}) != 1:
        return None
    shared = items[0].intervals
    for item in items[1:]:
        shared = reals.intersection(shared, item.intervals)
    if connective == "or" or not shared:
        shared = reals.union(interval for item in items for interval in item.intervals)
    return _reals(shared, items[0].name)


def _reals(intervals: tuple[reals.Interval, ...], name: str = "") -> Item:
    return Item("reals", reals.key(intervals), name=name, intervals=intervals)


def _read_item(tokens: Sequence[Token], depth: int = 0) -> Item:
    """One member of an answer, whatever it is.

    Raises:
      Unread: if it is nothing that is known.
    """
    if depth > _MAX_DEPTH:
        raise Unread("nested too deeply")
    tokens = _with_sign(unwrap(list(tokens)))
    if not tokens:
        raise Unread("nothing")

    def read(part: Sequence[Token]) -> Item:
        return _read_item(part, depth + 1)

    def read_all(part: Sequence[Token]) -> list[Item]:
        return list(_read_members(part, depth + 1).items)

    for reader in _readers(tokens, read, read_all):
        try:
            item = reader()
        except (Unread, Undefined):
            continue
        if item is not None and item.value in _REAL_WORDS:
            return _reals((reals.everything(),))
        if item is not None:
            return item
    raise Unread("not understood")


_SET_SIGNS = frozenset([r"\cup", r"\cap", r"\setminus", r"\mathbb", r"\emptyset", "U"])
_FIRST_OF_GROUP = ("(", "[", r"\{", r"\langle", r"\begin", "<")


def _read_exception(
    tokens: Sequence[Token], read_all: Callable[[Sequence[Token]], list[Item]]
) -> Item | None:
    """All real numbers except some."""
    position = [token.text for token in tokens].index("except")
    words = read_words(tokens[:position])
    if words is None or words.value not in _REAL_WORDS:
        return None
    points = [real_number(item) for item in read_all(tokens[position + 1 :])]
    return None if None in points else _reals(reals.without((reals.everything(),), points))


def _readers(
    tokens: Sequence[Token],
    read: Callable[[Sequence[Token]], Item],
    read_all: Callable[[Sequence[Token]], list[Item]],
) -> Iterator[Callable[[], Item | None]]:
    """The functions that may read a member, most special first."""
    texts = [token.text for token in tokens]
    if texts[0] in _FIRST_OF_GROUP:
        yield lambda: read_group(tokens, read, read_all)
    if any(text in RELATIONS for text in texts):
        yield lambda: read_relation(tokens, read)
        # What has a relation and cannot be read as one is nothing else.
        if split_at(tokens, lambda token: token.text in RELATIONS)[1]:
            return
    if any(text in _SET_SIGNS for text in texts):
        yield lambda: read_combination(tokens, read)
    if "except" in texts:
        yield lambda: _read_exception(tokens, read_all)
    if ":" in texts or texts[-1].lower() in MERIDIANS:
        yield lambda: read_ratio(tokens)
    yield lambda: read_based(tokens)
    if len(tokens) > 1 or not is_word(tokens[0]) or texts[0].lower() in NUMBER_WORDS:
        yield lambda: read_quantity(tokens)
    yield lambda: read_words(tokens)
