"""`ccpo-jax replay FILE`: repeats an update that was left out and names its first bad number."""

import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ccpo_jax.arguments import Parser, program_name
from ccpo_jax.arguments import path as argument_path
from ccpo_jax.config import FIELDS
from ccpo_jax.errors import InputError, as_input_error, escape_control
from ccpo_jax.fields import expand_home
from ccpo_jax.learner.replay import NonFinite, SavedBatch, load_batch, locate_nonfinite
from ccpo_jax.learner.update import TrainState
from ccpo_jax.modes.restore import require_checkpoints
from ccpo_jax.rollout import Team
from ccpo_jax.train import plugins
from ccpo_jax.train.adapters import check_bases
from ccpo_jax.train.build import Run, build
from ccpo_jax.train.starts import recorded_starts
from ccpo_jax.train.step import initial_state
from ccpo_jax.workdir import Checkpoints, kept_inputs, load_config, open_checkpoints


class Replayed(NamedTuple):
    """What a replay found."""

    batch: SavedBatch
    parameter_set: int
    checkpoint_step: int  # whose parameters the update was repeated with
    exact: bool  # these are the parameters that the update started from
    location: NonFinite | None  # None = every number was finite


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Args:
      arguments: the file, <workdir>/not_finite/step-N-agent-K.npz.

    Returns:
      0 where every number is finite, 1 where one is not, 2 where the file or its workdir cannot be
      read.
    """
    parser = Parser(prog=f"{program_name()} replay", description=__doc__)
    parser.add_argument("file", type=argument_path, help="<workdir>/not_finite/step-N-agent-K.npz")
    try:
        replayed = replay(parser.parse_args(arguments).file)
    except InputError as error:
        print(f"error: {escape_control(str(error))}", file=sys.stderr)
        return 2
    for line in report_lines(replayed):
        print(escape_control(line))
    return 0 if replayed.location is None else 1


def replay(file: str | pathlib.Path) -> Replayed:
    """Repeats the update of a saved batch with its workdir's configuration and checkpoint.

    Args:
      file: in the folder not_finite/ of a workdir.

    Raises:
      InputError: the file or its workdir cannot be read.
    """
    path = pathlib.Path(expand_home(str(file)))
    batch = load_batch(path)
    workdir = str(path.resolve().parents[1])
    require_checkpoints(workdir)
    with kept_inputs(workdir, prefer_copies=True), as_input_error():
        run = build(
            load_config(workdir, {}, combine=plugins.combine),
            recorded=FIELDS,
            recorded_steps=recorded_starts(workdir),
        )
        with open_checkpoints(workdir, read_only=True) as checkpoints:
            step = _nearest_checkpoint(checkpoints, batch.step)
            _, state = checkpoints.restore(initial_state(run), step=step)
        check_bases(run.bases, state)
    return replay_update(run, state, batch, checkpoint_step=step)


def replay_update(
    run: Run, state: TrainState, batch: SavedBatch, *, checkpoint_step: int
) -> Replayed:
    """Repeats the update of `batch` with the parameters of `state`, which are donated."""
    parameter_set = _parameter_set(run.team, batch.agents)
    update = run.update_of(parameter_set)
    turn = run.team.topology.speakers.index(batch.agents[0])
    agent = run.team.agents[turn]
    location = locate_nonfinite(
        agent.policy,
        state.params[parameter_set],
        state.opt_state[parameter_set],
        batch.mini_batches(update.mini_batches),
        update,
        pad_id=agent.tokenizer.pad_id,
        reference=run.references[parameter_set] if run.references else None,
        frozen=run.frozen(parameter_set),
    )
    # An update of one optimizer step that was left out changed nothing: the parameters after it
    # are those before it.
    unchanged = batch.step if update.steps_per_batch == 1 else batch.step - 1
    exact = checkpoint_step in (batch.step - 1, unchanged)
    return Replayed(batch, parameter_set, checkpoint_step, exact, location)


def _parameter_set(team: Team, agents: Sequence[int]) -> int:
    """The parameter set of some agents, which share it."""
    known = range(team.topology.num_agents)
    if not set(agents) <= set(known):
        raise InputError(
            "replay", f"the batch is of agents {list(agents)}, its workdir's team has {len(known)}"
        )
    turn = team.topology.speakers.index(agents[0])
    return team.agents[turn].parameter_set


def _nearest_checkpoint(checkpoints: Checkpoints, step: int) -> int:
    """The checkpoint before `step`, the one after it, or the nearest one."""
    steps = checkpoints.steps()
    if not steps:
        raise InputError("workdir", "has no checkpoint that can be read; train first")
    return min(steps, key=lambda saved: (abs(saved - (step - 1)), saved))


def report_lines(replayed: Replayed) -> list[str]:
    """What the command prints."""
    batch = replayed.batch
    agents = ", ".join(f"agent {agent}" for agent in batch.agents)
    lines = [
        f"step {batch.step}, {agents}, {len(batch.sequences)} responses to "
        f"{len(batch.problems)} problems; "
        f"left out because: {batch.reason}",
        f"repeated with the parameters of checkpoint {replayed.checkpoint_step}",
    ]
    if not replayed.exact:
        lines.append(
            f"note: there is no checkpoint of step {batch.step - 1}; these are not the "
            "parameters that the update "
            "started from"
        )
    if replayed.location is None:
        return [*lines, "every number is finite"]
    return lines + _location_lines(batch, replayed.location)


def _location_lines(batch: SavedBatch, location: NonFinite) -> list[str]:
    where = f"the first non-finite number is in: {location.stage}"
    if location.mini_batch:
        where += f", mini-batch {location.mini_batch + 1}"
    if location.epoch:
        where += f", pass {location.epoch + 1}"
    lines = [where]
    for name in location.parameters:
        lines.append(f"  parameter {name}")
    for sequence in location.sequences[:10]:
        tokens = len(sequence.response)
        lines.append(
            f"  a response of {tokens} tokens to {batch.problem_of(sequence)}, advantage "
            f"{np.mean(sequence.advantage):g}"
        )
    if len(location.sequences) > 10:
        lines.append(f"  and {len(location.sequences) - 10} more responses")
    return lines
