"""Rollouts: worlds, sharing, and independence of how rows are batched."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax.devices.sharding import batch_sharding, make_mesh, replicated
from ccpo_jax.learner.packing import gather_sequences
from ccpo_jax.reasoning import Reply
from ccpo_jax.rl.topology import (
    agent_masks,
    all_subsets,
    chain,
    debate,
    dyad,
    graph,
    texts_per_sample,
    variants,
    voting,
)
from ccpo_jax.rl.types import Samples
from ccpo_jax.rollout import Agent, Rollout, Team, Turn, bucket, collect, outcome, rollout
from ccpo_jax.rollout import prompts as text
from ccpo_jax.rollout.padding import pad_right
from ccpo_jax.sampler import SamplingParams
from ccpo_jax.sampler.decode_loop import Prompts, sample
from ccpo_jax.sampler.generate import num_compiled
from ccpo_jax.sampler.token_sampling import token_sampling
from ccpo_jax.train.step import turn_advantages
from tests.support.errors import raises_for
from tests.support.stubs import CODEC, POLICY, markov_params
from tests.support.teams import (
    PROBLEMS,
    ROLES,
    prompt_text,
    small_config,
    small_params,
    small_policy,
    small_rollout,
    team_of,
    weights_of,
)


def assert_same_tokens(one, other, agent, rows=slice(None)):
    for field in ("tokens", "length", "truncated"):
        one_value, other_value = (
            getattr(r.turns[agent].samples, field)[:, rows] for r in (one, other)
        )
        np.testing.assert_array_equal(one_value, other_value)


def test_voting_decodes_nothing_extra():
    team = team_of(voting(3))
    weights = weights_of(team, 3)
    alone, with_worlds = (
        small_rollout(team, weights),
        small_rollout(team, weights, ablated=(0, 1, 2)),
    )
    assert alone.decoded_tokens == with_worlds.decoded_tokens > 0
    assert with_worlds.masks.shape == (4, 3)
    for agent in range(3):
        assert with_worlds.turns[agent].samples_per_variant == (3,) and with_worlds.turns[
            agent
        ].variant_of_world == (
            0,
            0,
            0,
            0,
        )


def test_dyad_thinks_once_and_answers_in_both_worlds():
    team = team_of(dyad())
    both = small_rollout(team, weights_of(team, 2), ablated=(0,))
    assert both.turns[0].samples_per_variant == (3,) and both.turns[1].samples_per_variant == (3, 3)
    assert both.turns[1].rows(0) == slice(0, 3) and both.turns[1].rows(1) == slice(3, 6)
    joint = small_rollout(team, weights_of(team, 2))
    assert_same_tokens(both, joint, 0)
    assert_same_tokens(both, joint, 1, slice(0, 3))


def test_masked_world_is_solo_sampling_token_for_token():
    team = team_of(dyad())
    weights = weights_of(team, 2)
    both = small_rollout(team, weights, ablated=(0,))
    solver = team.agents[1]
    rows = [text.whole(solver.template, CODEC, problem) for problem in PROBLEMS]
    prefix, length = pad_right(rows, max(map(len, rows)), CODEC.pad_id)
    batch = len(PROBLEMS)
    key = jax.random.key(5)
    for part in (1, 1):  # agent 1, variant 1
        key = jax.random.fold_in(key, part)
    keys = jnp.stack(
        [
            jnp.stack([jax.random.fold_in(jax.random.fold_in(key, b), g) for g in range(3)])
            for b in range(batch)
        ]
    )
    bare = Prompts(
        prefix, length, np.zeros((batch, 3, 0), np.int32), np.zeros((batch, 3), np.int32)
    )
    settings = token_sampling(eos_ids=CODEC.eos_ids, pad_id=CODEC.pad_id)
    solo = jax.jit(lambda w: sample(solver.policy, w, bare, keys, settings, max_tokens=12))(
        weights[1]
    )
    np.testing.assert_array_equal(both.turns[1].samples.tokens[:, 3:], solo.tokens)
    np.testing.assert_allclose(both.turns[1].samples.logprobs[:, 3:], solo.logprobs, atol=1e-5)


def test_masking_removes_exactly_the_message_from_the_prompt():
    team = team_of(dyad())
    both = small_rollout(team, weights_of(team, 2), ablated=(0,))
    template, turn = team.agents[1].template, both.turns[1]
    width = turn.prompts.tail.shape[2]
    for b in range(len(PROBLEMS)):
        for g in range(3):
            joint, solo = (
                list(turn.prompts.tail[b, r, width - turn.prompts.tail_length[b, r] :])
                for r in (g, 3 + g)
            )
            segment = CODEC.encode("\nhint: " + both.turns[0].texts[b][g])
            assert joint == segment + solo and solo == text.tail(template, [])


def test_each_agent_reads_its_own_view_of_a_problem():
    team = team_of(chain(3), policy=POLICY, shared=True, max_tokens=4)
    views = ("1+1", "1+?", "?")
    team_rollout = small_rollout(
        team, (markov_params(CODEC.vocab_size),), [views, "7"], group_size=1
    )
    for agent, turn in enumerate(team_rollout.turns):
        read = [
            list(ids[:length])
            for ids, length in zip(turn.prompts.prefix, turn.prompts.prefix_length, strict=True)
        ]
        begin = text.prefix if team.agents[agent].reads_messages else text.whole
        assert read == [
            begin(team.agents[agent].template, CODEC, problem) for problem in (views[agent], "7")
        ]


@pytest.mark.parametrize("topology", [dyad(), voting(3)], ids=lambda t: t.name)
def test_fewer_prompts_samples_or_solos_change_no_other_token(topology):
    team = team_of(topology)
    weights = weights_of(team, topology.num_agents)
    whole = small_rollout(team, weights, ablated=topology.ablated, group_size=4)
    fewer = small_rollout(
        team, weights, PROBLEMS[:3], ablated=topology.ablated, group_size=2, masked_samples=1
    )
    for agent in range(topology.num_agents):
        few, many = fewer.turns[agent], whole.turns[agent]
        np.testing.assert_array_equal(few.samples.tokens[:, :2], many.samples.tokens[:3, :2])
        if len(few.samples_per_variant) == 2:
            assert few.samples_per_variant == (2, 1)
            np.testing.assert_array_equal(few.samples.tokens[:, 2], many.samples.tokens[:3, 4])


@pytest.mark.parametrize(
    "topology,rows", [(dyad(), 12), (voting(3), 1), (voting(3), 30)], ids=["dyad", "1", "30"]
)
def test_prompts_that_wait_for_others_change_no_token(topology, rows):
    """Prompts begin where others have ended, and their responses go around the end of the cache."""
    team = team_of(topology)
    weights = weights_of(team, topology.num_agents)
    received, calls = {}, []

    def hear(texts):
        assert not texts.keys() & received.keys()
        received.update(texts)
        calls.append(len(texts))

    sampling = SamplingParams(decode_chunk=3, max_concurrent=rows)
    whole = small_rollout(team, weights, ablated=topology.ablated)
    waited = small_rollout(
        team, weights, ablated=topology.ablated, sampling=sampling, on_prompt_done=hear
    )
    for agent in range(topology.num_agents):
        assert_same_tokens(whole, waited, agent)
        one_value, other_value = (r.turns[agent].samples.logprobs for r in (whole, waited))
        np.testing.assert_allclose(one_value, other_value, atol=1e-4)  # large random weights
    assert received == {
        b: tuple(x for turn in whole.turns for x in turn.texts[b]) for b in range(len(PROBLEMS))
    }
    assert len(calls) > 1, "prompts arrive while others still decode"


def test_stacked_agents_sample_what_separate_calls_sample():
    team = team_of(voting(3))
    weights = weights_of(team, 3)
    alone = tuple(  # networks that compare unequal are never stacked
        dataclasses.replace(agent, policy=agent.policy._replace(head=lambda params: {}))
        for agent in team.agents
    )
    separate = dataclasses.replace(team, agents=alone)
    assert len({agent.policy for agent in separate.agents}) == 3
    one, other = small_rollout(team, weights), small_rollout(separate, weights)
    for agent in range(3):
        assert_same_tokens(one, other, agent)


def test_shared_parameters_equal_three_copies():
    shared, separate = team_of(voting(3), shared=True), team_of(voting(3))
    (weights,) = weights_of(shared, 1)
    one, other = small_rollout(shared, (weights,)), small_rollout(separate, (weights,) * 3)
    for agent in range(3):
        assert_same_tokens(one, other, agent)


@pytest.mark.parametrize("topology", [dyad(), voting(3)], ids=lambda t: t.name)
def test_eight_devices_sample_what_one_samples(topology):
    team = team_of(topology)
    weights = weights_of(team, topology.num_agents)
    mesh = make_mesh()
    one = small_rollout(team, weights, ablated=topology.ablated)
    spread = small_rollout(
        team,
        jax.device_put(weights, replicated(mesh)),
        ablated=topology.ablated,
        sampling=SamplingParams(sharding=batch_sharding(mesh)),
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

    policy = small_policy()
    codecs = (CODEC, Backwards())
    plain = team_of(dyad())
    mixed = Agent(policy, codecs[1], text.tokenize_role(codecs[1], ROLES["solver"]), 9, 1)
    team = Team(dyad(), (plain.agents[0], mixed), 32)
    weights = (weights_of(plain, 1)[0], policy.publish(small_params(1, small_config())))
    team_rollout = small_rollout(team, weights, ablated=(0,))
    assert team_rollout.turns[1].samples.tokens.shape[-1] == 9
    message = team_rollout.turns[0].texts[0][0]
    row = team_rollout.turns[1].prompts.tail[
        0, 0, -team_rollout.turns[1].prompts.tail_length[0, 0] :
    ]
    assert codecs[1].decode(row) == f"\nhint: {message}?"


@pytest.mark.usefixtures("nothing_compiled")
def test_varying_texts_reuse_a_few_compiled_shapes():
    team = team_of(dyad())
    weights = weights_of(team, 2)
    before = num_compiled()
    for step in range(12):
        problems = ["+".join("123456"[: 1 + (step + i) % 6]) for i in range(4)]
        rollout(team, weights, problems, jax.random.key(step), group_size=2, ablated=(0,))
    assert num_compiled() - before <= 12  # two programs a shape: begin and advance


def test_prompt_beyond_the_limit_says_what_to_type():
    team = team_of(voting(3))
    with raises_for("prompt_length") as error:
        small_rollout(team, weights_of(team, 3), ["1" * 40])
    assert "--config.prompt_length=43" in str(error.value)


# General graphs, in all worlds at once. Where only prompts matter, a network that costs nothing
# samples.

REVIEW = graph(
    "planner solver(0) solver(0) checker(1,2) planner@0 solver@1(3,4)"
)  # two agents small_rollout twice
GRAPHS = [chain(3), debate(3), REVIEW]
every_graph = pytest.mark.parametrize("topology", GRAPHS, ids=lambda t: f"{t.name}-{len(t.roles)}")


@functools.cache
def chatter(topology, ablated):
    """A rollout by the network in which the next letter depends on the last one alone."""
    team = team_of(topology, policy=POLICY, shared=True, max_tokens=6)
    weights = (markov_params(CODEC.vocab_size),)
    return rollout(team, weights, PROBLEMS[:3], jax.random.key(5), group_size=2, ablated=ablated)


def words_of(topology, index, messages: dict[int, str], problem: str) -> str:
    """The prompt of a turn that has read `messages`, put together from the role's words alone."""
    role = ROLES[topology.roles[index]]
    prompt = role.system + problem
    for partner in topology.reads[index]:
        if partner in messages:
            own = topology.speakers[partner] == topology.speakers[index]
            words = role.message
            if not isinstance(words, str):
                name = "own" if own else topology.roles[partner]
                words = words.get(name, words[""])
            prompt += words.replace("{message}", messages[partner])
    return prompt + role.closing


