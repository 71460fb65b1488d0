"""The training loop: steps, evaluations, checkpoints and files of a run."""

import contextlib
import inspect
import json
import numbers
import pathlib
import signal
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from ccpo_jax import data
from ccpo_jax.config import Config, to_json
from ccpo_jax.devices.distributed import (
    all_gather_objects,
    first_nonempty,
    is_main_process,
    print_main,
    sync_errors,
)
from ccpo_jax.errors import InputError, RewardError, as_input_error
from ccpo_jax.learner.update import TrainState
from ccpo_jax.reward_names import files_of
from ccpo_jax.status import status
from ccpo_jax.train.adapters import check_bases
from ccpo_jax.train.answers import Answered, answer_problems, sampling_of
from ccpo_jax.train.build import Run, build, memory_fields
from ccpo_jax.train.drawing import ShortBatches
from ccpo_jax.train.evaluate import evaluate
from ccpo_jax.train.export import export_networks
from ccpo_jax.train.guards import NonFiniteGuard, NonFiniteUpdateError, explain_oom
from ccpo_jax.train.judged import describe_wrong
from ccpo_jax.train.load import fit_prompts
from ccpo_jax.train.parts import Parts, as_dataset, as_questions, resolve, row_reader
from ccpo_jax.train.same_problems import compare_problems, keep_problems
from ccpo_jax.train.same_reference import compare_references, keep_references
from ccpo_jax.train.signals import GracefulStop, StoppedError
from ccpo_jax.train.starts import keep_starts, recorded_starts
from ccpo_jax.train.step import initial_state, publish, train_step
from ccpo_jax.train.supervised import (
    SupervisedBatch,
    SupervisedResult,
    demonstration_loss,
    supervised_step,
)
from ccpo_jax.verifiers import VerifierPool
from ccpo_jax.workdir import (
    Checkpoints,
    MetricsWriter,
    NullWriter,
    RolloutLog,
    StepBatch,
    accuracy_rows,
    accuracy_table,
    as_disk_error,
    check_carried,
    check_drawing,
    check_rate,
    check_same_config,
    check_same_inputs,
    compare_config,
    compare_inputs,
    copy_inputs,
    expand_workdir,
    inputs_of,
    keep_former_defaults,
    kept_inputs,
    lock_workdir,
    open_checkpoints,
    recorded_fields,
    save_config,
    saved_config,
    set_aside,
    write_atomically,
)

# Folded into the run's key for evaluations: no training step has this number.
_EVALUATION_KEY = 2**31 - 1

# Folded into the key of samples.
_SAMPLE_KEY = 2**31 - 2

# Called after each step with its metrics and what it was made of: a StepBatch, or of a supervised
# step a SupervisedBatch.
OnStep = Callable[[dict[str, float], Any], None]


def train(
    config: Config | Mapping[str, Any],
    workdir: str,
    *,
    on_step: OnStep | None = None,
    devices: Sequence[Any] | None = None,
) -> dict[str, float]:
    """Trains a team; resumes where `workdir` holds checkpoints. Prints progress and closing tables.

    Args:
      config: a `Config`, or nested mappings of its fields such as a ConfigDict.
      workdir: holds config.json, metrics.jsonl, rollouts.jsonl, TensorBoard files, checkpoints/ and
        result.json.
      on_step, devices: as in `Trainer`.

    Returns:
      The last evaluation's metrics; those of the last step where SIGTERM ended the run early.

    Raises:
      InputError: one line about what is wrong with the configuration, a file or the workdir, or
        which field to lower where memory ran out.
      NonFiniteUpdateError: an update was not finite and ``trainer.not_finite`` is "stop".
      RewardError: a reward function failed and ``verifier.on_error`` is "stop", or gave a score
        outside ``verifier.range``.
      KeyboardInterrupt: Ctrl-C ended the run early. In either case all steps are saved.
      SystemExit: SIGTERM ended the run before its first step; the status is 143.
    """
    stop = GracefulStop()
    with stop, Trainer(config, workdir=workdir, on_step=on_step, devices=devices) as trainer:
        return trainer.train(stop)


