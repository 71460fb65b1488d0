"""Cross-reading a dyad: values by a scalar loop, gradients by enumeration of all groups."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax.errors import InputError
from ccpo_jax.rl.cross_read import cross_read_advantages, reading_weights

pytestmark = pytest.mark.fast

SCORE = np.array([1.0, 0.0, 0.4])


def random_case(batch=3, group=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((batch, group)), np.log(rng.random((group, batch, group)))


@pytest.mark.parametrize("prior", [0.5, 3.0])
def test_values_by_a_scalar_loop(prior):
    reward, logprob = random_case()
    thinker, solver = np.asarray(cross_read_advantages(reward, logprob, prior=prior))
    batch, group = reward.shape
    for b in range(batch):
        weight = [[0.0] * group for _ in range(group)]
        for h in range(group):
            total = sum(math.exp(logprob[j, b, h]) for j in range(group))
            for g in range(group):
                weight[g][h] = math.exp(logprob[g, b, h]) / total
        value = []
        for g in range(group):
            value.append(
                sum(w * r for w, r in zip(weight[g], reward[b], strict=True)) / sum(weight[g])
            )
        for g in range(group):
            expected = group / (group - 1) * (value[g] - sum(value) / group)
            assert thinker[b, g] == pytest.approx(expected, abs=1e-6)

            others = [h for h in range(group) if h != g]
            mean = sum(reward[b, h] for h in others) / len(others)
            read = sum(weight[g][h] * reward[b, h] for h in others) + prior * mean
            baseline = read / (sum(weight[g][h] for h in others) + prior)
            assert solver[b, g] == pytest.approx(reward[b, g] - baseline, abs=1e-6)


def test_thoughts_that_nobody_confuses_get_the_leave_one_out_advantage():
    reward, _ = random_case(batch=2, group=3)
    apart = np.where(np.eye(3, dtype=bool)[:, None], 0.0, -90.0) * np.ones((3, 2, 3))
    others = (reward.sum(1, keepdims=True) - reward) / 2
    for advantage in cross_read_advantages(reward, apart):
        np.testing.assert_allclose(advantage, reward - others, atol=1e-6)


def test_equal_rewards_are_exactly_silent():
    _, logprob = random_case()
    assert not np.any(cross_read_advantages(np.full((3, 4), 1 / 3), logprob))


def test_weights_of_an_answer_add_up_to_one_far_below_zero():
    _, logprob = random_case()
    weight = reading_weights(logprob - 5000.0)
    np.testing.assert_allclose(weight.sum(axis=0), 1.0, rtol=1e-5)


@pytest.mark.parametrize("normalized", [False, True])
def test_expected_gradients_of_all_groups(normalized):
    """Two thoughts, three answers, groups of three: each group is a prompt of its own."""
    rng = np.random.default_rng(1)
    thoughts, answers = rng.normal(size=2), rng.normal(size=(2, 3))

    def expected_reward(thoughts, answers):
        return jax.nn.softmax(thoughts) @ (jax.nn.softmax(answers) @ jnp.asarray(SCORE))

    truth = jax.grad(expected_reward, (0, 1))(jnp.asarray(thoughts), jnp.asarray(answers))
    pi_t = np.exp(thoughts) / np.exp(thoughts).sum()
    pi_a = np.exp(answers) / np.exp(answers).sum(1, keepdims=True)

    cells = list(itertools.product(range(2), range(3)))
    groups = np.array(list(itertools.product(cells, repeat=3)))  # [N, G, 2]
    t, a = groups[..., 0], groups[..., 1]
    odds = (pi_t[t] * pi_a[t, a]).prod(axis=1)
    logprob = np.log(pi_a[t[:, :, None], a[:, None, :]])
    # One prompt at a time, so that no other prompt's mean is subtracted.
    of_group = jax.vmap(
        lambda won, read: cross_read_advantages(won[None], read[:, None], normalized=normalized)[
            :, 0
        ]
    )
    thinker, solver = np.moveaxis(np.asarray(of_group(SCORE[a], logprob)), 1, 0)

    found_thoughts = np.zeros(2)
    found_answers = np.zeros((2, 3))
    for g in range(3):
        found_thoughts += (odds * thinker[:, g]) @ (np.eye(2)[t[:, g]] - pi_t) / 3
        score = np.eye(3)[a[:, g]] - pi_a[t[:, g]]
        np.add.at(found_answers, t[:, g], (odds * solver[:, g])[:, None] * score / 3)

    np.testing.assert_allclose(found_answers, truth[1], atol=2e-6)
    if normalized:
        # Of the same sign, and smaller.
        share = found_thoughts / np.asarray(truth[0])
        assert np.all((share > 0.2) & (share < 1.0))
    else:
        np.testing.assert_allclose(found_thoughts, truth[0], atol=2e-6)


def test_other_prompts_center_the_unnormalised_values():
    reward, logprob = random_case(batch=2)
    shifted = cross_read_advantages(reward + 10.0, logprob, normalized=False)
    plain = cross_read_advantages(reward, logprob, normalized=False)
    np.testing.assert_allclose(shifted, plain, atol=2e-5)


@pytest.mark.parametrize(
    "field, reward, logprob",
    [
        ("reward", np.zeros((2, 1)), np.zeros((1, 2, 1))),
        ("logprob", np.zeros((2, 3)), np.zeros((2, 3, 3))),
    ],
)
def test_shapes_are_refused(field, reward, logprob):
    with pytest.raises(InputError) as error:
        cross_read_advantages(reward, logprob)
    assert error.value.field == field
