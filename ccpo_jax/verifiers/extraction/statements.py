"""What a text states where it announces an answer: values, the value of a sentence, or words."""

import re
from typing import NamedTuple

from ccpo_jax.verifiers.extraction.changes import is_changed
from ccpo_jax.verifiers.extraction.corrections import (
    contrast_at,
    correction_at,
    is_denied_before,
    is_made_another,
)
from ccpo_jax.verifiers.extraction.expressions import rest_of_sentence
from ccpo_jax.verifiers.extraction.markup import formulas_in
from ccpo_jax.verifiers.extraction.values import (
    NO_SINGLE_VALUE,
    begin_of_answer,
    hedged_values,
    values_at,
)

# The verb of a sentence that leads to its value, or an equals sign behind a word.
_VERB = re.compile(
    r"(?i)\b(?:is|are|was|were|be|equals?|becomes?|has|have|had|makes?|made|gets?|got|costs?|needs?"
    r"|earns?|earned|spends?|spent|pays?|paid|takes?|took|totals?|contains?|saves?|saved|sells?|sold"
    r"|receives?|received|by|left with|total of)\b|(?<=[A-Za-z)）]) {0,3}[=≈:：]|[是为有]|等于"
)
_MAX_VERBS = 8
# In "5 cm by 6 cm" these words lead to no value of their own.
_SIZE = re.compile(r"\d[\s$*_)]{0,4}+(?:[a-z]{1,12} )?\Z")
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

# Alone behind a label or in a tag: in "the answer is 42!" it is an exclamation mark.
_FACTORIAL = re.compile(r"(?:\d{1,2}|[a-z])!(?=[ \t*_\r]{0,4}(?:\n|\Z))")

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
      answer: the answer as the text has it; `NO_SINGLE_VALUE` where it says more than a value.
      is_value: it is mathematics; words are believed only where nothing else is stated.
    """

    answer: str
    is_value: bool


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
    is_question = text.startswith(("?", "？"), begin + len(sentence)) or sentence.endswith("吗")
    contrast = contrast_at(text, begin)
    if contrast is not None:
        begin = contrast
    elif is_question or _NEGATION.match(sentence):
        return None
    factorial = _FACTORIAL.match(text, begin) if may_be_sentence else None
    if factorial:
        return Statement(factorial[0], True)
    answer = values_at(text, begin)
    if answer is None and may_be_sentence:
        answer = _value_of_sentence(text, begin)
    if answer is not None:
        return Statement(answer, True)

    words = _WHY.split(sentence, maxsplit=1)[0].strip(_EDGE_MARKUP)
    has_words = any(map(str.isalnum, words))
    if not has_words or len(words) > _MAX_WORDS_CHARS or _REMARK.match(words):
        return None
    return Statement(words, False)


def _value_of_sentence(text: str, begin: int) -> str | None:
    """The value that a sentence leads to: "The volume is 120", "She has 18 eggs left"."""
    sentence = rest_of_sentence(text, begin)
    # From the last verb backwards, as long as the sentence states alternatives.
    values: list[str] = []
    later = None
    formulas = formulas_in(sentence)
    verbs: list[re.Match[str]] = []
    for verb in _VERB.finditer(text, begin, begin + len(sentence)):
        start = verb.start() - begin
        is_in_formula = any(formula.start < start < formula.end for formula in formulas)
        is_in_size = verb[0] == "by" and _SIZE.search(sentence[max(0, start - 20) : start])
        if not is_in_formula and not is_in_size:
            verbs.append(verb)
    for verb in reversed(verbs[-_MAX_VERBS:]):
        if later is not None and not _ALTERNATIVE.search(text, verb.end(), later):
            break
        value = values_at(text, begin_of_answer(text, verb.end()))
        if value == NO_SINGLE_VALUE:
            return value
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
    if is_denied_before(text, number.start()) or is_made_another(text, number.start()):
        return NO_SINGLE_VALUE
    if correction_at(text, number.end()) is not None:
        return NO_SINGLE_VALUE
    if is_changed(text, number.end()):
        return NO_SINGLE_VALUE
    return ", ".join([number[0].rstrip(","), *hedged_values(text, number.end())])
