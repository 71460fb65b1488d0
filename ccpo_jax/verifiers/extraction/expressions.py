r"""The expression that a text has at one position: a LaTeX formula, or one in running text.

In "12\pi square metres" it is ``12\pi``, in "(3, 4), as needed" it is ``(3, 4)``.
"""

import re
from typing import NamedTuple

from ccpo_jax.verifiers.extraction.markup import FUNCTION, formula_at

# Words that change the number before them.
_MAGNITUDE = r"(?:hundred|thousand|million|billion|trillion|dozen|percent|per cent)\b|[ap]\.m\.?"
_AFTER_FORMULA = re.compile(rf"\s?(\\?%|{_MAGNITUDE})")

# Words of two letters that are neither a product of variables nor a unit.
_SHORT_WORD = (
    r"(?:is|of|in|to|as|at|by|on|if|so|it|he|we|be|an|am|are|do|us|my|me|up|no|go|or|ie|eg|vs)\b"
)

# One piece of an expression in running text: a number, a LaTeX command, the name of a function,
# a unit of two letters, a variable but not the article "a", a product of variables, or a sign.
_PIECE = (
    r"[^\S\n]*+(?:\d++|\.(?=\d)|(?<=\d)\.(?=/|\(\d|\\(?:overline|dot|bar|ddot|ldots|dots|cdots)\b)"
    r"|\\(?:text|mbox|mathrm|textbf)\s*+\{[^{}\n]{0,80}\}|\\(?!f?box)[A-Za-z]++(?:\{[A-Za-z]{1,20}\*?\})?|\\[^A-Za-z\n()\[\]]"
    rf"|(?:{FUNCTION}|and|or)\b|{_MAGNITUDE}"
    rf"|(?:(?<=\d)|(?<=[\d)}}] ))(?!{_SHORT_WORD})[A-Za-z]{{2}}(?![A-Za-z])"
    r"|(?![aAI]\s++(?!and\b|or\b)[A-Za-z]{2})[A-Za-z](?![A-Za-z'’])"
    rf"|(?!{_SHORT_WORD})[A-Za-z]{{2,3}}(?=[^\S\n]*[+/^=<>≤≥(}}]|_)"
    r"|(?!AND\b|OR\b|IS\b|THE\b|NOT\b)[A-Z]{2,4}(?![A-Za-z'’])"
    r"|\*(?!\*)|\*\*(?=\w)|\$(?=\s?[\d.])|(?<=\d)\$|:(?=\s?[\w\\])"
    r"|[-+/^_=>|%°&~,;(){}\[\]!']|<(?![|/])"
    r"|[²³¹⁰-₟√∞∪∩∈∉≤≥≠≈±×÷·−–∅′″½-⅞α-ωΑ-Ω€£¥￥（），；：％＋－＝]"
    r")"
)
_PLAIN = re.compile(rf"(?:{_PIECE})++")

_PLAIN_AFTER_SPACE = re.compile(rf"(?<![\w.'’])(?=\S)(?:{_PIECE})++")

# What an expression cannot end with: separators, operators, opening brackets, and words that join.
_LOOSE_SIGNS = " \t\r\f\v\u3000,;:=+*/^_<({[&~|–·×，；：-\\"
# But with the bars of |x-2|.
_BARS = re.compile(r"\|[^|\s][^|]*+\|\Z")
_LOOSE_BEGINNING = " \t\r\f\v\u3000,;:=)]}*_>/|，；："
_LOOSE_WORDS = (" and", " or", ",and", ",or")

# "$x$ = 5", and "3 and y" where "is 4" follows.
_EQUALS = re.compile(r"\s?=\s?")
_SAYS = re.compile(r"\s(?:is|are|equals)\b")
_NEXT_SUBJECT = re.compile(r"(?:,| and| or) [A-Za-z](?:_\w)?$")

# Without one of these, letters are an expression only if they are all that is said.
_MATHEMATICAL = re.compile(r"[\d\\√∞∅]|[A-Za-z]\s*[-+*/^=<>≤≥]")

