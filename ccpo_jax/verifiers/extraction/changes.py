r"""Words behind a number that make another value of it: "5 squared", "5% of 80", "5 by 6".

Whether "5 of 8" is five or a fraction cannot be told from the words, so nothing is read there: a
wrong answer is worse than none.
"""

import re

from ccpo_jax.verifiers.extraction.expressions import rest_of_sentence

_PARTS = (
    r"(?:hal(?:f|ves)|thirds|fifths|sixths|sevenths|eighths|ninths|tenths|elevenths|twelfths"
    r"|[a-z]{3,6}teenths|[a-z]{3,6}tieths|hundredths|thousandths|millionths)\b"
)
# What may be added to a number or compared with it: a number, a variable, a formula.
_OPERAND = (
    r"(?:(?:the (?:number|value|square|sum|product)|twice|half|double|triple|zero|two|three|four"
    r"|five|six|seven|eight|nine|ten|twelve|[b-hj-z])\b(?!['’])|[-+(*]{0,3}[$\\]{0,3}[-+]?\d"
    r"|\$?\\[a-z(\[]|\$)"
)
# These words stand directly behind the number.
_BEHIND_NUMBER = re.compile(
    r"(?i)[\s*_`]{0,4}+(?:squared|cubed|factorial|doubled|tripled|halved|tens\b|hundreds\b"
    r"|thousands\b|millions\b|billions\b|lakhs?\b|crores?\b|bn\b|multiplied\b|divided\b|raised\b"
    r"|followed by|(?:increased|decreased|reduced) by|added to|subtracted from|taken (?:away )?from"
    r"|to the (?:power|[a-z]{1,12}th|second|third)\b|(?:st|nd|rd|th)? ?(?:roots?|powers?) of"
    rf"|(?:over|plus|minus|modulo|choose) {_OPERAND}"
    rf"|times (?:{_OPERAND}|(?:the|his|her|its|their|itself)\b)"
    rf"|of [$\\(]{{0,3}}\d|(?:[a-z]{{1,6}}-)?{_PARTS}|[a-z]{{3,6}}-quarters"
    r"|的(?:[平立]方|一半|阶乘|倒数|相反数|绝对值|[^。，,\n]{0,4}(?:次[方幂]|倍|分之))"
    r"|分之|倍的|倍[a-z]|次方|万|亿|兆|千(?![克米瓦卡])|百(?!分)|十|以上|以下|多|余)"
)
# Before these there may be a unit.
_BEHIND_UNIT = re.compile(
    r"(?i)[\s*_`]{0,4}+(?:[a-z]{1,14}[\s*_`]{1,3}+)??(?:below (?:zero|freezing)|under par"
    r"|in base|base \d"
    r"|with (?:a )?remainder|remainder|out of (?:every |each |the )?[$\\(]{0,3}\d"
    r"|in [$\\(]{0,3}(?!(?:19|20)\d\d\b)\d[\d,]*+[$\\)]{0,2}(?:\W*\Z| chances?\b| odds\b)"
    r"|per [$\\(]{0,3}\d|by [$\\(]{0,3}(?!(?:19|20)\d\d\b)\d"
    r"|and (?:a|one|two|three)[ -][a-z]{1,9}ths?\b"
    r"|and (?:a|one|two|three)[ -](?:half|halves|thirds?|quarters?)\b"
    r"|or (?:more|less|fewer|greater|higher|lower|above|below|over|under)\b"
    r"|and (?:above|below|up)\b"
    rf"|(?:more|less|fewer|greater|larger|smaller|higher|lower|bigger) than {_OPERAND}"
    rf"|short of {_OPERAND}|(?:above|below) {_OPERAND})"
)
_OF = re.compile(rf"(?i)[\s*_`]{{0,4}}+(?:(?P<percent>\\?%|percent|per cent) ?)?of {_OPERAND}")
_MAX_CHARS = 80

# "5 if x is even and 6 otherwise": the first condition, and a second value with its own.
_CONDITION = re.compile(
    r"(?i)[\s*_`$)\\\]]{0,6}+(?:[a-z]{1,12} )?,? ?\(?"
    r"(?:if|when|whenever|for|where|in case|provided)\b"
)
_SECOND_CASE = re.compile(
    r"(?i)(?:\b(?:and|but|or|while|whereas)\b|[,;])\s{0,4}+(?:(?:it|that|the answer) )?"
    r"(?:(?:is|equals) )?[-+$({*\\]{0,5}(?:boxed\{|frac\{)?\d"
    r"[^,;]{0,40}?\b(?:if|when|for|otherwise|else|in case|where)\b"
    r"|\b(?:otherwise|else)\b[^\d]{0,20}\d"
)
_MAX_CASE_CHARS = 300

# Between two boxes: an operator alone.
_OPERATOR = re.compile(
    r"(?i)[\s$]{0,6}+(?:plus|minus|times|over|by|(?:divided|multiplied) by"
    r"|to the power(?: of)?|[-+*/^]|\\(?:times|cdot|div))[\s$]{0,6}+"
)

# The point of a decimal number whose period follows in a formula: 3.$\overline{6}$.
_PERIOD = re.compile(r"\.?[\s$]{0,3}+\\(?:overline|dot|bar|ddot|overbrace|dots|ldots|cdots)\b")


def is_changed(text: str, end: int) -> bool:
    """Whether the words behind a value make another value of it, or one of several cases.

    Args:
      text: the whole text.
      end: behind the value.

    Example:
      >>> is_changed("5 squared", 1), is_changed("5 apples", 1), is_changed("5% of 80", 2)
      (True, False, True)
    """
    following = rest_of_sentence(text, end)[:_MAX_CASE_CHARS]
    near = following[:_MAX_CHARS]
    # Behind a unit "squared" belongs to the unit: 5 cm squared.
    is_number = not text[end - 1 : end].isalpha()
    if (is_number and _BEHIND_NUMBER.match(near)) or _BEHIND_UNIT.match(near):
        return True
    of_what = _OF.match(near)
    value = text[max(0, end - 8) : end].lower()
    if of_what and (of_what["percent"] or value.endswith(("%", "percent", "per cent"))):
        return True
    if _PERIOD.match(text, end):
        return True
    condition = _CONDITION.match(following)
    return bool(condition) and _SECOND_CASE.search(following, condition.end()) is not None


def are_parts(between: str) -> bool:
    """Whether the text between two boxes makes each of them a part of one answer.

    So does an operator, or a condition of the first: "if x > 0, ...".
    """
    if _OPERATOR.fullmatch(between):
        return True
    is_one_sentence = len(rest_of_sentence(between, 0)) == len(between)
    return is_one_sentence and len(between) < 200 and _CONDITION.match(between) is not None
