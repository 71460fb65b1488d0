"""What each token of a Hugging Face tokenizer adds to a decoded text."""

import functools
import re
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from ccpo_jax.errors import InputError
from ccpo_jax.stop_strings import TokenBytes

# A byte without a token of its own, in the manner of sentencepiece.
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# Stands in a decoded text for bytes that are no character.
_REPLACEMENT = "\ufffd"
# Random texts that have to be what their tokens add up to, and their most tokens.
_CHECKED_TEXTS = 400
_CHECKED_TOKENS = 12

Decode = Callable[[Sequence[Sequence[int]]], list[str]]


def token_bytes(decode: Decode, tokens: Mapping[int, str], hidden: Collection[int]) -> TokenBytes:
    """Finds out what each token adds by decoding it alone and behind another token.

    A token that is a part of a character shows no text. Its name has the bytes: in the letters of
    byte-level tokenizers, or as ``<0xE6>``.

    With tokens such as ``<0xE6>``, a decoder shows nothing of a run of bytes that is not valid
    UTF-8 as a whole. What such a run adds is here its bytes.

    Args:
      decode: rows of ids -> texts.
      tokens: id -> its name.
      hidden: ids that texts leave out.
    """
    visible = [token_id for token_id in sorted(tokens) if token_id not in hidden]
    alone = dict(zip(visible, decode([[token_id] for token_id in visible]), strict=True))
    opening = _opening_token(alone)
    behind = decode([[opening, token_id] for token_id in visible])

    size = max(tokens) + 1
    first: list[bytes | None] = [None] * size
    later: list[bytes | None] = [None] * size
    for token_id, text in zip(visible, behind, strict=True):
        first[token_id] = _as_bytes(alone[token_id], tokens[token_id])
        later[token_id] = _as_bytes(text.removeprefix(alone[opening]), tokens[token_id])
    controls = tuple((tokens[token_id], token_id) for token_id in sorted(hidden))
    return TokenBytes(tuple(first), tuple(later), controls)


def check_token_bytes(added: TokenBytes, decode: Decode) -> None:
    """Compares random texts with what their tokens add up to.

    Raises:
      InputError: they differ.
    """
    rng = np.random.default_rng(0)
    visible = np.flatnonzero([text is not None for text in added.later])
    # Of tokens that are parts of a character, hardly any row is a text.
    whole = np.flatnonzero([text is not None and _is_text(text) for text in added.later])
    lengths = rng.integers(1, _CHECKED_TOKENS + 1, _CHECKED_TEXTS)
    rows = [
        rng.choice(whole if number % 2 and len(whole) else visible, length).tolist()
        for number, length in enumerate(lengths)
    ]
    for row, text in zip(rows, decode(rows), strict=True):
        pieces = [added.first[row[0]], *(added.later[token_id] for token_id in row[1:])]
        expected = b"".join(piece or b"" for piece in pieces)
        # How a decoder shows what is no character is its own affair.
        if _is_text(expected) and text != expected.decode():
            raise InputError(
                "model",
                "its tokenizer does not put texts together token by token, so stop strings cannot "
                "be found in them; leave stop strings out, or use another model",
            )


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _opening_token(alone: Mapping[int, str]) -> int:
    """A token to put before others: one whose text has nothing that a decoder might change."""
    by_plainness = sorted(alone, key=lambda i: (not alone[i].isalpha(), len(alone[i]), i))
    for token_id in by_plainness:
        if alone[token_id].isascii() and alone[token_id].strip():
            return token_id
    return by_plainness[0]


def _as_bytes(text: str, name: str) -> bytes:
    """The bytes of a token, from its text or, where this is a part of a character, its name."""
    if _REPLACEMENT not in text:
        return text.encode("utf-8", "replace")
    byte = _BYTE_TOKEN.fullmatch(name)
    if byte:
        return bytes([int(byte[1], 16)])
    letters = _byte_of_letter()
    if all(letter in letters for letter in name):
        return bytes(letters[letter] for letter in name)
    return text.encode("utf-8", "replace")


@functools.cache
def _byte_of_letter() -> Mapping[str, int]:
    """The letters that stand for bytes in the names of byte-level tokens.

    Printable characters of Latin-1 stand for themselves, the 68 other bytes, in order, are the
    characters from 256 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + number): byte for number, byte in enumerate(others)}