@every_graph
def test_a_masked_agent_vanishes_from_every_prompt_of_every_world(topology):
    team_rollout = chatter(topology, all_subsets(topology.num_agents))
    seen = set()
    for world, mask in enumerate(team_rollout.masks):
        for index, speaker in enumerate(topology.speakers):
            turn = team_rollout.turns[index]
            if not mask[speaker]:
                continue
            for b in range(3):
                for g in range(2):
                    messages = {
                        partner: team_rollout.turns[partner].texts[b][
                            team_rollout.turns[partner].rows(world).start + g
                        ]
                        for partner in topology.reads[index]
                        if mask[topology.speakers[partner]]
                    }
                    expected = words_of(topology, index, messages, PROBLEMS[b])
                    assert prompt_text(turn, b, turn.rows(world).start + g) == expected
                    seen.add(expected)
    assert len(seen) > 20


@every_graph
def test_what_no_mask_reaches_is_decoded_once(topology):
    alone, team_rollout = chatter(topology, ()), chatter(topology, all_subsets(topology.num_agents))
    decoded = sum(turn.samples.tokens.shape[1] for turn in team_rollout.turns)
    assert decoded == 2 * texts_per_sample(topology, team_rollout.masks) > 2 * len(topology.roles)
    for index, (turn, factual) in enumerate(zip(team_rollout.turns, alone.turns, strict=True)):
        assert turn.samples_per_variant[0] == 2 and factual.samples_per_variant == (2,)
        np.testing.assert_array_equal(turn.samples.tokens[:, :2], factual.samples.tokens)
        if not topology.reads[index]:
            assert turn.samples_per_variant == (2,)


