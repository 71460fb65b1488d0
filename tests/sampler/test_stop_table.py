"""Stop strings in the sampler: a response is what it is without them, up to the first token behind
which its text holds one."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccpo_jax.devices.sharding import batch_sharding, make_mesh
from ccpo_jax.sampler import Prompts, SamplingParams
from ccpo_jax.sampler.generate import ResponseFormat, generate
from ccpo_jax.sampler.stop_table import ACCEPT, START, make_stop_table, shortest_match
from ccpo_jax.stop_strings import TokenBytes
from tests.support.stubs import POLICY, markov_params

PAD, EOS = 0, 1
# The first two and the last are control tokens. Two tokens make up the two bytes of a letter.
PIECES = (None, None, b"a", b"ab", b"b#", b"#", b" a", b"\xc3", b"\xa9", None)
TOKENS = TokenBytes(PIECES, PIECES, (("<end>", EOS), ("<turn>", 9)))
V = len(PIECES)
# One spans tokens or begins and ends inside one, one is a letter in two parts, one a single token.
STOPS = ("#a", "é", "bab")
T = 5


def first_stop(row, stops, pieces=PIECES) -> int | None:
    """Tokens up to the first at which the text holds a stop string, by decoding every beginning."""
    for count in range(1, len(row) + 1):
        text = b"".join(pieces[token] or b"" for token in row[:count])
        if any(stop.encode() in text for stop in stops):
            return count
    return None


def last_state(table, row) -> int:
    return functools.reduce(lambda state, token: int(table[state, token]), row, START)


@pytest.mark.fast
@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(st.text("ab#é ", min_size=1, max_size=5), min_size=1, max_size=5),
    st.lists(st.integers(0, V - 1), max_size=14),
)
def test_the_table_accepts_at_the_first_beginning_that_holds_a_stop_string(stops, row):
    table = make_stop_table(TOKENS, stops)
    accepted = [count for count in range(len(row) + 1) if last_state(table, row[:count]) == ACCEPT]
    end = first_stop(row, stops)
    assert accepted == ([] if end is None else list(range(end, len(row) + 1)))
    assert table.dtype == np.uint8 and table.shape[1] == V + 1


@pytest.mark.fast
def test_a_text_may_begin_without_the_blank_of_its_first_token():
    first = tuple(piece and piece.removeprefix(b" ") for piece in PIECES)
    table = make_stop_table(TokenBytes(first, PIECES), (" a",))
    assert last_state(table, [6]) != ACCEPT and last_state(table, [0, 6, 9]) != ACCEPT
    assert last_state(table, [2, 6]) == last_state(table, [0, 6, 6]) == ACCEPT


@pytest.mark.fast
def test_a_control_token_ends_a_response_where_its_text_is_a_stop_string():
    table = make_stop_table(TOKENS, ("<turn>",))
    assert last_state(table, [2, 9]) == last_state(table, [9]) == ACCEPT
    assert last_state(table, [2, 1, 0, V]) != ACCEPT


@pytest.mark.fast
def test_the_fewest_tokens_that_write_a_stop_string():
    assert shortest_match(make_stop_table(TOKENS, ("bab#",))) == 3
    assert shortest_match(make_stop_table(TOKENS, ("é",))) == 2
    assert shortest_match(make_stop_table(TOKENS, ("a",)), ends=(2,)) == 1
    assert shortest_match(make_stop_table(TOKENS, ("é",)), ends=(8,)) is None
    assert shortest_match(make_stop_table(TOKENS, ("x",))) is None


# --- in the sampler -------------------------------------------------------------------------------

AGENTS, PROMPTS, ROWS = 2, 8, 8


def generated(stops, *, stacked=False, **sampling):
    rng = np.random.default_rng(0)
    prompts = Prompts(
        # Token 5 is the first half of a stop string, and all prompts end with it.
        np.concatenate(
            [rng.integers(2, V, (AGENTS, PROMPTS, 3)), np.full((AGENTS, PROMPTS, 1), 5)], -1
        ),
        np.full((AGENTS, PROMPTS), 4),
        np.zeros((AGENTS, PROMPTS, ROWS, 0), np.int32),
        np.zeros((AGENTS, PROMPTS, ROWS), np.int32),
    )
    shape = (AGENTS, PROMPTS, ROWS)
    ids = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).astype(np.uint32)
    table = make_stop_table(TOKENS, stops) if stops else None
    return generate(
        POLICY,
        tuple(markov_params(V, seed) for seed in range(1 + stacked)),
        jax.tree.map(lambda x: x.astype(np.int32), prompts),
        jax.random.key(3),
        ids,
        ResponseFormat((EOS,), PAD, T, table),
        sampling=SamplingParams(**sampling),
    )


def assert_cut(stopped, whole):
    """Each response is the whole one up to its stop, and padded behind it."""
    ends = []
    for index in np.ndindex(AGENTS, PROMPTS, ROWS):
        length = whole.length[index]
        row = whole.tokens[index]
        end = first_stop(row[:length], STOPS)
        ends.append((end, length))
        expected = length if end is None else end
        assert stopped.length[index] == expected
        np.testing.assert_array_equal(stopped.tokens[index][:expected], row[:expected])
        assert (stopped.tokens[index][expected:] == PAD).all()
        np.testing.assert_allclose(
            stopped.logprobs[index][:expected], whole.logprobs[index][:expected], atol=1e-6
        )
        assert (stopped.logprobs[index][expected:] == 0).all()
        assert stopped.truncated[index] == (end is None and whole.truncated[index])
    return ends


@pytest.fixture(scope="module")
def whole():
    return generated(())


def test_a_response_is_cut_behind_the_token_that_completes_a_stop_string(whole):
    ends = assert_cut(generated(STOPS), whole)
    assert any(end == T for end, _ in ends), "at the very end of the limit"
    assert any(end is None and length < T for end, length in ends), "the end token came first"
    assert any(end is None and length == T for end, length in ends), "nothing ended it"
    # A response that begins with the second half of what its prompt begins goes on.
    first = whole.tokens[..., 0] == 2
    assert first.any() and (generated(STOPS).length[first] > 1).any()


@pytest.mark.parametrize("decode_chunk, max_concurrent", [(1, None), (2, 40)])
def test_neither_chunks_nor_refills_change_where_a_response_stops(
    whole, decode_chunk, max_concurrent
):
    assert_cut(generated(STOPS, decode_chunk=decode_chunk, max_concurrent=max_concurrent), whole)


def test_eight_devices_stop_where_one_does(whole):
    split = {"sharding": batch_sharding(make_mesh()), "decode_chunk": 2, "max_concurrent": 64}
    assert_cut(generated(STOPS, **split), whole)


def test_agents_with_networks_of_their_own_stop_in_one_call():
    assert_cut(
        generated(STOPS, stacked=True, decode_chunk=2, max_concurrent=32),
        generated((), stacked=True),
    )
