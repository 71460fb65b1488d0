"""What a text answers, whether that is right, and which answers of one prompt are the same; one record per verifier.

A worker of the pool runs this file by path, so at import it needs math-verify and nothing of ccpo_jax.
"""

import functools
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import math_verify
from latex2sympy2_extended import NormalizationConfig
from sympy import Basic, MatrixBase

# math-verify warns that its own time limit is off: that limit is an exception raised from SIGALRM, which a long step
# outside the interpreter never sees; the pool's limit ends the process instead.
logging.getLogger("math_verify").setLevel(logging.ERROR)

FAILURES = ("no_answer", "failed", "timed_out", "crashed", "gold_unparsed")


class Verifier(NamedTuple):
    """One way to check answers. Correctness and answer classes come from the same `equivalent`."""

    extract: Callable[[str], str | None]  # text -> the answer it states, None = none found
    equivalent: Callable[[str, str], bool]  # (gold or an answer, answer) -> they mean the same
    check_gold: Callable[
        [str], str | None
    ]  # gold -> None, or why it cannot be checked as it should


class Item(NamedTuple):
    """The texts that answer one problem."""

    verifier: str  # a key of VERIFIERS
    gold: str
    texts: tuple[str, ...]


class Graded(NamedTuple):
    """Verdicts on the texts of one item, in their order."""

    correct: list[bool]
    answer_id: list[
        int
    ]  # class of equivalent answers, 0.. in order of first appearance, -1 = none found
    answers: list[str | None]  # as stated
    problems: list[
        str
    ]  # "" or the reason for no verdict: one of PROBLEMS, for "failed" followed by ": the error"
    gold_problem: (
        str | None
    )  # why the gold could not be parsed; its texts were compared with it as text
    counts: dict[str, int]  # PROBLEMS -> texts with that problem; gold_unparsed -> 0 or 1


# --- one item ---------------------------------------------------------------------------------------------------------


def verify(name: str, gold: str, texts: Sequence[str], *, max_chars: int = 20_000) -> Graded:
    """Verifies the texts of one problem in this process, without a time limit: for texts that are trusted.

    Args:
      name: a key of `VERIFIERS`.
      gold: the right answer, the whole string.
      texts: what the agents wrote.
      max_chars: the last characters of each text that are looked at.

    Returns:
      One verdict per text. All correct answers share a class.

    Raises:
      ValueError: if there is no such verifier.

    Example:
      >>> graded = verify("math", "0.5", [r"so it is \\boxed{\\frac12}", "The answer is 3.", "no idea", "Answer: 1/2"])
      >>> graded.correct, graded.answer_id
      ([True, False, False, True], [0, 1, -1, 0])
    """
    find(name)
    item = Item(name, gold, tuple(texts))
    job = _job(item, max_chars)
    return _graded(item, job, list(verify_job(job, [])), max_chars)


def check_gold(name: str, gold: str) -> str | None:
    """Says why a gold answer cannot be checked as it should, None when it can.

    An empty gold can never be met. A "math" gold that is no mathematics to the parser is still compared as text.

    Raises:
      ValueError: if there is no such verifier.

    Example:
      >>> check_gold("choice", "b"), check_gold("choice", "both")
      (None, "not a letter from A to G: 'both'")
    """
    verifier = find(name)
    try:
        return verifier.check_gold(gold) if gold.strip() else "empty"
    except MemoryError:
        raise  # as in `_verdict`
    except Exception as error:  # whatever the parser raises is the answer to the question
        return f"{type(error).__name__}: {error}"


def find(name: str) -> Verifier:
    """The verifier of this name, or a ValueError that lists the names there are."""
    if name not in VERIFIERS:
        raise ValueError(
            f"verifier: {name!r} is unknown; use one of {', '.join(map(repr, VERIFIERS))}"
        )
    return VERIFIERS[name]


class Verdict(NamedTuple):
    """What is known about one text."""

    answer: str | None
    correct: bool
    answer_id: int
    problem: str