def without(topology, masked):
    """The graph as if the masked agents had never been in it, and which of its turns are left."""
    kept = [t for t, speaker in enumerate(topology.speakers) if speaker not in masked]
    agents = sorted({topology.speakers[t] for t in kept})
    line = [
        f"{topology.roles[t]}@{agents.index(topology.speakers[t])}"
        f"({','.join(str(kept.index(p)) for p in topology.reads[t] if p in kept)})"
        for t in kept
    ]
    return graph(" ".join(line), decision=topology.decision), kept


def test_a_removal_world_is_the_smaller_team():
    """Greedy, by a network that reads everything: the same words as a team that never had the
    masked agent."""
    policy = small_policy()
    weights = (policy.publish(small_params(0, small_config())),)
    how = {"group_size": 1, "sampling": SamplingParams(temperature=0.0)}
    team = team_of(debate(3), shared=True, policy=policy)
    team_rollout = small_rollout(team, weights, PROBLEMS[:4], ablated=(1,), **how)
    smaller, kept = without(debate(3), (1,))
    fewer = small_rollout(
        team_of(smaller, shared=True, policy=policy), weights, PROBLEMS[:4], **how
    )
    changed = 0
    for turn, old in zip(fewer.turns, kept, strict=True):
        whole = team_rollout.turns[old]
        there = [texts[whole.rows(1).start] for texts in whole.texts]
        assert there == [texts[0] for texts in turn.texts]
        changed += there != [texts[0] for texts in whole.texts]
    assert changed, "the mask changes the texts"


