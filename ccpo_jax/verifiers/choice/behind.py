"""What the words behind a letter make of it: "is the correct answer", "is wrong", a question mark.

All patterns begin where the letter ends.
"""

import re

from ccpo_jax.verifiers.choice.letters import Letters

# "B is the correct answer", and what needs the end of the clause: "B is correct", "B fits".
_BE = (
    r"(?:is|are|would be|must be|should be|has to be|seems to be|seems|appears to be|appears"
    r"|remains) "
)
_PRAISE = (
    r"(?:(?:the|thus|therefore|clearly|definitely|indeed|most|single|final|only|best|correct|right"
    r"|likely|appropriate|suitable|accurate|logical|plausible|valid|possible) ){0,5}"
)
_CONFIRMED = re.compile(
    rf"(?i)[\s)\]}}>,:]*+{_BE}(?:{_PRAISE}answer|(?:my|our) (?:final )?(?:answer|choice)"
    r"|the only (?:\w{1,20} )?(?:option|choice)"
    rf"|{_PRAISE.replace('0,5', '0,4')}(?:best|correct|right|appropriate|suitable|accurate|likely) "
    r"(?:choice|option|one|fit|response|solution|selection|statement|alternative))\b"
)
_RIGHT = re.compile(
    rf"(?i)[\s)\]}}>,:]*+(?:{_BE}(?:thus |therefore |clearly |indeed |the |most |best ){{0,5}}"
    r"(?:correct|right|best|better|closest|accurate|supported|likely|appropriate|plausible|suitable"
    r"|reasonable|logical)|fits(?: best)?|best fits|works(?: best)?|holds|remains|is left)"
    r"(?=[ \t]*+(?:[.!,;:\n)]|\Z|(?:because|since|as)\b))"
)
_BEST = re.compile(
    r"(?i)[\s)\]}>,:]*+(?:best (?:describes|explains|supports|fits|captures|completes|matches"
    r"|represents|answers|reflects|summari[sz]es|illustrates|expresses)"
    r"|most (?:strongly|closely|accurately|directly|clearly|likely) \w{2,15}s"
    r"|is the (?:one|option|statement) (?:that|which) (?:best|most|correctly)|it is(?=[.!]))\b"
)
# What something makes a letter: "makes C the correct answer", "making C correct".
_MADE_RIGHT = re.compile(
    rf"(?i)[)\]}}>]*+ (?:as )?(?:{_PRAISE}(?:answer|choice|option)\b"
    r"|(?:the )?(?:only |most |best ){0,2}(?:correct|right|true|accurate|likely|plausible)"
    r"(?: one)?(?=[ \t]*+(?:[.!,;:\n)]|\Z)))"
)
_RIGHT_IN_CHINESE = re.compile(r"\s*(?:选项|项)?\s*(?:是|为)?(?:唯一)?(?:正确|对的)")

# "Statement B is true" names an option; "B is true" may speak of a variable of the question.
_TRUE = re.compile(rf"(?i)[\s)\]}}>,:]*+{_BE}(?:thus |therefore |clearly |indeed )*true\b")

# What "only" makes the answer: "only (B) agrees with the text".
_SOLE_RIGHT = re.compile(
    r"(?i)[)\]}>]*+ (?!(?:is|are) (?:not|wrong|incorrect|false))"
    r"(?:is|satisfies|matches|meets|fits|explains|follows|describes|agrees|supports)\b"
)

# What keeps the words behind a letter from confirming it, and those before from stating it.
_ONLY_IF = re.compile(r"[\s)\]}>,]*+(?:only )?(?:if|had|unless|when)\b")
_ONLY_BUT = re.compile(r"[^.!?\n]{0,30}\b(?:if|unless|but)\b")
_QUESTION = re.compile(r"[^.!?\n]{0,80}\?|[^.!?\n,]{0,20}吗")
_OPTION_TEXT = re.compile(r"[)\]}>:]*+ ++[A-Z]")

# What only sets a letter against another: "B, not A" and "B (rather than A)".
_CONTRAST = re.compile(
    r"\A[)\]}>]*+[ ,(]*+(?:and )?(?:not|rather than|instead of)\b[^.,;:!?\n)]{0,30}[,)]?"
)

