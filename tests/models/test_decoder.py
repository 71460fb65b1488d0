"""The decoder: against transformers, recorded values where torch is absent, and itself.

``python -m tests.models.test_decoder`` records the values anew (needs torch).
"""

import functools
import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax.learner.logprobs import token_logprobs
from ccpo_jax.models import REMAT, ModelConfig, init_params, load, load_config, make_policy
from ccpo_jax.models.attention import Block, attention
from ccpo_jax.models.decoder import parameter_shapes, project
from ccpo_jax.rl.types import Context
from ccpo_jax.sampler import SamplingParams
from ccpo_jax.sampler.token_sampling import sample_tokens, token_sampling
from tests.support.checkpoints import CASES, VOCAB, torch_decoding, torch_logits, write_checkpoint
from tests.support.errors import raises_for
from tests.support.programs import equations

GOLDEN = pathlib.Path(__file__).with_name("golden_models.json")
TOKENS = np.random.default_rng(7).integers(0, VOCAB, (2, 40))
# Rows, positions and vocabulary entries that the file keeps.
RECORDED = (slice(None), [0, 9, 39], slice(0, 6))

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="torch is not installed; golden_models.json is checked instead",
)
every_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """case -> (folder, policy with jitted functions, params), each loaded once."""

    @functools.cache
    def get(case):
        folder = write_checkpoint(tmp_path_factory.mktemp(case), CASES[case])
        config, params = load(folder)
        return folder, jitted(make_policy(config, remat="none")), params

    return get


def jitted(policy):
    """The policy with every function jitted."""
    static = {"init_cache": (0, 1, 2)}
    functions = {name: f for name, f in policy._asdict().items() if callable(f)}
    for name, f in functions.items():
        functions[name] = jax.jit(f, static_argnums=static.get(name, ()))
    return policy._replace(**functions)


def whole(policy, params, tokens, positions=None, segments=None):
    """Hidden states of whole sequences."""
    tokens = jnp.asarray(tokens, jnp.int32)
    if positions is None:
        positions = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    segments = jnp.ones_like(tokens) if segments is None else jnp.asarray(segments)
    return policy.hidden(params, tokens, jnp.asarray(positions), segments, segments)


@every_case
def test_logits_equal_the_recorded_ones(network, case):
    _, policy, params = network(case)
    logits = policy.logits(params, whole(policy, params, TOKENS))
    assert logits.dtype == jnp.float32 and logits.shape == (2, 40, VOCAB)
    np.testing.assert_allclose(logits[RECORDED], json.loads(GOLDEN.read_text())[case], atol=1e-4)


@needs_torch
@every_case
def test_logits_equal_transformers(network, case):
    folder, policy, params = network(case)
    reference = torch_logits(folder, TOKENS)
    assert reference.std() > 0.5, "logits too small for the tolerance to mean anything"
    np.testing.assert_allclose(
        policy.logits(params, whole(policy, params, TOKENS)), reference, atol=1e-4
    )


@pytest.mark.parametrize(
    "case, tail",
    [(case, 4) for case in CASES if case != "olmo3_older"] + [("llama3_scaled", 0)],
)
def test_decoding_equals_the_whole_forward(network, case, tail):
    """Prefix once per prompt, ragged left-padded tails per row, then token by token."""
    _, policy, params = network(case)
    weights, extend = policy.publish(params), policy.extend
    batch, rows, length, new = 2, 3, 13, 5
    rng = np.random.default_rng(1)
    prefix_length = np.array([13, 8])
    tail_length = np.array([[4, 1, 2], [3, 4, 1]]) if tail else np.zeros((2, 3), int)
    prefix = rng.integers(0, VOCAB, (batch, 1, length))
    row = rng.integers(0, VOCAB, (batch, rows, tail + new))
    start = tail - tail_length

    positions = np.broadcast_to(np.arange(length), (batch, 1, length))
    first, shared = extend(
        weights,
        prefix,
        positions,
        policy.init_cache(batch, 1, length),
        0,
        np.zeros((batch, 1), int),
    )
    got = np.zeros((batch, rows, tail + new, params["final_norm"].size))
    cache = policy.init_cache(batch, rows, tail + new)
    positions = prefix_length[:, None, None] + np.maximum(
        np.arange(tail + new) - start[..., None], 0
    )
    steps = [(at, 1) for at in range(tail, tail + new)]
    for at, size in ([(0, tail)] if tail else []) + steps:
        part = slice(at, at + size)
        got[:, :, part], cache = extend(
            weights,
            row[:, :, part],
            positions[:, :, part],
            cache,
            at,
            start,
            Context(shared, prefix_length),
        )
    for b in range(batch):
        for r in range(rows):
            tokens = np.concatenate([prefix[b, 0, : prefix_length[b]], row[b, r, start[b, r] :]])
            expected = np.asarray(
                whole(policy, params, np.pad(tokens, (0, 24 - tokens.size))[None])[0]
            )[: tokens.size]
            own = prefix_length[b]
            np.testing.assert_allclose(first[b, 0, :own], expected[:own], atol=3e-5)
            np.testing.assert_allclose(got[b, r, start[b, r] :], expected[own:], atol=3e-5)
    assert np.isfinite(got).all() and np.isfinite(first).all(), "padded slots must stay finite"


