"""Multiple choice: the letter, A to G, that a text settles on.

In running text a bare letter is upper case, or ends its line. The article "A" is distinguished from
the letter by what follows it. Quantifiers are possessive as in `extraction`.
"""

import re

from ccpo_jax.verifiers.extraction import TEXT_COMMAND, last_boxed
from ccpo_jax.verifiers.types import Context

# Markup that may stand around a letter: emphasis, quotes, dollar signs, the opening of a command.
_CLOSING_MARKUP = r"[\s*_`\"'$}]*+"
_OPENING_MARKUP = r"[\s*_`\"'$]*+(?:\\(?:text|textbf|mathrm|mathbf|boxed)\s*\{)?[\s*_`]*+"

# A letter in brackets, (b) or [B]: never an article.
_BRACKETED = r"[(\[]\s*(?P<marked>[A-Ga-g])\s*[)\]]"

# A letter as an answer: bracketed; bare and B to G; bare "A" before punctuation, the end of the
# line or "because" and its like, which no article precedes; or lower case at the end of its line.
_LETTER = (
    rf"{_OPENING_MARKUP}(?:{_BRACKETED}|(?P<bare>[B-G](?![\w'’^\-])"
    rf"|A(?!\w)(?={_CLOSING_MARKUP}(?:[.,;:)\]!?]|$)|[\s*_]*+\n"
    r"|\s+(?:because|since|as|which|based|due|given)\b)"
    rf"|[a-g](?!\w)(?=[\s*_`\"'$}}.)]*+$|[ \t*_`\"'$}}.)]*+\n)))"
)

# Words between an announcement and its letter: "the answer is most likely option B".
_FILLER = (
    r"(?:[\s*_:,]|\b(?:the|most|likely|probably|clearly|definitely|therefore|thus|indeed"
    r"|option|choice|letter)\b)*+"
)

# "The answer is B", "Answer: B", "my vote for B" and "I choose B".
_ANNOUNCED = re.compile(
    r"(?:(?i:\b(?:answer|choice|option|vote|conclusion)\b"
    r"(?:\s+(?:here|to\s+(?:the|this)\s+question))?"
    r"[\s*_]*+(?:(?:is|would\s+be|must\s+be|should\s+be|will\s+be|for)\b|[:=]))"
    rf"|(?i:\b(?:choose|select|pick|vote\s+for|go\s+with)\b)){_FILLER}{_LETTER}"
)

# "Option B is correct" and "choice (B) is the best"; "option B is wrong" is not matched.
_CONFIRMED = re.compile(
    rf"(?i:\b(?:option|choice|answer)\b){_OPENING_MARKUP}(?:{_BRACKETED}|(?P<bare>[A-G])\b)"
    r"[\s*_)]*+\bis\s+(?:(?:the|thus|therefore|most|best)\s+)*"
    r"(?:correct|right|true|best|answer|supported)\b"
)

# A second letter right behind the first: "A or B" settles on neither.
_ALTERNATIVE = re.compile(
    r"[\s*_)\]}$]*+(?:,|/|&|(?:or|and)\b)[\s*_(\[]*+(?:option\s+)?[A-G](?![\w'’])"
)

# A line that is one letter and nothing else, "Therefore, **(D)**" included.
_LONE = re.compile(
    rf"(?:(?i:so|thus|hence|therefore)[\s,:]+)?{_OPENING_MARKUP}"
    r"[(\[]?(?P<bare>[A-Ga-g])[)\].:\s*_`\"'$}]*+"
)

# A line that begins with the label of an option: "(B) It must rain".
_LABELLED = re.compile(r"(?:\*\*)?[(\[]?([A-G])[)\].:]\s*+\S")

# An answer that is one letter: "B", "(b)", "Option B" or "B. its text".
_SINGLE = re.compile(
    r"(?:(?i:option|choice|answer):?\s+)?[(\[]?([A-Ga-g])(?:[)\]]|[)\].:]+\s.*)?[.:]?", re.DOTALL
)


def extract_choice(text: str, context: Context) -> str | None:
    """The letter, A to G, that the text settles on.

    It is the last one boxed or announced, else one that stands alone.

    Example:
      >>> extract_choice("(A) fails. The answer is (B).", Context())
      'B'
      >>> extract_choice("A dog barks.", Context()) is None
      True
      >>> extract_choice("A or B", Context()) is None
      True
    """
    # (position, letter); the letter is None where the text names several at once.
    statements: list[tuple[int, str | None]] = []
    for pattern in (_ANNOUNCED, _CONFIRMED):
        for match in pattern.finditer(text):
            letter = (match["marked"] or match["bare"]).upper()
            is_one_of_several = _ALTERNATIVE.match(text, match.end()) is not None
            statements.append((match.end(), None if is_one_of_several else letter))

    boxed = last_boxed(text)
    boxed_letter = None if boxed is None else _single_letter(boxed)
    if boxed_letter:
        statements.append((text.rfind("box"), boxed_letter))

    if statements:
        return max(statements, key=lambda statement: statement[0])[1]
    return _lone_letter(text)


def _lone_letter(text: str) -> str | None:
    """A last line that is one letter, else the only option whose label begins a line."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    lone = _LONE.fullmatch(lines[-1]) if lines else None
    if lone:
        return lone["bare"].upper()

    labels = {match[1] for match in map(_LABELLED.match, lines) if match}
    return labels.pop() if len(labels) == 1 else None


def _single_letter(answer: str) -> str | None:
    """The letter of an answer, None when it is not one letter."""
    match = _SINGLE.fullmatch(re.sub(TEXT_COMMAND, r"\1", answer).strip(" \n$*."))
    return match[1].upper() if match else None


def equivalent_choice(gold: str, answer: str, context: Context) -> bool:
    """Whether two answers are the same letter."""
    letter = _single_letter(gold)
    return letter is not None and letter == _single_letter(answer)


def choice_value(answer: str, context: Context) -> str | None:
    """The letter of an answer, None when it is not one letter."""
    return _single_letter(answer)


def same_choice(first: str, second: str, context: Context) -> bool:
    """Whether two answers are the same letter."""
    return equivalent_choice(first, second, context)


def check_choice(gold: str, context: Context) -> str | None:
    """None when the gold is one letter, else the reason."""
    return None if _single_letter(gold) else f"not a letter from A to G: {gold!r}"
