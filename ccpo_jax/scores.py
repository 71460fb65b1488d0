"""Scores of answers in [0, 1]: which are right, which are wrong, and how they read."""

from typing import Any

# Scores and rewards that differ by less are equal: a weighted sum of ones need not round to 1.
ROUNDING = 1e-6


def is_solved(score: Any) -> Any:
    """Whether an answer is right: its score is 1, up to rounding.

    Args:
      score: a number or an array, in [0, 1].

    Returns:
      bool, or an array of bool.

    Example:
      >>> is_solved(0.7 + 0.2 + 0.1), is_solved(0.9)
      (True, False)
    """
    return score >= 1.0 - ROUNDING


def is_fraction(score: Any) -> Any:
    """Whether an answer is neither right nor wrong: its score lies between 0 and 1.

    Args:
      score: a number or an array, in [0, 1].

    Returns:
      bool, or an array of bool.

    Example:
      >>> is_fraction(0.4), is_fraction(1.0)
      (True, False)
    """
    return (score > ROUNDING) & (score < 1.0 - ROUNDING)


def score_text(score: float) -> str:
    """A score as people read it: "right" for 1, "wrong" for 0, else two digits.

    No fraction reads like 0 or 1: the digits stay between 0.01 and 0.99.

    Example:
      >>> score_text(1.0), score_text(0.0), score_text(0.4), score_text(0.999)
      ('right', 'wrong', '0.40', '0.99')
    """
    if is_solved(score):
        return "right"
    if not is_fraction(score):
        return "wrong"
    return f"{min(max(score, 0.01), 0.99):.2f}"
