"""Which tokens the filters leave, by sorting in numpy, and that what is left is drawn from exactly."""

import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from ccpo_jax.sampler import SamplingParams
from ccpo_jax.sampler.token_sampling import _kth_largest, sample_tokens, token_sampling

# Two blocks, the last of them not full.
V = 140
# Of a float32 sum over V weights.
ROUNDING = 1e-5

draw = jax.jit(sample_tokens)


def settings(**sampling):
    return token_sampling(SamplingParams(**sampling), eos_ids=(1,), pad_id=0)


def rows_of_logits() -> np.ndarray:
    """``[6, V]``: spread, with ties as of bfloat16, all equal, mostly -inf, one far ahead, zeros of
    both signs."""
    rng = np.random.default_rng(0)
    spread = 3 * rng.standard_normal(V)
    ties = (2 * rng.standard_normal(V)).astype(ml_dtypes.bfloat16).astype(np.float32)
    few = np.where(rng.random(V) < 0.05, rng.standard_normal(V), -np.inf)
    ahead = np.where(np.arange(V) == 130, 1e4, rng.standard_normal(V))
    signs = np.where(np.arange(V) % 3 == 0, 0.0, np.where(np.arange(V) % 3 == 1, -0.0, -1.0))
    rows = np.stack([spread, ties, np.full(V, -2.5), few, ahead, signs]).astype(np.float32)
    assert len(np.unique(rows[1])) < V - 10 and np.isinf(rows[3]).sum() > 120
    return rows


def probabilities(logits, temperature=1.0, top_p=1.0, top_k=None, min_p=0.0) -> np.ndarray:
    """What one row is drawn from, in float64 and by sorting; equal logits share their fate."""
    x = logits.astype(np.float64)
    weights = np.exp((x - x.max()) / temperature)
    if top_k is not None and top_k < len(x):
        weights = np.where(x >= np.sort(x)[-top_k], weights, 0)
    if top_p < 1:
        falling = np.sort(weights)[::-1]
        mass = np.cumsum(falling)
        needed = int(np.argmax(mass >= top_p * mass[-1]))
        # What is compared must not be a matter of rounding.
        assert np.abs(mass - top_p * mass[-1]).min() > ROUNDING
        weights = np.where(weights >= falling[needed], weights, 0)
    weights = np.where(weights >= min_p, weights, 0)
    return weights / weights.sum()


FILTERS = list(
    itertools.product(
        [0.05, 0.7, 1.0, 50.0],
        [1.0, 0.937, 0.311],
        [None, 1, 2, 7, 70, V - 1, V, 10 * V],
        [0.0, 0.0517, 0.7531, 1.0],
    )
)


def test_every_filter_leaves_what_sorting_leaves_and_the_rest_is_drawn_by_its_probability():
    """The numbers of [0, 1) at which each token is drawn, at both of their ends."""
    logits = rows_of_logits()
    # Coprime to the lengths of all four lists: every value, and most pairs.
    for temperature, top_p, top_k, min_p in FILTERS[::17]:
        chosen = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p}
        expected = np.stack([probabilities(row, **chosen) for row in logits])

        ends = np.cumsum(expected, axis=1)
        starts = ends - expected
        uniform = np.concatenate([starts + ROUNDING, (starts + ends) / 2, ends - ROUNDING], axis=1)
        extremes = np.broadcast_to(
            [0.0, np.nextafter(np.float32(1), np.float32(0))], (len(logits), 2)
        )
        uniform = np.concatenate([np.clip(uniform, 0, extremes[0, 1]), extremes], axis=1)
        every = np.broadcast_to(logits[:, None], (*uniform.shape, V))
        token, logprob = map(
            np.asarray, draw(every, uniform.astype(np.float32), settings(**chosen))
        )

        drawn = np.take_along_axis(expected, token, axis=1)
        assert (drawn > 0).all(), f"{chosen}: draws what a filter leaves out"
        np.testing.assert_allclose(logprob, np.log(drawn), atol=2e-5, err_msg=str(chosen))
        wide = np.concatenate([expected > 3 * ROUNDING] * 3, axis=1)
        own = np.tile(np.arange(V), (len(logits), 3))
        np.testing.assert_array_equal(token[:, : 3 * V][wide], own[wide], err_msg=str(chosen))


