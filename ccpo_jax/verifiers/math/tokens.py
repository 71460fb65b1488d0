r"""Cuts an answer into tokens and drops what only sets its type: sizes, colours, spaces, boxes."""

import re
from typing import NamedTuple

from ccpo_jax.verifiers.math.characters import to_latex


class Token(NamedTuple):
    r"""One sign of an answer.

    Attributes:
      kind: "number", "letters" (a run of letters) or "sign" (commands and all others).
      text: the token as written; a command in its usual spelling.
      spaced: whether a space stands in front of it.
      in_text: whether it stands inside ``\text{...}``.
    """

    kind: str
    text: str
    spaced: bool
    in_text: bool


# Commands whose braces hold upright text.
_TEXT = frozenset(
    "text textbf textit textrm textnormal textsf texttt mathrm mbox hbox operatorname emph".split()
)

# Commands that change the look of the next group alone.
_LOOK = frozenset(
    """mathbf mathit mathsf boldsymbol bm pmb boxed fbox underline displaystyle textstyle
    scriptstyle limits nolimits rm bf it sf tt large Large LARGE huge Huge small normalsize tiny
    left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm Bigm
    mathstrut strut cancel ensuremath hfill protect uline""".split()
)

# Commands whose first group is not part of the answer.
_WITH_ARGUMENT = frozenset(
    """color textcolor colorbox hspace vspace phantom vphantom hphantom tag label mskip
    kern""".split()
)

_SPACES = frozenset([",", ";", ":", " ", "enspace", "thinspace", "space", "medspace", "thickspace"])

_SPELLINGS = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "dbinom": "binom", "tbinom": "binom",
    "leq": "le", "leqslant": "le", "geq": "ge", "geqslant": "ge", "neq": "ne", "not=": "ne",
    "ast": "cdot", "bullet": "cdot", "lbrace": "{", "rbrace": "}", "lvert": "|", "rvert": "|",
    "vert": "|", "mid": "|", "lbrack": "[", "rbrack": "]", "varnothing": "emptyset",
    "varphi": "phi", "varepsilon": "epsilon", "vee": "lor", "wedge": "land", "qquad": "quad",
    "backslash": "setminus", "div": "/", "dots": "ldots", "cdots": "ldots", "dotsc": "ldots",
    "degree": "circ", "bar": "overline", "lt": "<", "gt": ">", "colon": ":", "sim": "approx",
    "thickapprox": "approx", "approxeq": "approx", "doteq": "approx", "simeq": "approx",
    "displaylimits": "limits", "tg": "tan", "ctg": "cot", "arctg": "arctan", "pounds": "£",
    "euro": "€", "textdollar": "$", "textdegree": "circ", "bold": "mathbf", "iff": "Rightarrow",
    "implies": "Rightarrow", "longrightarrow": "to", "rightarrow": "to", "mathbb": "mathbb",
    "textpercent": "%", "newline": "\\", "upi": "pi", "mathpi": "pi",
}  # fmt: skip

# Delimiters of a formula: \( \) \[ \].
_DELIMITERS = frozenset("()[]")

# A point without decimals counts in front of a repeating decimal alone.
_NUMBER = r"(?:\d+(?:\.(?:\d+|(?=\s*\\(?:overline|bar|dot)(?![A-Za-z]))))?|\.\d+)"
_TOKEN = re.compile(
    rf"(?P<space>(?:\s|~)++)"
    rf"|(?P<exponent>{_NUMBER}[eE][-+]?\d++(?![\w.]))"
    rf"|(?P<grouped>[1-9]\d{{0,2}}(?:(?:,\d{{3}})++(?!\d)(?:\.\d+)?|(?: \d{{3}})++(?!\d)))"
    rf"|(?P<number>{_NUMBER})"
    r"|(?P<quad>\\q?quad)"
    r"|\\(?P<command>[A-Za-z]++|not=|[^A-Za-z]|$)"
    r"|(?P<letters>[A-Za-z]++)"
    r"|(?P<sign>\*\*|<=|>=|!=|==|->|\.{3,}|.)",
    re.DOTALL,
)
_SIGN_SPELLINGS = {"**": "^", "<=": r"\le", ">=": r"\ge", "!=": r"\ne", "==": "=", "*": r"\cdot"}

# Digits in groups of three: 29,\!322 and 29{,}322; a comma of a list has no such sign.
_SEPARATED = re.compile(r"(?<=\d)(?:,\s*+\\!|\s*+\{\s*+,\s*+\}|\\!,?)\s*+(?=\d{3}(?!\d))")

