r"""Mathematical answers, compared by meaning.

math-verify decides; around it are the cases it gets wrong or slow: units, ratios, times of day,
words, and plain numbers, which most answers are and which need no parser.
"""

import functools
import logging
import math
import re
from fractions import Fraction
from typing import Any

import math_verify
from latex2sympy2_extended import NormalizationConfig
from sympy import Basic, MatrixBase

from ccpo_jax.verifiers.extraction import TEXT_COMMAND, last_boxed, last_stated
from ccpo_jax.verifiers.types import Context

# math-verify warns when its own time limit is off. That limit is an exception raised from SIGALRM,
# which a long step outside the interpreter never sees; the pool's timer ends the process instead.
logging.getLogger("math_verify").setLevel(logging.ERROR)

# Longer answers are compared as text and not parsed; the longest gold of the usual sets has 210.
_MAX_PARSED_CHARS = 600

# Numbers further apart than this differ within their first six decimals, math-verify's precision.
_DIFFERENT = Fraction(1, 10**5)

# `units` is off: the parser takes every final c, t, s, m, ... for a unit, so a + b + c becomes a +.
_LATEX = math_verify.LatexExtractionConfig(
    normalization_config=NormalizationConfig(
        basic_latex=True,
        units=False,
        malformed_operators=True,
        nits=True,
        boxed="none",
        equations=False,
    )
)

# An integer, a decimal, \frac{a}{b} or a/b, as `_bare` writes them.
_RATIONAL = re.compile(
    r"(?P<sign>-?)(?:(?P<number>\d+(?:\.\d+)?|\.\d+)|\\frac\{(?P<a>\d+)\}\{(?P<b>\d+)\}"
    r"|(?P<c>\d+)/(?P<d>\d+))"
)

# One term of a ratio. A point counts inside a number alone, and a letter on its own: "9:2x" is a
# ratio, "example.com:80" is not.
_RATIO_TERM = (
    r"(?:\d|(?<=\d)\.(?=\d)|(?<![A-Za-z])[A-Za-z](?![A-Za-z.])|\\(?:frac|sqrt|pi)|[-+*/^(){}])++"
)
_RATIO = re.compile(rf"{_RATIO_TERM}(?::{_RATIO_TERM})+")

# A ratio equals a fraction, 2:3 = 2/3, but never a plain number, so that 3:1 does not equal 3.
_FRACTION = re.compile(r"/|\\[dt]?frac")

# A unit in a text command at the end, power included: 15\mbox{ cm}^2.
_TEXT_UNIT = re.compile(r"(?:\\[ ,;]|~|\s)*+" + TEXT_COMMAND + r"(?:\^(?:\d|\{\d\}))?$")

# A unit in plain words at the end: an abbreviation directly behind the number, or any word of four
# or more letters. Words that change the value ("million", "percent") and words of the formula are
# not units.
_WORD_UNIT = re.compile(
    r"(?<=[\d})])(?:\s*(?:mm|cm|dm|km|kg|mg|ml|ft|lbs?|oz|mph|hrs?|sq)\b"
    r"|\s+(?!percent|hundred|thousand|million|billion|dozen|pi\b|sqrt|and\b|or\b)"
    r"(?:in|mi|min|sec|yd|[A-Za-z]{4,})\b)(?:\s+[A-Za-z.]+)*(?:\^(?:\d|\{\d\}))?$"
)

# A formula followed by a heading of the solution, as in some golds: "$145$ Solution:".
_HEADING = re.compile(
    r"(\$\$?)([^$]*[^$\\])\1\s*"
    r"(?:[A-Za-z][A-Za-z ]*:|(?i:solution|answer|explanation|analysis|proof))"
)

# {x | 0 < x < 1}: the inequality alone says the same, and the parser understands it.
_SET_BUILDER = r"^\\?\{\s*[A-Za-z]\s*(?:\||\\mid|:)([^|]*(?:[<>]|\\[lg]eq?)[^|]*?)\\?\}$"

