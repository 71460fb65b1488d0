"""The divergence from a reference against enumeration of every response of a tabular policy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ccpo_jax import KL_ESTIMATORS, batch_totals, kl_loss
from tests.support.errors import raises_for

pytestmark = pytest.mark.fast

# Two words and the end. A response has three tokens at most, each with a softmax for its prefix.
END = 2
PREFIXES = [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1)]
RESPONSES = [
    (*prefix, token)
    for prefix in PREFIXES
    for token in range(3)
    if token == END or len(prefix) == 2
]
every = pytest.mark.parametrize("estimator", KL_ESTIMATORS)


def table(seed: int, scale: float = 1.0):
    """Logits ``[prefixes, 3]``."""
    return scale * jax.random.normal(jax.random.key(seed), (len(PREFIXES), 3))


POLICY, REFERENCE, SAMPLER = table(0), table(1), table(0) + table(2, 0.4)
ONE_TOKEN = np.array([len(response) == 1 for response in RESPONSES])
MASK = np.arange(3) < np.array([len(response) for response in RESPONSES])[:, None]


@jax.jit
def logprobs_of(logits):
    """``[responses, 3]``, with garbage past the end."""
    scores = jax.nn.log_softmax(logits)
    rows = []
    for response in RESPONSES:
        chosen = [scores[PREFIXES.index(response[:t]), response[t]] for t in range(len(response))]
        rows.append(jnp.stack(chosen + [jnp.nan] * (3 - len(chosen))))
    return jnp.stack(rows)


@jax.jit
def probability(logits):
    return jnp.exp(jnp.where(MASK, logprobs_of(logits), 0.0).sum(axis=1))


def divergence(logits, reference):
    """``[prefixes]`` KL of the next token."""
    new, old = jax.nn.log_softmax(logits), jax.nn.log_softmax(reference)
    return (jnp.exp(new) * (new - old)).sum(axis=1)


@jax.jit
def prefix_probability(logits):
    """``[prefixes]`` how probable it is that a response has each prefix."""
    chances = jax.nn.softmax(logits)
    reached = [jnp.float32(1)]
    for prefix in PREFIXES[1:]:
        parent = PREFIXES.index(prefix[:-1])
        reached.append(reached[parent] * chances[parent, prefix[-1]])
    return jnp.stack(reached)


def of_responses(logits):
    """KL of whole responses."""
    gap = jnp.where(MASK, logprobs_of(logits) - logprobs_of(REFERENCE), 0.0)
    return (probability(logits) * gap.sum(axis=1)).sum()


def of_tokens(sampler, logits, *, forward=False):
    """KL of the next token at the prefixes that `sampler` visits."""
    pair = (REFERENCE, logits) if forward else (logits, REFERENCE)
    return (prefix_probability(sampler) * divergence(*pair)).sum()


def expectation(sampler, loss):
    """(value, gradient) of a ``loss(logprobs [N, 3]) -> [N]``, over the samples of `sampler`."""
    weight = probability(sampler)
    return jax.jit(jax.value_and_grad(lambda logits: (weight * loss(logprobs_of(logits))).sum()))(
        POLICY
    )


def ours(estimator, sampler):
    """The sum over each response's tokens, as a loss."""
    totals = batch_totals(jnp.zeros(1), jnp.ones((1, 1), bool))

    def loss(logprobs):
        def one(new, old, reference, mask):
            rows = (x[None] for x in (new, old, reference, mask))
            return kl_loss(*rows, estimator=estimator, totals=totals)[0]

        return jax.vmap(one)(logprobs, logprobs_of(sampler), logprobs_of(REFERENCE), MASK)

    return loss


def as_commonly_written(value):
    """A function of d, differentiated as it stands."""
    reference = logprobs_of(REFERENCE)
    return lambda logprobs: jnp.where(MASK, value(logprobs - reference), 0.0).sum(axis=1)


def k3(d):
    return jnp.exp(-d) - 1 + d


@pytest.mark.parametrize("sampler", [POLICY, SAMPLER], ids=["on-policy", "off-policy"])
@every
def test_the_expected_gradient_is_that_of_the_divergence_it_claims(estimator, sampler):
    objective = of_responses if estimator == "k1" else functools.partial(of_tokens, sampler)
    exact = jax.grad(objective)(POLICY)
    value, gradient = expectation(sampler, ours(estimator, sampler))
    np.testing.assert_allclose(gradient, exact, atol=2e-6)
    assert np.abs(exact).max() > 0.05
    if estimator == "k2":
        assert abs(float(value - objective(POLICY))) > 0.05
    else:
        np.testing.assert_allclose(value, objective(POLICY), rtol=1e-5)


def test_the_two_divergences_differ_in_gradient_but_not_on_policy_in_value():
    np.testing.assert_allclose(of_responses(POLICY), of_tokens(POLICY, POLICY), rtol=1e-6)
    whole = jax.grad(of_responses)(POLICY)
    fixed = jax.grad(functools.partial(of_tokens, POLICY))(POLICY)
    assert np.abs(whole - fixed).max() > 0.05
    # After two words there is one token left.
    np.testing.assert_allclose(whole[3:], fixed[3:], atol=1e-6)


