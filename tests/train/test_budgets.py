"""What the compiled programs may cost: memory, and how many there may be."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ccpo_jax.learner.packing import TrainSequence, gather_sequences, pack
from ccpo_jax.learner.update import (
    LossConfig,
    PackingConfig,
    UpdateConfig,
    jitted_accumulate,
    totals_of,
    update_params,
)
from ccpo_jax.models import ModelConfig, make_policy
from ccpo_jax.models.decoder import parameter_shapes
from ccpo_jax.rl.topology import dyad
from ccpo_jax.sampler import SamplingParams
from ccpo_jax.sampler.decode_loop import Prompts
from ccpo_jax.sampler.generate import num_compiled, programs
from ccpo_jax.sampler.token_sampling import token_sampling
from tests.support.stubs import CODEC, POLICY, markov_params
from tests.support.teams import small_rollout, team_of
from tests.support.trees import bytes_of


def network(vocabulary=8192, **changes) -> ModelConfig:
    sizes = {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 8,
        "ffn_size": 64,
    }
    return ModelConfig("qwen2", vocabulary, **sizes | changes, tied_embeddings=True)


def test_the_update_never_holds_the_logits_of_all_tokens():
    """With chunks of 64 tokens it needs a small part of what [N, T, V] logits take; with one chunk it needs them."""
    config, responses, tokens = network(), 8, 120
    rng = np.random.default_rng(0)
    rows = [
        TrainSequence(
            r,
            *(rng.integers(0, 99, n).astype(np.int32) for n in (8, 0, tokens)),
            1.0,
            np.zeros(tokens, np.float32),
        )
        for r in range(responses)
    ]
    batch = pack(rows, row_length=128, rows_per_microbatch=responses)[0]
    params = parameter_shapes(config)

    def temporaries(chunk: int) -> int:
        loss = LossConfig(logits_chunk=chunk)
        arguments = (
            make_policy(config),
            loss,
            params,
            batch,
            totals_of(rows),
            np.float32(1),
            params,
        )
        return jitted_accumulate().lower(*arguments).compile().memory_analysis().temp_size_in_bytes

    logits = responses * tokens * config.vocab_size * 4
    assert temporaries(64) < 0.35 * logits
    assert temporaries(responses * tokens) > logits


def test_the_decode_loop_needs_little_beside_cache_and_weights():
    config = network(512, num_layers=4, hidden_size=64, ffn_size=256)
    policy = make_policy(config, compute_dtype=jnp.bfloat16)
    weights = jax.eval_shape(policy.publish, parameter_shapes(config))
    batch, rows, length, slots = 4, 8, 64, 128
    whole = (
        jax.ShapeDtypeStruct((batch, length), jnp.int32),
        jax.ShapeDtypeStruct((batch,), jnp.int32),
    )
    bare = (
        jax.ShapeDtypeStruct((batch, rows, 0), jnp.int32),
        jax.ShapeDtypeStruct((batch, rows), jnp.int32),
    )
    ids = jax.ShapeDtypeStruct((batch, rows, 4), jnp.uint32)
    settings = token_sampling(eos_ids=(1,), pad_id=0)
    static = {
        "max_tokens": slots,
        "cache_slots": slots,
        "tail_groups": ((rows, 0),),
        "stacked": False,
    }
    prompts = Prompts(*whole, *bare)
    begun = programs().prefill.eval_shape(
        policy, weights, prompts, jax.random.key(0), ids, settings, **static
    )
    program = (
        programs()
        .decode.lower(weights, begun, settings, np.int32(slots), policy=policy, stacked=False)
        .compile()
    )
    found = program.memory_analysis()
    held = bytes_of(weights) + bytes_of(begun.cache) + bytes_of(begun.context)
    assert found.temp_size_in_bytes <= 1.2 * held
    assert found.alias_size_in_bytes >= bytes_of(begun.cache), "the cache is updated in place"


@pytest.mark.usefixtures("nothing_compiled")
def test_fifty_ragged_steps_compile_few_programs():
    """Prompts, thoughts and responses of every length: shapes come from few buckets, and the last steps add none."""
    team = team_of(dyad(), policy=POLICY, max_tokens=24)
    weights = tuple(markov_params(CODEC.vocab_size, seed, scale=1.5) for seed in range(2))
    packing = PackingConfig(row_length=64, rows_per_microbatch=2)
    update = UpdateConfig(LossConfig(logits_chunk=64), optax.sgd(0.0), packing, skip_silent=False)
    sampling = SamplingParams(decode_chunk=8)
    rng, counts = np.random.default_rng(0), []
    before = num_compiled() + jitted_accumulate()._cache_size()
    for _ in range(50):
        problems = ["".join(rng.choice(list("12+-= "), rng.integers(1, 29))) for _ in range(4)]
        spoken = small_rollout(
            team, weights, problems, ablated=(0,), group_size=2, sampling=sampling
        )
        rows = gather_sequences(
            spoken, rng.normal(size=(2, 4, 2)).astype(np.float32), (1,), range(4)
        )
        params = markov_params(CODEC.vocab_size)
        update_params(POLICY, params, update.optimizer.init(params), [rows], update)
        counts.append(num_compiled() + jitted_accumulate()._cache_size() - before)
    assert counts[-1] <= 20 and counts[-1] - counts[24] <= 2, counts
