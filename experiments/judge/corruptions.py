r"""One-step corruptions of LaTeX answers, which a verifier should not accept.

A digit changes, a sign is dropped, operands are swapped, a bracket closes instead of being open.
Some corruptions mean the same by chance: a sum whose terms change places is the same sum. So the
number that is accepted is compared between verifiers, and is not expected to be zero.
"""

import argparse
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ccpo_jax.verifiers.math import equivalent_math
from ccpo_jax.verifiers.types import NO_CONTEXT

Corruption = Callable[[str], Iterator[str]]

# Words of LaTeX are not letters of the answer.
_COMMAND = re.compile(r"\\[A-Za-z]+|\\.|\{[pb]matrix\}")

PER_GOLD = 9


def _plain_positions(answer: str, pattern: str) -> Iterator[re.Match[str]]:
    """The matches of a pattern outside commands."""
    commands = [match.span() for match in _COMMAND.finditer(answer)]
    for match in re.finditer(pattern, answer):
        if not any(start <= match.start() < end for start, end in commands):
            yield match


def _with(answer: str, match: re.Match[str], text: str) -> str:
    return answer[: match.start()] + text + answer[match.end() :]


def _changed_digit(answer: str) -> Iterator[str]:
    for match in _plain_positions(answer, r"\d"):
        for step in (1, 9):
            yield _with(answer, match, str((int(match[0]) + step) % 10))


def _dropped_digit(answer: str) -> Iterator[str]:
    for match in _plain_positions(answer, r"(?<=\d)\d|\d(?=\d)"):
        yield _with(answer, match, "")


def _repeated_digit(answer: str) -> Iterator[str]:
    for match in _plain_positions(answer, r"[1-9]"):
        yield _with(answer, match, match[0] * 2)


def _dropped_sign(answer: str) -> Iterator[str]:
    for match in _plain_positions(answer, r"(?:^|(?<=[({,]))\s*-"):
        yield _with(answer, match, "")


def _changed_sign(answer: str) -> Iterator[str]:
    for match in _plain_positions(answer, r"(?<=[\w})] )[-+]|(?<=[\w})])[-+]"):
        yield _with(answer, match, "+" if match[0] == "-" else "-")


def _negated(answer: str) -> Iterator[str]:
    if re.match(r"[1-9\\(a-z]", answer) and "text" not in answer:
        yield f"-{answer}"


def _swapped_fraction(answer: str) -> Iterator[str]:
    for match in re.finditer(r"(\\[dt]?frac)\{([^{}]+)\}\{([^{}]+)\}", answer):
        yield _with(answer, match, rf"{match[1]}{{{match[3]}}}{{{match[2]}}}")


def _swapped_terms(answer: str) -> Iterator[str]:
    match = re.fullmatch(r"([\w\\{}^]+)\s*-\s*([\w\\{}^]+)", answer)
    if match:
        yield f"{match[2]} - {match[1]}"


def _changed_exponent(answer: str) -> Iterator[str]:
    for match in re.finditer(r"\^\{?(\d+)\}?", answer):
        yield _with(answer, match, f"^{{{int(match[1]) + 1}}}")
        yield _with(answer, match, "")


def _dropped_root(answer: str) -> Iterator[str]:
    for match in re.finditer(r"\\sqrt\s*", answer):
        yield _with(answer, match, "")


def _dropped_factor(answer: str) -> Iterator[str]:
    for match in re.finditer(r"\\pi(?![A-Za-z])|(?<=\d)[a-z](?![a-z])|(?<=\d)i(?![a-z])", answer):
        yield _with(answer, match, "")


def _changed_letter(answer: str) -> Iterator[str]:
    for match in _plain_positions(answer, r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])"):
        yield _with(answer, match, chr(ord(match[0]) + (-1 if match[0] in "zZ" else 1)))
        yield _with(answer, match, match[0].swapcase())


def _changed_bracket(answer: str) -> Iterator[str]:
    if "," not in answer:
        return
    for match in _plain_positions(answer, r"[\[\]()]"):
        yield _with(answer, match, dict(zip("[]()", "()[]", strict=True))[match[0]])


def _dropped_member(answer: str) -> Iterator[str]:
    for match in _plain_positions(answer, r",\s*[^,()\[\]{}]+(?=[,)\]]|$)"):
        if "!" not in match[0]:
            yield _with(answer, match, "")


