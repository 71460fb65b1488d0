"""Decodes responses, with the thoughts of models that think kept apart from their answers."""

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from ccpo_jax.reasoning import Marker, Reply, join_pieces, split_text
from ccpo_jax.rollout.prompts import Template, TextCodec, opened_thought
from ccpo_jax.rollout.records import Agent, Turn
from ccpo_jax.stop_strings import text_before_stop


def thought_tokens(tokenizer: TextCodec) -> Mapping[int, Marker]:
    """Ids that mark thoughts, and what each does; empty where a codec has none."""
    return getattr(tokenizer, "thought_tokens", {})


def may_think(agent: Agent, turn: Turn) -> bool:
    """Whether responses may have thoughts: the tokenizer has tokens for them, or one has."""
    if thought_tokens(agent.tokenizer):
        return True
    return any(map(any, turn.thoughts)) or any(map(any, turn.unfinished))


def decode_replies(
    template: Template,
    tokenizer: TextCodec,
    rows: Sequence[Sequence[int]],
    *,
    stops: Sequence[str] = (),
) -> list[Reply]:
    """The texts of responses, each cut into what it thinks and what it says.

    Where the tokenizer has tokens that mark thoughts, these tokens decide: a thought may then spell
    a marker out and goes on. What stands outside is read once more for markers that are spelled
    out, as models do whose tokenizers have none. So no thought is ever an answer.

    Args:
      template: of the prompts that are answered; it may have opened a thought.
      tokenizer: of the model.
      rows: ids of the responses.
      stops: the first of them in a response ends its text. The marker that a prompt ends with takes
        no part in them.
    """
    tokens = thought_tokens(tokenizer)
    opened = opened_thought(template, tokenizer)
    # A thought that a token has opened is closed by a token alone.
    opened_by_token = bool(opened) and not tokens.keys().isdisjoint(template.closing)
    spelling = _spelling(tokenizer, tokens) if stops else {}

    # All pieces of all rows are decoded in one call.
    cut_rows = [_cut_at_tokens(row, tokens) for row in rows]
    flat = [ids for _, ids in chain.from_iterable(cut_rows)]
    texts = iter(tokenizer.decode_batch(flat))

    replies = []
    for row in cut_rows:
        pieces = [_Piece(marker, next(texts)) for marker, _ in row]
        if stops:
            pieces = _before_stop(pieces, stops, spelling)
        if len(row) == 1 and not opened_by_token:
            replies.append(split_text(pieces[0].text, opened=bool(opened)))
            continue
        marked: list[tuple[Marker | None, str]]
        marked = [(tokens.get(piece.marker), piece.text) for piece in pieces]
        replies.append(_without_spelled(join_pieces(marked, opened=bool(opened))))
    return replies


def encode_replies(tokenizer: TextCodec, texts: Sequence[str]) -> list[list[int]]:
    """Responses as a model would sample them: markers of thoughts as its tokens, where it has such
    tokens; nothing else in a text is a control token.

    Args:
      tokenizer: of the model.
      texts: with the markers that `decode_batch` writes.
    """
    ids_of = {}
    for token_id, text in _spelling(tokenizer, thought_tokens(tokenizer)).items():
        # Tokens that texts leave out cannot be written.
        if text:
            ids_of[text] = token_id
    if not ids_of:
        return tokenizer.encode_batch(texts)

    marker = re.compile("|".join(map(re.escape, sorted(ids_of, key=len, reverse=True))))
    replies = []
    for text in texts:
        words = iter(tokenizer.encode_batch(marker.split(text)))
        ids = list(next(words))
        for found in marker.findall(text):
            ids += [ids_of[found], *next(words)]
        replies.append(ids)
    return replies


class _Piece(NamedTuple):
    """Text between markers."""

    marker: int  # the id in front of it; -1 = none
    text: str


def _cut_at_tokens(
    row: Sequence[int], tokens: Mapping[int, Marker]
) -> list[tuple[int, Sequence[int]]]:
    """The ids between markers, each with the marker in front of it; -1 = none."""
    if not tokens or tokens.keys().isdisjoint(row):
        return [(-1, row)]
    pieces = []
    marker = -1
    start = 0
    for position, token_id in enumerate(row):
        if token_id in tokens:
            pieces.append((marker, row[start:position]))
            marker = token_id
            start = position + 1
    pieces.append((marker, row[start:]))
    return pieces


def _spelling(tokenizer: TextCodec, tokens: Mapping[int, Marker]) -> Mapping[int, str]:
    """What each marker adds to a text."""
    texts = tokenizer.decode_batch([[token_id] for token_id in tokens])
    return dict(zip(tokens, texts, strict=True))


def _before_stop(
    pieces: Sequence[_Piece], stops: Sequence[str], spelling: Mapping[int, str]
) -> list[_Piece]:
    """The pieces up to the first stop string of the whole text, which its markers are part of."""
    written = [(spelling.get(piece.marker, ""), piece.text) for piece in pieces]
    room = len(text_before_stop("".join(map("".join, written)), stops))
    kept = []
    for piece, (marker, text) in zip(pieces, written, strict=True):
        room -= len(marker)
        if room < 0:
            # The stop string begins within the marker, which then marks nothing.
            break
        kept.append(_Piece(piece.marker, text[:room]))
        room -= len(kept[-1].text)
    return kept


def _without_spelled(reply: Reply) -> Reply:
    """A reply whose answer loses the thoughts that it spells out."""
    spelled = split_text(reply.answer)
    thoughts = filter(None, (reply.thought, spelled.thought))
    return Reply(spelled.answer, "\n\n".join(thoughts), reply.unfinished or spelled.unfinished)
