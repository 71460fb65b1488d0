"""Rollouts: worlds, sharing, and independence of how rows are batched."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax import prompts as text
from ccpo_jax.draw import sampling
from ccpo_jax.generate import compiled
from ccpo_jax.models import init_params, make_policy
from ccpo_jax.models.decoder import ModelConfig
from ccpo_jax.rollout import Agent, Team, bucket, outcome, rollout
from ccpo_jax.sampler import Prompts, sample
from ccpo_jax.sharding import batch_sharding, make_mesh, replicated
from ccpo_jax.topology import dyad, voting
from tests.stubs import CODEC

ROLES = {
    "thinker": text.RolePrompt("t", "{problem}", "", "?"),
    "solver": text.RolePrompt("s", "{problem}", "\nhint: {message}", "?"),
    "voter": text.RolePrompt("v", "{problem}", "", ""),
}
PROBLEMS = ["1+1", "2+2+2", "what is 9-3", "7", "8-1", "0", "3+4+5", "1=1"]


def small_config(vocab_size=CODEC.vocab_size, layers=2) -> ModelConfig:
    return ModelConfig(
        model_type="qwen2", vocab_size=vocab_size, hidden_size=32, num_layers=layers, num_heads=4, num_kv_heads=2,
        head_dim=8, ffn_size=48, qkv_bias=True, tied_embeddings=True,
    )  # fmt: skip


def small_params(seed: int, config=None):
    """Random parameters, large enough for responses to end at different lengths."""
    params = init_params(config or small_config(), jax.random.key(seed))
    return jax.tree.map(lambda x: 6.0 * x if x.ndim > 1 else x, params)


def team_of(topology, *, shared=False, codec=CODEC, policy=None, max_tokens=12) -> Team:
    policy = policy or make_policy(small_config(), compute_dtype=jnp.float32, remat="none")
    agents = tuple(
        Agent(policy, codec, text.tokenize_role(codec, ROLES[role]), max_tokens, 0 if shared else i)
        for i, role in enumerate(topology.roles)
    )
    return Team(topology, agents, prompt_length=32)


def speak(team, weights, problems=PROBLEMS, **changes):
    return rollout(team, weights, problems, jax.random.key(5), **{"group_size": 3} | changes)


def weights_of(team, count):
    return tuple(team.agents[0].policy.publish(small_params(seed)) for seed in range(count))


def assert_same_tokens(one, other, agent, rows=slice(None)):
    for field in ("tokens", "length", "truncated"):
        mine, theirs = (getattr(r.turns[agent].samples, field)[:, rows] for r in (one, other))
        np.testing.assert_array_equal(mine, theirs)


def test_voting_decodes_nothing_extra():
    team = team_of(voting(3))
    weights = weights_of(team, 3)
    alone, with_worlds = speak(team, weights), speak(team, weights, ablated=(0, 1, 2))
    assert alone.decoded_tokens == with_worlds.decoded_tokens > 0
    assert with_worlds.masks.shape == (4, 3)
    for agent in range(3):
        assert with_worlds.turns[agent].counts == (3,) and with_worlds.turns[agent].variant == (0, 0, 0, 0)


def test_dyad_thinks_once_and_answers_in_both_worlds():
    team = team_of(dyad())
    both = speak(team, weights_of(team, 2), ablated=(0,))
    assert both.turns[0].counts == (3,) and both.turns[1].counts == (3, 3)
    assert both.turns[1].rows(0) == slice(0, 3) and both.turns[1].rows(1) == slice(3, 6)
    joint = speak(team, weights_of(team, 2))
    assert_same_tokens(both, joint, 0)
    assert_same_tokens(both, joint, 1, slice(0, 3))


def test_masked_world_is_solo_sampling_token_for_token():
    team = team_of(dyad())
    weights = weights_of(team, 2)
    both = speak(team, weights, ablated=(0,))
    solver = team.agents[1]
    rows = [text.whole(solver.template, CODEC, problem) for problem in PROBLEMS]
    prefix, length = text.pad_right(rows, max(map(len, rows)), CODEC.pad_id)
    batch = len(PROBLEMS)
    key = jax.random.key(5)
    for part in (1, 1):  # agent 1, variant 1
        key = jax.random.fold_in(key, part)
    keys = jnp.stack([
        jnp.stack([jax.random.fold_in(jax.random.fold_in(key, b), g) for g in range(3)]) for b in range(batch)
    ])  # fmt: skip
    bare = Prompts(prefix, length, np.zeros((batch, 3, 0), np.int32), np.zeros((batch, 3), np.int32))
    settings = sampling(temperature=1.0, eos_ids=CODEC.eos_ids, pad_id=CODEC.pad_id)
    solo = jax.jit(lambda w: sample(solver.policy, w, bare, keys, settings, max_tokens=12))(weights[1])
    np.testing.assert_array_equal(both.turns[1].samples.tokens[:, 3:], solo.tokens)
    np.testing.assert_allclose(both.turns[1].samples.logprobs[:, 3:], solo.logprobs, atol=1e-5)


def test_masking_removes_exactly_the_message_from_the_prompt():
    team = team_of(dyad())
    both = speak(team, weights_of(team, 2), ablated=(0,))
    template, turn = team.agents[1].template, both.turns[1]
    width = turn.prompts.tail.shape[2]
    for b in range(len(PROBLEMS)):
        for g in range(3):
            joint, solo = (list(turn.prompts.tail[b, r, width - turn.prompts.tail_length[b, r] :]) for r in (g, 3 + g))
            segment = CODEC.encode("\nhint: " + both.turns[0].texts[b][g])
            assert joint == segment + solo and solo == text.tail(template, [])


@pytest.mark.parametrize("topology", [dyad(), voting(3)], ids=lambda t: t.name)
def test_fewer_prompts_samples_or_solos_change_no_other_token(topology):
    team = team_of(topology)
    weights = weights_of(team, topology.num_agents)
    whole = speak(team, weights, ablated=topology.ablated, group_size=4)
    fewer = speak(team, weights, PROBLEMS[:3], ablated=topology.ablated, group_size=2, solo_samples=1)
    for agent in range(topology.num_agents):
        few, many = fewer.turns[agent], whole.turns[agent]
        np.testing.assert_array_equal(few.samples.tokens[:, :2], many.samples.tokens[:3, :2])
        if len(few.counts) == 2:
            assert few.counts == (2, 1)
            np.testing.assert_array_equal(few.samples.tokens[:, 2], many.samples.tokens[:3, 4])


@pytest.mark.parametrize("topology", [dyad(), voting(3)], ids=lambda t: t.name)
@pytest.mark.parametrize("rows", [1, 12, 30])
def test_prompts_that_wait_for_others_change_no_token(topology, rows):
    """Prompts begin where others have ended, and their responses go around the end of the cache."""
    team = team_of(topology)
    weights = weights_of(team, topology.num_agents)
    heard, calls = {}, []

    def hear(texts):
        assert not texts.keys() & heard.keys()
        heard.update(texts)
        calls.append(len(texts))

    whole = speak(team, weights, ablated=topology.ablated)
    waited = speak(team, weights, ablated=topology.ablated, rows=rows, chunk=3, heard=hear)
    for agent in range(topology.num_agents):
        assert_same_tokens(whole, waited, agent)
        mine, theirs = (r.turns[agent].samples.logprobs for r in (whole, waited))
        np.testing.assert_allclose(mine, theirs, atol=1e-4)  # large random weights
    assert heard == {b: tuple(x for turn in whole.turns for x in turn.texts[b]) for b in range(len(PROBLEMS))}
    assert len(calls) > 1, "prompts are heard while others still decode"


def test_stacked_agents_sample_what_separate_calls_sample():
    team = team_of(voting(3))
    weights = weights_of(team, 3)
    one, other = (speak(team, weights, stack_agents=stack) for stack in (True, False))
    for agent in range(3):
        assert_same_tokens(one, other, agent)


def test_shared_parameters_equal_three_copies():
    shared, separate = team_of(voting(3), shared=True), team_of(voting(3))
    (weights,) = weights_of(shared, 1)
    one, other = speak(shared, (weights,)), speak(separate, (weights,) * 3)
    for agent in range(3):
        assert_same_tokens(one, other, agent)


@pytest.mark.parametrize("topology", [dyad(), voting(3)], ids=lambda t: t.name)
def test_eight_devices_sample_what_one_samples(topology):
    team = team_of(topology)
    weights = weights_of(team, topology.num_agents)
    mesh = make_mesh()
    one = speak(team, weights, ablated=topology.ablated)
    spread = speak(
        team, jax.device_put(weights, replicated(mesh)), ablated=topology.ablated, sharding=batch_sharding(mesh)
    )
    for agent in range(topology.num_agents):
        assert_same_tokens(one, spread, agent)
        np.testing.assert_allclose(
            one.turns[agent].samples.logprobs,
            spread.turns[agent].samples.logprobs,
            atol=1e-4,  # large random weights
        )


def test_heterogeneous_team_with_two_networks_and_two_tokenizers():
    class Backwards(type(CODEC)):
        """The same letters under other ids."""

        def encode(self, letters):
            return [self.vocab_size + 2 - i for i in super().encode(letters)]

        def decode(self, ids):
            return super().decode([self.vocab_size + 2 - i if i >= 3 else i for i in ids])

    policy = make_policy(small_config(layers=1), compute_dtype=jnp.float32, remat="none")
    codecs = (CODEC, Backwards())
    plain = team_of(dyad())
    mixed = Agent(policy, codecs[1], text.tokenize_role(codecs[1], ROLES["solver"]), 9, 1)
    team = Team(dyad(), (plain.agents[0], mixed), 32)
    weights = (weights_of(plain, 1)[0], policy.publish(small_params(1, small_config(layers=1))))
    spoken = speak(team, weights, ablated=(0,))
    assert spoken.turns[1].samples.tokens.shape[-1] == 9
    message = spoken.turns[0].texts[0][0]
    row = spoken.turns[1].prompts.tail[0, 0, -spoken.turns[1].prompts.tail_length[0, 0] :]
    assert codecs[1].decode(row) == f"\nhint: {message}?"


def test_varying_texts_reuse_a_few_compiled_shapes():
    team = team_of(dyad())
    weights = weights_of(team, 2)
    before = compiled()
    for step in range(12):
        problems = ["+".join("123456"[: 1 + (step + i) % 6]) for i in range(4)]
        rollout(team, weights, problems, jax.random.key(step), group_size=2, ablated=(0,))
    assert compiled() - before <= 12  # two programs a shape: begin and advance


def test_prompt_beyond_the_limit_says_what_to_type():
    team = team_of(voting(3))
    with pytest.raises(
        ValueError, match="prompt_length: .* takes 43 tokens, the limit is 32; type --config.prompt_length=43"
    ):
        speak(team, weights_of(team, 3), ["1" * 40])


def test_stages_follow_who_reads_whom():
    assert team_of(dyad()).stages == ((0,), (1,))
    assert team_of(voting(3)).stages == ((0, 1, 2),)


def test_outcome_places_verdicts_in_their_worlds():
    team = team_of(dyad())
    spoken = speak(team, weights_of(team, 2), ablated=(0,), solo_samples=2)
    batch = len(PROBLEMS)
    right = np.random.default_rng(0).integers(0, 2, (batch, 5)).astype(np.float32)
    cut = np.asarray(spoken.turns[1].samples.truncated)
    found = outcome(
        team.topology, spoken, [np.zeros((batch, 3)), right], [np.full((batch, 3), -1), np.zeros((batch, 5))]
    )
    expected = np.where(cut, 0.0, right)
    np.testing.assert_array_equal(found.reward[0], expected[:, :3])
    np.testing.assert_allclose(found.reward[1], np.repeat(expected[:, 3:].mean(1, keepdims=True), 3, 1))
    assert found.correct.shape == (2, batch, 3, 2)


def test_truncated_answers_are_wrong_and_abstain():
    team = team_of(voting(3), max_tokens=3)
    spoken = speak(team, weights_of(team, 3), ablated=(0, 1, 2))
    ones = [np.ones((len(PROBLEMS), 3))] * 3
    found = outcome(team.topology, spoken, ones, [np.zeros((len(PROBLEMS), 3), np.int32)] * 3)
    cut = np.stack([turn.samples.truncated for turn in spoken.turns], -1)
    assert 0 < cut.mean() < 1
    np.testing.assert_array_equal(found.correct[0], ~cut)
    np.testing.assert_array_equal(found.answer_id[0], np.where(cut, -1, 0))
    np.testing.assert_array_equal(found.reward[0], ~cut.all(-1))


def test_buckets_round_up_by_at_most_a_third_and_are_few():
    sizes = [bucket(n, 10_000) for n in range(1, 4096)]
    assert all(size >= n and size <= max(n + 1, 1.5 * n) for n, size in zip(range(1, 4096), sizes, strict=True))
    assert len(set(sizes)) <= 24
