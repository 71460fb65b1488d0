"""The values that a text states at a position: one, several, or one with an alternative.

Where several values are offered, as in "37, maybe 38", all of them are the answer: no guess is
paid for beside another.
"""

import re

from ccpo_jax.verifiers.extraction.changes import is_changed
from ccpo_jax.verifiers.extraction.corrections import correction_at
from ccpo_jax.verifiers.extraction.expressions import expression_at, rest_of_sentence
from ccpo_jax.verifiers.extraction.markup import formula_at

# Quotes, emphasis and adverbs between an announcement and its answer, and nouns such as "the
# number" before a value.
_BEFORE_ANSWER = re.compile(
    r"(?:[\s*_`\"'“”‘’>}«「:：≈~]|\\\"|=(?!=)|\\(?:text(?:bf)?|mathbf)\s?\{|\\approx\b"
    r"|</?(?:b|strong|i|em|u|code)>"
    r"|(?i:(?:therefore|thus|hence|then|so|simply|just|exactly|precisely|approximately|about|around"
    r"|roughly|nearly|almost|actually|indeed|clearly|definitely|certainly|probably|most likely"
    r"|likely"
    r"|(?:found|determined|calculated|computed|known) to be|a (?:grand )?total of"
    r"|equal to|equals|given by|now|also|still|only|that)\b,?|approx\.)"
    r"|(?i:an?|the)\s+(?:[a-z]{1,12}\s+){0,2}?(?:number|value|integer|fraction|interval|set|point"
    r"|pair|triple|tuple|vector|matrix|expression|function|equation|sum|total|ratio)s?\b"
    r"(?!\s+(?:of|is)\b)"
    r"|约为?|大约|等于|应该?[为是]|[是为])*+"
)

# What joins the formulas of one answer: "$x=1$, $x=2$ and $x=3$".
_SEPARATOR = re.compile(
    r"[\s*_`]*+(?:;\s*+|[,，、；]\s*+(?:(?:and|or)\b)?|(?:and|or)\b|[和或与及])\s*+"
)

# Behind these words stand reasons and circumstances; any other number in the rest of a sentence
# is another value that it offers.
_REASON = re.compile(
    r"(?i)\b(?:since|because|as(?! well\b)(?<!well as)(?! it (?:could|might|may))"
    r"|which(?! could| might| may)|where|when|whether|if(?! not\b)(?! that\b)|so|for|given|this"
    r"|that|thus|hence|therefore|means"
    r"|(?<!if )not(?!.*\b(?:or|maybe|perhaps|possibly)\b)|rather|instead"
    r"|after|by|with|of|per|in|on|at|from|than|each|every|is|are|was|were"
    r"|(?:equivalently|about|approximately|roughly|around))\b|i\.e|因为|所以"
)
# A word that offers a value even if it leads to a clause: "37, unless it is 38".
_HEDGE = re.compile(
    r"(?i)\b(?:or|maybe|perhaps|possibly|alternatively|otherwise|unless|could|might|may)\b"
    r"(?!,? (?:equivalently|about|approximately|roughly|around|simply|simplified|as an?\b|in\b))"
)
# What begins a sentence that takes back the one before it: "37. Or maybe 38."
_HEDGING_SENTENCE = re.compile(
    r"(?i)[\s*_`\"')}\]$\\.,;]{0,12}+(?:or|maybe|perhaps|possibly|alternatively|otherwise|unless|else"
    r"|if (?:that|this|it|not)"
    r"|my (?:second|other|next|alternative) (?:guess|answer|choice)"
    r"|(?:but |although |though )?(?:it|this|the answer|i) (?:could|might|may)|或者?|也许|可能)\b"
)
# Words that may stand before another value.
_BEFORE_GUESS = re.compile(r"(?:[^\d\\$√∞]|\\(?:text|mbox|q?quad|[,; ])){0,60}+(?<![A-Za-z0-9.^_])")
_MAX_HEDGE_CHARS = 160
# "The answer is 7. 8 is also correct."
_ANOTHER_SENTENCE = re.compile(
    r"(?i)[\s.!*_$)\]}]{1,8}+(?:and |but |also,? )?(?=(?P<value>[-$\\]{0,2}\d[\d.,/]{0,12}\$?)"
    r" (?:is|would be|works?"
    r"|could be|may be|can be|might be)\b(?! not)[^.\n]{0,20}\b(?:also|too|as well|equally|another"
    r"|possible|acceptable|correct|valid|right)\b|[-$\\]{0,2}\d[\d.,/]{0,12}\$? (?:also|too) works)"
)