# "1.5 x 10^3": the letter is a times sign.
_TIMES_LETTER = re.compile(r"(?<=\d)\s*+[xX]\s*+(?=10\s*+\^)")

# The space below a line of a matrix: \\\\[4pt].
_LINE_SPACE = re.compile(r"\\\\\s*+\[\s*+-?[\d.]++\s*+(?:pt|em|ex|mm|cm)\s*+\]")

# 0.(3) is 0.333...
_PERIOD_IN_BRACKETS = re.compile(r"(?<=\d)\.\((\d{1,20})\)")

# Digits in groups of three with spaces of LaTeX between them: 10\,000 and 0.000\,125.
_SPACE = r"(?:\s*+(?:\\[,;:!]|\\ |~|\\thinspace(?![A-Za-z])|\\text\{,\}|\\!,\\!)\s*+)"
_SPACED_GROUPS = re.compile(
    rf"(?<![\w.}}^\\])((?:[1-9]\d{{0,2}}|\d*\.\d{{3}}))((?:{_SPACE}\d{{3}})++)(?!\d|{_SPACE}\d)"
)
_SPACE_OF_GROUP = re.compile(_SPACE)

# A decimal comma: 2{,}5 and 0{,}125, but not 1{,}000.
_DECIMAL_COMMA = re.compile(r"(?<![\d.])(?:(\d++)\{,\}(?=(?:\d{1,2}|\d{4,})(?!\d))|0\{,\}(?=\d))")

# Decimals that repeat from one dot to the other, and a point without a zero before it.
_DOTTED = re.compile(r"\\dot\s*+(?:\{(\d)\}|(\d))(\d{0,20})\\dot\s*+(?:\{(\d)\}|(\d))")
_BARE_POINT = re.compile(r"(?<!\d)\.(?=\s*+\\(?:overline|bar|dot)(?![A-Za-z]))")

# A place in a row: 21st, 15^{th}.
_PLACE = re.compile(
    r"\s*+\$?(\d{0,8}?(?:(?<!1)1(?=\D{0,8}st)|(?<!1)2(?=\D{0,8}nd)|(?<!1)3(?=\D{0,8}rd)"
    r"|(?:1[1-3]|[04-9])(?=\D{0,8}th)))"
    r"(?:\^\s?\{?)?(?:\\text\{|\\mathrm\{)?\s?(?:st|nd|rd|th)\s?\}{0,2}\$?\s*+"
)

# A sum of money that begins with its sign.
_DOLLAR = re.compile(r"^(\s*+-?\s*+)\$(?=\s*+-?[\d.])")

# "8 a.m.": one word.
_MERIDIAN = re.compile(r"(?<![A-Za-z])([AaPp])\.\s?([Mm])(?:\.|(?![A-Za-z]))")

# A command whose backslash was escaped once too often; "\\\\" before other letters ends a line.
_ESCAPED_TWICE = re.compile(
    r"(?<!\\)\\\\(?=(?:left|right|[dtc]?frac|sqrt|pi|text|cdot|times|leq?|geq?|infty|cup|boxed|begin|end|"
    r"in|circ|pm|sin|cos|tan|theta|alpha|mathbb|quad|neq?|langle|rangle|overline)(?![A-Za-z]))"
)

_OPENING = frozenset(["(", "[", r"\{"])
_CLOSING = frozenset([")", "]", r"\}"])


def tokenize(answer: str, *, thousands: bool = True) -> list[Token]:
    r"""The tokens of an answer.

    Args:
      answer: what stands in a box or follows "the answer is".
      thousands: whether ``1,234`` outside brackets is one number; else it is two.

    Example:
      >>> [token.text for token in tokenize(r"\left(\dfrac12, 1{,}000\text{ cm}\right)")]
      ['(', '\\frac', '12', ',', '1000', 'cm', ')']
    """
    if answer.count("$") == 1:
        # One sign alone opens no formula: it is a dollar.
        answer = _DOLLAR.sub(r"\1\\$", answer)
    latex = _ESCAPED_TWICE.sub(r"\\", to_latex(answer))
    latex = _PLACE.sub(r"\1", latex) if _PLACE.fullmatch(latex) else latex
    latex = _DECIMAL_COMMA.sub(lambda match: f"{match[1] or 0}.", latex)
    latex = _SPACED_GROUPS.sub(lambda match: match[1] + _SPACE_OF_GROUP.sub("", match[2]), latex)
    latex = _BARE_POINT.sub("0.", _DOTTED.sub(_period, latex))
    latex = _with_usual_brackets(latex)
    latex = _LINE_SPACE.sub(r"\\\\ ", latex)
    latex = _SEPARATED.sub("", latex)
    latex = _PERIOD_IN_BRACKETS.sub(r".\\overline{\1}", latex)
    latex = _TIMES_LETTER.sub(r"\\times ", latex)
    latex = _MERIDIAN.sub(r"\1\2 ", latex)
    tokens: list[Token] = []
    _scan(latex, tokens, thousands, in_text=False)
    return tokens


