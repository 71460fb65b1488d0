"""The program. One step is `train_step`; the rest starts, records and ends a run."""

import contextlib
import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax

from ccpo_jax import data
from ccpo_jax.config import Config, parse
from ccpo_jax.devices.distributed import (
    all_gather_objects,
    first_nonempty,
    is_main_process,
    print_main,
    sync_errors,
)
from ccpo_jax.devices.sharding import batch_sharding
from ccpo_jax.errors import as_input_error
from ccpo_jax.learner.update import TrainState
from ccpo_jax.rl.topology import Topology
from ccpo_jax.train.build import Run, build
from ccpo_jax.train.evaluate import evaluate
from ccpo_jax.train.guards import NonFiniteGuard, NonFiniteUpdateError, explain_oom
from ccpo_jax.train.signals import Stopping
from ccpo_jax.train.step import initial_state, publish, train_step
from ccpo_jax.verifiers import VerifierPool
from ccpo_jax.workdir import (
    Checkpoints,
    MetricsWriter,
    NullWriter,
    RolloutLog,
    accuracy_rows,
    accuracy_table,
    as_disk_error,
    lock_workdir,
    open_checkpoints,
    write_atomically,
)
from ccpo_jax.workdir.run_config import check_same_config, compare_config, save_config

_EVALUATION = (
    2**31 - 1
)  # folded into the run's key for evaluations: no training step has this number