@needs_torch
def test_decoding_equals_that_of_transformers_with_its_cache(network):
    """A prompt, then single tokens; transformers drops what has left the window, we mask it."""
    folder, policy, params = network("olmo3")
    weights, prompt = policy.publish(params), 17
    expected = torch_decoding(folder, TOKENS, prompt)
    zero, positions = np.zeros((2, 1), int), np.broadcast_to(np.arange(40), (2, 1, 40))
    part = slice(0, prompt)
    first, prefix = policy.extend(
        weights,
        TOKENS[:, None, part],
        positions[..., part],
        policy.init_cache(2, 1, prompt),
        0,
        zero,
    )
    got, cache = [first[:, 0, -1]], policy.init_cache(2, 1, 40 - prompt)
    context = Context(prefix, np.array([prompt, prompt]))
    for at in range(prompt, 40):
        token, position = TOKENS[:, None, at : at + 1], positions[..., at : at + 1]
        hidden, cache = policy.extend(weights, token, position, cache, at - prompt, zero, context)
        got.append(hidden[:, 0, 0])
    np.testing.assert_allclose(policy.logits(weights, np.stack(got, axis=1)), expected, atol=1e-4)


def test_a_row_that_has_wrapped_around_its_cache_sees_its_window(network):
    """Of 5 tokens: its tail and some of the prefix at first, not all of its own at last."""
    folder, policy, params = network("olmo3")
    assert load_config(folder).window == 5
    weights = policy.publish(params)
    slots, first = 6, 4
    length, start = np.array([5]), np.array([[1]])
    tokens, own = TOKENS[:1, : 7 + slots], np.array([[first]])
    expected = whole(policy, params, np.pad(tokens, ((0, 0), (0, 31 - tokens.size))))[0]
    right_padded = np.pad(tokens[:, None, :5], ((0, 0), (0, 0), (0, 4)))
    _, prefix = policy.extend(
        weights, right_padded, np.arange(9)[None, None], policy.init_cache(1, 1, 9), 0, 0 * start
    )
    left_padded = np.pad(tokens[:, None, 5:7], ((0, 0), (0, 0), (1, 0)))
    hidden, tail = policy.extend(
        weights,
        left_padded,
        np.array([[[5, 5, 6]]]),
        policy.init_cache(1, 1, 3),
        0,
        start,
        Context(prefix, length),
    )
    np.testing.assert_allclose(hidden[0, 0, 1:], expected[5:7], atol=3e-5)
    cache, context = policy.init_cache(1, 1, slots), Context(prefix, length, (tail,), (start,))
    # The token of step s lies in slot s mod 6.
    for step in range(first, first + slots):
        at = 7 + step - first
        token, position = tokens[:, None, at : at + 1], np.array([[[at]]])
        hidden, cache = policy.extend(weights, token, position, cache, step % slots, own, context)
        np.testing.assert_allclose(hidden[0, 0, 0], expected[at], atol=3e-5)