def verify_job(job: tuple[str, str, tuple[str, ...]], done: Sequence) -> Iterator[tuple]:
    """Yields what `check_gold` says of the gold, then one verdict per text: the pool's unit of work.

    A wrong answer joins the first class whose first member means the same; correct answers are one class of their own.
    So classes are transitive by construction.

    Args:
      job: ``(verifier, gold, texts)``.
      done: records of an earlier process that died on the way; a record that is a string says that it died there.

    Yields:
      plain tuples: ``(reason or None,)`` for the gold, then the fields of a `Verdict`.
    """
    name, gold, texts = job
    verifier = VERIFIERS[name]
    if not done:
        yield (check_gold(name, gold),)
    elif isinstance(done[0], str):
        gold = ""  # the gold itself hung or crashed: asking again for every text would too
    known: dict[str, Verdict] = {}  # the first verdict on each distinct answer
    for record in done[1:]:
        if not isinstance(record, str):
            known.setdefault(record[0], Verdict(*record))
    for text in texts[max(0, len(done) - 1) :]:
        verdict = _verdict(verifier, gold, text, known)
        known.setdefault(verdict.answer, verdict)
        yield tuple(verdict)


def _verdict(verifier: Verifier, gold: str, text: str, known: dict[str, Verdict]) -> Verdict:
    """Judges one text, given the verdicts on other answers of the same problem."""
    answer = None
    try:
        answer = verifier.extract(text)
        if answer is None:
            return Verdict(None, False, -1, "no_answer")
        if answer in known:
            return known[answer]
        firsts: dict[int, Verdict] = {}  # the first member of each class
        for verdict in known.values():
            if verdict.answer_id >= 0:
                firsts.setdefault(verdict.answer_id, verdict)
        correct = bool(gold.strip()) and verifier.equivalent(gold, answer)
        for answer_id, first in firsts.items():
            if first.correct == correct and (correct or _mutual(verifier, first.answer, answer)):
                return Verdict(answer, correct, answer_id, "")
        return Verdict(answer, correct, len(firsts), "")
    except MemoryError:
        raise  # the process is spent: the pool ends it and counts this text as crashed
    except (
        Exception
    ) as error:  # hostile text can make a parser raise anything; it is counted, with its reason
        return Verdict(answer, False, -1, f"failed: {type(error).__name__}: {str(error)[:200]}")


def _mutual(verifier: Verifier, a: str, b: str) -> bool:
    """Equivalence both ways: as a gold, 1 accepts y = 1, but y = 1 + 0x need not accept 1."""
    return verifier.equivalent(a, b) and verifier.equivalent(b, a)


def _job(item: Item, max_chars: int) -> tuple[str, str, tuple[str, ...]]:
    """The item with equal texts merged, so that the same text is sent and judged once."""
    return item.verifier, item.gold, tuple(dict.fromkeys(text[-max_chars:] for text in item.texts))


def _graded(
    item: Item, job: tuple[str, str, tuple[str, ...]], records: list, max_chars: int
) -> Graded:
    """Puts the records of a job's gold and distinct texts back on the item's texts."""
    gold_problem = records[0] if isinstance(records[0], str) else records[0][0]
    verdicts = [
        Verdict(None, False, -1, r) if isinstance(r, str) else Verdict(*r) for r in records[1:]
    ]
    of_text = dict(zip(job[2], verdicts, strict=True))
    verdicts = [of_text[text[-max_chars:]] for text in item.texts]
    counts = Counter(verdict.problem.partition(":")[0] for verdict in verdicts)
    counts["gold_unparsed"] = int(gold_problem is not None)
    return Graded(
        correct=[verdict.correct for verdict in verdicts],
        answer_id=[verdict.answer_id for verdict in verdicts],
        answers=[verdict.answer for verdict in verdicts],
        problems=[verdict.problem for verdict in verdicts],
        gold_problem=gold_problem,
        counts={name: counts[name] for name in FAILURES},
    )


# --- many items -------------------------------------------------------------------------------------------------------