# (pattern, replacement), applied in this order.
_REPLACEMENTS = (
    # Thousands separators: 29,\!322 and 29{,}322.
    (re.compile(r"(?<=\d)(?:,\\!|\{,\}|\\!,?)\s*(?=\d{3}(?!\d))"), ""),
    # Exponents: 4.5e33.
    (re.compile(r"(?<![\w\\])(\d+\.?\d*|\.\d+)[eE]([-+]?\d+)(?!\w)"), r"\1 \\times 10^{\2}"),
    # A decimal point without decimals: 1./3.
    (re.compile(r"(?<=\d)\.(?=[/)\s]|$)"), ""),
    # numpy's names of functions: np.arcsin(...).
    (re.compile(r"\bnp\.(?=[a-z])"), r"\\"),
    (re.compile(r"\\approx"), "="),
    (re.compile(r"^\s*=\s*"), ""),
    # An energy E_1: the parser reads every other E as the base of the natural logarithm.
    (re.compile(r"(?<![A-Za-z\\])E_"), r"\\mathcal{E}_"),
    # The index of solar units, which the parser does not know.
    (re.compile(r"_(?:\\odot|\{\\odot\})"), "_{sun}"),
    # Degree signs in their several spellings.
    (re.compile(r"\s*(?:°|\^\s*\\circ|\^\s*\{\s*\\circ\s*\})"), r"^\\circ"),
    (re.compile(_SET_BUILDER), r"\1"),
)


def extract_math(text: str, context: Context) -> str | None:
    """The last boxed answer, else the last stated one."""
    return last_boxed(text) or last_stated(text)


def equivalent_math(gold: str, answer: str, context: Context) -> bool:
    """Whether two answers mean the same to math-verify, or are the same words.

    ``x = 5`` equals 5 and ``5 \\text{ cm}`` equals 5; numbers agree to six decimals. A ratio equals
    its multiples and the fraction: ``2:3`` equals 4:6 and 2/3, but ``3:1`` does not equal 3.
    """
    gold_words = _bare(gold)
    words = _bare(answer)
    if gold_words and gold_words == words:
        return True

    # Numbers first: this is a hundred times faster than parsing, and most answers are numbers.
    gold_number = _rational(gold_words)
    number = _rational(words)
    if gold_number is not None and number is not None:
        difference = abs(gold_number - number)
        if difference == 0:
            return True
        if difference > _DIFFERENT:
            return False

    gold_terms = _ratio_terms(gold_words)
    terms = _ratio_terms(words)
    if gold_terms and terms:
        return _same_ratio(gold_terms, terms)
    if gold_terms and not _FRACTION.search(words):
        return False
    if terms and not _FRACTION.search(gold_words):
        return False
    return _same_expressions(_parse(gold), _parse(answer))


def math_value(answer: str, context: Context) -> Fraction | None:
    """The exact value of an integer, a decimal or a fraction of integers, else None."""
    return _rational(_bare(answer))


def same_math(first: str, second: str, context: Context) -> bool:
    """Equivalence in both directions: as a gold, 1 accepts y = 1, but not always the reverse."""
    if not equivalent_math(first, second, context):
        return False
    return equivalent_math(second, first, context)


def _same_expressions(gold: list, answer: list) -> bool:
    """math-verify's verdict on two parsed answers. Its own time limit is off: the pool has one."""
    return math_verify.verify(gold, answer, timeout_seconds=None, raise_on_error=True)


def _rational(words: str) -> Fraction | None:
    """The exact value of an integer, a decimal or a fraction of integers, else None."""
    if len(words) > _MAX_PARSED_CHARS:
        return None
    match = _RATIONAL.fullmatch(words)
    if match is None:
        return None
    numerator = match["number"] or match["a"] or match["c"]
    denominator = int(match["b"] or match["d"] or "1")
    return Fraction(f"{match['sign']}{numerator}") / denominator if denominator else None