def train(config: Config | Mapping[str, Any], workdir: str) -> dict[str, float]:
    """Trains a team; resumes by itself where `workdir` holds checkpoints.

    Args:
      config: a `Config`, or nested mappings of its fields such as a ConfigDict.
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
        with as_input_error():
            config = parse(config)
            check_same_config(config, workdir)
            held.enter_context(lock_workdir(workdir))
            with sync_errors():
                compare_config(config, workdir)
                with explain_oom("loading", config):
                    program = build(config)
                    state = initial_state(program, config)
            with as_disk_error(workdir):
                checkpoints = open_checkpoints(workdir, keep_last=config.keep_last)
                if checkpoints.latest_step() is not None:
                    _, state = checkpoints.restore(state)
                start = int(state.step)
                if start < config.steps:
                    checkpoints.check_disk_space(state)
                save_config(config, workdir, start)
        print_main(
            f"workdir {workdir}" + (f", resuming after step {start}" if start else ""),
            file=sys.stderr,
        )
        for dataset in (program.datasets.train, program.datasets.heldout, *program.datasets.tests):
            print_main(dataset.summary(), file=sys.stderr)
        watch = NonFiniteGuard(
            pathlib.Path(workdir, "not_finite"),
            program.team.topology.agent_roles,
            config.trainer.not_finite,
        )
        with (
            as_disk_error(workdir),
            checkpoints,
            writing(workdir, start, config) as writer,
            journaling(workdir, start, config, program.team.topology) as journal,
            VerifierPool(**dataclasses.asdict(config.verifier)) as pool,
        ):
            metrics, asked = {}, ""
            if start == 0 and not first_nonempty(stopping.asked):
                sets = heldout_set(program) | test_sets(program)
                writer.write(0, evaluation(program, config, state.params, pool, sets))
            while (step := int(state.step)) < config.steps and not (
                (asked := first_nonempty(stopping.asked)) or watch.stop
            ):
                state, metrics = train_step(program, config, state, pool, watch, journal)
                metrics = record(
                    program, config, state, metrics, pool, writer, checkpoints, step + 1
                )
            if step == config.steps and not watch.stop:
                return finish(program, config, state, pool, writer, checkpoints)
            if step and checkpoints.latest_step() != step:
                checkpoints.save(step, state, metrics=metrics)
        return end_early(asked, watch.stop, step, config.steps, metrics)


def end_early(
    asked: str, unhealthy: str, step: int, steps: int, metrics: dict[str, float]
) -> dict[str, float]:
    """Says where the run stands, now that it is saved; the metrics of its last step, or the reason as an exception."""
    where = (
        f"saved after step {step} of {steps}, where the same command resumes"
        if step
        else "nothing to save yet"
    )
    if unhealthy:
        raise NonFiniteUpdateError(
            f"{unhealthy}; {where}; --config.trainer.not_finite=skip goes on by itself"
        )
    print_main(f"stopped by {asked}: {where}", file=sys.stderr)
    if asked == "SIGINT":
        raise KeyboardInterrupt
    return metrics


def record(
    program, config, state, metrics, pool, writer, checkpoints, step: int
) -> dict[str, float]:
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
    if not is_main_process():
        return NullWriter()
    return MetricsWriter(
        workdir, resume_step=start, total_steps=config.steps, **dataclasses.asdict(config.log)
    )


def journaling(workdir: str, start: int, config, topology: Topology):
    """What was said, kept by the first process; None in the others."""
    if not is_main_process():
        return contextlib.nullcontext()
    return RolloutLog(
        workdir,
        topology,
        resume_step=start,
        total_steps=config.steps,
        problems=config.rollout_log.problems,
        every=config.rollout_log.every,
    )


def heldout_set(program: Run) -> dict[str, data.Dataset]:
    """The problems that select the best checkpoint, under the prefix of their metrics."""
    return {"eval": program.datasets.heldout} if program.datasets.heldout.problems else {}


def test_sets(program: Run) -> dict[str, data.Dataset]:
    """The problems that are only reported on."""
    return {f"test/{dataset.name}": dataset for dataset in program.datasets.tests}


def evaluation(
    program: Run, config, params, pool, sets: Mapping[str, data.Dataset]
) -> dict[str, float]:
    """``<prefix>/...`` metrics of every set."""
    began = time.perf_counter()
    weights = publish(program, params)
    key = jax.random.fold_in(jax.random.key(config.seed), _EVALUATION)
    sharding = batch_sharding(program.layout.mesh, program.layout.decode)
    metrics = {}
    for prefix, dataset in sets.items():
        with explain_oom("evaluation", config):
            found = evaluate(
                program.team,
                weights,
                dataset.problems,
                pool,
                key,
                program.evaluation,
                sharding=sharding,
            )
        metrics |= {f"{prefix}/{name}": value for name, value in found.items()}
    return metrics | {"time/eval": time.perf_counter() - began}


def finish(
    program, config, state: TrainState, pool, writer: MetricsWriter, checkpoints: Checkpoints
) -> dict:
    """Closing tables: held-out problems before and after training, and test sets with the best checkpoint."""
    checkpoints.wait()  # a disk that is full shows now, not behind the results
    lines = all_gather_objects(writer.lines())[0]
    before, after = (
        lines[0],
        next((line for line in reversed(lines) if "eval/team_accuracy" in line), lines[0]),
    )
    topology = program.team.topology
    if "eval/team_accuracy" in before:
        print_main(
            "held-out problems\n"
            + accuracy_table(
                accuracy_rows(before, "eval", topology), accuracy_rows(after, "eval", topology)
            )
        )
    if sets := test_sets(program):
        best, chosen = best_state(state, checkpoints)
        after = after | evaluation(program, config, chosen.params, pool, sets)
        for prefix, dataset in sets.items():
            print_main(f"{dataset.name}, checkpoint of step {best}")
            print_main(
                accuracy_table(
                    accuracy_rows(before, prefix, topology), accuracy_rows(after, prefix, topology)
                )
            )
    if is_main_process():
        write_atomically(
            writer.workdir / "result.json", json.dumps({"before": before, "after": after}, indent=1)
        )
    return after


def best_state(state: TrainState, checkpoints: Checkpoints) -> tuple[int, TrainState]:
    """The step and state of the best checkpoint; those at hand where none is better or the best is damaged."""
    best, here = checkpoints.best_step(), int(state.step)
    if best in (None, here):
        return here, state
    try:
        return checkpoints.restore(state, step=best)
    except ValueError as error:
        print_main(
            f"warning: the last step's parameters are reported on, not the best: {error}",
            file=sys.stderr,
        )
        return here, state
