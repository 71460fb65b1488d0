r"""Golds of questions without options: the answer itself, or the end of a worked solution."""

import re
from fractions import Fraction
from typing import Any, NamedTuple

from ccpo_jax.boxes import find_boxes, last_boxed
from ccpo_jax.data.cells import UnusableRow, printable

# The first that says something is the gold; in a worked solution it is the end.
SOLUTION_COLUMN = "solution"
GOLD_COLUMNS = (
    *("answer", "correct_option", "groundtruth", "ground_truth", "final_answer"),
    *("expected_answer", "gold_answer", "answers"),
    SOLUTION_COLUMN,
)

# A solution that is longer is never an answer alone, in characters.
_LONGEST_BARE = 100

# A gold with as many words is prose. A command of LaTeX is no word.
_WORDS_OF_A_SENTENCE = 4
_WORD = re.compile(r"(?<![\\\w])[^\W\d_]{2,}")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")

# What stands in place of an answer where a set has none, after the signs around it are removed.
# Answers such as "no solution", "does not exist" or "undefined" are not among them.
_PLACEHOLDERS = frozenset(
    (
        *("none", "null", "nan", "nil", "n/a", "#n/a", "<na>", "not applicable"),
        *("unknown", "missing", "tbd", "todo", "not found", "notfound", "answer not found"),
        *("not available", "not provided", "not given", "no gold", "no answer", "no final answer"),
        *("no answer given", "no answer provided", "see solution", "see solutions"),
        *("see the solution", "see explanation", "see above", "see below", "see proof"),
        # Any of many answers is right.
        *("answers vary", "answers may vary", "answers will vary", "answers can vary"),
        *("answer varies", "answer may vary", "answer will vary", "answers could vary"),
        *("various answers", "various answers possible", "various answers are possible"),
        *("many answers possible", "many answers are possible", "many possible answers"),
        *("multiple answers possible", "multiple answers are possible", "open ended", "open-ended"),
        # Chinese: omitted, none, no answer, see the analysis, the answer is not unique.
        *("略", "无", "无答案", "见解析", "答案不唯一"),
    )
)
_PROOFS = frozenset(
    ("proof", "proofs", "proof omitted", "proof required", "q.e.d", "qed", "证明", "证明略")
)

# Signs that stand for nothing: "-", "--", "?", "...".
_SIGNS = re.compile(r"[-–—―?.…*_/\s]*")

# "\frac{3}{2}" and "1\frac{1}{2}": sign, whole number, numerator, denominator.
_MIXED_NUMBER = re.compile(r"(-?)(\d{1,30})?\\[dt]?frac\{(\d{1,30})\}\{([1-9]\d{0,29})\}")
_DECIMAL = re.compile(r"-?\d{1,30}(?:\.\d{1,30}|/[1-9]\d{0,29})?")

# One formula between dollar signs, perhaps followed by a heading: "$145$ Solution:".
_FORMULA = re.compile(r"\$\$?([^$]*[^$\\])\$\$?(?:\s*[A-Za-z]+:)?")


class FreeGold(NamedTuple):
    """The gold of a row without options.

    Attributes:
      text: the answer; "" where only the whole set tells, see `bare`.
      source: the column, or the path to the cell.
      bare: a short solution without a box, which is the answer itself in some sets.
    """

    text: str
    source: str
    bare: str = ""


def read_free_gold(value: str | int | float, source: str, *, is_solution: bool) -> FreeGold:
    r"""The gold in a cell: the answer after ``####`` where there is one, else the last box, else,
    unless it is a solution, the text itself. Two boxes joined by "or" are one gold.

    Raises:
      UnusableRow: it says that there is none, or has none at its end.

    Example:
      >>> read_free_gold(r"so $x=\boxed{3}$ or $x=\boxed{-3}$", "solution", is_solution=True).text
      '3, -3'
    """
    text = printable(str(value))
    if is_solution:
        boxed = _last_boxed(text)
        answer, is_boxed = _without_dollars(boxed or _last_line_after_hashes(text)), bool(boxed)
    else:
        answer, is_boxed = answer_of(text)

    kind = _placeholder(answer)
    # A box in a proof is a step and not the answer.
    if kind and not (is_boxed and kind == "nothing"):
        raise PlaceholderGold(kind)
    if answer:
        return FreeGold(answer, source)
    # A model's reply is no answer alone, however short.
    if source == SOLUTION_COLUMN and _is_bare(text.strip()):
        return FreeGold("", source, text.strip())
    raise UnusableRow("empty gold")


