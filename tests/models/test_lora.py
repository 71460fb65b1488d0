"""Adapters: what they compute, their gradients, and what the compiled programs multiply."""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax.devices.sharding import Layout, make_mesh, state_sharding
from ccpo_jax.learner.packing import TrainSequence, pack
from ccpo_jax.learner.update import LossConfig, jitted_accumulate, totals_of
from ccpo_jax.models import LoRA, ModelConfig, init_params, make_policy, with_adapters
from ccpo_jax.models.lora import TARGETS
from ccpo_jax.sampler import Prompts, token_sampling
from ccpo_jax.sampler.decode_loop import sample
from ccpo_jax.sampler.generate import programs, stack_weights
from tests.support.errors import raises_for
from tests.support.stubs import POLICY

QWEN = ModelConfig("qwen2", 97, 48, 2, 4, 2, 20, 56, qkv_bias=True, tied_embeddings=True)
LLAMA = ModelConfig("llama", 97, 48, 2, 4, 4, 12, 40)
TOKENS = np.random.default_rng(0).integers(0, 97, (2, 9)).astype(np.int32)


def network(config=QWEN, **changes):
    """(policy, base, adapters), B as if it had been trained."""
    policy = with_adapters(make_policy(config), LoRA(**{"rank": 5} | changes))
    # Large enough for every path to matter.
    base = jax.tree.map(lambda x: 2 * x, base_of(config))
    return policy, base, trained(policy, 0)


@functools.cache
def base_of(config):
    return jax.jit(init_params, static_argnums=0)(config, jax.random.key(0))


def trained(policy, seed):
    rng = np.random.default_rng(seed)
    adapters = jax.jit(policy.adapters.init)(jax.random.key(seed))
    return {
        name: jnp.asarray(0.02 * rng.normal(size=x.shape), jnp.float32)
        if name.endswith("_b")
        else x
        for name, x in adapters.items()
    }


@functools.partial(jax.jit, static_argnums=0)
def logits_of(policy, params):
    positions = np.broadcast_to(np.arange(9), TOKENS.shape)
    segments = jnp.ones_like(TOKENS)
    hidden = policy.hidden(params, jnp.asarray(TOKENS), positions, segments, segments)
    return policy.logits(params, hidden)


def written_out(base, adapters, scale):
    """Every kernel plus its adapter's product, by numpy."""
    layers = dict(base["layers"])
    for target in TARGETS:
        if f"{target}_lora_a" in adapters:
            a, b = (np.asarray(adapters[f"{target}_lora_{x}"], np.float64) for x in "ab")
            layers[target] = jnp.asarray(layers[target] + scale * (a @ b), jnp.float32)
    return {**base, "layers": layers}


@pytest.mark.parametrize(
    "config, changes, scale",
    [
        (QWEN, {}, 32 / 5),
        (LLAMA, {"alpha": 2.0, "rslora": True, "targets": ("k", "up", "o")}, 2 / math.sqrt(5)),
    ],
    ids=["all", "some"],
)
def test_adapters_add_their_product_to_the_weights(config, changes, scale):
    policy, base, adapters = network(config, **changes)
    whole = written_out(base, adapters, scale)
    expected = logits_of(policy, whole)
    assert np.abs(expected - logits_of(policy, base)).max() > 0.01, "the adapters change something"
    joined = policy.adapters.join(base, adapters)
    np.testing.assert_allclose(logits_of(policy, joined), expected, atol=1e-5)
    merged = jax.jit(policy.adapters.merge)(base, adapters)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), merged, whole)


def test_training_begins_at_the_network_itself_and_with_the_values_of_peft():
    policy, base, _ = network()
    adapters = jax.jit(policy.adapters.init)(jax.random.key(0))
    joined = policy.adapters.join(base, adapters)
    np.testing.assert_array_equal(logits_of(policy, joined), logits_of(policy, base))
    for target in TARGETS:
        layers, inputs, outputs = base["layers"][target].shape
        a, b = adapters[f"{target}_lora_a"], adapters[f"{target}_lora_b"]
        assert a.shape == (layers, inputs, 5) and b.shape == (layers, 5, outputs)
        assert not b.any() and a.dtype == jnp.float32
        bound = 1 / math.sqrt(inputs)
        assert np.abs(a).max() <= bound
        np.testing.assert_allclose(a.std(), bound / math.sqrt(3), rtol=0.1)
        np.testing.assert_allclose(a.mean(), 0, atol=0.1 * bound)


