"""One training step: rollouts, verdicts, credit, advantages, gradients."""

import functools
import time
from collections.abc import Sequence

import jax
import numpy as np

from ccpo_jax import data
from ccpo_jax.devices.sharding import batch_sharding, put, replicated, state_sharding
from ccpo_jax.learner.packing import gather_sequences
from ccpo_jax.learner.replay import nonfinite_sequences
from ccpo_jax.learner.update import TrainState, update_params
from ccpo_jax.rl.diagnostics import diagnostics
from ccpo_jax.rl.topology import Topology
from ccpo_jax.rl.types import CreditEstimator, Outcome
from ccpo_jax.rollout import Rollout, rollout
from ccpo_jax.sampler import SamplingParams
from ccpo_jax.train.build import Run, credit_of_step, masked_worlds
from ccpo_jax.train.evaluate import collect_ratings
from ccpo_jax.train.guards import (
    NonFiniteGuard,
    describe_nonfinite,
    explain_oom,
)
from ccpo_jax.verifiers import Graded, VerifierPool
from ccpo_jax.verifiers.grader import Grader
from ccpo_jax.workdir import RolloutLog, StepBatch


def train_step(
    program: Run,
    config,
    state: TrainState,
    pool: VerifierPool,
    watch: NonFiniteGuard | None = None,
    rollout_log: RolloutLog | None = None,
) -> tuple[TrainState, dict[str, float]]:
    """Problems -> rollouts -> verdicts -> credit -> advantages -> gradients -> new state.

    Args:
      program: the resolved configuration.
      config: the configuration itself, for sizes and schedules.
      state: donated.
      pool: verifiers.
      watch: told of updates that are left out because they are not finite.
      rollout_log: receives the rollouts.

    Returns:
      ``(new state, metrics)``.
    """
    step = int(state.step)
    problems = data.batch_at(program.datasets.train.problems, config.seed, step, config.batch_size)
    active = active_agents(program.team.topology, config.trainer, step)
    estimator = credit_of_step(program.credit, program.team.topology, active)
    spoken, graded, result, metrics = collect_rollouts(
        program, config, state, problems, estimator, pool
    )
    began = time.perf_counter()
    credit, advantage, credit_state = jax.device_get(
        assign_credit(estimator, program.advantage, state.credit_state, result)
    )
    known = known_credit(program, estimator, active)
    metrics |= step_metrics(program, spoken, result, credit, advantage, known, state.credit_state)
    if rollout_log is not None:
        batch = StepBatch(problems, spoken, graded, result, credit, advantage, known)
        rollout_log.write(step + 1, batch)
    with explain_oom("update", config):
        report = (
            functools.partial(watch.report, step=step + 1, problems=[p.id for p in problems])
            if watch
            else None
        )
        params, opt_state, update_metrics = update_agents(
            program, state, spoken, advantage, active, report
        )
    metrics |= update_metrics | {"time/update": time.perf_counter() - began}
    seconds = sum(metrics[f"time/{part}"] for part in ("rollout", "verify", "update"))
    metrics |= {"time/step": seconds, "time/tokens_per_second": spoken.decoded_tokens / seconds}
    credit_state = put(credit_state, replicated(program.layout.mesh))
    return TrainState(state.step + 1, params, opt_state, credit_state, state.key), metrics


def collect_rollouts(
    program: Run,
    config,
    state: TrainState,
    problems: Sequence[data.Problem],
    credit: CreditEstimator,
    pool: VerifierPool,
) -> tuple[Rollout, list[Graded], Outcome, dict[str, float]]:
    """A step's rollouts with their verdicts, in the worlds and with the ratings that `credit` reads.

    Returns:
      ``(spoken, graded, outcome, metrics)``.
    """
    began = time.perf_counter()
    questions, key = (
        [p.prompt_text for p in problems],
        jax.random.fold_in(state.key, int(state.step)),
    )
    judge, weights = Grader(pool, problems), publish(program, state.params)
    sampling = SamplingParams(
        temperature=config.sample.temperature,
        top_p=config.sample.top_p,
        decode_chunk=config.sample.decode_chunk,
        max_concurrent=config.sample.max_concurrent,
        sharding=batch_sharding(program.layout.mesh, program.layout.decode),
    )
    with explain_oom("rollout", config):
        spoken = rollout(
            program.team,
            weights,
            questions,
            key,
            group_size=config.group_size,
            sampling=sampling,
            ablated=masked_worlds(credit, program.team.topology),
            masked_samples=config.credit.solo_samples,
            answers_per_text=credit.needs.answers_per_text,
            on_prompt_done=judge.submit,
        )
    sampled = time.perf_counter()
    result, counts, graded = judge.collect(program.team, spoken)
    metrics = {f"verifier/{name}": float(count) for name, count in counts.items()}
    if credit.needs.ratings:
        with explain_oom("rollout", config):
            spoken, result, rated = collect_ratings(
                program.team, weights, questions, spoken, result, key, sampling=sampling
            )
        metrics |= rated
    times = {"time/rollout": sampled - began, "time/verify": time.perf_counter() - sampled}
    return spoken, graded, result, metrics | times