class VerifierPool:
    """Verifies in processes of their own, each answer within a time limit.

    An answer that hangs or crashes its process has no answer and is counted; its neighbours notice nothing. Waiting
    releases the interpreter lock, so one background thread that calls `verify` overlaps with decoding.

    Example:
      >>> with VerifierPool(workers=1) as pool:
      ...     pool.verify([Item("choice", "B", ("The answer is (B).", "C"))])[0].correct
      [True, False]
    """

    def __init__(self, workers: int = 2, time_limit: float = 5.0, max_chars: int = 20_000):
        """Starts the processes and returns at once.

        Args:
          workers: processes.
          time_limit: seconds for one answer; then its process is killed.
          max_chars: the last characters of a text that are looked at.

        Raises:
          ValueError: if there is no worker, no time or no character.
        """
        from ccpo_jax.verifiers.process_pool import (
            ProcessPool,  # not at the top: a worker runs this file without the package
        )

        if max_chars < 1:
            raise ValueError(
                f"max_chars: must be at least 1, received {max_chars}; use max_chars=20000"
            )
        self._max_chars = max_chars
        self._pool = ProcessPool(
            __file__, verify_job.__name__, workers=workers, time_limit=time_limit
        )

    def verify(self, items: Sequence[Item]) -> list[Graded]:
        """Verifies all items; the result does not depend on the number of workers.

        Raises:
          ValueError: if an item names no verifier.
          RuntimeError: if the workers cannot start, or after `close`.
        """
        for item in items:
            find(item.verifier)
        jobs = [_job(item, self._max_chars) for item in items]
        records = self._pool.run(jobs)
        return [_graded(*each, self._max_chars) for each in zip(items, jobs, records, strict=True)]

    def close(self) -> None:
        """Ends the processes."""
        self._pool.close()

    def __enter__(self) -> "VerifierPool":
        return self

    def __exit__(self, *_) -> None:
        self.close()


# --- where an answer stands -------------------------------------------------------------------------------------------

_BRACES = re.compile(r"\\f?box(?:ed)?\s*\{|\\.|[{}]", re.DOTALL)
_FORMULA = re.compile(
    r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<!\\)\$(.+?)(?<!\\)\$", re.DOTALL
)
_JOINT = re.compile(r"\s*+(?:;|,\s*+(?:(?:and|or)\b)?|(?:and|or)\b)\s*+")
_STATED = re.compile(r"(?i)\banswer\b(?:[^.:=\n]{0,60}?\bis\b:?|\**\s*+[:=])[\s*]*+|####\s*+")
_NUMBER = re.compile(
    r"[-+]?\s*+(?:\\?[$€£]\s*+)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s*+/\s*+\d+)?(?:\s*+\\?%)?"
)
_SENTENCE_END = re.compile(r"\.(?=[\s*]|$)|;|\n")
_COMMANDS = re.compile(r"\\(?:text|mathrm|mbox)\s*\{[^{}]*\}|\\[A-Za-z]+")
_FUNCTIONS = re.compile(
    r"\b(?:sqrt|sin|cos|tan|sec|csc|cot|log|exp|arcsin|arccos|arctan|and|pi|inf)\b"
)


