"""Stop strings: a response ends as soon as its text holds one of them."""

from collections.abc import Sequence
from typing import NamedTuple

from ccpo_jax.errors import InputError

# Bytes of all stop strings of a role. A state of the table that finds them is one byte.
MOST_BYTES = 250


class TokenBytes(NamedTuple):
    """What each token of a vocabulary adds to a decoded text, in UTF-8.

    Attributes:
      first: per id, what it adds as the first token of a text. None = a control token that is left
        out of texts, or an id that no token has: the next one is then the first.
      later: likewise, behind another token.
      controls: the text of a control token that is left out -> its id.
    """

    first: tuple[bytes | None, ...]
    later: tuple[bytes | None, ...]
    controls: tuple[tuple[str, int], ...] = ()


def check_stop_strings(stops: Sequence[str], field: str, owner: str = "") -> None:
    """Checks stop strings by themselves.

    Args:
      stops: in any order.
      field: the one that errors name.
      owner: whose they are, for errors: "" or "[solver] ".

    Raises:
      InputError: one is not a text, is empty or not valid Unicode, or together they are
        too long.
    """
    if isinstance(stops, str):
        # Its letters would each be one.
        raise InputError(field, f"{owner}stop is {stops!r:.80}, one text; write a tuple of texts")
    for stop in stops:
        if not isinstance(stop, str):
            raise InputError(
                field,
                f"{owner}stop holds {stop!r:.80} ({type(stop).__name__}); write texts in quotes",
            )
        if not stop:
            raise InputError(field, f"{owner}stop holds an empty text; leave it out")
        if "\ufffd" in stop or any("\ud800" <= letter <= "\udfff" for letter in stop):
            raise InputError(
                field,
                f"{owner}stop {stop!a:.80} has a character that stands for bytes which are not "
                "valid text; leave it out",
            )
    size = sum(len(stop.encode()) for stop in dict.fromkeys(stops))
    if size > MOST_BYTES:
        raise InputError(
            field,
            f"{owner}stop strings have {size} bytes together, at most {MOST_BYTES} are allowed; "
            "shorten them",
        )


def text_before_stop(text: str, stops: Sequence[str]) -> str:
    """The part of a text before the stop string that is complete first; the text if none is.

    Of several that are complete at the same place, the longest counts.

    Example:
      >>> text_before_stop("41\\n###\\nQ: 1", ("###", "\\n"))
      '41'
    """
    found = [(text.find(stop), stop) for stop in stops]
    ends = [(start + len(stop), start) for start, stop in found if start >= 0]
    return text[: min(ends)[1]] if ends else text
