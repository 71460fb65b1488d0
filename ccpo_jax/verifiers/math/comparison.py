"""Whether a gold accepts an answer, member by member."""

import re
from collections.abc import Callable, Hashable, Sequence

from ccpo_jax.verifiers.math import reals
from ccpo_jax.verifiers.math.agreement import accepts_expression, has_no_unknowns, is_rounded_by
from ccpo_jax.verifiers.math.equations import have_same_solutions
from ccpo_jax.verifiers.math.evaluation import (
    Number,
    agree_where_real,
    as_float,
    is_close,
    number_key,
    positive_symbols,
)
from ccpo_jax.verifiers.math.items import Answer, Item
from ccpo_jax.verifiers.math.literals import clock, is_reduced


def accepts(gold: Answer, answer: Answer, *, ordered: bool = False) -> bool:
    """Whether an answer says what the gold says.

    Args:
      gold: the members of the gold.
      answer: the members of the answer.
      ordered: whether the order of the members counts.
    """
    if len(gold.items) == 1 and len(answer.items) == 1:
        return accepts_item(gold.items[0], answer.items[0])
    if len(gold.items) == 1 and _repeats_one(answer):
        # "3/4 or 0.75" is one number twice.
        return accepts_item(gold.items[0], answer.items[0])
    gold, answer = _spread(gold), _spread(answer)
    named = _accepts_named(gold.items, answer.items)
    if named is not None:
        return named
    gold_items = _distinct_tuples(_members(gold))
    items = _distinct_tuples(_members(answer))
    if gold_items is None or items is None or len(gold_items) != len(items):
        return False
    return _accepts_all(gold_items, items, ordered=ordered or _is_in_order(gold_items))


def _repeats_one(answer: Answer) -> bool:
    values = {item.value for item in answer.items}
    return answer.connective == "or" and len(values) == 1 and None not in values


def _spread(answer: Answer) -> Answer:
    """(x, y) = (1, 2) as x = 1, y = 2."""
    item = answer.items[0]
    if len(answer.items) != 1 or item.kind != "assignment" or not _is_tuple(item.items[0]):
        return answer
    names = item.name.strip("()").split(",")
    values = item.items[0].items
    if len(names) != len(values):
        return answer
    pairs = zip(names, values, strict=True)
    spread = tuple(Item("assignment", None, items=(value,), name=name) for name, value in pairs)
    return Answer(spread, ",")


def _members(answer: Answer) -> Sequence[Item] | None:
    """The members of a list, or of a set that is written in braces."""
    if len(answer.items) == 1 and answer.items[0].kind == "set":
        return answer.items[0].items
    if len(answer.items) == 1 and answer.items[0].kind == "reals":
        # Single points that were excluded or joined are no list.
        return None
    return answer.items


def _distinct_tuples(items: Sequence[Item] | None) -> Sequence[Item] | None:
    """A list of tuples without repetitions; numbers may be repeated, as double roots are."""
    if not items or any(item.kind not in ("tuple", "reals") for item in items):
        return items
    if any(item.value is None for item in items):
        return items
    return list({item.value: item for item in items}.values())


def _accepts_all(gold: Sequence[Item], items: Sequence[Item], *, ordered: bool) -> bool:
    """Whether each member of the gold has its own equal in the answer."""
    if ordered:
        return all(map(accepts_item, gold, items))
    remaining = list(items)
    for member in gold:
        equal = next((item for item in remaining if accepts_item(member, item)), None)
        if equal is None:
            return False
        remaining.remove(equal)
    return True


def _is_in_order(gold: Sequence[Item]) -> bool:
    """Whether the members are names in an order that is not the alphabet's, so that it counts."""
    names = []
    for item in gold:
        is_symbol = item.node is not None and item.node.kind == "symbol"
        if not is_symbol and item.kind != "words":
            return False
        names.append(str(item.node.value) if item.node is not None else repr(item.value))
    return names != sorted(names)


def _accepts_named(gold: Sequence[Item], items: Sequence[Item]) -> bool | None:
    """The verdict where the gold assigns to several names; None where it does not."""
    names = [item.name for item in gold if item.kind == "assignment"]
    answered = [item.name for item in items if item.kind == "assignment"]
    if len(names) == len(gold) and _are_different(names):
        if len(answered) == len(items):
            return len(gold) == len(items) and _accepts_all(gold, items, ordered=False)
        # A bare list has to follow the order of the names, and a tuple that of the alphabet.
        in_order = gold if len(items) > 1 else sorted(gold, key=lambda item: item.name)
        values = [item.items[0] for item in in_order]
        members = _tuple_members(items)
        return members is not None and _accepts_same_length(values, members)
    if len(answered) == len(items) and _are_different(answered):
        members = _tuple_members(gold)
        if members is None:
            return False
        if _is_tuple(gold[0]) and _are_neighbours(answered):
            items = sorted(items, key=lambda item: item.name)
        elif not _is_sorted(answered):
            return False
        return _accepts_same_length(members, [item.items[0] for item in items])
    return None


