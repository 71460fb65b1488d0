"""Random outcomes of small teams, and the credit that estimators give for them."""

import functools

import jax
import numpy as np

from ccpo_jax import Outcome, Topology, agent_masks, make_credit, team_reward
from ccpo_jax.rl.topology import chain, debate, dyad, graph, solo, voting

CHAIN = Topology(
    "chain", roles=("a", "b", "c"), reads=((), (0,), (1,)), ablated=(0, 1), decision="last"
)
GRAPHS = (chain(3), debate(2), graph())
# The teams that each estimator is tested with.
FITS = {
    "shared": (solo(), dyad(), voting(1), voting(3), CHAIN, *GRAPHS),
    "magrpo": (solo(), dyad(), voting(3), CHAIN, *GRAPHS),
    "individual": (voting(1), voting(3), debate(2)),
    "ccpo": (dyad(), voting(1), voting(3), *GRAPHS),
    "ccpo_event": (dyad(),),
    "sepo": (dyad(),),
    "difference": (solo(), dyad(), voting(3), CHAIN, *GRAPHS),
    "agent_norm": (solo(), dyad(), voting(3), CHAIN, *GRAPHS),
    "cross_play": (voting(1), voting(3), voting(4), voting(8)),
    "shapley": (solo(), dyad(), voting(3), voting(4), voting(12), CHAIN, *GRAPHS),
    "nested": (dyad(), CHAIN, chain(3)),
    "pooled": (dyad(),),
    "cross_read": (dyad(),),
}
# Samples per prompt, for others 4: two thoughts, and four answers to every text in a chain of three.
SAMPLES = {"nested": 32, "pooled": 4}
reward_of = jax.jit(team_reward, static_argnums=0)


def outcome_of(team, batch=3, group=4, seed=0, ablated=None):
    """A random outcome that obeys the team's rule; worlds that decode texts have answers of their own."""
    ablated = team.ablated if ablated is None else ablated
    worlds = 1 if team.decision == "vote" and not any(team.reads) else 1 + len(ablated)
    answer_id = np.random.default_rng(seed).integers(-1, 3, (worlds, batch, group, team.num_agents))
    return answered(team, answer_id, ablated)


def outcome_for(name, team, **how):
    """A random outcome that holds what this estimator needs."""
    estimator = make_credit(name, team)
    outcome = outcome_of(
        team, **{"ablated": estimator.needs.ablated, "group": SAMPLES.get(name, 4)} | how
    )
    if estimator.needs.ratings:
        tenths = np.random.default_rng(how.get("seed", 0)).integers(
            1, 10, (2, *outcome.reward.shape[1:])
        )
        outcome = outcome._replace(
            shares=np.stack([tenths, 10 - tenths], -1).astype(np.float32) / 10
        )
    if estimator.needs.answer_logprob:
        batch, group = outcome.reward.shape[1:]
        rng = np.random.default_rng(how.get("seed", 0))
        logprob = np.log(rng.random((group, batch, group), np.float32))
        outcome = outcome._replace(answer_logprob=logprob)
    return outcome


def answered(team, answer_id, ablated=None):
    """Outcome of the answers ``[W or 1, B, G, A]``; answer 0 is right."""
    masks = agent_masks(team.num_agents, team.ablated if ablated is None else ablated)
    answer_id = np.broadcast_to(answer_id, (len(masks), *np.shape(answer_id)[1:]))
    correct = (answer_id == 0).astype(np.float32)
    return Outcome(
        np.asarray(reward_of(team, correct, answer_id, masks)), correct, answer_id, masks
    )


def voting_outcome(votes, tie="expected"):
    """Outcome of the votes ``[B, G, A]``."""
    return answered(voting(np.shape(votes)[-1], tie), np.asarray(votes)[None])


def dyad_outcome(joint, solo):
    """Outcome of joint and solo correctness ``[B, G]``."""
    solver = np.where(np.array([joint, solo]) > 0, 0, 1)
    return answered(dyad(), np.stack([np.full_like(solver, -1), solver], axis=-1))


@functools.cache
def compiled(name, team, hyper=()):
    return jax.jit(make_credit(name, team, **dict(hyper)).update)


def credit_of(name, team, outcome, state=None, **hyper):
    state = make_credit(name, team, **hyper).init() if state is None else state
    return np.asarray(compiled(name, team, tuple(hyper.items()))(state, outcome)[0])
