"""What an answer may assign to: an unknown, a function, a length, an angle, a word."""

from collections.abc import Sequence

from ccpo_jax.verifiers.math.splitting import close_of
from ccpo_jax.verifiers.math.tokens import Token

_GREEK = frozenset(
    rf"\{name}"
    for name in """alpha beta gamma delta epsilon theta lambda mu rho sigma tau phi psi omega Delta
    Omega Phi Theta eta zeta kappa nu xi chi""".split()
)

# What marks the letters behind it as one name.
_MARKS = frozenset(
    [
        r"\overline",
        r"\vec",
        r"\overrightarrow",
        r"\hat",
        r"\mathcal",
        r"\tilde",
        r"\angle",
        r"\triangle",
        "|",
    ]
)

# What may stand in a name besides letters and marks.
_SIGNS = frozenset([":", "(", ")", ",", "_", "{", "}", "'", r"\prime", "/", r"\frac"])


def is_name(tokens: Sequence[Token]) -> bool:
    """Whether tokens name something: x, f(x), x_1, AB, an angle, (x, y), a word."""
    first = tokens[0]
    letters = [token for token in tokens if token.kind == "letters"]
    texts = [token.text for token in tokens]
    if texts[1:5] == ["^", "{", "-", "1"] and first.kind == "letters":
        # f^{-1}(x).
        return texts[6:7] == ["("]
    if first.text in ("P", "Pr") and texts[1:2] == ["("] and close_of(tokens, 1) == len(tokens) - 1:
        # P(x=3) is a probability.
        return True
    signs = {token.text for token in tokens if token.kind == "sign"}
    if first.kind == "number" or not signs <= _SIGNS | _MARKS | _GREEK:
        return False
    if not letters:
        return first.text in _GREEK and (len(tokens) == 1 or texts[1] in ("_", "'", "("))
    if all(letter.in_text for letter in letters):
        return True
    if signs & {"/", r"\frac"}:
        # NO/BO is a ratio of lengths, x/y an expression.
        return all(len(letter.text) == 2 and letter.text.isupper() for letter in letters)
    if signs == {":"}:
        # x:y = 1:3.
        return all(len(letter.text) == 1 or letter.text.isupper() for letter in letters)
    if first.text == "(":
        # (x, y), but not (x)(y).
        return close_of(tokens, 0) == len(tokens) - 1 and "," in texts
    return _is_marked(tokens, letters) or _begins_name(tokens)


def _is_marked(tokens: Sequence[Token], letters: Sequence[Token]) -> bool:
    r"""Whether letters are marked as one name: \angle ABC, m\angle A, \overline{AB}, |AB|."""
    if any(letter.text.islower() and len(letter.text) > 1 for letter in letters):
        return False
    if tokens[0].text == "m" and len(tokens) > 1:
        return tokens[1].text == r"\angle"
    # |x| = 3 has two solutions; |AB| is a length.
    is_length = tokens[0].text != "|" or all(letter.text.isupper() for letter in letters)
    return tokens[0].text in _MARKS and is_length


def _begins_name(tokens: Sequence[Token]) -> bool:
    """Whether tokens begin with a letter, or with capitals such as AB, and go on as a name does."""
    first = tokens[0]
    if first.kind != "letters" or not (len(first.text) == 1 or first.text.isupper()):
        return False
    return len(tokens) == 1 or tokens[1].text in ("_", "'", "(")
