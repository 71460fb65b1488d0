"""Cuts tokens at what stands between members, outside all brackets."""

from collections.abc import Callable, Sequence

from ccpo_jax.verifiers.math.tokens import Token

_OPENING = frozenset(["(", "[", "{", r"\{", r"\langle", r"\lfloor", r"\lceil", r"\begin"])
_CLOSING = frozenset([")", "]", "}", r"\}", r"\rangle", r"\rfloor", r"\rceil", r"\end"])

_CONNECTIVES = {"and": "and", r"\land": "and", "or": "or", r"\lor": "or"}
_SEPARATORS = frozenset([",", ";", r"\\", r"\quad", *_CONNECTIVES])


def split(tokens: Sequence[Token]) -> tuple[list[list[Token]], str]:
    """The members between commas, semicolons, "and" and "or", and the last of these words.

    Returns:
      the members, none of them empty, and "and", "or", "," or ";", "" if there is one member.
    """
    parts: list[list[Token]] = [[]]
    connective = ""
    for index, token in enumerate(tokens):
        if _is_separator(tokens, index) and not _is_open(parts[-1]):
            if parts[-1]:
                parts.append([])
            word = _CONNECTIVES.get(token.text.lower(), "")
            connective = word or connective or token.text
        elif token.text == r"\quad":
            # Space in front of a word, such as a unit, divides nothing.
            continue
        else:
            parts[-1].append(token)
    members = [part for part in parts if part]
    return members, connective if len(members) > 1 else ""


def split_at(
    tokens: Sequence[Token], is_divider: Callable[[Token], bool]
) -> tuple[list[list[Token]], list[Token]]:
    """The pieces between dividers outside all brackets, and the dividers."""
    parts: list[list[Token]] = [[]]
    dividers: list[Token] = []
    depth = 0
    for token in tokens:
        if depth == 0 and is_divider(token):
            dividers.append(token)
            parts.append([])
            continue
        depth = max(0, depth + (token.text in _OPENING) - (token.text in _CLOSING))
        parts[-1].append(token)
    return parts, dividers


def close_of(tokens: Sequence[Token], start: int) -> int | None:
    """Where the bracket closes that opens at `start`; any bracket closes any other: (0,1]."""
    depth = 0
    for index in range(start, len(tokens)):
        depth += (tokens[index].text in _OPENING) - (tokens[index].text in _CLOSING)
        if depth == 0:
            return index if index > start else None
    return None


def unwrap(tokens: list[Token]) -> list[Token]:
    """Without braces around everything."""
    while tokens and tokens[0].text == "{" and close_of(tokens, 0) == len(tokens) - 1:
        tokens = tokens[1:-1]
    return tokens


def _is_separator(tokens: Sequence[Token], index: int) -> bool:
    token = tokens[index]
    if token.text == r"\quad":
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        return following is not None and not following.in_text and following.text != "("
    return token.text in _SEPARATORS or token.text.lower() in _CONNECTIVES


def _is_open(tokens: Sequence[Token]) -> bool:
    """Whether a bracket has been opened in these tokens and not been closed."""
    opened = sum(token.text in _OPENING for token in tokens)
    return opened > sum(token.text in _CLOSING for token in tokens)