def bare_rollout(topology, group, masked_samples, rng) -> Rollout:
    """A rollout of which only the shape, what was cut short and how likely it was are known."""
    masks, turns = agent_masks(topology.num_agents, all_subsets(topology.num_agents)), []
    for index in range(len(topology.roles)):
        worlds, variant = variants(topology, index, masks)
        counts = (group,) + (masked_samples or group,) * (len(worlds) - 1)
        cut = rng.random((3, sum(counts))) < 0.1
        prompts = Prompts(np.zeros((3, 1), np.int32), *[None] * 3)
        logprobs, length = -rng.random((*cut.shape, 3)), rng.integers(1, 4, cut.shape)
        turns.append(Turn(prompts, Samples(None, logprobs, length, cut), [], variant, counts))
    return Rollout(tuple(turns), masks)


@pytest.mark.parametrize("masked_samples", [None, 1, 3, 5])
@every_graph
def test_outcomes_of_graphs_by_hand(topology, masked_samples):
    """Rewards of every world from the verdicts on the texts of those who are there, sample by
    sample."""
    rng = np.random.default_rng(0)
    team_rollout = bare_rollout(topology, 3, masked_samples, rng)
    labels = [rng.integers(-1, 3, turn.samples.length.shape) for turn in team_rollout.turns]
    result = outcome(topology, team_rollout, [label == 0 for label in labels], labels)
    for world, mask in enumerate(team_rollout.masks):
        finals = [
            (agent, team_rollout.turns[t], labels[t])
            for agent, t in enumerate(topology.final_turns)
            if mask[agent]
        ]
        again = any(turn.variant_of_world[world] for _, turn, _ in finals)
        count = (masked_samples or 3) if again else 3
        for b in range(3):
            rewards, right = [], np.zeros((count, topology.num_agents))
            for s in range(count):
                answers = {}
                for agent, turn, label in finals:
                    rows = turn.rows(world)
                    row = rows.start + s % (rows.stop - rows.start)
                    answers[agent] = -1 if turn.samples.truncated[b, row] else label[b, row]
                    right[s, agent] = answers[agent] == 0
                votes = [answer for answer in answers.values() if answer >= 0]
                if topology.decision == "last":
                    last = max(answers, key=lambda agent: topology.final_turns[agent], default=None)
                    rewards.append(float(bool(answers) and answers[last] == 0))
                else:
                    top = max(map(votes.count, votes), default=0)
                    winners = {answer for answer in votes if votes.count(answer) == top}
                    rewards.append(1 / len(winners) if 0 in winners else 0.0)
            expected = rewards if count == 3 else [np.mean(rewards)] * 3
            np.testing.assert_allclose(result.reward[world, b], expected, atol=1e-6)
            there = (
                right if count == 3 else np.broadcast_to(right.mean(0), (3, topology.num_agents))
            )
            np.testing.assert_allclose(result.correct[world, b][:, mask], there[:, mask], atol=1e-6)
    for agent, b, g in np.ndindex(
        result.surprisal.shape
    ):  # the messages of the factual world, in all of one's turns
        mine = [
            turn
            for turn, speaker in zip(team_rollout.turns, topology.speakers, strict=True)
            if speaker == agent
        ]
        expected = -sum(
            turn.samples.logprobs[b, g, : turn.samples.length[b, g]].sum() for turn in mine
        )
        np.testing.assert_allclose(result.surprisal[agent, b, g], expected, rtol=1e-5)