def _swapped_members(answer: str) -> Iterator[str]:
    match = re.fullmatch(r"(\(|\\left\()([^,]+),([^,]+)(\)|\\right\))", answer)
    if match:
        yield f"{match[1]}{match[3].strip()},{match[2].strip()}{match[4]}"


def _repeated_member(answer: str) -> Iterator[str]:
    for match in _plain_positions(answer, r",\s*(-?\d+)(?=[)\]]|$)"):
        yield _with(answer, match, match[0] + match[0])


def _mirrored_relation(answer: str) -> Iterator[str]:
    pairs = {r"\le": r"\ge", r"\leq": r"\geq", "<": ">", ">": "<", r"\cup": r"\cap"}
    for match in re.finditer(r"\\leq?(?![a-z])|<|>|\\cup", answer):
        yield _with(answer, match, pairs[match[0]])


def _changed_base(answer: str) -> Iterator[str]:
    for match in re.finditer(r"(?<=\d)_\{?(\d)\}?", answer):
        yield _with(answer, match, f"_{int(match[1]) % 9 + 1}")


def _moved_point(answer: str) -> Iterator[str]:
    for match in _plain_positions(answer, r"(\d)\.(\d)"):
        yield _with(answer, match, f".{match[1]}{match[2]}")
    if re.fullmatch(r"\d{2,}", answer):
        yield f"{answer[:-1]}.{answer[-1]}"
        yield f"{answer}0"


def _mixed_letters(answer: str) -> Iterator[str]:
    match = re.fullmatch(r"(.*?)([A-Za-z]{3,})(\}?)", answer)
    if match and match[2] not in ("pmatrix", "bmatrix", "circ") and "\\" not in match[2]:
        yield match[1] + match[2][::-1] + match[3]


def _magnitude(answer: str) -> Iterator[str]:
    if re.fullmatch(r"-?[1-9]\d*", answer):
        yield rf"{answer}\text{{ thousand}}"
        yield rf"{answer}\%\text{{ more}}"


CORRUPTIONS: tuple[Corruption, ...] = (
    _changed_digit,
    _dropped_digit,
    _repeated_digit,
    _dropped_sign,
    _changed_sign,
    _negated,
    _swapped_fraction,
    _swapped_terms,
    _changed_exponent,
    _dropped_root,
    _dropped_factor,
    _changed_letter,
    _changed_bracket,
    _dropped_member,
    _swapped_members,
    _repeated_member,
    _mirrored_relation,
    _changed_base,
    _moved_point,
    _mixed_letters,
    _magnitude,
)


def corrupted(gold: str, seed: int = 0) -> list[tuple[str, str]]:
    """At most `PER_GOLD` corruptions of a gold with their names, of as many kinds as there are."""
    rng = random.Random(f"{seed} {gold}")
    pools = []
    for corruption in CORRUPTIONS:
        results = [text for text in dict.fromkeys(corruption(gold)) if text.strip() != gold.strip()]
        rng.shuffle(results)
        pools.append([(corruption.__name__.strip("_"), text) for text in results])
    rng.shuffle(pools)

    chosen: dict[str, str] = {}
    while len(chosen) < PER_GOLD and any(pools):
        for pool in pools:
            if pool and len(chosen) < PER_GOLD:
                name, text = pool.pop()
                chosen.setdefault(text, name)
    return [(name, text) for text, name in chosen.items()]


def accepted(golds: Iterable[str], seed: int = 0) -> tuple[list[tuple[str, str, str]], int]:
    """The corruptions that golds accept (gold, name, answer), and how many were tried."""
    right = []
    tried = 0
    for gold in golds:
        for name, answer in corrupted(gold, seed):
            tried += 1
            if equivalent_math(gold, answer, NO_CONTEXT):
                right.append((gold, name, answer))
    return right, tried


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the corruptions that the golds of a file accept, and how many they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("golds", type=Path, help="a parquet file with a column 'answer'")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    from pyarrow import parquet

    column = parquet.read_table(options.golds, columns=["answer"])["answer"].to_pylist()
    golds = [gold for gold in map(str, column) if gold.strip()]
    right, tried = accepted(golds, options.seed)
    for gold, name, answer in right:
        print(f"{name}: {gold!r} accepts {answer!r}")
    print(f"{len(right)} of {tried} accepted")


if __name__ == "__main__":
    main()
