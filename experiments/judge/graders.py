"""The graders that are compared: ours in both modes, math-verify, and any other by name."""

import functools
import importlib
import importlib.util
import string
import sys
from collections.abc import Callable, Sequence

from ccpo_jax.errors import InputError
from ccpo_jax.verifiers import Item, VerifierPool
from ccpo_jax.verifiers.types import Context
from experiments.judge.cases import Case

# Cases -> for each, whether the grader pays it.
Grader = Callable[[Sequence[Case]], list[bool]]


def grade_with_ours(cases: Sequence[Case], *, extraction: str, workers: int = 2) -> list[bool]:
    """The verdicts of `ccpo_jax.verifiers`, in worker processes as in a run."""
    # Answers to one question are verified together, as those of a group of samples are.
    positions: dict[tuple[str, str, Context], list[int]] = {}
    for position, case in enumerate(cases):
        context = Context(case.question, case.options, extraction)
        positions.setdefault((case.verifier, case.gold, context), []).append(position)
    items = [
        Item(verifier, gold, tuple(cases[position].answer for position in group), context)
        for (verifier, gold, context), group in positions.items()
    ]

    verdicts = [False] * len(cases)
    with VerifierPool(workers) as pool:
        for group, graded in zip(positions.values(), pool.verify(items), strict=True):
            for position, correct in zip(group, graded.correct, strict=True):
                verdicts[position] = correct
    return verdicts


def grade_with_math_verify(cases: Sequence[Case]) -> list[bool]:
    """The verdicts of math-verify, called directly: gold in dollar signs, its default settings."""
    from math_verify import StringExtractionConfig, parse, verify

    verdicts = []
    for case in cases:
        if case.verifier == "choice":
            letters = string.ascii_uppercase[: len(case.options) or None]
            config = [StringExtractionConfig(strings=tuple(letters))]
            gold = parse(case.gold, config)
            answer = parse(case.answer, config)
        else:
            gold = parse(f"${case.gold}$")
            answer = parse(case.answer)
        verdicts.append(bool(verify(gold, answer)))
    return verdicts


def grade_with(function: Callable[[str, str], object], cases: Sequence[Case]) -> list[bool]:
    """The verdicts of a function of gold and answer.

    An exception counts as a refusal; how many there were, and the first, is said on stderr.
    """
    verdicts = []
    errors = []
    for case in cases:
        try:
            verdict = bool(function(case.gold, case.answer))
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error!s:.100}")
            verdict = False
        verdicts.append(verdict)
    if errors:
        name = getattr(function, "__name__", repr(function))
        count = f"{len(errors)} of {len(cases)}"
        print(f"{name} raised on {count} answers, first {errors[0]}", file=sys.stderr)
    return verdicts


def find_graders(others: Sequence[str], workers: int) -> dict[str, Grader]:
    """The graders by name: ours, math-verify where it is installed, and others.

    Args:
      others: each as "NAME=module:function"; the function takes gold and answer and returns whether
        the answer is right.
      workers: processes for ours.

    Raises:
      InputError: if another grader is not written so, or cannot be imported.
    """
    graders: dict[str, Grader] = {
        f"ours, {mode}": functools.partial(grade_with_ours, extraction=mode, workers=workers)
        for mode in ("strict", "lenient")
    }
    if importlib.util.find_spec("math_verify"):
        graders["math-verify"] = grade_with_math_verify

    for other in others:
        name, _, place = other.partition("=")
        module, _, function = place.partition(":")
        try:
            found = getattr(importlib.import_module(module), function)
        except (ImportError, ValueError, AttributeError) as error:
            message = f"received {other!r}: {error}; use NAME=module:function"
            raise InputError("grader", message) from error
        graders[name] = functools.partial(grade_with, found)
    return graders