def _are_different(names: list[str]) -> bool:
    """Whether names are of several unknowns; x_1 and x_2 are values of one."""
    stems = {name.partition("_")[0] for name in names}
    return len(names) > 1 and len(stems) == len(names)


def _are_neighbours(names: list[str]) -> bool:
    """Whether names are letters that follow each other, such as y and x, in whatever order."""
    codes = sorted(ord(name) for name in names if len(name) == 1)
    return codes == list(range(codes[0], codes[0] + len(names))) if codes else False


def _is_sorted(names: list[str]) -> bool:
    return names == sorted(names)


def _tuple_members(items: Sequence[Item]) -> Sequence[Item] | None:
    """The members of one tuple, or of a bare list without assignments."""
    if len(items) == 1:
        return items[0].items if _is_tuple(items[0]) else None
    return items if all(item.kind == "expression" for item in items) else None


def _accepts_same_length(gold: Sequence[Item], items: Sequence[Item]) -> bool:
    return len(gold) == len(items) and all(map(accepts_item, gold, items))


def _is_tuple(item: Item) -> bool:
    """Whether an item is a tuple; two numbers in round brackets are one and an interval."""
    if item.kind == "tuple":
        return True
    return item.kind == "reals" and len(item.items) == 2 and _brackets(item) == "()"


def _brackets(item: Item) -> str:
    """The brackets of an interval."""
    if item.kind == "bracketed":
        return item.name
    interval = item.intervals[0]
    return ("[" if interval.low_closed else "(") + ("]" if interval.high_closed else ")")


def _are_same_equation(first: Item, second: Item) -> bool:
    """Whether both are equations, with the same solutions."""
    if first.difference is None or second.difference is None:
        return False
    positive = positive_symbols(first.difference) | positive_symbols(second.difference)
    if agree_where_real(first.value, second.value, positive):
        return True
    return have_same_solutions(first.difference, second.difference)


def accepts_item(gold: Item, item: Item) -> bool:
    """Whether a member of an answer says what a member of the gold says."""
    if gold.approximation is not None and accepts_item(gold.approximation, item):
        return True
    rounded = item.approximation
    if rounded is not None and is_rounded_by(rounded, item) and accepts_item(gold, rounded):
        return True
    if _are_same_equation(gold, item):
        return True
    if gold.kind == "assignment" or item.kind == "assignment":
        return _accepts_assignment(gold, item)
    compare = _COMPARISONS.get((gold.kind, item.kind))
    if compare is not None:
        return compare(gold, item)
    return gold.kind == item.kind and gold.value is not None and gold.value == item.value


def _accepts_assignment(gold: Item, item: Item) -> bool:
    """``x = 5`` against ``x = 5``, against 5, and against equations."""
    if gold.kind == item.kind:
        if gold.value is not None and gold.value == item.value:
            return True
        return gold.name == item.name and accepts_item(gold.items[0], item.items[0])
    if gold.kind == "assignment":
        if item.kind == "relation":
            return gold.value is not None and gold.value == item.value
        return accepts_item(gold.items[0], item)
    if gold.kind == "relation":
        return gold.value is not None and gold.value == item.value
    return accepts_item(gold, item.items[0])


def _accepts_members(gold: Item, item: Item) -> bool:
    """Tuples, matrices and lists in brackets: member by member."""
    is_shaped = gold.name == item.name or {gold.name, item.name} == {"()", "vector"}
    return is_shaped and _accepts_same_length(gold.items, item.items)


def _accepts_pair(gold: Item, item: Item) -> bool:
    """A tuple against two numbers in round brackets, which may be an interval."""
    pair = gold if gold.kind == "reals" else item
    if not _is_tuple(pair):
        return False
    return _accepts_same_length(gold.items, item.items)


def _accepts_reals(gold: Item, item: Item) -> bool:
    """Sets of real numbers; an unknown that both name has to be the same."""
    if gold.name and item.name and gold.name != item.name:
        return False
    if gold.value == item.value:
        return True
    if len(gold.intervals) != len(item.intervals):
        return False
    if gold.items and item.items:
        return _brackets(gold) == _brackets(item) and _accepts_same_length(gold.items, item.items)
    return all(map(_same_interval, gold.intervals, item.intervals))


def _same_interval(first: reals.Interval, second: reals.Interval) -> bool:
    closed = (first.low_closed, first.high_closed)
    if closed != (second.low_closed, second.high_closed):
        return False
    pairs = ((first.low, second.low), (first.high, second.high))
    return all(
        number_key(one) == number_key(other) or (_finite(one, other) and is_close(one, other))
        for one, other in pairs
    )


