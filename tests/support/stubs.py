"""A network small enough to reason about: the next token depends on the last one alone."""

import pathlib

import jax
import jax.numpy as jnp

from ccpo_jax.conversation import Frame
from ccpo_jax.rl.types import Policy
from ccpo_jax.stop_strings import TokenBytes


def markov_policy() -> Policy:
    """Parameters are ``{"table": [V, V]}``: row i holds the logits after token i."""

    def extend(weights, tokens, positions, cache, cursor, start, context=None):
        (seen,) = cache
        seen = jax.lax.dynamic_update_slice(seen, tokens, (0, 0, cursor))
        return weights["table"][tokens], (seen,)

    return Policy(
        publish=lambda params: params,
        init_cache=lambda batch, rows, slots: (jnp.zeros((batch, rows, slots), jnp.int32),),
        extend=extend,
        hidden=lambda params, tokens, positions, segments, parents: params["table"][tokens],
        logits=lambda params, hidden: hidden.astype(jnp.float32),
    )


POLICY = markov_policy()


def markov_params(vocabulary: int, seed: int = 0, scale: float = 1.0) -> dict:
    return {"table": scale * jax.random.normal(jax.random.key(seed), (vocabulary, vocabulary))}


ALPHABET = " abcdefghijklmnopqrstuvwxyz0123456789+-=.:?\n"


class LetterCodec:
    """One token a letter; ids 0, 1 and 2 are pad, end and a control token that no text can
    spell."""

    pad_id, eos_ids = 0, (1,)
    vocab_size = 3 + len(ALPHABET)

    def encode(self, text: str) -> list[int]:
        return [3 + ALPHABET.index(letter) for letter in text.lower() if letter in ALPHABET]

    def encode_batch(self, texts) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids) -> str:
        return "".join(ALPHABET[i - 3] for i in ids if i >= 3)

    def decode_batch(self, rows) -> list[str]:
        return [self.decode(row) for row in rows]

    @property
    def token_bytes(self) -> TokenBytes:
        texts = (None, None, None, *(letter.encode() for letter in ALPHABET))
        return TokenBytes(texts, texts)

    def show(self, ids) -> str:
        return "".join("_.<"[i] if i < 3 else ALPHABET[i - 3] for i in ids)

    def frame(self, system: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (2, *self.encode(system)), (2,)

    def conversation_frame(self, system: str, speakers, *, has_system: bool) -> Frame:
        before = [(2, *self.encode(system))] * has_system
        before += [(2, *self.encode(f"{speaker}:")) for speaker in speakers]
        return Frame(tuple(before), tuple(range(len(before))), (2, *self.encode("user:")))

    def save(self, folder) -> None:
        (pathlib.Path(folder) / "alphabet.txt").write_text(ALPHABET)


CODEC = LetterCodec()
