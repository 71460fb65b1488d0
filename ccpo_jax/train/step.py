"""One training step: rollouts, verdicts, credit, advantages, gradients."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ccpo_jax import data
from ccpo_jax.devices.sharding import put, replicated, state_sharding
from ccpo_jax.learner.packing import TrainSequence, gather_sequences
from ccpo_jax.learner.reference import Reference
from ccpo_jax.learner.replay import SavedBatch, nonfinite_sequences
from ccpo_jax.learner.update import TrainState, update_params
from ccpo_jax.rl.advantages import group_advantage
from ccpo_jax.rl.diagnostics import diagnostics
from ccpo_jax.rl.types import Array, CreditEstimator, HostArray, Outcome, Policy
from ccpo_jax.rollout import Rollout, Team
from ccpo_jax.rollout.thoughts import may_think
from ccpo_jax.scores import is_solved
from ccpo_jax.status import status
from ccpo_jax.train.adapters import base_words
from ccpo_jax.train.advantage import Advantage, token_advantages
from ccpo_jax.train.build import Run
from ccpo_jax.train.cross_reading import with_answer_logprob
from ccpo_jax.train.drawing import Drawn, draw_groups, is_informative
from ccpo_jax.train.guards import describe_nonfinite, explain_oom
from ccpo_jax.train.overlong import overlong_metrics
from ccpo_jax.train.part_scores import has_fractions, part_metrics, part_scores
from ccpo_jax.train.rollouts import Collected, collect_rollouts
from ccpo_jax.train.worlds import known_credit, masked_worlds
from ccpo_jax.verifiers import VerifierPool


class Credited(NamedTuple):
    """Credit and advantage of a batch. Host arrays."""

    credit: HostArray  # [A, B, G] float32
    advantage: HostArray  # [A, B, G] float32
    # [A] bool. False: a masked world of this agent was not decoded, so its credit means nothing.
    known: HostArray


class StepResult(NamedTuple):
    """What a step leaves."""

    state: TrainState
    metrics: dict[str, float]
    collected: Collected
    credited: Credited
    left_out: tuple[SavedBatch, ...]  # updates that were left out because a number was not finite


def train_step(run: Run, state: TrainState, step: int, pool: VerifierPool) -> StepResult:
    """Problems -> rollouts -> verdicts -> credit -> advantages -> gradients -> new state.

    Args:
      run: what to do.
      state: donated.
      step: ``state.step``, steps completed before this one.
      pool: verifiers.
    """
    active = run.schedule.active(step)
    credit = run.step_credits[active]
    drawn = draw_batch(run, state, step, pool)
    collected = drawn.kept

    start = time.perf_counter()
    penalty, weights, assigned = credit_batch(run, state, credit, collected)
    values, advantage, credit_state = assigned
    if drawn.draws > 1 and jax.tree.leaves(credit_state):
        # Informative groups alone would be a biased history.
        credit_state = next_credit_state(credit, state.credit_state, drawn.everything.outcome)
    known = known_credit(run.credit, credit, active, run.team.topology.num_agents)
    advantage_state = next_advantage_state(
        run.advantage, state.advantage_state, values, weights, known
    )
    values, advantage = jax.device_get((values, advantage))
    by_token = None
    if run.advantage.by_token:
        by_token, advantage = token_advantages(
            run.advantage, run.team.topology, collected.rollouts, values
        )
    credited = Credited(values, advantage, known)
    metrics = drawn.everything.metrics | drawn.metrics | rollout_metrics(run, drawn.everything)
    metrics |= diagnostics(
        collected.outcome, credited.credit, credited.advantage, run.team.topology, known=known
    )
    metrics |= credit_metrics(run.credit, state.credit_state)
    if penalty is not None:
        metrics |= overlong_metrics(penalty)

    with explain_oom("update", run.memory_fields.get("update", {})):
        updated = update_agents(run, state, collected, advantage, active, step, by_token=by_token)
    metrics |= updated.metrics | {"time/update": time.perf_counter() - start}
    seconds = sum(metrics[f"time/{part}"] for part in ("rollout", "verify", "update"))
    tokens = drawn.everything.rollouts.decoded_tokens
    metrics |= {"time/step": seconds, "time/tokens_per_second": tokens / seconds}
    new_state = TrainState(
        step=state.step + 1,
        params=updated.params,
        opt_state=updated.opt_state,
        credit_state=jax.device_put(credit_state, replicated(run.layout.mesh)),
        key=state.key,
        drawn=state.drawn + drawn.draws if run.rollout.max_draws > 1 else (),
        advantage_state=jax.device_put(advantage_state, replicated(run.layout.mesh)),
        base=state.base,
    )
    return StepResult(new_state, metrics, collected, credited, updated.left_out)


def initial_state(run: Run) -> TrainState:
    """Step 0: loaded parameters, fresh optimizers, empty statistics."""
    mesh = run.layout.mesh
    optimizers = [run.update_of(index).optimizer for index in range(len(run.params))]
    # One function object for equal optimizers, so that their parameters share a compiled program.
    inits = {optimizer: optimizer.init for optimizer in optimizers}
    everywhere = replicated(mesh)

    def fresh(init: Callable[[Any], Any], params: Any) -> Any:
        shapes = jax.eval_shape(init, params)
        placement = state_sharding(mesh, shapes, run.layout.train)
        return jax.jit(init, out_shardings=placement)(params)

    return TrainState(
        step=put(np.int32(0), everywhere),
        params=run.params,
        opt_state=tuple(
            fresh(inits[optimizer], params)
            for optimizer, params in zip(optimizers, run.params, strict=True)
        ),
        credit_state=put(run.credit.init(), everywhere),
        key=jax.jit(lambda: jax.random.key(run.seed), out_shardings=everywhere)(),
        drawn=put(np.int32(0), everywhere) if run.rollout.max_draws > 1 else (),
        advantage_state=put(run.advantage.init(run.team.topology.num_agents), everywhere),
        base=base_words(run.bases, run.layout),
    )


# --- rollouts -------------------------------------------------------------------------------------


def draw_batch(run: Run, state: TrainState, step: int, pool: VerifierPool) -> Drawn:
    """The rollouts of a step: of one batch of prompts, or of several where groups without a
    gradient are replaced, see `draw_groups`.
    """
    active = run.schedule.active(step)
    credit = run.step_credits[active]
    weights = publish(run.team, state.params, run.bases)

    def draw(position: int, key: jax.Array) -> Collected:
        problems = run.datasets.train.problems
        collected = collect_rollouts(
            run.team,
            weights,
            data.batch_at(problems, run.seed, position, run.rollout.batch_size),
            pool,
            key,
            config=run.rollout,
            needs=credit.needs,
            ablated=masked_worlds(credit, run.team.topology),
            memory_fields=run.memory_fields.get("rollout", {}),
        )
        if credit.needs.answer_logprob:
            return with_answer_logprob(collected, run, run.whole_params(state.params))
        return collected

    def informative(collected: Collected) -> HostArray:
        _, _, (_, advantage, _) = credit_batch(run, state, credit, collected)
        return is_informative(jax.device_get(advantage), active)

    return draw_groups(
        draw,
        informative,
        run.team,
        jax.random.fold_in(state.key, step),
        first=int(state.drawn) if run.rollout.max_draws > 1 else step,
        max_draws=run.rollout.max_draws,
    )


# --- decode weights and credit --------------------------------------------------------------------


def publish(team: Team, params: Sequence[Any], bases: Sequence[Reference] = ()) -> tuple:
    """Decode weights of every parameter set, made once per update.

    Args:
      team: its policies.
      params: P parameter sets, or adapters.
      bases: P, the networks under the adapters; those of one network share its decode weights.
    """
    policies = {agent.parameter_set: agent.policy for agent in team.agents}
    if not bases:
        return tuple(_publish(policies[index], tree) for index, tree in enumerate(params))

    of_base: dict[int, Any] = {}
    weights = []
    for base, adapters in zip(bases, params, strict=True):
        assert base.policy.adapters is not None
        if base.policy.adapters.decodes_merged:
            weights.append(_publish_merged(base.policy, base.params, adapters))
            continue
        if id(base) not in of_base:
            of_base[id(base)] = _publish(base.policy, base.params)
        own = _publish_adapters(base.policy, adapters)
        weights.append(base.policy.adapters.attach(of_base[id(base)], own))
    return tuple(weights)


@functools.partial(jax.jit, static_argnums=0)
def _publish_merged(policy: Policy, params: Any, adapters: Any) -> Any:
    assert policy.adapters is not None
    return policy.publish(policy.adapters.merge(params, adapters))


@functools.partial(jax.jit, static_argnums=0)
def _publish_adapters(policy: Policy, adapters: Any) -> Any:
    assert policy.adapters is not None
    return policy.adapters.publish(adapters)


@functools.partial(jax.jit, static_argnums=0)
def _publish(policy: Policy, params: Any) -> Any:
    return policy.publish(params)


def credit_batch(
    run: Run, state: TrainState, credit: CreditEstimator, collected: Collected
) -> tuple[HostArray | None, Array | HostArray | None, tuple[Array, Array, Any]]:
    """Credit and advantage of a batch, by the statistics from before the step.

    Returns:
      ``(penalty, weights, assigned)``: what length adds to the credit, what the baseline weighs
      responses with, and the result of `assign_credit`.
    """
    penalty = length_penalties(run, collected.rollouts)
    weights = run.advantage.weights(run.team.topology, collected.rollouts, collected.outcome)
    assigned = assign_credit(
        credit,
        run.advantage,
        state.credit_state,
        collected.outcome,
        penalty,
        weights,
        state.advantage_state,
    )
    return penalty, weights, assigned


@functools.partial(jax.jit, static_argnums=(0, 1))
def assign_credit(
    credit: CreditEstimator,
    advantage: Callable[[Array, Any, Any], Array],
    state: Any,
    outcome: Outcome,
    penalty: HostArray | None = None,
    weights: Array | HostArray | None = None,
    advantage_state: Any = (),
) -> tuple[Array, Array, Any]:
    """Outcome -> (credit ``[A, B, G]``, advantage ``[A, B, G]``, new credit state).

    Args:
      credit: the estimator.
      advantage: the baseline.
      state: of the estimator.
      outcome: of the batch.
      penalty: ``[A, B, G]``, what the length of its own responses adds to each agent's credit,
        before the baseline; None = nothing. To an estimator that has a baseline of its own it is
        added without the mean of its group, so that the sum is still centred. The mean holds the
        sample itself: of n texts of a prompt, the expected gradient is (n - 1) / n of the
        penalty's.
      weights: ``[A, B, G]``, what the baseline weighs responses with, where it does.
      advantage_state: of the baseline, from before the step.
    """
    value, state = credit.update(state, outcome)
    if penalty is not None:
        added = jnp.asarray(penalty)
        if credit.baseline.kind == "none":
            added = group_advantage(added, normalize_std=False)
        value = value + added
    return value, advantage(value, weights, advantage_state), state


def length_penalties(run: Run, rollouts: Rollout) -> HostArray | None:
    """What the length of its own responses adds to each agent's credit: ``[A, B, G]``; None = the
    run has no such penalty.
    """
    return None if run.overlong is None else run.overlong(run.team, rollouts)


@functools.partial(jax.jit, static_argnums=0)
def next_credit_state(credit: CreditEstimator, state: Any, outcome: Outcome) -> Any:
    """The credit state after an outcome of any number of groups."""
    return credit.update(state, outcome)[1]


def next_advantage_state(
    rule: Advantage, state: Any, credit: Array, weights: Any, known: HostArray
) -> Any:
    """The baseline's state after a step; () where nothing is carried."""
    return _update_advantage(rule, state, credit, weights, known) if rule.carried else ()