def test_filters_are_those_of_transformers_in_its_order():
    """Logits without ties, of which transformers keeps those that its sort puts last."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    logits = np.random.default_rng(1).standard_normal((8, V)).astype(np.float32) * 3
    uniform = np.tile(((np.arange(20) + 0.5) / 20).astype(np.float32), (8, 1))
    every = np.broadcast_to(logits[:, None], (8, 20, V))
    model = transformers.generation.GenerationMixin()
    for temperature, top_p, top_k, min_p in FILTERS:
        if top_k is None or temperature not in (0.7, 1.0) or min_p == 1:
            continue
        chosen = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p}
        processors = model._get_logits_processor(
            transformers.GenerationConfig(do_sample=True, num_beams=1, **chosen), 1
        )
        theirs = torch.softmax(processors(None, torch.tensor(logits)), dim=-1).numpy()
        token, logprob = map(np.asarray, draw(every, uniform, settings(**chosen)))
        drawn = np.take_along_axis(theirs, token, axis=1)
        np.testing.assert_allclose(np.exp(logprob), drawn, atol=1e-5, err_msg=str(chosen))


def test_the_kth_largest_is_exact_over_all_of_float32():
    """Any bits that are a number: both infinities, both zeros, neighbours that differ in one bit."""
    rng = np.random.default_rng(2)
    bits = rng.integers(0, 2**32, 6 * 128 - 9, dtype=np.uint32).view(np.float32)
    # What is below the normal numbers counts as zero on some devices.
    tiny = np.finfo(np.float32).tiny
    numbers = np.where(np.isnan(bits) | (np.abs(bits) < tiny), np.float32(0), bits)
    one = np.float32(1)
    edges = [
        np.inf,
        -np.inf,
        0.0,
        -0.0,
        1.0,
        np.nextafter(one, 2 * one),
        np.nextafter(one, 0 * one),
    ]
    values = np.concatenate([numbers, edges, [-np.inf, 1.0]]).astype(np.float32).reshape(6, 128)
    values = np.stack([values, np.full_like(values, 7.5)])
    find = jax.jit(_kth_largest)
    falling = np.sort(values.reshape(2, -1))[:, ::-1]
    for k in (1, 2, 3, 50, 51, 300, 400, 767, 768):
        reached = np.asarray(find(values, jnp.int32(k), jnp.full(2, -jnp.inf)))
        np.testing.assert_array_equal(
            values >= reached[:, None, None], values >= falling[:, k - 1][:, None, None]
        )


@pytest.mark.parametrize("off", [{"top_k": V}, {"top_k": 2**40}, {"min_p": 0.0, "top_k": None}])
def test_a_filter_that_leaves_all_tokens_changes_no_bit(off):
    logits = rows_of_logits()
    uniform = jax.random.uniform(jax.random.key(0), (len(logits),))
    for shared in ({"temperature": 0.7}, {"top_p": 0.6}):
        with_filter = draw(logits, uniform, settings(**shared, **off))
        for one, other in zip(with_filter, draw(logits, uniform, settings(**shared)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_greedy_decoding_ignores_the_filters():
    logits = rows_of_logits()
    uniform = jnp.full(len(logits), 0.9)
    filtered = settings(temperature=0.0, top_k=1, top_p=0.1, min_p=1.0)
    token, logprob = draw(logits, uniform, filtered)
    np.testing.assert_array_equal(token, logits.argmax(axis=1))
    expected = jax.nn.log_softmax(logits)[jnp.arange(len(logits)), token]
    np.testing.assert_allclose(logprob, expected, atol=1e-5)


def test_a_run_without_filters_does_not_look_for_their_thresholds():
    """Loops over the vocabulary are inside conditions; nothing sorts it."""
    program = jax.make_jaxpr(sample_tokens)(jnp.zeros((2, V)), jnp.zeros(2), settings())
    outside = [equation.primitive.name for equation in program.eqns]
    assert outside.count("cond") == 2 and not {"while", "scan"} & set(outside)
    assert "while[" in str(program) and "sort[" not in str(program)