class PlaceholderGold(UnusableRow):
    """A gold that says that there is none.

    Attributes:
      is_proof: no other column has the answer either.
    """

    def __init__(self, kind: str):
        super().__init__("gold is a placeholder")
        self.is_proof = kind == "proof"


def _is_bare(text: str) -> bool:
    """Whether a solution may be an answer alone: one short line without a box."""
    is_line = 0 < len(text) <= _LONGEST_BARE and "\n" not in text
    return is_line and "boxed" not in text and "####" not in text


def bare_answer(text: str) -> str:
    """The answer that a short solution is, "" where it reads like a sentence.

    Example:
      >>> bare_answer(r"$\\frac{1}{2}$"), bare_answer("34"), bare_answer("see the figure")
      ('\\\\frac{1}{2}', '34', '')
    """
    if _placeholder(text):
        return ""
    formula = _without_dollars(text)
    if formula != text:
        return formula
    words = re.findall(r"(?<![\\\w])[A-Za-z]{2,}", text)
    return text if len(words) < 2 else ""


def answer_of(text: str) -> tuple[str, bool]:
    r"""(the answer at the end of a text, or the text itself where it is one; whether it was boxed).

    Example:
      >>> answer_of("3 x 24 = 72 #### 72"), answer_of(r"We get $\boxed{72}$.")
      (('72', False), ('72', True))
    """
    text = text.rpartition("####")[2].strip()
    # A whole solution under the name of an answer ends in a box too.
    boxed = _last_boxed(text)
    return _without_dollars(boxed or text), bool(boxed)


def _without_dollars(text: str) -> str:
    formula = _FORMULA.fullmatch(text)
    return formula[1].strip() if formula else text


def _last_boxed(text: str) -> str:
    """The last boxes of a text; "" where there is none."""
    boxed = ""
    # A box may stand in a box, and nobody draws more of them than this.
    for _ in range(4):
        inner = last_boxed(boxed or text)
        if inner is None:
            break
        boxed = _one_of_equals(boxed or text, inner)
    return boxed


def _one_of_equals(text: str, boxed: str) -> str:
    r"""The last of several boxes that are the same number: \boxed{1.5} or \boxed{\frac{3}{2}}."""
    last = find_boxes(text)[-1].content
    # Within one box, the members of a list may well be equal.
    if last == boxed:
        return boxed
    values = {_number(member) for member in boxed.split(", ")}
    return last if len(values) == 1 and None not in values else boxed


def _number(text: str) -> Fraction | None:
    """The value of a number, a fraction or a mixed number; None where it is anything else."""
    plain_text = text.replace(" ", "")
    match = _MIXED_NUMBER.fullmatch(plain_text)
    if match:
        sign, whole, numerator, denominator = match.groups()
        value = int(whole or 0) + Fraction(int(numerator), int(denominator))
        return -value if sign else value
    return Fraction(plain_text) if _DECIMAL.fullmatch(plain_text) else None


def _last_line_after_hashes(solution: str) -> str:
    """GSM8K's answer at the end of a solution. Elsewhere ``####`` begins a heading."""
    last_line = solution.strip().rpartition("\n")[2]
    _, hashes, answer = last_line.rpartition("####")
    return answer.strip() if hashes else ""


def _placeholder(text: str) -> str:
    """ "proof", "nothing", or "" where the text is an answer."""
    words = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text).strip(" \t\n$.,:!()[]*_\"'")
    if words.casefold() in _PROOFS:
        return "proof"
    # "\text{None}" is an answer that somebody typeset.
    is_typeset = "\\" in text
    words = " ".join(words.casefold().split())
    signs = text.strip("$")
    if not is_typeset and (words in _PLACEHOLDERS or (signs and _SIGNS.fullmatch(signs))):
        return "nothing"
    return ""


def is_placeholder(gold: Any) -> bool:
    """Whether a gold says that there is none."""
    return isinstance(gold, str) and bool(_placeholder(gold.strip()))


def is_sentence(gold: str) -> bool:
    """Whether a gold is read as words, which an answer can only repeat: prose, or text with tags.

    Example:
      >>> is_sentence("She has 5 apples left."), is_sentence("<b>5</b>"), is_sentence("5 apples")
      (True, True, False)
      >>> is_sentence(r"\\text{no real solution}"), is_sentence(r"0 < x < 5 \\text{ or } x > 7")
      (False, False)
    """
    return len(_WORD.findall(gold)) >= _WORDS_OF_A_SENTENCE or bool(_TAG.search(gold))