def test_windows_mask_and_nothing_else_changes():
    """A window costs other families nothing, and nothing at all if every slot lies within it."""
    sizes = dict(
        vocab_size=VOCAB,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        ffn_size=40,
    )

    def program(**changes):
        config = ModelConfig("olmo3", **sizes, **changes)
        policy = make_policy(config)
        weights = jax.eval_shape(policy.publish, parameter_shapes(config))
        cache = policy.init_cache(1, 2, 6)
        context = Context(policy.init_cache(1, 1, 9), jnp.full((1,), 5))
        one = jnp.zeros((1, 2, 1), jnp.int32)
        return str(jax.make_jaxpr(policy.extend)(weights, one, one, cache, 3, one[..., 0], context))

    plain = program().count(":bool[")
    assert program(window=15, sliding=(True, False)).count(":bool[") == plain
    assert program(window=14, sliding=(True, False)).count(":bool[") > plain


def test_padding_and_neighbours_change_nothing(network):
    _, policy, params = network("llama3_scaled")
    first, second = TOKENS[:1, :9], TOKENS[1:, :6]
    alone = [whole(policy, params, first)[0], whole(policy, params, second)[0]]
    packed = np.concatenate([first, second, TOKENS[:1, 30:35]], axis=1)
    positions = np.concatenate([np.arange(9), np.arange(6), np.zeros(5, int)])[None]
    segments = np.repeat([1, 2, 0], [9, 6, 5])[None]
    together = whole(policy, params, packed, positions, segments)[0]
    np.testing.assert_allclose(together[:9], alone[0], atol=1e-5)
    np.testing.assert_allclose(together[9:15], alone[1], atol=1e-5)
    assert np.isfinite(together).all()
    shifted = np.concatenate([TOKENS[:1, 30:33], first], axis=1)
    positions, segments = (
        np.maximum(np.arange(12) - 3, 0)[None],
        (np.arange(12) >= 3).astype(int)[None],
    )
    np.testing.assert_allclose(
        whole(policy, params, shifted, positions, segments)[0, 3:], alone[0], atol=1e-5
    )


def test_what_lies_in_padded_slots_is_never_read(network):
    _, policy, params = network("qwen3_bias")
    weights, extend = policy.publish(params), policy.extend
    start, length = np.array([[2, 0]]), np.array([4])
    shared, cache = policy.init_cache(1, 1, 7), policy.init_cache(1, 2, 6)
    shared = jax.tree.map(lambda x: x + jax.random.normal(jax.random.key(1), x.shape), shared)
    cache = jax.tree.map(lambda x: x + jax.random.normal(jax.random.key(2), x.shape), cache)
    token, position = np.array([[[3], [4]]]), np.array([[[6], [8]]])
    clean, _ = extend(weights, token, position, cache, 4, start, Context(shared, length))

    def spoil(caches, rows, slots, value=99.0):
        return tuple(
            (k.at[:, rows, ..., slots].set(value), v.at[:, rows, :, slots].set(value))
            for k, v in caches
        )

    spoiled_prefix = spoil(shared, slice(None), slice(4, None))
    spoiled_cache = spoil(spoil(cache, 0, slice(2)), slice(None), slice(4, None))
    spoiled, _ = extend(
        weights, token, position, spoiled_cache, 4, start, Context(spoiled_prefix, length)
    )
    np.testing.assert_array_equal(spoiled, clean)
    seen = spoil(cache, slice(None), slice(3, 4), 9.0)
    touched, _ = extend(weights, token, position, seen, 4, start, Context(shared, length))
    assert np.abs(touched - clean).min(axis=-1).max() > 0


def test_a_row_that_sees_nothing_is_finite(network):
    _, policy, params = network("qwen2_tied")
    cache = policy.init_cache(1, 1, 4)
    hidden, _ = policy.extend(
        policy.publish(params), np.array([[[1]]]), np.array([[[0]]]), cache, 0, np.array([[3]])
    )
    assert np.isfinite(hidden).all()


