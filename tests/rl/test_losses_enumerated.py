"""Expected gradients of the losses over everything that a small policy can say, against those of its objective.

The policy has a softmax over two words and an end for every text so far. A batch is a group of texts; losses see it
as training does, through log-probabilities of sampled tokens.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax import LOSSES, cispo_loss, gmpo_loss, leave_one_out_advantage, policy_gradient_loss

END = 2
SAME_GRADIENT_AT_RATIO_1 = ("grpo", "gspo", "cispo", "gmpo", "sapo")


def texts(longest: int, *, ragged: bool) -> list[tuple[int, ...]]:
    """Everything that can be said in up to `longest` tokens; a text that is cut has no end."""
    if not ragged:
        return list(itertools.product((0, 1), repeat=longest))
    spoken = []
    for length in range(longest):
        spoken += [(*words, END) for words in itertools.product((0, 1), repeat=length)]
    return spoken + list(itertools.product((0, 1), repeat=longest))


class Policy:
    """Logits ``[contexts, 3]``, the texts that it can say, and a reward for each."""

    def __init__(self, longest: int, *, ragged: bool, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.texts = texts(longest, ragged=ragged)
        contexts: list[tuple[int, ...]] = []
        for length in range(longest):
            contexts += itertools.product((0, 1), repeat=length)
        number = {context: i for i, context in enumerate(contexts)}
        self.logits = rng.normal(0, 1, (len(contexts), 3))
        if not ragged:
            self.logits[:, END] = -np.inf
        self.reward = rng.uniform(-1, 1, len(self.texts)).astype(np.float32)
        self.length = np.array([len(text) for text in self.texts])
        self.mask = np.arange(longest) < self.length[:, None]
        self.context = np.zeros(self.mask.shape, int)
        self.token = np.zeros(self.mask.shape, int)
        for row, text in enumerate(self.texts):
            self.token[row, : len(text)] = text
            self.context[row, : len(text)] = [number[text[:t]] for t in range(len(text))]

    def logprobs(self, logits):
        """``[texts, tokens]``, 0 where masked."""
        table = jax.nn.log_softmax(jnp.asarray(logits, jnp.float32))
        return jnp.where(self.mask, table[self.context, self.token], 0.0)

    def odds(self, logits):
        return jnp.exp(self.logprobs(logits).sum(-1))

    def objective_gradient(self, value):
        """The gradient of the expectation of a value per text."""
        gradient = jax.grad(lambda logits: self.odds(logits) @ jnp.asarray(value, jnp.float32))
        return np.asarray(jax.jit(gradient)(self.logits.astype(np.float32)))

    def expected_gradient(self, loss, advantage_of, *, group: int, sampled_by=None):
        """Of minus the loss, over all groups of texts that the policy `sampled_by` can say."""
        sampler = self.logits if sampled_by is None else sampled_by
        chosen = np.array(list(itertools.product(range(len(self.texts)), repeat=group)))
        weight = np.asarray(self.odds(sampler))[chosen].prod(-1)
        np.testing.assert_allclose(weight.sum(), 1, atol=1e-5)
        old, mask = self.logprobs(sampler), jnp.asarray(self.mask)

        def total(logits):
            def of_group(rows):
                advantage = advantage_of(jnp.asarray(self.reward)[rows])
                new = self.logprobs(logits)[rows]
                return loss(new, old[rows], advantage, mask[rows])[0]

            return -weight @ jax.vmap(of_group)(chosen)

        return np.asarray(jax.jit(jax.grad(total))(self.logits.astype(np.float32)))


@pytest.mark.parametrize("name", SAME_GRADIENT_AT_RATIO_1)
def test_at_ratio_1_a_group_climbs_the_reward_over_the_length(name):
    """Texts of one length, leave-one-out: the policy gradient, divided by the number of tokens."""
    policy = Policy(3, ragged=False)
    mean = policy.expected_gradient(LOSSES[name], leave_one_out_advantage, group=2)
    expected = policy.objective_gradient(policy.reward / 3)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(mean, expected, atol=1e-6)


@pytest.mark.parametrize("name", SAME_GRADIENT_AT_RATIO_1)
def test_at_ratio_1_a_text_of_any_length_climbs_its_reward_per_token(name):
    """One text without a baseline: the gradient of E[R / length], which is what a mean over tokens stands for."""
    policy = Policy(3, ragged=True)
    mean = policy.expected_gradient(LOSSES[name], lambda reward: reward, group=1)
    np.testing.assert_allclose(
        mean, policy.objective_gradient(policy.reward / policy.length), atol=1e-6
    )


def test_a_mean_over_tokens_is_biased_in_groups_of_different_lengths():
    """What the documentation says of `sequence` and `token`: a baseline then does not cancel. `length` is exact."""
    policy = Policy(2, ragged=True)
    expected = policy.objective_gradient(policy.reward / 2)
    exact = functools.partial(policy_gradient_loss, normalize="length", max_length=2)
    climb = functools.partial(
        policy.expected_gradient, advantage_of=leave_one_out_advantage, group=2
    )
    np.testing.assert_allclose(climb(exact), expected, atol=1e-6)
    for name in ("cispo", "gmpo"):
        assert np.abs(climb(LOSSES[name]) - expected).max() > 1e-2


# Samples of an older policy, one token each, where the importance weight of a token is that of its text


@pytest.fixture(scope="module")
def stale():
    policy = Policy(1, ragged=True, seed=3)
    sampled_by = policy.logits + np.random.default_rng(4).normal(0, 0.7, policy.logits.shape)
    ratio = np.asarray(policy.odds(policy.logits) / policy.odds(sampled_by))
    assert ratio.min() < 0.8 and ratio.max() > 1.3
    return policy, sampled_by, ratio


WITHOUT_CLIPS = {
    "cispo": functools.partial(cispo_loss, clip_high=math.inf),
    "gmpo": functools.partial(gmpo_loss, clip_low=math.inf, clip_high=math.inf),
}


@pytest.mark.parametrize("name", WITHOUT_CLIPS)
def test_without_clips_old_samples_give_the_new_policys_gradient(name, stale):
    policy, sampled_by, _ = stale
    loss = WITHOUT_CLIPS[name]
    for advantage_of, group in ((lambda reward: reward, 1), (leave_one_out_advantage, 2)):
        mean = policy.expected_gradient(loss, advantage_of, group=group, sampled_by=sampled_by)
        np.testing.assert_allclose(mean, policy.objective_gradient(policy.reward), atol=1e-6)


def test_what_clipped_weights_and_gates_climb_on_old_samples(stale):
    """E under the new policy of R * w / rho, held fixed: w = min(rho, bound), or rho * sech^2."""
    policy, sampled_by, ratio = stale
    bound = 1.1
    loss = functools.partial(cispo_loss, clip_high=bound - 1)
    mean = policy.expected_gradient(loss, lambda r: r, group=1, sampled_by=sampled_by)
    truncated = policy.objective_gradient(policy.reward * np.minimum(ratio, bound) / ratio)
    np.testing.assert_allclose(mean, truncated, atol=1e-6)

    mean = policy.expected_gradient(LOSSES["sapo"], lambda r: r, group=1, sampled_by=sampled_by)
    tau = np.where(policy.reward > 0, 1.0, 1.05)
    gate = 1 / np.cosh(tau / 2 * (ratio - 1)) ** 2
    np.testing.assert_allclose(mean, policy.objective_gradient(policy.reward * gate), atol=1e-6)
    for biased in (truncated, mean):
        assert np.abs(biased - policy.objective_gradient(policy.reward)).max() > 1e-3
