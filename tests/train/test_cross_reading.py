"""The answers of a dyad, read after each other's thoughts by the program of the update."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ccpo_jax.learner.scoring import sequence_logprobs
from ccpo_jax.learner.update import LossConfig, PackingConfig, UpdateConfig
from ccpo_jax.rl.topology import dyad
from ccpo_jax.train.cross_reading import readings
from tests.support.stubs import CODEC
from tests.support.teams import PROBLEMS, small_params, small_rollout, team_of, weights_of

GROUP = 3
CONFIG = UpdateConfig(LossConfig("grpo"), optax.sgd(1.0), PackingConfig(64, 4))


@pytest.fixture(scope="module")
def team():
    return team_of(dyad())


@pytest.fixture(scope="module")
def rollouts(team):
    # The Solver alone speaks too: its rows are no answers of the team.
    return small_rollout(team, weights_of(team, 2), PROBLEMS[:3], ablated=(0,))


def test_each_answer_stands_after_each_thought(rollouts):
    sequences = readings(rollouts)
    thoughts, answers = (turn.texts for turn in rollouts.turns)
    number = 0
    for b, problem in enumerate(PROBLEMS[:3]):
        for g in range(GROUP):
            for h in range(GROUP):
                prompt = CODEC.decode(sequences[number].prefix)
                assert prompt.count(problem) and f"hint: {thoughts[b][g]}" in prompt
                assert CODEC.decode(sequences[number].response) == answers[b][h]
                number += 1
    assert number == len(sequences)


def test_log_likelihoods_are_those_of_the_sampler_and_of_a_plain_forward_pass(team, rollouts):
    policy, params = team.agents[1].policy, small_params(1)
    sequences = readings(rollouts)
    found = sequence_logprobs(policy, params, sequences, CONFIG).reshape(3, GROUP, GROUP)

    samples = rollouts.turns[1].samples
    is_token = np.arange(samples.logprobs.shape[-1]) < samples.length[..., None]
    sampled = np.where(is_token, samples.logprobs, 0.0).sum(-1)[:, :GROUP]
    np.testing.assert_allclose(np.diagonal(found, axis1=1, axis2=2), sampled, atol=2e-4)

    # Padded on the right, one after another.
    width = max(len(s.prefix) + len(s.response) for s in sequences)

    @jax.jit
    def logprobs_of(tokens):
        position = jnp.arange(width)[None]
        one = jnp.ones((1, width), jnp.int32)
        logits = policy.logits(params, policy.hidden(params, tokens[None], position, one, one))
        return jax.nn.log_softmax(logits[0, :-1])[jnp.arange(width - 1), tokens[1:]]

    for sequence, value in zip(sequences, found.ravel(), strict=True):
        text = np.concatenate([sequence.prefix, sequence.response])
        logprobs = logprobs_of(np.pad(text, (0, width - len(text))))
        begin = len(sequence.prefix) - 1
        expected = logprobs[begin : begin + len(sequence.response)].sum()
        assert value == pytest.approx(float(expected), abs=2e-4)