def test_blocks_merge_to_the_softmax_over_all_keys():
    batch, rows, new, heads, group, size = 2, 3, 2, 2, 2, 4
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    q = 3 * normal(2, 3, 2, heads, group, size)
    shared = normal(2, 2, 1, heads, 5, size)
    own = normal(2, 2, 3, heads, 7, size)
    low, high = rng.integers(0, 7, (batch, rows, 1)), rng.integers(1, 8, (batch, rows, new))
    # One row has wrapped around the end.
    low[0, 0], high[0, 0] = 6, (2, 1)
    end = np.array([[[4]], [[2]]])
    blocks = (
        Block(np.swapaxes(shared[0], -1, -2), shared[1], np.zeros_like(end), end),
        Block(np.swapaxes(own[0], -1, -2), own[1], low, high),
    )
    got = jax.jit(attention)(q, blocks)
    k, v = np.concatenate([np.broadcast_to(shared, (2, batch, rows, heads, 5, size)), own], axis=4)
    for at in np.ndindex(batch, rows, new, heads, group):
        b, r, s, h, _ = at
        first, last, slot = low[b, r, 0], high[b, r, s], np.arange(7)
        seen = (first <= slot) & (slot < last) if first < last else (first <= slot) | (slot < last)
        mask = np.concatenate([np.arange(5) < end[b, 0, 0], seen])
        weights = np.exp(k[b, r, h] @ q[at] / np.sqrt(size)) * mask
        np.testing.assert_allclose(got[at], weights @ v[b, r, h] / weights.sum(), atol=1e-5)


def test_the_prefix_is_read_once_per_prompt_and_no_head_is_repeated():
    """No array of the traced program holds more prefix keys than there are."""
    batch, rows, length, slots, size = 2, 5, 13, 17, 22
    config = ModelConfig("llama", VOCAB, 32, 1, 6, 2, size, 40)
    policy = make_policy(config)
    weights = jax.eval_shape(policy.publish, parameter_shapes(config))
    one = jnp.zeros((batch, rows, 1), jnp.int32)
    cache, prefix = policy.init_cache(batch, rows, slots), policy.init_cache(batch, 1, length)
    context = Context(prefix, jnp.full((batch,), 9))
    program = jax.make_jaxpr(policy.extend)(weights, one, one, cache, 3, one[..., 0], context)
    # Products stand in a function that is called, rotations in a branch.
    assert {"dot_general", "cos"} <= {equation.primitive.name for equation in equations(program)}

    arrays = []
    for equation in equations(program):
        arrays += [v.aval for v in equation.outvars + equation.invars]

    def sizes(num_slots):
        return {x.size for x in arrays if {num_slots, size} <= set(x.shape)}

    assert sizes(length) == {batch * length * 2 * size}
    assert sizes(slots) == {batch * rows * slots * 2 * size}


@pytest.mark.parametrize(
    "shape, axis, product",
    [((8, 2, 3, 4), 0, "btd,dhqe->bthqe"), ((8, 5), 0, "btd,df->btf"), ((5, 8), 1, "btd,vd->btv")],
)
def test_products_and_their_gradients_are_those_of_einsum(shape, axis, product):
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((2, 3, 8), shape))
    factor = jnp.asarray(rng.normal(size=jnp.einsum(product, x, w).shape), jnp.float32)

    def results(f):
        return f(x, w), *jax.grad(lambda x, w: jnp.sum(factor * f(x, w)), argnums=(0, 1))(x, w)

    ours = results(lambda x, w: project(x, w, axis))
    plain = results(functools.partial(jnp.einsum, product))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, plain)


def test_products_keep_to_the_dtype_of_the_activations_and_sum_weights_in_their_own():
    x, w = jnp.ones((3, 8), jnp.bfloat16), jnp.ones((8, 5), jnp.float32)
    out, back = jax.vjp(lambda x, w: project(x, w, 0, jnp.float32), x, w)
    to_x, to_w = back(out)
    assert (out.dtype, to_x.dtype, to_w.dtype) == (jnp.float32, jnp.bfloat16, jnp.float32)
    traced = jax.make_jaxpr(back)(out)
    operands = [
        v.aval.dtype
        for e in equations(traced)
        if e.primitive.name == "dot_general"
        for v in e.invars
    ]
    assert operands == [jnp.bfloat16] * 4


@pytest.mark.parametrize("name", [name for name in REMAT if name != "none"])
def test_recomputing_layers_changes_no_gradient(network, name):
    folder, _, params = network("qwen3_bias")
    config = load_config(folder)

    def gradient(remat):
        policy = make_policy(config, remat=remat)

        def loss(p):
            return jnp.mean(jnp.square(policy.logits(p, whole(policy, p, TOKENS[:, :8]))))

        return jax.jit(jax.grad(loss))(params)

    some, none = gradient(name), gradient("none")
    assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(some))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), some, none)