def test_gradients_follow_from_those_of_the_whole_weights():
    """Of f(W + s A B): dA = s (dW) B^T and dB = s A^T (dW), with dW from a network without
    adapters."""
    policy, base, adapters = network()
    scale = 32 / 5
    direction = jax.random.normal(jax.random.key(9), (*TOKENS.shape, 97))

    def objective(params):
        return jnp.sum(logits_of(policy, params) * direction) / direction.size

    whole = jax.jit(jax.grad(objective))(written_out(base, adapters, scale))["layers"]
    own = jax.jit(jax.grad(lambda x: objective(policy.adapters.join(base, x))))(adapters)
    for target in TARGETS:
        a, b = adapters[f"{target}_lora_a"], adapters[f"{target}_lora_b"]
        to_a = scale * np.einsum("lio,lro->lir", whole[target], b)
        to_b = scale * np.einsum("lir,lio->lro", a, whole[target])
        assert np.abs(to_a).max() > 1e-4 and np.abs(to_b).max() > 1e-4
        np.testing.assert_allclose(own[f"{target}_lora_a"], to_a, atol=1e-6, rtol=1e-4)
        np.testing.assert_allclose(own[f"{target}_lora_b"], to_b, atol=1e-6, rtol=1e-4)


def test_an_update_computes_no_gradient_of_the_base():
    """In the compiled program no product has the shape of a kernel, as it has in full training."""
    policy, base, adapters = network()
    rows = [
        TrainSequence(n, TOKENS[0, :3], TOKENS[0, :0], TOKENS[0, 3:], 1.0, np.zeros(6, np.float32))
        for n in range(4)
    ]
    batch = pack(rows, row_length=32, rows_per_microbatch=4)[0]

    def products(trained, frozen):
        arguments = (policy, LossConfig(logits_chunk=64), trained, batch, totals_of(rows))
        program = jitted_accumulate().lower(*arguments, np.float32(1), trained, frozen).compile()
        results = re.findall(r"= \w+\[([\d,]*)\]\S* dot\(", program.as_text())
        return {tuple(sorted(map(int, dims.split(",")))) for dims in results}

    # q, k and v joined; gate and up joined; o; down; the table.
    kernels = {(48, 160), (48, 112), (48, 80), (48, 56), (48, 97)}
    assert kernels <= products(base, None)
    assert not kernels & products(adapters, base)


# --- several agents, one base ---------------------------------------------------------------------

AGENTS, PROMPTS, ROWS, LENGTH = 3, 2, 4, 6
SHALLOW = dataclasses.replace(QWEN, num_layers=1)


def team_weights():
    policy, base, _ = network(SHALLOW)
    published = jax.jit(policy.publish)(base)
    publish = jax.jit(policy.adapters.publish)
    alone = [
        policy.adapters.attach(published, publish(trained(policy, seed))) for seed in range(AGENTS)
    ]
    return policy, alone


def sampling_arguments(seed=0):
    rng = np.random.default_rng(seed)
    prompts = Prompts(
        prefix=rng.integers(0, 97, (AGENTS, PROMPTS, 5)).astype(np.int32),
        prefix_length=np.full((AGENTS, PROMPTS), 5, np.int32),
        tail=np.zeros((AGENTS, PROMPTS, ROWS, 0), np.int32),
        tail_length=np.zeros((AGENTS, PROMPTS, ROWS), np.int32),
    )
    keys = jax.random.split(jax.random.key(seed), (AGENTS, PROMPTS, ROWS))
    return prompts, keys, token_sampling(eos_ids=(96,), pad_id=0)


