"""Log-probabilities and entropies in pieces, with a way back of their own, beside differentiation of the whole."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax.learner.logprobs import token_logprobs
from ccpo_jax.models.decoder import logits
from tests.support.programs import equations

ROWS, TOKENS, WIDTH, VOCABULARY = 3, 12, 8, 40


def inputs(dtype=jnp.float32, tied=False):
    """(head, hidden states, targets), and a weight for each log-probability and each entropy."""
    keys = jax.random.split(jax.random.key(0), 5)
    table = jax.random.normal(keys[0], (VOCABULARY, WIDTH) if tied else (WIDTH, VOCABULARY))
    states = jax.random.normal(keys[1], (ROWS, TOKENS, WIDTH)).astype(dtype)
    targets = jax.random.randint(keys[2], (ROWS, TOKENS), 0, VOCABULARY)
    weights = tuple(jax.random.normal(key, (ROWS, TOKENS)) for key in keys[3:])
    return {"embed" if tied else "head": table}, states, targets, weights


def plain(head, states, targets, scale):
    """The same numbers from all logits at once."""
    everything = jax.nn.log_softmax(logits(head, states) * scale)
    picked = jnp.take_along_axis(everything, targets[..., None], axis=-1)[..., 0]
    return picked, -jnp.sum(jnp.exp(everything) * everything, axis=-1)


def weighed(function, weights, head, states):
    return sum(jnp.sum(w * x) for w, x in zip(weights, function(head, states), strict=True))


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("size", [1, 4, 12])
def test_values_and_gradients_are_those_of_differentiation(size, tied):
    head, states, targets, weights = inputs(tied=tied)
    scale = jnp.float32(1 / 0.7)
    ours = functools.partial(token_logprobs, logits, size, True)

    def pieces(head, states):
        return ours(head, states, targets, jnp.int32(TOKENS), scale)

    def whole(head, states):
        return plain(head, states, targets, scale)

    for found, expected in zip(pieces(head, states), whole(head, states), strict=True):
        np.testing.assert_allclose(found, expected, atol=3e-6)
    found, expected = (jax.grad(weighed, (2, 3))(f, weights, head, states) for f in (pieces, whole))
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert mine.dtype == theirs.dtype and float(jnp.abs(theirs).max()) > 0.1
        np.testing.assert_allclose(mine, theirs, atol=2e-5)


def test_an_entropy_that_is_a_number_alone_has_no_gradient():
    head, states, targets, weights = inputs()

    def pieces(entropy_gradient, head, states):
        return token_logprobs(
            logits, 4, entropy_gradient, head, states, targets, jnp.int32(TOKENS), jnp.float32(1)
        )

    def slope(entropy_gradient, weights):
        return jax.grad(weighed, 3)(
            functools.partial(pieces, entropy_gradient), weights, head, states
        )

    without = weights[0], jnp.zeros_like(weights[1])
    np.testing.assert_allclose(slope(False, weights), slope(True, without), atol=1e-6)
    assert jnp.abs(slope(True, weights) - slope(True, without)).max() > 0.1


def test_pieces_past_the_last_used_token_are_skipped():
    head, states, targets, weights = inputs()
    ours = functools.partial(token_logprobs, logits, 4, True)
    dead = states.at[:, 8:].set(jnp.nan)

    def pieces(head, states):
        return ours(head, states, targets, jnp.int32(5), jnp.float32(1))

    picked, entropy = pieces(head, dead)
    expected = plain(head, states[:, :8], targets[:, :8], 1.0)
    for found, all_of_it in zip((picked, entropy), expected, strict=True):
        np.testing.assert_allclose(found[:, :8], all_of_it, atol=3e-6)
        assert not found[:, 8:].any()
    to_head, to_states = jax.grad(weighed, (2, 3))(pieces, weights, head, dead)
    assert not to_states[:, 8:].any() and to_states[:, :8].all()
    assert jnp.isfinite(to_head["head"]).all()


def test_bfloat16_states_give_the_table_a_gradient_summed_in_float32():
    head, states, targets, weights = inputs(jnp.bfloat16)

    def pieces(head, states):
        return token_logprobs(
            logits, 1, False, head, states, targets, jnp.int32(TOKENS), jnp.float32(1)
        )

    gradient = jax.grad(functools.partial(weighed, pieces, weights), (0, 1))
    to_head, to_states = gradient(head, states)
    assert to_head["head"].dtype == jnp.float32 and to_states.dtype == jnp.bfloat16
    products = [
        e
        for e in equations(jax.make_jaxpr(gradient)(head, states))
        if e.primitive.name == "dot_general"
    ]
    assert {v.aval.dtype for e in products for v in e.invars} == {jnp.dtype(jnp.bfloat16)}
    summed = [
        e.outvars[0].aval.dtype for e in products if e.outvars[0].aval.shape == (WIDTH, VOCABULARY)
    ]
    assert jnp.float32 in summed, "and not each piece's part in bfloat16"


def test_tokens_that_pieces_do_not_fill_are_refused_and_used_ones_are_no_more_than_there_are():
    head, states, targets, weights = inputs()

    def slope(size, used):
        def pieces(head, states):
            return token_logprobs(
                logits, size, True, head, states, targets, jnp.int32(used), jnp.float32(1)
            )

        return jax.grad(weighed, 2)(pieces, weights, head, states)["head"]

    with pytest.raises(ValueError, match="chunk: 5 does not divide the 12 tokens"):
        slope(5, TOKENS)
    np.testing.assert_array_equal(slope(4, 50), slope(4, TOKENS))


def test_logits_far_from_zero_overflow_nothing():
    head, states, targets, _ = inputs()
    picked, entropy = token_logprobs(
        logits, 4, True, head, 1e4 * states, targets, jnp.int32(TOKENS), jnp.float32(1)
    )
    assert jnp.isfinite(picked).all() and (entropy >= 0).all()