@functools.partial(jax.jit, static_argnums=0)
def _update_advantage(rule: Advantage, state: Any, credit: Array, weights: Array, known: Array):
    return rule.update(state, credit, weights, known)


# --- updates --------------------------------------------------------------------------------------


class Updated(NamedTuple):
    """Parameters and optimizer states after the updates of a step."""

    params: tuple
    opt_state: tuple
    metrics: dict[str, float]
    left_out: tuple[SavedBatch, ...]


def update_agents(
    run: Run,
    state: TrainState,
    collected: Collected,
    advantage: HostArray,
    active: tuple[int, ...],
    step: int,
    *,
    by_token: Sequence[HostArray] | None = None,
) -> Updated:
    """Trains the parameter sets of the active agents. An update that is not finite is left out.

    Args:
      run: what to do.
      state: its trained parameters and optimizer states are donated.
      collected: the batch.
      advantage: ``[A, B, G]``.
      active: agents to train.
      step: steps completed before this one.
      by_token: per turn ``[B, G, T]``, the advantages of its tokens; None = all tokens of a
        response have that of the response.
    """
    params = list(state.params)
    opt_state = list(state.opt_state)
    metrics: dict[str, float] = {}
    left_out = []
    team = run.team
    speakers = team.topology.speakers
    turns_of_set: dict[int, list[int]] = {}
    for turn, speaker in enumerate(speakers):
        if speaker in active:
            turns_of_set.setdefault(team.agents[turn].parameter_set, []).append(turn)

    for index, turns in sorted(turns_of_set.items()):
        agent = team.agents[turns[0]]
        update = run.update_of(index)
        per_turn: HostArray | Sequence[HostArray]
        if by_token is None:
            per_turn = turn_advantages(collected.rollouts, advantage, speakers, turns)
        else:
            per_turn = by_token
        mini_batches = _mini_batches(collected.rollouts, per_turn, turns, update.mini_batches)
        sequences = tuple(s for mini_batch in mini_batches for s in mini_batch)
        set_metrics: dict[str, float] = {}
        if not nonfinite_sequences(sequences):
            roles = dict.fromkeys(team.topology.roles[turn] for turn in turns)
            with status(f"updating {', '.join(roles)}"):
                params[index], opt_state[index], set_metrics = update_params(
                    agent.policy,
                    params[index],
                    opt_state[index],
                    mini_batches,
                    update,
                    pad_id=agent.tokenizer.pad_id,
                    reference=run.references[index] if run.references else None,
                    frozen=run.frozen(index),
                )
        if reason := describe_nonfinite(sequences, set_metrics):
            set_metrics |= {"left_out": 1.0}
            agents = tuple(sorted({speakers[turn] for turn in turns}))
            names = tuple(problem.id for problem in collected.problems)
            left_out.append(SavedBatch(step + 1, agents, names, reason, sequences))
        metrics |= {_metric_name(name, index): value for name, value in set_metrics.items()}
    return Updated(tuple(params), tuple(opt_state), metrics, tuple(left_out))


