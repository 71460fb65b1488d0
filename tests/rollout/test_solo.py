"""A team of one is a dyad whose Thinker is silent: the same prompts, tokens and gradients."""

import jax
import numpy as np
import optax
import pytest

from ccpo_jax.learner.packing import gather_sequences
from ccpo_jax.learner.update import LossConfig, PackingConfig, UpdateConfig, update_params
from ccpo_jax.rl.topology import dyad, solo, voting
from ccpo_jax.rollout import Rollout, calls
from ccpo_jax.sampler import Prompts
from ccpo_jax.train.evaluate import evaluation_worlds
from tests.support.teams import small_params, small_rollout, team_of, weights_of

GROUP = 3


@pytest.fixture(scope="module")
def weights():
    return weights_of(team_of(dyad()), 2)


def answers_without_thinker(both: Rollout) -> Rollout:
    """The Solver's responses in the world that masks the Thinker, as the rollout of one turn."""
    turn = both.turns[1]
    rows = turn.rows(1)
    prompts = turn.prompts
    alone = turn._replace(
        prompts=Prompts(*prompts[:2], prompts.tail[:, rows], prompts.tail_length[:, rows]),
        samples=jax.tree.map(lambda field: field[:, rows], turn.samples),
        texts=[texts[rows] for texts in turn.texts],
        variant_of_world=(0,),
        samples_per_variant=(GROUP,),
    )
    return Rollout((alone,), np.ones((1, 1), bool))


@pytest.fixture(scope="module")
def pair(weights):
    """The rollouts of a dyad without its Thinker and of a solo, sampled with the same row keys."""
    both = small_rollout(team_of(dyad()), weights, ablated=(0,))

    def as_the_solver_in_world_1(request):
        paths = true_key_paths(request)
        paths[..., :2] = 1
        return paths

    true_key_paths = calls._key_paths
    with pytest.MonkeyPatch.context() as patch:
        # Keys begin with the number of the turn, and a solo's turn has another.
        patch.setattr(calls, "_key_paths", as_the_solver_in_world_1)
        alone = small_rollout(team_of(solo()), weights[1:])
    return answers_without_thinker(both), alone


def test_tokens_are_those_of_a_dyad_whose_thinker_is_silent(pair):
    dyad_turn, solo_turn = (rollout.turns[0] for rollout in pair)
    assert len(np.unique(solo_turn.samples.length)) > 1
    for field in ("tokens", "length", "truncated"):
        dyad_value = getattr(dyad_turn.samples, field)
        np.testing.assert_array_equal(dyad_value, getattr(solo_turn.samples, field))
    assert dyad_turn.texts == solo_turn.texts
    np.testing.assert_allclose(dyad_turn.samples.logprobs, solo_turn.samples.logprobs, atol=1e-5)


def test_gradients_are_those_of_a_dyad_whose_thinker_is_silent(pair):
    config = UpdateConfig(LossConfig(), optax.sgd(1.0), PackingConfig(64, 8))
    batch = len(pair[0].turns[0].texts)
    advantage = np.random.default_rng(0).normal(size=(1, batch, GROUP)).astype(np.float32)

    updated = []
    for rollout in pair:
        sequences = gather_sequences(rollout, advantage, [0], range(batch))
        params = small_params(1)
        policy = team_of(solo()).agents[0].policy
        params, _, metrics = update_params(
            policy, params, config.optimizer.init(params), [sequences], config
        )
        updated.append((params, metrics))

    (with_dyad, dyad_metrics), (with_solo, solo_metrics) = updated
    assert solo_metrics["grad_norm"] > 0.01
    assert dyad_metrics["trained_tokens"] == solo_metrics["trained_tokens"]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), with_dyad, with_solo)


def test_a_solo_decodes_one_response_per_sample(weights):
    rollout = small_rollout(team_of(solo()), weights[:1])
    assert len(rollout.turns) == 1 and rollout.masks.tolist() == [[True]]
    assert rollout.decoded_tokens == rollout.turns[0].samples.length.sum()


@pytest.mark.parametrize("team", [solo(), voting(1)], ids=lambda team: team.name)
def test_an_evaluation_masks_nobody(team):
    assert evaluation_worlds(team) == ()