class Trainer:
    """Trains a team, one step at a time or to the end.

    It holds worker processes and open files until `close`, the end of a `with` block, or the end of
    the program.

    Args:
      config: the name of a preset, such as "voting:tiny"; fields by their dotted names, such as
        ``{"preset": "voting:tiny", "steps": 4}``; a ConfigDict, or a `Config`; or a `Run` that
        `build` made, whose parts can be exchanged with `dataclasses.replace`. None = the
        configuration of the run in `workdir`, or the preset of the team.
      model: folders or Hub names as in the configuration, or a `Model`; one for all agents, or one
        per agent.
      train, evaluate: problems to train on, and to report on: rows (dicts), a
        `ccpo_jax.data.Dataset`, a `datasets.Dataset`, a DataFrame, a dict of them by name, or names
        as in the configuration.
      reward: a function that scores an answer, or a name as in the configuration.
      prompts: a file or a style as in the configuration, or role -> `RolePrompt` or a dict of its
        parts; the style has the words of roles that are left out.
      topology: a name as in the configuration, or a `ccpo_jax.Topology`.
      credit: a name as in the configuration, a `ccpo_jax.CreditEstimator`, or a function of the
        topology that returns one.
      workdir: folder of the run; where it holds checkpoints, training resumes from the newest one.
        None = nothing is written or saved.
      on_step: called by `train` after each step with its metrics, before they are written, and with
        a `StepBatch`, what the step was made of, or a `SupervisedBatch` in a warm start; it may
        add to the metrics.
      devices: of the mesh; None = all.

    Attributes:
      run: the built run.
      state: `TrainState`; it may be replaced between steps.
      step_count: steps completed.

    Raises:
      InputError: one line about an argument, a field, a file or the workdir.

    Example:
      with Trainer("voting:tiny", workdir="runs/mine") as trainer:
          while trainer.step_count < 10:
              metrics = trainer.step()
          trainer.save()
    """

    run: Run
    state: TrainState
    step_count: int

    def __init__(
        self,
        config: Run | Config | Mapping[str, Any] | str | None = None,
        *,
        model: Any = None,
        train: Any = None,
        evaluate: Any = None,
        reward: Any = None,
        prompts: Any = None,
        topology: Any = None,
        credit: Any = None,
        workdir: str | pathlib.Path | None = None,
        on_step: OnStep | None = None,
        devices: Sequence[Any] | None = None,
    ):
        _check_on_step(on_step)
        _check_devices(devices)
        self._workdir = None if workdir is None else expand_workdir(workdir)
        self._on_step = on_step
        self._checkpoints: Checkpoints | None = None
        # While `train` runs: who may ask it to stop, and the metrics of its last step.
        self._stop: GracefulStop | None = None
        self._metrics: dict[str, Any] = {}
        # What the last step was made of.
        self._batch: StepBatch | SupervisedBatch
        arguments = {
            "model": model,
            "train": train,
            "evaluate": evaluate,
            "reward": reward,
            "prompts": prompts,
            "topology": topology,
            "credit": credit,
        }
        with self._disk_errors(), contextlib.ExitStack() as resources:
            with as_input_error():
                self._load(config, arguments, devices, resources)
            self._open(resources)
            self._resources = resources.pop_all()
            # For those who do not close it: at the latest when the program ends.
            self._finalizer = weakref.finalize(self, _close_quietly, self._resources)

    def step(self) -> dict[str, float]:
        """One training step. Returns its metrics, which only `train` writes to metrics.jsonl.

        Raises:
          InputError: the trainer is closed, or memory ran out.
          NonFiniteUpdateError, RewardError: as in `train` of this module.
        """
        self._check_open()
        with status(f"step {self.step_count + 1}"):
            if self.run.demonstrations is None:
                result = train_step(self.run, self.state, self.step_count, self._pool)
            else:
                result = supervised_step(self.run, self.state, self.step_count)
        self.state = result.state
        self.step_count += 1
        for batch in result.left_out:
            self._guard.report(batch)
        if isinstance(result, SupervisedResult):
            self._batch = result.batch
            return result.metrics
        self._short_batches.report(self.step_count, result.metrics)
        collected = result.collected
        self._batch = StepBatch(
            collected.problems,
            collected.rollouts,
            collected.graded,
            collected.outcome,
            *result.credited,
        )
        self._rollout_log.write(self.step_count, self._batch)
        return result.metrics

    def evaluate(self, problems: Any = None) -> dict[str, float]:
        """Accuracies of the current parameters.

        Args:
          problems: rows, a Dataset, a `datasets.Dataset`, a DataFrame, or a dict of them by name;
            None = the held-out problems by the name "eval", and each test set by "test/<name>".

        Returns:
          ``team_accuracy`` and the other metrics of `ccpo_jax.train.evaluate.evaluate`; of sets
          with names as ``<name>/team_accuracy``.

        Raises:
          InputError: a row cannot be read, or a prompt is too long.
        """
        self._check_open()
        if problems is None:
            return self._evaluate(heldout_set(self.run) | test_sets(self.run))
        sets = problems if isinstance(problems, Mapping) else {"": problems}
        with as_input_error():
            checked = {name: self._as_dataset(rows, name) for name, rows in sets.items()}
        metrics = self._evaluate(checked)
        return {name.removeprefix("/"): value for name, value in metrics.items()}

    def sample(
        self,
        questions: Any,
        num_samples: int = 1,
        *,
        temperature: float | None = None,
        seed: int = 0,
    ) -> list[Answered]:
        """Lets the team answer with the current parameters.

        Args:
          questions: texts, rows, or a table as for `evaluate`; an answer is not needed.
          num_samples: answers per question.
          temperature: None = that of evaluation; 0 = the most likely tokens.
          seed: decides which samples are drawn.

        Returns:
          For each question the messages, the team's answer, and its score where the row has an
          answer or a reward function judges it. Texts alone have no score.

        Raises:
          InputError: a question cannot be read, its prompt is too long, or another argument is no
            number in its range.
        """
        self._check_open()
        _check_whole("num_samples", num_samples, lowest=1, highest=2**31 - 1, default=1)
        _check_whole("seed", seed, lowest=-(2**63), highest=2**63 - 1, default=0)
        if temperature is not None and not _is_temperature(temperature):
            raise InputError(
                "temperature", f"must be a number from 0, received {temperature!r:.80}; use 0 or 1"
            )
        run = self.run
        with as_input_error():
            asked = as_questions(questions, self._reader, like=run.datasets.train)
            fit_prompts(asked, run.team, "error")
        config = sampling_of(run.evaluation, num_samples=num_samples, temperature=temperature)
        weights = publish(run.team, self.state.params, run.bases)
        key = jax.random.fold_in(jax.random.key(seed), _SAMPLE_KEY)
        # A function may read columns that texts alone do not have.
        have_columns = all(problem.row for problem in asked.problems)
        pool = self._pool if have_columns or not run.has_reward_function else run.reading_pool()
        scored = have_columns and self._reader.gold == "optional"
        try:
            with explain_oom("evaluation", run.memory_fields.get("evaluation", {})):
                return answer_problems(
                    run, weights, asked.problems, pool, key, config, scored=scored
                )
        finally:
            if pool is not self._pool:
                pool.close()

    def export(
        self, folder: str | pathlib.Path, dtype: str = "source", *, merged: bool = False
    ) -> list[pathlib.Path]:
        """Writes the current networks and tokenizers in Hugging Face format; of a run with LoRA
        the adapters, in PEFT's.

        Args:
          folder: gets a folder `policy` of a shared network, else `agent_0`, `agent_1`, ..., and
            `prompts.json` with the words of the team.
          dtype: of the weights: bfloat16, float16, float32, or source, that of the model before
            training. Training is in float32.
          merged: adapters are added to their networks, which are written whole.

        Returns:
          The folders of the networks.

        Raises:
          InputError: no path, a network of one's own, a type that cannot be written, or a full
            disk.
        """
        with as_input_error():
            path = expand_workdir(folder, field="folder")
            return export_networks(self.run, self.state.params, path, dtype=dtype, merged=merged)

    def save(self, metrics: Mapping[str, float] | None = None) -> None:
        """Writes a checkpoint of the current step, and waits until it is there; nothing where there
        is one.

        Args:
          metrics: recorded with it; ``eval/team_accuracy`` decides which checkpoint is the best.

        Raises:
          InputError: there is no workdir, or it cannot be written.
        """
        self._check_open()
        if self._checkpoints is None:
            raise InputError("workdir", "this trainer has none; use Trainer(..., workdir=FOLDER)")
        with self._disk_errors():
            self._begin_saving(self._checkpoints, metrics)
            self._checkpoints.wait()

    def train(self, stop: GracefulStop | None = None) -> dict[str, float]:
        """All remaining steps, with evaluations, checkpoints and closing tables; see `train` of
        this module.

        Args:
          stop: of a caller that handles signals already.
        """
        self._check_open()
        if stop is None:
            with GracefulStop() as own_stop:
                return self.train(own_stop)

        self._print_start()
        self._stop = stop
        self._metrics = {}
        with self._disk_errors():
            try:
                if self._train_to_the_end(stop):
                    return self._finish(self._metrics)
            except StoppedError:
                # The step before the evaluation is done: it is saved, and evaluated on resuming.
                pass
            finally:
                self._stop = None
                if self._checkpoints is not None:
                    # A program that ends here leaves no time for it.
                    self._checkpoints.wait()
            if self.step_count and self._checkpoints is not None:
                self.save(self._metrics)
        return self._end_early(first_nonempty(stop.signal_name), self._metrics)

    def _train_to_the_end(self, stop: GracefulStop) -> bool:
        """All remaining steps; False where something ended them early."""
        self._evaluate_first()
        while self.step_count < self.run.loop.steps:
            if first_nonempty(stop.signal_name) or self._guard.stop_reason or self._reward_error:
                return False
            stop.has_work = True
            try:
                self._recorded_step(stop)
            except RewardError as error:
                self._reward_error = error
        return not (self._guard.stop_reason or self._reward_error)

    def close(self) -> None:
        """Ends worker processes, closes files and unlocks the workdir."""
        self._finalizer.detach()
        with self._disk_errors():
            self._resources.close()

    def __enter__(self) -> "Trainer":
        return self

    def __exit__(self, *raised: Any) -> None:
        self._finalizer.detach()
        # Closing writes what is left in buffers.
        with self._disk_errors():
            self._resources.__exit__(*raised)

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise InputError("trainer", "is closed; make a new one, which resumes from its workdir")

    @property
    def _reader(self) -> data.RowReader:
        """How rows become problems that a method receives."""
        run = self.run
        columns = () if run.config is None else run.config.data.columns
        return row_reader(columns, run.verifier.name, keep_rows=run.demonstrations is not None)

    # --- start ---

    def _load(
        self,
        given: Any,
        arguments: Mapping[str, Any],
        devices: Sequence[Any] | None,
        resources: contextlib.ExitStack,
    ) -> None:
        """Builds the run and takes the state from the newest checkpoint, cheapest checks first."""
        workdir = self._workdir
        resources.enter_context(kept_inputs(workdir))
        parts = Parts()
        if isinstance(given, Run):
            _refuse_arguments(arguments)
            config = given.config
        else:
            saved = None if given is not None or workdir is None else saved_config(workdir)
            config, parts = resolve(given, saved=saved, **arguments)
        fields = {} if config is None else memory_fields(config, "loading")
        inputs = {} if config is None else inputs_of(config)
        if workdir is not None:
            if config is not None:
                check_same_config(config, workdir)
                check_same_inputs(inputs)
            resources.enter_context(lock_workdir(workdir))
        with sync_errors():
            if workdir is not None and config is not None:
                config = keep_former_defaults(config, workdir)
                compare_config(config, workdir)
                compare_inputs(workdir, inputs, allow_changes=config.allow_changes)
            with explain_oom("loading", fields):
                if isinstance(given, Run):
                    self.run = given
                else:
                    assert config is not None
                    recorded = () if workdir is None else recorded_fields(config, workdir)
                    self.run = build(
                        config,
                        parts=parts,
                        devices=devices,
                        recorded=recorded,
                        recorded_steps=recorded_starts(workdir),
                    )
                self.state = initial_state(self.run)
            if workdir is not None and config is not None:
                compare_problems(workdir, self.run.datasets, allow_changes=config.allow_changes)
                compare_references(
                    workdir,
                    self.run.references,
                    field="loss.reference" if config.loss.reference else "model",
                    allow_changes=config.allow_changes,
                )
        self.step_count = 0
        if workdir is None:
            return

        loop = self.run.loop
        with as_disk_error(workdir):
            self._checkpoints = open_checkpoints(workdir, keep_last=loop.keep_last)
            resources.enter_context(self._checkpoints)
            if self._checkpoints.latest_step() is not None:
                if config is not None:
                    check_carried(config, workdir)
                    check_drawing(config, workdir)
                    check_rate(config, workdir)
                _, self.state = self._checkpoints.restore(self.state)
                check_bases(self.run.bases, self.state)
            self.step_count = int(self.state.step)
            if self.step_count < loop.steps:
                self._checkpoints.check_disk_space(self.state)
            if config is not None:
                save_config(config, workdir, self.step_count)
                copy_inputs(workdir, inputs, self.step_count)
                keep_problems(workdir, self.run.datasets)
                keep_references(workdir, self.run.references)
            if self.step_count == 0:
                keep_starts(workdir, self.run.started_from)

    def _open(self, resources: contextlib.ExitStack) -> None:
        """Opens files and worker processes. Of several processes the main one writes."""
        run = self.run
        topology = run.team.topology
        self._writer: MetricsWriter | NullWriter = NullWriter()
        self._rollout_log: RolloutLog | NullWriter = NullWriter()
        if self._workdir is not None and is_main_process():
            if kept := set_aside(self._workdir, self.step_count):
                print_main(kept.message, file=sys.stderr)
            self._writer = MetricsWriter(
                self._workdir,
                resume_step=self.step_count,
                total_steps=run.loop.steps,
                tensorboard=run.log.tensorboard,
                trackers=run.log.trackers,
                project=run.log.project,
                config=None if run.config is None else to_json(run.config),
            )
            # Nobody rolls out where demonstrations are learned.
            logged = run.rollout_log.problems if run.demonstrations is None else 0
            self._rollout_log = RolloutLog(
                self._workdir,
                topology,
                resume_step=self.step_count,
                total_steps=run.loop.steps,
                problems=logged,
                every=run.rollout_log.every,
            )
        resources.enter_context(self._writer)
        resources.enter_context(self._rollout_log)
        self._pool = resources.enter_context(run.verifier_pool())
        folder = None if self._workdir is None else pathlib.Path(self._workdir, "not_finite")
        self._guard = NonFiniteGuard(folder, topology.agent_roles, run.loop.not_finite)
        self._short_batches = ShortBatches(run.rollout.batch_size)
        self._reward_error: RewardError | None = None

    def _print_start(self) -> None:
        """Says where the run is written, and what its problems are."""
        if self._workdir is not None:
            resuming = f", resuming after step {self.step_count}" if self.step_count else ""
            print_main(f"workdir {self._workdir}{resuming}", file=sys.stderr)
        datasets = self.run.datasets
        for dataset in (datasets.train, datasets.heldout, *datasets.tests):
            print_main(dataset.summary(), file=sys.stderr)
        begins = self.step_count == 0 and is_main_process()
        if begins and (wrong := describe_wrong(self.run, self._pool)):
            print_main(f"warning: {wrong}", file=sys.stderr)

    def _disk_errors(self) -> contextlib.AbstractContextManager:
        if self._workdir is None:
            return contextlib.nullcontext()
        return as_disk_error(self._workdir)

    # --- steps ---

    def _begin_saving(self, checkpoints: Checkpoints, metrics: Mapping[str, float] | None) -> None:
        """Begins to write a checkpoint of the current step; the next steps need not wait for it."""
        with status(f"saving step {self.step_count}"):
            if checkpoints.latest_step() != self.step_count:
                checkpoints.save(self.step_count, self.state, metrics=metrics)

    def _recorded_step(self, stop: GracefulStop) -> None:
        """A step with what is due after it: checkpoint, evaluation, metrics; all of it after the
        last step.
        """
        metrics = self._metrics = self.step()
        stop.step_done()
        checkpoints = self._checkpoints
        if not self._is_due(self.run.loop.checkpoint_every):
            checkpoints = None
        if checkpoints is not None:
            # An evaluation may take longer than a scheduler waits.
            self._begin_saving(checkpoints, metrics)
        if self._is_due(self.run.loop.eval_every):
            try:
                metrics |= self._evaluate(heldout_set(self.run))
            except RewardError as error:
                # The step itself is done: it is written and saved.
                self._reward_error = error
        if self._on_step is not None:
            self._on_step(metrics, self._batch)
            _check_added(metrics)
        self._writer.write(self.step_count, metrics)
        if checkpoints is not None:
            checkpoints.set_metrics(self.step_count, metrics)

    def _evaluate_first(self) -> None:
        """The evaluation of the untrained team, or the one that the process before was ended in."""
        if self.step_count == 0:
            if self.run.loop.eval_first:
                self._writer.write(0, self.evaluate())
            return

        written = [line["step"] for line in self._writer.lines()[-1:]] or [0]
        if all_gather_objects(written)[0] != [self.step_count - 1] or self._checkpoints is None:
            return
        self._metrics = self._checkpoints.metrics(self.step_count)
        if self._is_due(self.run.loop.eval_every):
            self._metrics |= self._evaluate(heldout_set(self.run))
        self._writer.write(self.step_count, self._metrics)
        self._checkpoints.set_metrics(self.step_count, self._metrics)

    def _as_dataset(self, problems: Any, name: str) -> data.Dataset:
        """Problems that the team can read."""
        dataset = as_dataset(problems, "problems", self._reader, name=name or "problems")
        return fit_prompts(dataset, self.run.team, "error")

    def _evaluate(self, sets: Mapping[str, data.Dataset]) -> dict[str, float]:
        self._end_where_asked()
        return evaluate_sets(
            self.run, self.state.params, self._pool, sets, between_batches=self._end_where_asked
        )

    def _end_where_asked(self) -> None:
        """Raises StoppedError where somebody asks the run to stop."""
        if self._stop is not None and first_nonempty(self._stop.signal_name):
            raise StoppedError

    def _is_due(self, every: int) -> bool:
        if self.step_count == self.run.loop.steps:
            return True
        return every > 0 and self.step_count % every == 0

    # --- end ---

    def _finish(self, metrics: dict[str, float]) -> dict[str, float]:
        """Closing tables: held-out problems before and after training, test sets with the best
        checkpoint.
        """
        if self._checkpoints is not None:
            # A full disk shows here, not after the results.
            self._checkpoints.wait()
        lines = all_gather_objects(self._writer.lines())[0]
        if not lines:
            return metrics | self._evaluate(test_sets(self.run))

        before = lines[0] if lines[0]["step"] == 0 else {}
        after = next((line for line in reversed(lines) if "eval/team_accuracy" in line), lines[-1])
        if "eval/team_accuracy" in after:
            print_main("held-out problems" if before else "held-out problems, after training")
            self._print_table(before, after, "eval")
        if sets := test_sets(self.run):
            best_step, best = self._best_state()
            after = after | evaluate_sets(
                self.run, best.params, self._pool, sets, between_batches=self._end_where_asked
            )
            for prefix, dataset in sets.items():
                print_main(f"{dataset.name}, checkpoint of step {best_step}")
                self._print_table(before, after, prefix)
        if self._workdir is not None and is_main_process():
            result = json.dumps({"before": before, "after": after}, indent=1)
            write_atomically(pathlib.Path(self._workdir, "result.json"), result)
        return after

    def _print_table(
        self, before: Mapping[str, float], after: Mapping[str, float], prefix: str
    ) -> None:
        topology = self.run.team.topology
        first, last = (accuracy_rows(line, prefix, topology) for line in (before, after))
        print_main(accuracy_table(first, last) if first else accuracy_table(last))

    def _best_state(self) -> tuple[int, TrainState]:
        """Step and state of the best checkpoint; the current ones where none is better or the best
        is damaged.
        """
        best_step = None if self._checkpoints is None else self._checkpoints.best_step()
        if self._checkpoints is None or best_step in (None, self.step_count):
            return self.step_count, self.state
        try:
            return self._checkpoints.restore(self.state, step=best_step)
        except ValueError as error:
            print_main(
                "warning: results are those of the last step's parameters, not of the best: "
                f"{error}",
                file=sys.stderr,
            )
            return self.step_count, self.state

    def _end_early(self, signal_name: str, metrics: dict[str, float]) -> dict[str, float]:
        """Says where the run stands, now that it is saved; the metrics of its last step, or the
        reason as an exception.
        """
        saved = "nothing to save yet"
        if self.step_count and self._checkpoints is not None:
            steps = f"step {self.step_count} of {self.run.loop.steps}"
            saved = f"saved after {steps}, where the same command resumes"
        if self._guard.stop_reason:
            raise NonFiniteUpdateError(
                f"{self._guard.stop_reason}; {saved}; --config.trainer.not_finite=skip "
                "continues automatically"
            )
        if self._reward_error is not None:
            config = self.run.config
            if self.step_count and config is not None and files_of(config.verifier.name):
                saved += " (after a change of the function's file with --config.allow_changes=True)"
            raise RewardError(f"{self._reward_error}; {saved}") from self._reward_error
        print_main(f"stopped by {signal_name}: {saved}", file=sys.stderr)
        if signal_name == "SIGINT":
            raise KeyboardInterrupt
        if signal_name == "SIGTERM" and not self.step_count:
            # Python may have ignored the exit where the signal came.
            raise SystemExit(128 + signal.SIGTERM)
        return metrics


