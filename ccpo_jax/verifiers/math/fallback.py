"""math-verify's verdict on answers that the grammar of this package does not know."""

import logging
from functools import lru_cache
from typing import Any

from ccpo_jax.verifiers.worker import untimed

# More would make the parser slow.
_MAX_CHARS = 300

# It knows these, and little else that the grammar of this package does not.
_WANTED = (
    r"\int",
    r"\lim",
    r"\sum",
    r"\prod",
    "matrix",
    "array",
    r"\log",
    r"\cup",
    r"\cap",
    r"\frac",
)


def same_to_math_verify(gold: str, answer: str) -> bool:
    """Whether math-verify accepts an answer, of expressions that both have what it knows."""
    if max(len(gold), len(answer)) > _MAX_CHARS:
        return False
    if not any(command in gold and command in answer for command in _WANTED):
        return False
    gold_read = _parse(gold)
    answer_read = _parse(answer)
    if not gold_read or not answer_read or isinstance(gold_read[0], str):
        return False
    import math_verify

    return math_verify.verify(gold_read, answer_read, timeout_seconds=None, raise_on_error=True)


@lru_cache(maxsize=1024)
def _parse(answer: str) -> list:
    """The parser's results, none for what it cannot parse."""
    # It takes a second to import: most runs can do without, and no answer is to blame for it.
    with untimed():
        import math_verify
        from latex2sympy2_extended import NormalizationConfig

    # It warns when its own time limit is off. That limit is an exception raised from SIGALRM, which
    # a long step outside the interpreter never sees; the pool's timer ends the process instead.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    # `units` is off: the parser takes every final c, t, s, m, ... for a unit.
    config = math_verify.LatexExtractionConfig(
        normalization_config=NormalizationConfig(
            basic_latex=True,
            units=False,
            malformed_operators=True,
            nits=True,
            boxed="none",
            equations=False,
        )
    )
    # None turns the parser's own time limit off; its annotation forgets that.
    no_limit: Any = None
    latex = answer.replace("$", "")
    return math_verify.parse(f"$${latex}$$", [config], parsing_timeout=no_limit)