def _metric_name(name: str, index: int) -> str:
    """A metric of an update in metrics.jsonl; the divergence from the reference is told apart from
    update/approx_kl, that from the sampling policy.
    """
    return f"kl/{index}" if name == "kl" else f"update/{name}/{index}"


def _mini_batches(
    rollouts: Rollout,
    advantage: HostArray | Sequence[HostArray],
    turns: Sequence[int],
    count: int,
) -> list[list[TrainSequence]]:
    """The sequences of `turns` in `count` parts, cut by prompt."""
    size = len(advantage[0]) // count
    return [
        gather_sequences(rollouts, advantage, turns, range(i * size, (i + 1) * size))
        for i in range(count)
    ]


def turn_advantages(
    rollouts: Rollout, advantage: HostArray, speakers: Sequence[int], turns: Sequence[int]
) -> HostArray:
    """Advantages of all turns from those of agents ``[A, B, G]``: every turn has its speaker's.

    Parameters that speak in several of `turns` weigh them alike, also where K answers per text make
    one of them speak
    more often: its sequences count less in the mean over sequences that a loss is.
    """
    samples = np.array([turn.samples_per_variant[0] for turn in rollouts.turns], np.float32)
    weight = samples[list(turns)].mean() / samples
    return advantage[list(speakers)] * weight[:, None, None]