# What withdraws a letter that was stated before.
_REJECTED = re.compile(
    r"(?i)[\s)\]}>,:]*+(?:is|was|would be) (?:also |clearly |therefore |actually )?"
    r"(?:not (?:the )?(?:correct|right|answer)|wrong|incorrect)\b"
)


# What takes back what was just said: "No, that's wrong", "B, which is wrong".
_HESITATION = (
    r"(?:(?:wait|hmm+|oh|oops|actually|sorry|but|however|well|hold on|on second thought|or|no)\b"
    r"[\s,.!…—–-]*+)*+"
)
_WRONG = (
    r"(?: (?:clearly|obviously|actually|definitely|certainly|probably|just|simply|also|all))?"
    r"(?: wrong| incorrect| mistaken| a mistake| an error"
    r"|(?: not|n't)(?: quite)? (?:right|correct|true|the (?:right |correct )?answer|it)"
    r"|(?: cannot|n't| can't| can not) be (?:right|correct|true|it)|n't| not)"
    r"(?=[ \t]*+(?:[.,!;:\n…)—–-]|\Z))"
)
_TAKEN_BACK = re.compile(
    r"(?i)[^.!?;\n]{0,80}?[)\]}>]*+"
    r"(?:[.!;:\n…—–-]|,(?= (?:wait|no|hmm|but|actually|or|just kidding)\b))"
    r"[\s.!…—–-]*+(?:no way\b|no[,.]? (?-i:\(?[A-Z]\)?)(?=[.!,\n]|\Z)"
    rf"|{_HESITATION}(?:nope\b|(?:maybe |perhaps )?not(?=[ \t]*+(?:[.!,\n]|\Z))"
    r"|not really\b|scratch that\b|just kidding\b"
    r"|(?:i|we) (?:am|was|were|are|made|take) (?:wrong|mistaken|a mistake|an error|that back)"
    rf"|(?:that|this|it|they|he|she)(?:'s| is| are| was| were| can| does|is|)?{_WRONG}))"
)
_CALLED_WRONG = re.compile(
    r"(?i)[)\]}>]*+ ?, ?(?:(?:which|who|but|and|though|although) ?(?:that|this|it|they|he|she)?)"
    rf"(?:'s| is| are| was| were| would be| can|is|)?{_WRONG}"
    r"|[)\]}> ]*+,?[ ]*+[这那]?是?(?:错的|错误的|不对|不正确)(?=的?(?:[.,!\n]|\Z))"
)


def is_taken_back(behind: str) -> bool:
    """Whether what was just said is denied in the next breath: "B. No, that's wrong"."""
    return _TAKEN_BACK.match(behind) is not None or _CALLED_WRONG.match(behind) is not None


def is_made_right(behind: str) -> bool:
    """Whether the words behind "makes C" say that it is the answer."""
    return _MADE_RIGHT.match(behind) is not None


def without_contrast(behind: str) -> str:
    """The words behind a letter without those that only set it against another."""
    return _CONTRAST.sub("", behind)


def is_confirmed(behind: str) -> bool:
    """Whether a letter is called the answer."""
    return _CONFIRMED.match(behind) is not None


def is_called_right(behind: str, *, is_option: bool, is_only: bool) -> bool:
    """Whether a letter is called right, as each of several statements may be.

    Args:
      behind: the words behind the letter.
      is_option: whether it certainly names an option and no variable.
      is_only: whether it is called the only one.
    """
    if _ONLY_BUT.match(behind):
        return False
    if is_only and is_option:
        return _SOLE_RIGHT.match(behind) is not None
    if _TRUE.match(behind):
        return is_option
    return any(pattern.match(behind) for pattern in (_RIGHT, _BEST, _RIGHT_IN_CHINESE))


def is_rejected(behind: str) -> bool:
    """Whether a letter is called wrong."""
    return _REJECTED.match(behind) is not None


def is_conditional(behind: str) -> bool:
    """Whether a letter is the answer only under a condition: "B if it rains"."""
    return _ONLY_IF.match(behind) is not None


def is_question(letters: Letters, behind: str) -> bool:
    """Whether the sentence of a letter asks; the text of its option may do so: "(A) Why so?"."""
    if _OPTION_TEXT.match(behind) and (letters.is_marked or behind[0] in ")]}>:"):
        return False
    return _QUESTION.match(behind) is not None
