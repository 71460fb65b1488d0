"""Multiple choice: the letter that a text settles on, or the option whose text it gives.

The last statement counts, and two letters at once are none. Where the options are known, a label
beyond them is no answer; where they are not, every letter from A to Z may be one, so that no gold
is beyond reach: a letter counts only where the text presents it as an answer.
"""

import re
import string

from ccpo_jax.verifiers.choice.endings import find_label, find_result
from ccpo_jax.verifiers.choice.markup import plain_text
from ccpo_jax.verifiers.choice.options import find_options, known_letters
from ccpo_jax.verifiers.choice.statements import find_statements
from ccpo_jax.verifiers.types import Context

# An answer that is one letter: "B", "(b)", "Option B" or "B. its text".
_SINGLE = re.compile(
    r"(?:(?i:option|choice|answer):?\s+)?[(\[]?([A-Za-z])(?:[)\]]|[)\].:]+\s.*)?[.:]?", re.DOTALL
)


def extract_choice(text: str, context: Context) -> str | None:
    """The letter that the text settles on; None where it settles on none, or on several at once.

    It is the last one that the text states, else the last one that it suggests ("I think it's C"),
    else the one in which it ends, else the only one that labels a line.

    Example:
      >>> extract_choice("(A) fails. The answer is (B).", Context())
      'B'
      >>> extract_choice("A dog barks.", Context()) is None
      True
      >>> extract_choice("A or B", Context()) is None
      True
      >>> extract_choice("Answer: it snows", Context(options=("It rains", "It snows")))
      'B'
    """
    plain = plain_text(text)
    statements = find_statements(plain) + find_options(plain, context)

    # Called right one after another, the options are only discussed.
    called_right = {each.letter for each in statements if each.kind == "right"}
    if len(called_right) > 1:
        statements = [each for each in statements if each.kind != "right"]

    # A letter beyond the options that is merely suggested is something else, such as a variable.
    stated = [each for each in statements if each.kind == "stated"]
    options = {None, *known_letters(context)}
    candidates = stated or [each for each in statements if each.letter in options]
    if candidates:
        letter = max(candidates, key=lambda each: each.position).letter
    else:
        letter = find_result(plain) or find_label(plain)
    return letter if letter in known_letters(context) else None


def _single_letter(answer: str) -> str | None:
    """The letter of an answer, None when it is not one letter."""
    match = _SINGLE.fullmatch(plain_text(answer).strip(" \n."))
    return match[1].upper() if match else None


def equivalent_choice(gold: str, answer: str, context: Context) -> bool:
    """Whether two answers are the same letter, or letters of options that say the same."""
    value = choice_value(gold, context)
    return value is not None and value == choice_value(answer, context)


def choice_value(answer: str, context: Context) -> str | None:
    """The letter of an answer, None when it is not one letter.

    Of several options that say the same it is the first: public sets have such questions, and all
    their letters are right.

    Example:
      >>> context = Context(options=("one", "two", "two"))
      >>> choice_value("B", context), choice_value("C", context)
      ('B', 'B')
    """
    letter = _single_letter(answer)
    position = -1 if letter is None else string.ascii_uppercase.index(letter)
    if not 0 <= position < len(context.options):
        return letter
    texts = [" ".join(text.split()) for text in context.options]
    return string.ascii_uppercase[texts.index(texts[position])]


def same_choice(first: str, second: str, context: Context) -> bool:
    """Whether two answers are the same letter."""
    return equivalent_choice(first, second, context)


def check_choice(gold: str, context: Context) -> str | None:
    """None when the gold is the letter of an option, else the reason."""
    letter = _single_letter(gold)
    if letter is None:
        return f"not a letter from A to Z: {gold!r}"
    if letter not in known_letters(context):
        return f"beyond the {len(context.options)} options: {gold!r}"
    return None
