r"""Mathematical answers, compared by meaning.

An answer is cut into tokens (`tokens`), read into its members (`answers`) and compared member by
member (`comparison`); expressions are compared by their values at fixed points (`evaluation`).
math-verify is asked only where both sides have what this grammar does not know (`fallback`).
"""

import re
from collections.abc import Hashable
from functools import lru_cache

from ccpo_jax.boxes import last_boxed
from ccpo_jax.verifiers.extraction import extract_answer
from ccpo_jax.verifiers.math.answers import MAX_CHARS, read_answer
from ccpo_jax.verifiers.math.comparison import accepts, alternatives, canonical
from ccpo_jax.verifiers.math.fallback import same_to_math_verify
from ccpo_jax.verifiers.math.numbers import may_round, plain_number
from ccpo_jax.verifiers.math.question import asks_for_order, bases_of
from ccpo_jax.verifiers.math.setups import is_worked_out
from ccpo_jax.verifiers.math.tokens import tokenize
from ccpo_jax.verifiers.math.vocabulary import NO_ANSWERS
from ccpo_jax.verifiers.types import NO_CONTEXT, Context


def extract_math(text: str, context: Context) -> str | None:
    """What the text states as its answer: in a tag, in a box or in words, whichever is last."""
    return extract_answer(text, context)


def equivalent_math(gold: str, answer: str, context: Context) -> bool:
    r"""Whether the gold accepts an answer.

    Numbers are compared exactly where both are rational; ``x = 5`` equals 5 and ``5 \text{ cm}``
    equals 5. A ratio equals its multiples and the fraction: ``2:3`` equals 4:6 and 2/3.
    """
    gold_number = plain_number(gold)
    number = plain_number(answer)
    if gold_number is not None and number is not None:
        if gold_number.value == number.value:
            is_fraction = number.value.denominator == 1 and re.search(r"/|frac", answer)
            if context.evaluated and is_fraction:
                return is_worked_out(read_answer(gold), read_answer(answer))
            return True
        if not may_round(gold_number, number):
            return False

    gold = _without_solution(gold)
    if _is_no_answer(gold) or not answer.strip():
        return False
    if not _accepts_meaning(gold, answer, asks_for_order(context.question)):
        return _accepts_numeral(gold, answer, context.question)
    return not context.evaluated or is_worked_out(read_answer(gold), read_answer(answer))


def math_value(answer: str, context: Context) -> Hashable | None:
    """The canonical value of an answer, None where only a comparison can tell."""
    number = plain_number(answer)
    if number is not None:
        return ("number", number.value.numerator, number.value.denominator)
    return canonical(read_answer(answer), ordered=asks_for_order(context.question))


def same_math(first: str, second: str, context: Context) -> bool:
    """Whether two answers mean the same, where one of them has no canonical value."""
    if _text(first) == _text(second):
        return True
    if math_value(first, context) is not None or math_value(second, context) is not None:
        return False
    return same_to_math_verify(first, second) and same_to_math_verify(second, first)


def check_math(gold: str, context: Context) -> str | None:
    """None when answers can be compared with a gold by meaning, else the reason."""
    gold = _without_solution(gold)
    if _is_no_answer(gold):
        return f"no answer: {gold!r}"
    if plain_number(gold) is not None:
        return None
    answer = read_answer(gold)
    if any(item.kind == "unread" for item in answer.items):
        return f"not parsed: {gold!r}"
    return None


@lru_cache(maxsize=4096)
def _without_solution(gold: str) -> str:
    """The answer of a gold that is a whole solution; other golds as they are."""
    answer = last_boxed(gold) if "box" in gold else None
    if answer is None and len(gold) > MAX_CHARS:
        answer = extract_answer(gold, NO_CONTEXT)
    return answer or gold


