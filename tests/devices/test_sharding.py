"""Meshes, rules, and what compiled programs send between devices."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from ccpo_jax.devices.sharding import (
    AXES,
    DECODE,
    LOGICAL_AXES,
    RULES,
    TRAIN,
    AxisRules,
    Layout,
    batch_sharding,
    fetch,
    make_layout,
    make_mesh,
    num_shards,
    put,
    replicated,
    state_sharding,
)
from ccpo_jax.learner.logprobs import token_logprobs
from ccpo_jax.learner.packing import TrainSequence, pack
from ccpo_jax.learner.update import LossConfig, jitted_accumulate, totals_of
from ccpo_jax.models import init_params, make_policy
from ccpo_jax.models.decoder import ModelConfig, parameter_shapes
from ccpo_jax.sampler.decode_loop import Prompts
from ccpo_jax.sampler.generate import programs
from ccpo_jax.sampler.sampling_params import SamplingParams
from ccpo_jax.sampler.token_sampling import sample_tokens, token_sampling
from tests.support.errors import raises_for
from tests.support.programs import collectives

LAYERS = 2
# Every matrix of the network has more numbers than any activation of the programs below.
NETWORK = ModelConfig(
    "qwen2",
    vocab_size=512,
    hidden_size=64,
    num_layers=LAYERS,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    ffn_size=256,
    qkv_bias=True,
)
# Numbers of its smallest matrix.
MATRIX = 64 * 64


def test_mesh_uses_every_device_or_says_why_not():
    assert dict(make_mesh().shape) == {"data": 8, "fsdp": 1, "model": 1}
    assert dict(make_mesh(fsdp=2, model=2).shape) == {"data": 2, "fsdp": 2, "model": 2}
    assert make_mesh(devices=jax.devices()[:2]).size == 2
    with raises_for("mesh.data"):
        make_mesh(data=3)
    with raises_for("mesh.fsdp") as error:
        make_mesh(fsdp=6)
    assert "--config.mesh.fsdp=2 " in str(error.value), "sizes that fit"


def test_every_parameter_has_logical_axes_and_moments_follow_it():
    config = dataclasses.replace(NETWORK, o_bias=True, qk_norm=True)
    params = init_params(config, jax.random.key(0))
    mesh = make_mesh(fsdp=2, model=2)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        assert len(LOGICAL_AXES[path[-1].key]) == leaf.ndim, path
    placed = state_sharding(mesh, {"mu": params})["mu"]
    assert placed["layers"]["q"].spec == PartitionSpec(None, "fsdp", "model")
    assert placed["final_norm"].spec == PartitionSpec("fsdp")


def test_axes_that_do_not_divide_are_replicated():
    mesh = make_mesh(fsdp=2, model=4)
    assert state_sharding(mesh, {"embed": jnp.zeros((9, 4))})["embed"].spec == PartitionSpec(
        None, "fsdp"
    )


def test_batches_split_over_replicas_and_parameter_shards():
    mesh = make_mesh(fsdp=4)
    assert batch_sharding(mesh).shard_shape((16, 3)) == (2, 3)
    assert num_shards(batch_sharding(make_mesh(fsdp=2, model=2))) == 4 and num_shards(None) == 1
    assert num_shards(batch_sharding(mesh, (("batch", ()),))) == 1


@pytest.mark.parametrize("name", RULES)
def test_rules_split_no_array_twice_along_one_mesh_axis(name):
    """Caches, feed-forward activations and logits have a batch axis beside one of their own."""
    activations = [("batch", "heads"), ("batch", "ffn"), ("batch", "vocab")]
    for rules in (RULES[name].train, RULES[name].decode):
        splits = dict(rules)
        assert splits.keys() == dict(TRAIN).keys()
        for axes in (*LOGICAL_AXES.values(), *activations):
            used = list(itertools.chain(*(splits.get(axis, ()) for axis in axes)))
            assert len(used) == len(set(used)) and set(used) <= set(AXES), axes


def test_a_layout_is_chosen_by_name_and_equal_by_value():
    mesh = make_mesh(fsdp=2)
    assert make_layout(mesh) == Layout(mesh, TRAIN, DECODE)
    assert hash(make_layout(mesh)) == hash(make_layout(make_mesh(fsdp=2)))
    assert make_layout(mesh, "replicated_decode") != make_layout(mesh)
    with raises_for("mesh.rules") as error:
        make_layout(mesh, "fsdp+data")
    assert all(repr(name) in str(error.value) for name in RULES)


def test_the_host_gets_back_what_it_put():
    x, mesh = np.arange(16.0).reshape(8, 2), make_mesh(fsdp=2)
    np.testing.assert_array_equal(fetch(put(x, batch_sharding(mesh))), x)
    np.testing.assert_array_equal(fetch(put(x, replicated(mesh))), x)


# --- what compiled programs send between devices --------------------------------------------------


def abstract(tree, shardings):
    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), tree, shardings
    )


def decode_loop(layout: Layout, rules: AxisRules | None = None):
    """The compiled loop for 8 prompts with 2 rows each; `rules` place the weights."""
    policy, mesh = make_policy(NETWORK, layout=layout), layout.mesh
    weights = jax.eval_shape(policy.publish, parameter_shapes(NETWORK))
    weights = abstract(weights, state_sharding(mesh, weights, rules or layout.decode))
    prompts = Prompts(*(np.ones(shape, np.int32) for shape in ((8, 4), (8,), (8, 2, 0), (8, 2))))
    ids, where = np.zeros((8, 2, 1), np.uint32), batch_sharding(mesh, layout.decode)
    prompts, ids = abstract((prompts, ids), jax.tree.map(lambda _: where, (prompts, ids)))
    settings = token_sampling(eos_ids=(1,), pad_id=0)
    how = {"max_tokens": 8, "cache_slots": 8, "tail_groups": ((2, 0),), "stacked": False}
    begin = (
        programs()
        .prefill.lower(policy, weights, prompts, jax.random.key(0), ids, settings, **how)
        .compile()
    )
    state = programs().prefill.eval_shape(
        policy, weights, prompts, jax.random.key(0), ids, settings, **how
    )
    state = abstract(state, begin.output_shardings)
    return state, programs().decode.lower(
        weights, state, settings, np.int32(8), policy=policy, stacked=False
    ).compile()


def test_the_decode_loop_gathers_no_weights():
    layout = Layout(make_mesh(fsdp=2, model=2))
    state, program = decode_loop(layout)
    for cache in jax.tree.leaves(state.cache):
        shard = cache.sharding.shard_shape(cache.shape)
        assert shard[:3] == (2, 2, 1), "split by prompts and by heads"
    sent = collectives(program, loops_only=True)
    assert max(size for _, size in collectives(program)) < MATRIX
    # Each layer sums the attention and feed-forward outputs of the devices that share its heads and
    # neurons.
    sums = [size for kind, size in sent if kind == "all-reduce" and size >= NETWORK.hidden_size]
    assert len(sums) >= 2 * LAYERS

    # Weights split as in training are gathered, all at once, before every chunk of the loop.
    _, split_program = decode_loop(layout, TRAIN)
    gathered = sum(size for kind, size in collectives(split_program) if kind == "all-gather")
    shapes = jax.tree.leaves(parameter_shapes(NETWORK)["layers"])
    assert gathered > sum(math.prod(x.shape) for x in shapes) // 2


@pytest.mark.parametrize("model, rules", [(1, "default"), (2, "replicated_decode")])
def test_replicas_decode_without_communication(model, rules):
    """They exchange nothing but whether all responses have ended."""
    _, program = decode_loop(make_layout(make_mesh(fsdp=4 // model, model=model), rules))
    sent = collectives(program, loops_only=True)
    assert all(kind == "all-reduce" and size == 1 for kind, size in sent)


def test_an_update_gathers_layer_by_layer_and_adds_up_gradients():
    layout = Layout(make_mesh(fsdp=2, model=2))
    policy, rng = make_policy(NETWORK, layout=layout), np.random.default_rng(0)
    rows = [
        TrainSequence(
            r,
            *(rng.integers(0, 99, n).astype(np.int32) for n in (3, 0, 4)),
            1.0,
            np.zeros(4, np.float32),
        )
        for r in range(8)
    ]
    (batch,) = pack(rows, row_length=8, rows_per_microbatch=8)
    params = parameter_shapes(NETWORK)
    params = abstract(params, state_sharding(layout.mesh, params))
    batch = abstract(batch, jax.tree.map(lambda _: batch_sharding(layout.mesh), batch))
    loss = LossConfig(logits_chunk=64)
    arguments = (policy, loss, params, batch, totals_of(rows), np.float32(1), params)
    program = jitted_accumulate().lower(*arguments).compile()
    for x, where in zip(
        jax.tree.leaves(params), jax.tree.leaves(program.output_shardings[0]), strict=True
    ):
        assert where.is_equivalent_to(x.sharding, len(x.shape)), (
            "gradients are split as parameters are"
        )

    # Gate, up and down of one layer, and the vocabulary, still split over model.
    layer = NETWORK.hidden_size * NETWORK.ffn_size // 2
    table = NETWORK.vocab_size * NETWORK.hidden_size // 2
    in_loops = collectives(program, loops_only=True)
    gathered = [size for kind, size in in_loops if kind == "all-gather"]
    summed = [size for kind, size in in_loops if kind in ("all-reduce", "reduce-scatter")]
    assert max(gathered) == layer, "one layer at a time"
    assert max(summed) >= MATRIX // 4, "gradients are added up"
    assert max(size for _, size in collectives(program)) <= max(layer, table)


@pytest.mark.parametrize("filters", [{}, {"top_k": 400, "top_p": 0.95, "min_p": 1e-4}], ids=str)
def test_a_split_vocabulary_draws_the_same_tokens_and_none_that_does_not_exist(filters):
    """Rows of the table beyond the tokenizer, and holes, which two shards of the vocabulary hold;
    sampler and trainer agree on what is left."""
    holes = (3, 200, 300)
    params = init_params(NETWORK, jax.random.key(0))
    policy = make_policy(NETWORK, num_tokens=500, unused_ids=holes)
    head = {name: 20 * x for name, x in policy.head(params).items()}
    hidden = jax.random.normal(jax.random.key(1), (8, 64, NETWORK.hidden_size))
    uniform = jax.random.uniform(jax.random.key(2), (8, 64))
    sampling = SamplingParams(temperature=2.0, **filters)
    settings = token_sampling(sampling, eos_ids=(1,), pad_id=0)

    def draw(head, hidden, uniform):
        token, logprob = sample_tokens(policy.logits(head, hidden), uniform, settings)
        per_token = functools.partial(token_logprobs, policy.logits, 16, True)
        trained, entropy = per_token(head, hidden, token, jnp.int32(64), jnp.float32(0.5))
        return token, logprob, trained, entropy

    one = jax.jit(draw)(head, hidden, uniform)
    layout = make_layout(make_mesh(data=2, fsdp=2, model=2))
    placed = jax.tree.map(put, head, state_sharding(layout.mesh, head, rules=layout.train))
    assert "model" in str(jax.tree.leaves(placed)[0].sharding.spec)
    batch = batch_sharding(layout.mesh, layout.decode)
    split = jax.jit(draw)(placed, put(hidden, batch), put(uniform, batch))

    token, logprob, trained, entropy = map(np.asarray, one)
    assert token.max() < 500 and not np.isin(token, holes).any() and len(np.unique(token)) > 50
    assert entropy.max() <= np.log(500 - len(holes))
    if not filters:
        np.testing.assert_allclose(logprob, trained, atol=1e-5)
    # A number that falls on the border of two tokens may go either way.
    same = np.asarray(split[0]) == token
    assert same.mean() > 0.99
    assert not np.isin(split[0], holes).any() and np.max(split[0]) < 500
    for mine, theirs in zip(split[1:], one[1:], strict=True):
        np.testing.assert_allclose(np.asarray(mine)[same], np.asarray(theirs)[same], atol=1e-5)
