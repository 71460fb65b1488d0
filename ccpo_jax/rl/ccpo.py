"""The paper's credit estimators, arXiv:2603.21563: shaped by history, and by events."""

import jax.numpy as jnp
import numpy as np

from ccpo_jax.rl.estimator_parts import (
    CENTRED,
    contributions,
    masking_only,
    no_state,
    require_decay,
    require_eps,
    require_team,
    require_worlds,
)
from ccpo_jax.rl.moments import init_moments, update_moments
from ccpo_jax.rl.rewards import event_bonus, gated_reward, history_gate, shape_contribution
from ccpo_jax.rl.topology import Topology, is_dyad
from ccpo_jax.rl.types import CCPOState, CreditEstimator, Needs


def ccpo(
    topology: Topology,
    *,
    alpha: float = 1.0,
    eta: float = 1.0,
    decay: float = 0.99,
    eps: float = 1e-6,
    min_samples: int = 10,
) -> CreditEstimator:
    """The paper's counterfactual credit: contributions, shaped by their history.

    Choose it to reproduce arXiv:2603.21563. In the dyad, with D = J - S (joint minus solo reward)
    and the gate g of `history_gate`:

        thinker: tanh(alpha * z(D)),        solver: g * z(J) + (1 - g) * z(S).

    In any other team, with Delta_k the reward lost when agent k is masked,

        agent k: tanh(alpha * z(Delta_k)),

    with one set of statistics for all agents. The statistics from before the step shape the step
    and are updated afterwards. Until `min_samples` values were seen, the credit is the raw
    contribution (for the Solver the joint reward).

    Gradient: not that of E[R]. For fixed statistics each agent climbs the expectation of its shaped
    reward, a surrogate: `tanh` bounds large contributions, and z makes the average contribution of
    the past, not a contribution of 0, the zero of credit.

    Reference: arXiv:2603.21563. Deviation: voting follows the paper's text, its released code has
    none; chains, debates and other graphs are ours and are treated like voting.

    Args:
      topology: the dyad, or a team whose agents can all be masked.
      alpha: slope of the shaping, above 0.
      eta: steepness of the gate; used in the dyad alone.
      decay: weight of the past in the statistics, in [0, 1).
      eps: added to standard deviations, at least 0.
      min_samples: values to see before shaping starts.

    Returns:
      An estimator whose state is a CCPOState; teams other than the dyad use its `delta` alone.

    Raises:
      InputError: `credit.name`, if the team does not fit; `credit.decay` or `credit.eps`, if out of
        range.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> int(ccpo(dyad()).init().delta.count)
      0
    """
    all_masked = set(topology.ablated) == set(range(topology.num_agents))
    require_team(
        all_masked or is_dyad(topology),
        "ccpo",
        topology,
        "the dyad or a team whose agents can all be masked",
    )
    require_decay(decay)
    require_eps(eps)

    def init():
        return CCPOState(init_moments(), init_moments(), init_moments())

    def update(state, outcome):
        delta = contributions(topology, outcome)
        ready = state.delta.count >= min_samples
        shaped = shape_contribution(delta, state.delta, alpha=alpha, eps=eps)
        credit = jnp.where(ready, shaped, delta)
        credit = credit[np.argsort(topology.ablated)]
        new = state._replace(delta=update_moments(state.delta, delta, decay=decay))
        if not is_dyad(topology):
            return credit, new

        joint, solo = jnp.asarray(outcome.reward[:2], jnp.float32)
        solver = jnp.where(ready, gated_reward(joint, solo, state, eta=eta, eps=eps), joint)
        new = new._replace(
            joint=update_moments(state.joint, joint, decay=decay),
            solo=update_moments(state.solo, solo, decay=decay),
        )
        return jnp.stack([credit[0], solver]), new

    def metrics(state):
        named = {}
        for name, moments in state._asdict().items():
            named[f"moments/{name}/mean"] = moments.mean
            named[f"moments/{name}/var"] = moments.var
        return named | {"moments/gate": history_gate(state.delta, eta=eta, eps=eps)}

    return CreditEstimator(init, update, Needs(ablated=topology.ablated), metrics=metrics)


def ccpo_event(topology: Topology, *, weight: float = 0.2, soft: bool = False) -> CreditEstimator:
    """The signed team reward, and for the Thinker a bonus where it reversed the usual outcome.

    Choose it to reproduce the later versions of arXiv:2603.21563. With J = 2 R - 1, which is -1 for
    wrong and 1 for right answers, and the bonus of `event_bonus`,

        c_0 = J + weight * bonus,      c_1 = J.

    Made for centred advantages (`group_advantage` with normalize_std=False) and the GSPO loss;
    dividing by the standard deviation of the group would cancel the bonus.

    Gradient: the Solver's is that of E[J]. The Thinker's is that of E[J] too, with prompts weighted
    by how clear their solo outcome is. Both also hold for fractional rewards, because the bonus is
    linear in J.

    Reference: arXiv:2603.21563, event bonus of the later versions.

    Args:
      topology: the dyad.
      weight: lambda, size of the bonus.
      soft: bonus (J - b) / 2 instead of the event, see `event_bonus`.

    Returns:
      An estimator without state. Credit is in [-1 - weight, 1 + weight].

    Raises:
      InputError: `credit.name`, if the team is not the dyad.

    Example:
      >>> from ccpo_jax.rl.topology import dyad
      >>> ccpo_event(dyad()).needs.ablated
      (0,)
    """
    require_team(is_dyad(topology), "ccpo_event", topology, "the dyad")
    return _ccpo_event(topology, weight, soft)


def _ccpo_event(topology: Topology, weight: float, soft: bool) -> CreditEstimator:
    """`ccpo_event` of a dyad whose Thinker may be left unmasked: the bonus is then 0."""

    def update(state, outcome):
        require_worlds(1 + len(topology.ablated), outcome)
        joint, *solo = 2.0 * jnp.asarray(outcome.reward, jnp.float32) - 1.0
        bonus = event_bonus(joint, solo[0], soft=soft) if solo else 0.0
        return jnp.stack([joint + weight * bonus, joint]), state

    def restrict(agents):
        return _ccpo_event(masking_only(topology, agents), weight, soft)

    needs = Needs(ablated=topology.ablated)
    return CreditEstimator(no_state, update, needs, CENTRED, restrict)