def _ratio_terms(words: str) -> list[str]:
    """The terms of a ratio, also of one behind an equals sign; [] for anything else."""
    ratio = words.rpartition("=")[2]
    if len(ratio) > _MAX_PARSED_CHARS or not _RATIO.fullmatch(ratio):
        return []
    terms = ratio.split(":")
    for term in terms:
        if term.count("(") != term.count(")") or term.count("{") != term.count("}"):
            return []
    return terms


def _same_ratio(gold: list[str], terms: list[str]) -> bool:
    """Whether two ratios are the same; a gold that is a time of day equals itself alone."""
    if len(gold) != len(terms):
        return False
    if _is_time(gold):
        if not all(term.isdecimal() for term in gold + terms):
            return False
        return list(map(int, gold)) == list(map(int, terms))
    return all(
        _same_expressions(gold_quotient, quotient)
        for gold_quotient, quotient in zip(_quotients(gold), _quotients(terms), strict=True)
    )


def _is_time(terms: list[str]) -> bool:
    """9:24 or 05:00, but not 3:10: a time of day that, read as a ratio, would have been reduced."""
    if not re.fullmatch(r"\d\d?", terms[0]):
        return False
    if not all(re.fullmatch(r"[0-5]\d", term) for term in terms[1:]):
        return False
    return math.gcd(*map(int, terms)) > 1


def _quotients(terms: list[str]) -> list[list]:
    """Each term divided by the next, and the last by the first, parsed."""
    following = terms[1:] + terms[:1]
    return [
        _parse(rf"\frac{{{numerator}}}{{{denominator}}}")
        for numerator, denominator in zip(terms, following, strict=True)
    ]


def check_math(gold: str, context: Context) -> str | None:
    """None when the gold is a number or parses to an expression, else the reason."""
    if _rational(_bare(gold)) is not None:
        return None
    is_parsed = any(isinstance(result, Basic | MatrixBase) for result in _parse(gold))
    return None if is_parsed else f"not parsed: {gold!r}"


@functools.lru_cache(maxsize=4096)
def _parse(answer: str) -> list:
    """The parser's results for an answer; none for one that is too long."""
    if len(answer) > _MAX_PARSED_CHARS:
        return []
    latex = f"$${_clean(answer)}$$"
    # None turns the parser's own time limit off; its annotation forgets that.
    no_limit: Any = None
    return math_verify.parse(latex, [_LATEX], parsing_timeout=no_limit, raise_on_error=True)


@functools.lru_cache(maxsize=4096)
def _bare(answer: str) -> str:
    """The answer as text to compare; one that is too long is not cleaned."""
    return _words(answer if len(answer) > _MAX_PARSED_CHARS else _clean(answer))


def _clean(answer: str) -> str:
    """LaTeX without dollar signs, units and final punctuation."""
    latex = answer.strip().strip("*").strip()
    for opening, closing in ((r"\(", r"\)"), (r"\[", r"\]")):
        if latex.startswith(opening) and latex.endswith(closing):
            latex = latex[2:-2]
    headed = _HEADING.fullmatch(latex)
    if headed:
        latex = headed[2]

    latex = re.sub(r"(?<!\\)\$", "", latex).strip().rstrip(".,;:").strip()
    for pattern, replacement in _REPLACEMENTS:
        latex = pattern.sub(replacement, latex)

    for unit in (_TEXT_UNIT, _WORD_UNIT):
        without_unit = unit.sub("", latex)
        # A unit follows a number; what is left without one, such as \text{Evelyn}, was the answer.
        if re.search(r"\d|\\pi", without_unit):
            latex = without_unit
    return latex.strip()


def _words(latex: str) -> str:
    """The text to compare: no text commands and no spaces; no case where it is all letters."""
    words = re.sub(TEXT_COMMAND, r"\1", latex)
    words = words.replace(r"\left", "").replace(r"\right", "").replace(r"\dfrac", r"\frac")
    words = re.sub(r"\\[ ,;!:]|~|\s+", "", words)

    # A single letter keeps its case: a and A may be different unknowns.
    letter = re.fullmatch(r"\(?([A-Za-z])\)?", words)
    if letter:
        return letter[1]
    return words.casefold() if words.isalpha() else words
