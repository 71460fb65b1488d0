"""The program. One step is `train_step`; the rest starts, records and ends a run."""

import contextlib
import functools
import json
import os
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from ccpo_jax import data
from ccpo_jax.advantages import history_gate
from ccpo_jax.checkpoint import Checkpoints
from ccpo_jax.evaluate import Judge, evaluate, hear_ratings
from ccpo_jax.health import Unhealthy, Watch, diagnosis, room_for, sick_rows
from ccpo_jax.journal import Journal
from ccpo_jax.metrics import MetricsWriter, Silence, closing_table, diagnostics, table
from ccpo_jax.packing import gather_rows
from ccpo_jax.processes import any_word, exchange, first, leave, say, together
from ccpo_jax.records import CCPOState, CreditEstimator, Outcome, RunningMoments
from ccpo_jax.rollout import Rollout, rollout
from ccpo_jax.setup import Program, credit_of_step, masked_worlds, resolve
from ccpo_jax.sharding import batch_sharding, put, replicated, state_sharding
from ccpo_jax.stopping import Stopping
from ccpo_jax.topology import Topology
from ccpo_jax.update import TrainState, train_on
from ccpo_jax.verifiers import Graded, VerifierPool
from ccpo_jax.workdir import (
    InputError,
    agree,
    claim,
    compare_config,
    default_workdir,
    input_errors,
    open_checkpoints,
    recall_config,
    remember_config,
    replace_text,
    write_errors,
)

_EVALUATION = 2**31 - 1  # folded into the run's key for evaluations: no training step has this number


def main(config: ConfigDict, config_file: str, workdir: str | None, mode: str, typed: Mapping | None = None) -> int:
    """Runs one mode of the command line.

    Args:
      config: the configuration file's fields, with those typed on the command line put in.
      config_file: its path and preset, which name a new run's folder.
      workdir: the run's folder; None = a new one (train) or the untrained models (eval, sample).
      mode: train, eval, sample or export.
      typed: the fields typed on the command line, flat: all that eval, sample and export change in a run's own
        configuration.

    Returns:
      The exit status: 2 after a mistake in the input, 1 where an update was not finite, each with one line on stderr;
      130 after Ctrl-C.
    """
    from ccpo_jax import modes  # they evaluate with this module's functions

    cache = {
        "jax_compilation_cache_dir": str(pathlib.Path.home() / ".cache" / "ccpo_jax"),
        "jax_persistent_cache_min_compile_time_secs": 0.1,  # a run has dozens of programs that take less than a second
    }
    for name, value in cache.items():
        if not os.environ.get(name.upper()):
            jax.config.update(name, value)
    try:
        if mode == "train":
            train(config, workdir or exchange(default_workdir(config_file))[0])
        else:
            if workdir is not None:
                config = recall_config(config, workdir, typed or {})
            {"eval": modes.evaluate_only, "sample": modes.show_samples, "export": modes.export}[mode](config, workdir)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Unhealthy as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if jax.process_count() == 1:
            raise
        leave(error)
    return 0


# --- one step --------------------------------------------------------------------------------------------------------


def train_step(
    program: Program,
    config,
    state: TrainState,
    pool: VerifierPool,
    watch: Watch | None = None,
    journal: Journal | None = None,
) -> tuple[TrainState, dict[str, float]]:
    """Problems -> rollouts -> verdicts -> credit -> advantages -> gradients -> new state.

    Args:
      program: the resolved configuration.
      config: the configuration itself, for sizes and schedules.
      state: donated.
      pool: verifiers.
      watch: told of updates that are left out because they are not finite.
      journal: told what was said.

    Returns:
      ``(new state, metrics)``.
    """
    step = int(state.step)
    problems = data.batch_at(program.datasets.train.problems, config.seed, step, config.batch_size)
    active = active_agents(program.team.topology, config.trainer, step)
    estimator = credit_of_step(program.credit, program.team.topology, active)
    spoken, graded, result, metrics = play(program, config, state, problems, estimator, pool)
    began = time.perf_counter()
    credit, advantage, credit_state = jax.device_get(
        assign_credit(estimator, program.advantage, state.credit_state, result)
    )
    if estimator is not program.credit:  # the others' worlds were not decoded: their credit is not known
        unknown = np.isin(range(len(credit)), active, invert=True)[:, None, None]
        credit, advantage = (np.where(unknown, np.nan, x) for x in (credit, advantage))
    metrics |= describe(program, spoken, result, credit, advantage, state.credit_state)
    if journal is not None:
        journal.write(step + 1, problems, spoken, graded, result, credit, advantage)
    with room_for("update", config):
        report = functools.partial(watch.report, step=step + 1, problems=[p.id for p in problems]) if watch else None
        params, opt_state, update_metrics = update(program, config, state, spoken, advantage, active, report)
    metrics |= update_metrics | {"time/update": time.perf_counter() - began}
    seconds = sum(metrics[f"time/{part}"] for part in ("rollout", "verify", "update"))
    metrics |= {"time/step": seconds, "time/tokens_per_second": spoken.decoded_tokens / seconds}
    credit_state = put(credit_state, replicated(program.layout.mesh))
    return TrainState(state.step + 1, params, opt_state, credit_state, state.key), metrics


