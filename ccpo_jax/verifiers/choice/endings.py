"""What counts where a text states no letter: the one in which it ends, or the only label."""

import re

from ccpo_jax.verifiers.choice.before import clause, is_void
from ccpo_jax.verifiers.choice.letters import find_letters
from ccpo_jax.verifiers.choice.statements import LABEL_SUFFIX

# What leads to a letter as the result of a sentence, and what keeps it from being one.
_RESULT = re.compile(
    r"(?i)(?:\b(?:is|are|be|option|choice|answer|statement|get|matches|matching|to)\b|→"
    r"|\b(?:result|verdict|final|key|output|prediction|label|guess|decision|correct|ans) *+:"
    r"|(?:选项|答) *+:) *+\Z"
)
_NO_RESULT = re.compile(
    r"(?i)\b(?:not|never|cannot|nor|neither|than|except|unlike|wrong|if|whether|suppose|assume"
    r"|eliminat\w+|exclud\w+|reject\w*|rul(?:e|ed|es|ing) out|discard\w*|dismiss\w*|instead of"
    r"|unlikely|impossible|(?<!no )doubt|trap|distractor|mistake)\b"
    r"|\b(?:consider|evaluate|examine|analy[sz]e|check|look at|discuss|compare|test|review)"
    r"(?: (?:now|next|the|option|choice|statement|case)){0,3} *+\Z"
    r"|n't\b|incorrect (?:answer|option|choice)|[不非错]|排除"
)
_SENTENCE_END = re.compile(r"[.!?](?=\s)|\n")
_WORD_AND_STOP = re.compile(r"[a-z)]{2}[.!?] *+\Z")
_ENDING = re.compile(r"[\s.!,;:)\]}>]*+\Z")


def find_result(text: str) -> str | None:
    """The letter in which the last sentence ends, where it is the sentence's only letter.

    Example:
      >>> find_result("The ratio is 3:2, or answer (C)."), find_result("It is vitamin C.")
      ('C', None)
    """
    text = text.rstrip()
    start = 0
    for end in _SENTENCE_END.finditer(text):
        start = end.end()
    sentence = text[start:]

    found = find_letters(sentence)
    if len(found) != 1 or len(found[0].letters) != 1:
        return None
    letters = found[0]
    before = sentence[: letters.start]
    # A letter may be a sentence; one that is a line may be the label of an option.
    is_sentence = not before.strip() and _WORD_AND_STOP.search(text[max(0, start - 9) : start])
    is_result = letters.is_marked or is_sentence or _RESULT.search(before)
    is_no_result = is_void(before) or _NO_RESULT.search(clause(before))
    is_end = _ENDING.match(sentence, letters.end) is not None
    return letters.letters[0] if is_result and is_end and not is_no_result else None


def find_label(text: str) -> str | None:
    """The letter of the only option whose label begins a line: "(B) It must rain".

    Example:
      >>> find_label("Let us see.\\n(B) It must rain"), find_label("(A) rain\\n(B) snow")
      ('B', None)
    """
    labels: set[str] = set()
    for letters in find_letters(text):
        line_start = text.rfind("\n", 0, letters.start) + 1
        if text[line_start : letters.start].strip():
            continue
        if letters.is_item or len(letters.letters) > 1:
            continue
        is_label = letters.is_marked or LABEL_SUFFIX.match(text, letters.end)
        if is_label and not letters.is_subject:
            labels |= set(letters.letters)
    return labels.pop() if len(labels) == 1 else None