# "negative 5" is -5.
_SIGN_WORD = re.compile(r"(?i)(?:negative|minus)\s++(?=[$\\(]{0,3}\d|\$?\\[dt]?frac)")
_UNSIGNED = re.compile(
    r"[$\\]{0,2}[\d.,/]+(?:\s?[a-z%\\]{1,3})?|\\[dt]?frac\s?\{\d+\}\s?\{\d+\}|\d*\\sqrt\{\d+\}"
)

_NEXT_LINE = re.compile(
    r"[ \t.,;*_`$)}\r]{0,8}+\n\s{0,4}+[*_`]{0,3}(?=[-+$\\(]{0,4}\d|\\[a-z]{2}|\$)"
)
_END_OF_LINE = re.compile(r"[ \t.,;*_`$)}\r]{0,8}+(?:\n|\Z)")
_MAX_NEXT_LINES = 8

# More values in a row than these are corrected by none who is in earnest.
_MAX_CORRECTIONS = 8

# The answer of a text that states one, but no value that could be read.
NO_SINGLE_VALUE = ""


def begin_of_answer(text: str, position: int) -> int:
    """The position behind the markup and the adverbs that precede an answer."""
    before = _BEFORE_ANSWER.match(text, position)
    return before.end() if before else position


def values_at(text: str, begin: int) -> str | None:
    """The values at a position, joined by commas; `NO_SINGLE_VALUE` where words change them.

    Values that are corrected at once do not count: "41, sorry, 42" is 42.
    """
    for _ in range(_MAX_CORRECTIONS):
        sign = _SIGN_WORD.match(text, begin)
        first = expression_at(text, sign.end() if sign else begin)
        if first is None:
            return None
        end = first.end
        contents = [first.content]
        while first.is_formula and (separator := _SEPARATOR.match(text, end)):
            formula = formula_at(text, separator.end())
            if formula is None:
                break
            contents.append(formula.content)
            end = formula.end
        correction = correction_at(text, end)
        if correction is None:
            break
        if correction < 0:
            return NO_SINGLE_VALUE
        begin = correction
    else:
        return NO_SINGLE_VALUE

    if is_changed(text, end):
        return NO_SINGLE_VALUE
    if sign:
        if len(contents) > 1 or not _UNSIGNED.fullmatch(first.content):
            return NO_SINGLE_VALUE
        contents = [f"-{first.content}"]
    contents += hedged_values(text, end)
    return ", ".join(dict.fromkeys([*contents, *values_of_next_lines(text, end)]))


def values_of_next_lines(text: str, end: int) -> list[str]:
    """The values that have the next lines for themselves, if the one that ends here ends its line.

    Example:
      >>> values_of_next_lines("5\\n6\\n7 eggs are left", 1)
      ['6']
    """
    values: list[str] = []
    for _ in range(_MAX_NEXT_LINES):
        line = _NEXT_LINE.match(text, end)
        value = expression_at(text, line.end()) if line else None
        if value is None or not _END_OF_LINE.match(text, value.end):
            break
        if "box" in value.content or not any(map(str.isdigit, value.content)):
            break
        values.append(value.content)
        end = value.end
    return values


def hedged_values(text: str, end: int, *, needs_hedge: bool = False) -> list[str]:
    """The value that is offered besides the one that ends here, if there is one.

    Args:
      text: the whole text.
      end: behind the value.
      needs_hedge: whether a word such as "or" has to offer it; else any further number of the
        sentence does, if it does not belong to a reason.
    """
    rest = rest_of_sentence(text, end)[:_MAX_HEDGE_CHARS]
    reason = _REASON.search(rest)
    limit = end + len(rest)
    hedge_limit = reason.start() if reason else len(rest)
    hedge = _HEDGE.search(rest)
    if hedge is None or hedge.start() > hedge_limit:
        limit = end if needs_hedge else end + hedge_limit
    begin = _BEFORE_GUESS.match(text, end, limit)
    if begin is None or begin.end() == limit:
        # Perhaps the next sentence takes this one back.
        sentence = _HEDGING_SENTENCE.match(text, end + len(rest))
        if sentence is None:
            sentence = _ANOTHER_SENTENCE.match(text, end + len(rest))
        if sentence is None:
            return []
        begin = _BEFORE_GUESS.match(text, sentence.end())

    guess = expression_at(text, begin.end()) if begin else None
    is_value = guess is not None and any(map(str.isalnum, guess.content))
    return [guess.content] if guess and is_value else []
