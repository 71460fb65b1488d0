"""Ratings: how an agent splits an outcome between a dyad's two roles, read from its reply with suspicion.

A reply holds one flat JSON object with the outcome as the rater was told it and two shares that add up to 1:

    {"outcome": "right", "thinker": 0.3, "solver": 0.7}

There are nine splits, (0.1, 0.9) to (0.9, 0.1). Whatever else a reply holds counts as an even split, and as a failure
with its reason. Standard library only; a reply costs no more than its last thousand characters.
"""

import json

OUTCOMES = ("wrong", "right")  # what a rater is told, by the verdict
EVEN = (0.5, 0.5)
FAILURES = ("no_object", "no_split", "wrong_outcome")

_ROLES = ("thinker", "solver")
_LONGEST = 1000  # last characters of a reply that are looked at


def parse(reply: str, outcome: str) -> tuple[tuple[float, float], str]:
    """Reads one reply.

    Args:
      reply: what the rater wrote.
      outcome: the outcome it was told, one of `OUTCOMES`.

    Returns:
      ``(split, failure)``: the Thinker's and the Solver's share, and "" or why they are even: "no_object" (no JSON
      object), "no_split" (its shares are none of the nine splits) or "wrong_outcome" (it says another outcome).

    Example:
      >>> parse('Well: {"outcome": "right", "thinker": 0.3, "solver": 0.7}', "right")
      ((0.3, 0.7), '')
      >>> parse("fifty-fifty", "right")
      ((0.5, 0.5), 'no_object')
    """
    rated = _last_object(reply[-_LONGEST:])
    if rated is None:
        return EVEN, "no_object"
    tenths = [_tenths(rated.get(role)) for role in _ROLES]
    if None in tenths or sum(tenths) != 10:
        return EVEN, "no_split"
    if rated.get("outcome") != outcome:
        return EVEN, "wrong_outcome"
    return (tenths[0] / 10, tenths[1] / 10), ""


def _last_object(text: str) -> dict | None:
    """The last flat JSON object in a text that is short; None if there is none, or if it names a key twice."""
    end = text.rfind("}")
    start = text.rfind("{", 0, max(end, 0))
    if start < 0:
        return None
    try:
        found = json.loads(text[start : end + 1], object_pairs_hook=list)
    except ValueError:  # no JSON, digits without end, or brackets within brackets
        return None
    keys = [key for key, _ in found]
    return dict(found) if len(set(keys)) == len(keys) else None


def _tenths(share: object) -> int | None:
    """A share as a whole number of tenths from 1 to 9, None for everything else."""
    if type(share) is not float or not 0.0 < share < 1.0:
        return None
    tenths = round(10 * share)
    return tenths if 1 <= tenths <= 9 and abs(10 * share - tenths) < 1e-6 else None
