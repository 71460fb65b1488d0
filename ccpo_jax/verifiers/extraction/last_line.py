"""The answer of a last line that announces none: mathematics alone, a result, a value in bold."""

import re

from ccpo_jax.verifiers.extraction.changes import is_changed
from ccpo_jax.verifiers.extraction.expressions import expression_at
from ccpo_jax.verifiers.extraction.markup import formula_at, is_prose
from ccpo_jax.verifiers.extraction.statements import statement_at

# Weaker marks, believed in the last line alone: "The result is 5", "Solution: 5", "**5** eggs".
_RESULT = re.compile(
    r"(?:^|\b[Tt]he (?:[a-z]{1,12} )?)(?i:solution|result)s?\b"
    r"(?:[*_]{0,2}[:：=]|[^.:=\n$]{0,60}?\b(?:is|are|equals|would be)\b)"
    r"|(?:结果|解)(?:是|为|[:：])"
)
_BOLD = re.compile(r"\*\*([^*\n]{1,300})\*\*|\\textbf\{([^{}\n]{1,300})\}")
# A line that is an option: "C: 5".
_OPTION = re.compile(r"[A-Z][.):]\s")
_UNIT = re.compile(r"[\s%]{0,4}+(?:[A-Za-z²³/.]{1,20}+\s{0,4}+){0,2}+")


def answer_of_last_line(text: str) -> str | None:
    """The last line if it is mathematics, else the value that it calls a result or sets bold."""
    lines = text.strip().rpartition("\n")
    line = lines[2].strip(" *_`>")
    formula = formula_at(line, 0)
    if formula and formula.end == len(line):
        return formula.content
    if _OPTION.match(line):
        return None
    if not ("=" in line or "box" in line or "结果" in line or is_prose(line, min_letters=2)):
        return line if any(map(str.isalnum, line)) else None

    value = None if "=" in line else expression_at(line, 0)
    if value and is_changed(line, value.end):
        return None
    if not lines[0] and value and _UNIT.fullmatch(line, value.end):
        # The whole text is a value with its unit.
        return value.content
    for result in reversed(list(_RESULT.finditer(line))):
        statement = statement_at(line, result.end(), may_be_sentence=False)
        if statement is not None and statement.is_value:
            return statement.answer
    return _bold_values(lines[2])


def _bold_values(line: str) -> str | None:
    """The values that a line has in bold, each with at most a unit of two words."""
    values = []
    for bold in _BOLD.finditer(line):
        content = bold[1] or bold[2]
        value = expression_at(content, 0)
        if value is not None and (is_changed(content, value.end) or is_changed(line, bold.end())):
            return None
        if value is not None and _UNIT.fullmatch(content, value.end):
            values.append(value.content)
    return ", ".join(dict.fromkeys(values)) or None
