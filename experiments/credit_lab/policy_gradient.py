"""Policy gradient on tables, with the library's credit and baselines; many runs at once.

Every agent is a table of logits, one row for each thing it may see. Nothing is decoded, so that a
run takes seconds.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax.rl.credit import make_credit
from ccpo_jax.rl.types import CreditEstimator, Outcome
from ccpo_jax.train.advantage import Advantage
from experiments.credit_lab.tabular import softmax
from experiments.credit_lab.voter_tasks import NEVER, Batch, Task, draw_batch

# Weight of the entropy in a run without any reward, which makes its policies sharper.
_ENTROPY = 0.2


class Arm(NamedTuple):
    """One way to learn.

    Attributes:
      credit: name of the estimator.
      baseline: as in `advantage.baseline` of a run, with its defaults.
      uses_reward: without it the entropy alone is lowered.
      hyper: hyper-parameters of the estimator, as pairs.
    """

    credit: str = "shared"
    baseline: str = "leave_one_out"
    uses_reward: bool = True
    hyper: tuple[tuple[str, int], ...] = ()


ARMS = {
    "shared": Arm(),
    "individual": Arm("individual"),
    "difference": Arm("difference"),
    "ccpo": Arm("ccpo"),
    "cross_play": Arm("cross_play", hyper=(("pairings", 64),)),
    "shapley": Arm("shapley"),
    # Controls.
    "none": Arm(baseline="none"),
    "constant": Arm(baseline="constant"),
    "mean_of_others": Arm(baseline="batch_mean"),
    "no_reward": Arm(uses_reward=False),
}
CONTROLS = ("none", "constant", "mean_of_others", "no_reward")


def make_credit_step(arm: Arm, estimator: CreditEstimator) -> Callable:
    """``(states, outcome) -> (advantages [S, N, B, G], states)`` of S runs."""

    def credit_of_runs(states, outcome):
        fields = outcome[:3]
        if jax.tree.leaves(states):
            update = jax.vmap(
                lambda state, *of_run: estimator.update(state, Outcome(*of_run, outcome[3])),
                in_axes=(0, 1, 1, 1),
            )
            return update(states, *fields)

        # Without a state, credit depends on a prompt alone: all runs make one batch.
        runs, prompts = fields[0].shape[1:3]
        merged = [x.reshape(len(x), runs * prompts, *x.shape[3:]) for x in fields]
        credit, _ = estimator.update(states, Outcome(*merged, outcome[3]))
        return jnp.moveaxis(credit.reshape(len(credit), runs, prompts, -1), 1, 0), states

    centre = jax.vmap(Advantage(arm.baseline))

    @jax.jit
    def step(states, outcome):
        credit, states = credit_of_runs(states, outcome)
        return centre(credit), states

    def credit_step(states, outcome):
        advantages, states = step(states, outcome)
        return np.asarray(advantages, np.float64), states

    return credit_step


def ascent(arm: Arm, logits: np.ndarray, batch: Batch, advantages: np.ndarray) -> np.ndarray:
    """``[S, N, C, M]``: the gradient that the runs climb, estimated from one batch.

    Args:
      arm: how it learns.
      logits: ``[S, N, C, M]``.
      batch: what was said.
      advantages: ``[S, N, B, G]`` of it.
    """
    runs, voters, num_contexts, num_words = logits.shape
    run = np.arange(runs)[:, None, None]
    # [S, B, N, M]
    odds = softmax(logits[run, np.arange(voters), batch.contexts])

    if arm.uses_reward:
        weight = np.moveaxis(advantages, 1, -1)[..., None]
        score = np.eye(num_words)[batch.words] - odds[:, :, None]
        by_problem = (weight * score).mean(axis=2)
    else:
        logprob = np.log(np.maximum(odds, 1e-300))
        entropy = -(odds * logprob).sum(axis=-1, keepdims=True)
        by_problem = _ENTROPY * odds * (logprob + entropy)

    seen = np.eye(num_contexts)[batch.contexts]
    return np.einsum("sbnc,sbnm->sncm", seen, by_problem) / batch.contexts.shape[1]


def evaluate(task: Task, logits: np.ndarray, *, problems: int) -> tuple[np.ndarray, np.ndarray]:
    """E[R] ``[S]`` of the policies as they are, and of those that say their likeliest word.

    Every run is asked the same problems.
    """
    likeliest = logits == logits.max(axis=-1, keepdims=True)
    greedy = np.where(likeliest, 0.0, NEVER)
    greedy_task = task._replace(answers=task.greedy_answers)
    means = []
    for asked, policies in ((task, logits), (greedy_task, greedy)):
        # One run at a time bounds the memory.
        rewards = []
        for policy in policies:
            rng = np.random.default_rng(2**31)
            batch = draw_batch(asked, policy[None], [rng], group=1, prompts=problems, ablated=())
            rewards.append(batch.outcome.reward.mean())
        means.append(np.array(rewards))
    return means[0], means[1]


class Curve(NamedTuple):
    """How one run went: ``[points]``, the first before learning.

    Attributes:
      reward: E[R] of the sampling team.
      greedy: E[R] of the likeliest words.
    """

    reward: np.ndarray
    greedy: np.ndarray


def learn(
    task: Task,
    arm: Arm,
    rates: Sequence[float],
    seeds: Sequence[int],
    *,
    steps: int = 60,
    group: int = 8,
    every: int = 10,
    problems: int = 8192,
) -> dict[tuple[float, int], Curve]:
    """Trains a team with each rate and seed.

    Args:
      task: the team.
      arm: how it learns.
      rates: Adam's learning rates.
      seeds: decide everything drawn in training.
      steps: of training.
      group: G.
      every: steps between evaluations.
      problems: of the last evaluation; those before it have a quarter.
    """
    grid = [(rate, seed) for rate in rates for seed in seeds]
    generators = [np.random.default_rng(seed) for _, seed in grid]
    rate = np.array([rate for rate, _ in grid])[:, None, None, None]

    estimator = make_credit(arm.credit, task.topology, **dict(arm.hyper))
    credit_step = make_credit_step(arm, estimator)
    state = estimator.init()
    states = jax.tree.map(lambda x: np.stack([x] * len(grid)), state)

    logits = np.repeat(task.logits[None], len(grid), axis=0)
    optimizer = init_adam(logits.shape)
    evaluations = [evaluate(task, logits, problems=problems // 4)]
    for step in range(1, steps + 1):
        batch = draw_batch(
            task,
            logits,
            generators,
            group=group,
            prompts=task.prompts,
            ablated=estimator.needs.ablated,
        )
        advantages, states = credit_step(states, batch.outcome)
        direction, optimizer = adam(ascent(arm, logits, batch, advantages), optimizer)
        logits = logits + rate * direction
        if step % every == 0 or step == steps:
            size = problems if step == steps else problems // 4
            evaluations.append(evaluate(task, logits, problems=size))

    reward, greedy = (np.stack(values, axis=1) for values in zip(*evaluations, strict=True))
    return {name: Curve(reward[i], greedy[i]) for i, name in enumerate(grid)}


class AdamState(NamedTuple):
    """Running means of the gradient and of its square."""

    count: int
    mean: np.ndarray
    square: np.ndarray


def init_adam(shape: tuple[int, ...]) -> AdamState:
    """The state before the first step."""
    return AdamState(0, np.zeros(shape), np.zeros(shape))


def adam(gradient: np.ndarray, state: AdamState) -> tuple[np.ndarray, AdamState]:
    """The direction of one step of Adam (arXiv:1412.6980), betas .9 and .999, and its new state."""
    count = state.count + 1
    mean = 0.9 * state.mean + 0.1 * gradient
    square = 0.999 * state.square + 0.001 * gradient**2
    size = np.sqrt(square / (1 - 0.999**count)) + 1e-8
    return mean / (1 - 0.9**count) / size, AdamState(count, mean, square)
