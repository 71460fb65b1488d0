"""The table that finds stop strings while tokens are drawn.

It is an Aho-Corasick automaton over the bytes of the decoded text, taken a whole token at a time:
one lookup per row and decode step, whatever the number of stop strings. A response begins at its
start, so neither its prompt nor a message quoted there takes part in a match.

Reference: Aho and Corasick, "Efficient string matching: an aid to bibliographic search",
Communications of the ACM 18(6), 1975.
"""

from collections.abc import Collection, Sequence

import numpy as np

from ccpo_jax.rl.types import HostArray
from ccpo_jax.stop_strings import TokenBytes

# States of the table. At ACCEPT a stop string is complete; nothing leads away from it. At START the
# text is still empty, at ROOT its end is no beginning of a stop string.
ACCEPT = 0
START = 1
ROOT = 2


def make_stop_table(tokens: TokenBytes, stops: Sequence[str]) -> HostArray:
    """The state that follows each state and token.

    A stop string that is the text of a control token is also complete at that token, which texts
    leave out.

    Args:
      tokens: V tokens and what they add to a text.
      stops: one or more texts, none empty, of `MOST_BYTES` in all.

    Returns:
      ``[S, V + 1]`` uint8. The last column is that of an id beyond the vocabulary, which adds
      nothing.

    Example:
      >>> table = make_stop_table(TokenBytes((b"a", b"ba"), (b"a", b"ba")), ("aa",))
      >>> int(table[START, 1]) > ROOT, int(table[table[START, 1], 0]) == ACCEPT
      (True, True)
    """
    by_byte = _byte_automaton([stop.encode() for stop in stops])
    states = np.arange(len(by_byte), dtype=np.uint8)
    table = np.repeat(states[:, None], len(tokens.later) + 1, axis=1)
    table[ROOT:, :-1] = _after_tokens(by_byte, states[ROOT:], tokens.later)
    (after_first,) = _after_tokens(by_byte, states[ROOT : ROOT + 1], tokens.first)
    shown = np.array([text is not None for text in tokens.first], bool)
    table[START, :-1] = np.where(shown, after_first, START)

    for text, token_id in tokens.controls:
        if text in stops:
            table[:, token_id] = ACCEPT
    return table


def shortest_match(table: HostArray, ends: Collection[int] = ()) -> int | None:
    """The fewest tokens after which a stop string can be complete; None = no tokens write one.

    Args:
      table: from `make_stop_table`.
      ends: tokens that end a response anyway.
    """
    usable = np.ones(table.shape[1], bool)
    usable[list(ends)] = False
    reached = np.zeros(len(table), bool)
    newest = np.array([START])
    for count in range(1, len(table) + 1):
        reached[newest] = True
        following = np.unique(table[newest][:, usable])
        if ACCEPT in following:
            return count
        newest = following[~reached[following]]
    return None


def _byte_automaton(stops: Sequence[bytes]) -> HostArray:
    """``[S, 256]`` the state after each state and byte; the row of START is unused."""
    # Per state, the bytes that lead on towards a stop string; a complete one ends there.
    children: list[dict[int, int]] = [{}, {}, {}]
    for stop in stops:
        state = ROOT
        for byte in stop[:-1]:
            state = children[state].setdefault(byte, len(children))
            if state == ACCEPT:
                break
            if state == len(children):
                children.append({})
        else:
            children[state][stop[-1]] = ACCEPT

    following = np.full((len(children), 256), ROOT, np.uint8)
    following[ACCEPT] = ACCEPT
    # Breadth first: where a match fails goes on at its longest end that is a beginning too, a
    # state nearer to the root.
    waiting = [(ROOT, ROOT)]
    for state, fallback in waiting:
        if state != ROOT:
            following[state] = following[fallback]
        for byte, child in children[state].items():
            on_failure = ROOT if state == ROOT else int(following[fallback, byte])
            # A stop string inside another one is complete first.
            following[state, byte] = ACCEPT if on_failure == ACCEPT else child
            if child != ACCEPT and on_failure != ACCEPT:
                waiting.append((child, on_failure))
    return following


def _after_tokens(
    by_byte: HostArray, states: HostArray, texts: Sequence[bytes | None]
) -> HostArray:
    """``[len(states), V]`` the state after a whole token; a text that is None changes none."""
    pieces = [text or b"" for text in texts]
    lengths = np.array([len(piece) for piece in pieces])
    offsets = np.cumsum(lengths) - lengths
    content = np.frombuffer(b"".join(pieces), np.uint8)
    # The longest first, so that those which have a byte at some place are a slice.
    order = np.argsort(-lengths, kind="stable")
    lengths, offsets = lengths[order], offsets[order]

    after = np.empty((len(states), len(texts)), np.uint8)
    for row, state in enumerate(states):
        reached = np.full(len(texts), state, np.uint8)
        for place in range(lengths.max(initial=0)):
            count = np.searchsorted(-lengths, -place, side="left")
            reached[:count] = by_byte[reached[:count], content[offsets[:count] + place]]
        after[row, order] = reached
    return after
