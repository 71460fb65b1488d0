r"""Other ways to write a LaTeX answer, all of which mean the same: ``\dfrac12``, ``$\frac12$``, ...

Each form takes the answer and returns it rewritten, or as it is where there is nothing to rewrite.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ccpo_jax.verifiers.math import equivalent_math
from ccpo_jax.verifiers.types import NO_CONTEXT

Form = Callable[[str], str]

_INTEGER = re.compile(r"-?\d+")
_FULL_WIDTH = str.maketrans(
    {chr(code): chr(code + 0xFEE0) for code in map(ord, "0123456789(),-+=")}
)
_UNICODE = {
    r"\\pi(?![A-Za-z])": "π", r"\\infty(?![A-Za-z])": "∞", r"\\cup(?![A-Za-z])": "∪",
    r"\\theta(?![A-Za-z])": "θ", r"\\leq?(?![A-Za-z])": "≤", r"\\in(?![A-Za-z])": "∈",
    r"\\pm(?![A-Za-z])": "±", r"\\cdot(?![A-Za-z])": "·", r"\\alpha(?![A-Za-z])": "α",
    r"\^\s*\{?\\circ\}?": "°", r"\\sqrt\{(\d+)\}": r"√\1", r"\^\{?2\}?(?!\d)": "²",
}  # fmt: skip


def _around(before: str, after: str) -> Form:
    return lambda answer: f"{before}{answer}{after}"


def _replaced(pattern: str, replacement: str) -> Form:
    compiled = re.compile(pattern)
    return lambda answer: compiled.sub(replacement, answer)


def _has_text(answer: str) -> bool:
    return re.search(r"\\(?:text|mbox|begin)", answer) is not None


def _spaces_as(space: str) -> Form:
    """Spaces between signs as another kind of space; those of words stay."""

    def form(answer: str) -> str:
        return answer if _has_text(answer) else re.sub(r"(?<=[\d})]) (?=\S)", space, answer)

    return form


def _wide(answer: str) -> str:
    """Spaces around operators."""
    return (
        answer if _has_text(answer) else re.sub(r"(?<=[\w})])([-+=])(?=[\w\\(])", r" \1 ", answer)
    )


def _narrow(answer: str) -> str:
    """No spaces but those that end a command."""
    return answer if _has_text(answer) else re.sub(r"(?<![A-Za-z\\]) +| +(?![A-Za-z])", "", answer)


def _in_unicode(answer: str) -> str:
    for pattern, sign in _UNICODE.items():
        answer = re.sub(pattern, sign, answer)
    return answer


def _with_delimiters(opening: str, closing: str) -> Form:
    r"""Brackets with \left, \bigl and the like in front."""

    def form(answer: str) -> str:
        if re.search(r"\\(?:left|big)", answer):
            return answer
        answer = re.sub(r"(?<!\\)([(\[])", lambda match: opening + match[1], answer)
        return re.sub(r"(?<!\\)([)\]])", lambda match: closing + match[1], answer)

    return form


def _if_integer(form: Form) -> Form:
    """A form of integers alone."""
    return lambda answer: form(answer) if _INTEGER.fullmatch(answer) else answer


def _if_plain(form: Form) -> Form:
    """A form of answers without words and units."""
    return lambda answer: answer if _has_text(answer) or "$" in answer else form(answer)


def _grouped(separator: str) -> Form:
    """Thousands with another separator."""
    return _replaced(r"(?<=\d),\\!\s*(?=\d{3})", separator)


FORMS: dict[str, Form] = {
    "as it is": lambda answer: answer,
    "in dollars": _around("$", "$"),
    "in double dollars": _around("$$", "$$"),
    "in round delimiters": _around(r"\(", r"\)"),
    "in square delimiters": _around(r"\[", r"\]"),
    "spaces around": _around("  ", " "),
    "line breaks around": _around("\n", "\n"),
    "final point": _around("", "."),
    "final comma": _around("", ","),
    "final space command": _around("", r"\,"),
    "thin space in front": _around(r"\;", ""),
    "braces": _around("{", "}"),
    "double braces": _around("{{", "}}"),
    "display style": _around(r"\displaystyle ", ""),
    "text style": _around(r"\textstyle ", ""),
    "large": _around(r"\large ", ""),
    "Large in braces": _around(r"{\Large ", "}"),
    "huge": _around(r"\huge{", "}"),
    "red": _around(r"\color{red}{", "}"),
    "blue in braces": _around(r"{\color{blue} ", "}"),
    "text colour": _around(r"\textcolor{green}{", "}"),
    "colour of a model": _around(r"\textcolor[rgb]{1,0,0}{", "}"),
    "box": _around(r"\boxed{", "}"),
    "box in a box": _around(r"\boxed{\boxed{", "}}"),
    "frame": _around(r"\fbox{$", "$}"),
    "underlined": _around(r"\underline{", "}"),
    "bold": _around(r"\mathbf{", "}"),
    "bold symbols": _around(r"\boldsymbol{", "}"),
    "asterisks": _around("**", "**"),
    "equals sign in front": _around("= ", ""),
    "announced in text": _around(r"\text{Answer: }", ""),
    "announced in a sentence": _around(r"\text{The answer is } ", ""),
    "dfrac": _replaced(r"\\[tc]?frac", r"\\dfrac"),
    "tfrac": _replaced(r"\\[dc]?frac", r"\\tfrac"),
    "cfrac": _replaced(r"\\[dt]?frac", r"\\cfrac"),
    "frac": _replaced(r"\\[dtc]frac", r"\\frac"),
    "left and right": _with_delimiters(r"\left", r"\right"),
    "big brackets": _with_delimiters(r"\bigl", r"\bigr"),
    "Bigg brackets": _with_delimiters(r"\Bigg", r"\Bigg"),
    "plain brackets": _replaced(r"\\(?:left|right)(?![A-Za-z])", ""),
    "wide": _wide,
    "narrow": _narrow,
    "ties": _spaces_as("~"),
    "thin spaces": _spaces_as(r"\, "),
    "thick spaces": _spaces_as(r"\; "),
    "escaped spaces": _spaces_as("\\ "),
    "minus sign": _if_plain(lambda answer: answer.replace("-", "−")),
    "unicode": _in_unicode,
    "full width": _if_plain(lambda answer: answer.translate(_FULL_WIDTH)),
    "mbox": _replaced(r"\\text\s*\{", r"\\mbox{"),
    "textrm": _replaced(r"\\text\s*\{", r"\\textrm{"),
    "mathrm": _replaced(r"\\text\s*\{", r"\\mathrm{"),
    "bmatrix": _replaced(r"\{pmatrix\}", "{bmatrix}"),
    "degrees in braces": _replaced(r"\^\\circ", r"^{\\circ}"),
    "degree sign": _replaced(r"\^\\circ", "°"),
    "percent sign": _replaced(r"\\%", "%"),
    "thousands in braces": _grouped("{,}"),
    "thousands with a comma": _grouped(","),
    "thousands without a sign": _grouped(""),
    "exponents in braces": _replaced(r"\^(\d)(?!\d)", r"^{\1}"),
    "fraction without braces": _replaced(r"\\frac\{(\d)\}\{(\d)\}(?!\d)", r"\\frac\1\2"),
    "root without braces": _replaced(r"\\sqrt\{(\d)\}(?!\d)", r"\\sqrt\1"),
    "root of brackets": _replaced(r"\\sqrt\{(\d+)\}", r"\\sqrt(\1)"),
    "upright letter": _replaced(r"(?<![A-Za-z\\])e(?![A-Za-z])", r"\\mathrm{e}"),
    "assigned": _if_integer(lambda answer: f"x = {answer}"),
    "unit": _if_integer(lambda answer: rf"{answer}\text{{ units}}"),
    "word behind": _if_integer(lambda answer: f"{answer} apples"),
    "decimals": _if_integer(lambda answer: f"{answer}.00"),
}


def unaccepted(golds: Iterable[str]) -> list[tuple[str, str, str]]:
    """The forms that a gold does not accept: the gold, the name of the form, the answer."""
    failures = []
    for gold in golds:
        for name, form in FORMS.items():
            answer = form(gold)
            if not equivalent_math(gold, answer, NO_CONTEXT):
                failures.append((gold, name, answer))
    return failures


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints how many forms of the golds of a file are accepted, and each that is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("golds", type=Path, help="a parquet file with a column 'answer'")
    path = parser.parse_args(arguments).golds
    from pyarrow import parquet

    column = parquet.read_table(path, columns=["answer"])["answer"].to_pylist()
    golds = [gold for gold in dict.fromkeys(map(str, column)) if gold.strip()]
    failures = unaccepted(golds)
    for gold, name, answer in failures:
        print(f"{name}: {gold!r} does not accept {answer!r}")
    print(f"{len(golds) * len(FORMS) - len(failures)} of {len(golds) * len(FORMS)} accepted")


if __name__ == "__main__":
    main()
