"""Whether a question asks for its answers in an order."""

import re
from functools import lru_cache

# The end of the question alone decides, and a question is not read beyond this.
_MAX_CHARS = 20_000

_ORDER = re.compile(
    r"\b(?:in (?:strictly )?(?:the )?(?:increasing|decreasing|ascending|descending|alphabetical|"
    r"numerical|chronological|correct|right|proper|following|same|this|that|given) (?:\w+ )?order|"
    r"in order(?! (?:to|that)\b)|(?:the|correct|right) order of|ordered (?:list|from)|respectively|"
    r"from (?:the )?(?:smallest|least|lowest|shortest|greatest|largest|highest|longest|biggest|"
    r"left|first|youngest|oldest|slowest|fastest)\b.{0,40}?\bto\b|"
    r"(?:arrange|rank|sort|order) (?:the|these|those|them|all|from))\b",
    re.IGNORECASE | re.DOTALL,
)


@lru_cache(maxsize=1024)
def asks_for_order(question: str) -> bool:
    """Whether the members of an answer have to stand in the order of the gold.

    Example:
      >>> asks_for_order("List them from least to greatest."), asks_for_order("Find all roots.")
      (True, False)
    """
    return _ORDER.search(question[-_MAX_CHARS:]) is not None