def _close_quietly(resources: contextlib.ExitStack) -> None:
    """Frees what a trainer held that nobody closed; there is nobody left to tell of a mistake."""
    with contextlib.suppress(Exception):
        resources.close()


def _check_on_step(on_step: Any) -> None:
    """Refuses what could not be called after the first step, before there is one to lose."""
    if on_step is None:
        return
    if not callable(on_step):
        raise InputError(
            "on_step", f"received {type(on_step).__name__}; give a function of (metrics, batch)"
        )
    try:
        signature = inspect.signature(on_step)
    except ValueError:
        # A function written in C may not tell.
        return
    try:
        signature.bind({}, None)
    except TypeError as error:
        raise InputError(
            "on_step", f"takes {signature}; give a function of (metrics, batch)"
        ) from error


def _check_added(metrics: Mapping[Any, Any]) -> None:
    """Refuses metrics of `on_step` that cannot be written."""
    for name, value in metrics.items():
        if not isinstance(name, str):
            raise InputError("on_step", f"a metric is called {name!r:.80}; use a text as its name")
        try:
            float(value)
        except (TypeError, ValueError) as error:
            raise InputError(
                "on_step", f"the metric {name!r:.80} is {value!r:.80}; give a number"
            ) from error


def _check_whole(name: str, value: Any, *, lowest: int, highest: int, default: int) -> None:
    """Refuses what is no whole number in a range."""
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or not lowest <= int(value) <= highest:
        bounds = f"at least {lowest}" if lowest > 0 else "of 64 bits"
        raise InputError(
            name, f"must be a whole number, {bounds}, received {value!r:.80}; use {default}"
        )