def test_each_remat_policy_stores_less_than_the_next():
    config = ModelConfig("qwen3", VOCAB, 32, 4, 4, 2, 8, 40, qk_norm=True)
    params = parameter_shapes(config)
    tokens = jax.ShapeDtypeStruct((4, 256), jnp.int32)

    def temporaries(remat):
        policy = make_policy(config, remat=remat)
        loss = jax.grad(lambda p, x: jnp.sum(jnp.square(whole(policy, p, x))))
        return jax.jit(loss).lower(params, tokens).compile().memory_analysis().temp_size_in_bytes

    sizes = [temporaries(name) for name in REMAT]
    assert sizes == sorted(set(sizes)) and sizes[0] < 0.7 * sizes[-1]


@pytest.mark.parametrize("case", ["qwen2_tied", "qwen3_untied"])
def test_bfloat16_stays_near_float32_and_is_the_same_in_sampler_and_trainer(network, case):
    folder, exact, params = network(case)
    policy = jitted(make_policy(load(folder)[0], compute_dtype=jnp.bfloat16))
    weights = policy.publish(params)
    assert {x.dtype for x in jax.tree.leaves((weights, policy.init_cache(1, 1, 2)))} == {
        jnp.dtype(jnp.bfloat16)
    }
    hidden = whole(policy, params, TOKENS)
    assert hidden.dtype == jnp.bfloat16
    learned = policy.logits(params, hidden)
    assert learned.dtype == jnp.float32
    reference = exact.logits(params, whole(exact, params, TOKENS))
    assert np.sqrt(np.mean(np.square(learned - reference))) < 0.05 * np.std(reference)
    positions = np.broadcast_to(np.arange(40), (2, 1, 40))
    sampled, _ = policy.extend(
        weights, TOKENS[:, None], positions, policy.init_cache(2, 1, 40), 0, np.zeros((2, 1), int)
    )
    assert np.sqrt(
        np.mean(np.square(policy.logits(weights, sampled[:, 0]) - learned))
    ) < 0.02 * np.std(reference)


def test_equal_arguments_give_equal_policies():
    """So that one compiled program serves both."""
    config = ModelConfig("llama", VOCAB, 32, 1, 4, 2, 8, 40)
    same = ModelConfig("llama", VOCAB, 32, 1, 4, 2, 8, 40, hf_config="{}")
    policy, again = make_policy(config), make_policy(same, compute_dtype=np.float32)
    assert policy == again and hash(policy) == hash(again)
    assert policy != make_policy(config, remat="none")
    assert policy != make_policy(config, compute_dtype=jnp.bfloat16)

    publish = jax.jit(lambda params, policy: policy.publish(params), static_argnames="policy")
    params = init_params(config, jax.random.key(0))
    publish(params, policy=policy)
    publish(params, policy=again)
    assert publish._cache_size() == 1
    with raises_for("remat"):
        make_policy(config, remat=True)


def test_random_parameters_have_the_declared_shapes_and_scales():
    config = ModelConfig(
        "qwen3", VOCAB, 32, 3, 4, 2, 8, 40, qkv_bias=True, o_bias=True, qk_norm=True
    )
    params = init_params(config, jax.random.key(0))
    jax.tree.map(
        lambda x, like: np.testing.assert_equal((x.shape, x.dtype), (like.shape, like.dtype)),
        params,
        parameter_shapes(config),
    )
    inner = params["layers"]
    assert all((inner[name] == 1).all() for name in ("attn_norm", "mlp_norm", "q_norm", "k_norm"))
    assert all((inner[name] == 0).all() for name in ("q_bias", "k_bias", "v_bias", "o_bias"))
    kernels = [params["embed"], params["head"]] + [
        inner[name] for name in ("q", "k", "v", "o", "gate", "up", "down")
    ]
    assert all(0.018 < float(x.std()) < 0.022 for x in kernels)
    assert len({float(x.ravel()[0]) for x in kernels}) == len(kernels), (
        "every kernel has a key of its own"
    )


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"num_kv_heads": 3}, "num_kv_heads"),
        ({"head_dim": 7}, "head_dim"),
        ({"sliding": (True, False), "window": 3}, "sliding"),
        ({"sliding": (True,)}, "sliding"),
        ({"window": 3}, "sliding"),
    ],
)
def test_impossible_architectures_are_refused(changes, field):
    sizes = {
        "vocab_size": 9,
        "hidden_size": 8,
        "num_layers": 1,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 2,
    }
    with raises_for(field):
        ModelConfig(**({"model_type": "llama", "ffn_size": 8} | sizes | changes))