def last_boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed{...}``; boxes joined by a comma, "and" or "or" are one answer.

    Boxes that are empty or never closed do not count.

    Example:
      >>> last_boxed(r"not \boxed{0} but \boxed{1} and $\boxed{\frac{1}{2}}$.")
      '1, \\frac{1}{2}'
    """
    boxes: list[tuple[int, int, str]] = []  # (start, end, content)
    opened: list[re.Match | None] = []
    for token in _BRACES.finditer(text):
        if token[0] == "}":
            opening = opened.pop() if opened else None
            if opening is not None:
                while boxes and boxes[-1][0] > opening.start():
                    boxes.pop()  # boxes within this box
                if content := text[opening.end() : token.start()].strip():
                    boxes.append((opening.start(), token.end(), content))
        elif token[0].endswith("{") and token[0] != r"\{":
            opened.append(token if len(token[0]) > 1 else None)
    if not boxes:
        return None
    contents = [boxes[-1][2]]
    for before, after in zip(boxes[-2::-1], boxes[:0:-1], strict=True):
        if text[before[1] : after[0]].strip(" \t\n$,;()[]\\") not in ("", "and", "or"):
            break
        contents.append(before[2])
    return ", ".join(dict.fromkeys(reversed(contents)))


def last_stated(text: str) -> str | None:
    """What follows the last "answer is", "Answer:" or "####"; without any, a last line that is nothing but a formula.

    Example:
      >>> last_stated("The answer is $x=1$ or $x=2$, as shown."), last_stated("Answer: 5 apples."), last_stated("Hm")
      ('x=1, x=2', '5', None)
    """
    statements = list(_STATED.finditer(text))
    if not statements:
        line = text.strip().rpartition("\n")[2].strip(" *")
        if formula := _FORMULA.fullmatch(line):
            return formula[formula.lastindex].strip() or None
        return (
            line
            if line and "=" not in line and "box" not in line and not _is_prose(line, 2)
            else None
        )
    rest = text[statements[-1].end() :]
    formulas, position = [], 0
    while found := _FORMULA.match(rest, position):
        formulas.append(found[found.lastindex].strip())
        joint = _JOINT.match(rest, found.end())
        position = joint.end() if joint else len(rest)
    if formulas:
        return ", ".join(formulas)
    phrase = _SENTENCE_END.split(rest, maxsplit=1)[0].strip(" \t*`_")
    number = _NUMBER.match(phrase) if _is_prose(phrase, 3) else None
    return (number[0].strip().rstrip(",") if number else phrase) or None


def _is_prose(phrase: str, letters: int) -> bool:
    """Has words of so many letters, apart from commands and the names of functions."""
    return (
        re.search(rf"[A-Za-z]{{{letters},}}", _FUNCTIONS.sub(" ", _COMMANDS.sub(" ", phrase)))
        is not None
    )


# --- math -------------------------------------------------------------------------------------------------------------

# The parser's own removal of units takes every trailing c, t, s, m, ... for one: to it, a + b + c is "a +".
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
_LONGEST = (
    600  # characters of an answer that is still parsed; the longest gold of the usual sets has 210
)
_RATIONAL = re.compile(
    r"(?P<sign>-?)(?:(?P<number>\d+(?:\.\d+)?|\.\d+)|\\frac\{(?P<a>\d+)\}\{(?P<b>\d+)\}|(?P<c>\d+)/(?P<d>\d+))"
)
_APART = Fraction(1, 10**5)  # numbers this far apart differ in their first six decimals
_TEXT = r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mbox)\s*\{([^{}]*)\}"
_TEXT_UNIT = re.compile(r"(?:\\[ ,;]|~|\s)*+" + _TEXT + r"(?:\^(?:\d|\{\d\}))?$")
_WORD_UNIT = re.compile(
    r"(?<=[\d})])(?:\s*(?:mm|cm|dm|km|kg|mg|ml|ft|lbs?|oz|mph|hrs?|sq)\b|\s+(?!percent|hundred|thousand|million|billion"
    r"|dozen|pi\b|sqrt|and\b|or\b)(?:in|mi|min|sec|yd|[A-Za-z]{4,})\b)(?:\s+[A-Za-z.]+)*(?:\^(?:\d|\{\d\}))?$"
)
_HEADING = re.compile(
    r"(\$\$?)([^$]*[^$\\])\1\s*(?:[A-Za-z][A-Za-z ]*:|(?i:solution|answer|explanation|analysis|proof))"
)
_TERM = (
    r"(?:\d|(?<=\d)\.(?=\d)|(?<![A-Za-z])[A-Za-z](?![A-Za-z.])|\\(?:frac|sqrt|pi)|[-+*/^(){}])++"
)
_RATIO = re.compile(rf"{_TERM}(?::{_TERM})+")
_FRACTION = re.compile(r"/|\\[dt]?frac")
_SET_BUILDER = r"^\\?\{\s*[A-Za-z]\s*(?:\||\\mid|:)([^|]*(?:[<>]|\\[lg]eq?)[^|]*?)\\?\}$"
_TIDY = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<=\d)(?:,\\!|\{,\}|\\!,?)\s*(?=\d{3}(?!\d))", ""),  # 29,\!322 and 29{,}322
        (r"(?<![\w\\])(\d+\.?\d*|\.\d+)[eE]([-+]?\d+)(?!\w)", r"\1 \\times 10^{\2}"),  # 4.5e33
        (r"(?<=\d)\.(?=[/)\s]|$)", ""),  # 1./3
        (r"\bnp\.(?=[a-z])", r"\\"),  # np.arcsin(...)
        (r"\\approx", "="),
        (r"^\s*=\s*", ""),
        (
            r"(?<![A-Za-z\\])E_",
            r"\\mathcal{E}_",
        ),  # an energy: to the parser every E is the base of logarithms
        (r"_(?:\\odot|\{\\odot\})", "_{sun}"),
        (r"\s*(?:°|\^\s*\\circ|\^\s*\{\s*\\circ\s*\})", r"^\\circ"),
        (_SET_BUILDER, r"\1"),  # {x | 0 < x < 1}
    )
)


def extract_math(text: str) -> str | None:
    """The last boxed answer, else the last stated one."""
    return last_boxed(text) or last_stated(text)


def equivalent_math(gold: str, answer: str) -> bool:
    """Whether two answers mean the same to math-verify, or are the same words.

    ``x = 5`` meets 5 and ``5 \\text{ cm}`` meets 5; numbers agree to six decimals. A ratio meets its multiples and the
    fraction: ``2:3`` meets 4:6 and 2/3, but ``3:1`` does not meet 3.
    """
    gold_words, words = _bare(gold), _bare(answer)
    if gold_words and gold_words == words:
        return True
    gold_number, number = _rational(gold_words), _rational(words)
    if None not in (
        gold_number,
        number,
    ):  # a hundred times faster than parsing, and most answers are numbers
        gap = abs(gold_number - number)
        if gap == 0 or gap > _APART:
            return gap == 0
    gold_terms, terms = _ratio(gold_words), _ratio(words)
    if gold_terms and terms:
        return _proportional(gold_terms, terms)
    if (gold_terms and not _FRACTION.search(words)) or (terms and not _FRACTION.search(gold_words)):
        return False
    return math_verify.verify(
        _parse(gold), _parse(answer), timeout_seconds=None, raise_on_error=True
    )


def _rational(words: str) -> Fraction | None:
    """The exact value of an integer, a decimal or a fraction of integers; None where the words are anything else."""
    found = _RATIONAL.fullmatch(words) if len(words) <= _LONGEST else None
    if found is None:
        return None
    above, below = found["number"] or found["a"] or found["c"], found["b"] or found["d"] or "1"
    return Fraction(f"{found['sign']}{above}") / int(below) if int(below) else None


def _ratio(words: str) -> list[str]:
    """Terms of a ratio, also of one behind an equals sign; none where the words are anything else."""
    ratio = words.rpartition("=")[2]
    if len(ratio) > _LONGEST or not _RATIO.fullmatch(ratio):
        return []
    terms = ratio.split(":")
    whole = all(
        term.count("(") == term.count(")") and term.count("{") == term.count("}") for term in terms
    )
    return terms if whole else []


def _proportional(gold: list[str], terms: list[str]) -> bool:
    """Whether two ratios are the same; a gold that is a time of day meets itself alone."""
    if len(gold) != len(terms):
        return False
    if _is_time(gold):
        return all(term.isdecimal() for term in gold + terms) and [*map(int, gold)] == [
            *map(int, terms)
        ]
    return all(
        math_verify.verify(of_gold, of_answer, timeout_seconds=None, raise_on_error=True)
        for of_gold, of_answer in zip(_quotients(gold), _quotients(terms), strict=True)
    )


def _is_time(terms: list[str]) -> bool:
    """9:24 or 05:00, and not 3:10: what reads as a time and, as a ratio, would have been reduced."""
    two_digits = all(re.fullmatch(r"[0-5]\d", term) for term in terms[1:])
    return (
        two_digits
        and re.fullmatch(r"\d\d?", terms[0]) is not None
        and math.gcd(*map(int, terms)) > 1
    )


def _quotients(terms: list[str]) -> list[list]:
    """Each term over the next, the last over the first, parsed."""
    pairs = zip(terms, terms[1:] + terms[:1], strict=True)
    return [_parse(rf"\frac{{{above}}}{{{below}}}") for above, below in pairs]


def check_math(gold: str) -> str | None:
    """None when the gold is a number or parses to an expression."""
    if _rational(_bare(gold)) is not None:
        return None
    return (
        None
        if any(isinstance(part, Basic | MatrixBase) for part in _parse(gold))
        else f"not parsed: {gold!r}"
    )


@functools.lru_cache(maxsize=4096)
def _parse(answer: str) -> list:
    """What the parser makes of an answer: nothing of one that is too long."""
    if len(answer) > _LONGEST:
        return []
    return math_verify.parse(
        f"$${_tidy(answer)}$$", [_LATEX], parsing_timeout=None, raise_on_error=True
    )


@functools.lru_cache(maxsize=4096)
def _bare(answer: str) -> str:
    """The answer as bare words; of one that is too long, as it stands."""
    return _words(answer if len(answer) > _LONGEST else _tidy(answer))


def _tidy(answer: str) -> str:
    """Latex without dollar signs, units and final punctuation."""
    latex = answer.strip().strip("*").strip()
    for opening, closing in ((r"\(", r"\)"), (r"\[", r"\]")):
        if latex.startswith(opening) and latex.endswith(closing):
            latex = latex[2:-2]
    if headed := _HEADING.fullmatch(latex):
        latex = headed[2]  # words that slipped in behind the formula
    latex = re.sub(r"(?<!\\)\$", "", latex).strip().rstrip(".,;:").strip()
    for pattern, replacement in _TIDY:
        latex = pattern.sub(replacement, latex)
    for unit in (_TEXT_UNIT, _WORD_UNIT):
        without = unit.sub("", latex)
        if re.search(r"\d|\\pi", without):
            latex = without
    return latex.strip()


def _words(latex: str) -> str:
    """What is left to compare as text: no text commands, no spaces, no case where it is all words."""
    words = (
        re.sub(_TEXT, r"\1", latex)
        .replace(r"\left", "")
        .replace(r"\right", "")
        .replace(r"\dfrac", r"\frac")
    )
    words = re.sub(r"\\[ ,;!:]|~|\s+", "", words)
    letter = re.fullmatch(r"\(?([A-Za-z])\)?", words)
    return letter[1] if letter else words.casefold() if words.isalpha() else words


# --- choice -----------------------------------------------------------------------------------------------------------

# A letter as an answer. In running text a bare one is upper case, or a line ends with it; the article "A" is told from
# the letter by what follows. Quantifiers are possessive where runs of spaces or asterisks could be split in two ways.
_END = r"[\s*_`\"'$}]*+"
_WRAP = r"[\s*_`\"'$]*+(?:\\(?:text|textbf|mathrm|mathbf|boxed)\s*\{)?[\s*_`]*+"
_MARKED = r"[(\[]\s*(?P<marked>[A-Ga-g])\s*[)\]]"
_LETTER = (
    rf"{_WRAP}(?:{_MARKED}|(?P<bare>[B-G](?![\w'’^\-])"
    rf"|A(?!\w)(?={_END}(?:[.,;:)\]!?]|$)|[\s*_]*+\n|\s+(?:because|since|as|which|based|due|given)\b)"
    rf"|[a-g](?!\w)(?=[\s*_`\"'$}}.)]*+$|[ \t*_`\"'$}}.)]*+\n)))"
)
_FILLER = r"(?:[\s*_:,]|\b(?:the|most|likely|probably|clearly|definitely|therefore|thus|indeed|option|choice|letter)\b)*+"
_ANNOUNCED = re.compile(
    r"(?:(?i:\b(?:answer|choice|option|vote|conclusion)\b(?:\s+(?:here|to\s+(?:the|this)\s+question))?[\s*_]*+"
    r"(?:(?:is|would\s+be|must\s+be|should\s+be|will\s+be|for)\b|[:=]))"
    rf"|(?i:\b(?:choose|select|pick|vote\s+for|go\s+with)\b)){_FILLER}{_LETTER}"
)
_CONFIRMED = re.compile(
    rf"(?i:\b(?:option|choice|answer)\b){_WRAP}(?:{_MARKED}|(?P<bare>[A-G])\b)[\s*_)]*+\bis\s+"
    r"(?:(?:the|thus|therefore|most|best)\s+)*(?:correct|right|true|best|answer|supported)\b"
)
_ALTERNATIVE = re.compile(
    r"[\s*_)\]}$]*+(?:,|/|&|(?:or|and)\b)[\s*_(\[]*+(?:option\s+)?[A-G](?![\w'’])"
)
_LONE = re.compile(
    rf"(?:(?i:so|thus|hence|therefore)[\s,:]+)?{_WRAP}[(\[]?(?P<bare>[A-Ga-g])[)\].:\s*_`\"'$}}]*+"
)
_LABELLED = re.compile(r"(?:\*\*)?[(\[]?([A-G])[)\].:]\s*+\S")
_SINGLE = re.compile(
    r"(?:(?i:option|choice|answer):?\s+)?[(\[]?([A-Ga-g])(?:[)\]]|[)\].:]+\s.*)?[.:]?", re.DOTALL
)  # "B", "(b)", "B. its text"


def extract_choice(text: str) -> str | None:
    """The letter A to G that the text settles on: the last one boxed or announced, else one that stands alone.

    Example:
      >>> extract_choice("(A) fails. The answer is (B)."), extract_choice("A dog barks."), extract_choice("A or B")
      ('B', None, None)
    """
    stated: list[tuple[int, str | None]] = []  # (position, letter), None = several at once
    for pattern in (_ANNOUNCED, _CONFIRMED):
        for found in pattern.finditer(text):
            letter = (found["marked"] or found["bare"]).upper()
            stated.append((found.end(), None if _ALTERNATIVE.match(text, found.end()) else letter))
    boxed = last_boxed(text)
    if boxed is not None and (letter := _single_letter(boxed)):
        stated.append((text.rfind("box"), letter))
    if stated:
        return max(stated, key=lambda pair: pair[0])[1]
    return _lone_letter(text)


def _lone_letter(text: str) -> str | None:
    """A last line that is one letter, else the only option whose label starts a line."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if lines and (found := _LONE.fullmatch(lines[-1])):
        return found["bare"].upper()
    labels = {found[1] for line in lines if (found := _LABELLED.match(line))}
    return labels.pop() if len(labels) == 1 else None