# --- metrics --------------------------------------------------------------------------------------


def rollout_metrics(run: Run, collected: Collected) -> dict[str, float]:
    """Rewards and lengths of a step's rollouts.

    Where scores are more than right and wrong, see `has_fractions`, also the shares of full scores
    and the parts of the scores.
    """
    topology = run.team.topology
    outcome = collected.outcome
    rollouts = collected.rollouts
    reward = float(np.mean(outcome.reward[0]))
    metrics = {
        "reward": reward,
        "team_accuracy": reward,
        "decoded_tokens": float(rollouts.decoded_tokens),
    }
    for index, turn in enumerate(rollouts.turns):
        rows = turn.rows(0)
        metrics[f"response_length/{index}"] = float(np.mean(turn.samples.length[:, rows]))
        metrics[f"truncated/{index}"] = float(np.mean(turn.samples.truncated[:, rows]))
        if may_think(run.team.agents[index], turn):
            unfinished = [of_prompt[rows] for of_prompt in turn.unfinished]
            metrics[f"unfinished_thought/{index}"] = float(np.mean(unfinished))
    for agent in range(topology.num_agents):
        metrics[f"correct/{agent}"] = float(np.mean(outcome.correct[0, ..., agent]))
    if has_fractions(collected.graded):
        metrics["solved"] = float(np.mean(is_solved(outcome.reward[0])))
        for agent in range(topology.num_agents):
            own = outcome.correct[0, ..., agent]
            metrics[f"solved/{agent}"] = float(np.mean(is_solved(own)))
        metrics |= part_metrics(part_scores(topology, rollouts, collected.graded))
    return metrics


def credit_metrics(credit: CreditEstimator, state: Any) -> dict[str, float]:
    """The estimator's state as it names it."""
    if credit.metrics is None:
        return {}
    values = jax.device_get(_state_metrics(credit.metrics, state))
    return {name: float(value) for name, value in values.items()}


@functools.partial(jax.jit, static_argnums=0)
def _state_metrics(metrics: Callable[[Any], dict[str, Array]], state: Any) -> dict[str, Array]:
    return metrics(state)