# The end of a sentence; the point of 3.14 is not one, nor a semicolon between two values.
SENTENCE_END = re.compile(
    r"(?<!\bvs)(?<!\bresp)(?<!\bapprox)[.!?](?=[\s*_\"'”’)\]}<$]|$)|\n|[。！？]|;(?!\s*[-+(\[\d\\$])|</?\w|<\||,\s{0,8}\"\w"
)
_MAX_SENTENCE_CHARS = 400
_CLOSING_MARKUP = " \t*_`\"'”’)]}»」"


# Behind these words a number counts something else, or is denied.
_NO_RESULT = re.compile(
    r"(?i)\b(?:not|step|part|equation|figure|problem|page|case|question|eq\.)\s$"
)

# No verifier reads a longer expression.
_MAX_CHARS = 1000


class Expression(NamedTuple):
    """An expression and the position behind it."""

    content: str
    end: int
    is_formula: bool


def expression_at(text: str, position: int) -> Expression | None:
    r"""The expression that begins at a position.

    Example:
      >>> expression_at(r"2\sqrt{3} metres", 0).content, expression_at("18 eggs a day", 0).content
      ('2\\sqrt{3}', '18')
      >>> expression_at("many eggs", 0) is None
      True
    """
    formula = formula_at(text, position)
    if formula:
        magnitude = _AFTER_FORMULA.match(text, formula.end)
        if magnitude:
            return Expression(f"{formula.content} {magnitude[1]}", magnitude.end(), True)
        equals = _EQUALS.match(text, formula.end)
        right = expression_at(text, equals.end()) if equals else None
        if right:
            return Expression(f"{formula.content} = {right.content}", right.end, True)
        return Expression(formula.content, formula.end, True)

    plain = _PLAIN.match(text, position, position + _MAX_CHARS)
    content = _without_loose_ends(plain[0]) if plain else ""
    if not content:
        return None
    if _SAYS.match(text, position + len(content)):
        content = _NEXT_SUBJECT.sub("", content)
    end = position + len(content)
    is_all = not rest_of_sentence(text, end).strip(_CLOSING_MARKUP)
    if is_all:
        # "42!" at the end of a sentence is no factorial.
        content = content.rstrip("!")
    is_expression = is_all or _MATHEMATICAL.search(content)
    return Expression(content.strip(), end, False) if is_expression and content else None


def last_expression(text: str) -> str | None:
    """The last expression of a text that has a number in it, in running text alone."""
    last = None
    for plain in _PLAIN_AFTER_SPACE.finditer(text):
        content = _without_loose_ends(plain[0]).lstrip(_LOOSE_BEGINNING)
        before = text[max(0, plain.start() - 12) : plain.start()]
        if any(map(str.isdigit, content)) and not _NO_RESULT.search(before):
            last = content
    return last


def _without_loose_ends(expression: str) -> str:
    """An expression without what does not belong to it: "5 (" is 5, and "42)" is 42."""
    expression = _without_loose_signs(expression)
    for _ in range(8):
        unclosed = sum(map(expression.count, "([{")) - sum(map(expression.count, ")]}"))
        if unclosed < 0 and expression[-1] in ")]}":
            expression = expression[:-1]
        elif unclosed > 0:
            expression = expression[: max(map(expression.rfind, "([{"))]
        else:
            break
        expression = _without_loose_signs(expression)
    return expression


def _without_loose_signs(expression: str) -> str:
    length = -1
    while len(expression) != length:
        length = len(expression)
        without_blanks = expression.rstrip(_LOOSE_SIGNS.replace("|", ""))
        if _BARS.search(without_blanks) and without_blanks.count("|") % 2 == 0:
            return without_blanks
        expression = expression.rstrip(_LOOSE_SIGNS)
        for word in _LOOSE_WORDS:
            expression = expression.removesuffix(word)
    return expression


def rest_of_sentence(text: str, position: int) -> str:
    """What follows a position up to the end of its sentence."""
    limit = min(len(text), position + _MAX_SENTENCE_CHARS)
    end = SENTENCE_END.search(text, position, limit)
    return text[position : end.start() if end else limit]
