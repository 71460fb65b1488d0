"""Baselines: values against scalar loops, and expected gradients over everything that can be sampled.

A tabular team has a softmax for each prompt and agent. Its batches of B prompts and G samples are
enumerated, so that an expected gradient is exact up to float32.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ccpo_jax
from ccpo_jax import batch_totals, policy_gradient_loss
from ccpo_jax.rl.weighted_advantages import WeightedState, init_weighted, update_weighted
from ccpo_jax.train.advantage import Advantage
from tests.support.enumeration import softmax
from tests.support.errors import raises_for

pytestmark = pytest.mark.fast

# One compilation per shape and options.
batch_mean_advantage = jax.jit(ccpo_jax.batch_mean_advantage)
opo_advantage = jax.jit(ccpo_jax.opo_advantage, static_argnames="pool")
optimal_advantage = jax.jit(ccpo_jax.optimal_advantage, static_argnames=("pool", "form"))
squared_score = jax.jit(ccpo_jax.squared_score)
weighted_advantage = jax.jit(ccpo_jax.weighted_advantage)

RNG = np.random.default_rng(7)
B, G, T = 3, 4, 5
REWARD = RNG.random((B, G)).astype(np.float32)
WEIGHT = RNG.random((B, G)).astype(np.float32)
LENGTH = RNG.integers(1, T + 1, (B, G))
MASK = np.arange(T) < LENGTH[..., None]
SCORES = RNG.random((B, G, T)).astype(np.float32)
EARLIER = RNG.random((B, G)).astype(np.float32)


# Values


def pool_of(b, g, pool):
    """The samples that one is compared with."""
    if pool == "prompt":
        return [(b, h) for h in range(G) if h != g]
    return [(a, h) for a in range(B) if a != b for h in range(G)]


def weighted_mean(pairs):
    """Of (weight, value) pairs."""
    return sum(w * value for w, value in pairs) / sum(w for w, _ in pairs)


@pytest.mark.parametrize("pool", ["prompt", "others"])
def test_values_against_a_loop(pool):
    opo = opo_advantage(REWARD, LENGTH, pool=pool)
    optimal = optimal_advantage(REWARD, SCORES, MASK, earlier=EARLIER, pool=pool)
    for b, g in np.ndindex(B, G):
        others = pool_of(b, g, pool)
        by_length = weighted_mean([(LENGTH[i], REWARD[i]) for i in others])
        energy = {i: EARLIER[i] + SCORES[i][: LENGTH[i]].sum() for i in others}
        by_score = weighted_mean([(energy[i], REWARD[i]) for i in others])
        np.testing.assert_allclose(opo[b, g], REWARD[b, g] - by_length, atol=1e-5)
        np.testing.assert_allclose(optimal[b, g], REWARD[b, g] - by_score, atol=1e-5)
        if pool == "others":
            mean = np.mean([REWARD[i] for i in others])
            advantage = batch_mean_advantage(REWARD)[b, g]
            np.testing.assert_allclose(advantage, REWARD[b, g] - mean, atol=1e-6)


@pytest.mark.parametrize("pool", ["prompt", "others"])
def test_the_token_form_against_a_loop(pool):
    advantage = np.asarray(
        optimal_advantage(REWARD, SCORES, MASK, earlier=EARLIER, pool=pool, form="token")
    )
    of_sequence = optimal_advantage(REWARD, SCORES, MASK, earlier=EARLIER, pool=pool)
    alone = 0
    for b, g, t in np.ndindex(B, G, T):
        if t >= LENGTH[b, g]:
            assert advantage[b, g, t] == 0
            continue
        others = [i for i in pool_of(b, g, pool) if t < LENGTH[i]]
        expected = of_sequence[b, g]
        if others:
            reached = [EARLIER[i] + SCORES[i][: t + 1].sum() for i in others]
            pairs = zip(reached, [REWARD[i] for i in others], strict=True)
            expected = REWARD[b, g] - weighted_mean(list(pairs))
        alone += not others
        np.testing.assert_allclose(advantage[b, g, t], expected, atol=1e-5)
    assert alone == 0 or pool == "prompt"


def test_the_last_of_a_group_that_still_writes_has_the_baseline_of_the_sequence():
    mask = np.array([[[True, True], [True, False], [True, False]]])
    reward, scores = np.array([[1.0, 1.0, 0.0]]), np.array([[[1.0, 1.0], [3.0, 0.0], [1.0, 0.0]]])
    advantage = optimal_advantage(reward, scores, mask, form="token")
    np.testing.assert_allclose(advantage[0, 0], [0.25, 0.25], atol=1e-5)


def test_carried_sums_go_on_from_earlier_steps():
    state = WeightedState(jnp.array([0.5, 3.0]), jnp.array([2.0, 4.0]))
    reward, weight = np.stack([REWARD, 1 - REWARD]), np.stack([WEIGHT, WEIGHT[::-1]])
    advantage = weighted_advantage(reward, weight, state=state)
    for a, b, g in np.ndindex(2, B, G):
        others = pool_of(b, g, "others")
        numerator = state.numerator[a] + sum(weight[a][i] * reward[a][i] for i in others)
        denominator = state.denominator[a] + sum(weight[a][i] for i in others)
        expected = reward[a, b, g] - numerator / denominator
        np.testing.assert_allclose(advantage[a, b, g], expected, atol=1e-5)
    after = update_weighted(state, reward, weight, decay=0.25)
    expected = 0.25 * (state.numerator + (weight * reward).sum((1, 2)))
    np.testing.assert_allclose(after.numerator, expected, rtol=1e-4)
    np.testing.assert_allclose(
        after.denominator, 0.25 * (state.denominator + weight.sum((1, 2))), rtol=1e-4
    )


def test_a_batch_without_a_mistake_is_compared_with_earlier_ones():
    right, weight = np.ones((1, 2, 2)), np.ones((1, 2, 2))
    assert not np.asarray(weighted_advantage(right, weight)).any()
    state = update_weighted(init_weighted(1), np.array([[[1.0, 0.0]]]), np.ones((1, 1, 2)))
    assert (np.asarray(weighted_advantage(right, weight, state=state)) > 0.1).all()
    # Before the first step it is what it is without a state; one prompt is compared with nothing.
    fresh = init_weighted(1)
    np.testing.assert_allclose(
        weighted_advantage(REWARD[None], WEIGHT[None], state=fresh),
        weighted_advantage(REWARD[None], WEIGHT[None]),
        atol=1e-6,
    )
    np.testing.assert_array_equal(weighted_advantage(right[:, :1], weight[:, :1], state=fresh), 1)


def test_equal_rewards_get_exactly_zero():
    third = np.full(REWARD.shape, 1 / 3, np.float32)
    assert not np.asarray(batch_mean_advantage(third)).any()
    for pool in ("prompt", "others"):
        assert not np.asarray(opo_advantage(third, LENGTH, pool=pool)).any()
        for form in ("sequence", "token"):
            advantage = optimal_advantage(
                third, SCORES, MASK, earlier=EARLIER, pool=pool, form=form
            )
            assert not np.asarray(advantage).any()


def test_a_squared_score_is_that_of_the_logits():
    logits, temperature = jnp.array([0.3, -1.0, 2.0, 0.1]), 0.7

    def logprob(logits, word):
        return jax.nn.log_softmax(logits / temperature)[word]

    pi = jax.nn.softmax(logits / temperature)
    for word in range(4):
        score = jax.grad(logprob)(logits, word)
        found = squared_score(logprob(logits, word), jnp.sum(pi**2))
        np.testing.assert_allclose(found / temperature**2, score @ score, rtol=1e-5)


def test_refusals():
    one = np.ones((1, 3))
    for pool, reward in (("others", one), ("prompt", one.T)):
        with raises_for("reward"):
            opo_advantage(reward, reward, pool=pool)
        with raises_for("reward"):
            optimal_advantage(reward, reward[..., None], reward[..., None], pool=pool)
    with raises_for("reward"):
        batch_mean_advantage(one)
    with raises_for("pool"):
        opo_advantage(REWARD, LENGTH, pool="batch")
    with raises_for("length"):
        opo_advantage(REWARD, LENGTH[:, :1])
    with raises_for("form"):
        optimal_advantage(REWARD, SCORES, MASK, form="word")
    with raises_for("squared_scores"):
        optimal_advantage(REWARD, SCORES[:, :1], MASK)
    assert ccpo_jax.surprisal_advantage is ccpo_jax.weighted_advantage


# Expected gradients


AGENTS, WORDS, PROMPTS, GROUP = 2, 3, 2, 2
LOGITS = np.random.default_rng(1).normal(0, 0.8, (PROMPTS, AGENTS, WORDS))
# Reward of every pair of words, for each prompt; and how many tokens a word has.
REWARDS = np.random.default_rng(2).random((PROMPTS, WORDS, WORDS)).round(1)
TOKENS = np.array([1, 3, 7])

STATE = WeightedState(jnp.array([0.9, 0.2]), jnp.array([1.5, 2.0]))
# Baseline -> what the expected gradient is of the policy gradient.
FACTORS = {
    Advantage("none"): 1,
    Advantage("constant"): 1,
    Advantage("leave_one_out"): 1,
    Advantage("group", normalize_std=False): (GROUP - 1) / GROUP,
    Advantage("asymmetric"): (GROUP - 1) / GROUP,
    Advantage("batch_mean"): 1,
    Advantage("opo"): 1,
    Advantage("opo", pool="others"): 1,
    Advantage("optimal"): 1,
    Advantage("optimal", pool="others"): 1,
    Advantage("weighted"): 1,
    Advantage("weighted", carried=True): 1,
}


def team_batches():
    """Every batch: words ``[N, A, B, G]``, and its probability ``[N]``."""
    size = AGENTS * PROMPTS * GROUP
    words = np.array(list(itertools.product(range(WORDS), repeat=size)))
    words = words.reshape(-1, AGENTS, PROMPTS, GROUP)
    odds = softmax(LOGITS)
    prompt = np.arange(PROMPTS)[:, None]
    likelihood = np.stack([odds[prompt, agent, words[:, agent]] for agent in range(AGENTS)], 1)
    return words, likelihood, likelihood.prod((1, 2, 3))


@pytest.mark.parametrize("rule", FACTORS, ids=str)
def test_the_expected_gradient_is_the_policy_gradient(rule):
    """Of a team whose agents share the reward of each prompt, for every prompt and agent."""
    words, likelihood, probability = team_batches()
    prompt = np.arange(PROMPTS)[:, None]
    reward = REWARDS[prompt, words[:, 0], words[:, 1]]
    credit = np.broadcast_to(reward[:, None], words.shape).astype(np.float32)
    odds = softmax(LOGITS)
    collision = np.square(odds).sum(-1).T[..., None]
    weight = {
        "weighted": -np.log(likelihood),
        "opo": TOKENS[words],
        "optimal": 1 - 2 * likelihood + collision,
    }.get(rule.baseline)
    advantage = np.asarray(jax.jit(rule)(credit, weight, STATE))

    score = np.eye(WORDS)[words] - np.moveaxis(odds, 1, 0)[:, :, None]
    gradient = np.einsum("n,nabg,nabgm->bam", probability, advantage, score) / GROUP

    def objective(logits):
        first, second = jax.nn.softmax(logits[:, 0]), jax.nn.softmax(logits[:, 1])
        return jnp.einsum("bi,bj,bij->", first, second, REWARDS)

    expected = jax.grad(objective)(jnp.asarray(LOGITS, jnp.float32))
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(gradient, FACTORS[rule] * expected, atol=2e-6)


# A policy that says one or two tokens: the end, or a first word and then a second one.
TEXTS = [(2,), (0, 0), (0, 1), (1, 0), (1, 1)]
FIRST = np.random.default_rng(3).normal(0, 1, (3, 3))
SECOND = np.random.default_rng(4).normal(0, 1, (3, 2, 2))
REWARD_OF_TEXT = np.random.default_rng(5).random((3, len(TEXTS)))


def text_logprobs(first, second, temperature):
    """``[B, texts, 2]``, 0 behind the end."""
    first = jax.nn.log_softmax(first / temperature)
    second = jax.nn.log_softmax(second / temperature)
    rows = []
    for text in TEXTS:
        tail = second[:, text[0], text[1]] if len(text) > 1 else jnp.zeros(len(first))
        rows.append(jnp.stack([first[:, text[0]], tail], -1))
    return jnp.stack(rows, 1)


@pytest.mark.parametrize("pool, temperature", [("prompt", 1.0), ("prompt", 0.6), ("others", 0.6)])
def test_the_token_form_is_unbiased_through_the_loss(pool, temperature):
    """All batches of three samples, of one prompt or of three, with the pi that is sampled from."""
    shape = (1, 3) if pool == "prompt" else (3, 1)
    prompt = np.arange(shape[0])[:, None]
    chosen = np.array(list(itertools.product(range(len(TEXTS)), repeat=3))).reshape(-1, *shape)
    first, second = FIRST[: shape[0]], SECOND[: shape[0]]
    logprobs = np.asarray(text_logprobs(first, second, temperature))
    probability = np.exp(logprobs.sum(-1))[prompt, chosen].prod((1, 2))
    np.testing.assert_allclose(probability.sum(), 1, atol=1e-5)

    at_first = np.square(softmax(first / temperature)).sum(-1)
    at_second = np.square(softmax(second / temperature)).sum(-1)
    collision = np.stack(
        [np.stack([at_first, at_second[:, text[0] % 2]], -1) for text in TEXTS], axis=1
    )
    length = np.array([len(text) for text in TEXTS])[chosen]
    mask = np.arange(2) < length[..., None]
    reward = REWARD_OF_TEXT[prompt, chosen]
    scores = squared_score(logprobs[prompt, chosen], collision[prompt, chosen])
    advantage = optimal_advantage(reward, scores, mask, pool=pool, form="token")
    assert np.ptp(np.where(mask, advantage, advantage[..., :1]), -1).max() > 0.05

    def loss(params):
        def of_batch(texts, advantage, mask):
            new = text_logprobs(*params, temperature)[prompt, texts].reshape(-1, 2)
            value, _ = policy_gradient_loss(
                new,
                new,
                advantage.reshape(-1, 2),
                mask.reshape(-1, 2),
                normalize="length",
                max_length=2,
            )
            return value

        return jnp.asarray(probability) @ jax.vmap(of_batch)(chosen, advantage, mask)

    def objective(params):
        odds = jnp.exp(text_logprobs(*params, temperature).sum(-1))
        return -jnp.sum(odds * REWARD_OF_TEXT[: shape[0]]) / (2 * shape[0])

    params = (jnp.asarray(first), jnp.asarray(second))
    found = jax.jit(jax.grad(loss))(params)
    expected = jax.jit(jax.grad(objective))(params)
    assert all(np.abs(part).max() > 5e-3 for part in expected)
    for part, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(part, exact, atol=1e-6)


# Losses with an advantage for each token


def test_a_loss_takes_an_advantage_for_each_token():
    logprobs = jnp.asarray(np.log(RNG.random((4, 3))), jnp.float32)
    mask = np.arange(3) < np.array([3, 1, 2, 0])[:, None]
    advantage = RNG.normal(size=(4, 3)).astype(np.float32)
    loss, _ = policy_gradient_loss(
        logprobs, logprobs, advantage, mask, normalize="length", max_length=3
    )
    np.testing.assert_allclose(loss, -np.where(mask, advantage, 0).sum() / 3 / 3, rtol=1e-5)
    whole = np.broadcast_to(advantage[:, :1], (4, 3))
    same = policy_gradient_loss(logprobs, logprobs, advantage[:, 0], mask)[0]
    np.testing.assert_allclose(policy_gradient_loss(logprobs, logprobs, whole, mask)[0], same)
    totals = batch_totals(advantage, mask)
    np.testing.assert_allclose(totals.advantage_mean, advantage[mask].mean(), rtol=1e-5)
    np.testing.assert_allclose(totals.advantage_std, advantage[mask].std(), rtol=1e-5)
    with raises_for("loss.ratio"):
        policy_gradient_loss(logprobs, logprobs, advantage, mask, ratio="sequence")


# What a baseline is worth: a policy of three words, of which the first is right, and four prompts of
# two samples.

RULES = {
    "none": Advantage("none"),
    "constant": Advantage("constant"),
    "asymmetric": Advantage("asymmetric"),
    "leave_one_out": Advantage("leave_one_out"),
    "batch_mean": Advantage("batch_mean"),
    "optimal, others": Advantage("optimal", pool="others"),
    "weighted": Advantage("weighted"),
    "weighted, carried": Advantage("weighted", carried=True),
}


def signal(rule: Advantage, p: np.ndarray) -> float:
    """Squared length of the expected gradient over its variance, added up over prompts.

    Args:
      rule: the baseline; carried sums are those expected of ten such batches.
      p: ``[B]``, the probability of the right word; of the others, one is twice as likely.
    """
    odds = np.stack([p, (1 - p) * 2 / 3, (1 - p) / 3], -1)
    words = np.array(list(itertools.product(range(3), repeat=2 * len(p)))).reshape(-1, len(p), 2)
    prompt = np.arange(len(p))[:, None]
    likelihood = odds[prompt, words]
    probability = likelihood.prod((1, 2))
    reward = (words == 0).astype(np.float32)
    weight = 1 - 2 * likelihood + np.square(odds).sum(-1)[:, None]
    if rule.baseline == "weighted":
        weight = -np.log(likelihood)
    of_batch = [(weight * reward).sum((1, 2)), weight.sum((1, 2))]
    state = WeightedState(*(jnp.array([10 * probability @ total]) for total in of_batch))
    advantage = np.asarray(jax.jit(rule)(reward[:, None], weight[:, None], state))[:, 0]

    score = np.eye(3)[words] - odds[:, None]
    gradient = np.einsum("nbg,nbgm->nbm", advantage, score) / 2
    mean = np.tensordot(probability, gradient, 1)
    variance = np.tensordot(probability, np.square(gradient - mean), 1).sum()
    return float(np.sum(mean**2) / variance)


def test_where_an_agent_is_mostly_right_weights_carry_more_signal_than_means():
    names = ("leave_one_out", "batch_mean", "weighted", "weighted, carried")
    found = {name: signal(RULES[name], np.full(4, 0.7)) for name in names}
    assert found["weighted"] > 2 * found["batch_mean"] > 2 * found["leave_one_out"]
    assert found["weighted, carried"] > found["weighted"]


# python -m tests.rl.test_baselines prints the signal of each baseline, leave_one_out = 1.
if __name__ == "__main__":
    CASES = [np.full(4, p) for p in (0.05, 0.14, 0.3, 0.5, 0.7, 0.86, 0.95)]
    CASES.append(np.array([0.05, 0.35, 0.65, 0.95]))
    print(" " * 22, *(f"{name:>17}" for name in RULES))
    for case in CASES:
        base = signal(RULES["leave_one_out"], case)
        row = [f"{signal(rule, case) / base:17.2f}" for rule in RULES.values()]
        print(f"{', '.join(map(str, sorted(set(case)))):22}", *row)
