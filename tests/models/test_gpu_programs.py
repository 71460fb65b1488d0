"""What a GPU would run, compiled without one.

Needs `pip install 'jax[cuda13]'`, as no other test does.
"""

import json

import jax
import jax.numpy as jnp
import pytest

from ccpo_jax.learner.packing import PackedBatch
from ccpo_jax.models.decoder import Decoder, ModelConfig, parameter_shapes, policy_of
from ccpo_jax.sampler.decode_loop import Prompts
from experiments.bench import aims, workloads
from experiments.bench.compiled import can_compile, kernels
from experiments.bench.predict import gradient, sampling_programs
from experiments.bench.roofline import attention_flops, multiplied
from tests.support.trees import bytes_of

NETWORK = ModelConfig("qwen2", 512, 256, 2, 6, 2, 64, 512, qkv_bias=True, tied_embeddings=True)
PROMPTS, SAMPLES, LENGTH, TOKENS = 4, 4, 65, 64

if not can_compile():
    pytest.skip(
        "jax's CUDA plugin is not installed: pip install 'jax[cuda13]'", allow_module_level=True
    )


def policy(remat="full"):
    """`make_policy` as on that GPU."""
    return policy_of(Decoder(NETWORK, jnp.dtype(jnp.bfloat16), remat, "gpu", "gpu", None))


def shape(*axes, dtype=jnp.int32):
    return jax.ShapeDtypeStruct(axes, dtype)


@pytest.mark.parametrize(
    "tail, groups", [(0, None), (69, None), (69, ((2, 69), (2, 3)))], ids=["", "tail", "two"]
)
@pytest.mark.parametrize("agents", [(), (2,)], ids=["one set", "a set each"])
def test_a_rollout_compiles_and_its_caches_stay_in_place(agents, tail, groups):
    network = policy()
    rows = (*agents, PROMPTS, SAMPLES)
    weights = jax.eval_shape(network.publish, parameter_shapes(NETWORK))
    weights = jax.tree.map(lambda x: shape(*agents, *x.shape, dtype=x.dtype), weights)
    prompts = Prompts(
        shape(*rows[:-1], LENGTH), shape(*rows[:-1]), shape(*rows, tail), shape(*rows)
    )
    _, program, state = sampling_programs(
        network, weights, prompts, max_tokens=TOKENS, groups=groups, stacked=bool(agents)
    )
    memory = program.memory_analysis()
    cache = bytes_of(state.cache)
    assert memory.alias_size_in_bytes >= cache and memory.temp_size_in_bytes <= cache / 2

    # One kernel for the cache of prompts, of each tail, and of the rows' own tokens.
    caches = 2 + len(state.context.tails)
    triton_kernels = program.as_text().count('custom_call_target="__gpu$xla.gpu.triton"')
    assert triton_kernels == caches * NETWORK.num_layers


def packed(rows=2, length=512, used=384, responses=4, tokens=128) -> PackedBatch:
    axes = (
        [(rows, length)] * 4
        + [(rows, used)] * 2
        + [(rows,)]
        + [(rows, responses)] * 3
        + [(rows, responses, tokens)]
    )
    return PackedBatch(
        *(shape(*x, dtype=jnp.float32 if i > 8 else jnp.int32) for i, x in enumerate(axes))
    )


@pytest.mark.parametrize("remat", ["full", "attention", "dots", "none"])
def test_a_gradient_compiles(remat):
    program = gradient(policy(remat), parameter_shapes(NETWORK), packed(), 256)
    assert "__cudnn" in program.as_text(), "attention is cudnn's"


def test_a_gradient_has_the_operations_that_one_counts_by_hand():
    """Three products for each weight and token, the logits of response tokens once more.

    And the attention of whole rows.
    """
    batch = packed()
    (rows, length), (_, used) = batch.tokens.shape, batch.source.shape
    program = gradient(policy("none"), parameter_shapes(NETWORK), batch, 256)
    flops = sum(
        k.times * k.work.flops for k in kernels(program.as_text(), steps=used // (256 // rows))
    )
    table = NETWORK.vocab_size * NETWORK.hidden_size
    layers = 6.0 * (multiplied(NETWORK) - table) * rows * length
    # Two products forward, five backward.
    attention = 3.5 * attention_flops(NETWORK, rows * length**2)
    assert flops == pytest.approx(layers + 8.0 * table * rows * used + attention, rel=0.01)


def test_aims_are_predicted(monkeypatch, capsys):
    """Of a small network: that each has a figure, and none is better than its programs allow."""
    monkeypatch.setitem(workloads.SHAPES, "two layers", (256, 2, 6, 2, 64, 512, 512, True))
    shorter = [("512", "64"), ("1536", "64"), ("256", "32")]
    for aim in aims.AIMS:
        runs = aim.runs
        for old, new in shorter:
            runs = tuple(run.replace(f"={old}", f"={new}") for run in runs)
        monkeypatch.setattr(aims, "AIMS", (aim._replace(runs=runs),))
        assert aims.main(["--predict", "--model=two layers", "--json"]) == 0
        printed = capsys.readouterr()
        (prediction,) = json.loads(printed.out).values()
        figure, allowed = prediction["figure"], prediction["allowed"]
        assert figure > 0 and f"its programs would allow {allowed:.2f}" in printed.err
        if aim.least:
            assert figure < allowed < 1
        else:
            assert 1 < figure < 2 and 1 < allowed < 2
