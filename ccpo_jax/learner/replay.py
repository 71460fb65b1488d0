"""Batches of updates that were left out because a number was not finite: written to a file and read back."""

import pathlib
from collections.abc import Sequence

import numpy as np

from ccpo_jax.devices.distributed import is_main_process
from ccpo_jax.learner.packing import TrainSequence


def save_batch(
    folder: pathlib.Path,
    rows: Sequence[TrainSequence],
    *,
    step: int,
    agents: Sequence[int],
    problems: Sequence[str],
    why: str,
) -> pathlib.Path:
    """Saves what a parameter set was to learn from, for `load_batch` and `update.train_on`; in the first process.

    Args:
      folder: made if need be.
      rows: of the whole batch.
      step: the step that was to be made of them, from 1.
      agents: whose responses they are.
      problems: names of the batch's problems.
      why: what was not finite.

    Returns:
      The file: arrays in numpy's format, no pickles.
    """
    path = folder / f"step-{step}-agent-{'-'.join(map(str, agents))}.npz"
    if not is_main_process():
        return path
    folder.mkdir(exist_ok=True)
    arrays = {"why": np.array(why), "problems": np.array(problems)}
    for name in TrainSequence._fields:
        values = [np.atleast_1d(getattr(row, name)) for row in rows]
        arrays[name] = np.concatenate(values)
        arrays[f"{name}/lengths"] = np.array([len(value) for value in values])
    np.savez_compressed(path, **arrays)
    return path


def load_batch(path: str | pathlib.Path) -> list[TrainSequence]:
    """The rows that `save_batch` saved, bit for bit."""
    with np.load(path, allow_pickle=False) as held:
        columns = [
            np.split(held[name], np.cumsum(held[f"{name}/lengths"])[:-1])
            for name in TrainSequence._fields
        ]
    rows = map(TrainSequence._make, zip(*columns, strict=True))
    return [
        row._replace(group=int(row.group[0]), advantage=float(row.advantage[0])) for row in rows
    ]