def play(
    program: Program,
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
    questions, key = [p.told for p in problems], jax.random.fold_in(state.key, int(state.step))
    judge, weights = Judge(pool, problems), publish(program, state.params)
    how = dict(
        temperature=config.sample.temperature,
        top_p=config.sample.top_p,
        chunk=config.sample.chunk,
        rows=config.sample.rows,
        sharding=batch_sharding(program.layout.mesh, program.layout.decode),
        stack_agents=config.sample.stack_agents,
    )
    with room_for("rollout", config):
        spoken = rollout(
            program.team,
            weights,
            questions,
            key,
            group_size=config.group_size,
            ablated=masked_worlds(credit, program.team.topology),
            solo_samples=config.solo_samples,
            answers=credit.answers,
            heard=judge.hear,
            **how,
        )
    sampled = time.perf_counter()
    result, counts, graded = judge.grade(program.team, spoken)
    metrics = {f"verifier/{name}": float(count) for name, count in counts.items()}
    if credit.ratings:
        with room_for("rollout", config):
            spoken, result, rated = hear_ratings(program.team, weights, questions, spoken, result, key, **how)
        metrics |= rated
    times = {"time/rollout": sampled - began, "time/verify": time.perf_counter() - sampled}
    return spoken, graded, result, metrics | times


def active_agents(topology: Topology, trainer, step: int) -> tuple[int, ...]:
    """Agents whose responses are trained on in this step."""
    if trainer.schedule == "simultaneous":
        return tuple(range(topology.num_agents))
    return (step // trainer.period % topology.num_agents,)


@functools.partial(jax.jit, static_argnums=(0, 1))
def assign_credit(credit, advantage, state, result: Outcome):
    """Outcome -> (credit [A, B, G], advantage [A, B, G], new credit state)."""
    value, state = credit.update(state, result)
    return value, advantage(value, result.surprisal), state


@functools.partial(jax.jit, static_argnums=0)
def _publish(policy, params):
    return policy.publish(params)


def publish(program: Program, params: tuple) -> tuple:
    """Decode weights of every parameter set, made once per update."""
    policies = {agent.parameter_set: agent.policy for agent in program.team.agents}
    return tuple(_publish(policies[p], params[p]) for p in range(len(params)))


def update(program: Program, config, state: TrainState, spoken: Rollout, advantage: np.ndarray, active, report=None):
    """Trains the parameter sets of the active agents. Returns (params, opt_state, metrics).

    What is not finite is left out, and `report` is told.
    """
    params, opt_state, metrics = list(state.params), list(state.opt_state), {}
    batch, count = advantage.shape[1], config.trainer.mini_batches
    part = batch // count
    agents, speakers = program.team.agents, program.team.topology.speakers
    turns = [turn for turn, speaker in enumerate(speakers) if speaker in active]
    for index in sorted({agents[t].parameter_set for t in turns}):
        mine = [t for t in turns if agents[t].parameter_set == index]
        agent, signal = agents[mine[0]], turn_advantages(spoken, advantage, speakers, mine)
        rows = [gather_rows(spoken, signal, mine, range(i * part, (i + 1) * part)) for i in range(count)]
        everything, found = [row for part in rows for row in part], {}
        if not sick_rows(everything):
            params[index], opt_state[index], found = train_on(
                agent.policy,
                program.loss,
                program.optimizer,
                params[index],
                opt_state[index],
                rows,
                micro=program.micro._replace(pad_id=agent.tokenizer.pad_id),
                skip_silent=config.trainer.skip_silent,
                temperature=config.sample.temperature,
                rescore=count > 1 and config.compute_dtype != "float32",
            )
        if why := diagnosis(everything, found):
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
    rows = np.array([turn.counts[0] for turn in spoken.turns], np.float32)
    return advantage[list(speakers)] * (rows[list(turns)].mean() / rows)[:, None, None]


_history_gate = jax.jit(history_gate)


def describe(program: Program, spoken: Rollout, result: Outcome, credit, advantage, credit_state) -> dict[str, float]:
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
    metrics |= diagnostics(result, credit, advantage, program.team.topology)
    if isinstance(credit_state, CCPOState):
        for name, moments in credit_state._asdict().items():
            metrics |= {f"moments/{name}/mean": float(moments.mean), f"moments/{name}/var": float(moments.var)}
        metrics["moments/gate"] = float(_history_gate(credit_state.delta))
    elif isinstance(credit_state, RunningMoments):
        for a, (mean, var) in enumerate(zip(np.ravel(credit_state.mean), np.ravel(credit_state.var), strict=True)):
            metrics |= {f"moments/{a}/mean": float(mean), f"moments/{a}/var": float(var)}
    return metrics


# --- a run -----------------------------------------------------------------------------------------------------------


def initial_state(program: Program, config) -> TrainState:
    """Step 0: loaded parameters, fresh optimizers, empty statistics."""
    mesh, init = program.layout.mesh, program.optimizer.init
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


def train(config: ConfigDict, workdir: str) -> dict[str, float]:
    """Trains a team; resumes by itself where `workdir` holds checkpoints.

    Args:
      config: fields of configs/base.py.
      workdir: holds config.json, metrics.jsonl, rollouts.jsonl, TensorBoard files and checkpoints/.

    Returns:
      The last evaluation's metrics; those of the last step where SIGTERM ended the run early.

    Raises:
      InputError: (a ValueError) one line about what is wrong with the configuration, a file or the workdir, or which
        field to lower where memory ran out.
      Unhealthy: an update was not finite and ``trainer.not_finite`` is "stop".
      KeyboardInterrupt: Ctrl-C ended the run early. In either case all steps are saved.
    """
    with contextlib.ExitStack() as held:
        stopping = held.enter_context(Stopping())
        with input_errors():
            agree(config, workdir)
            held.enter_context(claim(workdir))
            with together():
                compare_config(config, workdir)
                with room_for("loading", config):
                    program = resolve(config)
                    state = initial_state(program, config)
            with write_errors(workdir):
                checkpoints = open_checkpoints(config, workdir)
                if checkpoints.latest_step() is not None:
                    _, state = checkpoints.restore(state)
                start = int(state.step)
                if start < config.steps:
                    checkpoints.require_room(state)
                remember_config(config, workdir, start)
        say(f"workdir {workdir}" + (f", resuming after step {start}" if start else ""), file=sys.stderr)
        for dataset in (program.datasets.train, program.datasets.heldout, *program.datasets.tests):
            say(dataset.summary(), file=sys.stderr)
        watch = Watch(pathlib.Path(workdir, "not_finite"), program.team.topology.agent_roles, config.trainer.not_finite)
        with (
            write_errors(workdir),
            checkpoints,
            writing(workdir, start, config) as writer,
            journaling(workdir, start, config, program.team.topology) as journal,
            VerifierPool(**config.verifier) as pool,
        ):
            metrics, asked = {}, ""
            if start == 0 and not any_word(stopping.asked):
                sets = heldout_set(program) | test_sets(program)
                writer.write(0, evaluation(program, config, state.params, pool, sets))
            while (step := int(state.step)) < config.steps and not ((asked := any_word(stopping.asked)) or watch.stop):
                state, metrics = train_step(program, config, state, pool, watch, journal)
                metrics = record(program, config, state, metrics, pool, writer, checkpoints, step + 1)
            if step == config.steps and not watch.stop:
                return finish(program, config, state, pool, writer, checkpoints)
            if step and checkpoints.latest_step() != step:
                checkpoints.save(step, state, metrics=metrics)
        return end_early(asked, watch.stop, step, config.steps, metrics)


def end_early(asked: str, unhealthy: str, step: int, steps: int, metrics: dict[str, float]) -> dict[str, float]:
    """Says where the run stands, now that it is saved; the metrics of its last step, or the reason as an exception."""
    where = f"saved after step {step} of {steps}, where the same command resumes" if step else "nothing to save yet"
    if unhealthy:
        raise Unhealthy(f"{unhealthy}; {where}; --config.trainer.not_finite=skip goes on by itself")
    say(f"stopped by {asked}: {where}", file=sys.stderr)
    if asked == "SIGINT":
        raise KeyboardInterrupt
    return metrics


def record(program, config, state, metrics, pool, writer, checkpoints, step: int) -> dict[str, float]:
    """Writes a step's metrics; evaluates and saves when due, always after the last step. Returns all its metrics."""
    last = step == config.steps
    if last or config.eval_every and step % config.eval_every == 0:
        metrics = metrics | evaluation(program, config, state.params, pool, heldout_set(program))
    writer.write(step, metrics)
    if last or config.checkpoint_every and step % config.checkpoint_every == 0:
        checkpoints.save(step, state, metrics=metrics)
    return metrics


def writing(workdir: str, start: int, config):
    """The run's metrics, in the first process; the others write nothing."""
    if not first():
        return Silence()
    return MetricsWriter(workdir, resume_step=start, total_steps=config.steps, **config.log)


def journaling(workdir: str, start: int, config, topology: Topology):
    """What was said, kept by the first process; None in the others."""
    if not first():
        return contextlib.nullcontext()
    return Journal(workdir, topology, resume_step=start, total_steps=config.steps, **config.journal)


def heldout_set(program: Program) -> dict[str, data.Dataset]:
    """The problems that select the best checkpoint, under the prefix of their metrics."""
    return {"eval": program.datasets.heldout} if program.datasets.heldout.problems else {}


def test_sets(program: Program) -> dict[str, data.Dataset]:
    """The problems that are only reported on."""
    return {f"test/{dataset.name}": dataset for dataset in program.datasets.tests}


def evaluation(program: Program, config, params, pool, sets: Mapping[str, data.Dataset]) -> dict[str, float]:
    """``<prefix>/...`` metrics of every set."""
    began = time.perf_counter()
    weights = publish(program, params)
    key = jax.random.fold_in(jax.random.key(config.seed), _EVALUATION)
    sharding = batch_sharding(program.layout.mesh, program.layout.decode)
    metrics = {}
    for prefix, dataset in sets.items():
        with room_for("evaluation", config):
            found = evaluate(program.team, weights, dataset.problems, pool, key, program.evaluation, sharding=sharding)
        metrics |= {f"{prefix}/{name}": value for name, value in found.items()}
    return metrics | {"time/eval": time.perf_counter() - began}


def finish(program, config, state: TrainState, pool, writer: MetricsWriter, checkpoints: Checkpoints) -> dict:
    """Closing tables: held-out problems before and after training, and test sets with the best checkpoint."""
    checkpoints.wait()  # a disk that is full shows now, not behind the results
    lines = exchange(writer.lines())[0]
    before, after = lines[0], next((line for line in reversed(lines) if "eval/team_accuracy" in line), lines[0])
    topology = program.team.topology
    if "eval/team_accuracy" in before:
        say("held-out problems\n" + closing_table(table(before, "eval", topology), table(after, "eval", topology)))
    if sets := test_sets(program):
        best, chosen = best_state(state, checkpoints)
        after = after | evaluation(program, config, chosen.params, pool, sets)
        for prefix, dataset in sets.items():
            say(f"{dataset.name}, checkpoint of step {best}")
            say(closing_table(table(before, prefix, topology), table(after, prefix, topology)))
    if first():
        replace_text(writer.workdir / "result.json", json.dumps({"before": before, "after": after}, indent=1))
    return after


def best_state(state: TrainState, checkpoints: Checkpoints) -> tuple[int, TrainState]:
    """The step and state of the best checkpoint; those at hand where none is better or the best is damaged."""
    best, here = checkpoints.best_step(), int(state.step)
    if best in (None, here):
        return here, state
    try:
        return checkpoints.restore(state, step=best)
    except ValueError as error:
        say(f"warning: the last step's parameters are reported on, not the best: {error}", file=sys.stderr)
        return here, state
