"""What a text states where it announces an answer: values, the value of a sentence, or words.

Where several values are offered, as in "37, maybe 38", all of them are the answer: no guess is
paid for beside another.
"""

import re
from typing import NamedTuple

from ccpo_jax.verifiers.extraction.expressions import expression_at, rest_of_sentence
from ccpo_jax.verifiers.extraction.markup import formula_at, formulas_in

# Quotes, emphasis and adverbs between an announcement and its answer, and nouns such as "the
# number" before a value.
_BEFORE_ANSWER = re.compile(
    r"(?:[\s*_`\"'“”‘’>}«「:：≈~]|\\\"|=(?!=)|</?(?:b|strong|i|em|u|code)>|\\(?:text(?:bf)?|mathbf)\s?\{|\\approx\b"
    r"|(?i:(?:therefore|thus|hence|then|so|simply|just|exactly|precisely|approximately|about|around"
    r"|roughly|nearly|almost|actually|indeed|clearly|definitely|certainly|probably|most likely"
    r"|likely|equal to|equals|given by|now|also|still|only|that)\b,?|approx\.)"
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

# The verb of a sentence that leads to its value, or an equals sign behind a word.
_VERB = re.compile(
    r"(?i)\b(?:is|are|was|were|be|equals?|becomes?|has|have|had|makes?|made|gets?|got|costs?|needs?"
    r"|earns?|earned|spends?|spent|pays?|paid|takes?|took|totals?|contains?|saves?|saved|sells?|sold"
    r"|receives?|received|by|left with|total of)\b|(?<=[A-Za-z)）]) {0,3}[=≈:：]|[是为有]|等于"
)
_MAX_VERBS = 8
# Between two verbs: both values are stated.
_ALTERNATIVE = re.compile(
    r"(?i)\b(?:and|or|but|maybe|perhaps|possibly|else|otherwise|either)\b|[和或]"
)

# The only number of a sentence is its value, but for numbers that tell its circumstances.
_NUMBER = re.compile(
    r"(?<![\w.,/^])[-+]?[$€£]?\d[\d,]*+(?:\.\d+)?(?:/\d+)?(?![\w^])|\d+(?=[个只元])"
)
_CIRCUMSTANCE = re.compile(
    r"(?i)\b(?:after|in|for|per|every|each|from|within|with|at|on|before|than|during|of|day|step"
    r"|part|question|problem|equation)\s*+$"
)

_NEGATION = re.compile(r"(?i)(?:not|never|neither)\b")
# Words about an answer that are none.
_REMARK = re.compile(
    r"(?i)(?:correct|right|wrong|incorrect|clear|obvious|as follows|below|above|shown|that"
    r"|the same|obtained|found|boxed|given|reasonable|unique|independent|supposed|to|in|unknown)\b"
)
_WHY = re.compile(r",?\s(?:because|since)\b")
_EDGE_MARKUP = " \t\r*_`\"'“”‘’,:;(){}<>"
_MAX_WORDS_CHARS = 200


class Statement(NamedTuple):
    """An answer that a text states.

    Attributes:
      answer: the answer as the text has it.
      is_value: it is mathematics; words are believed only where nothing else is stated.
    """

    answer: str
    is_value: bool


def begin_of_answer(text: str, position: int) -> int:
    """The position behind the markup and the adverbs that precede an answer."""
    before = _BEFORE_ANSWER.match(text, position)
    return before.end() if before else position


def statement_at(text: str, position: int, *, may_be_sentence: bool = True) -> Statement | None:
    """The answer that begins at a position, or None.

    Args:
      text: the whole text.
      position: behind the announcement.
      may_be_sentence: whether a sentence may stand there, whose value is the answer.

    Example:
      >>> statement_at("$x=1$ or $x=2$, as shown.", 0).answer
      'x=1, x=2'
      >>> statement_at("37, maybe 38.", 0).answer, statement_at("The volume is 120.", 0).answer
      ('37, 38', '120')
      >>> statement_at("Evelyn.", 0)
      Statement(answer='Evelyn', is_value=False)
    """
    begin = begin_of_answer(text, position)
    sentence = rest_of_sentence(text, begin)
    if text.startswith("?", begin + len(sentence)) or _NEGATION.match(sentence):
        return None
    answer = _values_at(text, begin)
    if answer is None and may_be_sentence:
        answer = _value_of_sentence(text, begin)
    if answer is not None:
        return Statement(answer, True)

    words = _WHY.split(sentence, maxsplit=1)[0].strip(_EDGE_MARKUP)
    has_words = any(map(str.isalnum, words))
    if not has_words or len(words) > _MAX_WORDS_CHARS or _REMARK.match(words):
        return None
    return Statement(words, False)


def _values_at(text: str, begin: int) -> str | None:
    """The values at a position, joined by commas."""
    first = expression_at(text, begin)
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
    return ", ".join(dict.fromkeys([*contents, *hedged_values(text, end)]))


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
            return []
        begin = _BEFORE_GUESS.match(text, sentence.end())

    guess = expression_at(text, begin.end()) if begin else None
    is_value = guess is not None and any(map(str.isalnum, guess.content))
    return [guess.content] if guess and is_value else []


def _value_of_sentence(text: str, begin: int) -> str | None:
    """The value that a sentence leads to: "The volume is 120", "She has 18 eggs left"."""
    sentence = rest_of_sentence(text, begin)
    # From the last verb backwards, as long as the sentence states alternatives.
    values: list[str] = []
    later = None
    formulas = formulas_in(sentence)
    verbs = [
        verb
        for verb in _VERB.finditer(text, begin, begin + len(sentence))
        if not any(formula.start < verb.start() - begin < formula.end for formula in formulas)
    ]
    for verb in reversed(verbs[-_MAX_VERBS:]):
        if later is not None and not _ALTERNATIVE.search(text, verb.end(), later):
            break
        value = _values_at(text, begin_of_answer(text, verb.end()))
        if value is not None:
            values.insert(0, value)
            later = verb.start()
    if values:
        return ", ".join(dict.fromkeys(values))
    return _only_number(text, begin, begin + len(sentence))


def _only_number(text: str, begin: int, end: int) -> str | None:
    """The number of a sentence, if it has one besides those that tell circumstances."""
    numbers = list(_NUMBER.finditer(text, begin, end))
    if len(numbers) > 1:
        numbers = [
            number
            for number in numbers
            if not _CIRCUMSTANCE.search(text, max(begin, number.start() - 20), number.start())
        ]
    if len(numbers) != 1:
        return None
    (number,) = numbers
    return ", ".join([number[0].rstrip(","), *hedged_values(text, number.end())])
