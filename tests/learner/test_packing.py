"""Packing: every token once, little padding, and a network that cannot tell packed from separate sequences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax.learner.logprobs import response_logprobs
from ccpo_jax.learner.packing import TrainSequence, pack
from ccpo_jax.models import ModelConfig, init_params, make_policy
from ccpo_jax.models.decoder import Decoder, policy_of
from ccpo_jax.models.rope import YarnScaling

V = 37


def rows_of(groups=5, samples=6, seed=0, longest=24) -> list[TrainSequence]:
    rng = np.random.default_rng(seed)
    rows = []
    for group in range(groups):
        prefix = rng.integers(0, V, rng.integers(1, 20)).astype(np.int32)
        for _ in range(samples):
            tail = rng.integers(0, V, rng.integers(0, 6)).astype(np.int32)
            response = rng.integers(0, V, rng.integers(1, longest + 1)).astype(np.int32)
            old = rng.normal(size=len(response)).astype(np.float32)
            rows.append(TrainSequence(group, prefix, tail, response, float(rng.normal()), old))
    return rows


def content(row: TrainSequence) -> tuple:
    whole = np.concatenate([row.prefix, row.tail, row.response])
    return (
        *whole.tolist(),
        -1,
        len(row.response),
        round(row.advantage, 5),
        *np.round(row.old_logprobs, 5).tolist(),
    )


def unpack(batches) -> list[tuple]:
    """What a reader of the packed arrays alone would say the rows were."""
    found = []
    for batch in batches:
        for m in range(len(batch.tokens)):
            for r in np.flatnonzero(batch.length[m]):
                k = slice(batch.first[m, r], batch.first[m, r] + batch.length[m, r])
                last = batch.source[m, k][-1] + 1 if batch.length[m, r] > 1 else None
                own = batch.segments[m, last] if last is not None else None
                if own is None:  # one token: its segment is found by its value and place
                    slots = [
                        s
                        for s in range(batch.source[m, k][0] + 1, batch.tokens.shape[1])
                        if batch.tokens[m, s] == batch.target[m, k][0]
                        and batch.parents[m, s]
                        in (
                            batch.segments[m, batch.source[m, k][0]],
                            batch.parents[m, batch.source[m, k][0]],
                        )
                    ]
                    own = batch.segments[m, slots[0]]
                parent = batch.parents[m, np.flatnonzero(batch.segments[m] == own)[0]]
                whole = np.concatenate(
                    [batch.tokens[m, batch.segments[m] == s] for s in (parent, own)]
                )
                places = np.concatenate(
                    [batch.positions[m, batch.segments[m] == s] for s in (parent, own)]
                )
                np.testing.assert_array_equal(places, np.arange(len(whole)))
                size = int(batch.length[m, r])
                np.testing.assert_array_equal(whole[-size:], batch.target[m, k])
                old = np.round(batch.old_logprobs[m, r, :size], 5).tolist()
                found.append(
                    (*whole.tolist(), -1, size, round(float(batch.advantage[m, r]), 5), *old)
                )
    return found


def test_every_token_keeps_an_advantage_of_its_own():
    rng = np.random.default_rng(1)
    rows = [row._replace(advantage=rng.normal(size=len(row.response))) for row in rows_of()]
    expected = {row.old_logprobs.tobytes(): np.float32(row.advantage) for row in rows}
    for batch in pack(rows, row_length=64, rows_per_microbatch=3):
        assert batch.advantage.shape == batch.old_logprobs.shape
        for m, r in zip(*np.nonzero(batch.length), strict=True):
            size = batch.length[m, r]
            own = expected.pop(batch.old_logprobs[m, r, :size].tobytes())
            np.testing.assert_array_equal(batch.advantage[m, r, :size], own)
            assert not batch.advantage[m, r, size:].any()
    assert not expected


@pytest.mark.parametrize("length,size", [(16, 4), (64, 3), (256, 2), (4096, 8)])
def test_every_row_is_packed_once(length, size):
    rows = rows_of(longest=24)
    rows = [row for row in rows if len(row.response) > 1]
    assert sorted(unpack(pack(rows, row_length=length, rows_per_microbatch=size))) == sorted(
        map(content, rows)
    )


RAGGED = {  # prompts, samples, prompt lengths, mean and longest response, slots of a packed row, rows of a micro-batch,
    # and what is left of the tokens at most where a prompt stands once for its samples
    "defaults": (16, 8, (128, 512), 256, 1024, 2048, 8, 0.68),
    "short": (32, 8, (20, 120), 64, 256, 1024, 8, 0.65),
    "tiny": (16, 8, (4, 16), 8, 32, 128, 4, 0.68),
}


@pytest.mark.parametrize(
    "prompts,samples,prompt,mean,longest,length,size,left", RAGGED.values(), ids=RAGGED
)
def test_padding_is_small_on_ragged_responses(
    prompts, samples, prompt, mean, longest, length, size, left
):
    """Stop lengths with a mean of a quarter of the longest, as in training: over 30 batches, and no batch far off."""
    shares = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        rows = []
        for group in range(prompts):
            prefix = np.zeros(int(rng.integers(*prompt)), np.int32)
            for _ in range(samples):
                response = np.zeros(int(min(1 + rng.exponential(mean), longest)), np.int32)
                rows.append(
                    TrainSequence(
                        group,
                        prefix,
                        response[:0],
                        response,
                        1.0,
                        np.zeros(len(response), np.float32),
                    )
                )
        batches = pack(rows, row_length=length, rows_per_microbatch=size)
        filled = sum(int((batch.segments > 0).sum()) for batch in batches)
        shares.append(1 - filled / sum(batch.tokens.size for batch in batches))
        assert filled < left * sum(len(row.prefix) + len(row.response) for row in rows)
    assert np.mean(shares) < 0.08 and max(shares) < 0.15


def test_shapes_are_few_and_divide_over_devices():
    shapes = set()
    for seed in range(50):
        for batch in pack(rows_of(seed=seed), row_length=64, rows_per_microbatch=8, multiple=2):
            shapes.add(tuple(field.shape for field in jax.tree.leaves(batch)))
    assert {tokens[0] for tokens, *_ in shapes} == {2, 8}
    assert len(shapes) <= 8


@pytest.mark.parametrize(
    "size,multiple,expected",
    [(8, 1, [8] + [1] * 5), (8, 4, [8, 8]), (3, 2, [4, 4, 4, 2]), (5, 1, [5, 5, 1, 1, 1])],
)
def test_rows_left_over_are_micro_batches_of_their_own(size, multiple, expected):
    one = np.zeros(8, np.int32)
    rows = [
        TrainSequence(group, one, one[:0], one, 1.0, one.astype(np.float32)) for group in range(13)
    ]
    assert [
        len(batch.tokens)
        for batch in pack(rows, row_length=16, rows_per_microbatch=size, multiple=multiple)
    ] == expected


def test_nothing_to_pack():
    assert pack([], row_length=8, rows_per_microbatch=2) == []


WINDOWS = {  # a sliding layer and one that sees everything, as Olmo 3 has them
    "qk_norm_whole": True, "post_norm": True, "window": 5, "sliding": (True, False),
    "rope_scaling": YarnScaling(4.0, 8, 1.2, 2.0, 0.1),
}  # fmt: skip


@pytest.mark.parametrize("block,options", [(24, WINDOWS), (1000, {})], ids=["blocks", "whole"])
def test_a_network_cannot_tell_packed_from_separate(block, options):
    config = ModelConfig("qwen3", V, 16, 2, 4, 2, 8, 24, qk_norm=True, rope_theta=100.0, **options)
    policy = make_policy(config, remat="none")
    by_blocks = policy_of(
        Decoder(config, jnp.dtype("float32"), "none", None, None, None, query_block=block)
    )
    params = jax.tree.map(
        lambda x: x * 4 if x.ndim > 1 else x, init_params(config, jax.random.key(0))
    )
    rows = rows_of(3, 4, seed=3)

    def packed(params):
        total = jnp.float32(0)
        for batch in pack(rows, row_length=64, rows_per_microbatch=2):
            logprobs, _ = response_logprobs(
                by_blocks, params, batch, jnp.float32(1), logits_chunk=10
            )
            mask = jnp.arange(logprobs.shape[1]) < batch.length.reshape(-1, 1)
            total += jnp.sum(jnp.where(mask, logprobs, 0).sum(1) * batch.advantage.reshape(-1))
        return total

    tokens = [np.concatenate([row.prefix, row.tail, row.response]) for row in rows]
    alone = np.stack([np.pad(t, (0, 64 - len(t))) for t in tokens])
    real = (np.arange(64) < np.array([len(t) for t in tokens])[:, None]).astype(np.int32)

    def separate(params):
        hidden = policy.hidden(
            params, alone, np.broadcast_to(np.arange(64), alone.shape), real, real
        )
        scores = jax.nn.log_softmax(policy.logits(params, hidden))
        total = jnp.float32(0)
        for n, row in enumerate(rows):
            first = len(tokens[n]) - len(row.response)
            total += (
                row.advantage * scores[n, np.arange(first, len(tokens[n])) - 1, row.response].sum()
            )
        return total

    other, expected = jax.jit(jax.value_and_grad(separate))(params)
    one, grads = jax.jit(jax.value_and_grad(packed))(params)
    np.testing.assert_allclose(one, other, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4 * float(jnp.abs(b).max() + 1)),
        grads,
        expected,
    )