@lru_cache(maxsize=8192)
def _accepts_meaning(gold: str, answer: str, ordered: bool) -> bool:
    """Whether the gold accepts an answer, set-ups included."""
    gold_read = read_answer(gold)
    answer_read = read_answer(answer)
    if accepts(gold_read, answer_read, ordered=ordered):
        return True
    if _text(gold) == _text(answer):
        return True
    # "1,234" may be one number or two, and a comma may be a decimal one.
    if len(gold_read.items) != len(answer_read.items) or answer_read.items[0].value is None:
        answer_list = read_answer(answer, thousands=False)
        if _may_be_list(answer) and accepts(gold_read, answer_list, ordered=ordered):
            return True
        gold_list = read_answer(gold, thousands=False)
        if _may_be_list(gold) and accepts(gold_list, answer_read, ordered=ordered):
            return True
        if _accepts_decimal_comma(gold, answer):
            return True
    values = [item.value for item in (*gold_read.items, *answer_read.items)]
    if None in values and len(gold) <= MAX_CHARS and len(answer) <= MAX_CHARS:
        return same_to_math_verify(gold, answer)
    return False


def _may_be_list(answer: str) -> bool:
    """Whether digits between commas may be numbers of their own: 100,200 but not 120,000."""
    return re.search(r",\s*0\d", answer) is None


def _accepts_numeral(gold: str, answer: str, question: str) -> bool:
    """Whether digits agree where the question names their base and one side leaves it out."""
    bases = bases_of(question)
    if not bases:
        return False
    for base in bases:
        gold_numeral = _numeral(gold, base)
        if gold_numeral is not None and gold_numeral == _numeral(answer, base):
            return True
    return False


def _numeral(answer: str, base: int) -> str | None:
    """The digits of a numeral of this base, or of one that does not name its base."""
    items = read_answer(answer).items
    item = items[0].items[0] if items[0].kind == "assignment" else items[0]
    if len(items) == 1 and item.kind == "based" and isinstance(item.value, tuple):
        return item.value[1] if item.value[2] == base else None
    text = re.sub(r"[\s${}]|\\text|\\,", "", answer).lower()
    return text.lstrip("0") if re.fullmatch(r"[0-9a-f]{1,80}", text) else None


def _accepts_decimal_comma(gold: str, answer: str) -> bool:
    """1000,99 is 1000.99; but 3,0 may be two guesses, and is not 3."""
    for decimal in alternatives(answer):
        if decimal.strip("0")[-1] != "." and accepts(read_answer(gold), read_answer(decimal)):
            return True
    # A gold such as 3,5 is rather a list of two.
    for decimal in alternatives(gold):
        if (
            (len(decimal.partition(".")[2]) > 1 or _is_tenths(decimal, answer))
            and decimal.strip("0")[-1] != "."
            and accepts(read_answer(decimal), read_answer(answer))
        ):
            return True
    return False


def _is_tenths(decimal: str, answer: str) -> bool:
    """Whether 0,5 is answered by a plain 0.5, which no list of two is."""
    number = plain_number(answer)
    return decimal.startswith("0.") and number is not None and number.decimals is not None


@lru_cache(maxsize=8192)
def _text(answer: str) -> str:
    """The answer as text: its tokens without spaces."""
    if len(answer) > MAX_CHARS:
        return "".join(answer.split())
    tokens = [token for token in tokenize(answer) if token.text not in "{}"]
    text = ""
    last = ""
    for token in tokens:
        # Two numbers side by side are not one number.
        text += (" " if last == token.kind == "number" else "") + token.text
        last = token.kind
    return text


def _is_no_answer(gold: str) -> bool:
    """Whether a gold stands for the lack of one, such as "proof"."""
    if gold.strip() in ("", "None"):
        # The second is what Python writes for a missing value.
        return True
    if len(gold) > 60:
        return False
    words = re.findall(r"[a-z]++", re.sub(r"\\[a-z]++", " ", gold.lower()))
    return "_".join(words) in NO_ANSWERS