def _period(match: re.Match[str]) -> str:
    """The digits between two dots as one period."""
    return rf"\overline{{{match[1] or match[2]}{match[3]}{match[4] or match[5]}}}"


# ]0,1[ is (0,1).
_TURNED = re.compile(
    r"\s*+(?:\\left)?([\[\](])([^\[\](),]{1,100},[^\[\](),]{1,100}?)(?:\\right)?([\[\])])\s*+"
)


def _with_usual_brackets(latex: str) -> str:
    """Intervals whose open ends are written as turned brackets, with round ones."""
    if "]" not in latex and "[" not in latex:
        return latex
    intervals = []
    is_turned = False
    for part in latex.strip("$ ").split(r"\cup"):
        match = _TURNED.fullmatch(part)
        if match is None:
            return latex
        is_turned = is_turned or match[1] == "]" or match[3] == "["
        opening = "[" if match[1] == "[" else "("
        closing = "]" if match[3] == "]" else ")"
        intervals.append(opening + match[2] + closing)
    return r"\cup ".join(intervals) if is_turned else latex


def _scan(latex: str, tokens: list[Token], thousands: bool, *, in_text: bool) -> None:
    """Appends the tokens of a piece of LaTeX."""
    position = 0
    depth = 0
    spaced = False
    while position < len(latex):
        match = _TOKEN.match(latex, position)
        assert match is not None
        kind = match.lastgroup or ""
        position = match.end()
        name = _SPELLINGS.get(match[kind], match[kind]) if kind == "command" else ""
        if kind == "space" or name in _SPACES:
            spaced = True
        elif name in _TEXT:
            start, end = _group(latex, position)
            _scan(latex[start:end], tokens, thousands, in_text=True)
            position = max(end + 1, start)
        elif kind == "command" and name in _IGNORED:
            position = _after_ignored(latex, position, name)
        elif match[0] not in ("$", "."):
            text = _spelling(kind, match[kind], name)
            if kind == "grouped":
                text = text.replace(" ", "")
                if thousands and depth == 0:
                    text = text.replace(",", "")
                # Inside brackets a comma divides, and "1,234" there is two members.
                text, comma, _ = text.partition(",")
                position = match.start() + len(text) if comma else position
            depth += (text in _OPENING) - (text in _CLOSING)
            tokens.append(Token(_KINDS.get(kind, "sign"), text, spaced, in_text))
            spaced = False


_KINDS = {"number": "number", "grouped": "number", "exponent": "number", "letters": "letters"}
_IGNORED = _LOOK | _WITH_ARGUMENT | _DELIMITERS | {"!", "-", ""}


def _spelling(kind: str, text: str, name: str) -> str:
    """The usual spelling of a token."""
    if kind == "quad":
        return r"\quad"
    if kind == "sign":
        is_ellipsis = len(text) > 1 and text.startswith(".")
        return r"\ldots" if is_ellipsis else _SIGN_SPELLINGS.get(text, text)
    if kind != "command":
        return text
    # \$ and \% mean the sign itself; \{ and \\ keep their backslash.
    is_sign = len(name) == 1 and not name.isalpha() and name not in "{}\\"
    return name if is_sign else rf"\{name}"


def _after_ignored(latex: str, position: int, name: str) -> int:
    r"""Where the text goes on behind a command without meaning, such as ``\color{red}``."""
    if name in ("left", "right", "middle"):
        # "\left." is a delimiter that is not drawn.
        return position + 1 if latex[position : position + 1] == "." else position
    if name not in _WITH_ARGUMENT:
        return position
    optional = re.compile(r"\s*+\[[^\]]*\]").match(latex, position)
    start, end = _group(latex, optional.end() if optional else position)
    return max(end + 1, start)


def _group(latex: str, position: int) -> tuple[int, int]:
    """The range of the group that begins here, without its braces; else one character."""
    start = position
    while latex[start : start + 1].isspace():
        start += 1
    if latex[start : start + 1] != "{":
        return start, start
    depth = 0
    for index in range(start, len(latex)):
        if latex[index] in "{}" and latex[index - 1] != "\\":
            depth += 1 if latex[index] == "{" else -1
            if depth == 0:
                return start + 1, index
    return start + 1, len(latex)
