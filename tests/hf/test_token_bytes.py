"""What tokens add to texts, against texts that were decoded, and stop strings found by it."""

import random

import pytest
from tokenizers import AddedToken, decoders, models
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from ccpo_jax.hf import load_tokenizer
from ccpo_jax.hf.token_bytes import check_token_bytes
from ccpo_jax.hf.tokenizer import Tokenizer
from ccpo_jax.sampler.stop_table import ACCEPT, START, make_stop_table
from ccpo_jax.train.sources import TINY
from experiments.robustness.families import FAMILIES, load_family
from tests.support.errors import raises_for

# A blank, a word behind a blank, several, a letter of three bytes, and every byte by itself.
WORDS = ("<unk>", "▁", "▁a", "b", "▁▁", "漢", "a#", "##\n", "#▁b")


def sentencepiece(decoder) -> Tokenizer:
    """A tokenizer in the manner of Llama 2, Mistral and Gemma, but for its decoder."""
    names = (*WORDS, *(f"<0x{byte:02X}>" for byte in range(256)))
    vocab = {name: token_id for token_id, name in enumerate(names)}
    backend = Backend(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    backend.decoder = decoder
    backend.add_special_tokens(["<s>", "</s>"])
    backend.add_tokens([AddedToken("<think>", special=False), AddedToken("ab", special=False)])
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    return Tokenizer(fast, pad_id=0, eos_ids=(vocab["b"],))


REPLACED = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
DECODERS = {
    "llama 2": decoders.Sequence([*REPLACED, decoders.Strip(" ", 1, 0)]),
    "gemma": decoders.Sequence(REPLACED),
    "metaspace": decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback()]),
    "whole words": decoders.WordPiece("##"),
}


@pytest.fixture(scope="module", params=[*FAMILIES, *DECODERS, "tiny"])
def tokenizer(request, tmp_path_factory):
    if request.param == "tiny":
        return load_tokenizer(str(TINY))
    if request.param in DECODERS:
        return sentencepiece(DECODERS[request.param])
    return load_family(tmp_path_factory.mktemp("tokenizer"), FAMILIES[request.param])


def spelled(tokenizer, letter: str) -> list[int]:
    """Ids of a letter, byte by byte; [] where its tokens are letters."""
    added = tokenizer.token_bytes.later
    byte_of = {text: token_id for token_id, text in enumerate(added) if text and len(text) == 1}
    ids = [byte_of.get(bytes([byte]), -1) for byte in letter.encode()]
    return [] if -1 in ids else ids


def random_rows(tokenizer, count: int):
    """Ids of texts: tokens that are whole letters or words, letters in parts, control tokens."""
    rng = random.Random(0)
    pieces = [[token_id] for token_id in sorted(tokenizer.control_ids)]
    for token_id, text in enumerate(tokenizer.token_bytes.later):
        if text and text.decode(errors="ignore").encode() == text:
            pieces.append([token_id])
    pieces += [ids for ids in (spelled(tokenizer, letter) for letter in "漢é") if ids] * 8
    for _ in range(count):
        yield rng, [token_id for piece in rng.choices(pieces, k=10) for token_id in piece]


def test_the_table_accepts_where_the_decoded_text_first_holds_a_stop_string(tokenizer):
    found = 0
    for rng, row in random_rows(tokenizer, 120):
        texts = tokenizer.decode_batch([row[:count] for count in range(1, len(row) + 1)])
        text = texts[-1]
        assert "\ufffd" not in text
        start = rng.randrange(max(len(text) - 1, 1))
        # A part of the text, in the middle of tokens as likely as not, and one that it lacks.
        stop = text[start : start + rng.randint(1, 3)] or "x"
        table = make_stop_table(tokenizer.token_bytes, (stop, "漢字"))

        state = START
        accepted = None
        for count, token in enumerate(row, start=1):
            state = int(table[state, token])
            if state == ACCEPT and accepted is None:
                accepted = count
        holds = [count for count, beginning in enumerate(texts, start=1) if stop in beginning]
        assert accepted == (holds[0] if holds else None), (row, stop)
        found += bool(holds)
    assert found > 100


def test_a_letter_in_several_tokens_is_found(tokenizer):
    row = spelled(tokenizer, "漢")
    if not row:
        pytest.skip("its tokens are letters")
    table = make_stop_table(tokenizer.token_bytes, ("漢",))
    states = [START]
    for token in row:
        states.append(int(table[states[-1], token]))
    assert [state == ACCEPT for state in states] == [False, False, False, True]
    assert tokenizer.decode(row) == "漢"


@pytest.mark.fast
def test_a_decoder_that_changes_texts_as_a_whole_is_refused():
    tokenizer = sentencepiece(decoders.Sequence([*REPLACED, decoders.Strip(" ", 0, 1)]))
    with raises_for("model") as error:
        _ = tokenizer.token_bytes
    assert "stop strings" in str(error.value) and "\n" not in str(error.value)
    right = sentencepiece(DECODERS["gemma"])
    check_token_bytes(right.token_bytes, right.decode_batch)