def _is_temperature(value: Any) -> bool:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_number and 0 <= float(value) < float("inf")


def _check_devices(devices: Any) -> None:
    if devices is None:
        return
    try:
        given = list(devices)
    except TypeError:
        given = []
    if not given or not all(isinstance(device, jax.Device) for device in given):
        raise InputError(
            "devices", f"received {devices!r:.80}; give a list of them, such as jax.devices()[:1]"
        )


def _refuse_arguments(arguments: Mapping[str, Any]) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise InputError(
                name,
                "a Run has its parts already; exchange them with dataclasses.replace(run, ...)",
            )


def heldout_set(run: Run) -> dict[str, data.Dataset]:
    """The problems that select the best checkpoint, under the prefix of their metrics."""
    return {"eval": run.datasets.heldout} if run.datasets.heldout.problems else {}


def test_sets(run: Run) -> dict[str, data.Dataset]:
    """The problems that are only reported on."""
    return {f"test/{dataset.name}": dataset for dataset in run.datasets.tests}


def evaluate_sets(
    run: Run,
    params: tuple,
    pool: VerifierPool,
    sets: Mapping[str, data.Dataset],
    *,
    between_batches: Callable[[], None] | None = None,
) -> dict[str, float]:
    """``<prefix>/...`` metrics of every set; `between_batches` as in `evaluate`."""
    start = time.perf_counter()
    weights = publish(run.team, params, run.bases)
    key = jax.random.fold_in(jax.random.key(run.seed), _EVALUATION_KEY)
    metrics = {}
    for prefix, dataset in sets.items():
        with explain_oom("evaluation", run.memory_fields.get("evaluation", {})):
            accuracies = evaluate(
                run.team,
                weights,
                dataset.problems,
                pool,
                key,
                run.evaluation,
                problems_name=dataset.name,
                between_batches=between_batches,
            )
            if run.demonstrations is not None:
                accuracies |= demonstration_loss(run, params, dataset.problems)
        metrics |= {f"{prefix}/{name}": value for name, value in accuracies.items()}
    return metrics | {"time/eval": time.perf_counter() - start}
