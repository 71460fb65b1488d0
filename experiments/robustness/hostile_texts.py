"""Hostile texts by kind: what failing models write, and what one might write on purpose."""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence

from experiments.robustness.families import FAMILIES

# Right answers in the verifiers' formats, before they are mutated.
_ANSWERS = (
    r"Both sides are divided by 23, so $x = \boxed{\frac{17}{23}}$.",
    r"The answer is $\frac{17}{23}$, as $17 < 23$.",
    "Option F fails, as the text says nothing of rain. The answer is (G).",
    r"Hence \boxed{\text{G}}, not \boxed{F}.",
    "Of the 23 there are 6 that fail.\nAnswer: 17 of 23",
    '{"outcome": "right", "thinker": 0.3, "solver": 0.7}',
)
_MAX_CHARS = 3_000_000

_CONTROL_TOKENS = sorted(
    {
        token
        for family in FAMILIES.values()
        for token in (*family.special_tokens, *family.plain_tokens)
    }
)
_BRACKETS = [*r"{ } {} }{ \boxed{ \frac{ \left( [ $ $$ \( \{".split(), '{"a":', r"\text{"]
_LATEX = (
    r"\frac \sqrt \left( \right] { } [ ] ^ _ & \\ $ $$ \( \) \boxed{ \begin{pmatrix} \end{cases}"
)
_LATEX_PIECES = [
    *_LATEX.split(),
    *r"\text{ \int \lim_ 1 x + =".split(),
    " ",
    *", / % # ~".split(),
    "\n",
    r"\operatorname",
    r"\cup",
]
_ANSWER_STARTS = ("answer is ", "Answer:", "#### ", "The answer", r"\boxed")
_ANSWER_STARTS += ("Option ", "I choose ", '{"outcome":')
_REPEATED = (" ", "*", "\n", "\t", " *", "A, B or ", "B) is ", "the most likely ")
_REPEATED += ("A)\n", "1,000", "$x$ and ", "=", "`_")
_DIRECTION_MARKS = [*"\u200e\u200f\u202a\u202b\u202d\u202e\u2066\u2067\u2069\u200b\u200d\ufeff"]
_LETTERS = [*"7x=אب", "e\u0301\u0323\u0330", *"𝟕٣½🙂ﷺﬃİ\u2028"]


def hostile_texts(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Yields ``(kind, text)``, the kinds in turn; the same seed gives the same texts."""
    for number, kind in enumerate(itertools.islice(itertools.cycle(KINDS), count)):
        yield kind, KINDS[kind](random.Random(f"{seed}/{number}"))


def _repetitions(rng: random.Random) -> int:
    """A number of repetitions, from ten to more than a million."""
    return int(10 ** rng.uniform(1, 6.1))


def _mixed(rng: random.Random, pieces: Sequence[str]) -> str:
    """Up to 400 pieces in any order, at times framed as an answer."""
    text = "".join(rng.choices(pieces, k=rng.randint(1, 400)))
    frames = ("{}", r"\boxed{{{}}}", "Answer: {}", "The answer is ${}$.", r"\boxed{{{}")
    return rng.choice(frames).format(text)


def _unbalanced(rng: random.Random) -> str:
    """One bracket many times, closed, wrongly closed or open."""
    bracket = rng.choice(_BRACKETS)
    count = _repetitions(rng)
    end = rng.choice(("", "}" * count, "1" + "}" * count, ")" * count))
    return bracket * count + end


def _tower(rng: random.Random) -> str:
    """A short expression that takes long to evaluate."""
    depth = rng.randint(2, 60)
    base = rng.choice(("9", "10", "x", "(1+x)", r"\sqrt{7}", "0.3"))
    expressions = (
        f"{base}^{{" * depth + "9" + "}" * depth,
        "(" * depth + "9" + "!)" * depth,
        "(" * depth + "1" + ")" * depth,
        rf"\binom{{10^{depth}}}{{10^{depth - 1}}}",
        rf"\sum_{{n=1}}^{{10^{{{depth}}}}} n^n",
        "^".join(["9"] * depth),
        rf"\int_0^{{{depth}}} x^{{x^x}} dx",
        r"\frac{1}{" * depth + "2" + "}" * depth,
        f"(x+y+z)^{{{depth}00}}",
        "!" * depth + "7" + "!" * depth,
        rf"\sqrt[{depth}]{{" * depth + "3" + "}" * depth,
        f"{base}e{'9' * depth}",
    )
    return r"\boxed{" + rng.choice(expressions) + "}"


def _digits(rng: random.Random) -> str:
    """A number of a million digits, or what looks like one."""
    start = rng.choice(("Answer: ", r"\boxed{", "#### ", "-", "0.", "1/", "1e"))
    piece = rng.choice(("9", "12,", "0", "1/", "3:", "1.", "-", "٣"))
    return start + piece * _repetitions(rng) + rng.choice(("", "}", "%"))


def _run(rng: random.Random) -> str:
    """The start of an answer before a long repetition, at which a pattern might backtrack."""
    start = rng.choice(_ANSWER_STARTS)
    text = start + rng.choice(_REPEATED) * _repetitions(rng)
    return text + rng.choice(("", "x", r"\boxed{"))


def _mutated(rng: random.Random) -> str:
    """A right answer after up to 30 random edits."""
    text = rng.choice(_ANSWERS)
    for _ in range(int(30 ** rng.random())):
        start, stop = sorted(rng.choices(range(len(text) + 1), k=2))
        piece = text[start:stop]
        edits = (
            "",
            piece * 2,
            piece[::-1],
            chr(rng.randrange(0x11000)),
            rng.choice("{}$\\^_()"),
            rng.choice(_CONTROL_TOKENS),
            piece * rng.randint(2, 99),
            piece.upper(),
        )
        text = (text[:start] + rng.choice(edits) + text[stop:])[:_MAX_CHARS]
    return text


def _mix_of(pieces: Sequence[str]) -> Callable[[random.Random], str]:
    return lambda rng: _mixed(rng, pieces)


# Only a mutated answer may be judged right.
KINDS: dict[str, Callable[[random.Random], str]] = {
    "braces": _unbalanced,
    "towers": _tower,
    "digits": _digits,
    "unbalanced latex": _mix_of(_LATEX_PIECES),
    "nulls and controls": _mix_of([*map(chr, range(32)), "\x7f", "\x85", "\x1b[2J", "4", "x"]),
    "lone surrogates": _mix_of(["\ud800", "\udbff", "\udc00", "\udfff", "7", "x", " "]),
    "directions and marks": _mix_of(_DIRECTION_MARKS + _LETTERS),
    "control tokens": _mix_of([*_CONTROL_TOKENS, "system\n", "<", "|>", "{problem}", "{{ 7 }}"]),
    "runs": _run,
    "mutated answers": _mutated,
}
