"""Ratings: reads from a reply how an agent divides an outcome between a dyad's two roles.

A reply holds one flat JSON object, which repeats the outcome in the rater's prompt and gives two
shares that add up to 1:

    {"outcome": "right", "thinker": 0.3, "solver": 0.7}

Nine pairs of shares are allowed, (0.1, 0.9) to (0.9, 0.1). Any other reply counts as even shares,
and as a failure with its reason. No more than the last thousand characters of a reply are read.
"""

import json

from ccpo_jax.scores import is_fraction, is_solved

# The word in a rater's prompt for the team's reward: 0, 1 and what lies between. A tokenizer may
# need a token per letter, and there is room for eight.
OUTCOMES = ("wrong", "right", "partial")
EVEN_SHARES = (0.5, 0.5)
FAILURES = ("no_object", "no_split", "wrong_outcome")

_ROLES = ("thinker", "solver")
# Characters at the end of a reply that are read.
_MAX_CHARS = 1000


def outcome_word(reward: float) -> str:
    """The word for a reward in [0, 1], one of `OUTCOMES`.

    Example:
      >>> outcome_word(0.0), outcome_word(1.0), outcome_word(0.6)
      ('wrong', 'right', 'partial')
    """
    wrong, right, partial = OUTCOMES
    if is_solved(reward):
        return right
    return partial if is_fraction(reward) else wrong


def parse_rating(reply: str, outcome: str) -> tuple[tuple[float, float], str]:
    """Reads one reply.

    Args:
      reply: the rater's response.
      outcome: the word in its prompt, one of `OUTCOMES`.

    Returns:
      ``(shares, failure)``: the Thinker's and the Solver's share, and "" or why they are even:
      "no_object" (no JSON object), "no_split" (its shares are none of the nine pairs) or
      "wrong_outcome" (it names another outcome).

    Example:
      >>> parse_rating('Well: {"outcome": "right", "thinker": 0.3, "solver": 0.7}', "right")
      ((0.3, 0.7), '')
      >>> parse_rating("fifty-fifty", "right")
      ((0.5, 0.5), 'no_object')
    """
    rating = _last_object(reply[-_MAX_CHARS:])
    if rating is None:
        return EVEN_SHARES, "no_object"
    thinker, solver = (_tenths(rating.get(role)) for role in _ROLES)
    if thinker is None or solver is None or thinker + solver != 10:
        return EVEN_SHARES, "no_split"
    if rating.get("outcome") != outcome:
        return EVEN_SHARES, "wrong_outcome"
    return (thinker / 10, solver / 10), ""


def _last_object(text: str) -> dict | None:
    """The last flat JSON object in a short text; None without one, or if it names a key twice."""
    end = text.rfind("}")
    start = text.rfind("{", 0, max(end, 0))
    if start < 0:
        return None
    try:
        pairs = json.loads(text[start : end + 1], object_pairs_hook=list)
    except ValueError:
        # Not JSON, too many digits, or brackets within brackets.
        return None
    keys = [key for key, _ in pairs]
    return dict(pairs) if len(set(keys)) == len(keys) else None


def _tenths(share: object) -> int | None:
    """A share as a whole number of tenths from 1 to 9, None for everything else."""
    if type(share) is not float or not 0.0 < share < 1.0:
        return None
    tenths = round(10 * share)
    return tenths if 1 <= tenths <= 9 and abs(10 * share - tenths) < 1e-6 else None