def _finite(*numbers: Number) -> bool:
    return all(abs(as_float(number)) != reals.infinity() for number in numbers)


def _accepts_set(gold: Item, item: Item) -> bool:
    """Sets: each member of one equals a member of the other, however often it is written."""
    if gold.value is not None and gold.value == item.value:
        return True
    forth = all(any(accepts_item(one, other) for other in item.items) for one in gold.items)
    return forth and all(
        any(accepts_item(one, other) for one in gold.items) for other in item.items
    )


def _accepts_single(gold: Item, item: Item) -> bool:
    """{5} is read as 5, and 5 as {5}."""
    members = gold.items if gold.kind == "set" else item.items
    if len(members) != 1:
        return False
    if gold.kind == "set":
        return accepts_item(members[0], item)
    return accepts_item(gold, members[0])


def _accepts_ratio(gold: Item, item: Item) -> bool:
    """Ratios with the same quotients; a gold that is a time of day equals itself alone."""
    if clock(gold) is not None and not is_reduced(gold):
        return gold.name.count(":") == item.name.count(":") and clock(gold) == clock(item)
    return gold.value == item.value


def _accepts_time(gold: Item, item: Item) -> bool:
    """A time with a.m. or p.m. against one without, which is only a gold if it does not say."""
    if item.kind == "ratio":
        # 17:00 says 5:00 p.m.; 5:00 does not.
        seconds = clock(item)
        is_afternoon = seconds is not None and seconds >= 13 * 3600
        return is_afternoon and gold.value == ("time", seconds)
    seconds = clock(gold)
    if seconds is None or not isinstance(item.value, tuple):
        return False
    half_day = 12 * 3600
    if seconds >= 13 * 3600:
        return item.value == ("time", seconds)
    return item.value[1] % half_day == seconds % half_day


def _accepts_fraction(gold: Item, item: Item) -> bool:
    """2:3 is 2/3; but 3:1 is not 3, and 1:2 not 0.5."""
    ratio, fraction = (gold, item) if gold.kind == "ratio" else (item, gold)
    node = fraction.node
    if node is None or node.kind != "divide" or node.value == "percent" or len(ratio.items) != 2:
        return False
    if clock(ratio) is not None and not is_reduced(ratio):
        return False
    return isinstance(ratio.value, tuple) and ratio.value[1] == fraction.value


Comparison = Callable[[Item, Item], bool]
_COMPARISONS: dict[tuple[str, str], Comparison] = {
    ("expression", "expression"): accepts_expression,
    ("reals", "reals"): _accepts_reals,
    ("tuple", "tuple"): _accepts_members,
    ("tuple", "reals"): _accepts_pair,
    ("reals", "tuple"): _accepts_pair,
    ("bracketed", "bracketed"): _accepts_members,
    ("matrix", "matrix"): _accepts_members,
    ("set", "set"): _accepts_set,
    ("set", "expression"): _accepts_single,
    ("expression", "set"): _accepts_single,
    ("ratio", "ratio"): _accepts_ratio,
    ("ratio", "time"): _accepts_time,
    ("time", "ratio"): _accepts_time,
    ("ratio", "expression"): _accepts_fraction,
    ("expression", "ratio"): _accepts_fraction,
}


def canonical(answer: Answer, *, ordered: bool = False) -> tuple | None:
    """The canonical value of an answer; None if a member has none."""
    values = []
    for item in answer.items:
        value = item.value
        if item.kind == "assignment" and len(answer.items) == 1:
            value = _assigned_value(item)
        if item.kind == "ratio" and clock(item) is not None and not is_reduced(item):
            value = ("clock", clock(item))
        if value is None:
            return None
        values.append(value)
    if len(values) == 1:
        return _without_braces(values[0])
    if ordered:
        return ("list", *values)
    # A list without repetitions says the same as a set.
    head = "set" if len(set(values)) == len(values) else "list"
    return (head, tuple(sorted(values, key=repr)))


def _without_braces(value: tuple) -> tuple:
    """The set of one member is in the class of this member."""
    is_single = value[0] == "set" and len(value[1]) == 1
    return value[1][0] if is_single else value


def _assigned_value(item: Item) -> Hashable:
    """x = 5 is in the class of 5; y = 2x + 3 in that of its equations."""
    assigned = item.items[0]
    return assigned.value if assigned.node is None or has_no_unknowns(assigned) else item.value


# 1000,99 and 1.000,99.
_DECIMAL_COMMA = re.compile(r"[\s$]*+(-?(?:\d{1,3}(?:\.\d{3})++|\d++)),(\d++)[\s$]*+")


def alternatives(answer: str) -> list[str]:
    """Other readings of an answer with one comma between digits: 1000,99 with a decimal comma."""
    match = _DECIMAL_COMMA.fullmatch(answer)
    return [f"{match[1].replace('.', '')}.{match[2]}"] if match else []