def _record(folder: pathlib.Path) -> None:
    values = {
        case: torch_logits(write_checkpoint(folder / case, CASES[case]), TOKENS)[RECORDED]
        for case in CASES
    }
    lines = ",\n".join(
        f'"{case}": {json.dumps(np.round(x.astype(float), 6).tolist())}'
        for case, x in values.items()
    )
    GOLDEN.write_text("{\n" + lines + "\n}\n")


@pytest.mark.parametrize("case", ["qwen2_tied", "qwen2_untied"])
def test_rows_beyond_the_tokenizer_have_no_probability(network, case):
    folder, _, params = network(case)
    config = load_config(folder)
    tokens = VOCAB - 7
    policy = make_policy(config, num_tokens=tokens)
    hidden = jax.random.normal(jax.random.key(0), (3, 5, config.hidden_size))
    plain = make_policy(config).logits(params, hidden)
    masked = policy.logits(params, hidden)
    np.testing.assert_array_equal(masked[..., :tokens], plain[..., :tokens])
    probabilities = jax.nn.softmax(masked)
    assert float(probabilities[..., tokens:].max()) == 0

    uniform = jax.random.uniform(jax.random.key(1), (2000, 3, 5))
    settings = token_sampling(SamplingParams(temperature=5.0), eos_ids=(1,), pad_id=0)
    logits = jnp.broadcast_to(masked, (2000, *masked.shape))
    drawn, logprobs = sample_tokens(logits, uniform, settings)
    assert int(drawn.max()) == tokens - 1

    # The trainer agrees with the sampler, and moves none of those rows.
    head = policy.head(params)
    scale = jnp.float32(1 / 5)
    ours = functools.partial(token_logprobs, policy.logits, 5, True)
    picked, entropy = ours(head, hidden, drawn[0], jnp.int32(5), scale)
    np.testing.assert_allclose(picked, logprobs[0], atol=1e-5)
    assert bool(jnp.isfinite(entropy).all()) and float(entropy.max()) <= np.log(tokens) + 1e-5

    def objective(head):
        picked, entropy = ours(head, hidden, drawn[0], jnp.int32(5), scale)
        return jnp.sum(picked) + jnp.sum(entropy)

    (gradient,) = jax.tree.leaves(jax.grad(objective)(head))
    by_token = gradient if case == "qwen2_tied" else gradient.T
    assert float(jnp.abs(by_token[tokens:]).max()) == 0 < float(jnp.abs(by_token[:tokens]).max())


def test_ids_that_no_token_has_have_no_probability(network):
    config = load_config(network("qwen2_tied")[0])
    params = network("qwen2_tied")[2]
    hidden = jax.random.normal(jax.random.key(0), (4, config.hidden_size))
    policy = make_policy(config, num_tokens=VOCAB - 2, unused_ids=(0, 7, 8))
    probabilities = np.asarray(jax.nn.softmax(policy.logits(params, hidden)))
    absent = [0, 7, 8, VOCAB - 2, VOCAB - 1]
    assert np.flatnonzero((probabilities == 0).all(axis=0)).tolist() == absent
    plain = make_policy(config).logits(params, hidden)
    kept = np.delete(np.asarray(plain), absent, axis=1)
    np.testing.assert_array_equal(
        np.delete(np.asarray(policy.logits(params, hidden)), absent, axis=1), kept
    )
    assert policy == make_policy(config, num_tokens=VOCAB - 2, unused_ids=(0, 7, 8))


@pytest.mark.parametrize("num_tokens", [None, VOCAB, VOCAB + 1])
def test_a_full_table_has_the_same_policy_as_ever(network, num_tokens):
    config = load_config(network("qwen2_tied")[0])
    assert make_policy(config, num_tokens=num_tokens) == make_policy(config)
    padded = make_policy(config, num_tokens=VOCAB - 1)
    assert padded == make_policy(config, num_tokens=VOCAB - 1) != make_policy(config)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        _record(pathlib.Path(name))
