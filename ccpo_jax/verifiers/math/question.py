"""What a question says about the form of its answer: their order, and the base of numerals."""

import re
from functools import lru_cache

from ccpo_jax.verifiers.math.vocabulary import NUMBER_WORDS

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


# "Find the next three terms": they are listed as they follow.
_TERMS = re.compile(
    r"\b(?:what are|find|write|write down|list|give|determine|state|calculate|compute|predict|"
    r"fill in|name) (?:(?:out|down|me|us) )?(?:the )?(?:next|first|last) "
    r"(?:two|three|four|five|six|seven|eight|nine|ten|\d{1,2}|\$\d{1,2}\$|few|several) "
    r"(?:\w+ )?(?:terms|numbers|letters|elements|entries|members|values)\b",
    re.IGNORECASE,
)

# One pair; of several pairs any may be first.
_PAIR = re.compile(
    r"\b(?:the|an|one) ordered (?:pair|triple|triplet|quadruple|tuple)\b", re.IGNORECASE
)
_SEVERAL = re.compile(
    r"\b(?:all|each|every|solutions|(?:pairs|triples|triplets|quadruples|tuples))\b",
    re.IGNORECASE,
)

_BASE = re.compile(
    r"\bbase[- ]*+(?:\$|\\text\{|_|\{)*+"
    r"(\d{1,2}|two|three|four|five|six|seven|eight|nine|sixteen)\b"
    r"|\b(binary|octal|hexadecimal)\b",
    re.IGNORECASE,
)
_BASE_OF_WORD = {"binary": 2, "octal": 8, "hexadecimal": 16} | NUMBER_WORDS


@lru_cache(maxsize=1024)
def bases_of(question: str) -> frozenset[int]:
    """The bases of numerals that a question names, so that an answer need not.

    Example:
      >>> sorted(bases_of("Write the number in base 8, then in base two."))
      [2, 8]
    """
    names = [match[1] or match[2] for match in _BASE.finditer(question[-_MAX_CHARS:])]
    return frozenset(_BASE_OF_WORD.get(name.lower()) or int(name) for name in names)


@lru_cache(maxsize=1024)
def asks_for_order(question: str) -> bool:
    """Whether the members of an answer have to stand in the order of the gold.

    Example:
      >>> asks_for_order("List them from least to greatest."), asks_for_order("Find all roots.")
      (True, False)
    """
    text = question[-_MAX_CHARS:]
    if _ORDER.search(text) or _TERMS.search(text):
        return True
    return _PAIR.search(text) is not None and _SEVERAL.search(text) is None
