"""What an answer may assign to: an unknown, a function, a length, an angle, a word."""

from collections.abc import Sequence

from ccpo_jax.verifiers.math.splitting import close_of
from ccpo_jax.verifiers.math.tokens import Token

# What an angle, a length or a probability is called.
_NAME_SIGNS = frozenset(
    [":", "(", ")", ",", "_", "{", "}", "'", "|", r"\angle", r"\triangle", r"\prime", "^"]
)


_ACCENTS = frozenset([r"\overline", r"\vec", r"\overrightarrow", r"\hat", r"\mathcal", r"\tilde"])


def is_name(tokens: Sequence[Token]) -> bool:
    """Whether tokens name something: x, f(x), x_1, AB, an angle, (x, y), a word."""
    letters = [token for token in tokens if token.kind == "letters"]
    signs = [token for token in tokens if token.kind == "sign"]
    if any(token.kind == "number" for token in tokens) and tokens[0].kind == "number":
        return False
    if [token.text for token in tokens[1:5]] == ["^", "{", "-", "1"] and letters[:1] == tokens[:1]:
        # f^{-1}(x).
        return len(tokens) > 6 and tokens[6].text == "("
    if any(
        sign.text not in _NAME_SIGNS | _ACCENTS | {"/", r"\frac"} and sign.text not in _GREEK
        for sign in signs
    ):
        return False
    if tokens[0].text == r"\frac" or any(sign.text == "/" for sign in signs):
        # NO/BO: a ratio of lengths.
        return bool(letters) and all(_is_length(letter) for letter in letters)
    if not letters:
        return len(tokens) == 1 and tokens[0].text in _GREEK
    if all(letter.in_text for letter in letters):
        return True
    if all(token.kind == "letters" or token.text == ":" for token in tokens) and len(signs) > 0:
        # x:y = 1:3.
        return all(len(letter.text) == 1 or letter.text.isupper() for letter in letters)
    if tokens[0].text == "m" and len(tokens) > 1 and tokens[1].text == r"\angle":
        # The measure of an angle.
        return True
    if len(letters) == 1 and len(letters[0].text) == 1:
        # x, x_1 and x', not 2x and not x^2.
        is_index = len(tokens) == 1 or tokens[1].text in ("_", "'", "(")
        return tokens[0] == letters[0] and is_index and "^" not in [t.text for t in tokens]
    if tokens[0].text == "(" and close_of(tokens, 0) == len(tokens) - 1:
        return any(token.text == "," for token in tokens)
    if len(letters) > 1 and tokens[0] == letters[0] and len(letters[0].text) == 1:
        # f(x), P(A): an application; x_a; not x y.
        return tokens[1].text in ("(", "_", "'")
    if tokens[0].kind == "letters" and len(letters) > 1:
        return False
    # AB, \angle ABC, \overline{AB}; a lower-case run is a product: xy.
    return (
        all(letter.text.isupper() or len(letter.text) == 1 for letter in letters)
        and (tokens[0].kind == "sign" or tokens[0].text.isupper())
        and tokens[0].kind != "number"
    )


def _is_length(token: Token) -> bool:
    return len(token.text) == 2 and token.text.isupper()


_GREEK = frozenset(
    rf"\{name}"
    for name in """alpha beta gamma delta epsilon theta lambda mu rho sigma tau phi psi omega Delta
    Omega Phi Theta eta zeta kappa nu xi chi""".split()
)