def active_agents(topology: Topology, trainer, step: int) -> tuple[int, ...]:
    """Agents whose responses are trained on in this step."""
    if trainer.schedule == "simultaneous":
        return tuple(range(topology.num_agents))
    return (step // trainer.period % topology.num_agents,)


def known_credit(program: Run, estimator: CreditEstimator, active: tuple[int, ...]) -> np.ndarray:
    """``[A]`` bool: agents whose credit a step computes, all but those whose worlds `restrict` left out."""
    agents = range(program.team.topology.num_agents)
    if estimator is program.credit:
        return np.ones(len(agents), bool)
    return np.isin(agents, active)


@functools.partial(jax.jit, static_argnums=(0, 1))
def assign_credit(credit, advantage, state, result: Outcome):
    """Outcome -> (credit [A, B, G], advantage [A, B, G], new credit state)."""
    value, state = credit.update(state, result)
    return value, advantage(value, result.surprisal), state


@functools.partial(jax.jit, static_argnums=0)
def _publish(policy, params):
    return policy.publish(params)


def publish(program: Run, params: tuple) -> tuple:
    """Decode weights of every parameter set, made once per update."""
    policies = {agent.parameter_set: agent.policy for agent in program.team.agents}
    return tuple(_publish(policies[p], params[p]) for p in range(len(params)))


def update_agents(
    program: Run,
    state: TrainState,
    spoken: Rollout,
    advantage: np.ndarray,
    active,
    report=None,
):
    """Trains the parameter sets of the active agents. Returns (params, opt_state, metrics).

    What is not finite is left out, and `report` is told.
    """
    params, opt_state, metrics = list(state.params), list(state.opt_state), {}
    count = program.update.mini_batches
    part = advantage.shape[1] // count
    agents, speakers = program.team.agents, program.team.topology.speakers
    turns = [turn for turn, speaker in enumerate(speakers) if speaker in active]
    for index in sorted({agents[t].parameter_set for t in turns}):
        mine = [t for t in turns if agents[t].parameter_set == index]
        agent, signal = agents[mine[0]], turn_advantages(spoken, advantage, speakers, mine)
        rows = [
            gather_sequences(spoken, signal, mine, range(i * part, (i + 1) * part))
            for i in range(count)
        ]
        everything, found = [row for part in rows for row in part], {}
        if not nonfinite_sequences(everything):
            params[index], opt_state[index], found = update_params(
                agent.policy,
                params[index],
                opt_state[index],
                rows,
                program.update,
                pad_id=agent.tokenizer.pad_id,
            )
        if why := describe_nonfinite(everything, found):
            found |= {"left_out": 1.0}
            if report is not None:
                report(why, everything, agents=sorted({speakers[t] for t in mine}))
        metrics |= {f"update/{name}/{index}": value for name, value in found.items()}
    return tuple(params), tuple(opt_state), metrics


def turn_advantages(spoken: Rollout, advantage: np.ndarray, speakers, turns) -> np.ndarray:
    """Advantages of turns from those of agents ``[A, B, G]``: every turn has its speaker's.

    Parameters that speak in several of `turns` weigh them alike, also where K answers per thought make one of them
    speak more often: its rows count less in the mean over rows that a loss is.
    """
    rows = np.array([turn.samples_per_variant[0] for turn in spoken.turns], np.float32)
    return advantage[list(speakers)] * (rows[list(turns)].mean() / rows)[:, None, None]


@functools.partial(jax.jit, static_argnums=0)
def _state_metrics(metrics, state):
    return metrics(state)


def step_metrics(
    program: Run, spoken: Rollout, result: Outcome, credit, advantage, known, credit_state
) -> dict[str, float]:
    """What a step's rollouts looked like: rewards, lengths, and the diagnostics of credit."""
    metrics = {
        "reward": float(np.mean(result.reward[0])),
        "team_accuracy": float(np.mean(result.reward[0])),
        "decoded_tokens": float(spoken.decoded_tokens),
    }
    for t, turn in enumerate(spoken.turns):
        rows = turn.rows(0)
        metrics[f"response_length/{t}"] = float(np.mean(turn.samples.length[:, rows]))
        metrics[f"truncated/{t}"] = float(np.mean(turn.samples.truncated[:, rows]))
    for a in range(program.team.topology.num_agents):
        metrics[f"correct/{a}"] = float(np.mean(result.correct[0, ..., a]))
    metrics |= diagnostics(result, credit, advantage, program.team.topology, known=known)
    if program.credit.metrics is not None:
        described = jax.device_get(_state_metrics(program.credit.metrics, credit_state))
        metrics |= {name: float(value) for name, value in described.items()}
    return metrics


def initial_state(program: Run, config) -> TrainState:
    """Step 0: loaded parameters, fresh optimizers, empty statistics."""
    mesh, init = program.layout.mesh, program.update.optimizer.init
    everywhere = replicated(mesh)

    def fresh(params):
        where = state_sharding(mesh, jax.eval_shape(init, params), program.layout.train)
        return jax.jit(init, out_shardings=where)(params)

    return TrainState(
        step=put(np.int32(0), everywhere),
        params=program.params,
        opt_state=tuple(fresh(p) for p in program.params),
        credit_state=put(program.credit.init(), everywhere),
        key=jax.jit(lambda: jax.random.key(config.seed), out_shardings=everywhere)(),
    )