def test_agents_on_one_base_sample_what_each_samples_alone():
    policy, alone = team_weights()
    prompts, keys, settings = sampling_arguments()
    draw = jax.jit(sample, static_argnames=("policy", "max_tokens", "stacked"))
    together = draw(
        policy, stack_weights(alone), prompts, keys, settings, max_tokens=LENGTH, stacked=True
    )
    for agent, weights in enumerate(alone):
        own = jax.tree.map(lambda x, agent=agent: x[agent], prompts)
        expected = draw(policy, weights, own, keys[agent], settings, max_tokens=LENGTH)
        np.testing.assert_array_equal(together.tokens[agent], expected.tokens)
        np.testing.assert_allclose(together.logprobs[agent], expected.logprobs, atol=1e-5)
    assert len({together.tokens[agent].tobytes() for agent in range(AGENTS)}) == AGENTS

    # Added to the weights, the adapters of one agent draw from the same distributions.
    _, base, _ = network(SHALLOW)
    merge = jax.jit(lambda adapters: policy.publish(policy.adapters.merge(base, adapters)))
    merged = merge(trained(policy, 0))
    own = jax.tree.map(lambda x: x[0], prompts)
    alone_merged = draw(policy, merged, own, keys[0], settings, max_tokens=LENGTH)
    np.testing.assert_array_equal(alone_merged.tokens, together.tokens[0])
    np.testing.assert_allclose(alone_merged.logprobs, together.logprobs[0], atol=1e-5)


def test_a_decode_step_multiplies_all_agents_rows_with_the_base_at_once():
    """The compiled decode loop holds one product with each kernel of the base for the rows of all
    agents, and no copy of the base per agent."""
    policy, alone = team_weights()
    weights = stack_weights(alone)
    prompts, _, settings = sampling_arguments()
    static = {"max_tokens": LENGTH, "cache_slots": LENGTH, "stacked": True}
    paths = np.zeros((AGENTS, PROMPTS, ROWS, 1), np.uint32)
    key = jax.random.key(0)
    how = static | {"tail_groups": ((ROWS, 0),), "record_collision": False}
    state = programs().prefill.eval_shape(policy, weights, prompts, key, paths, settings, **how)
    text = (
        programs()
        .decode.lower(weights, state, settings, np.int32(LENGTH), policy=policy, stacked=True)
        .compile()
        .as_text()
    )
    products = re.findall(r"= \w+\[([\d,]*)\]\S* dot\(", text)
    sizes = [math.prod(map(int, dims.split(","))) for dims in products]
    rows = AGENTS * PROMPTS * ROWS
    for outputs in (160, 112):
        assert sizes.count(rows * outputs) >= SHALLOW.num_layers
    # The tied table: all rows in one product.
    assert sizes.count(rows * 97) == 1
    assert not re.search(rf"\[{AGENTS},(48,160|160,48|48,112|112,48|97,48|48,97)\]", text)


def test_a_mesh_splits_adapters_with_the_weights_beside_them():
    layout = Layout(make_mesh(fsdp=2, model=2, devices=jax.devices()[:4]))
    alone, base, adapters = network()
    policy = with_adapters(make_policy(QWEN, layout=layout), LoRA(rank=5))
    placement = state_sharding(layout.mesh, adapters)
    specs = {name: tuple(sharding.spec) for name, sharding in placement.items()}
    assert specs["q_lora_a"] == (None, "fsdp", None) and specs["q_lora_b"] == (None, None, "model")
    assert specs["down_lora_a"] == (None, "model", None)
    assert specs["down_lora_b"] == (None, None, "fsdp")

    placed = jax.tree.map(jax.device_put, adapters, placement)
    params = jax.tree.map(jax.device_put, base, state_sharding(layout.mesh, base))
    received = logits_of(policy, policy.adapters.join(params, placed))
    expected = logits_of(alone, alone.adapters.join(base, adapters))
    np.testing.assert_allclose(received, expected, atol=1e-5)
    published = jax.jit(policy.adapters.publish)(placed)["layers"][0]
    expected_weights = jax.jit(alone.adapters.publish)(adapters)["layers"][0]
    for name, x in expected_weights.items():
        np.testing.assert_allclose(published[name], x, atol=1e-6)
    assert published["qkv_lora_b"].sharding.spec[1] == "model"


def test_what_cannot_be_adapters_is_refused_by_name():
    for changes in ({"rank": 0}, {"targets": ()}, {"targets": ("q", "q")}, {"targets": ("embed",)}):
        with raises_for("lora.rank" if "rank" in changes else "lora.targets"):
            LoRA(**{"rank": 4} | changes)
    with raises_for("lora.rank"):
        with_adapters(POLICY, LoRA(rank=4))
