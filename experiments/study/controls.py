"""The control that no configuration can ask for: training without any reward."""

import dataclasses

import jax.numpy as jnp

from ccpo_jax.rl.types import CreditEstimator
from ccpo_jax.train.build import Run
from experiments.study.tasks import ENTROPY_WEIGHT


def without_reward(run: Run) -> Run:
    """The same run with all credit 0 and the entropy of its tokens as the loss.

    No gradient comes from a reward: what such a run gains, less random sampling gains. It minimises
    ``ENTROPY_WEIGHT`` times the mean token entropy.
    """

    def nothing(state, outcome):
        agents = outcome.agent_mask.shape[1]
        return jnp.zeros((agents, *outcome.reward.shape[1:])), state

    credit = CreditEstimator(tuple, nothing, baseline=run.credit.baseline)
    loss = dataclasses.replace(run.update.loss, entropy_bonus=-ENTROPY_WEIGHT)
    update = dataclasses.replace(run.update, loss=loss)
    return dataclasses.replace(run, credit=credit, update=update)