def test_graphs_decode_the_same_where_prompts_wait_for_others():
    whole = chatter(debate(3), all_subsets(3))
    team, weights = (
        team_of(debate(3), policy=POLICY, max_tokens=6),
        (markov_params(CODEC.vocab_size),) * 3,
    )
    sampling = SamplingParams(decode_chunk=3, max_concurrent=6)
    how = {"group_size": 2, "ablated": all_subsets(3), "sampling": sampling}
    other = rollout(team, weights, PROBLEMS[:3], jax.random.key(5), **how)
    for turn in range(6):
        assert_same_tokens(whole, other, turn)


# Several answers per text


def test_answers_to_one_text_are_rows_behind_one_prefix():
    """Two plans, three solutions to each, three checks of each solution, beside solo answers to a
    hidden plan."""
    topology = chain(3)
    team = team_of(topology, policy=POLICY, shared=True, max_tokens=6)
    weights = (markov_params(CODEC.vocab_size),)
    how = {"group_size": 2, "answers_per_text": 3, "ablated": (0,), "masked_samples": 4}
    team_rollout = rollout(team, weights, PROBLEMS[:2], jax.random.key(5), **how)
    assert [turn.samples_per_variant for turn in team_rollout.turns] == [(2,), (6, 4), (18, 4)]
    assert team_rollout.decoded_tokens == sum(
        turn.samples.length.sum() for turn in team_rollout.turns
    )
    for index, turn in enumerate(team_rollout.turns):
        assert turn.prompts.prefix.shape[0] == 2  # one prefix a problem, whatever its rows
        for b in range(2):
            for row in range(turn.samples_per_variant[0]):
                messages = {
                    p: team_rollout.turns[p].texts[b][row // 3 ** (index - p)]
                    for p in topology.reads[index]
                }
                assert prompt_text(turn, b, row) == words_of(topology, index, messages, PROBLEMS[b])
    last = team_rollout.turns[2]
    for b in range(2):
        for s in range(4):
            messages = {1: team_rollout.turns[1].texts[b][6 + s]}
            assert prompt_text(last, b, 18 + s) == words_of(topology, 2, messages, PROBLEMS[b])
    assert len({tuple(row) for row in last.samples.tokens[0, :3].tolist()}) > 1, (
        "answers to one text differ"
    )


def test_answers_need_a_chain():
    with raises_for("answers_per_text"):
        rollout(
            team_of(debate(3), policy=POLICY),
            (),
            PROBLEMS,
            jax.random.key(0),
            group_size=2,
            answers_per_text=2,
        )


def test_outcomes_and_training_rows_of_nested_answers_by_hand():
    """A sample of the team is one path from a thought to an answer; a text is trained once, with
    its paths' advantage."""
    rng = np.random.default_rng(0)
    masks = agent_masks(2, (0,))
    turns = []
    for counts, variant in (((3,), (0, 0)), ((6, 2), (0, 1))):
        shape = (2, sum(counts))
        prompts = Prompts(
            np.ones((2, 1), np.int32),
            np.ones(2, int),
            np.zeros((*shape, 0), np.int32),
            np.zeros(shape, int),
        )
        tokens = rng.integers(0, 9, (*shape, 1))
        logprobs = -rng.random((*shape, 1)).astype(np.float32)
        samples = Samples(tokens, logprobs, np.ones(shape, int), rng.random(shape) < 0.2)
        turns.append(Turn(prompts, samples, [], variant, counts))
    team_rollout = Rollout(tuple(turns), masks)
    labels = [rng.integers(-1, 2, turn.samples.length.shape) for turn in turns]
    result = outcome(dyad(), team_rollout, [label == 0 for label in labels], labels)
    right = [
        np.where(turn.samples.truncated, 0, label == 0)
        for turn, label in zip(turns, labels, strict=True)
    ]
    np.testing.assert_array_equal(result.reward[0], right[1][:, :6])
    np.testing.assert_array_equal(result.correct[0, ..., 0], right[0].repeat(2, 1))
    np.testing.assert_allclose(
        result.reward[1], right[1][:, 6:].mean(1, keepdims=True).repeat(6, 1)
    )
    np.testing.assert_allclose(result.surprisal[0], -turns[0].samples.logprobs[..., 0].repeat(2, 1))
    np.testing.assert_allclose(result.surprisal[1], -turns[1].samples.logprobs[:, :6, 0])
    advantage = np.stack(
        [np.arange(6.0).reshape(1, 6).repeat(2, 0) // 2, np.arange(12.0).reshape(2, 6)]
    )
    thoughts, answers = (
        gather_sequences(team_rollout, advantage, [turn], range(2)) for turn in (0, 1)
    )
    assert [row.advantage for row in thoughts] == [0, 1, 2, 0, 1, 2]
    assert [row.advantage for row in answers] == list(range(12))
    assert [int(row.response[0]) for row in thoughts] == turns[0].samples.tokens.ravel().tolist()
    both = turn_advantages(team_rollout, np.ones((2, 2, 6)), (0, 1), (0, 1))
    assert (
        both[0, 0, 0] * 3 == both[1, 0, 0] * 6 == 4.5
    )  # one set of parameters: thoughts and answers weigh the same
    np.testing.assert_array_equal(
        turn_advantages(team_rollout, advantage, (0, 1), (1,))[1], advantage[1]
    )


def test_stages_follow_who_reads_whom():
    assert team_of(dyad()).stages == ((0,), (1,))
    assert team_of(voting(3)).stages == ((0, 1, 2),)
    assert team_of(debate(3)).stages == ((0, 1, 2), (3, 4, 5))
    assert team_of(graph()).stages == ((0,), (1, 2), (3,))


def test_outcome_places_verdicts_in_their_worlds():
    team = team_of(dyad())
    team_rollout = small_rollout(team, weights_of(team, 2), ablated=(0,), masked_samples=2)
    batch = len(PROBLEMS)
    right = np.random.default_rng(0).integers(0, 2, (batch, 5)).astype(np.float32)
    cut = np.asarray(team_rollout.turns[1].samples.truncated)
    result = outcome(
        team.topology,
        team_rollout,
        [np.zeros((batch, 3)), right],
        [np.full((batch, 3), -1), np.zeros((batch, 5))],
    )
    expected = np.where(cut, 0.0, right)
    np.testing.assert_array_equal(result.reward[0], expected[:, :3])
    np.testing.assert_allclose(
        result.reward[1], np.repeat(expected[:, 3:].mean(1, keepdims=True), 3, 1)
    )
    assert result.correct.shape == (2, batch, 3, 2)


def test_truncated_answers_are_wrong_and_abstain():
    team = team_of(voting(3), max_tokens=3)
    team_rollout = small_rollout(team, weights_of(team, 3), ablated=(0, 1, 2))
    ones = [np.ones((len(PROBLEMS), 3))] * 3
    result = outcome(
        team.topology, team_rollout, ones, [np.zeros((len(PROBLEMS), 3), np.int32)] * 3
    )
    cut = np.stack([turn.samples.truncated for turn in team_rollout.turns], -1)
    assert 0 < cut.mean() < 1
    np.testing.assert_array_equal(result.correct[0], ~cut)
    np.testing.assert_array_equal(result.answer_id[0], np.where(cut, -1, 0))
    np.testing.assert_array_equal(result.reward[0], ~cut.all(-1))


def test_buckets_round_up_by_at_most_a_third_and_are_few():
    sizes = [bucket(n, 10_000) for n in range(1, 4096)]
    assert all(
        size >= n and size <= max(n + 1, 1.5 * n)
        for n, size in zip(range(1, 4096), sizes, strict=True)
    )
    assert len(set(sizes)) <= 24


def test_responses_begin_within_a_thought_that_their_prompt_has_opened():
    @dataclasses.dataclass(frozen=True)
    class Thinking:
        """Id 2 opens a thought, and stays in texts."""

        pad_id: int = 0
        eos_ids: tuple[int, ...] = (1,)

        def decode_batch(self, rows):
            return [
                "".join("?."[i] if i < 2 else "<think>" if i == 2 else chr(i) for i in row)
                for row in rows
            ]

    def replies(closing):
        template = text.Template("", (), (), (), (), closing)
        agent = Agent(POLICY, Thinking(), template, 3, 0)  # pyright: ignore[reportArgumentType]
        tokens = np.array([[[65, 66, 0], [2, 67, 1]]])
        samples = Samples(tokens, tokens * 0.0, np.array([[2, 3]]), np.array([[True, False]]))
        return collect._decode_replies(agent, samples)

    thinks = Reply("", "C.", unfinished=True)
    assert replies((70, 2)) == [[Reply("", "AB", unfinished=True), thinks]]
    assert replies((2, 70)) == [[Reply("AB"), thinks]]