def test_the_estimators_as_commonly_written():
    """k1 has no gradient, k2 that of KL(pi, ref), and k3 that of KL(ref, pi)."""
    reverse = jax.grad(functools.partial(of_tokens, POLICY))(POLICY)
    forward = jax.grad(functools.partial(of_tokens, POLICY, forward=True))(POLICY)
    gradients = [
        expectation(POLICY, as_commonly_written(value))[1]
        for value in (lambda d: d, lambda d: jnp.square(d) / 2, k3)
    ]
    np.testing.assert_allclose(gradients[0], np.zeros_like(reverse), atol=1e-6)
    np.testing.assert_allclose(gradients[1], reverse, atol=2e-6)
    np.testing.assert_allclose(gradients[2], forward, atol=2e-6)
    assert np.abs(forward - reverse).max() > 0.05


@every
def test_without_importance_weights_samples_of_another_policy_are_biased(estimator):
    objective = of_responses if estimator == "k1" else functools.partial(of_tokens, SAMPLER)
    weight = probability(SAMPLER)
    on_policy = ours(estimator, POLICY)
    biased = jax.grad(lambda logits: (weight * on_policy(logprobs_of(logits))).sum())(POLICY)
    assert np.abs(biased - jax.grad(objective)(POLICY)).max() > 0.02


def test_k2_and_k3_have_one_gradient_and_k1_a_noisier_one():
    def gradients(estimator):
        loss = ours(estimator, POLICY)
        return np.asarray(jax.jacobian(lambda logits: loss(logprobs_of(logits)))(POLICY))

    def variance(values):
        weight = np.asarray(probability(POLICY))
        mean = np.tensordot(weight, values, 1)
        return np.tensordot(weight, np.square(values - mean), 1).sum()

    k1, k2, k3 = map(gradients, KL_ESTIMATORS)
    np.testing.assert_allclose(k2, k3, atol=1e-6)
    assert variance(k1) > 1.2 * variance(k2)
    # The two are one where a response has one token.
    np.testing.assert_allclose(k1[ONE_TOKEN], k2[ONE_TOKEN], atol=1e-6)


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    mask = np.arange(4) < np.array([4, 1, 0, 2])[:, None]
    return *(rng.normal(-1, 0.5, mask.shape).astype(np.float32) for _ in range(3)), mask


def test_values_against_loops():
    new, old, reference, mask = arrays()
    expected = dict.fromkeys(KL_ESTIMATORS, 0.0)
    for n, t in zip(*np.nonzero(mask), strict=True):
        d = new[n, t] - reference[n, t]
        weight = np.exp(new[n, t] - old[n, t])
        product = np.exp((new - old)[n, : t + 1].sum())
        expected["k1"] += product * d / mask.sum()
        expected["k2"] += weight * d**2 / 2 / mask.sum()
        expected["k3"] += weight * (np.exp(-d) - 1 + d) / mask.sum()
    for estimator, value in expected.items():
        loss, metrics = kl_loss(new, old, reference, mask, estimator=estimator)
        np.testing.assert_allclose(loss, value, rtol=1e-5)
        np.testing.assert_allclose(metrics["kl"], expected["k3"], rtol=1e-5)


@every
def test_micro_batches_add_up_and_masked_garbage_has_no_influence(estimator):
    new, old, reference, mask = arrays()
    loss = functools.partial(kl_loss, estimator=estimator)
    whole = jax.grad(lambda new: loss(new, old, reference, mask)[0])(new)
    totals = batch_totals(np.zeros(4), mask)
    dirty = [np.where(mask, x, np.nan) for x in (new, old, reference)]

    parts = []
    for rows in (slice(0, 1), slice(1, 4)):
        cut = [x[rows] for x in (*dirty, mask)]
        parts.append(jax.grad(lambda new, c=cut: loss(new, *c[1:], totals=totals)[0])(cut[0]))
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-7)
    assert np.all(np.asarray(whole)[~mask] == 0)


@every
def test_the_reference_itself_has_neither_value_nor_gradient(estimator):
    new, _, _, mask = arrays()
    loss = functools.partial(kl_loss, estimator=estimator)
    value, gradient = jax.value_and_grad(lambda x: loss(x, new, new, mask)[0])(new)
    assert value == 0 and not np.any(gradient)


def test_near_the_reference_k3_is_more_than_rounding():
    mask = np.ones((1, 3), bool)
    reference = np.zeros((1, 3), np.float32)
    gaps = np.array([[1e-3, -1e-4, 1e-5]], np.float32)
    _, metrics = kl_loss(gaps, gaps, reference, mask)
    np.testing.assert_allclose(metrics["kl"], np.square(gaps).mean() / 2, rtol=2e-3)


def test_far_from_the_reference_everything_is_finite():
    mask = np.ones((1, 3), bool)
    near, far = np.zeros((1, 3), np.float32), np.full((1, 3), -300.0, np.float32)
    for pair in ((near, far), (far, near)):
        for estimator in KL_ESTIMATORS:
            loss, metrics = kl_loss(pair[0], pair[1], pair[1], mask, estimator=estimator)
            assert np.isfinite(loss) and np.isfinite(metrics["kl"])


def test_an_unknown_estimator_is_named():
    new, old, reference, mask = arrays()
    with raises_for("loss.kl_estimator") as error:
        kl_loss(new, old, reference, mask, estimator="k4")
    assert "'k1', 'k2' or 'k3'" in str(error.value)