def _single_letter(answer: str) -> str | None:
    """The letter of an answer, None when it is not one letter."""
    found = _SINGLE.fullmatch(re.sub(_TEXT, r"\1", answer).strip(" \n$*."))
    return found[1].upper() if found else None


def equivalent_choice(gold: str, answer: str) -> bool:
    """Whether two answers are the same letter."""
    letter = _single_letter(gold)
    return letter is not None and letter == _single_letter(answer)


def check_choice(gold: str) -> str | None:
    """None when the gold is one letter."""
    return None if _single_letter(gold) else f"not a letter from A to G: {gold!r}"


# --- exact ------------------------------------------------------------------------------------------------------------

_ANSWER_COLON = re.compile(r"(?i)\banswer\**\s*:\**")
_PLAIN_NUMBER = re.compile(r"([-+]?)(\d{1,3}(?:,\d{3})+|\d+)?(?:\.(\d*))?")


_DOES_NOT_KNOW = re.compile(r"(?i:(?:i am |i'm )?(?:unsure|not sure)|i (?:do not|don't) know)[.!]?")


def extract_exact(text: str) -> str | None:
    """The rest of the line after the last "Answer:", or the last box if that comes later, else the last line.

    Who says to be unsure has not answered: in a vote it abstains.
    """
    answer, position = None, -1
    for found in _ANSWER_COLON.finditer(text):
        answer, position = text[found.end() :].strip().partition("\n")[0].strip(), found.end()
    boxed = last_boxed(text)
    if boxed is not None and text.rfind(r"\boxed") > position:
        answer = boxed
    if position < 0 and boxed is None:
        answer = text.strip().rpartition("\n")[2].strip()
    return None if not answer or _DOES_NOT_KNOW.fullmatch(answer) else answer


def equivalent_exact(gold: str, answer: str) -> bool:
    """Whether two answers are the same but for case, white space, a final stop and the way of writing a number."""
    return _canonical(gold) == _canonical(answer)


def check_exact(gold: str) -> str | None:
    """Every gold that is an answer will do."""
    return "is no answer, it says not to know" if _DOES_NOT_KNOW.fullmatch(gold.strip()) else None


def _canonical(answer: str) -> str:
    """One spelling: 1,250.0 becomes 1250 (digits are compared, not values, so no number is too long)."""
    words = " ".join(answer.casefold().split())
    words = words[:-1].rstrip() if words.endswith(".") else words
    number = _PLAIN_NUMBER.fullmatch(words)
    if number is None or not any(map(str.isdigit, words)):
        return words
    whole = (number[2] or "0").replace(",", "").lstrip("0") or "0"
    fraction = (number[3] or "").rstrip("0")
    sign = "-" if number[1] == "-" and (whole != "0" or fraction) else ""
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


VERIFIERS = {
    "math": Verifier(extract_math, equivalent_math, check_math),
    "choice": Verifier(extract_choice, equivalent_choice, check_choice),
    "exact": Verifier(extract_exact, equivalent_exact, check_exact),
}
