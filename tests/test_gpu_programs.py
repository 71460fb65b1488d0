"""What a GPU would run, compiled for one that is not here: by `pip install 'jax[cuda13]'`, which no other test needs."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies

from ccpo_jax.draw import sampling
from ccpo_jax.losses import policy_gradient_loss
from ccpo_jax.models import decode_step, flash
from ccpo_jax.models.decoder import ModelConfig, make_policy, parameter_shapes
from ccpo_jax.packing import Packed
from ccpo_jax.records import BatchTotals
from ccpo_jax.sampler import Prompts, advance, begin
from ccpo_jax.update import Loss, accumulate
from tests.test_budgets import bytes_of

H100 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 }
runtime_version { major: 13 }
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  l2_cache_size: 52428800 memory_bandwidth: 3352320000000 device_memory_size: 84929347584
}
"""
NETWORK = ModelConfig("qwen2", 512, 256, 2, 6, 2, 64, 512, qkv_bias=True, tied_embeddings=True)
PROMPTS, SAMPLES, LENGTH, TOKENS = 4, 4, 65, 64

if not any(
    importlib.util.find_spec("jax_plugins") and importlib.util.find_spec(f"jax_plugins.xla_cuda{n}") for n in (12, 13)
):
    pytest.skip("jax's CUDA plugin is not installed: pip install 'jax[cuda13]'", allow_module_level=True)


@pytest.fixture(scope="module")
def mesh():
    topology = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
    return topologies.make_mesh(topology, (1,), ("device",))


@pytest.fixture
def policy(monkeypatch):
    """`make_policy` as on that GPU."""
    monkeypatch.setattr(flash, "available", lambda dtype: "gpu")
    monkeypatch.setattr(decode_step, "proven", lambda group, size: True)
    return functools.partial(make_policy, NETWORK, compute_dtype=jnp.bfloat16)


def compiled(mesh, f, *arguments, donate=()):
    """The program of `f` for arguments of such shapes."""
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    placed = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), arguments)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        lowered = jax.jit(f, donate_argnums=donate).trace(*placed).lower(lowering_platforms=("cuda",))
    return lowered.compile()


def shape(*axes, dtype=jnp.int32):
    return jax.ShapeDtypeStruct(axes, dtype)


@pytest.mark.parametrize(("tail", "groups"), [(0, None), (69, None), (69, ((2, 69), (2, 3)))], ids=["", "tail", "two"])
@pytest.mark.parametrize("agents", [(), (2,)], ids=["one set", "a set each"])
def test_a_rollout_compiles_and_its_caches_stay_in_place(mesh, policy, agents, tail, groups):
    network = policy()
    rows = (*agents, PROMPTS, SAMPLES)
    weights = jax.eval_shape(network.publish, parameter_shapes(NETWORK))
    weights = jax.tree.map(lambda x: shape(*agents, *x.shape, dtype=x.dtype), weights)
    prompts = Prompts(shape(*rows[:-1], LENGTH), shape(*rows[:-1]), shape(*rows, tail), shape(*rows))
    settings = jax.eval_shape(lambda: sampling(eos_ids=(1,), pad_id=0))
    numbers = shape(*rows, 2, dtype=jnp.uint32)

    def start(weights, prompts, numbers, settings):
        keys = jax.random.wrap_key_data(numbers)
        how = dict(max_tokens=TOKENS, groups=groups, stacked=bool(agents))
        return begin(network, weights, prompts, keys, settings, **how)

    compiled(mesh, start, weights, prompts, numbers, settings)
    state = jax.eval_shape(start, weights, prompts, numbers, settings)
    step = functools.partial(advance, network, stacked=bool(agents))
    program = compiled(mesh, step, weights, state, settings, shape(), donate=1)
    found, cache = program.memory_analysis(), bytes_of(state.cache)
    assert found.alias_size_in_bytes >= cache and found.temp_size_in_bytes <= cache / 2
    caches = 2 + len(state.context.tails)  # of prompts, of tails, and the rows' own
    assert program.as_text().count('custom_call_target="__gpu$xla.gpu.triton"') == caches * NETWORK.num_layers


@pytest.mark.parametrize("remat", ["full", "attention", "dots", "none"])
def test_a_gradient_compiles(mesh, policy, remat):
    rows, length, used, responses, tokens = 2, 512, 384, 4, 128
    axes = [(rows, length)] * 4 + [(rows, used)] * 2 + [(rows,)] + [(rows, responses)] * 3 + [(rows, responses, tokens)]
    batch = Packed(*(shape(*x, dtype=jnp.float32 if i > 8 else jnp.int32) for i, x in enumerate(axes)))
    number, params = shape(dtype=jnp.float32), parameter_shapes(NETWORK)
    loss = Loss(policy_gradient_loss, on_policy=True, zero_is_silent=True, entropy_bonus=0.0, chunk=256)
    gradient = functools.partial(accumulate, policy(remat=remat), loss)
    program = compiled(mesh, gradient, params, batch, BatchTotals(*[number] * 4), number, params, donate=4)
    assert "__cudnn" in program.as_text(), "attention is cudnn's"
