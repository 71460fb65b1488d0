r"""Where a passage announces its answer: "The answer to this is 42", "42 is the answer".

The verifiers look for the answer that a text settles on. Here the answer is known, and the question
is whether the words around it say that it is the answer.
"""

import re
import string

# The words before an answer that are searched, and those behind it.
_BEFORE = 160
_BEHIND = 80

# Signs and words between an announcement and the answer: "**42**", "(B)", "therefore option B".
_SIGNS = r"[\s*_`'\"$#:：=>|({\[\\.→–—-]{0,20}"
_FILLERS = (
    r"(?:\b(?:therefore|thus|then|hence|clearly|simply|just|only|exactly|indeed|obviously|of\s+course"
    r"|always|also|definitely|certainly|probably|likely|again|equal\s+to|given\s+(?:by|as|in)|found"
    r"|option|choice|alternative|letter|number|the|a|an|value)\b[\s*_:,(\"'$]{1,5}){0,4}"
)

_VERB = (
    r"(?:\b(?:is|are|was|were|be|equals?|equalled|becomes|became|(?:comes?|came)\s+(?:out\s+)?(?:to|as)"
    r"|stays|remains|reads)\b|=)"
)

# Between "the answer" and its verb, within one sentence: ", as shown,", "to this", "we look for".
_SENTENCE = r"(?:[^.:;!?]|\.(?=\d)){0,70}?"
_CLAUSE = (
    r"(?:\s*[,(]|\s+(?:to|for|of|in|on|at|we|you|one|i|that|which|here|then|therefore|thus|so|now|must"
    r"|should|will|would|has|have|can|may|might|could|ought|seems|appears|turns|works|happens|key"
    r"|choice|option|letter|value|number)\b)"
)

# Who speaks of "the answer" and not of answering.
_OWNER = (
    r"(?:\b(?:the|this|its|their|our|my|your|his|her|whose|correct|right|true|final|best|proper"
    r"|expected|accepted|official|only|numerical|model)|['’]s)\s+"
)

# What is called right where it is the answer; the right side and the correct change are not.
_CHOSEN = (
    r"(?:option|choice|alternative|letter|one|response|result|solution|number|value|amount|total)"
)

_ANNOUNCEMENT = re.compile(
    # "Answer:", "A -> ", "Correct answer (in cm):".
    r"(?:\b(?:answer|ans|a|solution|response|output|assistant|gold|result|key|correct)\b"
    r"(?=\W{0,20}[:：=>|→]|(?<=answer)\s?[-–—]\s|\s?\([^()]{1,40}\)\W{0,5}[:=])"
    r"(?:\s?\([^()]{1,40}\))?"
    # "The answer is", "the solution would be".
    rf"|\b(?:answer|solution|result)\s+(?:is|was|would\s+be)\b\s*{_FILLERS}"
    # "The answer to this is", "the right option, then, is".
    rf"|{_OWNER}(?:answers?|(?:(?<=correct\s)|(?<=right\s)|(?<=best\s)){_CHOSEN})\b"
    rf"(?:{_CLAUSE}{_SENTENCE})?\s*{_VERB}\s*{_FILLERS}"
    r"|\b(?:solution|result)\s+(?:to|of|for)\s+(?:the|this|that|our)\s+(?:problem|question|task"
    rf"|exercise|puzzle|riddle|equation|calculation|sum)\b{_SENTENCE}{_VERB}\s*{_FILLERS}"
    # Other languages.
    rf"|答案{_SENTENCE}[是为：:]|答[：:]|정답(?:은|:)"
    r"|\b(?:respuesta|resposta|risposta|réponse|antwort|lösung|ответ)\b"
    r"(?:[^.:\n]{0,30}?\s(?:es|est|ist|è|é|lautet)\b|\s?[:：])"
    r"|\#{4}|\\f?box(?:ed)?\b|</think>)"
    rf"{_SIGNS}\Z",
    flags=re.IGNORECASE,
)

# "42 is the answer", "B would be the right choice".
_BELATED = re.compile(
    r"[\s*_`'\"$)\]}.]{0,10}\s(?:is|was|are|will\s+be|would\s+be|must\s+be|should\s+be|has\s+to\s+be)"
    r"\s+(?:therefore\s+|thus\s+|then\s+|indeed\s+|clearly\s+)?(?:(?:the|our|your|its)\s+){1,2}"
    r"(?:(?:final|only|best|right|correct|true|expected)\s+){0,2}"
    r"(?:answer\b|(?<=right\s)(?:one|option|choice|solution|result)"
    r"|(?<=correct\s)(?:one|option|choice|solution|result))",
    flags=re.IGNORECASE,
)

# "(B) is correct", said of a letter alone.
_CONFIRMED = re.compile(
    r"[\s*_`'\"$)\]}.]{0,10}\s(?:is|was|must\s+be)\s+(?:therefore\s+|thus\s+|clearly\s+)?"
    r"(?:correct|right|true)\b"
    r"|[)*_\s]{1,4}(?:correct|right)\s*[.!]",
    flags=re.IGNORECASE,
)

# A capital as a word of its own, or any letter in parentheses.
_LETTER = re.compile(r"(?<![\w'’])[A-Z](?![\w'’])|(?<=\()[a-z](?=\))")

# What stands behind a letter: the end of its line, a sign, or the text of the option.
_LETTER_ENDS = re.compile(r"[\s*_`'\")\]}.]*$|[.)\]:*]", flags=re.MULTILINE)

# Words behind "A" and "I" that no article and no pronoun has there.
_LETTER_GOES_ON = re.compile(
    r"\s*[,;(–—-]|\s+(?:because|since|as|for|and|but|due|so|which|given|here|in\s+(?:this|view))\b",
    flags=re.IGNORECASE,
)

# "A or B": neither is the answer.
_NEXT_LETTER = re.compile(r"[\s,;/|]{1,3}(?:(?:or|and)\s+)?\(?([A-Z])(?!\w)")


def is_announced(text: str, start: int, end: int) -> bool:
    """Whether the words around a part of a text say that it is the answer.

    Args:
      text: the passage.
      start: where the answer begins.
      end: where it ends.

    Example:
      >>> is_announced("The answer to this is 42.", 22, 24)
      True
    """
    beginning = text[max(0, start - _BEFORE) : start]
    return bool(_ANNOUNCEMENT.search(beginning)) or bool(_BELATED.match(text[end : end + _BEHIND]))


def states_letter(passage: str, letter: str) -> bool:
    """Whether a passage announces the letter of an option.

    Example:
      >>> states_letter("The answer is B because", "B"), states_letter("The answer is A dog.", "A")
      (True, False)
    """
    for match in _LETTER.finditer(passage):
        if match[0].upper() != letter:
            continue
        start, end = match.span()
        if _is_letter(passage, end, letter) and is_announced(passage, start, end):
            return True
        is_named = re.search(r"(?i)(?:\b(?:option|choice|answer)\s|\()\s?\Z", passage[:start][-12:])
        if is_named and _CONFIRMED.match(passage[end : end + _BEHIND]):
            return True
    return False


def _is_letter(passage: str, end: int, letter: str) -> bool:
    """Whether a letter names an option, and is neither an article nor the first of several."""
    if _LETTER_ENDS.match(passage, end):
        return True
    following = _NEXT_LETTER.match(passage, end)
    successor = string.ascii_uppercase.find(letter) + 1
    if following and string.ascii_uppercase.find(following[1]) == successor:
        return False
    if letter in "AI":
        return bool(_LETTER_GOES_ON.match(passage, end))
    return True
