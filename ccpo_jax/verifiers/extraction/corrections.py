r"""Answers that a text takes back: "It is not 41", "41. No, that is wrong", "41, I mean 42"."""

import re

# Before an answer that is denied.
_DENIAL_BEFORE = re.compile(
    r"(?i)(?:\bnot|n['’]t|\bnever"
    r"|\bneither|\bcannot be|\brather than|\binstead of|\bnegative|\bminus)"
    r"(?: (?:equal to|definitely|certainly|simply|just|exactly|really|be|the answer"
    r"|necessarily)){0,3}"
    r"[\s$\\(\[*_`]{0,8}\Z"
)

# Before a number: words that make another value of it.
_MADE_ANOTHER = re.compile(
    r"(?i)\b(?:(?:root|square|cube|log|logarithm|factorial|reciprocal|half|third|quarter|[a-z]{1,8}th)"
    r" of|twice|half|double|triple|(?:more|less|fewer|greater|smaller) than|below|above)"
    r"[\s$\\(*_`]{1,6}\Z"
)

_WRONG = (
    r"(?:(?:wrong|incorrect|false|mistaken|a mistake|an error|impossible|absurd)\b(?! to\b)"
    r"|not (?:quite )?(?:right|correct|true|possible)\b(?! to\b)"
    r"|not (?:the |a |my |our )?(?:[a-z]{1,8} )?(?:answer|solution)\b)"
)
_DENIED = (
    r"(?:(?:is|was|are|must be|would be|seems(?: to be)?|looks|turns out to be|has to be)"
    rf" (?:clearly |obviously |actually |definitely |also |still )?{_WRONG}|['’]s {_WRONG}"
    r"|(?:isn['’]t|wasn['’]t|cannot be|can['’]t be|won['’]t be) (?:the |a )?(?:right|correct|true"
    r"|possible|(?:[a-z]{1,8} )?(?:answer|solution))\b)"
)
_PAUSE = r"[\s,.;:!?…—–*_$)\]}\\-]{0,12}+"
# After the value and its unit, in its sentence or at the beginning of the next.
_DENIAL_AFTER = re.compile(
    rf"(?i)(?:[\s*_$)\]}}\\]{{0,8}}+{_DENIED}"
    rf"|(?:[^\S\n][a-z]{{1,12}}){{0,3}}{_PAUSE}"
    r"(?:(?:hmm+|wait|oh|oops|actually|but|however|and|well|ah|hold on|sorry|although|though)\b"
    r"[\s,.!…—–-]{1,6})"
    rf"{{0,4}}(?:(?:which|that|this|it)(?: answer)?\s?{_DENIED}"
    r"|(?<=[\s,.!?…—–-])(?:no|nope)\b(?=\s{0,3}(?:[,.!…—–-]|wait\b|\Z))"
    r"|(?<=[\s,.!?…—–-])scratch that)"
    r"|[^\n。，,]{0,4}[。，,？?！!]\s?(?:等等，?)?(?:但|可是|不过)?(?:这|那|它|答案)?(?:显然|肯定|其实)?是?"
    r"(?:错|不对|不正确|不是))"
)
# What a text says instead: "I mean 42", "sorry, 42", "it should be 42".
_VALUE_FOLLOWS = r"(?=[*_\"$\\({-]{0,5}\d|\$|\\[a-z(\[]|(?:negative|minus) \d)"
_INSTEAD = re.compile(
    rf"(?i)(?:[^\S\n][a-z]{{1,12}}){{0,3}}?{_PAUSE}(?:(?:hmm+|oh|wait|actually|but|well|ah|no|nope|that"
    r"(?:['’]s| is) (?:wrong|incorrect|not right)|this is wrong|wrong)\b[\s,.!…—–-]{1,6}){0,5}"
    r"(?:(?:i mean|i meant|sorry|no|wait|oops|correction|make that|scratch that|or rather)\b"
    r"[\s,:—–-]{1,5}"
    r"|(?:(?:actually|no|wait|wrong|hmm|oops|sorry)\b[\s,.]{1,3})?"
    r"(?:it|that|this|the (?:right|correct|real|actual|true) (?:answer|value|one))"
    r"(?: should be| should have been| must be| has to be)(?: actually| really)? ?"
    r"|(?:actually|no|wait|wrong|oops|sorry)\b[\s,.]{1,3}(?:it|that|this)(?: is|['’]s) ?)+"
    rf"{_VALUE_FOLLOWS}"
)
_INSTEAD_CHINESE = re.compile(
    r"[^\n。，,]{0,4}[。，,]\s?(?:等等，?)?(?:这|那)?(?:是)?(?:错|不对|不正确|不是)[^\d\n]{0,6}?"
    r"(?:应该?[是为]|而是|正确答案[是为])\s?(?=[-$\\]{0,2}\d)"
)

# "not 41 but 42".
_NOT_BUT = re.compile(
    rf"(?i)not\s[^.\n]{{1,40}}?(?:,? but(?: rather| instead)?|[,;—–-] ?(?:it is|it['’]s|rather)) "
    rf"{_VALUE_FOLLOWS}"
)

# Text that is struck out.
_STRUCK_OUT = re.compile(r"~~[^~\n]{1,200}~~|<(del|s|strike)>[^<\n]{1,200}</\1>")


def without_struck_out(text: str) -> str:
    """The text without what it strikes out: "~~41~~ 42" is 42."""
    if "~~" in text:
        return _STRUCK_OUT.sub("", text)
    return _STRUCK_OUT.sub("", text) if "</" in text else text


def is_denied_before(text: str, start: int) -> bool:
    """Whether the words before a position deny what begins there, or change its sign."""
    return _DENIAL_BEFORE.search(text[max(0, start - 60) : start]) is not None


def is_made_another(text: str, start: int) -> bool:
    """Whether the words before a number make another value of it: "the square root of 18"."""
    return _MADE_ANOTHER.search(text[max(0, start - 40) : start]) is not None


def correction_at(text: str, end: int) -> int | None:
    """Where the value begins that a text puts in the place of the one that ends here.

    Returns:
      The position; -1 where the value is taken back and no other is given; None where it stands.

    Example:
      >>> correction_at("41, I mean 42", 2), correction_at("41. That is wrong.", 2)
      (11, -1)
      >>> correction_at("41 apples. That is all.", 2) is None
      True
    """
    for pattern in (_INSTEAD, _INSTEAD_CHINESE):
        instead = pattern.match(text, end)
        if instead:
            return instead.end()
    return -1 if _DENIAL_AFTER.match(text, end) else None


def contrast_at(text: str, position: int) -> int | None:
    """Where the value of "not 41 but 42" begins, if this stands at a position."""
    contrast = _NOT_BUT.match(text, position)
    return contrast.end() if contrast else None
